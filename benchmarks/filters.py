"""What is timed of filters: lines as they are written, in filters.toml, of arrays in memory."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Generator
from typing import Any

import numpy as np

import xconv

from .comparison import Case, Run
from .layers import random
from .lines import Row, function_of, read, shapes_of
from .report import XCONV
from .timing import Call

SCIPY = {"numpy": "scipy", "cupy": "cupyx.scipy"}  # whose functions take a backend's arrays
OTHERS = {"numpy": ("cv2", "torch", "dask_image.ndfilters"), "cupy": ()}  # who else does, if installed
WORDS = ("name", "on", "values", "dtypes", "line")  # of a row, beside lines
QUICK_SIZES = {"x": 12, "w": 9}
ROWS: dict[str, list[Row]] = read("filters")
CHUNKED = ROWS.pop("chunked")


def filters(run: Run) -> tuple[int, Generator[Case]]:
    """Of images, colours, volumes and signals, in the order of the file."""
    cases = [
        (group, row, *one)
        for group, rows in ROWS.items()
        for row in rows
        for one in itertools.product(row.get("dtypes", ("float32", "float64")), row["on"], row.get("values", [""]))
    ]
    return len(cases), (_filtered(run, *case) for case in cases)


def _filtered(run: Run, group: str, row: Row, dtype: str, on: str, value: Any) -> Case:
    shapes = shapes_of(on, {"v": value})
    names = {name: "x".join(map(str, shape)) for name, shape in shapes.items()}
    if run.options.quick:
        shapes = {name: tuple(min(d, QUICK_SIZES[name]) for d in shape) for name, shape in shapes.items()}
    kind = "float32" if dtype == "uint8" else dtype
    drawn = [random(shape, kind, seed) for seed, shape in enumerate(shapes.values())]
    drawn[0] = (128 + 40 * drawn[0]).clip(0, 255).astype(dtype)
    arrays = dict(zip(shapes, map(run.library.from_numpy, drawn), strict=True))
    return Case(group, row["name"].format(v=value, **names), dtype, calls_of(row, run, value, arrays))


def calls_of(row: Row, run: Run, value: Any, arrays: dict[str, Any]) -> dict[str, Call]:
    """Each side's line, of those that are installed."""
    scipy, names = SCIPY[run.library.name], {"np": np, "xconv": xconv, **arrays}
    for module in (f"{scipy}.ndimage", f"{scipy}.signal", "xconv.ndimage", "xconv.signal", *OTHERS[run.library.name]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            names[module.partition(".")[0]] = importlib.import_module(module.partition(".")[0])
    lines = {side: f"{side}.{row['line']}" for side in (XCONV, "scipy") if "line" in row}
    lines |= {side: line for side, line in row.items() if side not in WORDS}
    lines = {side: line.format(v=value).replace("scipy.", f"{scipy}.") for side, line in lines.items()}
    calls = {side: function_of(line, (), names)[1] for side, line in lines.items()}
    return {side: call for side, call in calls.items() if call.__code__.co_names[0] in names}
