"""`highway`: driving among others, with wishes, drivers and a car of its own in each task (after Leurent 2018, highway-env)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.actions import discrete, grid
from metadqn_jax.checks import check_flag, check_name, check_real
from metadqn_jax.environments.highway import IDLE, Highway
from metadqn_jax.planners.lookahead import planned_return
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.disguises import disguised, permute_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.tasks.vary import Ranges, places, vary_uniform
from metadqn_jax.types import Span

RANGES: Ranges = {
    "wanted_speed": (20.0, 30.0),
    "wanted_lane": (0.0, 1.0),
    "lanes": (2, 4),
    "density": (0.6, 1.2),
    "headway": (0.8, 2.2),
    "traffic_speed": (19.0, 26.0),
    "politeness": (0.0, 1.0),
    "response": (0.4, 1.2),
    "friction": (0.5, 1.0),
}
STEERING: Ranges = {"steering": ((-1.2, -0.6), (0.6, 1.2))}  # of continuous actions: half of the cars turn the wrong way
BOUNDS = {  # of what can vary
    "lanes": (1.0, np.inf),
    "density": (0.05, np.inf),
    "ego_spacing": (0.5, np.inf),
    "headway": (0.0, np.inf),
    "traffic_speed": (1.0, 40.0),
    "speed_spread": (0.0, np.inf),
    "politeness": (0.0, np.inf),
    "response": (0.0, 5.0),
    "steering": (-1.5, 1.5),
    "friction": (0.0, 1.0),
    "wanted_speed": (0.0, 30.0),
    "speed_tolerance": (0.1, np.inf),
    "wanted_lane": (0.0, 1.0),
}
RECIPE = Recipe(  # a starting point that nobody has tuned
    span=Span(segments=2, steps=30, streams=8),
    discount=0.9,
    inner_trace=0.5,
    outer_trace=0.7,
    reward_scale=0.5,
    query_epsilon=0.3,
    inner_rate=0.1,
    outer_steps=2_000,
)
TRIAL_RECIPE = dataclasses.replace(TRIAL, span=Span(90, 1, 1), discount=0.9, reward_scale=0.5, meta_batch=32)  # nor this one
SHARP = {"speed_weight": 0.5, "lane_weight": 0.5, "crash_weight": 0.5, "speed_tolerance": 5.0}  # wishes are worth two thirds
DRAWN = ("exponent", "target_speed", "target_lane")  # by every episode anew
TURN = 0.05  # the sharpest steering of a continuous action's grid: more leaves the road within a second
FAST = 5  # continuous actions a second
AHEAD = 6  # steps that plans look ahead


def highway(vehicles: int = 20, continuous: bool = False, ranges: Ranges | None = None) -> Family:
    """Drive for 30 s as the task wants it, at some speed (20 … 30 m/s) and on some side of the road, neither of which is shown.

    What also varies: lanes, density, the drivers' headway, speed and politeness, how the car responds, and the road's friction,
    all drawn uniformly from `ranges`, {field of `HighwayParams`: (low, high)}, `RANGES` by default. Actions are five, once a
    second; if `continuous`, a grid of 3 accelerations × 3 steerings, five times a second for 20 s, and half of the cars turn
    the wrong way (`STEERING`). A step gives a third for not crashing, and a third each for the wanted speed and lane.

    The `optimum` is what a driver reaches who knows the task, and tries each of his actions, held for a while, in a perfect
    copy of the world before he acts (`planned_return`). It is no bound; one return per step is, which traffic rarely allows.
    Train and test tasks are split by a hash. Nobody has tuned the two recipes. `features` are the parameters, scaled to ±1.
    Raises `Misuse` on sizes < 1, and on ranges that are reversed, impossible, or of what cannot vary.

    >>> highway(vehicles=5).split.test.spec.head.width
    5
    """
    check_flag("continuous", continuous)
    usual: Ranges = {**RANGES, **STEERING} if continuous else RANGES
    varied = usual if ranges is None else ranges
    vary = vary_uniform(varied)
    _check_bounds(varied)
    env = Highway(vehicles, continuous, ticks=1 if continuous else None)
    horizon = 20 * FAST if continuous else 30
    base = dataclasses.replace(env.default_params, max_steps_in_episode=horizon, **SHARP)
    head = grid([-1.0, -TURN], [1.0, TURN], bins=3) if continuous else discrete(5)
    tasks = from_gymnax(env, vary, params=base, redraw=DRAWN, head=head)
    indices = jnp.asarray(_continuous_plans() if continuous else _plans(), jnp.int32)
    plans = jax.vmap(jax.vmap(head.decode))(indices)

    def optimum(key, task):
        key_start, key_plans = jax.random.split(key)
        return planned_return(key_plans, plans, task, tasks.reset(key_start, task)[0], tasks.step, horizon)

    recipe = RECIPE.with_steps(horizon)
    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(3 * horizon, 1, 1))
    return Family(split(tasks), recipe, horizon, optimum, places(varied), trial)


def permuted_highway(vehicles: int = 20) -> Family:
    """`highway`, whose five actions are permuted in each task (`permute_actions`): whoever does not adapt drives at random."""
    return disguised(highway(vehicles), permute_actions)


def _plans() -> np.ndarray:
    """Each of the five actions, and then idle."""
    return np.array([[action, *[IDLE] * (AHEAD - 1)] for action in range(5)])


def _continuous_plans() -> np.ndarray:
    """Each acceleration, with one steering for the first half and one for the second."""
    half = AHEAD // 2
    levels = itertools.product(range(3), repeat=3)
    return np.array([[3 * throttle + first] * half + [3 * throttle + second] * half for throttle, first, second in levels])


def _check_bounds(ranges: Ranges) -> None:
    for names, given in ranges.items():
        for name in (names,) if isinstance(names, str) else names:
            least, most = check_name("parameter of the highway", name, BOUNDS)
            for bound in np.ravel(given):
                check_real(f"a bound of {name}", float(bound), least, most)
