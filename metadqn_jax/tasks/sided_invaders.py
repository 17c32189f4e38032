"""`sided_invaders`: space invaders of which only those count that are shot from one side, and nobody says which."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.tasks import minatar
from metadqn_jax.tasks.base import Family, TaskDistribution
from metadqn_jax.tasks.minatar import HORIZON, difficulty, native, planner, unsticky
from metadqn_jax.tasks.splits import split

NAME, MIDDLE = "space_invaders", 5  # the game, and the first column of its right half
RECIPE, TRIAL_RECIPE = (dataclasses.replace(one, discount=0.9) for one in (minatar.RECIPE, minatar.TRIAL_RECIPE))


def sided_invaders(sticky: float = 0.25) -> Family:
    """MinAtar's space invaders for 100 steps: 1 for each alien that dies while one stands on the task's side of the screen.

    A task is ((EnvParams, stickiness), whether its side is the right one): the stickiness is uniform in [0, sticky), how
    often one may shoot and how often aliens shoot and move varies as in `space_invaders`. Buttons and view are the usual
    ones: a policy for all tasks can play, but is on the wrong side in half of them.

    The `optimum` is what a planner reaches who knows the task (as in `game`): no bound, a learner may exceed it. `features`
    are the parameters' places in their ranges, the stickiness' and the side, −1 to 1. Train and test are split by a hash of
    all numbers. Raises `Misuse` unless 0 ≤ sticky ≤ 1.

    >>> sided_invaders().split.train.spec.head.width
    4
    """
    inner, shown = native(NAME, sticky), difficulty(NAME, sticky)

    def sample(key):
        key_inner, key_side = jax.random.split(key)
        return inner.sample(key_inner), jax.random.bernoulli(key_side)

    def reset(key, task):
        return inner.reset(key, task[0])

    def step(key, task, world, action):
        one, right = task
        counts = (world.inner.pos >= MIDDLE) == right  # where one stands before the step
        world, seen = inner.step(key, one, world, action)
        return world, seen._replace(reward=jnp.where(counts, seen.reward, 0.0))

    def known(task):
        one, right = task
        return unsticky(one), right

    def features(task):
        one, right = task
        return jnp.append(shown(one), jnp.where(right, 1.0, -1.0))

    tasks = TaskDistribution(sample, reset, step, inner.spec)
    return Family(split(tasks), RECIPE, HORIZON, planner(NAME, tasks, known), features, TRIAL_RECIPE)
