"""RL²: a Q-network that reads a memory of the whole trial."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_callable, check_count, check_flag, require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.memories.base import Memory
from metadqn_jax.td import Loss, Views
from metadqn_jax.types import Array, Params, QNetwork, Transition


class Recurrent(NamedTuple):
    """The slow parameters of a learner with a memory."""

    network: Params
    memory: Params


class Belief(NamedTuple):
    """The fast state: what the memory holds, and the transitions seen so far (int32 [])."""

    state: Any
    steps: Array


def rl2(network: QNetwork, memory: Memory, *, loss: Callable[[Array], Loss], length: int, centred: bool = True) -> MetaLearner:
    """RL² with a Q-network (Duan et al. 2016, section 2): the memory is the learning algorithm, trained on whole trials.

    loss: `(outer_step) -> Loss`, so that a discount may rise while training goes on; `lambda step: one` where it stays.
    The lifetime is one trial of `length` transitions (Span(length, 1, 1)), inside which no episode ends (`trial`). The
    loss draws Q(s_t, b_t) to returns of the same pass that bootstrap from (next_obs, belief after the transition); its
    gradient runs through the whole memory, and only through the value of the action that was taken.

    `centred` rewards have a running mean for each step of the trial taken off: a baseline that no action can change. Where
    episodes end early it moves with the policy that it is to serve, and is better left out.
    Differs from the paper: Peng's Q(λ) in place of TRPO, with no target network; data are on-policy, or nearly so where a
    trainer's store is small.
    Raises `Misuse` where the network does not read what the memory gives, or where the order of transitions is lost.
    """
    check_count("length", length)
    check_callable("loss", loss, "outer_step")
    check_flag("centred", centred)
    check_context(network, memory)
    chosen = network.chosen or (lambda params, obs, context, action: network.apply(params, obs, context))

    def init(key):
        key_network, key_memory = jax.random.split(key)
        return Recurrent(network.init(key_network), memory.init(key_memory)), jnp.zeros(length)

    def begin(key, slow):
        return Belief(memory.begin(slow.params.memory), jnp.zeros((), jnp.int32))

    def q(slow, fast, obs):
        context = memory.read(slow.params.memory, fast.state, obs)
        return network.apply(slow.params.network, obs, context)

    def adapt(key, slow, fast, segment):
        transition = jax.tree.map(lambda leaf: leaf[0], in_order(segment, steps=1))
        usual = slow.memory[jnp.minimum(fast.steps, length - 1)]
        state = memory.step(slow.params.memory, fast.state, transition._replace(reward=transition.reward - usual))
        return Belief(state, fast.steps + 1), {}

    def trial_loss(key, slow, lifetime):
        stream = in_order(jax.tree.map(lambda leaf: leaf[:, 0], lifetime.experience))
        steps = stream.reward.shape[0]
        require(steps == length, f"rl2's length must be the {steps} steps of a trial, got {length}; set length to it.")
        stream = stream._replace(reward=stream.reward - slow.memory)

        def outputs(apply, params, trace, after, obs, *action):
            contexts = memory.recall(params.memory, trace, obs, after)
            return jax.vmap(lambda *inputs: apply(params.network, *inputs))(obs, contexts, *action)

        trace = memory.trace(slow.params.memory, stream)
        still = trees.stop((slow.params, trace))
        following = outputs(network.apply, *still, True, stream.next_obs)
        now = outputs(chosen, slow.params, trace, False, stream.obs, stream.action)
        views = Views(now, following, outputs(network.apply, *still, False, stream.obs), following)
        return jnp.mean(loss(slow.step)(views, stream)), {}

    def remember(key, slow, lifetimes):
        usual = jnp.mean(lifetimes.experience.reward, (0, 2, 3)) * centred
        return trees.mix(slow.memory, usual, jnp.maximum(1.0 / (slow.step + 1), 0.05))

    return MetaLearner(init, begin, q, adapt, trial_loss, remember)


def in_order(segment: Transition, steps: int | None = None) -> Transition:
    """The transitions [T] of a segment [T, E = 1]. Raises `Misuse` for parallel streams, whose order is undefined."""
    check_one_stream(segment.reward.shape[1])
    if steps is not None:
        length = segment.reward.shape[0]
        require(length == steps, f"a memory takes one transition at a time, got span.steps={length}; set it to {steps}.")
    return jax.tree.map(lambda leaf: leaf[:, 0], segment)


def check_one_stream(streams: int) -> None:
    """Raise `Misuse` for parallel streams."""
    require(streams == 1, f"a memory reads one stream in its order, got span.streams={streams}; set it to 1.")


def check_context(network: QNetwork, memory: Memory) -> None:
    """Raise `Misuse` unless the network reads what the memory gives."""
    require(
        network.context == memory.context,
        f"the network must read the memory's context {memory.context}, got {network.context}; build it with that context.",
    )
