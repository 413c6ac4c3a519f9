"""``xconv figure``: how im2col turns a convolution into a matrix product, drawn from what xconv computes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

import xconv

from .files import make_writable, writing_to

KERNEL, STRIDE = 3, 2
COLOURS = ("#0072b2", "#e08a00", "#009e73", "#c2528b")  # one per window, told apart by colour-blind readers, too
INK, FAINT, PLAIN = "#1f2328", "#6e7781", "#ffffff"
TINT = 0.24
WIDTH, HEIGHT, MIDDLE = 32.0, 12.0, 6.9  # in sides of an element; the middle is the height that all is centred on


def run(*, out: Path) -> int:
    """Write the figure, and return the exit status 0."""
    make_writable(out.parent)
    figure = im2col_figure()
    with writing_to(out):
        figure.savefig(out)
    print(f"wrote {out}")
    return 0


def im2col_figure() -> Figure:
    """A 3x3 window over a 5x5 input in steps of 2, and two filters: one sums a window, one picks its centre."""
    x = np.arange(25).reshape(1, 1, 5, 5)
    w = np.stack([np.ones((1, KERNEL, KERNEL), dtype=x.dtype), np.eye(9, dtype=x.dtype)[4].reshape(1, KERNEL, KERNEL)])
    col = xconv.im2col(x, KERNEL, stride=STRIDE)
    rows = w.reshape(2, -1).T
    y = xconv.conv(x, w, stride=STRIDE)
    figure, axes = _canvas()
    _draw_input(axes, x[0, 0], col, left=0.7)
    _draw_matrix(axes, col, left=8.2, colours=COLOURS)
    _draw_matrix(axes, rows, left=20)
    _draw_matrix(axes, col @ rows, left=23.8, colours=COLOURS)
    _draw_output(axes, y[0], left=28.2)
    _draw_offsets(axes, col_left=8.2, rows_left=20)
    _write_title(axes, 3.2, 2.5, "x", f"{x.shape}")
    _write_title(axes, 12.7, 2, f"im2col(x, {KERNEL}, stride={STRIDE})", f"{col.shape}: windows, elements")
    _write_title(axes, 21, 4.5, "w.reshape(2, -1).T", f"{rows.shape}: elements, filters")
    _write_title(axes, 24.8, 2, "", f"{(col @ rows).shape}")
    _write_title(axes, 29.2, 2.5, f"conv(x, w, stride={STRIDE})", f"{y.shape}")
    for place, sign in ((6.95, "→"), (18.3, "@"), (22.9, "="), (27.0, "→")):
        axes.text(place, MIDDLE, sign, ha="center", va="center", fontsize=13, color=INK)
    return figure


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 9 * HEIGHT / WIDTH), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    return figure, axes


def _draw_input(axes: Axes, x: Any, col: Any, left: float) -> None:
    """The elements, each shared by the windows that have it in their rows of the matrix, and the windows' outlines."""
    top = MIDDLE - x.shape[0] / 2
    windows = np.arange(len(col)).reshape(2, 2)
    for place in np.ndindex(x.shape):
        has_it = np.isin(windows, [m for m, row in enumerate(col) if x[place] in row])
        sharing = windows[has_it.any(axis=1)][:, has_it.any(axis=0)]
        _draw_element(axes, x[place], left + place[1], top + place[0], np.take(COLOURS, sharing))
    for row, colour, inset in zip(col, COLOURS, (0.06, 0.14, 0.14, 0.06), strict=True):
        first_row, first_column = np.argwhere(x == row[0])[0]
        _outline(axes, left + first_column, top + first_row, KERNEL, KERNEL, colour, inset)


def _draw_matrix(axes: Axes, matrix: Any, left: float, colours: Sequence[str] = ()) -> None:
    """A matrix centred in height, its rows in colours if there are any."""
    height, width = matrix.shape
    top = MIDDLE - height / 2
    for i, j in np.ndindex(matrix.shape):
        _draw_element(axes, matrix[i, j], left + j, top + i, [[colours[i] if colours else PLAIN]])
    for i, colour in enumerate(colours):
        _outline(axes, left, top + i, width, 1, colour, 0.05)


def _draw_output(axes: Axes, y: Any, left: float) -> None:
    """One image per filter, each element in the colour of its window."""
    gap = 0.9
    top = MIDDLE - y.shape[1] - gap / 2
    for k, image in enumerate(y):
        for window, (m, n) in enumerate(np.ndindex(image.shape)):
            place = left + n, top + k * (y.shape[1] + gap) + m
            _draw_element(axes, image[m, n], *place, [[COLOURS[window]]])
            _outline(axes, *place, 1, 1, COLOURS[window], 0.05)


def _draw_offsets(axes: Axes, col_left: float, rows_left: float) -> None:
    """The place (i, j) in the window that a column of the one matrix and a row of the other stand for."""
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6.5, "color": FAINT}
    axes.text(col_left - 0.4, MIDDLE + 2.5, "i,j", style="italic", **style)
    for number, (i, j) in enumerate(np.ndindex(KERNEL, KERNEL)):
        axes.text(col_left + number + 0.5, MIDDLE + 2.5, f"{i},{j}", **style)
        axes.text(rows_left - 0.5, MIDDLE - 4 + number, f"{i},{j}", **style)


def _draw_element(axes: Axes, value: Any, left: float, top: float, colours: Any) -> None:
    """A square with its number, divided among the rows and columns of its colours."""
    height, width = 1 / len(colours), 1 / len(colours[0])
    for (i, j), colour in np.ndenumerate(colours):
        corner = left + j * width, top + i * height
        axes.add_patch(Rectangle(corner, width, height, facecolor=to_rgba(str(colour), TINT), edgecolor="none"))
    axes.add_patch(Rectangle((left, top), 1, 1, facecolor="none", edgecolor="#c8cdd3", linewidth=0.6))
    size = 8.5 if abs(value) < 100 else 7.2
    axes.text(left + 0.5, top + 0.52, str(value), ha="center", va="center", fontsize=size, color=INK)


def _outline(axes: Axes, left: float, top: float, width: float, height: float, colour: str, inset: float) -> None:
    corner, size = (left + inset, top + inset), (width - 2 * inset, height - 2 * inset)
    shape = "round,pad=0,rounding_size=0.18"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=shape, facecolor="none", edgecolor=colour, linewidth=1.5))


def _write_title(axes: Axes, centre: float, above: float, code: str, shape: str) -> None:
    """What a part is and its shape, over a part that reaches this far above the middle."""
    bottom = MIDDLE - above - 0.35
    axes.text(centre, bottom - 0.75, code, ha="center", va="bottom", fontsize=8, family="monospace", color=INK)
    axes.text(centre, bottom, shape, ha="center", va="bottom", fontsize=7.5, color=FAINT)
