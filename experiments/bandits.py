"""Bernoulli bandits, the table of Duan et al. (2016): python experiments/bandits.py [--only CELL COLUMN] [--quick]."""

import dataclasses
import itertools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from command_line import start
from kept import RESULTS, fill
from rich.console import Console
from seeds import trained

from metadqn_jax import figures, programs, stats
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import check_name, require
from metadqn_jax.evaluation import trial_returns
from metadqn_jax.planners import bandit_strategies as strategies
from metadqn_jax.planners.bandit import bayes_optimal
from metadqn_jax.tasks.bandit import bernoulli_bandit
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.types import Slow

PUBLISHED = json.loads((pathlib.Path(__file__).parent / "published_bandits.json").read_text())
CELLS = {cell: tuple(map(int, cell.split(","))) for cell in list(PUBLISHED)[2:]}  # (pulls, arms)
PLANNERS: dict[str, Any] = {  # (arms, pulls, number) -> strategy; of the numbers in CHOICES the best on train tasks is taken
    "random": lambda arms, pulls, number: strategies.epsilon_greedy(arms, epsilon=1.0),
    "gittins": lambda arms, pulls, number: strategies.gittins(arms, pulls),
    "TS": lambda arms, pulls, number: strategies.thompson(arms),
    "OTS": lambda arms, pulls, number: strategies.optimistic_thompson(arms),
    "UCB1": lambda arms, pulls, number: strategies.ucb1(arms, constant=number),
    "e-greedy": lambda arms, pulls, number: strategies.epsilon_greedy(arms, epsilon=number),
    "greedy": lambda arms, pulls, number: strategies.greedy(arms),
}
CHOICES = {"UCB1": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3), "e-greedy": (0.0, 0.01, 0.02, 0.05, 0.1)}
COLUMNS = dict.fromkeys((*PLANNERS, "RL2"))


@dataclasses.dataclass(frozen=True)
class Options:
    """Fill the table of 10, 100 and 500 pulls of 5, 10 and 50 arms; what stands in results/bandits.json is not run again."""

    seeds: int = 3
    """Training seeds of RL², all in one compiled program."""
    tasks: int = 20_000
    """Held-out tasks, one trial each; a tenth of so many, from train, for the planners' numbers."""
    only: tuple[str, ...] = ()
    """A cell, "100,5" being 100 pulls of 5 arms, a column by its name, or one of each; all by default."""
    quick: bool = False
    """A smoke test of two columns of the smallest cell; its numbers mean nothing and are not kept."""


def returns(key, learner, slow, family, side, tasks):
    """The return [tasks] of one greedy trial in each of so many tasks of one side of the family's split."""
    key_tasks, key_lives = jax.random.split(key)
    distribution, span = getattr(family.split, side), family.recipe.span
    held = sample_tasks(key_tasks, distribution, tasks)
    sizes: dict[str, Any] = {"span": span, "horizon": span.segments, "episodes": 1, "chunk": 200}
    return trial_returns(key_lives, learner, slow, distribution, held, (1,), **sizes)[:, 0]


def plan(pulls, arms, column, options):
    """A planner's returns [1, tasks], and what was chosen for it."""
    family, numbers = in_trials(bernoulli_bandit(arms, pulls)), jnp.array(CHOICES.get(column, (0.0,)))

    def judged(key, number, side, tasks):
        return returns(key, PLANNERS[column](arms, pulls, number), Slow((), (), (), jnp.int32(0)), family, side, tasks)

    key_train, key_test = jax.random.split(jax.random.key(0))
    on_train = jax.jit(jax.vmap(lambda key, one: judged(key, one, "train", options.tasks // 10).mean(), (None, 0)))
    best = numbers[jnp.argmax(on_train(key_train, numbers)) if column in CHOICES else 0]
    on_test = jax.jit(lambda key, one: judged(key, one, "test", options.tasks))
    return on_test(key_test, best)[None], {"chosen": round(float(best), 4)} if column in CHOICES else {}


def learn(pulls, arms, column, options):
    """The returns [seeds, tasks] of RL² with a Q-network, and its recipe."""
    entry = LEARNERS["rl2"]
    family = entry.prepare(bernoulli_bandit(arms, pulls))
    recipe = dataclasses.replace(family.recipe, **({"outer_steps": 2, "meta_batch": 4} if options.quick else {}))
    learner, _ = learners_of(entry, family, recipe)
    program = programs.make_program(family, learner, recipe, judge=entry.judge)

    def evaluate(key, slow):
        return {"returns": returns(key, learner(recipe.inner_steps), slow, family, "test", options.tasks)}

    label = f"{pulls} pulls of {arms} arms"
    table = trained(label, program._replace(evaluate=evaluate), options.seeds, recipe.outer_steps)
    return table["returns"], {"recipe": dataclasses.asdict(recipe)}


def run(cell, column, options):
    """One entry of results/bandits.json."""
    began = time.process_time()
    found, facts = (plan if column in PLANNERS else learn)(*CELLS[cell], column, options)
    found = np.asarray(found, np.float64)
    low, high = stats.bootstrap(found, resamples=500)
    sizes = {"seeds": found.shape[0], "tasks": found.shape[1], "by_seed": found.mean(1).tolist()}
    measured = {"return": found.mean(), "error": (high - low) / 3.92, "cpu_seconds": round(time.process_time() - began)}
    return {**measured, **sizes, **facts}


def main(options: Options) -> None:
    """Run what is missing, and write results/bandits.{json,md,png}."""
    console, path = Console(), RESULTS / "bandits.json"
    for name in options.only:
        check_name("cell or column", name, {**CELLS, **COLUMNS})
    options = dataclasses.replace(options, tasks=40) if options.quick else options
    wanted = itertools.product(["10,5"], ["UCB1", "RL2"]) if options.quick else itertools.product(CELLS, COLUMNS)

    def work(cell, column):
        one = run(cell, column, options)
        console.print(f"{cell} {column}: {one['return']:.3f} ± {one['error']:.3f}, {one['cpu_seconds']} CPU-s")
        return one

    def show(kept):
        path.with_suffix(".md").write_text(markdown(kept))
        draw(path.with_suffix(".png"), kept)

    chosen = [pair for pair in wanted if {*options.only} <= {*pair}]
    require(len(chosen) > 0, f"--only must name a cell, a column or one of each, got {' '.join(options.only)}; drop one.")
    fill(path, chosen, work, show, quick=options.quick)


def markdown(kept):
    """The table: ours ± standard error, and what is published."""
    lines = ["| pulls, arms | " + " | ".join(PUBLISHED["columns"]) + " | optimum | best arm |", "|---|" + "---:|" * 11]
    for cell, (pulls, arms) in CELLS.items():
        published = dict(zip(PUBLISHED["columns"], PUBLISHED[cell], strict=True))
        ours = {name: f"{one['return']:.2f} ± {one['error']:.2f} " for name, one in kept.get(cell, {}).items()}
        cells = [f"{ours.get(name, '')}({value})" for name, value in published.items()]
        optimum = f"{bayes_optimal(arms, pulls):.3f}" if pulls <= 10 else ""
        lines.append(f"| {pulls}, {arms} | " + " | ".join([*cells, optimum, f"{pulls * arms / (arms + 1):.1f}"]) + " |")
    return (
        "\n".join([*lines, "", "Ours ± standard error (published); optimum: exact Bayes; best arm: with known means."]) + "\n"
    )


def draw(path, kept):
    """Each column's share of what the best arm pays, by cell."""
    series = {}
    for column in COLUMNS:
        rows = [kept.get(cell, {}).get(column, {"return": np.nan, "error": np.nan}) for cell in CELLS]
        known = [pulls * arms / (arms + 1) for pulls, arms in CELLS.values()]
        share = np.array([(one["return"], one["error"]) for one in rows]) / np.array(known)[:, None]
        series[column] = {"mean_return": share[:, 0], "ci95": [(mean - 1.96 * e, mean + 1.96 * e) for mean, e in share]}
    title = "Bernoulli bandits: share of what the best arm pays, 95 % interval"
    figures.adaptation(path, series, list(CELLS), title=title, references={}, xlabel="pulls, arms")


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
