"""Action heads side by side, DQN from scratch in one task: python experiments/action_heads.py [--only TASK] [--quick].

All heads get the same environment steps, updates and layers in a task; greedy returns are measured along the way, as many
seeds at once as are asked for. What stands is not run again.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from command_line import start
from kept import RESULTS, fill

from metadqn_jax import actions, figures, td
from metadqn_jax.checks import check_name
from metadqn_jax.curves import learning_curve
from metadqn_jax.evaluation import random_returns
from metadqn_jax.explore import annealed
from metadqn_jax.learners.base import first_slow
from metadqn_jax.learners.multitask import scratch
from metadqn_jax.memories.base import blank
from metadqn_jax.networks import mlp
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.reaching import reaching
from metadqn_jax.tasks.wrappers import scale_observation, with_head
from metadqn_jax.types import ActionHead, Span

PATH, POINTS, STREAMS, EPISODES = RESULTS / "action_heads.json", 16, 8, 64
STORED = {"capacity": 50_000, "minibatch": 128}  # transitions
ITEMS = np.random.default_rng(0).uniform(-1, 1, (10_000, 8)).astype(np.float32)  # velocities
KNOWN = np.concatenate([ITEMS, (ITEMS**2).sum(1, keepdims=True)], 1)


class Place(NamedTuple):
    """A task, its heads, and how a DQN learns in it: `steps` in each of 8 streams, then `updates`, `segments` times."""

    make: Callable[[ActionHead], Any]  # (head) -> TaskDistribution
    heads: dict[str, ActionHead]
    horizon: int
    segments: int
    steps: int
    updates: int
    discount: float
    reward_scale: float
    rate: float = 1e-3
    trace: float = 0.0
    length: int = 1  # of the stored pieces: no trace is longer


def gymnax_task(name, factors, redraw=()):
    """(head) -> a gymnax environment as it is, its observations scaled."""
    return lambda head: scale_observation(from_gymnax(name, lambda key, base: base, head=head, redraw=redraw), factors)


def reaching_task(dimensions):
    """(head) -> `reaching` in so many dimensions, turned in any way."""
    return lambda head: with_head(reaching(dimensions, angles=None), head).split.train


def heads(d, high, bins, around=lambda head: head):
    """The heads for a box [−high, high]^d, each explored with in the same way."""
    box = [-high] * d, [high] * d
    some = {f"factored, {n} bins": actions.factored(*box, n) for n in bins} | {"sampled": actions.sampled(*box)}
    some |= {"naf": actions.naf(*box)} if d <= 2 else {}
    return {name: around(head) for name, head in some.items()}


def move(action):
    """The velocity behind one of the 10,000 actions."""
    return jnp.asarray(ITEMS)[action]


PLACES = {
    "Pendulum-v1": Place(gymnax_task("Pendulum-v1", [1.0, 1.0, 0.125]), heads(1, 2.0, (3, 5)), 200, 512, 25, 25, 0.98, 0.05),
    "MountainCarContinuous-v0": Place(
        gymnax_task("MountainCarContinuous-v0", [1.0, 1 / 0.07]),
        heads(1, 1.0, (3, 5), lambda head: actions.held(head, 25)),
        *(999, 512, 100, 50, 0.99, 0.02, 1e-3, 0.9, 25),
    ),
    "Reacher-misc": Place(gymnax_task("Reacher-misc", 1.0, ("goal_xy",)), heads(2, 1.0, (3, 5)), 100, 256, 25, 25, 0.95, 0.1),
    "reaching, 12 dimensions": Place(reaching_task(12), heads(12, 1.0, (3, 5)), 20, 512, 20, 40, 0.7, 10.0),
    "10,000 actions": Place(
        reaching_task(8),
        {
            "candidates": actions.candidates(KNOWN)._replace(decode=move),
            "one output each": actions.discrete(len(ITEMS))._replace(decode=move),
        },
        *(20, 512, 20, 40, 0.7, 10.0),
    ),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Learn from scratch with each head."""

    seeds: int = 3
    """Seeds, all in one compiled program."""
    only: str | None = None
    """One task; all by default."""
    quick: bool = False
    """A smoke test of one head on Pendulum: few steps; nothing is kept."""


def run(name, head_name, options):
    """One head's learning curve: greedy returns [points, seeds] after so many environment steps."""
    began, place, points = time.process_time(), PLACES[name], 1 if options.quick else POINTS
    head, segments = place.heads[head_name], 16 if options.quick else place.segments
    distribution = place.make(head)
    spec, task, span = distribution.spec, distribution.sample(jax.random.key(0)), Span(segments, place.steps, STREAMS)
    parts: dict[str, Any] = {"target": td.lambda_return(place.discount, place.trace), "reward_scale": place.reward_scale}
    loss = td.temporal_difference(head, select=td.double, regression=td.huber(1.0), **parts)
    sizes: dict[str, Any] = {name: STORED[name] // place.length for name in STORED}
    sizes |= {"steps": place.updates, "length": place.length}
    learner = scratch(mlp(spec), blank(spec), loss=loss, rate=place.rate, polyak=0.01, **sizes)
    slow, halfway = first_slow(learner, jax.random.key(0)), annealed(1.0, 0.05, span.segments // 2)
    life = (learner, slow, distribution, task, span, lambda outer_step, segment, t: halfway(segment, 0, t))

    @jax.jit
    @jax.vmap
    def curves(key):
        return learning_curve(key, *life, points=points, horizon=place.horizon, episodes=EPISODES)

    returns = np.asarray(curves(jax.random.split(jax.random.key(1), options.seeds))).T
    tasks = jax.tree.map(lambda leaf: leaf[None], task)
    random = float(random_returns(jax.random.key(2), distribution, tasks, horizon=place.horizon, episodes=EPISODES)[0])
    seconds = round(time.process_time() - began)
    print(f"{name}, {head_name}: {np.round(returns[-1], 2).tolist()}, random {random:.1f}, {seconds} CPU-s")
    steps = [span.transitions // points * (point + 1) for point in range(points)]
    return {"env_steps": steps, "returns": returns.tolist(), "random": random, "cpu_seconds": seconds}


def show(results):
    """results/action_heads.md, and a figure for each task."""
    lines = ["| head | env steps | last return, each seed | mean | random | CPU-s |", "|---|" + "---:|" * 5]
    for name, rows in results.items():
        series = {}
        for head, row in rows.items():
            r, last = np.array(row["returns"]), ", ".join(f"{value:.4g}" for value in row["returns"][-1])
            cells = [f"**{name}**, {head}", f"{row['env_steps'][-1]:,}", last, f"{r[-1].mean():.4g}", f"{row['random']:.4g}"]
            lines.append("| " + " | ".join([*cells, str(row["cpu_seconds"])]) + " |")
            series[head] = {"x": row["env_steps"], "mean": r.mean(1), "low": r.min(1), "high": r.max(1)}
        title = f"{name}: DQN from scratch, mean and range of seeds"
        path = RESULTS / f"action_heads_{name.split('-')[0].replace(',', '').replace(' ', '_').lower()}.png"
        figures.lines(path, series, title=title, xlabel="environment steps", ylabel="greedy return of an episode")
    PATH.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main(options: Options) -> None:
    """Run what is missing, and write the table and the figures."""
    names = list(PLACES) if options.only is None else [options.only]
    for name in names:
        check_name("task", name, PLACES)
    cells = [(name, head) for name in names for head in PLACES[name].heads]
    cells = [("Pendulum-v1", "factored, 3 bins")] if options.quick else cells
    fill(PATH, cells, lambda name, head: run(name, head, options), show, quick=options.quick)


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
