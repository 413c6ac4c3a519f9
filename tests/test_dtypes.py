"""Half precision summed in float32, integers exact, complex gradients conjugated, operands promoted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import Case, normal

import xconv
from xconv.testing import check_adjoint

CASE = Case((2, 4, 6, 5), (6, 2, 3, 3), {"groups": 2, "stride": 2, "padding": 1})
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
HALVES = ["float16", "bfloat16"]


def half(backend, name):
    """The backend's half-precision dtype, or a skip that says who lacks it."""
    if backend.name.startswith("strict"):
        pytest.skip("the Array API has no half precision")
    if not hasattr(backend.xp, name):
        pytest.skip(f"{backend.name} has no {name}")
    return getattr(backend.xp, name)


def cast(backend, values, dtype):
    return backend.xp.astype(backend.array(values), dtype)


def numbers(backend, array):
    """A half-precision array as float32 numbers of NumPy's."""
    return backend.to_numpy(backend.xp.astype(array, backend.xp.float32))


@pytest.mark.over("name", HALVES)
def test_a_long_sum_keeps_what_half_precision_would_lose(backend, name):
    """4,096 ones: a running sum of ones in float16 stops growing at 2**11, in bfloat16 at 2**8."""
    dtype = half(backend, name)
    x, w = (cast(backend, np.ones(shape), dtype) for shape in ((1, 4096, 1), (1, 4096, 1)))
    y = backend.run(xconv.conv, x, w)
    assert y.dtype == dtype
    assert numbers(backend, y).item() == 4096
    dw = backend.run(
        lambda dy, x: xconv.conv_weight_grad(dy, x, 1), *(cast(backend, np.ones((1, 1, 4096)), dtype),) * 2
    )
    assert numbers(backend, dw).item() == 4096
    pooled = backend.run(lambda x: xconv.avg_pool(x, 64), cast(backend, np.ones((1, 1, 64, 64)), dtype))
    assert numbers(backend, pooled).item() == 1


def test_a_sum_may_overflow_on_the_way_in_float16(backend):
    """300 * 300 is beyond float16, the sum is not."""
    dtype = half(backend, "float16")
    x, w = cast(backend, [[[300.0], [300.0]]], dtype), cast(backend, [[[300.0], [-300.0]]], dtype)
    y = backend.run(xconv.conv, x, w, cast(backend, [7.0], dtype))
    assert numbers(backend, y).item() == 7


@pytest.mark.over("name", HALVES)
def test_half_precision_rounds_once(backend, name):
    """The result is that of the loops on the same numbers, rounded to the dtype at the very end."""
    dtype = half(backend, name)
    x, w, dy = (normal(shape, seed) for seed, shape in enumerate([CASE.input_shape, CASE.weight_shape, (2, 6, 3, 3)]))
    x, w, dy = (cast(backend, values, dtype) for values in (x, w, dy))
    exact = [numbers(backend, array).astype("float64") for array in (x, w, dy)]
    epsilon = float(backend.xp.finfo(dtype).eps)
    results = [
        backend.run(xconv.conv, x, w, **CASE.keywords),
        *backend.run(xconv.conv_backward, dy, x, w, **CASE.keywords),
    ]
    expected = [
        reference.conv(*exact[:2], **CASE.keywords),
        reference.conv_input_grad(exact[2], exact[1], CASE.input_shape, **CASE.keywords),
        reference.conv_weight_grad(exact[2], exact[0], CASE.kernel_size, **CASE.keywords),
        reference.bias_grad(exact[2]),
    ]
    for result, values in zip(results, expected, strict=True):
        assert result.dtype == dtype
        error = np.abs(numbers(backend, result) - values)
        assert np.all(error <= 0.5 * epsilon * np.abs(values) + 1e-5)  # half a spacing, and float32's own rounding


@pytest.mark.parametrize("dtype", ["float16", "int16"])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_sums_of_another_dtype_in_all_small_geometries(dtype, dilation):
    """Also of windows wholly in the padding, and of strides where no window reads some of the inputs."""
    for size, kernel, stride, padding in itertools.product((1, 5), (1, 2, 3), (1, 2, 3), (0, 1, 3)):
        if size + 2 * padding <= dilation * (kernel - 1):
            continue
        keywords = {"stride": stride, "padding": padding, "dilation": dilation}
        x, w = (np.arange(math.prod(shape)).reshape(shape) % 5 - 2 for shape in ((2, 3, size), (3, 3, kernel)))
        y = reference.conv(x, w, **keywords)
        dy = np.arange(y.size).reshape(y.shape) % 3
        found = xconv.conv_backward(*(array.astype(dtype) for array in (dy, x, w)), **keywords)
        assert np.array_equal(xconv.conv(x.astype(dtype), w.astype(dtype), **keywords), y)
        assert np.array_equal(found[0], reference.conv_input_grad(dy, w, x.shape, **keywords))
        assert np.array_equal(found[1], reference.conv_weight_grad(dy, x, (kernel,), **keywords))
        if (y.shape[2] - 1) * stride + dilation * (kernel - 1) < 2 * padding:  # of which no element would be left
            continue
        b = np.arange(3) - 1
        grown = xconv.conv_transpose(*(array.astype(dtype) for array in (dy, w, b)), **keywords)
        expected = reference.conv_input_grad(dy, w, (*x.shape[:2], grown.shape[2]), **keywords)
        assert np.array_equal(grown, expected + b[:, None])


@pytest.mark.over("name", HALVES)
def test_pools_of_half_precision(backend, name):
    dtype = half(backend, name)
    x = cast(backend, np.round(8 * normal((1, 2, 6, 5))), dtype)
    exact = numbers(backend, x)
    y = backend.run(xconv.max_pool, x, kernel_size=2, stride=1, padding=1)
    assert y.dtype == dtype
    assert np.array_equal(numbers(backend, y), reference.max_pool(exact, 2, stride=1, padding=1))
    dx = backend.run(xconv.max_pool_grad, y, x, kernel_size=2, stride=1, padding=1)
    assert dx.dtype == dtype
    expected = reference.max_pool_grad(numbers(backend, y), exact, 2, stride=1, padding=1)
    assert np.allclose(numbers(backend, dx), expected, rtol=float(backend.xp.finfo(dtype).eps))


@pytest.mark.over("dtype", INTEGERS)
def test_integers_wrap_as_the_dtype_does(backend, dtype):
    """Numbers over the whole range: every product and sum overflows, and the result is exact modulo 2**bits."""
    info, rng = np.iinfo(dtype), np.random.default_rng(0)
    x, w, dy = (
        rng.integers(info.min, info.max, size=shape, dtype=dtype, endpoint=True)
        for shape in (CASE.input_shape, CASE.weight_shape, (2, 6, 3, 3))
    )
    y = backend.run(xconv.conv, backend.array(x), backend.array(w), **CASE.keywords)
    assert_array(backend, y, reference.conv(x, w, **CASE.keywords), terms=0)
    dx, dw, db = backend.run(xconv.conv_backward, *map(backend.array, (dy, x, w)), **CASE.keywords)
    assert_array(backend, dx, reference.conv_input_grad(dy, w, x.shape, **CASE.keywords), terms=0)
    assert_array(backend, dw, reference.conv_weight_grad(dy, x, CASE.kernel_size, **CASE.keywords), terms=0)
    assert_array(backend, db, dy.sum(axis=(0, 2, 3), dtype=dtype), terms=0)
    pooled = backend.run(xconv.max_pool, backend.array(x), kernel_size=2, stride=1, padding=1)
    assert_array(backend, pooled, reference.max_pool(x, 2, stride=1, padding=1), terms=0)
    col = backend.run(xconv.im2col, backend.array(x), kernel_size=2, pad_value=info.max, padding=1)
    assert_array(backend, col, reference.im2col(x, 2, info.max, padding=1), terms=0)


@pytest.mark.over("dtype", ["int32", "int64", "uint64"])
def test_large_integers_are_exact(backend, dtype):
    """2**24 + 1 has no float32, 2**53 + 1 no float64."""
    large = 2**24 + 1 if dtype == "int32" else 2**53 + 1
    x, w = np.full((1, 1, 3), large, dtype), np.array([[[1, 0, 1]]], dtype)
    y = backend.run(xconv.conv, backend.array(x), backend.array(w))
    assert_array(backend, y, np.array([[[2 * large]]], dtype), terms=0)


@pytest.mark.over("limit", [2**24, 2**53])
def test_sums_of_integers_are_exact_at_the_limits_of_floating_point(backend, limit):
    """The factors are below what float32, or float64, holds, and so are products; their sum is one more than it."""
    half, expected = limit // 2, np.array([[[limit + 1]]])
    halves, ones = backend.array(np.array([[[half, half + 1]]])), backend.array(np.ones((1, 1, 2), dtype=np.int64))
    assert_array(backend, backend.run(xconv.conv, halves, ones), expected, terms=0)
    assert_array(backend, backend.run(xconv.conv, ones, halves), expected, terms=0)
    assert_array(backend, backend.run(xconv.conv_weight_grad, halves, ones, kernel_size=1), expected, terms=0)
    dx = backend.run(xconv.conv_input_grad, halves, ones, input_shape=(1, 1, 3))
    assert_array(backend, dx, np.array([[[half, limit + 1, half + 1]]]), terms=0)
    b, single = backend.array(np.array([1])), backend.array(np.array([[[limit]]]))
    for sign in (1, -1):
        y = backend.run(xconv.conv, sign * single, ones[:, :, :1], sign * b)
        assert_array(backend, y, sign * expected, terms=0)


def test_integers_without_float64():
    """JAX has no 64-bit numbers unless they are switched on; integer products are its own then."""
    import subprocess
    import sys

    pytest.importorskip("jax", reason="jax is not installed")
    code = (
        "import jax.numpy as jnp, xconv; x = jnp.full((1, 2, 3), 2**24 + 1); "
        "print(xconv.conv(x, jnp.ones((1, 2, 1), dtype=jnp.int32)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[[[33554434 33554434 33554434]]]"


@pytest.mark.over("dtype", ["complex64", "complex128"])
def test_complex_gradients_are_the_adjoint(backend, dtype):
    """<conv(x, w), dy> = <x, dx> = <w, dw> with the first factor conjugated."""
    x, w, dy = (normal(shape, i, dtype) for i, shape in enumerate([CASE.input_shape, CASE.weight_shape, (2, 6, 3, 3)]))
    x, w, dy = map(backend.array, (x, w, dy))
    outcomes = [
        check_adjoint(
            lambda x: xconv.conv(x, w, **CASE.keywords),
            lambda dy: xconv.conv_input_grad(dy, w, CASE.input_shape, **CASE.keywords),
            x,
            dy,
        ),
        check_adjoint(
            lambda w: xconv.conv(x, w, **CASE.keywords),
            lambda dy: xconv.conv_weight_grad(dy, x, CASE.kernel_size, **CASE.keywords),
            w,
            dy,
        ),
    ]
    assert outcomes == [None, None]


PROMOTIONS = [
    ("float32", "float64", "float64"),
    ("float32", "complex64", "complex64"),
    ("float64", "complex64", "complex128"),
    ("int8", "int32", "int32"),
    ("uint8", "int16", "int16"),
    ("uint8", "int8", "int16"),
]


@pytest.mark.over("dtypes", PROMOTIONS)
def test_mixed_operands_promote(backend, dtypes):
    first, second, result = dtypes
    x, w, b = normal((1, 2, 5), 0, first), normal((3, 2, 2), 1, second), normal((3,), 2, first)
    y = backend.run(xconv.conv, *map(backend.array, (x, w, b)))
    wide = [array.astype(result) for array in (x, w, b)]
    assert_array(backend, y, reference.conv(*wide), terms=8)
    dy = normal((1, 3, 4), 3, second)
    gradients = backend.run(xconv.conv_backward, *map(backend.array, (dy, x, w)))
    dy = dy.astype(result)
    assert_array(backend, gradients[0], reference.conv_input_grad(dy, wide[1], x.shape), terms=8)
    assert_array(backend, gradients[1], reference.conv_weight_grad(dy, wide[0], 2), terms=8)
    assert_array(backend, gradients[2], reference.bias_grad(dy), terms=8)


@pytest.mark.on("numpy", "jax", "torch")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("mode", ["reflect", "symmetric"])
def test_borders_of_unsigned_integers_are_mirrored(backend, dtype, mode):
    x, w, dy = (np.arange(size, dtype=dtype).reshape(1, 1, -1) for size in (9, 4, 10))
    words = {"padding": 2, "padding_mode": mode}
    y = xconv.conv(backend.array(x), backend.array(w), **words)
    assert_array(backend, y, reference.conv(x.astype("int64"), w.astype("int64"), **words).astype(dtype))
    dx = xconv.conv_input_grad(backend.array(dy), backend.array(w), x.shape, **words)
    expected = reference.conv_input_grad(dy.astype("int64"), w.astype("int64"), x.shape, **words)
    assert_array(backend, dx, expected.astype(dtype))
