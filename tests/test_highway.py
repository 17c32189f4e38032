"""The highway step by step against the package highway-env in float64, its collisions, starts, family, planner and film."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from highway_env.envs import HighwayEnv, HighwayEnvFast
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.controller import MDPVehicle
from PIL import Image

from metadqn_jax import figures
from metadqn_jax.checks import Misuse
from metadqn_jax.environments.highway import BEHIND, IDLE, Highway
from metadqn_jax.environments.highway_collisions import collide
from metadqn_jax.environments.highway_film import BACK, CRASHED, DRIVER, EGO, SCALE, film
from metadqn_jax.environments.highway_traffic import HighwayState
from metadqn_jax.planners.lookahead import planned_return
from metadqn_jax.tasks import highway as family_module
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.highway import RANGES, STEERING, highway
from metadqn_jax.tasks.splits import fingerprint
from metadqn_jax.types import Step

COMPARED = ("x", "y", "heading", "speed", "target_lane", "target_speed", "crashed", "hit")
WANDER = {"action": {"type": "ContinuousAction"}, "policy_frequency": 5}


class Case(NamedTuple):
    """One setting of the twin, and ours: their configuration and class attributes, our environment and parameters."""

    twin: Any
    config: dict
    env: Highway
    params: dict
    episodes: int
    steps: int
    act: Any
    classes: tuple = ()


def at_random(rng):
    return int(rng.integers(5))


def seldom_a_change(rng):
    return int(rng.choice(5, p=[0.1, 0.5, 0.1, 0.15, 0.15]))


CASES = {
    "highway-fast-v0": Case(HighwayEnvFast, {}, Highway(), {}, 12, 150, at_random),
    "highway-v0": Case(
        HighwayEnv,
        {"vehicles_count": 12},
        Highway(12, frequency=15, all_collide=True),
        {"lanes": 4, "ego_spacing": 2.0, "max_steps_in_episode": 40},
        3,
        60,
        seldom_a_change,
    ),
    "drivers, car and rewards": Case(
        HighwayEnvFast,
        {
            "vehicles_density": 1.4,
            "lanes_count": 5,
            "ego_spacing": 1,
            "collision_reward": -0.7,
            "right_lane_reward": 0.3,
            "high_speed_reward": 0.6,
            "duration": 12,
        },
        Highway(),
        {
            "density": 1.4,
            "lanes": 5,
            "ego_spacing": 1.0,
            "crash_weight": 0.7,
            "lane_weight": 0.3,
            "speed_weight": 0.6,
            "max_steps_in_episode": 12,
            "headway": 0.8,
            "politeness": 0.5,
            "response": 0.7,
        },
        10,
        90,
        seldom_a_change,
        ((IDMVehicle, "TIME_WANTED", 0.8), (IDMVehicle, "POLITENESS", 0.5), (MDPVehicle, "KP_A", 0.7 / 0.6)),
    ),
    "continuous": Case(
        HighwayEnvFast,
        {**WANDER, "vehicles_count": 8, "duration": 29.9},  # its clock adds up to less than 30 in 150 steps
        Highway(8, continuous=True, ticks=1),
        {"max_steps_in_episode": 150},
        5,
        560,
        lambda rng: rng.uniform(-1, 1, 2) * np.array([1.5, 0.03]),
    ),
    "full throttle": Case(
        HighwayEnvFast,
        {**WANDER, "simulation_frequency": 15, "offroad_terminal": True, "vehicles_count": 2, "vehicles_density": 0.2},
        Highway(2, continuous=True, frequency=15, ticks=3),
        {"max_steps_in_episode": 150, "offroad_terminal": True, "density": 0.2},
        5,
        150,
        lambda rng: np.array([1.0, rng.normal() * 0.01]),
    ),
}


def copied(vehicles, time=0):
    """Our state of their vehicles, the ego first."""

    def each(name, default, dtype=float):
        return np.array([getattr(one, name, default) for one in vehicles], dtype)

    return HighwayState(
        x=np.array([one.position[0] for one in vehicles]),
        y=np.array([one.position[1] for one in vehicles]),
        heading=each("heading", None),
        speed=each("speed", None),
        target_lane=np.array([getattr(one, "target_lane_index", (0, 0, 0))[2] for one in vehicles], np.int32),
        target_speed=each("target_speed", 0),
        timer=each("timer", 0),
        exponent=each("DELTA", 4),
        crashed=each("crashed", None, bool),
        impact=np.array([np.zeros(2) if one.impact is None else one.impact for one in vehicles]),
        hit=np.array([one.impact is not None for one in vehicles]),
        time=np.int32(time),
    )


@pytest.mark.parametrize("name", CASES)
def test_every_step_equals_that_of_highway_env(name, monkeypatch):
    case = CASES[name]
    for owner, attribute, value in case.classes:
        monkeypatch.setattr(owner, attribute, value)
    twin, env, rng, taken, skipped, ends = case.twin(case.config), case.env, np.random.default_rng(0), 0, 0, set()
    params = env.default_params.replace(**case.params)

    @jax.jit
    def answer(key, state, action):
        after, ticks = env.simulate(state, action, params)
        flags = env.is_terminated(after, params), env.is_truncated(after, params)
        return after, ticks, env.observe(key, after, action, params), env.reward(after, params), flags

    with jax.enable_x64(True):
        keys = iter(jax.random.split(jax.random.key(0), case.steps + case.episodes))
        for seed in range(case.episodes):
            first, _ = twin.reset(seed=seed)
            state, over = jax.tree.map(jnp.asarray, copied(twin.road.vehicles)), taken == case.steps
            np.testing.assert_allclose(jax.jit(env.observe)(next(keys), state, None, params), first, atol=1e-7)
            while not over:
                action, taken = case.act(rng), taken + 1
                seen, reward, *flags, _ = twin.step(action)
                state, ticks, obs, ours, our_flags = answer(next(keys), state, jnp.asarray(action))
                assert [bool(flag) for flag in our_flags] == flags
                assert abs(float(ours) - reward) < 1e-9
                if is_a_toss(ticks):
                    skipped += 1
                else:
                    compare(state, copied(twin.road.vehicles))
                    np.testing.assert_allclose(obs, seen, atol=1e-7)  # theirs is a float32
                over = any(flags) or taken == case.steps
            ends.add("through" if flags[1] else "crashed" if twin.vehicle.crashed else "off" if flags[0] else "cut")
    assert skipped <= 2
    assert ends >= ENDS.get(name, set())


def compare(ours, theirs):
    for field in COMPARED:
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=0, atol=1e-9, err_msg=field)
    np.testing.assert_allclose(ours.timer[1:], theirs.timer[1:], rtol=0, atol=1e-9)


def is_a_toss(ticks):
    """Whether a crash on one line pushed sideways: to which side is decided by the last bit of the corners' mean."""
    behind, hit = np.abs(np.asarray(ticks.y[:, 1:] - ticks.y[:, :1])) < 1e-9, np.asarray(ticks.hit)
    return (behind & hit[:, 1:] & hit[:, :1] & (np.abs(ticks.impact[:, :1, 1]) > 0.5)).any()


ENDS = {"highway-fast-v0": {"crashed"}, "drivers, car and rewards": {"crashed", "through"}, "full throttle": {"off"}}


# --- collisions


def crowd(rng, count):
    """Vehicles close together, some side by side along the road, as arrays [count]."""
    x, y = rng.uniform(-7, 7, count), rng.uniform(-4, 4, count)
    heading = rng.choice([0.0, 1.0], count) * rng.uniform(-0.8, 0.8, count)
    return x, y, heading, rng.uniform(-10, 40, count)


@pytest.mark.parametrize(("count", "first"), [(2, 1), (5, 4), (5, 1)])
def test_collisions_equal_those_of_highway_env(count, first):
    """Also the push of a predicted overlap, of which the last in the row counts."""
    rng, scenes, wanted = np.random.default_rng(10 * count + first), [], []
    twin = HighwayEnvFast({"vehicles_count": count - 1})
    row = twin.road.vehicles
    for _ in range(150):
        for i, (one, x, y, heading, speed) in enumerate(zip(row, *crowd(rng, count), strict=True)):
            one.position, one.heading, one.speed = np.array([x, y]), heading, speed
            one.crashed, one.impact, one.check_collisions = False, None, i < first
        scenes.append(copied(row))
        for i, one in enumerate(row):
            for other in row[i + 1 :]:
                one.handle_collisions(other, 0.2)
        wanted.append(copied(row))
    with jax.enable_x64(True):
        ours = jax.jit(jax.vmap(lambda state: collide(state, 0.2, first)))(jax.tree.map(lambda *x: jnp.stack(x), *scenes))
    theirs = jax.tree.map(lambda *x: np.stack(x), *wanted)
    np.testing.assert_array_equal(ours.crashed, theirs.crashed)
    np.testing.assert_array_equal(ours.hit, theirs.hit)
    np.testing.assert_allclose(np.where(theirs.hit[..., None], ours.impact, 0), theirs.impact, rtol=0, atol=1e-9)
    assert (theirs.hit & ~theirs.crashed).sum() > 10  # overlaps that are only predicted
    assert theirs.crashed.any()
    assert not theirs.hit.all()


def scene(env, params, **fields):
    """A start whose vehicles are put somewhere else; each of `fields` is [n]."""
    _, state = env.reset(jax.random.key(1), params)
    changed = {name: jnp.asarray(value, getattr(state, name).dtype) for name, value in fields.items()}
    return state.replace(**changed)


PAIR = Highway(1)


def test_a_predicted_overlap_ends_the_episode_one_tick_later_and_pushes_both_apart():
    params = PAIR.default_params
    start = scene(PAIR, params, x=[0, 16.0], y=[0, 0], speed=[30, 0], target_speed=[30, 0.1], target_lane=[0, 0])
    _, ticks = jax.jit(PAIR.simulate)(start, jnp.int32(IDLE), params)
    hit, crashed, apart = (np.asarray(leaf) for leaf in (ticks.hit, ticks.crashed, ticks.x[:, 1] - ticks.x[:, 0]))
    assert apart[0] == pytest.approx(10, abs=0.01)  # five between the bumpers, and six to be driven in the next tick
    np.testing.assert_array_equal([hit[0], crashed[0], crashed[1]], [[True] * 2, [False] * 2, [True] * 2])
    assert apart[1] == pytest.approx(5, abs=0.2)  # four without the push


# --- what the twin cannot vary


@pytest.mark.parametrize(("field", "drivers"), [("friction", True), ("response", False)])
def test_friction_and_response_scale_accelerations(field, drivers):
    def gain(scale):
        params = PAIR.default_params.replace(**{field: scale, "lanes": 1})
        start = scene(
            PAIR, params, x=[0, 100.0], y=[0, 0], speed=[20, 20], target_speed=[25, 25], target_lane=[0, 0], heading=[0, 0]
        )
        _, ticks = jax.jit(PAIR.simulate)(start, jnp.int32(IDLE), params)
        return np.asarray(ticks.speed[0]) - 20

    whole, half = gain(1.0), gain(0.5)
    np.testing.assert_allclose(half / whole, [0.5, 0.5 if drivers else 1.0], rtol=1e-5)


def test_friction_and_steering_scale_turns():
    env = Highway(1, continuous=True, ticks=1)

    def turn(**fields):
        params = env.default_params.replace(**fields)
        start = scene(env, params, x=[0, 100.0], y=[4, 4], speed=[20, 20])
        state, _ = jax.jit(env.simulate)(start, jnp.array([0.0, 0.1]), params)
        return float(state.heading[0])

    usual = turn()
    assert usual == pytest.approx(20 * np.sin(np.arctan(np.tan(np.pi / 40) / 2)) / 2.5 * 0.2, rel=1e-5)
    assert turn(steering=-0.8) == pytest.approx(-0.8 * usual, rel=1e-5)
    assert turn(friction=0.6) == pytest.approx(0.6 * usual, rel=1e-5)


def test_wishes_for_a_speed_and_a_lane():
    """Of a third each, after the weights of the family: a third is for not having crashed."""
    weights = {"speed_weight": 0.5, "lane_weight": 0.5, "crash_weight": 0.5, "speed_tolerance": 5.0}

    def reward(speed, lane, **wishes):
        params = PAIR.default_params.replace(lanes=5, **weights, **wishes)
        start = scene(PAIR, params, y=[4.0 * lane, 0], speed=[speed, 20], target_lane=[lane, 0])
        return float(PAIR.reward(start, params))

    assert reward(22, 1, wanted_speed=22.0, wanted_lane=0.25) == pytest.approx(1)
    assert reward(24, 1, wanted_speed=22.0, wanted_lane=0.25) == pytest.approx(1 - 0.4 / 3)
    assert reward(17, 1, wanted_speed=22.0, wanted_lane=0.25) == pytest.approx(2 / 3)
    assert reward(22, 4, wanted_speed=22.0, wanted_lane=0.25) == pytest.approx(1 - 0.75 / 3)
    assert reward(35, 0, wanted_speed=30.0, wanted_lane=1.0) == pytest.approx(2 / 3)


# --- starts


def test_starts_have_the_distribution_of_highway_env():
    """Lanes, speeds and gaps, from its own formula and its own resets."""
    stats = pytest.importorskip("scipy.stats")
    env, twin, draws = Highway(6), HighwayEnvFast({"vehicles_count": 6, "lanes_count": 4, "vehicles_density": 1.5}), 150
    params = env.default_params.replace(lanes=4, density=1.5)
    _, ours = jax.jit(jax.vmap(lambda key: env.reset(key, params)))(jax.random.split(jax.random.key(2), draws))
    theirs = []
    for seed in range(draws):
        twin.reset(seed=seed)
        theirs.append(copied(twin.road.vehicles))
    theirs = jax.tree.map(lambda *x: np.stack(x), *theirs)
    for ego, drivers in ((True, slice(0, 1)), (False, slice(1, None))):
        for field in ("target_speed", "speed", "y"):
            one, other = (np.asarray(getattr(states, field))[:, drivers].ravel() for states in (ours, theirs))
            assert stats.ks_2samp(one, other).pvalue > 1e-3, (field, ego)
    for states in (ours, theirs):
        x, speed = np.asarray(states.x, float), np.asarray(states.speed, float)
        usual = (12 + speed) * np.exp(-0.5) * np.where(np.arange(7) == 0, 1.5, 1 / 1.5)[None]
        gaps = np.diff(x, axis=1, prepend=(3 * usual[:, :1]))
        place = (gaps / usual - 0.9) / 0.2
        assert stats.kstest(place.ravel(), "uniform").pvalue > 1e-3
        assert -1e-4 < place.min() <= place.max() < 1 + 1e-4
        np.testing.assert_allclose(states.timer[:, 1:], np.mod((x + np.asarray(states.y)) * np.pi, 1)[:, 1:], atol=2e-4)
        assert np.asarray(states.exponent)[:, 1:].min() >= 3.5
        assert np.asarray(states.exponent)[:, 1:].max() <= 4.5
    assert stats.ks_2samp(np.asarray(ours.exponent)[:, 1:].ravel(), theirs.exponent[:, 1:].ravel()).pvalue > 1e-3


def test_drivers_start_at_the_speeds_of_the_task():
    params = PAIR.default_params.replace(traffic_speed=18.0, speed_spread=0.5)
    _, states = jax.jit(jax.vmap(lambda key: PAIR.reset(key, params)))(jax.random.split(jax.random.key(3), 300))
    drivers = np.asarray(states.speed[:, 1])
    assert (np.abs(drivers - 18) <= 0.5).all()
    assert np.ptp(drivers) > 0.9


@pytest.mark.parametrize("env", [Highway(3), Highway(7, continuous=True)], ids=["meta", "continuous"])
def test_spaces_describe_the_environment(env):
    params = env.default_params
    obs, _ = env.reset(jax.random.key(4), params)
    space, actions = env.observation_space(params), env.action_space(params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert actions.shape == ((2,) if env.continuous else ())


def test_a_step_is_its_simulation():
    params = PAIR.default_params
    start = scene(PAIR, params, x=[0, 12.0], y=[0, 0], speed=[30, 10], target_lane=[0, 0])
    obs, after, reward, terminated, _ = jax.jit(PAIR.step_env)(jax.random.key(0), start, jnp.int32(IDLE), params)
    state, ticks = jax.jit(PAIR.simulate)(start, jnp.int32(IDLE), params)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    np.testing.assert_array_equal(ticks.x[-1], state.x)
    np.testing.assert_allclose(obs, PAIR.observe(jax.random.key(0), state, None, params), atol=1e-6)
    assert float(reward) == pytest.approx(float(PAIR.reward(state, params)), abs=1e-6)
    assert (bool(terminated), int(after.time)) == (True, 1)


def test_who_is_behind_is_not_seen():
    start = scene(PAIR, PAIR.default_params, x=[100, 100 - BEHIND + 0.1])
    obs = [
        PAIR.observe(jax.random.key(0), state, None, PAIR.default_params)
        for state in (start, start.replace(x=start.x.at[1].add(-0.2)))
    ]
    np.testing.assert_array_equal([float(one[1, 0]) for one in obs], [1, 0])


# --- the family


@pytest.fixture(scope="module")
def family():
    return highway(vehicles=4)


@pytest.fixture(scope="module")
def sides(family):
    return [jax.jit(lambda key, side=side: sample_tasks(key, side, 400))(jax.random.key(5)) for side in family.split]


def test_train_and_test_share_no_task_and_stay_within_their_ranges(family, sides):
    prints = [set(np.asarray(jax.vmap(fingerprint)(tasks)).tolist()) for tasks in sides]
    assert not prints[0] & prints[1]
    for tasks in sides:
        for name, (low, high) in RANGES.items():
            values = np.asarray(getattr(tasks, name))
            assert low <= values.min() < low + 0.1 * (high - low) + 1e-6
            assert high - 0.1 * (high - low) - 1e-6 < values.max() <= high
        shown = np.asarray(jax.vmap(family.features)(tasks))
        assert shown.shape == (400, len(RANGES))
        assert np.abs(shown).max() <= 1 + 1e-6
        assert np.ptp(shown, axis=0).min() > 1.8


def test_a_driver_who_does_not_know_the_wishes_loses(family, sides):
    """Planning for the middle of the road at a middle speed, in a car and among drivers that are known."""
    count, side = 20, family.split.test
    plans = jnp.array([[action, *[IDLE] * 5] for action in range(5)], jnp.int32)

    @jax.jit
    def returns(keys, tasks):
        def one(key, task):
            key_start, key_plans = jax.random.split(jax.random.clone(key))  # as the optimum does: one start for both
            world, _ = side.reset(key_start, task)
            middle = task.replace(wanted_speed=jnp.float32(25), wanted_lane=jnp.float32(0.5))
            unknown = planned_return(key_plans, plans, task, world, side.step, family.horizon, believed=middle)
            return family.optimum(key, task), unknown

        return jax.vmap(one)(keys, tasks)

    tasks = jax.tree.map(lambda leaf: leaf[:count], sides[1])
    known, unknown = map(np.asarray, returns(jax.random.split(jax.random.key(6), count), tasks))
    gain = known - unknown
    assert gain.mean() > 2.0
    assert gain.mean() > 3 * gain.std() / np.sqrt(count)
    assert known.max() <= family.horizon


def test_continuous_cars_turn_either_way():
    family = highway(vehicles=1, continuous=True)
    head, side = family.split.train.spec.head, family.split.test
    np.testing.assert_allclose(head.decode(jnp.int32(5)), [0.0, 0.05])
    assert (head.width, family.horizon, family.recipe.span.steps) == (9, 100, 100)
    tasks = jax.jit(lambda key: sample_tasks(key, side, 300))(jax.random.key(7))
    size = np.abs(tasks.steering)
    (_, low), (_, high) = STEERING["steering"]
    assert 0.6 <= size.min() <= size.max() < high
    assert -low == 0.6
    assert abs((np.asarray(tasks.steering) > 0).mean() - 0.5) < 4.5 * 0.5 / np.sqrt(300)

    some = jax.tree.map(lambda leaf: leaf[:7], tasks)
    reached = np.asarray(jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(10), 7), some))
    assert np.median(reached) > 200 / 3  # most neither crash nor leave the road
    assert reached.max() <= 100


def test_the_permuted_family_permutes_its_actions(family, monkeypatch):
    monkeypatch.setattr(family_module, "highway", lambda vehicles: family)  # is slow to build
    family = family_module.permuted_highway()
    _, order = jax.jit(family.split.test.sample)(jax.random.key(8))
    np.testing.assert_array_equal(np.sort(order), np.arange(5))


@pytest.mark.parametrize(
    "make",
    [
        lambda: highway(vehicles=0),
        lambda: highway(vehicles=2.0),
        lambda: Highway(frequency=0),
        lambda: Highway(ticks=-1),
        lambda: highway(ranges={"wanted_speed": (30.0, 20.0)}),
        lambda: highway(ranges={"lanes": (0, 3)}),
        lambda: highway(ranges={"lanes": (1.5, 3)}),
        lambda: highway(ranges={"density": (0.0, 1.0)}),
        lambda: highway(ranges={"friction": ((0.5, 0.6), (0.9, 1.1))}),
        lambda: highway(ranges={"max_steps_in_episode": (10, 20)}),
    ],
)
def test_impossible_highways_are_refused_in_one_sentence(make):
    with pytest.raises(Misuse, match=r"^[^\n]+; [^\n]*\.(\n|$)"):
        make()


# --- the planner


def test_planned_returns_equal_those_of_a_loop():
    """A walk on a line whose rewards lie in a table; it ends at the right end, and wrong beliefs choose other actions."""
    rng, horizon, plans = np.random.default_rng(1), 9, np.array(list(itertools.product((-1, 1), repeat=3)))
    tables = rng.normal(size=(2, 8)).astype(np.float32)

    def step(key, table, place, action):
        place = jnp.clip(place + action, 0, 7)
        flag = jnp.zeros((), bool)
        return place, Step(place, place, table[place], place == 7, flag)

    def worth(table, place, actions):
        total = 0.0
        for action in actions:
            place = min(max(place + action, 0), 7)
            total += table[place]
            if place == 7:
                break
        return total, place

    @jax.jit
    def planned(key, table, believed):
        return planned_return(key, jnp.int32(plans), table, jnp.int32(3), step, horizon, believed)

    for believed in (None, tables[1]):
        place, total = 3, 0.0
        for _ in range(horizon):
            best = max(range(len(plans)), key=lambda i: worth(tables[0] if believed is None else believed, place, plans[i])[0])
            gained, place = worth(tables[0], place, plans[best][:1])
            total += gained
            if place == 7:
                break
        assert float(planned(jax.random.key(9), tables[0], believed)) == pytest.approx(total, abs=1e-5)


# --- the film


def test_a_film_follows_the_ego_and_colours_it(tmp_path):
    params = PAIR.default_params
    still = scene(PAIR, params, x=[50, 70.0], y=[4, 8], heading=[0, 0])
    states = jax.tree.map(lambda *x: np.stack(x), still, still.replace(x=still.x + 7, crashed=jnp.array([True, False])))
    frames = film(states, lanes=3)
    height, width = frames.shape[1:3]
    assert (frames.dtype, height, width) == (np.uint8, SCALE * (3 + 1) * 4, SCALE * 150)
    ego, driver = (SCALE * (4 + 4), SCALE * BACK), (SCALE * (8 + 4), SCALE * (BACK + 20))
    np.testing.assert_array_equal(frames[0][ego], EGO)
    np.testing.assert_array_equal(frames[1][ego], CRASHED)
    np.testing.assert_array_equal(frames[:, driver[0], driver[1]], [DRIVER] * 2)
    assert (frames[0] == EGO).all(-1).sum() == SCALE**2 * 10  # 5 m × 2 m
    figures.animation(tmp_path / "new" / "film.gif", {"before": frames, "after": frames[:1]}, per_second=5)
    with Image.open(tmp_path / "new" / "film.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (2, 200)
