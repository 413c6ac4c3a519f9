"""Filters of images, volumes and signals on NumPy's arrays: SciPy's functions, as SciPy, OpenCV and xconv have them."""

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
from xconv.demo.errors import require_packages

from .compared import Comparison, run_compared
from .peers.peer import Call
from .plain import random
from .report import XCONV
from .suites import QUICK_SIZE, Ints

SCIPY, OPENCV = "scipy", "opencv"
DTYPES = ("float32", "float64")
IMAGES: tuple[Ints, ...] = ((512, 512), (2048, 2048))
LARGE: tuple[Ints, ...] = ((2048, 2048), (128, 128, 128))
KERNELS = (3, 5, 7, 9, 15, 31)
WINDOWS = (3, 9, 31)
SIGMAS = (1, 2, 5)
TRUNCATED = 4  # standard deviations at which SciPy cuts Gaussians off

# Pairs from 1e3 to 1e7 elements, a signal or an image with another.
PAIRS: tuple[tuple[Ints, Ints], ...] = (
    ((1_000,), (50,)),
    ((10_000,), (1_000,)),
    ((100_000,), (64,)),
    ((100_000,), (100_000,)),
    ((1_000_000,), (1_000,)),
    ((10_000_000,), (64,)),
    ((10_000_000,), (10_000,)),
    ((32, 32), (5, 5)),
    ((128, 128), (64, 64)),
    ((512, 512), (31, 31)),
    ((1000, 1000), (1000, 1000)),
    ((3000, 3000), (9, 9)),
    ((3000, 3000), (100, 100)),
)


def run_filters(*, quick: bool, **options: Any) -> None:
    """Time them all beside SciPy, and OpenCV where it is installed and has the function."""
    require_packages(("scipy",))
    opencv = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None
    packages = ("scipy", *(["opencv-python-headless"] if opencv else []))
    run_compared("filters", [*comparisons(quick, opencv)], packages, quick=quick, **options)


def comparisons(quick: bool, opencv: Any) -> Iterator[Comparison]:
    """All of them, one after the other."""
    for dtype in DTYPES:
        yield from _correlations(quick, dtype, opencv)
        yield from _smoothings(quick, dtype, opencv)
        yield from _maxima(quick, dtype, opencv)
        yield from _pairs(quick, dtype)
    for shape in IMAGES:
        image, w = _integers(_tiny(shape, quick)), random((5, 5))
        yield Comparison("uint8 correlate 5x5", _name(shape), functools.partial(_both, "correlate", image, w))


def _correlations(quick: bool, dtype: str, opencv: Any) -> Iterator[Comparison]:
    for shape, k in itertools.product(IMAGES, KERNELS):
        image, w = _floats(_tiny(shape, quick), dtype), _floats((k, k), dtype)
        cv = opencv and functools.partial(opencv.filter2D, image, -1, w, borderType=opencv.BORDER_REFLECT)
        yield Comparison(
            f"correlate {dtype}", f"{k}x{k} @{_name(shape)}", functools.partial(_both, "correlate", image, w, opencv=cv)
        )


def _smoothings(quick: bool, dtype: str, opencv: Any) -> Iterator[Comparison]:
    for shape in LARGE:
        image = _floats(_tiny(shape, quick), dtype)
        flat = opencv if len(shape) == 2 else None
        calls: dict[str, Callable[[], dict[str, Call]]] = {}
        for sigma in SIGMAS:
            k = 2 * TRUNCATED * sigma + 1
            cv = flat and functools.partial(flat.GaussianBlur, image, (k, k), sigma, borderType=flat.BORDER_REFLECT)
            calls[f"gaussian {sigma}"] = functools.partial(_both, "gaussian_filter", image, sigma, opencv=cv)
        cv = flat and functools.partial(flat.blur, image, (9, 9), borderType=flat.BORDER_REFLECT)
        calls["uniform 9"] = functools.partial(_both, "uniform_filter", image, 9, opencv=cv)
        cv = flat and functools.partial(flat.Sobel, image, -1, 1, 0, borderType=flat.BORDER_REFLECT)
        calls["sobel"] = functools.partial(_both, "sobel", image, opencv=cv)
        for name, call in calls.items():
            yield Comparison(f"smooth {dtype}", f"{name} @{_name(shape)}", call)


def _maxima(quick: bool, dtype: str, opencv: Any) -> Iterator[Comparison]:
    for shape, k in itertools.product(LARGE, WINDOWS):
        image = _floats(_tiny(shape, quick), dtype)
        flat = opencv if len(shape) == 2 else None
        cv = flat and functools.partial(flat.dilate, image, np.ones((k, k), np.uint8))
        yield Comparison(
            f"maximum_filter {dtype}",
            f"{k} @{_name(shape)}",
            functools.partial(_both, "maximum_filter", image, k, opencv=cv),
        )


def _pairs(quick: bool, dtype: str) -> Iterator[Comparison]:
    for shape, kernel in PAIRS:
        x, w = _floats(_tiny(shape, quick), dtype), _floats(_tiny(kernel, quick), dtype)
        yield Comparison(f"convolve {dtype}", f"{_name(shape)} * {_name(kernel)}", functools.partial(_signals, x, w))


def _both(function: str, image: np.ndarray, *arguments: Any, opencv: Call | None = None) -> dict[str, Call]:
    """xconv's and SciPy's function of that name, and maybe OpenCV's."""
    ours, theirs = (getattr(module, function) for module in (xconv.ndimage, importlib.import_module("scipy.ndimage")))
    calls = {XCONV: lambda: ours(image, *arguments), SCIPY: lambda: theirs(image, *arguments)}
    return calls if opencv is None else {**calls, OPENCV: opencv}


def _signals(x: np.ndarray, w: np.ndarray) -> dict[str, Call]:
    """SciPy's convolutions as it chooses, in blocks, and by one transform."""
    scipy = importlib.import_module("scipy.signal")
    return {
        XCONV: lambda: xconv.signal.convolve(x, w),
        SCIPY: lambda: scipy.convolve(x, w),
        "scipy in blocks": lambda: scipy.oaconvolve(x, w),
        "scipy by fft": lambda: scipy.fftconvolve(x, w),
    }


def _floats(shape: Ints, dtype: str) -> np.ndarray:
    return random(shape).astype(dtype)


def _integers(shape: Ints) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


def _tiny(shape: Ints, quick: bool) -> Ints:
    return tuple(min(size, QUICK_SIZE) for size in shape) if quick else shape


def _name(shape: Ints) -> str:
    return "x".join(map(str, shape))
