"""The convolution of "Deep Learning from Scratch" on whole arrays, for any number of axes: the speed to start from.

Windows become the rows of one matrix, by a loop over kernel offsets, and one matrix product does the rest. The book has
no groups: here their columns of the same matrix are multiplied side by side.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .suites import ITEM_BYTES, Ints, Layer

Array = Any
Index = tuple[slice | int, ...]


def matrix_bytes(layer: Layer) -> int:
    """The size of the matrix of windows."""
    batch, _, *output = layer.output_shape
    return ITEM_BYTES * batch * math.prod(output) * layer.input_shape[1] * math.prod(layer.kernel_size)


def forward(x: Array, w: Array, layer: Layer) -> Array:
    """The output y, as the transposed view of the product that it is in the book."""
    y = _multiply(im2col(x, layer), _group_filters(w, layer).swapaxes(1, 2))
    return np.moveaxis(y.reshape(len(x), *_output_size(layer), len(w)), -1, 1)


def input_grad(dy: Array, w: Array, layer: Layer) -> Array:
    """The gradient dx of the input."""
    return col2im(_multiply(_rows(dy), _group_filters(w, layer)), layer)


def weight_grad(dy: Array, col: Array, layer: Layer) -> Array:
    """The gradient dw of the filters, from the matrix of windows that the book's layer keeps from forward."""
    if layer.groups == 1:
        dw = col.T @ _rows(dy)
    else:
        dw = _by_group(col, layer.groups).swapaxes(1, 2) @ _by_group(_rows(dy), layer.groups)
    return dw.swapaxes(-1, -2).reshape(layer.weight_shape)


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


def col2im(col: Array, layer: Layer) -> Array:
    """Add every row to the elements that its window was read from."""
    channels, output, kernel, n = layer.input_shape[1], _output_size(layer), layer.kernel_size, len(layer.kernel_size)
    order = (0, 1 + n, *range(2 + n, 2 + 2 * n), *range(1, 1 + n))
    windows = col.reshape(-1, *output, channels, *kernel).transpose(order)
    padded = (d + 2 * p for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    image = np.zeros((len(windows), channels, *padded), dtype=col.dtype)
    for offset in np.ndindex(*kernel):
        image[_elements(offset, output, layer)] += windows[_tap(offset)]
    inside = (slice(p, p + d) for d, p in zip(layer.input_shape[2:], layer.padding, strict=True))
    return image[(slice(None), slice(None), *inside)]


def _multiply(rows: Array, matrices: Array) -> Array:
    """Each group's columns of the rows times its matrix, out of (G, columns, results): a view as (rows, G, results)."""
    if len(matrices) == 1:
        return rows @ matrices[0]  # as it is in the book, without the axis of groups
    return (_by_group(rows, len(matrices)) @ matrices).swapaxes(0, 1)


def _by_group(rows: Array, groups: int) -> Array:
    """A view of the rows as (G, rows, columns of a group)."""
    return rows.reshape(len(rows), groups, -1).swapaxes(0, 1)


def _group_filters(w: Array, layer: Layer) -> Array:
    """The filters as rows: (G, K/G, C/G*prod(k))."""
    return w.reshape(layer.groups, len(w) // layer.groups, -1)


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
