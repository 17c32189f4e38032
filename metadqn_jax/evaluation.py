"""Measuring adaptation on tasks: the same `live`, and greedy episodes from reset that are never adapted on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.living import episode_return, epsilon_greedy, live
from metadqn_jax.loops import in_chunks
from metadqn_jax.tasks.base import TaskDistribution
from metadqn_jax.types import Array, Key, Slow, Span, Task


def adaptation_returns(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    tasks: Task,
    *,
    span: Span,
    explore: Callable,
    horizon: int,
    steps: tuple[int, ...] = (0, 1, 2, 3, 5, 10),
    episodes: int = 4,
    chunk: int = 8,
) -> Array:
    """Greedy return in each task after each number of gradient `steps` on one support batch, float32 [tasks, steps].

    learner: one that takes a single gradient step each time it adapts.   tasks: a pytree with a leading [tasks].
    span: its steps × streams are the support, collected as in training's first segment.   Each number is the mean of
    `episodes` episodes of at most `horizon` steps.

    chunk: tasks at a time; make it large on an accelerator. Raises `Misuse` on steps that do not increase.
    """
    for k in steps:
        check_count("each of the steps", k, least=0)
    require(len(steps) > 0 and list(steps) == sorted(set(steps)), f"steps must increase, got {steps}; sort them.")
    support = Span(segments=1, steps=span.steps, streams=span.streams)

    def one(key, task):
        key_live, key_probe = jax.random.split(key)
        life = live(key_live, learner, slow, distribution, task, support, explore, repeats=max(1, steps[-1]))
        fasts = jax.tree.map(lambda leaf: leaf[jnp.array(steps)], life.fasts)
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

    def act(key, t, noise, obs):
        return noise, distribution.spec.head.sample(key)

    def one(key, task):
        return _mean_return(key, act, distribution, task, horizon, episodes)

    return in_chunks(key, one, tasks, 64)


def optimal_returns(key: Key, optimum: Callable, tasks: Task, *, episodes: int = 4) -> Array:
    """A family's `optimum` in each task, the mean over `episodes` starts, float32 [tasks]."""

    def one(key, task):
        return jnp.mean(jax.vmap(lambda key: optimum(key, task))(jax.random.split(key, episodes)))

    return in_chunks(key, one, tasks, 64)


def _mean_return(key, act, distribution, task, horizon, episodes):
    keys = jax.random.split(key, episodes)
    return jnp.mean(jax.vmap(lambda key: episode_return(key, act, distribution, task, horizon))(keys))
