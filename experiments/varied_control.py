"""Generalisation in varied classic control: python experiments/varied_control.py [--only NAME] [--seeds N] [--quick].

Learners are meta-trained on tasks of the ranges R of Packer et al. (2018), with the same number of environment steps, and
judged on other tasks of R and on tasks of E beyond them, by returns and success rates. What stands is not run again.
"""

import dataclasses
import itertools
import time
from typing import Any

import jax
import numpy as np
from command_line import start
from kept import RESULTS, fill
from seeds import trained

from metadqn_jax import figures, programs, report, trees
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.evaluation import optimal_returns
from metadqn_jax.judges import by_segments, by_steps
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.varied_control import TABLE, succeeds, varied

PATH = RESULTS / "varied_control.json"
BUDGET = 10_000_000  # environment steps of meta-training
CASES = {"scratch": {"inner_steps": 60}, "multitask": {}, "rl2": {}, "maml": {}}  # learners, and changes to their recipes
SIDES = {"R": "interpolation", "E": "extrapolation"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train on R; test on R and on E."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 1024
    """Held-out tasks of each side, one episode each, the same for all learners and seeds."""
    only: str | None = None
    """One environment; all by default."""
    quick: bool = False
    """A smoke test of MAML on CartPole: one outer step, few tasks; nothing is kept."""


def run(name, learner_name, options):
    """{"R": row, "E": row} of one learner in one environment, its returns and success after each segment or episode."""
    began, entry, tasks = time.process_time(), LEARNERS[learner_name], 4 if options.quick else options.tasks
    entry = entry._replace(judge=by_segments) if entry.judge is by_steps else entry
    families = [entry.prepare(varied(name, test)) for test in SIDES.values()]
    recipe, test = dataclasses.replace(families[0].recipe, **CASES[learner_name]), families[0].split.test
    trains, per_step = learner_name != "scratch" and not options.quick, recipe.env_steps
    recipe = dataclasses.replace(recipe, outer_steps=max(1, BUDGET // per_step) if trains else 1)
    learner, tested = learners_of(entry, families[0], recipe)
    judge = entry.judge(recipe, programs.make_explore(recipe), families[0].horizon)
    program = programs.make_program(families[0], learner, recipe, tested=tested, judge=entry.judge)

    def evaluate(key, slow):  # tasks of both sides side by side: only how they are drawn differs
        keys = jax.random.split(key, 5)
        drawn = zip(keys[:2], families, strict=True)
        held = trees.join(*(sample_tasks(key_tasks, family.split.test, tasks) for key_tasks, family in drawn))
        returns = judge.returns(keys[2], tested(judge.steps), slow, test, held, judge.points, episodes=1)
        optimum = optimal_returns(keys[4], families[0].optimum, held, episodes=1)
        return {"returns": returns, "random": judge.random(keys[3], test, held), "optimum": optimum}

    steps, seeds = recipe.outer_steps, 1 if options.quick else options.seeds
    table = trained(f"{name}, {learner_name}", program._replace(evaluate=evaluate), seeds, steps)
    facts: dict[str, Any] = {"seeds": seeds, "tasks": tasks, "train_env_steps": steps * per_step * trains}
    facts |= {"recipe": dataclasses.asdict(recipe), "cpu_seconds": round(time.process_time() - began)}
    columns = {which: table[which] for which in ("returns", "random", "optimum")}
    halves = {"R": slice(None, tasks), "E": slice(tasks, None)}
    sides = {side: {which: column[:, half] for which, column in columns.items()} for side, half in halves.items()}
    return {side: row(name, judge, columns, facts) for side, columns in sides.items()}


def row(name, judge, table, facts):
    """One side's results in numbers, from columns [seeds, tasks, ...]."""
    returns, judged = table["returns"], TABLE[name].success is not None
    success = np.asarray(succeeds(name, returns)).mean((0, 1)).tolist() if judged else None
    references = {which: float(table[which].mean()) for which in ("random", "optimum")}
    return report.evaluation(returns, judge.points, judge.unit, **references, success=success, **facts)


def show(results):
    """results/varied_control.md, and a figure for each environment."""
    head = "| trained on R | R: first | second | last | E: first | second | last | solved of R | of E | CPU-s |"
    lines = [head, "|---|" + "---:|" * 9]
    for name, learners in results.items():
        one, series = next(iter(learners.values())), {}
        for which in ("optimum", "random"):
            lines.append(f"| **{name}**, {which} | | | {one['R'][which]:.1f} | | | {one['E'][which]:.1f} | | | |")
        for label, rows in learners.items():
            points = itertools.product(rows.values(), (0, 1, -1))
            cells = [f"{kept['mean_return'][i]:.1f} ± {np.ptp(kept['ci95'][i]) / 2:.1f}" for kept, i in points]
            cells += ["" if kept["success"] is None else f"{kept['success'][-1]:.0%}" for kept in rows.values()]
            lines.append(f"| {label} | {' | '.join(cells)} | {rows['R']['cpu_seconds']} |")
            for side, kept in rows.items():
                low, high = zip(*kept["ci95"], strict=True)
                series[f"{label}, {side}"] = {"x": range(len(low)), "mean": kept["mean_return"], "low": low, "high": high}
        title, xlabel = f"{name}: trained on R, tested on R and E", "segments or episodes adapted on"
        figures.lines(RESULTS / f"varied_{name}.png", series, title=title, xlabel=xlabel, ylabel="greedy return")
    PATH.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main(options: Options) -> None:
    """Run what is missing, and write the table and the figures."""
    names, learners = list(TABLE) if options.only is None else [options.only], list(CASES)
    if options.quick:
        names, learners = ["cartpole"], ["maml"]

    def work(name, learner):
        rows = run(name, learner, options)
        print(name, learner, {side: np.round(row["mean_return"], 1).tolist() for side, row in rows.items()})
        return rows

    fill(PATH, itertools.product(names, learners), work, show, quick=options.quick)


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
