"""Classic control whose physics vary as in Packer et al. (2018): trained within a range, tested within and beyond it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.actions import grid
from metadqn_jax.checks import Misuse, check_name
from metadqn_jax.planners import control
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution, TaskSplit
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import REPLAYED
from metadqn_jax.tasks.vary import Interval, vary_uniform
from metadqn_jax.tasks.wrappers import scale_observation
from metadqn_jax.types import ActionHead, Array, Span


class Ranges(NamedTuple):
    """Of one parameter: its default, where train tasks are drawn (R), and the two intervals beyond (E)."""

    default: float
    normal: Interval
    extreme: tuple[Interval, Interval]


class Control(NamedTuple):
    """One environment of the benchmark.

    parameters: by the fields of the EnvParams that share a number.   scale: of observations.   success: the least return
    of a successful episode, None where Packer et al. do not judge by the return.   laws: hand-made ones, and their
    numbers (`planners.control`); None where an episode that never ends early is the optimum.
    """

    env: str
    parameters: dict[tuple[str, ...], Ranges]
    horizon: int
    scale: tuple[float, ...]
    recipe: Recipe
    trial: Recipe
    success: float | None
    laws: tuple[control.Law, Array] | None
    head: ActionHead | None = None


SHORT = Recipe(
    span=Span(segments=2, steps=25, streams=8),
    discount=0.95,
    inner_trace=0.3,
    outer_trace=0.7,
    reward_scale=0.2,
    query_epsilon=0.2,
    outer_steps=1_500,
)
LONG = dataclasses.replace(SHORT, discount=0.99, inner_trace=0.5, outer_trace=0.9, reward_scale=0.03)
TWICE = dataclasses.replace(REPLAYED, span=Span(400, 1, 1))
SLOW = dataclasses.replace(TWICE, discount=0.98, outer_trace=0.9, reward_scale=0.05)
LINK = Ranges(1.0, (0.75, 1.25), ((0.5, 0.75), (1.25, 1.5)))
TABLE = {
    "cartpole": Control(
        "CartPole-v1",
        {
            ("force_mag",): Ranges(10.0, (5.0, 15.0), ((1.0, 5.0), (15.0, 20.0))),
            ("length",): Ranges(0.5, (0.25, 0.75), ((0.05, 0.25), (0.75, 1.0))),
            ("masspole",): Ranges(0.1, (0.05, 0.5), ((0.01, 0.05), (0.5, 1.0))),
        },
        horizon=200,
        scale=(1 / 2.4, 1 / 2, 1 / 0.21, 1 / 2),
        recipe=SHORT,
        trial=TWICE,
        success=195.0,
        laws=None,
    ),
    "mountain_car": Control(
        "MountainCar-v0",
        {
            ("force",): Ranges(0.001, (0.0005, 0.005), ((0.0001, 0.0005), (0.005, 0.01))),
            ("gravity",): Ranges(0.0025, (0.001, 0.005), ((0.0005, 0.001), (0.005, 0.01))),
        },
        horizon=200,
        scale=(1.0, 1 / 0.07),
        recipe=dataclasses.replace(LONG, span=Span(segments=2, steps=200, streams=4)),
        trial=dataclasses.replace(SLOW, query_epsilon=1.0, last_epsilon=0.05, centred=True),
        success=-110.0,
        laws=(control.swing_up_the_hill, control.MOUNTAIN_CAR),
    ),
    "acrobot": Control(
        "Acrobot-v1",
        {("link_length_1",): LINK, ("link_mass_1", "link_mass_2"): LINK, ("link_moi",): LINK},
        horizon=500,
        scale=(1.0, 1.0, 1.0, 1.0, 0.2, 0.1),
        recipe=dataclasses.replace(LONG, span=Span(segments=2, steps=250, streams=4)),
        trial=dataclasses.replace(SLOW, span=Span(1_000, 1, 1)),
        success=-89.0,  # the step that reaches the goal costs nothing
        laws=(control.swing_the_foot, control.ACROBOT),
    ),
    "pendulum": Control(
        "Pendulum-v1",
        {("l",): LINK, ("m",): LINK},
        horizon=200,
        scale=(1.0, 1.0, 0.125),
        recipe=dataclasses.replace(LONG, span=Span(segments=2, steps=100, streams=8), discount=0.95, reward_scale=0.05),
        trial=dataclasses.replace(TWICE, reward_scale=0.05),
        success=None,
        laws=(control.swing_and_hold, control.PENDULUM),
        head=grid([-2.0], [2.0], bins=5),
    ),
}


def varied_cartpole(test: str = "interpolation") -> Family:
    """CartPole of 200 steps with varied force, half-length and pole mass; the optimum is taken to be 200, an upper bound."""
    return varied("cartpole", test)


def varied_mountain_car(test: str = "interpolation") -> Family:
    """MountainCar with varied force and gravity; `optimum` is reached by the best of 320 hand-made plans, and no bound.

    In part of the extreme tasks the hill is too steep for the force, within 200 steps: there all return −200.
    """
    return varied("mountain_car", test)


def varied_acrobot(test: str = "interpolation") -> Family:
    """Acrobot with varied length, mass and inertia of its links; `optimum` is reached by the best of 16 laws, and no bound.

    As in the authors' code the centres of mass stay 0.5 m from the joints; the second link's length, which they vary too,
    stands nowhere in the equations.
    """
    return varied("acrobot", test)


def varied_pendulum(test: str = "interpolation") -> Family:
    """Pendulum with varied length and mass, and five torques; `optimum` is reached by the best of 60 laws, and no bound.

    Differs from the paper: speeds are clipped before they move the angle, as gymnax and Gymnasium do. Success is defined
    by the angles of an episode, not by its return, so `succeeds` refuses to judge it.
    """
    return varied("pendulum", test)


def varied(name: str, test: str = "interpolation") -> Family:
    """The family called `name` in `TABLE` (Packer et al. 2018, table 1); all parameters are drawn independently.

    Train tasks come from the ranges R, by four in five; `test` says where test tasks come from: "interpolation", the rest
    of R, or "extrapolation", the ranges E, in which every parameter lies beyond R. Half-open intervals keep these apart.
    Train tasks are the same for both. `features` are log(parameter / default). Raises `Misuse` on names.

    >>> varied("mountain_car").horizon
    200
    """
    one = check_name("control task", name, TABLE)
    sides = check_name("test range", test, {"interpolation": _interpolation, "extrapolation": _extrapolation})(one)
    return Family(sides, one.recipe, one.horizon, _optimum(one, sides.train), _features(one), one.trial)


def succeeds(name: str, returns: Array) -> Array:
    """Which episodes, by their `returns` [...], Packer et al. (2018) count as solved, bool [...].

    CartPole: at least 195 steps; MountainCar: at the goal within 110; Acrobot: within 90. Raises `Misuse` on other names.

    >>> succeeds("acrobot", jnp.array([-89.0, -90.0])).tolist()
    [True, False]
    """
    least = check_name("control task", name, TABLE).success
    if least is None:
        raise Misuse(f"success must be a matter of the return to be judged by it, got {name}; report returns.")
    return jnp.asarray(returns) >= least


def _interpolation(one: Control) -> TaskSplit:
    return split(_within(one, {fields: ranges.normal for fields, ranges in one.parameters.items()}))


def _extrapolation(one: Control) -> TaskSplit:
    beyond = _within(one, {fields: ranges.extreme for fields, ranges in one.parameters.items()})
    return TaskSplit(train=_interpolation(one).train, test=beyond)


def _within(one: Control, ranges: Any) -> TaskDistribution:
    import gymnax

    env, default = gymnax.make(one.env)
    base = default.replace(max_steps_in_episode=one.horizon)
    return scale_observation(from_gymnax(env, vary_uniform(ranges), params=base, head=one.head), one.scale)


def _optimum(one: Control, distribution: TaskDistribution) -> Callable[..., Array]:
    def reached(key, task):
        key_start, key_steps = jax.random.split(key)
        start, _ = distribution.reset(key_start, task)
        return control.best_of(key_steps, numbers, law, task, start, distribution.step, one.horizon)

    if one.laws is None:
        return lambda key, task: jnp.float32(one.horizon)
    law, numbers = one.laws
    return reached


def _features(one: Control) -> Callable[..., Array]:
    defaults = {fields[0]: ranges.default for fields, ranges in one.parameters.items()}
    return lambda task: jnp.stack([jnp.log(getattr(task, name) / default) for name, default in defaults.items()])
