"""RL² with each memory, as the return over a whole trial: python experiments/trials.py [--seeds N] [--only NAME] [--quick].

`rl2` and `run` are what experiments on trials share.
"""

import dataclasses
import time

import numpy as np
import tyro
from kept import RESULTS, fill
from rich.console import Console
from seeds import trained

from metadqn_jax import programs, stats
from metadqn_jax.catalog import FAMILIES, LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.planners.gridnavi import bayes_optimal

CASES = {  # (family, memory, changes to the family's recipe for trials)
    "tabular, read for each action": ("tabular", "actions", {"hidden": (64, 64)}),
    "tabular, attention": ("tabular", "attention", {}),
    "gridnavi, GRU": ("gridnavi", "gru", {}),
}
REFERENCES = {
    "tabular": "published: RL² 156.2, SNAIL 159.0 (Duan et al. 2016; Mishra et al. 2018)",
    "gridnavi": f"Bayes optimum {bayes_optimal(4).sum():.4f}",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train RL² on trials of several episodes, and judge it by whole greedy trials."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 1024
    """Held-out tasks, each lived through 4 times."""
    only: str | None = None
    """One case by its name, made anew; by default all that are missing."""
    quick: bool = False
    """A smoke test of the first and the last case: two outer steps, few tasks; nothing is kept."""


def rl2(label, family, options, *, memory=None, **changes):
    """The result of RL² on a family's trials, its recipe for them changed by `changes`: by trial, by episode, and its cost."""
    began, entry = time.process_time(), LEARNERS["rl2"]
    family = entry.prepare(family)
    recipe = dataclasses.replace(family.recipe, **changes, **({"outer_steps": 2, "meta_batch": 4} if options.quick else {}))
    learners = learners_of(entry, family, recipe, memory=memory)
    tasks, steps = 8 if options.quick else options.tasks, recipe.outer_steps
    program = programs.make_program(family, *learners, recipe, judge=entry.judge, tasks=tasks)

    table = trained(label, program, options.seeds, steps)
    episodes = np.asarray(table["returns"])
    trials = episodes.sum(2)
    return {
        "seeds": options.seeds,
        "tasks": tasks,
        "recipe": dataclasses.asdict(recipe),
        "memory": memory or recipe.memory or entry.memory,
        "trial": float(trials.mean()),
        "ci95": [float(bound) for bound in stats.bootstrap(trials)],
        "by_seed": trials.mean(1).tolist(),
        "by_episode": episodes.mean((0, 1)).tolist(),
        "ci95_by_episode": stats.summarise(episodes)["ci95"],
        "random": float(table["random"].mean() * episodes.shape[2]),
        "optimum": float(table["optimum"].mean()),
        "env_steps_per_seed": steps * recipe.env_steps,
        "cpu_seconds": round(time.process_time() - began),
    }


def run(path, cases, options, row, save):
    """`row(name)` of each case that `path` does not hold yet, or of the one that is asked for; `save(rows)` shows all."""
    console, names = Console(), list(cases)
    chosen = [options.only] if options.only else names[:: max(1, len(names) - 1)] if options.quick else names
    for name in chosen:
        check_name("case", name, cases)

    def work(name):
        one = row(name)
        console.print(f"{name}: {one['trial']:.2f} {one['ci95']}, seeds {one['by_seed']}")
        return one

    def show(rows):
        save({name: rows[name] for name in cases if name in rows})

    fill(path, [(name,) for name in chosen], work, show, anew=options.only is not None, quick=options.quick)


def main(options: Options) -> None:
    """Run the cases, and write results/trials.json and .md."""
    path = RESULTS / "trials.json"

    def row(name):
        family, memory, changes = CASES[name]
        return rl2(name, FAMILIES[family](), options, memory=memory, **changes)

    run(path, CASES, options, row, lambda rows: path.with_suffix(".md").write_text(markdown(rows)))


def markdown(results):
    """The table of the README."""
    lines = [
        "| RL² over a trial | return | seeds | episodes 1, 2, last | random | CPU-s a seed |",
        "|---|---:|---|---|---:|---:|",
    ]
    for name, one in results.items():
        episodes = one["by_episode"]
        spread = (one["ci95"][1] - one["ci95"][0]) / 2
        seeds = ", ".join(f"{value:.1f}" for value in one["by_seed"])
        shown = ", ".join(f"{episodes[i]:.2f}" for i in (0, 1, -1))
        lines.append(
            f"| {name} | {one['trial']:.2f} ± {spread:.2f} | {seeds} | {shown} "
            f"| {one['random']:.1f} | {one['cpu_seconds'] // one['seeds']} |"
        )
    return "\n".join(lines + [f"| *{family}: {line}* | | | | | |" for family, line in REFERENCES.items()]) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
