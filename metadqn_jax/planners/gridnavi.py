"""The exact optima of grid navigation: of an episode with a known goal, and of a trial with an unknown one."""

import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count
from metadqn_jax.planners.hidden_goal import Hunt, best_search
from metadqn_jax.types import Array


def candidates(size: int = 5) -> list[tuple[int, int]]:
    """The cells a goal may lie on: all but the start (0, 0), its two neighbours and (1, 1)."""
    return [(x, y) for x in range(size) for y in range(size) if max(x, y) > 1]


def known_goal_return(goal: Array, horizon: int = 15) -> Array:
    """The best return of an episode from (0, 0) to a known `goal` [2] (not the start): straight there, then stay.

    A goal that is too far costs all of the episode.

    >>> round(float(known_goal_return(jnp.array([4, 4]))), 4)  # 7 steps at −0.1, then 8 at 1
    7.3
    """
    return _return(jnp.maximum(0, horizon - jnp.sum(goal) + 1), horizon)


def bayes_optimal(episodes: int, size: int = 5, horizon: int = 15) -> np.ndarray:
    """Expected returns [episodes] of the best policy of a trial whose goal is drawn from `candidates`: `best_search`.

    Raises `Misuse` on sizes < 3, which leave no goal to be drawn, and on episodes or a horizon < 1.

    >>> bayes_optimal(episodes=2).round(4).tolist()
    [4.0, 11.0714]
    """
    check_count("size", size, least=3)
    return _return(best_search(Hunt(size, (0, 0), tuple(candidates(size)), horizon), episodes), horizon)


def _return(steps, horizon):
    """1 for each step on the goal, −0.1 for each other."""
    return 1.1 * steps - 0.1 * horizon
