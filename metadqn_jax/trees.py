"""Pytree arithmetic."""

from typing import Any

import jax
import jax.numpy as jnp


def add(a: Any, b: Any) -> Any:
    """a + b, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    """a − b, leaf by leaf."""
    return jax.tree.map(jnp.subtract, a, b)


def scale(factor: Any, a: Any) -> Any:
    """factor · a, for a scalar factor."""
    return jax.tree.map(lambda leaf: factor * leaf, a)


def mix(a: Any, b: Any, weight: Any) -> Any:
    """(1 − weight) · a + weight · b: one step of Polyak averaging from a towards b."""
    return jax.tree.map(lambda x, y: x + weight * (y - x), a, b)


def squared_norm(a: Any) -> jax.Array:
    """Σ leaf², [] float."""
    return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(a)), start=jnp.asarray(0.0))  # of weak type: the leaves' stays


def clip(a: Any, bound: Any) -> Any:
    """`a` scaled down to a global norm of at most `bound`; differentiable everywhere but on the sphere, also at 0."""
    square = squared_norm(a)
    outside = square > bound**2
    factor = jnp.where(outside, bound * jax.lax.rsqrt(jnp.where(outside, square, 1.0)), 1.0)
    return scale(factor, a)


def mean(a: Any, axis: Any = 0) -> Any:
    """The mean of every leaf over `axis`."""
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis), a)


def stop(a: Any) -> Any:
    """`a` with no gradient through it."""
    return jax.lax.stop_gradient(a)


def shapes(a: Any) -> Any:
    """The shapes and dtypes of `a`'s leaves."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), a)


def strengthen(a: Any) -> Any:
    """`a` as arrays of strong type, so that a loop's carry keeps one type and compiles once."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.result_type(leaf)), a)


def first(a: Any) -> Any:
    """The first element along the leading axis."""
    return jax.tree.map(lambda leaf: leaf[0], a)


def flatten_axes(a: Any, axes: int) -> Any:
    """The `axes` leading axes of every leaf merged into one."""
    return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[axes:])), a)


def zeros(a: Any) -> Any:
    """Zeros shaped like the abstract `a`."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), a)


def lead(size: int, a: Any) -> Any:
    """The abstract `a` with a leading axis of `size`."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype), a)


def lift(a: Any) -> Any:
    """`a` with a leading axis of 1."""
    return jax.tree.map(lambda leaf: leaf[None], a)


def join(*parts: Any) -> Any:
    """Pytrees concatenated along their leading axes."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
