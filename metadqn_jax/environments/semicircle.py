"""The sparse point robot: a hidden goal on the unit half circle that rewards only those close by (Rakelly et al. 2019)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class SemicircleState(environment.EnvState):
    """Where the point is, and the steps taken in this episode."""

    position: jax.Array  # [2]
    time: Any  # int32 []


@struct.dataclass
class SemicircleParams(environment.EnvParams):
    """The task is `goal` [2]; the reward within `radius` of it is 1 − slope · distance, and 0 without.

    Where `dense` is set it is minus the distance, everywhere.
    """

    goal: Any = (0.0, 1.0)
    radius: float = 0.2
    slope: float = 1.0
    dense: bool = False
    speed: float = 0.1  # actions are clipped to ± speed in each coordinate
    max_steps_in_episode: int = 20


class Semicircle(environment.Environment[SemicircleState, SemicircleParams]):
    """Actions are velocities [2], episodes start at (0, 0), and the horizon truncates; nothing terminates, the goal neither."""

    @property
    def default_params(self) -> SemicircleParams:
        return SemicircleParams(goal=jnp.array([0.0, 1.0]))

    def reset_env(self, key, params):
        state = SemicircleState(position=jnp.zeros(2), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        position = state.position + jnp.clip(action, -params.speed, params.speed)
        state = SemicircleState(position=position, time=state.time + 1)
        reward = self.reward(position, params)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def reward(self, position, params):
        """What a step that ends at `position` [2] gives, []."""
        distance = jnp.linalg.norm(position - params.goal)
        sparse = jnp.where(distance <= params.radius, 1.0 - params.slope * distance, 0.0)
        return jnp.where(params.dense, -distance, sparse)

    def observe(self, key, state, action, params):
        return state.position

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def name(self) -> str:
        return "Semicircle"

    @property
    def num_actions(self) -> int:
        return 2

    def action_space(self, params):
        return spaces.Box(-params.speed, params.speed, (2,), jnp.float32)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)
