"""Functions of NumPy's and CuPy's arrays: filters of images, volumes and signals beside SciPy's and OpenCV's."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import xconv.ndimage
import xconv.signal
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError, require_packages

from .comparison import Case, Options, Sides, carry_out
from .layers import QUICK_SIZE, Ints, random
from .peers import XCONV

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
Row = tuple[str, str, str, list[Ints], dict[str, Callable[..., Any]]]


def run_filters(options: Options) -> None:
    """Time filters beside SciPy, and OpenCV where it is installed and has the function."""
    require_packages(("scipy",))
    library = load_backend(options.backend)
    if library.name not in SCIPY:
        raise CommandError(f"the suite filter is of arrays of {' or '.join(SCIPY)}, got --backend {library.name}")
    opencv = importlib.import_module("cv2") if library.name == "numpy" and importlib.util.find_spec("cv2") else None

    def sides(dtype: str, shapes: list[Ints], calls: dict[str, Callable[..., Any]]) -> Sides:
        tiny = [tuple(min(d, QUICK_SIZE) for d in shape) if options.quick else shape for shape in shapes]
        arrays = [library.from_numpy((128 + 40 * random(shape)).clip(0, 255).astype(dtype)) for shape in tiny]
        return Sides({side: functools.partial(call, *arrays) for side, call in calls.items()})

    rows = itertools.chain(of_ndimage(library, opencv), of_signal(SCIPY[library.name]))
    cases = [Case(*row[:3], functools.partial(sides, *row[2:])) for row in rows]
    carry_out("filter", library, cases, options)


def of_ndimage(library: LoadedBackend, opencv: Any) -> Iterator[Row]:
    """OpenCV's, with SciPy's border, are of images alone, and its integers are cut off where SciPy's wrap."""
    ndimage = importlib.import_module(f"{SCIPY[library.name]}.ndimage")
    for group, words, function, keyword, shapes, values, theirs in FILTERS:
        for dtype, shape, value in itertools.product((*FLOATS, "uint8"), shapes, values):
            given = {keyword: library.from_numpy(random((value, value))) if keyword == "weights" else value}
            calls: dict[str, Callable[..., Any]] = {
                side: functools.partial(getattr(module, function), **given)
                for side, module in ((XCONV, xconv.ndimage), ("scipy", ndimage))
            }
            if opencv and len(shape) == 2 and dtype in FLOATS:
                words_of_opencv = {**OPENCV[theirs](value), "borderType": opencv.BORDER_REFLECT}
                calls["opencv"] = functools.partial(getattr(opencv, theirs), **words_of_opencv)
            if dtype in FLOATS or (group, value) == ("correlate", 5):
                yield group, f"{words.format(value)} @{'x'.join(map(str, shape))}", dtype, [shape], calls


def of_signal(scipy: str) -> Iterator[Row]:
    """SciPy's convolutions as it chooses, in blocks, and by one transform."""
    signal = importlib.import_module(f"{scipy}.signal")
    calls = {XCONV: xconv.signal.convolve} | {side: getattr(signal, name) for side, name in CONVOLVERS.items()}
    for dtype, words in itertools.product(FLOATS, PAIRS.split(",")):
        shapes = [tuple(map(int, shape.split("x"))) for shape in words.split("*")]
        yield "convolve", words.strip(), dtype, shapes, calls
