"""Reaching in many dimensions, by motors that are turned against the space in which the goal is seen."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class ReachingState(environment.EnvState):
    """The way that is left to the goal, and the steps taken in this episode."""

    way: jax.Array  # [d]
    time: Any  # int32 []


@struct.dataclass
class ReachingParams(environment.EnvParams):
    """The task is `turn`, an orthogonal matrix [d, d]: an action moves by stride · turn · action."""

    turn: Any = None
    stride: float = 0.1
    far: float = 0.5  # the goal lies within ± far of the start in each dimension
    max_steps_in_episode: int = 20


class Reaching(environment.Environment[ReachingState, ReachingParams]):
    """Actions are velocities of [−1, 1]^d, the way to the goal is observed, and the reward is by how much it gets shorter.

    Each episode has its own goal; nothing terminates, and the horizon truncates. Minus the way's length as a reward has the
    same best actions (Ng et al. 1999), but a variance that comes from where one is far more than from what one does.
    """

    def __init__(self, dimensions: int = 12):
        super().__init__()
        self.dimensions = dimensions

    @property
    def default_params(self) -> ReachingParams:
        return ReachingParams(turn=jnp.eye(self.dimensions))

    def reset_env(self, key, params):
        way = params.far * jax.random.uniform(key, (self.dimensions,), minval=-1.0, maxval=1.0)
        state = ReachingState(way=way, time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        before = state.way
        way = before - params.stride * params.turn @ jnp.clip(action, -1.0, 1.0)
        state = ReachingState(way=way, time=state.time + 1)
        reward = jnp.sqrt(jnp.sum(before**2)) - jnp.sqrt(jnp.sum(way**2))
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return state.way

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return self.dimensions

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (self.dimensions,), jnp.float32)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (self.dimensions,), jnp.float32)
