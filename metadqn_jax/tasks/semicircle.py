"""`semicircle`: the sparse point robot, as three papers define it (Rakelly et al. 2019, PEARL, and others)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax import trees
from metadqn_jax.actions import grid, held
from metadqn_jax.checks import check_flag, check_name
from metadqn_jax.environments.semicircle import Semicircle
from metadqn_jax.planners.point import best_return
from metadqn_jax.tasks.base import Family, Recipe, TaskSplit
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import separate, split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Array, Span, Task

HOLD = 5  # steps for which exploration holds an action: single random ones never reach the circle
TRAIN_GOALS = 80  # of the 100 that PEARL and BOReL have
RECIPE = Recipe(
    span=Span(segments=2, steps=20, streams=16),
    discount=0.9,
    inner_trace=0.5,
    outer_trace=0.7,
    reward_scale=0.5,
    query_epsilon=0.5,
    inner_rate=0.3,
    outer_steps=2_000,
)
TRIAL_RECIPE = dataclasses.replace(
    TRIAL, last_discount=0.95, query_epsilon=0.5, last_epsilon=0.03, outer_rate=0.003, outer_steps=4_000
)


class Definition(NamedTuple):
    """What the papers do not share: an episode's steps, how the reward falls with distance, the finite set of angles (None
    for a continuous prior), and the episodes of a trial."""

    horizon: int
    slope: float
    angles: np.ndarray | None
    episodes: int


def _evenly_spaced() -> np.ndarray:
    angles = np.linspace(0, np.pi, 100)
    np.random.RandomState(1337).shuffle(angles)  # the authors' order: the last 20 are for testing
    return angles


DEFINITIONS = {
    "pearl": Definition(horizon=20, slope=1.0, angles=_evenly_spaced(), episodes=4),
    "varibad": Definition(horizon=100, slope=1.0, angles=None, episodes=2),
    "borel": Definition(horizon=60, slope=0.0, angles=np.random.default_rng(0).uniform(0, np.pi, 100), episodes=2),
}
_ENV = Semicircle()


def semicircle(source: str = "pearl", bins: int = 3, *, dense: bool = False) -> Family:
    """Reach a goal on the unit half circle that is not shown, and gives a reward only to those within 0.2 of it.

    | source | steps | reward within 0.2 | goals | best known-goal return, mean over the circle |
    |---|---|---|---|---|
    | pearl (Rakelly et al. 2019) | 20 | 1 − distance | 80 + 20, evenly spaced | 13.38 |
    | varibad (Zintgraf et al. 2020) | 100 | 1 − distance | the whole half circle, split by hash | 93.38 |
    | borel (Dorfman et al. 2021) | 60 | 1 | 80 + 20, drawn uniformly | 53.60 |

    dense: training rewards are minus the distance, testing's stay sparse. So does PEARL's reference code meta-train:
    name it where you do it.

    Differs from the papers: velocities in [−0.1, 0.1]² are on a grid of `bins` levels a dimension; episodes start at
    (0, 0) in training too, BOReL's anywhere; its unpublished goals are drawn anew. Raises `Misuse` on an unknown source.

    >>> semicircle("borel").horizon
    60
    """
    definition = check_name("source", source, DEFINITIONS)
    check_flag("dense", dense)
    defaults = _ENV.default_params
    params = dataclasses.replace(defaults, slope=definition.slope, max_steps_in_episode=definition.horizon)

    def vary(key, params):
        return params.replace(goal=_on_circle(jax.random.uniform(key, maxval=jnp.pi)))

    head = held(grid([-defaults.speed] * 2, [defaults.speed] * 2, bins), HOLD)
    tasks = _sides(from_gymnax(_ENV, vary, params=params, head=head), params, definition.angles)
    if dense:
        train = tasks.train
        tasks = tasks._replace(train=train._replace(sample=lambda key: train.sample(key).replace(dense=jnp.bool_(True))))

    def optimum(key, task):
        return known_goal_return(task, definition.horizon, bins)

    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(definition.episodes * definition.horizon, 1, 1))
    recipe = RECIPE.with_steps(definition.horizon)
    return Family(tasks, recipe, definition.horizon, optimum, features=lambda task: task.goal, trial=trial)


def known_goal_return(task: Task, horizon: int, bins: int | None = None) -> Array:
    """The best return of an episode whose goal is known: exact for velocities on a grid, and for any where bins is None."""
    reward, never = (lambda place: _ENV.reward(place, task)), (lambda place: jnp.zeros((), bool))
    return best_return(reward, never, task.goal, horizon, speed=task.speed, bins=bins)


def _sides(whole, params, angles) -> TaskSplit:
    if angles is None:
        return split(whole)
    base = trees.strengthen(jax.tree.map(jnp.asarray, params))
    goals = _on_circle(jnp.asarray(angles, float))
    tasks = jax.vmap(lambda goal: base.replace(goal=goal))(goals)
    train, test = (
        jax.tree.map(lambda leaf, some=some: leaf[some], tasks) for some in (slice(TRAIN_GOALS), slice(TRAIN_GOALS, None))
    )
    return separate(whole, train, test)


def _on_circle(angle: Array) -> Array:
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
