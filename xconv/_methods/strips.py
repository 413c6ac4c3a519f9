"""Toeplitz blocks along the first axis: m rows of outputs by one product of rows of the input, which are long.

Each row of the input is laid out once for each tap j of the other axes, as im2col does, moved by that tap: S[y, (c, j)]
is a row of prod(o[1:]) numbers. A strip of m rows of outputs needs e = (m - 1)*s + r rows y of the input, which lie one
behind the other, and those of neighbouring strips overlap: strips are views, matrices that BLAS reads where they are.

    y[k, t*m + b, p] = sum over i, c, j of  T[(k, b), (i, c, j)] * S[t*m*s + i, (c, j), p],
    T[(k, b), (b*s + a*l, c, j)] = w[k, c, l, j]

Of im2col's copies prod(k[1:]) are left of prod(k), of long runs, and with one filter y is where products are written.
For this there are e*s/k times as many multiplications: it pays where there are few filters in a group.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import NamedTuple

from .._arrays.elements import add_at, put_at, reshaped, zeros
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.matmul import FEWEST_COLUMNS, SMALL, reads_small
from .._arrays.windows import gather, pad, scatter, unpad
from .._plan.blocks import equal
from .._plan.geometry import Geometry, Ints
from .._plan.task import ANY, OVERLAPPING, Steps, Task
from .maps import Maps

OPERATIONS = 200  # of the shortest, that a block takes as long as, with what Python does for it
ROWS = 4  # of a product: of fewer, it takes no less time, of more outputs of a strip there are more zeros
COPIED = 8  # rows of a product, with fewer of which copying its right factor, where BLAS does, takes longer than it
BEGUN = 8  # rows of a product that take as long to begin as the product does: 16 by 54 and 28 columns, by measurement
OVERLAPS = 3  # times as many rows of outputs as windows reach, that a block has at least
SHORT = 8  # strips, up to which rows of outputs that are computed for nothing would weigh
AT_ONCE = 32  # columns of a product that kernels for small ones multiply at once, in two registers of AVX-512
RAGGED = 0.6  # times as long again takes what is left of more columns, and twice as long all of fewer, for many rows
KEPT = 2**12  # rows of a right factor: of more none is left in a core's own cache when the next strip reads them
LEFT = 2  # elements of a right factor packed, in the time of one of the left factor that each product packs anew
NARROW = 24  # positions in a row of outputs, with fewer of which copies and products of rows are slow


class Strips(Maps):
    """The maps for strips of m rows of outputs."""

    stacked = 2

    def __init__(self, unit: Ints, m: int, widest: int, reads_views: bool, scatters: bool) -> None:
        self.unit = unit  # some strips: of fewer, most rows of the input would be laid out for several blocks
        self.m = m
        self.widest = widest  # as many columns as BLAS multiplies without a copy, in rows that lie close together
        self.reads_views = reads_views  # and writes them, if rows of outputs are no boxes
        self.scatters = scatters  # the adjoint of views: each strip has rows of its own then
        self.mixes_zeros = m > 1

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Strips]:
        """For windows along several axes on NumPy, of numbers that BLAS multiplies."""
        first, *others = task.windows.output_size
        wanted = math.prod(others) >= NARROW and _has_rows(xp, dtype, task)
        is_read = reads_small(xp, dtype)
        heights = {ROWS} if is_read else {ROWS, max(COPIED // task.filters, ROWS)}
        strips = (cls._of_rows(task, _rows(first, m), is_read) for m in sorted(heights))
        return list(itertools.chain.from_iterable(strips)) if wanted else []

    @classmethod
    def of_single_rows(cls, xp: Namespace, dtype: DType, task: Task) -> list[Strips]:
        """Strips without zeros, for which im2col copies prod(k[1:]) times where else it does prod(k) times."""
        windows = task.windows
        wanted = task.filters > 1 and not task.reduces and windows.kernel_size[0] > 1 == windows.dilation[0]
        return cls._of_rows(task, 1, reads_small(xp, dtype)) if wanted and _has_rows(xp, dtype, task) else []

    @classmethod
    def _of_rows(cls, task: Task, m: int, is_read: bool) -> list[Strips]:
        """Strips of m rows; none if each would give more numbers than it has. Small ones may be read where they are."""
        windows = task.windows
        first, *others = windows.output_size
        strips = min(-(-OVERLAPS * windows.reach[0] // (m * windows.stride[0])), -(-first // m))
        unit = (max(strips, 1) * m, *(1 for _ in others))
        window = _strips(windows, m).window * task.channels * math.prod(windows.kernel_size[1:])
        if task.reduces and window > math.prod(others):
            return []
        columns = SMALL // (task.filters * m * window)
        is_small = is_read and columns >= min(FEWEST_COLUMNS, math.prod(others))
        return [cls(unit, m, columns if is_small else ANY, windows.ndim == 2, task.scatters)]

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return filters == 1 or self.m == 1

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        strips = _strips(windows, self.m)
        padded = math.prod(windows.padded_size[1:]) * strips.rows
        copies = 1 if windows.ndim == 2 else 2  # axis after axis
        outputs = strips.number * self.m * strips.positions * (1 if self.writes_in_place(1, filters) else 2)
        apart = strips.number * strips.window * strips.row if self.scatters else 0
        return channels * (padded + copies * strips.rows * strips.row + apart) + filters * outputs

    def weight_workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        strips = _strips(windows, self.m)
        return 2 * filters * self.m * strips.window * channels * strips.inner.taps

    def steps(self, task: Task) -> Steps:
        m, strips = self.m, _strips(task.windows, self.m)
        stack = task.batch * task.groups
        laid_out = stack * task.channels * strips.rows * strips.row
        results = stack * task.filters * strips.number * m * strips.positions
        windowed = strips.window * task.channels * strips.inner.taps
        bands = task.pairs * m * strips.window * strips.inner.taps
        runs = strips.positions // task.windows.output_size[-1] * strips.inner.taps
        products = stack * strips.number
        rows = task.filters * m
        moved = 0 if self.writes_in_place(1, task.filters) else results
        strided = task.windows.stride[-1] > 1
        is_small, columns = self.widest != ANY, equal(strips.positions, min(self.widest, strips.positions))
        ragged = columns if columns < AT_ONCE else RAGGED * (columns % AT_ONCE)
        slower = 1 + ragged / columns if is_small and m == 1 else 1
        packed = windowed * (strips.positions + (0 if is_small else LEFT * rows))
        is_read = task.reduces or not is_small or windowed > KEPT
        scattered = products * windowed * strips.positions if task.scatters else 0
        return Steps(
            operation=OPERATIONS,
            product=products * (1 + rows / BEGUN),
            multiplication=results * windowed * slower,
            packed=(products * packed if is_read else 0) + (results if task.reduces else 0),
            written=products * rows * windowed if task.reduces else scattered or results,
            copied=task.inputs + 3 * bands + moved + (0 if strided else laid_out),
            strided=laid_out if strided else 0,
            row=stack * task.channels * strips.rows * runs + moved / task.windows.output_size[-1],
            added=OVERLAPPING * (scattered + laid_out) if scattered else 0,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (N, strips, G, e*C*prod(k[1:]), prod(o[1:]))."""
        strips, (batch, groups, channels) = _strips(geometry, self.m), x.shape[:3]
        x = xp.permute_dims(pad(xp, x, strips.padding), (0, 1, 3, 2, *range(4, x.ndim)))
        each = channels * strips.inner.taps  # rows of S for one of the input
        laid_out = gather(xp, x, strips.inner, axis=4)
        rows = reshaped(xp, laid_out, (batch, groups, strips.rows * each, strips.positions))
        sample, group, row, element = rows.strides
        shape = (batch, strips.number, groups, strips.window * each, strips.positions)
        strides = (sample, strips.step * each * row, group, row, element)
        return xp.lib.stride_tricks.as_strided(rows, shape, strides)

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """The adjoint, (N, strips, G, e*C*prod(k[1:]), prod(o[1:])) -> (N, G, C, *d): overlaps add."""
        strips, (batch, _, groups, high, positions) = _strips(geometry, self.m), columns.shape
        each = high // strips.window
        columns = reshaped(xp, columns, (*columns.shape[:3], strips.window, each, positions))
        rows = zeros(xp, columns, (batch, groups, strips.rows, each, positions))
        for strip in range(strips.number):
            place = slice(strip * strips.step, strip * strips.step + strips.window)
            rows = add_at(xp, rows, (slice(None), slice(None), place), columns[:, strip])
        taps, size = strips.inner.taps, strips.inner.output_size
        rows = reshaped(xp, rows, (batch, groups, strips.rows, each // taps, taps, *size))
        x = scatter(xp, rows, strips.inner, axis=4)
        return unpad(xp, xp.permute_dims(x, (0, 1, 3, 2, *range(4, x.ndim))), strips.padding)

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (G, K*m, e*C*prod(k[1:]))."""
        m, strips = self.m, _strips(geometry, self.m)
        groups, filters, channels, taps, *_ = w.shape
        w = xp.permute_dims(reshaped(xp, w, (groups, filters, channels, taps, strips.inner.taps)), (0, 1, 3, 2, 4))
        bands = zeros(xp, w, (groups, filters, m, strips.window, channels, strips.inner.taps))
        for b, band in enumerate(geometry.axes[0].bands(m)):
            bands = put_at(bands, (slice(None), slice(None), b, band), w)
        return reshaped(xp, bands, (groups, filters * m, strips.window * channels * strips.inner.taps))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(G, K*m, e*C*prod(k[1:])) -> (G, K, C, *k)."""
        m, strips = self.m, _strips(geometry, self.m)
        groups, filters, columns = rows.shape
        channels = columns // (strips.window * strips.inner.taps)
        bands = reshaped(xp, rows, (groups, filters // m, m, strips.window, channels, strips.inner.taps))
        shape = (groups, filters // m, geometry.kernel_size[0], channels, strips.inner.taps)
        dw = zeros(xp, rows, shape)
        for b, band in enumerate(geometry.axes[0].bands(m)):
            dw = add_at(xp, dw, (...,), bands[:, :, b, band])
        dw = xp.permute_dims(dw, (0, 1, 3, 2, 4))
        return reshaped(xp, dw, (*dw.shape[:3], *geometry.kernel_size))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(N, strips, G, K*m, prod(o[1:])) -> (N, G, K, *o)."""
        first, *others = geometry.output_size
        batch, count, groups, rows, _ = products.shape
        y = reshaped(xp, products, (batch, count, groups, rows // self.m, self.m, *others))
        y = xp.permute_dims(y, (0, 2, 3, 1, 4, *range(5, y.ndim)))
        return reshaped(xp, y, (*y.shape[:3], count * self.m, *others))[:, :, :, :first]

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (N, strips, G, K*m, prod(o[1:])): a view of y if it is of whole strips of one filter."""
        first, *others = geometry.output_size
        y = pad(xp, y, ((0, -first % self.m), *((0, 0) for _ in others)))
        batch, groups, filters, rows = y.shape[:4]
        y = reshaped(xp, y, (batch, groups, filters, rows // self.m, self.m, math.prod(others)))
        y = xp.permute_dims(y, (0, 3, 1, 2, 4, 5))
        return reshaped(xp, y, (*y.shape[:3], filters * self.m, y.shape[-1]))


class _Strips(NamedTuple):
    """Sizes of strips of m rows."""

    number: int
    window: int  # rows of the input that a strip needs
    step: int  # rows from one to the next
    rows: int  # of the input, for all of them
    padding: tuple[tuple[int, int], ...]
    inner: Geometry  # the windows along the other axes, over an input that carries its padding

    @property
    def positions(self) -> int:
        return self.inner.positions

    @property
    def row(self) -> int:
        """How many numbers a row of the input is laid out as."""
        return self.inner.taps * self.inner.positions


@functools.lru_cache(maxsize=1024)
def _strips(geometry: Geometry, m: int) -> _Strips:
    size, *others = geometry.padded_size
    s, number = geometry.stride[0], -(-geometry.output_size[0] // m)
    window, step = (m - 1) * s + geometry.reach[0], m * s
    rows = max((number - 1) * step + window, size)  # what no window reads as well
    lo, hi = geometry.padding[0]
    inner = Geometry(
        tuple(others), geometry.kernel_size[1:], geometry.stride[1:], geometry.dilation[1:], ((0, 0),) * len(others)
    )
    return _Strips(number, window, step, rows, ((lo, hi + rows - size), *geometry.padding[1:]), inner)


def _has_rows(xp: Namespace, dtype: DType, task: Task) -> bool:
    """Whether windows lie along several axes, of numbers that BLAS multiplies where they are."""
    return traits(xp).threads and task.windows.ndim > 1 and not is_kind(xp, dtype, "integral")


def _rows(outputs: int, wanted: int) -> int:
    """How many rows a strip has: a divisor, where those that are computed for nothing would weigh."""
    if outputs <= wanted:
        return outputs
    near = (wanted, wanted + 1, wanted - 1, wanted + 2, wanted + 3)
    return next((m for m in near if outputs <= SHORT * wanted and outputs % m == 0), wanted)
