"""Wrappers: a task distribution in, a task distribution out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_callable, check_count, check_numbers, check_same, require
from metadqn_jax.heads.base import extremes, within
from metadqn_jax.tasks.base import Family, TaskDistribution, TaskSplit, check_distribution, check_family, check_kind
from metadqn_jax.types import ActionHead, Array, Spec, Task, World, check_head, image_of


def map_observation(distribution: TaskDistribution, change: Callable[[Task, Array], Array]) -> TaskDistribution:
    """Observations become `change(task, obs)`, wherever they appear. Raises `Misuse` if that breaks the shapes."""

    check_kind(distribution)
    check_callable("change", change, "task, obs")

    def reset(key, task):
        world, obs = distribution.reset(key, task)
        return world, change(task, obs)

    def step(key, task, world, action):
        world, step = distribution.step(key, task, world, action)
        return world, step._replace(obs=change(task, step.obs), transition_obs=change(task, step.transition_obs))

    observation = jax.eval_shape(lambda key: change(distribution.sample(key), _zeros(distribution)), jax.random.key(0))
    changed = TaskDistribution(distribution.sample, reset, step, Spec(observation, distribution.spec.head))
    check_distribution(changed)
    return changed


def scale_observation(distribution: TaskDistribution, factors: Any) -> TaskDistribution:
    """Observations times `factors`, which broadcast to them; whole numbers become real ones. Raises `Misuse`."""

    check_kind(distribution)
    check_numbers("factors", factors)
    shape, given = distribution.spec.observation.shape, np.shape(factors)
    require(
        len(given) <= len(shape) and all(a in (1, b) for a, b in zip(given[::-1], shape[::-1], strict=False)),
        f"factors must broadcast to observations {list(shape)}, got {list(given)}; give one for each element, or one for all.",
    )

    def scaled(task, obs):
        real = jnp.promote_types(obs.dtype, jnp.float32)
        return obs.astype(real) * jnp.asarray(factors, real)

    return map_observation(distribution, scaled)


def observe_task(distribution: TaskDistribution, features: Callable[[Task], Array]) -> TaskDistribution:
    """Observations, flattened, with `features(task)`, flattened, behind them: privilege enters through the environment only."""
    check_callable("features", features, "task")
    seen = map_observation(distribution, lambda task, obs: jnp.concatenate([obs.ravel(), jnp.ravel(features(task))]))
    return seen._replace(spec=seen.spec._replace(image=image_of(distribution.spec)))


class Timed(NamedTuple):
    """A world, and the steps taken in its episode."""

    inner: World
    time: Array  # int32 []


def observe_time(distribution: TaskDistribution, horizon: int) -> TaskDistribution:
    """Observations, flattened, with the share of an episode of `horizon` steps that is gone behind them.

    Values of a finite horizon depend on it; a `trial` shows its own time, and may stand on top. Episodes are not cut: where
    one goes on, the share is above 1. Raises `Misuse` on a horizon < 1.
    """
    check_kind(distribution)
    check_count("horizon", horizon)

    def timed(obs, time):
        return jnp.concatenate([obs.ravel().astype(jnp.float32), jnp.float32(time)[None] / horizon])

    def reset(key, task):
        world, obs = distribution.reset(key, task)
        return Timed(world, jnp.int32(0)), timed(obs, 0)

    def step(key, task, world, action):
        inner, step = distribution.step(key, task, world.inner, action)
        after = world.time + 1
        time = jnp.where(step.terminated | step.truncated, 0, after)
        seen = step._replace(obs=timed(step.obs, time), transition_obs=timed(step.transition_obs, after))
        return Timed(inner, time), seen

    changed = TaskDistribution(distribution.sample, reset, step, distribution.spec.followed_by(1))
    check_distribution(changed)
    return changed


def with_head(family: Family, head: ActionHead) -> Family:
    """The family with another head for the same actions.

    `optimum` stays that of the old head; replace it where the new one has finer or coarser actions. Exploration is the new
    head's too: what the old one was wrapped in, such as `held`, is to be put around this one. Raises `Misuse` unless the
    head gives what the environment takes, within the old one's bounds and, of single whole numbers, as many.

    >>> from metadqn_jax.actions import factored, held
    >>> from metadqn_jax.tasks.navigation_2d import HOLD, navigation_2d
    >>> with_head(navigation_2d(), held(factored([-0.1, -0.1], [0.1, 0.1], bins=11), HOLD)).split.train.spec.head.width
    22
    """
    check_family(family)
    check_head(head)

    def given(head):
        return jax.eval_shape(lambda key: head.decode(head.sample(key)), jax.random.key(0))

    def changed(side):
        cure = "take a head for the environment's action space"
        check_same("an action", given(side.spec.head), given(head), cure)
        both = side.spec.head.num_actions, head.num_actions
        whole = jnp.issubdtype(given(head).dtype, jnp.integer)  # of a box a head may know as many actions as it likes
        require(
            not whole or None in both or both[0] == both[1], f"the head must have {both[0]} actions, got {both[1]}; {cure}."
        )
        require(
            within(ends := extremes(head), known := extremes(side.spec.head)),
            f"the head must give actions between {known[0]} and {known[1]}, got some between {ends[0]} and {ends[1]}; {cure}.",
        )
        return side._replace(spec=side.spec._replace(head=head))

    return family._replace(split=TaskSplit(*map(changed, family.split)))


def observed(family: Family) -> Family:
    """The family with its tasks in plain sight, for the task-conditioned learner."""
    check_family(family)
    sides = (observe_task(side, family.features) for side in family.split)
    return family._replace(split=TaskSplit(*sides))


def _zeros(distribution: TaskDistribution) -> Array:
    return jnp.zeros(distribution.spec.observation.shape, distribution.spec.observation.dtype)
