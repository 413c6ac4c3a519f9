"""Each method's six maps are three adjoint pairs, and every method gives the loops' result within its own rounding."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import reference
from backends import assert_array, assert_values
from geometries import FULL_CASES, Case, check_drawn, convolutions, normal, output_shape

import xconv
from xconv._arrays import windows as _windows
from xconv._arrays.matmul import matmul
from xconv._methods import METHODS, native_cudnn
from xconv._methods import native as _native
from xconv._plan.arguments import window_geometry
from xconv._plan.task import Task

CASES = [
    *FULL_CASES[::3],
    Case((2, 3, 13, 11), (4, 3, 3, 3), {"padding": 1}),
    Case((2, 4, 9, 10), (6, 2, 3, 3), {"groups": 2, "padding": [(2, 0), (1, 1)], "padding_mode": "circular"}),
    Case((1, 2, 7, 9, 6), (3, 2, 3, 3, 3), {"padding": 1}),
    Case((2, 2, 12), (3, 2, 4), {"flip": True}),
    Case((1, 2, 9, 9), (2, 2, 5, 1), {"padding": 2}),
    Case((1, 1, 20, 17), (2, 1, 9, 7), {"padding": "full", "dilation": (1, 2)}),
    Case((2, 1, 300), (1, 1, 17), {"stride": 3}),
    Case((1, 5, 4, 6, 2), (3, 2, 3, 2, 3), {"padding": 1, "flip": True, "channel_axis": -1}),
    Case((1, 9, 20, 2), (2, 2, 2, 3), {"channel_axis": -1, "padding": 1}),
    Case((2, 2, 1, 3), (3, 2, 3, 7), {"padding": (1, 3), "stride": (1, 2)}),
]

# Each refused for one reason alone, by one method at least.
REFUSED_CASES = [
    Case((1, 2, 9, 8), (2, 2, 3, 3), {"stride": (1, 2)}),
    Case((1, 2, 9, 8), (2, 2, 3, 3), {"dilation": (2, 1)}),
    Case((1, 2, 9, 8), (2, 2, 6, 2)),
    Case((2, 2, 4, 4), (3, 2, 1, 1)),
    Case((1, 2, 3, 3, 2, 3), (2, 2, 2, 2, 2, 2), {"padding": 1}),
]

# Largest error by the largest output, in epsilons times the length of the sum: what the docstrings say, with room.
ROUNDING = {"im2col": 1, "toeplitz": 1, "winograd": 8, "fft": 4, "native": 1}


def must_refuse(backend, method, case):
    """Whether the method cannot take the case, whatever the code that is tested says."""
    axes, largest = len(case.kernel_size), max(case.kernel_size)
    if method == "winograd":
        strides, dilations = (reference.sizes(case.keywords.get(name, 1), axes) for name in ("stride", "dilation"))
        last = case.keywords.get("channel_axis", 1) == -1
        size = case.input_shape[1:-1] if last else case.input_shape[2:]
        around = reference.pairs(case.keywords.get("padding", 0), size, case.kernel_size, strides, dilations)
        steps = [
            min(s, d + sum(pair)) for s, d, pair in zip(strides, size, around, strict=True)
        ]  # none is beyond the end
        return max(*steps, *dilations) > 1 or largest > 5 or largest == 1
    if method == "native":
        return axes > most_native_axes(backend)
    return False


def most_native_axes(backend):
    """How many the library's own convolution takes; none where it has none."""
    if backend.name.startswith("jax"):
        import jax

        return 99 if jax.default_backend() == "cpu" else 3  # where XLA would end the process
    return 3 if backend.name == "torch" or (backend.name == "cupy" and not native_cudnn.missing()) else 0


def operands(case, dtype="float64"):
    shapes = case.input_shape, case.weight_shape, (case.weight_shape[0],), output_shape(case)
    return [normal(shape, seed, dtype) for seed, shape in enumerate(shapes)]


@pytest.mark.on("numpy", "strict-device1", "jax-jit", "torch", "cupy")
@pytest.mark.over("case", CASES + REFUSED_CASES)
@pytest.mark.parametrize("method", ROUNDING)
def test_every_method_equals_the_loops(backend, method, case):
    equals_the_loops(backend, method, case)


@pytest.mark.on("numpy")
@pytest.mark.parametrize("method", METHODS)
def test_drawn_convolutions_by_every_method_equal_the_loops(backend, method):
    """Of images and of lines with kernels that may reach beyond both ends, which "auto" would take im2col for."""
    check_drawn(backend, convolutions(max_groups=2), lambda case: equals_the_loops(backend, method, case))


@pytest.mark.on("jax")
@pytest.mark.parametrize("method", ROUNDING)
def test_every_method_equals_the_loops_without_jit(backend, method):
    equals_the_loops(backend, method, Case((2, 2, 12), (3, 2, 4), {"flip": True}))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_equals_the_loops_with_the_traits_of_cupy(numpy_backend, named_cupy, method, case):
    """What CuPy does otherwise than NumPy is tested without a GPU, too."""
    equals_the_loops(numpy_backend, method, case)


def equals_the_loops(backend, method, case):
    """Or it is refused, if it must be and only then."""
    x, w, b, dy = operands(case)
    keywords, terms = case.keywords | {"method": method}, case.terms * ROUNDING[method]
    convolve = functools.partial(backend.run, xconv.conv, *map(backend.array, (x, w, b)), **keywords)
    differentiate = functools.partial(backend.run, xconv.conv_backward, *map(backend.array, (dy, x, w)), **keywords)
    if must_refuse(backend, method, case):
        for call in (convolve, differentiate):
            with pytest.raises(ValueError, match=f"method '{method}' must have"):
                call()
        return
    assert_array(backend, convolve(), reference.conv(x, w, b, **case.keywords), terms=terms)
    expected = (
        reference.conv_input_grad(dy, w, x.shape, **case.keywords),
        reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords),
        reference.bias_grad(dy, case.keywords.get("channel_axis", 1)),
    )
    for gradient, values in zip(differentiate(), expected, strict=True):
        assert_array(backend, gradient, values, terms=terms)


@pytest.mark.on("numpy", "strict", "torch")
@pytest.mark.parametrize("method", METHODS)
def test_complex_numbers_by_every_method(backend, method):
    case = Case((2, 4, 7, 6), (4, 2, 3, 3), {"groups": 2, "padding": 1, "flip": True})
    x, w, b, dy = operands(case, "complex128")
    y = backend.run(xconv.conv, *map(backend.array, (x, w, b)), **case.keywords, method=method)
    assert_array(backend, y, reference.conv(x, w, b, **case.keywords), terms=case.terms)
    dx, dw, _ = backend.run(xconv.conv_backward, *map(backend.array, (dy, x, w)), **case.keywords, method=method)
    assert_array(backend, dx, reference.conv_input_grad(dy, w, x.shape, **case.keywords), terms=case.terms)
    assert_array(backend, dw, reference.conv_weight_grad(dy, x, (3, 3), **case.keywords), terms=case.terms)


WINDOWS = {
    "im2col": ((7, 8), (3, 2), {"stride": (2, 1), "padding": [(1, 2), (0, 1)], "dilation": (1, 2)}),
    "im2col of rows": ((7, 8), (3, 2), {"stride": (1, 2), "padding": [(1, 2), (0, 1)], "dilation": (2, 1)}),
    "toeplitz": ((7, 61), (3, 2), {"stride": (1, 2), "padding": [(1, 2), (0, 1)], "dilation": (2, 1)}),
    "toeplitz of rows": ((7, 41), (3, 4), {"stride": 1, "padding": [(1, 2), (0, 3)], "dilation": (2, 1)}),
    "winograd": ((7, 9), (3, 2), {"stride": 1, "padding": [(1, 2), (0, 1)], "dilation": 1}),
    "fft": ((9, 20), (3, 5), {"stride": (1, 2), "padding": [(1, 2), (0, 3)], "dilation": (2, 1)}),
}


BATCH, GROUPS, CHANNELS, FILTERS = 3, 2, 4, 5
COUNTS = {"im2col": 2, "im2col of rows": 1, "toeplitz": 2, "toeplitz of rows": 2, "winograd": 1}


def variants_of(method, geometry, dtype, names=()):
    """All with these maps that the method has for these windows, forward and for sums over positions."""
    found = {}
    for product in ("forward", "backward_filter"):
        task = Task(product, geometry, BATCH, GROUPS, CHANNELS, FILTERS)
        variants = METHODS[method.split()[0]](np, np.dtype(dtype), task)
        found |= {(type(variant), *vars(variant).values()): variant for variant in variants}
    return [variant for variant in found.values() if set(names) <= vars(type(variant)).keys()]


def inner(left, right, maps):
    """<left, right>; of a real block's half spectrum, that of the whole spectrum."""
    weights = np.ones(left.shape)
    if hasattr(maps, "real") and maps.real and np.iscomplexobj(left):
        size = maps.size[-1]
        weights[:, 1 : (size + 1) // 2] = 2  # the second axis is half a spectrum
    return np.sum(weights * left.conj() * right)


@pytest.mark.parametrize("pair", ["input", "weight", "output"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("method", WINDOWS)
def test_each_pair_of_maps_is_adjoint(method, dtype, pair):
    size, kernel, keywords = WINDOWS[method]
    geometry = window_geometry(size, kernel, **keywords)
    shape = {
        "input": (BATCH, GROUPS, CHANNELS, *geometry.input_size),
        "weight": (GROUPS, FILTERS, CHANNELS, *geometry.kernel_size),
        "output": (BATCH, GROUPS, FILTERS, *geometry.output_size),
    }[pair]
    names = (f"{pair}_map", f"{pair}_adjoint") if pair != "output" else ("output_adjoint", "output_map")
    variants = variants_of(method, geometry, dtype, names)
    assert len(variants) == COUNTS.get(method, len(variants))
    for maps in variants:
        forward, adjoint = (functools.partial(getattr(maps, name), np, geometry=geometry) for name in names)
        data = normal(shape, dtype=dtype)
        image = forward(data)
        other = forward(normal(shape, 1, dtype))  # for a real block: a spectrum that is one of real numbers
        assert adjoint(other).shape == shape
        left, right = inner(image, other, maps), np.sum(data.conj() * adjoint(other))
        scale = np.prod(maps.size) if method == "fft" and pair == "weight" else 1
        assert abs(left.real - right.real) <= 1e-12 * data.size * scale
        assert dtype == "float64" or abs(left - right) <= 1e-12 * data.size * scale


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        ("conv", (1, None, 32)),
        ("conv_input_grad", (1, 32, None)),
        ("conv_weight_grad", (None, 16, 32)),
    ],
)
@pytest.mark.parametrize("summed", [16, 256, 512])
@pytest.mark.parametrize(("method", "bound"), [("im2col", 1e-6), ("toeplitz", 1e-6), ("winograd", 1e-5), ("fft", 4e-6)])
def test_float32_errors_stay_where_the_docstrings_say(method, bound, summed, function, sizes):
    """auto takes winograd only where its error stays under 1e-5 of the largest output; float64 measures it.

    Sums are over channels, filters or samples (of 14 x 14 positions): so many of what None stands for.
    """
    batch, channels, filters = (size or (summed if function != "conv_weight_grad" else summed // 16) for size in sizes)
    x, w, dy = (
        normal(shape, seed, "float32")
        for seed, shape in enumerate([(batch, channels, 14, 14), (filters, channels, 3, 3), (batch, filters, 14, 14)])
    )
    call = {
        "conv": lambda x, w, dy, **keywords: xconv.conv(x, w, **keywords),
        "conv_input_grad": lambda x, w, dy, **keywords: xconv.conv_input_grad(dy, w, x.shape, **keywords),
        "conv_weight_grad": lambda x, w, dy, **keywords: xconv.conv_weight_grad(dy, x, 3, **keywords),
    }[function]
    exact = call(*(array.astype("float64") for array in (x, w, dy)), padding=1, method="im2col")
    assert exact.dtype == np.float64
    result = call(x, w, dy, padding=1, method=method, max_workspace=2**28)  # toeplitz has many bands
    assert result.dtype == np.float32
    assert_values(result, exact, bound)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_winograd_coefficients_are_exact(k, n):
    """Small integers through exact rationals: rounding is all that is left in float64."""
    rng = np.random.default_rng(k)
    x, w = rng.integers(-9, 10, (1, 2, *(9,) * n)) * 1.0, rng.integers(-9, 10, (2, 2, *(k,) * n)) * 1.0
    y = xconv.conv(x, w, method="winograd")
    expected = xconv.conv(x.astype("int64"), w.astype("int64"))
    assert np.max(np.abs(y - expected)) <= 1e-11 * np.max(np.abs(expected))


@pytest.mark.parametrize("short", [0, _windows.SHORT])
@pytest.mark.parametrize("column", [0, 6, 11])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_im2col_keeps_nan_and_inf_in_their_windows(monkeypatch, bad, column, short):
    """Also at the end of a row, where the next one begins in memory, as images are read that are not short."""
    monkeypatch.setattr(_windows, "SHORT", short)
    x, w = normal((1, 2, 12, 12)), normal((3, 2, 3, 3), 1)
    x[0, 1, 5, column] = bad
    y = xconv.conv(x, w, padding=1, method="im2col")
    expected = np.zeros(y.shape, dtype=bool)
    expected[..., 4:7, max(column - 1, 0) : column + 2] = True
    assert np.array_equal(~np.isfinite(y), expected)


# How far into y, along its two axes, the methods' blocks that read the first element reach: four rows of 16, or tiles.
SPREAD = {"toeplitz": (4, 16), "winograd": (4, 4), "fft": (None, None)}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", SPREAD)
def test_other_methods_spread_nan_no_further_than_their_blocks(method, bad):
    """Toeplitz over the rows or strips that read it, Winograd over the tiles of four, the transform over its block."""
    x, w = normal((2, 2, 12, 48)), normal((3, 2, 3, 3), 1)
    x[0, 1, 0, 0] = bad
    with np.errstate(invalid="ignore"):  # zeros times inf
        y = xconv.conv(x, w, padding=1, method=method)
    rows, columns = SPREAD[method]
    assert not np.any(np.isfinite(y[0, :, :2, :2]))
    assert np.all(np.isfinite(y[1]))
    assert rows is None or np.all(np.isfinite(y[:, :, rows:]))
    assert columns is None or np.all(np.isfinite(y[..., columns:]))


@pytest.mark.parametrize(
    ("kernel", "unit"),
    [
        ((3,), (4,)),
        ((3, 3), (4, 4)),
        ((3, 1), (4, 1)),
        ((2, 4), (5, 3)),
        ((3, 3, 3), (2, 2, 2)),
        ((3, 1, 3, 3), (2, 1, 2, 2)),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_winograd_takes_smaller_tiles_over_three_axes(kernel, unit, dtype):
    """F(4, 3) on one or two axes, F(2, 3) on more, where its errors multiply."""
    geometry = window_geometry((20,) * len(kernel), kernel, stride=1, padding=0, dilation=1)
    assert [maps.unit for maps in variants_of("winograd", geometry, dtype)] == [unit]


def operations_of_pytorch(function):
    """What PyTorch is asked for by a function: names, arguments, and results."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
            result = operation(*arguments, **(keywords or {}))
            found.append((operation.overloadpacket.__name__, arguments, result))
            return result

    found = []
    with Noting():
        function()
    return found


@pytest.mark.parametrize(
    ("function", "operands", "sizes"),
    [("conv", "xw", []), ("conv_input_grad", "yw", [(8, 16, 32, 32)]), ("conv_weight_grad", "yx", [(1, 1)])],
)
def test_samples_of_many_positions_are_multiplied_where_pytorch_has_them(torch_backend, function, operands, sizes):
    shapes = {"x": (8, 16, 32, 32), "w": (16, 16, 1, 1), "y": (8, 16, 32, 32)}
    arrays = [torch_backend.array(normal(shapes[name], dtype="float32")) for name in operands]
    found = operations_of_pytorch(lambda: getattr(xconv, function)(*arrays, *sizes, method="im2col"))
    copied = [result.numel() for name, _, result in found if name in ("clone", "copy_", "_to_copy")]
    assert "bmm" in [name for name, *_ in found]
    assert max(copied, default=0) < arrays[0].numel() // 8


@pytest.mark.parametrize(
    ("method", "input_shape", "weight_shape", "groups"),
    [("fft", (12, 18, 852), (5, 18, 25), 1), ("toeplitz", (18, 45, 3411), (45, 1, 7), 45)],
)
def test_pytorch_copies_no_small_matrices_one_by_one(torch_backend, method, input_shape, weight_shape, groups):
    """As it would inside of a product where BLAS cannot read them."""
    x, w = (torch_backend.array(normal(shape, dtype="float32")) for shape in (input_shape, weight_shape))
    words = {"padding": weight_shape[-1] // 2, "groups": groups, "method": method}
    found = operations_of_pytorch(lambda: xconv.conv(x, w, **words))
    stacks = [stack for name, arguments, _ in found if name == "bmm" for stack in arguments]
    assert stacks
    for stack in stacks:
        (rows, columns), (down, across) = stack.shape[-2:], stack.stride()[-2:]
        assert (across == 1 and down >= columns) or (down == 1 and across >= rows)


@pytest.mark.parametrize("samples", [1, 3])
def test_im2col_of_one_element_copies_nothing(samples):
    """What it multiplies is the input itself, if samples are stacked."""
    geometry = window_geometry((10, 12), 1, stride=1, padding=0, dilation=1)
    (maps,) = variants_of("im2col", geometry, "float32")
    x = normal((samples, 2, 4, 10, 12), dtype="float32")
    columns = maps.input_map(np, x, geometry)
    assert maps.stacked
    assert np.may_share_memory(columns, x)
    assert np.array_equal(columns, x.reshape(samples, 2, 4, 120))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64"])
@pytest.mark.parametrize("method", ["im2col", "toeplitz"])
def test_integers_are_exact(method, dtype):
    x, w = normal((2, 4, 7, 20), dtype=dtype), normal((4, 1, 3, 3), 1, dtype)
    keywords = {"groups": 4, "padding": 1, "stride": (1, 2)}
    y = xconv.conv(x, w, **keywords, method=method)
    assert y.dtype == x.dtype
    assert np.array_equal(y, reference.conv(x, w, None, **keywords))
    dx, dw, _ = xconv.conv_backward(y, x, w, **keywords, method=method)
    assert np.array_equal(dx, reference.conv_input_grad(y, w, x.shape, **keywords))
    assert np.array_equal(dw, reference.conv_weight_grad(y, x, (3, 3), **keywords))


@pytest.mark.parametrize("method", ["winograd", "fft"])
def test_integers_are_refused_where_they_would_not_be_exact(method):
    x, w = np.ones((1, 1, 8, 8), dtype="int32"), np.ones((1, 1, 3, 3), dtype="int32")
    with pytest.raises(ValueError, match=f"method '{method}' must have floating-point"):
        xconv.conv(x, w, method=method)
    assert xconv.choose_method(x.shape, w.shape, xp=np, dtype=x.dtype) == "im2col"


@pytest.mark.parametrize(
    ("method", "keywords", "message"),
    [
        ("winograd", {"stride": 2}, r"method 'winograd' must have stride 1.*got stride \(2, 2\)"),
        ("winograd", {"dilation": 2}, r"method 'winograd' must have stride 1, dilation 1.*dilation \(2, 2\)"),
        ("native", {}, r"method 'native' must have real floating-point arrays of JAX.*got .*numpy"),
    ],
)
def test_a_method_that_cannot_says_what_it_needs(method, keywords, message):
    with pytest.raises(ValueError, match=message) as error:
        xconv.conv(np.ones((1, 1, 8, 8)), np.ones((1, 1, 3, 3)), method=method, **keywords)
    assert " must " in str(error.value)


@pytest.mark.parametrize("method", ["auto", "winograd"])
@pytest.mark.parametrize(("channels", "size"), [(512, (1024,)), (64, (64, 64)), (512, (28, 28)), (512, (8, 8, 8))])
def test_errors_of_what_auto_may_take_stay_small(channels, size, method):
    """The most channels that Winograd's sums may be over have the largest error."""
    x = normal((1, channels, *size), dtype="float32")
    w = normal((channels, channels, *(3,) * len(size)), 1, "float32")
    exact = xconv.conv(x.astype("float64"), w.astype("float64"), method="im2col")
    assert_values(xconv.conv(x, w, method=method), exact, 1e-5)


@pytest.mark.on("numpy", "jax", "torch")
@pytest.mark.parametrize(("channels", "filters"), [(1024, 1024), (512, 1024), (1024, 512), (512, 512)])
def test_auto_never_sums_over_many_channels_by_winograd(backend, channels, filters):
    """The gradient by the input sums over filters, that by the filters over positions."""
    shapes, xp = ((2, channels, 14, 14), (filters, channels, 3, 3)), backend.xp
    sums = {"conv": channels, "conv_input_grad": filters, "conv_weight_grad": 0}
    for function, summed in sums.items():
        found = xconv.plan(*shapes, xp=xp, dtype=xp.float32, padding=1, function=function)
        assert ("winograd" in dict(found.reasons)) == (summed > 512)
        assert summed <= 512 or "rounding errors" in dict(found.reasons)["winograd"]
        assert found.method not in dict(found.reasons)


@pytest.mark.parametrize("kernel", [4, 5])
def test_auto_never_takes_winograd_for_larger_kernels(kernel):
    found = xconv.plan((8, 64, 56, 56), (64, 64, kernel, kernel), xp=np, dtype=np.dtype("float32"))
    assert "rounding errors" in dict(found.reasons)["winograd"]
    assert found.method != "winograd"


@pytest.mark.on("numpy", "jax", "torch")
@pytest.mark.parametrize("name", ["int32", "complex64"])
def test_auto_leaves_only_real_numbers_to_the_library(backend, name):
    found = xconv.plan((8, 64, 56, 56), (64, 64, 3, 3), xp=backend.xp, dtype=getattr(backend.xp, name))
    assert "native" not in dict(found.costs)
    assert found.method == "im2col" or name == "complex64"


FUSED_CASES = [
    Case((2, 1, 9, 8), (1, 1, 3, 3), {"padding": ((1, 0), (0, 2)), "stride": (2, 1)}),
    Case((2, 6, 7, 9), (6, 2, 2, 3), {"groups": 3, "dilation": (1, 2), "stride": (1, 3), "padding": 2}),
    Case((3, 4, 12), (8, 1, 5), {"groups": 4, "padding": "full", "dilation": 2}),
    Case((1, 2, 5, 4, 6), (3, 2, 2, 3, 1), {"stride": (3, 2, 2), "padding": (0, 3, 1)}),
]


@pytest.mark.on("jax", "jax-jit")
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int8", "float16"])
@pytest.mark.over("case", FUSED_CASES)
def test_few_channels_are_sums_that_jax_makes_one_loop_of(backend, case, dtype):
    """Integers exactly, and complex gradients conjugated."""
    numbers = [np.round(2 * values.real) for values in operands(case)]
    x, w, _, dy = (n.astype(dtype) * (1 if dtype != "complex64" else np.complex64(1 + 2j)) for n in numbers)
    run = functools.partial(backend.run, method="native", **case.keywords)
    exact = [values.astype("complex128" if dtype == "complex64" else "float64") for values in (x, w, dy)]
    expected = reference.conv(*exact[:2], **case.keywords)
    y = run(xconv.conv, backend.array(x), backend.array(w))
    assert backend.to_numpy(y).dtype == dtype
    assert np.array_equal(backend.to_numpy(y), expected.astype(dtype))
    dx = run(xconv.conv_input_grad, backend.array(dy), backend.array(w), input_shape=x.shape)
    expected = reference.conv_input_grad(exact[2], exact[1], x.shape, **case.keywords)
    assert np.array_equal(backend.to_numpy(dx), expected.astype(dtype))
    dw = run(xconv.conv_weight_grad, backend.array(dy), backend.array(x), kernel_size=case.kernel_size)
    expected = reference.conv_weight_grad(exact[2], exact[0], case.kernel_size, **case.keywords)
    assert np.array_equal(backend.to_numpy(dw), expected.astype(dtype))


@pytest.mark.on("jax")
@pytest.mark.over("case", FUSED_CASES)
def test_they_are_differentiated_as_xlas_own_are(backend, case):
    """By both operands, forwards and backwards, twice, and over a batch of filters."""
    import jax

    x, w, *_ = (backend.array(values.astype("float32")) for values in operands(case))
    n, keywords = len(case.kernel_size), case.keywords
    words = {"stride": 1, "padding": 0, "dilation": 1} | {k: v for k, v in keywords.items() if k != "groups"}
    padding = window_geometry(case.input_shape[2:], case.kernel_size, **words).padding

    def each(value):
        return (value,) * n if isinstance(value, int) else value

    def own(x, w):
        return xconv.conv(x, w, method="native", **keywords)

    def librarys(x, w):
        strides = {"window_strides": each(keywords.get("stride", 1)), "rhs_dilation": each(keywords.get("dilation", 1))}
        groups = keywords.get("groups", 1)
        return jax.lax.conv_general_dilated(x, w, padding=padding, feature_group_count=groups, **strides)

    def outcomes(function):
        def loss(x, w):
            return (function(x, w) ** 3).sum()

        yield jax.jvp(function, (x, w), (x, 2 * w))
        yield jax.grad(loss, (0, 1))(x, w)
        yield jax.grad(lambda x, w: (jax.grad(loss)(x, w) * x).sum(), 1)(x, w)
        yield jax.vmap(function, (None, 0))(x, backend.xp.stack([w, -w]))

    for found, expected in zip(
        map(jax.tree.leaves, outcomes(own)), map(jax.tree.leaves, outcomes(librarys)), strict=True
    ):
        for one, other in zip(found, expected, strict=True):
            assert_values(np.asarray(one), np.asarray(other), 1e-4)


@pytest.mark.on("jax")
@pytest.mark.parametrize(
    ("groups", "function"),
    [(1, "conv"), (1, "conv_input_grad"), (64, "conv"), (64, "conv_input_grad"), (64, "conv_weight_grad")],
)
def test_auto_takes_them_where_xla_has_no_fast_path(backend, groups, function):
    shapes = (8, groups, 56, 56), (groups, 1, 3, 3)
    found = xconv.plan(*shapes, groups=groups, xp=backend.xp, dtype=backend.xp.float32, function=function)
    assert found.method == "native"


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("function", ["forward", "input_grad", "weight_grad"])
def test_the_own_convolution_of_jax_compiles_to_what_lax_compiles_to(jax_backend, function, stride):
    """Whatever times differ by where auto leaves a layer to the library, the program is the same."""
    import jax

    shapes = (2, 16, 9, 9), (24, 16, 3, 3), (2, 24, -(-9 // stride), -(-9 // stride))
    x, w, dy = (jax.ShapeDtypeStruct(shape, "float32") for shape in shapes)
    keywords = {"stride": stride, "padding": 1, "method": "native"}

    def lax(x, w):
        return jax.lax.conv_general_dilated(x, w, (stride, stride), [(1, 1), (1, 1)])

    own, librarys, operands = {
        "forward": (lambda x, w: xconv.conv(x, w, **keywords), lax, (x, w)),
        "input_grad": (
            lambda dy, w: xconv.conv_input_grad(dy, w, x.shape, **keywords),
            lambda dy, w: jax.linear_transpose(lambda x: lax(x, w), x)(dy)[0],
            (dy, w),
        ),
        "weight_grad": (
            lambda dy, x: xconv.conv_weight_grad(dy, x, (3, 3), **keywords),
            lambda dy, x: jax.linear_transpose(lambda w: lax(x, w), w)(dy)[0],
            (dy, x),
        ),
    }[function]
    programs = [_program(jax.jit(call).lower(*operands).compile().as_text()) for call in (own, librarys)]
    assert programs[0] == programs[1]
    assert re.search(r"convolution|__cudnn\$conv", programs[0])


def _program(text):
    """The operations of a compiled module without where in the sources they come from."""
    lines = (re.sub(r", metadata={[^}]*}", "", line) for line in text.splitlines())
    return "\n".join(line for line in lines if line.startswith(("%", "  ", "ENTRY")))


@pytest.mark.parametrize("function", ["input_grad", "weight_grad"])
def test_xla_transposes_a_factor_within_the_product(jax_backend, function):
    """In a stack, even of one, it is copied first: all windows, of the gradient by the filters."""
    import jax

    x, w, dy = (jax.ShapeDtypeStruct(shape, "float32") for shape in ((2, 3, 9, 9), (8, 3, 3, 3), (2, 8, 5, 5)))
    keywords = {"stride": 2, "padding": 1, "method": "im2col"}
    call, operands, copied = {
        "input_grad": (lambda dy, w: xconv.conv_input_grad(dy, w, x.shape, **keywords), (dy, w), "f32[27,8]"),
        "weight_grad": (lambda dy, x: xconv.conv_weight_grad(dy, x, (3, 3), **keywords), (dy, x), "f32[50,27]"),
    }[function]
    program = _program(jax.jit(call).lower(*operands).compile().as_text())
    assert "dot(" in program
    assert copied not in program


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_are_added_up_in_one_loop_under_xla(jax_backend, stride):
    """A scatter for each element of the window goes over dx again each time, by single elements with strides."""
    import jax

    dy = jax.ShapeDtypeStruct((2, 8, -(-9 // stride), -(-9 // stride)), "float32")
    w = jax.ShapeDtypeStruct((8, 1, 3, 3), "float32")
    keywords = {"stride": stride, "padding": 1, "method": "im2col"}
    call = jax.jit(lambda dy, w: xconv.conv_input_grad(dy, w, (2, 1, 9, 9), **keywords))
    text = call.lower(dy, w).as_text()
    assert "scatter" not in text
    assert "stablehlo.pad" in text


def test_a_volume_that_fits_one_transform_has_one(numpy_backend):
    """The cube root of 2**18 is 63.99... in floating point."""
    variants = variants_of("fft", window_geometry((64, 64, 64), 7, stride=1, padding=0, dilation=1), "float64")
    assert (64, 64, 64) in [maps.size for maps in variants]
    assert 2 * len({maps.size for maps in variants}) == len(variants) > 2  # for each product


def test_many_tiny_products_under_cupy_are_one(named_cupy):
    """A sum of outer products would be two kernels for each of its terms."""
    products = []
    named_cupy.matmul = lambda left, right: products.append(left.shape) or np.matmul(left, right)
    left, right = normal((5000, 1, 100)), normal((5000, 100, 1), 1)
    assert np.allclose(matmul(named_cupy, left, right), np.matmul(left, right))
    assert products == [left.shape]


def test_jax_is_left_over_four_axes_with_an_accelerator(jax_backend, monkeypatch):
    """XLA would end the process."""
    shapes = {"input_shape": (1, 2, 3, 3, 2, 3), "weight_shape": (2, 2, 2, 2, 2, 2)}
    keywords = {"xp": jax_backend.xp, "dtype": np.dtype("float32")}
    monkeypatch.setattr(_native, "on_accelerator", lambda xp: True)
    assert xconv.choose_method(**shapes, **keywords) != "native"
    assert xconv.choose_method((1, 2, 3, 3, 2), (2, 2, 2, 2, 2), **keywords) == "native"
    x, w = (jax_backend.array(np.ones(shape)) for shape in shapes.values())
    with pytest.raises(ValueError, match=r"method 'native' must have .* at most 3 spatial axes, as JAX on a GPU"):
        xconv.conv(x, w, method="native")


def test_a_single_window_of_padding_alone_reads_nothing(numpy_backend):
    x, w = np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    y = xconv.conv(x, w, stride=(3, 1), padding=[(2, 0), (0, 0)], method="fft")
    assert np.array_equal(y, [[[[0]]]])


def test_no_method_is_asked_less_of_an_empty_batch_of_integers():
    for method in ("fft", "winograd"):
        with pytest.raises(ValueError, match=f"method '{method}'") as error:
            xconv.conv(np.ones((0, 2, 9, 9), "int8"), np.ones((2, 2, 3, 3), "int8"), method=method)
        assert "must have floating-point arrays, got integers" in str(error.value)


def test_no_plan_is_of_a_convolution_that_a_library_has_not():
    with pytest.raises(ValueError, match="method 'native'") as error:
        xconv.plan((1, 2, 9, 9), (2, 2, 3, 3), xp=np, dtype=np.dtype("float32"), method="native")
    assert "must have a convolution of the library's own" in str(error.value)
