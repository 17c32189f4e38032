"""Figures, drawn on matplotlib's own objects so that no global state changes."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#999999",
    "#F0E442",
)  # safe for the colour-blind


def adaptation(
    path: str | pathlib.Path,
    curves: Mapping[str, Mapping[str, Any]],
    steps: Sequence[int],
    *,
    title: str,
    references: Mapping[str, float],
    xlabel: str = "gradient steps on one support batch",
) -> None:
    """Mean return against adaptation steps, one line and its 95 % interval for each of `curves`, written to `path`.

    curves: {label: {"mean_return": [k], "ci95": [[low, high]]}}, after each of `steps` [k].
    references: {label: return} as levels.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (style, color), (label, curve) in zip(_styles(), curves.items(), strict=False):
        place = range(len(steps))
        low, high = zip(*curve["ci95"], strict=True)
        axes.plot(place, curve["mean_return"], marker="o", color=color, linestyle=style, label=label)
        axes.fill_between(place, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_xticks(place, [str(k) for k in steps])
    _levels(axes, references)
    axes.set(xlabel=xlabel, ylabel="greedy return on held-out tasks", title=title)
    _finish(figure, axes, path)


def _styles():
    """(line style, colour) of one line after the other, without end: the first 32 differ."""
    return itertools.cycle(itertools.product(("-", "--", ":", "-."), COLORS))


def lines(
    path: str | pathlib.Path,
    series: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    references: Mapping[str, float] | None = None,
) -> None:
    """Lines with intervals over a number: series {label: {"x": [n], "mean": [n], "low": [n], "high": [n]}}, written to `path`.

    references: {label: level}.
    """
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for (style, color), (label, one) in zip(_styles(), series.items(), strict=False):
        axes.plot(one["x"], one["mean"], marker="o", markersize=3, color=color, linestyle=style, label=label)
        axes.fill_between(one["x"], one["low"], one["high"], color=color, alpha=0.12, linewidth=0)
    _levels(axes, references or {})
    if log:
        ticks = next(iter(series.values()))["x"]
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _finish(figure, axes, path)


def animation(path: str | pathlib.Path, films: Mapping[str, Any], *, per_second: int) -> None:
    """Films that run at the same time, each under its label, as a GIF at `path`: wide ones in a column, others in a row.

    films: {label: frames}, uint8 [T, height, width, 3] with values of 0 … 255; one that is over rests on its last frame.
    """
    films = {label: np.asarray(frames) for label, frames in films.items()}
    height, width = np.array([frames.shape[1:3] for frames in films.values()]).T
    if (width > 2 * height).all():
        inches = 7.5 * height / width + 0.3
        figure = Figure(figsize=(7.5, inches.sum()), layout="constrained")
        places = figure.subplots(len(films), 1, squeeze=False, height_ratios=inches)
    else:
        each = 7.5 / len(films)
        figure = Figure(figsize=(7.5, each * (height / width).max() + 0.3), layout="constrained")
        places = figure.subplots(1, len(films), squeeze=False)
    FigureCanvasAgg(figure)
    images = []
    for axes, (label, frames) in zip(places.ravel(), films.items(), strict=True):
        axes.set_axis_off()
        axes.set_title(label, fontsize=9, loc="left")
        images.append(axes.imshow(frames[0]))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # not anew for each frame
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    writer = PillowWriter(fps=per_second)
    with writer.saving(figure, path, dpi=100):
        for t in range(max(map(len, films.values()))):
            for image, frames in zip(images, films.values(), strict=True):
                image.set_data(frames[min(t, len(frames) - 1)])
            writer.grab_frame()


def _levels(axes: Any, references: Mapping[str, float]) -> None:
    for style, (label, level) in zip(("--", ":", "-."), references.items(), strict=False):
        axes.axhline(level, color="black", linestyle=style, linewidth=1, label=f"{label} ({level:.1f})")


def _finish(figure: Figure, axes: Any, path: str | pathlib.Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
