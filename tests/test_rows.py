"""Rows as they lie in memory: any windows without strides, in bits that depend on nothing but what a window holds."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import reference
from geometries import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from xconv._arrays import matmul
from xconv._arrays.layout import Access
from xconv._methods.rows import Rows
from xconv._plan.arguments import window_geometry
from xconv._plan.choice import planned
from xconv._plan.schedule import schedule
from xconv._plan.task import Task
from xconv._run.products import Products, request


def task_of(x, w, groups, **keywords):
    windows = window_geometry(x.shape[2:], w.shape[2:], stride=1, **keywords)
    return Task("forward", windows, x.shape[0], groups, w.shape[1], w.shape[0] // groups)


def access_of(x):
    return Access(np, x.dtype, x.dtype)


def by(length, x, w, groups=1, room=2**26, **keywords):
    """The convolution by single outputs, or by lines of them, in its blocks."""
    task = task_of(x, w, groups, **keywords)
    asked = request(np, x.dtype, task, room)
    tiles = [tile for tile in Rows.tiles(np, x.dtype, task) if (tile.m == 1) == (length == "single")]
    asked = asked._replace(methods={"toeplitz": lambda _: tiles})
    return Products(access_of(x), asked, planned(asked, "toeplitz")).forward(x, w, None)


@st.composite
def drawn(draw):
    n = draw(st.integers(1, 3))
    groups, channels, filters = (draw(st.integers(1, 3)) for _ in range(3))
    kernel = [draw(st.integers(1, 5 if n < 3 else 3)) for _ in range(n)]  # the loops are slow
    dilation = [draw(st.integers(1, 2)) for _ in range(n)]
    size = [
        a * (k - 1) + draw(st.integers(1, 40 if axis == n - 1 else 9 - 2 * n))
        for axis, (k, a) in enumerate(zip(kernel, dilation, strict=True))
    ]
    padding = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(n)]
    shapes = (draw(st.integers(1, 3)), groups * channels, *size), (groups * filters, channels, *kernel)
    return (*shapes, groups, {"padding": padding, "dilation": dilation})


@pytest.mark.parametrize(
    ("length", "dtype"),
    [
        *itertools.product(["single", "line"], ["float32", "float64", "complex64"]),
        ("single", "int16"),  # of which products of matrices would be of limbs
    ],
)
@settings(max_examples=60, deadline=None)
@given(case=drawn(), room=st.sampled_from([2**17, 2**20, 2**26]))
def test_every_block_equals_the_loops(length, dtype, case, room):
    shape, weight_shape, groups, keywords = case
    x, w = normal(shape, 0, dtype), normal(weight_shape, 1, dtype)
    y = by(length, x, w, groups, room, **keywords)
    assert y.dtype == x.dtype
    wide = "int64" if dtype == "int16" else "complex128" if dtype == "complex64" else "float64"
    expected = reference.conv(x.astype(wide), w.astype(wide), groups=groups, **keywords)
    if dtype == "int16":
        np.testing.assert_array_equal(y, expected.astype("int16"))
    else:
        bound = 4 * np.prod(w.shape[1:]) * np.finfo(dtype).eps * np.max(np.abs(expected))
        np.testing.assert_allclose(y, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [(1, 9), (9, 1), (3, 3), (1, 4)])
def test_equal_windows_give_equal_bits(kernel, dtype):
    """Constant images stay constant, whatever the filter, the size of the image and the blocks."""
    for seed in range(40):
        width = 40 + 7 * seed
        x = np.full((1, 1, 33, width), np.pi, dtype)
        w = normal((1, 1, *kernel), seed, dtype)
        y = [by("single", x, w, room=room, padding=0, dilation=1) for room in (2**20, 2**26)]
        assert len({bytes(value) for one in y for value in one.ravel()}) == 1


@pytest.mark.parametrize("kernel", [(1, 9), (7, 1), (1, 3)])
def test_antisymmetric_filters_of_constants_give_exact_zeros(kernel):
    w = normal((1, 1, *kernel), 3)
    w = w - np.flip(w, (2, 3))
    x = np.full((1, 1, 30, 41), np.e)
    assert not by("single", x, w, padding=0, dilation=1).any()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kernel", [(5,), (4,), (3, 1), (3, 3), (1, 7), (3, 2, 3), (1, 1)])
def test_symmetric_filters_along_an_axis_are_folded(monkeypatch, kernel, sign):
    """Half of the products are enough, and the result is the same."""
    w = normal((1, 1, *kernel), 1)
    w = w + sign * np.flip(w, tuple(range(2, w.ndim)))
    x = normal((2, 1, *(k + 6 for k in kernel)))
    terms, found = matmul._terms, []
    monkeypatch.setattr(matmul, "_terms", lambda *arguments: found.extend(terms(*arguments)) or terms(*arguments))
    y = by("single", x, w, padding=0, dilation=1)
    np.testing.assert_allclose(y, reference.conv(x, w), rtol=0, atol=1e-12)
    taps, is_line = np.prod(kernel), max(kernel) == np.prod(kernel) and np.prod(kernel) % 2
    assert sum(np.prod(one.shape[:-2], dtype=int) for one, *_ in found) == ((taps + 1) // 2 if is_line else taps)


def test_sums_are_in_the_order_of_scipy():
    """To the last bit, in double precision, so that what is stored without its fraction is the same."""
    ndimage = pytest.importorskip("scipy.ndimage")
    x = normal((40, 50))
    for kernel, symmetric in [((1, 9), True), ((5, 1), True), ((3, 3), False), ((4, 3), False)]:
        w = normal(kernel, 1)
        w = w + np.flip(w) if symmetric else w
        y = by("single", x[None, None], w[None, None], padding=0, dilation=1)[0, 0]
        expected = (
            ndimage.correlate1d(x, w.ravel(), axis=int(np.argmax(kernel))) if symmetric else ndimage.correlate(x, w)
        )
        (top, left), (height, width) = (k // 2 for k in kernel), y.shape
        assert np.array_equal(y, expected[top : top + height, left : left + width])


@pytest.mark.parametrize("length", ["single", "line"])
def test_what_lies_between_the_windows_warns_of_nothing(length):
    x = np.zeros((1, 1, 6, 40), "float32")
    x[..., 0], x[..., -1] = np.inf, -np.inf
    w = np.ones((1, 1, 1, 3), "float32")
    y = by(length, x, w, padding=0, dilation=1)
    expected = reference.conv(x, w)
    clean = slice(16, -16) if length == "line" else slice(None)  # lines of 16 mix in zeros times inf
    assert np.array_equal(y[..., clean], expected[..., clean], equal_nan=True)


@pytest.mark.parametrize("room", [2**20, 2**22, 2**24])
@pytest.mark.parametrize("length", ["single", "line"])
def test_the_workspace_holds_it(length, room):
    x, w = normal((1, 1, 900, 1000), 0, "float32"), normal((1, 1, 7, 7), 1, "float32")
    by(length, x, w, room=room, padding=3, dilation=1)  # planned
    tracemalloc.start()
    y = by(length, x, w, room=room, padding=3, dilation=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - y.nbytes <= room + 2**16


def test_direct_takes_equal_operations_where_they_cost_little_more():
    """And no longer than half as much again, by the estimates; "auto" takes the fastest."""
    for size, k in [(512, 3), (512, 9), (2048, 3)]:
        x, w = np.empty((1, 1, size, size), "float32"), np.empty((1, 1, k, k), "float32")
        task = task_of(x, w, 1, padding=k // 2, dilation=1)
        asked = request(np, x.dtype, task, 2**26)
        tiles = asked.methods["toeplitz"]
        fastest, patient, sure = (
            schedule(task, tiles, asked.machine, 2**26, patience) for patience in (1, 1.5, np.inf)
        )
        assert sure.tile.is_uniform
        assert patient.tile.is_uniform == (sure.cost <= 1.5 * fastest.cost)
        assert fastest.cost <= patient.cost <= sure.cost
