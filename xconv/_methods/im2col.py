"""im2col: the input map lays out windows, the weight and output maps only reshape. Exact for every dtype.

NaN and inf stay in the windows that read them.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import NamedTuple

from .._arrays import Array, DType, Namespace
from .._geometry import Geometry, Ints
from .._layout import batch_inwards, batch_outwards
from .._windows import gather, scatter
from .costs import Rates, Work

OPERATIONS = 6  # of the library, for a block


class Im2col(NamedTuple):
    """The maps, the same for all windows."""

    unit: Ints
    name: str = "im2col"
    output_is_view: bool = True

    @classmethod
    def plan(cls, geometry: Geometry, xp: Namespace, dtype: DType) -> Im2col:
        return cls((1,) * geometry.ndim)

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        taps = itertools.accumulate((step.taps for step in geometry.steps), operator.mul)
        laid_out = [k * step.positions for k, step in zip(taps, geometry.steps, strict=True)]
        held = geometry.positions if geometry.taps == 1 else sum(laid_out) + 2 * math.prod(geometry.padded_size)
        return channels * held + 2 * filters * geometry.positions

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        return 0

    def cost(self, rates: Rates, work: Work) -> float:
        elements = 0 if work.windows.taps == 1 else work.positions * work.windows.taps
        laid_out = work.filters * rates.scattered if work.scatters else work.channels * rates.gathered
        return (
            OPERATIONS * rates.operation
            + work.multiplications * rates.multiplication
            + elements * laid_out
            + (work.inputs + work.outputs) * rates.moved
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (G, C*prod(k), N*prod(o))."""
        batch, groups, channels = x.shape[:3]
        columns = gather(xp, batch_inwards(xp, x), geometry, axis=2)
        return xp.reshape(columns, (groups, channels * geometry.taps, batch * geometry.positions))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(G, C*prod(k), N*prod(o)) -> (N, G, C, *d)."""
        groups, rows, positions = columns.shape
        shape = (groups, rows // geometry.taps, geometry.taps, positions // geometry.positions, *geometry.output_size)
        return batch_outwards(xp, scatter(xp, xp.reshape(columns, shape), geometry, axis=2))

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (G, K, C*prod(k))."""
        return xp.reshape(w, (*w.shape[:2], math.prod(w.shape[2:])))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(G, K, C*prod(k)) -> (G, K, C, *k)."""
        groups, filters, columns = rows.shape
        return xp.reshape(rows, (groups, filters, columns // geometry.taps, *geometry.kernel_size))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(G, K, N*prod(o)) -> (N, G, K, *o)."""
        groups, filters, positions = products.shape
        shape = (groups, filters, positions // geometry.positions, *geometry.output_size)
        return batch_outwards(xp, xp.reshape(products, shape))

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (G, K, N*prod(o))."""
        batch, groups, filters = y.shape[:3]
        return xp.reshape(batch_inwards(xp, y), (groups, filters, batch * geometry.positions))
