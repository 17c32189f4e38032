"""The command `metadqn`."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from metadqn_jax import checkpoints, report, runs
from metadqn_jax.arguments import Evaluate, Train, parse
from metadqn_jax.catalog import FAMILIES, LEARNERS, MEMORIES
from metadqn_jax.checks import Misuse, check_count, require
from metadqn_jax.options import build
from metadqn_jax.progress import Dashboard
from metadqn_jax.tasks.base import Recipe

DEFAULTS = {"tasks": "navigation", "learner": "maml", "seed": 0, "chunk": 8, "eval_tasks": 256}


def train(options: Train, console: Console) -> None:
    """Run `metadqn train`."""
    folder, options = _place(options)
    for name in ("family", "recipe", "hidden"):
        require(getattr(options, name) != (), f"--{name} needs at least one value, got none; give one, or drop it.")
    for name in ("steps", "chunk"):
        value = getattr(options, name)
        require(value is None or value >= 1, f"--{name.replace('_', '-')} must be at least 1, got {value}; raise it.")
    seed, eval_tasks = check_count("--seed", options.seed, least=0), check_count("--eval-tasks", options.eval_tasks)
    with console.status("building"):
        program, recipe = build(options, tasks=eval_tasks)
    config = _config(options, recipe)
    runs.prepare(folder, config, options.resume)
    console.print(f"{options.learner} on {options.tasks} → {folder}")
    steps, per_step = recipe.outer_steps, recipe.env_steps
    with Dashboard(console, steps, recipe.meta_batch, per_step) as dashboard:
        key = jax.random.key(seed)
        done, state = runs.train(
            folder,
            program,
            key,
            config,
            steps=steps,
            chunk=max(1, steps // 50),
            resume=options.resume,
            on_chunk=dashboard.show,
        )
    if done < steps:
        console.print(f"stopped at outer step {done} of {steps}; go on with: metadqn train --resume --out {folder}")
        raise SystemExit(130)
    facts = {"tasks": options.tasks, "learner": options.learner, "seed": options.seed}
    facts |= {"outer_steps": steps, "env_steps": steps * per_step}
    with console.status("evaluating on held-out tasks"):
        result = runs.evaluate(folder, program, state.slow, facts, seed=0)
    _conclude(console, folder, result, program.unit)


def evaluate(options: Evaluate, console: Console) -> None:
    """Run `metadqn evaluate`."""
    config = runs.load_config(options.folder)
    saved = _options(config)
    check_count("--seed", options.seed, least=0)
    with console.status("building"):
        program, recipe = build(saved, tasks=options.tasks, steps=options.steps)
    like = jax.eval_shape(program.trainer.init, jax.random.key(0))
    done, state = checkpoints.restore(options.folder / "checkpoints", like, _config(saved, recipe))
    facts = {"tasks": saved.tasks, "learner": saved.learner, "seed": saved.seed}
    facts |= {"outer_steps": done, "env_steps": done * recipe.env_steps}
    with console.status("evaluating on held-out tasks"):
        result = runs.evaluate(options.folder, program, state.slow, facts, seed=options.seed)
    _conclude(console, options.folder, result, program.unit)


def listing(console: Console) -> None:
    """Run `metadqn list`."""
    first_lines = {name: (factory.__doc__ or "").splitlines()[0] for name, factory in FAMILIES.items()}
    lines = {name: f"{entry.line} ({entry.paper})" for name, entry in LEARNERS.items()}
    for title, rows in (("task families", first_lines), ("learners", lines), ("memories", {", ".join(MEMORIES): ""})):
        console.print(f"[bold]{title}[/bold]")
        grid = Table.grid(padding=(0, 2))
        for name, line in rows.items():
            grid.add_row(f"  {name}", line)
        console.print(grid, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """The command line: 0 when all went well, 2 for a mistake of the caller's, told in one sentence."""
    console = Console()
    try:
        options = parse(arguments)
        if isinstance(options, Train):
            train(options, console)
        elif isinstance(options, Evaluate):
            evaluate(options, console)
        else:
            listing(console)
    except Misuse as misuse:
        Console(stderr=True, soft_wrap=True).print(f"metadqn: {misuse}", style="red", highlight=False, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        line = "metadqn: stopped; a run that has a folder goes on with --resume"
        Console(stderr=True, soft_wrap=True).print(line, highlight=False, markup=False)
        sys.exit(130)


def _place(options: Train) -> tuple[pathlib.Path, Train]:
    """The run's folder, and the options: with --resume, those of the run for all that are not given."""
    if options.resume:
        folder = options.out
        if folder is None:
            raise Misuse("--resume needs the run's folder; name it with --out.")
        given = {name: value for name, value in dataclasses.asdict(options).items() if value is not None}
        return folder, _options(runs.load_config(folder), given)
    absent = {name: value for name, value in DEFAULTS.items() if getattr(options, name) is None}
    options = dataclasses.replace(options, **absent)
    if options.out is not None:
        return options.out, options
    number = 0
    while (folder := pathlib.Path("runs") / f"{options.tasks}-{options.learner}-{number}").exists():
        number += 1
    return folder, options


def _options(config: dict, changes: dict | None = None) -> Train:
    """The options that config.json holds, with some of them changed. Raises `Misuse` where they are not this version's."""
    try:
        saved: dict[str, Any] = {**config["options"], **(changes or {})}
        for name in ("family", "recipe", "hidden"):
            saved[name] = saved[name] and tuple(saved[name])
        return Train(**saved)
    except (KeyError, TypeError) as error:
        raise Misuse(f"config.json must hold this version's options, got an error on {error}; train again.") from error


def _config(options: Train, recipe: Recipe) -> dict:
    """What config.json holds and a checkpoint must agree with: the options, but for where and how they run, and the recipe."""
    named = dataclasses.asdict(options)
    for name in ("out", "resume"):
        del named[name]
    return json.loads(json.dumps({"options": named, "recipe": dataclasses.asdict(recipe)}))  # as it is read again


def _conclude(console: Console, folder: pathlib.Path, result: dict, unit: str) -> None:
    title = f"{result['tasks']}, {result['num_tasks']} held-out tasks: random {result['random']:.2f}"
    title += f", optimum {result['optimum']:.2f}"
    console.print(report.table({result["learner"]: result}, result[unit], title, unit))
    console.print(f"{folder}/evaluation.json, {folder}/figures/adaptation.png")


if __name__ == "__main__":
    main()
