"""`reaching`: reach goals in many dimensions by motors that are turned in another way in each task."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.actions import factored
from metadqn_jax.checks import check_count, require
from metadqn_jax.environments.reaching import Reaching
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Array, Key, Span, Task

RECIPE = Recipe(
    span=Span(segments=2, steps=20, streams=16),
    discount=0.0,  # the next step is all that an action changes for good: the way stays to be gone
    inner_trace=0.0,
    outer_trace=0.0,
    reward_scale=10.0,
    query_epsilon=1.0,
    inner_rate=10.0,
    inner_steps=1,
    outer_rate=3e-3,
    meta_batch=4,
    outer_steps=5_000,
    hidden=(256, 128),
    film=True,
)
TRIAL_RECIPE = dataclasses.replace(TRIAL, span=Span(120, 1, 1), discount=0.0, reward_scale=10.0, film=True)


def reaching(dimensions: int = 12, angles: int | None = 1) -> Family:
    """Reach goals of [−½, ½]^d that are seen, in 20 steps: what is not seen is how the d motors are turned.

    They lie in d/2 planes, each of which is turned: by the first of so many `angles` in the first planes, by the second in
    the next, and so on, each uniform on the circle. With None a task is any orthogonal matrix, uniform over all of them. The
    reward is by how much the way gets shorter, and the optimum is exact: all of the way, .99 in the mean in 12 dimensions,
    where staying gives 0 and acting at random −.58. The head is `factored` with 3 bins, forth, back and rest, from which no
    goal is met exactly; `with_head` gives another. Raises `Misuse` on dimensions < 1, and on angles that cannot be shared
    evenly by d/2 planes.

    >>> reaching(4).split.train.spec.head.width
    12
    """
    check_count("dimensions", dimensions)
    if angles is not None:
        check_count("angles", angles)
        require(
            dimensions % (2 * angles) == 0,
            f"dimensions must be a multiple of twice the angles, got {dimensions} dimensions and {angles} angles; change "
            "one of them, or set angles=None.",
        )
    env = Reaching(dimensions)
    horizon = env.default_params.max_steps_in_episode

    def vary(key, params):
        return params.replace(turn=any_turn(key, dimensions) if angles is None else plane_turns(key, dimensions, angles))

    def optimum(key, task):
        return known_turn_return(env.reset_env(key, task)[1].way, task, horizon)

    sides = split(from_gymnax(env, vary, head=factored([-1.0] * dimensions, [1.0] * dimensions, bins=3)))
    return Family(sides, RECIPE, horizon, optimum, features=lambda task: jnp.ravel(task.turn), trial=TRIAL_RECIPE)


def any_turn(key: Key, dimensions: int) -> Array:
    """An orthogonal matrix [d, d], uniform over all of them (Mezzadri 2007)."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (dimensions, dimensions)))
    return q * jnp.sign(jnp.diagonal(r))[None]


def plane_turns(key: Key, dimensions: int, angles: int) -> Array:
    """A block matrix [d, d] that turns dimensions 2i and 2i + 1 in their plane, d/2 planes by so many `angles`."""
    drawn = jax.random.uniform(key, (angles,), minval=-jnp.pi, maxval=jnp.pi)
    each = jnp.repeat(drawn, dimensions // (2 * angles))
    cos, sin = jnp.cos(each), jnp.sin(each)
    turns = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)  # [planes, 2, 2]
    return jax.scipy.linalg.block_diag(*turns)


def known_turn_return(way: Array, task: Task, horizon: int) -> Array:
    """The best return of an episode that begins with this `way` [d] to the goal, the motors' turn being known; exact.

    Turned back, each coordinate of the way shrinks by the stride alone, whatever the others do.
    """
    left = jnp.maximum(jnp.abs(task.turn.T @ way) - task.stride * horizon, 0.0)
    return jnp.sqrt(jnp.sum(way**2)) - jnp.sqrt(jnp.sum(left**2))
