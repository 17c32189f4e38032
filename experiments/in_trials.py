"""What experiments on trials share: RL² through trials of several episodes, and its returns by episode, shown."""

import dataclasses
import time
from typing import Any

import numpy as np
from kept import fill
from rich.console import Console
from seeds import trained

from metadqn_jax import figures, programs, stats
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import check_name

REFERENCES = ("plan", "bound")  # returns by episode that a result may hold beside its own


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
    learner, _ = learners_of(entry, family, recipe, memory=memory)
    tasks, steps = 8 if options.quick else options.tasks, recipe.outer_steps
    program = programs.make_program(family, learner, recipe, judge=entry.judge, tasks=tasks)

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


def figure(path, title, rows):
    """Each episode's return as a share of what a known goal gives, so that cases share one axis, beside its references."""
    series = {}
    for name, one in rows.items():
        lines = {name: (one["by_episode"], one["ci95_by_episode"])}
        lines |= {f"{name}, {which}": (one[which], np.stack([one[which]] * 2, 1)) for which in REFERENCES if one.get(which)}
        for label, (means, ends) in lines.items():
            low, high = np.array(ends).T / one["optimum"]
            shares = np.array(means) / one["optimum"]
            series[label] = {"x": range(1, len(means) + 1), "mean": shares, "low": low, "high": high}
    labels: dict[str, Any] = {"xlabel": "episode of the trial", "ylabel": "return as a share of the known goal's"}
    figures.lines(path, series, title=f"{title}: mean with 95 % interval", references={"known goal": 1.0}, **labels)


def by_episode(rows):
    """A table of up to three lines a case: ours, the plan and what no policy exceeds."""
    lines = [
        "| return by episode | 1 | 2 | 3 | 4 | last | whole trial | known goal | random | seeds | CPU-s a seed |",
        "|---|" + "---:|" * 10,
    ]
    for name, one in rows.items():
        half = (one["ci95"][1] - one["ci95"][0]) / 2
        facts = [f"{one['trial']:.2f} ± {half:.2f}", f"{one['optimum']:.2f}", f"{one['random_episode']:.3f}"]
        facts += [str(one["seeds"]), str(one["cpu_seconds"] // one["seeds"])]
        shown = {f"{name}: RL² with Q-learning": (one["by_episode"], facts)}
        for which, text in zip(REFERENCES, ("plan", "no policy exceeds"), strict=True):
            if one.get(which):
                shown[f"{name}: {text}"] = (one[which], [f"{sum(one[which]):.2f}", *[""] * 4])
        for label, (means, rest) in shown.items():
            lines.append(" | ".join([f"| {label}", *(f"{value:.2f}" for value in [*means[:4], means[-1]]), *rest]) + " |")
    return "\n".join(lines) + "\n"
