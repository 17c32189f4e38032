"""The sparse point robot: a hidden goal on the unit half circle that rewards only those close by (Rakelly et al. 2019)."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from metadqn_jax.environments.point import Point


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


class Semicircle(Point):
    """A `Point` that only those steps reward which end near the goal; the horizon truncates, and nothing terminates."""

    @property
    def default_params(self) -> SemicircleParams:
        return SemicircleParams(goal=jnp.array([0.0, 1.0]))

    def reward(self, position, params):
        distance = jnp.linalg.norm(position - params.goal)
        sparse = jnp.where(distance <= params.radius, 1.0 - params.slope * distance, 0.0)
        return jnp.where(params.dense, -distance, sparse)

    def is_terminated(self, state, params):
        return jnp.zeros((), bool)
