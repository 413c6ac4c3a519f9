"""Pools, im2col and col2im over blocks: neither results nor memory depend on how a call is cut."""

from __future__ import annotations

import functools
import math
import threading
import time
import tracemalloc

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import check_drawn, normal, windows
from hypothesis import strategies as st

import xconv
from xconv._arrays.maxima import maxima_adjoint
from xconv._plan import pooling as _pooling
from xconv._plan.arguments import window_geometry
from xconv._plan.geometry import Axis, Geometry
from xconv._plan.pooling import PoolTask, held_by_maxima_adjoint, held_by_sums, pool_schedule
from xconv._plan.remembered import forget
from xconv._run import pools as _pools
from xconv._run import threads as _threads

MIB = 2**20
POOLS = ("max_pool", "max_pool_indices", "max_pool_grad", "avg_pool", "avg_pool_grad")
SMALL = 2**19  # bytes: Python's own objects, and what is loaded and remembered once


def function(name):
    """One of one result; of `max_pool`'s two the second goes by a name of its own."""
    if name == "max_pool_indices":
        return lambda *arrays, **keywords: xconv.max_pool(*arrays, return_indices=True, **keywords)[1]
    return getattr(xconv, name)


def calls(x, kernel, keywords):
    """Each of the functions with all that it takes but a workspace; windows alone have no mode and no axis."""
    shape = reference.max_pool(np.zeros(x.shape), kernel, **keywords).shape
    dy = normal(shape, 1, x.dtype)
    found = {
        "max_pool": (x,),
        "max_pool_indices": (x,),
        "max_pool_grad": (dy, x),
        "avg_pool": (x,),
        "avg_pool_grad": (dy, x.shape),
    }
    if not {"ceil_mode", "channel_axis"} & {*keywords}:
        columns = x.shape[1] * int(np.prod(kernel))
        rows = normal((x.shape[0] * int(np.prod(shape[2:])), columns), 2, x.dtype)
        found |= {"im2col": (x,), "col2im": (rows, x.shape)}
    return [(name, arrays, {"kernel_size": kernel} | keywords) for name, arrays in found.items()]


def check_loops_result(name, arrays, keywords, **workspace):
    result = function(name)(*arrays, **keywords, **workspace)
    expected = getattr(reference, name)(*arrays, **keywords)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert np.allclose(result, expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.fixture
def cut_into(monkeypatch):
    """Sets how many bytes a block may hold, which is one element if they are few, of calls however small."""

    def set_size(size):
        monkeypatch.setattr(_pooling, "CACHED", size)
        monkeypatch.setattr(_pooling, "SMALL", 0)
        forget()

    yield set_size
    forget()


@pytest.fixture
def parts(monkeypatch):
    """The threads that took part, which are given time to, one for each part."""
    seen, own = [], _pools.for_each

    def watched(function, items, threads):
        def run(item):
            seen.append(threading.get_ident())
            time.sleep(0.002)
            function(item)

        own(run, items, threads)

    monkeypatch.setattr(_pools, "for_each", watched)
    return seen


@pytest.fixture
def threads(monkeypatch):
    """Sets the number of threads, those of the pool as well, until the test is over."""

    def set_count(count):
        for module in (_pools, _threads):
            monkeypatch.setattr(module, "cpu_count", lambda: count)
        monkeypatch.setattr(_threads, "_pool", functools.cache(_threads._pool.__wrapped__))

    return set_count


def test_drawn_blocks_give_the_loops_result(numpy_backend, cut_into):
    """Down to blocks of one element, some of which no window reads, or whose windows lie in the padding alone."""
    options = st.tuples(
        windows(ceil_modes=True, largest_kernel=7),
        st.sampled_from([1, 300, 2000]),
        st.sampled_from([{}, {"channel_axis": -1}]),
        st.sampled_from(["normal", "ties", "nan", "infinite"]),
    )

    def check(drawn):
        (size, kernel, keywords), block, more, kind = drawn
        cut_into(block)
        x = normal((2, *size, 3) if more.get("channel_axis") == -1 else (2, 3, *size))
        x = np.round(x) if kind == "ties" else x
        x[x > 0.7] = {"nan": np.nan, "infinite": -np.inf}.get(kind, 1)
        for name, arrays, given in calls(x, kernel, keywords | more):
            if kind in ("normal", "ties") or name.startswith("max"):
                check_loops_result(name, arrays, given)

    check_drawn(numpy_backend, options, check)


@pytest.mark.parametrize("channels", [1, 9])
@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "complex64"])
def test_blocks_of_every_dtype_give_the_loops_result(cut_into, dtype, channels):
    """What lays out rows goes along images or along channels, whichever are many."""
    cut_into(1000)
    x = normal((2, channels, 7, 6), dtype=dtype)
    for name, arrays, keywords in calls(x, (3, 2), {"stride": (2, 1), "padding": [(1, 2), (0, 1)]}):
        refused = {"max": np.complexfloating, "avg": np.integer}.get(name[:3])
        if refused is None or not np.issubdtype(x.dtype, refused):
            if name in ("im2col", "col2im"):
                arrays = [np.round(array) if isinstance(array, np.ndarray) else array for array in arrays]
            result = function(name)(*arrays, **keywords)
            expected = getattr(reference, name)(*arrays, **keywords)
            assert result.dtype == expected.dtype
            assert np.allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("room", [1, 3, 40])
@pytest.mark.parametrize(
    ("shape", "kernel", "keywords"),
    [
        ((2, 3, 7, 9), 3, {"stride": 2, "padding": 1}),
        ((1, 2, 5, 6, 4), (2, 3, 1), {"stride": 1, "dilation": (1, 2, 1)}),
        ((2, 8, 5, 3), 2, {"channel_axis": -1, "ceil_mode": True}),
        ((0, 2, 4, 4), 2, {}),
    ],
)
def test_the_least_workspace_gives_the_loops_result(monkeypatch, name, room, shape, kernel, keywords):
    monkeypatch.setattr(_pooling, "SMALL", 0)
    forget()
    (call,) = [call for call in calls(normal(shape), kernel, keywords) if call[0] == name]
    if shape[0] == 0:
        check_loops_result(*call, max_workspace=room)
        return
    with pytest.raises(ValueError, match=r"max_workspace must be at least \d+ bytes for this call, got 1") as error:
        check_loops_result(*call, max_workspace=1)
    least = int(str(error.value).split("at least ")[1].split()[0])
    with pytest.raises(ValueError, match="max_workspace must be at least"):
        check_loops_result(*call, max_workspace=least - 1)
    check_loops_result(*call, max_workspace=least * room)


def test_a_mebibyte_is_enough_for_every_call():
    """Windows of 250 000 elements, of which any two overlap."""
    x = normal((1, 1, 510, 510), dtype="float32")
    dx = xconv.max_pool_grad(np.ones((1, 1, 11, 11), dtype="float32"), x, 500, stride=1, max_workspace=MIB)
    assert np.sum(dx) == 121
    with pytest.raises(ValueError, match="max_workspace must be at least 1048576 bytes"):
        xconv.max_pool_grad(np.ones((1, 1, 11, 11), dtype="float32"), x, 500, stride=1, max_workspace=MIB - 1)


@pytest.mark.parametrize("name", POOLS)
def test_blocks_of_every_library_give_the_loops_result(backend, monkeypatch, name):
    """Where every step is an array of its own, too, and however small the workspace."""
    cuts, own = [], _pools.pool_schedule
    forget()  # programs that were compiled
    monkeypatch.setattr(_pools, "pool_schedule", lambda *arguments: cuts.append(own(*arguments)) or cuts[-1])
    x = np.round(normal((4, 6, 9, 8)) * 2)
    keywords = {"stride": 2, "padding": 1, "dilation": (1, 2)}
    ((_, arrays, given),) = [call for call in calls(x, 3, keywords) if call[0] == name]
    taken = [backend.array(array) for array in arrays if not isinstance(array, tuple)]
    sizes = [array for array in arrays if isinstance(array, tuple)]
    result = backend.run(lambda *some: function(name)(*some, *sizes, **given, max_workspace=8000), *taken)
    assert_array(backend, result, getattr(reference, name)(*arrays, **given), terms=9)
    assert all(cut.boxes.total > 1 and cut.task.bytes_of(cut.boxes.box) <= 8000 for cut in cuts)
    assert cuts


@pytest.mark.parametrize("bad", [0, -1, 1.5, "64MB", True])
@pytest.mark.parametrize("name", POOLS)
def test_max_workspace_is_a_positive_int(name, bad):
    ((_, arrays, keywords),) = [call for call in calls(normal((1, 1, 4, 4)), 2, {}) if call[0] == name]
    with pytest.raises(ValueError, match="max_workspace must be an int of at least 1, got") as error:
        function(name)(*arrays, **keywords, max_workspace=bad)
    assert repr(bad) in str(error.value)


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("name", [*POOLS, "im2col", "col2im"])
def test_results_do_not_depend_on_the_number_of_threads(threads, parts, cut_into, name, channel_axis):
    """Bit by bit, in images that are cut into boxes."""
    cut_into(2**13)
    more = {} if channel_axis == 1 else {"channel_axis": -1}
    if more and name not in POOLS:
        pytest.skip("rows have channels first")
    x = normal((2, 3, 60, 50) if channel_axis == 1 else (2, 60, 50, 3), dtype="float32")
    shape = xconv.max_pool(x, 3, stride=2, padding=1, **more).shape
    dy, rows = normal(shape, 1, "float32"), normal((2 * 30 * 25, 27), 2, "float32")
    arrays = {"max_pool_grad": (dy, x), "avg_pool_grad": (dy, x.shape), "col2im": (rows, x.shape)}.get(name, (x,))
    results = []
    for count in (1, 2, 5):
        threads(count)
        parts.clear()
        results.append(function(name)(*arrays, 3, stride=2, padding=1, **more))
        assert len(parts) > 6
        assert min(count, 3) <= len({*parts}) <= count
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("is_adjoint", [False, True])
@pytest.mark.parametrize("room", [5000, 2**18, 2**24])
def test_blocks_depend_on_the_workspace_alone_and_threads_share_it(threads, room, is_adjoint):
    """Where one block needs all of it, one is under way at a time."""
    geometry = window_geometry((200, 100), 3, stride=2, padding=1, dilation=1)
    task, plans = PoolTask(geometry, 2, 3, is_adjoint, held_by_sums, 8, True, False), []
    for count in (1, 5):
        threads(count)
        forget()
        plans.append(pool_schedule(task, room, True))
    assert plans[0] == plans[1]
    total = plans[0].boxes.total
    blocks = [block for number in range(total) if (block := plans[0].block(number)) is not None]
    sizes = [
        8
        * held_by_sums(task, block.windows.input_size, block.windows.output_size)
        * (block.samples.stop - block.samples.start)
        * (block.channels.stop - block.channels.start)
        for block in blocks
    ]
    assert max(sizes) <= room
    assert min(plans[0].limit, total) * max(sizes) <= room
    assert len(blocks) >= 4
    least = 8 * (held_by_sums(task, (5, 5), (2, 2)) if is_adjoint else held_by_sums(task, (3, 3), (1, 1)))
    assert pool_schedule(task, least, True).limit == 1


def test_a_small_call_is_not_cut(monkeypatch):
    monkeypatch.setattr(_pools, "for_each", lambda *arguments: pytest.fail("it was"))
    x = normal((1, 1, 8, 8))
    assert xconv.max_pool(x, 2).shape == (1, 1, 4, 4)
    assert xconv.max_pool_grad(xconv.max_pool(x, 2), x, 2).shape == x.shape


def peak(function):
    """Bytes that a call holds at most beyond its result; what is loaded and remembered once, is already."""
    function()
    return peak_of_one(function)


def peak_of_one(function):
    """The same of a call that may be the first."""
    tracemalloc.start()
    try:
        result = function()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept >= result.nbytes
    return most - result.nbytes


@pytest.mark.parametrize("sizes", [(41, 1), (1, 41), (41, 41), (300, 1), (5, 5)])
def test_a_block_of_largest_elements_holds_what_is_planned(sizes):
    """Of many taps two levels, whatever threads leave of a workspace."""
    windows = Geometry.of([Axis(400, k, 1, 1, k // 2, k // 2) for k in sizes])
    x, dy = normal((1, 1, 400, 400), dtype="float32"), np.ones((1, 1, *windows.output_size), np.float32)
    task = PoolTask(windows, 1, 1, True, held_by_maxima_adjoint, 4, True, False)
    most = peak(lambda: maxima_adjoint(np, x, dy, windows, dy.dtype)) + x.nbytes
    assert 0.5 * most < task.bytes_of(task.sizes) + SMALL > most


LARGE = [((4, 8, 256, 256), {}), ((4, 256, 256, 8), {"channel_axis": -1}), ((1, 1, 1448, 1448), {})]
STEPS = [
    (3, 2, 2 * MIB),
    (3, 2, 8 * MIB),
    (5, 1, 8 * MIB),
    (9, 1, 2 * MIB),
    (13, 1, 8 * MIB),
    (41, 3, 8 * MIB),
    (41, 1, 4 * MIB),
]  # the last is workspace


@pytest.mark.parametrize("images", range(len(LARGE)))
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("steps", range(len(STEPS)))
def test_pools_take_no_more_than_their_workspace(name, images, steps):
    """Of two dtypes in turn, so that each meets every function, image and window."""
    (shape, more), (kernel, stride, workspace) = LARGE[images], STEPS[steps]
    dtype = ("float32", "float16")[(POOLS.index(name) + images + steps) % 2]
    x = normal(shape, dtype=dtype)
    keywords = more | {"stride": stride, "padding": kernel // 2}
    # with stride 1 there is a window for each element
    dy = np.ones(shape, dtype) if stride == 1 else np.ones_like(xconv.max_pool(x, kernel, **keywords))
    arrays = {"max_pool_grad": (dy, x), "avg_pool_grad": (dy, x.shape)}.get(name, (x,))
    call = functools.partial(function(name), *arrays, kernel, **keywords, max_workspace=workspace)
    bound = workspace + SMALL + (dy.nbytes if name == "max_pool_indices" else 0)  # y is there, too
    assert peak_of_one(call) < bound or peak_of_one(call) < bound  # what the first one loads, may be more


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("workspace", [2 * MIB, 40 * MIB])
def test_large_windows_of_volumes_go_along_one_axis_after_the_other(monkeypatch, workspace, channel_axis):
    """Boxes would read 12 times what they give; where there is no room for what lies between two axes, they do."""
    x = normal((1, 96, 96, 96), dtype="float32")
    x = x[None] if channel_axis == 1 else x[..., None]
    cuts, own = [], _pools.pool_schedule
    monkeypatch.setattr(_pools, "pool_schedule", lambda *arguments: cuts.append(own(*arguments)) or cuts[-1])
    results = []
    call = functools.partial(xconv.max_pool, x, 31, stride=1, padding=15, channel_axis=channel_axis)
    assert peak(lambda: results.append(call(max_workspace=workspace)) or results[-1]) < workspace + SMALL
    assert [cut.is_wasteful for cut in cuts[: len(cuts) // 2]] == [True, False, False, False][
        : 4 if workspace > 9e6 else 1
    ]
    assert np.array_equal(
        results[-1][0, ..., 0] if channel_axis == -1 else results[-1][0, 0], _by_lines(x.reshape(96, 96, 96))
    )


def _by_lines(volume):
    """Maxima of windows of 31 elements, along each axis by the loops of a sliding window."""
    for axis in range(3):
        padded = np.pad(volume, [(15, 15) if axis == other else (0, 0) for other in range(3)], constant_values=-np.inf)
        volume = np.max(np.lib.stride_tricks.sliding_window_view(padded, 31, axis=axis), axis=-1)
    return volume


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(2, 16, 256, 256), (1, 1, 1448, 1448)])
def test_rows_take_little_beside_themselves(shape, dtype):
    """A matrix of 75 MB, or half of that, and blocks."""
    x = normal(shape, dtype=dtype)
    col = xconv.im2col(x, 3, padding=1)
    assert peak(lambda: xconv.im2col(x, 3, padding=1)) < 3 * MIB
    assert peak(lambda: xconv.col2im(col, shape, 3, padding=1)) < 3 * MIB


@pytest.mark.parametrize(("size", "room"), [(2, 64 * MIB), (4096, 2 * 4096**2 * 4 + 4 * 2048**2)])
def test_the_default_is_64_mib_or_what_operands_and_result_take(monkeypatch, size, room):
    rooms, own = [], _pools.pool_schedule
    monkeypatch.setattr(
        _pools, "pool_schedule", lambda task, room, threads: rooms.append(room) or own(task, room, True)
    )
    x = np.broadcast_to(np.float32(1), (1, 1, size, size))
    xconv.max_pool_grad(np.broadcast_to(np.float32(1), (1, 1, size // 2, size // 2)), x, 2)
    assert rooms == [room]


@pytest.mark.parametrize("dtype", ["float32", "longdouble"])
def test_windows_of_more_taps_than_a_byte_counts(dtype):
    """And dtypes that have no integers of their size."""
    x = np.round(normal((1, 2, 700)) * 2).astype(dtype)
    dy = normal((1, 2, 401), 1).astype(dtype)
    expected = reference.max_pool_grad(dy, x, 300, stride=1)
    assert np.allclose(xconv.max_pool_grad(dy, x, 300, stride=1), expected, rtol=0, atol=1e-4)


def test_infinite_gradients_reach_one_element_each(numpy_backend):
    """0 times them would be NaN."""
    dx = xconv.max_pool_grad(np.array([[[np.inf, np.nan]]]), np.array([[[1.0, 2, 4, 3]]]), 2)
    assert np.array_equal(dx, [[[0, np.inf, np.nan, 0]]], equal_nan=True)


def test_large_windows_compile_soon(jax_backend):
    """The 225 taps of 15x15 one axis after the other, as few operations as XLA compiles in a fraction of a second."""
    import jax

    x = normal((1, 2, 20, 21))
    rows = reference.im2col(x, (15, 15), padding=3)
    for function, array, expected in (
        (lambda x: xconv.im2col(x, 15, padding=3, pad_value=2), x, reference.im2col(x, (15, 15), 2, padding=3)),
        (lambda rows: xconv.col2im(rows, x.shape, 15, padding=3), rows, reference.col2im(rows, x.shape, 15, padding=3)),
    ):
        compiled = jax.jit(function)
        assert compiled.lower(array).as_text().count(" = stablehlo.") < 15 * 15
        assert np.allclose(compiled(array), expected, rtol=0, atol=1e-10)


def test_convolutions_by_large_windows_compile_soon(jax_backend):
    """Theirs are the same windows."""
    import jax

    x, w, dy = normal((1, 2, 20, 21)), normal((3, 2, 15, 15), 1), normal((1, 3, 12, 13), 2)
    words = {"padding": 3, "method": "im2col"}
    for function, arrays, expected in (
        (lambda x, w: xconv.conv(x, w, **words), (x, w), reference.conv(x, w, padding=3)),
        (
            lambda dy, w: xconv.conv_input_grad(dy, w, x.shape, **words),
            (dy, w),
            reference.conv_input_grad(dy, w, x.shape, padding=3),
        ),
        (
            lambda dy, x: xconv.conv_weight_grad(dy, x, 15, **words),
            (dy, x),
            reference.conv_weight_grad(dy, x, (15, 15), padding=3),
        ),
    ):
        compiled = jax.jit(function)
        assert compiled.lower(*arrays).as_text().count(" = stablehlo.") < 15 * 15
        assert np.allclose(compiled(*arrays), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("kernel", "stride"), [((1, 30), (30, 1)), ((30, 1), (1, 30)), ((3, 20), (12, 2))])
def test_windows_apart_take_no_more_memory_than_columns(jax_backend, kernel, stride):
    """One axis after the other, rows that no window reads would be laid out as well."""
    import jax

    x, w = (jax.numpy.ones(shape, "float32") for shape in ((1, 1, 240, 240), (1, 1, *kernel)))
    dy = jax.numpy.ones(xconv.conv_output_shape(x.shape, w.shape, stride=stride), "float32")
    words = {"stride": stride, "method": "im2col"}
    for function, array in (
        (lambda x: xconv.im2col(x, kernel, stride=stride), x),
        (lambda x: xconv.conv(x, w, **words), x),
        (lambda dy: xconv.conv_input_grad(dy, w, x.shape, **words), dy),
    ):
        memory = jax.jit(function).lower(array).compile().memory_analysis()
        assert memory.temp_size_in_bytes <= 2 * math.prod(kernel) * dy.nbytes + x.nbytes


@pytest.mark.parametrize("keywords", [{"kernel_size": 3, "stride": 2}, {"kernel_size": 9, "stride": 1}])
def test_what_a_program_makes_on_its_way_is_kept_by_malloc(jax_backend, keywords):
    """More than 32 MiB come page by page in each call. Of larger arrays a program has few blocks all the same."""
    import jax

    def pool(x):
        return xconv.max_pool(x, **keywords, padding=keywords["kernel_size"] // 2)

    lowered = jax.jit(pool).lower(jax.ShapeDtypeStruct((8, 64, 112, 112), "float32"))
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 2**25
    large = jax.jit(pool).lower(jax.ShapeDtypeStruct((256, 64, 112, 112), "float32"))
    assert large.as_text().count(" = stablehlo.") < 8 * lowered.as_text().count(" = stablehlo.")


def test_large_windows_are_differentiated(torch_backend):
    x = torch_backend.array(normal((1, 2, 9, 8))).requires_grad_()
    rows = xconv.im2col(x, 7, padding=2)
    rows.sum().backward()
    expected = reference.col2im(np.ones(tuple(rows.shape)), (1, 2, 9, 8), 7, padding=2)
    assert np.array_equal(torch_backend.to_numpy(x.grad), expected)
