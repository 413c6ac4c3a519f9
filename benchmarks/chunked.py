"""Filters of Dask's arrays beside dask-image, and SciPy's by map_overlap; memory; two workers beside one."""

from __future__ import annotations

import functools
import importlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

import xconv
import xconv.ndimage
from xconv.demo.backends import load_backend
from xconv.demo.errors import require_packages

from .comparison import Comparison, Options, announce, run_comparisons
from .peers import XCONV
from .suites import random
from .timing import Call

PIXELS, CHUNK, K, SIGMA = 8192, 1024, 7, 2
CHANNELS, LAYER, LAYER_ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
THREADS = 2  # of Dask's, of which each computes on one core
TRIALS = 3
Seconds: TypeAlias = tuple[float, ...]  # of each of two alone, and of both
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}


def run_chunked(options: Options) -> None:
    """Time them all, an image that is in memory filtered and summed, and note what is held meanwhile."""
    require_packages(("scipy", "dask.array", "distributed", "dask_image"))
    import dask

    pixels, chunk = (64, 32) if options.quick else (PIXELS, CHUNK)
    image = importlib.import_module("dask.array").random.default_rng(0).random((pixels, pixels), chunks=chunk)
    filters = _filters(image.astype(np.float32).persist())
    workers = _workers(*((2 * CHANNELS, CHANNELS, 1) if options.quick else (LAYER, LAYER_ROWS, TRIALS)))
    what = f"@{pixels}x{pixels} by {chunk}x{chunk}"
    comparisons = [Comparison("filter and sum", f"{name} {what}", calls) for name, calls in filters.items()]
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        notes = [*(_peaks(name, calls) for name, calls in filters.items()), workers]
        run_comparisons("chunked", load_backend("numpy"), comparisons, options, notes)


def _filters(image: Any) -> dict[str, dict[str, Call]]:
    """Of each filter the sum of its result by each side: nothing else is kept of what is as large as the image."""
    dask_array, theirs = (importlib.import_module(name) for name in ("dask.array", "dask_image.ndfilters"))
    scipy = importlib.import_module("scipy.ndimage")
    filters: tuple[tuple[str, str, str, Any, int], ...] = (
        (f"correlate {K}x{K}", "correlate", "weights", random((K, K)), K // 2),
        (f"gaussian {SIGMA}", "gaussian_filter", "sigma", SIGMA, int(4 * SIGMA + 0.5)),
    )

    def total(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> np.ndarray:
        return np.asarray(function(*arguments, **keywords).sum(dtype=np.float64).compute())

    def sides(function: str, keyword: str, value: Any, depth: int) -> dict[str, Call]:
        ours, other, blockwise = (getattr(module, function) for module in (xconv.ndimage, theirs, scipy))
        words: dict[str, Any] = {"depth": depth, "boundary": "reflect", keyword: value}
        return {
            XCONV: functools.partial(total, ours, image, value),
            "dask-image": functools.partial(total, other, image, value),
            "map_overlap": functools.partial(total, dask_array.map_overlap, blockwise, image, **words),
        }

    return {one[0]: sides(*one[1:]) for one in filters}


def _peaks(name: str, calls: dict[str, Call]) -> str:
    """What is held beyond the image."""
    found = []
    for side, call in calls.items():
        announce(f"memory, {name}, {side}")
        tracemalloc.start()
        call()
        found.append(f"{side} {tracemalloc.get_traced_memory()[1] / 1e6:.1f}")
        tracemalloc.stop()
    return f"MB held beyond the image, {name}: {', '.join(found)}."


def _workers(pixels: int, rows: int, rounds: int) -> str:
    """One worker's time by that of two, each a process on a processor of its own; and of processes without Dask."""
    with tempfile.TemporaryDirectory() as folder:
        workers = _gains(_of_workers(pixels, rows, rounds, folder))
    what = f"conv {CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
    plain = _gains(_of_processes(pixels, rows, rounds))
    return (
        f"{what}, one worker's time / that of two pinned ones: {workers}; the same of processes without Dask: {plain}. "
        "From chunks in memory to sums: graphs are optimized and sent meanwhile; one more sum is computed just before."
    )


def _gains(times: Sequence[Seconds]) -> str:
    """The median over rounds of what one takes, of the two on average, by what both take."""
    gains = [(first + second) / 2 / both for first, second, both in times]
    return f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"


def _of_workers(pixels: int, rows: int, rounds: int, folder: str) -> list[Seconds]:
    """Each worker has an image of its own, and half of one that both share."""
    import dask
    from dask.distributed import Client, LocalCluster, wait

    da, w, numbers = importlib.import_module("dask.array"), random((CHANNELS, CHANNELS, 3, 3)), itertools.count()
    words = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}

    def image(addresses: list[str]) -> Any:
        shape, chunks = (1, CHANNELS, pixels // len(addresses), pixels), (1, CHANNELS, rows, pixels)
        parts = [da.random.default_rng(next(numbers)).random(shape, np.float32, chunks=chunks) for _ in addresses]
        parts = [client.persist(part, workers=[place]) for part, place in zip(parts, addresses, strict=True)]
        wait(parts)
        x = client.persist(da.concatenate(parts, axis=2), workers=addresses)
        wait(x)
        return x

    def seconds(x: Any, addresses: list[str]) -> float:
        announce(f"{len(addresses)} of two workers")
        found = 0.0
        for count in (1, REPEATS):  # memory that nobody has used for a while comes slowly: only to what needs more
            sums = [xconv.conv(x, w + next(numbers), padding=1).sum() for _ in range(count)]  # none is known already
            start = time.perf_counter()
            client.gather(client.compute(sums, workers=addresses))
            found = time.perf_counter() - start
        return found

    with (
        dask.config.set(UNWATCHED),
        LocalCluster(local_directory=folder, **words) as cluster,
        Client(cluster) as client,
    ):
        client.run(_pin)
        first, second = client.scheduler_info()["workers"]
        sides = [(image(addresses), addresses) for addresses in ([first], [second], [first, second])]
        return [tuple([seconds(*side) for side in sides]) for _ in range(rounds)]


def _of_processes(pixels: int, rows: int, rounds: int) -> list[Seconds]:
    """The same chunks, with neither borders that are cut nor anything else around them."""
    context, pipes, processes = multiprocessing.get_context("spawn"), [], []
    for number in range(2):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_convolve, args=(number, pixels, rows, theirs)))
        processes[-1].start()
        pipes.append(ours)

    def seconds(chosen: Sequence[Any]) -> float:
        announce(f"{len(chosen)} of two processes")
        found = 0.0
        for count in (1, REPEATS):
            start = time.perf_counter()
            for pipe in chosen:
                pipe.send(count * pixels // rows // len(chosen))
            for pipe in chosen:
                pipe.recv()
            found = time.perf_counter() - start
        return found

    sides = pipes[:1], pipes[1:], pipes
    times = [tuple([seconds(side) for side in sides]) for _ in range(rounds)]
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(0)
        process.join()
    return times


def _convolve(number: int, pixels: int, rows: int, pipe: Any) -> None:
    """A process: so many sums of convolutions of a chunk whenever it is asked for some."""
    _to_processor(number)
    x, w = random((1, CHANNELS, rows, pixels)), random((CHANNELS, CHANNELS, 3, 3))
    while count := pipe.recv():
        for _ in range(count):
            xconv.conv(x, w, padding=1).sum()
        pipe.send(count)


def _pin(dask_worker: Any) -> None:
    _to_processor(int(dask_worker.name))


def _to_processor(number: int) -> None:
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[number % len(processors)]})
