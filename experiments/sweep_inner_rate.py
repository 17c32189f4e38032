"""Return against the inner rate on `navigation`: rate × seeds in one compiled program by vmap."""

import dataclasses
import json
import time

import numpy as np
from command_line import start
from kept import RESULTS

from metadqn_jax import figures, programs, stats
from metadqn_jax.learners.descent import maml
from metadqn_jax.sweep import sweep
from metadqn_jax.tasks.navigation import navigation

RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
STEPS = (0, 1, 3, 10)


@dataclasses.dataclass(frozen=True)
class Options:
    """Second-order MAML on navigation for several inner rates and seeds at once."""

    seeds: int = 3
    """Training seeds of each rate."""
    steps: int = 600
    """Outer steps of each member."""
    tasks: int = 128
    """Held-out tasks."""
    quick: bool = False
    """A smoke test: few steps, few tasks; nothing is kept."""


def main(options):
    family = navigation()
    steps, tasks = (2, 4) if options.quick else (options.steps, options.tasks)
    recipe = dataclasses.replace(family.recipe, outer_steps=steps)
    network, inner, outer, *_ = programs.make_parts(family.split.train, recipe)

    def train(hyper):
        def learner(steps):
            return maml(network, inner=inner, outer=outer, rate=hyper["rate"], steps=steps)

        return programs.make_program(family, learner, recipe, tasks=tasks, steps=STEPS)

    began = time.process_time()
    table = sweep(train, {"rate": RATES}, range(options.seeds), steps=steps, chunk=max(1, steps // 10), progress=say)
    returns = table["returns"].reshape(len(RATES), options.seeds, tasks, len(STEPS))
    summaries = [stats.summarise(one) for one in returns]
    series = {}
    for i, k in enumerate(STEPS):
        low, high = np.array([summary["ci95"][i] for summary in summaries]).T
        means = [summary["mean"][i] for summary in summaries]
        series[f"after {k} steps"] = {"x": RATES, "mean": means, "low": low, "high": high}
        print(
            f"after {k:2} steps:",
            "  ".join(f"rate {r:g}: {m:.2f}" for r, m in zip(RATES, series[f"after {k} steps"]["mean"], strict=True)),
        )
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        title = f"MAML on navigation, {options.steps} outer steps, {options.seeds} seeds × {tasks} held-out tasks"
        figures.lines(
            RESULTS / "sweep_inner_rate.png",
            series,
            title=title,
            log=True,
            xlabel="inner rate",
            ylabel="greedy return on held-out tasks",
        )
        facts = {
            "rates": RATES,
            "steps": STEPS,
            "options": dataclasses.asdict(options),
            "cpu_seconds": round(time.process_time() - began),
        }
        (RESULTS / "sweep_inner_rate.json").write_text(json.dumps({**facts, "summaries": summaries}, indent=1))


def say(done, metrics):
    print(f"{done} outer steps, mean loss {np.mean(metrics['loss']):.3f}", flush=True)


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
