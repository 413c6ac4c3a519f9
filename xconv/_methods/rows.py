"""Toeplitz blocks that lie in plain memory already: the rows of the padded input, one behind the other.

Windows of m outputs, e = m + r - 1 elements each, begin at every m-th element. Those that begin at (p*f + h)*m for one
h < f do not overlap if f*m >= e. If rows are a multiple of f*m apart, these are the rows of a matrix over the whole
input, which BLAS reads where it is; and each channel and each tap along the other axes has one further on:

    y[k, (p*f + h)*m + b] = sum over c, j, i of  x[c, j, (p*f + h)*m + i] * T[c, j][i, (k, b)],
    T[c, j][b + a*i, (k, b)] = w[k, c, j, i]

What is computed for the ends of rows, between the windows, is left out.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from .._arrays.elements import put_at, zeros
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.matmul import MULTIPLIED
from .._arrays.operands import item_size
from .._plan.borders import frame
from .._plan.geometry import Geometry, Ints
from .._plan.task import Steps, Task
from .maps import Maps

OPERATIONS = 150  # of the shortest, that a block takes as long as, with what Python does for it
COPIES = 2  # passes over memory that bringing data into rows takes, and results out of them
FLOAT = 4  # bytes of the least number: of wider ones fewer are added up at once
LINE = 64  # bytes of m outputs: one register of the widest, and a line of cache


class Rows(Maps):
    """The maps for blocks of m outputs along the last axis: stacked by h, then by channels and taps, which add up."""

    mixes_zeros = True
    stacked = 1
    stacks_taps = True

    def __init__(self, unit: Ints, m: int) -> None:
        self.unit, self.m = unit, m

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Rows]:
        """For windows without strides on NumPy: products of floats, a line of outputs at once."""
        if task.direction != "forward" or set(task.windows.stride) != {1} or not traits(xp).threads:
            return []
        if is_kind(xp, dtype, "integral"):
            return []
        m = LINE // item_size(xp, dtype)
        return [cls((*(1 for _ in task.windows.stride[1:]), _memory(task.windows, m).step), m)]

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        memory, stack = _memory(windows, self.m), channels * self._stacked(windows)
        copied = 2 if filters > 1 else 1
        summed = min(stack * filters * memory.size, MULTIPLIED // FLOAT)
        return channels * memory.size + windows.reach[-1] + copied * filters * memory.size + summed

    def weight_workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        return channels * filters * self._stacked(windows) * self.m * _window(windows, self.m)

    def _stacked(self, windows: Geometry) -> int:
        """How many products of a channel add up."""
        return windows.taps // windows.kernel_size[-1]

    def steps(self, task: Task) -> Steps:
        windows, memory = task.windows, _memory(task.windows, self.m)
        size, stack = task.groups * task.batch * memory.size, task.channels * self._stacked(windows)
        results = size * task.filters
        copied = size * task.channels + results
        windowed = size * _window(windows, self.m) // self.m * stack
        return Steps(
            operation=2 * OPERATIONS,  # one for the taps of each output of a line
            product=memory.copies * task.groups * stack,
            multiplication=windowed * self.m * task.filters,
            packed=2 * windowed,
            written=results * stack,
            copied=COPIES * copied + (results if task.filters > 1 else 0),
            added=results * stack,
            row=size / memory.pitch,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (f, C, *j, G, e, p), a view of the rows of padded samples."""
        (batch, groups, channels), memory = x.shape[:3], _memory(geometry, self.m)
        size, inside = frame(geometry.input_size, geometry.padding)
        shape = (groups, channels, batch, *size[:-1], memory.pitch)
        rows = zeros(xp, x, (math.prod(shape) + geometry.reach[-1] - 1,))
        framed = xp.reshape(rows[: math.prod(shape)], shape)
        put_at(xp.permute_dims(framed, (2, 0, 1, *range(3, framed.ndim))), (..., *inside), x)
        plane, stacked = batch * memory.size, geometry.kernel_size[:-1]
        taps = [a * stride for a, stride in zip(geometry.dilation, memory.strides, strict=True)]
        shape = (memory.copies, channels, *stacked, groups, _window(geometry, self.m), memory.count(batch))
        strides = (self.m, plane, *taps[: len(stacked)], channels * plane, 1, memory.step)
        return xp.lib.stride_tricks.as_strided(rows, shape, tuple(stride * rows.itemsize for stride in strides))

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (C, *j, G, K*m, e)."""
        n, (groups, filters) = geometry.ndim, w.shape[:2]
        w = xp.permute_dims(w, (*range(2, n + 2), 0, n + 2, 1))
        bands = zeros(xp, w, (*w.shape[:n], groups, _window(geometry, self.m), filters, self.m))
        for b, band in enumerate(geometry.axes[-1].bands(self.m)):
            bands = put_at(bands, (..., band, slice(None), b), w)
        return xp.matrix_transpose(xp.reshape(bands, (*bands.shape[:-2], filters * self.m)))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(f, G, K*m, p) -> (N, G, K, *o)."""
        memory, (copies, groups, filters, count) = _memory(geometry, self.m), products.shape
        filters //= self.m
        blocks = xp.reshape(products, (copies, groups, filters, self.m, count))
        flat = xp.reshape(xp.permute_dims(blocks, (1, 2, 4, 0, 3)), (groups, filters, count * memory.step))
        *outer, element = flat.strides
        strides = (memory.size * element, *outer, *(stride * element for stride in memory.strides))
        shape = (memory.batch(count), groups, filters, *geometry.output_size)
        return xp.ndarray(shape, flat.dtype, flat, strides=strides)


class Memory(NamedTuple):
    """Where the rows of padded samples lie, in elements."""

    pitch: int  # from one row to the next
    step: int  # between neighbouring rows of a matrix
    copies: int  # matrices that together have all windows
    strides: Ints  # along each axis
    size: int  # of a sample
    last: int  # the place of a sample's last output

    def count(self, batch: int) -> int:
        """How many rows the matrices have."""
        return -(-((batch - 1) * self.size + self.last + 1) // self.step)

    def batch(self, count: int) -> int:
        """The inverse of that."""
        return (count * self.step - 1 - self.last) // self.size + 1


@functools.lru_cache(maxsize=1024)
def _memory(geometry: Geometry, m: int) -> Memory:
    copies = -(-_window(geometry, m) // m)
    step = copies * m
    pitch = -(-geometry.padded_size[-1] // step) * step
    rows = geometry.padded_size[:-1]
    strides = (*(pitch * math.prod(rows[axis:]) for axis in range(1, geometry.ndim)), 1)
    last = sum((o - 1) * stride for o, stride in zip(geometry.output_size, strides, strict=True))
    return Memory(pitch, step, copies, strides, pitch * math.prod(rows), last)


def _window(geometry: Geometry, m: int) -> int:
    """How many elements in a row m outputs read."""
    return m + geometry.reach[-1] - 1
