"""Wrappers that hide a task behind another: what is drawn with it changes what is seen, or what an action does."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import Misuse, check_callable, check_count, check_real, check_same, require
from metadqn_jax.tasks.base import Family, TaskDistribution, TaskSplit, check_family, check_kind
from metadqn_jax.tasks.wrappers import map_observation
from metadqn_jax.types import Array, Key, Task, World


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
    check_kind(distribution)
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
    action had been zero, a game's no-op; permute actions outside of this wrapper, where it is to be that.
    Raises `Misuse` on what is no probability, or out of order, and on a trial, whose episodes it could not tell apart.
    """
    check_kind(distribution)
    require(
        distribution.spec.trial is None,
        "actions must be made sticky before episodes are joined, got a trial; write trial(sticky_actions(...), ...).",
    )
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

    One wrapper at a time: for two, disguise the family twice. Both sides keep their inner tasks, so they still share none;
    the optimum is the inner task's, and a privileged learner is shown both, a permutation one-hot.
    `disguised(cartpole(), mix_observation)` is CartPole behind random observations. Raises `Misuse` on a wrapper whose tasks
    are others.
    """
    check_family(family)
    check_callable("wrapper", wrapper, "distribution")
    sides = TaskSplit(*(_wrapped(wrapper, side) for side in family.split))

    def features(task):
        inner, hidden = task
        chooses = jnp.issubdtype(hidden.dtype, jnp.integer)
        shown = jax.nn.one_hot(hidden, hidden.size) if chooses else hidden.astype(jnp.float32)
        return jnp.concatenate([family.features(inner), jnp.ravel(shown)])

    return family._replace(split=sides, optimum=lambda key, task: family.optimum(key, task[0]), features=features)


def _wrapped(wrapper: Callable[[TaskDistribution], TaskDistribution], side: TaskDistribution) -> TaskDistribution:
    """One side of a family under the wrapper. Raises `Misuse` unless its tasks are (the side's own, one array)."""
    wrapped = wrapper(side)
    check_kind(wrapped)
    inner, task = (jax.eval_shape(one.sample, jax.random.key(0)) for one in (side, wrapped))
    cure = "apply `disguised` once for each wrapper, and only those that draw something with the task"
    hidden = task[1] if isinstance(task, tuple) and len(task) == 2 else None
    require(
        isinstance(hidden, jax.ShapeDtypeStruct),
        f"a disguised task must be (inner task, one array that hides it), got {jax.tree.structure(task)}; {cure}.",
    )
    check_same("the inner task of a disguised one", inner, task[0], cure)
    return wrapped


def _under(distribution: TaskDistribution, sample: Callable[[Key], Task]) -> TaskDistribution:
    """The same worlds, whose tasks are drawn as (inner task, what else belongs to it)."""

    def reset(key, task):
        return distribution.reset(key, task[0])

    def step(key, task, world, action):
        return distribution.step(key, task[0], world, action)

    return TaskDistribution(sample, reset, step, distribution.spec)
