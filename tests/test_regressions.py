"""Bugs that other libraries had, or have: each must not happen here."""

from __future__ import annotations

import numpy as np
import reference
from backends import assert_array
from geometries import normal

import xconv
from xconv._arrays.windows import pad
from xconv._plan.arguments import window_geometry


def test_weight_gradient_of_grouped_convolutions(backend):
    """PyTorch 51430: the explicit weight gradient was silently wrong for groups > 1."""
    x, dy = normal((3, 6, 5, 4)), normal((3, 4, 3, 2), 1)
    dw = backend.run(lambda dy, x: xconv.conv_weight_grad(dy, x, 3, groups=2), backend.array(dy), backend.array(x))
    assert_array(backend, dw, reference.conv_weight_grad(dy, x, 3, groups=2), terms=100)


def test_input_gradient_of_grouped_strided_convolutions(backend):
    """MLX 3800: dL/dx was wrong for groups together with a stride."""
    w, dy, shape = normal((4, 3, 3, 3)), normal((2, 4, 3, 3), 1), (2, 6, 6, 5)
    keywords = {"groups": 2, "stride": 2, "padding": 1}
    dx = backend.run(lambda dy, w: xconv.conv_input_grad(dy, w, shape, **keywords), backend.array(dy), backend.array(w))
    assert_array(backend, dx, reference.conv_input_grad(dy, w, shape, **keywords), terms=100)


def test_circular_padding_in_blocks(backend):
    """dask-image 242: each chunk wrapped around itself. The border comes before the blocks here."""
    x, w = normal((1, 2, 7, 6)), normal((3, 2, 3, 3), 1)
    whole = reference.conv(x, w, padding=2, padding_mode="circular", stride=2)
    windows = window_geometry((7, 6), 3, stride=2, padding=2, dilation=1)
    padded = pad(backend.xp, backend.array(x), windows.padding, "circular")
    for rows in ((0, 2), (2, whole.shape[2])):
        slices, part = windows.padded.restrict([rows, (0, whole.shape[3])])
        block = xconv.conv(padded[(..., *slices)], backend.array(w), stride=2, padding=part.padding)
        assert_array(backend, block, whole[:, :, slice(*rows)], terms=100)


def test_float32_is_not_widened(backend):
    """The book's im2col fills a float64 array whatever it is given."""
    col = backend.run(xconv.im2col, backend.array(normal((1, 2, 4, 4), dtype="float32")), kernel_size=2, padding=1)
    assert col.dtype == backend.dtype("float32")


def test_pooling_with_padding(backend):
    """The book's Pooling leaves the padding out of its output size, and pads a maximum with 0."""
    out = xconv.Pooling(2, 2, stride=2, pad=1).forward(backend.array(np.full((1, 1, 4, 4), -1.0)))
    assert_array(backend, out, np.full((1, 1, 3, 3), -1.0))


def test_gradients_of_no_samples_by_the_librarys_own_convolution_in_groups(jax_backend):
    import jax

    x, w = (jax_backend.array(np.ones(shape)) for shape in ((0, 2, 1, 7), (4, 1, 1, 3)))
    dw = jax.grad(lambda w: xconv.conv(x, w, groups=2, padding=1, method="native").sum())(w)
    assert dw.shape == w.shape
    assert not dw.any()
