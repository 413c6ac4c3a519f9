"""The figure of README.md: how the times of all calls compare, a row for each group of them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .report import Row, geometric_mean

COLOURS = {"scipy": "#2f6f9f", "torch": "#d9822b"}


def draw_summary(rows: Sequence[Row]) -> Figure:
    """A dot for each call on a logarithmic axis, and a bar at the geometric mean."""
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=0.8)
    for height, row in enumerate(rows):
        colour = COLOURS[row.peer]
        axes.plot(row.ratios, [height] * len(row.ratios), "o", color=colour, markersize=5, alpha=0.5)
        axes.plot(geometric_mean(row.ratios), height, "|", color=colour, markersize=18, markeredgewidth=3)
    axes.set(xscale="log", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [f"{row.words}, beside {row.peer}" for row in rows], fontsize=8)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title("the other's time / xconv's time: right of 1, xconv is faster", fontsize=9, loc="left")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
