"""The sparse point robot against a NumPy twin, its three definitions, and the stated returns of a known goal."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.semicircle import Semicircle
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.semicircle import DEFINITIONS, known_goal_return, semicircle
from metadqn_jax.tasks.trials import in_trials

ENV = Semicircle()
STEPS = 45
HORIZONS = {"pearl": 20, "varibad": 100, "borel": 60}


@pytest.fixture(scope="module")
def families():
    return {source: semicircle(source) for source in HORIZONS}


@pytest.mark.parametrize(("slope", "dense"), [(1.0, False), (0.0, False), (1.0, True)])
def test_the_semicircle_equals_its_numpy_twin(slope, dense):
    goal = np.array([0.6, 0.8])
    actions = np.random.default_rng(0).uniform(-0.15, 0.15, (STEPS, 2))
    actions[:14] = [[0.065, 0.085]] * 14  # through the circle around the goal and out of it
    params = ENV.default_params.replace(goal=jnp.float32(goal), slope=slope, dense=dense)

    @jax.jit
    def live(key):
        key_reset, key_steps = jax.random.split(key)
        first, state = ENV.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = ENV.step(key, state, jnp.float32(actions)[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    first, rows = live(jax.random.key(0))
    np.testing.assert_array_equal(first, [0.0, 0.0])
    place, inside = np.zeros(2), []
    for t, (obs, successor, reward, terminated, truncated) in enumerate(zip(*map(np.asarray, rows), strict=True)):
        place = place + np.clip(actions[t], -0.1, 0.1)
        distance = np.hypot(*(place - goal))
        inside.append(distance <= 0.2)
        sparse = 1 - slope * distance if inside[-1] else 0.0
        np.testing.assert_allclose(successor, place, atol=1e-5)
        np.testing.assert_allclose(reward, -distance if dense else sparse, atol=1e-5)
        assert (terminated, truncated) == (False, t % 20 == 19)
        place = np.zeros(2) if truncated else place
        np.testing.assert_allclose(obs, place, atol=1e-5)
    assert inside[8:11] == [True] * 3
    assert not inside[13]


def test_spaces_describe_the_environment():
    obs, _ = ENV.reset(jax.random.key(1), ENV.default_params)
    space, actions = ENV.observation_space(ENV.default_params), ENV.action_space(ENV.default_params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert (actions.shape, actions.low, actions.high) == ((2,), -0.1, 0.1)


# --- the three definitions


def tasks_of(side, count, seed=0):
    return jax.tree.map(np.asarray, jax.jit(lambda key: sample_tasks(key, side, count))(jax.random.key(seed)))


def angles_of(tasks):
    return np.arctan2(tasks.goal[:, 1], tasks.goal[:, 0])


@pytest.mark.parametrize("source", HORIZONS)
def test_goals_lie_on_the_half_circle_and_no_task_on_both_sides(families, source):
    sides = [tasks_of(side, 1_500) for side in families[source].split]
    for tasks in sides:
        np.testing.assert_allclose(np.hypot(*tasks.goal.T), 1, atol=1e-6)
        assert tasks.goal[:, 1].min() > -1e-6
        assert set(tasks.max_steps_in_episode) == {HORIZONS[source]}
        assert set(tasks.slope) == {0.0 if source == "borel" else 1.0}
        assert not tasks.dense.any()
    train, test = (set(map(tuple, tasks.goal.tolist())) for tasks in sides)
    assert not train & test
    if source == "varibad":
        for tasks in sides:
            angles = angles_of(tasks)
            assert abs(angles.mean() - np.pi / 2) < 4.5 * np.pi / np.sqrt(12 * 1_500)
            assert abs(angles.std() - np.pi / np.sqrt(12)) < 0.05
    else:
        assert (len(train), len(test)) == (80, 20)


def test_the_goals_of_pearl_are_evenly_spaced_and_in_its_order(families):
    """The authors' code draws the order of all 100 with seed 1337, and tests on the last 20."""
    x = np.cos(np.linspace(0, np.pi, 100))
    goals = np.stack([x, np.sqrt(1 - x**2)], 1)
    np.random.RandomState(1337).shuffle(goals)
    seen = {side: np.unique(tasks_of(getattr(families["pearl"].split, side), 1_500).goal, axis=0) for side in ("train", "test")}
    for side, expected in (("train", goals[:80]), ("test", goals[80:])):
        expected = expected[np.argsort(expected[:, 0])]
        np.testing.assert_allclose(seen[side], expected, atol=1e-4)


def test_dense_rewards_are_for_training_alone(families):
    family = semicircle(dense=True)
    train, test = (tasks_of(side, 50) for side in family.split)
    assert train.dense.all()
    assert not test.dense.any()
    np.testing.assert_array_equal(train.goal, tasks_of(families["pearl"].split.train, 50).goal)


def test_an_unknown_source():
    with pytest.raises(Misuse, match=r"^unknown source 'maml'; choose one of: borel, pearl, varibad\.$"):
        semicircle("maml")


@pytest.mark.parametrize("source", HORIZONS)
def test_a_trial_is_a_whole_number_of_episodes(families, source):
    family = families[source]
    assert family.horizon == HORIZONS[source]
    assert family.trial.span.segments == DEFINITIONS[source].episodes * family.horizon
    assert in_trials(family).split.train.spec.observation.shape == (4,)


# --- the known goal


def known(families, source, goals, bins=None):
    family = families[source]
    task = jax.jit(family.split.train.sample)(jax.random.key(2))

    def one(goal):
        return known_goal_return(task.replace(goal=goal), family.horizon, bins)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.float32(goals)))


def on_circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.mark.parametrize(("source", "stated"), [("pearl", 13.38), ("varibad", 93.38), ("borel", 53.60)])
def test_the_known_goal_return_is_the_stated_one(families, source, stated):
    """REFERENCES: the mean over the half circle, for any velocities."""
    angles = (np.arange(4_000) + 0.5) * np.pi / 4_000
    assert known(families, source, on_circle(angles)).mean() == pytest.approx(stated, abs=0.01)


@pytest.mark.parametrize("source", HORIZONS)
def test_the_optimum_equals_a_plain_loop_over_lattice_points(families, source):
    """With 3 bins positions are multiples of 0.1, in reach at step t within t of them: the best at each step is optimal,
    as the nearest can be gone to and stayed on."""
    family = families[source]
    tasks = tasks_of(family.split.test, 12, seed=4)
    optima = jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(3), 12), tasks)
    lattice = 0.1 * np.array(list(itertools.product(range(-12, 13), repeat=2)))
    for goal, optimum in zip(tasks.goal.astype(np.float64), optima, strict=True):
        distance = np.hypot(*(lattice - goal).T)
        worth = np.where(distance <= 0.2, 1 - (source != "borel") * distance, 0.0)
        steps = np.abs(lattice).max(1)
        total = sum(worth[steps < 0.1 * t + 1e-9].max() for t in range(1, family.horizon + 1))
        assert float(optimum) == pytest.approx(total, abs=1e-3)
    assert (known(families, source, tasks.goal) >= optima - 1e-4).all()
