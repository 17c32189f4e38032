"""The command `metadqn`."""

import contextlib
import dataclasses
import io
import itertools
import json
import pathlib
import re
import sys
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console
from rich.table import Table

from metadqn_jax import checkpoints, report, runs
from metadqn_jax.catalog import FAMILIES, LEARNERS, MEMORIES
from metadqn_jax.checks import Misuse, check_count, require
from metadqn_jax.options import build
from metadqn_jax.progress import Dashboard
from metadqn_jax.tasks.base import Recipe


def _shown(metavar: str) -> Any:
    """How `--help` shows an option that may be left out: by what it takes, without `None`."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


Int = Annotated[int | None, _shown("INT")]
Ints = Annotated[tuple[int, ...] | None, _shown("INT [INT ...]")]
Float = Annotated[float | None, _shown("FLOAT")]
Pairs = Annotated[tuple[str, ...] | None, _shown("NAME=VALUE [NAME=VALUE ...]")]
Str = Annotated[str | None, _shown("NAME")]
Switch = Annotated[bool | None, _shown("{True,False}")]
Folder = Annotated[pathlib.Path | None, _shown("DIR")]


@dataclasses.dataclass(frozen=True)
class Train:
    """Meta-train a learner on a family of tasks, then measure how it adapts to held-out tasks."""

    tasks: Annotated[tyro.conf.Positional[str | None], _shown("TASKS")] = None
    """Task family, by default navigation; `metadqn list` names them."""
    learner: Annotated[tyro.conf.Positional[str | None], _shown("LEARNER")] = None
    """Learner, by default maml; `metadqn list` names them."""
    steps: Int = None
    """Outer steps. This and every option below that names no default follows the family's recipe."""
    seed: Int = None
    """Seed of the whole run, by default 0."""
    out: Folder = None
    """The run's folder; by default the next free one under runs/."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint."""
    family: Pairs = None
    """Arguments of the family's function, such as bins=9 of navigation_2d."""
    recipe: Pairs = None
    """Numbers of its recipe that have no option of their own, such as inner_trace=0.5 reward_scale=2."""
    inner_steps: Int = None
    """Gradient steps on the support while training."""
    inner_rate: Float = None
    """Rate of the inner gradient steps."""
    outer_rate: Float = None
    """Rate of the outer Adam at the start."""
    meta_batch: Int = None
    """Lifetimes in an outer step, each in a task of its own."""
    fresh: Int = None
    """Tasks lived in before an outer step; fewer than the meta-batch, with a larger --capacity, use old lifetimes again."""
    streams: Int = None
    """Parallel streams of experience in a task."""
    segment_steps: Int = None
    """Environment steps of a stream in the support, and again in the query."""
    discount: Float = None
    """Discount of both TD losses, from the beginning to the end."""
    query_epsilon: Float = None
    """Exploration rate of the query, at the start if the recipe lowers it; the support's is 1."""
    cvar: Float = None
    """Train on the mean TD loss of this share of the tasks, the worst ones, in place of all."""
    bootstrap: Str = None
    """What the inner loss bootstraps from: current, start, stopped or target."""
    target: Str = None
    """What the outer loss bootstraps from: shadow, plain or own."""
    memory: Str = None
    """A learner's memory: gru, recurrence, attention, actions (read for each action), transformer or planner."""
    hidden: Ints = None
    """Units of the hidden layers."""
    dueling: Switch = None
    """Whether the network's head is split into value and advantage."""
    layer_norm: Switch = None
    """Whether each hidden layer is normalised."""
    film: Switch = None
    """Whether a context (of cavia, pearl or a memory) also scales the first hidden layer."""
    capacity: Int = None
    """Lifetimes in the store; more than the meta-batch is off-policy."""
    chunk: Int = None
    """Tasks whose gradient is taken at once, by default 8; raise it on an accelerator."""
    eval_tasks: Int = None
    """Held-out tasks in the final evaluation, by default 256."""


DEFAULTS = {"tasks": "navigation", "learner": "maml", "seed": 0, "chunk": 8, "eval_tasks": 256}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure a trained run again on held-out tasks; rewrites its evaluation.json and figure."""

    folder: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="DIR")]
    """The run's folder."""
    tasks: int = 256
    """Held-out tasks."""
    steps: Ints = None
    """Numbers of gradient steps, segments or episodes to measure at, increasing; by default the learner's own."""
    seed: int = 0
    """Seed of the held-out tasks and episodes."""


@dataclasses.dataclass(frozen=True)
class List:
    """Name the task families and the learners."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[List, tyro.conf.subcommand("list")]
)


def train(options: Train, console: Console) -> None:
    """Run `metadqn train`."""
    folder, options = _place(options)
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
        options = _parse(arguments)
        if isinstance(options, Train):
            train(options, console)
        elif isinstance(options, Evaluate):
            evaluate(options, console)
        else:
            listing(console)
    except Misuse as misuse:
        Console(stderr=True, soft_wrap=True).print(f"metadqn: {misuse}", style="red", highlight=False, markup=False)
        sys.exit(2)


def _parse(arguments: list[str] | None) -> Any:
    """The command's options; tyro's boxes become one sentence. Raises `Misuse`."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(Command, args=arguments, prog="metadqn")
    except SystemExit as stop:
        if not stop.code:
            raise
        raise Misuse(f"{_sentence(told.getvalue())}; see metadqn --help.") from None


def _sentence(box: str) -> str:
    """The message in tyro's box of title, message and help, which rules and, if the terminal can, margins set apart."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │|") for line in plain.strip().splitlines()]
    below_title = itertools.dropwhile(lambda line: not re.search(r"\w", line), lines[1:])
    return " ".join(itertools.takewhile(re.compile(r"\w").search, below_title)).rstrip(".").replace("{None}|", "")


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
