"""The exact optimum of a point that moves by velocities in a box: straight to the goal in every coordinate at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from metadqn_jax.types import Array


def nearest_path(start: Array, goal: Array, horizon: int, *, speed: float = 0.1, bins: int | None = None) -> Array:
    """The positions [horizon, d] after each move of the best way from `start` [d] to a known `goal` [d].

    Velocities lie within ± speed in each coordinate: any of them, or with `bins` that many at equal distances, ends
    included. Coordinates move independently, and the nearest move now never leads to a later position that is farther
    than need be. So at each step every coordinate is as near to the goal as it can be at all: the path is
    optimal, exactly, for any reward that falls with both |dx| and |dy|, also where an episode ends close to the goal.

    >>> nearest_path(jnp.zeros(1), jnp.array([2.5]), 4, speed=1.0).ravel().tolist()
    [1.0, 2.0, 2.5, 2.5]
    """

    def step(position, _):
        offset = goal - position
        if bins is None:
            move = jnp.clip(offset, -speed, speed)
        else:
            levels = jnp.linspace(-speed, speed, bins)
            move = levels[jnp.argmin(jnp.abs(offset[:, None] - levels[None]), 1)]
        return position + move, position + move

    return jax.lax.scan(step, start, length=horizon)[1]


def best_return(
    reward: Callable[[Array], Array],
    ends: Callable[[Array], Array],
    goal: Array,
    horizon: int,
    *,
    speed: float = 0.1,
    bins: int | None = None,
) -> Array:
    """The return of `nearest_path` from the origin to a known `goal` [d], up to the first position where an episode ends.

    reward, ends: (position [d]) -> [], of the step that leads there; the reward must fall with distance.
    """
    path = nearest_path(jnp.zeros_like(goal), goal, horizon, speed=speed, bins=bins)
    over = jnp.cumsum(jax.vmap(ends)(path))
    alive = jnp.concatenate([jnp.zeros(1, over.dtype), over[:-1]]) == 0
    return jnp.sum(jnp.where(alive, jax.vmap(reward)(path), 0.0))
