"""Every learner on every family, side by side: python experiments/compare_learners.py [--family NAME] [--quick].

All are meta-trained on the same number of environment steps of a family, by the family's recipe. Within a held-out task a
learner adapts after each fresh segment; those with a memory live through a trial, and are judged by its episodes. Results
are kept learner by learner, and what stands is not run again.
"""

import dataclasses
import functools

import numpy as np
import side_by_side
import tyro
from kept import RESULTS, fill
from rich.console import Console

from metadqn_jax.catalog import FAMILIES, LEARNERS
from metadqn_jax.checks import check_name

BUDGETS = {"navigation": 8_000_000, "tabular": 6_400_000, "cartpole": 4_800_000}  # environment steps of meta-training


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare all learners on the same data."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 256
    """Held-out tasks, the same for all learners and seeds."""
    family: str | None = None
    """One family; all by default."""
    learner: str | None = None
    """One learner; all by default. Its result is made anew."""
    quick: bool = False
    """A smoke test of two learners on one family; its numbers mean nothing and are not kept."""


def main(options: Options) -> None:
    """Run what is missing, and write the tables and figures."""
    console = Console()
    families = ["navigation"] if options.quick else [options.family] if options.family else list(BUDGETS)
    learners = ["meta_sgd", "rl2"] if options.quick else [options.learner] if options.learner else list(LEARNERS)
    tasks = 4 if options.quick else options.tasks

    def work(family, name):
        budget = 1 if options.quick else check_name("task family", family, BUDGETS)
        row = side_by_side.run(FAMILIES[family](), name, budget=budget, seeds=options.seeds, tasks=tasks)
        console.print(family, name, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    for family in families:
        path, again = RESULTS / f"compare_{family}.json", options.learner is not None
        show = functools.partial(side_by_side.show, path, family)
        fill(path, [(name,) for name in learners], functools.partial(work, family), show, anew=again, quick=options.quick)


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
