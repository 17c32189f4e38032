"""Frozen lake (Gymnasium's toy-text one): cross the ice to the goal, beside holes, on a map that belongs to the task."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metadqn_jax.types import Array

ICE, HOLE, GOAL = range(3)
MOVES = jnp.array([[0, -1], [1, 0], [0, 1], [-1, 0]], jnp.int32)  # left, down, right, up, as (row, column)


@struct.dataclass
class FrozenLakeState(environment.EnvState):
    """The cell one stands on, and the steps taken in this episode."""

    place: jax.Array  # int32 []: size · row + column
    time: Any  # int32 []


@struct.dataclass
class FrozenLakeParams(environment.EnvParams):
    """The task: `tiles` int32 [size, size] of ICE, HOLE and GOAL, and how likely a move goes where it is meant to go.

    The rest of that probability is shared by the two directions at right angles: 1/3 is Gymnasium's slippery lake.
    """

    tiles: Any = None
    success_rate: float = 1.0
    max_steps_in_episode: int = 100


class FrozenLake(environment.Environment[FrozenLakeState, FrozenLakeParams]):
    """Episodes start in the upper left corner; holes and the goal terminate, the horizon truncates. Reward 1 on the goal.

    Differs from gymnax's FrozenLake-misc: the map is a parameter, and observations are the cell, one-hot [size²].
    """

    def __init__(self, size: int = 4):
        super().__init__()
        self.size = size

    @property
    def default_params(self) -> FrozenLakeParams:
        return FrozenLakeParams(tiles=jnp.zeros((self.size, self.size), jnp.int32).at[-1, -1].set(GOAL))

    def reset_env(self, key, params):
        state = FrozenLakeState(place=jnp.zeros((), jnp.int32), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        ends = jnp.cumsum(self.slips(params))
        way = jnp.sum(jax.random.uniform(key) >= ends[:-1]) - 1
        place = self.after(state.place, (action + way) % len(MOVES))
        state = FrozenLakeState(place=place, time=state.time + 1)
        reward = (params.tiles.ravel()[place] == GOAL).astype(jnp.float32)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def slips(self, params: FrozenLakeParams) -> Array:
        """The probabilities [3] of going in the direction before, as meant, and in the one after, in the order of moves."""
        aside = (1 - params.success_rate) / 2
        return jnp.stack([aside, params.success_rate, aside])

    def after(self, place: Array, direction: Array) -> Array:
        """The cell that lies in a direction; at the border one stays."""
        row, column = MOVES[direction]
        rows = jnp.clip(place // self.size + row, 0, self.size - 1)
        return self.size * rows + jnp.clip(place % self.size + column, 0, self.size - 1)

    def tables(self, params: FrozenLakeParams) -> tuple[Array, Array]:
        """The lake as a finite MDP: transitions [S, A, S] and mean rewards [S, A], in which ends rest without reward."""
        places, moves = jnp.arange(self.size**2), jnp.arange(len(MOVES))
        reached = jax.vmap(lambda place: jax.vmap(lambda move: self.after(place, move))(moves))(places)
        straight = jax.nn.one_hot(reached, len(places))  # [S, A, S] without slipping
        slips = zip((-1, 0, 1), self.slips(params), strict=True)
        moved = sum(chance * jnp.roll(straight, -way, axis=1) for way, chance in slips)
        ends = (params.tiles.ravel() != ICE)[:, None, None]
        stays = jnp.broadcast_to(jnp.eye(len(places))[:, None], moved.shape)
        reward = moved @ (params.tiles.ravel() == GOAL).astype(jnp.float32)
        return jnp.where(ends, stays, moved), jnp.where(ends[..., 0], 0.0, reward)

    def observe(self, key, state, action, params):
        return jax.nn.one_hot(state.place, self.size**2)

    def is_terminated(self, state, params):
        return params.tiles.ravel()[state.place] != ICE

    @property
    def num_actions(self) -> int:
        return len(MOVES)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (self.size**2,), jnp.float32)
