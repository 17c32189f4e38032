"""Whole experiments from a family's recipe: the parts learners are built from, and a trainer with its evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metadqn_jax import td
from metadqn_jax.checks import check_count, check_real, check_type, is_traced, require
from metadqn_jax.evaluation import optimal_returns
from metadqn_jax.explore import annealed, by_segment
from metadqn_jax.judges import Judge, by_steps
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.memories.base import Memory
from metadqn_jax.networks import reader
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution, check_family, check_kind, sample_tasks
from metadqn_jax.tasks.trials import check_trials
from metadqn_jax.training import Trainer, make_trainer
from metadqn_jax.types import Array, Key, QNetwork, Slow, Spec


class Parts(NamedTuple):
    """What learners are built from: a network, the inner and outer TD losses, the recipe, what tasks look like, a memory."""

    network: QNetwork
    inner: td.Loss
    outer: td.Loss
    recipe: Recipe
    spec: Spec
    memory: Any = None  # a Memory, for learners that have one
    outer_at: Any = None  # (outer_step) -> the outer loss, whose discount may rise


class Program(NamedTuple):
    """One experiment: how it trains, and what it is judged by.

    evaluate: (key, slow) -> dict of arrays.   watch: (key, slow) -> (return before, return after adaptation), a cheap
    look at train tasks while a run goes on; None where nobody watches.   unit, points: what the columns of evaluate's
    "returns" count.
    """

    trainer: Trainer
    evaluate: Callable[[Key, Slow], dict]
    watch: Callable[[Key, Slow], Any] | None = None
    unit: str = "steps"
    points: tuple[int, ...] = ()


def make_parts(
    distribution: TaskDistribution,
    recipe: Recipe,
    network: Callable[..., QNetwork] | None = None,
    memory: Memory | None = None,
) -> Parts:
    """The parts that `recipe` describes: max targets with λ-returns, Huber regression.

    network: `(spec) -> QNetwork`, by default a `reader` of the recipe's shape that reads the memory, if there is one.
    """
    check_kind(distribution)
    check_type("the recipe", recipe, Recipe, "take family.recipe, or change it with dataclasses.replace")
    head = distribution.spec.head
    for name in ("discount", "inner_trace", "outer_trace"):
        check_real(name, getattr(recipe, name), most=1.0)
    if recipe.last_discount is not None:
        check_real("a discount that rises", recipe.discount, most=0.9999)
        check_real("last_discount", recipe.last_discount, most=0.9999)
        require(
            is_traced(recipe.discount) or is_traced(recipe.last_discount) or recipe.discount <= recipe.last_discount,
            f"a discount must rise to its last_discount, got {recipe.discount!r} and {recipe.last_discount!r}; raise "
            "last_discount, or set it to None.",
        )

    def loss(trace, discount=recipe.discount):
        return td.temporal_difference(
            head,
            select=td.greedy,
            target=td.lambda_return(discount, trace),
            regression=td.huber(1.0),
            reward_scale=recipe.reward_scale,
        )

    def outer_at(step):
        return losses[1] if recipe.last_discount is None else loss(recipe.outer_trace, _rising(recipe, step))

    losses = loss(recipe.inner_trace), loss(recipe.outer_trace)
    spec = distribution.spec
    context = None if memory is None else memory.context
    built = reader(spec, context, **recipe.shape) if network is None else network(spec)
    return Parts(built, *losses, recipe, spec, memory, outer_at)


def _rising(recipe: Any, step: Array) -> Array:
    """The discount at an outer step: its horizon 1 / (1 − γ) rises linearly from half to nine tenths of the run."""
    first, last = 1 / (1 - recipe.discount), 1 / (1 - recipe.last_discount)
    share = jnp.clip((step / recipe.outer_steps - 0.5) / 0.4, 0.0, 1.0)
    return 1 - 1 / (first + share * (last - first))


def make_explore(recipe: Recipe) -> Callable:
    """The recipe's ε: the support's in every segment but the last, which is the query.

    The query's falls linearly to `last_epsilon` over the outer steps; where the support's is None it is the query's.
    """
    last = recipe.query_epsilon if recipe.last_epsilon is None else recipe.last_epsilon
    query = annealed(recipe.query_epsilon, last, check_count("outer steps", recipe.outer_steps))
    if recipe.support_epsilon is None:
        return query
    support, final = by_segment(recipe.support_epsilon), recipe.span.segments - 1
    return lambda outer_step, k, t: jnp.where(k < final, support(outer_step, k, t), query(outer_step, k, t))


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Adam on the outer gradient clipped to the recipe's global norm; its rate warms up linearly and falls by a cosine."""
    check_real("the outer rate", recipe.outer_rate)
    check_real("the outer clip", recipe.outer_clip)
    check_real("the last rate", recipe.last_rate, most=1.0)
    check_count("warmup", recipe.warmup, least=0)
    steps = check_count("outer steps", recipe.outer_steps)
    cosine = optax.cosine_decay_schedule(1.0, steps, alpha=recipe.last_rate)

    def rate(step):
        return recipe.outer_rate * jnp.minimum(1.0, (step + 1) / max(1, recipe.warmup)) * cosine(step)

    descent = optax.scale_by_schedule(lambda step: -rate(step))
    return optax.chain(optax.clip_by_global_norm(recipe.outer_clip), optax.scale_by_adam(), descent)


def make_program(
    family: Family,
    learner: Callable[[int], MetaLearner],
    recipe: Recipe,
    *,
    tested: Callable[[int], MetaLearner] | None = None,
    judge: Callable[[Recipe, Callable, int], Judge] = by_steps,
    chunk: int = 8,
    objective: Callable[[Array], Array] | None = None,
    tasks: int = 256,
    episodes: int = 4,
    steps: tuple[int, ...] | None = None,
) -> Program:
    """A learner trained on the family's train tasks, and judged on held-out tasks.

    learner: `(inner_steps) -> MetaLearner`: it is trained with the recipe's, and judged with as many as the judge counts by.
    tested: the same of another learner, which shares its slow state and is judged in its place.
    judge: how adaptation is measured, by default after gradient steps on one support batch, one each time that it adapts.
    steps: how often the judge measures, by default its own points.   chunk, objective: see `make_trainer`.
    evaluate gives {"returns": [tasks, points], "random": [tasks], "optimum": [tasks]}, each the mean of `episodes` episodes;
    `watch` looks at 32 train tasks, one episode each. Raises `Misuse` on a learner that is built already, and where
    trials are not judged by their episodes.

    >>> from metadqn_jax.learners.reptile import reptile
    >>> from metadqn_jax.tasks.navigation import navigation
    >>> family = navigation()
    >>> network, inner, _, recipe, *_ = make_parts(family.split.train, family.recipe)
    >>> make_program(family, lambda steps: reptile(network, inner=inner, rate=0.3, steps=steps), recipe).points
    (0, 1, 2, 3, 5, 10)
    """
    check_family(family)
    check_type("the recipe", recipe, Recipe, "take family.recipe, or change it with dataclasses.replace")
    for one in (learner, tested):
        require(
            one is None or callable(one),
            f"a program needs a function (inner_steps) -> MetaLearner, got {type(one).__name__}; pass lambda steps: learner.",
        )
    check_count("tasks", tasks)
    check_count("episodes", episodes)
    explore = make_explore(recipe)
    trainer = make_trainer(
        learner(recipe.inner_steps),
        family.split.train,
        recipe.span,
        explore=explore,
        optimizer=make_optimizer(recipe),
        meta_batch=recipe.meta_batch,
        fresh=recipe.fresh,
        capacity=recipe.capacity,
        chunk=chunk,
        objective=objective,
    )
    judged, plain = judge(recipe, explore, family.horizon), family.split.test.spec.trial is None
    require(
        plain or judged.unit == "episodes",
        f"a family in trials is judged by their episodes, got a judge by {judged.unit}; pass judge=by_episodes.",
    )
    if judged.unit == "episodes":
        check_trials(family.split.test)
    _check_optimum(family)
    points = judged.points if steps is None else steps
    tried = (tested or learner)(judged.steps)
    evaluate = _evaluation(family, tried, judged, points, tasks, episodes)
    return Program(trainer, evaluate, _look(family, tried, judged), judged.unit, points)


def _check_optimum(family):
    """Raise `Misuse` unless a test task has a best return: who trains first is not to learn only then that it has none."""
    key = jax.random.key(0)
    best = jax.eval_shape(lambda key: family.optimum(key, family.split.test.sample(key)), key)
    scalar = isinstance(best, jax.ShapeDtypeStruct) and best.shape == ()
    require(scalar, f"a family's optimum must give one number, got {best}; return NaN where nobody knows it.")


def _evaluation(family, tested, judge, points, tasks, episodes):
    def evaluate(key, slow):
        key_tasks, key_lives, key_random, key_optimum = jax.random.split(key, 4)
        test = family.split.test
        held = sample_tasks(key_tasks, test, tasks)
        return {
            "returns": judge.returns(key_lives, tested, slow, test, held, points, episodes=episodes),
            "random": judge.random(key_random, test, held, episodes=episodes),
            "optimum": optimal_returns(key_optimum, family.optimum, held, episodes=episodes),
        }

    return evaluate


def _look(family, tested, judge, tasks=32):
    def watch(key, slow):
        key_tasks, key_lives = jax.random.split(key)
        train, ends = family.split.train, tuple(sorted(set(judge.ends)))
        seen = sample_tasks(key_tasks, train, tasks)
        returns = judge.returns(key_lives, tested, slow, train, seen, ends, episodes=1).mean(0)
        return returns[jnp.array([0, -1])]

    return watch
