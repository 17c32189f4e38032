"""Finn's point navigation against a NumPy twin, its planner against brute force, and the published goals' numbers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.navigation_2d import Navigation2D
from metadqn_jax.loops import repeat
from metadqn_jax.planners.point import best_return, nearest_path
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation_2d import known_goal_return, navigation_2d, published_goals

ENV = Navigation2D()
STEPS = 230


@pytest.fixture(scope="module")
def family():
    return navigation_2d()


@pytest.fixture(scope="module")
def published(family):
    """The 40 test tasks, in the order of the authors' goals."""
    task = jax.jit(family.split.test.sample)(jax.random.key(0))
    return jax.vmap(lambda goal: task.replace(goal=goal))(jnp.asarray(published_goals()))


def test_navigation_2d_equals_its_numpy_twin():
    """Velocities past the bounds; the first goal is soon reached and ends episodes, the second never."""
    goals, rng = np.array([[0.05, -0.1], [0.4, 0.3]]), np.random.default_rng(0)
    actions = rng.uniform(-0.15, 0.15, (2, STEPS, 2))
    actions[0, :2] = [[0.047, -0.2], [0.0, 0.005]]  # to (0.047, −0.1): near

    def one(key, goal, actions):
        params = ENV.default_params.replace(goal=goal)
        key_reset, key_steps = jax.random.split(key)
        first, state = ENV.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = ENV.step(key, state, actions[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    keys = jax.random.split(jax.random.key(0), 2)
    first, rows = jax.jit(jax.vmap(one))(keys, jnp.float32(goals), jnp.float32(actions))
    np.testing.assert_array_equal(first, np.zeros((2, 2)))
    ends = []
    for b, goal in enumerate(goals):
        place, time = np.zeros(2), 0
        for t, (obs, successor, reward, terminated, truncated) in enumerate(
            zip(*(np.asarray(x)[b] for x in rows), strict=True)
        ):
            place, time = place + np.clip(actions[b, t], -0.1, 0.1), time + 1
            np.testing.assert_allclose(successor, place, atol=1e-5)
            np.testing.assert_allclose(reward, -np.hypot(*(place - goal)), atol=1e-5)
            near = abs(place[0] - goal[0]) < 0.01 and abs(place[1] - goal[1]) < 0.01
            assert (terminated, truncated) == (near, time == 100)
            if near or time == 100:
                ends.append((b, t))
                place, time = np.zeros(2), 0
            np.testing.assert_allclose(obs, place, atol=1e-5)
    assert {(0, 0), (0, 100), (1, 99), (1, 199)} <= set(ends)


def test_spaces_describe_the_environment():
    obs, _ = ENV.reset(jax.random.key(1), ENV.default_params)
    space, actions = ENV.observation_space(ENV.default_params), ENV.action_space(ENV.default_params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert (actions.shape, actions.low, actions.high) == ((2,), -0.1, 0.1)


# --- the family


def test_train_goals_are_uniform_and_none_is_a_test_goal(family):
    train = np.asarray(jax.jit(lambda key: sample_tasks(key, family.split.train, 2_000).goal)(jax.random.key(2)))
    assert np.abs(train).max() <= 0.5
    np.testing.assert_allclose(train.mean(0), 0, atol=4.5 * 12**-0.5 / np.sqrt(2_000))
    np.testing.assert_allclose((train**2).mean(0), 1 / 12, atol=4.5 * 180**-0.5 / np.sqrt(2_000))
    assert not set(map(tuple, train.tolist())) & set(map(tuple, published_goals().tolist()))


def test_the_test_goals_are_the_published_ones(family):
    test = jax.jit(lambda key: sample_tasks(key, family.split.test, 600))(jax.random.key(3))
    assert set(map(tuple, np.asarray(test.goal).tolist())) == set(map(tuple, published_goals().tolist()))
    shown = np.asarray(jax.vmap(family.features)(test))
    np.testing.assert_allclose(shown, 2 * np.asarray(test.goal))


def test_the_family_steps_with_the_decoded_velocities(family):
    tasks, head = family.split.train, family.split.train.spec.head
    key_task, key_reset, key_step = jax.random.split(jax.random.key(4), 3)
    task = jax.jit(tasks.sample)(key_task)
    world, obs = jax.jit(tasks.reset)(key_reset, task)
    _, step = jax.jit(tasks.step)(key_step, task, world, head.decode(jnp.int32(3)))
    np.testing.assert_allclose(step.obs - obs, [-0.1, 0.05], atol=1e-6)


def test_bins_that_are_too_many(family):
    with pytest.raises(Misuse, match=r"at most 128 cells, got 12\^2 = 144; lower bins"):
        navigation_2d(12)


# --- the optimum


def test_the_published_goals_have_the_stated_references(published):
    """REFERENCES: staying put −40.08, the best velocities −0.54; with 3, 5 and 9 bins −3.93, −2.15 and −1.11."""
    goals = published_goals().astype(np.float64)
    assert -100 * np.linalg.norm(goals, axis=1).mean() == pytest.approx(-40.08, abs=5e-3)
    for bins, expected in ((None, -0.54), (3, -3.93), (5, -2.15), (9, -1.11)):
        optima = jax.jit(jax.vmap(lambda task, bins=bins: known_goal_return(task, bins)))(published)
        assert float(optima.mean()) == pytest.approx(expected, abs=5e-3)


def test_the_optimum_of_the_family_is_that_of_its_grid(family, published):
    optima = jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(5), 40), published)
    assert float(optima.mean()) == pytest.approx(-2.15, abs=5e-3)


@pytest.mark.parametrize(("bins", "horizon"), [(2, 5), (3, 4), (4, 3)])
def test_the_nearest_path_equals_the_best_of_all_plans(bins, horizon):
    goals = np.random.default_rng(bins).uniform(-0.45, 0.45, (12, 2))
    goals[0] = (0.104, -0.204)  # where episodes can end
    levels = np.linspace(-0.1, 0.1, bins)
    one = np.cumsum(np.array(list(itertools.product(levels, repeat=horizon))), 1)  # [plans of one coordinate, horizon]

    def planned(goal):
        return best_return(
            lambda place: -jnp.linalg.norm(place - goal),
            lambda place: jnp.all(jnp.abs(place - goal) < 0.01),
            goal,
            horizon,
            bins=bins,
        )

    ours, ended = jax.jit(jax.vmap(planned))(jnp.float32(goals)), 0
    for goal, value in zip(goals, ours, strict=True):
        off = np.abs(one[:, None] - goal[0]), np.abs(one[None] - goal[1])
        near = (off[0] < 0.01) & (off[1] < 0.01)
        alive = np.cumsum(near, -1) - near == 0
        returns = -(np.hypot(*off) * alive).sum(-1)
        ended += near.any()
        assert float(value) == pytest.approx(returns.max(), abs=1e-5)
    assert ended or bins == 2 or bins == 4


def test_without_bins_no_velocities_are_better():
    """Against many random plans, most of which aim at the goal."""
    goal, rng = np.array([0.23, -0.08]), np.random.default_rng(0)
    path = np.asarray(nearest_path(jnp.zeros(2), jnp.float32(goal), 6))
    best = np.linalg.norm(path - goal, axis=1).sum()
    place, total = np.zeros((20_000, 2)), np.zeros(20_000)
    for _ in range(6):
        place = place + np.clip(goal - place + rng.normal(0, 0.05, place.shape) * rng.integers(2, size=(20_000, 1)), -0.1, 0.1)
        total += np.linalg.norm(place - goal, axis=1)
    assert best <= total.min() + 1e-5
    assert best == pytest.approx(np.hypot(0.13, 0) + 0.03, abs=1e-5)  # one step off in x, then at rest in y
