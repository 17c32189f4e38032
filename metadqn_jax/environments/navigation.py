"""Point navigation to a hidden goal: 2-D, nine moves, dense reward."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

ANGLES = jnp.arange(8) * (jnp.pi / 4)
DIRECTIONS = jnp.concatenate([jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], 1), jnp.zeros((1, 2))])  # [9, 2]; the last stays


@struct.dataclass
class NavigationState(environment.EnvState):
    """Where the point is, and the steps taken in this episode."""

    position: jax.Array  # [2]
    time: Any  # int32 []


@struct.dataclass
class NavigationParams(environment.EnvParams):
    """The task is `goal` [2]; lengths are in the plane's unit, one step is one unit of time."""

    goal: Any = (0.0, 0.0)
    stride: float = 0.15
    start: float = 0.05  # episodes start within ± start of the origin
    wall: float = 1.5  # positions are clipped to ± wall
    max_steps_in_episode: int = 20


class Navigation(environment.Environment[NavigationState, NavigationParams]):
    """Eight directions or stay; reward is minus the Euclidean distance to the goal after the move; never terminates."""

    @property
    def default_params(self) -> NavigationParams:
        return NavigationParams(goal=jnp.zeros(2))

    def reset_env(self, key, params):
        position = jax.random.uniform(key, (2,), minval=-params.start, maxval=params.start)
        state = NavigationState(position=position, time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        moved = state.position + params.stride * DIRECTIONS[action]
        state = NavigationState(position=jnp.clip(moved, -params.wall, params.wall), time=state.time + 1)
        reward = -jnp.linalg.norm(state.position - params.goal)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return state.position

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return len(DIRECTIONS)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(-params.wall, params.wall, (2,), jnp.float32)
