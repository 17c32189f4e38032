"""Permuted actions and random views of observations, which are drawn with the task."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.actions import grid
from metadqn_jax.checks import Misuse
from metadqn_jax.environments.navigation import Navigation
from metadqn_jax.environments.tabular import Tabular
from metadqn_jax.tasks.base import check_distribution, fingerprint, sample_tasks
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.wrappers import disguised, mix_observation, permute_actions

DRAWS = 3_000


def same(key, params):
    return params


@pytest.fixture(scope="module")
def tables():
    return from_gymnax(Tabular(4, 3), same)


@pytest.fixture(scope="module")
def plane():
    return from_gymnax(Navigation(), same)


def pair(distribution):
    """A task, its world and observation at a reset with the second half of key 0, and the jitted step."""
    key_task, key_reset = jax.random.split(jax.random.key(0))
    task = jax.jit(distribution.sample)(key_task)
    world, obs = jax.jit(distribution.reset)(key_reset, task)
    return task, world, obs, jax.jit(distribution.step)


def test_permutations_are_uniform_and_leave_the_inner_task_alone(tables):
    tasks, orders = jax.jit(lambda key: sample_tasks(key, permute_actions(tables), DRAWS))(jax.random.key(0))
    assert orders.dtype == jnp.int32
    seen = list(map(tuple, orders.tolist()))
    for order in itertools.permutations(range(3)):
        assert abs(seen.count(order) - DRAWS / 6) < 4.5 * np.sqrt(DRAWS * 5 / 36)
    assert jax.tree.structure(tasks) == jax.tree.structure(jax.eval_shape(tables.sample, jax.random.key(1)))


def test_permutations_compose(plane):
    twice = permute_actions(permute_actions(plane))
    check_distribution(twice)
    task, world, _, step = pair(plane)
    inner, outer = jnp.int32([4, 0, 7, 8, 1, 2, 3, 5, 6]), jnp.int32([8, 2, 0, 1, 3, 6, 5, 4, 7])
    crossed, keys = jax.jit(twice.step), jax.random.split(jax.random.key(1), 9)
    for action, key, twin in zip(range(9), keys, jax.random.clone(keys), strict=True):
        _, seen = crossed(key, ((task, inner), outer), world, jnp.int32(action))
        _, wanted = step(twin, task, world, inner[outer[action]])
        np.testing.assert_array_equal(seen.transition_obs, wanted.transition_obs)


def test_a_grid_is_permuted_cell_by_cell():
    pushes = grid([-1.0, -1.0], [1.0, 1.0], bins=2)
    robots = from_gymnax("PointRobot-misc", same, keep=("goal",), head=pushes)
    shuffled = permute_actions(robots)
    check_distribution(shuffled)
    task, world, _, step = pair(robots)
    order = jnp.int32([3, 1, 0, 2])
    crossed, keys = jax.jit(shuffled.step), jax.random.split(jax.random.key(2), 4)
    assert int(shuffled.spec.head.decode(jnp.int32(3))) == 3
    for action, key, twin in zip(range(4), keys, jax.random.clone(keys), strict=True):
        _, seen = crossed(key, (task, order), world, jnp.int32(action))
        _, wanted = step(twin, task, world, pushes.decode(order[action]))
        np.testing.assert_array_equal(seen.transition_obs, wanted.transition_obs)


def test_a_head_without_values_cannot_be_permuted(tables):
    spec = tables.spec._replace(head=tables.spec.head._replace(values=None))
    with pytest.raises(Misuse, match=r"^permute_actions must [^\n]*; [^\n]*\.$"):
        permute_actions(tables._replace(spec=spec))


@pytest.mark.parametrize("width", [None, 5])
def test_mixed_observations_are_a_matrix_times_the_observations(plane, width):
    mixed = mix_observation(plane, width)
    check_distribution(mixed)
    assert mixed.spec.observation.shape == (width or 2,)
    task, world, obs, step = pair(plane)
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(width or 2, 2)), jnp.float32)
    world, seen = jax.jit(mixed.reset)(jax.random.split(jax.random.key(0))[1], (task, matrix))
    np.testing.assert_allclose(seen, matrix @ obs, rtol=1e-5)
    key = jax.random.key(3)
    _, wanted = step(jax.random.clone(key), task, world, jnp.int32(2))
    _, seen = jax.jit(mixed.step)(key, (task, matrix), world, jnp.int32(2))
    for name in ("obs", "transition_obs"):
        np.testing.assert_allclose(getattr(seen, name), matrix @ getattr(wanted, name), rtol=1e-5)
    assert seen.reward == wanted.reward


def test_matrices_are_normal_with_the_inverse_size_as_variance(tables):
    _, matrices = jax.jit(lambda key: sample_tasks(key, mix_observation(tables, 3), DRAWS))(jax.random.key(4))
    assert matrices.shape == (DRAWS, 3, 4)
    rows = np.asarray(matrices).reshape(DRAWS, -1)
    np.testing.assert_allclose(rows.mean(0), 0, atol=4.5 * 0.5 / np.sqrt(DRAWS))
    np.testing.assert_allclose(np.cov(rows.T), np.eye(12) / 4, atol=4.5 * 2**0.5 / 4 / np.sqrt(DRAWS))


def test_a_width_of_zero_is_refused(tables):
    with pytest.raises(Misuse, match=r"width must be [^\n]*; [^\n]*\.$"):
        mix_observation(tables, 0)


def test_a_disguised_family_keeps_its_sides_apart_and_its_optimum():
    plain = navigation()
    hidden = disguised(disguised(plain, permute_actions), mix_observation)
    tasks = jax.jit(lambda key: [sample_tasks(jax.random.clone(key), side, 200) for side in hidden.split])(jax.random.key(5))
    prints = [set(jax.jit(jax.vmap(fingerprint))(inner).tolist()) for (inner, _), _ in tasks]
    assert not prints[0] & prints[1]
    (inner, order), matrix = one = jax.tree.map(lambda leaf: leaf[0], tasks[1])
    key = jax.random.key(6)
    best = jax.jit(hidden.optimum)(jax.random.clone(key), one)
    assert float(best) == float(jax.jit(plain.optimum)(key, inner))
    np.testing.assert_array_equal(hidden.features(one), np.concatenate([inner.goal, order, np.ravel(matrix)]))
