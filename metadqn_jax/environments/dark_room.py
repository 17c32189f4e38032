"""A room in which nothing but one's own place can be seen (Laskin et al. 2023, Algorithm Distillation, section 4)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

MOVES = jnp.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]], jnp.int32)  # stay, up, right, down, left


@struct.dataclass
class DarkRoomState(environment.EnvState):
    """The cell one stands on, how many goals are found for good, and the steps taken in this episode."""

    position: jax.Array  # int32 [2]: x, y
    found: jax.Array  # int32 []
    time: Any  # int32 []


@struct.dataclass
class DarkRoomParams(environment.EnvParams):
    """The task is the cells `goals`, int32 [n, 2], in the order in which they are to be found.

    A step that ends on the present goal gives 1. With `once` the next goal then takes its place, after the last none;
    without, the first stays and goes on giving.
    """

    goals: Any = ((0, 0),)
    once: bool = False
    max_steps_in_episode: int = 20


class DarkRoom(environment.Environment[DarkRoomState, DarkRoomParams]):
    """Episodes start in the centre, walls block, and the horizon truncates; nothing terminates, no goal either.

    Differs from the paper: observations are the two coordinates one-hot, [2 · size]. As there, what is found
    is not observed, so that with `once` a policy needs a memory even where the goals are known.
    """

    def __init__(self, size: int = 9, goals: int = 1):
        super().__init__()
        self.size, self.goals = size, goals

    @property
    def default_params(self) -> DarkRoomParams:
        return DarkRoomParams(goals=jnp.zeros((self.goals, 2), jnp.int32), once=self.goals > 1)

    def reset_env(self, key, params):
        zero = jnp.zeros((), jnp.int32)
        state = DarkRoomState(position=jnp.full(2, self.size // 2, jnp.int32), found=zero, time=zero)
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        position = jnp.clip(state.position + MOVES[action], 0, self.size - 1)
        present = params.goals[jnp.minimum(state.found, self.goals - 1)]
        hit = jnp.all(position == present) & (state.found < self.goals)
        state = DarkRoomState(position=position, found=state.found + (hit & params.once), time=state.time + 1)
        reward = hit.astype(jnp.float32)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return jax.nn.one_hot(state.position, self.size).ravel()

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return len(MOVES)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (2 * self.size,), jnp.float32)
