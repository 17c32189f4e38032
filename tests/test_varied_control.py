"""Varied classic control: ranges, derived parameters, splits, Gymnasium's own steps, and the laws that stand for an optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.planners import control
from metadqn_jax.tasks import varied_control
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.tasks.varied_control import TABLE, succeeds, varied, varied_mountain_car
from metadqn_jax.types import Step

COUNT = 1_000
STATES = {
    "cartpole": ("x", "x_dot", "theta", "theta_dot"),
    "mountain_car": ("position", "velocity"),
    "acrobot": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "pendulum": ("theta", "theta_dot"),
}


@pytest.fixture(scope="module", params=TABLE)
def house(request):
    """A family's name, the family that is tested beyond its ranges, and tasks of both sides."""
    family = varied(request.param, "extrapolation")
    return request.param, family, tasks_of(family.split, jax.random.key(0))


def tasks_of(sides, key):
    """Tasks of each side, drawn with the same key."""
    return jax.jit(lambda key: [sample_tasks(jax.random.clone(key), side, COUNT) for side in sides])(key)


def test_parameters_are_uniform_within_their_ranges(house):
    stats = pytest.importorskip("scipy.stats")
    name, _, (train, test) = house
    for fields, ranges in TABLE[name].parameters.items():
        for tasks, intervals in ((train, (ranges.normal,)), (test, ranges.extreme)):
            values = np.asarray(getattr(tasks, fields[0]), np.float64)
            inside = [(low * (1 - 1e-7) <= values) & (values < high) for low, high in intervals]
            assert np.sum(inside, 0).min() == 1, (name, fields)
            sizes = np.array([high - low for low, high in intervals])
            before = np.cumsum(sizes) - sizes
            place = sum(hit * (values - low + start) for hit, (low, _), start in zip(inside, intervals, before, strict=True))
            assert stats.kstest(place / sizes.sum(), "uniform").pvalue > 1e-4
            for other in fields[1:]:
                np.testing.assert_array_equal(getattr(tasks, other), getattr(tasks, fields[0]))


def test_the_ranges_are_those_of_the_paper():
    for one in TABLE.values():
        for default, (low, high), ((lowest, below), (above, highest)) in one.parameters.values():
            assert lowest < below == low < default < high == above < highest
    shown = {name: [tuple(r) for r in one.parameters.values()] for name, one in TABLE.items()}
    link = (1.0, (0.75, 1.25), ((0.5, 0.75), (1.25, 1.5)))
    assert shown == {
        "cartpole": [
            (10.0, (5.0, 15.0), ((1.0, 5.0), (15.0, 20.0))),
            (0.5, (0.25, 0.75), ((0.05, 0.25), (0.75, 1.0))),
            (0.1, (0.05, 0.5), ((0.01, 0.05), (0.5, 1.0))),
        ],
        "mountain_car": [
            (0.001, (0.0005, 0.005), ((0.0001, 0.0005), (0.005, 0.01))),
            (0.0025, (0.001, 0.005), ((0.0005, 0.001), (0.005, 0.01))),
        ],
        "acrobot": [link] * 3,
        "pendulum": [link] * 2,
    }


def test_parameters_vary_independently_and_nothing_else_does(house):
    name, family, both = house
    drawn = {field for fields in TABLE[name].parameters for field in fields}
    derived = {"total_mass", "polemass_length"} if name == "cartpole" else set()
    for tasks in both:
        columns = np.stack([getattr(tasks, fields[0]) for fields in TABLE[name].parameters])
        bound = 4.5 / np.sqrt(COUNT)
        assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < bound
        for field in set(vars(tasks)) - drawn - derived:
            assert len(np.unique(np.asarray(getattr(tasks, field)), axis=0)) == 1, field
        assert set(np.asarray(tasks.max_steps_in_episode)) == {family.horizon}
        if derived:
            np.testing.assert_allclose(tasks.total_mass, 1.0 + tasks.masspole, rtol=1e-6)
            np.testing.assert_allclose(tasks.polemass_length, tasks.masspole * tasks.length, rtol=1e-6)


def test_features_are_zero_at_the_default(house):
    name, family, (train, test) = house
    at_default = default_physics(name, jax.tree.map(lambda leaf: leaf[0], train))
    np.testing.assert_allclose(family.features(at_default), 0.0, atol=1e-6)
    shown = [np.abs(jax.vmap(family.features)(tasks)) for tasks in (train, test)]
    assert (shown[0].max(0) < shown[1].max(0)).all()
    assert shown[1].max() <= np.log(10) + 1e-5  # E reaches from a tenth to ten times the default


def test_interpolation_trains_on_the_same_tasks_and_tests_on_others():
    within, beyond = varied_mountain_car(), varied("mountain_car", "extrapolation")
    drawn = tasks_of((*within.split, beyond.split.train), jax.random.key(1))
    train, test, same = (set(zip(tasks.force.tolist(), tasks.gravity.tolist(), strict=True)) for tasks in drawn)
    assert train == same
    assert not train & test
    forces = np.array(sorted(test))[:, 0]
    assert (forces.min() < 0.0006, forces.max() > 0.0049) == (True, True)  # all over R


# --- Gymnasium


def default_physics(name, task):
    changes = {field: jnp.float32(r.default) for fields, r in TABLE[name].parameters.items() for field in fields}
    if name == "cartpole":
        changes |= {"total_mass": jnp.float32(1.1), "polemass_length": jnp.float32(0.05)}
    return task.replace(**changes)


SWINGS = {"mountain_car": [1.0, 200.0, 0.0], "acrobot": [-0.7, 0.7], "pendulum": [0.0, 0.4, 0.0, 1.0]}


def drive(name, rng, task, world, t):
    """Actions that cross much of the state space, and end an episode where one can end."""
    if name == "cartpole":
        return jnp.int32(rng.integers(2))
    wanted = TABLE[name].laws[0](jnp.array(SWINGS[name]), task, world, jnp.int32(t))
    return jnp.asarray(rng.uniform(-2.5, 2.5, 1), jnp.float32) if name == "pendulum" and t % 3 == 0 else wanted


def test_default_physics_agree_with_gymnasium_step_by_step(house):
    gymnasium = pytest.importorskip("gymnasium")
    name, family, (train, _) = house
    task, rng = default_physics(name, jax.tree.map(lambda leaf: leaf[0], train)), np.random.default_rng(0)
    twin, scale = gymnasium.make(TABLE[name].env).unwrapped, np.array(TABLE[name].scale)
    start, _ = twin.reset(seed=0)
    world, obs = jax.jit(family.split.train.reset)(jax.random.key(2), task)
    world = world.replace(**dict(zip(STATES[name], map(jnp.float32, twin.state), strict=True)))
    assert obs.shape == start.shape
    step, ended = jax.jit(family.split.train.step), False
    for t, key in enumerate(jax.random.split(jax.random.key(3), 150)):
        twin.state = np.array([getattr(world, field) for field in STATES[name]], np.float64)
        action = drive(name, rng, task, world, t)
        world, ours = step(key, task, world, action)
        obs, reward, ended, *_ = twin.step(np.asarray(action) if name == "pendulum" else int(action))
        np.testing.assert_allclose(ours.transition_obs / scale, obs, rtol=1e-5, atol=2e-5)
        assert float(ours.reward) == pytest.approx(reward, rel=1e-5, abs=1e-5)
        assert bool(ours.terminated) == ended
        if ended:
            break
    assert ended == (name != "pendulum")


# --- the optimum


def test_best_of_is_the_best_law_until_its_episode_ends():
    """A world that counts up by the action, pays what it counts, and ends at 5 or after 4 steps."""
    numbers = jnp.array([[1.0], [2.0], [5.0], [-1.0]])

    def step(key, task, world, action):
        place, time = world[0] + action, world[1] + 1
        zero = jnp.zeros(())
        return (place, time), Step(zero, zero, jnp.where(time == task, 10.0, place), place >= 5, time == 4)

    def reached(law, bonus):
        place, total = 0.0, 0.0
        for t in range(1, 7):
            place += law
            total += 10.0 if t == bonus else place
            if place >= 5 or t == 4:
                return total

    def law(numbers, task, world, t):
        return numbers[0]

    for bonus in (1, 3, 5, 9):
        got = control.best_of(jax.random.key(4), numbers, law, jnp.int32(bonus), (jnp.float32(0), jnp.int32(0)), step, 7)
        assert float(got) == max(reached(float(one), bonus) for one in numbers[:, 0])


def optima(name, family, train, count=24):
    """Starts and optima of the default physics."""
    task = default_physics(name, jax.tree.map(lambda leaf: leaf[0], train))

    def one(key):
        return family.split.train.reset(jax.random.split(key)[0], task)[0], family.optimum(jax.random.clone(key), task)

    worlds, values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), count))
    return np.stack([getattr(worlds, field) for field in STATES[name]], 1).astype(float), np.asarray(values)


def fewest_steps_up_the_hill(position):
    """Breadth first over states that are told apart in cells of 1e-3 and 1e-4, with MountainCar's default physics."""
    places, speeds = np.array([position]), np.zeros(1)
    seen = np.zeros((2_000, 1_500), bool)
    for t in range(1, 201):
        speeds = (speeds[:, None] + 0.001 * np.array([-1, 0, 1]) - 0.0025 * np.cos(3 * places)[:, None]).clip(-0.07, 0.07)
        places, speeds = (places[:, None] + speeds).clip(-1.2, 0.6).ravel(), speeds.ravel()
        speeds = np.where((places == -1.2) & (speeds < 0), 0, speeds)
        if places.max() >= 0.5:
            return t
        cells = np.round((places + 1.2) * 1e3).astype(int), np.round((speeds + 0.07) * 1e4).astype(int)
        _, first = np.unique(cells[0] * 1_500 + cells[1], return_index=True)
        first = first[~seen[cells][first]]
        seen[cells] = True
        places, speeds = places[first], speeds[first]


def pendulum_values(starts, size=161):
    """Value iteration over 200 steps on a grid of angles and speeds with linear interpolation."""
    angles, speeds = np.linspace(-np.pi, np.pi, size), np.linspace(-8, 8, size)
    theta, omega = np.meshgrid(angles, speeds, indexing="ij")
    value = np.zeros((size, size))

    def at(value, theta, omega):
        x, y = (theta + np.pi) % (2 * np.pi) / (angles[1] - angles[0]), (omega + 8) / (speeds[1] - speeds[0])
        i, j = np.minimum(x.astype(int), size - 2), np.minimum(y.astype(int), size - 2)
        x, y = x - i, y - j
        left, right = (value[i + a, j] * (1 - y) + value[i + a, j + 1] * y for a in (0, 1))
        return left * (1 - x) + right * x

    for _ in range(200):
        worth = []
        for torque in (-2, -1, 0, 1, 2):
            fast = (omega + 0.05 * (15 * np.sin(theta) + 3 * torque)).clip(-8, 8)
            worth.append(at(value, theta + 0.05 * fast, fast) - 0.001 * torque**2)
        value = np.max(worth, 0) - theta**2 - 0.1 * omega**2
    return at(value, starts[:, 0], starts[:, 1])


def test_the_optimum_is_near_what_planning_finds(house):
    name, family, (train, _) = house
    starts, values = optima(name, family, train)
    assert len(np.unique(starts[:, 0])) == len(starts)
    if name == "cartpole":
        assert set(values) == {200.0}
    elif name == "mountain_car":
        best = np.array([-fewest_steps_up_the_hill(start) for start in starts[:8, 0]])
        assert (np.abs(values[:8] - best) <= 2).all(), (values[:8], best)
    elif name == "pendulum":
        best = pendulum_values(starts)
        assert np.median(np.abs(values - best)) < 2, (values, best)  # where trajectories part, the grid blurs values
        assert abs(values.mean() - best.mean()) < 0.06 * abs(best.mean()), (values.mean(), best.mean())
    else:
        assert succeeds(name, values).all()
        assert values.mean() > -75  # DQN and PPO end near −80


# --- success, trials, names


@pytest.mark.parametrize(("name", "least"), [("cartpole", 195.0), ("mountain_car", -110.0), ("acrobot", -89.0)])
def test_success_is_the_papers(name, least):
    returns = jnp.array([[least - 1, least], [least + 1, -1e3]])
    np.testing.assert_array_equal(succeeds(name, returns), [[False, True], [True, False]])


def test_families_can_be_lived_through_in_trials(house):
    name, family, _ = house
    trials = in_trials(family)
    assert trials.split.test.spec.observation.shape == (len(TABLE[name].scale) + 2,)
    assert trials.recipe.span.segments == 2 * family.horizon


def test_what_has_no_name_is_refused():
    for build in (lambda: varied("swimmer"), lambda: varied("cartpole", "E"), lambda: succeeds("pendulum", jnp.zeros(1))):
        with pytest.raises(Misuse, match=r"^[^\n]*; [^\n]*\.$"):
            build()


def test_each_family_has_its_function(monkeypatch):
    monkeypatch.setattr(varied_control, "varied", lambda *given: given)
    for name in TABLE:
        factory = getattr(varied_control, f"varied_{name}")
        assert (factory(), factory("extrapolation")) == ((name, "interpolation"), (name, "extrapolation"))
