"""A point in the plane that is moved by velocities: what the environments with such a point share."""

import abc
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class PointState(environment.EnvState):
    """Where the point is, and the steps taken in this episode."""

    position: jax.Array  # [2]
    time: Any  # int32 []


class Point(environment.Environment[PointState, Any], abc.ABC):
    """Actions are velocities [2], clipped to ± `params.speed`; episodes start at (0, 0); observations are the position [2].

    A subclass has `default_params`, `reward` and `is_terminated`. One step is one unit of time.
    """

    def reset_env(self, key, params):
        state = PointState(position=jnp.zeros(2), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        position = state.position + jnp.clip(action, -params.speed, params.speed)
        state = PointState(position=position, time=state.time + 1)
        reward = self.reward(position, params)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    @abc.abstractmethod
    def reward(self, position, params):
        """What a step that ends at `position` [2] gives, []."""

    def observe(self, key, state, action, params):
        return state.position

    @property
    def num_actions(self) -> int:
        return 2

    def action_space(self, params):
        return spaces.Box(-params.speed, params.speed, (2,), jnp.float32)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)
