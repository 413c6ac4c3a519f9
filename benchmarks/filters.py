"""What is timed of filters: lines as they are written, in filters.toml, of arrays in memory."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from typing import Any

import numpy as np

import xconv

from .comparison import Case, Cases, Run
from .lines import Names, call_of, random, read, shapes_of
from .report import XCONV
from .timing import Call

SCIPY = {"numpy": "scipy", "cupy": "cupyx.scipy"}  # whose functions take a backend's arrays
OTHERS = {"numpy": ("cv2", "torch", "dask_image.ndfilters"), "cupy": ()}  # who else does, if installed
WORDS = ("name", "on", "values", "dtypes", "line")  # of a row, beside lines
QUICK_SIZES = {"x": 12, "w": 9}
ROWS: dict[str, list[dict[str, Any]]] = read("filters")
CHUNKED = ROWS.pop("chunked")


def filters(run: Run) -> Cases:
    """Of images, colours, volumes and signals, in the order of the file."""
    cases = [
        (group, row, *one)
        for group, rows in ROWS.items()
        for row in rows
        for one in itertools.product(row.get("dtypes", ("float32", "float64")), row["on"], row.get("values", [""]))
    ]
    return len(cases), (_filtered(run, *case) for case in cases)


def _filtered(run: Run, group: str, row: Names, dtype: str, on: str, value: Any) -> Case:
    shapes = shapes_of(on, {"v": value})
    name = row["name"].format(v=value, **{name: "x".join(map(str, shape)) for name, shape in shapes.items()})
    if run.options.quick:
        shapes = {name: tuple(min(d, QUICK_SIZES[name]) for d in shape) for name, shape in shapes.items()}
    kind = "float32" if dtype == "uint8" else dtype
    drawn = {name: random(shape, kind, seed) for seed, (name, shape) in enumerate(shapes.items())}
    drawn["x"] = (128 + 40 * drawn["x"]).clip(0, 255).astype(dtype)
    arrays = {name: run.library.from_numpy(array) for name, array in drawn.items()}
    return Case(group, name, dtype, calls_of(row, run, value, arrays))


def calls_of(row: Names, run: Run, value: Any, arrays: Names) -> dict[str, Call | str]:
    """Each side's line, of those that are installed."""
    scipy, names = SCIPY[run.library.name], {"np": np, "xconv": xconv}
    for module in (f"{scipy}.ndimage", f"{scipy}.signal", "xconv.ndimage", "xconv.signal", *OTHERS[run.library.name]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            names[module.partition(".")[0]] = importlib.import_module(module.partition(".")[0])
    lines = {side: f"{side}.{row['line']}" for side in (XCONV, "scipy") if "line" in row}
    lines |= {side: line for side, line in row.items() if side not in WORDS}
    lines = {side: line.format(v=value).replace("scipy.", f"{scipy}.") for side, line in lines.items()}
    whose = {side: compile(line, line, "eval").co_names[0] for side, line in lines.items()}
    there = [side for side in lines if whose[side] in {*names, *arrays}]
    return {side: call_of(lines[side], arrays, names, run.library) for side in there}
