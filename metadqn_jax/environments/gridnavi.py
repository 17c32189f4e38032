"""Grid navigation to a hidden goal (Zintgraf et al. 2020, VariBAD, section 5.1)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

MOVES = jnp.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]], jnp.int32)  # stay, up, right, down, left


@struct.dataclass
class GridNaviState(environment.EnvState):
    """The cell one stands on, and the steps taken in this episode."""

    position: jax.Array  # int32 [2]: x, y
    time: Any  # int32 []


@struct.dataclass
class GridNaviParams(environment.EnvParams):
    """The task is the cell `goal`, int32 [2]: x, y."""

    goal: Any = (4, 4)
    max_steps_in_episode: int = 15


class GridNavi(environment.Environment[GridNaviState, GridNaviParams]):
    """Episodes start in (0, 0), walls block, and the horizon truncates; nothing terminates, the goal neither.

    Reward is 1 where the move ends on the goal, else −0.1.
    Differs from the paper: observations are the cell, one-hot [size²], not the two coordinates.
    """

    def __init__(self, size: int = 5):
        super().__init__()
        self.size = size

    @property
    def default_params(self) -> GridNaviParams:
        return GridNaviParams(goal=jnp.array([self.size - 1, self.size - 1], jnp.int32))

    def reset_env(self, key, params):
        state = GridNaviState(position=jnp.zeros(2, jnp.int32), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        position = jnp.clip(state.position + MOVES[action], 0, self.size - 1)
        state = GridNaviState(position=position, time=state.time + 1)
        reward = jnp.where(jnp.all(position == params.goal), 1.0, -0.1)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        x, y = state.position
        return jax.nn.one_hot(self.size * x + y, self.size**2)

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return len(MOVES)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (self.size**2,), jnp.float32)
