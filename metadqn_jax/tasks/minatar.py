"""MinAtar's games (Young & Tian 2019) with buttons, views, a stickiness and difficulties that are drawn with the task."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.actions import discrete, held
from metadqn_jax.checks import check_name, check_real
from metadqn_jax.planners.lookahead import planned_return
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution
from metadqn_jax.tasks.disguises import mirror_observation, permute_actions, sticky_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.tasks.vary import Ranges, places, vary_uniform
from metadqn_jax.types import Array, Key, Span, Task

HORIZON = 100
RECIPE = Recipe(  # chosen for CAVIA on train tasks of `sided_invaders`
    span=Span(segments=2, steps=HORIZON, streams=2),
    discount=0.95,
    inner_trace=0.5,
    outer_trace=0.7,
    reward_scale=1.0,
    query_epsilon=0.3,
    outer_rate=3e-3,
    meta_batch=8,
    fresh=4,
    capacity=64,
    hidden=(128, 64),
)
TRIAL_RECIPE = dataclasses.replace(  # there, too: without old trials RL² does not learn to play within as many steps
    TRIAL,
    span=Span(2 * HORIZON, 1, 1),
    discount=0.95,
    outer_trace=0.8,
    reward_scale=1.0,
    outer_rate=2e-3,
    meta_batch=8,
    fresh=4,
    capacity=32,
    centred=False,
)


class Plans(NamedTuple):
    """What a planner tries: each of `moves` for each of `lengths` steps, or none of them, and `then` to the end of `ahead`."""

    moves: tuple[int, ...]
    lengths: tuple[int, ...]
    then: tuple[int, ...]
    ahead: int

    def table(self) -> Array:
        """Actions, int32 [plans, ahead]."""
        starts = [(), *((move,) * length for move in self.moves for length in self.lengths)]
        return jnp.array([[*start, *[last] * self.ahead][: self.ahead] for start in starts for last in self.then], jnp.int32)


class Game(NamedTuple):
    """One game: gymnax's id, which of its parameters vary, a planner's plans, and for how long exploration holds a button."""

    env: str
    ranges: Ranges
    plans: Plans
    hold: int = 1


TABLE = {
    # None can vary.
    "breakout": Game("Breakout-MinAtar", {}, Plans(moves=(1, 2), lengths=(1, 2, 3, 4, 5, 6), then=(0,), ahead=16)),
    # gymnax's enemies stop for good where ramping brings their interval to 0: it falls by 1 at most in 100 steps here.
    "asterix": Game(
        "Asterix-MinAtar",
        {"init_spawn_speed": (5, 12), "init_move_interval": (2, 6), "ramp_interval": (30, 100)},
        Plans(moves=(2, 4), lengths=(1, 2, 4, 7), then=(0, 1, 3), ahead=12),
    ),
    "freeway": Game(
        "Freeway-MinAtar",
        {"player_speed": (1, 4)},
        Plans(moves=(0, 2), lengths=(1, 2, 4, 8), then=(1,), ahead=40),
        hold=16,  # single random steps never cross
    ),
    "space_invaders": Game(
        "SpaceInvaders-MinAtar",
        {"shot_cool_down": (2, 8), "enemy_move_interval": (4, 14), "enemy_shot_interval": (5, 15)},
        Plans(moves=(1, 2), lengths=(1, 2, 3, 5), then=(3,), ahead=14),
    ),
}


def breakout(sticky: float = 0.25) -> Family:
    """Breakout for 100 steps with permuted buttons, a mirrored view and sticky actions; 1 for each brick.

    gymnax reads no other parameter. See `game`.

    >>> breakout().split.train.spec.observation.shape
    (10, 10, 4)
    """
    return game("breakout", sticky)


def asterix(sticky: float = 0.25) -> Family:
    """Asterix for 100 steps with permuted buttons, a mirrored view, sticky actions and varied enemies; 1 for each treasure.

    How often somebody comes and how fast he goes varies, and how soon both rise; `shot_cool_down` is dead. See `game`.
    """
    return game("asterix", sticky)


def freeway(sticky: float = 0.25) -> Family:
    """Freeway for 100 steps with permuted buttons, a mirrored view, sticky actions and a varied walker; 1 for each crossing.

    How many steps he waits between two moves varies. Exploration holds a button for 16 steps. See `game`.
    """
    return game("freeway", sticky)


def space_invaders(sticky: float = 0.25) -> Family:
    """Space invaders for 100 steps with permuted buttons, a mirrored view, sticky actions and varied aliens; 1 for each alien.

    How often one may shoot, and how often aliens shoot and move, varies. See `game`.
    """
    return game("space_invaders", sticky)


def game(name: str, sticky: float = 0.25) -> Family:
    """The family called `name` in `TABLE`: what a button does must be found out anew in each task.

    A task is (((EnvParams, stickiness), permutation of the buttons), mirrored up and down, left and right). The stickiness
    is uniform in [0, sticky), the parameters in the ranges of the table. Train and test share no pair of a permutation and
    a view, by a hash. Seen left to right, with the buttons for left and right exchanged, a game is nearly itself: there are
    half as many games as tasks. Seaquest is left out: gymnax's is 25 to 400 times slower than the others.

    The `optimum` is what a planner reaches who knows the task, and tries the plans of the table in a perfect copy of the world
    without stickiness before he acts; to lose a life is worth −1 to him. It is no bound; nobody knows one but the horizon.
    The two recipes are those of `sided_invaders` but for the discount, not tuned for each game. They have no convolutions,
    which are dear on a CPU; `channels=(16,)` puts them before. `features` are the parameters' places in their ranges and the
    stickiness', −1 to 1, the permutation, one-hot, and the view. Raises `Misuse` on names, and unless 0 ≤ sticky ≤ 1.
    """
    tasks, shown = native(name, sticky), difficulty(name, sticky)
    hidden = mirror_observation(permute_actions(tasks), axes=(0, 1))
    planned = planner(name, tasks, unsticky)

    def optimum(key, task):
        (one, _), _ = task
        return planned(key, one)

    def features(task):
        (one, permutation), mirrored = task
        buttons = jax.nn.one_hot(permutation, permutation.size).ravel()
        return jnp.concatenate([shown(one), buttons, mirrored.astype(jnp.float32)])

    return Family(split(hidden, by=_disguise), RECIPE, HORIZON, optimum, features, TRIAL_RECIPE)


def native(name: str, sticky: float = 0.25) -> TaskDistribution:
    """The game called `name` in `TABLE`, as it is played: a task is (EnvParams, stickiness). Raises `Misuse` as `game`."""
    import gymnax

    one = check_name("game", name, TABLE)
    check_real("sticky", sticky, most=1.0)
    env, default = gymnax.make(one.env)
    base = default.replace(max_steps_in_episode=HORIZON)
    head = held(discrete(env.action_space(base).n), one.hold)
    return sticky_actions(from_gymnax(env, vary_uniform(one.ranges), params=base, head=head), most=sticky)


def difficulty(name: str, sticky: float = 0.25) -> Callable[[Task], Array]:
    """(task of `native`) -> the places of its parameters in their ranges, and of its stickiness, −1 to 1."""
    placed = places(TABLE[name].ranges)

    def features(task):
        params, stickiness = task
        share = 2 * stickiness / max(sticky, 1e-6) - 1
        return jnp.concatenate([placed(params), share[None]])

    return features


def unsticky(task: Task) -> Task:
    """The task of `native` in which every button does what it does at once: that in which planners plan."""
    params, stickiness = task
    return params, jnp.zeros_like(stickiness)


def planner(name: str, tasks: TaskDistribution, known: Callable[[Task], Task]) -> Callable[[Key, Task], Array]:
    """(key, task) -> the return of an episode in which the table's plans are tried in `known(task)`, where a life costs 1."""
    plans = TABLE[name].plans.table()

    def optimum(key, task):
        key_start, key_plans = jax.random.split(key)
        start, _ = tasks.reset(key_start, task)
        return planned_return(key_plans, plans, task, start, tasks.step, HORIZON, known(task), _careful)

    return optimum


def _careful(seen):
    return seen.reward - seen.terminated


def _disguise(task):
    (_, permutation), mirrored = task
    return permutation, mirrored
