"""The interquartile mean and the crossed bootstrap agree with their slow twins, and intervals cover what they say."""

import time

import numpy as np
import pytest
from scipy.stats import norm

from metadqn_jax.checks import Misuse
from metadqn_jax.stats import bootstrap, counted_iqm, counted_mean, iqm, summarise


def slow_iqm(values):
    ordered = sorted(float(value) for value in values)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def slow_bootstrap(values, statistic, resamples, generator):
    """A draw of seeds and, once for all of them, a draw of tasks."""
    seeds, tasks = values.shape
    results = []
    for _ in range(resamples):
        rows = [generator.integers(seeds) for _ in range(seeds)]
        columns = [generator.integers(tasks) for _ in range(tasks)]
        results.append(statistic([values[row, column] for row in rows for column in columns]))
    return np.array(results)


def fast_bootstrap(values, statistic, resamples, seed):
    """The statistic's resamples, by way of `bootstrap` itself."""
    seen = {}

    def spy(cells, counts):
        seen["results"] = statistic(cells, counts)
        return seen["results"]

    interval = bootstrap(values, spy, resamples, 0.9, seed)
    np.testing.assert_allclose(interval, np.quantile(seen["results"], [0.05, 0.95]))
    return seen["results"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11, 100])
def test_iqm_is_the_mean_of_the_middle_half(size):
    values = np.random.default_rng(size).normal(size=size)
    assert iqm(values) == pytest.approx(slow_iqm(values))


def test_iqm_takes_all_axes_or_one():
    values = np.random.default_rng(0).normal(size=(3, 8))
    assert iqm(values) == pytest.approx(slow_iqm(values.ravel()))
    np.testing.assert_allclose(iqm(values, axis=1), [slow_iqm(row) for row in values])


@pytest.mark.parametrize("size", [1, 3, 4, 7, 32])
def test_counted_statistics_equal_those_of_the_repeated_values(size):
    generator = np.random.default_rng(size)
    values = generator.normal(1e3, 1.0, size=size).round(1)  # rounded: ties
    counts = generator.multinomial(size, np.full(size, 1 / size), size=20).T
    repeated = [np.repeat(values, column) for column in counts.T]
    np.testing.assert_allclose(counted_mean(values, counts), [np.mean(row) for row in repeated], rtol=1e-12)
    np.testing.assert_allclose(counted_iqm(values, counts), [slow_iqm(row) for row in repeated], rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 12), (3, 8), (4, 1)])
@pytest.mark.parametrize(("fast", "slow"), [(counted_mean, np.mean), (counted_iqm, slow_iqm)])
def test_resamples_are_distributed_as_the_loops(shape, fast, slow):
    values = np.random.default_rng(7).normal(size=shape)
    ours = fast_bootstrap(values, fast, 20_000, 0)
    loops = slow_bootstrap(values, slow, 3_000, np.random.default_rng(1))
    error = loops.std() / np.sqrt(loops.size)
    assert abs(ours.mean() - loops.mean()) < 4 * error
    assert abs(ours.std() / loops.std() - 1) < 4 / np.sqrt(loops.size)
    for level in (0.1, 0.5, 0.9):  # a level's share among 3,000 is binomial; ties of the discrete draws count by half
        cut = np.quantile(ours, level)
        share = np.mean(loops < cut) + np.mean(np.isclose(loops, cut)) / 2
        ties = np.mean(np.isclose(ours, cut))
        assert abs(share - level) < ties + 4 * np.sqrt(level * (1 - level) / loops.size)


def test_the_variance_is_that_of_crossed_draws():
    """Owen's formula for the pigeonhole bootstrap of a mean, from the values' own row, column and cell parts."""
    values = np.random.default_rng(3).normal(size=(4, 9)) + np.arange(4.0)[:, None]
    rows, columns = values.mean(1) - values.mean(), values.mean(0) - values.mean()
    cells = values - values.mean() - rows[:, None] - columns[None]
    exact = np.mean(rows**2) / 4 + np.mean(columns**2) / 9 + np.mean(cells**2) / 36
    results = fast_bootstrap(values, counted_mean, 40_000, 0)
    assert abs(results.var() / exact - 1) < 4 * np.sqrt(2 / results.size)


def coverage(seeds, tasks, spread, repetitions=400, level=0.9):
    """How often the interval holds 0, and its standard error; `spread` is that of seeds, of tasks and of cells."""
    generator = np.random.default_rng(0)
    held = 0
    for repetition in range(repetitions):
        shapes = zip(spread, [(seeds, 1), (1, tasks), (seeds, tasks)], strict=True)
        values = sum(scale * generator.normal(size=shape) for scale, shape in shapes)
        low, high = bootstrap(values, resamples=400, level=level, seed=repetition)
        held += low <= 0.0 <= high
    return held / repetitions, np.sqrt(level * (1 - level) / repetitions)


def test_the_interval_of_one_seed_covers_at_its_level():
    share, error = coverage(1, 60, spread=(0.0, 1.0, 0.0))
    assert abs(share - 0.9) < 0.01 + 3 * error  # 60 tasks: the percentile interval holds 0.89


def test_the_interval_covers_seeds_and_tasks_that_cross():
    share, error = coverage(12, 40, spread=(1.0, 1.0, 0.5))
    assert abs(share - 0.9) < 0.03 + 3 * error  # 12 seeds: their share of the variance is 11/12 of what it should be


def test_tasks_are_drawn_once_for_all_seeds():
    """Ten seeds that all give the same returns say no more about p(τ) than one."""
    row = np.random.default_rng(0).normal(size=(1, 50))
    one, ten = bootstrap(row, resamples=4_000), bootstrap(np.repeat(row, 10, 0), resamples=4_000)
    assert (ten[1] - ten[0]) / (one[1] - one[0]) == pytest.approx(1.0, abs=0.08)


def test_a_constant_has_an_interval_of_no_width():
    np.testing.assert_allclose(bootstrap(np.full((2, 5), 0.3)), (0.3, 0.3))
    np.testing.assert_allclose(bootstrap(np.full((2, 5), 0.3), counted_iqm), (0.3, 0.3))
    np.testing.assert_allclose(bootstrap([[2.0]]), (2.0, 2.0))


def test_the_level_is_the_normal_quantile():
    values = np.random.default_rng(0).normal(size=(1, 400))
    low, high = bootstrap(values, level=0.8, resamples=5_000)
    width = 2 * norm.ppf(0.9) * values.std() / np.sqrt(400)
    assert (high - low) / width == pytest.approx(1.0, abs=0.08)


def test_summarise_gives_each_point_its_own_numbers():
    returns = np.random.default_rng(0).normal(size=(3, 10, 2)) + np.array([0.0, 5.0])
    summary = summarise(returns, seed=4)
    assert list(summary) == ["mean", "ci95", "iqm", "iqm_ci95"]
    for k in range(2):
        point = returns[..., k]
        assert summary["mean"][k] == pytest.approx(point.mean())
        assert summary["iqm"][k] == pytest.approx(slow_iqm(point.ravel()))
        assert summary["ci95"][k] == pytest.approx(bootstrap(point, seed=4))
        assert summary["iqm_ci95"][k] == pytest.approx(bootstrap(point, counted_iqm, seed=4))
    assert summary == summarise(returns, seed=4) != summarise(returns, seed=5)


def test_summarise_is_fast():
    returns = np.random.default_rng(0).normal(size=(3, 256, 6))

    def seconds():
        start = time.process_time()
        summarise(returns)
        return time.process_time() - start

    assert min(seconds() for _ in range(5)) < 0.25  # 0.06 s on an idle core


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: iqm([]), "values must hold at least one number"),
        (lambda: iqm([1.0, np.nan]), "values must be finite, got 1 of 2"),
        (lambda: bootstrap(np.zeros((1, 0))), "values must hold at least one number"),
        (lambda: bootstrap([[1.0, np.inf]]), "values must be finite"),
        (lambda: bootstrap([1.0, 2.0]), r"values must be \[seeds, tasks\], got \[2\]"),
        (lambda: bootstrap([[1.0]], resamples=0), "resamples must be a whole number"),
        (lambda: bootstrap([[1.0]], level=1.5), "level must be a finite number between 0 and 1"),
        (lambda: summarise(np.zeros((2, 3))), r"returns must be \[seeds, tasks, k\]"),
        (lambda: summarise(np.full((1, 2, 3), np.nan)), "returns must be finite, got 6 of 6"),
    ],
)
def test_misuse_is_told_in_one_sentence(call, sentence):
    with pytest.raises(Misuse, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
