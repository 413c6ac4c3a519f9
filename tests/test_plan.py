"""What a call will do is settled in integers: parts, blocks, bytes and the method; and what is planned then holds."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
import textwrap
import tracemalloc
import warnings

import numpy as np
import pytest
import reference
from backends import assert_array, assert_values
from geometries import Case, normal, output_shape, windows
from hypothesis import given, settings
from hypothesis import strategies as st

import xconv
from xconv import _choose
from xconv._arrays.libraries import on_accelerator
from xconv._arrays.machine import WHOLE, machine_of
from xconv._methods import im2col as _im2col
from xconv._methods import shifts as _shifts
from xconv._plan import schedule
from xconv._plan.arguments import window_geometry
from xconv._plan.blocks import grid, parts
from xconv._plan.remembered import forget, remembering
from xconv._run import blockwise as _blockwise
from xconv._run import runners as _runners

MIB = 2**20
FUNCTIONS = ("conv", "conv_input_grad", "conv_weight_grad")
METHODS = ("im2col", "toeplitz", "winograd", "fft")
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")


def operands(case, dtype="float64"):
    shapes = case.input_shape, case.weight_shape, output_shape(case)
    return [normal(shape, seed, dtype) for seed, shape in enumerate(shapes)]


def call(function, x, w, dy, module=xconv, **keywords):
    """One of the three functions, of xconv or of the loops, on what it takes of the three arrays."""
    if function == "conv":
        return module.conv(x, w, **keywords)
    if function == "conv_input_grad":
        return module.conv_input_grad(dy, w, x.shape, **keywords)
    return module.conv_weight_grad(dy, x, w.shape[2:], **keywords)


def slices(pairs):
    return tuple(slice(*pair) for pair in pairs)


def pairs_within(draw, sizes):
    """(start, stop) within each size, none of them empty."""
    starts = [draw(st.integers(0, size - 1)) for size in sizes]
    return [(start, draw(st.integers(start + 1, size))) for start, size in zip(starts, sizes, strict=True)]


def cuts(draw, sizes):
    """Each size cut in one or two: a list of (start, stop) for every axis."""
    middles = [draw(st.integers(0, size - 1)) for size in sizes]
    return [
        [(0, middle), (middle, size)] if middle else [(0, size)] for middle, size in zip(middles, sizes, strict=True)
    ]


@given(windows(), st.data())
def test_boxes_of_outputs_and_taps_are_convolutions_that_add_up(drawn, data):
    """Those of a slice of the input, with the padding that remains, which may be all that there is."""
    size, kernel, keywords = drawn
    x, w = normal((1, 2, *size)), normal((2, 2, *kernel), 1)
    whole = reference.conv(x, w, **keywords)
    geometry = window_geometry(size, kernel, **keywords)
    block = pairs_within(data.draw, geometry.output_size)
    expected = whole[(..., *slices(block))]
    total = np.zeros(expected.shape)
    for taps in itertools.product(*cuts(data.draw, kernel)):
        inputs, restricted = geometry.restrict(block, taps)
        assert restricted.output_size == expected.shape[2:]
        assert restricted.input_size == x[(..., *inputs)].shape[2:]
        assert restricted.kernel_size == tuple(high - low for low, high in taps)
        assert min(itertools.chain(*restricted.padding)) >= 0
        steps = {"stride": restricted.stride, "dilation": restricted.dilation, "padding": restricted.padding}
        total += reference.conv(x[(..., *inputs)], w[(..., *slices(taps))], **steps)
    assert_values(total, expected, 1e-13)


@given(windows(), st.integers(1, 5), st.data())
def test_parts_cover_each_channel_and_tap_once(drawn, channels, data):
    """But for taps that lie in the padding only."""
    size, kernel, keywords = drawn
    geometry = window_geometry(size, kernel, **keywords)
    box = tuple(data.draw(st.integers(1, k)) for k in kernel)
    width = data.draw(st.integers(1, channels))
    covered = np.zeros((1, 1, channels, *kernel), dtype=int)
    for part in parts(geometry, channels, width, box):
        covered[part.weight_index] += 1
        assert part.windows.output_size == geometry.output_size
    assert covered.max() <= 1
    reading = {j for _, j, i in reference.Windows(size, kernel, **keywords).links if i is not None}
    assert all(np.all(covered[(..., *j)] == 1) for j in reading)


@given(windows(), st.data())
def test_blocks_of_every_part_cover_each_output_once(drawn, data):
    size, kernel, keywords = drawn
    geometry = window_geometry(size, kernel, **keywords)
    taps = tuple(data.draw(st.integers(1, k)) for k in kernel)
    box = tuple(data.draw(st.integers(1, length + 1)) for length in (2, 3, *geometry.output_size))
    for part in parts(geometry, 1, 1, taps):
        cut = grid(part, 3, 2, box)
        written = np.zeros((3, 2, 1, *geometry.output_size), dtype=int)
        for block in cut:
            written[block.output_index] += 1
            assert block.windows.output_size == written[block.output_index].shape[3:]
            read = np.zeros((3, 2, 1, *size))[block.input_index(slice(0, 1))]
            assert block.windows.input_size == read.shape[3:]
        assert np.all(written == 1)


def test_a_billion_blocks_take_no_memory():
    """Each is made when it is asked for."""
    geometry = window_geometry((40_000, 50_000), (3, 3), stride=1, padding=1, dilation=1)
    tracemalloc.start()
    try:
        (part,) = parts(geometry, 4, 4, geometry.kernel_size)
        cut = grid(part, 2, 1, (1, 1, 2, 2))
        numbers = (0, 1, 123_456_789, cut.boxes.total - 1)
        found = [cut[number] for number in numbers]
        colours = sum(same.boxes.total for same in cut.colours)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert cut.boxes.total == colours == 10**9
    assert peak < MIB
    for number, block in zip(numbers, found, strict=True):
        sample, row, column = number // (20_000 * 25_000), number // 25_000 % 20_000, number % 25_000
        assert block.batch == slice(sample, sample + 1)
        assert block.output == (slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))


@st.composite
def large_layers(draw):
    """(shapes, keywords) of layers up to ones that nobody could hold: they are only planned."""
    n = draw(st.integers(1, 3))
    kernel = tuple(math.ceil(2 ** draw(st.floats(0, 19.9 / n))) for _ in range(n))
    stride, dilation = (draw(st.tuples(*[st.integers(1, top)] * n)) for top in (4, 40))
    reach = [a * (k - 1) + 1 for a, k in zip(dilation, kernel, strict=True)]
    padding = tuple(draw(st.sampled_from([0, 1, r // 2, r - 1])) for r in reach)
    sizes = [max(r - 2 * p, 1) + int(2 ** draw(st.floats(0, 20 / n))) for r, p in zip(reach, padding, strict=True)]
    groups = 2 ** draw(st.integers(0, 12))
    channels = groups * draw(st.integers(1, 4096 // groups))
    filters = groups * draw(st.integers(1, 10**6 // groups))
    batch = draw(st.sampled_from([0, 1, 3, 256]))
    keywords = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return ((batch, channels, *sizes), (filters, channels // groups, *kernel)), keywords


LARGE = [
    (((1, 1, 10**6), (1, 1, 10**6)), {}),
    (((1, 4096, 1200, 1200), (4096, 4096, 1000, 1000)), {}),
    (((256, 4096, 64, 64), (10**6, 4096, 3, 3)), {"padding": 1}),
    (((1, 4096, 64, 64), (4096, 1, 31, 31)), {"padding": 15, "groups": 4096}),
    (((2, 4096, 129, 129), (10**6, 4096, 5, 5)), {"stride": 2, "padding": 2}),
    (((1, 4, 200, 200, 200), (10**6, 4, 100, 100, 100)), {"dilation": 2, "padding": 99}),
    (((256, 64, 13, 72), (1, 64, 3, 10)), {"stride": 3, "dilation": (1, 7)}),
    (((256, 8, 251), (1, 8, 188)), {"stride": 2, "padding": 1}),
    (((1, 1, 2 * 10**8), (1, 1, 5)), {}),  # no divisor of which is looked for among millions
    (
        ((3, 3640, 9, 10, 30, 18, 2), (1987, 3640, 4, 3, 2, 4, 8)),
        {"stride": (1, 1, 3, 1, 1), "padding": (1, 0, 0, 3, 4)},
    ),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(("shapes", "keywords"), LARGE, ids=lambda value: str(value).replace(" ", ""))
def test_no_large_layer_is_refused_for_a_mebibyte(shapes, keywords, dtype, function):
    assert planned_within_a_mebibyte(shapes, keywords, dtype, function) >= {"im2col", "toeplitz", "fft"}


@settings(max_examples=40)
@given(large_layers(), st.sampled_from(["float64", "complex128"]), st.sampled_from(FUNCTIONS))
def test_no_drawn_layer_is_refused_for_a_mebibyte(layer, dtype, function):
    assert planned_within_a_mebibyte(*layer, dtype, function) >= {"im2col", "toeplitz", "fft"}


MOST_CALLS = 24_000  # of Python's functions: some 5 ms


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("room", [MIB, 16 * MIB])
@pytest.mark.parametrize(("shapes", "keywords"), LARGE, ids=lambda value: str(value).replace(" ", ""))
def test_no_large_layer_is_planned_for_long(shapes, keywords, room, function):
    """By all methods: however many parts and blocks it has, nothing is done for each of them."""
    xconv.plan((1, 1, 9), (1, 1, 3), xp=np, dtype=FLOAT64)  # what is loaded once, is
    words = keywords | {"max_workspace": room, "function": function}
    _, calls = calls_counted(lambda: xconv.plan(*shapes, xp=np, dtype=FLOAT64, **words))
    assert calls < MOST_CALLS


def planned_within_a_mebibyte(shapes, keywords, dtype, function):
    """The methods that take the layer, after checking that what each plans is within its bounds."""
    taken = set()
    for method in METHODS:
        try:
            found = xconv.plan(
                *shapes, xp=np, dtype=np.dtype(dtype), function=function, method=method, max_workspace=MIB, **keywords
            )
        except ValueError as error:
            if f"method '{method}' must have" not in str(error):  # other kernels or strides, not more room
                raise
            continue
        assert found.method == method
        assert 0 <= found.held <= found.workspace == MIB
        assert found.blocks >= 1
        taken.add(method)
    return taken


def calls_counted(function):
    """What it returns, and how many calls in Python that took."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = function()
    finally:
        sys.setprofile(before)
    return result, calls


PARTED = [
    Case((2, 4, 13), (6, 2, 5), {"groups": 2, "padding": [(3, 1)], "dilation": 2}),
    Case((1, 3, 11), (2, 3, 4), {"stride": 2, "padding": 2}),
    Case((1, 4, 5, 7), (4, 2, 3, 4), {"groups": 2, "stride": (2, 1), "padding": [(0, 2), (1, 1)], "dilation": (1, 2)}),
    Case((1, 2, 5, 5), (3, 2, 3, 3), {"padding": 1, "flip": True}),
]
PARTS_METHODS = ("im2col", "toeplitz", "fft")


def planned(case, function, method, room, xp=np, dtype=FLOAT64):
    keywords = {name: value for name, value in case.keywords.items() if name != "flip"}
    shapes = case.input_shape, case.weight_shape
    return xconv.plan(*shapes, xp=xp, dtype=dtype, function=function, method=method, max_workspace=room, **keywords)


def least_named(error):
    return int(re.search(r"max_workspace must be at least (\d+) bytes", str(error.value)).group(1))


def least_room(plan_in):
    """The least workspace that a method can be planned in, by halving; whatever the errors say."""
    refused, fits = 1, MIB
    while fits - refused > 1:
        middle = (refused + fits) // 2
        try:
            plan_in(middle)
        except ValueError:
            refused = middle
        else:
            fits = middle
    return fits


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", [*METHODS, "auto", "direct"])
@pytest.mark.parametrize("case", [*PARTED, Case((2, 8, 9, 10), (6, 4, 3, 3), {"groups": 2, "padding": 2, "stride": 2})])
def test_the_least_that_an_error_names_works(case, method, function):
    """And no more than that is held."""
    if method == "winograd" and {"stride", "dilation"} & case.keywords.keys():
        with pytest.raises(ValueError, match="method 'winograd' must have stride 1"):
            planned(case, function, method, MIB)
        return
    for room in (1, 100, 300, 600, 1000, 2000, 4000):
        try:
            found = planned(case, function, method, room)
        except ValueError:
            with pytest.raises(ValueError, match=f"max_workspace must be at least .* by method '{method}'") as error:
                planned(case, function, method, room)
            least = least_named(error)
            assert least > room
            assert planned(case, function, method, least).held <= least
        else:
            assert found.held <= room


@pytest.mark.parametrize("function", [xconv.conv, xconv.conv_transpose])
@pytest.mark.parametrize("method", ["im2col", "toeplitz", "auto"])
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8"])
def test_the_least_of_integers_is_that_of_whatever_they_are_summed_in(function, method, dtype):
    """It was that of small ones in floating point, and others were refused again."""
    x, w = np.full((1, 2, 4096), 100, dtype), np.full((2, 2, 3), 100, dtype)
    with pytest.raises(ValueError, match="max_workspace must be at least") as error:
        function(x, w, dilation=3, method=method, max_workspace=1)
    y = function(x, w, dilation=3, method=method, max_workspace=least_named(error))
    assert np.array_equal(y, function(x, w, dilation=3, method=method))


@pytest.mark.on("numpy", "strict", "torch")
@pytest.mark.over("case", PARTED)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", PARTS_METHODS)
def test_parts_of_channels_filters_and_taps_give_the_loops_result(backend, case, method, function):
    """In the least room, where all are cut, and in the most where any is."""
    parts_give_the_loops_result(backend, case, method, function)


@pytest.mark.on("jax-jit")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", PARTS_METHODS)
@pytest.mark.parametrize("keywords", [{"padding": 1, "groups": 2}, {"stride": 2, "dilation": 2}])
def test_parts_give_the_loops_result_in_one_program(backend, keywords, method, function):
    """Which is compiled with all of them, so that there must not be many."""
    case = Case((1, 4, 9), (4, 4 // keywords.get("groups", 1), 3), keywords)
    parts_give_the_loops_result(backend, case, method, function, few=True)


@pytest.mark.on("numpy", "strict", "torch")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("method", PARTS_METHODS)
def test_parts_of_complex_numbers_give_the_loops_result(backend, method, function):
    case = Case((1, 4, 7), (4, 2, 3), {"groups": 2, "stride": 2, "padding": 2, "dilation": 2, "flip": True})
    parts_give_the_loops_result(backend, case, method, function, "complex128")


def parts_give_the_loops_result(backend, case, method, function, dtype="float64", few=False):
    x, w, dy = operands(case, dtype)
    expected = call(function, x, w, dy, reference, **case.keywords)
    xp, number = backend.xp, backend.dtype(dtype)

    def cut(room):
        """Parts of channels, of filters and of taps."""
        found = planned(case, function, method, room, xp, number).what
        match = re.search(r"parts of (.*?)(?:, \d+ phases|, [\d.]+ MiB)", found)
        return [name for name in ("channels", "filters", "taps") if match and name in match.group(1)]

    least = least_room(lambda room: planned(case, function, method, room, xp, number))
    assert len(cut(least)) == 3
    rooms = [*itertools.takewhile(cut, (least * 5**power // 4**power for power in itertools.count()))]
    for room in rooms[-1:] if few else {least, rooms[-1]} if backend.name == "numpy" else [least]:
        keywords = case.keywords | {"method": method, "max_workspace": room}
        if function == "conv":
            result = backend.run(xconv.conv, backend.array(x), backend.array(w), **keywords)
        elif function == "conv_input_grad":
            arrays = backend.array(dy), backend.array(w)
            result = backend.run(xconv.conv_input_grad, *arrays, input_shape=x.shape, **keywords)
        else:
            arrays = backend.array(dy), backend.array(x)
            result = backend.run(xconv.conv_weight_grad, *arrays, kernel_size=case.kernel_size, **keywords)
        assert_array(backend, result, expected, terms=4 * case.terms)


SHAPES = """
shapes = [
    ((1, 1, 12, 12), (1, 1, 3, 3), 1), ((1, 1, 50), (1, 1, 7), 1), ((2, 3, 20, 20), (8, 3, 3, 3), 1),
    ((4, 8, 14, 14), (8, 8, 3, 3), 1), ((1, 64, 7, 7), (64, 64, 1, 1), 1), ((8, 16, 9, 9), (16, 1, 3, 3), 16),
    ((1, 128, 14, 14), (128, 128, 3, 3), 1), ((2, 1, 4000), (1, 1, 31), 1), ((1, 512, 7, 7), (256, 512, 3, 3), 1),
    ((1, 2, 5, 100), (1, 2, 3, 3), 1),
    ((100, 1, 28, 28), (6, 1, 5, 5), 1), ((1, 1, 160, 160), (1, 1, 15, 15), 1), ((8, 32, 40, 40), (32, 32, 3, 3), 1),
]
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPUs can be taken from a process")
def test_results_have_the_same_bits_on_one_cpu_and_on_all():
    """Of small calls, too, which BLAS might spread over threads of its own."""
    script = (
        """
        import hashlib, os, sys
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[:1] if sys.argv[1] == "one" else cpus)
        import numpy as np, xconv
        from xconv._run.threads import cpu_count
        """
        + textwrap.indent(SHAPES, " " * 8)
        + """
        rng = np.random.default_rng(0)
        print(cpu_count())
        for input_shape, weight_shape, groups in shapes:
            dtype = "complex64" if input_shape[1:3] == (2, 5) else "float32"
            x, w = (rng.normal(size=shape).astype(dtype) for shape in (input_shape, weight_shape))
            padding = weight_shape[-1] // 2
            for method in ("auto", "direct", "im2col", "toeplitz", "winograd", "fft"):
                if method == "winograd" and not 2 <= weight_shape[-1] <= 5:
                    continue
                keywords = {"groups": groups, "padding": padding, "method": method}
                y = xconv.conv(x, w, **keywords)
                dx, dw, _ = xconv.conv_backward(y, x, w, **keywords)
                for name, array in (("y", y), ("dx", dx), ("dw", dw)):
                    print(input_shape, weight_shape, method, name, hashlib.sha256(array.tobytes()).hexdigest())
        """
    )
    printed = []
    for cpus in ("one", "all"):
        command = [sys.executable, "-c", textwrap.dedent(script), cpus]
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert process.stderr == ""
        printed.append(process.stdout.splitlines())
    assert printed[0].pop(0) == "1"
    assert printed[1].pop(0) == str(len(os.sched_getaffinity(0)))
    assert len(printed[0]) > 100
    assert printed[0] == printed[1]


DIRECT = [  # to look for what "direct" does by Toeplitz blocks
    Case((1, 1, 64, 160), (1, 1, 9, 9), {"padding": 4}),
    Case((1, 1, 20_000), (1, 1, 31), {}),
    Case((1, 1, 120, 120), (1, 1, 15, 15), {"padding": "full"}),
    Case((4, 8, 32, 32), (8, 1, 3, 3), {"groups": 8, "padding": 1}),
    Case((2, 3, 8, 8), (4, 3, 3, 3), {}),
]


def of_toeplitz(function, dtype=FLOAT64):
    """The cases that "direct" does by Toeplitz blocks."""
    found = [case for case in DIRECT if planned_by(np, case, function, "direct", dtype).method == "toeplitz"]
    assert found, f"no case for {function}"
    return found


def planned_by(xp, case, function, method, dtype=None):
    shapes = case.input_shape, case.weight_shape
    return xconv.plan(*shapes, xp=xp, dtype=dtype or xp.float64, function=function, method=method, **case.keywords)


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64"])
def test_the_plan_is_that_of_the_call(monkeypatch, numpy_backend, dtype):
    """Of every function, transposed convolutions among them: the same task is asked for."""
    asked, own = [], _runners.choose
    monkeypatch.setattr(
        _runners, "choose", lambda request, *others: asked.append(request.task) or own(request, *others)
    )
    monkeypatch.setattr(_choose, "choose", lambda request, *others: asked.append(request.task) or own(request, *others))
    forget()
    words = {"stride": 2, "padding": 1, "dilation": 3, "groups": 2}
    x, w = normal((2, 4, 15, 13), 0, dtype), normal((6, 2, 3, 2), 1, dtype)
    y = xconv.conv(x, w, **words)
    xconv.conv_backward(y, x, w, **words)
    dy, more = xconv.conv_transpose(y, w, **words, output_padding=2), {"output_padding": 2}
    xconv.conv_transpose_backward(dy, y, w, **words, **more)
    for name, shape in {"conv": x.shape, "conv_transpose": y.shape}.items():
        for suffix in ("", "_input_grad", "_weight_grad"):
            more = {"output_padding": 2} if name == "conv_transpose" else {}
            xconv.plan(shape, w.shape, xp=np, dtype=x.dtype, function=name + suffix, **words, **more)
    called, planned = asked[:6], asked[6:]
    assert [task.direction for task in called] == [task.direction for task in planned]
    assert called == planned
    with pytest.raises(ValueError, match="output_padding must be 0 but for functions of conv_transpose, got 1"):
        xconv.plan(x.shape, w.shape, xp=np, dtype=x.dtype, output_padding=1)


def with_bad(array, values, seed=0):
    """Some elements replaced."""
    bad = np.random.default_rng(seed).integers(0, array.size, len(values))
    array.reshape(-1)[bad] = values
    return array


@pytest.mark.parametrize("values", [(np.nan,), (np.inf,), (np.inf, -np.inf, np.nan)], ids=str)
@pytest.mark.parametrize("operand", [0, 1, 2], ids=["x", "w", "dy"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_direct_keeps_nan_and_inf_where_im2col_has_them(numpy_backend, function, operand, values):
    """Toeplitz blocks multiply by zeros, which NaN and inf survive; so they are looked for."""
    for case in of_toeplitz(function):
        arrays = output_arrays(case)
        arrays[operand] = with_bad(arrays[operand], values)
        with np.errstate(invalid="ignore"):
            direct, exact, banded = (
                call(function, *arrays, **case.keywords, method=method) for method in ("direct", "im2col", "toeplitz")
            )
        is_used = operand != {"conv": 2, "conv_input_grad": 0, "conv_weight_grad": 1}[function]
        assert np.all(np.isfinite(exact)) != is_used
        assert_values(direct, exact, 1e-12)
        assert np.sum(~np.isfinite(banded)) >= np.sum(~np.isfinite(exact))


def output_arrays(case):
    """x, w and dy, whose shape is not counted one by one: there are many windows."""
    shapes = case.input_shape, case.weight_shape
    steps = {name: case.keywords[name] for name in ("padding", "groups") if name in case.keywords}
    return [normal(shape, seed) for seed, shape in enumerate((*shapes, xconv.conv_output_shape(*shapes, **steps)))]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_direct_computes_once_where_all_is_finite(monkeypatch, numpy_backend, function):
    """And not anew by im2col, which lays out windows."""
    laid_out, gather = [], _im2col.gather

    def spy(*arguments, **words):
        laid_out.append(1)
        return gather(*arguments, **words)

    for module in (_im2col, _shifts):
        monkeypatch.setattr(module, "gather", spy)
    for case in of_toeplitz(function):
        arrays = output_arrays(case)
        direct = call(function, *arrays, **case.keywords, method="direct")
        assert not laid_out
        assert_values(direct, call(function, *arrays, **case.keywords, method="im2col"), 1e-12)
        assert function == "conv_input_grad" or laid_out
        laid_out.clear()


def test_direct_warns_only_of_what_happens(numpy_backend):
    (case, *_) = of_toeplitz("conv")
    x, w, _ = output_arrays(case)
    w[:] = np.abs(w) + 1
    x = with_bad(x, (np.inf,))  # which times zeros would be invalid, and times these is not
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = xconv.conv(x, w, method="direct", **case.keywords)
    assert np.any(np.isinf(y))
    assert not np.any(np.isnan(y))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_direct_gives_exact_zeros_over_blank_windows(dtype):
    """Where Winograd's tiles, which reach beyond them, leave rounding errors."""
    x, w = normal((1, 16, 40, 40), 0, dtype), normal((16, 16, 3, 3), 1, dtype)
    x[:, :, 10:31] = 0
    blank = np.s_[:, :, 10:29]
    y, other = (xconv.conv(x, w, method=method) for method in ("direct", "winograd"))
    assert np.all(y[blank] == 0)
    assert np.any(other[blank] != 0)
    assert np.all(y[:, :, :10].any(axis=(1, 3)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_auto_still_takes_transforms(numpy_backend, function):
    case = Case((1, 1, 512, 512), (1, 1, 31, 31))
    assert planned_by(np, case, function, "auto").method == "fft"
    direct = planned_by(np, case, function, "direct")
    assert direct.method in ("im2col", "toeplitz")
    assert {"fft", "winograd"} <= set(dict(direct.reasons))
    assert "fft" not in dict(planned_by(np, case, function, "auto").reasons)


@pytest.mark.on("torch", "jax", "strict")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_direct_is_im2col_where_results_are_not_looked_at(backend, function):
    """What is compiled cannot be run again, and a GPU would wait."""
    for case in of_toeplitz(function):
        found = planned_by(backend.xp, case, function, "direct")
        assert found.method == "im2col"
        assert "NaN and inf spread" in dict(found.reasons)["toeplitz"]
        assert dict(found.costs).get("native") is None


def test_gradients_by_filters_in_groups_are_not_left_to_a_library_without_code_for_them():
    """XLA takes 20 ms for one that im2col takes 0.8 for: its plain loop grows with the pairs of channels."""
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    words = {"xp": jax.numpy, "dtype": jax.numpy.float32, "function": "conv_weight_grad"}
    costs = dict(xconv.plan((1, 24, 15, 28), (28, 12, 13, 13), groups=2, padding=6, **words).costs)
    assert costs["native"] > 3 * costs["im2col"]


PLANNED = [
    ((8, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ((1, 1, 512, 512), (1, 1, 31, 31), {}),
    ((2, 6, 9, 8), (4, 3, 3, 3), {"groups": 2, "stride": (2, 1), "padding": "same"}),
    ((2, 20, 30, 6), (4, 6, 2, 5), {"channel_axis": -1, "padding_mode": "circular", "padding": 2}),
    ((0, 3, 8, 8), (4, 3, 3, 3), {}),
]


@pytest.mark.on("numpy", "strict", "torch", "jax")
@pytest.mark.over("planned", PLANNED)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_plan_says_what_runs_and_why(backend, planned, function):
    input_shape, weight_shape, keywords = planned
    keywords = keywords | {"xp": backend.xp, "dtype": backend.xp.float32, "function": function}
    found = xconv.plan(input_shape, weight_shape, **keywords)
    assert found.method == xconv.choose_method(input_shape, weight_shape, **keywords)
    assert found == xconv.plan(input_shape, weight_shape, **keywords)
    assert hash(found) == hash(xconv.plan(input_shape, weight_shape, **keywords))
    assert found != xconv.plan(input_shape, weight_shape, **keywords, max_workspace=2**30)
    first, *others = repr(found).splitlines()
    times = dict(found.costs)
    assert first.startswith(f"{function} by {found.method!r}: {times[found.method] / 1e6:.3g} ms estimated")
    assert times[found.method] == min(times.values())
    assert not found.measured
    assert found.held <= found.workspace
    assert found.threads == 1 or backend.name == "numpy"
    for name, reason in found.reasons:
        assert math.isinf(times[name])
        assert f"  not {name}: {reason}" in others
    for name in set(times) - dict(found.reasons).keys() - {found.method}:
        assert f"  {name} would take {times[name] / 1e6:.3g} ms" in others


@pytest.mark.on("numpy", "strict", "torch")
@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_measured_plan_names_a_method_that_runs(backend, function):
    measured_plan_runs(backend, function)


@pytest.mark.on("jax")
def test_a_measured_plan_names_a_method_that_jax_runs(backend):
    """Of one function, since all methods are compiled."""
    measured_plan_runs(backend, "conv_weight_grad")


def measured_plan_runs(backend, function):
    case = Case((2, 4, 10, 9), (6, 2, 3, 3), {"groups": 2, "padding": 1})
    found = xconv.plan(
        case.input_shape,
        case.weight_shape,
        xp=backend.xp,
        dtype=backend.xp.float64,
        function=function,
        measure=True,
        **case.keywords,
    )
    times = dict(found.costs)
    assert found.measured
    assert " measured" in repr(found)
    assert times[found.method] == min(times.values()) > 0
    assert set(dict(found.reasons)) == {name for name, time in times.items() if math.isinf(time)}
    x, w, dy = operands(case)
    result = call(function, *map(backend.array, (x, w, dy)), **case.keywords, method=found.method)
    expected = call(function, x, w, dy, reference, **case.keywords)
    assert_array(backend, result, expected, terms=8 * case.terms)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_measuring_takes_empty_batches_and_borders(function):
    shape = (0, 3, 5) if function.startswith("conv_transpose") else (0, 2, 5)
    words = {"xp": np, "dtype": np.dtype("float32"), "measure": True, "padding": 1, "padding_mode": "reflect"}
    found = xconv.plan(shape, (3, 2, 3), function=function, **words)
    assert found.measured
    assert found.method in dict(found.costs)


@pytest.mark.parametrize("measure", [1, None, "yes"])
def test_measure_is_true_or_false(measure):
    with pytest.raises(ValueError, match="measure must be True or False, got") as error:
        xconv.plan((1, 1, 8, 8), (1, 1, 3, 3), xp=np, dtype=FLOAT32, measure=measure)
    assert repr(measure) in str(error.value)


def test_a_plan_by_name_is_of_that_method_beside_the_others():
    shapes = (8, 64, 56, 56), (64, 64, 3, 3)
    for method in METHODS:
        found = xconv.plan(*shapes, xp=np, dtype=FLOAT32, padding=1, method=method)
        assert found.method == method
        assert set(dict(found.costs)) == set(METHODS)
        assert ("NaN and inf may spread" in repr(found)) == (method == "toeplitz")
        assert ("far outliers may spread" in repr(found)) == (method in ("winograd", "fft", "native"))


@pytest.mark.parametrize("room", [MIB, 2**28])
def test_pools_take_a_workspace(room):
    x = normal((2, 3, 40, 40))
    keywords = {"stride": 2, "padding": 1}
    y, mean = xconv.max_pool(x, 3, **keywords), xconv.avg_pool(x, 3, **keywords)
    assert np.array_equal(xconv.max_pool(x, 3, max_workspace=room, **keywords), y)
    assert np.array_equal(xconv.avg_pool(x, 3, max_workspace=room, **keywords), mean)
    dx = xconv.max_pool_grad(y, x, 3, max_workspace=room, **keywords)
    assert np.array_equal(dx, xconv.max_pool_grad(y, x, 3, **keywords))
    dx = xconv.avg_pool_grad(y, x.shape, 3, max_workspace=room, **keywords)
    assert np.array_equal(dx, xconv.avg_pool_grad(y, x.shape, 3, **keywords))


def test_forgetting_lets_other_constants_have_effect(numpy_backend, monkeypatch):
    counts, for_each = [], _blockwise.for_each

    def counted(function, items, threads):
        counts.append(len(items))
        for_each(function, items, threads)

    def blocks():
        counts.clear()
        xconv.conv(x, w, method="im2col")
        return sum(counts)

    monkeypatch.setattr(_blockwise, "for_each", counted)
    x, w = normal((8, 16, 40, 40)), normal((16, 16, 3, 3), 1)
    try:
        before = blocks()
        monkeypatch.setattr(schedule, "CACHED", schedule.CACHED // 64)
        assert blocks() == before
        forget()
        assert blocks() > before
    finally:
        monkeypatch.undo()
        forget()


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_the_workspace_is_64_mib_or_what_operands_and_result_take(dtype):
    def room(*shapes, **keywords):
        return xconv.plan(*shapes, xp=np, dtype=np.dtype(dtype), **keywords).workspace

    item = np.dtype(dtype).itemsize
    assert room((1, 1, 8, 8), (1, 1, 3, 3)) == 64 * MIB
    large = item * (8 * 2048 * 2048 + 4 * 8 * 9 + 4 * 2046 * 2046)
    assert large > 64 * MIB
    for function in FUNCTIONS:
        assert room((1, 8, 2048, 2048), (4, 8, 3, 3), function=function) == large
    assert room((1, 8, 2048, 2048), (4, 8, 3, 3), max_workspace=MIB) == MIB


def test_a_dilation_beyond_the_image_reads_the_middle_tap():
    """DeepLab's: 2048 x 33 x 33, 3 x 3, dilation 36."""
    x, w = normal((1, 2048, 33, 33), dtype="float32"), normal((8, 2048, 3, 3), 1, "float32")
    keywords = {"padding": 36, "dilation": 36}
    y = xconv.conv(x, w, **keywords)
    middle = w[:, :, 1, 1]
    assert y.shape == (1, 8, 33, 33)
    assert_values(y, np.einsum("kc,nchw->nkhw", middle, x, optimize=True), 1e-5)
    dx, dw, _ = xconv.conv_backward(y, x, w, **keywords)
    assert_values(dx, np.einsum("kc,nkhw->nchw", middle, y, optimize=True), 1e-5)
    expected = np.zeros(w.shape, dtype="float32")
    expected[:, :, 1, 1] = np.einsum("nkhw,nchw->kc", y, x, optimize=True)
    assert_values(dw, expected, 1e-5)


def test_an_echo_reads_two_taps_far_apart():
    x, w = normal((1, 1, 1_000_000)), normal((1, 1, 2), 1)
    first, second = x[..., :100_000], x[..., 900_000:]
    y = xconv.conv(x, w, dilation=900_000)
    assert_values(y, first * w[0, 0, 0] + second * w[0, 0, 1], 1e-12)
    dx, dw, _ = xconv.conv_backward(y, x, w, dilation=900_000)
    expected = np.zeros(x.shape)
    expected[..., :100_000] = y * w[0, 0, 0]
    expected[..., 900_000:] = y * w[0, 0, 1]
    assert_values(dx, expected, 1e-12)
    assert_values(dw, np.array([[[np.sum(y * first), np.sum(y * second)]]]), 1e-12)


def test_lists_are_remembered_as_tuples():
    """A call with padding=[1, 1], or with an int of NumPy's, is planned once; True is looked at every time."""
    seen = []
    run = remembering(trusted=1)(lambda first, rest: seen.append(rest))
    for rest in ([1, [2, 3]], (1, (2, 3)), [1, (2, 3)], [np.int64(1), (2, np.uint8(3))]):
        run("trusted", rest)
    assert seen == [(1, (2, 3))]
    run("trusted", [True])
    run("trusted", [True])
    assert seen[1:] == [[True], [True]]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_spectra_of_complex_numbers_are_counted_once(dtype):
    """Each of these with its conjugate is one element: counted twice, they were cut into blocks and parts of taps."""
    shape = (1, 1, 400, 400) if dtype == "complex64" else (1, 1, 250, 250)
    found = xconv.plan(shape, shape, xp=np, dtype=np.dtype(dtype), padding="full", method="fft")
    assert found.blocks == 1


@pytest.mark.on("jax")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("samples", "weight_shape", "edge"),
    [(100, (32, 3, 3, 3), 32), (32, (16, 16, 3, 3), 32), (8, (64, 3, 7, 7), 64), (32, (64, 64, 3, 3), 28)],
)
def test_what_a_program_of_windows_holds_is_about_what_its_plan_says(backend, function, samples, weight_shape, edge):
    """Costs of memory that comes page by page are by it."""
    import jax

    words = {"padding": weight_shape[-1] // 2, "method": "im2col"}
    x_shape, dtype = (samples, weight_shape[1], edge, edge), "float32"
    y_shape = samples, weight_shape[0], edge, edge
    x, w, dy = (jax.ShapeDtypeStruct(shape, dtype) for shape in (x_shape, weight_shape, y_shape))
    calls = {
        "conv": (lambda x, w: xconv.conv(x, w, **words), x, w),
        "conv_input_grad": (lambda dy, w: xconv.conv_input_grad(dy, w, x_shape, **words), dy, w),
        "conv_weight_grad": (lambda dy, x: xconv.conv_weight_grad(dy, x, weight_shape[2:], **words), dy, x),
    }
    run, *operands = calls[function]
    found = xconv.plan(x_shape, weight_shape, xp=backend.xp, dtype=backend.xp.float32, function=function, **words)
    held = jax.jit(run).lower(*operands).compile().memory_analysis().temp_size_in_bytes
    assert 0.3 * found.held < held / found.blocks < 1.5 * found.held


@pytest.mark.on("jax")
def test_windows_that_overlap_are_added_in_one_loop_of_a_program(backend):
    """Where they took five times as long, as NumPy's do, XLA's own was taken for few channels, and was slower."""
    words = {"xp": backend.xp, "dtype": backend.xp.float32, "padding": 1, "method": "im2col"}
    shapes = (100, 3, 32, 32), (32, 3, 3, 3)
    forward, backward = (dict(xconv.plan(*shapes, function=name, **words).costs)["im2col"] for name in FUNCTIONS[:2])
    assert backward < 1.5 * forward


@pytest.mark.on("jax", "torch")
def test_blocks_of_calls_are_so_small_that_malloc_keeps_their_arrays(backend):
    """Of JAX all blocks are one program, and on a GPU malloc has no say."""
    shapes = (2, 1, 1093, 1093), (1, 1, 3, 3)
    found = xconv.plan(*shapes, xp=backend.xp, dtype=backend.xp.float32, method="im2col")
    assert (found.held <= WHOLE) is (backend.name == "torch" and not on_accelerator(backend.xp))


def test_what_threads_do_not_share_is_cut_for_a_cache_alone():
    """They share the channels of a large gradient, to all of which each block adds: of 28 it took a quarter longer."""
    shapes, keywords = ((2, 256, 56, 56), (256, 256, 3, 3)), {"padding": 1, "method": "winograd"}
    found = xconv.plan(*shapes, xp=np, dtype=np.float32, function="conv_weight_grad", **keywords)
    assert found.blocks <= 8


@pytest.mark.parametrize("method", ["im2col", "winograd", "fft"])
@pytest.mark.parametrize("batch", range(2, 12))
def test_no_thread_waits_for_long(method, batch):
    """Of three blocks two threads would do two and one, of nine five and four."""
    shapes = (batch, 48, 56, 56), (48, 48, 3, 3)
    found = xconv.plan(*shapes, xp=np, dtype=np.float32, padding=1, method=method)
    assert found.blocks not in (3, 5, 7, 9)


@pytest.mark.on("numpy", "strict", "jax", "torch")
@pytest.mark.parametrize(("dtype", "is_there"), [("int32", True), ("float32", False)])
def test_integers_have_no_nan_that_zeros_could_spread(backend, dtype, is_there):
    """Where results cannot be looked at, products with zeros are no way of "direct" but for integers."""
    words = {"xp": backend.xp, "dtype": getattr(backend.xp, dtype), "method": "direct"}
    found = xconv.plan((1, 1, 60, 60), (1, 1, 9, 9), **words)
    ruled_out = "NaN and inf spread" in dict(found.reasons).get("toeplitz", "")
    assert ruled_out is not (is_there or backend.name == "numpy")


def test_steps_over_wider_numbers_take_as_many_times_as_long():
    """Four multiplications are one of complex numbers; an operation takes what Python does for it."""
    single, double, wide = (machine_of(np, np.dtype(name)).rates for name in ("float32", "float64", "complex128"))
    assert double.copied == 2 * single.copied > 0
    assert double.multiplication == 2 * single.multiplication > 0
    assert (wide.butterfly, wide.multiplication) == (4 * single.butterfly, 8 * single.multiplication)
    assert single.operation == double.operation == wide.operation > 0


@pytest.mark.parametrize(("dtype", "method"), [("float32", "toeplitz"), ("float64", "fft")])
def test_auto_weighs_what_numbers_take_to_multiply(dtype, method):
    """A line of 6,000 by 600 taps, where transforms take two thirds of the time in float64."""
    made = xconv.plan((1, 1, 6000), (1, 1, 600), xp=np, dtype=np.dtype(dtype), padding=599)
    assert made.method == method
