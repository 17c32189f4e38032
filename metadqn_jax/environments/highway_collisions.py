"""Which vehicles overlap, which will within one tick, and how far that pushes them: highway-env's separating axes."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.environments.highway_traffic import LENGTH, WIDTH, HighwayState, velocity
from metadqn_jax.types import Array

DIAGONAL = (LENGTH**2 + WIDTH**2) ** 0.5


def collide(state: HighwayState, seconds: float, first: int) -> HighwayState:
    """The state with `crashed`, `hit` and `impact` after each of the `first` vehicles (static) was tried against all behind it.

    Those that will overlap within `seconds` at their present velocities are pushed apart, each by half, in the next tick, and
    crash then. Of several pushes the last one counts, as in highway-env, where pairs are tried in the order of the row.
    """
    n = state.x.size
    place, dirs = jnp.stack([state.x, state.y], -1), jnp.stack([jnp.cos(state.heading), jnp.sin(state.heading)], -1)
    shift = jnp.stack(velocity(state), -1) * seconds
    one_with_all = jax.vmap(_separate, (None, None, None, 0, 0, 0))
    touch, will, push = jax.vmap(one_with_all, (0, 0, 0, None, None, None))(
        place[:first], dirs[:first], shift[:first], place, dirs, shift
    )
    apart = jnp.linalg.norm(place[None] - place[:first, None], axis=-1)
    near = apart <= DIAGONAL + (state.speed[:first] * seconds)[:, None]
    near &= jnp.arange(first)[:, None] < jnp.arange(n)[None]
    touch, will = touch & near, will & near
    filled = ((0, n - first), (0, 0))
    touch, will, push = jnp.pad(touch, filled), jnp.pad(will, filled), jnp.pad(push, (*filled, (0, 0)))
    hits = will | will.T
    last = n - 1 - jnp.argmax(hits[:, ::-1], 1)
    of_last = jnp.where((last > jnp.arange(n))[:, None], push[jnp.arange(n), last], -push[last, jnp.arange(n)])
    crashed = state.crashed | touch.any(0) | touch.any(1)
    return dataclasses.replace(state, crashed=crashed, hit=hits.any(1), impact=of_last / 2)


def _separate(place, along, shift, other_place, other_along, other_shift) -> tuple[Array, Array, Array]:
    """Whether two rectangles overlap, whether they will after their shifts, and what moves the first off the other, [2]."""
    axes = jnp.stack([along, _left(along), other_along, _left(other_along)])  # [4, 2]
    centre, drift = axes @ (place - other_place), axes @ (shift - other_shift)
    reach, other_reach = _reach(axes, along), _reach(axes, other_along)
    low, high = centre - reach, centre + reach
    overlaps = jnp.all(_gap(low, high, other_reach) <= 0)
    low, high = low + jnp.minimum(drift, 0), high + jnp.maximum(drift, 0)
    gap, flipped = _gap(low, high, other_reach), _gap(-high, -low, other_reach)  # differ where one lies within the other
    depth = jnp.minimum(jnp.abs(gap), jnp.abs(flipped))
    least = jnp.argmin(depth)
    away = jnp.where(centre[least] > 0, axes[least], -axes[least])
    return overlaps, jnp.all(gap <= 0), depth[least] * away


def _left(direction: Array) -> Array:
    return jnp.stack([-direction[1], direction[0]])


def _reach(axes: Array, along: Array) -> Array:
    """Half of a vehicle's extent along each axis, [4]."""
    return LENGTH / 2 * jnp.abs(axes @ along) + WIDTH / 2 * jnp.abs(axes @ _left(along))


def _gap(low: Array, high: Array, reach: Array) -> Array:
    """The signed distance between [low, high] and [−reach, reach], negative where they overlap, as highway-env measures it."""
    return jnp.where(low < -reach, -reach - high, low - reach)
