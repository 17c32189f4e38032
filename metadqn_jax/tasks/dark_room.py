"""`dark_room` and `key_to_door`: goals in a room that shows nothing but one's own place (Laskin et al. 2023, section 4)."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.actions import discrete, held
from metadqn_jax.checks import check_count, check_flag
from metadqn_jax.environments.dark_room import DarkRoom
from metadqn_jax.planners.dark_room import candidates, known_goal_return
from metadqn_jax.tasks.base import Family, Recipe, TaskSplit
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split, withhold
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import ActionHead, Span

HOLD = 4  # steps for which exploration holds an action: single random ones stay near the centre
RECIPE = Recipe(
    span=Span(segments=2, steps=20, streams=16),
    discount=0.9,
    inner_trace=0.5,
    outer_trace=0.5,
    reward_scale=0.5,
    query_epsilon=0.3,
    inner_rate=0.3,
    outer_steps=1_000,
)
TRIAL_RECIPE = dataclasses.replace(
    TRIAL,
    span=Span(segments=120, steps=1, streams=1),
    last_discount=0.95,
    query_epsilon=0.5,
    last_epsilon=0.03,
    outer_rate=0.003,
    outer_steps=4_000,
)


def dark_room(size: int = 9, *, hard: bool = False, held_out: int = 16) -> Family:
    """Find a goal in a room of size × size, from its centre: 20 steps an episode, +1 for each on the goal; `hard`: once.

    With the defaults an episode returns 16.50 where the goal is known, in the mean over all 80, and 0.235 to random
    actions; `planners.dark_room.bayes_bracket` says what can be reached where it is not. The paper's hard room is
    `dark_room(17, hard=True)`. `held_out` goals, always the same, are for testing alone; with 0 train and test draw from
    all of them, the prior of that bracket. Raises `Misuse` on sizes < 2 and unless a goal is left to train on.

    >>> dark_room(5, held_out=4).horizon
    20
    """
    check_count("size", size, least=2)
    check_flag("hard", hard)
    env = DarkRoom(size)
    params = dataclasses.replace(env.default_params, once=hard)
    base = trees.strengthen(jax.tree.map(jnp.asarray, params))
    goals = jnp.array(candidates(size), jnp.int32)[:, None]
    tasks = jax.vmap(lambda goal: base.replace(goals=goal))(goals)
    whole = from_gymnax(env, lambda key, params: params, params=params, head=_head(env))
    return _family(env, withhold(whole, tasks, held_out), params, TRIAL_RECIPE)


def key_to_door(size: int = 9, *, horizon: int = 50, test_share: float = 0.2) -> Family:
    """Find a key, then a door, in a room of size × size, from its centre: +1 for the key, then +1 for the door, once each.

    Each lies on any cell but the centre, independently; a step finds one of them at most. Known, they return 2. The pairs
    of cells are split by hash. Whether one has the key is not observed, as in the paper.
    Raises `Misuse` on sizes < 2 and on a horizon < 1.
    """
    check_count("size", size, least=2)
    check_count("horizon", horizon)
    env = DarkRoom(size, goals=2)
    params = dataclasses.replace(env.default_params, max_steps_in_episode=horizon)
    cells = jnp.array(candidates(size), jnp.int32)

    def vary(key, params):
        return params.replace(goals=cells[jax.random.randint(key, (2,), 0, len(cells))])

    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(4 * horizon, 1, 1), reward_scale=1.0)
    return _family(env, split(from_gymnax(env, vary, params=params, head=_head(env)), test_share), params, trial)


def _head(env: DarkRoom) -> ActionHead:
    return held(discrete(env.num_actions), HOLD)


def _family(env: DarkRoom, tasks: TaskSplit, params, trial: Recipe) -> Family:
    horizon = params.max_steps_in_episode

    def optimum(key, task):
        return known_goal_return(task.goals, env.size, horizon, params.once)

    def features(task):
        return task.goals.ravel() / (env.size // 2) - 1.0

    recipe = RECIPE.with_steps(horizon)
    return Family(tasks, recipe, horizon, optimum, features, trial)
