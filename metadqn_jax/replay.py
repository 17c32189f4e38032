"""A ring of pytrees whose sampling costs the same at any capacity."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, require
from metadqn_jax.types import Array, Key


class Store(NamedTuple):
    """`items` with a leading [capacity]; `added` counts all items ever added (int32 [])."""

    items: Any
    added: Array


def make_store(item: Any, capacity: int) -> Store:
    """An empty store for items shaped like `item` (concrete or abstract). Raises `Misuse` on a capacity < 1."""
    check_count("capacity", capacity)
    items = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), item)
    return Store(items, jnp.zeros((), jnp.int32))


def add(store: Store, batch: Any) -> Store:
    """The store with `batch` (leading [n]) in place of its n oldest items. Raises `Misuse` if n is above the capacity."""
    size, capacity = _length(batch), _length(store.items)
    require(
        size <= capacity,
        f"the store must hold at least one batch of {size}, got capacity {capacity}; raise the capacity.",
    )
    where = (store.added + jnp.arange(size)) % capacity
    items = jax.tree.map(lambda old, new: old.at[where].set(new, unique_indices=True), store.items, batch)
    return Store(items, store.added + size)


def sample(key: Key, store: Store, size: int) -> Any:
    """`size` items, stratified by age: the stored items are cut into `size` equal runs and one is drawn from each.

    Each item is as likely as any other, none is drawn twice once `size` items are stored, a store exactly full with `size`
    items gives each once, and the cost is O(size) at any capacity. Where the runs cannot be equal, the cuts turn at random.
    """
    capacity = _length(store.items)
    stored = jnp.minimum(store.added, capacity)
    run, longer = jnp.maximum(stored // size, 1), stored % size * (stored >= size)
    key_turn, key_run = jax.random.split(key)
    turn = jax.random.randint(key_turn, (), 0, jnp.maximum(stored, 1)) * (stored % size > 0)
    i = jnp.arange(size)
    start = i * run + jnp.minimum(i, longer)
    age = (turn + start + jax.random.randint(key_run, (size,), 0, run + (i < longer))) % jnp.maximum(stored, 1)
    oldest = jnp.where(store.added > capacity, store.added % capacity, 0)
    return jax.tree.map(lambda leaf: leaf[(oldest + age) % capacity], store.items)


def _length(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
