"""Filters of Dask's arrays beside dask-image, and SciPy's by map_overlap; memory; two workers beside one."""

from __future__ import annotations

import functools
import importlib
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

import xconv
import xconv.ndimage
from xconv.demo.errors import require_packages

from .compared import Comparison, run_compared
from .plain import random
from .report import XCONV

DASK_IMAGE, OVERLAP = "dask-image", "map_overlap"
PIXELS, CHUNK, K, SIGMA = 8192, 1024, 7, 2
CHANNELS, LAYER, LAYER_CHUNK = 32, 2048, 512
THREADS = 2  # of Dask's, of which each computes on one core
TRIALS = 5


def run_chunked(*, quick: bool, **options: Any) -> None:
    """Time them all, an image that is in memory filtered and summed, and note what is held meanwhile."""
    require_packages(("scipy", "dask.array", "distributed", "dask_image"))
    import dask

    pixels, chunk = (64, 32) if quick else (PIXELS, CHUNK)
    image = importlib.import_module("dask.array").random.default_rng(0).random((pixels, pixels), chunks=chunk)
    image = image.astype(np.float32).persist()
    filters = _filters(image)
    comparisons = [
        Comparison("filter and sum", f"{name} @{pixels}x{pixels} by {chunk}x{chunk}", functools.partial(_sums, calls))
        for name, calls in filters.items()
    ]
    notes = [_peaks(name, calls) for name, calls in filters.items()]
    notes.append(_workers(*((2 * CHANNELS, CHANNELS) if quick else (LAYER, LAYER_CHUNK))))
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        run_compared("chunked", comparisons, ("scipy", "dask", "dask-image"), notes, quick=quick, **options)


def _filters(image: Any) -> dict[str, dict[str, Callable[[], Any]]]:
    """Of each filter, what makes the lazy result by each side."""
    overlap, theirs = (importlib.import_module(name) for name in ("dask.array", "dask_image.ndfilters"))
    scipy, w, reach = importlib.import_module("scipy.ndimage"), random((K, K)), int(4 * SIGMA + 0.5)
    return {
        f"correlate {K}x{K}": {
            XCONV: lambda: xconv.ndimage.correlate(image, w),
            DASK_IMAGE: lambda: theirs.correlate(image, w),
            OVERLAP: lambda: overlap.map_overlap(scipy.correlate, image, depth=K // 2, boundary="reflect", weights=w),
        },
        f"gaussian {SIGMA}": {
            XCONV: lambda: xconv.ndimage.gaussian_filter(image, SIGMA),
            DASK_IMAGE: lambda: theirs.gaussian_filter(image, SIGMA),
            OVERLAP: lambda: overlap.map_overlap(
                scipy.gaussian_filter, image, depth=reach, boundary="reflect", sigma=SIGMA
            ),
        },
    }


def _sums(calls: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Of a result that is as large as the image nothing is kept but its sum."""
    return {name: functools.partial(_sum, lazy) for name, lazy in calls.items()}


def _sum(lazy: Callable[[], Any]) -> np.ndarray:
    return np.asarray(lazy().sum(dtype=np.float64).compute())


def _peaks(name: str, calls: dict[str, Callable[[], Any]]) -> str:
    """What is held beyond the image."""
    found = []
    for side, lazy in calls.items():
        tracemalloc.start()
        lazy().sum().compute(scheduler="threads", num_workers=THREADS)
        found.append(f"{side} {tracemalloc.get_traced_memory()[1] / 1e6:.1f}")
        tracemalloc.stop()
    return f"MB held beyond the image, {name}: {', '.join(found)}."


def _workers(pixels: int, chunk: int) -> str:
    """One worker's time by that of two, each a process on a processor of its own."""
    seconds = [_seconds(count, pixels, chunk) for count in (1, 2)]
    what = f"conv {CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {chunk}x{chunk}"
    return f"{what}, one worker's time / that of two pinned ones: {seconds[0] / seconds[1]:.2f}."


def _seconds(count: int, pixels: int, chunk: int) -> float:
    from dask.distributed import Client, LocalCluster, wait

    w, times = random((CHANNELS, CHANNELS, 3, 3)), []
    cluster = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
    with cluster, Client(cluster) as client:
        client.run(_pin)
        shape, chunks = (1, CHANNELS, pixels, pixels), (1, CHANNELS, chunk, chunk)
        x = importlib.import_module("dask.array").random.default_rng(0).random(shape, chunks=chunks)
        x = x.astype(np.float32).persist()
        wait(x)
        for trial in range(TRIALS):
            y = xconv.conv(x, w * (trial + 1), padding=1)  # what is computed already would not be again
            start = time.perf_counter()
            wait(y.persist())
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _pin(dask_worker: Any) -> None:
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(dask_worker.name) % len(processors)]})
