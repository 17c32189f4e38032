"""GridNavi against a NumPy twin, its planner against brute force, and the numbers of Zintgraf et al. (2020)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.gridnavi import GridNavi
from metadqn_jax.loops import repeat
from metadqn_jax.planners.gridnavi import bayes_optimal, candidates, known_goal_return
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.gridnavi import gridnavi

H, STEPS = 15, 45
GOALS = [(x, y) for x in range(5) for y in range(5) if (x, y) not in [(0, 0), (0, 1), (1, 0), (1, 1)]]
ENV = GridNavi()


def moved(cell, action, size=5):
    x, y = cell
    x, y = [(x, y), (x, y + 1), (x + 1, y), (x, y - 1), (x - 1, y)][action]
    return (x, y) if 0 <= x < size and 0 <= y < size else cell


@pytest.mark.parametrize("goal", [(2, 0), (1, 3)])
def test_gridnavi_equals_its_numpy_twin(goal):
    actions = np.random.default_rng(goal[1]).choice(5, p=[0.1, 0.3, 0.3, 0.15, 0.15], size=STEPS)
    actions[:4] = [2, 2, 2, 2] if goal == (2, 0) else [1, 2, 1, 1]
    params = ENV.default_params.replace(goal=jnp.int32(goal))

    @jax.jit
    def live(key, actions):
        key_reset, key_steps = jax.random.split(key)
        first, state = ENV.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = ENV.step(key, state, actions[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    first, rows = live(jax.random.key(0), jnp.int32(actions))
    np.testing.assert_array_equal(first, np.eye(25)[0])
    cell, hits = (0, 0), 0
    for t, (obs, successor, reward, terminated, truncated) in enumerate(zip(*map(np.asarray, rows), strict=True)):
        cell = moved(cell, actions[t])
        np.testing.assert_array_equal(successor, np.eye(25)[5 * cell[0] + cell[1]])
        assert reward == np.float32(1.0 if cell == goal else -0.1)
        assert (terminated, truncated) == (False, t % H == H - 1)
        hits, cell = hits + (cell == goal), (0, 0) if truncated else cell
        np.testing.assert_array_equal(obs, np.eye(25)[5 * cell[0] + cell[1]])
    assert hits > 0


# --- the family


def goals_of(side, count):
    tasks = jax.jit(lambda key: sample_tasks(key, side, count))(jax.random.key(1))
    return [tuple(goal) for goal in np.asarray(tasks.goal).tolist()]


def test_train_and_test_draw_uniformly_from_the_same_21_goals():
    assert candidates() == GOALS
    for side in gridnavi().split:
        drawn = goals_of(side, 2_100)
        counts = np.array([drawn.count(goal) for goal in GOALS])
        assert counts.sum() == 2_100
        assert (np.abs(counts - 100) < 4.5 * np.sqrt(100 * 20 / 21)).all()


def test_held_out_goals_are_for_testing_alone():
    train, test = (set(goals_of(side, 400)) for side in gridnavi(held_out=5).split)
    assert (len(train), len(test)) == (16, 5)
    assert train | test == set(GOALS)
    assert test == set(goals_of(gridnavi(held_out=5).split.test, 400))


@pytest.mark.parametrize("held_out", [-1, 21, 2.0])
def test_held_out_must_leave_goals_to_train_on(held_out):
    with pytest.raises(Misuse, match=r"held_out must .*\.$"):
        gridnavi(held_out)


def test_the_optimum_is_that_of_backward_induction():
    family = gridnavi()
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.train, 300))(jax.random.key(2))
    optima = jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(3), 300), tasks)
    exact = dict(zip(GOALS, map(planned, GOALS), strict=True))
    np.testing.assert_allclose(optima, [exact[tuple(goal)] for goal in np.asarray(tasks.goal).tolist()], rtol=1e-5)
    assert np.mean(list(exact.values())) == pytest.approx(11.0714, abs=5e-5)
    shown = jax.vmap(family.features)(tasks)
    assert (float(shown.min()), float(shown.max())) == (-1.0, 1.0)
    assert len(np.unique(shown, axis=0)) == 21


def planned(goal):
    """The best return of one episode with this goal."""
    value = dict.fromkeys(itertools.product(range(5), repeat=2), 0.0)
    worth = {cell: 1.0 if cell == goal else -0.1 for cell in value}
    for _ in range(H):
        value = {cell: max(worth[to] + value[to] for to in (moved(cell, a) for a in range(5))) for cell in value}
    return value[0, 0]


# --- the Bayes-optimal trial


def expected(paths, size, horizon):
    """The expected returns [paths] of following cells [paths, episodes, horizon, 2] until the goal is met, then it alone."""
    episodes, totals = paths.shape[1], []
    for goal in candidates(size):
        hit = (paths == np.array(goal)).all(-1).reshape(len(paths), -1)
        episode, time = np.divmod(hit.argmax(1), horizon)
        on_goal = horizon - time + (episodes - 1 - episode) * (horizon - sum(goal) + 1)
        totals.append(np.where(hit.any(1), on_goal, 0))
    return 1.1 * np.mean(totals, 0) - 0.1 * horizon * episodes


@pytest.mark.parametrize(("episodes", "horizon"), [(1, 6), (2, 3), (2, 4), (3, 2)])
def test_the_bayes_optimum_is_that_of_the_best_path_of_all(episodes, horizon):
    plans = np.array(list(itertools.product(range(5), repeat=episodes * horizon)), np.int8)
    following = np.array([[moved((x, y), a, 3) for a in range(5)] for x in range(3) for y in range(3)])
    place, cells = np.zeros(len(plans), int), []
    for t in range(episodes * horizon):
        place = place * (t % horizon > 0)
        cells.append(following[place, plans[:, t]])
        place = 3 * cells[-1][:, 0] + cells[-1][:, 1]
    paths = np.stack(cells, 1).reshape(len(plans), episodes, horizon, 2)
    assert bayes_optimal(episodes, 3, horizon).sum() == pytest.approx(expected(paths, 3, horizon).max())


def test_a_grid_without_goals_is_refused():
    with pytest.raises(Misuse, match="size must be a whole number of at least 3, got 2"):
        bayes_optimal(1, size=2)


def test_a_goal_that_is_too_far_costs_all_of_the_episode():
    assert float(known_goal_return(jnp.array([4, 4]), horizon=3)) == pytest.approx(-0.3)
    assert float(known_goal_return(jnp.array([2, 1]), horizon=3)) == pytest.approx(0.8)


def test_the_bayes_optimum_of_the_published_trial():
    np.testing.assert_allclose(bayes_optimal(4), [4.0, 11.0714, 11.0714, 11.0714], atol=5e-5)


def test_a_plan_made_by_hand_reaches_the_bayes_optimum():
    """First all cells off the upper border, a new one each step; then along that border, where each lies on the way."""
    first = (
        [1, 0],
        [2, 0],
        [3, 0],
        [4, 0],
        [4, 1],
        [3, 1],
        [2, 1],
        [2, 2],
        [1, 2],
        [1, 3],
        [2, 3],
        [3, 3],
        [3, 2],
        [4, 2],
        [4, 3],
    )
    second = [[0, y] for y in range(1, 5)] + [[x, 4] for x in range(1, 5)] + [[4, 4]] * 7
    path = np.array([[first, second, second, second]])
    assert expected(path, 5, H)[0] == pytest.approx(bayes_optimal(4).sum())
