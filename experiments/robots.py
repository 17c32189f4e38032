"""Continuous actions, adapted to a task: python experiments/robots.py [--only PLACE] [--learner NAME] [--quick].

Learners that adapt beside a multi-task DQN, the same fine-tuned, one from scratch, and one that is shown the task, all with
the factored head on the same number of environment steps: on robots (extra `robots`), on the pendulum with varied physics
whose torques are a box, and reaching in 12 dimensions. Judged on held-out tasks after 0 … 3 segments, or by a trial's
episodes, all seeds in one compiled program. What stands is not run again.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import side_by_side
import tyro
from kept import RESULTS, fill
from rich.console import Console

from metadqn_jax.actions import factored, held
from metadqn_jax.checks import check_name
from metadqn_jax.tasks.base import Family
from metadqn_jax.tasks.reaching import reaching
from metadqn_jax.tasks.robots import arm, cheetah
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.tasks.varied_control import varied_pendulum
from metadqn_jax.tasks.wrappers import with_head
from metadqn_jax.types import Span


class Place(NamedTuple):
    """A family, and the environment steps of meta-training in it."""

    make: Callable[[], Family]
    budget: int


def pendulum():
    """`varied_pendulum` whose torques are a box of 5 levels, held for 5 steps in exploration."""
    return with_head(varied_pendulum(), held(factored([-2.0], [2.0], bins=5), 5))


def twelve():
    """`reaching` in 12 dimensions, with a trial of six episodes."""
    trial = dataclasses.replace(TRIAL, span=Span(120, 1, 1), discount=0.7, reward_scale=1.0)
    return reaching(12)._replace(trial=trial)


PLACES = {
    "arm": Place(arm, 20_000_000),
    "pendulum": Place(pendulum, 30_000_000),
    "reaching": Place(twelve, 30_000_000),
    "cheetah_velocity": Place(cheetah, 50_000_000),
    "cheetah_direction": Place(lambda: cheetah("direction"), 50_000_000),
}
COMPARED = ("rl2", "cavia", "maml", "pearl", "multitask", "finetune", "scratch", "conditioned")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare learners on continuous actions."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 256
    """Held-out tasks, the same for all learners and seeds."""
    only: str | None = None
    """One place; all by default."""
    learner: str | None = None
    """One learner; all by default. Its result is made anew."""
    budget: int | None = None
    """Environment steps of meta-training; by default the place's own."""
    quick: bool = False
    """A smoke test of one learner; its numbers mean nothing and are not kept."""


def main(options: Options) -> None:
    """Run what is missing, and write results/robots_PLACE.{json,md,png}."""
    console = Console()
    names = ["reaching"] if options.quick else [options.only] if options.only else list(PLACES)
    learners = ["cavia"] if options.quick else [options.learner] if options.learner else list(COMPARED)
    tasks = 4 if options.quick else options.tasks

    def work(name, learner):
        place = check_name("place", name, PLACES)
        budget = 1 if options.quick else options.budget or place.budget
        row = side_by_side.run(place.make(), learner, budget=budget, seeds=options.seeds, tasks=tasks)
        console.print(name, learner, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    for name in names:
        path, again = RESULTS / f"robots_{name}.json", options.learner is not None
        show = functools.partial(side_by_side.show, path, name)
        fill(path, [(one,) for one in learners], functools.partial(work, name), show, anew=again, quick=options.quick)


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
