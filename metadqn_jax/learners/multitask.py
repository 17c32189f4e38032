"""The baselines: one DQN for all tasks, the same fine-tuned or trained on in each task, and a DQN from scratch there."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metadqn_jax import replay, trees
from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.derivative import detached
from metadqn_jax.learners.base import MetaLearner, before, forget, td_loss
from metadqn_jax.learners.descent import descend, plain_target
from metadqn_jax.learners.rules import Rule, sgd
from metadqn_jax.loops import repeat
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, Key, Params, QNetwork, Slow


def multitask(network: QNetwork, *, loss: Loss) -> MetaLearner:
    """One DQN for all tasks, which never adapts (Mnih et al. 2015, on p(τ) in place of one task)."""
    still = finetune(network, loss=loss, rule=sgd(0.0), steps=1)
    return still._replace(adapt=lambda key, slow, fast, segment: (fast, {}))


def finetune(network: QNetwork, *, loss: Loss, rule: Rule, steps: int) -> MetaLearner:
    """Multi-task DQN that takes gradient steps at test time; it shares `slow` with `multitask`, and its training loss."""
    return descend(network, loss, loss, rule=rule, derivative=detached, measure=before, steps=steps, target=plain_target)


class Scratch(NamedTuple):
    """A DQN's whole state within one task."""

    params: Params
    target: Params
    opt_state: Any
    store: replay.Store  # of transitions in a row, [length]


def scratch(
    network: QNetwork,
    transition: Any,
    *,
    loss: Loss,
    rate: Any,
    steps: int,
    capacity: int,
    minibatch: int = 64,
    polyak: Any = 0.05,
    length: int = 1,
    start: Callable[[Key, Slow], Params] | None = None,
) -> MetaLearner:
    """A DQN from random weights in every task, with its own replay and Adam: nothing is meta-learned (Mnih et al. 2015).

    transition: one Transition, abstract or concrete.   steps: updates after each segment, each on `minibatch` of the
    `capacity` stored pieces, which are `length` transitions in a row: as long as a loss's traces can be.   start: the
    weights to begin with, by default `network.init`, with what the run's seed drew.
    Differs from the paper: Polyak-averaged target (Lillicrap et al. 2016), Adam. Raises `Misuse` on sizes < 1, and where
    segments cannot be cut into such pieces.
    """
    for name, size in (("steps", steps), ("capacity", capacity), ("minibatch", minibatch), ("length", length)):
        check_count(name, size)
    check_real("the rate", rate)
    check_real("polyak", polyak, most=1.0)
    optimizer = optax.adam(rate)
    piece = trees.lead(length, trees.shapes(transition))
    context = None if network.context is None else jnp.zeros(network.context)

    def fresh(key, slow):
        return network.init(jax.random.fold_in(key, slow.memory))

    def begin(key, slow):
        params = (start or fresh)(key, slow)
        return Scratch(params, jax.tree.map(jnp.copy, params), optimizer.init(params), replay.make_store(piece, capacity))

    def update(key, i, fast):
        batch = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), replay.sample(key, fast.store, minibatch))

        def minibatch_loss(params):
            return td_loss(loss, network, (params, context), trees.stop((fast.target, context)), batch)

        gradient = jax.grad(minibatch_loss)(fast.params)
        change, opt_state = optimizer.update(gradient, fast.opt_state, fast.params)
        params = trees.add(fast.params, change)
        return Scratch(params, trees.mix(fast.target, params, polyak), opt_state, fast.store), None

    def pieces(segment):  # [T, E] as [T / length · E, length], earlier ones first
        steps = segment.reward.shape[0]
        require(steps % length == 0, f"a segment must be cut into pieces of {length} steps, got {steps}; change length.")
        cut = jax.tree.map(lambda leaf: leaf.reshape((steps // length, length, *leaf.shape[1:])), segment)
        return trees.flatten_axes(jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 1, 2), cut), 2)

    def adapt(key, slow, fast, segment):
        fast = fast._replace(store=replay.add(fast.store, pieces(segment)))
        return repeat(key, steps, update, fast)[0], {}

    def q(slow, fast, obs: Array):
        return network.apply(fast.params, obs, context)

    def init(key):
        return (), jax.random.bits(key)  # so that runs of several seeds, judged with one key, are several

    return MetaLearner(init, begin, q, adapt, lambda key, slow, lifetime: (jnp.zeros(()), {}), forget)


def continued(network: QNetwork, transition: Any, *, outer: Loss, **settings: Any) -> MetaLearner:
    """Multi-task DQN that goes on learning in the task as a DQN does, with replay and Adam: `scratch` from its weights.

    It shares `slow` with `multitask`, and its training loss `outer`; `settings` are those of `scratch`.
    """
    shared = multitask(network, loss=outer)
    within = scratch(network, transition, start=lambda key, slow: slow.params.start.network, **settings)
    return shared._replace(begin=within.begin, q=within.q, adapt=within.adapt)
