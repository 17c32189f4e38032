"""Random finite MDPs, the table of Duan et al. (2016): python experiments/tabular_mdps.py [--only ROW] [--lengths N …].

Trials of n episodes: the optimum, classical strategies, and RL²-Q trained at one n and judged at every n. Results are kept
cell by cell (what is trained: row by row), and what stands is not run again.
"""

import dataclasses
import time

import numpy as np
from command_line import start
from kept import RESULTS, fill
from rich.console import Console
from tabular_rows import BOUNDS, LEARNED, LENGTHS, REFERENCES, STRATEGIES, run

from metadqn_jax import figures, stats
from metadqn_jax.checks import check_name

PATH = RESULTS / "tabular_mdps.json"
ROWS = {**BOUNDS, **STRATEGIES, **LEARNED}


@dataclasses.dataclass(frozen=True)
class Options:
    """Judge strategies, and RL² after training, on the same held-out MDPs, other ones for each n."""

    seeds: int = 3
    """Training seeds, all in one compiled program."""
    tasks: int = 1024
    """Held-out MDPs for each n, each lived through once; as many train MDPs choose among candidates."""
    only: str | None = None
    """One row by its name; all by default."""
    lengths: tuple[int, ...] = LENGTHS
    """The n to judge at."""
    quick: bool = False
    """A smoke test: four rows, few tasks, two outer steps; nothing is kept."""


def result(found, facts):
    """One cell as it is kept, from returns [seeds, tasks]; `error` is a standard error."""
    low, high = stats.bootstrap(found)
    return {"mean": float(found.mean()), "error": (high - low) / 3.92, "by_seed": found.mean(1).tolist(), **facts}


def show(results):
    """results/tabular_mdps.md and .png."""
    PATH.with_suffix(".md").write_text(markdown(results))
    best, series = results.get("optimum", {}), {}
    for row in filter(results.get, [*STRATEGIES, *LEARNED]):
        x = [n for n in LENGTHS if str(n) in results[row] and str(n) in best]
        shares, errors = (np.array([results[row][str(n)][of] / best[str(n)]["mean"] for n in x]) for of in ("mean", "error"))
        series[row] = {"x": x, "mean": shares, "low": shares - 1.96 * errors, "high": shares + 1.96 * errors}
    title, xlabel = "random finite MDPs: held-out tasks, 95 % interval", "episodes in a trial, n"
    if series:
        figures.lines(PATH.with_suffix(".png"), series, title=title, xlabel=xlabel, ylabel="share of the optimal return")


def markdown(results):
    """One line a row: the mean return of a trial ± its standard error, and the reference in brackets."""
    lines = ["| return of a trial of n episodes | " + " | ".join(f"n = {n}" for n in LENGTHS) + " |", "|---|" + "---:|" * 5]
    for row in dict.fromkeys([*REFERENCES, *filter(results.get, ROWS)]):
        ours = [results.get(row, {}).get(str(n)) for n in LENGTHS]
        cells = [f"{one['mean']:.1f} ± {one['error']:.1f}" if one else "" for one in ours]
        known = [f"({value})" if value else "" for value in REFERENCES.get(row, (None,) * 5)]
        lines.append(f"| {row} | " + " | ".join(f"{a} {b}".strip() for a, b in zip(cells, known, strict=True)) + " |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Run what is missing, and write the table and the figure."""
    console, changes = Console(), {}
    rows = list(ROWS) if options.only is None else [options.only]
    if options.quick:
        rows, changes = ["optimum", "random", "PSRL", next(iter(LEARNED))], {"outer_steps": 2, "meta_batch": 4}
        options = dataclasses.replace(options, tasks=8, seeds=2, lengths=(2,))

    def work(row, n=None):
        began, lengths = time.process_time(), options.lengths if n is None else (int(n),)
        cells = run(row, lengths, tasks=options.tasks, seeds=options.seeds, changes=changes)
        facts = {"tasks": options.tasks, "cpu_seconds": round(time.process_time() - began)}
        found = {str(n): result(*cell) | facts for n, cell in cells.items()}
        console.print(row, {n: f"{one['mean']:.1f} ± {one['error']:.1f}" for n, one in found.items()}, highlight=False)
        return found if n is None else found[n]

    for row in rows:
        check_name("row", row, ROWS)
    trained = [(row,) for row in rows if row in LEARNED]  # one training is judged at all lengths
    planned = [(row, str(n)) for row in rows if row not in LEARNED for n in options.lengths]
    fill(PATH, trained + planned, work, show, quick=options.quick)  # the longest first, for processes that share them


if __name__ == "__main__":
    start(main, Options, Options.__doc__)
