"""A finite MDP given by its transition and reward tables."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class TabularState(environment.EnvState):
    """The MDP's state, and the steps taken in this episode."""

    place: jax.Array  # int32 []: the MDP's state
    time: Any  # int32 []


@struct.dataclass
class TabularParams(environment.EnvParams):
    """The task: P [S, A, S] with rows that sum to 1, mean rewards R [S, A], and the reward noise's standard deviation."""

    transition: Any = None
    reward: Any = None
    noise: float = 1.0
    max_steps_in_episode: int = 10


class Tabular(environment.Environment[TabularState, TabularParams]):
    """Episodes start in state 0, observations are one-hot [S], and the horizon truncates (Duan et al. 2016, section 3.2)."""

    def __init__(self, states: int = 10, actions: int = 5):
        super().__init__()
        self.states, self.actions = states, actions

    @property
    def default_params(self) -> TabularParams:
        uniform = jnp.full((self.states, self.actions, self.states), 1.0 / self.states)
        return TabularParams(transition=uniform, reward=jnp.zeros((self.states, self.actions)))

    def reset_env(self, key, params):
        state = TabularState(place=jnp.zeros((), jnp.int32), time=jnp.zeros((), jnp.int32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        key_place, key_noise = jax.random.split(key)
        reward = params.reward[state.place, action] + params.noise * jax.random.normal(key_noise)
        reached = jnp.cumsum(params.transition[state.place, action])
        place = jnp.sum(jax.random.uniform(key_place) * reached[-1] >= reached).astype(jnp.int32)
        state = TabularState(place=jnp.minimum(place, self.states - 1), time=state.time + 1)
        return self.observe(key, state, action, params), state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return jax.nn.one_hot(state.place, self.states)

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)

    @property
    def num_actions(self) -> int:
        return self.actions

    def action_space(self, params=None):
        return spaces.Discrete(self.actions)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (self.states,), jnp.float32)
