"""Every learner on every family, side by side: python experiments/compare_learners.py [--family NAME] [--quick].

All are meta-trained on the same number of environment steps of a family, by the family's recipe. Within a held-out task a
learner adapts after each fresh segment; those with a memory live through a trial, and are judged by its episodes. Results
are kept learner by learner, and what stands is not run again.
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import numpy as np
import tyro
from kept import RESULTS, fill
from rich.console import Console

from metadqn_jax import figures, programs, report, stats
from metadqn_jax.catalog import FAMILIES, LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.evaluation import by_segments, by_steps, optimal_returns
from metadqn_jax.sweep import sweep
from metadqn_jax.tasks.base import sample_tasks

BUDGETS = {"navigation": 8_000_000, "tabular": 6_400_000, "cartpole": 4_800_000}  # environment steps of meta-training
CANDIDATES: dict[str, list[dict[str, Any]]] = {  # baselines get what is best on train tasks
    "finetune": [{"inner_rate": rate} for rate in (0.1, 0.3, 1.0)],
    "scratch": [{"inner_steps": 3}, {"inner_steps": 60}],
}


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
    """A smoke test of three learners on one family; its numbers mean nothing and are not kept."""


def run(family_name, learner_name, options):
    """One learner's row: its returns after each segment or episode, and what they cost."""
    began, entry = time.process_time(), check_name("learner", learner_name, LEARNERS)
    entry = entry._replace(judge=by_segments) if entry.judge is by_steps else entry
    budget = check_name("task family", family_name, BUDGETS)
    family = entry.prepare(FAMILIES[family_name]())
    recipe, trains = family.recipe, learner_name != "scratch"
    per_step = recipe.meta_batch * recipe.span.transitions
    steps = 2 if options.quick else max(1, budget // per_step) if trains else 1
    recipe = dataclasses.replace(recipe, outer_steps=steps)
    learner, _ = learners_of(entry, family, recipe)
    changed = [dataclasses.replace(recipe, **changes) for changes in CANDIDATES.get(learner_name, [{}])]
    tested = [learners_of(entry, family, one)[1] for one in changed]
    judge = entry.judge(recipe, programs.make_explore(recipe), family.horizon)
    program = programs.make_program(family, learner, tested[0], recipe, judge=entry.judge)

    def evaluate(key, slow):
        keys = jax.random.split(key, 6)
        found = {}
        for side, key_tasks, key_lives, tasks in (("train", *keys[:2], 64), ("test", *keys[2:4], options.tasks)):
            distribution = getattr(family.split, side)
            held = sample_tasks(key_tasks, distribution, 4 if options.quick else tasks)
            for i, one in enumerate(tested):
                found[f"{side}/{i}"] = judge.returns(key_lives, one, slow, distribution, held, judge.points)
        found["random"] = judge.random(keys[4], distribution, held)
        return found | {"optimum": optimal_returns(keys[5], family.optimum, held)}

    table = sweep(
        lambda hyper: program._replace(evaluate=evaluate), {}, range(options.seeds), steps=steps, chunk=max(1, steps // 10)
    )
    best = max(range(len(tested)), key=lambda i: table[f"train/{i}"][..., 1].mean())
    unit = judge.unit
    in_task = recipe.span.steps * recipe.span.streams * (family.horizon if unit == "episodes" else 1)
    facts = {
        "candidate": CANDIDATES.get(learner_name, [{}])[best],
        "iqm_ci95": stats.summarise(table[f"test/{best}"])["iqm_ci95"],
        "by_seed": table[f"test/{best}"].mean(1).tolist(),
        "env_steps_in_task": [in_task * (point - (unit == "episodes")) for point in judge.points],
        "train_tasks": steps * recipe.meta_batch * trains,
        "train_env_steps": steps * per_step * trains,
        "cpu_seconds": round(time.process_time() - began),
        "recipe": dataclasses.asdict(recipe),
        "seeds": options.seeds,
        "tasks": options.tasks,
    }
    references = {which: float(table[which].mean()) for which in ("random", "optimum")}
    return report.evaluation(table[f"test/{best}"], judge.points, unit, **references, **facts)


def show(path, family_name, rows):
    """The table and the figure beside the JSON file at `path`."""
    path.with_suffix(".md").write_text(markdown(family_name, rows))
    one = next(iter(rows.values()))
    series = {}
    for name in filter(rows.get, LEARNERS):
        low, high = np.array(rows[name]["iqm_ci95"]).T
        series[name] = {"x": rows[name]["env_steps_in_task"], "mean": rows[name]["iqm"], "low": low, "high": high}
    title = f"{family_name}: {one['tasks']} held-out tasks × {one['seeds']} seeds, IQM with 95 % interval"
    labels: dict[str, Any] = {"xlabel": "environment steps seen in the task", "ylabel": "greedy return of an episode"}
    references = {"optimum": one["optimum"], "random": one["random"]}
    figures.lines(path.with_suffix(".png"), series, title=title, references=references, **labels)


def markdown(family_name, rows):
    """One line a learner: mean return at each point ± half its interval, IQM at the last, and what it cost."""
    one = next(iter(rows.values()))
    head = f"**{family_name}**: random {one['random']:.1f}, optimum {one['optimum']:.1f}"
    lines = [f"| {head} | first | second | third | fourth | IQM last | steps between | CPU-s |", "|---|" + "---:|" * 7]
    for name in filter(rows.get, LEARNERS):
        row = rows[name]
        cells = [f"{m:.2f} ± {(h - l) / 2:.2f}" for m, (l, h) in zip(row["mean_return"], row["ci95"], strict=True)]
        cells += [""] * (4 - len(cells)) + [f"{row['iqm'][-1]:.2f}", f"{row['env_steps_in_task'][1]:,}"]
        lines.append(f"| {name} | " + " | ".join([*cells[:4], *cells[-2:], str(row["cpu_seconds"])]) + " |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Run what is missing, and write the tables and figures."""
    console = Console()
    families = ["navigation"] if options.quick else [options.family] if options.family else list(BUDGETS)
    learners = ["meta_sgd", "pearl", "rl2"] if options.quick else [options.learner] if options.learner else list(LEARNERS)

    def work(family_name, name):
        row = run(family_name, name, options)
        console.print(family_name, name, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    for family in families:
        path, again = RESULTS / f"compare_{family}.json", options.learner is not None
        fill(
            path,
            [(name,) for name in learners],
            functools.partial(work, family),
            functools.partial(show, path, family),
            anew=again,
            quick=options.quick,
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=Options.__doc__))
