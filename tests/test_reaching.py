"""Reaching in many dimensions against a NumPy twin, and its optimum against the policy that reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.living import rollout, start
from metadqn_jax.tasks.reaching import known_turn_return, reaching, turn

D, STEPS = 3, 50


@pytest.fixture(scope="module")
def family():
    return reaching(D)


def test_reaching_equals_its_numpy_twin(family):
    test = family.split.test

    def wander(key):
        keys = jax.random.split(key, 3)
        task = test.sample(keys[0])
        stream = start(keys[1], test, task)
        act = lambda key, t, noise, obs: (noise, test.spec.head.sample(key))  # noqa: E731
        return task, stream.obs, rollout(keys[2], act, test, task, stream, STEPS)[1]

    task, way, seen = jax.jit(wander)(jax.random.key(0))
    levels = np.linspace(-1, 1, 5)
    for t in range(STEPS):
        np.testing.assert_allclose(seen.obs[t], way, atol=1e-6)
        way = np.asarray(way) - 0.1 * np.asarray(task.turn) @ levels[np.asarray(seen.action[t])]
        np.testing.assert_allclose(seen.next_obs[t], way, atol=1e-6)
        assert float(seen.reward[t]) == pytest.approx(-np.linalg.norm(way), abs=1e-6)
        assert bool(seen.truncated[t]) == (t % 20 == 19)
        way = seen.obs[t + 1] if seen.truncated[t] and t + 1 < STEPS else way
    assert not seen.terminated.any()
    starts = np.asarray(seen.obs)[[0, 20, 40]]
    assert np.abs(starts).max() <= 0.5
    assert len(np.unique(starts)) == starts.size  # each episode has its own goal


def test_the_optimum_is_reached_by_turning_the_way_back_and_by_no_other_policy(family):
    test, lives = family.split.test, 32
    real = test._replace(spec=test.spec._replace(head=test.spec.head._replace(decode=lambda action: action)))

    def lived(key, wobble):
        keys = jax.random.split(key, 3)
        task = test.sample(keys[0])

        def act(key, t, noise, way):
            straight = task.turn.T @ way / task.stride
            return noise, jnp.clip(straight + wobble * jax.random.normal(key, way.shape), -1.0, 1.0)

        stream = start(keys[1], real, task)
        _, seen = rollout(keys[2], act, real, task, stream, family.horizon)
        return seen.reward.sum(), known_turn_return(stream.obs, task, family.horizon)

    run = jax.jit(jax.vmap(lived, (0, None)))
    reached, best = run(jax.random.split(jax.random.key(1), lives), 0.0)
    np.testing.assert_allclose(reached, best, atol=1e-5)
    wobbling, best = run(jax.random.split(jax.random.key(1), lives), 0.3)
    assert (wobbling < best - 0.01).all()


def test_turns_are_orthogonal_and_uniform():
    turns = jax.jit(jax.vmap(lambda key: turn(key, D)))(jax.random.split(jax.random.key(2), 2_000))
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(D), turns.shape), atol=1e-5)
    assert np.abs(turns.mean(0)).max() < 4.5 / np.sqrt(D * 2_000)  # each column is uniform on the sphere
    np.testing.assert_allclose((turns**2).mean(0), np.full((D, D), 1 / D), atol=0.04)
    assert abs(np.linalg.det(turns).mean()) < 4.5 / np.sqrt(2_000)


def test_dimensions_are_counted():
    with pytest.raises(Misuse, match="dimensions must be a whole number of at least 1, got 0"):
        reaching(0)
