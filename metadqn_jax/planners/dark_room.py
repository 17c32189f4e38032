"""References of the dark room: with a known goal, by exact and bounded search for an unknown one, and at random."""

import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, require
from metadqn_jax.planners.hidden_goal import MOVES, Hunt, best_search, search_bound, search_value
from metadqn_jax.types import Array


def candidates(size: int = 9) -> list[tuple[int, int]]:
    """The cells a goal may lie on: all but the centre, where episodes start."""
    return [(x, y) for x in range(size) for y in range(size) if (x, y) != (size // 2, size // 2)]


def known_goal_return(goals: Array, size: int = 9, horizon: int = 20, once: bool = False) -> Array:
    """The best return of an episode with known `goals` [n, 2]: with `once` straight to each in turn, else to the first to stay.

    >>> float(known_goal_return(jnp.array([[4, 6]]))), float(known_goal_return(jnp.array([[0, 0], [8, 8]]), once=True))
    (19.0, 1.0)
    """
    stops = jnp.concatenate([jnp.full((1, 2), size // 2), goals])
    arrivals = jnp.cumsum(jnp.maximum(1, jnp.abs(jnp.diff(stops, axis=0)).sum(1)))  # where one stands takes a step, too
    counts = jnp.sum(arrivals <= horizon) if once else jnp.maximum(0, horizon - arrivals[0] + 1)
    return counts.astype(jnp.float32)


def bayes_optimal(episodes: int, size: int = 9, horizon: int = 20, once: bool = False) -> np.ndarray:
    """Expected returns [episodes] of the best policy of a trial whose goal is drawn from `candidates`: `best_search`.

    Quick for one episode of any size. For several it is so in small rooms alone; see `bayes_bracket`. Raises `Misuse` on
    a size < 2, and on episodes or a horizon < 1.

    >>> bayes_optimal(episodes=1).tolist()
    [2.625]
    """
    return best_search(hunt(size, horizon, once), episodes)


def bayes_bracket(episodes: int, size: int = 9, horizon: int = 20, once: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Expected returns [episodes] of a good policy, `pinwheel`, and what none can exceed in an episode, `search_bound`.

    Raises `Misuse` on even sizes, on a size < 2, and on episodes or a horizon < 1.

    >>> [bound.round(3).tolist() for bound in bayes_bracket(episodes=5)]
    [[2.625, 6.75, 10.875, 15.0, 16.5], [2.625, 7.325, 11.625, 15.575, 16.5]]
    """
    some = hunt(size, horizon, once)
    return search_value(some, pinwheel(episodes, size, horizon)), search_bound(some, episodes)


def hunt(size: int, horizon: int, once: bool) -> Hunt:
    """The search for one goal in the dark. Raises `Misuse` on a size < 2, where there is none, and on a horizon < 1."""
    check_count("size", size, least=2)
    check_count("horizon", horizon)
    return Hunt(size, (size // 2, size // 2), tuple(candidates(size)), horizon, once)


def pinwheel(episodes: int, size: int = 9, horizon: int = 20) -> np.ndarray:
    """Cells [episodes, horizon, 2] of a search of a room of odd `size` that meets a new one with every step.

    The room but for its centre is four rectangles that turn around it. Each episode goes through the next, row by row
    to and fro, and rests where that ends; with the defaults four episodes see all of the room.
    Raises `Misuse` on even sizes, on a size < 3, and on episodes or a horizon < 1.
    """
    for name, value, least in (("episodes", episodes, 1), ("size", size, 3), ("horizon", horizon, 1)):
        check_count(name, value, least)
    require(size % 2 == 1, f"a pinwheel turns around the cell in the middle, got the even size {size}; make it odd.")
    half = size // 2
    rows = [[(dx, dy) for dx in range(1, half + 1)][:: 1 - 2 * (dy % 2)] for dy in range(half + 1)]
    one = np.concatenate(rows)
    one = one[np.minimum(np.arange(horizon), len(one) - 1)]
    turn = np.array([[0, 1], [-1, 0]])
    return half + np.stack([one @ np.linalg.matrix_power(turn, episode % 4) for episode in range(episodes)])


def random_return(size: int = 9, horizon: int = 20, once: bool = False) -> float:
    """The expected return of an episode of uniformly random actions, in the mean over `candidates`: exact.

    The chance of standing on each cell is carried through the chain for each goal; with `once` it stops at the goal.
    Raises `Misuse` as `hunt` does.

    >>> round(random_return(), 4)
    0.2353
    """
    goals = np.array(hunt(size, horizon, once).goals)
    rows = np.arange(len(goals))
    mass, total = np.zeros((len(goals), size, size)), 0.0
    mass[:, size // 2, size // 2] = 1.0
    for _ in range(horizon):
        spread = np.pad(mass, ((0, 0), (1, 1), (1, 1)), mode="edge")  # who would leave by a wall stays
        mass = np.mean([spread[:, 1 + dx : 1 + dx + size, 1 + dy : 1 + dy + size] for dx, dy in MOVES], 0)
        here = mass[rows, *goals.T]
        total += here.mean()
        if once:
            mass[rows, *goals.T] = 0.0
    return float(total)
