"""What the adaptation experiments share: train each learner on all seeds at once, judge all on the same held-out tasks."""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np
from kept import RESULTS, compile_fast
from rich.console import Console
from seeds import trained

from metadqn_jax import figures, programs, report
from metadqn_jax.catalog import FAMILIES
from metadqn_jax.evaluation import STEPS, adaptation_returns, optimal_returns, random_returns
from metadqn_jax.learners import descent, multitask, rules
from metadqn_jax.memories.base import blank
from metadqn_jax.programs import Program
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.wrappers import observed

CHOSEN_AT, CHOSEN_ON = 3, 64  # a baseline's rate is chosen after so many gradient steps, on so many train tasks


@dataclasses.dataclass(frozen=True)
class Options:
    """Meta-train every learner on one family, over several seeds, and judge how each adapts to held-out tasks."""

    seeds: int = 3
    """Training seeds, 0 … seeds−1, all in one compiled program."""
    tasks: int = 256
    """Held-out tasks, the same for all learners and seeds."""
    quick: bool = False
    """A smoke test of the script: two learners, few steps, few tasks; its numbers mean nothing and are not kept."""


def learners(parts):
    """{trained as: (learner, {label: candidate one-step learners, of which the best on train tasks is reported})}."""
    network, inner, outer, recipe, spec, *_ = parts
    losses = {"inner": inner, "outer": outer, "rate": recipe.inner_rate}
    stored = {"loss": inner, "capacity": 10 * recipe.span.transitions}
    alone = multitask.multitask(network, loss=outer)

    def finetune(rate):
        return multitask.finetune(network, loss=outer, rule=rules.sgd(rate), steps=1)

    def scratch(rate, steps):
        return multitask.scratch(network, blank(spec), rate=rate, steps=steps, **stored)

    def meta(factory):
        return factory(network, steps=recipe.inner_steps, **losses), [factory(network, steps=1, **losses)]

    maml, fomaml = meta(descent.maml), meta(descent.fomaml)
    return {
        "maml": (maml[0], {"MAML": maml[1]}),
        "fomaml": (fomaml[0], {"first-order MAML": fomaml[1]}),
        "multitask": (
            alone,
            {"multi-task DQN": [alone], "multi-task, fine-tuned": [finetune(r) for r in (0.03, 0.1, 0.3, 1.0, 3.0)]},
        ),
        "scratch": (
            None,
            {
                "DQN from scratch": [scratch(r, 1) for r in (3e-3, 1e-2, 3e-2)],
                "scratch, 20 updates a step": [scratch(r, 20) for r in (3e-3, 1e-2)],
            },
        ),
    }


def adapt(name, options):
    """Run the experiment on the family called `name`, by its recipe for every learner; a table, a figure and a JSON file."""
    console, family = Console(), FAMILIES[name]()
    recipe = dataclasses.replace(family.recipe, outer_steps=2) if options.quick else family.recipe
    tasks, most = (4, 1) if options.quick else (options.tasks, None)
    if options.quick:
        compile_fast()
    rows, references, began = {}, {}, time.process_time()
    for label, place in (("", family), ("DQN shown the task", observed(family))):
        parts = programs.make_parts(place.split.train, recipe)
        all_of_them = learners(parts)
        if options.quick:  # one that is trained and one that is not
            all_of_them = {which: all_of_them[which] for which in ("multitask", "scratch")}
        if label:  # the task-conditioned reference: the multi-task learner where the task can be seen
            all_of_them = {"multitask": (all_of_them["multitask"][0], {label: [all_of_them["multitask"][0]]})}
        for which, (learner, candidates) in all_of_them.items():
            candidates = {row: some[:most] for row, some in candidates.items()}
            console.print(
                f"{name}: {label or which}, {0 if learner is None else recipe.outer_steps} outer steps", highlight=False
            )
            judged = run(place, recipe, learner, candidates, tasks, options.seeds)
            rows |= {row: result(judged, row, candidates[row]) for row in candidates}
            references = {which: float(judged[which].mean()) for which in ("random", "optimum")}
    console.print(report.table(rows, STEPS, f"{name}: {tasks} held-out tasks × {options.seeds} seeds, {references}"))
    if not options.quick:
        save(name, options, recipe, rows, references, time.process_time() - began)


def run(family, recipe, learner, candidates, tasks, seeds):
    """{f"{side}/{label}/{candidate}": returns [seeds, tasks, steps], "random", "optimum"}, after training where one learns.

    The side "train" is there where a candidate is to be chosen.
    """
    program = programs.make_program(family, lambda steps: learner or candidates["DQN from scratch"][0], recipe)
    sizes: dict[str, Any] = {"span": recipe.span, "explore": programs.make_explore(recipe), "horizon": family.horizon}

    def evaluate(key, slow):
        keys, found = jax.random.split(key, 5), {}
        for side, key_tasks, key_lives in (("train", keys[0], keys[1]), ("test", keys[2], keys[3])):
            distribution = getattr(family.split, side)
            held = sample_tasks(key_tasks, distribution, tasks if side == "test" else min(tasks, CHOSEN_ON))
            for label, some in candidates.items():
                for i, one in enumerate(some if side == "test" or len(some) > 1 else ()):
                    returns = adaptation_returns(key_lives, one, slow, distribution, held, **sizes)
                    found[f"{side}/{label}/{i}"] = returns
        key_random, key_optimum = jax.random.split(keys[4])
        found["random"] = random_returns(key_random, distribution, held, horizon=family.horizon)
        return found | {"optimum": optimal_returns(key_optimum, family.optimum, held)}

    steps = recipe.outer_steps if learner else 1  # a DQN from scratch has nothing to meta-train
    return trained(", ".join(candidates), Program(program.trainer, evaluate), seeds, steps)


def result(judged, label, candidates):
    """The row of `label`: of its candidates the one with the best mean return on train tasks."""
    several = range(len(candidates)) if len(candidates) > 1 else ()
    best = max(several, key=lambda i: judged[f"train/{label}/{i}"][..., STEPS.index(CHOSEN_AT)].mean(), default=0)
    returns = np.asarray(judged[f"test/{label}/{best}"])
    row = report.evaluation(returns, STEPS, random=float(judged["random"].mean()), optimum=float(judged["optimum"].mean()))
    return row | {"candidate": best, "by_seed": returns.mean(1).tolist()}


def save(name, options, recipe, rows, references, seconds):
    """experiments/results/adapt_NAME.{json,md,png}."""
    facts = {
        "seeds": options.seeds,
        "tasks": options.tasks,
        "recipe": dataclasses.asdict(recipe),
        "cpu_seconds": round(seconds),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"adapt_{name}"
    path.with_suffix(".json").write_text(json.dumps({**facts, **references, "rows": rows}, indent=1))
    heading = f"**{name}**: random {references['random']:.1f}, optimum {references['optimum']:.1f}; k ="
    path.with_suffix(".md").write_text(report.markdown(rows, STEPS, heading) + "\n")
    title = f"{name}: {options.tasks} held-out tasks × {options.seeds} seeds, 95 % interval"
    figures.adaptation(path.with_suffix(".png"), rows, STEPS, title=title, references=references)
