"""What is timed: layers and pools beside others', what "auto" chooses, filters beside SciPy's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import xconv.ndimage
import xconv.signal
from xconv.demo.backends import LoadedBackend

from .chunks import chunked, workers
from .comparison import Case, Run, Suite
from .layers import QUICK_SIZE, SUITES, Ints, Layer, draw_layers, random, shrunk
from .peers import CONVOLUTIONS, POOLED, case_of, load_peers
from .report import XCONV
from .timing import THOROUGH, Stopwatch

Cases = tuple[int, Generator[Case]]


def networks(run: Run) -> Cases:
    """The suites that were asked for, or all."""
    names = [name for name in run.options.suites if name in SUITES] or [name for name in SUITES if name != "pool"]
    return of_layers([layer for name in names for layer in SUITES[name]], CONVOLUTIONS, run.options.peers, run)


def pools(run: Run) -> Cases:
    return of_layers(SUITES["pool"], POOLED, run.options.peers, run)


def choice(run: Run) -> Cases:
    """All methods on layers that were drawn."""
    run.notes.append(f"Layers of seed {run.options.seed}.")
    return of_layers(draw_layers(run.options.layers, run.options.seed), CONVOLUTIONS, ["methods"], run)


def of_layers(layers: Sequence[Layer], operations: Collection[str], names: Sequence[str] | None, run: Run) -> Cases:
    library, batch, dtype = run.library, run.options.batch, run.options.dtype
    peers, missing = load_peers(library, names)
    run.notes.extend(missing)
    sized = (replace(one, input_shape=(batch or one.input_shape[0], *one.input_shape[1:])) for one in layers)
    pairs = itertools.product(map(shrunk, sized) if run.options.quick else sized, operations)
    return len(layers) * len(operations), (case_of(*pair, dtype, peers, library) for pair in pairs)


# Filters of images, volumes and signals.
SCIPY = {"numpy": "scipy", "cupy": "cupyx.scipy"}  # whose functions take a backend's arrays
FLOATS = ("float32", "float64")
IMAGES: tuple[Ints, ...] = ((512, 512), (2048, 2048))
LARGE: tuple[Ints, ...] = ((2048, 2048), (128, 128, 128))

# Groups, words of a value, functions of scipy.ndimage with the keyword of the value, images, values, OpenCV's function.
FILTERS: tuple[tuple[str, str, str, str, tuple[Ints, ...], Ints, str], ...] = (
    ("correlate", "{0}x{0}", "correlate", "weights", IMAGES, (3, 5, 7, 9, 15, 31), "filter2D"),
    ("smooth", "gaussian {}", "gaussian_filter", "sigma", LARGE, (1, 2, 5), "GaussianBlur"),
    ("smooth", "uniform {}", "uniform_filter", "size", LARGE, (9,), "blur"),
    ("smooth", "sobel", "sobel", "axis", LARGE, (-1,), "Sobel"),
    ("maximum", "{}", "maximum_filter", "size", LARGE, (3, 9, 31), "dilate"),
)
OPENCV: dict[str, Callable[[int], dict[str, Any]]] = {
    "filter2D": lambda k: {"ddepth": -1, "kernel": random((k, k))},
    "GaussianBlur": lambda sigma: {"ksize": (8 * sigma + 1, 8 * sigma + 1), "sigmaX": sigma},  # where SciPy cuts off
    "blur": lambda k: {"ksize": (k, k)},
    "Sobel": lambda axis: {"ddepth": -1, "dx": 1, "dy": 0},
    "dilate": lambda k: {"kernel": np.ones((k, k), np.uint8)},
}
# From 1e3 to 1e7 elements, a signal or an image with another, and by which functions of scipy.signal.
PAIRS = """1000 * 50, 10000 * 1000, 100000 * 64, 100000 * 100000, 1000000 * 1000, 10000000 * 64, 10000000 * 10000,
32x32 * 5x5, 128x128 * 64x64, 512x512 * 31x31, 1000x1000 * 1000x1000, 3000x3000 * 9x9, 3000x3000 * 100x100"""
CONVOLVERS = {"scipy": "convolve", "in blocks": "oaconvolve", "by fft": "fftconvolve"}

# A group, words, a type, shapes of arrays, and what each side calls with them.
Calls = dict[str, Callable[..., Any]]
Row = tuple[str, str, str, list[Ints], Calls]


def filters(run: Run) -> Cases:
    rows = [*of_ndimage(run.library), *of_signal(SCIPY[run.library.name])]
    return len(rows), (filter_case(run, *row) for row in rows)


def filter_case(run: Run, group: str, name: str, dtype: str, shapes: list[Ints], calls: Calls) -> Case:
    tiny = [tuple(min(d, QUICK_SIZE) for d in shape) if run.options.quick else shape for shape in shapes]
    arrays = [run.library.from_numpy((128 + 40 * random(shape)).clip(0, 255).astype(dtype)) for shape in tiny]
    return Case(group, name, dtype, {side: functools.partial(call, *arrays) for side, call in calls.items()})


def of_ndimage(library: LoadedBackend) -> Iterator[Row]:
    """OpenCV's, with SciPy's border, are of images alone, and its integers are cut off where SciPy's wrap."""
    modules = {XCONV: xconv.ndimage, "scipy": importlib.import_module(f"{SCIPY[library.name]}.ndimage")}
    opencv = importlib.import_module("cv2") if library.name == "numpy" and importlib.util.find_spec("cv2") else None
    for group, words, function, keyword, shapes, values, theirs in FILTERS:
        for dtype, shape, value in itertools.product((*FLOATS, "uint8"), shapes, values):
            given = {keyword: library.from_numpy(random((value, value))) if keyword == "weights" else value}
            calls: Calls = {
                side: functools.partial(getattr(module, function), **given) for side, module in modules.items()
            }
            if opencv and len(shape) == 2 and dtype in FLOATS:
                given = {**OPENCV[theirs](value), "borderType": opencv.BORDER_REFLECT}
                calls["opencv"] = functools.partial(getattr(opencv, theirs), **given)
            if dtype in FLOATS or (group, value) == ("correlate", 5):
                yield group, f"{words.format(value)} @{'x'.join(map(str, shape))}", dtype, [shape], calls


def of_signal(scipy: str) -> Iterator[Row]:
    """SciPy's convolutions as it chooses, in blocks, and by one transform."""
    signal = importlib.import_module(f"{scipy}.signal")
    calls = {XCONV: xconv.signal.convolve} | {side: getattr(signal, name) for side, name in CONVOLVERS.items()}
    for dtype, words in itertools.product(FLOATS, PAIRS.split(",")):
        shapes = [tuple(map(int, shape.split("x"))) for shape in words.split("*")]
        yield "convolve", words.strip(), dtype, shapes, calls


KINDS = {
    "layers": Suite(networks),
    "filter": Suite(filters, backends=tuple(SCIPY), packages=("scipy",)),
    "pool": Suite(pools),
    "chunked": Suite(chunked, backends=("numpy",), packages=("scipy", "dask.array", "dask_image")),
    "workers": Suite(workers, Stopwatch(3, short=math.inf), ("numpy",), ("dask.array", "distributed")),
    "choice": Suite(choice, replace(THOROUGH, least_rounds=5, total_seconds=1.5, wake_seconds=5e-3)),
}
