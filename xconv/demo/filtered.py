"""The figure of a filter: an image before and after, as a whole and in detail."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from .samples import Views

TINY = float(np.finfo(np.float32).tiny)  # for the contrast of an image of one value


def before_and_after(before: Views, after: Views, kernel: str) -> Figure:
    """Thumbnails above details, the input on the left, each in its own range of values."""
    figure = Figure(figsize=(9, 8.4), dpi=150, layout="constrained")
    for views, column, name in zip(
        (before, after), figure.subplots(2, 2).T, ("before", f"after {kernel}"), strict=True
    ):
        thumbnail, detail = [view.image for view in views]
        rows, columns = views[1].places[-detail.ndim :][:2]
        for image, axes in zip((thumbnail, detail), column, strict=True):
            known = image[np.isfinite(image)]
            low, high = np.quantile(known, (0.01, 0.99)) if known.size else (0, 0)
            axes.imshow(np.clip((image - low) / max(high - low, TINY), 0, 1), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        column[0].set_title(name)
        column[1].set_title(f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}")
    return figure
