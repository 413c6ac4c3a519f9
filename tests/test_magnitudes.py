"""Operands from tiny to huge: what plain sums compute finitely, transforms do, in every dtype."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from geometries import normal

import xconv
from xconv._arrays.elements import squares_of

METHODS = ("im2col", "toeplitz", "winograd", "fft", "native")
X, W, Y = (2, 4, 9, 8), (6, 2, 3, 3), (2, 6, 9, 8)
# Of float32: exponents of ten of x and w, whose sums of products stay numbers.
MAGNITUDES = [(37, 0), (0, 37), (-37, 0), (0, -37), (37, -37), (-37, 37), (18, 18), (-18, -18), (-20, 37), (36.9, -2)]


def products(x, w, b, dy, method):
    """y, dx and dw: dy is of the size of w in dx, and in dw of 1."""
    words = {"padding": 1, "groups": 2, "method": method}
    return (
        xconv.conv(x, w, b, **words),
        xconv.conv_input_grad(dy, w, X, **words),
        xconv.conv_weight_grad(dy, x, 3, **words),
    )


@functools.cache
def operands(dtype, powers):
    """Those of a dtype, and what NumPy gives for them in longdouble."""
    more = 8.3 if dtype in ("float64", "complex128") else 1  # of its exponents
    factors = [10.0 ** (more * power) for power in (powers[0], powers[1], sum(powers), 0)]
    arrays = [
        (normal(shape, seed, dtype) * factor / 4).astype(dtype)
        for seed, (shape, factor) in enumerate(zip((X, W, W[:1], Y), factors, strict=True))
    ]
    wide = [array.astype("clongdouble" if dtype[0] == "c" else "longdouble") for array in arrays]
    return arrays, products(*wide, "im2col")


@pytest.mark.on("numpy", "strict", "jax-jit", "torch", "cupy")
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("method", METHODS)
def test_results_are_as_large_as_the_sums(backend, method, dtype):
    if method == "native" and (not backend.name.startswith(("jax", "torch")) or dtype[0] == "c"):
        pytest.skip(f"{backend.name} has no convolution of {dtype}")
    info = np.finfo(dtype)
    least = -30 if backend.name == "jax-jit" else -38  # XLA takes subnormal numbers for zeros
    for powers in MAGNITUDES:
        arrays, expected = operands(dtype, tuple(max(power, least) for power in powers))
        results = backend.run(products, *map(backend.array, arrays), method=method)
        for result, exact in zip(results, expected, strict=True):
            error = np.abs(backend.to_numpy(result) - exact)
            allowed = 500 * info.eps * np.max(np.abs(exact)) + 500 * info.smallest_normal
            assert np.max(error) <= allowed, powers


@pytest.mark.parametrize("value", [1e38, 1e37, 1e-30])
def test_the_mean_of_equal_numbers_is_that_number(backend, value):
    """A spectrum has their sum, 16,384 times as much."""
    x, w = np.full((1, 1, 128, 128), value, "float32"), np.full((1, 1, 31, 31), 1 / 961, "float32")
    y = backend.to_numpy(backend.run(xconv.conv, backend.array(x), backend.array(w), method="fft"))
    assert np.allclose(y / np.float32(value), 1, rtol=1e-4)


@pytest.mark.parametrize("method", ["winograd", "fft"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_what_is_no_number_scales_nothing(backend, method, value):
    """Blocks that do not read it have the numbers they had."""
    x, w = np.full((1, 1, 600, 1), 0.5, "float32"), np.full((1, 1, 3, 1), 0.25, "float32")
    x[0, 0, 0] = value
    with np.errstate(all="ignore"):  # where inf is in the block
        y = backend.run(xconv.conv, backend.array(x), backend.array(w), method=method, max_workspace=2**20)
    y = backend.to_numpy(y)
    clean = slice(6, None) if method == "winograd" or value == 0 else slice(600, None)
    assert np.allclose(y[0, 0, clean], 0.375, rtol=1e-6)
    assert value == 0 or not np.isfinite(y[0, 0, 0, 0])


@pytest.mark.parametrize("method", ["im2col", "toeplitz", "winograd", "fft"])
@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
def test_wide_numbers_keep_their_digits(numpy_backend, method, dtype):
    """A third has 11 bits more in longdouble than in float64 where that is of 80 bits, and 60 where it is of 128."""
    info = np.finfo(dtype)
    if info.eps == np.finfo("float64").eps:
        pytest.skip("longdouble is float64 here")
    third = np.ones(1, dtype)[0] / 3
    x, w, b, dy = (normal(shape, seed).astype(dtype) * third for seed, shape in enumerate((X, W, W[:1], Y)))
    for result, exact in zip(products(x, w, b, dy, method), products(x, w, b, dy, "im2col"), strict=True):
        assert result.dtype == x.dtype
        assert np.max(np.abs(result - exact)) <= 500 * info.eps * np.max(np.abs(exact))


@pytest.mark.on("torch")
@pytest.mark.parametrize("method", ["fft", "winograd"])
def test_floats_of_a_byte_are_looked_at_in_the_dtype_that_is_computed_in(backend, method):
    """PyTorch finds no extremes of its own."""
    dtype = backend.xp.float8_e4m3fn
    x, w = (backend.array(np.ones(shape)).to(dtype) for shape in ((2, 4, 9, 8), (2, 4, 3, 3)))
    y = xconv.conv(x, w, method=method)
    assert y.dtype == dtype
    assert bool((y.double() == 36).all())


@pytest.mark.on("jax")
@pytest.mark.parametrize("method", ["native", "fft", "winograd", "toeplitz", "im2col"])
def test_no_array_takes_axes_of_another_under_strict_ranks(backend, method):
    import jax

    x, w = (backend.array(normal(shape, 0, "float32")) for shape in ((2, 4, 16, 16), (4, 4, 3, 3)))

    def loss(x, w, groups=1):
        return xconv.conv(x, w, method=method, groups=groups).sum()

    with jax.numpy_rank_promotion("raise"):
        found = [jax.grad(loss, (0, 1))(x, w), jax.grad(functools.partial(loss, groups=4), (0, 1))(x, w[:, :1])]
    expected = [jax.grad(loss, (0, 1))(x, w), jax.grad(functools.partial(loss, groups=4), (0, 1))(x, w[:, :1])]
    for one, other in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_few_numbers_are_squared_in_whatever_order_they_lie():
    few, many = normal((64, 64), 0, "float32"), normal((300, 300), 1, "float32")
    assert squares_of(np, few[::-1, ::-1], few.dtype) == pytest.approx(float(np.sum(few.astype(float) ** 2)), rel=1e-5)
    assert squares_of(np, many, many.dtype) == pytest.approx(float(np.sum(many.astype(float) ** 2)), rel=1e-4)
    assert squares_of(np, many[::-1, ::-1], many.dtype) is None  # a copy would take memory
