"""Robots (extra `robots`) with bodies, friction and a goal that nobody shows: `cheetah` and the lighter `arm`."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.actions import factored, held
from metadqn_jax.checks import check_name
from metadqn_jax.environments.robots import LINK, TOP_SPEED, Robot
from metadqn_jax.planners.control import best_of
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.tasks.vary import vary_uniform
from metadqn_jax.tasks.wrappers import scale_observation
from metadqn_jax.types import Array, Key, Span, Task

BODIES = (0.5, 1.5)  # times the usual: each body's mass, and friction
TRIAL_RECIPE = dataclasses.replace(
    TRIAL,
    span=Span(400, 1, 1),
    discount=0.97,
    outer_trace=0.9,
    reward_scale=0.1,
    outer_rate=2e-3,
    meta_batch=8,
    fresh=2,
    capacity=32,
    centred=False,
)
RECIPE = dataclasses.replace(  # chosen for a DQN that is shown the direction
    TRIAL_RECIPE, span=Span(segments=2, steps=200, streams=1), inner_trace=0.5, inner_rate=0.1, support_epsilon=1.0
)
ARM_RECIPE = Recipe(  # a starting point that nobody has tuned
    span=Span(segments=2, steps=50, streams=4),
    discount=0.9,
    inner_trace=0.5,
    outer_trace=0.7,
    reward_scale=0.5,
    query_epsilon=0.3,
    inner_rate=0.1,
)
ARM_TRIAL = dataclasses.replace(TRIAL, span=Span(150, 1, 1), reward_scale=0.5, meta_batch=32)
LAWS = jnp.array(list(itertools.product((-1.0, 1.0), (1.0, 2.0, 4.0), (0.3, 0.6, 1.0))))


def cheetah(goal: str = "velocity") -> Family:
    """A half-cheetah of unknown masses and grip runs at a velocity that is never shown, or in a direction (Finn et al. 2017).

    10 s of 200 steps. A task is the goal, a velocity of 0 … 2 m/s or a direction ±1, and factors within [0.5, 1.5), each
    on its own, of the masses of 7 bodies and of friction. Of the `optimum` nothing is known but a bound from above that
    nobody reaches from rest: 0 at a velocity, 600 in a direction, where speed counts up to 3 m/s. The head is `factored`,
    3 levels of each of 6 torques, held for 4 steps in exploration. The two recipes were chosen for directions. `features`
    are the goal and the factors, these scaled to ±1. See `Robot` for what is observed and rewarded, and how it differs from
    the paper's.
    Raises `Misuse` on another goal, and without the extra `robots`.
    """
    kind, draw = check_name("goal", goal, CHEETAHS)
    env, head = Robot(kind), held(factored([-1.0] * 6, [1.0] * 6, bins=3), 4)
    tasks = _varied(env, draw, ("mass", "friction"), head)
    scaled = scale_observation(tasks, [1.0] * 8 + [0.1] * 9)
    horizon, most = env.kind.horizon, 0.0 if goal == "velocity" else TOP_SPEED * env.kind.horizon
    return Family(split(scaled), RECIPE, horizon, lambda key, task: jnp.float32(most), _features, TRIAL_RECIPE)


def arm() -> Family:
    """An arm of two links, of unknown masses and friction in its joints, finds a place that is never shown and stays there.

    2.5 s of 50 steps; the reward is minus the tip's distance. A task is the place, uniform over those between 0.3 and 0.9 m
    from the shoulder, and factors within [0.5, 1.5), each on its own, of the masses of both links and of the friction in the
    joints. The `optimum` is reached by the best of 18 feedback laws that know the place, and no bound. The head is `factored`,
    5 levels of both torques, held for 5 steps in exploration. `features` are the place and the factors, these scaled to
    ±1. Raises `Misuse` without the extra `robots`.
    """
    env, head = Robot("arm"), held(factored([-1.0] * 2, [1.0] * 2, bins=5), 5)
    tasks = _varied(env, _place, ("mass", "damping"), head)
    scaled = scale_observation(tasks, [1.0] * 6 + [0.2] * 2)

    def optimum(key, task):
        key_start, key_steps = jax.random.split(key)
        start, _ = scaled.reset(key_start, task)
        return best_of(key_steps, LAWS, _reach, task, start, scaled.step, env.kind.horizon)

    return Family(split(scaled), ARM_RECIPE, env.kind.horizon, optimum, _features, ARM_TRIAL)


def _varied(env: Robot, draw: Callable[[Key], Array], factors: tuple[str, ...], head: Any) -> TaskDistribution:
    bodies = vary_uniform(dict.fromkeys(factors, BODIES))

    def vary(key, params):
        key_goal, key_bodies = jax.random.split(key)
        return bodies(key_bodies, params.replace(goal=draw(key_goal)))

    return from_gymnax(env, vary, head=head)


def _speed(key: Key) -> Array:
    return jax.random.uniform(key, (1,), minval=0.0, maxval=2.0)


def _direction(key: Key) -> Array:
    return jax.random.rademacher(key, (1,), jnp.float32)


def _place(key: Key) -> Array:
    """Uniform over the area between two circles, [2]."""
    key_radius, key_angle = jax.random.split(key)
    radius = jnp.sqrt(jax.random.uniform(key_radius, minval=0.3**2, maxval=0.9**2))
    angle = jax.random.uniform(key_angle, maxval=2 * jnp.pi)
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


CHEETAHS = {"velocity": ("cheetah at a velocity", _speed), "direction": ("cheetah in a direction", _direction)}


def _features(task: Task) -> Array:
    factors = jnp.concatenate([task.mass, jnp.stack([task.friction, task.damping])])
    return jnp.concatenate([task.goal, 2 * (factors - 1)])


def _reach(numbers: Array, task: Task, world: Any, t: Array) -> Array:
    """Torques [2] that pull both joints to where the tip is at the goal, its elbow to the side `numbers[0]`, and brake."""
    side, pull, brake = numbers
    squared = jnp.sum(task.goal**2)
    elbow = side * jnp.arccos(squared / (2 * LINK**2) - 1)
    shoulder = jnp.arctan2(task.goal[1], task.goal[0]) - elbow / 2
    way = jnp.mod(jnp.stack([shoulder, elbow]) - world.position + jnp.pi, 2 * jnp.pi) - jnp.pi
    return jnp.clip(pull * way - brake * world.velocity, -1.0, 1.0)
