"""XLand-MiniGrid (Nikulin et al. 2023): a room of objects, a goal and rules that nobody shows, from the package xminigrid."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from metadqn_jax.checks import check_count, check_installed, require

TILES, COLOURS = 13, 12  # that xminigrid knows


@struct.dataclass
class XLandState(environment.EnvState):
    """The room, who walks in it and what he holds, whether the goal is reached, and the steps taken in this episode."""

    grid: jax.Array  # uint8 [size, size, 2]: tile and colour
    position: jax.Array  # int32 [2]: row, column
    direction: jax.Array  # int32 []: up, right, down, left
    pocket: jax.Array  # uint8 [2]: tile and colour, zeros for nothing
    solved: jax.Array  # bool []
    time: Any  # int32 []


@struct.dataclass
class XLandParams(environment.EnvParams):
    """The task: a ruleset as xminigrid encodes it, that is a goal, rules, and the objects that an episode begins with."""

    goal: Any = None  # uint8 [5]
    rules: Any = None  # uint8 [rules, 7]
    objects: Any = None  # uint8 [objects, 2]: tile and colour, zeros for none
    max_steps_in_episode: int = 80


class XLand(environment.Environment[XLandState, XLandParams]):
    """One room (xminigrid's grid type R1) of size² cells, walls included, of which one sees the view² ahead of him.

    Actions: forward, turn right, turn left, pick up, put down, toggle. Reaching the goal terminates, with the reward
    1 − 0.9 · time / horizon; the horizon truncates. Observations are one-hot, float32 [view, view, 13 tiles + 12 colours].
    Differs from xminigrid: one's own cell shows what one holds, as in MiniGrid; there is but floor else.
    Raises `Misuse` on a size < 5, a view that is even or < 3, and without the package xminigrid.
    """

    def __init__(self, size: int = 9, view: int = 5):
        super().__init__()
        check_count("size", size, least=5)
        check_count("view", view, least=3)
        require(view % 2 == 1, f"view must be odd, got {view}; add 1.")
        self.size, self.view = size, view
        self._env = check_installed("xminigrid.envs.xland", "grid").XLandMiniGrid()
        self._see = check_installed("xminigrid.core.observation", "grid").transparent_field_of_view
        self._types = check_installed("xminigrid.types", "grid")

    @property
    def default_params(self) -> XLandParams:
        ball = jnp.array([3, 1], jnp.uint8)
        goal = jnp.array([1, 3, 1, 0, 0], jnp.uint8)  # hold it
        return XLandParams(goal=goal, rules=jnp.zeros((1, 7), jnp.uint8), objects=ball[None])

    def reset_env(self, key, params):
        state = _lean(self._env.reset(self._native(params), key))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        timestep = self._env.step(self._native(params), self._whole(state, params), action)
        state = _lean(timestep)
        return self.observe(key, state, action, params), state, timestep.reward, state.solved, {}

    def observe(self, key, state, action, params):
        seen = self._see(state.grid, self._agent(state), self.view, self.view)
        seen = seen.at[-1, self.view // 2].set(state.pocket)
        return jnp.concatenate([jax.nn.one_hot(seen[..., 0], TILES), jax.nn.one_hot(seen[..., 1], COLOURS)], -1)

    def is_terminated(self, state, params):
        return state.solved

    def _native(self, params):
        """xminigrid's own parameters."""
        ruleset = self._types.RuleSet(goal=params.goal, rules=params.rules, init_tiles=params.objects)
        sizes = {"height": self.size, "width": self.size, "view_size": self.view, "grid_type": "R1"}
        return self._env.default_params(**sizes, max_steps=params.max_steps_in_episode, ruleset=ruleset)

    def _whole(self, state, params):
        """xminigrid's own state; its key and its last answer are read by nobody."""
        task = {"goal_encoding": params.goal, "rule_encoding": params.rules}
        state = self._types.State(None, state.time, state.grid, self._agent(state), **task, carry=self._types.EnvCarry())
        return self._types.TimeStep(state, step_type=None, reward=None, discount=None, observation=None)

    def _agent(self, state):
        return self._types.AgentState(position=state.position, direction=state.direction, pocket=state.pocket)

    @property
    def name(self) -> str:
        return "XLand-MiniGrid"

    @property
    def num_actions(self) -> int:
        return 6

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (self.view, self.view, TILES + COLOURS), jnp.float32)


def _lean(timestep):
    """What of xminigrid's state changes within an episode."""
    state, agent = timestep.state, timestep.state.agent
    walker = {"position": agent.position, "direction": agent.direction, "pocket": agent.pocket}
    return XLandState(grid=state.grid, **walker, solved=timestep.discount == 0, time=state.step_num)
