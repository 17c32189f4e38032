"""`navigation_2d`: the point navigation of MAML, with velocities on a grid (Finn et al. 2017, section 5.3)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax import trees
from metadqn_jax.actions import grid, held
from metadqn_jax.environments.navigation_2d import Navigation2D
from metadqn_jax.environments.point import PointState
from metadqn_jax.planners.point import best_return
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import reserve
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Array, Span, Task

HOLD = 5  # steps for which exploration holds an action: single random ones stay near the start
RECIPE = Recipe(
    span=Span(segments=4, steps=50, streams=8),
    discount=0.0,  # the next distance is all that a velocity changes for good: what comes after it can be mended
    inner_trace=0.0,
    outer_trace=0.0,
    reward_scale=4.0,
    query_epsilon=0.5,
    inner_rate=0.3,
    inner_steps=1,
    outer_rate=3e-3,
    meta_batch=4,
    outer_steps=5_000,
    hidden=(128, 128),
)
TRIAL_RECIPE = dataclasses.replace(TRIAL, span=Span(200, 1, 1), discount=0.6, reward_scale=2.0)
_ENV = Navigation2D()
_HORIZON = _ENV.default_params.max_steps_in_episode


def navigation_2d(bins: int = 5) -> Family:
    """Reach a goal of [−0.5, 0.5]² that is not shown: minus the distance as reward, at most 100 steps, an end at the goal.

    Train goals are drawn uniformly; test goals are the authors' 40, which train never draws. On these, staying put
    returns −40.08 and the best velocities −0.54; MAML is published with −40.41, −11.68, −3.33 and −3.23 after 0 … 3
    gradient steps, each on 20 fresh episodes.
    Differs from the paper: velocities are on a grid of `bins` levels a dimension, ends included, whose best returns are
    −3.93, −2.15 and −1.11 with 3, 5 and 9. Raises `Misuse` on bins that `grid` refuses.

    >>> navigation_2d().split.test.spec.head.width
    25
    """
    speed = _ENV.default_params.speed

    def vary(key, params):
        return params.replace(goal=jax.random.uniform(key, (2,), minval=-0.5, maxval=0.5))

    whole = from_gymnax(_ENV, vary, head=held(grid([-speed] * 2, [speed] * 2, bins), HOLD))
    base = trees.strengthen(jax.tree.map(jnp.asarray, _ENV.default_params))
    tasks = reserve(whole, jax.vmap(lambda goal: base.replace(goal=goal))(jnp.asarray(published_goals(), float)))

    def optimum(key, task):
        return known_goal_return(task, bins)

    return Family(tasks, RECIPE, _HORIZON, optimum, features=lambda task: 2.0 * task.goal, trial=TRIAL_RECIPE)


def published_goals() -> np.ndarray:
    """The 40 test goals of the authors' code, float32 [40, 2]: the first draws of NumPy's old generator with seed 1."""
    return np.random.RandomState(1).uniform(-0.5, 0.5, (40, 2)).astype(np.float32)


def known_goal_return(task: Task, bins: int | None = None) -> Array:
    """The best return of an episode whose goal is known: exact for velocities on a grid, and for any where bins is None."""

    def ends(position):
        return _ENV.is_terminated(PointState(position=position, time=0), task)

    return best_return(lambda place: _ENV.reward(place, task), ends, task.goal, _HORIZON, speed=task.speed, bins=bins)
