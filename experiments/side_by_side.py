"""What experiments that set learners side by side share: train one on a budget, judge it on held-out tasks, show all rows."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from kept import RESULTS, fill
from rich.console import Console
from seeds import trained

from metadqn_jax import figures, programs, report, stats, trees
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import check_name
from metadqn_jax.evaluation import optimal_returns
from metadqn_jax.judges import by_segments, by_steps
from metadqn_jax.tasks.base import Family, sample_tasks
from metadqn_jax.types import Span

CANDIDATES: dict[str, list[dict[str, Any]]] = {  # baselines get what is best on train tasks
    "finetune": [{"inner_rate": rate} for rate in (0.01, 0.03, 0.1, 0.3, 1.0)],
    "continued": [{"inner_steps": updates} for updates in (20, 60, 150)],
    "scratch": [{"inner_steps": updates} for updates in (3, 60)],
}
CHOSEN_ON = 64  # train tasks
BY_EPISODE = "continued, by episode"  # on one stream, of which each segment is an episode: as much as a memory sees
ROWS = (*LEARNERS, BY_EPISODE)


class Place(NamedTuple):
    """A family, and the environment steps of meta-training in it, the same for each learner."""

    make: Callable[[], Family]
    budget: int


@dataclasses.dataclass(frozen=True)
class Options:
    """Compare learners on the same data."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 256
    """Held-out tasks, the same for all learners and seeds."""
    only: str | None = None
    """One place; all by default."""
    learner: str | None = None
    """One learner; all by default. Its result is made anew."""
    budget: int | None = None
    """Environment steps of meta-training; by default the place's own."""
    quick: bool = False
    """A smoke test of the first learner in the first place; its numbers mean nothing and are not kept."""


def compare(prefix: str, places: Mapping[str, Place], learners: Sequence[str], options: Options) -> None:
    """Run what is missing, and write results/PREFIX_PLACE.{json,md,png} for each place."""
    console, tasks = Console(), 4 if options.quick else options.tasks
    names, chosen = [options.only] if options.only else list(places), [options.learner] if options.learner else list(learners)
    if options.quick:
        names, chosen = names[:1], chosen[:1]
    for name in names:
        check_name("place", name, places)
    for learner in chosen:
        check_name("learner", learner, dict.fromkeys(ROWS))

    def work(name, learner):
        place = places[name]
        budget = 1 if options.quick else options.budget or place.budget
        family, probe = place.make(), None
        if learner == BY_EPISODE:
            learner, probe = "continued", {"span": Span(segments=4, steps=family.horizon, streams=1)}
        row = run(family, learner, budget=budget, seeds=options.seeds, tasks=tasks, probe=probe)
        console.print(name, learner, np.round(row["mean_return"], 2), f"{row['cpu_seconds']} CPU-s", highlight=False)
        return row

    for name in names:
        path = RESULTS / f"{prefix}_{name}.json"
        cells, again = [(learner,) for learner in chosen], options.learner is not None
        see = functools.partial(show, path, name)
        fill(path, cells, functools.partial(work, name), see, anew=again, quick=options.quick)


def run(family, learner_name, *, budget, seeds, tasks, held=None, probe=None):
    """One learner's row: its returns after each segment or episode, and what they cost.

    budget: environment steps of meta-training, by the family's recipe.   tasks: how many held-out tasks are drawn; or
    `held`, those tasks.   probe: changes to the recipe where it is judged, say to a span of more transitions.
    """
    began, entry = time.process_time(), check_name("learner", learner_name, LEARNERS)
    entry = entry._replace(judge=by_segments) if entry.judge is by_steps else entry
    trained_on, tried = (
        entry.prepare(one) for one in (family, family._replace(recipe=dataclasses.replace(family.recipe, **(probe or {}))))
    )
    trains, per_step = learner_name != "scratch", trained_on.recipe.env_steps
    steps = max(1, budget // per_step) if trains else 1
    recipe, trial = (dataclasses.replace(one.recipe, outer_steps=steps) for one in (trained_on, tried))
    learner, _ = learners_of(entry, trained_on, recipe)
    candidates = CANDIDATES.get(learner_name, [{}])
    judge, tested = entry.judge(trial, programs.make_explore(trial), family.horizon), []
    for changes in candidates:
        changed = dataclasses.replace(trial, **changes)
        tested.append(learners_of(entry, tried, changed)[1](changed.inner_steps))
    program = programs.make_program(trained_on, learner, recipe, judge=entry.judge)
    program = program._replace(evaluate=judged(judge, trained_on, tested, tasks, held))
    table = trained(learner_name, program, seeds, steps)
    best = max(range(len(tested)), key=lambda i: table[f"train/{i}"][..., 1:].mean()) if len(tested) > 1 else 0
    in_task = trial.span.steps * trial.span.streams * (family.horizon if judge.unit == "episodes" else 1)
    facts = {
        "candidate": candidates[best],
        "iqm_ci95": stats.summarise(table[f"test/{best}"])["iqm_ci95"],
        "by_seed": table[f"test/{best}"].mean(1).tolist(),
        "env_steps_in_task": [in_task * (point - (judge.unit == "episodes")) for point in judge.points],
        "train_tasks": steps * per_step // recipe.span.transitions * trains,
        "train_env_steps": steps * per_step * trains,
        "cpu_seconds": round(time.process_time() - began),
        "recipe": dataclasses.asdict(recipe),
        "probe": dataclasses.asdict(trial.span),
        "seeds": seeds,
        "tasks": table["optimum"].shape[1],
    }
    references = {which: float(table[which].mean()) for which in ("random", "optimum")}
    return report.evaluation(table[f"test/{best}"], judge.points, judge.unit, **references, **facts)


def judged(judge, family, learners, tasks, held):
    """`(key, slow)` -> the returns of each of `learners` on held-out tasks, of several also on train tasks, and bounds.

    In one call: what differs between the two sides is how tasks are drawn, and a world is slow to compile.
    """

    def evaluate(key, slow):
        keys, found, (train, test) = jax.random.split(key, 6), {}, family.split
        drawn = sample_tasks(keys[2], test, tasks) if held is None else held
        first = min(tasks, CHOSEN_ON) if len(learners) > 1 else 0
        both = trees.join(sample_tasks(keys[0], train, first), drawn) if first else drawn
        for i, one in enumerate(learners):
            returns = judge.returns(keys[3], one, slow, test, both, judge.points)
            found[f"train/{i}"], found[f"test/{i}"] = returns[:first], returns[first:]
        found["random"] = judge.random(keys[4], test, drawn)
        found["optimum"] = optimal_returns(keys[5], family.optimum, drawn, episodes=1)  # planners that simulate cost most
        return found

    return evaluate


def show(path, title, rows, published=None):
    """The table and the figure beside the JSON file at `path`."""
    path.with_suffix(".md").write_text(markdown(title, rows, published or {}))
    one = next(iter(rows.values()))
    series = {}
    for name in filter(rows.get, ROWS):
        low, high = np.array(rows[name]["iqm_ci95"]).T
        series[name] = {"x": rows[name]["env_steps_in_task"], "mean": rows[name]["iqm"], "low": low, "high": high}
    text = f"{title}: {one['tasks']} held-out tasks × {one['seeds']} seeds, IQM with 95 % interval"
    labels: dict[str, Any] = {"xlabel": "environment steps seen in the task", "ylabel": "greedy return of an episode"}
    references = {"optimum": one["optimum"], "random": one["random"]}
    figures.lines(path.with_suffix(".png"), series, title=text, references=references, **labels)


def markdown(title, rows, published):
    """One line a learner: mean return at each point ± half its interval, IQM at the last, and what it cost.

    published: {name: the means of others}.
    """
    one = next(iter(rows.values()))
    head = f"**{title}**: random {one['random']:.1f}, optimum {one['optimum']:.1f}"
    lines = [f"| {head} | first | second | third | fourth | IQM last | steps between | CPU-s |", "|---|" + "---:|" * 7]
    for name in filter(rows.get, ROWS):
        row = rows[name]
        cells = [f"{m:.2f} ± {(h - l) / 2:.2f}" for m, (l, h) in zip(row["mean_return"], row["ci95"], strict=True)]
        cells += [""] * (4 - len(cells)) + [f"{row['iqm'][-1]:.2f}", f"{row['env_steps_in_task'][1]:,}"]
        lines.append(f"| {name} | " + " | ".join([*cells[:4], *cells[-2:], str(row["cpu_seconds"])]) + " |")
    for name, means in published.items():
        lines.append(f"| *{name}* | " + " | ".join(f"{mean:.2f}" for mean in means) + " | | | |")
    return "\n".join(lines) + "\n"
