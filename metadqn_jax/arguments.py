"""What the command `metadqn` can be asked for, and how its words are read."""

import contextlib
import dataclasses
import io
import itertools
import pathlib
import re
from typing import Annotated, Any

import tyro

from metadqn_jax.checks import Misuse


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


def parse(arguments: list[str] | None) -> Any:
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
