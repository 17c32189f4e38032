"""Robots step by step against MuJoCo itself in float64, the cheetah against Gymnasium's, and their families."""

import copy
import functools
import pathlib
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.robots import KINDS, TOP_SPEED, Robot, RobotState, load, tip
from metadqn_jax.environments.robots_film import BODY, EARTH, GOAL, SCALE, STRIPE, VIEWS, film
from metadqn_jax.evaluation import optimal_returns
from metadqn_jax.living import epsilon_greedy, rollout, start
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.robots import BODIES, arm, cheetah
from metadqn_jax.tasks.splits import fingerprint

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.mjx")
pytestmark = pytest.mark.xdist_group("robots")  # one worker compiles the physics once

DRAWS = 300
SOLVED = {"iterations": 40, "ls_iterations": 50, "tolerance": 0}  # to the end: what then differs is rounding
STEPS = {"arm": 200, "cheetah at a velocity": 120}  # of 0.05 s each


def twin_of(env, params):
    """MuJoCo's own model and data with these parameters, solved to the end."""
    model = copy.deepcopy(env.model)
    mass = np.r_[1.0, np.asarray(params.mass)]
    model.body_mass[:] *= mass
    model.body_inertia[:] *= mass[:, None]
    model.geom_friction[:] *= float(params.friction)
    model.dof_damping[:] *= float(params.damping)
    model.opt.iterations, model.opt.ls_iterations, model.opt.tolerance = 100, 50, 1e-15
    return model, mujoco.MjData(model)


def expected_reward(name, goal, x, data, action, seconds):
    if name == "arm":
        shoulder, elbow = data.qpos
        reached = 0.5 * np.array([np.cos(shoulder) + np.cos(shoulder + elbow), np.sin(shoulder) + np.sin(shoulder + elbow)])
        return -np.linalg.norm(reached - goal)
    return -abs((data.qpos[0] - x) / seconds - goal[0]) - 0.05 * (action**2).sum()


def expected_observation(name, data):
    if name == "arm":
        q, ends = data.qpos, data.xpos[2] + 0.5 * data.xmat[2].reshape(3, 3)[:, 0]
        return np.concatenate([np.cos(q), np.sin(q), ends[:2], data.qvel])
    return np.concatenate([data.qpos[1:], data.qvel])


@pytest.mark.parametrize("name", STEPS)
def test_every_step_equals_that_of_mujoco(name):
    with jax.enable_x64(True):
        rng, env = np.random.default_rng(0), Robot(name, **SOLVED)
        mass = rng.uniform(*BODIES, env.model.nbody - 1)
        goal = np.array(KINDS[name].goal) * 0.8
        params = env.default_params.replace(goal=goal, mass=jnp.asarray(mass), friction=0.7, damping=1.3)
        model, data = twin_of(env, params)
        step = jax.jit(lambda state, action, goal: env.step_env(jax.random.key(0), state, action, params.replace(goal=goal)))
        _, state = env.reset_env(jax.random.key(1), params)
        data.qpos[:] = state.position
        touched, stopped = 0, 0
        for t in range(STEPS[name]):
            action = rng.uniform(-1.5, 1.5, model.nu) if t % 4 == 0 else action  # noqa: F821
            x = data.qpos[0]
            obs, state, reward, terminated, _ = step(state, jnp.asarray(action), goal)
            data.ctrl[:] = np.clip(action, -1, 1)
            mujoco.mj_step(model, data, env.kind.frames)
            touched, stopped = touched + (data.ncon > 0), stopped + (data.nl > 0)
            np.testing.assert_allclose(state.position, data.qpos, atol=1e-8)
            np.testing.assert_allclose(state.velocity, data.qvel, atol=1e-7)
            wanted = expected_reward(name, goal, x, data, data.ctrl, 0.05)
            assert float(reward) == pytest.approx(wanted, abs=1e-7)
            mujoco.mj_kinematics(model, data)
            np.testing.assert_allclose(obs, expected_observation(name, data), atol=1e-7)
            assert not terminated
        assert name == "arm" or min(touched, stopped) > 10  # the ground and the joints' limits were met
        seen, after, other, *_ = step(state, jnp.asarray(action), -goal)
        same, before, reward, *_ = step(state, jnp.asarray(action), goal)
        assert (seen == same).all()  # a goal changes the reward alone
        assert (after.velocity == before.velocity).all()
        assert abs(float(other - reward)) > 0.01


def test_the_cheetah_is_gymnasiums_but_for_its_contacts():
    path = pathlib.Path(gymnasium.__file__).parent / "envs/mujoco/assets/half_cheetah.xml"
    text = path.read_text().replace('<size nstack="300000" nuser_geom="1"/>', "")
    heavy = mujoco.MjModel.from_xml_string(text.replace(' settotalmass="14"', ""))
    ours = load("cheetah")
    weight = 14 / heavy.body_mass.sum()
    np.testing.assert_allclose(ours.body_mass, heavy.body_mass * weight, rtol=1e-9)
    np.testing.assert_allclose(ours.body_inertia, heavy.body_inertia * weight, rtol=1e-9)
    for field in (
        *("qpos0", "body_pos", "body_ipos", "body_iquat", "jnt_type", "jnt_axis", "jnt_range", "jnt_limited", "jnt_stiffness"),
        *("jnt_solref", "jnt_solimp", "dof_damping", "dof_armature", "geom_size", "geom_pos", "geom_quat", "geom_friction"),
        *("geom_solref", "geom_solimp", "actuator_gear", "actuator_ctrlrange", "actuator_trnid"),
    ):
        np.testing.assert_allclose(getattr(ours, field), getattr(heavy, field), atol=1e-12, err_msg=field)
    assert ours.opt.timestep == heavy.opt.timestep
    np.testing.assert_array_equal(ours.opt.gravity, heavy.opt.gravity)


def test_in_a_direction_speed_counts_up_to_the_top():
    still = RobotState(position=jnp.zeros(9), velocity=jnp.zeros(9), acceleration=jnp.zeros(9), time=0)
    reward, action = KINDS["cheetah in a direction"].reward, jnp.full(6, 0.5)
    for way, wanted in ((0.1, 2.0), (-0.1, -2.0), (0.5, TOP_SPEED)):
        moved = still.replace(position=still.position.at[0].set(way))
        for goal in (1.0, -1.0):
            want = min(goal * way / 0.05, TOP_SPEED) if goal < 0 else wanted
            assert float(reward(jnp.array([goal]), still, moved, action, 0.05)) == pytest.approx(want - 0.05 * 6 * 0.25)


@functools.cache
def family_of(name):
    return arm() if name == "arm" else cheetah(name)


@pytest.fixture(scope="module", params=["arm", "velocity", "direction"])
def named(request):
    return request.param, family_of(request.param)


def test_tasks_their_goals_and_their_two_sides(named):
    name, family = named
    sides = [jax.jit(lambda key, side=side: sample_tasks(key, side, DRAWS))(jax.random.key(0)) for side in family.split]
    prints = [set(jax.vmap(fingerprint)(tasks).tolist()) for tasks in sides]
    assert [len(one) for one in prints] == [DRAWS, DRAWS]
    assert not prints[0] & prints[1]
    for tasks in sides:
        factors = [tasks.mass, (tasks.damping if name == "arm" else tasks.friction)[:, None]]
        factors = np.concatenate(factors, 1)
        assert (factors >= BODIES[0]).all()
        assert (factors < BODIES[1]).all()
        assert np.abs(factors.mean(0) - 1).max() < 4.5 * 0.289 / DRAWS**0.5
        assert np.abs(np.corrcoef(factors.T) - np.eye(factors.shape[1])).max() < 4.5 / DRAWS**0.5
        shown = np.asarray(jax.vmap(family.features)(tasks))
        assert np.abs(shown).max() <= 2
        assert len(np.unique(shown, axis=0)) == DRAWS
        if name == "arm":
            radius = np.linalg.norm(tasks.goal, axis=1)
            assert 0.3 <= radius.min() < radius.max() <= 0.9
            assert abs((radius**2).mean() - 0.45) < 4.5 * 0.208 / DRAWS**0.5  # uniform over the area
            assert np.abs(tasks.goal.mean(0)).max() < 4.5 * 0.48 / DRAWS**0.5
        elif name == "velocity":
            assert 0 <= tasks.goal.min() < 0.1 < 1.9 < tasks.goal.max() <= 2
        else:
            assert set(np.unique(tasks.goal)) == {-1, 1}
            assert abs(tasks.goal.mean()) < 4.5 / DRAWS**0.5
    known = {"arm": None, "velocity": 0.0, "direction": TOP_SPEED * 200}[name]
    task = jax.tree.map(lambda leaf: leaf[0], sides[1])
    assert known is None or float(family.optimum(jax.random.key(1), task)) == known
    assert family.trial.span.segments % family.horizon == 0


@pytest.fixture(scope="module")
def lived():
    """(the family, tasks [8], streams of 60 random steps in each, with [8, 60])."""
    family = family_of("arm")
    test = family.split.test

    def one(key):
        keys = jax.random.split(key, 3)
        task = test.sample(keys[0])
        act = lambda key, t, noise, obs: (noise, test.spec.head.sample(key))  # noqa: E731
        return task, rollout(keys[2], act, test, task, start(keys[1], test, task), 60)[1]

    return family, *jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 8))


def test_episodes_last_their_horizon_and_begin_at_rest(lived):
    _, _, seen = lived
    assert not seen.terminated.any()
    assert (np.asarray(seen.truncated) == (np.arange(60) == 49)).all()
    for first in (0, 50):
        obs = np.asarray(seen.obs)[:, first]
        assert (obs[:, 6:] == 0).all()
        angles = np.arctan2(obs[:, 2:4], obs[:, :2])
        assert np.abs(angles).max() <= 0.1
        assert len(np.unique(angles)) == angles.size
    np.testing.assert_array_equal(seen.obs[:, 1:50], seen.next_obs[:, :49])
    assert (np.abs(seen.obs[:, 50] - seen.next_obs[:, 49]).max(1) > 0.1).all()


def test_the_reward_of_an_arm_is_seen_at_its_tip(lived):
    _, tasks, seen = lived
    apart = np.linalg.norm(np.asarray(seen.next_obs)[..., 4:6] - np.asarray(tasks.goal)[:, None], axis=-1)
    np.testing.assert_allclose(seen.reward, -apart, atol=1e-5)


def test_who_knows_the_place_goes_there(lived):
    family, tasks, _ = lived
    reached = np.asarray(jax.jit(lambda key: optimal_returns(key, family.optimum, tasks))(jax.random.key(2)))
    apart = np.linalg.norm(np.array([1.0, 0.0]) - np.asarray(tasks.goal), axis=1)
    assert (reached > -0.45 * 50 * apart).all()  # who stays where he is gets all of it
    assert (reached < -0.5 * apart).all()  # nobody is there at once


@pytest.mark.slow
def test_no_cheetah_is_thrown_into_the_air():
    """With one iteration of the solver some of 128 that move at random are."""
    tasks = family_of("direction").split.train
    random = epsilon_greedy(tasks.spec.head, lambda obs: jnp.zeros(tasks.spec.head.width), lambda t: 1.0)

    def one(key):
        keys = jax.random.split(key, 3)
        task = tasks.sample(keys[0])
        seen = rollout(keys[2], random, tasks, task, start(keys[1], tasks, task), 200)[1]
        return jnp.abs(seen.next_obs).max()

    most = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 128)))
    assert (most < 12).all()  # 120 rad/s
    assert np.median(most) > 2  # they do move


def test_film_shows_the_robot_the_ground_and_the_goal():
    positions = np.zeros((2, 9))
    positions[1, 0] = 0.25
    frames = film("cheetah", positions)
    view = VIEWS["cheetah"]
    assert frames.shape == (2, round(1.6 * SCALE), round(3.6 * SCALE), 3)
    row, column = round((view.high[1] - 0.7) * SCALE), round(-view.low[0] * SCALE)
    for frame in frames:  # the camera follows the torso, which stands 0.7 m high
        assert (frame[row, column - 30 : column + 30] == BODY).all()
        assert not (frame[: row - 30] == BODY).all(-1).any()
        assert set(map(tuple, frame[-1])) == {tuple(EARTH), tuple(STRIPE)}
    assert (frames[0, -1, column:] == EARTH).all(-1)[: SCALE - 1].all()
    assert not (frames[0, -1] == frames[1, -1]).all()
    (frame,) = film("arm", np.array([[np.pi / 2, 0.0]]), np.array([-0.6, 0.3]))
    upright = frame[round((1.2 - 0.5) * SCALE), round(1.2 * SCALE)]
    spot = frame[round((1.2 - 0.3) * SCALE), round((1.2 - 0.6) * SCALE)]
    assert (upright == BODY).all()
    assert (spot == GOAL).all()
    np.testing.assert_allclose(tip(jnp.array([jnp.pi / 2, 0.0])), [0.0, 1.0], atol=1e-6)


def test_mistakes_are_told_in_one_sentence(monkeypatch):
    with pytest.raises(Misuse, match="unknown goal 'backflip'; choose one of: direction, velocity"):
        cheetah("backflip")
    with pytest.raises(Misuse, match="unknown robot 'dog'"):
        Robot("dog")
    monkeypatch.setitem(sys.modules, "mujoco.mjx", None)
    for build in (arm, cheetah):
        with pytest.raises(Misuse, match=r'mujoco must be installed, .*; pip install "\.\[robots\]" in the repository\.'):
            build()


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_a_cpu_of_few_threads_is_warned_of(threads, monkeypatch):
    monkeypatch.setenv("PJRT_NPROC", str(threads))
    if threads == 2:
        with pytest.warns(UserWarning, match="set PJRT_NPROC=1"):
            Robot("arm")
    else:
        Robot("arm")  # a warning would be an error here
