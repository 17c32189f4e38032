"""Meta-training: sample tasks → live → store → one gradient of the mean loss → optimizer → target."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metadqn_jax import replay, trees
from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.learners.base import MetaLearner, check_learner, first_slow
from metadqn_jax.living import live
from metadqn_jax.loops import largest_chunk, sum_over_chunks
from metadqn_jax.tasks.base import TaskDistribution, check_distribution, transition_like
from metadqn_jax.types import Key, Lifetime, Slow, Span


class TrainState(NamedTuple):
    """All that changes in meta-training; `store` holds whole lifetimes."""

    slow: Slow
    opt_state: Any
    store: replay.Store


class Trainer(NamedTuple):
    """init: (key) -> TrainState;   step: (key, TrainState) -> (TrainState, Metrics), one outer step; Metrics are scalars."""

    init: Callable[[Key], TrainState]
    step: Callable[[Key, TrainState], tuple[TrainState, dict]]


def make_trainer(
    learner: MetaLearner,
    distribution: TaskDistribution,
    span: Span,
    *,
    explore: Callable,
    optimizer: optax.GradientTransformation,
    meta_batch: int = 16,
    capacity: int | None = None,
    chunk: int = 8,
    polyak: Any = 0.02,
) -> Trainer:
    """The outer loop of any learner on any distribution.

    meta_batch: tasks per outer step (B).   capacity: lifetimes in the store, by default B: on-policy; more is off-policy.
    chunk: tasks whose gradient is taken at once; the sum runs over chunks in a scan, in constant memory (the largest
    divisor of B up to `chunk` is taken; on an accelerator make it large).   polyak: the target network's step.
    Raises `Misuse` where sizes or the learner's functions do not fit.
    """
    check_count("meta_batch", meta_batch)
    check_count("chunk", chunk)
    check_real("polyak", polyak, most=1.0)
    capacity = meta_batch if capacity is None else check_count("capacity", capacity)
    require(
        capacity >= meta_batch,
        f"the store must hold a meta-batch of {meta_batch} lifetimes, got capacity {capacity}; raise it.",
    )
    check_distribution(distribution)
    segment = trees.lead(span.steps, trees.lead(span.streams, transition_like(distribution)))
    task = jax.eval_shape(distribution.sample, jax.random.key(0))
    like = Lifetime(task, trees.lead(span.segments, segment))
    check_learner(learner, segment, like, trees.lead(meta_batch, like))

    def init(key):
        slow = trees.strengthen(first_slow(learner, key))
        return TrainState(slow, optimizer.init(slow.params), replay.make_store(like, capacity))

    def step(key, state):
        keys = jax.random.split(key, 5)
        slow = state.slow
        fresh = _collect(keys[0], learner, slow, distribution, span, explore, meta_batch)
        store = replay.add(state.store, fresh)
        lifetimes = replay.sample(keys[1], store, meta_batch)
        (loss, infos), gradient = chunked_gradient(keys[2], learner, slow, lifetimes, chunk)
        change, opt_state = optimizer.update(gradient, state.opt_state, slow.params)
        params = optax.apply_updates(slow.params, change)
        memory = learner.remember(keys[3], slow, lifetimes)
        slow = Slow(params, trees.mix(slow.target, params, polyak), memory, slow.step + 1)
        metrics = {"loss": loss, "gradient_norm": jnp.sqrt(trees.squared_norm(gradient)), **_rewards(fresh), **infos}
        return TrainState(slow, opt_state, store), metrics

    return Trainer(init, step)


def steps_together(trainer: Trainer, steps: int) -> Callable[[Key, TrainState], tuple[TrainState, dict]]:
    """`steps` outer steps as one function of (key, state), to be jitted with its state donated; metrics get a leading [steps].

    Each step folds the number of steps done so far into `key`, so a run does not depend on how it is cut into chunks.
    """
    check_count("steps", steps)

    def together(key, state):
        def step(state, _):
            return trainer.step(jax.random.fold_in(key, state.slow.step), state)

        return jax.lax.scan(step, state, length=steps)

    return together


def _collect(key, learner, slow, distribution, span, explore, meta_batch):
    """Lifetimes [B, …] in fresh tasks; what only the last adaptation gives is not asked for, and so not computed."""

    def one(key):
        key_task, key_life = jax.random.split(key)
        return live(key_life, learner, slow, distribution, distribution.sample(key_task), span, explore).lifetime

    return jax.vmap(one)(jax.random.split(key, meta_batch))


def chunked_gradient(key, learner, slow, lifetimes, chunk):
    """((loss, infos), gradient) of the mean loss over lifetimes [B, …], one chunk of tasks at a time."""

    def mean_loss(params, keys, some):
        losses, infos = jax.vmap(lambda key, one: learner.loss(key, slow._replace(params=params), one))(keys, some)
        return losses.mean(), trees.mean(infos)

    def of_chunk(keys, some):
        return jax.value_and_grad(mean_loss, has_aux=True)(slow.params, keys, some)

    meta_batch = lifetimes.experience.reward.shape[0]
    return trees.scale(largest_chunk(meta_batch, chunk) / meta_batch, sum_over_chunks(key, of_chunk, lifetimes, chunk))


def _rewards(lifetimes: Lifetime) -> dict:
    """The mean reward a step in the first and the last segment."""
    reward = lifetimes.experience.reward
    return {"reward_first": jnp.mean(reward[:, 0]), "reward_last": jnp.mean(reward[:, -1])}


def drive(advance: Callable, state: Any, steps: int, chunk: int, done: int = 0) -> Iterator[tuple[int, Any, dict]]:
    """The host loop of one run or of a sweep: (steps done, state, metrics) after each chunk, until `steps` are done.

    advance: (state, size) -> (state, metrics), compiled, for a static number of outer steps.
    """
    while done < steps:
        size = min(chunk, steps - done)
        state, metrics = advance(state, size)
        done += size
        yield done, state, metrics
