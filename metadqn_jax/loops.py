"""The loops of the house: every one folds its index into one key."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, require
from metadqn_jax.trees import add, zeros
from metadqn_jax.types import Key


def repeat(key: Key, length: int, body: Callable, carry: Any) -> tuple[Any, Any]:
    """`carry, out = body(key_i, i, carry)` for i = 0 … length−1, with key_i = fold_in(key, i); outs are stacked."""

    def step(carry, i):
        return body(jax.random.fold_in(key, i), i, carry)

    return jax.lax.scan(step, carry, jnp.arange(length))


def in_chunks(key: Key, function: Callable, items: Any, chunk: int) -> Any:
    """`function(key_i, item)` for each of `items` (leading [n]), with key_i = fold_in(key, i); results are stacked.

    Items are taken `chunk` at a time, by `vmap` within a scan, so that what one chunk needs stays in a CPU's cache; the
    largest divisor of n up to `chunk` is taken.
    """
    indices, size = _chunks(items, chunk)

    def step(_, rows):
        return None, jax.vmap(lambda i, item: function(jax.random.fold_in(key, i), item))(*rows)

    _, results = jax.lax.scan(step, None, _cut((indices, items), size))
    return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), results)


def sum_over_chunks(key: Key, function: Callable, items: Any, chunk: int) -> Any:
    """The sum of `function(keys, items)` over chunks of items and their keys, which are those of `in_chunks`."""
    indices, size = _chunks(items, chunk)

    def of_chunk(rows):
        some, chosen = rows
        return function(jax.vmap(lambda i: jax.random.fold_in(key, i))(some), chosen)

    chunks = _cut((indices, items), size)
    nothing = zeros(jax.eval_shape(lambda chunks: of_chunk(jax.tree.map(lambda leaf: leaf[0], chunks)), chunks))
    return jax.lax.scan(lambda total, rows: (add(total, of_chunk(rows)), None), nothing, chunks)[0]


def largest_chunk(count: int, chunk: int) -> int:
    """The largest divisor of `count` up to `chunk`.

    >>> largest_chunk(24, 16)
    12
    """
    return max(size for size in range(1, min(chunk, count) + 1) if count % size == 0)


def _chunks(items: Any, chunk: int) -> tuple[Any, int]:
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(items)}
    require(
        len(counts) == 1 and counts != {()},
        f"what is taken in chunks must share a leading axis, got leaves that begin with {sorted(counts)}; "
        "stack items, or draw them with sample_tasks.",
    )
    ((count,),) = counts
    return jnp.arange(count), largest_chunk(count, check_count("chunk", chunk))


def _cut(items: Any, size: int) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape((-1, size, *leaf.shape[1:])), items)
