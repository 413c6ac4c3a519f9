"""The convolution of "Deep Learning from Scratch" on whole arrays, for any number of axes: the speed to start from.

Windows become the rows of one matrix, by a loop over kernel offsets, and one matrix product does the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .suites import ITEM_BYTES, Ints, Layer

Array = Any
Index = tuple[slice | int, ...]


def matrix_bytes(layer: Layer) -> int:
    """The size of the largest matrix of windows: one group's."""
    batch, _, *output = layer.output_shape
    return ITEM_BYTES * batch * math.prod(output) * math.prod(layer.weight_shape[1:])


def forward(x: Array, w: Array, layer: Layer) -> Array:
    """The output y, as the transposed view of the product that it is in the book."""
    return _joined([_forward(x[:, c], w[k], layer) for c, k in _groups(layer)])


def input_grad(dy: Array, w: Array, layer: Layer) -> Array:
    """The gradient dx of the input."""
    return _joined([_input_grad(dy[:, k], w[k], layer) for _, k in _groups(layer)])


def weight_grad(dy: Array, x: Array, layer: Layer) -> Array:
    """The gradient dw of the filters."""
    parts = [_weight_grad(dy[:, k], x[:, c], layer) for c, k in _groups(layer)]
    return parts[0] if layer.groups == 1 else np.concatenate(parts)


def im2col(x: Array, layer: Layer) -> Array:
    """The windows of x as rows: (N*prod(o), C*prod(k))."""
    batch, channels = x.shape[:2]
    output, kernel = _output_size(layer), layer.kernel_size
    image = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in layer.padding)])
    col = np.zeros((batch, channels, *kernel, *output), dtype=x.dtype)
    for offset in np.ndindex(*kernel):
        col[_tap(offset)] = image[_elements(offset, output, layer)]
    n = len(kernel)
    order = (0, *range(2 + n, 2 + 2 * n), 1, *range(2, 2 + n))
    return col.transpose(order).reshape(batch * math.prod(output), -1)


def col2im(col: Array, channels: int, layer: Layer) -> Array:
    """Add every row to the elements that its window was read from."""
    output, kernel, n = _output_size(layer), layer.kernel_size, len(layer.kernel_size)
    order = (0, 1 + n, *range(2 + n, 2 + 2 * n), *range(1, 1 + n))
    windows = col.reshape(-1, *output, channels, *kernel).transpose(order)
    padded = (d + 2 * p for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    image = np.zeros((len(windows), channels, *padded), dtype=col.dtype)
    for offset in np.ndindex(*kernel):
        image[_elements(offset, output, layer)] += windows[_tap(offset)]
    inside = (slice(p, p + d) for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    return image[(slice(None), slice(None), *inside)]


def _forward(x: Array, w: Array, layer: Layer) -> Array:
    y = im2col(x, layer) @ w.reshape(len(w), -1).T
    return np.moveaxis(y.reshape(len(x), *_output_size(layer), len(w)), -1, 1)


def _input_grad(dy: Array, w: Array, layer: Layer) -> Array:
    return col2im(_rows(dy) @ w.reshape(len(w), -1), w.shape[1], layer)


def _weight_grad(dy: Array, x: Array, layer: Layer) -> Array:
    dw = im2col(x, layer).T @ _rows(dy)
    return dw.T.reshape(dy.shape[1], x.shape[1], *layer.kernel_size)


def _rows(dy: Array) -> Array:
    return np.moveaxis(dy, 1, -1).reshape(-1, dy.shape[1])


def _tap(offset: Ints) -> Index:
    return (slice(None), slice(None), *offset)


def _output_size(layer: Layer) -> Ints:
    """Worked out here: the time of a call holds nothing of xconv."""
    axes = zip(layer.input_shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    return tuple((d + 2 * p - a * (k - 1) - 1) // s + 1 for d, p, a, k, s in axes)


def _elements(offset: Ints, output: Ints, layer: Layer) -> Index:
    """The padded input's elements at one offset inside every window."""
    starts = (j * a for j, a in zip(offset, layer.dilation, strict=True))
    spans = zip(starts, layer.stride, output, strict=True)
    return (slice(None), slice(None), *(slice(start, start + s * o, s) for start, s, o in spans))


def _groups(layer: Layer) -> list[tuple[slice, slice]]:
    """For each group its input channels and its filters."""
    c, k = layer.weight_shape[1], layer.weight_shape[0] // layer.groups
    return [(slice(g * c, g * c + c), slice(g * k, g * k + k)) for g in range(layer.groups)]


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
