"""Dask's arrays: filters beside dask-image, and SciPy's by map_overlap; two workers beside one."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import math
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import xconv
import xconv.ndimage
from xconv.demo.backends import load_backend
from xconv.demo.errors import require_packages

from .comparison import Case, Options, Sides, carry_out
from .layers import random
from .peers import XCONV
from .timing import Call, Limits

PIXELS, CHUNK, K, SIGMA = 8192, 1024, 7, 2
THREADS = 2  # of Dask's, of which each computes on one core
FILTERS: tuple[
    tuple[str, str, str, Any, int], ...
] = (  # words, a function with its keyword and value, and how far it reaches
    (f"correlate {K}x{K}", "correlate", "weights", random((K, K)), K // 2),
    (f"gaussian {SIGMA}", "gaussian_filter", "sigma", SIGMA, 4 * SIGMA),
)

CHANNELS, LAYER, ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
# One more before each: memory that nobody has used for a while comes slowly, and only to what needs more.
TRIALS = Limits(3, 3, sample_seconds=0, wake_seconds=0, total_seconds=0, short=math.inf)
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
WORKERS = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}


def run_chunked(options: Options) -> None:
    """Time filters of an image that is in memory, each summed: nothing else is kept of what is as large."""
    require_packages(("scipy", "dask.array", "dask_image"))
    import dask

    pixels, chunk = (64, 32) if options.quick else (PIXELS, CHUNK)
    image = importlib.import_module("dask.array").random.default_rng(0).random((pixels, pixels), chunks=chunk)
    image = image.astype(np.float32).persist()
    what = f"@{pixels}x{pixels} by {chunk}x{chunk}"
    cases = [
        Case("filter", f"{one[0]} {what}", "sum", functools.partial(_filtered, image, *one[1:])) for one in FILTERS
    ]
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        carry_out("chunked", load_backend("numpy"), cases, options)


def _filtered(image: Any, function: str, keyword: str, value: Any, depth: int) -> Sides:
    map_overlap = importlib.import_module("dask.array").map_overlap
    blockwise = getattr(importlib.import_module("scipy.ndimage"), function)
    words = {keyword: value, "depth": depth, "boundary": "reflect"}
    filters: dict[str, Callable[[], Any]] = {
        XCONV: lambda: getattr(xconv.ndimage, function)(image, value),
        "dask-image": lambda: getattr(importlib.import_module("dask_image.ndfilters"), function)(image, value),
        "map_overlap": lambda: map_overlap(blockwise, image, **words),
    }

    def summed(side: str) -> np.ndarray:
        return np.asarray(filters[side]().sum(dtype=np.float64).compute())

    calls = {side: functools.partial(summed, side) for side in filters}
    held = ", ".join(f"{side} {_held(call):.1f}" for side, call in calls.items())
    return Sides(calls, note=f"MB held beyond the image, {function}: {held}.")


def _held(call: Call) -> float:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


def run_workers(options: Options) -> None:
    """Time two workers beside each of them, pinned to processors of their own."""
    require_packages(("dask.array", "distributed"))
    pixels, rows = (2 * CHANNELS, CHANNELS) if options.quick else (LAYER, ROWS)
    what = f"{CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
    with contextlib.ExitStack() as stack:
        case = Case("two workers", what, "forward", functools.partial(_of_workers, pixels, rows, stack))
        carry_out("workers", load_backend("numpy"), [case], options, thorough=TRIALS)


def _of_workers(pixels: int, rows: int, stack: contextlib.ExitStack) -> Sides:
    """Each worker has an image of its own, and half of one that both share."""
    import dask
    from dask.distributed import Client, LocalCluster, wait

    da, w, numbers = importlib.import_module("dask.array"), _positive(CHANNELS, CHANNELS, 3, 3), itertools.count()
    stack.enter_context(dask.config.set(UNWATCHED))
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    client = stack.enter_context(Client(stack.enter_context(LocalCluster(local_directory=folder, **WORKERS))))
    client.run(_pin)

    def image(addresses: list[str]) -> Any:
        chunks = (1,), (CHANNELS,), (rows,) * (pixels // rows // len(addresses)), (pixels,)
        parts = []
        for address in addresses:
            part = da.map_blocks(_chunk, chunks=chunks, dtype=np.float32, name=f"image-{next(numbers)}")
            parts.append(client.persist(part, workers=[address]))
        wait(parts)
        x = client.persist(da.concatenate(parts, axis=2), workers=addresses)
        wait(x)
        return x

    def call(x: Any, addresses: list[str]) -> np.ndarray:
        powers = [np.float32(2.0 ** -next(numbers)) for _ in range(REPEATS)]  # no sum is known already
        sums = [xconv.conv(x, w * power, padding=1).sum() for power in powers]
        return np.array(client.gather(client.compute(sums, workers=addresses))) / powers

    first, second = client.scheduler_info()["workers"]
    sides = {XCONV: [first, second], "first": [first], "second": [second]}
    return Sides({side: functools.partial(call, image(addresses), addresses) for side, addresses in sides.items()})


@functools.cache
def _positive(*shape: int) -> np.ndarray:
    """Whose sums do not cancel."""
    return abs(random(shape))


def _chunk(block_info: Any = None) -> np.ndarray:
    return _positive(*block_info[None]["chunk-shape"])


def _pin(dask_worker: Any) -> None:
    """To a processor of its own."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(dask_worker.name) % len(processors)]})
