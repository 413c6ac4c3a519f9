"""What is timed of Dask's arrays: filters by threads beside others', and two workers beside each of them."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import xconv.ndimage

from .comparison import Case, Run
from .layers import random
from .report import XCONV
from .timing import Call

PIXELS, CHUNK, K, SIGMA = 8192, 1024, 7, 2
THREADS = 2  # of Dask's, of which each computes on one core
# Words, a function with its keyword and value, and how far it reaches.
FILTERED: tuple[tuple[str, str, str, Any, int], ...] = (
    (f"correlate {K}x{K}", "correlate", "weights", random((K, K)), K // 2),
    (f"gaussian {SIGMA}", "gaussian_filter", "sigma", SIGMA, 4 * SIGMA),
)


def chunked(run: Run) -> tuple[int, Generator[Case]]:
    """Filters of an image that is in memory, each summed: nothing else is kept of what is as large."""
    return len(FILTERED), _filtered(run)


def _filtered(run: Run) -> Generator[Case]:
    import dask
    import dask.array as da

    pixels, chunk = (64, 32) if run.options.quick else (PIXELS, CHUNK)
    image = da.random.default_rng(0).random((pixels, pixels), dtype=np.float32, chunks=chunk).persist()
    ndimage, dask_image = map(importlib.import_module, ("scipy.ndimage", "dask_image.ndfilters"))
    for name, function, keyword, value, depth in FILTERED:
        blockwise = functools.partial(getattr(ndimage, function), **{keyword: value})
        filters: dict[str, Callable[[], Any]] = {
            XCONV: functools.partial(getattr(xconv.ndimage, function), image, value),
            "dask-image": functools.partial(getattr(dask_image, function), image, value),
            "map_overlap": functools.partial(da.map_overlap, blockwise, image, depth=depth, boundary="reflect"),
        }
        calls = {side: functools.partial(_summed, filtered) for side, filtered in filters.items()}
        with dask.config.set(scheduler="threads", num_workers=THREADS):
            held = ", ".join(f"{side} {_held(call):.1f}" for side, call in calls.items())
            run.notes.append(f"MB held beyond the image, {function}: {held}.")
            yield Case("filter", f"{name} @{pixels}x{pixels} by {chunk}x{chunk}", "sum", calls)


def _summed(filtered: Callable[[], Any]) -> np.ndarray:
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


CHANNELS, LAYER, ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
WORKERS = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}


def workers(run: Run) -> tuple[int, Generator[Case]]:
    """Two workers, pinned to processors of their own, beside each of them."""
    return 1, _of_workers(*(2 * CHANNELS, CHANNELS) if run.options.quick else (LAYER, ROWS))


def _of_workers(pixels: int, rows: int) -> Generator[Case]:
    """Each worker has an image of its own, and half of one that both share."""
    import dask
    import dask.array as da
    from dask.core import flatten
    from dask.distributed import Client, LocalCluster, wait

    w, numbers = _positive(CHANNELS, CHANNELS, 3, 3), itertools.count()

    def image(client: Client, addresses: list[str]) -> Any:
        chunks = (1,), (CHANNELS,), (rows,) * (pixels // rows), (pixels,)
        x = da.map_blocks(_chunk, chunks=chunks, dtype=np.float32, name=f"image-{next(numbers)}")
        each = {key: addresses[key[3] * len(addresses) // x.numblocks[2]] for key in flatten(x.__dask_keys__())}
        with dask.annotate(workers=each.get):
            x = client.persist(x, optimize_graph=False)
        wait(x)
        return x

    def call(client: Client, x: Any, addresses: list[str]) -> np.ndarray:
        powers = [np.float32(2.0 ** -next(numbers)) for _ in range(REPEATS)]  # no sum is known already
        sums = [xconv.conv(x, w * power, padding=1).sum() for power in powers]
        return np.array(client.gather(client.compute(sums, workers=addresses))) / powers

    with (
        dask.config.set(UNWATCHED),
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(local_directory=folder, **WORKERS) as cluster,
        Client(cluster) as client,
    ):
        client.run(_pin)
        first, second = client.scheduler_info()["workers"]
        sides = {XCONV: [first, second], "first": [first], "second": [second]}
        calls = {side: functools.partial(call, client, image(client, at), at) for side, at in sides.items()}
        what = f"{CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
        yield Case("two workers", what, "forward", calls)


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
