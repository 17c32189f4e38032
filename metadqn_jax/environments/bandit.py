"""Multi-armed bandits: one state, and arms whose mean rewards are the task."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class BanditState(environment.EnvState):
    """The pulls so far in this episode."""

    time: Any  # int32 []


@struct.dataclass
class BernoulliBandit(environment.EnvParams):
    """The task: an arm pays 1 with the probability `means` [arms] says, else 0."""

    means: Any = (0.5, 0.5)
    max_steps_in_episode: int = 10

    def draw(self, key: jax.Array, arm: jax.Array) -> jax.Array:
        """The reward [] of one pull."""
        return jax.random.bernoulli(key, self.means[arm]).astype(jnp.float32)


@struct.dataclass
class GaussianBandit(environment.EnvParams):
    """The task: an arm pays its mean `means` [arms] plus normal noise, whose standard deviation is `noise`."""

    means: Any = (0.0, 0.0)
    noise: float = 1.0
    max_steps_in_episode: int = 10

    def draw(self, key: jax.Array, arm: jax.Array) -> jax.Array:
        """The reward [] of one pull."""
        return self.means[arm] + self.noise * jax.random.normal(key)


class Bandit(environment.Environment[BanditState, Any]):
    """Pulls until the horizon truncates; the observation is constant, [1], and nothing terminates.

    What a pull pays is what its parameters, a `BernoulliBandit` or a `GaussianBandit`, `draw`.
    """

    def __init__(self, params: Any):
        super().__init__()
        self.params = params

    @property
    def default_params(self) -> Any:
        return self.params

    def reset_env(self, key, params):
        state = BanditState(time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        state = BanditState(time=state.time + 1)
        reward = params.draw(key, action)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return jnp.ones(1)

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def name(self) -> str:
        return type(self.params).__name__

    @property
    def num_actions(self) -> int:
        return len(self.params.means)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(1.0, 1.0, (1,), jnp.float32)
