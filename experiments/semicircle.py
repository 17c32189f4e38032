"""RL² on the sparse point robot of three papers: python experiments/semicircle.py [--seeds N] [--only NAME] [--quick].

Beside each episode's return stand the returns where the goal is known: with any velocities, as it is stated for each
definition, and with those of the grid, which is the optimum here.
"""

import in_trials
import jax
from command_line import start
from kept import RESULTS

from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.semicircle import DEFINITIONS, known_goal_return, semicircle

STATED = {"pearl": 13.38, "varibad": 93.38, "borel": 53.60}  # the mean over the half circle
PATH = RESULTS / "semicircle.json"


def row(name, options):
    """The result of one definition, with what any velocities reach on test goals."""
    family = semicircle(name)
    tasks = sample_tasks(jax.random.key(0), family.split.test, 256)
    free = jax.jit(jax.vmap(lambda task: known_goal_return(task, family.horizon)))(tasks)
    return {**in_trials.rl2(name, family, options), "any_velocities": float(free.mean()), "horizon": family.horizon}


def save(rows):
    """results/semicircle.md and .png."""
    PATH.with_suffix(".md").write_text(markdown(rows))
    shown = {f"{name}, {one['horizon']} steps": one for name, one in rows.items()}
    in_trials.figure(PATH.with_suffix(".png"), "RL² on the sparse half circle", shown)


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


def main(options: in_trials.Options) -> None:
    """Run what is missing, and write results/semicircle.json, .md and .png."""
    in_trials.run(PATH, DEFINITIONS, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    start(main, in_trials.Options, __doc__)
