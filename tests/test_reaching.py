"""Reaching in many dimensions against a NumPy twin, and its optimum against the policy that reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.evaluation import optimal_returns, random_returns
from metadqn_jax.living import rollout, start
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.reaching import any_turn, known_turn_return, plane_turns, reaching

D, STEPS = 3, 50


@pytest.fixture(scope="module")
def family():
    return reaching(D, None)


def test_reaching_equals_its_numpy_twin(family):
    test = family.split.test

    def wander(key):
        keys = jax.random.split(key, 3)
        task = test.sample(keys[0])
        stream = start(keys[1], test, task)
        act = lambda key, t, noise, obs: (noise, test.spec.head.sample(key))  # noqa: E731
        return task, stream.obs, rollout(keys[2], act, test, task, stream, STEPS)[1]

    task, way, seen = jax.jit(wander)(jax.random.key(0))
    levels = np.linspace(-1, 1, 3)
    for t in range(STEPS):
        np.testing.assert_allclose(seen.obs[t], way, atol=1e-6)
        before = np.linalg.norm(way)
        way = np.asarray(way) - 0.1 * np.asarray(task.turn) @ levels[np.asarray(seen.action[t])]
        np.testing.assert_allclose(seen.next_obs[t], way, atol=1e-6)
        assert float(seen.reward[t]) == pytest.approx(before - np.linalg.norm(way), abs=1e-6)
        assert bool(seen.truncated[t]) == (t % 20 == 19)
        way = seen.obs[t + 1] if seen.truncated[t] and t + 1 < STEPS else way
    assert not seen.terminated.any()
    starts = np.asarray(seen.obs)[[0, 20, 40]]
    assert np.abs(starts).max() <= 0.5
    assert len(np.unique(starts)) == starts.size  # each episode has its own goal


def test_the_optimum_is_reached_by_turning_the_way_back_and_by_no_other_policy(family):
    test, lives = family.split.test, 32
    real = test._replace(spec=test.spec._replace(head=test.spec.head._replace(decode=lambda action: action)))

    def lived(key, wobble, steps):
        keys = jax.random.split(key, 3)
        task = test.sample(keys[0])

        def act(key, t, noise, way):
            straight = task.turn.T @ way / task.stride
            return noise, jnp.clip(straight + wobble * jax.random.normal(key, way.shape), -1.0, 1.0)

        stream = start(keys[1], real, task)
        _, seen = rollout(keys[2], act, real, task, stream, steps)
        return seen.reward.sum(), known_turn_return(stream.obs, task, steps)

    run = jax.jit(jax.vmap(lived, (0, None, None)), static_argnums=2)
    for steps in (3, family.horizon):  # cut short, and with time to arrive
        reached, best = run(jax.random.split(jax.random.key(1), lives), 0.0, steps)
        np.testing.assert_allclose(reached, best, atol=1e-5)
        wobbling, best = run(jax.random.split(jax.random.key(1), lives), 0.3, steps)
        assert (wobbling <= best + 1e-5).all()
        assert wobbling.mean() < best.mean() - 0.003


def test_turns_are_orthogonal_and_uniform():
    turns = jax.jit(jax.vmap(lambda key: any_turn(key, D)))(jax.random.split(jax.random.key(2), 2_000))
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(D), turns.shape), atol=1e-5)
    assert np.abs(turns.mean(0)).max() < 4.5 / np.sqrt(D * 2_000)  # each column is uniform on the sphere
    np.testing.assert_allclose((turns**2).mean(0), np.full((D, D), 1 / D), atol=0.04)
    assert abs(np.linalg.det(turns).mean()) < 4.5 / np.sqrt(2_000)


def test_planes_are_turned_by_shared_angles():
    turns = np.asarray(jax.jit(jax.vmap(lambda key: plane_turns(key, 8, 2)))(jax.random.split(jax.random.key(3), 2_000)))
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(8), turns.shape), atol=1e-5)
    blocks = turns.reshape(-1, 4, 2, 4, 2).swapaxes(2, 3)
    np.testing.assert_array_equal(blocks[:, 0, 0], blocks[:, 1, 1])
    np.testing.assert_array_equal(blocks[:, 2, 2], blocks[:, 3, 3])
    assert not blocks[:, ~np.eye(4, dtype=bool)].any()
    angles = np.arctan2(blocks[:, [0, 2], [0, 2], 1, 0], blocks[:, [0, 2], [0, 2], 0, 0])
    for moment in (1, 2):  # uniform on the circle, and independent
        assert np.abs(np.exp(1j * moment * angles).mean(0)).max() < 4.5 / np.sqrt(2_000)
        assert np.abs(np.exp(1j * moment * (angles[:, 0] - angles[:, 1])).mean()) < 4.5 / np.sqrt(2_000)


@pytest.mark.parametrize("angles", [0, 4, 1.0])
def test_angles_are_shared_evenly(angles):
    with pytest.raises(Misuse, match="angles"):
        reaching(12, angles)


def test_dimensions_are_counted():
    with pytest.raises(Misuse, match="dimensions must be a whole number of at least 1, got 0"):
        reaching(0)


def test_twelve_dimensions_are_worth_what_is_said_of_them():
    family = reaching()
    tasks = sample_tasks(jax.random.key(5), family.split.test, 1_024)
    best = np.asarray(jax.jit(lambda key: optimal_returns(key, family.optimum, tasks, episodes=1))(jax.random.key(6)))
    drawn = np.asarray(jax.jit(lambda key: random_returns(key, family.split.test, tasks, horizon=20))(jax.random.key(7)))
    for returns, said in ((best, 0.99), (drawn, -0.58)):
        assert abs(returns.mean() - said) < 0.005 + 3.5 * returns.std() / np.sqrt(1_024)
