"""The figure: every layer's ratios, one panel per suite."""

from __future__ import annotations

import itertools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .peers.peer import FORWARD, OPERATIONS
from .report import GRADIENTS, TINY, Numbers, peers_of, ratio

COLOURS = ("#2f6f9f", "#d9822b", "#4f9a5b", "#8a5fa8", "#b3372f")
WIDTH = 8.0  # all of these in inches
ROW = 0.16
EDGES = 1.35


def draw_ratios(run: Numbers) -> Figure:
    """Dots on a logarithmic axis: filled for forward, hollow for forward + both gradients."""
    layers = run["results"]
    suites = {layer["suite"]: [one for one in layers if one["suite"] == layer["suite"]] for layer in layers}
    heights = [len(members) for members in suites.values()]
    figure = Figure(figsize=(WIDTH, (sum(heights) + 2 * len(suites)) * ROW + EDGES), dpi=110, layout="constrained")
    colours = dict(zip(peers_of(layers), itertools.cycle(COLOURS)))
    panels = figure.subplots(len(suites), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    for axes, (suite, members) in zip(panels, suites.items(), strict=True):
        _draw_panel(axes, suite, members, colours)
    machine, tiny = run["machine"], f" ({TINY})" if run.get("quick") else ""
    title = f"Peer's time / xconv's time on {machine['backend']}: right of 1, xconv is faster{tiny}"
    figure.suptitle(f"{title}\n{machine['processor']}, {machine['cores']} cores, {machine['date']}", fontsize=9)
    handles = [_dot(peer, colour, colour) for peer, colour in colours.items()]
    handles += [_dot(FORWARD, "gray", "gray"), _dot(GRADIENTS, "gray", "white")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _draw_panel(axes: Axes, suite: str, layers: list[Numbers], colours: dict[str, str]) -> None:
    axes.axvline(1, color="black", linewidth=0.8)
    for peer, colour in colours.items():
        for operations, face in (([FORWARD], colour), (OPERATIONS, "white")):
            points = [(ratio(layer, peer, operations), row) for row, layer in enumerate(layers)]
            known: list[Any] = [point for point in points if point[0] is not None]
            for x, y in known:
                axes.plot(x, y, "o", color=colour, markerfacecolor=face, markersize=4)
    axes.set(xscale="log", ylim=(len(layers) - 0.5, -0.5))
    axes.set_title(suite, fontsize=8, loc="left", pad=2)
    axes.set_yticks(range(len(layers)), [layer["name"] for layer in layers], fontsize=7)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _dot(label: str, colour: str, face: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="", markerfacecolor=face, label=label)
