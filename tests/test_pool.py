"""Pools and their gradients against the slow loops."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import check_drawn, normal, windows
from hypothesis import assume
from hypothesis import strategies as st
from test_autodiff import vector_jacobian_product

import xconv
from xconv._arrays import maxima
from xconv._plan import pooling as _pooling
from xconv._plan.remembered import forget
from xconv.testing import check_adjoint

POOLS = [
    ((2, 3, 8), 2, {}),
    ((2, 3, 6, 7), (2, 3), {"stride": 1}),
    ((2, 2, 7, 7), 3, {"stride": 2, "padding": 1}),
    ((2, 2, 6, 5), (3, 2), {"stride": (2, 1), "padding": [(0, 2), (1, 0)], "dilation": (1, 2)}),
    ((1, 2, 4, 5, 3), 2, {"stride": 2, "padding": [(1, 0), (0, 1), (1, 1)]}),
    ((0, 2, 4, 4), 2, {}),
    ((1, 1, 1, 1), 1, {}),
    ((2, 5, 4, 3), 2, {"channel_axis": -1, "stride": 1}),
    ((1, 1, 6, 6), 3, {"ceil_mode": True, "stride": 2}),
    ((1, 1, 5, 7), 2, {"ceil_mode": True, "stride": 3, "padding": 1}),
    ((1, 1, 4, 4), 1, {"ceil_mode": True, "stride": 3}),
    ((1, 1, 2), 2, {"ceil_mode": True, "padding": [(0, 2)]}),  # the second window fits, but starts in the padding
    ((1, 2, 3, 2), 1, {"ceil_mode": True, "stride": 1, "padding": [(0, 3), (0, 4)]}),
    ((1, 2, 9), 2, {"ceil_mode": True, "stride": 3, "padding": [(0, 1)], "dilation": 3}),
    ((1, 1, 2, 2), 3, {"ceil_mode": True, "stride": 2}),
    ((2, 1, 2, 5), (5, 2), {"ceil_mode": True, "stride": (3, 4), "padding": [(0, 1), (1, 0)], "dilation": (1, 3)}),
    ((2, 2, 5, 5), 3, {"padding": "same", "stride": 2}),
    ((1, 1, 3, 2, 3, 4), 2, {"stride": 1, "padding": 1}),
    ((1, 2, 14, 13), (9, 6), {"stride": 1, "padding": [(4, 2), (3, 0)]}),
    ((1, 2, 5, 40), (1, 7), {"stride": 1, "dilation": 2}),
    ((1, 1, 60, 3), (16, 1), {"stride": 2, "padding": (8, 0)}),
]


def pool_shape(shape, kernel, keywords):
    return reference.max_pool(np.zeros(shape), kernel, **keywords).shape


def check_max(backend, shape, kernel, keywords, x):
    dy = normal(pool_shape(shape, kernel, keywords), 1, x.dtype)
    y, indices = backend.run(xconv.max_pool, backend.array(x), kernel_size=kernel, return_indices=True, **keywords)
    assert_array(backend, y, reference.max_pool(x, kernel, **keywords), terms=0)
    assert_array(backend, indices, reference.max_pool_indices(x, kernel, **keywords), terms=0)
    dx = backend.run(xconv.max_pool_grad, backend.array(dy), backend.array(x), kernel_size=kernel, **keywords)
    assert_array(backend, dx, reference.max_pool_grad(dy, x, kernel, **keywords), terms=x.size)


def check_unpool(backend, shape, kernel, keywords, dtype="float64"):
    """By indices of which no two are equal, and which are those of no element here and there."""
    y = normal(shape, dtype=dtype)
    size = reference.max_unpool(y, np.zeros(shape, dtype=int), kernel, **keywords).shape
    channels_last, rng = keywords.get("channel_axis") == -1, np.random.default_rng(2)
    plane, lines = int(np.prod(size[1:-1] if channels_last else size[2:])), np.zeros(shape, dtype=int)
    for u, c in np.ndindex(shape[0], shape[-1 if channels_last else 1]):
        line = lines[u, ..., c] if channels_last else lines[u, c]
        places = np.concatenate([rng.permutation(plane), np.full(line.size, -1)])[: line.size + 2]
        line[...] = rng.permutation(places)[: line.size].reshape(line.shape)
    x = backend.run(xconv.max_unpool, backend.array(y), backend.array(lines), kernel_size=kernel, **keywords)
    assert_array(backend, x, reference.max_unpool(y, lines, kernel, **keywords), terms=0)


def check_avg(backend, shape, kernel, keywords, dtype="float64"):
    x, dy = normal(shape, dtype=dtype), normal(pool_shape(shape, kernel, keywords_without_count(keywords)), 1, dtype)
    y = backend.run(xconv.avg_pool, backend.array(x), kernel_size=kernel, **keywords)
    assert_array(backend, y, reference.avg_pool(x, kernel, **keywords), terms=x.size)
    dx = backend.run(xconv.avg_pool_grad, backend.array(dy), input_shape=shape, kernel_size=kernel, **keywords)
    assert_array(backend, dx, reference.avg_pool_grad(dy, shape, kernel, **keywords), terms=x.size)


def keywords_without_count(keywords):
    return {name: value for name, value in keywords.items() if name != "count_include_pad"}


@pytest.mark.over("pool", POOLS)
def test_max_pool_equals_the_loops(backend, pool):
    check_max(backend, *pool, normal(pool[0]))


@pytest.mark.over("pool", POOLS)
def test_first_of_equal_elements_wins(backend, pool):
    """Small integers tie often; the gradient goes to the first of them alone."""
    check_max(backend, *pool, normal(pool[0], dtype="int64").astype("float64") // 3)


@pytest.mark.over("pool", POOLS)
def test_avg_pool_equals_the_loops(backend, pool):
    check_avg(backend, *pool)


@pytest.mark.over("pool", [pool for pool in POOLS if pool[2].get("padding", 0)])
def test_avg_pool_without_counting_padding(backend, pool):
    shape, kernel, keywords = pool
    check_avg(backend, shape, kernel, {**keywords, "count_include_pad": False})


@pytest.mark.parametrize("pool", POOLS)
def test_pools_equal_the_loops_with_the_traits_of_cupy(numpy_backend, named_cupy, pool):
    """By kernels of our own."""
    shape, kernel, keywords = pool
    x = normal(shape)
    check_max(numpy_backend, *pool, x)
    check_max(numpy_backend, *pool, np.where(x > 1, np.nan, np.where(x < -1, -np.inf, x)))
    check_max(numpy_backend, *pool, normal(shape, dtype="uint8") // 3)
    check_avg(numpy_backend, *pool)
    if keywords.get("padding", 0):
        check_avg(numpy_backend, shape, kernel, {**keywords, "count_include_pad": False}, "complex64")


@pytest.mark.over("dtype", ["float32", "int8", "int16", "int32", "int64", "uint8"])
def test_max_pool_of_every_ordered_dtype(backend, dtype):
    check_max(backend, *POOLS[3], normal(POOLS[3][0], dtype=dtype))


@pytest.mark.over("dtype", ["float32", "complex64", "complex128"])
def test_avg_pool_of_every_divisible_dtype(backend, dtype):
    check_avg(backend, *POOLS[3], dtype)


def test_drawn_pools_equal_the_loops(backend):
    options = st.tuples(windows(ceil_modes=True, largest_kernel=7), st.booleans())

    def check(drawn):
        (size, kernel, keywords), integers = drawn
        x = normal((2, 2, *size))
        check_max(backend, x.shape, kernel, keywords, np.round(x) if integers else x)
        check_avg(backend, x.shape, kernel, keywords)

    check_drawn(backend, options, check)


UNPOOLS = [
    ((2, 3, 4), 2, {}),
    ((2, 2, 3, 2), (3, 2), {"stride": (2, 3), "padding": (1, 0), "output_size": (4, 7)}),
    ((1, 2, 2, 3, 2), 3, {"stride": 2, "padding": [(1, 0), (0, 1), (1, 1)]}),
    ((2, 4, 3, 5), 2, {"channel_axis": -1, "output_size": 7}),
    ((2, 3, 2), 3, {"stride": 2, "padding": "same"}),
    ((0, 2, 3, 3), 2, {}),
]


@pytest.mark.over("unpool", UNPOOLS)
def test_max_unpool_equals_the_loops(backend, unpool):
    check_unpool(backend, *unpool)


@pytest.mark.over("dtype", ["float32", "int8", "int32", "uint8", "uint16", "complex64"])
def test_max_unpool_of_every_dtype(backend, dtype):
    check_unpool(backend, *UNPOOLS[1], dtype)


def test_drawn_unpools_equal_the_loops(backend):
    def check(drawn):
        size, kernel, keywords = drawn
        words = {name: keywords[name] for name in ("stride", "padding")}
        size = size[:1] if backend.name.startswith("jax") else size  # sizes of one axis compile soon
        kernel, words = (
            kernel[: len(size)],
            {name: v if isinstance(v, str) else v[: len(size)] for name, v in words.items()},
        )
        assume(min(reference.transposed_size(size, kernel, 0, **words)) > 0)
        check_unpool(backend, (2, 2, *size), kernel, words)

    check_drawn(backend, windows(), check)


def test_what_is_put_to_one_place_alike_stays(backend):
    indices = backend.array([[[2, 2, 0]]])
    x = backend.run(xconv.max_unpool, backend.array([[[5.0, 5, 3]]]), indices, kernel_size=2, stride=1)
    assert_array(backend, x, [[[3.0, 0, 5, 0]]])


def test_indices_lead_back_to_the_maxima(backend):
    x = normal((2, 3, 7, 6))
    y, indices = backend.run(xconv.max_pool, backend.array(x), kernel_size=(3, 2), return_indices=True)
    back = backend.run(xconv.max_unpool, y, indices, kernel_size=(3, 2), output_size=(7, 6))
    largest = reference.max_pool(x, (3, 2)).repeat(3, axis=2).repeat(2, axis=3)
    largest = np.concatenate([largest, np.full((2, 3, 1, 6), np.inf)], axis=2)
    assert_array(backend, back, np.where(x == largest, x, 0), terms=0)


def test_windows_of_one_element_give_arrays_of_their_own():
    x, dy = np.arange(8.0).reshape(1, 2, 4), np.ones((1, 2, 4))
    y, indices = xconv.max_pool(x, 1, return_indices=True)
    results = y, indices, xconv.max_pool_grad(dy, x, 1), xconv.avg_pool(x, 1), xconv.avg_pool_grad(dy, x.shape, 1)
    for result, expected in zip(results, (x, [[range(4)] * 2], dy, x, dy), strict=True):
        assert np.array_equal(result, expected)
        assert result.flags.writeable
        assert not any(np.shares_memory(result, operand) for operand in (x, dy))


def test_max_pool_by_hand(backend):
    x = np.array([[[[1.0, 5, 2, 2], [3, 4, 2, 2], [7, 0, -1, -2], [7, 0, -3, -4]]]])
    y = backend.run(xconv.max_pool, backend.array(x), kernel_size=2)
    assert_array(backend, y, [[[[5.0, 2], [7, -1]]]])
    dx = backend.run(xconv.max_pool_grad, backend.array([[[[10.0, 20], [30, 40]]]]), backend.array(x), kernel_size=2)
    assert_array(backend, dx, [[[[0.0, 10, 20, 0], [0, 0, 0, 0], [30, 0, 40, 0], [0, 0, 0, 0]]]])


def test_padding_never_wins(backend):
    """Negative inputs keep their maximum beside padding, and equal lowest elements keep their gradient."""
    for x in (np.full((1, 1, 3), -np.inf), np.full((1, 1, 3), -128, dtype="int8"), np.full((1, 1, 3), -5.0)):
        check_max(backend, x.shape, 2, {"stride": 1, "padding": 1}, x)


def test_nan_wins_wherever_a_window_reads_it(backend):
    x = normal((1, 1, 6, 5))
    x[0, 0, 2, 3] = x[0, 0, 2, 2] = np.nan
    check_max(backend, x.shape, 3, {"stride": 1, "padding": 1}, x)
    y = backend.to_numpy(xconv.max_pool(backend.array(x), 3, stride=1))
    assert np.array_equal(np.isnan(y), reference.max_pool(np.isnan(x) * 1.0, 3, stride=1) == 1)


@pytest.mark.over("pool", POOLS[2:5])
def test_avg_pool_grad_is_the_adjoint(backend, pool):
    shape, kernel, keywords = pool
    outcome = check_adjoint(
        lambda x: xconv.avg_pool(x, kernel, **keywords),
        lambda dy: xconv.avg_pool_grad(dy, shape, kernel, **keywords),
        backend.array(normal(shape)),
        backend.array(normal(pool_shape(shape, kernel, keywords), 1)),
    )
    assert outcome is None


def test_ceil_mode_drops_a_window_that_would_start_in_the_high_padding(backend):
    x = backend.array(np.arange(5.0).reshape(1, 1, 5))
    y = backend.run(xconv.max_pool, x, kernel_size=2, stride=2, padding=1, ceil_mode=True)
    assert_array(backend, y, [[[0.0, 2.0, 4.0]]])
    y = backend.run(xconv.max_pool, x, kernel_size=3, stride=4, padding=1, ceil_mode=True)
    assert_array(backend, y, [[[1.0, 4.0]]])
    y = backend.run(
        xconv.max_pool, backend.array(np.ones((1, 1, 2))), kernel_size=1, stride=3, padding=1, ceil_mode=True
    )
    assert y.shape == (1, 1, 1)


def test_what_ceil_mode_adds_never_counts(backend):
    x = backend.array(np.ones((1, 1, 3)))
    y = backend.run(xconv.avg_pool, x, kernel_size=2, ceil_mode=True)
    assert_array(backend, y, [[[1.0, 1.0]]])
    y = backend.run(xconv.avg_pool, x, kernel_size=3, stride=2, padding=1, ceil_mode=True)
    assert_array(backend, y, [[[2 / 3, 2 / 3]]], terms=3)


@pytest.mark.parametrize("keywords", [{}, {"padding": 1}, {"stride": 3}, {"dilation": 2, "stride": 4}, {"stride": 1}])
def test_sizes_with_ceil_mode_are_pytorchs(keywords):
    """A window may overhang a small map, as one of 3x3 does in steps of 2 on 2x2; which are refused is PyTorch's."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for d in range(1, 8):
        for k in range(1, 8):
            x, words = torch.ones(1, 1, d, 6), {"stride": 2, "ceil_mode": True} | keywords
            if 2 * words.get("padding", 0) > k:
                continue  # PyTorch pads by half a kernel at most
            try:
                expected = tuple(torch.nn.functional.max_pool2d(x, (k, 1), **pytorch_words(words)).shape)
            except RuntimeError:
                with pytest.raises(ValueError, match="kernel_size must fit the padded input"):
                    xconv.max_pool(x, (k, 1), **pytorch_words(words))
            else:
                assert tuple(xconv.max_pool(x, (k, 1), **pytorch_words(words)).shape) == expected, (d, k)


def pytorch_words(keywords):
    """The same along the first axis, and windows of one element along the second."""
    neutral = {"stride": 1, "padding": 0, "dilation": 1}
    return {name: (value, neutral[name]) if name in neutral else value for name, value in keywords.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
@pytest.mark.parametrize(
    ("shape", "k", "keywords"),
    [
        ((2, 3, 70), 40, {"stride": 1}),
        ((1, 2, 300), 17, {"stride": 3, "padding": 8, "dilation": 4}),
        ((2, 1, 9), 40, {"stride": 2, "padding": 20}),  # of which some windows are padding but for one element
        ((1, 1, 400), 300, {"stride": 2, "padding": 150, "ceil_mode": True}),  # that no byte can number
        ((1, 2, 30, 41), (20, 3), {"stride": (2, 1), "padding": (10, 1)}),
    ],
)
def test_many_taps_by_levels_have_the_bits_of_tap_by_tap(monkeypatch, shape, k, keywords, dtype):
    """Also where all are equal, the least that there is, or NaN."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, shape).astype(dtype)  # with many ties
    info = np.iinfo(dtype) if x.dtype.kind in "iu" else None
    least = -np.inf if info is None else info.min
    images = [x, np.full_like(x, least), np.where(x > 3, x, least).astype(dtype)]
    images += [] if info else [np.where(x > 3, np.nan, x).astype(dtype)]

    def found(many):
        for module in (_pooling, maxima):
            monkeypatch.setattr(module, "MANY", many)
        forget()
        results = []
        for image in images:
            y, positions = xconv.max_pool(image, k, return_indices=True, **keywords)
            dy = rng_of(y.shape).astype(dtype)
            results += [positions.tobytes(), xconv.max_pool_grad(dy, image, k, **keywords).tobytes()]
        return results

    def rng_of(shape):
        return 50 * np.random.default_rng(1).random(shape)

    assert found(16) == found(10**9)
    forget()


MANY_TAPS = [
    ((3, 2, 500), 20, {"stride": 1}),
    ((2, 3, 400), 33, {"stride": 2, "padding": 16}),
    ((2, 2, 640), 40, {"padding": 20}),  # windows apart
    ((1, 2, 900), 20, {"stride": 12, "padding": 3}),
    ((1, 3, 700), 300, {"stride": 7, "padding": 150}),
    ((4, 5, 1000), 1000, {}),  # all of a plane
    ((2, 3, 40, 37), (40, 37), {}),
    ((2, 3, 90, 41), (30, 3), {"padding": (15, 1)}),
    ((2, 3, 41, 90), (2, 30), {"stride": (1, 4)}),
    ((1, 2, 30), 50, {"stride": 50, "padding": 25}),
    ((1, 2, 500), 100, {"stride": 1, "dilation": 4}),  # whose numbers fit a byte, and their places do not
    ((1, 1, 6000), 20, {"stride": 3, "dilation": 300}),
    ((2, 1, 30, 90), (3, 20), {"stride": 1, "dilation": (5, 4)}),
]


@pytest.mark.parametrize(("shape", "k", "keywords"), MANY_TAPS)
def test_pools_of_many_taps_are_what_loops_give(backend, shape, k, keywords):
    """By halves of the taps, by levels, or window by window; means and their gradients as well as the largest."""
    x = np.round(4 * normal(shape))  # with ties
    y = reference.avg_pool(x, k, **keywords)
    dy = normal(y.shape, seed=1)
    own, own_dy = backend.array(x), backend.array(dy)
    largest, positions = xconv.max_pool(own, k, return_indices=True, **keywords)
    pairs = [
        (xconv.avg_pool(own, k, **keywords), y),
        (xconv.avg_pool_grad(own_dy, x.shape, k, **keywords), reference.avg_pool_grad(dy, x.shape, k, **keywords)),
        (largest, reference.max_pool(x, k, **keywords)),
        (xconv.max_pool(own, k, **keywords), reference.max_pool(x, k, **keywords)),
        (xconv.max_pool_grad(own_dy, own, k, **keywords), reference.max_pool_grad(dy, x, k, **keywords)),
    ]
    for found, expected in pairs:
        assert_array(backend, found, expected, terms=1000)
    assert np.array_equal(backend.to_numpy(positions), reference.max_pool_indices(x, k, **keywords))


@pytest.mark.on("jax", "jax-jit", "torch")
@pytest.mark.parametrize(("shape", "k", "keywords"), MANY_TAPS)
def test_own_gradients_of_many_taps_go_to_one_of_equals(backend, shape, k, keywords):
    x = backend.array(np.round(normal(shape)))
    dy = backend.array(normal(reference.avg_pool(np.zeros(shape), k, **keywords).shape, seed=1))
    pairs = [
        (xconv.max_pool, xconv.max_pool_grad(dy, x, k, **keywords)),
        (xconv.avg_pool, xconv.avg_pool_grad(dy, shape, k, **keywords)),
    ]
    for function, expected in pairs:
        (own,) = vector_jacobian_product(backend, lambda x: function(x, k, **keywords), (x,), dy)  # noqa: B023
        assert_array(backend, own, backend.to_numpy(expected), terms=1000)


def test_the_least_and_nan_are_found_among_many_taps(backend):
    """Not what is padded, even where all others are the least; and the last NaN."""
    x = np.full((1, 1, 40), -np.inf)
    keywords = {"stride": 1, "padding": 20}
    for value in (-np.inf, np.nan):
        x[..., 25:28] = value
        y, positions = xconv.max_pool(backend.array(x), 41, return_indices=True, **keywords)
        expected = reference.max_pool_indices(x, 41, **keywords)
        assert np.array_equal(backend.to_numpy(positions), expected)
        assert np.array_equal(backend.to_numpy(y), reference.max_pool(x, 41, **keywords), equal_nan=True)
        dx = xconv.max_pool_grad(backend.array(np.ones((1, 1, 40))), backend.array(x), 41, **keywords)
        assert np.array_equal(backend.to_numpy(dx)[0, 0], np.bincount(expected.ravel(), minlength=40))


@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize(
    ("shape", "k", "keywords"),
    [
        *(one for one in MANY_TAPS if len(one[0]) < 4),
        ((2, 3, 90), 5, {"stride": 1, "padding": 2}),  # whose first taps some windows have not
        ((2, 3, 90), 12, {"stride": 3, "padding": 5}),
    ],
)
def test_sums_do_not_depend_on_blocks(monkeypatch, shape, k, keywords, channel_axis):
    x = np.tile(normal(shape, dtype="float32"), (8, 8, 1))
    x = np.moveaxis(x, 1, channel_axis)
    results = []
    for small in (2**40, 0):
        monkeypatch.setattr(_pooling, "SMALL", small)
        monkeypatch.setattr(_pooling, "CACHED", 2**40 if small else 2**14)
        forget()
        y = xconv.avg_pool(x, k, channel_axis=channel_axis, **keywords)
        dx = xconv.avg_pool_grad(y, x.shape, k, channel_axis=channel_axis, **keywords)
        results.append((y.tobytes(), dx.tobytes()))
    assert results[0] == results[1]
    forget()
