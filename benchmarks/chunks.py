"""What is timed of Dask's arrays: filters beside others', and two workers beside each of them."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
import tracemalloc
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import xconv

from .comparison import Case, Cases, Run
from .filters import CHUNKED, calls_of
from .lines import random
from .report import XCONV
from .timing import Call

PIXELS, CHUNK = 8192, 1024
THREADS = 2  # of Dask's, of which each computes on one core

CHANNELS, LAYER, ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
WORKERS = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}
POWERS = itertools.count()


def chunked(run: Run) -> Cases:
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


def _summed(filtered: Any) -> np.ndarray:
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


def workers(run: Run) -> Cases:
    """A layer of an image on two workers; each of them has an image of its own beside it."""
    return 1, _on_workers(*(2 * CHANNELS, CHANNELS) if run.options.quick else (LAYER, ROWS))


def _on_workers(pixels: int, rows: int) -> Generator[Case]:
    from dask import config
    from dask.distributed import Client, LocalCluster

    with (
        config.set(UNWATCHED),
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(local_directory=folder, **WORKERS) as cluster,
        Client(cluster) as client,
    ):
        client.run(_pin)
        first, second = client.scheduler_info()["workers"]
        sides = {XCONV: [first, second], "first": [first], "second": [second]}
        calls = {side: _layers_of_image(client, pixels, rows, addresses) for side, addresses in sides.items()}
        what = f"{CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
        yield Case("two workers", what, "forward", calls)


def _layers_of_image(client: Any, pixels: int, rows: int, addresses: list[str]) -> Call:
    """Of an image with as many chunks on each worker; sums, of which none is known from the call before."""
    import dask.array as da
    from dask.distributed import wait

    def call() -> np.ndarray:
        powers = [np.float32(2.0 ** -next(POWERS)) for _ in range(REPEATS)]
        sums = [xconv.conv(x, w * power, padding=1).sum() for power in powers]
        return np.array(client.gather(client.compute(sums, workers=addresses))) / powers

    shape, places = (1, CHANNELS, rows, pixels), sorted(addresses * (pixels // rows // len(addresses)))
    chunks = [client.submit(_positive, *shape, pure=False, workers=place) for place in places]
    wait(chunks)
    x = da.concatenate([da.from_delayed(chunk, shape, np.float32) for chunk in chunks], axis=2)
    w = _positive(CHANNELS, CHANNELS, 3, 3)
    return call


def _positive(*shape: int) -> np.ndarray:
    """Whose sums do not cancel."""
    return abs(random(shape))


def _pin(dask_worker: Any) -> None:
    """To a processor of its own."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(dask_worker.name) % len(processors)]})
