"""im2col: the input map lays out windows, the weight and output maps only reshape. Exact for every dtype.

NaN and inf stay in the windows that read them.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import NamedTuple

from .._arrays.elements import reshaped
from .._arrays.layout import batch_inwards, batch_outwards
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.windows import gather, scatter
from .._plan.geometry import Geometry, Ints
from .costs import Rates, Work, spread

OPERATIONS = 6  # of the library, for a block
LARGE = 100  # positions of a sample, of which a product by itself is worth while


class Im2col(NamedTuple):
    """The maps, the same for all windows: a matrix of all samples, or a stack of one for each, (N, ...).

    Samples of many positions need no company for a fast product, and by themselves they need not be moved.
    """

    unit: Ints
    stacks_samples: bool
    at_once: bool  # whether all taps are surely laid out in one step
    name: str = "im2col"

    @classmethod
    def plan(cls, geometry: Geometry, xp: Namespace, dtype: DType) -> Im2col:
        return cls((1,) * geometry.ndim, traits(xp).threads and geometry.positions >= LARGE, traits(xp).kernels)

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return self.stacks_samples or samples == 1

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        steps = [geometry] if self.at_once else geometry.steps
        taps = itertools.accumulate((step.taps for step in steps), operator.mul)
        laid_out = [k * step.positions for k, step in zip(taps, steps, strict=True)]
        padded = math.prod(geometry.padded_size)
        copied = padded if any(map(any, geometry.padding)) else 0
        held = sum(laid_out) + 2 * padded if geometry.taps > 1 else geometry.positions + copied
        return channels * held + 2 * filters * geometry.positions

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        return 0

    def cost(self, rates: Rates, work: Work) -> float:
        return (
            OPERATIONS * rates.operation
            + work.multiplications * (rates.multiplication + rates.read / work.rows)
            + (0 if work.windows.taps == 1 else self._laying_out(rates, work))
            + (work.inputs + work.outputs) * rates.moved
        )

    def _laying_out(self, rates: Rates, work: Work) -> float:
        """Nanoseconds to lay windows out, or to add them back."""
        windows = work.windows
        channels, element = (work.filters, rates.scattered) if work.scatters else (work.channels, rates.gathered)
        if windows.stride[-1] > 1:
            element = max(element, rates.strided)
        elements = work.positions * windows.taps * channels
        rows = elements / windows.output_size[-1] * windows.kernel_size[-1] / windows.taps
        return elements * element * spread(rates, elements) + rows * rates.row

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (G, C*prod(k), N*prod(o)), or (N, G, C*prod(k), prod(o))."""
        x = self._arranged(xp, x)
        axis = 3 if self.stacks_samples else 2
        columns = gather(xp, x, geometry, axis)
        rows, positions = columns.shape[axis - 1] * geometry.taps, math.prod(columns.shape[axis + 1 :])
        return reshaped(xp, columns, (*columns.shape[: axis - 1], rows, positions))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(G, C*prod(k), N*prod(o)), or (N, G, C*prod(k), prod(o)) -> (N, G, C, *d)."""
        *lead, rows, positions = columns.shape
        shape = (*lead, rows // geometry.taps, geometry.taps, *self._apart(positions, geometry))
        return self._restored(xp, scatter(xp, reshaped(xp, columns, shape), geometry, axis=len(lead) + 1))

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (G, K, C*prod(k))."""
        return reshaped(xp, w, (*w.shape[:2], math.prod(w.shape[2:])))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(G, K, C*prod(k)) -> (G, K, C, *k)."""
        groups, filters, columns = rows.shape
        return reshaped(xp, rows, (groups, filters, columns // geometry.taps, *geometry.kernel_size))

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(G, K, N*prod(o)), or (N, G, K, prod(o)) -> (N, G, K, *o)."""
        shape = (*products.shape[:-1], *self._apart(products.shape[-1], geometry))
        return self._restored(xp, reshaped(xp, products, shape))

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (G, K, N*prod(o)), or (N, G, K, prod(o))."""
        y = self._arranged(xp, y)
        axis = 3 if self.stacks_samples else 2
        return reshaped(xp, y, (*y.shape[:axis], math.prod(y.shape[axis:])))

    def _arranged(self, xp: Namespace, data: Array) -> Array:
        return data if self.stacks_samples else batch_inwards(xp, data)

    def _restored(self, xp: Namespace, data: Array) -> Array:
        return data if self.stacks_samples else batch_outwards(xp, data)

    def _apart(self, positions: int, geometry: Geometry) -> Ints:
        """The axes that one of positions was."""
        samples = () if self.stacks_samples else (positions // geometry.positions,)
        return (*samples, *geometry.output_size)
