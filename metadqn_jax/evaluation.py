"""Measuring adaptation on tasks: the same `live`, and greedy episodes from reset that are never adapted on."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_count, require
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import MetaLearner, check_life
from metadqn_jax.living import episode_return, epsilon_greedy, live, rollout, start
from metadqn_jax.loops import in_chunks
from metadqn_jax.tasks.base import TaskDistribution, transition_like
from metadqn_jax.tasks.trials import check_trials, episode_returns
from metadqn_jax.types import Array, Key, Slow, Span, Task

STEPS = (0, 1, 2, 3, 5, 10)
SEGMENTS = (0, 1, 2, 3)


def adaptation_returns(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    tasks: Task,
    steps: tuple[int, ...] = STEPS,
    *,
    span: Span,
    explore: Callable,
    horizon: int,
    episodes: int = 4,
    chunk: int = 8,
) -> Array:
    """Greedy return in each task after each number of gradient `steps` on one support batch, float32 [tasks, steps].

    learner: one that takes a single gradient step each time it adapts.   tasks: a pytree with a leading [tasks].
    span: its steps × streams are the support, collected as in training's first segment.   Each number is the mean of
    `episodes` episodes of at most `horizon` steps.

    chunk: tasks at a time; make it large on an accelerator. Raises `Misuse` on steps that do not increase.
    """
    _check_points("steps", steps)
    _check_fit(learner, slow, distribution, span)
    support, repeats = Span(segments=1, steps=span.steps, streams=span.streams), max(1, steps[-1])
    life = functools.partial(live, span=support, explore=explore, repeats=repeats)
    return _probe(key, life, steps, learner, slow, distribution, tasks, horizon, episodes, chunk)


def segment_returns(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    tasks: Task,
    segments: tuple[int, ...] = SEGMENTS,
    *,
    span: Span,
    explore: Callable,
    horizon: int,
    episodes: int = 4,
    chunk: int = 8,
) -> Array:
    """Greedy return in each task after each number of fresh `segments`, float32 [tasks, segments].

    The learner adapts once on each segment, of the span's steps × streams, that its present policy collects with
    training's exploration. All else is as in `adaptation_returns`.
    """
    _check_points("segments", segments)
    _check_fit(learner, slow, distribution, span)
    fresh = Span(segments=max(1, segments[-1]), steps=span.steps, streams=span.streams)
    life = functools.partial(live, span=fresh, explore=explore)
    return _probe(key, life, segments, learner, slow, distribution, tasks, horizon, episodes, chunk)


def trial_returns(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    tasks: Task,
    points: tuple[int, ...],
    *,
    span: Span,
    horizon: int,
    episodes: int = 4,
    chunk: int = 8,
) -> Array:
    """Return in each task of the episodes named by `points`, 1 being a trial's first, float32 [tasks, points].

    distribution: of trials (`tasks.trials`) of as many episodes of `horizon` steps as the span holds. The
    learner lives through whole trials with ε = 0; each number is the mean over `episodes` of them. Raises `Misuse`.
    """
    _check_points("episodes", points, least=1)
    count = _episodes_of_a_trial(distribution, span, horizon)
    require(points[-1] <= count, f"the episodes must be among the {count} of a trial, got {points}; leave the others out.")
    check_count("episodes", episodes)
    _check_fit(learner, slow, distribution, span)

    def one(key, task):
        def returns(i):
            key_life = jax.random.fold_in(key, i)
            life = live(key_life, learner, slow, distribution, task, span, by_segment(0.0))
            return episode_returns(life.lifetime.experience, count)

        return jax.vmap(returns)(jnp.arange(episodes)).mean(0)[jnp.array(points) - 1]

    return in_chunks(key, one, tasks, chunk)


def _check_points(name: str, points: tuple[int, ...], least: int = 0) -> None:
    require(isinstance(points, tuple | list), f"{name} must be a tuple of counts, got {points!r}; give ({points},), say.")
    for k in points:
        check_count(f"each of the {name}", k, least=least)
    require(len(points) > 0 and list(points) == sorted(set(points)), f"{name} must increase, got {points}; sort them.")


def _episodes_of_a_trial(distribution: TaskDistribution, span: Span, horizon: int) -> int:
    """How many a life of this span holds. Raises `Misuse` unless it is one whole trial, and holds any."""
    check_trials(distribution)
    length, steps = distribution.spec.trial, span.segments * span.steps
    require(length == steps, f"a trial of {length} steps must be lived whole, got a span of {steps}; set span.segments to it.")
    count = steps // check_count("horizon", horizon)
    require(count > 0, f"a trial must hold an episode of {horizon} steps, got {steps}; raise span.segments.")
    return count


def _check_fit(learner: MetaLearner, slow: Slow, distribution: TaskDistribution, span: Span) -> None:
    """Raise `Misuse` unless the learner can live in these tasks, by segments of this span."""
    segment = trees.lead(span.steps, trees.lead(span.streams, transition_like(distribution)))
    check_life(learner, distribution.spec, slow, segment)


def _probe(key, life, points, learner, slow, distribution, tasks, horizon, episodes, chunk):
    """Greedy returns [tasks, points] with the fast states that each task's `life` has after so many adaptations."""

    def one(key, task):
        key_live, key_probe = jax.random.split(key)
        fasts = life(key_live, learner, slow, distribution, task).fasts
        fasts = jax.tree.map(lambda leaf: leaf[jnp.array(points)], fasts)
        return jax.vmap(lambda fast: greedy_return(key_probe, learner, slow, fast, distribution, task, horizon, episodes))(
            fasts
        )

    return in_chunks(key, one, tasks, chunk)


def greedy_return(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    fast: Any,
    distribution: TaskDistribution,
    task: Task,
    horizon: int,
    episodes: int,
) -> Array:
    """The mean return of greedy episodes with this fast state, [] float32."""
    act = epsilon_greedy(distribution.spec.head, lambda obs: learner.q(slow, fast, obs), lambda t: 0.0)
    return _mean_return(key, act, distribution, task, horizon, episodes)


def random_returns(key: Key, distribution: TaskDistribution, tasks: Task, *, horizon: int, episodes: int = 4) -> Array:
    """The mean return of uniformly random actions in each task, float32 [tasks]."""
    act = _at_random(distribution)

    def one(key, task):
        return _mean_return(key, act, distribution, task, horizon, episodes)

    return in_chunks(key, one, tasks, 64)


def random_trial_returns(
    key: Key, distribution: TaskDistribution, tasks: Task, *, span: Span, horizon: int, episodes: int = 4
) -> Array:
    """The mean return of an episode of uniformly random actions in each task, in at least `episodes`, float32 [tasks].

    distribution: of trials, as in `trial_returns`.
    """
    act, count = _at_random(distribution), _episodes_of_a_trial(distribution, span, horizon)
    trials = -(-check_count("episodes", episodes) // count)

    def one(key, task):
        def returns(i):
            key_start, key_steps = jax.random.split(jax.random.fold_in(key, i))
            stream = start(key_start, distribution, task)
            return episode_returns(rollout(key_steps, act, distribution, task, stream, count * horizon)[1], count)

        return jnp.mean(jax.vmap(returns)(jnp.arange(trials)))

    return in_chunks(key, one, tasks, 64)


def optimal_returns(key: Key, optimum: Callable, tasks: Task, *, episodes: int = 4) -> Array:
    """A family's `optimum` in each task, the mean over `episodes` starts, float32 [tasks]."""
    check_count("episodes", episodes)

    def one(key, task):
        return jnp.mean(jax.vmap(lambda key: optimum(key, task))(jax.random.split(key, episodes)))

    return in_chunks(key, one, tasks, 64)


def _at_random(distribution):
    return lambda key, t, noise, obs: (noise, distribution.spec.head.sample(key))


def _mean_return(key, act, distribution, task, horizon, episodes):
    keys = jax.random.split(key, check_count("episodes", episodes))
    return jnp.mean(jax.vmap(lambda key: episode_return(key, act, distribution, task, horizon))(keys))
