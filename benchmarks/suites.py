"""What is timed: layers and pools beside others', what "auto" chooses, filters beside SciPy's, and Dask's chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Generator, Sequence
from dataclasses import replace

from .comparison import Case, Run, Suite
from .filters import SCIPY, chunked, filters
from .layers import SUITES, Layer, draw_layers, shrunk
from .peers import CONVOLUTIONS, PEERS, POOLED, case_of, load_peers
from .timing import THOROUGH, Stopwatch
from .workers import workers

Cases = tuple[int, Generator[Case]]


def networks(run: Run) -> Cases:
    """The suites that were asked for, or all."""
    names = [name for name in run.options.suites if name in SUITES] or [name for name in SUITES if name != "pool"]
    return of_layers([layer for name in names for layer in SUITES[name]], CONVOLUTIONS, run.options.peers, run)


def choice(run: Run) -> Cases:
    """All methods on layers that were drawn."""
    run.notes.append(f"Layers of seed {run.options.seed}.")
    return of_layers(draw_layers(run.options.layers, run.options.seed), CONVOLUTIONS, ["methods"], run)


def pools(run: Run) -> Cases:
    return of_layers(SUITES["pool"], POOLED, run.options.peers, run)


def of_layers(layers: Sequence[Layer], operations: Collection[str], names: Sequence[str] | None, run: Run) -> Cases:
    library, batch, dtype = run.library, run.options.batch, run.options.dtype
    peers, missing = load_peers(library, names)
    run.notes.extend(missing)
    sized = (replace(one, input_shape=(batch or one.input_shape[0], *one.input_shape[1:])) for one in layers)
    pairs = itertools.product(map(shrunk, sized) if run.options.quick else sized, operations)
    return len(layers) * len(operations), (case_of(*pair, dtype, peers, library) for pair in pairs)


KINDS = {
    "layers": Suite(networks),
    "filter": Suite(filters, backends=tuple(SCIPY), packages=("scipy",)),
    "pool": Suite(pools, backends=PEERS["torch"]),
    "chunked": Suite(chunked, backends=("numpy",), packages=("scipy", "dask.array", "dask_image")),
    "workers": Suite(workers, Stopwatch(3, short=math.inf), ("numpy",), ("dask.array", "distributed")),
    "choice": Suite(choice, replace(THOROUGH, least_rounds=5, total_seconds=1.5, wake_seconds=5e-3)),
}
