"""XLand-MiniGrid for one who knows the ruleset and sees the whole room: the shortest way to what can be done next."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.loops import repeat
from metadqn_jax.types import Array, Key

FORWARD, PICK, PUT = 0, 3, 4  # xminigrid's actions; 1 and 2 turn right and left
HOLD, NEAR, BESIDE = 1, 2, 3
KINDS = jnp.array([0, HOLD, 0, NEAR, BESIDE] + [0] * 10)  # of xminigrid's goals; its first rules have these numbers
WAYS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
FLOOR, FAR = 1, 10_000


def expert_action(task: Any, state: Any) -> Array:
    """The next action, int32 [], of one who knows the task: towards the goal if its objects are there, else towards a rule.

    task: goal uint8 [5] and rules uint8 [rules, 7] of the kinds hold, near and beside.   state: grid uint8 [H, W, 2], position
    int32 [2], direction int32 [] and pocket uint8 [2], as of `XLand`. One thing is done after the other, each on a shortest
    way. That is not always optimal: a detour might be short that serves two of them.
    """
    grid, pocket = state.grid, state.pocket
    kinds = jnp.concatenate([KINDS[task.goal[:1]], task.rules[:, 0].astype(KINDS.dtype)])
    one = jnp.concatenate([task.goal[None, 1:3], task.rules[:, 1:3]])
    other = jnp.concatenate([task.goal[None, 3:5], task.rules[:, 3:5]])

    def there(tile):
        return jnp.any(_at(grid, tile)) | jnp.all(pocket == tile)

    ready = (kinds > 0) & jax.vmap(there)(one) & ((kinds < BESIDE) | jax.vmap(there)(other))
    now = jnp.argmax(ready)  # the goal stands first
    free = grid[..., 0] == FLOOR
    ends, last = _ends(grid, free, pocket, kinds[now], one[now], other[now])
    return _towards(free, ends, last, state.direction, *state.position)


def expert_return(key: Key, start: Any, step: Callable, task: Any, horizon: int) -> Array:
    """The return, [] float32, of the expert's episode from the state `start`.

    step: (key, state, action, task) -> (obs, state, reward, whether the goal is reached, info), a gymnax `step_env`.
    """

    def act(key, t, carry):
        state, alive = carry
        _, state, reward, solved, _ = step(key, state, expert_action(task, state), task)
        return (state, alive & ~solved), jnp.where(alive, reward, 0.0)

    return jnp.sum(repeat(key, horizon, act, (start, jnp.bool_(True)))[1])


def _ends(grid, free, pocket, kind, one, other):
    """Where to stand, bool [direction, row, column], and what to do there, to do one thing or what comes before it."""
    holds_one, holds_other = jnp.all(pocket == one), jnp.all(pocket == other)
    beside, near = kind == BESIDE, kind == NEAR
    places = beside & (holds_one | holds_other)
    drops = (pocket[0] > 0) & ~places & ~(near & ~holds_one)  # whatever is in the way, or must stand to come near it
    around, target = _beside(_at(grid, one)), _beside(_at(grid, jnp.where(holds_one, other, one)))
    comes_near = jnp.where(_ahead(free), _ahead(around), around[None])  # after a step forward, or against it
    ends = jnp.select([drops, places, near], [_ahead(free), _ahead(free & target), comes_near], _ahead(_at(grid, one)))
    return ends, jnp.select([drops | places, near], [PUT, FORWARD], PICK)


def _towards(free, ends, last, direction, row, column):
    """The first action of a shortest way to one of the `ends`, or `last` if one stands there."""

    def near(distance):
        """The distances after each of the actions forward, right, left, [3, direction, row, column]."""
        ahead = jnp.stack([jnp.roll(distance[i], (-y, -x), (0, 1)) for i, (y, x) in enumerate(WAYS)])
        forward = jnp.where(_ahead(free), ahead, distance)
        return jnp.stack([forward, jnp.roll(distance, -1, 0), jnp.roll(distance, 1, 0)])

    def relax(_, distance):
        return jnp.minimum(distance, 1 + near(distance).min(0))

    start = jnp.where(ends & free[None], 0, FAR)
    distance = jax.lax.fori_loop(0, 4 * len(free), relax, start)
    step = jnp.argmin(near(distance)[:, direction, row, column])
    return jnp.where(distance[direction, row, column] == 0, last, step).astype(jnp.int32)


def _at(grid: Array, tile: Array) -> Array:
    """Where a tile is, bool [row, column]."""
    return jnp.all(grid == tile[None, None], -1)


def _ahead(mask: Array) -> Array:
    """Whether a mask [row, column] holds one cell ahead, [direction, row, column]. Walls are all around."""
    return jnp.stack([jnp.roll(mask, (-y, -x), (0, 1)) for y, x in WAYS])


def _beside(mask: Array) -> Array:
    """Whether a mask [row, column] holds on one of the four cells around."""
    return _ahead(mask).any(0)
