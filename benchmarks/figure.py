"""The figure: every layer's ratios, one panel per suite."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .peers.peer import OPERATIONS
from .results import FORWARD_ONLY, METHOD_PREFIX, LayerResult, Report

COLOURS = ("#2f6f9f", "#d9822b", "#4f9a5b", "#8a5fa8", "#b3372f")
WIDTH = 11.0  # all of these in inches
ROW = 0.19
PANEL_EDGES = 0.42
EDGES = 1.35


def draw_ratios(report: Report) -> Figure:
    """Dots on a logarithmic axis: filled for forward, hollow for forward + both gradients."""
    suites = list(dict.fromkeys(result.layer.suite for result in report.layers))
    panels = [[result for result in report.layers if result.layer.suite == suite] for suite in suites]
    columns = _columns(panels)
    height = max(sum(len(panel) * ROW + PANEL_EDGES for panel in column) for column in columns)
    figure = Figure(figsize=(WIDTH, height + EDGES), dpi=150, layout="constrained")
    colours = _colours(report)
    limits = _limits(report, list(colours))
    sides = figure.subfigures(1, len(columns), squeeze=False)[0]
    for side, column in zip(sides, columns, strict=True):
        _draw_column(side, column, colours, limits)
    figure.suptitle(_title(report), fontsize=9)
    figure.legend(
        handles=_legend(colours), loc="outside lower center", ncols=len(colours) + 2, fontsize=9, frameon=False
    )
    return figure


def _columns(panels: list[list[LayerResult]]) -> list[list[list[LayerResult]]]:
    """The panels in two columns that are about equally long, the longest first."""
    columns: list[list[list[LayerResult]]] = [[], []]
    for panel in sorted(panels, key=len, reverse=True):
        min(columns, key=lambda column: sum(len(other) * ROW + PANEL_EDGES for other in column)).append(panel)
    return [column for column in columns if column]


def _draw_column(
    side: SubFigure, panels: list[list[LayerResult]], colours: dict[str, str], limits: tuple[float, float]
) -> None:
    heights = [len(panel) * ROW + PANEL_EDGES for panel in panels]
    axes = side.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, place in zip(panels, axes, strict=True):
        _draw_panel(place, panel, colours, limits)


def _draw_panel(
    axes: Axes, results: Sequence[LayerResult], colours: dict[str, str], limits: tuple[float, float]
) -> None:
    axes.axvline(1, color="black", linewidth=0.8)
    for peer, colour in colours.items():
        for operations, face in ((FORWARD_ONLY, colour), (OPERATIONS, "white")):
            points = [(result.ratio(peer, operations), row) for row, result in enumerate(results)]
            known = [(ratio, row) for ratio, row in points if ratio is not None]
            axes.plot(
                *zip(*known, strict=True), "o", color=colour, markerfacecolor=face, markersize=4.5
            ) if known else None
    axes.set(xscale="log", xlim=limits, ylim=(len(results) - 0.5, -0.5))
    axes.set_title(results[0].layer.suite, fontsize=9, loc="left", pad=3)
    axes.set_yticks(range(len(results)), [result.layer.name for result in results], fontsize=8)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _colours(report: Report) -> dict[str, str]:
    """One for each peer that was timed at all, from the start again if there are too few; methods are in the tables."""
    timed = [
        peer
        for peer in report.layers[0].peers
        if not peer.startswith(METHOD_PREFIX) and any(result.ratio(peer, FORWARD_ONLY) for result in report.layers)
    ]
    return dict(zip(timed, itertools.cycle(COLOURS)))


def _limits(report: Report, peers: Sequence[str]) -> tuple[float, float]:
    """The same for all panels, with 1 inside."""
    ratios = [
        ratio
        for result in report.layers
        for peer in peers
        for operations in (FORWARD_ONLY, OPERATIONS)
        if (ratio := result.ratio(peer, operations)) is not None
    ]
    return min([0.5, *ratios]) / 1.2, max([2, *ratios]) * 1.2


def _legend(colours: dict[str, str]) -> list[Line2D]:
    def dot(label: str, colour: str, face: str) -> Line2D:
        return Line2D([], [], color=colour, marker="o", linestyle="", markerfacecolor=face, label=label)

    peers = [dot(peer, colour, colour) for peer, colour in colours.items()]
    return [*peers, dot("forward", "gray", "gray"), dot("forward + both gradients", "gray", "white")]


def _title(report: Report) -> str:
    """Three lines: what, where, with what."""
    machine = report.machine
    tiny = " (tiny layers: the times mean nothing)" if report.quick else ""
    return (
        f"Peer's time / xconv's time on {report.backend}: right of 1, xconv is faster{tiny}\n"
        f"{machine.hardware}, {machine.date}\n{machine.software}"
    )
