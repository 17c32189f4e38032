"""Whole experiments from a family's recipe: the parts learners are built from, and a trainer with its evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from metadqn_jax import td
from metadqn_jax.checks import check_count, check_real
from metadqn_jax.evaluation import adaptation_returns, optimal_returns, random_returns
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.networks import mlp
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution, sample_tasks, transition_like
from metadqn_jax.training import Trainer, make_trainer
from metadqn_jax.types import Key, QNetwork, Slow, Transition

STEPS = (0, 1, 2, 3, 5, 10)


class Parts(NamedTuple):
    """What learners are built from: a network, the inner and outer TD losses, the recipe, and one abstract Transition."""

    network: QNetwork
    inner: td.Loss
    outer: td.Loss
    recipe: Recipe
    transition: Transition


class Program(NamedTuple):
    """One experiment: how it trains, and what it is judged by.

    evaluate: (key, slow) -> dict of arrays.   watch: (key, slow) -> (return before, return after adaptation), a cheap
    look at train tasks while a run goes on; None where nobody watches.
    """

    trainer: Trainer
    evaluate: Callable[[Key, Slow], dict]
    watch: Callable[[Key, Slow], Any] | None = None


def make_parts(distribution: TaskDistribution, recipe: Recipe, network: Callable[..., QNetwork] = mlp) -> Parts:
    """The parts that `recipe` describes: max targets with λ-returns, Huber regression. `network: (spec) -> QNetwork`."""
    head = distribution.spec.head

    def loss(trace):
        return td.temporal_difference(
            head,
            select=td.greedy,
            target=td.lambda_return(recipe.discount, trace),
            regression=td.huber(1.0),
            reward_scale=recipe.reward_scale,
        )

    losses = loss(recipe.inner_trace), loss(recipe.outer_trace)
    return Parts(network(distribution.spec), *losses, recipe, transition_like(distribution))


def make_explore(recipe: Recipe) -> Callable:
    """The recipe's ε: the support's in every segment but the last, which is the query."""
    return by_segment(*[recipe.support_epsilon] * (recipe.span.segments - 1), recipe.query_epsilon)


def make_optimizer(recipe: Recipe, *, clip: Any = 10.0) -> optax.GradientTransformation:
    """Adam on the outer gradient clipped to a global norm, its rate falling by a cosine to a tenth over the recipe's steps."""
    check_real("the outer rate", recipe.outer_rate)
    check_real("the outer clip", clip)
    schedule = optax.cosine_decay_schedule(1.0, check_count("outer steps", recipe.outer_steps), alpha=0.1)
    rates = optax.scale_by_schedule(lambda step: -recipe.outer_rate * schedule(step))
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam(), rates)


def make_program(
    family: Family,
    learner: MetaLearner,
    tested: MetaLearner,
    recipe: Recipe,
    *,
    capacity: int | None = None,
    chunk: int = 8,
    tasks: int = 256,
    episodes: int = 4,
    steps: tuple[int, ...] = STEPS,
) -> Program:
    """`learner` trained on the family's train tasks; `tested`, which shares its slow state, judged on held-out tasks.

    tested: takes one gradient step each time it adapts.   evaluate gives {"returns": [tasks, steps], "random": [tasks],
    "optimum": [tasks]}, each the mean of `episodes` episodes; `watch` looks at 32 train tasks, one episode each.
    """
    check_count("tasks", tasks)
    check_count("episodes", episodes)
    explore = make_explore(recipe)
    trainer = make_trainer(
        learner,
        family.split.train,
        recipe.span,
        explore=explore,
        optimizer=make_optimizer(recipe),
        meta_batch=recipe.meta_batch,
        capacity=capacity,
        chunk=chunk,
    )

    def returns(key, slow, distribution, held, steps, episodes):
        sizes: dict[str, Any] = {"span": recipe.span, "explore": explore, "horizon": family.horizon}
        sizes |= {"steps": steps, "episodes": episodes}
        return adaptation_returns(key, tested, slow, distribution, held, **sizes)

    def evaluate(key, slow):
        key_tasks, key_lives, key_random, key_optimum = jax.random.split(key, 4)
        test = family.split.test
        held = sample_tasks(key_tasks, test, tasks)
        return {
            "returns": returns(key_lives, slow, test, held, steps, episodes),
            "random": random_returns(key_random, test, held, horizon=family.horizon, episodes=episodes),
            "optimum": optimal_returns(key_optimum, family.optimum, held, episodes=episodes),
        }

    def watch(key, slow):
        key_tasks, key_lives = jax.random.split(key)
        seen = sample_tasks(key_tasks, family.split.train, 32)
        return returns(key_lives, slow, family.split.train, seen, (0, recipe.inner_steps), 1).mean(0)

    return Program(trainer, evaluate, watch)
