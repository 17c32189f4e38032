"""Frozen lakes against a NumPy twin and Gymnasium's tables; which lakes are drawn; permuted actions; the exact optimum."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.frozen_lake import FrozenLake, FrozenLakeState
from metadqn_jax.loops import repeat
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.frozen_lake import can_be_crossed, frozen_lake, random_tiles

ENV, STEPS, DRAWS = FrozenLake(4), 60, 4_000
MAP = ("SFFF", "FHFH", "FFFH", "HFFG")
TILES = np.array([["SHG".find(tile) if tile in "HG" else 0 for tile in row] for row in MAP], np.int32)
WAYS = [(0, -1), (1, 0), (0, 1), (-1, 0)]


def lake(rate=1.0, horizon=100, tiles=TILES):
    return ENV.default_params.replace(tiles=jnp.asarray(tiles), success_rate=rate, max_steps_in_episode=horizon)


def after(place, move, size=4):
    row, column = place // size + WAYS[move][0], place % size + WAYS[move][1]
    return size * row + column if 0 <= row < size and 0 <= column < size else place


def test_a_lake_that_is_not_slippery_equals_its_numpy_twin():
    straight = [1, 1, 2, 2, 1, 2]  # down, down, right, right, down, right: across
    actions = [*straight, 1, 2, *np.random.default_rng(0).integers(4, size=STEPS - 8)]

    @jax.jit
    def live(key, actions):
        key_reset, key_steps = jax.random.split(key)
        first, state = ENV.reset(key_reset, lake(horizon=7))

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = ENV.step(key, state, actions[t], lake(horizon=7))
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, STEPS, step, state)[1]

    first, rows = live(jax.random.key(0), jnp.int32(actions))
    np.testing.assert_array_equal(first, np.eye(16)[0])
    place, time, ends = 0, 0, []
    for action, obs, successor, reward, terminated, truncated in zip(actions, *map(np.asarray, rows), strict=True):
        place, time = after(place, action), time + 1
        tile = TILES.ravel()[place]
        np.testing.assert_array_equal(successor, np.eye(16)[place])
        assert (reward, terminated, truncated) == (float(tile == 2), tile > 0, time == 7)
        if terminated or truncated:
            ends.append((int(tile), bool(truncated)))
            place, time = 0, 0
        np.testing.assert_array_equal(obs, np.eye(16)[place])
    assert {(2, False), (1, False), (0, True)} <= set(ends)


@pytest.mark.parametrize("rate", [1.0, 1 / 3, 0.6])
def test_the_tables_are_those_of_gymnasium(rate):
    pytest.importorskip("gymnasium")
    from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

    twin = FrozenLakeEnv(desc=list(MAP), is_slippery=rate < 1, success_rate=rate)
    transition, reward = np.zeros((16, 4, 16)), np.zeros((16, 4))
    for place, move in itertools.product(range(16), range(4)):
        for chance, reached, paid, _ in twin.P[place][move]:
            transition[place, move, reached] += chance
            reward[place, move] += chance * paid
    ours = jax.jit(ENV.tables)(lake(rate))
    np.testing.assert_allclose(ours[0], transition, atol=1e-6)
    np.testing.assert_allclose(ours[1], reward, atol=1e-6)


def test_steps_have_the_frequencies_of_the_tables():
    params = lake(0.5)
    transition, reward = (np.asarray(table) for table in ENV.tables(params))

    @jax.jit
    def many(keys, places, actions):
        def one(key, place, action):
            _, state, reward, *_ = ENV.step_env(key, FrozenLakeState(place=place, time=jnp.int32(0)), action, params)
            return state.place, reward

        return jax.vmap(jax.vmap(one, in_axes=(0, None, None)))(keys, places, actions)

    pairs = np.array([(place, move) for place in (0, 4, 10, 14) for move in range(4)], np.int32)
    reached, paid = map(np.asarray, many(jax.random.split(jax.random.key(1), (len(pairs), DRAWS)), *jnp.asarray(pairs.T)))
    for (place, move), places, rewards in zip(pairs, reached, paid, strict=True):
        shares, wanted = np.bincount(places, minlength=16) / DRAWS, transition[place, move]
        assert (np.abs(shares - wanted) <= 4.5 * np.sqrt(wanted * (1 - wanted) / DRAWS)).all()
        assert rewards.mean() == pytest.approx(shares[15])
        assert reward[place, move] == wanted[15]


# --- the family


@pytest.fixture(scope="module")
def lakes():
    family = frozen_lake()
    draw = jax.jit(lambda key: [sample_tasks(jax.random.clone(key), side, 1_000) for side in family.split])
    return family, draw(jax.random.key(2))


def crossed(tiles):
    """Flood fill, by a queue."""
    size, queue, seen = len(tiles), [0], {0}
    while queue:
        place = queue.pop()
        near = {after(place, move, size) for move in range(4)} - seen
        near = {one for one in near if tiles[one // size][one % size] != 1}
        seen, queue = seen | near, queue + sorted(near)
    return size**2 - 1 in seen


@pytest.mark.parametrize("size", [3, 6])
def test_can_be_crossed_equals_a_flood_fill(size):
    tiles = (np.random.default_rng(size).random((300, size, size)) < 0.4).astype(np.int32)
    tiles[:, 0, 0], tiles[:, -1, -1] = 0, 2
    ours = jax.jit(jax.vmap(can_be_crossed))(jnp.asarray(tiles))
    twin = [crossed(one.tolist()) for one in tiles]
    assert ours.tolist() == twin
    assert 30 < sum(twin) < 270


def test_lakes_are_uniform_among_those_that_can_be_crossed():
    """On 2 x 2 tiles three of four lakes can be crossed: with p = 0.4 their weights are .36, .24, .24."""
    tiles = np.asarray(jax.jit(jax.vmap(lambda key: random_tiles(key, 2, 0.4)))(jax.random.split(jax.random.key(3), DRAWS)))
    assert (tiles[:, 0, 0] == 0).all()
    assert (tiles[:, 1, 1] == 2).all()
    kinds = tiles[:, 0, 1] + 2 * tiles[:, 1, 0]
    for kind, weight in ((0, 0.36), (1, 0.24), (2, 0.24), (3, 0.0)):
        share = weight / 0.84
        assert abs((kinds == kind).mean() - share) <= 4.5 * np.sqrt(share * (1 - share) / DRAWS)


def test_every_lake_can_be_crossed_and_no_task_is_on_both_sides(lakes):
    _, sides = lakes
    seen = []
    for drawn, order in sides:
        assert all(crossed(tiles) for tiles in np.asarray(drawn.tiles[:200]).tolist())
        assert (np.sort(order, 1) == np.arange(4)).all()
        seen.append({(tiles.tobytes(), tuple(o)) for tiles, o in zip(np.asarray(drawn.tiles), order.tolist(), strict=True)})
    assert len(seen[0] | seen[1]) == len(seen[0]) + len(seen[1])
    holes = (np.asarray(sides[0][0].tiles) == 1).mean((1, 2))
    assert 0.08 < holes.mean() < 0.175  # 0.2 of 14 of 16 tiles, less what makes a lake impassable


def test_the_optimum_is_the_chance_to_cross_in_time(lakes):
    family, (tasks, _) = lakes
    few = jax.tree.map(lambda leaf: leaf[:20], tasks)
    keys = jax.random.split(jax.random.key(4), 20)
    assert set(np.asarray(jax.vmap(family.optimum)(keys, few))) == {1.0}  # what is not slippery can always be crossed
    short = frozen_lake(horizon=5)  # and six steps are the least
    assert set(np.asarray(jax.vmap(short.optimum)(jax.random.split(jax.random.key(5), 20), few))) == {0.0}


def test_the_optimum_of_gymnasiums_slippery_lake():
    """0.74 in 100 steps, 14/17 without a limit, is what is known of the 4x4 lake."""
    values, policy = jax.jit(lambda params: value_iteration(*ENV.tables(params), 1_000))(lake(1 / 3))
    assert float(values[0, 0]) == pytest.approx(14 / 17, abs=1e-3)
    assert float(values[900, 0]) == pytest.approx(0.74, abs=0.01)
    assert (policy[0][np.array([0, 14])] == jnp.array([0, 1])).all()


def test_a_permuted_action_does_what_its_task_says(lakes):
    family, _ = lakes
    train = family.split.train
    key_reset, key_steps = jax.random.split(jax.random.key(6))
    order = jnp.int32([2, 0, 3, 1])
    world, _ = jax.jit(train.reset)(key_reset, (lake(), order))
    step = jax.jit(train.step)
    for key, action in zip(jax.random.split(key_steps, 4), range(4), strict=True):
        _, seen = step(key, (lake(), order), world, jnp.int32(action))
        assert int(seen.transition_obs.argmax()) == after(0, int(order[action]))


def test_a_privileged_learner_sees_the_holes_and_the_order(lakes):
    family, ((drawn, order), _) = lakes
    shown = np.asarray(jax.vmap(family.features)((drawn, order)))
    np.testing.assert_array_equal(shown[:, :16], (np.asarray(drawn.tiles) == 1).reshape(-1, 16))
    np.testing.assert_array_equal(shown[:, 16:].reshape(-1, 4, 4).argmax(-1), order)
    assert (shown[:, 16:].sum(1) == 4).all()


@pytest.mark.parametrize(
    "options", [{"size": 1}, {"size": 4.0}, {"holes": 1.5}, {"holes": 0.99}, {"horizon": 0}], ids=lambda given: str(given)
)
def test_impossible_lakes_are_refused_in_one_sentence(options):
    with pytest.raises(Misuse, match=r"^[^\n]*must[^\n]*; [^\n]*\.$"):
        frozen_lake(**options)
