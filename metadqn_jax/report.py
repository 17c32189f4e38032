"""Results as numbers, as terminal tables and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from metadqn_jax import stats


def evaluation(returns: Any, steps: Sequence[int], *, random: float, optimum: float, **facts: Any) -> dict:
    """The contents of `evaluation.json` from returns [tasks, steps] or [seeds, tasks, steps]."""
    returns = np.asarray(returns)
    summary = stats.summarise(returns if returns.ndim == 3 else returns[None])
    curve = {"mean_return": summary["mean"], "iqm": summary["iqm"], "ci95": summary["ci95"]}
    return {**facts, "steps": list(steps), **curve, "random": random, "optimum": optimum}


def table(rows: Mapping[str, Mapping[str, Any]], steps: Sequence[int], title: str) -> Table:
    """A terminal table: for each label of `rows`, the mean return and its 95 % interval after each number of steps."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("greedy return after k steps")
    for k in steps:
        shown.add_column(f"k = {k}", justify="right")
    for label, row in rows.items():
        cells = zip(row["mean_return"], row["ci95"], strict=True)
        shown.add_row(label, *(f"{mean:.2f}\n[dim]{low:.2f} … {high:.2f}[/dim]" for mean, (low, high) in cells))
    return shown


def markdown(rows: Mapping[str, Mapping[str, Any]], steps: Sequence[int]) -> str:
    """The same as a Markdown table: mean ± half the width of the 95 % interval."""
    lines = ["| greedy return after k steps | " + " | ".join(map(str, steps)) + " |", "|---|" + "---:|" * len(steps)]
    for label, row in rows.items():
        cells = zip(row["mean_return"], row["ci95"], strict=True)
        lines.append(f"| {label} | " + " | ".join(f"{mean:.2f} ± {(high - low) / 2:.2f}" for mean, (low, high) in cells) + " |")
    return "\n".join(lines)
