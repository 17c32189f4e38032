"""Memories: what a learner keeps of the transitions that it has seen, and what a Q-network reads of it.

A memory is an axis of its own, one file each. It comes in two forms that agree, which a test holds it to: transition by
transition (`step`, `read`) to act with, and a whole stream at once (`trace`, `recall`) to be trained in parallel.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import require
from metadqn_jax.types import ActionHead, Array, Key, Params, Spec, Transition


class Memory(NamedTuple):
    """Functions of one stream.

    init:   (key) -> params
    begin:  (params) -> state
    step:   (params, state, Transition) -> state
    read:   (params, state, obs) -> context                          for the observation that the agent is at
    trace:  (params, Transition [T]) -> trace                        a whole stream from its beginning, in parallel
    recall: (params, trace, obs [T], after) -> contexts [T, …]       what `read` gives before (or after) each transition
    context: the shape of what `read` gives
    """

    init: Callable[[Key], Params]
    begin: Callable[[Params], Any]
    step: Callable[[Params, Any, Transition], Any]
    read: Callable[[Params, Any, Array], Array]
    trace: Callable[[Params, Transition], Any]
    recall: Callable[[Params, Any, Array, bool], Array]
    context: tuple[int, ...]


def features(head: ActionHead, transition: Transition) -> Array:
    """One transition as a vector [n]: observation, action, reward, successor, and whether it terminated."""
    ended = jnp.asarray(transition.terminated, jnp.float32)
    parts = (transition.obs, head.embed(transition.action), transition.reward, transition.next_obs, ended)
    return jnp.concatenate([jnp.ravel(part).astype(jnp.float32) for part in parts])


def blank(spec: Spec) -> Transition:
    """A Transition of zeros, from which modules learn their sizes."""
    action = jax.eval_shape(spec.head.sample, jax.random.key(0))
    obs, flag = jnp.zeros(spec.observation.shape, spec.observation.dtype), jnp.zeros((), bool)
    return Transition(obs, jnp.zeros(action.shape, action.dtype), jnp.zeros(()), obs, flag, flag)


def rows_of(head: ActionHead, what: str) -> int:
    """How many rows a memory that has one for each action writes: `embed`'s numbers. Raises `Misuse` unless it is one-hot."""
    action = jax.eval_shape(head.sample, jax.random.key(0))
    rows, known = jax.eval_shape(head.embed, action).size, False
    if head.num_actions == rows and action.size == 1:
        with jax.ensure_compile_time_eval():
            actions = jnp.arange(rows, dtype=action.dtype).reshape(rows, *action.shape)
            known = bool(jnp.array_equal(jax.vmap(head.embed)(actions), jnp.eye(rows)))
    require(
        known,
        f"{what} must know the actions one by one, got {head.num_actions} actions embedded in {rows} numbers each; "
        "take a discrete one, or another memory.",
    )
    return rows


# --- for memories whose trace is what they give to read, before the first transition and after each


def from_zeros(outputs: Any) -> Array:
    """What is read [T + 1, n]: zeros before the first transition, and `outputs` [T, n] after each."""
    return jnp.concatenate([jnp.zeros_like(outputs[:1]), outputs])


def at_outputs(params: Params, trace: Array, obs: Array, after: bool) -> Array:
    """`recall` from such a trace [T + 1, n]."""
    return trace[1:] if after else trace[:-1]
