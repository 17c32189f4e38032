"""Traffic on a straight road: the intelligent driver model, lane changes by MOBIL, a bicycle's kinematics, and collisions.

The equations and numbers are those of the package `highway-env` 1.12 (Leurent 2018), from Treiber et al. (2000) for speeds
and Kesting et al. (2007) for lanes. Axes: n vehicles, the first of which is the ego; metres, seconds, radians; y points to the
right, and lane l is centred on 4 l. The road has no ends.
Differs from highway-env: `response`, `steering` and `friction` scale what vehicles do, and are 1 there.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from metadqn_jax.types import Array

LENGTH, WIDTH = 5.0, 2.0  # of a vehicle
LANE = 4.0  # a lane's width
SPEED_LIMIT, MOST_SPEED = 30.0, 40.0  # the first is for drivers, the second for motors
COMFORT, BRAKING, MOST_ACCELERATION = 3.0, 5.0, 6.0
JAM = 10.0  # the distance that drivers keep in a jam, between centres
MOST_SLIP = 0.6546536707079771  # sin(atan(tan(60°) / 2)), of the sharpest steering
HEADING_TIME, LATERAL_TIME, SPEED_TIME = 0.2, 0.6, 0.6  # of the controllers
LANE_CHANGE_DELAY, LEAST_GAIN, MOST_IMPOSED = 1.0, 0.2, 2.0  # MOBIL's


@struct.dataclass
class HighwayState(environment.EnvState):
    """All vehicles, the ego first, and the actions taken in this episode."""

    x: jax.Array  # [n]
    y: jax.Array  # [n]
    heading: jax.Array  # [n]
    speed: jax.Array  # [n]
    target_lane: jax.Array  # int32 [n]
    target_speed: jax.Array  # [n]; 0 for an ego that steers by itself
    timer: jax.Array  # [n]: since a driver last thought about changing lanes
    exponent: jax.Array  # [n]: δ of the driver's model
    crashed: jax.Array  # bool [n]
    impact: jax.Array  # [n, 2]: by how much a predicted overlap will push the vehicle in the next tick, which crashes it
    hit: jax.Array  # bool [n]: whether it will
    time: Any  # int32 []


class Nearest(NamedTuple):
    """For each vehicle, who is next to it on some lane: an index [n], and whether there is anybody, bool [n]."""

    index: Array
    exists: Array


class Pairs(NamedTuple):
    """What vehicle i sees of j, [n, n]: the way to it, the gap that i's driver wants, and how much that slows i down."""

    ahead: Array
    wanted: Array
    pull: Array


def lane_of(y: Array, lanes: Array | int) -> Array:
    """The nearest lane, int32."""
    return jnp.clip(jnp.ceil(y / LANE - 0.5), 0, lanes - 1).astype(jnp.int32)


def nonzero(x: Array) -> Array:
    """x, or ±0.01 where it is nearer to zero, so that one can divide by it."""
    return jnp.where(jnp.abs(x) > 1e-2, x, jnp.where(x >= 0, 1e-2, -1e-2))


def wrap(angle: Array) -> Array:
    """The same angle within [−π, π)."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi


def velocity(state: HighwayState) -> tuple[Array, Array]:
    """(vx, vy), each [n]."""
    return state.speed * jnp.cos(state.heading), state.speed * jnp.sin(state.heading)


def pairs(state: HighwayState, headway: Array) -> Pairs:
    """d = 10 + v·headway + v·Δv / (2 √15), and the slowing 3·(d / ahead)² of the intelligent driver model."""
    vx, vy = velocity(state)
    cos, sin, speed = (leaf[:, None] for leaf in (jnp.cos(state.heading), jnp.sin(state.heading), state.speed))
    ahead = state.x[None] - state.x[:, None]
    nearing = (vx[:, None] - vx[None]) * cos + (vy[:, None] - vy[None]) * sin
    wanted = JAM + speed * headway + speed * nearing / (2 * (COMFORT * BRAKING) ** 0.5)
    return Pairs(ahead, wanted, COMFORT * (wanted / nonzero(ahead)) ** 2)


def neighbours(ahead: Array, y: Array, lane: Array) -> tuple[Nearest, Nearest]:
    """Who is in front and who behind each vehicle on the lane [n]; one is on a lane up to 1 m beyond its edge."""
    on = jnp.abs(y[None] - LANE * lane[:, None]) <= LANE / 2 + 1
    on &= ~jnp.eye(y.size, dtype=bool)
    found = []
    for side, distance in ((on & (ahead >= 0), ahead), (on & (ahead < 0), -ahead)):
        far = jnp.where(side, distance, jnp.inf)
        index = jnp.argmin(far, 1)
        found.append(Nearest(index, side.any(1)))
    return found[0], found[1]


def drive(state: HighwayState, params: Any, follows: bool) -> tuple[HighwayState, Array, Array]:
    """What all drivers decide: target lanes and timers in the state, accelerations [n], and sines of the slip angle [n].

    follows: whether the ego is one who follows a target lane, which others then see. Its own row is to be overwritten.
    """
    view = pairs(state, params.headway)
    lane = lane_of(state.y, params.lanes)
    changing = state.target_lane != lane
    beside = jnp.stack([lane, jnp.where(changing, state.target_lane, lane - 1), lane + 1])
    (front, rear) = jax.vmap(neighbours, (None, None, 0))(view.ahead, state.y, beside)
    ratio = jnp.maximum(state.speed, 0) / jnp.abs(nonzero(jnp.clip(state.target_speed, 0, SPEED_LIMIT)))
    wishes = _wishes(view.pull, ratio, state.exponent, front, rear)
    better = _mobil(wishes, front, rear, params.politeness)
    lanes = jnp.stack([lane - 1, lane + 1])
    possible = (lanes >= 0) & (lanes < params.lanes) & (jnp.abs(state.y[None] - LANE * lanes) <= 2 * LANE)
    active = ~state.crashed & (jnp.arange(lane.size) > 0)
    thinks = active & ~changing & (state.timer > LANE_CHANGE_DELAY)
    left, right = (side & thinks & (jnp.abs(state.speed) >= 1) for side in better & possible)
    decided = jnp.where(right, lane + 1, jnp.where(left, lane - 1, state.target_lane))
    aborts = _aborts(state.target_lane, decided, lane, view, active & changing, follows)
    target = jnp.where(aborts, lane, decided)
    in_target = jnp.where(right, wishes.own[2], wishes.own[1])
    acceleration = jnp.where(target == lane, wishes.own[0], jnp.minimum(wishes.own[0], in_target))
    state = dataclasses.replace(state, target_lane=target, timer=jnp.where(thinks, 0.0, state.timer))
    return state, jnp.clip(acceleration, -MOST_ACCELERATION, MOST_ACCELERATION), steer(state)


class Wishes(NamedTuple):
    """Accelerations in three lanes (own, left or target, right), [3, n], as the driver i would want them, were it there.

    own: of i itself behind its front.   rear: of the follower behind i's front.   blocked: of the follower behind i.
    """

    own: Array
    rear: Array
    blocked: Array


def _wishes(pull: Array, ratio: Array, exponent: Array, front: Nearest, rear: Nearest) -> Wishes:
    me = jnp.broadcast_to(jnp.arange(ratio.size), front.index.shape)

    def behind(who, whom, exists):
        free = COMFORT * (1 - ratio[who] ** exponent[None])
        return free - jnp.where(exists, pull[who, whom], 0.0)

    own = behind(me, front.index, front.exists)
    follower = behind(rear.index, front.index, front.exists), behind(rear.index, me, True)
    return Wishes(own, *(jnp.where(rear.exists, wish, 0.0) for wish in follower))


def _mobil(wishes: Wishes, front: Nearest, rear: Nearest, politeness: Array) -> Array:
    """Whether a change to the left and to the right is safe and worth it, bool [2, n] (Kesting et al. 2007, eqs. 2 and 4)."""
    own, behind, blocked = wishes
    followers = blocked[1:] - behind[1:] + (behind[0] - blocked[0])[None]
    gain = own[1:] - own[:1] + politeness * followers
    return (blocked[1:] >= -MOST_IMPOSED) & (gain >= LEAST_GAIN)


def _aborts(before: Array, decided: Array, lane: Array, view: Pairs, changing: Array, follows: bool) -> Array:
    """Which changes under way are given up, as another one close ahead heads for the same lane, bool [n].

    Drivers decide in turn, so that those earlier in the row are seen with their new targets: aborting frees the others.
    """
    index = jnp.arange(lane.size)
    earlier = index[None] < index[:, None]
    heads = jnp.where(earlier, decided[None], before[None]) == before[:, None]
    close = (view.ahead > 0) & (view.ahead < view.wanted) & (lane[None] != before[:, None])
    conflict = changing[:, None] & heads & close & ((index > 0) | follows)[None]

    def settle(state):
        aborts, _ = state
        return jnp.any(conflict & ~(earlier & aborts[None]), 1), aborts

    first = settle((jnp.zeros(lane.size, bool), None))
    return jax.lax.while_loop(lambda state: jnp.any(state[0] != state[1]), settle, first)[0]


def steer(state: HighwayState) -> Array:
    """The sines of the slip angles [n] that lead to the target lanes."""
    speed = nonzero(state.speed)
    sideways = -(state.y - LANE * state.target_lane) / LATERAL_TIME
    heading = jnp.clip(jnp.arcsin(jnp.clip(sideways / speed, -1, 1)), -jnp.pi / 4, jnp.pi / 4)
    turn = wrap(heading - state.heading) / HEADING_TIME
    return jnp.clip(LENGTH / 2 / speed * turn, -MOST_SLIP, MOST_SLIP)


def limit(acceleration: Array, state: HighwayState) -> Array:
    """Accelerations [n] within what the motor and a crash allow."""
    fast, back = state.speed > MOST_SPEED, state.speed < -MOST_SPEED
    acceleration = jnp.where(fast, jnp.minimum(acceleration, MOST_SPEED - state.speed), acceleration)
    acceleration = jnp.where(back, jnp.maximum(acceleration, -MOST_SPEED - state.speed), acceleration)
    return jnp.where(state.crashed, -state.speed, acceleration)


def move(state: HighwayState, acceleration: Array, slip: Array, seconds: float) -> HighwayState:
    """A bicycle's step: accelerations [n] within `limit`, and sines of the slip angle [n]."""
    sin = jnp.where(state.crashed, 0.0, slip)
    cos, along, aside = jnp.sqrt(1 - sin**2), jnp.cos(state.heading), jnp.sin(state.heading)
    pushed = jnp.where(state.hit[:, None], state.impact, 0.0)
    return dataclasses.replace(
        state,
        x=state.x + state.speed * (along * cos - aside * sin) * seconds + pushed[:, 0],
        y=state.y + state.speed * (aside * cos + along * sin) * seconds + pushed[:, 1],
        heading=state.heading + state.speed * sin / (LENGTH / 2) * seconds,
        speed=state.speed + acceleration * seconds,
        timer=state.timer + seconds,
        crashed=state.crashed | state.hit,
    )
