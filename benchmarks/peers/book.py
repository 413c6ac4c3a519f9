"""The convolution of "Deep Learning from Scratch" on whole arrays, for any number of axes: the speed to start from.

Windows become the rows of one matrix, by a loop over kernel offsets, and one matrix product does the rest.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from xconv.demo.backends import LoadedBackend

from ..suites import ITEM_BYTES, Ints, Layer
from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem

MATRIX_LIMIT = 2 << 30
Array = Any


class Textbook:
    """The whole matrix of windows at once, unless that needs too much memory."""

    name = "textbook"
    packages = ()
    refusals = ()

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
        if reason := _refusal(layer):
            return {FORWARD: reason, INPUT_GRAD: reason, WEIGHT_GRAD: reason}
        # The book's layer keeps the matrix from its forward, so dw does not pay for it again. It is made once, at the
        # first call, which is not timed: a refused layer makes none, and forward and dx do not hold two.
        matrix = functools.cache(lambda: im2col(x, layer))
        return {
            FORWARD: lambda: forward(x, w, layer),
            INPUT_GRAD: lambda: input_grad(dy, w, layer),
            WEIGHT_GRAD: lambda: weight_grad(dy, matrix(), layer),
        }


def load(backend: LoadedBackend) -> list[Peer]:
    """The peer; it needs NumPy only."""
    return [Textbook()]


def _refusal(layer: Layer) -> str:
    if layer.groups > 1:
        return "the book has no groups"
    size = ITEM_BYTES * layer.input_shape[1] * math.prod((layer.input_shape[0], *layer.kernel_size, *_output(layer)))
    too_large = size > MATRIX_LIMIT
    return f"its matrix would have {size / 2**30:.1f} GiB, above {MATRIX_LIMIT / 2**30:.0f} GiB" if too_large else ""


def forward(x: Array, w: Array, layer: Layer) -> Array:
    """The output y, as the transposed view of the product that it is in the book."""
    y = im2col(x, layer) @ w.reshape(len(w), -1).T
    return np.moveaxis(y.reshape(len(x), *_output(layer), len(w)), -1, 1)


def input_grad(dy: Array, w: Array, layer: Layer) -> Array:
    """The gradient dx of the input."""
    return col2im(_rows(dy) @ w.reshape(len(w), -1), layer)


def weight_grad(dy: Array, col: Array, layer: Layer) -> Array:
    """The gradient dw of the filters, from the matrix of windows that the book's layer keeps from forward."""
    return (col.T @ _rows(dy)).T.reshape(layer.weight_shape)


def im2col(x: Array, layer: Layer) -> Array:
    """The windows of x as rows: (N*prod(o), C*prod(k))."""
    (batch, channels), kernel, output = x.shape[:2], layer.kernel_size, _output(layer)
    image = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in layer.padding)])
    col = np.zeros((batch, channels, *kernel, *output), dtype=x.dtype)
    for offset in np.ndindex(*kernel):
        col[(slice(None), slice(None), *offset)] = image[_elements(offset, output, layer)]
    n = len(kernel)
    return col.transpose(0, *range(2 + n, 2 + 2 * n), *range(1, 2 + n)).reshape(batch * math.prod(output), -1)


def col2im(col: Array, layer: Layer) -> Array:
    """Add every row to the elements that its window was read from."""
    channels, output, kernel, n = layer.input_shape[1], _output(layer), layer.kernel_size, len(layer.kernel_size)
    windows = col.reshape(-1, *output, channels, *kernel).transpose(0, *range(1 + n, 2 + 2 * n), *range(1, 1 + n))
    padded = (d + 2 * p for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    image = np.zeros((len(windows), channels, *padded), dtype=col.dtype)
    for offset in np.ndindex(*kernel):
        image[_elements(offset, output, layer)] += windows[(slice(None), slice(None), *offset)]
    inside = (slice(p, p + d) for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    return image[(slice(None), slice(None), *inside)]


def _rows(dy: Array) -> Array:
    return np.moveaxis(dy, 1, -1).reshape(-1, dy.shape[1])


def _output(layer: Layer) -> Ints:
    """Worked out here: the time of a call holds nothing of xconv."""
    axes = zip(layer.input_shape[2:], layer.padding, layer.extent, layer.stride, strict=True)
    return tuple((d + 2 * p - e) // s + 1 for d, p, e, s in axes)


def _elements(offset: Ints, output: Ints, layer: Layer) -> tuple[slice, ...]:
    """The padded input's elements at one offset inside every window."""
    axes = zip(offset, layer.dilation, layer.stride, output, strict=True)
    return (slice(None), slice(None), *(slice(j * a, j * a + s * o, s) for j, a, s, o in axes))
