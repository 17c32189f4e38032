"""Wrappers: a task distribution in, a task distribution out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import Misuse, check_count, check_real, check_same, require
from metadqn_jax.tasks.base import Family, TaskDistribution, TaskSplit, check_distribution, check_kind
from metadqn_jax.types import ActionHead, Array, Key, Spec, Task, World, image_of


def map_observation(distribution: TaskDistribution, change: Callable[[Task, Array], Array]) -> TaskDistribution:
    """Observations become `change(task, obs)`, wherever they appear. Raises `Misuse` if that breaks the shapes."""

    check_kind(distribution)

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
    head gives what the environment takes and, of whole numbers, as many.

    >>> from metadqn_jax.actions import factored, held
    >>> from metadqn_jax.tasks.navigation_2d import HOLD, navigation_2d
    >>> with_head(navigation_2d(), held(factored([-0.1, -0.1], [0.1, 0.1], bins=11), HOLD)).split.train.spec.head.width
    22
    """

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
        return side._replace(spec=side.spec._replace(head=head))

    return family._replace(split=TaskSplit(*map(changed, family.split)))


def observed(family: Family) -> Family:
    """The family with its tasks in plain sight, for the task-conditioned learner."""
    sides = (observe_task(side, family.features) for side in family.split)
    return family._replace(split=TaskSplit(*sides))


def permute_actions(distribution: TaskDistribution) -> TaskDistribution:
    """What an action does is drawn with the task: action a does what permutation[a] did; p(permutation) is uniform.

    A task becomes (inner task, permutation int32 [A]). Raises `Misuse` unless the head has one value for each action.
    """
    check_kind(distribution)
    head = distribution.spec.head
    actions = head.num_actions
    if actions is None:
        raise Misuse("permute_actions must know the actions one by one, got a head without values; take a discrete one.")

    def sample(key):
        key_inner, key_order = jax.random.split(key)
        return distribution.sample(key_inner), jax.random.permutation(key_order, actions).astype(jnp.int32)

    def step(key, task, world, action):
        inner, permutation = task
        return distribution.step(key, inner, world, head.decode(permutation[action]))

    spec = distribution.spec._replace(head=head._replace(decode=lambda action: action))
    return TaskDistribution(sample, lambda key, task: distribution.reset(key, task[0]), step, spec)


def mix_observation(distribution: TaskDistribution, width: int | None = None) -> TaskDistribution:
    """Observations, flattened, are seen through a matrix that is drawn with the task (Kirsch et al. 2022, GPICL, section 2).

    A task becomes (inner task, matrix [width, n]) with elements ~ N(0, 1/n), so that observations keep their size; `width`
    is n by default. Raises `Misuse` on a width < 1.
    """
    size = distribution.spec.observation.size
    width = size if width is None else check_count("width", width)

    def sample(key):
        key_inner, key_matrix = jax.random.split(key)
        return distribution.sample(key_inner), jax.random.normal(key_matrix, (width, size)) / size**0.5

    return map_observation(_under(distribution, sample), lambda task, obs: task[1] @ obs.ravel().astype(jnp.float32))


def mirror_observation(distribution: TaskDistribution, axes: tuple[int, ...] = (1,)) -> TaskDistribution:
    """Observations are mirrored along each of `axes`, or not, as is drawn with the task by fair coins.

    A task becomes (inner task, mirrored bool [axes]); axis 0 of an image is up and down, axis 1 left and right. Raises
    `Misuse` on axes that observations do not have, and on none.
    """
    check_kind(distribution)
    shape = distribution.spec.observation.shape
    require(
        isinstance(axes, tuple | list)
        and len(axes) > 0
        and len(set(axes)) == len(axes)
        and all(axis in range(len(shape)) for axis in axes),
        f"axes to mirror must be some of the {len(shape)} axes of observations {list(shape)}, each once, got {axes}; "
        f"name axes from 0 to {len(shape) - 1}, as in ({len(shape) - 1},).",
    )

    def sample(key):
        key_inner, key_mirrored = jax.random.split(key)
        return distribution.sample(key_inner), jax.random.bernoulli(key_mirrored, 0.5, (len(axes),))

    def seen(task, obs):
        for i, axis in enumerate(axes):
            obs = jnp.where(task[1][i], jnp.flip(obs, axis), obs)
        return obs

    return map_observation(_under(distribution, sample), seen)


class Held(NamedTuple):
    """A world, and the action that was last carried out in its episode."""

    inner: World
    action: Array


def sticky_actions(distribution: TaskDistribution, least: float = 0.0, most: float = 0.5) -> TaskDistribution:
    """With a probability that is drawn with the task, a step carries out the last action again, in place of the new one.

    A task becomes (inner task, probability float32 []), which is uniform within [least, most) (Machado et al. 2018,
    section 5). Whatever is carried out is the last action. Differs from the paper: each episode begins as if its last
    action had been zero, a game's no-op. Raises `Misuse` on what is no probability, or out of order.
    """
    check_real("least", least, most=1.0)
    check_real("most", most, least=least, most=1.0)
    head = distribution.spec.head
    taken = jax.eval_shape(lambda key: head.decode(head.sample(key)), jax.random.key(0))
    rest = jnp.zeros(taken.shape, taken.dtype)

    def sample(key):
        key_inner, key_probability = jax.random.split(key)
        return distribution.sample(key_inner), jax.random.uniform(key_probability, minval=least, maxval=most)

    def reset(key, task):
        world, obs = distribution.reset(key, task[0])
        return Held(world, rest), obs

    def step(key, task, world, action):
        key_sticks, key_step = jax.random.split(key)
        action = jnp.where(jax.random.uniform(key_sticks) < task[1], world.action, action)
        inner, step = distribution.step(key_step, task[0], world.inner, action)
        return Held(inner, jnp.where(step.terminated | step.truncated, rest, action)), step

    return TaskDistribution(sample, reset, step, distribution.spec)


def disguised(family: Family, wrapper: Callable[[TaskDistribution], TaskDistribution]) -> Family:
    """The family under `permute_actions`, `mix_observation` or the like, whose tasks are (inner task, what hides it).

    One wrapper at a time. Both sides keep their inner tasks, so they still share none; the optimum is the inner task's,
    and a privileged learner is shown both, a permutation one-hot. `disguised(cartpole(), mix_observation)` is CartPole behind
    random observations.
    """
    sides = TaskSplit(*(wrapper(side) for side in family.split))

    def features(task):
        inner, hidden = task
        chooses = jnp.issubdtype(hidden.dtype, jnp.integer)
        shown = jax.nn.one_hot(hidden, hidden.size) if chooses else hidden.astype(jnp.float32)
        return jnp.concatenate([family.features(inner), jnp.ravel(shown)])

    return family._replace(split=sides, optimum=lambda key, task: family.optimum(key, task[0]), features=features)


def _under(distribution: TaskDistribution, sample: Callable[[Key], Task]) -> TaskDistribution:
    """The same worlds, whose tasks are drawn as (inner task, what else belongs to it)."""

    def reset(key, task):
        return distribution.reset(key, task[0])

    def step(key, task, world, action):
        return distribution.step(key, task[0], world, action)

    return TaskDistribution(sample, reset, step, distribution.spec)


def _zeros(distribution: TaskDistribution) -> Array:
    return jnp.zeros(distribution.spec.observation.shape, distribution.spec.observation.dtype)
