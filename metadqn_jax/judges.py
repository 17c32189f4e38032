"""The ways to judge how a learner adapts: after gradient steps, after fresh segments, or in the episodes of a trial."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from metadqn_jax.evaluation import (
    SEGMENTS,
    STEPS,
    adaptation_returns,
    random_returns,
    random_trial_returns,
    segment_returns,
    trial_returns,
)
from metadqn_jax.tasks.base import Recipe
from metadqn_jax.types import Array


class Judge(NamedTuple):
    """One way to measure adaptation; `by_steps`, `by_segments` and `by_episodes` make them.

    unit: what is counted, "steps" being gradient steps.   points: the counts at which it is measured by default.
    ends: the counts at which training begins and ends to adapt.
    steps: gradient steps that the judged learner is to take each time it adapts.
    returns: (key, learner, slow, distribution, tasks, points, episodes=…) -> float32 [tasks, points]
    random: (key, distribution, tasks, episodes=…) -> float32 [tasks], an episode of uniformly random actions
    """

    unit: str
    points: tuple[int, ...]
    ends: tuple[int, int]
    steps: int
    returns: Callable[..., Array]
    random: Callable[..., Array]


def by_steps(recipe: Recipe, explore: Callable, horizon: int) -> Judge:
    """Judge by gradient steps on one support batch: `adaptation_returns`."""
    returns = functools.partial(adaptation_returns, span=recipe.span, explore=explore, horizon=horizon)
    random = functools.partial(random_returns, horizon=horizon)
    return Judge("steps", STEPS, (0, recipe.inner_steps), 1, returns, random)


def by_segments(recipe: Recipe, explore: Callable, horizon: int) -> Judge:
    """Judge by segments, each collected afresh and adapted on as in training: `segment_returns`."""
    returns = functools.partial(segment_returns, span=recipe.span, explore=explore, horizon=horizon)
    random = functools.partial(random_returns, horizon=horizon)
    return Judge("segments", SEGMENTS, (0, recipe.span.segments - 1), recipe.inner_steps, returns, random)


def by_episodes(recipe: Recipe, explore: Callable, horizon: int) -> Judge:
    """Judge by the episodes of a trial, which is what the recipe's span is about: `trial_returns`."""
    trial = {"span": recipe.span, "horizon": horizon}
    points = tuple(range(1, recipe.span.segments * recipe.span.steps // horizon + 1))
    returns = functools.partial(trial_returns, **trial)
    random = functools.partial(random_trial_returns, **trial)
    return Judge("episodes", points, (1, len(points)), recipe.inner_steps, returns, random)
