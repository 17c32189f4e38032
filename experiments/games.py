"""Games whose buttons, views or rules are hidden: python experiments/games.py [--only NAME] [--seeds N] [--quick].

RL²-Q and MAML-DQN beside multi-task, fine-tuned and scratch DQN, and one that is shown the task, on MinAtar's games and on
XLand-MiniGrid. All are meta-trained on the same number of environment steps of a game, and judged on held-out tasks after 0,
1, 2 and 3 fresh segments, or by the episodes of a trial. What stands is not run again.
"""

import dataclasses
import itertools

import numpy as np
import side_by_side
import tyro
from kept import RESULTS, fill
from rich.console import Console

from metadqn_jax import figures
from metadqn_jax.catalog import FAMILIES
from metadqn_jax.checks import check_name

PATH = RESULTS / "games.json"
GAMES = ("breakout", "freeway", "space_invaders", "asterix", "xland")
LEARNERS = ("rl2", "maml", "multitask", "finetune", "scratch", "conditioned")


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare learners on games."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 256
    """Held-out tasks, the same for all learners and seeds."""
    budget: int = 5_000_000
    """Environment steps of meta-training, for each learner and seed."""
    only: str | None = None
    """One game; all by default."""
    quick: bool = False
    """A smoke test of one cell: one outer step, few tasks; its numbers mean nothing and are not kept."""


def main(options: Options) -> None:
    """Run what is missing, and write results/games.{json,md,png}."""
    console, names = Console(), dict.fromkeys(GAMES)
    if options.only is not None:
        check_name("game", options.only, names)
        names = [options.only]

    def work(name, learner):
        sizes = {"budget": 1, "tasks": 4, "seeds": 1} if options.quick else {"budget": options.budget, "tasks": options.tasks}
        row = side_by_side.run(FAMILIES[name](), learner, **{"seeds": options.seeds, **sizes})
        console.print(name, learner, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    cells = [("breakout", "multitask")] if options.quick else itertools.product(names, LEARNERS)
    fill(PATH, cells, work, show, quick=options.quick)


def show(results):
    """One table for each game, and one figure: the share of the way from random play to the optimum, mean over games.

    The mean of the games' intervals is wider than that of their mean need be.
    """
    results = {name: results[name] for name in GAMES if name in results}
    PATH.with_suffix(".md").write_text("\n".join(side_by_side.markdown(name, rows, {}) for name, rows in results.items()))
    series = {}
    for learner in LEARNERS:
        rows = [rows[learner] for rows in results.values() if learner in rows]
        if rows:
            mean, interval = (np.mean([share(row, column) for row in rows], 0) for column in ("mean_return", "ci95"))
            series[learner] = {"x": range(len(mean)), "mean": mean, "low": interval[:, 0], "high": interval[:, 1]}
    title, xlabel = f"held-out tasks of {', '.join(results)}", "segments or episodes adapted on"
    figures.lines(PATH.with_suffix(".png"), series, title=title, xlabel=xlabel, ylabel="share of the way")


def share(row, column):
    """Returns as shares of the way from random play to the optimum."""
    return (np.array(row[column]) - row["random"]) / (row["optimum"] - row["random"])


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
