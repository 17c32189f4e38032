"""The 2D navigation of MAML with Q-learning: python experiments/navigation_2d.py [--learner NAME] [--only HEAD] [--quick].

Every learner is meta-trained on the same number of environment steps (iMAML, whose solves are dear, on a twentieth), and
judged on the 40 goals of the authors' code after 0, 1, 2 and 3 adaptations, each on 20 fresh trajectories of 100 steps: one
gradient step where a learner takes them. Learners with a memory live through a trial and are judged by its episodes, one
trajectory each. What stands is not run again.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import side_by_side
from command_line import start
from kept import RESULTS, fill
from rich.console import Console

from metadqn_jax.actions import factored, held
from metadqn_jax.catalog import LEARNERS
from metadqn_jax.checks import check_name
from metadqn_jax.environments.navigation_2d import Navigation2D
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation_2d import HOLD, navigation_2d, published_goals
from metadqn_jax.tasks.wrappers import with_head
from metadqn_jax.types import Span

LEVELS = 11  # of each velocity, where a head sees them apart


def factored_velocities():
    """The point whose velocity is a box, which a factored head sees as levels of each dimension on its own."""
    speed = Navigation2D().default_params.speed
    return with_head(navigation_2d(LEVELS), held(factored([-speed] * 2, [speed] * 2, LEVELS), HOLD))


HEADS = {"5": lambda: navigation_2d(5), "9": lambda: navigation_2d(9), "factored": factored_velocities}
TITLES = {"5": "5² velocities", "9": "9² velocities", "factored": "a box of velocities, factored"}
BUDGET = 30_000_000  # environment steps of meta-training
PROBE = {"span": Span(segments=4, steps=100, streams=20)}
CHANGES: dict[str, dict[str, Any]] = {  # to the recipe, as train tasks would have it
    "cavia": {"inner_rate": 1.0},
    "anil": {"inner_rate": 0.03},  # at the recipe's it diverges
    "imaml": {"span": Span(segments=2, steps=50, streams=8)},  # a second support segment would be another problem
}
SHARES = {"imaml": 0.05}  # of the budget, so that its solves cost about what MAML's steps do
PUBLISHED = {
    "published: MAML, policy gradients": (-40.41, -11.68, -3.33, -3.23),
    "published: context vector": (-42.42, -13.90, -5.17, -3.18),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare all learners on the authors' goals."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    only: str | None = None
    """One head's table; all by default."""
    learner: str | None = None
    """One learner; all by default. Its result is made anew."""
    budget: int = BUDGET
    """Environment steps of meta-training."""
    quick: bool = False
    """A smoke test of two learners; its numbers mean nothing and are not kept."""


def main(options: Options) -> None:
    """Run what is missing, and write results/navigation_2d_HEAD.{json,md,png}."""
    console, heads = Console(), [options.only] if options.only else list(HEADS)
    learners = [options.learner] if options.learner else list(LEARNERS)
    for head in heads:
        check_name("head", head, HEADS)
    for name in learners:
        check_name("learner", name, LEARNERS)
    if options.quick:
        heads, learners = ["5"], ["cavia", "pearl"]

    def work(family, name):
        recipe = dataclasses.replace(family.recipe, **CHANGES.get(name, {}))
        task = sample_tasks(jax.random.key(0), family.split.test, 1)
        held = jax.vmap(lambda goal: jax.tree.map(lambda leaf: leaf[0], task).replace(goal=goal))(published_goals())
        sizes = {"tasks": 4 if options.quick else 40, "held": None if options.quick else held}
        budget = 1 if options.quick else int(SHARES.get(name, 1.0) * options.budget)
        changed = family._replace(recipe=recipe)
        row = side_by_side.run(changed, name, budget=budget, seeds=options.seeds, probe=PROBE, **sizes)
        console.print(name, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    for head in heads:
        path, family = RESULTS / f"navigation_2d_{head}.json", HEADS[head]()
        show = functools.partial(side_by_side.show, path, f"navigation_2d, {TITLES[head]}", published=PUBLISHED)
        cells = [(name,) for name in learners]
        fill(path, cells, functools.partial(work, family), show, anew=options.learner is not None, quick=options.quick)


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
