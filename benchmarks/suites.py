"""What is timed: layers and pools beside others', what "auto" chooses, filters beside SciPy's, Dask's arrays."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import math
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import array_api_compat
import numpy as np

import xconv
import xconv.ndimage
import xconv.signal
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError, require_packages

from .comparison import Case, Options, Sides, carry_out
from .layers import QUICK_SIZE, SUITES, Ints, Layer, draw_layers, random, shrunk
from .peers import BY_HAND, FORWARD, FUNCTIONS, INPUT_GRAD, OPERATIONS, POOLED, XCONV, Peer, Problem, load_peers, own
from .timing import THOROUGH, Call, Limits, wait_until_quiet

CHOICE = Limits(5, 50, sample_seconds=1e-3, wake_seconds=5e-3, total_seconds=1.5, settle=wait_until_quiet)

# Winograd by hand is timed where "auto" may take it: where its error in float32 stays below 1e-5 of the largest
# output. That a faster method is less exact is not a loss.
EXACT_KERNEL, EXACT_CHANNELS = 3, 512


def run_layers(options: Options) -> None:
    """Time the suites, or all, on the backend beside the peers."""
    names = [suite for suite in options.suites if suite in SUITES] or [suite for suite in SUITES if suite != "pool"]
    _time("layers", [layer for name in names for layer in SUITES[name]], OPERATIONS, options.peers, options)


def run_pools(options: Options) -> None:
    """The same of what is done with windows alone."""
    _time("pool", SUITES["pool"], POOLED, options.peers, options)


def run_choice(options: Options) -> None:
    """Time all methods on layers that were drawn, and print what "auto" loses."""
    layers, notes = draw_layers(options.layers, options.seed), [f"Layers of seed {options.seed}."]
    _time("choice", layers, OPERATIONS, ["methods"], options, notes, CHOICE)


def _time(
    kind: str,
    layers: Sequence[Layer],
    operations: Sequence[str],
    names: Sequence[str] | None,
    options: Options,
    notes: Sequence[str] = (),
    thorough: Limits = THOROUGH,
) -> None:
    library = load_backend(options.backend)
    peers, missing = load_peers(library, names)
    sized = [replace(one, input_shape=(options.batch or one.input_shape[0], *one.input_shape[1:])) for one in layers]
    cases = [
        case_of(shrunk(layer) if options.quick else layer, operation, options.dtype, peers, library)
        for layer in sized
        for operation in operations
    ]
    carry_out(kind, library, cases, options, [*missing, *notes], thorough)


def case_of(layer: Layer, operation: str, dtype: str, peers: Mapping[str, Peer], library: LoadedBackend) -> Case:
    """An operation by the peers, beside the result in float64, and what "auto" takes."""

    def sides() -> Sides:
        arrays, facts = layer.arrays(dtype), {}
        problem = Problem(layer, *map(library.from_numpy, arrays))
        if operation in FUNCTIONS:
            xp = array_api_compat.array_namespace(problem.x)
            words = {"xp": xp, "dtype": problem.x.dtype, "function": FUNCTIONS[operation], **layer.keywords}
            facts["chosen"] = xconv.choose_method(layer.input_shape, layer.weight_shape, **words)
        calls = {name: peer(problem, operation) for name, peer in peers.items() if may_be(name, layer, operation)}
        return Sides(calls, expected_result(layer, operation, arrays, library), facts)

    return Case(layer.suite if dtype == "float32" else f"{layer.suite} {dtype}", layer.name, operation, sides)


def expected_result(layer: Layer, operation: str, arrays: Sequence[np.ndarray], library: LoadedBackend) -> Any:
    """That of the arrays' numbers in float64, by the method that adds nothing to rounding; a GPU finds its own."""
    library = library if library.name == "cupy" else load_backend("numpy")
    problem = Problem(layer, *(library.from_numpy(array.astype("float64")) for array in arrays))
    call = own(library, "im2col" if operation in FUNCTIONS else "auto")(problem, operation)
    return cast(Call, call)()


def may_be(side: str, layer: Layer, operation: str) -> bool:
    """Whether a side can be asked: pools have no methods, and Winograd by hand is none where it is not exact enough."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    exact = max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS
    return (operation in FUNCTIONS or BY_HAND not in side) and (exact or side != BY_HAND + "winograd")


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


# Arrays of Dask's.
PIXELS, CHUNK, K, SIGMA = 8192, 1024, 7, 2
THREADS = 2  # of Dask's, of which each computes on one core
# Words, a function with its keyword and value, and how far it reaches.
FILTERED: tuple[tuple[str, str, str, Any, int], ...] = (
    (f"correlate {K}x{K}", "correlate", "weights", random((K, K)), K // 2),
    (f"gaussian {SIGMA}", "gaussian_filter", "sigma", SIGMA, 4 * SIGMA),
)

CHANNELS, LAYER, ROWS = 32, 2048, 512  # in chunks of 128 MiB, which is how large Dask makes them by itself
REPEATS = 2  # of a layer at once: what a graph takes to be sent and to end is then little
# One more before each: memory that nobody has used for a while comes slowly, and only to what needs more.
TRIALS = Limits(3, 3, sample_seconds=0, wake_seconds=0, total_seconds=0, short=math.inf)
# What watches workers takes a tenth of a processor, of which one is free beside one worker, and none beside two.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
WORKERS = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "host": "127.0.0.1"}


def run_chunked(options: Options) -> None:
    """Time filters of an image that is in memory, each summed: nothing else is kept of what is as large."""
    require_packages(("scipy", "dask.array", "dask_image"))
    import dask

    pixels, chunk = (64, 32) if options.quick else (PIXELS, CHUNK)
    image = importlib.import_module("dask.array").random.default_rng(0).random((pixels, pixels), chunks=chunk)
    image = image.astype(np.float32).persist()
    what = f"@{pixels}x{pixels} by {chunk}x{chunk}"
    cases = [
        Case("filter", f"{one[0]} {what}", "sum", functools.partial(_filtered, image, *one[1:])) for one in FILTERED
    ]
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        carry_out("chunked", load_backend("numpy"), cases, options)


def _filtered(image: Any, function: str, keyword: str, value: Any, depth: int) -> Sides:
    map_overlap = importlib.import_module("dask.array").map_overlap
    blockwise = getattr(importlib.import_module("scipy.ndimage"), function)
    words = {keyword: value, "depth": depth, "boundary": "reflect"}
    filters: dict[str, Callable[[], Any]] = {
        XCONV: lambda: getattr(xconv.ndimage, function)(image, value),
        "dask-image": lambda: getattr(importlib.import_module("dask_image.ndfilters"), function)(image, value),
        "map_overlap": lambda: map_overlap(blockwise, image, **words),
    }

    def summed(side: str) -> np.ndarray:
        return np.asarray(filters[side]().sum(dtype=np.float64).compute())

    calls = {side: functools.partial(summed, side) for side in filters}
    held = ", ".join(f"{side} {_held(call):.1f}" for side, call in calls.items())
    return Sides(calls, note=f"MB held beyond the image, {function}: {held}.")


def _held(call: Call) -> float:
    """MB, with what threads keep: these are new for each side."""
    import dask

    tracemalloc.start()
    with ThreadPoolExecutor(THREADS) as pool, dask.config.set(pool=pool):
        call()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


def run_workers(options: Options) -> None:
    """Time two workers beside each of them, pinned to processors of their own."""
    require_packages(("dask.array", "distributed"))
    pixels, rows = (2 * CHANNELS, CHANNELS) if options.quick else (LAYER, ROWS)
    what = f"{CHANNELS}-{CHANNELS} 3x3 @{pixels}x{pixels} by {rows}x{pixels}, {REPEATS} times"
    with contextlib.ExitStack() as stack:
        case = Case("two workers", what, "forward", functools.partial(_of_workers, pixels, rows, stack))
        carry_out("workers", load_backend("numpy"), [case], options, thorough=TRIALS)


def _of_workers(pixels: int, rows: int, stack: contextlib.ExitStack) -> Sides:
    """Each worker has an image of its own, and half of one that both share."""
    import dask
    from dask.core import flatten
    from dask.distributed import Client, LocalCluster, wait

    da, w, numbers = importlib.import_module("dask.array"), _positive(CHANNELS, CHANNELS, 3, 3), itertools.count()
    stack.enter_context(dask.config.set(UNWATCHED))
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    client = stack.enter_context(Client(stack.enter_context(LocalCluster(local_directory=folder, **WORKERS))))
    client.run(_pin)

    def image(addresses: list[str]) -> Any:
        chunks = (1,), (CHANNELS,), (rows,) * (pixels // rows), (pixels,)
        x = da.map_blocks(_chunk, chunks=chunks, dtype=np.float32, name=f"image-{next(numbers)}")
        each = {key: addresses[key[3] * len(addresses) // x.numblocks[2]] for key in flatten(x.__dask_keys__())}
        with dask.annotate(workers=each.get):
            x = client.persist(x, optimize_graph=False)
        wait(x)
        return x

    def call(x: Any, addresses: list[str]) -> np.ndarray:
        powers = [np.float32(2.0 ** -next(numbers)) for _ in range(REPEATS)]  # no sum is known already
        sums = [xconv.conv(x, w * power, padding=1).sum() for power in powers]
        return np.array(client.gather(client.compute(sums, workers=addresses))) / powers

    first, second = client.scheduler_info()["workers"]
    sides = {XCONV: [first, second], "first": [first], "second": [second]}
    return Sides({side: functools.partial(call, image(addresses), addresses) for side, addresses in sides.items()})


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
