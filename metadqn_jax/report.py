"""Results as numbers, as terminal tables and as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from metadqn_jax import stats


def evaluation(returns: Any, steps: Sequence[int], unit: str = "steps", *, random: float, optimum: float, **facts: Any) -> dict:
    """The contents of `evaluation.json` from returns [tasks, steps] or [seeds, tasks, steps]; `unit` names the steps."""
    returns = np.asarray(returns)
    summary = stats.summarise(returns if returns.ndim == 3 else returns[None])
    curve = {"mean_return": summary["mean"], "iqm": summary["iqm"], "ci95": summary["ci95"]}
    return {**facts, unit: list(steps), **curve, "random": random, "optimum": optimum}


def table(rows: Mapping[str, Mapping[str, Any]], steps: Sequence[int], title: str, unit: str = "steps") -> Table:
    """A terminal table: for each label of `rows`, the mean return at each number of `unit`s ± half its 95 % interval."""
    shown = Table(title=title, title_justify="left")
    shown.add_column(f"return by {unit}", no_wrap=True)
    for k in steps:
        shown.add_column(f"k = {k}", justify="right", no_wrap=True)
    for label, row in rows.items():
        shown.add_row(label, *_cells(row, "{:.2f}\n[dim]±{:.2f}[/dim]"))
    return shown


def markdown(rows: Mapping[str, Mapping[str, Any]], steps: Sequence[int], title: str) -> str:
    """The same as a Markdown table, headed by `title`."""
    lines = [f"| {title} | " + " | ".join(map(str, steps)) + " |", "|---|" + "---:|" * len(steps)]
    lines += [f"| {label} | " + " | ".join(_cells(row, "{:.2f} ± {:.2f}")) + " |" for label, row in rows.items()]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any], form: str) -> list[str]:
    return [form.format(mean, (high - low) / 2) for mean, (low, high) in zip(row["mean_return"], row["ci95"], strict=True)]
