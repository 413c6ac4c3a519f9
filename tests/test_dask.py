"""Chunked arrays of Dask: lazily what a call on whole arrays gives, whatever the chunks are."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import calls
import numpy as np
import pytest

import xconv
from xconv import ndimage, signal

dask = pytest.importorskip("dask", reason="dask is not installed")
da = pytest.importorskip("dask.array", reason="dask's arrays are not installed")
EXPRESSIONS = {"array.query-planning": True}  # Dask's other mode, which is read before its arrays are imported
MODES = ["zeros", "circular", "reflect", "symmetric", "replicate"]
BORDERS = ["reflect", "constant", "nearest", "mirror", "wrap"]


@pytest.fixture(autouse=True)
def synchronous():
    with dask.config.set(scheduler="sync"):
        yield


def lengths(rng, size):
    """Uneven chunks of an axis, some of one element, and now and then one of none."""
    cuts = sorted(rng.integers(0, size + 1, rng.integers(0, 4)).tolist())
    found = [stop - start for start, stop in itertools.pairwise([0, *cuts, size])]
    return tuple(found if rng.random() < 0.2 else [length for length in found if length] or [0])


def chunked(rng, array):
    return da.from_array(array, chunks=tuple(lengths(rng, size) for size in array.shape))


def integers(rng, shape):
    return rng.integers(-4, 5, shape)


def assert_same(lazy, expected, dtype=None, exact=True):
    """Known before it is computed, and in the chunks that it says."""
    expected = np.asarray(expected, dtype=dtype)
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype, lazy._meta.dtype) == (expected.shape, expected.dtype, expected.dtype)
    found = lazy.compute()
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if exact:
        assert np.array_equal(found, expected, equal_nan=True)
    else:
        assert np.allclose(found, expected, rtol=1e-12, atol=1e-10)


def draw_convolution(rng):
    """(x, w, b, keywords): one to three axes, windows that may lie in the padding altogether.

    Half are floats that are integers: only those are read in pieces, and their direct sums are exact.
    """
    n, groups = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    channels, filters = groups * rng.integers(1, 3, 2)
    size = rng.integers(1, 14 if n < 3 else 6, n)
    x = integers(rng, (rng.integers(0, 3) or 1, channels, *size))
    w = integers(rng, (filters, channels // groups, *rng.integers(1, 5, n)))
    words = {
        "stride": rng.integers(1, 6, n).tolist(),
        "dilation": rng.integers(1, 3, n).tolist(),
        "padding": rng.integers(0, 6, (n, 2)).tolist() if rng.random() < 0.7 else str(rng.choice(["full", "same"])),
        "groups": groups,
        "flip": bool(rng.integers(0, 2)),
        "padding_mode": str(rng.choice(MODES)),
        "channel_axis": int(rng.choice([1, -1])),
    }
    b = integers(rng, filters)
    if rng.random() < 0.5:
        x, w, b, words["method"] = x.astype(float), w.astype(float), b.astype(float), "direct"
    return (np.moveaxis(x, 1, -1) if words["channel_axis"] == -1 else x), w, b, words


def check_convolution(rng):
    """conv and its gradients; whether the case was legal."""
    x, w, b, words = draw_convolution(rng)
    lazy, filters = chunked(rng, x), chunked(rng, w) if rng.random() < 0.3 else w
    try:
        y = xconv.conv(x, w, b, **words)
    except ValueError as error:
        with pytest.raises(ValueError, match="^" + str(error).split(" ")[0]):
            xconv.conv(lazy, filters, b, **words)
        return False
    assert_same(xconv.conv(lazy, filters, b, **words), y)
    dy = integers(rng, y.shape).astype(x.dtype)
    lazy_dy = chunked(rng, dy)
    gradients = xconv.conv_backward(lazy_dy, lazy, filters, **words)
    for found, expected in zip(gradients, xconv.conv_backward(dy, x, w, **words), strict=True):
        assert_same(found, expected)
    assert_same(xconv.conv_input_grad(lazy_dy, w, x.shape, **words), xconv.conv_input_grad(dy, w, x.shape, **words))
    return True


def check_transposed(rng):
    x, w, _, words = draw_convolution(rng)
    w = integers(rng, (x.shape[words["channel_axis"]], w.shape[1], *w.shape[2:])).astype(x.dtype)
    words["output_padding"] = [
        int(rng.integers(0, max(pair))) for pair in zip(words["stride"], words["dilation"], strict=True)
    ]
    b = integers(rng, w.shape[1] * words["groups"]).astype(x.dtype)
    lazy = chunked(rng, x)
    try:
        y = xconv.conv_transpose(x, w, b, **words)
    except ValueError:
        with pytest.raises(ValueError, match=r"must|got"):
            xconv.conv_transpose(lazy, w, b, **words)
        return False
    assert_same(xconv.conv_transpose(lazy, w, b, **words), y)
    dy = integers(rng, y.shape).astype(x.dtype)
    found = xconv.conv_transpose_backward(chunked(rng, dy), lazy, w, **words)
    for one, expected in zip(found, xconv.conv_transpose_backward(dy, x, w, **words), strict=True):
        assert_same(one, expected)
    return True


def check_pools(rng):
    n = int(rng.integers(1, 3))
    x = integers(rng, (*rng.integers(1, 4, 2), *rng.integers(1, 12, n))).astype(float)
    kernel = rng.integers(1, 4, n).tolist()
    windows = {
        "stride": rng.integers(1, 5, n).tolist(),
        "dilation": rng.integers(1, 3, n).tolist(),
        "padding": rng.integers(0, 4, (n, 2)).tolist(),
    }
    words = windows | {"ceil_mode": bool(rng.integers(0, 2)), "channel_axis": int(rng.choice([1, -1]))}
    image = np.moveaxis(x, 1, -1) if words["channel_axis"] == -1 else x
    lazy = chunked(rng, image)
    try:
        y, indices = xconv.max_pool(image, kernel, return_indices=True, **words)
    except ValueError:
        return False
    found = xconv.max_pool(lazy, kernel, return_indices=True, **words)
    for one, expected in zip(found, (y, indices), strict=True):
        assert_same(one, expected)
    dy = integers(rng, y.shape).astype(float)
    lazy_dy = chunked(rng, dy)
    assert_same(xconv.max_pool_grad(lazy_dy, lazy, kernel, **words), xconv.max_pool_grad(dy, image, kernel, **words))
    if words["dilation"] == [1] * n and not words["ceil_mode"] and not np.any(words["padding"]):
        unpooled = {"stride": words["stride"], "output_size": x.shape[2:], "channel_axis": words["channel_axis"]}
        assert_same(xconv.max_unpool(*found, kernel, **unpooled), xconv.max_unpool(y, indices, kernel, **unpooled))
    for counts in (True, False):
        try:
            mean = xconv.avg_pool(image, kernel, count_include_pad=counts, **words)
        except ValueError:
            continue
        shape = image.shape
        assert_same(xconv.avg_pool(lazy, kernel, count_include_pad=counts, **words), mean, exact=False)
        expected = xconv.avg_pool_grad(dy, shape, kernel, count_include_pad=counts, **words)
        assert_same(
            xconv.avg_pool_grad(lazy_dy, shape, kernel, count_include_pad=counts, **words), expected, exact=False
        )
    try:
        col = xconv.im2col(x, kernel, pad_value=3, **windows)
    except ValueError:
        return True
    assert_same(xconv.im2col(chunked(rng, x), kernel, pad_value=3, **windows), col)
    assert_same(
        xconv.col2im(chunked(rng, col), x.shape, kernel, **windows), xconv.col2im(col, x.shape, kernel, **windows)
    )
    return True


def check_filters(rng):
    """Some of `ndimage` on integers."""
    n = int(rng.integers(1, 4))
    x = rng.integers(0, 100, rng.integers(1, 12 if n < 3 else 7, n)).astype(
        str(rng.choice(["uint8", "int16", "int64"]))
    )
    lazy, words = chunked(rng, x), {"mode": str(rng.choice(BORDERS)), "cval": float(rng.integers(0, 5))}
    calls = filters_of(rng, n)
    for place in rng.choice(len(calls), 3, replace=False):
        function, arguments, keywords = calls[place]
        assert_same(function(lazy, *arguments, **keywords, **words), function(x, *arguments, **keywords, **words))
    return True


def check_signals(rng):
    """Some of `signal` on integers: whether they have a result."""
    n, mode = int(rng.integers(1, 4)), str(rng.choice(["full", "same", "valid"]))
    some = [integers(rng, rng.integers(1, 9 if n < 3 else 5, n)) for _ in range(2)]
    images = [integers(rng, rng.integers(1, 8, 2)) for _ in range(2)]
    border = {"boundary": str(rng.choice(["fill", "wrap", "symm"])), "fillvalue": int(rng.integers(0, 3))}
    rates, axis = rng.integers(1, 6, 2).tolist(), int(rng.integers(-2, 2))
    extension = str(rng.choice(sorted(xconv._plan.polyphase.EXTENSIONS)))
    legal = assert_signals(signal.convolve, some, rng, mode, "direct", exact=True)
    legal &= assert_signals(signal.correlate, some, rng, mode, "direct", exact=True)
    legal &= assert_signals(signal.convolve2d, images, rng, mode, exact=True, **border)
    legal &= assert_signals(signal.correlate2d, images, rng, mode, exact=True, **border)
    line = integers(rng, rng.integers(1, 9)), images[0].astype(float)
    return legal & assert_signals(signal.upfirdn, line, rng, *rates, axis, extension, int(rng.integers(0, 2)))


CHECKS = {
    "convolution": check_convolution,
    "transposed": check_transposed,
    "pools": check_pools,
    "filters": check_filters,
    "signals": check_signals,
}
EXAMPLES = int(os.environ.get("XCONV_DASK_EXAMPLES", "40"))  # of each; what was tried is in the README


@pytest.mark.parametrize("check", CHECKS)
def test_drawn_calls_equal_those_of_whole_arrays(check):
    legal = sum([CHECKS[check](np.random.default_rng(seed)) for seed in range(EXAMPLES)])
    assert legal > EXAMPLES / 3


def test_drawn_calls_with_expressions():
    """Dask's mode of expressions is chosen before its arrays are imported, so by a process of its own."""
    script = (
        f"import dask, sys; dask.config.set({EXPRESSIONS}); sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import numpy as np, test_dask, dask.array as da\n"
        "assert da.array_expr_enabled()\n"
        "with dask.config.set(scheduler='sync'):\n"
        f"    print(sum(check(np.random.default_rng(s)) for s in range({EXAMPLES // 5}) for check in "
        "test_dask.CHECKS.values()))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > EXAMPLES / 5


def filters_of(rng, n):
    """Calls of `ndimage` that suit an array of n axes: (function, arguments, keywords)."""
    axis = int(rng.integers(0, n))
    kernel = rng.integers(1, 5, n).tolist()
    weights = integers(rng, kernel).astype(float)
    origin = [int(rng.integers(-(k // 2), (k - 1) // 2 + 1)) for k in kernel]

    def second(x, along, output, mode, cval):
        return ndimage.correlate1d(x, [1, -2, 1], along, output, mode, cval)

    footprint = rng.random(kernel) > 0.3
    footprint.flat[0] = True
    return [
        (ndimage.correlate, (weights,), {"origin": origin}),
        (ndimage.convolve, (weights,), {}),
        (ndimage.correlate1d, ([1.0, 2, -1, 0.5],), {"axis": axis}),
        (ndimage.convolve1d, ([1.0, 2, -1],), {"axis": axis, "origin": -1}),
        (ndimage.uniform_filter, (3,), {}),
        (ndimage.uniform_filter1d, (4,), {"axis": axis}),
        (ndimage.gaussian_filter, (1.3,), {}),
        (ndimage.gaussian_filter1d, (0.7,), {"axis": axis, "order": 1}),
        (ndimage.sobel, (axis,), {}),
        (ndimage.prewitt, (axis,), {}),
        (ndimage.laplace, (), {}),
        (ndimage.generic_laplace, (second,), {}),
        (ndimage.gaussian_laplace, (0.9,), {}),
        (ndimage.gaussian_gradient_magnitude, (0.9,), {}),
        (ndimage.maximum_filter, (3,), {}),
        (ndimage.minimum_filter, (), {"footprint": footprint}),
        (ndimage.maximum_filter1d, (3,), {"axis": axis}),
        (ndimage.minimum_filter1d, (4,), {"axis": axis}),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_ndimage(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    x = rng.integers(0, 100, rng.integers(1, 11, n)).astype(["float64", "uint8", "int16"][seed % 3])
    lazy = chunked(rng, x)
    words = {"mode": BORDERS[seed % 5], "cval": float(rng.integers(0, 5))}
    for function, arguments, keywords in filters_of(rng, n):
        found = function(lazy, *arguments, **keywords, **words)
        assert found.chunks == tuple(tuple(length for length in some if length) or (0,) for some in lazy.chunks)
        assert_same(found, function(x, *arguments, **keywords, **words), exact=x.dtype.kind in "iu")


@pytest.mark.parametrize("mode", BORDERS)
def test_tall_chunks_are_filtered_by_strips(mode):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (431, 7)).astype(float)
    lazy = da.from_array(x, chunks=((190, 240, 1), (3, 4)))
    dense = [(ndimage.correlate, (rng.random((5, 3)),), {}), (ndimage.convolve, (rng.random((4, 2)),), {})]
    for function, arguments, keywords in [*dense, *filters_of(rng, 2)]:
        expected = function(x, *arguments, **keywords, mode=mode, cval=2)
        assert_same(function(lazy, *arguments, **keywords, mode=mode, cval=2), expected, exact=False)


def test_every_function_of_ndimage_is_tried():
    tried = {function.__name__ for function, *_ in filters_of(np.random.default_rng(0), 2)}
    assert tried == set(ndimage.__all__)


def assert_signals(function, arrays, rng, *arguments, exact=False, **words):
    """Either array may be the chunked one, or both. Whether there is a result."""
    try:
        expected = function(*arrays, *arguments, **words)
    except ValueError:
        with pytest.raises(ValueError, match=r"must|same|mode|empty"):
            function(*[chunked(rng, array) for array in arrays], *arguments, **words)
        return False
    for which in ((True, False), (False, True), (True, True)):
        some = [chunked(rng, array) if cut else array for array, cut in zip(arrays, which, strict=True)]
        assert_same(function(*some, *arguments, **words), expected, exact=exact)
    return True


@pytest.mark.parametrize("seed", range(8))
def test_signal(seed):
    rng = np.random.default_rng(seed)
    mode, method = ["full", "same", "valid"][seed % 3], ["auto", "direct", "fft"][seed // 3 % 3]
    n = int(rng.integers(1, 3))
    x, w = integers(rng, rng.integers(1, 9, n)), integers(rng, rng.integers(1, 6, n))
    x = x + 1j * x[::-1] if seed % 2 else x.astype(float)
    for function in (signal.convolve, signal.correlate):
        assert_signals(function, (x, w), rng, mode, method)
    stacked = [integers(rng, (rng.choice([1, 3]), *rng.integers(1, 7, n))) for _ in range(2)]
    for function in (signal.fftconvolve, signal.oaconvolve):
        assert_signals(function, stacked, rng, mode, axes=tuple(range(1, n + 1)))
    images = [integers(rng, rng.integers(1, 7, 2)) for _ in range(2)]
    for function in (signal.convolve2d, signal.correlate2d):
        assert_signals(
            function, images, rng, mode, boundary=["fill", "wrap", "symm"][seed // 2 % 3], fillvalue=seed % 3
        )


@pytest.mark.parametrize("mode", sorted(xconv._plan.polyphase.EXTENSIONS))
def test_upfirdn(mode):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        h, x = integers(rng, rng.integers(1, 9)), integers(rng, rng.integers(1, 12, 2)).astype(float)
        up, down, axis = (int(value) for value in rng.integers((1, 1, -2), (5, 5, 2)))
        assert_signals(signal.upfirdn, (h, x), rng, up, down, axis, mode, seed % 2)


NAMED = {
    "windows wholly in the padding": ((1, 1, 3), (1, 1, 2), {"padding": 5}, ((1,), (1,), (1, 2))),
    "input that no window reads": ((1, 1, 11), (1, 1, 2), {"stride": 4}, ((1,), (1,), (1, 4, 6))),
    "stride larger than the kernel": ((1, 2, 13), (3, 2, 2), {"stride": 5, "padding": 1}, ((1,), (2,), (3, 3, 3, 4))),
    "every overlap": ((2, 1, 5, 4), (1, 1, 7, 6), {"padding": "full"}, ((1, 1), (1,), (2, 3), (1, 3))),
    "an empty batch": ((0, 2, 5), (3, 2, 3), {"padding": 1}, ((0,), (2,), (2, 3))),
    "a border wider than a chunk": (
        (1, 1, 9),
        (1, 1, 8),
        {"padding": 12, "padding_mode": "reflect"},
        ((1,), (1,), (2,) * 4 + (1,)),
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_cases(name):
    shape, filters, words, chunks = NAMED[name]
    rng = np.random.default_rng(0)
    x, w = integers(rng, shape), integers(rng, filters)
    lazy, y = da.from_array(x, chunks=chunks), xconv.conv(x, w, **words)
    found = xconv.conv(lazy, w, **words)
    assert_same(found, y)
    dy = integers(rng, y.shape)
    gradients = xconv.conv_backward(da.from_array(dy, chunks=found.chunks), lazy, w, **words)
    for one, expected in zip(gradients, xconv.conv_backward(dy, x, w, **words), strict=True):
        assert_same(one, expected)
    assert gradients[0].chunks == lazy.chunks


@pytest.mark.parametrize("shape", [(0, 5), (6, 0)])
@pytest.mark.parametrize("mode", BORDERS)
def test_empty_images(shape, mode):
    x, lazy = np.zeros(shape), da.zeros(shape, chunks=2)
    for function, arguments, keywords in filters_of(np.random.default_rng(0), 2):
        expected = function(x, *arguments, **keywords, mode=mode)
        assert_same(function(lazy, *arguments, **keywords, mode=mode), expected)


@pytest.mark.parametrize("names", ["dy", "x", "w", "dy w", "x w", "dy x"])
def test_any_of_the_operands_may_be_the_chunked_one(names):
    rng = np.random.default_rng(0)
    arrays = {"dy": integers(rng, (1, 3, 7, 7)), "x": integers(rng, (1, 2, 9, 9)), "w": integers(rng, (3, 2, 3, 3))}
    some = [chunked(rng, array) if name in names.split() else array for name, array in arrays.items()]
    for found, expected in zip(xconv.conv_backward(*some), xconv.conv_backward(*arrays.values()), strict=True):
        assert_same(found, expected)
    dy, x, w = some
    for found, expected in zip(
        xconv.conv_transpose_backward(x, dy, w),
        xconv.conv_transpose_backward(arrays["x"], arrays["dy"], arrays["w"]),
        strict=True,
    ):
        assert_same(found, expected)


def test_chunks_of_pytorch(torch_backend):
    """Whose slices have no negative steps."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = np.random.default_rng(0).normal(size=(9, 11))
    lazy = da.from_array(x, chunks=(4, 5)).map_blocks(torch.asarray, meta=torch.empty((0, 0), dtype=torch.float64))
    tasks = ndimage.gaussian_filter(lazy, 1, mode="mirror").to_delayed().ravel().tolist()
    found = dask.compute(*tasks)
    assert all(isinstance(chunk, torch.Tensor) for chunk in found)
    assert np.allclose(found[0], ndimage.gaussian_filter(x, 1, mode="mirror")[:4, :5])
    images, w = x[None, None], torch.ones((2, 1, 3, 3), dtype=torch.float64)
    gradients = xconv.conv_backward(xconv.conv(lazy[None, None], w, padding=1), lazy[None, None], w, padding=1)
    expected = xconv.conv_backward(xconv.conv(images, w.numpy(), padding=1), images, w.numpy(), padding=1)
    for one, other in zip(gradients[1:], expected[1:], strict=True):  # each of them one chunk
        (chunk,) = dask.compute(*one.to_delayed().ravel().tolist())
        assert isinstance(chunk, torch.Tensor)
        assert np.allclose(chunk, other)


def test_one_element_of_a_chunk_is_no_narrower_than_the_result():
    """uint8 by uint8 are float64 by transforms, though an array of one element is multiplied as it is."""
    x, w = np.array([200, 100], dtype=np.uint8), np.array([3, 90], dtype=np.uint8)
    for function in (signal.fftconvolve, signal.oaconvolve):
        assert_same(function(da.from_array(x, chunks=1), w), function(x, w), exact=False)
    number = np.asarray(2.0)
    assert_same(signal.fftconvolve(da.asarray(number), da.asarray(number)), signal.fftconvolve(number, number))
    assert_same(signal.fftconvolve(da.ones(3), da.ones(0)), signal.fftconvolve(np.ones(3), np.ones(0)))


@pytest.mark.parametrize("chunks", [(1, 1, 4), (1, 1, 3), (1, 3, 8)])
def test_windows_of_no_sample(chunks):
    x = np.zeros((0, 3, 8))
    assert_same(xconv.im2col(da.zeros((0, 3, 8), chunks=chunks), 2), xconv.im2col(x, 2))
    col = xconv.im2col(x, 2)
    assert_same(xconv.col2im(da.from_array(col, chunks=(1, 3)), x.shape, 2), xconv.col2im(col, x.shape, 2))


@pytest.mark.parametrize("mode", BORDERS)
def test_windows_wider_than_the_axis_are_read_once(mode):
    x = np.random.default_rng(0).random((30, 4))
    found = ndimage.uniform_filter(da.from_array(x, chunks=(3, 2)), (500, 3), mode=mode)
    assert len(dict(found.dask.layers[found.name])) < 20 * found.npartitions
    assert_same(found, ndimage.uniform_filter(x, (500, 3), mode=mode), exact=False)


def test_half_precision_is_summed_in_single():
    """65504 is the largest: sums over some of the chunks are larger, and cancel with the others'."""
    dy, x = np.full((1, 1, 64), 64, dtype=np.float16), np.full((1, 1, 64), 64, dtype=np.float16)
    x[..., 32:] *= -1
    assert_same(
        xconv.conv_weight_grad(*[da.from_array(one, chunks=(1, 1, 4)) for one in (dy, x)], 1), [[[0]]], np.float16
    )
    dy *= x
    dy[..., -1] = -4000
    lazy = [da.from_array(one, chunks=(1, 1, 4)) for one in (dy, x)]
    _, _, db = xconv.conv_backward(*lazy, np.ones((1, 1, 1), dtype=np.float16))
    assert_same(db, [96], np.float16)


class Source:
    """An array in a file, say, that counts how often it is read."""

    def __init__(self, values):
        self.values, self.reads = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, index):
        self.reads += 1
        return self.values[index]


@pytest.mark.parametrize("name", calls.CALLS)
def test_nothing_is_read_while_a_graph_is_built(name):
    arrays = calls.operands(name)
    sources = [Source(array) for array in arrays]
    rng = np.random.default_rng(0)
    lazy = [
        da.from_array(
            source, chunks=tuple(lengths(rng, size) for size in source.shape), asarray=False, meta=np.empty(0)
        )
        for source in sources
    ]
    found = calls.results(name, lazy)
    assert [source.reads for source in sources] == [0] * len(sources)
    for one, expected in zip(found, calls.results(name, arrays), strict=True):
        assert_same(one, expected, exact=False)
    assert all(source.reads for source in sources)


def products_of(n, count):
    """Calls of all kinds of arrays in so many chunks along each of n axes: the results of each."""
    x, dy = (da.full((1, 1, *(count * 8,) * n), value, chunks=(1, 1, *(8,) * n)) for value in (1.0, 2.0))
    image, w = da.full((count * 8,) * n, 1.0, chunks=8), np.ones((1, 1, *(3,) * n))
    words, kernel = {"stride": 1, "padding": 1}, (3,) * n
    half = xconv.max_pool(x, 2)
    half, numbers = (da.full(half.shape, 1, chunks=half.chunks) for _ in range(2))
    found = {
        "conv_transpose": xconv.conv_transpose(x, w, padding=1),
        "conv_transpose_backward": xconv.conv_transpose_backward(dy, x, w, padding=1),
        "stride": xconv.conv(x, w, padding=1, stride=2),
        "dx of a stride": xconv.conv_input_grad(half, w, x.shape, padding=1, stride=2),
        "im2col": xconv.im2col(x, 3, **words),
        "max_pool": xconv.max_pool(x, 3, **words, return_indices=True),
        "avg_pool": xconv.avg_pool(x, 3, **words),
        "max_pool_grad": xconv.max_pool_grad(dy, x, 3, **words),
        "max_pool_grad of a stride": xconv.max_pool_grad(half, x, 3, stride=2, padding=1),
        "avg_pool_grad": xconv.avg_pool_grad(dy, x.shape, 3, **words),
        "max_unpool": xconv.max_unpool(half, numbers, 2),
        "upfirdn": signal.upfirdn(np.ones(3), image, 2, 3),
    }
    for mode in MODES:
        found[f"conv, {mode}"] = xconv.conv(x, w, padding=1, padding_mode=mode)
        found[f"conv_backward, {mode}"] = xconv.conv_backward(dy, x, w, padding=1, padding_mode=mode)
        found[f"dw, {mode}"] = xconv.conv_weight_grad(dy, x, kernel, padding=1, padding_mode=mode)
    for mode in BORDERS:
        found[f"gaussian_filter, {mode}"] = ndimage.gaussian_filter(image, 1, mode=mode)
    for function, arguments, keywords in filters_of(np.random.default_rng(0), n):
        found[function.__name__] = function(image, *arguments, **keywords)
    for mode in ("full", "same", "valid"):
        found[f"convolve, {mode}"] = signal.convolve(image, np.ones(kernel), mode)
    return {name: results if isinstance(results, tuple) else (results,) for name, results in found.items()}


@pytest.mark.parametrize(("n", "count"), [(1, 20), (1, 2), (2, 12), (2, 3), (3, 4), (3, 2)])
def test_tasks_of_a_chunk(n, count):
    """Of each result at most 3^n - 1 that cut pieces, the product and its share of a sum."""
    for name, results in products_of(n, count).items():
        tasks = {key for found in results for key in found.dask if not str(key).startswith(("('full", "array"))}
        assert len(tasks) <= len(results) * (3**n + 1) * count**n, name


def test_chunks_that_read_alike_share_what_they_cut():
    """What is found out for a chunk is found out once for all but those at the ends: a graph of 4,096 is built soon."""
    y = xconv.conv(da.zeros((1, 1, 96, 96), chunks=(1, 1, 8, 8)), np.ones((1, 1, 3, 3)), padding=1)
    layer = dict(y.dask.layers[y.name])
    products = [task for key, task in layer.items() if key[0] == y.name]
    cuts = [task for key, task in layer.items() if str(key[0]).startswith("cut")]
    assert (len(products), len({id(task.args[3]) for task in products})) == (144, 9)
    assert len({id(task.args[1]) for task in cuts}) <= 9 * 8 < len(cuts)


def test_pieces_of_several_operands_are_cut_at_once():
    x, dy = (da.full((1, 1, 48, 48), value, chunks=(1, 1, 4, 4)) for value in (1.0, 2.0))
    dx = xconv.max_pool_grad(dy, x, 3, stride=1, padding=1)
    assert len(dict(dx.dask.layers[dx.name])) <= 9 * 144


@pytest.mark.parametrize(("k", "nodes"), [(3, 0), (65, 1)])
def test_small_filters_are_within_tasks(k, nodes):
    """As inputs of their own they would be on all workers, which then are good for any task, wherever its chunk is."""
    w = np.random.default_rng(0).random((1, 1, k, k))
    x = da.random.default_rng(0).random((1, 1, 128, 128), chunks=(1, 1, 64, 64))
    y = xconv.conv(x, w, padding="same")
    layer = dict(y.dask.layers[y.name])
    assert sum([not isinstance(key, tuple) for key in layer]) == nodes
    inputs = {
        key[0] for place in itertools.product(range(2), repeat=2) for key in layer[y.name, 0, 0, *place].dependencies
    }
    assert inputs == ({x.name, f"cut-{x.name}"} if nodes == 0 else inputs)
    assert_same(y, xconv.conv(x.compute(), w, padding="same"), exact=False)


def test_results_that_are_computed_together_share_pieces():
    x = da.zeros((1, 2, 32, 32), chunks=(1, 2, 8, 8))
    w = np.ones((3, 2, 3, 3))
    dy = xconv.conv(x, w)
    _, dw, _ = xconv.conv_backward(dy, x, w)
    pieces = [{key for key in found.dask if key[0] == f"cut-{x.name}"} for found in (xconv.conv(x, w), dw)]
    assert pieces[0]
    assert pieces[0] == pieces[1]


def indices(task):
    """What a task cuts."""
    return task.args[0] if isinstance(task.args[0], tuple) else [task.args[1]]


@pytest.mark.parametrize("function", [xconv.conv, ndimage.correlate])
def test_no_more_than_the_halo_crosses_a_cut(function):
    """Two workers have half of the columns each: what the one's tasks read of the other's chunks."""
    size, k, count = 64, 5, 4
    image = da.zeros((count * size, count * size), chunks=(size, size), dtype=np.float32)
    w = np.ones((k, k), dtype=np.float32)
    y = (
        ndimage.correlate(image, w)
        if function is ndimage.correlate
        else xconv.conv(image[None, None], w[None, None], padding="same")
    )
    layer = dict(y.dask.layers[y.name])
    crossing = 0
    for key, task in layer.items():
        if isinstance(key, tuple) and key[0] == y.name:
            for other in task.dependencies:
                column = other[y.ndim] if isinstance(other, tuple) else key[-1]
                if (column < count // 2) != (key[-1] < count // 2):
                    for index in indices(layer[other]):
                        crossing += 4 * math.prod([len(range(*part.indices(size))) for part in index[-2:]])
    halo = 4 * 2 * (k // 2) * count * size
    assert halo <= crossing <= 1.1 * halo


def test_memory_grows_with_neither_rows_nor_neighbours():
    """A sum over the filtered rows of a tall image holds a few rows of chunks."""
    peaks = []
    for rows in (8, 32):
        x = da.random.default_rng(0).random((rows * 128, 6 * 128), chunks=(128, 128))
        total = xconv.conv(x[None, None], np.ones((1, 1, 3, 3)), padding=1).sum()
        tracemalloc.start()
        total.compute(scheduler="threads", num_workers=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    chunk = 128 * 128 * 8
    assert peaks[1] < 110 * chunk  # of 192
    assert peaks[1] < 3 * peaks[0]  # four times as many rows


@pytest.mark.parametrize("function", [ndimage.gaussian_filter, ndimage.uniform_filter, ndimage.correlate])
def test_a_filter_of_a_chunk_holds_little_besides_its_result(function):
    """Neighbours are joined for what is filtered next, not for all of the chunk, and in memory that threads keep."""
    x = da.random.default_rng(0).random((2048, 2048), np.float32, chunks=1024).persist()
    total = function(x, np.ones((5, 5), np.float32) if function is ndimage.correlate else 2).sum()
    total.compute()  # so that all is loaded
    for count in (1, 2):
        with ThreadPoolExecutor(count) as pool:  # whose threads keep no memory yet
            tracemalloc.start()
            total.compute(scheduler="threads", pool=pool)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        # For each thread a chunk, and of boxes and strips as much, all at once at most; 2.7 where boxes are 2**18.
        assert peak < 2.1 * count * 2**22


@pytest.mark.parametrize("product", ["forward", "input_grad", "weight_grad"])
def test_a_product_of_a_chunk_holds_no_copy_of_what_it_reads(product):
    """A chunk and the rows of its neighbours are read where they lie; what is more lies in memory that threads keep."""
    x = da.random.default_rng(0).random((1, 8, 2048, 512), np.float32, chunks=(1, 8, 1024, 512)).persist()
    w = np.random.default_rng(0).random((8, 8, 3, 3), np.float32)
    of = {
        "forward": lambda: xconv.conv(x, w, padding=1),
        "input_grad": lambda: xconv.conv_input_grad(x, w, x.shape, padding=1),
        "weight_grad": lambda: xconv.conv_weight_grad(x, x, (3, 3), padding=1),
    }
    chunk, peaks = 8 * 1024 * 512 * 4, []
    for _ in range(2):  # the first time threads get their memory
        tracemalloc.start()
        of[product]().sum().compute(scheduler="synchronous")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < (0.5 if product == "weight_grad" else 1.5) * chunk  # a copy would be one more


def test_a_chunk_of_large_numbers_beside_one_of_ordinary_ones():
    """Of which each is a piece: transforms of either alone would not be finite."""
    x = np.random.default_rng(0).random((1, 1, 96)).astype(np.float32)
    x[..., 48:] *= 4e32
    w = np.full((1, 1, 5), 1e5, np.float32)
    expected = xconv.conv(x, w, padding=2, method="im2col")
    lazy = xconv.conv(da.from_array(x, chunks=(1, 1, 48)), w, padding=2, method="fft")
    assert np.isfinite(expected).all()
    assert np.allclose(lazy.compute()[..., 50:], expected[..., 50:], rtol=1e-4)


def gradients_of_two_chunks():
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 40, 50), (4, 3, 3, 3)))
    lazy = da.from_array(x, chunks=(1, 3, 16, 20))
    y = xconv.conv(lazy, w, padding=1)
    return y, *xconv.conv_backward(y, lazy, w, padding=1)


def test_bits_depend_on_no_scheduler():
    from dask.distributed import Client, LocalCluster

    lazy = gradients_of_two_chunks()
    expected = dask.compute(*lazy)
    found = [dask.compute(*lazy, scheduler="threads", num_workers=count) for count in (1, 2)]
    for count, words in ((1, {"processes": False}), (2, {"host": "127.0.0.1"})):
        cluster = LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0", **words)
        with cluster, Client(cluster) as client:
            found.append(client.gather(client.compute(lazy)))
    for results in found:
        assert all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))


def test_bits_depend_on_no_order_of_memory():
    """As chunks are stored, and as they come from another worker."""
    dy = np.random.default_rng(0).random((2, 3, 300, 200), np.float32)
    w = np.ones((3, 3, 1, 1), np.float32)
    found = []
    for order in "CF":
        lazy = da.from_array(dy, chunks=(1, 3, 160, 200)).map_blocks(np.asarray, order=order)
        found.append(dask.compute(*xconv.conv_backward(lazy, lazy, w)))
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_blocks_of_a_chunk_are_laid_out_in_the_same_memory(monkeypatch):
    """Where workers give memory back as it is left, page by page, it takes longer to come than to be filled."""
    from xconv._run import blockwise, threads

    seen, matmul = [], blockwise.matmul

    def spy(xp, left, right, place=None):
        seen.append(right)
        return matmul(xp, left, right, place)

    monkeypatch.setattr(blockwise, "matmul", spy)
    x, w = (np.random.default_rng(0).random(shape, np.float32) for shape in ((1, 16, 130, 130), (16, 16, 3, 3)))
    for padding in (0, 1):
        expected = xconv.conv(x, w, padding=padding, method="im2col", max_workspace=2**20)
        seen.clear()
        with threads.alone():
            found = xconv.conv(x, w, padding=padding, method="im2col", max_workspace=2**20)
        assert len(seen) > 3
        assert all(np.shares_memory(seen[0], columns) or np.shares_memory(seen[-1], columns) for columns in seen)
        assert np.array_equal(found, expected)


def test_graphs_are_named_by_what_they_compute():
    first, second = (xconv.conv(da.zeros((1, 1, 8), chunks=4), np.ones((1, 1, 3))) for _ in range(2))
    assert first.name == second.name
    assert first.name != xconv.conv(da.zeros((1, 1, 8), chunks=4), np.zeros((1, 1, 3))).name


def test_to_zarr_and_back(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    image = np.random.default_rng(0).random((50, 40))
    da.from_array(image, chunks=(16, 16)).to_zarr(str(tmp_path / "in.zarr"))
    ndimage.gaussian_filter(da.from_zarr(str(tmp_path / "in.zarr")), 2).to_zarr(str(tmp_path / "out.zarr"))
    assert np.allclose(zarr.open(str(tmp_path / "out.zarr"))[:], ndimage.gaussian_filter(image, 2), atol=1e-14)


def test_chunks_of_another_library(named_cupy):
    """NumPy under CuPy's name: namespaces, and the empty arrays that Dask knows results by, are those of chunks."""
    x, w = da.from_array(np.arange(12.0).reshape(1, 1, 12), chunks=(1, 1, 5)), np.ones((1, 1, 3))
    assert xconv._arrays.operands.described(x=x)[0][1] is named_cupy
    assert np.allclose(xconv.conv(x, w, padding=1).compute(), np.convolve(np.arange(12.0), np.ones(3), "same"))


LAZY = da.zeros((1, 1, 8), chunks=4)
WRONG = {
    "unknown sizes": (
        ValueError,
        r"^x must have chunks of known sizes, got an unknown one: call x.compute_chunk_sizes\(\)",
        lambda: xconv.conv(unknown()[None, None], np.ones((1, 1, 3))),
    ),
    "unknown sizes of an image": (
        ValueError,
        r"^input must have chunks of known sizes",
        lambda: ndimage.gaussian_filter(unknown(), 1),
    ),
    "filters of another library": (
        TypeError,
        r"^all arrays must come from one library, got x from chunks of numpy, w from array_api_strict: pass numpy",
        lambda: xconv.conv(LAZY, strict(1, 1, 3)),
    ),
    "chunked filters of another library": (
        TypeError,
        r"^all arrays must come from one library, .*: pass numpy.asarray\(x\)",
        lambda: xconv.conv(strict(1, 1, 8), da.ones((1, 1, 3))),
    ),
    "wrapped": (
        TypeError,
        r"^x must be an array, got DataArray: pass x.data",
        lambda: xconv.conv(DataArray(LAZY), np.ones((1, 1, 3))),
    ),
    "a wrapped image": (
        TypeError,
        r"^an array must not be wrapped, got DataArray of chunks, .*: pass its .data",
        lambda: ndimage.gaussian_filter(DataArray(LAZY), 1),
    ),
    "a wrapped signal": (
        TypeError,
        r"^an array must not be wrapped, got DataArray of chunks",
        lambda: signal.convolve(np.ones((1, 1, 3)), DataArray(LAZY)),
    ),
    "bool": (
        TypeError,
        r"^x must have an integer, real or complex dtype, got bool",
        lambda: xconv.conv(LAZY > 0, np.ones((1, 1, 3))),
    ),
    "shapes": (ValueError, r"^w must have C / groups channels", lambda: xconv.conv(LAZY, np.ones((1, 2, 3)))),
    "a method": (
        ValueError,
        r"^method 'fft' must have floating-point arrays",
        lambda: xconv.conv(da.ones((1, 1, 6), dtype=int), np.ones((1, 1, 3), dtype=int), method="fft"),
    ),
    "a method of gradients": (
        ValueError,
        r"winograd",
        lambda: xconv.conv_weight_grad(LAZY, LAZY, 1, dilation=2, method="winograd"),
    ),
    "a date": (
        TypeError,
        r"^input must have an integer, real or complex dtype",
        lambda: ndimage.sobel(np.zeros(3, "M8[s]")),
    ),
    "a target": (TypeError, r"^output must be a dtype", lambda: ndimage.sobel(LAZY, output=np.zeros((1, 1, 8)))),
    "a lazy target": (TypeError, r"^output must be a dtype", lambda: ndimage.sobel(np.zeros(8), output=LAZY[0, 0])),
    "a lazy footprint": (
        TypeError,
        r"^footprint must be known",
        lambda: ndimage.maximum_filter(LAZY, footprint=da.ones((1, 1, 3))),
    ),
}


def unknown():
    """As many elements as are large."""
    return da.from_array(np.zeros(8), chunks=4)[da.from_array(np.arange(8), chunks=4) > 2]


class DataArray:
    """As xarray's: NumPy makes an array of it, which computes all chunks."""

    def __init__(self, data):
        self.data = data

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.data, dtype)


def test_wrapped_arrays_of_numpy_are_taken_as_scipy_takes_them():
    x = np.random.default_rng(0).random((5, 6))
    assert np.array_equal(ndimage.gaussian_filter(DataArray(x), 1), ndimage.gaussian_filter(x, 1))


def strict(*shape):
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    return xp.ones(shape)


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_of_the_call(name):
    kind, message, call = WRONG[name]
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)
