"""The ring against a deque, and the promises of its sampling."""

from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from metadqn_jax import replay
from metadqn_jax.checks import Misuse

DRAWS = 3_000
ITEM = {"id": jnp.int32(0), "pair": jnp.zeros(2)}
add = jax.jit(replay.add)
sample_many = jax.jit(jax.vmap(replay.sample, in_axes=(0, None, None)), static_argnums=2)


def items(ids):
    ids = np.asarray(ids, np.int32)
    return {"id": ids, "pair": np.stack([ids, -ids], 1).astype(np.float32)}


def filled(capacity, count, start=0):
    """A store after `count` items, whose ids are start, start + 1, …"""
    store = replay.make_store(ITEM, capacity)
    for i in range(0, count, capacity):
        store = add(store, items(range(start + i, start + min(i + capacity, count))))
    return store


def draw_many(seed, store, size):
    """Ids [DRAWS, size] of many independent batches."""
    return np.asarray(sample_many(jax.random.split(jax.random.key(seed), DRAWS), store, size)["id"])


def shares(batches, ids):
    """The mean number of times that a batch contains each of `ids`."""
    return np.array([(batches == i).sum(1).mean() for i in ids])


@pytest.mark.parametrize("seed", range(3))
def test_the_ring_equals_a_deque(seed):
    rng, capacity = np.random.default_rng(seed), 7
    store, twin, total = replay.make_store(ITEM, capacity), deque(maxlen=capacity), 0
    for _ in range(12):
        count = int(rng.integers(1, capacity + 1))
        ids = range(total + 1, total + 1 + count)  # an empty place holds 0
        store, total = add(store, items(ids)), total + count
        twin.extend(ids)
        assert int(store.added) == total
        held = np.asarray(store.items["id"])
        assert sorted(held[held > 0]) == list(twin)
        np.testing.assert_array_equal(store.items["pair"][:, 1], -held)


def test_a_store_exactly_full_gives_its_batch_oldest_first():
    store = filled(6, 16, start=100)
    batch = replay.sample(jax.random.key(0), store, 6)
    np.testing.assert_array_equal(batch["id"], range(110, 116))
    np.testing.assert_array_equal(batch["pair"][:, 1], -batch["id"])


def test_a_store_of_one_batch_is_on_policy():
    store = add(filled(4, 4), items([7, 8, 9, 10]))
    np.testing.assert_array_equal(replay.sample(jax.random.key(1), store, 4)["id"], [7, 8, 9, 10])


@pytest.mark.parametrize(("capacity", "added"), [(12, 12), (12, 17), (20, 12)])  # full, wrapped, not yet full
def test_sampling_is_uniform_where_the_size_divides(capacity, added):
    size, stored = 4, 12
    batches = draw_many(2, filled(capacity, added), size)
    chance = size / stored
    spread = np.sqrt(chance * (1 - chance) / DRAWS)
    np.testing.assert_allclose(shares(batches, range(added - stored, added)), chance, atol=4.5 * spread)


@pytest.mark.parametrize(("size", "capacity", "added"), [(4, 10, 23), (4, 10, 7), (4, 10, 3)])  # 10, 7 and 3 items
def test_sampling_is_uniform_where_the_size_does_not_divide(size, capacity, added):
    stored = min(capacity, added)
    share = shares(draw_many(3, filled(capacity, added), size), range(added - stored, added))
    assert share.sum() == pytest.approx(size)  # only stored items
    np.testing.assert_allclose(share, size / stored, atol=4.5 * 0.5 / np.sqrt(DRAWS))


@pytest.mark.parametrize("stored", [4, 5, 7, 11])
def test_nothing_is_drawn_twice_once_a_batch_is_stored(stored):
    batches = np.sort(draw_many(4, filled(11, stored), 4), 1)
    assert (np.diff(batches, axis=1) > 0).all()
    assert batches.min() == 0
    assert batches.max() == stored - 1


def test_fewer_items_than_a_batch_are_repeated_evenly():
    batches = draw_many(5, filled(11, 3), 8)
    for i in range(3):
        assert set((batches == i).sum(1)) <= {2, 3}


def test_a_store_smaller_than_a_batch_is_refused():
    with pytest.raises(Misuse, match=r"at least one batch of 4, got capacity 3; raise the capacity\.$"):
        replay.add(replay.make_store(ITEM, 3), items(range(4)))
    with pytest.raises(Misuse, match="capacity must be a whole number of at least 1"):
        replay.make_store(ITEM, 0)


def numbers_computed(jaxpr):
    """How many numbers the equations of a jaxpr write, those of inner jaxprs included."""
    total = 0
    for equation in jaxpr.eqns:
        total += sum(int(np.prod(out.aval.shape)) for out in equation.outvars)
        total += sum(numbers_computed(getattr(one, "jaxpr", one)) for one in jaxprs_in_params(equation.params))
    return total


def test_the_cost_of_sampling_does_not_grow_with_the_capacity():
    def cost(capacity):
        store = jax.eval_shape(lambda: replay.make_store(ITEM, capacity))
        return numbers_computed(jax.make_jaxpr(lambda key, s: replay.sample(key, s, 8))(jax.random.key(0), store).jaxpr)

    assert cost(10) == cost(100_000) < 2_000
