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
from metadqn_jax.tasks.base import check_distribution, sample_tasks
from metadqn_jax.tasks.disguises import disguised, mirror_observation, mix_observation, permute_actions, sticky_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.splits import fingerprint
from metadqn_jax.tasks.wrappers import map_observation, observe_task, scale_observation

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
    pushes = grid([-0.1, -0.1], [0.1, 0.1], bins=2)
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


@pytest.fixture(scope="module")
def pictures(tables):
    """What the walk observes, as an image [2, 2, 1]."""
    return map_observation(tables, lambda task, obs: obs.reshape(2, 2, 1))


def test_mirrors_are_fair_coins_and_turn_every_observation(pictures):
    mirrored = mirror_observation(pictures, axes=(0, 1))
    check_distribution(mirrored)
    _, coins = jax.jit(lambda key: sample_tasks(key, mirrored, DRAWS))(jax.random.key(6))
    views = np.asarray(coins) @ [1, 2]
    for view in range(4):
        assert abs((views == view).sum() - DRAWS / 4) < 4.5 * np.sqrt(DRAWS * 3 / 16)
    task, world, obs, step = pair(pictures)
    begin, turned = jax.jit(mirrored.reset), jax.jit(mirrored.step)
    key_reset = jax.random.split(jax.random.key(0))[1]
    for coins, axes in (((0, 0), ()), ((1, 0), (0,)), ((0, 1), (1,)), ((1, 1), (0, 1))):
        hidden = task, jnp.array(coins, bool)
        np.testing.assert_array_equal(np.flip(begin(jax.random.clone(key_reset), hidden)[1], axes), obs)
        key = jax.random.key(7)
        _, wanted = step(jax.random.clone(key), task, world, jnp.int32(2))
        _, seen = turned(key, hidden, world, jnp.int32(2))
        for name in ("obs", "transition_obs"):
            np.testing.assert_array_equal(np.flip(getattr(seen, name), axes), getattr(wanted, name))


@pytest.mark.parametrize("axes", [(), (3,), (-1,), (0, 0)])
def test_axes_that_observations_do_not_have_are_refused(pictures, axes):
    with pytest.raises(Misuse, match=r"^axes to mirror must [^\n]*, got [^\n]*; [^\n]*\.$"):
        mirror_observation(pictures, axes)


def test_a_task_in_plain_sight_leaves_the_image_an_image(pictures):
    seen = observe_task(pictures, lambda task: jnp.ones(3))
    assert (seen.spec.observation.shape, seen.spec.image) == ((7,), (2, 2, 1))


def test_sticky_actions_are_held_as_often_as_the_task_says(plane):
    """In the plane a step's move tells which action was carried out: it is the new one with probability 1 − p."""
    sticky = sticky_actions(plane, 0.3, 0.3)
    check_distribution(sticky)
    task, start, _, step = pair(plane)
    (_, chance), (world, _) = sticky.sample(jax.random.key(8)), sticky.reset(jax.random.key(9), (task, jnp.float32(0.3)))
    assert float(chance) == np.float32(0.3)
    assert (int(world.action), world.action.dtype) == (0, jnp.int32)

    @jax.jit
    def carried(keys, last, action):
        held = world._replace(inner=start, action=last)
        after, seen = jax.vmap(lambda key: sticky.step(key, (task, jnp.float32(0.3)), held, action))(keys)
        return after.action, seen.transition_obs

    done, obs = map(np.asarray, carried(jax.random.split(jax.random.key(10), DRAWS), jnp.int32(5), jnp.int32(2)))
    assert set(done.tolist()) == {2, 5}
    assert abs((done == 5).mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / DRAWS)
    for action in (2, 5):
        wanted = step(jax.random.key(11), task, start, jnp.int32(action))[1].transition_obs
        np.testing.assert_allclose(obs[done == action], np.broadcast_to(wanted[None], obs[done == action].shape), atol=1e-6)


def test_an_episode_does_not_begin_with_what_the_last_one_held(tables):
    sticky = sticky_actions(tables)
    task = pair(tables)[0]
    ends = sticky_actions(tables._replace(step=lambda *at: ending(tables.step(*at))))
    for one, wanted in ((sticky, 2), (ends, 0)):
        held = one.reset(jax.random.key(12), (task, jnp.float32(0)))[0]
        after, _ = one.step(jax.random.key(13), (task, jnp.float32(0)), held, jnp.int32(2))
        assert int(after.action) == wanted


def ending(outcome):
    world, step = outcome
    return world, step._replace(terminated=jnp.ones((), bool))


@pytest.mark.parametrize("bounds", [(-0.1, 0.5), (0.5, 0.1), (0.0, 1.1), (0.0, np.nan)])
def test_stickiness_must_be_a_probability(tables, bounds):
    with pytest.raises(Misuse, match=r"^[^\n]+, got [^\n]*; [^\n]*\.$"):
        sticky_actions(tables, *bounds)


def test_whole_numbers_are_scaled_as_real_ones(tables):
    counts = map_observation(tables, lambda task, obs: (13 * obs).astype(jnp.int32))
    seen = pair(scale_observation(counts, 1 / 26))[2]
    assert seen.dtype == jnp.float32
    assert sorted(seen.tolist()) == [0.0, 0.0, 0.0, 0.5]


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
    shown = inner.goal, np.ravel(np.eye(order.size)[order]), np.ravel(matrix)  # the permutation one-hot
    np.testing.assert_array_equal(hidden.features(one), np.concatenate(shown))
