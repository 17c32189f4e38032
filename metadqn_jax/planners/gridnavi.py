"""The exact optima of grid navigation: of an episode with a known goal, and of a trial with an unknown one."""

import heapq
import itertools

import jax.numpy as jnp
import numpy as np

from metadqn_jax.types import Array

START = (0, 0)
MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))


def candidates(size: int = 5) -> list[tuple[int, int]]:
    """The cells a goal may lie on: all but the start (0, 0), its two neighbours and (1, 1)."""
    return [(x, y) for x in range(size) for y in range(size) if max(x, y) > 1]


def known_goal_return(goal: Array, horizon: int = 15) -> Array:
    """The best return of an episode from (0, 0) to a known `goal` [2] (not the start): straight there, then stay.

    >>> round(float(known_goal_return(jnp.array([4, 4]))), 4)  # 7 steps at −0.1, then 8 at 1
    7.3
    """
    return _return(_steps_if_known(jnp.sum(goal), horizon), horizon)


def bayes_optimal(episodes: int, size: int = 5, horizon: int = 15) -> np.ndarray:
    """Expected returns [episodes] of the best policy of a trial whose goal is drawn from `candidates`.

    Until the goal is found there is nothing to react to, so a policy is one path over all episodes; once it is found, it
    is best to stay on it, and to go straight there in later episodes. The path with the most steps on the goal, in the
    mean over goals, is found by A* (Hart et al. 1968) over (episode, time, cell, cells that may be the goal).

    >>> bayes_optimal(episodes=2).round(4).tolist()
    [4.0, 11.0714]
    """
    order = itertools.count()  # among equal bounds the newest first: a tight bound then leads straight to a plan
    start, goals = (0, 0, START, frozenset(candidates(size))), len(candidates(size))
    queue, done = [(0, 0, start, (0,) * episodes)], set()
    while queue[0][2][0] < episodes:
        _, _, state, steps = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        for cell in {_moved(state[2], move, size) for move in MOVES}:
            following, more = _after(state, cell, steps, horizon)
            most = sum(more) + _most_to_come(following, episodes, horizon)
            heapq.heappush(queue, (-most, -next(order), following, more))
    return _return(np.array(queue[0][3]) / goals, horizon)


def _after(state, cell, steps, horizon):
    """The state after a move to `cell`, and the steps on the goal in each episode, summed over the goals found."""
    episode, time, _, unknown = state
    time += 1
    if cell in unknown:
        later = len(steps) - 1 - episode
        gained = (0,) * episode + (horizon - time + 1,) + (_steps_if_known(sum(cell), horizon),) * later
        steps = tuple(map(sum, zip(steps, gained, strict=True)))
    place = (episode, time, cell) if time < horizon else (episode + 1, 0, START)
    return (*place, unknown - {cell}), steps


def _most_to_come(state, episodes, horizon):
    """A* 's bound: a step rules out one cell at most, and none before one can be there; later episodes know the goal."""
    episode, time, cell, unknown = state
    if episode == episodes:
        return 0
    total = (episodes - 1 - episode) * sum(_steps_if_known(sum(goal), horizon) for goal in unknown)
    for distance in sorted(abs(cell[0] - goal[0]) + abs(cell[1] - goal[1]) for goal in unknown):
        time = max(time + 1, state[1] + distance)
        total += max(0, horizon - time + 1)
    return total


def _steps_if_known(distance, horizon):
    """An episode's steps on a goal that is known."""
    return horizon - distance + 1


def _return(steps, horizon):
    """1 for each step on the goal, −0.1 for each other."""
    return 1.1 * steps - 0.1 * horizon


def _moved(cell, move, size):
    return tuple(min(max(place + change, 0), size - 1) for place, change in zip(cell, move, strict=True))
