"""The figures of a training: learning curves, first filters, misread digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .data import Digits
from .history import RECENT, History

LEARNED, HELD_OUT, WRONG = "#2f6f9f", "#d9822b", "#b3372f"
GRID_LIMIT = 60  # misread digits to show: an interrupted training may have hundreds
COLUMNS = 10


def learning_curves(history: History) -> Figure:
    """Loss and accuracy, on the batches and on the held-out digits."""
    figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _curves(loss, history, history.step_loss, history.held_out_loss)
    loss.set(title="Loss", yscale="log")
    _curves(accuracy, history, _percent(history.step_accuracy), _percent(history.held_out_accuracy))
    accuracy.set(title="Accuracy in %", ylim=(max(0, min([90, *_percent(history.held_out_accuracy)]) - 5), 100.5))
    accuracy.legend(loc="lower right", frameon=False)
    return figure


def filters(before: Any, after: Any) -> Figure:
    """The filters (K, 1, k, k) of the first layer, each over what became of it, in one scale of colours."""
    figure = Figure(figsize=(9, 1.6), dpi=150, layout="constrained")
    limit = float(max(np.abs(before).max(), np.abs(after).max()))
    rows = figure.subplots(2, 1)
    for axes, kernels, name in zip(rows, (before, after), ("before", "after"), strict=True):
        size, step = kernels.shape[-1], kernels.shape[-1] + 1
        apart = np.pad(kernels[:, 0], ((0, 0), (0, 0), (0, 1)), constant_values=np.nan)  # which is not drawn
        image = axes.imshow(np.concatenate([*apart], axis=1), cmap="RdBu_r", vmin=-limit, vmax=limit)
        for number in range(len(kernels)):
            corner = (number * step - 0.5, -0.5)
            axes.add_patch(Rectangle(corner, size, size, fill=False, linewidth=0.7, clip_on=False))
        axes.set(xticks=[], yticks=[], ylabel=name)
        axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=rows)
    return figure


def misclassified(digits: Digits, answers: Any) -> Figure:
    """The digits that are not what the network answers, with both labels."""
    wrong = np.flatnonzero(answers != digits.labels)
    shown = wrong[:GRID_LIMIT]
    more = f", the first {len(shown)} here" if len(shown) < len(wrong) else ""
    rows = math.ceil(len(shown) / COLUMNS)
    header, cell, cell_height = 0.5, 0.9, 1.15  # the first two in inches, the last in cell widths
    height = header + rows * cell_height * cell
    figure = Figure(figsize=(COLUMNS * cell, height), dpi=150)
    title = f"{len(wrong)} of {len(digits)} held-out digits misread{more}"
    figure.text(0.5, 1 - header / 2 / height, title, ha="center", va="center", fontsize=11)
    # One axes for all, because one each takes seconds.
    axes = figure.add_axes((0, 0, 1, 1 - header / height))
    for place, index in enumerate(shown):
        left, top = place % COLUMNS, place // COLUMNS * cell_height
        extent = (left + 0.06, left + 0.94, top + 1.08, top + 0.2)
        axes.imshow(digits.images[index, 0], cmap="gray_r", extent=extent, aspect="auto")
        answer = f"{digits.labels[index]}, read as {answers[index]}"
        axes.text(left + 0.5, top + 0.12, answer, ha="center", va="center", fontsize=8, color=WRONG)
    axes.set(xlim=(0, COLUMNS), ylim=(max(1, rows) * cell_height, 0))
    axes.set_axis_off()
    return figure


def _curves(axes: Axes, history: History, steps: list[float], tests: list[float]) -> None:
    axes.plot(range(1, len(steps) + 1), steps, color=LEARNED, alpha=0.25, linewidth=0.7)
    smooth = [float(np.mean(steps[max(0, end - RECENT) : end])) for end in range(1, len(steps) + 1)]
    axes.plot(range(1, len(steps) + 1), smooth, color=LEARNED, label=f"batches, mean of {RECENT}")
    axes.plot(history.tested_after, tests, "o-", color=HELD_OUT, label="held out")
    axes.set_xlabel("step")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _percent(parts: list[float]) -> list[float]:
    return [100 * part for part in parts]
