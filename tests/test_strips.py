"""Strips of rows: Toeplitz blocks along the first axis, which BLAS reads where they overlap and writes where y is."""

from __future__ import annotations

import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
from geometries import normal
from hypothesis import given, settings
from hypothesis import strategies as st

import xconv
from xconv._arrays import matmul, scratch
from xconv._arrays.layout import Access
from xconv._arrays.windows import framed
from xconv._methods.strips import Strips
from xconv._plan.arguments import window_geometry
from xconv._plan.choice import Room, planned
from xconv._plan.remembered import forget
from xconv._plan.task import ANY, Task
from xconv._run.runners import Scheduled, request
from xconv._run.threads import alone


@pytest.fixture(params=["reads", "copies"], autouse=True, scope="module")
def blas(request):
    """With AVX-512, BLAS reads the factors of small products where they lie; without, it copies those of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, "reads_small_factors", lambda: request.param == "reads")
        forget()
        yield request.param
    forget()


def by_strips(product, x, w, groups, room, **keywords):
    """What carries a product out by strips alone, in its blocks; none if these windows have no strips."""
    windows = window_geometry(x.shape[2:], w.shape[2:], **keywords)
    task = Task(product, windows, x.shape[0], groups, w.shape[1], w.shape[0] // groups)
    if not Strips.variants(np, x.dtype, task):
        return None
    access = Access(np, x.dtype, x.dtype)
    asked = request(access, task, Room(room, room))
    asked = asked._replace(methods={"toeplitz": lambda part: Strips.variants(np, x.dtype, part)[-1:]})
    return Scheduled(access, asked, planned(asked, "toeplitz"))


@st.composite
def drawn(draw):
    n = draw(st.integers(2, 3))
    groups, channels, filters = (draw(st.integers(1, 2)) for _ in range(3))
    kernel = [draw(st.integers(1, 4 if n < 3 else 2)) for _ in range(n)]
    dilation, stride = ([draw(st.integers(1, 2)) for _ in range(n)] for _ in range(2))
    outputs = [draw(st.integers(1, 11)), *(draw(st.integers(5, 8)) for _ in range(n - 2)), draw(st.integers(24, 40))]
    padding = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(n)]
    size = [
        max((o - 1) * s + a * (k - 1) + 1 - sum(pair) + draw(st.integers(0, s - 1)), 1)
        for o, s, a, k, pair in zip(outputs, stride, dilation, kernel, padding, strict=True)
    ]
    shapes = (draw(st.integers(1, 2)), groups * channels, *size), (groups * filters, channels, *kernel)
    return (*shapes, groups, {"stride": stride, "padding": padding, "dilation": dilation})


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@settings(max_examples=40, deadline=None)
@given(case=drawn(), room=st.sampled_from([2**17, 2**20]))
def test_every_block_equals_the_loops(dtype, case, room):
    shape, weight_shape, groups, keywords = case
    x, w = normal(shape, 0, dtype), normal(weight_shape, 1, dtype)
    wide = "complex128" if dtype == "complex64" else "float64"
    expected = reference.conv(x.astype(wide), w.astype(wide), groups=groups, **keywords)
    products = by_strips("forward", x, w, groups, room, **keywords)
    if products is not None:
        y = products(x, w)
        assert (y.dtype, y.shape) == (x.dtype, expected.shape)
        bound = 4 * math.prod(w.shape[1:]) * np.finfo(dtype).eps * np.max(np.abs(expected))
        np.testing.assert_allclose(y, expected, rtol=0, atol=bound)
    dy = normal(expected.shape, 2, dtype)
    products = by_strips("backward_filter", x, w, groups, room, **keywords)
    if products is not None:
        dw = products(dy, x)
        expected = reference.conv_weight_grad(dy.astype(wide), x.astype(wide), w.shape[2:], groups=groups, **keywords)
        bound = 4 * dy.size * np.finfo(dtype).eps * np.max(np.abs(dy)) * np.max(np.abs(x))
        np.testing.assert_allclose(dw, expected, rtol=0, atol=bound)


def large(mode, kernel, seed=0):
    """An image of many blocks, filters, and what SciPy makes of them; modes by our names."""
    ndimage = pytest.importorskip("scipy.ndimage")
    words = {"zeros": "constant", "reflect": "mirror", "symmetric": "reflect", "replicate": "nearest"}
    x, w = normal((401, 530), seed), normal(kernel, seed + 1)
    return x, w, ndimage.correlate(x, w, mode=words.get(mode, "wrap"))


@pytest.mark.parametrize("room", [2**19, 2**21])
@pytest.mark.parametrize("kernel", [(7, 7), (5, 11), (9, 4), (1, 5)])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "symmetric", "replicate", "circular"])
def test_blocks_inside_and_at_the_edges_equal_scipy(mode, kernel, room):
    """Blocks are read where they lie but for those at the ends of rows, which are others."""
    x, w, expected = large(mode, kernel)
    padding = [(k // 2, (k - 1) // 2) for k in kernel]
    products = by_strips("forward", x[None, None], w[None, None], 1, room, stride=1, padding=padding, dilation=1)
    assert products.candidate.schedule.blocks >= 4
    y = xconv.conv(
        x[None, None], w[None, None], padding=padding, padding_mode=mode, method="toeplitz", max_workspace=room
    )
    np.testing.assert_allclose(y[0, 0], expected, rtol=0, atol=1e-12 * w.size)


@pytest.mark.parametrize("place", [(0, 0), (200, 0), (200, 529), (400, 300), (200, 300)])
def test_direct_sees_what_a_block_reads(place):
    """A NaN anywhere stays in its windows, whichever block reads it."""
    x, w, expected = large("symmetric", (7, 7))
    x[place] = np.nan
    y = xconv.conv(
        x[None, None], w[None, None], padding=3, padding_mode="symmetric", method="direct", max_workspace=2**20
    )
    (row, column), spoiled = place, np.zeros(x.shape, bool)
    spoiled[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = True
    assert np.array_equal(np.isnan(y[0, 0]), spoiled)
    np.testing.assert_allclose(y[0, 0][~spoiled], expected[~spoiled], rtol=0, atol=1e-10)


def test_windows_are_laid_out_in_one_place_whether_blocks_have_borders_or_not():
    """Those at the ends of rows copy what they read: if that moved what is laid out, a cache would have neither."""
    x, w = normal((1, 1, 36, 4000), 0, "float32"), normal((1, 1, 15, 15), 1, "float32")
    keywords = {"padding": 7, "padding_mode": "reflect", "method": "toeplitz", "max_workspace": 2**21}
    assert xconv.plan(x.shape, w.shape, xp=np, dtype=x.dtype, **keywords).blocks >= 3  # some of them between the ends

    def used():
        with alone():
            xconv.conv(x, w, **keywords)
        return set(scratch._OWN.places)

    with ThreadPoolExecutor(1) as pool:
        places = pool.submit(used).result()
    assert places == {scratch.READ, scratch.PLACES[0][0]}


def test_a_border_from_the_other_end_of_a_long_row_is_cut_before_it_is_copied():
    x = normal((27, 100_000))
    tracemalloc.start()
    found = framed(np, x, (slice(0, 40), slice(0, 40)), ((26, 6), (30, 56)), ("circular",) * 2, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * found.nbytes
    np.testing.assert_array_equal(found, np.pad(x, ((26, 6), (30, 56)), mode="wrap")[:40, :40])


def test_many_blocks_are_made_as_they_are_asked_for():
    x, w = normal((1, 1, 60, 100_000), 0, "float32"), normal((1, 1, 11, 3), 1, "float32")
    y = xconv.conv(x, w, padding=1, method="direct", max_workspace=2**20)  # planned
    tracemalloc.start()
    y = xconv.conv(x, w, padding=1, method="direct", max_workspace=2**20)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held - y.nbytes < 2**17
    assert peak - y.nbytes <= 2**20 + 2**16


def test_one_filter_is_written_where_the_result_is():
    x, w = normal((1, 1, 260, 300)), normal((1, 1, 5, 5), 1)
    geometry, y = window_geometry((260, 300), (5, 5), stride=1, padding=0, dilation=1), np.empty((1, 1, 256, 296))
    variant, *_ = Strips.variants(np, x.dtype, Task("forward", geometry, 1, 1, 1, 1))
    place = variant.output_adjoint(np, y[None], geometry)
    assert np.shares_memory(place, y)
    np.matmul(variant.weight_map(np, w[None], geometry), variant.input_map(np, x[:, :, None], geometry), out=place)
    rows = np.arange(256)[:, None, None, None] + np.arange(5)[:, None]
    columns = np.arange(296)[:, None, None] + np.arange(5)
    np.testing.assert_allclose(y[0, 0], np.sum(x[0, 0][rows, columns] * w[0, 0], (2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("filters", "copies"), [(1, [4, 8]), (2, [4])])
def test_strips_are_as_high_as_pays_for_what_blas_copies(blas, filters, copies):
    """Products of strips that are copied, in pieces of columns, would copy the filters as often."""
    geometry = window_geometry((260, 300), (5, 5), stride=1, padding=0, dilation=1)
    found = Strips.variants(np, np.dtype("float64"), Task("forward", geometry, 1, 1, 1, filters))
    assert [variant.m for variant in found] == ([4] if blas == "reads" else copies)
    assert all((variant.widest == ANY) is (blas == "copies") for variant in found)
    found = Strips.variants(np, np.dtype("complex64"), Task("forward", geometry, 1, 1, 1, 1))  # no kernels anywhere
    assert [(variant.m, variant.widest) for variant in found] == [(4, ANY), (8, ANY)]
