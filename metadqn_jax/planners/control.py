"""Hand-made laws of classic control: what is reached by knowing the physics, which is no bound on what can be."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.loops import repeat
from metadqn_jax.types import Array, Key, Task, World

Law = Callable[[Array, Task, World, Array], Array]  # (its numbers [n], physics, state, t) -> the environment's action

MOUNTAIN_CAR = jnp.array(list(itertools.product((-1.0, 1.0), range(0, 160, 8), range(0, 64, 8))))
ANGLES = jnp.linspace(0.4, 3.4, 16)  # beyond these the foot never reaches the goal
ACROBOT = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], 1)
FIRST = ((0, 1.0), (10, -1.0), (10, 1.0), (20, -1.0), (20, 1.0))
PENDULUM = jnp.array([(*law, *first) for *law, first in itertools.product((-0.1, 0.0, 0.1), (0.2, 0.4, 0.7, 1.2), FIRST)])


def best_of(
    key: Key,
    numbers: Array,
    law: Law,
    task: Task,
    start: World,
    step: Callable[[Key, Task, World, Array], tuple[World, Any]],
    horizon: int,
) -> Array:
    """The best undiscounted return, [] float32, of an episode from `start` under any of the laws `numbers` [laws, n].

    step: (key, task, world, action) -> (world, Step), deterministic. The return is reached, so it bounds the optimum from
    below; what a learner gains above it shows the laws' weakness.
    """

    def follow(of_law):
        def one(key, t, carry):
            world, alive = carry
            world, seen = step(key, task, world, law(of_law, task, world, t))
            return (world, alive & ~(seen.terminated | seen.truncated)), jnp.where(alive, seen.reward, 0.0)

        return jnp.sum(repeat(key, horizon, one, (start, jnp.bool_(True)))[1])

    return jnp.max(jax.vmap(follow)(numbers))


def swing_up_the_hill(numbers: Array, physics: Any, state: Any, t: Array) -> Array:
    """MountainCar: push along the velocity (first towards `numbers[0]`) for `numbers[1]` steps, then to the left for
    `numbers[2]`, then to the right: the best plan turns back before the car does."""
    first, pumps, left = numbers
    along = jnp.where(state.velocity == 0, first, jnp.sign(state.velocity))
    return (1 + jnp.where(t < pumps, along, jnp.where(t < pumps + left, -1.0, 1.0))).astype(jnp.int32)


def swing_the_foot(numbers: Array, physics: Any, state: Any, t: Array) -> Array:
    """Acrobot: full torque with the sign of a mixture `numbers` [2] of the joints' two velocities."""
    return (1 + jnp.sign(numbers[0] * state.velocity_1 + numbers[1] * state.velocity_2)).astype(jnp.int32)


def swing_and_hold(numbers: Array, physics: Any, state: Any, t: Array) -> Array:
    """Pendulum: full torque towards the energy of the top (Åström & Furuta 2000), `numbers[0]` of it added; within
    `numbers[1]` rad of the top a linear feedback that cancels gravity holds it. Away from there the first `numbers[2]`
    steps push towards `numbers[3]`. A torque [1]."""
    excess, near, steps, first = numbers
    angle = jnp.mod(state.theta + jnp.pi, 2 * jnp.pi) - jnp.pi
    inertia, weight = physics.m * physics.l**2 / 3, physics.m * physics.g * physics.l / 2
    energy = inertia * state.theta_dot**2 / 2 + weight * (jnp.cos(angle) - 1)
    along = jnp.where(state.theta_dot < 0, -1.0, 1.0) * jnp.where(energy < 2 * weight * excess, 1.0, -1.0)
    swing = jnp.where(t < steps, first, along) * physics.max_torque
    hold = -inertia * (30.0 * angle + 12.0 * state.theta_dot) - weight * jnp.sin(angle)
    return jnp.clip(jnp.where(jnp.abs(angle) < near, hold, swing), -physics.max_torque, physics.max_torque)[None]
