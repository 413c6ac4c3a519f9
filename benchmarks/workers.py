"""What is timed of Dask's workers: two of them, pinned to processors of their own, beside each of them."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Generator
from typing import Any

import numpy as np

import xconv

from .comparison import Case, Run
from .layers import random
from .report import XCONV

CHANNELS, LAYER, ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
WORKERS = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}
POWERS = itertools.count()


def workers(run: Run) -> tuple[int, Generator[Case]]:
    return 1, _cases(*(2 * CHANNELS, CHANNELS) if run.options.quick else (LAYER, ROWS))


def _cases(pixels: int, rows: int) -> Generator[Case]:
    """Each worker has an image of its own, and half of one that both share."""
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
        images = {side: _image(client, pixels, rows, addresses) for side, addresses in sides.items()}
        calls = {side: functools.partial(_summed, client, image, sides[side]) for side, image in images.items()}
        what = f"{CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
        yield Case("two workers", what, "forward", calls)


def _image(client: Any, pixels: int, rows: int, addresses: list[str]) -> Any:
    """Of chunks that are on the workers, as many on each."""
    import dask.array as da
    from dask.distributed import wait

    shape, places = (1, CHANNELS, rows, pixels), sorted(addresses * (pixels // rows // len(addresses)))
    chunks = [client.submit(_positive, *shape, pure=False, workers=place) for place in places]
    wait(chunks)
    return da.concatenate([da.from_delayed(chunk, shape, np.float32) for chunk in chunks], axis=2)


def _summed(client: Any, x: Any, addresses: list[str]) -> np.ndarray:
    w, powers = _positive(CHANNELS, CHANNELS, 3, 3), [np.float32(2.0 ** -next(POWERS)) for _ in range(REPEATS)]
    sums = [xconv.conv(x, w * power, padding=1).sum() for power in powers]  # of which none is known already
    return np.array(client.gather(client.compute(sums, workers=addresses))) / powers


@functools.cache
def _positive(*shape: int) -> np.ndarray:
    """Whose sums do not cancel."""
    return abs(random(shape))


def _pin(dask_worker: Any) -> None:
    """To a processor of its own."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {processors[int(dask_worker.name) % len(processors)]})
