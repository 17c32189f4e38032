"""`frozen_lake`: cross random frozen lakes with actions whose meaning is drawn with the task."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, check_flag, check_real, require
from metadqn_jax.environments.frozen_lake import GOAL, HOLE, ICE, MOVES, FrozenLake
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.disguises import permute_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Array, Key, Span

RECIPE = Recipe(
    span=Span(segments=2, steps=50, streams=8),
    discount=0.9,
    inner_trace=0.5,
    outer_trace=0.5,
    reward_scale=3.0,
    query_epsilon=0.3,
)
TRIAL_RECIPE = dataclasses.replace(TRIAL, discount=0.95, reward_scale=3.0, query_epsilon=0.5)


def frozen_lake(size: int = 4, holes: float = 0.2, slippery: bool = False, horizon: int = 100) -> Family:
    """Cross a random lake from corner to corner: 1 on the goal, 0 else; an episode ends there, in a hole or at the horizon.

    Each other tile is a hole with probability `holes`, and lakes that cannot be crossed are drawn anew (Gymnasium's
    `generate_random_map`); the four actions are permuted. What is meant succeeds always, or with probability 1/3 if
    `slippery`. The optimum is exact, by value iteration. Raises `Misuse` on a size < 2, a horizon < 1, and where 1,024
    draws leave no lake that can be crossed.

    >>> frozen_lake().horizon
    100
    """
    check_count("size", size, least=2)
    check_count("horizon", horizon)
    check_real("holes", holes, most=1.0)
    check_flag("slippery", slippery)
    _check_lakes(size, holes)
    env = FrozenLake(size)

    def vary(key, params):
        return params.replace(tiles=random_tiles(key, size, holes))

    def optimum(key, task):
        return value_iteration(*env.tables(task[0]), horizon)[0][0, 0]

    def features(task):
        lake, permutation = task
        return jnp.concatenate(
            [(lake.tiles == HOLE).ravel(), jax.nn.one_hot(permutation, len(MOVES)).ravel()], dtype=jnp.float32
        )

    rate = 1 / 3 if slippery else 1.0
    base = dataclasses.replace(env.default_params, success_rate=rate, max_steps_in_episode=horizon)
    lakes = permute_actions(from_gymnax(env, vary, params=base))
    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(4 * horizon, 1, 1))
    return Family(split(lakes), RECIPE, horizon, optimum, features, trial)


def random_tiles(key: Key, size: int, holes: float) -> Array:
    """A lake int32 [size, size] that can be crossed, drawn until one is."""

    def redraw(state):
        i, _ = state
        return i + 1, _draw(jax.random.fold_in(key, i), size, holes)

    return jax.lax.while_loop(lambda state: ~can_be_crossed(state[1]), redraw, redraw((jnp.int32(0), None)))[1]


def can_be_crossed(tiles: Array) -> Array:
    """Whether a way without holes leads from the upper left corner to the lower right one, bool []."""
    dry = tiles != HOLE

    def spread(_, wet):
        near = jnp.pad(wet, 1)
        return dry & (wet | near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:])

    first = jnp.zeros_like(dry).at[0, 0].set(True)
    return jax.lax.fori_loop(0, tiles.size, spread, first)[-1, -1]


def _draw(key: Key, size: int, holes: float) -> Array:
    tiles = jnp.where(jax.random.uniform(key, (size, size)) < holes, HOLE, ICE).astype(jnp.int32)
    return tiles.at[0, 0].set(ICE).at[-1, -1].set(GOAL)


def _check_lakes(size: int, holes: float) -> None:
    with jax.ensure_compile_time_eval():
        crossed = jax.jit(jax.vmap(lambda key: can_be_crossed(_draw(key, size, holes))))
        some = crossed(jax.random.split(jax.random.key(0), 1024)).any()
    require(bool(some), f"holes must leave a lake that can be crossed among 1,024 draws, got {holes}; lower holes.")
