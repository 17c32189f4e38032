"""Grids of hyperparameters × seeds as one compiled program."""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.programs import Program
from metadqn_jax.training import drive, steps_together

Table = dict[str, np.ndarray]  # columns with a leading [members]; with pandas: DataFrame(table)


def sweep(
    train: Callable[[dict[str, Any]], Program],
    grid: Mapping[str, Iterable[float]],
    seeds: Iterable[int],
    *,
    steps: int,
    chunk: int | None = None,
    evaluate_seed: int = 0,
    progress: Callable[[int, dict], None] = lambda done, metrics: None,
) -> Table:
    """Train every member of grid × seeds for `steps` outer steps, all in one program by `vmap`, and judge each.

    train: hyperparameters, {name: float32 []} -> Program; sizes and functions are the same for all members.
    chunk: outer steps in one compiled call, by default all; `progress(steps done, metrics [members, chunk])` is called
        after each.   evaluate_seed: the held-out tasks, the same for all members.
    The table has a column for each name of the grid, "seed", and what `evaluate` gave, arrays or pytrees of them: NaN, after
    a warning, in members whose loss was not finite in the end. What a recipe schedules over its own `outer_steps` does not
    know of `steps`: give `train` a recipe that has as many. Raises `Misuse` on an empty or non-finite grid, and where the
    smallest or the largest values of the grid are no values for `train`.

    >>> sorted(members({"rate": [0.1, 0.3]}, seeds=[0, 1, 2]))
    ['rate', 'seed']
    """
    table = members(grid, seeds)
    for extreme in (min, max):
        train({name: float(extreme(values)) for name, values in grid.items()})
    hypers = {name: jnp.asarray(table[name], jnp.float32) for name in grid}
    init_keys, step_keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)), out_axes=1)(jnp.asarray(table["seed"]))
    check_count("steps", steps)
    chunk = steps if chunk is None else check_count("chunk", chunk)

    # Keys and hyperparameters are arguments: as constants of the program, XLA would fold what follows from them for minutes.
    @functools.partial(jax.jit, static_argnums=3, donate_argnums=2)
    def advance(hypers, keys, state, size):
        def one(hyper, key, state):
            return steps_together(train(hyper).trainer, size)(key, state)

        return jax.vmap(one)(hypers, keys, state)

    state = jax.jit(jax.vmap(lambda hyper, key: train(hyper).trainer.init(key)))(hypers, init_keys)
    for done, trained, metrics in drive(functools.partial(advance, hypers, step_keys), state, steps, chunk):
        state = trained
        progress(done, metrics)
    judge = jax.jit(jax.vmap(lambda hyper, key, slow: train(hyper).evaluate(key, slow), in_axes=(0, None, 0)))
    judged = judge(hypers, jax.random.key(evaluate_seed), state.slow)
    return table | _without_diverged(jax.tree.map(np.asarray, judged), np.asarray(metrics["loss"])[:, -1])


def _without_diverged(judged: Any, loss: np.ndarray) -> Any:
    """`judged` [members, …] with NaN where a member's last loss [members] is not finite: greedy on NaN looks like a policy."""
    kept = np.isfinite(loss)
    if not kept.all():
        message = "%d of %d members of the sweep diverged, and are NaN in its table; lower their rates."
        warnings.warn(message % ((~kept).sum(), len(kept)), stacklevel=3)
    return jax.tree.map(lambda leaf: np.where(kept.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.nan), judged)


def members(grid: Mapping[str, Iterable[float]], seeds: Iterable[int]) -> Table:
    """The table of all members, seeds running fastest. Raises `Misuse`."""
    axes = {**{name: list(values) for name, values in grid.items()}, "seed": list(seeds)}
    for name, values in axes.items():
        require(len(values) > 0, f"the sweep's {name} has no values; give at least one.")
        for value in values:
            check_real(f"the sweep's {name}", value, least=-np.inf) if name != "seed" else check_count("a seed", value, least=0)
    rows = list(itertools.product(*axes.values()))
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(axes)}
