"""`navigation`: reach a goal that is not shown, drawn uniformly from the square [−1, 1]²."""

import dataclasses

import jax

from metadqn_jax.environments.navigation import Navigation
from metadqn_jax.planners.navigation import best_return
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Span

RECIPE = Recipe(
    span=Span(segments=2, steps=20, streams=8),
    discount=0.7,
    inner_trace=0.0,
    outer_trace=0.5,
    reward_scale=1.0,
    query_epsilon=0.5,
    inner_rate=1.0,
    outer_steps=2_500,
)
TRIAL_RECIPE = dataclasses.replace(
    TRIAL,
    span=Span(segments=80, steps=1, streams=1),
    discount=0.8,
    reward_scale=1.0,
)


def navigation() -> Family:
    """Reach a goal on the plane that is not shown: nine moves, 20 steps, minus the distance as reward.

    A random policy returns −17.2 an episode on average; the optimum, exact by dynamic programming, is −2.4.

    >>> navigation().horizon
    20
    """
    env = Navigation()

    def vary(key, params):
        return params.replace(goal=jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))

    def optimum(key, task):
        _, state = env.reset_env(key, task)
        return best_return(state.position, task.goal, stride=task.stride, horizon=env.default_params.max_steps_in_episode)

    tasks = split(from_gymnax(env, vary))
    return Family(tasks, RECIPE, env.default_params.max_steps_in_episode, optimum, lambda task: task.goal, TRIAL_RECIPE)
