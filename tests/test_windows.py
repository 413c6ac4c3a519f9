"""im2col and col2im: the matrix of the seed, its adjoint, and the two statements about the buffer (S7)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import CASES, MODES, Case, check_drawn, normal, windows
from hypothesis import given
from hypothesis import strategies as st

import xconv
from xconv._arrays import windows as _windows
from xconv._arrays.elements import add_at
from xconv._arrays.scratch import making_again
from xconv._arrays.windows import framed, pad
from xconv._plan.arguments import window_geometry
from xconv._plan.borders import border_steps
from xconv.testing import check_adjoint

UNPADDED = {"stride": 1, "padding": 0, "dilation": 1}
WRAPPED = [
    Case((2, 3, 5, 4), (2, 3, 3, 3), {"padding": 1}),
    Case((2, 2, 4, 2), (2, 2, 3, 7), {"padding": "same"}),
    Case((1, 2, 3, 7), (2, 2, 2, 3), {"padding": [(0, 3), (4, 0)], "dilation": (1, 2)}),
    Case((2, 1, 3, 4, 3), (1, 1, 2, 1, 4), {"padding": [(1, 0), (0, 2), (1, 2)]}),
]
DTYPES = ["float32", "float64", "complex64", "complex128", "int8", "int32", "int64", "uint8"]


def check_windows(backend, shape, kernel, keywords, dtype="float64", pad_value=0):
    """Exact equality: nothing is computed, elements are only copied, or small integers are added."""
    x = normal(shape, dtype=dtype)
    col = reference.im2col(x, kernel, pad_value, **keywords)
    actual = backend.run(xconv.im2col, backend.array(x), kernel_size=kernel, pad_value=pad_value, **keywords)
    assert_array(backend, actual, col, terms=0)
    rows = normal(col.shape, dtype="int64").astype(dtype)
    back = backend.run(xconv.col2im, backend.array(rows), input_shape=shape, kernel_size=kernel, **keywords)
    assert_array(backend, back, reference.col2im(rows, shape, kernel, **keywords), terms=0)


@pytest.mark.over("case", CASES)
def test_windows_equal_the_loops_s2(backend, case):
    check_windows(backend, case.input_shape, case.kernel_size, case.keywords)


@pytest.mark.on("numpy")
@pytest.mark.over("case", CASES)
def test_windows_in_steps_equal_the_loops(backend, monkeypatch, case):
    """Long arrays are laid out along one axis after the other; those of these tests are too short for that."""
    monkeypatch.setattr(_windows, "SHORT", 0)
    check_windows(backend, case.input_shape, case.kernel_size, case.keywords)


@pytest.mark.on("numpy")
def test_drawn_windows_in_steps_equal_the_loops(backend, monkeypatch):
    monkeypatch.setattr(_windows, "SHORT", 0)
    check_drawn(backend, windows(), lambda drawn: check_windows(backend, (2, 2, *drawn[0]), *drawn[1:], pad_value=7))


@pytest.mark.on("numpy")
@pytest.mark.over("case", [*CASES, *WRAPPED])
def test_windows_of_what_is_not_padded_yet_equal_the_loops(backend, monkeypatch, case):
    """Convolutions leave the padding to `gather`, which reads row after row if windows give rows of the same length."""
    monkeypatch.setattr(_windows, "SHORT", 0)
    x = normal(case.input_shape)
    geometry = window_geometry(x.shape[2:], case.kernel_size, **(UNPADDED | case.keywords))
    assert geometry.wraps or case not in WRAPPED
    columns = np.moveaxis(_windows.gather(np, x, geometry, axis=2), (1, 2), (-2, -1))
    expected = reference.im2col(x, case.kernel_size, **case.keywords)
    assert columns.dtype == expected.dtype
    assert np.array_equal(columns.reshape(expected.shape), expected)


def test_short_images_are_not_read_row_after_row(numpy_backend, monkeypatch):
    """It takes more operations than it saves there."""
    monkeypatch.setattr(_windows, "_row_after_row", lambda *arguments: pytest.fail("it was"))
    x, w = normal((1, 1, 8, 8)), normal((1, 1, 3, 3), 1)
    assert np.allclose(xconv.conv(x, w, padding=1, method="im2col"), reference.conv(x, w, padding=1))


def test_sums_in_place_write_no_view_back(numpy_backend):
    """NumPy sees that nothing would change; CuPy and PyTorch copy."""

    class Array(np.ndarray):
        def __setitem__(self, index, values):
            pytest.fail("the view was written to where it is")

    array = np.zeros((3, 4)).view(Array)
    add_at(np, array, (slice(1, 3), ...), np.ones((2, 4)))
    assert np.array_equal(np.sum(array, axis=1), [0, 4, 4])


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
@pytest.mark.on("numpy", "strict", "torch")
def test_borders_of_any_width_are_those_of_numpy_and_add_to_what_they_repeat(backend, mode):
    """Exactly: what unpad adds up is the transpose of the matrix whose columns are padded unit vectors."""
    name = {"replicate": "edge", "circular": "wrap"}.get(mode, mode)
    for d, lo, hi in itertools.product((1, 2, 3, 5), (0, 1, 4, 17), (0, 2, 5, 12)):
        places = np.pad(np.arange(d), (lo, hi), mode=name)
        padded = _windows.pad(backend.xp, backend.array(np.arange(d)), ((lo, hi),), mode)
        assert np.array_equal(backend.to_numpy(padded), places)
        y = normal((3, lo + d + hi), dtype="int64")
        expected = np.stack([np.bincount(places, row, d) for row in y])
        added = _windows.unpad(backend.xp, backend.array(y), ((lo, hi),), mode)
        assert np.array_equal(backend.to_numpy(added), expected)


@pytest.mark.on("numpy", "strict", "torch", "jax")
def test_each_axis_has_its_own_border_and_one_value_for_constants(backend):
    """In any order: what is constant along one axis is so along the others."""
    x, modes, padding = normal((2, 3, 4, 2), dtype="int64"), ("zeros", "reflect", "zeros"), ((1, 2), (5, 4), (0, 3))
    expected = np.pad(x, ((0, 0), (0, 0), padding[1], (0, 0)), mode="reflect")
    expected = np.pad(expected, ((0, 0), padding[0], (0, 0), padding[2]), constant_values=7)
    padded = _windows.pad(backend.xp, backend.array(x), padding, modes, 7, backend.xp.float32)
    assert_array(backend, padded, expected.astype("float32"))
    y = normal(expected.shape, 1, "int64")
    added = _windows.unpad(backend.xp, backend.array(y), padding, modes)
    zeros = np.where(expected == 7, 0, expected) if 7 not in x else pytest.fail("7 is an element, too")
    assert np.sum(backend.to_numpy(added) * x) == np.sum(y * zeros)


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "replicate", "circular"])
def test_borders_a_million_times_as_wide_take_few_steps(mode):
    """JAX and PyTorch compile and differentiate each of them."""
    assert len(border_steps(mode, 2, 10**6, 0)) <= 21
    assert len(border_steps(mode, 2, 10**6, 10**6)) <= 14


@pytest.mark.over("dtype", DTYPES)
def test_windows_of_every_dtype(backend, dtype):
    check_windows(backend, (2, 2, 5, 4), (2, 3), {"stride": 2, "padding": [(1, 2), (0, 1)]}, dtype, pad_value=3)


def test_drawn_windows_equal_the_loops(backend):
    check_drawn(backend, windows(), lambda drawn: check_windows(backend, (2, 2, *drawn[0]), *drawn[1:], pad_value=7))


@pytest.mark.on("numpy", "strict", "torch")
def test_what_nothing_is_computed_for_is_a_copy(backend):
    """Otherwise who writes to the result would write to the operand."""
    x = backend.array(normal((1, 1, 6)))
    col, tiles = backend.xp.reshape(x, (6, 1)), backend.xp.reshape(x, (3, 2))
    before = backend.to_numpy(x).copy()
    for result in (
        xconv.im2col(x, 1),
        xconv.im2col(x, 1, stride=2),
        xconv.col2im(col, (1, 1, 6), 1),
        xconv.col2im(tiles, (1, 1, 6), 2, stride=2),
        xconv.max_pool(x, 1),
        xconv.max_pool(x, 1, stride=2),
        xconv.avg_pool(x, 1),
        xconv.conv(x, backend.xp.ones_like(x[..., :1])),
    ):
        result += 1
        assert np.array_equal(backend.to_numpy(x), before)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_numpys_own_scalars_are_numbers_to_pad_with(numpy_backend, dtype):
    x = normal((1, 2, 5), dtype=dtype)
    col = xconv.im2col(x, 2, padding=1, pad_value=x.min())
    assert col.dtype == x.dtype
    assert col[0, 0] == x.min()


def test_worked_example_s3(backend):
    """S = 2, a 5x5 input and a 3x3 filter give 2x2 windows; rows are windows, columns kernel offsets."""
    col = backend.run(xconv.im2col, backend.array(np.arange(25).reshape(1, 1, 5, 5)), kernel_size=3, stride=2)
    corners = np.array([[0], [2], [10], [12]])
    assert_array(backend, col, corners + np.array([0, 1, 2, 5, 6, 7, 10, 11, 12]))


def test_padding_happens_inside_im2col_s2(backend):
    col = backend.run(xconv.im2col, backend.array(np.ones((1, 1, 1, 1))), kernel_size=3, padding=1, pad_value=-np.inf)
    expected = np.full((1, 9), -np.inf)
    expected[0, 4] = 1
    assert_array(backend, col, expected)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_seed_code_and_im2col_agree_s2(numpy_backend, stride, pad):
    x = normal((2, 3, 7, 6))
    col = reference.book_im2col(x, 3, 2, stride, pad)
    assert np.array_equal(xconv.im2col(x, (3, 2), stride=stride, padding=pad), col)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("pad", [0, 1, 2])
def test_col2im_adds_overlaps_in_either_form_s6(numpy_backend, stride, pad):
    """The seed's four loops, its strided slices, and col2im are one map, and its += makes it the adjoint."""
    shape = (2, 3, 7, 6)
    rows = normal(reference.book_im2col(np.zeros(shape), 3, 2, stride, pad).shape)
    loops = reference.book_col2im_four_loops(rows, shape, 3, 2, stride, pad)
    slices = reference.book_col2im(rows, shape, 3, 2, stride, pad)
    ours = xconv.col2im(rows, shape, (3, 2), stride=stride, padding=pad)
    assert np.allclose(loops, slices, rtol=0, atol=1e-14)
    assert np.allclose(loops, ours, rtol=0, atol=1e-14)


@pytest.mark.over("case", CASES)
def test_col2im_is_the_adjoint_of_im2col_s6(backend, case):
    x = backend.array(normal(case.input_shape))
    rows = backend.array(normal(reference.im2col(normal(case.input_shape), case.kernel_size, **case.keywords).shape, 1))
    outcome = check_adjoint(
        lambda x: xconv.im2col(x, case.kernel_size, **case.keywords),
        lambda rows: xconv.col2im(rows, case.input_shape, case.kernel_size, **case.keywords),
        x,
        rows,
    )
    assert outcome is None


def test_col2im_is_not_the_inverse_s6(backend):
    x = np.ones((1, 1, 3, 3))
    col = backend.run(xconv.im2col, backend.array(x), kernel_size=2)
    back = backend.run(xconv.col2im, col, input_shape=x.shape, kernel_size=2)
    assert_array(backend, back, [[[[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]]])


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_numpy_needs_no_extra_rows_s7(numpy_backend, stride):
    """The seed's conjecture holds in NumPy, which clips a stop beyond the end."""
    shape = (1, 1, 6, 6)
    rows = normal(reference.book_im2col(np.zeros(shape), 2, 2, stride).shape)
    with_rows = reference.book_col2im(rows, shape, 2, 2, stride, extra_rows=stride - 1)
    without = reference.book_col2im(rows, shape, 2, 2, stride, extra_rows=0)
    assert np.array_equal(with_rows, without)


def test_array_api_does_need_exact_stops_s7():
    """The Array API leaves a stop beyond the end unspecified; the strict namespace raises, and col2im never asks."""
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    stride, o, d = 2, 2, 4
    image = xp.zeros((d,))
    with pytest.raises(IndexError) as error:
        image[1 : 1 + stride * o : stride]
    assert "out-of-bounds stops are not specified" in str(error.value)
    assert image[1 : 1 + stride * (o - 1) + 1 : stride].shape == (o,)
    rows = xp.ones((o, 2))
    assert xconv.col2im(rows, (1, 1, d), 2, stride=stride).shape == (1, 1, d)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=3),
    st.sampled_from(MODES),
    st.data(),
)
def test_a_part_of_a_padded_array_is_padded_by_itself(axes, mode, data):
    """Any box, also one that lies in a border wider than the axis."""
    size, padding = tuple(d for d, _, _ in axes), tuple((lo, hi) for _, lo, hi in axes)
    x, modes = normal((2, *size)), (mode,) * len(size)
    box = []
    for d, lo, hi in axes:
        start = data.draw(st.integers(0, lo + d + hi - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, lo + d + hi))))
    part = framed(np, x, tuple(box), padding, modes, 0.0)
    assert np.array_equal(part, pad(np, x, padding, mode)[(..., *box)])


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 1, 3, 2), (3, 1, 2, 0)])
def test_windows_are_laid_out_from_rows(axes, monkeypatch):
    """What lies across lines of cache is copied once, where reading it for every tap takes ten times as long."""
    laid_out, seen = _windows.copied_view, []

    def spied(xp, array, *others):
        seen.append(array.strides[-1] == array.itemsize)
        return laid_out(xp, array, *others)

    monkeypatch.setattr(_windows, "copied_view", spied)
    in_memory = [(1, 1, 300, 400)[axis] for axis in axes]
    x = np.random.default_rng(0).normal(size=in_memory).transpose(np.argsort(axes))
    y = _windows.gather(np, x, window_geometry((300, 400), (3, 5), **UNPADDED), axis=2)
    assert seen
    assert all(seen)
    assert np.array_equal(y[0, 0, 7], x[0, 0, 1:299, 2:398])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "axis"), [((66, 66), (3, 3), 1, 2), ((1028,), (5,), 1, 2), ((66, 66), (6, 6), 4, 0)]
)
def test_rows_of_windows_do_not_share_few_lines_of_a_cache(size, kernel, stride, axis):
    """A product reads some of each row: a multiple of two KiB apart they were read from memory again and again."""
    x = np.random.default_rng(0).normal(size=(1, 32, *size)).astype(np.float32)
    geometry = window_geometry(size, kernel, **UNPADDED | {"stride": stride})
    expected = _windows.gather(np, x, geometry, axis)
    with making_again():
        found = _windows.gather(np, x, geometry, axis)
        assert np.array_equal(found, expected)
    assert expected.flags.c_contiguous
    assert expected.strides[axis] % 2048 == 0
    assert found.strides[axis] % 2048 == 64
