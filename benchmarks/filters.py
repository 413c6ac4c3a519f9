"""What is timed of filters: lines as they are written, in filters.toml, of arrays in memory and in Dask's chunks."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import tomllib
import tracemalloc
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import xconv

from .comparison import Case, Run
from .layers import random
from .report import XCONV
from .timing import Call

SCIPY = {"numpy": "scipy", "cupy": "cupyx.scipy"}  # whose functions take a backend's arrays
OTHERS = {"numpy": ("cv2", "torch", "dask_image.ndfilters"), "cupy": ()}  # who else does, if installed
WORDS = ("name", "on", "values", "dtypes", "line")  # of a row, beside lines
QUICK_SIZES = 12, 9  # of x and w
PIXELS, CHUNK = 8192, 1024
THREADS = 2  # of Dask's, of which each computes on one core

Row = dict[str, Any]
ROWS: dict[str, list[Row]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
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
    x, _, w = on.format(v=value).partition(" * ")
    sizes = [tuple(map(int, words.split("x"))) for words in (x, w) if words]
    if run.options.quick:
        sizes = [tuple(min(d, most) for d in size) for size, most in zip(sizes, QUICK_SIZES, strict=False)]
    drawn = [random(size, "float32" if dtype == "uint8" else dtype, seed) for seed, size in enumerate(sizes)]
    drawn[0] = (128 + 40 * drawn[0]).clip(0, 255).astype(dtype)
    arrays = dict(zip("xw", map(run.library.from_numpy, drawn), strict=False))
    return Case(group, row["name"].format(v=value, x=x, w=w), dtype, calls_of(row, run, value, arrays))


def calls_of(row: Row, run: Run, value: Any, arrays: dict[str, Any]) -> dict[str, Call]:
    """Each side's line, of those that are installed."""
    scipy, names = SCIPY[run.library.name], {"np": np, "xconv": xconv, **arrays}
    for module in (f"{scipy}.ndimage", f"{scipy}.signal", "xconv.ndimage", "xconv.signal", *OTHERS[run.library.name]):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            names[module.partition(".")[0]] = importlib.import_module(module.partition(".")[0])
    lines = {side: f"{side}.{row['line']}" for side in (XCONV, "scipy") if "line" in row}
    lines |= {side: line for side, line in row.items() if side not in WORDS}
    calls: dict[str, Call] = {}
    for side, line in lines.items():
        code = compile(line.format(v=value).replace("scipy.", f"{scipy}."), side, "eval")
        if code.co_names[0] in names:
            calls[side] = functools.partial(eval, code, names)
    return calls


def chunked(run: Run) -> tuple[int, Generator[Case]]:
    """Filters of an image that is in memory, each summed: nothing else is kept of what is as large."""
    return len(CHUNKED), _chunked(run)


def _chunked(run: Run) -> Generator[Case]:
    import dask
    import dask.array as da

    pixels, chunk = (64, 32) if run.options.quick else (PIXELS, CHUNK)
    image = da.random.default_rng(0).random((pixels, pixels), dtype=np.float32, chunks=chunk).persist()
    for row in CHUNKED:
        lines = calls_of(row, run, "", {"x": image, "w": random((7, 7))})
        calls = {side: functools.partial(_summed, line) for side, line in lines.items()}
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            held = ", ".join(f"{side} {_held(call):.1f}" for side, call in calls.items())
            run.notes.append(f"MB held beyond the image, {row['name']}: {held}.")
            yield Case("filter", f"{row['name']} @{pixels}x{pixels} by {chunk}x{chunk}", "sum", calls)


def _summed(filtered: Call) -> np.ndarray:
    return np.asarray(filtered().sum(dtype=np.float64).compute())


def _held(call: Call) -> float:
    """MB, with what threads keep: these are new for each side."""
    import dask

    tracemalloc.start()
    with ThreadPoolExecutor(THREADS) as pool, dask.config.set(pool=pool):
        call()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak
