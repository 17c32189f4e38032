"""The best search for a goal that hides on a grid: a trial of several episodes, each from the same start."""

import heapq
import itertools
from typing import NamedTuple

import numpy as np

from metadqn_jax.checks import check_count

MOVES = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))
Cell = tuple[int, int]


class Hunt(NamedTuple):
    """The goal is one of `goals`, each as likely as another; a step that ends on it counts, and with `once` the first alone.

    Cells are (x, y) on a square of `size`² with walls around; episodes begin at `start` and last `horizon` steps, each of
    which moves to a neighbour or stays. Nothing but a step that counts tells of the goal.
    """

    size: int
    start: Cell
    goals: tuple[Cell, ...]
    horizon: int
    once: bool = False

    def worth(self, time: int) -> int:
        """The steps that count in an episode that meets its goal first at step `time` = 1, 2, …"""
        rest = max(0, self.horizon - time + 1)
        return min(1, rest) if self.once else rest

    def known(self, goal: Cell) -> int:
        """The steps that count in an episode with this goal, it being known."""
        return self.worth(max(1, _distance(self.start, goal)))


def best_search(hunt: Hunt, episodes: int) -> np.ndarray:
    """Expected numbers [episodes] of steps that count, under the best policy of a trial: exact.

    Until the goal is found there is nothing to react to, so a policy is one path over all episodes; once it is found, it
    is best to stay on it, and to go straight there in later episodes. The path with the most steps that count, in the
    mean over goals, is found by A* (Hart et al. 1968) over (episode, time, cell, cells that may be the goal).
    Raises `Misuse` on episodes, a size or a horizon < 1.
    """
    _check(hunt, episodes)
    order = itertools.count()  # among equal bounds the newest first: a tight bound then leads straight to a plan
    start = (0, 0, hunt.start, frozenset(hunt.goals))
    queue, done = [(0, 0, start, (0,) * episodes)], set()
    while queue[0][2][0] < episodes:
        _, _, state, steps = heapq.heappop(queue)
        if state in done:
            continue
        done.add(state)
        for cell in {_moved(state[2], move, hunt.size) for move in MOVES}:
            following, more = _after(hunt, state, cell, steps)
            most = sum(more) + _most_to_come(hunt, following, episodes)
            heapq.heappush(queue, (-most, -next(order), following, more))
    return np.array(queue[0][3]) / len(hunt.goals)


def _check(hunt, episodes):
    for name, value in (("episodes", episodes), ("size", hunt.size), ("horizon", hunt.horizon)):
        check_count(name, value)


def _after(hunt, state, cell, steps):
    """The state after a move to `cell`, and the steps that count in each episode, summed over the goals found."""
    episode, time, _, unknown = state
    time += 1
    if cell in unknown:
        later = len(steps) - 1 - episode
        gained = (0,) * episode + (hunt.worth(time),) + (hunt.known(cell),) * later
        steps = tuple(map(sum, zip(steps, gained, strict=True)))
    place = (episode, time, cell) if time < hunt.horizon else (episode + 1, 0, hunt.start)
    return (*place, unknown - {cell}), steps


def _most_to_come(hunt, state, episodes):
    """A* 's bound: a step rules out one cell at most, and none before one can be there; later episodes know the goal."""
    episode, time, cell, unknown = state
    if episode == episodes:
        return 0
    total = (episodes - 1 - episode) * sum(map(hunt.known, unknown))
    for distance in sorted(_distance(cell, goal) for goal in unknown):
        time = max(time + 1, state[1] + distance)
        total += hunt.worth(time)
    return total


def search_bound(hunt: Hunt, episodes: int) -> np.ndarray:
    """What no policy can exceed in any episode [episodes], for trials that are too long for `best_search`.

    Before an episode no more goals are known than steps were made, at best the nearest; those found in it are
    found one a step, none before one can be there. Raises `Misuse` as `best_search` does.
    """
    _check(hunt, episodes)
    goals = sorted(hunt.goals, key=lambda goal: _distance(hunt.start, goal))
    times = itertools.accumulate((_distance(hunt.start, goal) for goal in goals), lambda time, next: max(time + 1, next))
    known = np.cumsum([0, *map(hunt.known, goals)])
    found = np.cumsum([0, *map(hunt.worth, times)])
    most = [min(hunt.horizon * episode, len(goals)) for episode in range(episodes)]
    bounds = [max(known[: n + 1] + found[len(goals) - np.arange(n + 1)]) for n in most]
    return np.minimum(bounds, known[-1]) / len(goals)


def search_value(hunt: Hunt, paths: np.ndarray) -> np.ndarray:
    """Expected numbers [episodes] of steps that count when cells `paths` [episodes, horizon, 2] are visited until the goal
    is found, on which one then stays, going straight there in later episodes."""
    totals = np.zeros(len(paths))
    for goal in hunt.goals:
        hits = np.argwhere((np.asarray(paths) == goal).all(2))
        if len(hits):
            episode, time = hits[0]
            totals[episode] += hunt.worth(time + 1)
            totals[episode + 1 :] += hunt.known(goal)
    return totals / len(hunt.goals)


def _distance(a, b):
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _moved(cell, move, size):
    return tuple(min(max(place + change, 0), size - 1) for place, change in zip(cell, move, strict=True))
