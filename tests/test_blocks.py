"""Blocks, the memory ceiling and the threads: what a convolution is cut into changes neither result nor memory."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import types
import weakref

import numpy as np
import pytest
import reference
import scipy.fft
import scipy.signal
import threadpoolctl
from backends import assert_array
from geometries import FULL_CASES, Case, check_drawn, convolutions, normal, output_shape
from hypothesis import strategies as st

import xconv
from xconv._arrays import blas as _blas
from xconv._arrays import matmul as _matmul
from xconv._arrays import scratch as _scratch
from xconv._methods import METHODS
from xconv._plan import schedule
from xconv._plan.arguments import window_geometry
from xconv._plan.blocks import grid, parts, pieces
from xconv._plan.remembered import forget
from xconv._run import blockwise as _blockwise
from xconv._run import threads as _threads
from xconv._run.threads import for_each, one_blas_thread

MIB = 2**20


def operands(case, dtype="float64", output=None):
    shapes = case.input_shape, case.weight_shape, (case.weight_shape[0],), output or output_shape(case)
    return [normal(shape, seed, dtype) for seed, shape in enumerate(shapes)]


def least_workspace(backend, function):
    """What the error says that a call needs at least."""
    with pytest.raises(ValueError, match=r"max_workspace must be at least \d+ bytes") as error:
        function(1)
    return int(str(error.value).split("at least ")[1].split()[0])


OF_FEW_OUTPUTS = [case for case in FULL_CASES if np.prod(output_shape(case)) <= 150]  # each is a block of its own


@pytest.mark.on("numpy", "strict-device1", "torch", "cupy")
@pytest.mark.over("case", OF_FEW_OUTPUTS)
def test_the_least_workspace_gives_the_same_result(backend, case):
    """Down to one output at a time in every second case, for each of the three operations."""
    the_least_gives_the_same_result(backend, case, "im2col", 1 if OF_FEW_OUTPUTS.index(case) % 2 else 3)


@pytest.mark.parametrize(
    "case",
    [
        Case((2, 4, 7, 9), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
        Case((1, 40, 5), (3, 5, 4), {"padding_mode": "circular", "padding": 3, "channel_axis": -1}),
        Case((1, 2, 5, 4, 6), (3, 2, 2, 3, 1), {"flip": True}),
        Case((1, 1, 2, 3, 2), (1, 1, 2, 1, 2), {"padding": (2, 9, 0)}),  # with blocks of padding alone
    ],
    ids=str,
)
@pytest.mark.on("numpy", "strict", "torch")
@pytest.mark.parametrize("method", ["toeplitz", "winograd", "fft"])
def test_the_least_workspace_of_other_methods_gives_the_same_result(backend, method, case):
    """Down to one of their blocks, or tiles, at a time; they round more than im2col."""
    the_least_gives_the_same_result(backend, case, method, more=8)


def the_least_gives_the_same_result(backend, case, method, room=1, more=1):
    x, w, b, dy = operands(case)
    keywords = case.keywords | {"method": method}
    calls = [
        (xconv.conv, (x, w, b), {}, reference.conv(x, w, b, **case.keywords)),
        (
            xconv.conv_input_grad,
            (dy, w),
            {"input_shape": x.shape},
            reference.conv_input_grad(dy, w, x.shape, **case.keywords),
        ),
        (
            xconv.conv_weight_grad,
            (dy, x),
            {"kernel_size": case.kernel_size},
            reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords),
        ),
    ]
    for function, arrays, static, expected in calls:
        arrays = [backend.array(array) for array in arrays]

        def call(workspace, function=function, arrays=arrays, static=static):
            return backend.run(function, *arrays, **static, **keywords, max_workspace=workspace)

        least = least_workspace(backend, call)
        assert_array(backend, call(least * room), expected, terms=case.terms * more)


@pytest.mark.on("numpy", "strict", "torch")
def test_drawn_workspaces_give_the_loops_result(backend):
    def check(drawn):
        case, room = drawn
        x, w, _, dy = (backend.array(array) for array in operands(case))
        least = least_workspace(
            backend,
            lambda workspace: xconv.conv_backward(dy, x, w, **case.keywords, method="im2col", max_workspace=workspace),
        )
        keywords = case.keywords | {"method": "im2col", "max_workspace": 4 * least + 500 + room}
        dx, dw, _ = xconv.conv_backward(dy, x, w, **keywords)
        x, w, _, dy = operands(case)
        assert_array(backend, dx, reference.conv_input_grad(dy, w, x.shape, **case.keywords), terms=case.terms)
        expected = reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords)
        assert_array(backend, dw, expected, terms=case.terms)

    check_drawn(backend, st.tuples(convolutions(("zeros", "reflect"), max_groups=2), st.integers(0, 5000)), check)


@pytest.mark.parametrize("box", [(2, 3), (1, 1), (5, 100), (4, 2)])
@pytest.mark.parametrize("keywords", [{"stride": 1, "dilation": 1}, {"stride": (2, 1), "dilation": (1, 3)}])
def test_blocks_cover_each_output_once_and_one_colour_shares_no_input(box, keywords):
    windows = window_geometry((13, 17), (3, 2), padding=[(1, 2), (0, 1)], **keywords)
    (part,) = parts(windows, 1, 1, windows.kernel_size)
    cut = grid(part, 3, 2, (1, 1, *box))
    written = np.zeros((3, 2, 1, *windows.output_size), dtype=int)
    for block in cut:
        written[block.output_index] += 1
    assert np.all(written == 1)
    for same in cut.colours:
        read = np.zeros((3, 2, 1, *windows.input_size), dtype=int)
        for block in same:
            read[block.input_index(slice(None))] += 1
        assert np.max(read) == 1
    assert len(cut) > 1


def peak(function):
    """Bytes that a call holds at most beyond what it returns."""
    tracemalloc.start()
    try:
        result = function()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept >= sum(array.nbytes for array in result)
    return most - sum(array.nbytes for array in result)


def first_peak(function):
    """As `peak`, with what threads keep: they have nothing yet."""
    if _threads._pool.cache_info().currsize:
        _threads._pool().shutdown()
    _threads._pool.cache_clear()
    _scratch._OWN.places.clear()
    return peak(function)


@pytest.mark.parametrize("function", ["conv", "conv_input_grad", "conv_weight_grad"])
@pytest.mark.parametrize(
    "case",
    [
        Case((4, 1, 200, 200), (1, 1, 50, 50), {}),
        Case((1, 1, 100_000), (1, 1, 50_000), {}),
        Case((1, 2, 300, 300), (2, 2, 60, 60), {"padding": 30}),
        Case((2, 3, 40, 40, 40), (5, 3, 9, 9, 9), {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_spectra_are_of_the_workspace(case, function, dtype):
    """With the copies in which they are conjugated and multiplied."""
    x, w = normal(case.input_shape, 0, dtype), normal(case.weight_shape, 1, dtype)
    keywords = case.keywords | {"method": "fft", "max_workspace": 2 * MIB}
    y = xconv.conv(x, w, **keywords)
    arrays = {"conv": (x, w), "conv_input_grad": (y, w, x.shape), "conv_weight_grad": (y, x, case.kernel_size)}
    call = functools.partial(getattr(xconv, function), *arrays[function], **keywords)
    call()  # what threads keep, is theirs
    assert peak(lambda: [call()]) < 2 * MIB + 2**16


@pytest.mark.parametrize("function", ["conv", "conv_input_grad", "conv_weight_grad"])
@pytest.mark.parametrize("method", ["im2col", "toeplitz", "direct"])
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 1, 150, 150), (8, 1, 9, 9), {"padding": 4}),
        Case((2, 8, 64, 64), (64, 1, 9, 9), {"padding": 4, "groups": 8}),
        Case((1, 3, 200, 200), (8, 3, 5, 5), {"padding": 2}),
        Case((8, 4, 64, 64), (8, 4, 9, 9), {"padding": 4, "stride": 2}),
    ],
    ids=str,
)
def test_what_threads_keep_is_of_the_workspace(case, method, function):
    """Strips of rows are views of what is laid out, but copies where they are added up again."""
    x, w = normal(case.input_shape, dtype="float32"), normal(case.weight_shape, 1, "float32")
    keywords = case.keywords | {"method": method, "max_workspace": MIB}
    y = xconv.conv(x, w, **keywords)
    arrays = {"conv": (x, w), "conv_input_grad": (y, w, x.shape), "conv_weight_grad": (y, x, case.kernel_size)}
    call = functools.partial(getattr(xconv, function), *arrays[function], **keywords)
    call()  # what is loaded once, is
    assert first_peak(lambda: [call()]) < MIB + 2**16


def test_a_large_image_needs_no_more_than_the_default_workspace():
    """1 x 64 x 1024 x 1024 with 3x3: the matrix of im2col would be 2.4 GB. NumPy tells tracemalloc of its buffers."""
    x = np.ones((1, 64, 1024, 1024), dtype="float32")
    w = normal((2, 64, 3, 3), dtype="float32")
    y = xconv.conv(x, w, padding=1)
    assert peak(lambda: [xconv.conv(x, w, padding=1)]) < 64 * MIB
    assert np.allclose(y[0, :, 1:-1, 1:-1], np.sum(w, axis=(1, 2, 3))[:, None, None], rtol=0, atol=1e-3)
    assert peak(lambda: [xconv.conv_input_grad(y, w, x.shape, padding=1)]) < 64 * MIB
    assert peak(lambda: [xconv.conv_weight_grad(y, x, 3, padding=1)]) < 64 * MIB


LIMITS = pytest.mark.parametrize("workspace", [2 * MIB, 8 * MIB])


@LIMITS
@pytest.mark.parametrize(
    ("method", "dtype"),
    [
        *((method, dtype) for method in METHODS for dtype in ("float32", "float64", "complex64", "float16")),
        ("im2col", "int16"),
        ("toeplitz", "int16"),
    ],
)
def test_no_method_takes_more_than_its_workspace(method, dtype, workspace):
    assert_bounded(method, dtype, workspace)


@pytest.mark.parametrize(("method", "channels"), [("im2col", 512), ("winograd", 512), ("fft", 128), ("toeplitz", 128)])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_parts_of_many_channels_take_no_more_than_their_workspace(method, channels, dtype):
    """Their filters are copied to be mapped: they are no longer one piece of memory."""
    x, w = (normal(shape, 0, dtype) for shape in ((1, channels, 14, 14), (channels, channels, 3, 3)))
    keywords = {"padding": 1, "method": method, "max_workspace": MIB}
    y = xconv.conv(x, w, **keywords)
    assert peak(lambda: [xconv.conv(x, w, **keywords)]) < MIB + 2**18
    assert peak(lambda: [xconv.conv_input_grad(y, w, x.shape, **keywords)]) < MIB + 2**18


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
@pytest.mark.parametrize("function", ["conv", "conv_input_grad", "conv_weight_grad"])
def test_limbs_of_filters_are_within_the_workspace(function, dtype):
    """In float64 all of these filters would be 9 MiB, and several times that of long integers."""
    x, w, dy = (normal(shape, 0, dtype) for shape in ((1, 512, 6, 6), (256, 512, 3, 3), (1, 256, 6, 6)))
    arrays = {"conv": (x, w), "conv_input_grad": (dy, w, x.shape), "conv_weight_grad": (dy, x, 3)}[function]
    call = functools.partial(getattr(xconv, function), *arrays, padding=1, method="im2col")
    assert np.array_equal(call(max_workspace=MIB), call())
    assert peak(lambda: [call(max_workspace=MIB)]) < MIB + 2**18


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [96, 256])
def test_half_precision_takes_no_more_where_parts_add_up(method, size):
    """In float32, of some blocks at a time."""
    x, w = normal((2, 64, size, size), dtype="float16"), normal((2, 64, 3, 3), 1, "float16") / np.float16(64)
    keywords = {"padding": 1, "method": method, "max_workspace": MIB // 2}
    y = xconv.conv(x, w, np.float16([1, 2]), **keywords)
    wide = xconv.conv(x.astype("float32"), w.astype("float32"), np.float32([1, 2]), padding=1, method=method)
    assert np.allclose(y, wide, rtol=2**-10, atol=1e-3)
    assert peak(lambda: [xconv.conv(x, w, **keywords)]) < MIB


@LIMITS
@pytest.mark.parametrize("method", METHODS)
def test_no_method_takes_more_with_the_traits_of_cupy(named_cupy, method, workspace):
    assert_bounded(method, "float32", workspace)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_takes_more_with_channels_last(method):
    """A copy of any operand or result would be more than the workspace."""
    assert_bounded(method, "float32", 2 * MIB, (2, 160, 160, 16), channel_axis=-1)


@LIMITS
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("uint8", "float64"), ("float64", "float32")])
def test_no_method_takes_more_for_two_dtypes(method, dtypes, workspace):
    """Operands keep theirs until a block of them is read."""
    assert_bounded(method, dtypes[0], workspace, (2, 16, 160, 160), weight_dtype=dtypes[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
def test_borders_take_no_more_than_the_workspace(method, mode):
    """They are added where a block reads them."""
    x, w = normal((2, 16, 160, 160), dtype="float32"), normal((24, 16, 3, 3), 1, "float32")
    keywords = {"padding": [(3, 1), (2, 170)], "padding_mode": mode, "method": method, "max_workspace": 2 * MIB}
    y = xconv.conv(x, w, **keywords)
    names = {"replicate": "edge", "circular": "wrap"}
    padded = np.pad(x, ((0, 0), (0, 0), *keywords["padding"]), mode=names.get(mode, mode))
    assert np.allclose(y, xconv.conv(padded, w), rtol=0, atol=1e-3)
    assert peak(lambda: [xconv.conv(x, w, **keywords)]) < 2 * MIB + 2**19
    assert peak(lambda: [xconv.conv_weight_grad(y, x, 3, **keywords)]) < 2 * MIB + 2**19


def assert_bounded(method, dtype, workspace, input_shape=(2, 16, 96, 96), weight_dtype=None, **keywords):
    # the filters of toeplitz take the more room the more pairs of channels there are in a group
    filters, groups = (32, 16) if method == "toeplitz" else (24, 1)
    x, w = normal(input_shape, dtype=dtype), normal((filters, 16 // groups, 3, 3), 1, weight_dtype or dtype)
    if dtype == "float16":  # or sums over all positions would overflow
        x = x / np.float16(64)
    keywords |= {"padding": 1, "groups": groups, "method": method, "max_workspace": workspace}
    y = xconv.conv(x, w, **keywords)
    small = 2**19  # Python's own objects, and what is loaded and remembered once
    assert peak(lambda: [xconv.conv(x, w, **keywords)]) < workspace + small
    assert peak(lambda: [xconv.conv_input_grad(y, w, x.shape, **keywords)]) < workspace + small
    assert peak(lambda: [xconv.conv_weight_grad(y, x, 3, **keywords)]) < workspace + small


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize(
    ("method", "stride"),
    [(method, stride) for method in METHODS for stride in (1, 2) if (method, stride) != ("winograd", 2)],
)
def test_a_transposed_convolution_takes_no_more_than_its_workspace(method, stride, channel_axis):
    """A copy of its operand or of its result, to which the bias is added, would be more."""
    groups = 16 if method == "toeplitz" else 1
    x = normal((2, 16, 160, 160) if channel_axis == 1 else (2, 160, 160, 16), dtype="float32")
    w, b = normal((16, 32 // groups, 3, 3), 1, "float32"), normal((32,), 2, "float32")
    keywords = {"stride": stride, "padding": 1, "groups": groups, "method": method, "channel_axis": channel_axis}
    call = functools.partial(xconv.conv_transpose, x, w, b, max_workspace=2 * MIB, **keywords)
    assert min(x.nbytes, call().nbytes) > 2 * MIB + 2**19  # and what is loaded once, is
    assert peak(lambda: [call()]) < 2 * MIB + 2**19


@pytest.mark.parametrize("product", ["forward", "backward_data", "backward_filter"])
def test_groups_one_after_another_are_held_nowhere_else(numpy_backend, product):
    """Some of the groups are up to 3 MiB of the result."""
    keywords = {"groups": 4, "method": "fft", "max_workspace": MIB}
    sizes = {
        "forward": ((2, 8, 141, 143), (16, 2, 15, 15)),
        "backward_data": ((2, 8, 141, 143), (8, 4, 15, 15)),
        "backward_filter": ((2, 256, 9, 9), (2, 128, 16, 16)),
    }
    first, second = map(normal, sizes[product])
    call = {
        "forward": lambda: xconv.conv(first, second, padding=14, **keywords),
        "backward_data": lambda: xconv.conv_input_grad(first, second, (2, 16, 155, 157), **keywords),
        "backward_filter": lambda: xconv.conv_weight_grad(first, second, 8, **keywords | {"method": "im2col"}),
    }[product]
    call()  # what is remembered of the plan is no array's
    assert peak(lambda: [call()]) < MIB + 2**17


def test_geometries_are_given_up_at_once(numpy_backend):
    """Those of many blocks keep none of themselves, which would wait for the garbage to be looked for."""
    dy, w = normal((1, 8, 332, 393)), normal((8, 2, 9, 9))
    keywords = {"dilation": (9, 2), "padding": (0, 1), "groups": 2, "padding_mode": "circular"}

    def call():
        xconv.conv_input_grad(dy, w, (1, 4, 404, 407), method="im2col", max_workspace=MIB, **keywords)

    call()
    gc.collect()
    gc.disable()
    try:
        call()
        assert gc.collect() == 0
    finally:
        gc.enable()


def gpu_peak(function):
    """Bytes of CuPy's memory that a call holds at most beyond what it returns."""
    import cupy

    class Hook(cupy.cuda.MemoryHook):
        name, held, most = "peak", 0, 0

        def malloc_postprocess(self, **memory):
            self.held += memory["mem_size"]
            self.most = max(self.most, self.held)

        def free_postprocess(self, **memory):
            self.held -= memory["mem_size"]

    with Hook() as hook:
        result = function()
    assert hook.held >= result.nbytes
    return hook.most - result.nbytes


@pytest.mark.on("cupy")
def test_the_workspace_bounds_memory_on_a_gpu(backend):
    x, w = backend.xp.ones((1, 64, 1024, 1024), dtype="float32"), backend.array(normal((2, 64, 3, 3), dtype="float32"))
    y = xconv.conv(x, w, padding=1)
    assert gpu_peak(lambda: xconv.conv(x, w, padding=1)) < 64 * MIB
    assert gpu_peak(lambda: xconv.conv_input_grad(y, w, x.shape, padding=1)) < 64 * MIB
    assert gpu_peak(lambda: xconv.conv_weight_grad(y, x, 3, padding=1)) < 64 * MIB


@pytest.mark.parametrize("method", ["im2col", "toeplitz"])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int16"])
def test_the_gradient_by_phases_of_strides_fits_the_workspace(method, dtype):
    filters, groups = (16, 16) if method == "toeplitz" else (24, 1)
    w, dy = normal((filters, 16 // groups, 3, 3), dtype=dtype), normal((2, filters, 96, 96), 1, dtype)
    keywords = {"stride": 2, "padding": 1, "groups": groups, "method": method, "max_workspace": 2 * MIB}
    x = xconv.conv_input_grad(dy, w, (2, 16, 192, 192), **keywords)  # loads the pool of threads as well
    assert peak(lambda: [xconv.conv_input_grad(dy, w, x.shape, **keywords)]) < 2 * MIB + 2**19


@pytest.mark.parametrize("transposes", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "uint8", "int16"])
@pytest.mark.parametrize(("kernel", "stride", "size"), [(4, 2, 128), (9, 9, 40)])
def test_sums_of_another_dtype_than_the_result_fit_the_workspace(kernel, stride, size, dtype, transposes):
    """All of them at once would be two to four MiB and more: of 81 phases as well as of four."""
    w, dy = normal((8, 8, kernel, kernel), dtype=dtype), normal((2, 8, size, size), 1, dtype)
    keywords, side = {"stride": stride, "max_workspace": MIB}, (size - 1) * stride + kernel

    def call():
        if transposes:
            return xconv.conv_transpose(dy, w, **keywords)
        return xconv.conv_input_grad(dy, w, (2, 8, side, side), **keywords)

    x, rounding = call(), {"rtol": 2e-3, "atol": 1e-2} if dtype == "float16" else {"rtol": 0, "atol": 0}
    exact = xconv.conv_transpose(dy.astype("float64"), w.astype("float64"), stride=stride)
    expected = exact if dtype == "float16" else exact.astype("int64").astype(dtype)
    assert x.dtype == dtype
    assert np.allclose(x, expected, **rounding)
    assert peak(lambda: [call()]) < MIB + 2**17


def test_gradients_by_samples_fit_the_workspace():
    """One product for each of 16 samples of 100 positions would be 38 MB."""
    x, dy = normal((16, 128, 12, 12), dtype="float32"), normal((16, 512, 10, 10), 1, "float32")
    keywords = {"method": "im2col", "max_workspace": 4 * MIB}
    dw = xconv.conv_weight_grad(dy, x, 3, **keywords)
    assert np.allclose(dw, xconv.conv_weight_grad(dy, x, 3, method="fft"), rtol=0, atol=1e-2)
    assert peak(lambda: [xconv.conv_weight_grad(dy, x, 3, **keywords)]) < 4 * MIB + 2**19


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 16, 256, 256), (16, 1, 11, 3), {"stride": (1, 2), "groups": 16}),
        Case((1, 16, 256, 256), (16, 1, 7, 7), {"stride": 2, "groups": 16}),
        Case((1, 32, 256, 256), (32, 1, 3, 3), {"stride": (1, 2), "groups": 32}),
        Case((1, 4, 32, 32, 64), (4, 1, 7, 7, 3), {"stride": (1, 1, 2), "groups": 4}),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["im2col", "toeplitz"])
@pytest.mark.parametrize("workspace", [4 * MIB, 12 * MIB])
def test_strided_gradients_take_no_more_than_their_workspace(workspace, method, case):
    x, w = normal(case.input_shape, dtype="float32"), normal(case.weight_shape, 1, "float32")
    keywords = case.keywords | {"method": method, "max_workspace": workspace}
    y = xconv.conv(x, w, **keywords)
    assert peak(lambda: [xconv.conv_input_grad(y, w, x.shape, **keywords)]) < workspace + 2**19
    assert peak(lambda: [xconv.conv_weight_grad(y, x, case.kernel_size, **keywords)]) < workspace + 2**19


@pytest.mark.parametrize("workspace", [3 * MIB, 6 * MIB])
def test_small_gradients_take_no_more_than_their_workspace(workspace):
    """Of which several sums may be under way."""
    x, dy = normal((8, 128, 12, 12), dtype="float32"), normal((8, 220, 10, 10), 1, "float32")
    keywords = {"method": "im2col", "max_workspace": workspace}
    xconv.conv_weight_grad(dy, x, 3, **keywords)
    assert peak(lambda: [xconv.conv_weight_grad(dy, x, 3, **keywords)]) < workspace + 2**19


@pytest.mark.parametrize("workspace", [8 * MIB, 12 * MIB])
def test_filters_turned_round_are_within_the_workspace(workspace):
    """A copy of 6.25 MiB, without which the gradient by the input is computed where that leaves no room."""
    w, dy = np.ones((256, 256, 5, 5), dtype="float32"), np.ones((1, 256, 64, 64), dtype="float32")
    keywords = {"padding": 2, "method": "im2col", "max_workspace": workspace}
    dx = xconv.conv_input_grad(dy, w, dy.shape, **keywords)
    assert dx[0, 0, 32, 32] == 256 * 25
    assert peak(lambda: [xconv.conv_input_grad(dy, w, dy.shape, **keywords)]) < workspace + 2**19


@pytest.mark.parametrize("workspace", [2 * MIB, 8 * MIB])
def test_what_windows_of_one_element_skip_is_within_the_workspace(workspace):
    """With padding each block is padded whole, 16 times as much as it reads."""
    x, w = np.ones((1, 64, 512, 512), dtype="float32"), np.ones((8, 64, 1, 1), dtype="float32")
    keywords = {"padding": 1, "stride": 4, "method": "im2col", "max_workspace": workspace}
    assert xconv.conv(x, w, **keywords)[0, 0, 1, 1] == 64
    assert peak(lambda: [xconv.conv(x, w, **keywords)]) < workspace + 2**19


@pytest.fixture
def apart(monkeypatch):
    """Counts how often data was transformed once for parts of the filters, which no convolution is too small for."""
    calls = []
    shared = _blockwise.Blockwise._shared_input
    monkeypatch.setattr(schedule, "WORTHWHILE", 1)
    monkeypatch.setattr(_blockwise.Blockwise, "_shared_input", lambda *arguments: calls.append(1) or shared(*arguments))
    return calls


@pytest.mark.parametrize("method", ["winograd", "fft"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("groups", [1, 2])
def test_filters_in_parts_give_the_loops_result(apart, method, dtype, groups):
    """Of 13 or 26 filters the last part is shorter; the gradient by the input has the parts of channels."""
    case = Case((2, 18 * groups, 6, 7), (13 * groups, 18, 3, 3), {"padding": (1, 0), "groups": groups})
    x, w, b, dy = operands(case, dtype)
    keywords = case.keywords | {"method": method, "max_workspace": 2**26 - 1}  # which no other call was planned with
    y, (dx, dw, _) = xconv.conv(x, w, b, **keywords), xconv.conv_backward(dy, x, w, **keywords)
    assert len(apart) == 3
    plain = case.keywords
    for result, expected in (
        (y, reference.conv(x, w, b, **plain)),
        (dx, reference.conv_input_grad(dy, w, x.shape, **plain)),
        (dw, reference.conv_weight_grad(dy, x, (3, 3), **plain)),
    ):
        assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
        assert np.max(np.abs(result - expected)) < 1e-12 * np.max(np.abs(expected))


@pytest.mark.parametrize(("method", "workspace"), [("winograd", 6), ("winograd", 16), ("fft", 12), ("fft", 32)])
def test_filters_in_parts_take_no_more_than_their_workspace(apart, method, workspace):
    """MiB; all transformed filters would be 18 of them, or 50."""
    x, w = normal((1, 256, 20, 20), dtype="float32"), normal((512, 256, 3, 3), 1, "float32")
    workspace *= MIB
    keywords = {"padding": 1, "method": method, "max_workspace": workspace}
    y = xconv.conv(x, w, **keywords)
    for function, arrays, static in (
        (xconv.conv, (x, w), {}),
        (xconv.conv_input_grad, (y, w), {"input_shape": x.shape}),
        (xconv.conv_weight_grad, (y, x), {"kernel_size": 3}),
    ):
        apart.clear()
        assert (
            peak(lambda call=function, given=arrays, more=static: [call(*given, **more, **keywords)])
            < workspace + 2**19
        )
        assert apart


def test_large_gradients_are_cut_until_they_fit():
    """A quarter of this one, with its sum, would not fit the default workspace."""
    x, dy = np.ones((1, 2000, 6, 6), dtype="float32"), np.ones((1, 2000, 4, 4), dtype="float32")
    dw = xconv.conv_weight_grad(dy, x, 3, method="im2col")
    assert dw.shape == (2000, 2000, 3, 3)
    assert np.all(dw == 16)


@pytest.fixture
def threads(monkeypatch):
    """Sets the number of threads, those of the pool as well, which is another one until the test is over."""

    def set_count(count):
        for module in (_blockwise, _threads):
            monkeypatch.setattr(module, "cpu_count", lambda: count)
        monkeypatch.setattr(_threads, "_pool", functools.cache(_threads._pool.__wrapped__))

    return set_count


@pytest.fixture
def seen(monkeypatch):
    """Calls a function at each product of matrices, in the thread that makes it, and keeps what it returns."""
    found = []

    def watch(function):
        found.clear()
        for name in ("matmul", "outer_matmul"):
            own = getattr(_blockwise, name)
            seeing = functools.partial(lambda own, *arguments: found.append(function()) or own(*arguments), own)
            monkeypatch.setattr(_blockwise, name, seeing)
        return found

    return watch


def thread_after_a_while():
    """This thread, when others had time to begin."""
    time.sleep(0.005)
    return threading.get_ident()


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (2, 2), (5, 5)])
def test_the_pool_and_the_caller_are_as_many_threads_as_there_are_cpus(threads, count, expected):
    """The pool has one at least, or what is given to it would not be done."""
    threads(count)
    found = []
    for_each(lambda _: found.append(thread_after_a_while()), range(40), 40)
    assert len(found) == 40
    assert len(set(found)) == expected


def test_what_no_thread_has_begun_keeps_nothing(threads):
    """The pool's only thread is busy while a call ends: what waits for it must not hold the call's arrays."""
    threads(2)
    done, begun = threading.Event(), threading.Event()
    blocker = _threads._pool().submit(lambda: begun.set() or done.wait(10))
    begun.wait(10)
    array = np.ones(3)
    gone = weakref.ref(array)
    try:
        for_each(lambda _, array=array: None, range(4), 2)
        del array
        assert gone() is None
    finally:
        done.set()
        blocker.result()


def blas_threads():
    """Of NumPy's BLAS: SciPy, whose transforms are used, brings one of its own."""
    found = threadpoolctl.threadpool_info()
    return [one["num_threads"] for one in found if one["user_api"] == "blas" and "numpy" in one["filepath"]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("operation", ["conv", "conv_input_grad", "conv_weight_grad"])
def test_blas_has_one_thread_while_parts_of_a_convolution_run(threads, seen, method, operation):
    """Its own would compete with ours; in each of ours, and not only in that which asked for it."""
    threads(2)
    x, w, dy = (normal(shape, dtype="float32") for shape in ((4, 48, 40, 40), (48, 48, 3, 3), (4, 48, 40, 40)))
    arrays = {"conv": (x, w), "conv_input_grad": (dy, w, x.shape), "conv_weight_grad": (dy, x, 3)}[operation]
    counts = seen(lambda: (thread_after_a_while(), *blas_threads()))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert max(blas_threads()) == 2
        getattr(xconv, operation)(*arrays, padding=1, method=method, max_workspace=2**28)
    assert {thread for thread, *_ in counts} > {threading.get_ident()}
    assert {count for _, *each in counts for count in each} == {1}


@pytest.mark.parametrize("shape", [(150_000,), (400, 250)])
@pytest.mark.parametrize(("dtype", "name"), [("float32", "rfft"), ("complex128", "fft")])
def test_threads_share_the_transforms_of_the_only_block(threads, monkeypatch, shape, dtype, name):
    """As there are no other blocks for them: data and filters at once. No bit depends on it.

    SciPy's own threads do not outlive a fork that finds them at work.
    """
    x, w = normal((1, 1, *shape), 0, dtype), normal((1, 1, *(d // 2 for d in shape)), 1, dtype)
    keywords, found, seen = {"padding": "full", "method": "fft"}, [], []
    cpus = min(_threads.cpu_count(), 2)
    words = repr(xconv.plan(x.shape, w.shape, xp=np, dtype=x.dtype, **keywords))
    assert f"1 block on {cpus} thread{'s' * (cpus > 1)}, " in words
    own = getattr(scipy.fft, name)

    def transform(*arguments, **keywords):
        seen.append(thread_after_a_while())
        assert scipy.fft.get_workers() == 1
        return own(*arguments, **keywords)

    monkeypatch.setattr(scipy.fft, name, transform)
    for count in (1, 3):
        threads(count)
        seen.clear()
        found.append(xconv.conv(x, w, **keywords))
        assert len(set(seen)) == min(count, 2)
    np.testing.assert_array_equal(*found)
    expected = scipy.signal.fftconvolve(x, w[(..., *[slice(None, None, -1)] * len(shape))])
    assert np.abs(found[0] - expected).max() < 100 * np.finfo(dtype).eps * np.abs(expected).max()


@pytest.mark.parametrize(("method", "groups"), [("im2col", 1), ("winograd", 1), ("toeplitz", 64)])
@pytest.mark.parametrize("operation", ["conv", "conv_input_grad", "conv_weight_grad"])
def test_blocks_are_made_in_memory_that_their_thread_keeps(threads, method, groups, operation):
    """From the second call on: the system would hand out new memory page by page, and take it back as it is left."""
    threads(1)
    channels = 64 if groups > 1 else 32
    x, dy = (normal((8, channels, 48, 48), seed, "float32") for seed in (0, 1))
    w = normal((channels, channels // groups, 3, 3), 2, "float32")
    arrays = {"conv": (x, w), "conv_input_grad": (dy, w, x.shape), "conv_weight_grad": (dy, x, 3)}[operation]
    held = []
    for _ in range(2):
        tracemalloc.start()
        result = getattr(xconv, operation)(*arrays, padding=1, groups=groups, method=method)
        held.append(tracemalloc.get_traced_memory()[1] - result.nbytes)
        tracemalloc.stop()
    assert held[1] < x.nbytes / 4  # blocks, of which there are few, make more of what they read of it


def test_the_largest_block_is_laid_out_in_memory_that_is_kept():
    """With a line of cache behind each row, of which the shortest that have one are of two times ALIASED."""
    most = schedule.CACHED * (1 + _scratch.LINE / (2 * _scratch.ALIASED))
    assert most <= _scratch.LAID_OUT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("room", [2**18, 2**26])
@pytest.mark.parametrize(
    "case",
    [
        Case((3, 4, 23, 40), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
        Case((2, 40, 12, 30), (40, 1, 3, 3), {"groups": 40, "padding": 1, "padding_mode": "reflect"}),
        Case((2, 3, 9, 10, 26), (4, 3, 3, 3, 2), {"padding": 1}),
    ],
    ids=str,
)
def test_no_result_is_memory_that_a_thread_keeps(threads, monkeypatch, method, room, case):
    """However small blocks are: the next call would write over it. Nor is any array written over before it is read."""
    threads(1)
    forget()
    monkeypatch.setattr(_scratch, "PAGED", 1)
    monkeypatch.setattr(_blockwise, "PAGED", 0)
    own = _scratch.scratch

    def spoiled(*arguments):
        array = own(*arguments)
        array[...] = np.nan
        return array

    monkeypatch.setattr(_scratch, "scratch", spoiled)
    x, w, b, dy = operands(case, "float32")
    keywords = {**case.keywords, "method": method, "max_workspace": room}
    results = xconv.conv(x, w, b, **keywords), *xconv.conv_backward(dy, x, w, **keywords)
    monkeypatch.setattr(_scratch, "PAGED", 2**62)
    plain = xconv.conv(x, w, b, **keywords), *xconv.conv_backward(dy, x, w, **keywords)
    for result, other in zip(results, plain, strict=True):
        np.testing.assert_allclose(result, other, rtol=0, atol=1e-5 * np.max(np.abs(other)))
    kept = [place for place in _scratch._OWN.places.values() if place is not None]
    assert kept
    assert not any(np.may_share_memory(result, place) for result in results for place in kept)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "case",
    [
        Case((4, 48, 40, 40), (48, 48, 3, 3), {"padding": 1}),
        Case((8, 128, 14, 14), (128, 128, 3, 3), {"padding": 1}),
        Case((1, 2, 500, 500), (4, 1, 5, 5), {"padding": 2, "groups": 2}),
    ],
    ids=str,
)
def test_results_do_not_depend_on_the_number_of_threads(threads, seen, method, case):
    """Bit by bit."""
    output = xconv.conv_output_shape(case.input_shape, case.weight_shape, **case.keywords)
    x, w, b, dy = operands(case, "float32", output)  # the loops would take long to find that shape
    keywords = case.keywords | {"method": method, "max_workspace": 2**28}
    results = []
    for count in (1, 2, 5):
        threads(count)
        found = seen(thread_after_a_while)
        results.append([xconv.conv(x, w, b, **keywords), *xconv.conv_backward(dy, x, w, **keywords)])
        assert min(count, 3) <= len(set(found)) <= count
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            assert np.array_equal(first, other)


@pytest.mark.parametrize("groups", [1, 4])
def test_few_long_sums_are_exact_in_pieces(monkeypatch, groups):
    """NumPy lets threads run beside a product of so many results only; integers below 2**24 are exact in float32."""
    pieces = []
    whole = _matmul._sum_of_pieces
    monkeypatch.setattr(_matmul, "_sum_of_pieces", lambda *args: pieces.append(args[-1]) or whole(*args))
    windows = 2**15
    x, dy = (normal((1, 4, size), seed, "int64") for seed, size in enumerate((windows + 2, windows)))
    floats = (array.astype("float32") for array in (dy, x))
    dw = xconv.conv_weight_grad(*floats, 3, groups=groups, method="im2col")
    per_group = 4 // groups
    pairs = [[(k, k // per_group * per_group + c) for c in range(per_group)] for k in range(4)]
    expected = [[[dy[0, k] @ x[0, c, j : j + windows] for j in range(3)] for k, c in row] for row in pairs]
    assert pieces
    assert all(count > 1 and windows % count == 0 for count in pieces)
    assert dw.dtype == np.float32
    assert np.array_equal(dw, np.array(expected))


def test_several_user_threads_at_once():
    """Results are right, and BLAS has its threads back when the last call is done."""
    before = blas_threads()
    x, w = normal((4, 32, 40, 40), dtype="float32"), normal((32, 32, 3, 3), 1, "float32")
    expected = xconv.conv(x, w, padding=1)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda _: xconv.conv(x, w, padding=1), range(24)))
    assert all(np.array_equal(result, expected) for result in results)
    assert blas_threads() == before


def run_script(text, **options):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True, **options
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_convolves_as_its_parent_did():
    process = run_script(
        """
        import os, sys, numpy as np, xconv
        x, w = np.ones((8, 32, 40, 40), dtype="float32"), np.ones((32, 32, 3, 3), dtype="float32")
        expected = xconv.conv(x, w)  # the parent's pool has threads now, which the child will lack
        child = os.fork()
        if child == 0:
            same = np.array_equal(xconv.conv(x, w), expected)
            os._exit(0 if same and xconv.conv_backward(expected, x, w)[0].shape == x.shape else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    output, _ = process.communicate(timeout=60)
    assert output.strip() == "0"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to one process")
def test_an_interrupt_stops_the_blocks_and_gives_blas_its_threads_back():
    process = run_script(
        """
        import signal, threadpoolctl, numpy as np, xconv
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start background processes without
        def blas():
            return [x["num_threads"] for x in threadpoolctl.threadpool_info() if x["user_api"] == "blas"]
        x, w = np.ones((64, 64, 128, 128), dtype="float32"), np.ones((512, 64, 3, 3), dtype="float32")
        before = blas()
        print("ready", flush=True)
        try:
            while True:
                xconv.conv(x, w, padding=1, method="im2col")
        except KeyboardInterrupt:
            print("interrupted", blas() == before, xconv.conv(x[:1], w[:1]).shape, flush=True)
        """
    )
    assert process.stdout.readline().strip() == "ready"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert output.strip() == "interrupted True (1, 1, 126, 126)"


def test_an_error_in_one_block_stops_the_others_and_is_raised():
    done = []

    def work(item):
        if item == 3:
            raise RuntimeError("block 3")
        time.sleep(0.001)
        done.append(item)

    with pytest.raises(RuntimeError, match="block 3"):
        for_each(work, range(1000), 2)
    assert len(done) < 1000

    def fail_elsewhere(item):
        time.sleep(0.001)
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("in a thread of the pool")

    with pytest.raises(RuntimeError, match="in a thread of the pool"):
        for_each(fail_elsewhere, range(1000), 2)
    for_each(done.append, range(5), 4)
    assert sorted(done[-5:]) == [0, 1, 2, 3, 4]


def test_blas_is_held_until_the_last_holder_is_done():
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        two = blas_threads()
        with one_blas_thread():
            with one_blas_thread():
                assert set(blas_threads()) == {1}
            assert set(blas_threads()) == {1}
        assert blas_threads() == two


@pytest.mark.parametrize(("architecture", "has"), [("SkylakeX", True), ("Haswell", False), (None, False)])
def test_products_are_in_pieces_where_blas_has_kernels_for_them(architecture, has, monkeypatch):
    """OpenBLAS's for AVX2 copies factors of every product: pieces would only be more of them."""
    ours = types.SimpleNamespace(architecture=architecture)
    monkeypatch.setattr(_blas, "blas_libraries", lambda: ([types.SimpleNamespace(architecture="SkylakeX")], [ours]))
    monkeypatch.setattr(_matmul, "reads_small_factors", _blas.reads_small_factors.__wrapped__)
    x, dy, made = normal((1, 16, 30, 31)), normal((1, 48, 30, 31), 1), []
    expected = reference.conv_weight_grad(dy, x, 3, padding=1)
    monkeypatch.setattr(_matmul, "pieces", lambda *given: made.append(given) or pieces(*given))
    found = xconv.conv_weight_grad(dy, x, 3, padding=1, method="im2col")
    assert np.allclose(found, expected, rtol=1e-11, atol=1e-11)
    assert bool(made) is has


def test_other_libraries_of_blas_are_held_where_all_is_computed_on_one_thread():
    """A call holds that which it computes with: each takes time, and is somebody's. Beside others all threads count."""
    pytest.importorskip("scipy.linalg", reason="scipy, which brings a BLAS of its own, is not installed")
    process = run_script(
        """
        import threadpoolctl, numpy as np, scipy.linalg
        from xconv._run.threads import alone, one_blas_thread
        def counts(numpys):
            found = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]
            return {one["num_threads"] for one in found if ("numpy" in one["filepath"]) is numpys}
        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            before = counts(False)
            for held in (one_blas_thread, alone):
                with held():
                    print(counts(True), counts(False) == (before if held is one_blas_thread else before and {1}))
                print(counts(True), counts(False) == before)
        """
    )
    output, _ = process.communicate(timeout=60)
    assert output.split("\n") == ["{1} True", "{2} True", "{1} True", "{2} True", ""]


@pytest.mark.parametrize("bad", [0, -1, 1.5, "64MB", True])
def test_max_workspace_is_a_positive_int(bad):
    with pytest.raises(ValueError, match="max_workspace must be an int of at least 1, got") as error:
        xconv.conv(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), max_workspace=bad)
    assert repr(bad) in str(error.value)


def test_jax_compiles_blocks_into_one_program(jax_backend):
    """Fewer bytes than the windows need: several blocks, unrolled, each written to a new array."""
    import jax

    case = Case((2, 2, 6, 7), (3, 2, 3, 3), {"stride": 2, "padding": 1})
    x, w, b, dy = operands(case)
    keywords = case.keywords | {"method": "im2col", "max_workspace": 4096}
    y = jax.jit(lambda *arrays: xconv.conv(*arrays, **keywords))(x, w, b)
    assert_array(jax_backend, y, reference.conv(x, w, b, **case.keywords), terms=case.terms)
    dx, dw, _ = jax.jit(lambda *arrays: xconv.conv_backward(*arrays, **keywords))(dy, x, w)
    assert_array(jax_backend, dx, reference.conv_input_grad(dy, w, x.shape, **case.keywords), terms=case.terms)
    assert_array(jax_backend, dw, reference.conv_weight_grad(dy, x, (3, 3), **case.keywords), terms=case.terms)
