"""`reaching`: reach goals in many dimensions by motors that are turned in another way in each task."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count
from metadqn_jax.environments.reaching import Reaching
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Array, Key, Span, Task

RECIPE = Recipe(
    span=Span(segments=2, steps=20, streams=16),
    discount=0.7,
    inner_trace=0.0,
    outer_trace=0.5,
    reward_scale=1.0,
    query_epsilon=0.2,
)
TRIAL_RECIPE = dataclasses.replace(TRIAL, span=Span(120, 1, 1), discount=0.7, reward_scale=1.0)


def reaching(dimensions: int = 12) -> Family:
    """Reach goals of [−½, ½]^d that are seen, in 20 steps: what is not seen is how the d motors are turned.

    A task is an orthogonal matrix, uniform over all of them; the reward is minus the distance. The optimum is exact: turned
    back, each coordinate of the way shrinks by the stride alone, whatever the others do. In 12 dimensions it is −1.9 in the
    mean, −19.8 to stay and −25.1 to act at random. The head is `factored` with 5 bins; `with_head` gives another. Raises
    `Misuse` on dimensions < 1.

    >>> reaching(3).split.train.spec.head.width
    15
    """
    check_count("dimensions", dimensions)
    env = Reaching(dimensions)
    horizon = env.default_params.max_steps_in_episode

    def optimum(key, task):
        return known_turn_return(env.reset_env(key, task)[1].way, task, horizon)

    sides = split(from_gymnax(env, lambda key, params: params.replace(turn=turn(key, dimensions))))
    return Family(sides, RECIPE, horizon, optimum, features=lambda task: jnp.ravel(task.turn), trial=TRIAL_RECIPE)


def turn(key: Key, dimensions: int) -> Array:
    """An orthogonal matrix [d, d], uniform over all of them (Mezzadri 2007)."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (dimensions, dimensions)))
    return q * jnp.sign(jnp.diagonal(r))[None]


def known_turn_return(way: Array, task: Task, horizon: int) -> Array:
    """The best return of an episode that begins with this `way` [d] to the goal, the motors' turn being known; exact."""
    steps = 1 + jnp.arange(horizon)[:, None]
    left = jnp.maximum(jnp.abs(task.turn.T @ way)[None] - task.stride * steps, 0.0)
    return -jnp.sum(jnp.sqrt(jnp.sum(left**2, 1)))
