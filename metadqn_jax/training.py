"""Meta-training: sample tasks → live → store → one gradient of the tasks' losses → optimizer → target."""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metadqn_jax import replay, trees
from metadqn_jax.checks import check_callable, check_count, check_real, check_type, is_traced, require
from metadqn_jax.explore import check_explore
from metadqn_jax.learners.base import MetaLearner, check_learner, first_slow
from metadqn_jax.living import live
from metadqn_jax.loops import in_chunks, largest_chunk, sum_over_chunks
from metadqn_jax.tasks.base import TaskDistribution, check_distribution, transition_like
from metadqn_jax.types import Array, Key, Lifetime, Slow, Span


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
    fresh: int | None = None,
    capacity: int | None = None,
    chunk: int = 8,
    polyak: Any = 0.02,
    objective: Callable[[Array], Array] | None = None,
) -> Trainer:
    """The outer loop of any learner on any distribution.

    meta_batch: lifetimes per outer step (B).   fresh: how many tasks are lived in before it, by default B; fewer pay where
    worlds cost more than gradients.   capacity: lifetimes in the store, by default B: on-policy; more is off-policy.
    chunk: tasks whose gradient is taken at once; the sum runs over chunks in a scan, in constant memory (the largest
    divisor of B up to `chunk` is taken; on an accelerator make it large).   polyak: the target network's step.
    objective: (the tasks' losses [B]) -> their weights [B], which sum to 1; by default the mean, which needs no first pass.
    Raises `Misuse` where sizes or the learner's functions do not fit.
    """
    check_type("the learner", learner, MetaLearner, "make one with maml(network, ...), say")
    check_type("the span", span, Span, "make one with Span(segments, steps, streams)")
    check_count("meta_batch", meta_batch)
    check_count("chunk", chunk)
    check_real("polyak", polyak, most=1.0)
    capacity = meta_batch if capacity is None else check_count("capacity", capacity)
    fresh = meta_batch if fresh is None else check_count("fresh", fresh)
    require(
        capacity >= max(fresh, meta_batch),
        f"the store must hold a meta-batch of {meta_batch} and {fresh} fresh lifetimes, got capacity {capacity}; raise it.",
    )
    check_explore(explore, span.segments)
    require(
        hasattr(optimizer, "init") and hasattr(optimizer, "update"),
        f"the optimizer must be an optax.GradientTransformation, got {optimizer!r}; give optax.adam(1e-3), say.",
    )
    if objective is not None:
        _check_objective(objective, meta_batch)
    check_distribution(distribution)
    segment = trees.lead(span.steps, trees.lead(span.streams, transition_like(distribution)))
    task = jax.eval_shape(distribution.sample, jax.random.key(0))
    like = Lifetime(task, trees.lead(span.segments, segment))
    check_learner(learner, distribution.spec, segment, like, trees.lead(meta_batch, like))

    def init(key):
        slow = trees.strengthen(first_slow(learner, key))
        return TrainState(slow, optimizer.init(slow.params), replay.make_store(like, capacity))

    def step(key, state):
        keys = jax.random.split(key, 5)
        slow = state.slow
        lived = collect(keys[0], learner, slow, distribution, span, explore, fresh)
        store = replay.add(state.store, lived)
        lifetimes = replay.sample(keys[1], store, meta_batch)
        (value, infos), gradient = chunked_gradient(keys[2], learner, slow, lifetimes, chunk, objective)
        change, opt_state = optimizer.update(gradient, state.opt_state, slow.params)
        params = optax.apply_updates(slow.params, change)
        memory = learner.remember(keys[3], slow, lifetimes)
        slow = Slow(params, trees.mix(slow.target, params, polyak), memory, slow.step + 1)
        norm = jnp.sqrt(trees.squared_norm(gradient))
        metrics = {"objective": value, "gradient_norm": norm, **_rewards(lived), **infos}
        return TrainState(slow, opt_state, store), metrics

    return Trainer(init, step)


def _check_objective(objective: Any, count: int) -> None:
    """Raise `Misuse` unless it weighs so many losses; the weights of rising ones are looked at."""
    check_callable("objective", objective, "losses")
    with jax.ensure_compile_time_eval():
        weights = jnp.asarray(objective(jnp.arange(count, dtype=jnp.float32)))
    sums = weights.shape == (count,) and (is_traced(weights) or bool(jnp.isclose(weights.sum(), 1.0, atol=1e-3)))
    require(
        sums,
        f"the objective must give {count} tasks weights [{count}] that sum to 1, got shape {list(weights.shape)} and the sum "
        f"{weights.sum()}; divide by it.",
    )


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


def collect(key, learner, slow, distribution, span, explore, count):
    """Lifetimes [count, …] in fresh tasks; what only the last adaptation gives is not asked for, and so not computed."""

    def one(key):
        key_task, key_life = jax.random.split(key)
        return live(key_life, learner, slow, distribution, distribution.sample(key_task), span, explore).lifetime

    return jax.vmap(one)(jax.random.split(key, count))


def chunked_gradient(key, learner, slow, lifetimes, chunk, objective=None):
    """((objective, infos), gradient) over lifetimes [B, …], one chunk of tasks at a time; infos hold the mean "loss"."""
    count = lifetimes.experience.reward.shape[0]

    def weighed(params, keys, some, weights):
        losses, infos = jax.vmap(lambda key, one: learner.loss(key, slow._replace(params=params), one))(keys, some)
        return jnp.mean(weights * losses), {**trees.mean(infos), "loss": losses.mean()}

    def of_chunk(keys, chosen):
        return jax.value_and_grad(weighed, has_aux=True)(slow.params, keys, *chosen)

    weights = jnp.ones(count)  # relative to the mean's
    if objective is not None:  # both passes see the same keys, so that a task is weighed by the loss that is differentiated
        weights = count * objective(in_chunks(key, lambda key, one: learner.loss(key, slow, one)[0], lifetimes, chunk))
    total = sum_over_chunks(key, of_chunk, (lifetimes, weights), chunk)
    return trees.scale(largest_chunk(count, chunk) / count, total)


def cvar(alpha: Any) -> Callable[[Array], Array]:
    """The mean of the worst `alpha` of the tasks, the one at the border counted in part (Rockafellar & Uryasev 2000).

    1 is the mean over all tasks, 1/B the worst of B tasks alone. Worst is what has the largest TD loss, which need not be
    the lowest return. Raises `Misuse` on an `alpha` outside (0, 1].

    >>> cvar(0.5)(jnp.array([3.0, 1.0, 2.0, 0.0])).tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    check_real("the share of worst tasks", alpha, least=1e-6, most=1.0)

    def weights(losses):
        worst = alpha * losses.size
        rank = jnp.argsort(jnp.argsort(-losses))
        return jnp.clip(worst - rank, 0.0, 1.0) / worst

    return weights


def _rewards(lifetimes: Lifetime) -> dict:
    """The mean reward a step in the first and the last segment."""
    reward = lifetimes.experience.reward
    return {"reward_first": jnp.mean(reward[:, 0]), "reward_last": jnp.mean(reward[:, -1])}


def drive(advance: Callable, state: Any, steps: int, chunk: int, done: int = 0) -> Iterator[tuple[int, Any, dict]]:
    """The host loop of one run or of a sweep: (steps done, state, metrics) after each chunk, until `steps` are done.

    advance: (state, size) -> (state, metrics), compiled, for a static number of outer steps.
    Warns once where a metric "unconverged" says that most inner solves stopped short.
    """
    warned = False
    while done < steps:
        size = min(chunk, steps - done)
        state, metrics = advance(state, size)
        done += size
        warned = warned or _warn_of_short_solves(metrics, done)
        yield done, state, metrics


def train(
    trainer: Trainer,
    key: Key,
    steps: int,
    *,
    chunk: int | None = None,
    progress: Callable[[int, dict], Any] = lambda done, metrics: None,
) -> tuple[TrainState, dict]:
    """`steps` outer steps from a fresh start: the TrainState, whose `slow` was learned, and the metrics, each [steps].

    chunk: outer steps in one compiled call, by default all; `progress(steps done, metrics [chunk])` is called after each,
    and ends the run there where it returns True. With `jax.random.key(seed)` it is what `sweep` does for that seed. Warns
    where the loss ends as no finite number. Raises `Misuse` on steps < 1.
    """
    check_type("the trainer", trainer, Trainer, "pass program.trainer, say")
    check_count("steps", steps)
    chunk = steps if chunk is None else check_count("chunk", chunk)
    key_init, key_steps = jax.random.split(key)

    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def advance(state, size):
        return steps_together(trainer, size)(key_steps, state)

    state, history = jax.jit(trainer.init)(key_init), []
    for done, trained, metrics in drive(advance, state, steps, chunk):
        state = trained
        history.append(jax.tree.map(np.asarray, metrics))
        if progress(done, history[-1]) is True:
            break
    last = history[-1]["loss"][-1]
    if not np.isfinite(last):
        warnings.warn(f"training diverged: the loss is {last} after {done} outer steps; lower its rates.", stacklevel=2)
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *history)


def _warn_of_short_solves(metrics: dict, done: int) -> bool:
    share = float(np.mean(metrics.get("unconverged", 0.0)))
    cure = "take more inner steps or strengthen the proximal term"
    if share > 0.5:
        warnings.warn(f"{share:.0%} of the inner solves stopped short before outer step {done}; {cure}.", stacklevel=3)
    return share > 0.5
