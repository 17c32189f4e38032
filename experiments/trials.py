"""RL² with each memory, as the return over a whole trial: python experiments/trials.py [--seeds N] [--only NAME] [--quick]."""

import dataclasses
import json
import time

import numpy as np
import tyro
from common import RESULTS
from rich.console import Console

from metadqn_jax import programs, stats
from metadqn_jax.catalog import FAMILIES, LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.planners.gridnavi import bayes_optimal
from metadqn_jax.sweep import sweep

CASES = {  # (family, memory, changes to the family's recipe for trials)
    "tabular, read for each action": ("tabular", "actions", {"hidden": (64, 64)}),
    "tabular, attention": ("tabular", "attention", {}),
    "gridnavi, attention": ("gridnavi", "attention", {}),
    "gridnavi, GRU": ("gridnavi", "gru", {}),
}
REFERENCES = {
    "tabular": "published: RL² 156.2, SNAIL 159.0 (Duan et al. 2016; Mishra et al. 2018)",
    "gridnavi": f"Bayes optimum {bayes_optimal(4).sum():.4f}",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Train RL² on trials of tabular MDPs (10 episodes) and GridNavi (4 episodes); judge whole greedy trials."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 1024
    """Held-out tasks, each lived through 4 times."""
    only: str | None = None
    """One case by its name; all by default."""
    quick: bool = False
    """A smoke test: two outer steps, few tasks; nothing is kept."""


def run(name, options, console):
    """The result of one case, as it goes into experiments/results/trials.json."""
    began, entry = time.process_time(), LEARNERS["rl2"]
    family_name, memory, changes = check_name("case", name, CASES)
    family = entry.prepare(FAMILIES[family_name]())
    recipe = dataclasses.replace(family.recipe, **changes, **({"outer_steps": 2, "meta_batch": 4} if options.quick else {}))
    learners = learners_of(entry, family, recipe, memory=memory)
    tasks = 8 if options.quick else options.tasks
    program = programs.make_program(family, *learners, recipe, judge=entry.judge, tasks=tasks)
    steps = recipe.outer_steps

    def say(done, metrics):
        console.print(f"{name}: {done}/{steps}, loss {metrics['loss'][:, -1].mean():.3f}", highlight=False)

    table = sweep(lambda hyper: program, {}, range(options.seeds), steps=steps, chunk=max(1, steps // 10), progress=say)
    episodes = np.asarray(table["returns"])
    trials = episodes.sum(2)
    low, high = stats.bootstrap(trials)
    return {
        "seeds": options.seeds,
        "tasks": tasks,
        "recipe": dataclasses.asdict(recipe),
        "memory": memory,
        "trial": float(trials.mean()),
        "ci95": [float(low), float(high)],
        "by_seed": trials.mean(1).tolist(),
        "by_episode": episodes.mean((0, 1)).tolist(),
        "random": float(table["random"].mean() * episodes.shape[2]),
        "env_steps_per_seed": steps * recipe.meta_batch * recipe.span.transitions,
        "cpu_seconds": round(time.process_time() - began),
    }


def main(options: Options) -> None:
    """Run the cases, and write results/trials.json and .md."""
    console, path = Console(), RESULTS / "trials.json"
    for name in CASES if options.only is None else [options.only]:
        result = run(name, options, console)
        console.print(f"{name}: {result['trial']:.2f} {result['ci95']}, seeds {result['by_seed']}")
        if not options.quick:
            results = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**results, name: result}, indent=1))
            path.with_suffix(".md").write_text(markdown({**results, name: result}))


def markdown(results):
    """The table of the README."""
    lines = [
        "| RL² over a trial | return | seeds | episodes 1, 2, last | random | CPU-s a seed |",
        "|---|---:|---|---|---:|---:|",
    ]
    for name in filter(results.get, CASES):
        one, episodes = results[name], results[name]["by_episode"]
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
