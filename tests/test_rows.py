"""Rows as they lie in memory: any windows without strides, a line of outputs at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import reference
from geometries import normal
from hypothesis import given, settings
from hypothesis import strategies as st

from xconv._arrays.layout import Access
from xconv._methods.rows import Rows
from xconv._plan.arguments import window_geometry
from xconv._plan.choice import Room, planned
from xconv._plan.task import Task
from xconv._run.runners import Scheduled, request


def task_of(x, w, groups, **keywords):
    windows = window_geometry(x.shape[2:], w.shape[2:], stride=1, **keywords)
    return Task("forward", windows, x.shape[0], groups, w.shape[1], w.shape[0] // groups)


def access_of(x):
    return Access(np, x.dtype, x.dtype)


def by_rows(x, w, groups=1, room=2**26, **keywords):
    """The convolution by lines of outputs, in its blocks."""
    task = task_of(x, w, groups, **keywords)
    asked = request(access_of(x), task, Room(room, room))
    asked = asked._replace(methods={"toeplitz": lambda part: Rows.variants(np, x.dtype, part)})
    return Scheduled(access_of(x), asked, planned(asked, "toeplitz"))(x, w)


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


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@settings(max_examples=60, deadline=None)
@given(case=drawn(), room=st.sampled_from([2**17, 2**20, 2**26]))
def test_every_block_equals_the_loops(dtype, case, room):
    shape, weight_shape, groups, keywords = case
    x, w = normal(shape, 0, dtype), normal(weight_shape, 1, dtype)
    y = by_rows(x, w, groups, room, **keywords)
    assert y.dtype == x.dtype
    wide = "complex128" if dtype == "complex64" else "float64"
    expected = reference.conv(x.astype(wide), w.astype(wide), groups=groups, **keywords)
    bound = 4 * np.prod(w.shape[1:]) * np.finfo(dtype).eps * np.max(np.abs(expected))
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound)


def test_what_lies_between_the_windows_warns_of_nothing():
    x = np.zeros((1, 1, 6, 40), "float32")
    x[..., 0], x[..., -1] = np.inf, -np.inf
    w = np.ones((1, 1, 1, 3), "float32")
    y = by_rows(x, w, padding=0, dilation=1)
    expected = reference.conv(x, w)
    clean = slice(16, -16)  # lines of 16 mix in zeros times inf
    assert np.array_equal(y[..., clean], expected[..., clean], equal_nan=True)


@pytest.mark.parametrize("room", [2**20, 2**22, 2**24])
def test_the_workspace_holds_it(room):
    x, w = normal((1, 1, 900, 1000), 0, "float32"), normal((1, 1, 7, 7), 1, "float32")
    by_rows(x, w, room=room, padding=3, dilation=1)  # planned
    tracemalloc.start()
    y = by_rows(x, w, room=room, padding=3, dilation=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - y.nbytes <= room + 2**16
