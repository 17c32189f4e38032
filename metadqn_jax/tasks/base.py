"""Distributions over tasks, and what a family of tasks brings along."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_callable, check_count, check_same, check_type, require
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
    centred: bool = True  # a trial's rewards, by a running mean for each step: of no use where episodes end early
    memory: str | None = None  # the name of the memory that serves this family best, None for a learner's usual one
    hidden: tuple[int, ...] = (64, 64)
    dueling: bool = False
    layer_norm: bool = False
    film: bool = False  # whether what a network reads besides the observation also scales its first layer
    channels: tuple[int, ...] = ()  # of the 3×3 convolutions over the image that observations begin with, () for none
    last_epsilon: float | None = None  # `query_epsilon` falls linearly to this over the run; None: it is constant

    def __post_init__(self):
        check_type("a recipe's span", self.span, Span, "make one with Span(segments, steps, streams)")

    def with_steps(self, steps: int) -> "Recipe":
        """The recipe with segments of so many steps, such as a whole episode's."""
        return replace(self, span=replace(self.span, steps=steps))

    @property
    def env_steps(self) -> int:
        """What an outer step costs, in environment steps."""
        return (self.meta_batch if self.fresh is None else self.fresh) * self.span.transitions

    @property
    def shape(self) -> dict[str, Any]:
        """The Q-network's, as arguments of `networks.reader`."""
        return {name: getattr(self, name) for name in ("channels", "hidden", "dueling", "layer_norm", "film")}


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


def check_kind(distribution: Any) -> None:
    """Raise `Misuse` unless it is one distribution: families have two, on either side of their split."""
    got = type(distribution).__name__
    require(
        isinstance(distribution, TaskDistribution),
        f"a TaskDistribution is needed here, got a {got}; take family.split.train, or make one with from_gymnax.",
    )


def check_family(family: Any) -> None:
    """Raise `Misuse` unless it is a whole family, of two sides that look alike: a distribution, or a split, has no recipe."""
    got = type(family).__name__
    require(isinstance(family, Family), f"a Family is needed here, got a {got}; make one as navigation() does.")
    check_type("a family's split", family.split, TaskSplit, "make one with tasks.splits.split")
    check_type("a family's recipe", family.recipe, Recipe, "make one with tasks.base.Recipe")
    check_count("a family's horizon", family.horizon)
    check_callable("a family's optimum", family.optimum, "key, task", "give one that returns NaN where nobody knows it")
    sides = [(side.spec.observation.shape, side.spec.head.width, side.spec.trial) for side in family.split]
    alike = sides[0] == sides[1]
    require(alike, f"both sides of a family must look alike, got {sides[0]} and {sides[1]}; wrap both.")


def check_distribution(distribution: TaskDistribution) -> None:
    """Raise `Misuse` unless reset and step agree on shapes and dtypes, so that a stream can run in a loop."""
    check_kind(distribution)
    key, spec = jax.random.key(0), distribution.spec
    require(
        isinstance(spec.observation, jax.ShapeDtypeStruct),
        f"observations must be one array, got {jax.tree.structure(spec.observation)}; return an array from what makes them.",
    )
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


def sample_tasks(key: Key, distribution: TaskDistribution, count: int) -> Any:
    """`count` tasks, a pytree with a leading [tasks]. Raises `Misuse` on a count < 1."""
    check_kind(distribution)
    check_count("the number of tasks", count)
    return jax.vmap(distribution.sample)(jax.random.split(key, count))
