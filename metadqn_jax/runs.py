"""A run's folder: config.json, metrics.jsonl, checkpoints/, evaluation.json, figures/."""

import functools
import json
import pathlib
import subprocess
import time
import types
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np

from metadqn_jax import checkpoints, figures, report
from metadqn_jax.checks import Misuse, require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.options import choose
from metadqn_jax.programs import Program, make_program
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.training import TrainState, drive, steps_together
from metadqn_jax.types import Slow

AXES = {"steps": "gradient steps on one support batch", "segments": "segments of experience", "episodes": "episode of a trial"}
PACKAGES = ("metadqn-jax", "jax", "flax", "optax", "chex", "gymnax")


def prepare(folder: pathlib.Path, config: dict, resume: bool) -> None:
    """Make `folder` ready for a run of `config`, or check that it holds one. Raises `Misuse` where it cannot."""
    path = folder / "config.json"
    if resume:
        saved = load_config(folder)
        for part in config:
            had, got = saved.get(part, {}), json.loads(json.dumps(config[part]))
            for name in {**had, **got}:
                a, b = had.get(name), got.get(name)
                require(a == b, f"{folder} holds a run with {name}={a!r}, got {b!r}; drop that option or --resume.")
        return
    require(not path.exists(), f"{folder} already holds a run; continue it with --resume or name another folder with --out.")
    write(
        path,
        json.dumps({**config, "versions": {name: version(name) for name in PACKAGES}, "commit": _commit()}, indent=1),
    )


def load_config(folder: pathlib.Path) -> dict:
    """What `config.json` says. Raises `Misuse` where there is none."""
    try:
        config = json.loads((folder / "config.json").read_text())
        if not all(isinstance(config[part], dict) for part in ("options", "recipe")):
            raise TypeError("no options, or no recipe")
        return config
    except (KeyError, OSError, TypeError, ValueError) as error:  # what is no UTF-8, or no JSON, is a ValueError
        raise Misuse(f"{folder} holds no run with a readable config.json ({error}); name the folder of a run.") from error


class Trained(NamedTuple):
    """A run to go on with in Python: the family as its learner sees it, the recipe, the learner as it adapts, its state.

    Each time that it adapts, the learner takes the gradient steps that it was trained with.
    """

    family: Family
    recipe: Recipe
    learner: MetaLearner
    slow: Slow


def load(folder: Any) -> Trained:
    """What `metadqn train` left in `folder`. Raises `Misuse` where that is no run of this version's."""
    folder = pathlib.Path(folder)
    config = load_config(folder)
    try:
        options = types.SimpleNamespace(**config["options"])
        entry, family, recipe, trained, tested = choose(options)
    except (AttributeError, KeyError, TypeError) as error:
        raise Misuse(
            f"config.json must hold options of this version's command line, got an error on {error}; train with it again, "
            "or load a run made in Python with what made it."
        ) from error
    program = make_program(family, trained, recipe, tested=tested, judge=entry.judge)
    like = jax.eval_shape(program.trainer.init, jax.random.key(0))
    identity = {name: config[name] for name in ("options", "recipe")}
    return Trained(
        family, recipe, tested(recipe.inner_steps), checkpoints.restore(folder / "checkpoints", like, identity)[1].slow
    )


def train(
    folder: pathlib.Path,
    program: Program,
    key: jax.Array,
    config: dict,
    *,
    steps: int,
    chunk: int,
    resume: bool,
    on_chunk: Callable[[int, dict], bool],
    saves: int = 10,
) -> tuple[int, TrainState]:
    """Train up to `steps` outer steps, with a row of metrics after each chunk and about `saves` checkpoints: (done, state).

    `on_chunk(done, row)` may return True to stop early, at a checkpoint. A resumed run goes on bit for bit as if it had
    not been stopped, on the same machine and versions.
    """
    key_init, key_steps, key_watch = jax.random.split(key, 3)
    place, initial = folder / "checkpoints", jax.jit(program.trainer.init)
    if resume and checkpoints.latest(place) is not None:
        done, state = checkpoints.restore(place, jax.eval_shape(initial, key_init), config)
    else:
        done, state = 0, initial(key_init)
    _truncate(folder / "metrics.jsonl", done)

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=1)
    def advance(key, state, size):
        return steps_together(program.trainer, size)(key, state)

    watch = jax.jit(program.watch) if program.watch else None
    began, every, saved = time.perf_counter(), max(1, steps // saves), done
    for step, now, metrics in drive(functools.partial(advance, key_steps), state, steps, chunk, done):
        done, state = step, now
        row = {"step": done, **{name: float(np.mean(values)) for name, values in metrics.items()}}
        cure = "lower --outer-rate or --inner-rate"
        require(np.isfinite(row["loss"]), f"the loss must stay finite, got {row['loss']} after {done} outer steps; {cure}.")
        if watch:
            before, after = watch(jax.random.fold_in(key_watch, done), state.slow)
            row |= {"return_before": float(before), "return_after": float(after)}
        row["seconds"] = round(time.perf_counter() - began, 3)
        write(folder / "metrics.jsonl", json.dumps(row) + "\n", append=True)
        stop = on_chunk(done, row)
        if stop or done == steps:
            require(_finite(state.slow.params), f"the weights must stay finite, got others after {done} outer steps; {cure}.")
        if stop or done - saved >= every or done == steps:
            checkpoints.save(place, done, state, config)
            saved = done
        if stop:
            break
    return done, state


def evaluate(folder: pathlib.Path, program: Program, slow: Any, facts: dict, *, seed: int) -> dict:
    """Judge `slow` on held-out tasks drawn with `seed`; writes and returns evaluation.json, and draws the figure."""
    judged = {name: np.asarray(value) for name, value in jax.jit(program.evaluate)(jax.random.key(seed), slow).items()}
    references = {name: float(judged[name].mean()) for name in ("random", "optimum")}
    facts = {**facts, "num_tasks": len(judged["returns"])}
    result = report.evaluation(judged["returns"], program.points, program.unit, **references, **facts)
    write(folder / "evaluation.json", json.dumps(as_json(result), indent=1, allow_nan=False))
    title = f"{facts['learner']} on {facts['tasks']}: {result['num_tasks']} held-out tasks, 95 % interval"
    path, curves = folder / "figures" / "adaptation.png", {facts["learner"]: result}
    axis = AXES[program.unit]
    figures.adaptation(path, curves, program.points, title=title, references=references, xlabel=axis)
    return result


def as_json(result: dict) -> dict:
    """The result as JSON can say it: null for a bound that nobody knows."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in result.items()}


def write(path: pathlib.Path, text: str, append: bool = False) -> None:
    """Append `text`, or write it as a whole: who is stopped here leaves the old file or the new one.

    Raises `Misuse` where the folder cannot be written.
    """
    part = path if append else path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a" if append else "w") as file:
            file.write(text)
        part.replace(path)
    except OSError as error:
        raise Misuse(f"the run's folder must be writable, got {path.parent} ({error}); name another with --out.") from error


def _truncate(path: pathlib.Path, done: int) -> None:
    """Drop the rows that a stopped run wrote after its last checkpoint: they will be written again."""
    if path.exists():
        rows = [row for row in path.read_text(errors="replace").splitlines() if 0 <= _step(row) <= done]
        write(path, "".join(row + "\n" for row in rows))


def _step(row: str) -> int:
    """The outer step that a row of metrics tells of, −1 for a row that is broken."""
    try:
        return int(json.loads(row)["step"])
    except (KeyError, TypeError, ValueError):
        return -1


def _finite(params: Any) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params) if np.issubdtype(leaf.dtype, np.floating))


def _commit() -> str | None:
    """The git commit of the source tree that this package runs from, or None."""
    here = pathlib.Path(__file__).parent
    try:
        asked = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()
