"""Robots of MuJoCo, simulated in JAX by MJX: bodies, friction and a goal that is never shown belong to the task."""

import functools
import os
import pathlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metadqn_jax.checks import check_installed, check_name
from metadqn_jax.types import Array

LINK = 0.5  # metres, of the arm's two links
TOP_SPEED = 3.0  # m/s in the wanted direction, faster counts no more
EFFORT = 0.05  # what the square of an action costs a cheetah
FEW = 4  # threads, of which as many may wait as MJX factorises matrices side by side


@struct.dataclass
class RobotState(environment.EnvState):
    """Where the joints are, how fast they move, the last accelerations (where the solver starts), and the steps taken."""

    position: jax.Array  # [nq], metres and rad
    velocity: jax.Array  # [nv], m/s and rad/s
    acceleration: jax.Array  # [nv]
    time: Any  # int32 []


@struct.dataclass
class RobotParams(environment.EnvParams):
    """The task: the goal, in its kind's own units, and the robot's numbers, each times the usual one."""

    goal: Any = None
    mass: Any = None  # [bodies], of each body, its inertia included
    friction: float = 1.0  # between the ground and what touches it
    damping: float = 1.0  # in all joints
    max_steps_in_episode: int = 200


class Kind(NamedTuple):
    """One robot with one sort of goal.

    file: of its model.   frames: simulated for each step.   goal: the usual one.   horizon: in steps.
    observe: (position, velocity) -> [n].   reward: (goal, before, after, action, seconds) -> [], of two RobotStates.
    """

    file: str
    frames: int
    goal: tuple[float, ...]
    horizon: int
    observe: Callable[[Array, Array], Array]
    reward: Callable[..., Array]


def tip(position: Array) -> Array:
    """Where the arm's tip is, [2], by its two angles."""
    angles = jnp.cumsum(position)
    return LINK * jnp.stack([jnp.cos(angles).sum(), jnp.sin(angles).sum()])


def _forward(before, after, seconds):
    return (after.position[0] - before.position[0]) / seconds


def _at_speed(goal, before, after, action, seconds):
    return -jnp.abs(_forward(before, after, seconds) - goal[0]) - EFFORT * jnp.sum(action**2)


def _onwards(goal, before, after, action, seconds):
    along = goal[0] * _forward(before, after, seconds)
    return jnp.minimum(along, TOP_SPEED) - EFFORT * jnp.sum(action**2)


def _near(goal, before, after, action, seconds):
    return -jnp.sqrt(jnp.sum((tip(after.position) - goal) ** 2))


def _but_for_its_place(position, velocity):
    return jnp.concatenate([position[1:], velocity])


def _angles(position, velocity):
    return jnp.concatenate([jnp.cos(position), jnp.sin(position), tip(position), velocity])


_cheetah = {"file": "cheetah", "frames": 5, "horizon": 200, "observe": _but_for_its_place}
KINDS = {
    "cheetah at a velocity": Kind(**_cheetah, goal=(1.0,), reward=_at_speed),
    "cheetah in a direction": Kind(**_cheetah, goal=(1.0,), reward=_onwards),
    "arm": Kind("arm", 2, (0.5, 0.5), 50, _angles, _near),
}


@functools.cache
def load(name: str) -> Any:
    """The `mujoco.MjModel` of the robot called `name`. Raises `Misuse` without the extra `robots`."""
    mujoco = check_installed("mujoco", "robots")
    return mujoco.MjModel.from_xml_path(str(pathlib.Path(__file__).with_name(f"{name}.xml")))


class Robot(environment.Environment[RobotState, RobotParams]):
    """One of `KINDS`. Actions are its motors' torques in [−1, 1], as shares of the strongest; those beyond are clipped.

    A cheetah runs in the plane: steps of 0.05 s; observed are its height, its angles and all velocities [17]. At a velocity
    (Finn et al. 2017, MAML, section 5.3) the reward is −|v − goal| − 0.05 ‖action‖², v being its mean forward velocity in a
    step; in a direction, ±1, it is goal · v, but no more than 3, − 0.05 ‖action‖². An arm of two links moves freely in a
    horizontal plane, also in steps of 0.05 s; observed are the angles' cosines and sines, the tip, and the velocities [8]; the
    reward is minus the tip's distance from the goal. Nothing terminates; episodes begin at rest, within 0.1 of the first pose.

    Differs from the paper: contacts are fewer (`cheetah.xml`), and the top speed. Of a body with another mass, MuJoCo's
    `invweight0` is left as it was: the softness of its contacts and limits alone depends on it. The cheetah's solver iterates
    four times: once is faster, but throws some into the air, until they are NaN; with `solver`, options of MuJoCo that are to
    be others, such as iterations=40, it follows MuJoCo to 1e-8.
    Raises `Misuse` on names, and without the extra `robots`. Warns on a CPU of few threads, where jaxlib may wait for ever.
    """

    def __init__(self, kind: str, **solver: Any):
        super().__init__()
        _warn_of_threads()
        self.kind = check_name("robot", kind, KINDS)
        mjx = check_installed("mujoco.mjx", "robots")
        self.model = load(self.kind.file)
        self.physics = mjx.put_model(self.model)
        self.physics = self.physics.replace(opt=self.physics.opt.replace(**solver))
        self.seconds = self.kind.frames * self.model.opt.timestep
        self.rest = mjx.make_data(self.physics)

    @property
    def default_params(self) -> RobotParams:
        kind = self.kind
        return RobotParams(goal=jnp.array(kind.goal), mass=jnp.ones(self.model.nbody - 1), max_steps_in_episode=kind.horizon)

    def reset_env(self, key, params):
        position = self.rest.qpos + 0.1 * jax.random.uniform(key, self.rest.qpos.shape, minval=-1.0, maxval=1.0)
        still = jnp.zeros(self.model.nv, position.dtype)
        state = RobotState(position=position, velocity=still, acceleration=still, time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        action = jnp.clip(action, -1.0, 1.0)
        with jax.numpy_rank_promotion("allow"):  # MJX promotes ranks
            after = _simulate(self.physics, self.rest, params, state, action, self.kind.frames)
        reward = self.kind.reward(params.goal, state, after, action, self.seconds)
        return self.observe(key, after, action, params), after, reward, self.is_terminated(after, params), {}

    def observe(self, key, state, action, params):
        return self.kind.observe(state.position, state.velocity)

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return self.model.nu

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.model.nu,), jnp.float32)

    def observation_space(self, params):
        count = jax.eval_shape(self.kind.observe, self.rest.qpos, jnp.zeros(self.model.nv)).shape
        return spaces.Box(-jnp.inf, jnp.inf, count, jnp.float32)


def _warn_of_threads():
    """On a CPU, as many batched factorisations side by side as jaxlib has threads never end (tests/test_jaxlib.py)."""
    threads = int(os.environ.get("PJRT_NPROC") or os.environ.get("NPROC") or os.cpu_count() or 1)
    if jax.default_backend() == "cpu" and 1 < threads <= FEW:
        message = "jaxlib with %d threads on a CPU may wait for ever in MJX; set PJRT_NPROC=1 before Python starts."
        warnings.warn(message % threads, stacklevel=3)


@functools.partial(jax.jit, static_argnames="frames")  # traced once, wherever it is used, for all tasks
def _simulate(physics, rest, params, state, torques, frames):
    """The state after `frames` steps of MJX. What it does not carry from frame to frame is computed anew from what it does."""
    mjx = check_installed("mujoco.mjx", "robots")

    mass = jnp.concatenate([jnp.ones(1, params.mass.dtype), params.mass])  # MuJoCo's first body is the world
    varied = physics.replace(
        body_mass=physics.body_mass * mass,
        body_inertia=physics.body_inertia * mass[:, None],
        geom_friction=physics.geom_friction * params.friction,
        dof_damping=physics.dof_damping * params.damping,
    )

    def frame(_, moving):
        position, velocity, acceleration = moving
        now = rest.replace(qpos=position, qvel=velocity, qacc_warmstart=acceleration, ctrl=torques)
        after = mjx.step(varied, now)
        return after.qpos, after.qvel, after.qacc_warmstart

    moving = state.position, state.velocity, state.acceleration
    position, velocity, acceleration = jax.lax.fori_loop(0, frames, frame, moving)
    return RobotState(position=position, velocity=velocity, acceleration=acceleration, time=state.time + 1)
