"""Point estimates and intervals for returns over training seeds and tasks; numpy and scipy, on the host.

Seeds are independent training runs, tasks independent draws from p(τ), and every seed is evaluated on the same tasks:
two crossed random effects. So a resample draws seeds and tasks with replacement and **independently, one draw of tasks
for all seeds** (Owen 2007, "The pigeonhole bootstrap"); it is a little too wide, never too narrow, in the noise that
is left in each (seed, task) cell. Drawing tasks anew within each seed would treat the S copies of a task as S different
tasks and shrink their share of the variance S-fold. With one seed only tasks are drawn, and the interval speaks of that
one training run. With few seeds their share of the variance is understated by (S − 1) / S, as in any bootstrap.

Differs from rliable (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice"), whose tasks are a fixed
benchmark: there a resample keeps every task and draws seeds within it, so its intervals say nothing about new tasks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from metadqn_jax.checks import check_callable, check_count, check_real, require

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (values [n], counts [n, resamples]) -> [resamples]


def iqm(values: Any, axis: int | None = None) -> Any:
    """The interquartile mean: what is left when ⌊n/4⌋ values are cut at either end, averaged; over all axes by default.

    >>> float(iqm([0.0, 1.0, 3.0, 100.0]))
    2.0
    """
    return trim_mean(_finite("values", values), 0.25, axis=axis)


def counted_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of `values` [n], each taken `counts` [n, resamples] times, n times in all; [resamples]."""
    return _weigh(values, counts) / len(values)


def counted_iqm(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The interquartile mean of `values` [n], each taken `counts` [n, resamples] times, n times in all; [resamples].

    `counts` cumulated in the order of the values and clipped to [cut, n − cut] say how many of the values kept come no
    later; summation by parts then needs one product and no sorting of each resample.
    """
    order = np.argsort(values)
    ordered = values[order]
    cut = len(values) // 4
    kept = len(values) - 2 * cut
    until = counts[order]
    np.cumsum(until, 0, out=until)
    np.clip(until, cut, cut + kept, out=until)
    until -= cut
    return ordered[-1] - _weigh(np.diff(ordered), until[:-1]) / kept


def bootstrap(
    values: Any, statistic: Statistic = counted_mean, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval (low, high) of a statistic of `values` [seeds, tasks]; the module says what is drawn.

    >>> low, high = bootstrap([[1.0, 2.0, 3.0, 4.0]])
    >>> 1.0 <= low < 2.5 < high <= 4.0
    True
    """
    values = _finite("values", values)
    require(values.ndim == 2, f"values must be [seeds, tasks], got {list(values.shape)}; give one seed as values[None, :].")
    check_callable("statistic", statistic, "values, counts", "take counted_iqm, say")
    check_count("resamples", resamples)
    check_real("level", level, 0.0, 1.0)
    low, high = _interval(values, _counts(*values.shape, resamples, seed), statistic, level)
    return low, high


def summarise(returns: Any, resamples: int = 2000, seed: int = 0) -> dict[str, list]:
    """Mean and interquartile mean of `returns` [seeds, tasks, k] with their 95 % intervals, as lists ready for JSON.

    Gives mean [k], ci95 [k, 2], iqm [k], iqm_ci95 [k, 2]; all k points are summarised from the same resamples.

    >>> summarise([[[0.0, 1.0], [2.0, 1.0]]])["mean"]
    [1.0, 1.0]
    """
    returns = _finite("returns", returns)
    require(
        returns.ndim == 3,
        f"returns must be [seeds, tasks, k], got {list(returns.shape)}; add a missing axis with [..., None].",
    )
    check_count("resamples", resamples)
    counts = _counts(*returns.shape[:2], resamples, seed)
    points = np.moveaxis(returns, -1, 0)
    return {
        "mean": returns.mean((0, 1)).tolist(),
        "ci95": [_interval(point, counts, counted_mean, 0.95) for point in points],
        "iqm": [float(iqm(point)) for point in points],
        "iqm_ci95": [_interval(point, counts, counted_iqm, 0.95) for point in points],
    }


def _interval(values: np.ndarray, counts: np.ndarray, statistic: Statistic, level: float) -> list[float]:
    """[low, high] of a statistic of `values` [seeds, tasks] under `counts` [seeds * tasks, resamples]."""
    return np.quantile(statistic(values.ravel(), counts), [(1 - level) / 2, (1 + level) / 2]).tolist()


def _counts(seeds: int, tasks: int, resamples: int, seed: int) -> np.ndarray:
    """How often each cell is drawn in each resample, [seeds * tasks, resamples]: its seed's draws × its task's."""
    generator = np.random.default_rng(seed)

    def draws(size):
        drawn = generator.integers(size, size=(size, resamples))
        cells = drawn * resamples + np.arange(resamples)
        return np.bincount(cells.ravel(), minlength=size * resamples).reshape(size, resamples).astype(np.float32)

    by_seed, by_task = draws(seeds), draws(tasks)
    return (by_seed[:, None] * by_task[None]).reshape(-1, resamples)


def _weigh(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ_n values [n] · weights [n, resamples]; not `@`, whose threads cost 4x on cores that others keep busy."""
    return np.einsum("n,nr->r", values, weights)


def _finite(name: str, values: Any) -> np.ndarray:
    """`values` as float64, with at least one of them and all of them finite; raises `Misuse` otherwise."""
    values = np.asarray(values, np.float64)
    require(values.size > 0, f"{name} must hold at least one number, got shape {list(values.shape)}; evaluate first.")
    bad = int(np.sum(~np.isfinite(values)))
    require(bad == 0, f"{name} must be finite, got {bad} of {values.size} that are not; mend or leave out those runs.")
    return values
