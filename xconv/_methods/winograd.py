"""Winograd's (Cook and Toom's) F(m, k): m outputs of a k-tap filter along an axis from m + k - 1 products, not m*k.

Along one axis ``y = A ((G w) * (B x))`` for a tile x of m + k - 1 inputs, with exact rational A, G and B; over n axes
each acts on its own. Summed over channels the products are one matrix product for each of the (m + k - 1)**n points.

    S. Winograd, "Arithmetic Complexity of Computations", SIAM, 1980.
    A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.

Sums of products with growing coefficients cancel in the end, so the result is less exact than a plain sum: in float32
the error is some 5e-6 of the largest output for F(4, 3) on two axes and 5e-7 for F(2, 3), where im2col has 5e-7.
A NaN or inf spreads over the tiles that read it.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from array_api_compat import device

from .._arrays import Array, DType, Namespace, check_floating
from .._geometry import Geometry, Ints
from .._layout import batch_inwards, batch_outwards
from .._windows import gather, pad, scatter
from .costs import CACHED, Rates, Work

OPERATIONS = 12  # of the library, for a block and axis


class Winograd(NamedTuple):
    """The maps for tiles of ``unit`` outputs: m along every axis, or 1 where the kernel has one element."""

    unit: Ints
    name: str = "winograd"
    stacks_samples: bool = False

    @classmethod
    def plan(cls, geometry: Geometry, xp: Namespace, dtype: DType) -> Winograd:
        check_floating("winograd", xp, dtype)
        kernel = geometry.kernel_size
        if set(geometry.stride + geometry.dilation) != {1} or not 2 <= max(kernel) <= 5:
            raise ValueError(
                "method 'winograd' must have stride 1, dilation 1 and kernel sizes up to 5 (not all 1), got stride "
                f"{geometry.stride}, dilation {geometry.dilation} and kernel size {kernel}"
            )
        points = 6 if geometry.ndim <= 2 or max(kernel) > 3 else 4  # on more axes 6 would cost too much precision
        return cls(tuple(1 if k == 1 else points + 1 - k for k in kernel))

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return False

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        tiles = _input_tiles(geometry, self.unit)
        return tiles.taps * tiles.positions * (3 * channels + 3 * filters)

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        return _input_tiles(geometry, self.unit).taps * channels * filters

    def cost(self, rates: Rates, work: Work) -> float:
        tiles = _input_tiles(work.windows, self.unit)
        columns = tiles.taps * tiles.positions * work.batch * work.groups
        pairs, numbers = work.channels * work.filters, columns * (work.channels + work.filters)
        return (
            OPERATIONS * work.windows.ndim * rates.operation
            + columns * pairs * rates.multiplication
            + numbers * (rates.transformed if numbers <= CACHED else rates.spilled)
            + tiles.taps * pairs * work.groups * rates.filter * (2 if work.reduces else 1)
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (points, G, C, N*tiles)."""
        tiles = _input_tiles(geometry, self.unit)
        x = _split(xp, batch_inwards(xp, x), tiles, self._matrices(xp, x, geometry, "B"))
        return xp.reshape(x, (tiles.taps, *x.shape[tiles.ndim :][:2], x.shape[tiles.ndim + 2] * tiles.positions))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(points, G, C, N*tiles) -> (N, G, C, *d)."""
        tiles = _input_tiles(geometry, self.unit)
        return batch_outwards(xp, _join(xp, columns, tiles, self._matrices(xp, columns, geometry, "B")))

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (points, G, K, C)."""
        taps = xp.reshape(w, (math.prod(w.shape[:3]), geometry.taps))
        rows = xp.matmul(self._weight_matrix(xp, w, geometry), xp.matrix_transpose(taps))
        return xp.reshape(rows, (rows.shape[0], *w.shape[:3]))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(points, G, K, C) -> (G, K, C, *k)."""
        points, *channels = rows.shape
        matrix = xp.matrix_transpose(self._weight_matrix(xp, rows, geometry))
        taps = xp.matmul(matrix, xp.reshape(rows, (points, math.prod(channels))))
        return xp.reshape(xp.matrix_transpose(taps), (*channels, *geometry.kernel_size))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(points, G, K, N*tiles) -> (N, G, K, *o)."""
        tiles = _output_tiles(geometry, self.unit)
        return batch_outwards(xp, _join(xp, products, tiles, self._matrices(xp, products, geometry, "A")))

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (points, G, K, N*tiles)."""
        tiles = _output_tiles(geometry, self.unit)
        y = _split(xp, batch_inwards(xp, y), tiles, self._matrices(xp, y, geometry, "A"))
        shape = y.shape[tiles.ndim :]
        return xp.reshape(y, (math.prod(y.shape[: tiles.ndim]), *shape[:2], shape[2] * tiles.positions))

    def _matrices(self, xp: Namespace, like: Array, geometry: Geometry, name: str) -> list[Array]:
        """A's transpose or B for each axis, the last first."""
        return [
            _array(xp, like, _floats(name, (m,), (k,)))
            for m, k in zip(reversed(self.unit), reversed(geometry.kernel_size), strict=True)
        ]

    def _weight_matrix(self, xp: Namespace, like: Array, geometry: Geometry) -> Array:
        """G for all axes at once: few elements pass through it, and it needs no rearranging of them."""
        return _array(xp, like, _floats("G", self.unit, geometry.kernel_size))


@functools.lru_cache(maxsize=1024)
def _input_tiles(geometry: Geometry, unit: Ints) -> Geometry:
    """The overlapping tiles of m + k - 1 inputs."""
    size = tuple(m + k - 1 for m, k in zip(unit, geometry.kernel_size, strict=True))
    missing = _missing(geometry, unit)
    padding = tuple((lo, hi + more) for (lo, hi), more in zip(geometry.padding, missing, strict=True))
    return Geometry(geometry.input_size, size, unit, (1,) * geometry.ndim, padding)


@functools.lru_cache(maxsize=1024)
def _output_tiles(geometry: Geometry, unit: Ints) -> Geometry:
    """The tiles of m outputs, side by side."""
    padding = tuple((0, more) for more in _missing(geometry, unit))
    return Geometry(geometry.output_size, unit, unit, (1,) * geometry.ndim, padding)


def _missing(geometry: Geometry, unit: Ints) -> Ints:
    """How many outputs the last tile has beyond the end of each axis."""
    return tuple(-o % m for o, m in zip(geometry.output_size, unit, strict=True))


def _split(xp: Namespace, x: Array, tiles: Geometry, matrices: list[Array]) -> Array:
    """Cut tiles and transform each along every axis: (..., *d) -> (*points, ..., *tiles)."""
    x = pad(xp, x, tiles.padding)
    for stage, matrix in zip(tiles.padded.stages, matrices, strict=True):
        x = _apply(xp, matrix, gather(xp, x, stage, axis=0))
    return x


def _join(xp: Namespace, columns: Array, tiles: Geometry, matrices: list[Array]) -> Array:
    """The adjoint of `_split`, from (points, G, C, N*tiles) to (G, C, N, *d)."""
    points = tuple(matrix.shape[0] for matrix in reversed(matrices))
    shape = (*columns.shape[1:3], columns.shape[3] // tiles.positions, *tiles.output_size)
    x = xp.reshape(columns, (*points, *shape))
    for stage, matrix in reversed([*zip(tiles.stages, matrices, strict=True)]):
        x = scatter(xp, _apply(xp, xp.matrix_transpose(matrix), x), stage, axis=0)
    return x


def _apply(xp: Namespace, matrix: Array, x: Array) -> Array:
    """The matrix times the first axis of x."""
    product = xp.matmul(matrix, xp.reshape(x, (x.shape[0], math.prod(x.shape[1:]))))
    return xp.reshape(product, (matrix.shape[0], *x.shape[1:]))


def _array(xp: Namespace, like: Array, matrix: tuple[tuple[float, ...], ...]) -> Array:
    return xp.asarray(matrix, dtype=like.dtype, device=device(like))


@functools.cache
def _floats(name: str, unit: Ints, kernel_size: Ints) -> tuple[tuple[float, ...], ...]:
    """A's transpose, B or G for all the axes at once, computed exactly and rounded once."""
    from .coefficients import exact_matrix  # whose fractions take as long to load as all of this

    return tuple(tuple(map(float, row)) for row in exact_matrix(name, unit, kernel_size))
