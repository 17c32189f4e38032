"""Driving on a highway among drivers who follow and overtake: `highway-env` (Leurent 2018) in JAX, for gymnax."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metadqn_jax.checks import check_count
from metadqn_jax.environments import highway_traffic as traffic
from metadqn_jax.environments.highway_collisions import collide
from metadqn_jax.environments.highway_traffic import LANE, MOST_SPEED, SPEED_TIME, HighwayState
from metadqn_jax.types import Array

SEEN = 5  # vehicles in an observation, the ego first
SIGHT = 5 * MOST_SPEED  # metres
BEHIND = 10.0  # metres that one sees backwards
LEVELS = (20.0, 25.0, 30.0)  # the target speeds of meta-actions, at equal distances
LEFT, IDLE, RIGHT, FASTER, SLOWER = range(5)
ACCELERATION, STEERING = 5.0, jnp.pi / 4  # of the continuous actions ±1


@struct.dataclass
class HighwayParams(environment.EnvParams):
    """The task: the road, its drivers, the ego's response, and what is rewarded. The defaults are those of highway-fast-v0.

    A step gives − crash_weight · crashed + lane_weight · (1 − |lane / (lanes − 1) − wanted_lane|)
    + speed_weight · clip(1 − |v − wanted_speed| / speed_tolerance, 0, 1), scaled so that it lies within 0 and 1, and 0 off
    the road. The ego's forward speed v counts up to 30 m/s; its lane is the one that it heads for, if it heads for any.
    """

    lanes: int = 3
    density: float = 1.0  # of vehicles along the road, times the usual
    ego_spacing: float = 1.5  # times the usual gap in front of the first driver
    headway: float = 1.5  # seconds that drivers keep to the one in front
    traffic_speed: float = 22.5  # m/s, the mean of what drivers start with and desire
    speed_spread: float = 1.5  # m/s, half the range of these
    politeness: float = 0.0  # how much drivers who change lanes mind the others' accelerations
    response: float = 1.0  # the ego's accelerations, times the usual
    steering: float = 1.0  # the ego's sine of the slip angle, times the usual
    friction: float = 1.0  # the same two of everybody
    wanted_speed: float = 30.0
    speed_tolerance: float = 10.0
    wanted_lane: float = 1.0  # 0 is the leftmost, 1 the rightmost
    speed_weight: float = 0.4
    lane_weight: float = 0.1
    crash_weight: float = 1.0
    offroad_terminal: bool = False
    max_steps_in_episode: int = 30


class Highway(environment.Environment[HighwayState, HighwayParams]):
    """`vehicles` drivers (static) and the ego; crashes terminate, also those that are predicted within a tick.

    Actions are five, to the left, idle, to the right, faster, slower, or, if `continuous`, the acceleration and the steering
    in [−1, 1]², which stand for ±5 m/s² and ±45°. A step is `ticks` of 1 / `frequency` seconds each. Observations are
    [5, 5]: presence, x, y, vx, vy of the ego and of the four others nearest along the road, relative to it and scaled.
    `all_collide`: drivers crash into each other too. Raises `Misuse` on sizes < 1.

    The defaults are highway-fast-v0; highway-v0 is `Highway(50, frequency=15, all_collide=True)` with four lanes, an
    ego_spacing of 2 and 40 steps. As there, drivers take an ego of continuous actions for one who brakes hard, and never
    change to a lane right in front of it. Differs from highway-env: the road has no ends.
    """

    def __init__(
        self,
        vehicles: int = 20,
        continuous: bool = False,
        frequency: int = 5,
        ticks: int | None = None,
        all_collide: bool = False,
    ):
        super().__init__()
        self.vehicles = check_count("vehicles", vehicles)
        self.continuous = continuous
        self.seconds = 1 / check_count("frequency", frequency)
        self.ticks = frequency if ticks is None else check_count("ticks", ticks)
        self.tried = vehicles if all_collide else 1

    @property
    def default_params(self) -> HighwayParams:
        return HighwayParams()

    def reset_env(self, key, params):
        key_lane, key_speed, key_gap, key_exponent = jax.random.split(key, 4)
        n = self.vehicles + 1
        lane = jax.random.randint(key_lane, (n,), 0, params.lanes, jnp.int32)
        ego = jnp.arange(n) == 0
        drawn = params.traffic_speed + params.speed_spread * jax.random.uniform(key_speed, (n,), minval=-1.0)
        speed = jnp.where(ego, LEVELS[1], drawn)
        spacing = jnp.where(ego, params.ego_spacing, 1 / params.density)
        gap = spacing * (12 + speed) * jnp.exp(-params.lanes / 8)
        x = 3 * gap[0] + jnp.cumsum(gap * jax.random.uniform(key_gap, (n,), minval=0.9, maxval=1.1))
        y, zero, never = LANE * lane.astype(x.dtype), jnp.zeros_like(x), jnp.zeros(n, bool)
        state = HighwayState(
            x=x,
            y=y,
            heading=zero,
            speed=speed,
            target_lane=lane,
            target_speed=jnp.where(ego & self.continuous, 0.0, speed),
            timer=jnp.mod((x + y) * jnp.pi, traffic.LANE_CHANGE_DELAY),
            exponent=jax.random.uniform(key_exponent, (n,), minval=3.5, maxval=4.5),
            crashed=never,
            impact=jnp.zeros((n, 2), x.dtype),
            hit=never,
            time=jnp.zeros((), jnp.int32),
        )
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        state, _ = self.simulate(state, action, params)
        reward, terminated = self.reward(state, params), self.is_terminated(state, params)
        return self.observe(key, state, action, params), state, reward, terminated, {}

    def simulate(self, state: HighwayState, action: Array, params: HighwayParams) -> tuple[HighwayState, HighwayState]:
        """The state after one action, and those after each of its ticks, [ticks, …]."""
        if not self.continuous:
            state = head_for(state, action, params.lanes)

        def tick(carry, _):
            state, held = carry
            state, acceleration, slip = traffic.drive(state, params, follows=not self.continuous)
            if self.continuous:
                own, turn = held, steered(action)
            else:
                own, turn = reach * (state.target_speed[0] - state.speed[0]) / SPEED_TIME, slip[0]
            acceleration = traffic.limit(jnp.where(ego, own, params.friction * acceleration), state)
            slip = params.friction * jnp.where(ego, params.steering * turn, slip)
            state = collide(traffic.move(state, acceleration, slip, self.seconds), self.seconds, self.tried)
            return (state, acceleration[0]), state  # at its top speed a motor that was throttled stays so until the next action

        ego, reach = jnp.arange(self.vehicles + 1) == 0, params.response * params.friction
        held = reach * ACCELERATION * jnp.clip(action[0], -1, 1) if self.continuous else jnp.zeros_like(state.speed[0])
        (state, _), passed = jax.lax.scan(tick, (state, jnp.asarray(held, state.speed.dtype)), length=self.ticks)
        return dataclasses.replace(state, time=state.time + 1), passed

    def reward(self, state: HighwayState, params: HighwayParams) -> Array:
        """What a step that ends in `state` gives, [], within 0 and 1: the formula stands with `HighwayParams`."""
        on = traffic.lane_of(state.y[0], params.lanes)
        lane = on if self.continuous else state.target_lane[0]
        aside = jnp.abs(lane.astype(state.y.dtype) / jnp.maximum(params.lanes - 1, 1) - params.wanted_lane)
        forward = jnp.minimum(state.speed[0] * jnp.cos(state.heading[0]), LEVELS[-1])
        hurry = jnp.clip(1 - jnp.abs(forward - params.wanted_speed) / params.speed_tolerance, 0, 1)
        total = params.lane_weight * (1 - aside) + params.speed_weight * hurry - params.crash_weight * state.crashed[0]
        least, most = -params.crash_weight, params.lane_weight + params.speed_weight
        return self.on_road(state, params) * (total - least) / (most - least)

    def on_road(self, state, params):
        """Whether the ego's centre is on a lane, bool []."""
        return jnp.abs(state.y[0] - LANE * traffic.lane_of(state.y[0], params.lanes)) <= LANE / 2

    def observe(self, key, state, action, params):
        vx, vy = traffic.velocity(state)
        rows = jnp.stack([jnp.ones_like(vx), state.x, state.y, vx, vy], -1)
        relative = (rows - rows[:1]).at[:, 0].set(1)
        _, dx, dy, *_ = relative.T
        seen = (jnp.hypot(dx, dy) < SIGHT) & (dx > -BEHIND) & (jnp.arange(dx.size) > 0)
        others = min(SEEN - 1, self.vehicles)
        nearness, nearest = jax.lax.top_k(jnp.where(seen, -jnp.abs(dx), -jnp.inf), others)
        scale = jnp.stack([1, SIGHT, LANE * params.lanes, 2 * MOST_SPEED, 2 * MOST_SPEED])
        shown = jnp.where(jnp.isfinite(nearness)[:, None], relative[nearest], 0)
        shown = jnp.pad(jnp.concatenate([rows[:1], shown]), ((0, SEEN - 1 - others), (0, 0)))
        return jnp.clip(shown / scale[None], -1, 1)

    def is_terminated(self, state, params):
        return state.crashed[0] | (params.offroad_terminal & ~self.on_road(state, params))

    @property
    def num_actions(self) -> int:
        return 2 if self.continuous else 5

    def action_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (2,), jnp.float32) if self.continuous else spaces.Discrete(5)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (SEEN, 5), jnp.float32)


def head_for(state: HighwayState, action: Array, lanes: Array | int) -> HighwayState:
    """The state after the ego chose one of the five meta-actions; a lane further than two lanes' widths is out of reach."""
    change = jnp.where(action == RIGHT, 1, jnp.where(action == LEFT, -1, 0))
    lane = jnp.clip(state.target_lane[0] + change, 0, lanes - 1).astype(jnp.int32)
    lane = jnp.where(jnp.abs(state.y[0] - LANE * lane) <= 2 * LANE, lane, state.target_lane[0])
    last = len(LEVELS) - 1
    level = jnp.clip(jnp.round((state.speed[0] - LEVELS[0]) / (LEVELS[-1] - LEVELS[0]) * last), 0, last)
    level = jnp.clip(level + jnp.where(action == FASTER, 1, -1), 0, last).astype(jnp.int32)
    chosen = jnp.asarray(LEVELS, state.speed.dtype)[level]
    speed = jnp.where((action == FASTER) | (action == SLOWER), chosen, state.target_speed[0])
    return dataclasses.replace(
        state, target_lane=state.target_lane.at[0].set(lane), target_speed=state.target_speed.at[0].set(speed)
    )


def steered(action: Array) -> Array:
    """The sine of the slip angle for the steering `action[1]`."""
    half = jnp.tan(STEERING * jnp.clip(action[1], -1, 1)) / 2
    return half / jnp.sqrt(1 + half**2)
