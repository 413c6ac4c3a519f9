"""What only a GPU can settle of CuPy's arrays: streams, threads, memory and addresses."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import normal
from test_blocks import gpu_peak

import xconv
from xconv._methods import native_cudnn

pytestmark = pytest.mark.on("cupy")
MIB = 2**20
METHODS = ("native", "im2col")


@pytest.fixture(params=METHODS)
def method(request, backend):
    if request.param == "native" and native_cudnn.missing():
        pytest.skip(native_cudnn.missing())
    return request.param


def operands(backend, dtype="float32"):
    values = [normal(shape, seed, dtype) for seed, shape in enumerate([(2, 6, 33, 31), (4, 3, 3, 3)])]
    return values, [backend.array(one) for one in values], {"padding": [(0, 1), (2, 1)], "stride": 2, "groups": 2}


def test_a_stream_waits_for_what_was_given_to_it_before(backend, method):
    import cupy

    values, arrays, keywords = operands(backend)
    expected = reference.conv(*values, **keywords)
    for _ in range(3):
        with cupy.cuda.Stream(non_blocking=True) as stream:
            x, large = cupy.full_like(arrays[0], np.nan), cupy.full((4096, 4096), 1 / 4096, dtype="float32")
            stream.synchronize()
            for _ in range(30):  # some tens of milliseconds, behind which x is right
                large = large @ large
            x[...] = arrays[0] + 0 * large[0, 0]
            y = xconv.conv(x, arrays[1], **keywords, method=method)
            stream.synchronize()
        assert_array(backend, y, expected, terms=27)


def test_threads_on_streams_of_their_own(backend, method):
    import cupy

    values, arrays, keywords = operands(backend)
    y, found = reference.conv(*values, **keywords), {}

    def work(number):
        with cupy.cuda.Stream(non_blocking=True) as stream:
            results = [xconv.conv_backward(backend.array(y), *arrays, **keywords, method=method) for _ in range(20)]
            stream.synchronize()
            found[number] = results

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    for results in found.values():
        for dx, dw, _ in results:
            assert_array(backend, dx, reference.conv_input_grad(y, values[1], values[0].shape, **keywords), terms=27)
            assert_array(backend, dw, reference.conv_weight_grad(y, values[0], 3, **keywords), terms=y.size)


@pytest.mark.parametrize("room", [1, MIB, 8 * MIB, 64 * MIB])
def test_no_more_is_held_than_max_workspace(backend, room):
    x, w = backend.xp.ones((4, 32, 128, 128), dtype="float32"), backend.array(normal((32, 32, 3, 3), dtype="float32"))
    if room < MIB:
        room = MIB  # by which no call is refused, with plans that need none
    y = xconv.conv(x, w, padding=1, max_workspace=room)
    slack = 2 * 512  # CuPy's memory comes in pieces
    assert gpu_peak(lambda: xconv.conv(x, w, padding=1, max_workspace=room)) <= room + slack
    assert gpu_peak(lambda: xconv.conv_input_grad(y, w, x.shape, padding=1, max_workspace=room)) <= room + slack
    assert gpu_peak(lambda: xconv.conv_weight_grad(y, x, 3, padding=1, max_workspace=room)) <= room + slack


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_operands_anywhere_in_memory(backend, method, dtype):
    """At addresses that are no multiples of 16, in other orders, with gaps, and read many times."""
    import cupy

    values, arrays, keywords = operands(backend, dtype)
    expected = reference.conv(*(one.astype("float64") for one in values), **keywords).astype(dtype)

    def moved(array):
        line = cupy.empty(array.size + 1, dtype)
        line[1:] = array.reshape(-1)
        return line[1:].reshape(array.shape)

    def apart(array):
        large = cupy.full([2 * size for size in array.shape], np.nan, dtype)
        some = large[tuple(slice(1, None, 2) for _ in array.shape)]
        some[...] = array
        return some

    for change in (moved, apart, cupy.asfortranarray):
        y = xconv.conv(*map(change, arrays), **keywords, method=method)
        assert_array(backend, y, expected, terms=27)
    last = cupy.ascontiguousarray(cupy.moveaxis(arrays[0], 1, -1))
    y = xconv.conv(last, arrays[1], **keywords, method=method, channel_axis=-1)
    assert_array(backend, cupy.moveaxis(y, -1, 1), expected, terms=27)


def test_results_do_not_change_from_run_to_run(backend, method):
    _, (x, w), keywords = operands(backend)
    y = xconv.conv(x, w, **keywords, method=method)
    first = xconv.conv_backward(y, x, w, **keywords, method=method)
    for _ in range(10):
        again = xconv.conv_backward(y, x, w, **keywords, method=method)
        assert all(bool((one == other).all()) for one, other in zip(first, again, strict=True))


def test_float32_is_not_rounded_to_fewer_bits(backend, method):
    """TF32 would keep 10 bits of 1 + 2**-12."""
    x, w = np.full((1, 64, 16, 16), 1 + 2**-12, "float32"), np.ones((64, 64, 3, 3), "float32")
    y = xconv.conv(backend.array(x), backend.array(w), method=method)
    assert_array(backend, y, reference.conv(x, w), terms=576)
    assert abs(float(y[0, 0, 0, 0]) / 576 - (1 + 2**-12)) < 2**-16
