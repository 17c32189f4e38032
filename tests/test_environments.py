"""Each environment step by step against an independent NumPy twin, and against gymnasium where that has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.environments.navigation import Navigation
from metadqn_jax.environments.tabular import Tabular, TabularState
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.classic import CARTPOLE_SCALE, cartpole, cartpole_params

TASKS, STEPS = 3, 45
POINT, TABLES = Navigation(), Tabular(states=4, actions=3)


def stacked(env, **fields):
    """The environment's parameters with a leading [TASKS]; `fields` have one, the others are repeated."""
    params = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * TASKS), env.default_params)
    return params.replace(**{name: jnp.asarray(value) for name, value in fields.items()})


def live(env, params, actions):
    """gymnax's own reset and steps under jit, vmap and scan: first observations [B], and per step [T, B] what came."""

    def one(key, params, actions):
        key_reset, key_steps = jax.random.split(key)
        first, state = env.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = env.step(key, state, actions[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    keys = jax.random.split(jax.random.key(0), TASKS)
    first, seen = jax.jit(jax.vmap(one))(keys, params, jnp.asarray(actions, jnp.int32))
    return np.asarray(first), [np.asarray(leaf) for leaf in seen]


# --- navigation


@pytest.fixture(scope="module")
def navigated():
    rng = np.random.default_rng(0)
    goals, actions = rng.uniform(-1, 1, (TASKS, 2)), rng.integers(9, size=(TASKS, STEPS))
    actions[0] = 4  # straight into the left wall, which needs a longer episode
    params = stacked(POINT, goal=jnp.float32(goals), max_steps_in_episode=[40, 20, 20], wall=[1.5, 1.5, 0.3])
    return goals, actions, params, *live(POINT, params, actions)


def test_navigation_equals_its_numpy_twin(navigated):
    goals, actions, params, first, (obs, successor, reward, terminated, truncated) = navigated
    for b in range(TASKS):
        position, wall = first[b], float(params.wall[b])
        for t in range(STEPS):
            angle = actions[b, t] * 2 * np.pi / 8
            move = 0.15 * np.array([np.cos(angle), np.sin(angle)]) if actions[b, t] < 8 else np.zeros(2)
            position = np.clip(position + move, -wall, wall)
            np.testing.assert_allclose(successor[b, t], position, atol=1e-5)
            np.testing.assert_allclose(reward[b, t], -np.hypot(*(position - goals[b])), atol=1e-5)
            ended = (t + 1) % int(params.max_steps_in_episode[b]) == 0
            assert (terminated[b, t], truncated[b, t]) == (False, ended)
            position = obs[b, t]  # after a reset somewhere else, otherwise the successor
            if not ended:
                np.testing.assert_array_equal(obs[b, t], successor[b, t])
    assert successor[0, 39, 0] == -1.5  # the wall was met


def test_navigation_restarts_near_the_origin(navigated):
    *_, first, (obs, successor, _, _, truncated) = navigated
    starts = np.concatenate([first, obs[truncated]])
    assert np.abs(starts).max() <= 0.05
    assert len(np.unique(starts[:, 0])) == len(starts)
    assert np.abs(successor[truncated] - obs[truncated]).max(1).min() > 0  # the true successor is not the start


# --- tabular


def random_tables(rng, states=4, actions=3):
    return rng.dirichlet(np.ones(states), (states, actions)), rng.normal(1, 1, (states, actions))


def test_noise_free_tabular_equals_its_numpy_twin():
    rng = np.random.default_rng(1)
    following, actions = rng.integers(4, size=(TASKS, 4, 3)), rng.integers(3, size=(TASKS, STEPS))
    means = rng.normal(size=(TASKS, 4, 3))
    params = stacked(
        TABLES,
        transition=np.eye(4, dtype=np.float32)[following],
        reward=jnp.float32(means),
        noise=np.zeros(TASKS, np.float32),
    )
    first, (obs, successor, reward, terminated, truncated) = live(TABLES, params, actions)
    np.testing.assert_array_equal(first, np.eye(4)[[0] * TASKS])
    for b in range(TASKS):
        place = 0
        for t in range(STEPS):
            np.testing.assert_allclose(reward[b, t], means[b, place, actions[b, t]], rtol=1e-6)
            place = following[b, place, actions[b, t]]
            np.testing.assert_array_equal(successor[b, t], np.eye(4)[place])
            ended = t % 10 == 9
            assert (terminated[b, t], truncated[b, t]) == (False, ended)
            place = 0 if ended else place
            np.testing.assert_array_equal(obs[b, t], np.eye(4)[place])


def test_tabular_draws_successors_and_rewards_from_its_tables():
    draws = 4_000
    transition, means = random_tables(np.random.default_rng(2))
    transition[2, 1] = [0.0, 0.5, 0.5, 0.0]
    params = TABLES.default_params.replace(transition=jnp.float32(transition), reward=jnp.float32(means), noise=0.5)

    @jax.jit
    def many(keys):
        def one(key, place, action):
            state = TabularState(place=place, time=jnp.int32(0))
            _, after, reward, *_ = TABLES.step_env(key, state, action, params)
            return after.place, reward

        places, actions = jnp.divmod(jnp.arange(12, dtype=jnp.int32), 3)
        return jax.vmap(jax.vmap(one, in_axes=(0, None, None)))(keys, places, actions)

    reached, rewards = map(np.asarray, many(jax.random.split(jax.random.key(1), (12, draws))))
    shares = np.stack([(reached == s).mean(1) for s in range(4)], 1).reshape(4, 3, 4)
    assert (np.abs(shares - transition) <= 4.5 * np.sqrt(transition * (1 - transition) / draws)).all()
    assert not shares[2, 1, [0, 3]].any()
    np.testing.assert_allclose(rewards.mean(1), means.ravel(), atol=4.5 * 0.5 / np.sqrt(draws))
    np.testing.assert_allclose(rewards.std(1), 0.5, atol=4.5 * 0.5 / np.sqrt(2 * draws))
    correlation = [np.corrcoef(row, place)[0, 1] for row, place in zip(rewards, reached, strict=True)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(draws)  # the noise does not know the successor


@pytest.mark.parametrize("env", [POINT, TABLES], ids=["navigation", "tabular"])
def test_spaces_describe_the_environment(env):
    params = env.default_params
    obs, _ = env.reset(jax.random.key(2), params)
    space = env.observation_space(params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert env.action_space(params).n == env.num_actions


# --- cartpole


@pytest.fixture(scope="module")
def poles():
    train = cartpole().split.train
    tasks = jax.jit(lambda key: sample_tasks(key, train, 1_000))(jax.random.key(3))
    return train, jax.tree.map(np.asarray, tasks), jax.jit(train.step)


def default_physics(params):
    return cartpole_params(jax.tree.map(lambda leaf: leaf[0], params), *map(jnp.float32, (1.0, 0.1, 0.5, 10.0)))


@pytest.mark.parametrize("seed", range(3))
def test_default_cartpole_agrees_with_gymnasium(poles, seed):
    gymnasium = pytest.importorskip("gymnasium")
    distribution, tasks, step = poles
    task, rng = default_physics(tasks), np.random.default_rng(seed)
    twin = gymnasium.make("CartPole-v1").unwrapped
    start, _ = twin.reset(seed=seed)
    world, _ = jax.jit(distribution.reset)(jax.random.key(4), task)
    world = world.replace(**dict(zip(("x", "x_dot", "theta", "theta_dot"), map(jnp.float32, start), strict=True)))
    ended = False
    for key in jax.random.split(jax.random.key(5), 200):
        action = int(rng.integers(2)) if seed else 1
        world, ours = step(key, task, world, jnp.int32(action))
        obs, reward, ended, *_ = twin.step(action)
        np.testing.assert_allclose(ours.transition_obs / np.array(CARTPOLE_SCALE), obs, rtol=1e-4, atol=1e-4)
        assert (float(ours.reward), bool(ours.terminated)) == (reward, ended)
        if ended:
            break
        np.testing.assert_array_equal(ours.obs, ours.transition_obs)
    assert ended
    assert np.abs(ours.obs / np.array(CARTPOLE_SCALE)).max() <= 0.05 + 1e-6  # restarted
    assert int(world.time) == 0


def test_cartpole_is_truncated_at_its_cap(poles):
    distribution, tasks, step = poles
    task, flags = default_physics(tasks).replace(max_steps_in_episode=jnp.int32(5)), []
    key_reset, key_steps = jax.random.split(jax.random.key(6))
    world, _ = jax.jit(distribution.reset)(key_reset, task)
    for t, key in enumerate(jax.random.split(key_steps, 10)):
        world, seen = step(key, task, world, jnp.int32(t % 2))
        flags.append((bool(seen.terminated), bool(seen.truncated)))
    assert flags == ([(False, False)] * 4 + [(False, True)]) * 2


def test_a_negative_force_swaps_the_actions(poles):
    distribution, tasks, step = poles
    task = default_physics(tasks)
    flipped = task.replace(force_mag=-task.force_mag)
    key_reset, *keys = jax.random.split(jax.random.key(7), 5)
    world, _ = jax.jit(distribution.reset)(key_reset, task)
    for action, pair in zip((0, 1), zip(keys[:2], keys[2:], strict=True), strict=True):
        _, straight = step(pair[0], task, world, jnp.int32(action))
        _, crossed = step(pair[1], flipped, world, jnp.int32(1 - action))
        _, same = step(jax.random.fold_in(jax.random.key(8), action), flipped, world, jnp.int32(action))
        np.testing.assert_array_equal(straight.transition_obs, crossed.transition_obs)
        assert np.abs(straight.transition_obs - same.transition_obs).max() > 0.01


def test_cartpole_tasks_recompute_the_derived_fields(poles):
    _, tasks, _ = poles
    np.testing.assert_allclose(tasks.total_mass, tasks.masscart + tasks.masspole, rtol=1e-6)
    np.testing.assert_allclose(tasks.polemass_length, tasks.masspole * tasks.length, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "low", "high"), [("masspole", 0.05, 0.4), ("length", 0.25, 1), ("masscart", 0.5, 2), ("force_mag", 5, 15)]
)
def test_cartpole_tasks_are_uniform_in_their_ranges(poles, field, low, high):
    stats = pytest.importorskip("scipy.stats")
    values = np.abs(getattr(poles[1], field))
    assert low <= values.min()
    assert values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_half_of_the_cartpole_tasks_are_flipped_and_nothing_else_varies(poles):
    tasks = poles[1]
    count = len(tasks.force_mag)
    assert abs((np.asarray(tasks.force_mag) < 0).mean() - 0.5) < 4.5 * 0.5 / np.sqrt(count)
    varied = {"masspole", "length", "masscart", "force_mag", "total_mass", "polemass_length"}
    for name in set(vars(tasks)) - varied:
        assert len(np.unique(getattr(tasks, name))) == 1, name
    assert set(np.asarray(tasks.max_steps_in_episode)) == {200}
