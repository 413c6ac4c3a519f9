"""Winograd's (Cook and Toom's) F(m, k): m outputs of a k-tap filter along an axis from m + k - 1 products, not m*k.

Along one axis ``y = A ((G w) * (B x))`` for a tile x of m + k - 1 inputs, with exact rational A, G and B. Over n axes
each acts on its own, which is one matrix too, their Kronecker product: more to multiply than axis by axis, but a tile
is laid out once. Summed over channels the products are one matrix product for each of the (m + k - 1)**n points.

    S. Winograd, "Arithmetic Complexity of Computations", SIAM, 1980.
    A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.

Sums of products with growing coefficients cancel in the end, so the result is less exact than a plain sum: in float32
the error is 3e-6 (64 channels) to 1e-5 (1024) of the largest output for F(4, 3) on two axes and 5e-7 for F(2, 3), where
im2col has 5e-7 (of normal numbers; ``pytest tests/test_methods.py -k float32_errors`` holds it below 1e-5).
A NaN or inf spreads over the tiles that read it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

from .._arrays.layout import batch_inwards
from .._arrays.libraries import Array, DType, Namespace, device, traits
from .._arrays.matmul import made_matmul
from .._arrays.operands import check_floating
from .._arrays.windows import gather, scatter
from .._plan.geometry import Axis, Geometry, Ints, is_symbol, of_samples
from .._plan.remembered import loading
from .._plan.task import Steps, Task
from .maps import Maps

EXACT_KERNEL = 3  # the largest for which the error in float32 stays below 1e-5 of the largest output,
EXACT_CHANNELS = 512  # and the most that may be summed over: with 1024 the error is 1e-5, with 64 3e-6
SCATTERED = 40  # elements added in one long run, in the time of one of 36 taps of 4x4 tiles, 16 to 64 channels (NumPy)
_Ratios: TypeAlias = tuple[tuple[Ints, ...], tuple[Ints, ...]]
OPERATIONS = 450  # of the shortest, that a block, or parts of filters, take as long as, with what Python does for them


class Winograd(Maps):
    """The maps for tiles of ``unit`` outputs: m along every axis, or 1 where the kernel has one element."""

    transforms = True
    is_local = False
    mixes_zeros = True
    cuts_taps = False

    def __init__(self, unit: Ints, makes_anew: bool) -> None:
        self.unit = unit
        self.makes_anew = makes_anew  # whether each step is a new array: not in NumPy's scratch, nor in a program

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Winograd]:
        check_floating("winograd", xp, dtype)
        windows = task.windows
        kernel = windows.kernel_size
        if set(windows.stride + windows.dilation) != {1} or not 2 <= max(kernel) <= 5:
            raise ValueError(
                "method 'winograd' must have stride 1, dilation 1 and kernel sizes up to 5 (not all 1), got stride "
                f"{windows.stride}, dilation {windows.dilation} and kernel size {kernel}"
            )
        points = 6 if windows.ndim <= 2 or max(kernel) > 3 else 4  # on more axes 6 would cost too much precision
        library = traits(xp)
        unit = tuple(1 if k == 1 else points + 1 - k for k in kernel)
        return [cls(unit, not (library.threads or library.traced or library.kernels))]

    def is_accurate(self, task: Task) -> bool:
        summed = {"forward": task.channels, "backward_data": task.filters, "backward_filter": 1}[task.direction]
        return max(task.windows.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        tiles = _input_tiles(geometry, self.unit)
        return tiles.taps * tiles.positions * (3 * channels + 2 * filters)

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        return _input_tiles(geometry, self.unit).taps * channels * filters

    def steps(self, task: Task) -> Steps:
        tiles = _input_tiles(task.windows, self.unit)
        columns = tiles.taps * tiles.positions * task.batch * task.groups
        numbers, pairs = columns * (task.channels + task.filters), task.channels * task.filters
        transforms = tiles.taps * task.channels + math.prod(self.unit) * task.filters
        return Steps(
            operation=OPERATIONS * task.windows.ndim,
            product=tiles.taps * task.groups,
            multiplication=columns * (pairs + transforms) + tiles.taps * task.pairs * task.windows.taps,
            packed=columns * task.channels,
            written=2 * numbers + tiles.taps * task.pairs,
            copied=2 * numbers if self.makes_anew else 0,
            strided=columns * task.channels,
            transposed=task.outputs + (columns * task.channels if task.reduces else 0),
            added=SCATTERED * columns * task.channels if task.scatters else 0,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (points, G, C, tiles of all samples)."""
        return _transformed(xp, x, _input_tiles(geometry, self.unit), self._matrix(xp, x, geometry, "B"))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(points, G, C, tiles of all samples) -> (N, G, C, *d)."""
        matrix = xp.matrix_transpose(self._matrix(xp, columns, geometry, "B"))
        return _restored(xp, columns, _input_tiles(geometry, self.unit), matrix)

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (points, G, K, C)."""
        taps = xp.reshape(w, (math.prod(w.shape[:3]), geometry.taps))
        rows = xp.matmul(self._matrix(xp, w, geometry, "G"), xp.matrix_transpose(taps))
        return xp.reshape(rows, (rows.shape[0], *w.shape[:3]))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(points, G, K, C) -> (G, K, C, *k)."""
        points, *channels = rows.shape
        matrix = xp.matrix_transpose(self._matrix(xp, rows, geometry, "G"))
        taps = xp.matmul(matrix, xp.reshape(rows, (points, math.prod(channels))))
        return xp.reshape(xp.matrix_transpose(taps), (*channels, *geometry.kernel_size))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(points, G, K, tiles of all samples) -> (N, G, K, *o)."""
        matrix = xp.matrix_transpose(self._matrix(xp, products, geometry, "A"))
        return _restored(xp, products, _output_tiles(geometry, self.unit), matrix)

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (points, G, K, tiles of all samples)."""
        return _transformed(xp, y, _output_tiles(geometry, self.unit), self._matrix(xp, y, geometry, "A"))

    def _matrix(self, xp: Namespace, like: Array, geometry: Geometry, name: str) -> Array:
        """A's transpose, B or G for all axes at once."""
        if traits(xp).keeps_arrays:
            return _array(xp, name, self.unit, geometry.kernel_size, like.dtype)
        return _divided(xp, _ratios(name, self.unit, geometry.kernel_size), like.dtype, device(like))


@functools.lru_cache(maxsize=1024)
def _input_tiles(geometry: Geometry, unit: Ints) -> Geometry:
    """The overlapping tiles of m + k - 1 inputs."""
    axes = zip(geometry.axes, unit, strict=True)
    return Geometry.of([Axis(axis.d, m + axis.k - 1, m, 1, axis.lo, axis.hi + -axis.o % m) for axis, m in axes])


@functools.lru_cache(maxsize=1024)
def _output_tiles(geometry: Geometry, unit: Ints) -> Geometry:
    """The tiles of m outputs, side by side."""
    return Geometry.of([Axis(o, m, m, hi=-o % m) for o, m in zip(geometry.output_size, unit, strict=True)])


def _transformed(xp: Namespace, data: Array, tiles: Geometry, matrix: Array) -> Array:
    """Cut tiles, and multiply each by a matrix: (N, G, C, *d) -> (points, G, C, tiles of all samples)."""
    place = _place(tiles, data.shape[0])
    beside = of_samples(tiles, data.shape[0], place) if place else tiles
    columns = gather(xp, batch_inwards(xp, data, place), beside, axis=0)
    points = made_matmul(xp, matrix, xp.reshape(columns, (tiles.taps, math.prod(columns.shape[1:]))))
    return xp.reshape(points, (matrix.shape[0], *columns.shape[1:3], math.prod(columns.shape[3:])))


def _restored(xp: Namespace, points: Array, tiles: Geometry, matrix: Array) -> Array:
    """The adjoint of `_transformed`, with the transposed matrix."""
    samples = points.shape[3] // tiles.positions
    place = _place(tiles, samples)
    size = tiles.output_size
    columns = made_matmul(xp, matrix, xp.reshape(points, (points.shape[0], math.prod(points.shape[1:]))))
    columns = xp.reshape(columns, (tiles.taps, *points.shape[1:3], *size[:place], samples, *size[place:]))
    others = (axis for axis in range(3, columns.ndim) if axis != 3 + place)
    return scatter(xp, xp.permute_dims(columns, (0, 3 + place, 1, 2, *others)), tiles, axis=0)


def _place(tiles: Geometry, samples: int) -> int:
    """Where among the axes of a sample that of the samples goes: what is copied at once is the last of them."""
    return tiles.ndim if not is_symbol(samples) and samples >= tiles.output_size[-1] else 0


@functools.cache
def _array(xp: Namespace, name: str, unit: Ints, kernel_size: Ints, dtype: DType) -> Array:
    """A's transpose, B or G as an array, which takes as long to make as a small product with it."""
    return _divided(xp, _ratios(name, unit, kernel_size), dtype, None)


def _divided(xp: Namespace, ratios: _Ratios, dtype: DType, place: Any) -> Array:
    """Exact ratios, rounded once and to this very dtype, which may be wider than any number of Python's own."""
    numerators, denominators = (xp.asarray(part, dtype=dtype, device=place) for part in ratios)
    return numerators / denominators


@functools.cache
@loading
def _ratios(name: str, unit: Ints, kernel_size: Ints) -> _Ratios:
    """A's transpose, B or G for all the axes at once, as integers: numerators and denominators."""
    from .coefficients import exact_matrix  # whose fractions take as long to load as all of this

    matrix = exact_matrix(name, unit, kernel_size)
    return tuple(tuple(ratio.numerator for ratio in row) for row in matrix), tuple(
        tuple(ratio.denominator for ratio in row) for row in matrix
    )
