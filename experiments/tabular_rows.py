"""The rows of the table of random finite MDPs: what is known of each, and how each is judged on drawn tasks."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from seeds import trained

from metadqn_jax import programs
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.evaluation import optimal_returns, random_trial_returns, trial_returns
from metadqn_jax.learners.base import first_slow
from metadqn_jax.planners import tabular_strategies as known
from metadqn_jax.planners.tabular_belief import DUAN, Prior
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.types import Span

LENGTHS, HORIZON = (10, 25, 50, 75, 100), 10
REFERENCES = {  # Duan et al. (2016), Mishra et al. (2018); where no paper has the row, an independent simulation
    "optimum": (218.7, 545.9, 1092.0, 1640.9, 2182.8),
    "random": (100.1, 250.2, 499.7, 749.9, 999.4),
    "PSRL, prior mean 0": (138.1, 408.8, 904.4, 1417.1, 1939.5),
    "OPSRL, prior mean 0": (144.1, 425.2, 930.7, 1449.2, 1973.9),
    "UCRL2": (146.6, 424.1, 918.9, 1427.6, 1942.1),
    "BEB, prior mean 0": (150.2, 427.8, 917.8, 1422.6, 1935.1),
    "ε-greedy on frequencies": (132.8, 377.3, 823.3, 1293.9, 1778.2),
    "greedy on frequencies": (134.8, 368.8, 769.3, 1172.9, 1578.5),
    "greedy": (154.4, 435.1, 910.4, 1397.5, 1882.2),
    "count bonus": (157.7, 453.5, 972.6, 1497.0, 2027.0),
    "index": (162.4, 460.9, 977.0, None, 2034.0),
    "RL², published": (156.2, 445.7, 936.1, 1428.8, 1913.7),
    "SNAIL, published": (159.0, 447.4, 942.5, 1448.0, 1953.5),
}
ZERO = Prior(reward_mean=0.0)
VAGUE = Prior(reward_mean=0.0, reward_sd=100.0, concentration=1e-4)  # frequencies; of what was not seen, 0 and uniform
ONE = (None,)
STRATEGIES = {  # {row: (steps between plans, (sizes, value) -> learner, values, of which the best on train tasks is judged)}
    "PSRL, prior mean 0": (HORIZON, lambda sizes, _: known.psrl(sizes, ZERO), ONE),
    "PSRL": (HORIZON, lambda sizes, _: known.psrl(sizes, DUAN), ONE),
    "OPSRL, prior mean 0": (HORIZON, lambda sizes, _: known.opsrl(sizes, ZERO, samples=10), ONE),
    "OPSRL": (HORIZON, lambda sizes, _: known.opsrl(sizes, DUAN, samples=10), ONE),
    "UCRL2": (HORIZON, lambda sizes, scale: known.ucrl2(sizes, VAGUE, scale=scale), (0.2, 0.3, 0.4, 0.5)),
    "BEB, prior mean 0": (HORIZON, lambda sizes, beta: known.beb(sizes, ZERO, beta=beta), (5.0, 10.0, 20.0, 30.0, 40.0)),
    "ε-greedy on frequencies": (
        HORIZON,
        lambda sizes, epsilon: known.epsilon_greedy(sizes, VAGUE, epsilon=epsilon),
        (0.05, 0.1, 0.2),
    ),
    "greedy on frequencies": (HORIZON, lambda sizes, _: known.greedy(sizes, VAGUE), ONE),
    "greedy, prior mean 0": (HORIZON, lambda sizes, _: known.greedy(sizes, ZERO), ONE),
    "greedy": (HORIZON, lambda sizes, _: known.greedy(sizes, DUAN), ONE),
    "count bonus": (
        HORIZON,
        lambda sizes, scale: known.count_bonus(sizes, DUAN, scale=scale),
        (0.0025, 0.005, 0.0075, 0.01),
    ),
    "index": (1, lambda sizes, _: known.index(sizes, DUAN), ONE),
}
BOUNDS = {
    "optimum": lambda key, family, held: optimal_returns(key, family.optimum, held, episodes=1),
    "random": lambda key, family, held: random_trial_returns(
        key, family.split.test, held, span=family.recipe.span, horizon=HORIZON, episodes=1
    ),
}
LEARNED = {  # {row: (memory, the n of its training, changes to the family's recipe for trials)}
    "RL²-Q, actions, trained at n = 25": ("actions", 25, {"hidden": (64, 64), "meta_batch": 32}),
    "RL²-Q, planner, trained at n = 25": (
        "planner",
        25,
        {
            "hidden": (64, 64),
            "meta_batch": 32,
            "discount": 0.98,
            "last_discount": 0.99,
            "outer_trace": 0.7,
            "last_epsilon": 0.03,
        },
    ),
}


def run(row, lengths, *, tasks, seeds, changes):
    """{n: (returns [seeds, tasks] of trials of n episodes, facts)} of one row, at each of `lengths`."""
    places = {n: in_trials(tabular(episodes=n)) for n in lengths}
    if row in LEARNED:
        return train(row, places, tasks, seeds, changes)
    return {n: (bound if row in BOUNDS else plan)(row, place, tasks) for n, place in places.items()}


def drawn(key, place, tasks, side="test"):
    """A key for what is lived in MDPs, and these, [tasks], other ones for each length of a trial."""
    key_tasks, key_lives = jax.random.split(jax.random.fold_in(key, place.recipe.span.segments))
    return key_lives, sample_tasks(key_tasks, getattr(place.split, side), tasks)


def returns(key, learner, slow, place, held, every=1):
    """The return [tasks] of one trial in each task of `held`; the learner adapts every so many steps."""
    steps, distribution = place.recipe.span.segments, place.split.test  # only how tasks are drawn differs between the sides
    sizes: dict[str, Any] = {"span": Span(steps // every, every, 1), "horizon": HORIZON, "episodes": 1, "chunk": 64}
    points = tuple(range(1, steps // HORIZON + 1))
    return trial_returns(key, learner, slow, distribution, held, points, **sizes).sum(1)


def bound(row, place, tasks):
    """The returns [1, tasks] of one of `BOUNDS`."""

    @jax.jit
    def judged(key):
        key_lives, held = drawn(key, place, tasks)
        return place.recipe.span.segments // HORIZON * BOUNDS[row](key_lives, place, held)

    return np.asarray(judged(jax.random.key(0)))[None], {}


def plan(row, place, tasks):
    """The returns [1, tasks] of one of `STRATEGIES` with the best of its values, and which that is."""
    every, make, values = STRATEGIES[row]

    @jax.jit
    def judged(key, held, value):
        learner = make(known.sizes_of(place), value)
        return returns(key, learner, first_slow(learner, jax.random.key(0)), place, held, every)

    def on(side):
        return jax.jit(functools.partial(drawn, jax.random.key(0), place, tasks, side))()

    best = values[0]
    if len(values) > 1:
        train = on("train")
        best = max(values, key=lambda value: judged(*train, value).mean())
    return np.asarray(judged(*on("test"), best))[None], {"value": best}


def train(row, places, tasks, seeds, changes):
    """{n: (returns [seeds, tasks], facts)} of one training, judged in each of `places`."""
    memory, trained_at, recipe_changes = LEARNED[row]
    entry, family = LEARNERS["rl2"], in_trials(tabular(episodes=trained_at))
    recipe = dataclasses.replace(family.recipe, **{**recipe_changes, **changes})
    learner, _ = learners_of(entry, family, recipe, memory=memory)

    def evaluate(key, slow):
        adapting, found = learner(recipe.inner_steps), {}
        for n, place in places.items():
            key_lives, held = drawn(key, place, tasks)
            found[str(n)] = returns(key_lives, adapting, slow, place, held)
        return found

    program = programs.make_program(family, learner, recipe, judge=entry.judge)._replace(evaluate=evaluate)
    steps = recipe.outer_steps
    table = trained(row, program, seeds, steps)
    return {n: (table[str(n)], {"recipe": dataclasses.asdict(recipe)}) for n in places}
