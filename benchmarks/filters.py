"""Functions of NumPy's arrays: filters of images, volumes and signals beside SciPy's and OpenCV's; pools."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

import xconv
import xconv.ndimage
import xconv.signal
from xconv.demo.backends import load_backend
from xconv.demo.errors import require_packages

from .comparison import Comparison, Options, run_comparisons
from .peers import XCONV
from .suites import QUICK_SIZE, Ints, Layer, layer_of, random, shrunk
from .timing import Call

DTYPES = ("float32", "float64")
IMAGES: tuple[Ints, ...] = ((512, 512), (2048, 2048))
LARGE: tuple[Ints, ...] = ((2048, 2048), (128, 128, 128))
KERNELS = (3, 5, 7, 9, 15, 31)
WINDOWS = (3, 9, 31)
SIGMAS = (1, 2, 5)
TRUNCATED = 4  # standard deviations at which SciPy cuts Gaussians off

# From 1e3 to 1e7 elements, a signal or an image with another.
PAIRS = """1000 * 50, 10000 * 1000, 100000 * 64, 100000 * 100000, 1000000 * 1000, 10000000 * 64, 10000000 * 10000,
32x32 * 5x5, 128x128 * 64x64, 512x512 * 31x31, 1000x1000 * 1000x1000, 3000x3000 * 9x9, 3000x3000 * 100x100"""

POOLED = ((8, "3x3/2 64 @112"), (8, "2x2/2 64 @56 padded 0"), (100, "2x2/2 30 @24 padded 0"))
POOLS = (
    *(layer_of(function, *window) for function in ("max_pool", "avg_pool", "max_pool_grad") for window in POOLED),
    layer_of("col2im", 8, "3x3 64 @56"),
)


def run_filters(options: Options) -> None:
    """Time filters beside SciPy, and OpenCV where it is installed and has the function."""
    require_packages(("scipy",))
    opencv = importlib.import_module("cv2") if importlib.util.find_spec("cv2") else None
    run_comparisons("filters", load_backend("numpy"), filters(options.quick, opencv), options)


def filters(quick: bool, opencv: Any) -> Iterator[Comparison]:
    """All of them, one after the other."""
    for dtype in DTYPES:
        for shape, k in itertools.product(IMAGES, KERNELS):
            image, w = _random(shape, quick, dtype), _random((k, k), False, dtype)
            group, name = f"correlate {dtype}", f"{k}x{k} @{_name(shape)}"
            yield _both(group, name, "correlate", image, w, other=_opencv(opencv, "filter2D", image, -1, w))
        for shape in LARGE:
            yield from _smoothings(dtype, shape, _random(shape, quick, dtype), opencv)
        for shape, k in itertools.product(LARGE, WINDOWS):
            image, window = _random(shape, quick, dtype), np.ones((k, k), np.uint8)
            other = functools.partial(opencv.dilate, image, window) if opencv and image.ndim == 2 else None
            yield _both(f"maximum {dtype}", f"{k} @{_name(shape)}", "maximum_filter", image, k, other=other)
        for words in PAIRS.split(","):
            shapes = [tuple(map(int, shape.split("x"))) for shape in words.split("*")]
            yield _pair(dtype, words.strip(), *(_random(shape, quick, dtype) for shape in shapes))
    for shape in IMAGES:
        image = np.random.default_rng(0).integers(0, 256, _size(shape, quick)).astype("uint8")
        yield _both("uint8 correlate 5x5", _name(shape), "correlate", image, random((5, 5)))


def _smoothings(dtype: str, shape: Ints, image: np.ndarray, opencv: Any) -> Iterator[Comparison]:
    both = functools.partial(_both, f"smooth {dtype}")
    for sigma in SIGMAS:
        k = 2 * TRUNCATED * sigma + 1
        other = _opencv(opencv, "GaussianBlur", image, (k, k), sigma)
        yield both(f"gaussian {sigma} @{_name(shape)}", "gaussian_filter", image, sigma, other=other)
    other = _opencv(opencv, "blur", image, (9, 9))
    yield both(f"uniform 9 @{_name(shape)}", "uniform_filter", image, 9, other=other)
    yield both(f"sobel @{_name(shape)}", "sobel", image, other=_opencv(opencv, "Sobel", image, -1, 1, 0))


def _opencv(opencv: Any, function: str, image: np.ndarray, *arguments: Any) -> Call | None:
    """OpenCV's call with SciPy's border, which it has for images alone."""
    if opencv is None or image.ndim != 2:
        return None
    return functools.partial(getattr(opencv, function), image, *arguments, borderType=opencv.BORDER_REFLECT)


def _both(group: str, name: str, function: str, *arguments: Any, other: Call | None = None) -> Comparison:
    """xconv's and SciPy's function of that name, and maybe OpenCV's."""
    ours, theirs = (getattr(module, function) for module in (xconv.ndimage, importlib.import_module("scipy.ndimage")))
    calls = {XCONV: functools.partial(ours, *arguments), "scipy": functools.partial(theirs, *arguments)}
    return Comparison(group, name, calls | ({"opencv": other} if other else {}))


def _pair(dtype: str, name: str, x: np.ndarray, w: np.ndarray) -> Comparison:
    """SciPy's convolutions as it chooses, in blocks, and by one transform."""
    theirs = {"scipy": "convolve", "in blocks": "oaconvolve", "by fft": "fftconvolve"}
    scipy = importlib.import_module("scipy.signal")
    calls = {side: functools.partial(getattr(scipy, function), x, w) for side, function in theirs.items()}
    return Comparison(f"convolve {dtype}", name, {XCONV: functools.partial(xconv.signal.convolve, x, w), **calls})


def _random(shape: Ints, quick: bool, dtype: str) -> np.ndarray:
    return random(_size(shape, quick)).astype(dtype)


def _size(shape: Ints, quick: bool) -> Ints:
    return tuple(min(d, QUICK_SIZE) for d in shape) if quick else shape


def _name(shape: Ints) -> str:
    return "x".join(map(str, shape))


def run_pools(options: Options) -> None:
    """Time pools and col2im beside PyTorch, as somebody with NumPy's arrays would call it."""
    torch = load_backend("torch").module
    comparisons = (of_pool(shrunk(pool, options.quick), torch) for pool in POOLS)
    run_comparisons("pools", load_backend("numpy"), comparisons, options)


def of_pool(pool: Layer, torch: ModuleType) -> Comparison:
    """What is done with windows of one size, on both sides, which call the keywords by the same names."""
    make = {"max_pool_grad": _max_pool_grad, "col2im": _col2im}.get(pool.suite, _pool)
    words = {"stride": pool.stride, "padding": pool.padding}
    ours, theirs = make(pool, torch, words)
    return Comparison(pool.suite, pool.name, {XCONV: ours, "torch": theirs})


def _pool(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    x, peer = random(pool.input_shape), getattr(torch.nn.functional, f"{pool.suite}2d")
    return (
        functools.partial(getattr(xconv, pool.suite), x, pool.kernel_size, **words),
        lambda: peer(torch.from_numpy(x), pool.kernel_size, **words).numpy(),
    )


def _max_pool_grad(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    """PyTorch's gradient needs what its forward found, and xconv's finds it anew: both start from x."""
    x, dy, convert = random(pool.input_shape), random(pool.output_shape), torch.from_numpy

    def forward_and_backward() -> np.ndarray:
        with torch.enable_grad():
            leaf = convert(x).requires_grad_()
            y = torch.nn.functional.max_pool2d(leaf, pool.kernel_size, **words)
            return np.asarray(torch.autograd.grad(y, leaf, convert(dy))[0])

    return functools.partial(xconv.max_pool_grad, dy, x, pool.kernel_size, **words), forward_and_backward


def _col2im(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    """Each side has its windows as it lays them out: PyTorch's are columns, sample by sample."""
    (batch, channels, *size), peer = pool.input_shape, torch.nn.functional.fold
    positions, taps = math.prod(pool.output_shape[2:]), channels * math.prod(pool.kernel_size)
    rows = random((batch * positions, taps))
    columns = np.ascontiguousarray(np.moveaxis(rows.reshape(batch, positions, taps), 1, 2))
    return (
        functools.partial(xconv.col2im, rows, pool.input_shape, pool.kernel_size, **words),
        lambda: peer(torch.from_numpy(columns), size, pool.kernel_size, **words).numpy(),
    )
