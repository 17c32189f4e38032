"""The exact optimum of point navigation with eight directions."""

import itertools

import jax
import jax.numpy as jnp

from metadqn_jax.types import Array

SLANT = 0.5**0.5
BASIS = ((1.0, 0.0), (SLANT, SLANT), (0.0, 1.0), (-SLANT, SLANT))  # each direction is one of these or its opposite


def best_return(
    start: Array, goal: Array, *, stride: float = 0.15, horizon: int = 20, reach: int = 11, margin: int = 3
) -> Array:
    """The largest sum of −‖position − goal‖ over `horizon` moves of `stride` from `start` [2] to `goal` [2].

    Moves commute, so where one stands is the net count of each of four directions: dynamic programming over these
    counts. After turning the goal into the octant between the first two, their counts run to `reach` and every count
    back to −`margin`; the optimum is exact when no best plan leaves that window (a test widens it and finds no change).
    Walls are left out: no way to a goal inside them is shorter through them.
    """
    offset = jnp.sort(jnp.abs(goal - start), descending=True)  # the octant 0° … 45°, by reflections of the square
    sizes = (reach + margin, reach + margin, 2 * margin, 2 * margin)
    counts = jnp.stack(jnp.meshgrid(*(jnp.arange(size + 1.0) - margin for size in sizes), indexing="ij"), -1)
    x, y = jnp.moveaxis(stride * jnp.matmul(counts, jnp.array(BASIS), precision="highest"), -1, 0)
    cost = jnp.hypot(x - offset[0], y - offset[1])

    def back(value, _):
        worth = value - cost
        padded = jnp.pad(worth, 1, constant_values=-jnp.inf)
        neighbours = [
            jax.lax.slice_in_dim(_inner(padded, axis), step, step + worth.shape[axis], axis=axis)
            for axis, step in itertools.product(range(4), (0, 2))
        ]
        return jnp.max(jnp.stack([worth, *neighbours]), 0), None

    value, _ = jax.lax.scan(back, jnp.zeros_like(cost), length=horizon)
    return value[(margin,) * 4]


def _inner(padded: Array, axis: int) -> Array:
    """The padding cut away along every axis but one."""
    return padded[tuple(slice(None) if i == axis else slice(1, -1) for i in range(padded.ndim))]
