"""conv, conv_transpose and the gradients against the slow loops, the adjoint identity and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import (
    FULL_CASES,
    MODES,
    TRANSPOSED,
    Case,
    check_drawn,
    convolutions,
    normal,
    output_shape,
    transposed_convolutions,
    transposed_shape,
)

import xconv
from xconv._methods import METHODS


def operands(case, dtype="float64"):
    """x, w, b and dy for a case."""
    shapes = case.input_shape, case.weight_shape, (case.weight_shape[0],), output_shape(case)
    return [normal(shape, seed, dtype) for seed, shape in enumerate(shapes)]


def widened(arrays):
    """The same numbers for the loops, which must not round like the code under test."""
    wide = {"float32": "float64", "complex64": "complex128"}
    return [array.astype(wide.get(array.dtype.name, array.dtype)) for array in arrays]


def check_forward(backend, case, dtype="float64"):
    x, w, b, _ = operands(case, dtype)
    y = backend.run(xconv.conv, *map(backend.array, (x, w, b)), **case.keywords)
    expected = reference.conv(*widened((x, w, b)), **case.keywords)
    assert_array(backend, y, expected, dtype=dtype, terms=case.terms)


def check_backward(backend, case, dtype="float64"):
    x, w, _, dy = operands(case, dtype)
    axis = case.keywords.get("channel_axis", 1)
    gradients = backend.run(xconv.conv_backward, *map(backend.array, (dy, x, w)), **case.keywords)
    x, w, dy = widened((x, w, dy))
    expected = (
        reference.conv_input_grad(dy, w, x.shape, **case.keywords),
        reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords),
        reference.bias_grad(dy, axis),
    )
    for gradient, values in zip(gradients, expected, strict=True):
        assert_array(backend, gradient, values, dtype=dtype, terms=case.terms)


def check_single_gradients(backend, case):
    x, w, _, dy = operands(case)
    dx = backend.run(
        lambda dy, w: xconv.conv_input_grad(dy, w, case.input_shape, **case.keywords), *map(backend.array, (dy, w))
    )
    dw = backend.run(
        lambda dy, x: xconv.conv_weight_grad(dy, x, case.kernel_size, **case.keywords), *map(backend.array, (dy, x))
    )
    assert_array(backend, dx, reference.conv_input_grad(dy, w, x.shape, **case.keywords), terms=case.terms)
    assert_array(backend, dw, reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords), terms=case.terms)


def check_transposed(backend, case, dtype="float64"):
    """conv_transpose and its gradients: filters act as they are in it, and conjugated in them."""
    output = transposed_shape(case)
    shapes = output_shape(case), case.weight_shape, (output[case.keywords.get("channel_axis", 1)],), output
    x, w, b, dy = (normal(shape, seed, dtype) for seed, shape in enumerate(shapes))
    y = backend.run(xconv.conv_transpose, *map(backend.array, (x, w, b)), **case.keywords)
    gradients = backend.run(xconv.conv_transpose_backward, *map(backend.array, (dy, x, w)), **case.keywords)
    x, w, b, dy = widened((x, w, b, dy))
    expected = reference.conv_transpose_backward(dy, x, w, **case.keywords)
    assert_array(backend, y, reference.conv_transpose(x, w, b, **case.keywords), dtype=dtype, terms=case.terms)
    for gradient, values in zip(gradients, expected, strict=True):
        assert_array(backend, gradient, values, dtype=dtype, terms=case.terms)


@pytest.mark.over("case", FULL_CASES)
def test_forward_equals_the_loops_s1(backend, case):
    check_forward(backend, case)


@pytest.mark.over("case", FULL_CASES)
def test_gradients_equal_the_loops_s5(backend, case):
    check_backward(backend, case)


@pytest.mark.over("case", FULL_CASES[::4])
def test_single_gradients_equal_the_loops(backend, case):
    check_single_gradients(backend, case)


@pytest.mark.over("dtype", ["float32", "complex64", "complex128", "int8", "int16", "int32", "int64", "uint8"])
def test_every_dtype_equals_the_loops(backend, dtype):
    case = Case((2, 4, 7, 6), (6, 2, 3, 3), {"groups": 2, "stride": (2, 1), "padding_mode": "reflect", "padding": 2})
    check_forward(backend, case, dtype)
    check_backward(backend, case, dtype)
    check_transposed(backend, case, dtype)


@pytest.mark.over("case", TRANSPOSED)
def test_conv_transpose_and_its_gradients_equal_the_loops(backend, case):
    check_transposed(backend, case)


@pytest.mark.parametrize("method", sorted({*METHODS} - {"winograd"}))
def test_windows_that_lie_in_the_padding_give_nothing(numpy_backend, method):
    """Of several blocks and of one, which begin behind all that is read."""
    for padding, stride in ((((6, 1),), 4), (((9, 0),), 9), (((5, 5),), 1), (((0, 7),), 3)):
        keywords, one = {"stride": stride, "padding": padding}, np.ones((1, 1, 1))
        y = reference.conv(one, one, **keywords)
        dx = xconv.conv_input_grad(np.ones_like(y), one, (1, 1, 1), method=method, **keywords)
        expected = reference.conv_input_grad(np.ones_like(y), one, (1, 1, 1), **keywords)
        assert_array(numpy_backend, dx, expected, terms=8)


def test_a_stride_beyond_the_end_is_as_good_as_any(backend):
    """Also if no library can count so far."""
    x, w = normal((2, 3, 9, 8)), normal((4, 3, 3, 2), 1)
    expected = reference.conv(x, w, stride=10, padding=1)
    for stride in (10, 2**31, 2**62, 2**70):
        keywords = {"stride": stride, "padding": 1}
        y = xconv.conv(backend.array(x), backend.array(w), **keywords)
        assert_array(backend, y, expected, terms=18)
        dx = xconv.conv_input_grad(y, backend.array(w), x.shape, **keywords)
        assert_array(backend, dx, reference.conv_input_grad(expected, w, x.shape, stride=10, padding=1), terms=4)
        assert tuple(xconv.max_pool(backend.array(x), 2, stride=stride, ceil_mode=True).shape) == (2, 3, 1, 1)


def test_drawn_transposed_convolutions_equal_the_loops(backend):
    check_drawn(backend, transposed_convolutions(MODES, max_groups=3), lambda case: check_transposed(backend, case))


def test_drawn_convolutions_equal_the_loops(backend):
    def check(case):
        check_forward(backend, case)
        check_backward(backend, case)

    check_drawn(backend, convolutions(MODES, max_groups=3), check)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_outputs_that_no_tap_reaches_are_the_bias(backend, dtype):
    """Those of integers are made before others are multiplied in floating point."""
    x, w, b = (np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype) for shape in ((1, 2, 4), (2, 1, 1), (2,)))
    words = {"stride": 3, "groups": 2}
    y = backend.run(lambda x, w, b: xconv.conv_transpose(x, w, b, **words), *map(backend.array, (x, w, b)))
    assert_array(backend, y, reference.conv_transpose(x, w, b, **words), dtype=dtype, terms=2)


@pytest.mark.over("case", FULL_CASES[1::2])
def test_conv_transpose_is_the_adjoint_of_conv(backend, case):
    """<conv(v, w), x> = <v, conv_transpose(x, w)> for the v of every size that conv maps to x's."""
    v, w, _, x = (backend.array(array) for array in operands(case))
    if isinstance(case.keywords.get("padding"), str) and case.keywords["padding"].startswith("same"):
        v = backend.array(normal(_same_size_preimage(case)))
    axis, n = case.keywords.get("channel_axis", 1), len(case.kernel_size)
    size = v.shape[1:-1] if axis == -1 else v.shape[2:]
    smallest = backend.run(lambda x, w: xconv.conv_transpose(x, w, **case.keywords), x, w)
    least = smallest.shape[1:-1] if axis == -1 else smallest.shape[2:]
    extra = tuple(d - low for d, low in zip(size, least, strict=True))
    grown = backend.run(lambda x, w: xconv.conv_transpose(x, w, output_padding=extra, **case.keywords), x, w)
    assert tuple(grown.shape) == tuple(v.shape)
    y = backend.run(xconv.conv, v, w, **case.keywords)
    left, right = (np.vdot(backend.to_numpy(a), backend.to_numpy(b)) for a, b in ((y, x), (v, grown)))
    assert abs(left - right) <= 1e-12 * case.terms
    assert len(extra) == n


def _same_size_preimage(case):
    """With "same", conv_transpose gives back o*s."""
    o = output_shape(case)
    stride = reference.sizes(case.keywords["stride"], len(case.kernel_size))
    if case.keywords.get("channel_axis") == -1:
        return (o[0], *(m * s for m, s in zip(o[1:-1], stride, strict=True)), case.input_shape[-1])
    return (*case.input_shape[:2], *(m * s for m, s in zip(o[2:], stride, strict=True)))


@pytest.mark.over("keywords", [{}, {"groups": 2, "channel_axis": -1, "flip": True}])
def test_conv_transpose_adds_the_bias(backend, keywords):
    x, w, b = normal((2, 4, 4, 4)), normal((4, 3, 3, 2), 1), normal((3 * keywords.get("groups", 1),), 2)
    without = backend.run(xconv.conv_transpose, backend.array(x), backend.array(w), stride=2, **keywords)
    y = backend.run(xconv.conv_transpose, *map(backend.array, (x, w, b)), stride=2, **keywords)
    channels = (-1,) if keywords else (-1, 1, 1)
    assert_array(backend, y, backend.to_numpy(without) + b.reshape(channels), terms=4)


def test_conv_transpose_by_hand(backend):
    """Each input element scatters a scaled copy of the filter, two apart."""
    x, w = np.array([[[1.0, 10.0, 100.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    y = backend.run(xconv.conv_transpose, backend.array(x), backend.array(w), stride=2, output_padding=1)
    assert_array(backend, y, [[[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0, 0.0]]])


def test_conv_by_hand(backend):
    x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    y = backend.run(xconv.conv, *map(backend.array, (x, w, np.array([10.0]))))
    assert_array(backend, y, np.full((1, 1, 3, 3), 5.0))


def test_conv_is_correlation_and_flip_makes_it_convolution_s8(backend):
    signal = pytest.importorskip("scipy.signal")
    x, w = normal((1, 1, 6, 5)), normal((1, 1, 3, 2), 1)
    for mode in ("full", "same", "valid"):
        padding = [(1, 1), (1, 0)] if mode == "same" else mode  # scipy centres an even kernel one element later
        y = backend.run(xconv.conv, backend.array(x), backend.array(w), padding=padding, flip=True)
        assert_array(backend, y, signal.convolve(x, w, mode=mode), terms=6)
    y = backend.run(xconv.conv, backend.array(x), backend.array(w))
    assert_array(backend, y, signal.correlate(x, w, mode="valid"), terms=6)


def test_each_output_depends_on_an_input_through_at_most_one_weight_s9(backend):
    """The exact Jacobian dy/dx: the seed prints a sum of w over i, j, but m = i + S m' leaves one (i, j) or none."""
    stride, d, k = 2, 5, 3
    w = np.arange(1.0, k * k + 1).reshape(1, 1, k, k)
    rows = backend.run(
        lambda dy, w: xconv.conv_input_grad(dy, w, (4, 1, d, d), stride=stride),
        backend.array(np.eye(4).reshape(4, 1, 2, 2)),
        backend.array(w),
    )
    jacobian = np.zeros((4, 1, d, d))
    for m_, n_, m, n in np.ndindex(2, 2, d, d):
        i, j = m - stride * m_, n - stride * n_
        if 0 <= i < k and 0 <= j < k:
            jacobian[2 * m_ + n_, 0, m, n] = w[0, 0, i, j]
    assert_array(backend, rows, jacobian)
    assert np.count_nonzero(jacobian) == 4 * k * k


BILINEAR = {
    "conv": (
        Case((1, 2, 4, 3), (2, 1, 2, 2), {"stride": (2, 1), "padding": 1, "groups": 2}),
        lambda dy, x, w, **keywords: (
            xconv.conv_input_grad(dy, w, x.shape, **keywords),
            xconv.conv_weight_grad(dy, x, 2, **keywords),
        ),
    ),
    "conv_transpose": (
        Case((1, 2, 3, 2), (2, 1, 2, 2), {"stride": (2, 1), "dilation": (1, 3), "output_padding": (1, 2), "groups": 2}),
        lambda dy, x, w, **keywords: xconv.conv_transpose_backward(dy, x, w, **keywords)[:2],
    ),
}


@pytest.mark.parametrize("name", BILINEAR)
def test_finite_differences_of_the_bilinear_map_are_exact_s5(backend, name):
    """It is linear in x and in w, so a step of 1 has no truncation error."""
    (case, gradients), function = BILINEAR[name], getattr(xconv, name)
    arrays = normal(case.input_shape), normal(case.weight_shape, 1)
    y = backend.run(function, *map(backend.array, arrays), **case.keywords)
    dy = normal(tuple(y.shape), 2)
    exact = backend.run(gradients, *map(backend.array, (dy, *arrays)), **case.keywords)
    for place, moved in enumerate(arrays):
        differences = np.zeros_like(moved)
        for i in np.ndindex(moved.shape):
            ends = []
            for step in (1, -1):
                varied = [array.copy() for array in arrays]
                varied[place][i] += step
                ends.append(backend.to_numpy(backend.run(function, *map(backend.array, varied), **case.keywords)))
            differences[i] = np.sum(dy * (ends[0] - ends[1])) / 2
        assert_array(backend, exact[place], differences, terms=case.terms)


@pytest.mark.parametrize("case", FULL_CASES, ids=str)
def test_output_shape_needs_no_array(case):
    keywords = {name: value for name, value in case.keywords.items() if name not in ("flip", "padding_mode")}
    assert xconv.conv_output_shape(case.input_shape, case.weight_shape, **keywords) == output_shape(case)


def test_non_contiguous_operands(backend):
    case = Case((2, 3, 6, 6), (4, 3, 3, 3), {"padding": 1})
    x, w, _, _ = operands(case)
    xs, ws = (backend.array(np.repeat(array, 2, axis=-1)) for array in (x, w))
    y = backend.run(lambda x, w: xconv.conv(x[..., ::2], w[..., ::2], padding=1), xs, ws)
    assert_array(backend, y, reference.conv(x, w, padding=1), terms=case.terms)


@pytest.mark.on("numpy", "numpy-readonly", "cupy")
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_operands_that_run_backwards(backend, kernel, groups):
    """A view along negative strides may reach the matrix product as it is, and BLAS takes no such view."""
    case = Case((2, 4, 6, 6), (4, 4 // groups, kernel, kernel), {"groups": groups})
    x, w, _, dy = operands(case)
    backwards = (..., slice(None, None, -1), slice(None, None, -1))
    xb, wb, dyb = (backend.array(array)[backwards] for array in (x, w, dy))
    y = xconv.conv(xb, wb, groups=groups)
    dx, dw, _ = xconv.conv_backward(dyb, xb, wb, groups=groups)
    assert_array(backend, y, reference.conv(x[backwards], w[backwards], groups=groups), terms=case.terms)
    expected = reference.conv_input_grad(dy[backwards], w[backwards], x.shape, groups=groups)
    assert_array(backend, dx, expected, terms=case.terms)
    expected = reference.conv_weight_grad(dy[backwards], x[backwards], kernel, groups=groups)
    assert_array(backend, dw, expected, terms=case.terms)


@pytest.mark.over("case", FULL_CASES[::2])
def test_inputs_stay_as_they_were(backend, case):
    arrays = [backend.array(array) for array in operands(case)]
    x, w, b, dy = arrays
    before = [backend.to_numpy(array).copy() for array in arrays]
    backend.run(xconv.conv, x, w, b, **case.keywords)
    backend.run(xconv.conv_backward, dy, x, w, **case.keywords)
    after = [backend.to_numpy(array) for array in arrays]
    assert all(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def test_method_named_and_chosen_agree(backend):
    x, w = backend.array(normal((1, 2, 5, 5))), backend.array(normal((3, 2, 3, 3), 1))
    chosen = xconv.choose_method(x.shape, w.shape, xp=backend.xp, dtype=x.dtype)
    auto, named = (backend.run(xconv.conv, x, w, method=method) for method in ("auto", chosen))
    assert_array(backend, named, backend.to_numpy(auto))
