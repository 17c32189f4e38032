"""Distributions over tasks, their splits into train and test, and what a family of tasks brings along."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, check_real, check_same, require
from metadqn_jax.types import Array, Key, Span, Spec, Step, Task, Transition, World


class TaskDistribution(NamedTuple):
    """p(τ) and how to live in a task. All functions are about one task and one stream.

    sample: (key) -> Task
    reset:  (key, task) -> (World, obs)
    step:   (key, task, world, action) -> (World, Step)     restarts by itself where an episode ends
    spec:   Spec                                            static: observation shape, action head
    """

    sample: Callable[[Key], Task]
    reset: Callable[[Key, Task], tuple[World, Array]]
    step: Callable[[Key, Task, World, Array], tuple[World, Step]]
    spec: Spec


class TaskSplit(NamedTuple):
    """Two distributions that share no task, unless a family says why not.

    Made by `split`, `reserve`, `separate` or `withhold`, which see to that.
    """

    train: TaskDistribution
    test: TaskDistribution


@dataclass(frozen=True)
class Recipe:
    """What a family needs to be meta-learned with a Q-network: sizes, and the losses' and exploration's numbers."""

    span: Span  # of one training lifetime: the last segment is the query
    discount: float
    inner_trace: float  # λ of the inner loss
    outer_trace: float  # λ of the outer loss
    reward_scale: float
    query_epsilon: float  # ε of the last segment; the support's is 1
    inner_rate: float = 0.3
    inner_steps: int = 3
    outer_rate: float = 1e-2
    meta_batch: int = 16
    fresh: int | None = None  # tasks lived in before an outer step, None for `meta_batch`; what else it takes is of the store
    capacity: int | None = None  # lifetimes in the store, None for `meta_batch`
    outer_steps: int = 2_000
    support_epsilon: float | None = 1.0  # None: as the query's, for lifetimes that are one trial
    outer_clip: float = 10.0  # the largest global norm of an outer gradient
    warmup: int = 0  # outer steps over which the outer rate rises linearly
    last_rate: float = 0.1  # what the outer rate's cosine falls to, as a share of `outer_rate`
    last_discount: float | None = None  # what a trial's discount rises to in the second half of the run; None: it stays
    memory: str | None = None  # the name of the memory that serves this family best, None for a learner's usual one
    hidden: tuple[int, ...] = (64, 64)
    dueling: bool = False
    layer_norm: bool = False
    channels: tuple[int, ...] = ()  # of the 3×3 convolutions over the image that observations begin with, () for none
    last_epsilon: float | None = None  # `query_epsilon` falls linearly to this over the run; None: it is constant

    @property
    def env_steps(self) -> int:
        """What an outer step costs, in environment steps."""
        return (self.meta_batch if self.fresh is None else self.fresh) * self.span.transitions

    @property
    def shape(self) -> dict[str, Any]:
        """The Q-network's, as arguments of `networks.reader`."""
        return {name: getattr(self, name) for name in ("channels", "hidden", "dueling", "layer_norm")}


class Family(NamedTuple):
    """A task family as experiments use it.

    `optimum: (key, task) -> []` is the best expected return of an episode whose start is drawn with `key`, the task
    being known; `features: (task) -> [n]` is what a privileged learner is shown of the task, of order 1; `horizon` is an
    episode's length in steps. `trial` is the recipe of learners with a memory, whose lifetime is one trial:
    `span.segments` is its length in steps, streams and steps are 1; None where nobody has tuned one.
    """

    split: TaskSplit
    recipe: Recipe
    horizon: int
    optimum: Callable[[Key, Task], Array]
    features: Callable[[Task], Array]
    trial: Recipe | None = None


def check_distribution(distribution: TaskDistribution) -> None:
    """Raise `Misuse` unless reset and step agree on shapes and dtypes, so that a stream can run in a loop."""
    key, spec = jax.random.key(0), distribution.spec
    task = jax.eval_shape(distribution.sample, key)
    world, obs = jax.eval_shape(distribution.reset, key, task)
    action = jax.eval_shape(lambda key: spec.head.decode(spec.head.sample(key)), key)
    after, step = jax.eval_shape(distribution.step, key, task, world, action)
    check_same("the observation of reset", spec.observation, obs, "change spec.observation or reset")
    check_same("the world after a step", world, after, "return from step what reset returns")
    check_same("the observation of step", spec.observation, step.obs, "return from step what reset returns")
    check_same("the true successor", spec.observation, step.transition_obs, "return the observation before any reset")
    flag, number = jax.ShapeDtypeStruct((), jnp.bool_), jax.ShapeDtypeStruct((), jnp.float32)
    flags = (step.terminated, step.truncated)
    check_same("the step's flags", (flag, flag), flags, "return terminated and truncated as bool scalars")
    check_same("the reward", number, step.reward, "return a float32 scalar")


def transition_like(distribution: TaskDistribution) -> Any:
    """The abstract Transition, of one step of one stream, that a distribution gives."""
    spec = distribution.spec
    action = jax.eval_shape(spec.head.sample, jax.random.key(0))
    flag, number = jax.ShapeDtypeStruct((), jnp.bool_), jax.ShapeDtypeStruct((), jnp.float32)
    leaves: Any = (spec.observation, action, number, spec.observation, flag, flag)
    return Transition(*leaves)


def split(distribution: TaskDistribution, test_share: float = 0.2, by: Callable[[Task], Any] = lambda task: task) -> TaskSplit:
    """Give each task to one side by a hash of its numbers: about `test_share` of p(τ) to test, the rest to train.

    A side draws from p(τ) until a task is its own, so no task can ever be on both sides, in finite families too. With `by`
    the hash is that of a part of the task, which the sides then share no value of.
    Raises `Misuse` where 1,024 draws leave a side without a task.
    """
    check_real("test_share", test_share, least=0.001, most=0.999)
    border = jnp.uint32(test_share * 2**32)

    def is_test(task):
        return fingerprint(by(task)) < border

    drawn = _answers(distribution, is_test)
    for name, none in (("test", not drawn.any()), ("train", drawn.all())):
        require(not none, f"the split with test_share={test_share} leaves no {name} task among 1,024 draws; change test_share.")
    return TaskSplit(train=_redrawn(distribution, is_test), test=_redrawn(distribution, lambda task: ~is_test(task)))


def reserve(distribution: TaskDistribution, test: Task) -> TaskSplit:
    """The finite set `test`, a pytree with a leading [tasks], for testing alone: train draws from p(τ) what is not in it.

    Raises `Misuse` where 1,024 draws are all in it.
    """
    prints = jax.jit(jax.vmap(fingerprint))(test)

    def is_test(task):
        return jnp.any(fingerprint(task) == prints)

    require(
        not _answers(distribution, is_test).all(),
        f"the {len(prints)} tasks that are for testing alone must leave some to train on, got none among 1,024 draws; "
        "keep fewer of them.",
    )
    return TaskSplit(train=_redrawn(distribution, is_test), test=finite(distribution, test))


def _answers(distribution: TaskDistribution, question: Callable[[Task], Array]) -> Array:
    """What `question` answers about 1,024 draws, bool [draws]."""
    with jax.ensure_compile_time_eval():
        ask = jax.jit(lambda key: jax.vmap(lambda k: question(distribution.sample(k)))(jax.random.split(key, 1024)))
        return ask(jax.random.key(0))


def _redrawn(distribution: TaskDistribution, refused: Callable[[Task], Array]) -> TaskDistribution:
    """Draws again until a task is not refused."""

    def sample(key):
        def redraw(state):
            i, _ = state
            return i + 1, distribution.sample(jax.random.fold_in(key, i))

        return jax.lax.while_loop(lambda state: refused(state[1]), redraw, redraw((jnp.int32(0), None)))[1]

    return distribution._replace(sample=sample)


def separate(distribution: TaskDistribution, train: Task, test: Task) -> TaskSplit:
    """Uniform draws from two finite sets of tasks, each a pytree with a leading [tasks]. Raises `Misuse` if they overlap."""
    seen = [_rows(tasks) for tasks in (train, test)]
    require(all(seen), "a split needs at least one train and one test task, got an empty set; add tasks to it.")
    both = len(seen[0] & seen[1])
    require(both == 0, f"train and test must share no task, got {both} in common; remove these from one side.")
    return TaskSplit(train=finite(distribution, train), test=finite(distribution, test))


def _rows(tasks: Task) -> set[bytes]:
    """The numbers of each of `tasks`; not their hashes, two of which may be equal among thousands."""
    leaves = [np.asarray(leaf) + 0 for leaf in jax.tree.leaves(tasks)]  # −0 and 0 are one number
    return {b"".join(leaf[i].tobytes() for leaf in leaves) for i in range(len(leaves[0]))}


def withhold(distribution: TaskDistribution, tasks: Task, held_out: int) -> TaskSplit:
    """Uniform draws from the finite set `tasks`, of which `held_out`, always the same, are for testing alone.

    With `held_out` = 0 both sides draw from all of them: what is measured then is exploration under a known prior, not
    generalisation. Raises `Misuse` unless 0 ≤ held_out < the number of tasks.
    """
    count = jax.tree.leaves(tasks)[0].shape[0]
    check_count("held_out", held_out, least=0)
    require(held_out < count, f"held_out must leave a task to train on, got {held_out} of {count}; lower it.")
    if held_out == 0:
        return TaskSplit(*[finite(distribution, tasks)] * 2)
    mixed = np.random.default_rng(0).permutation(count)
    train, test = (jax.tree.map(lambda leaf, some=some: leaf[some], tasks) for some in (mixed[held_out:], mixed[:held_out]))
    return separate(distribution, train, test)


def finite(distribution: TaskDistribution, tasks: Task) -> TaskDistribution:
    """`distribution` restricted to uniform draws from `tasks`, a pytree with a leading [tasks]."""
    count = jax.tree.leaves(tasks)[0].shape[0]

    def sample(key):
        i = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: leaf[i], tasks)

    return distribution._replace(sample=sample)


def fingerprint(task: Task) -> Array:
    """A hash of a task's numbers, uint32 []: equal tasks have equal ones (murmur3's finaliser over position and bits)."""
    total = jnp.uint32(0)
    for leaf in jax.lax.optimization_barrier(jax.tree.leaves(task)):  # hash what is returned, not a refused rounding of it
        flat = jnp.ravel(jnp.asarray(leaf))
        bits = _bits(flat)
        place = jnp.arange(1, bits.size + 1, dtype=jnp.uint32)
        total = _scramble(total + jnp.sum(_scramble(bits + _scramble(place)), dtype=jnp.uint32))
    return total


def _bits(flat: Array) -> Array:
    if jnp.issubdtype(flat.dtype, jnp.floating):
        bits = jax.lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
        return jnp.where(bits << 1 == 0, 0, bits)  # −0 and 0 are one number; XLA would drop an addition of 0
    return flat.astype(jnp.uint32)


def _scramble(x: Array) -> Array:
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def sample_tasks(key: Key, distribution: TaskDistribution, count: int) -> Any:
    """`count` tasks, a pytree with a leading [tasks]."""
    return jax.vmap(distribution.sample)(jax.random.split(key, count))
