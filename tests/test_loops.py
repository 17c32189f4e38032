"""Chunks change nothing but how much is in memory at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.loops import in_chunks, largest_chunk, repeat, sum_over_chunks


def noisy(key, item):
    return item["x"] * jax.random.normal(key, (2,)), item["n"] + 1


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 6, 100])
def test_in_chunks_is_a_python_loop(chunk):
    items = {"x": jnp.arange(6.0), "n": jnp.arange(6)}
    got, counted = in_chunks(jax.random.key(0), noisy, items, chunk)
    for i in range(6):
        one, n = noisy(jax.random.fold_in(jax.random.key(0), i), {"x": jnp.float32(i), "n": i})
        np.testing.assert_allclose(got[i], one, rtol=1e-6)
        assert counted[i] == n


@pytest.mark.parametrize("chunk", [1, 4, 12])
def test_the_sum_over_chunks_uses_the_same_keys(chunk):
    items = {"x": jnp.arange(12.0), "n": jnp.arange(12)}

    def function(keys, items):
        return jax.tree.map(lambda leaf: leaf.sum(0), jax.vmap(noisy)(keys, items))

    total, counted = sum_over_chunks(jax.random.key(1), function, items, chunk)
    each, _ = in_chunks(jax.random.key(1), noisy, items, 12)
    np.testing.assert_allclose(total, each.sum(0), rtol=1e-5)
    assert counted == 12 * 13 // 2


def test_largest_chunk():
    assert [largest_chunk(*pair) for pair in ((16, 16), (16, 5), (7, 4), (24, 100))] == [16, 4, 1, 24]


def test_repeat_folds_the_index_into_the_key():
    carry, draws = repeat(jax.random.key(2), 3, lambda key, i, carry: (carry + i, jax.random.uniform(key)), jnp.int32(0))
    assert carry == 3
    for i in range(3):
        assert draws[i] == jax.random.uniform(jax.random.fold_in(jax.random.key(2), i))
