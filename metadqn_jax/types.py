"""The data that flows through the house, and the two small interfaces that everything else is written against.

Axes, wherever a shape is named: B tasks, K segments, T steps, E streams, A actions.
A key is a typed PRNG key; it comes first and is consumed exactly once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, check_type

Array = jax.Array
Key = jax.Array
Params = Any  # a pytree of arrays
Outputs = Any  # what a Q-network gives for one observation; an ActionHead knows how to read it
Task = Any  # a pytree; for a gymnax environment its EnvParams
World = Any  # an environment's state
Fast = Any  # what a learner changes within a task
Info = dict[str, Array]  # scalars to be reported


class Transition(NamedTuple):
    """One step of one stream; with leading axes [T], [T, E] or [K, T, E] for many.

    `next_obs` is the true successor, never the observation after a reset. `terminated` and `truncated` are two
    positive flags, kept apart to the very end: termination zeroes the bootstrap, truncation only cuts the return.
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array
    truncated: Array


class Step(NamedTuple):
    """What an environment answers to an action.

    `obs` is where the stream goes on (after a reset, if the episode ended); `transition_obs` is the true successor.
    """

    obs: Array
    transition_obs: Array
    reward: Array
    terminated: Array
    truncated: Array


class Slow(NamedTuple):
    """What changes once per outer step (θ). Only `params` is differentiated; `step` (int32 []) feeds schedules."""

    params: Params
    target: Params
    memory: Any
    step: Array


@dataclass(frozen=True)
class Span:
    """The static sizes of a lifetime: `segments` (K) × `steps` (T) × `streams` (E), adaptation after each segment.

    >>> Span(segments=2, steps=20, streams=8).transitions
    320
    """

    segments: int
    steps: int
    streams: int

    def __post_init__(self):
        for name in ("segments", "steps", "streams"):
            check_count(f"span.{name}", getattr(self, name))

    @property
    def transitions(self) -> int:
        """Environment steps in one lifetime."""
        return self.segments * self.steps * self.streams


class Lifetime(NamedTuple):
    """All experience in one task; `experience` is a Transition [K, T, E]."""

    task: Task
    experience: Transition


class QNetwork(NamedTuple):
    """`init(key) -> params` and `apply(params, obs, context) -> outputs`, for one observation.

    `context` is the shape of what a learner gives the network to read besides the observation, None for nothing.
    `chosen(params, obs, context, action) -> outputs` need only be right at one action, which is all that a regression reads
    of `Views.now`: it spares a network that scores each action on its own the gradients of the others. None where nothing
    is spared.
    """

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array, Array | None], Outputs]
    context: tuple[int, ...] | None = None
    chosen: Callable[..., Outputs] | None = None


def _as_it_is(parameter: Callable, vector: Array) -> Outputs:
    return vector


class ActionHead(NamedTuple):
    """How a network's outputs become values and actions, so that the action space is an axis of its own.

    width: int                                  numbers that the network must give
    greedy: (outputs) -> action                 argmax_a Q; double Q-learning is value(target, greedy(online))
    value: (outputs, action) -> []              Q(s, a)
    maximum: (outputs) -> []                    max_a Q(s, a), equal to value(outputs, greedy(outputs))
    sample: (key) -> action                     uniform
    rest: () -> carry                           exploration's carry at a stream's start (a held action, noise)
    perturb: (key, carry, action, epsilon) -> (carry, action)   exploration around an action
    decode: (action) -> environment action      native index or code to what the environment takes
    embed: (action) -> [n]                      the action as features, for networks that read actions
    outputs: (parameter, vector [width]) -> outputs   what the network gives, by default the vector as it is; parameters
                                                that the head owns, `parameter(name, init: (key) -> pytree)`, stand among
                                                the network's and come along in what is given
    policy: (outputs, temperature) -> [A]       probabilities softmax(Q / temperature); None if the head has none
    values: (outputs) -> [A]                    Q(s, ·) in the order of `policy`; None if the head has none
    logits: (outputs, action) -> [bins]         for HL-Gauss; None if the head has no bins
    support: Support or None                    where those bins stand
    """

    width: int
    greedy: Callable
    value: Callable
    maximum: Callable
    sample: Callable
    rest: Callable
    perturb: Callable
    decode: Callable
    embed: Callable
    outputs: Callable = _as_it_is
    policy: Callable | None = None
    values: Callable | None = None
    logits: Callable | None = None
    support: Any = None

    @property
    def num_actions(self) -> int | None:
        """How many actions there are, None where the head does not know them one by one."""
        outputs = jax.ShapeDtypeStruct((self.width,), jnp.float32)
        return None if self.values is None else jax.eval_shape(self.values, outputs).size


def check_head(head: Any) -> None:
    """Raise `Misuse` unless it is an ActionHead, and not what makes one."""
    check_type("the head", head, ActionHead, "make one as in metadqn_jax.actions")


class Spec(NamedTuple):
    """The static face of a task distribution: one observation's shape and dtype, and the head of its action space.

    `image` is the shape [height, width, channels] of the image that a flattened observation begins with, None where it
    begins with none; observations of rank 3 are images as they are. `trial` is how many steps a `trial` takes, where
    observations end with its two numbers; what changes observations makes a spec where it is None.
    """

    observation: jax.ShapeDtypeStruct
    head: ActionHead
    image: tuple[int, ...] | None = None
    trial: int | None = None

    def followed_by(self, count: int) -> "Spec":
        """Of these observations, flattened, with `count` numbers behind them.

        >>> Spec(jax.ShapeDtypeStruct((10, 10, 4), "float32"), None).followed_by(2).image
        (10, 10, 4)
        """
        observation = jax.ShapeDtypeStruct((self.observation.size + count,), jnp.float32)
        return Spec(observation, self.head, image_of(self))


def image_of(spec: Spec) -> tuple[int, ...] | None:
    """The shape [height, width, channels] of the image that an observation is or begins with, None for none."""
    return spec.observation.shape if len(spec.observation.shape) == 3 else spec.image
