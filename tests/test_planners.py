"""Planners against brute force, and against the published optimum of Duan's random MDPs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.environments.navigation import DIRECTIONS
from metadqn_jax.planners.navigation import best_return
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.tabular import tabular

S, A, H = 3, 2, 3


# --- finite MDPs


def evaluate(transition, reward, policy):
    """values [H + 1, S] of a policy [H, S]."""
    values = np.zeros((len(policy) + 1, len(reward)))
    for h in reversed(range(len(policy))):
        for s, a in enumerate(policy[h]):
            values[h, s] = reward[s, a] + transition[s, a] @ values[h + 1]
    return values


@pytest.mark.parametrize("seed", range(3))
def test_value_iteration_equals_the_best_of_all_policies(seed):
    rng = np.random.default_rng(seed)
    transition, reward = rng.dirichlet(np.ones(S), (S, A)), rng.normal(size=(S, A))
    values, policy = value_iteration(jnp.float32(transition), jnp.float32(reward), H)
    every = [np.reshape(flat, (H, S)) for flat in itertools.product(range(A), repeat=H * S)]
    best = np.max([evaluate(transition, reward, one) for one in every], 0)
    np.testing.assert_allclose(values, best, atol=1e-5)
    np.testing.assert_allclose(evaluate(transition, reward, np.asarray(policy)), best, atol=1e-5)


@pytest.fixture(scope="module")
def mdps():
    family = tabular()
    key_tasks, key_optimum = jax.random.split(jax.random.key(0))
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.train, 2_000))(key_tasks)
    optima = jax.jit(jax.vmap(family.optimum))(jax.random.split(key_optimum, 2_000), tasks)
    return tasks, np.asarray(optima)


def test_the_mean_optimum_of_random_mdps_is_the_published_one(mdps):
    """218.7 ± 0.8 over ten episodes (REFERENCES 2, for the MDPs of Duan et al. 2016)."""
    _, optima = mdps
    error = np.hypot(0.08, optima.std() / np.sqrt(len(optima)))
    assert abs(optima.mean() - 21.87) < 3 * error


def test_a_uniformly_random_policy_returns_ten_in_random_mdps(mdps):
    tasks, optima = mdps
    chain, mean = np.asarray(tasks.transition).mean(2), np.asarray(tasks.reward).mean(2)
    values = np.zeros(mean.shape)
    for _ in range(10):
        values = mean + np.einsum("bij,bj->bi", chain, values)
    assert abs(values[:, 0].mean() - 10.0) < 3 * values[:, 0].std() / np.sqrt(len(optima))
    assert (values[:, 0] < optima).all()


# --- navigation

HORIZON = 4
plans = np.array(list(itertools.product(range(9), repeat=HORIZON)))  # [6561, 4]
short = jax.jit(jax.vmap(lambda start, goal: best_return(start, goal, horizon=HORIZON)))


def test_best_return_equals_the_best_of_all_plans():
    rng = np.random.default_rng(0)
    goals, starts = rng.uniform(-1, 1, (12, 2)), rng.uniform(-0.05, 0.05, (12, 2))
    goals[:8] = 0.4 * np.stack([np.cos(np.arange(8) + 0.2), np.sin(np.arange(8) + 0.2)], 1)  # within reach, all octants
    goals[8], starts[8] = (-0.01, 0.02), (0.0, 0.0)  # where staying is best
    paths = 0.15 * np.cumsum(np.asarray(DIRECTIONS)[plans], 1)  # [6561, 4, 2]
    best = [-np.linalg.norm(s + paths - g, axis=-1).sum(1).min() for s, g in zip(starts, goals, strict=True)]
    np.testing.assert_allclose(short(jnp.float32(starts), jnp.float32(goals)), best, atol=1e-4)


@pytest.fixture(scope="module")
def journeys():
    """64 starts and goals, the corners and axes among them, with their optimum over 20 moves."""
    rng = np.random.default_rng(1)
    corners = [(1, 1), (-1, 1), (1, 0), (0.92, -0.38), (0, 0), (-1, -1)]
    goals, starts = np.vstack([corners, rng.uniform(-1, 1, (58, 2))]), rng.uniform(-0.05, 0.05, (64, 2))
    return starts, goals, np.asarray(best_returns(starts, goals))


def best_returns(starts, goals, **options):
    pairs = jnp.float32(starts), jnp.float32(goals)
    return jax.jit(lambda pairs: jax.lax.map(lambda pair: best_return(*pair, **options), pairs))(pairs)


def test_a_wider_window_changes_nothing(journeys):
    starts, goals, optima = journeys
    np.testing.assert_allclose(best_returns(starts[:16], goals[:16], reach=14, margin=4), optima[:16], atol=1e-4)


def test_moving_to_the_nearest_point_never_beats_the_optimum(journeys):
    starts, goals, optima = journeys
    position, total = starts, np.zeros(64)
    for _ in range(20):
        options = position[:, None] + 0.15 * np.asarray(DIRECTIONS)
        distance = np.linalg.norm(options - goals[:, None], axis=-1)
        position, total = options[np.arange(64), distance.argmin(1)], total - distance.min(1)
    assert (total <= optima + 1e-4).all()
    assert (total < optima - 1e-2).any()  # it is not simply the same policy


def test_the_mean_optimum_of_the_family_is_what_the_recipe_says():
    family = navigation()
    key_tasks, key_optimum = jax.random.split(jax.random.key(1))
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.test, 64))(key_tasks)
    keys = jax.random.split(key_optimum, 64)
    optima = jax.jit(lambda given: jax.lax.map(lambda one: family.optimum(*one), given))((keys, tasks))
    assert float(optima.mean()) == pytest.approx(-2.7, abs=4.5 * float(optima.std()) / 8)
