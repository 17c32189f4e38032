"""Point navigation to a hidden goal by velocities in a box (Finn et al. 2017, MAML, section 5.3)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class Navigation2DState(environment.EnvState):
    """Where the point is, and the steps taken in this episode."""

    position: jax.Array  # [2]
    time: Any  # int32 []


@struct.dataclass
class Navigation2DParams(environment.EnvParams):
    """The task is `goal` [2]; lengths are in the plane's unit, one step is one unit of time."""

    goal: Any = (0.0, 0.0)
    speed: float = 0.1  # actions are clipped to ± speed in each coordinate
    near: float = 0.01  # an episode ends where both coordinates are nearer than this
    max_steps_in_episode: int = 100


class Navigation2D(environment.Environment[Navigation2DState, Navigation2DParams]):
    """Actions are velocities [2], episodes start at (0, 0), reward is minus the Euclidean distance after the move.

    Differs from the paper's text, as the authors' code does: the distance is not squared.
    """

    @property
    def default_params(self) -> Navigation2DParams:
        return Navigation2DParams(goal=jnp.zeros(2))

    def reset_env(self, key, params):
        state = Navigation2DState(position=jnp.zeros(2), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        position = state.position + jnp.clip(action, -params.speed, params.speed)
        state = Navigation2DState(position=position, time=state.time + 1)
        reward = self.reward(position, params)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def reward(self, position, params):
        """What a step that ends at `position` [2] gives, []."""
        return -jnp.linalg.norm(position - params.goal)

    def observe(self, key, state, action, params):
        return state.position

    def is_terminated(self, state, params):
        return jnp.all(jnp.abs(state.position - params.goal) < params.near)

    @property
    def name(self) -> str:
        return "Navigation2D"

    @property
    def num_actions(self) -> int:
        return 2

    def action_space(self, params):
        return spaces.Box(-params.speed, params.speed, (2,), jnp.float32)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)
