"""Point navigation to a hidden goal by velocities in a box (Finn et al. 2017, MAML, section 5.3)."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from metadqn_jax.environments.point import Point


@struct.dataclass
class Navigation2DParams(environment.EnvParams):
    """The task is `goal` [2]; lengths are in the plane's unit, one step is one unit of time."""

    goal: Any = (0.0, 0.0)
    speed: float = 0.1  # actions are clipped to ± speed in each coordinate
    near: float = 0.01  # an episode ends where both coordinates are nearer than this
    max_steps_in_episode: int = 100


class Navigation2D(Point):
    """A `Point` whose reward is minus the distance to the goal after the move; being near it in both coordinates terminates.

    Differs from the paper's text, as the authors' code does: the distance is not squared.
    """

    @property
    def default_params(self) -> Navigation2DParams:
        return Navigation2DParams(goal=jnp.zeros(2))

    def reward(self, position, params):
        return -jnp.linalg.norm(position - params.goal)

    def is_terminated(self, state, params):
        return jnp.all(jnp.abs(state.position - params.goal) < params.near)
