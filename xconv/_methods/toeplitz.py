"""Toeplitz blocks: windows so wide that they read what m outputs in a row need, times a banded matrix of the filters.

Along the last axis the window of outputs m*i to m*i + m - 1 has (m - 1)*s + r elements, and the rows of the matrix for
one filter are its taps, each s elements further to the right than those before:

    y[k, m*i + b] = sum over c, e of  T[(k, b), (c, e)] * x[c, m*s*i + e],  T[(k, b), (c, s*b + a*j)] = w[k, c, j]

Most of T is zero, so there is more to multiply, by m rows at once instead of one, and less to lay out: it pays where a
group has few channels and filters, as in depthwise convolution. The sums are those of im2col, with zeros between. A NaN
or inf spreads over the blocks that read it, for which the method "direct" computes anew by im2col.
"""

from __future__ import annotations

import functools
import math

from .._arrays.elements import add_at, put_at, zeros
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.matmul import has_outer_kernels
from .._arrays.windows import frames, overlap_add, pad, unpad
from .._plan.geometry import Geometry, Ints
from .._plan.task import OVERLAPPING, Steps, Task
from .maps import Maps
from .rows import Rows
from .strips import Strips

OPERATIONS = 300  # of the shortest, that a block takes as long as, with what Python does for it
LONGEST = 16  # outputs in a row that are one block: what fills the registers of a matrix product


class Toeplitz(Maps):
    """The maps for blocks of ``unit`` outputs: m along the last axis, 1 along the others. Samples stay apart."""

    mixes_zeros = True
    stacked = 1

    def __init__(self, unit: Ints, tiles_rows: bool) -> None:
        self.unit, self.tiles_rows = unit, tiles_rows

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Toeplitz | Rows | Strips]:
        *others, last = task.windows.output_size
        m = _length(last)
        laid_out = cls((*(1 for _ in others), m), last % m == 0 and traits(xp).threads)
        return [laid_out, *Rows.variants(xp, dtype, task), *Strips.variants(xp, dtype, task)]

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        blocks = _blocks(geometry, self.unit[-1])
        pieces = blocks.taps * blocks.positions
        first = pieces // (blocks.kernel_size[0] * blocks.output_size[0]) * blocks.padded_size[0]  # one axis added up
        outputs = filters * self.unit[-1] * blocks.positions * (1 if self.writes_in_place(1, filters) else 3)
        copies = min(channels, 2)  # of one channel a view is enough
        return channels * (copies * pieces + math.prod(blocks.padded_size)) + max(outputs, channels * first)

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return self.tiles_rows and filters == 1

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        return 2 * _blocks(geometry, self.unit[-1]).taps * self.unit[-1] * channels * filters

    def steps(self, task: Task) -> Steps:
        m, blocks, stack = self.unit[-1], _blocks(task.windows, self.unit[-1]), task.batch * task.groups
        elements = stack * blocks.positions * blocks.taps
        framed, results = elements * task.channels, stack * blocks.positions * m * task.filters
        bands = task.pairs * m * blocks.taps
        scatters = task.scatters
        is_read = has_outer_kernels(task.filters * m, task.channels * blocks.taps, blocks.positions, stack)
        turned = 0 if self.writes_in_place(1, task.filters) else results
        turned += framed if scatters or (task.reduces and not is_read) else 0
        return Steps(
            operation=OPERATIONS,
            product=stack,
            multiplication=elements * m * task.channels * task.filters,
            packed=results if scatters else framed + (results if task.reduces else 0),
            written=framed if scatters else task.batch * bands if task.reduces else results,
            copied=task.inputs + framed * (2 if task.channels > 1 else 1) + 3 * bands,
            row=framed / blocks.kernel_size[-1],
            transposed=turned,
            added=OVERLAPPING * framed if scatters else 0,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (N, G, C*prod(e), blocks)."""
        blocks = _blocks(geometry, self.unit[-1])
        pieces = frames(xp, pad(xp, x, blocks.padding), blocks.padded)
        pieces = xp.reshape(pieces, (*x.shape[:3], blocks.positions, blocks.taps))
        pieces = xp.permute_dims(pieces, (0, 1, 2, 4, 3))
        return xp.reshape(pieces, (*x.shape[:2], x.shape[2] * blocks.taps, blocks.positions))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(N, G, C*prod(e), blocks) -> (N, G, C, *d)."""
        blocks = _blocks(geometry, self.unit[-1])
        batch, groups, rows, positions = columns.shape
        pieces = xp.reshape(columns, (batch, groups, rows // blocks.taps, blocks.taps, positions))
        pieces = xp.permute_dims(pieces, (0, 1, 2, 4, 3))
        pieces = xp.reshape(pieces, (*pieces.shape[:3], *blocks.output_size, *blocks.kernel_size))
        return unpad(xp, overlap_add(xp, pieces, blocks.padded), blocks.padding, "zeros")

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (G, K*m, C*prod(e)), transposed in memory, which products of so few rows are faster with."""
        blocks, m = _blocks(geometry, self.unit[-1]), self.unit[-1]
        groups, filters, channels = w.shape[:3]
        w = xp.permute_dims(w, (0, *range(2, w.ndim), 1))
        bands = zeros(xp, w, (groups, channels, *blocks.kernel_size, filters, m))
        for b, band in enumerate(geometry.axes[-1].bands(m)):
            bands = put_at(bands, (..., band, slice(None), b), w)
        return xp.matrix_transpose(xp.reshape(bands, (groups, channels * blocks.taps, filters * m)))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(G, K*m, C*prod(e)) -> (G, K, C, *k)."""
        blocks, m = _blocks(geometry, self.unit[-1]), self.unit[-1]
        groups, filters, columns = rows.shape
        bands = xp.reshape(rows, (groups, filters // m, m, columns // blocks.taps, *blocks.kernel_size))
        dw = zeros(xp, rows, (groups, filters // m, columns // blocks.taps, *geometry.kernel_size))
        for b, band in enumerate(geometry.axes[-1].bands(m)):
            dw = add_at(xp, dw, (...,), bands[:, :, b, ..., band])
        return dw

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(N, G, K*m, blocks) -> (N, G, K, *o)."""
        blocks, m = _blocks(geometry, self.unit[-1]), self.unit[-1]
        batch, groups, filters, positions = products.shape
        y = xp.permute_dims(xp.reshape(products, (batch, groups, filters // m, m, positions)), (0, 1, 2, 4, 3))
        y = xp.reshape(y, (*y.shape[:3], *blocks.output_size[:-1], blocks.output_size[-1] * m))
        return y[..., : geometry.output_size[-1]]

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (N, G, K*m, blocks)."""
        blocks, m = _blocks(geometry, self.unit[-1]), self.unit[-1]
        y = pad(xp, y, (*((0, 0),) * (geometry.ndim - 1), (0, -geometry.output_size[-1] % m)))
        y = xp.permute_dims(xp.reshape(y, (*y.shape[:3], blocks.positions, m)), (0, 1, 2, 4, 3))
        return xp.reshape(y, (*y.shape[:2], y.shape[2] * m, blocks.positions))


@functools.lru_cache(maxsize=1024)
def _blocks(geometry: Geometry, m: int) -> Geometry:
    """The windows of m outputs in a row; the last may read behind the input."""
    *others, last = geometry.axes
    missing = -last.o % m
    wide = last._replace(k=(m - 1) * last.s + last.r, s=m * last.s, a=1, hi=last.hi + missing * last.s)
    return Geometry.of([*others, wide])


def _length(outputs: int) -> int:
    """How many outputs a block has: a row in equal pieces, if there are any that are not short."""
    pieces = -(-outputs // LONGEST)
    equal = (length for length in range(LONGEST, outputs // (2 * pieces), -1) if outputs % length == 0)
    return next(equal, -(-outputs // pieces))
