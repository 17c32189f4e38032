"""The dark room against a NumPy twin, its planners against brute force, and the numbers that are stated of it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.dark_room import DarkRoom
from metadqn_jax.loops import repeat
from metadqn_jax.planners.dark_room import (
    bayes_bracket,
    bayes_optimal,
    candidates,
    hunt,
    known_goal_return,
    pinwheel,
    random_return,
)
from metadqn_jax.planners.hidden_goal import search_value
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.dark_room import dark_room, key_to_door

STEPS = 50
MOVES = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]


def moved(cell, action, size):
    x, y = cell[0] + MOVES[action][0], cell[1] + MOVES[action][1]
    return (x, y) if 0 <= x < size and 0 <= y < size else tuple(cell)


def shown(cell):
    return np.concatenate(np.eye(5)[list(cell)])


CASES = {
    "for each step": ([(3, 2)], False),
    "once": ([(3, 2)], True),
    "key to door": ([(3, 2), (2, 2)], True),
    "one cell": ([(1, 2)] * 2, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_dark_room_equals_its_numpy_twin(case):
    goals, once = CASES[case]
    env, size = DarkRoom(5, len(goals)), 5
    actions = np.random.default_rng(3).integers(5, size=STEPS)
    actions[:4], actions[20:24] = [2, 0, 2, 2], [4, 0, 2, 2]
    params = env.default_params.replace(goals=jnp.int32(goals), once=once)

    @jax.jit
    def live(key):
        key_reset, key_steps = jax.random.split(key)
        first, state = env.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = env.step(key, state, jnp.asarray(actions)[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    first, rows = live(jax.random.key(0))
    np.testing.assert_array_equal(first, shown((2, 2)))
    cell, left, total = (2, 2), list(goals), 0
    for t, (obs, successor, reward, terminated, truncated) in enumerate(zip(*map(np.asarray, rows), strict=True)):
        cell = moved(cell, actions[t], size)
        expected = bool(left) and cell == left[0]
        left = left[1:] if expected and once else left
        assert reward == float(expected)
        np.testing.assert_array_equal(successor, shown(cell))
        assert (terminated, truncated) == (False, t % 20 == 19)
        if truncated:
            cell, left = (2, 2), list(goals)
        np.testing.assert_array_equal(obs, shown(cell))
        total += expected
    assert total > len(goals)  # found again in another episode


def test_spaces_describe_the_environment():
    env = DarkRoom()
    obs, _ = env.reset(jax.random.key(1), env.default_params)
    space = env.observation_space(env.default_params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype) == ((18,), jnp.float32)
    assert env.action_space().n == 5


# --- families


def goals_of(side, count):
    tasks = jax.jit(lambda key: sample_tasks(key, side, count))(jax.random.key(1))
    return [tuple(np.ravel(goals).tolist()) for goals in np.asarray(tasks.goals)]


def test_held_out_goals_are_for_testing_alone():
    family = dark_room()
    train, test = (set(goals_of(side, 1_500)) for side in family.split)
    assert (len(train), len(test)) == (64, 16)
    assert train | test == {(x, y) for x in range(9) for y in range(9)} - {(4, 4)}


def test_without_held_out_goals_both_sides_draw_from_all():
    for side in dark_room(5, held_out=0).split:
        drawn = goals_of(side, 2_400)
        counts = np.array([drawn.count(cell) for cell in candidates(5)])
        assert counts.sum() == 2_400
        assert (np.abs(counts - 100) < 4.5 * np.sqrt(100 * 23 / 24)).all()


def test_pairs_of_key_and_door_are_split():
    family = key_to_door(3, horizon=6)
    train, test = (set(goals_of(side, 2_000)) for side in family.split)
    cells = set(itertools.product(range(3), repeat=2)) - {(1, 1)}
    assert not train & test
    assert train | test == {key + door for key in cells for door in cells}
    assert family.horizon == 6


@pytest.mark.parametrize("build", [lambda: dark_room(1), lambda: key_to_door(1), lambda: key_to_door(horizon=0)])
def test_sizes_of_a_room(build):
    with pytest.raises(
        Misuse, match=r"^(size|horizon) must be a whole number of at least [12], got [01]; change (size|horizon)\.$"
    ):
        build()


@pytest.mark.parametrize("held_out", [-1, 8, 2.0])
def test_held_out_must_leave_goals_to_train_on(held_out):
    with pytest.raises(Misuse, match=r"^held_out must [^\n]*; [^\n]*\.$"):
        dark_room(3, held_out=held_out)


@pytest.mark.parametrize(
    ("build", "once"),
    [
        (lambda: dark_room(5, held_out=4), False),
        (lambda: dark_room(5, hard=True, held_out=4), True),
        (lambda: key_to_door(5), True),
    ],
)
def test_the_optimum_is_that_of_backward_induction(build, once):
    family = build()
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.train, 10))(jax.random.key(2))
    optima = jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(3), 10), tasks)
    exact = [planned(np.asarray(goals).tolist(), once, 5, family.horizon) for goals in tasks.goals]
    np.testing.assert_allclose(optima, exact)
    shown = np.asarray(jax.vmap(family.features)(tasks))
    np.testing.assert_allclose(2 + 2 * shown, np.asarray(tasks.goals).reshape(10, -1))


def planned(goals, once, size, horizon):
    """The best return of one episode with these goals, by dynamic programming over (goals found, cell)."""
    states = [(n, cell) for n in range(len(goals) + 1) for cell in itertools.product(range(size), repeat=2)]
    value = dict.fromkeys(states, 0.0)

    def after(n, cell):
        hit = n < len(goals) and list(cell) == goals[n]
        return hit + value[n + (hit and once), cell]

    for _ in range(horizon):
        value = {(n, cell): max(after(n, moved(cell, a, size)) for a in range(5)) for n, cell in states}
    return value[0, (size // 2, size // 2)]


@pytest.mark.parametrize(("goals", "horizon"), [([(0, 0), (4, 4)], 11), ([(0, 0), (4, 4)], 3), ([(3, 2), (3, 2)], 1)])
def test_a_horizon_that_is_too_short_for_all_goals(goals, horizon):
    exact = planned([list(goal) for goal in goals], True, 5, horizon)
    assert float(known_goal_return(jnp.array(goals), 5, horizon, once=True)) == exact < 2


def test_the_mean_optimum_is_the_stated_one():
    """REFERENCES: 16.50, for the published room."""
    optima = jax.jit(jax.vmap(known_goal_return))(jnp.array(candidates())[:, None])
    assert float(optima.mean()) == 16.5


# --- at random


@pytest.mark.parametrize("once", [False, True])
def test_the_random_return_is_the_mean_over_all_plans(once):
    size, horizon, totals = 3, 5, []
    for plan in itertools.product(range(5), repeat=horizon):
        cell, met = (1, 1), []
        for action in plan:
            cell = moved(cell, action, size)
            met.append(cell)
        totals += [min(met.count(goal), 1) if once else met.count(goal) for goal in candidates(size)]
    assert random_return(size, horizon, once) == pytest.approx(np.mean(totals))


def test_the_random_return_of_the_published_room():
    """All 20 steps but those in the centre lie on one of 80 goals."""
    centre = np.zeros((9, 9))
    centre[4, 4], visits = 1.0, 0.0
    for _ in range(20):
        centre = walked(centre)
        visits += centre[4, 4]
    assert random_return() == pytest.approx((20 - visits) / 80)
    assert random_return() == pytest.approx(0.2353, abs=5e-5)


def walked(mass):
    """One step of uniformly random actions."""
    after = np.zeros_like(mass)
    for cell in itertools.product(range(9), repeat=2):
        for action in range(5):
            after[moved(cell, action, 9)] += mass[cell] / 5
    return after


# --- the unknown goal


def all_paths(size, horizon):
    """Every path [paths, horizon, 2] of one episode from the centre."""
    paths = []
    for plan in itertools.product(range(5), repeat=horizon):
        cell, path = (size // 2, size // 2), []
        for action in plan:
            cell = moved(cell, action, size)
            path.append(cell)
        paths.append(path)
    return np.unique(np.array(paths), axis=0)


def expected(paths, size, horizon, once):
    """The expected return of following cells [episodes, horizon, 2] until the goal is met, then it alone."""
    total, centre = 0.0, size // 2
    for goal in candidates(size):
        found = False
        for path in paths:
            distance = abs(goal[0] - centre) + abs(goal[1] - centre)
            times = [distance - 1] if found else [t for t, cell in enumerate(path) if tuple(cell) == goal]
            steps = max(0, horizon - min(times, default=horizon))
            found = found or bool(times)
            total += min(1, steps) if once else steps
    return total / len(candidates(size))


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("episodes", "size", "horizon"), [(1, 3, 4), (2, 3, 3), (2, 5, 2)])
def test_the_bayes_optimum_is_that_of_the_best_path_of_all(episodes, size, horizon, once):
    every = all_paths(size, horizon)
    best = max(expected(plan, size, horizon, once) for plan in itertools.product(every, repeat=episodes))
    assert bayes_optimal(episodes, size, horizon, once).sum() == pytest.approx(best)


@pytest.mark.parametrize(("episodes", "size", "horizon"), [(2, 3, 3), (2, 5, 5), (3, 3, 2), (3, 5, 3)])
@pytest.mark.parametrize("once", [False, True])
def test_the_bayes_optimum_lies_in_its_bracket(episodes, size, horizon, once):
    low, high = bayes_bracket(episodes, size, horizon, once)
    best = bayes_optimal(episodes, size, horizon, once)
    assert low.sum() <= best.sum() + 1e-9
    assert (best <= high + 1e-9).all()


def test_the_value_of_a_search_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    every = all_paths(3, 4)
    for once in (False, True):
        plan = every[rng.integers(len(every), size=3)]
        assert search_value(hunt(3, 4, once), plan).sum() == pytest.approx(expected(plan, 3, 4, once))


def test_a_room_of_even_size_has_no_pinwheel():
    with pytest.raises(Misuse, match=r"got the even size 8; make it odd\.$"):
        pinwheel(4, size=8)


def test_the_pinwheel_sees_all_of_the_room_in_four_episodes():
    paths = pinwheel(4)
    from_centre = np.concatenate([np.full((4, 1, 2), 4), paths], 1)
    assert (np.abs(np.diff(from_centre, axis=1)).sum(2) == 1).all()
    assert set(map(tuple, paths.reshape(-1, 2).tolist())) == set(candidates())


def test_the_first_episode_is_exact_and_the_bracket_narrow():
    low, high = bayes_bracket(5)
    assert low[0] == high[0] == bayes_optimal(1)[0] == 210 / 80
    assert low[4] == high[4] == 16.5
    assert low.sum() > 0.95 * high.sum()
    low, high = bayes_bracket(4, 17, 20, once=True)  # the hard room: exact, a new cell with every step
    np.testing.assert_allclose(low, np.arange(20, 81, 20) / 288)
    np.testing.assert_allclose(low, high)
