"""RL² on the sparse point robot of three papers: python experiments/semicircle.py [--seeds N] [--only NAME] [--quick].

Beside each episode's return stand the returns where the goal is known: with any velocities, as it is stated for each
definition, and with those of the grid, which is the optimum here.
"""

from typing import Any

import jax
import numpy as np
import trials
import tyro
from kept import RESULTS

from metadqn_jax import figures
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.semicircle import DEFINITIONS, known_goal_return, semicircle

STATED = {"pearl": 13.38, "varibad": 93.38, "borel": 53.60}  # the mean over the half circle
PATH = RESULTS / "semicircle.json"


def row(name, options):
    """The result of one definition, with what any velocities reach on test goals."""
    family = semicircle(name)
    tasks = sample_tasks(jax.random.key(0), family.split.test, 256)
    free = jax.jit(jax.vmap(lambda task: known_goal_return(task, family.horizon)))(tasks)
    return {**trials.rl2(name, family, options), "any_velocities": float(free.mean()), "horizon": family.horizon}


def save(rows):
    """results/semicircle.md and .png."""
    PATH.with_suffix(".md").write_text(markdown(rows))
    series = {}
    for name, one in rows.items():
        low, high = np.array(one["ci95_by_episode"]).T / one["optimum"]
        shares = np.array(one["by_episode"]) / one["optimum"]
        series[f"{name}, {one['horizon']} steps"] = {"x": range(1, len(shares) + 1), "mean": shares, "low": low, "high": high}
    labels: dict[str, Any] = {"xlabel": "episode of the trial", "ylabel": "return as a share of the known goal's"}
    title = "RL² on the sparse half circle: mean with 95 % interval"
    figures.lines(PATH.with_suffix(".png"), series, title=title, references={"known goal": 1.0}, **labels)


def markdown(rows):
    """One line a definition."""
    lines = [
        "| RL² on the half circle | 1, 2, last episode | known goal | any velocities | stated | random | seeds | CPU-s |",
        "|---|---|" + "---:|" * 6,
    ]
    for name, one in rows.items():
        means, count = one["by_episode"], len(one["by_episode"])
        cells = [name, ", ".join(f"{means[i]:.2f}" for i in (0, 1, -1)), f"{one['optimum']:.2f}"]
        cells += [f"{one['any_velocities']:.2f}", f"{STATED[name]:.2f}", f"{one['random'] / count:.2f}"]
        lines.append("| " + " | ".join([*cells, str(one["seeds"]), str(one["cpu_seconds"] // one["seeds"])]) + " |")
    return "\n".join(lines) + "\n"


def main(options: trials.Options) -> None:
    """Run what is missing, and write results/semicircle.json, .md and .png."""
    trials.run(PATH, DEFINITIONS, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    main(tyro.cli(trials.Options, description=__doc__))
