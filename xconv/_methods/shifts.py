"""im2col along all axes but the first, the taps of which are the same matrix, moved: for sums over positions.

L[(c, j), (y, p)] is laid out with the rows y of the input one behind the other in each row of the matrix. What tap i of
the first axis reads for all outputs then begins a*i rows further on, and is a view:

    dw[k, c, i, j] = sum over h, p of  dy[k, (h, p)] * L[(c, j), (h + a*i, p)]

Of im2col's copies prod(k[1:]) are left of prod(k), for as many multiplications.
"""

from __future__ import annotations

import functools
import math

from .._arrays.elements import reshaped
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.matmul import has_outer_kernels
from .._arrays.windows import gather
from .._plan.geometry import Geometry, Ints
from .._plan.task import Steps, Task
from .maps import Maps

OPERATIONS = 150  # of the shortest, that a block takes as long as, with what Python does for it
OVERLAPS = 3  # times as many rows of outputs as windows reach, that a block has at least


class Shifts(Maps):
    """The maps: stacked by the taps of the first axis, which add up in y."""

    stacked = 1
    stacks_taps = True

    def __init__(self, unit: Ints) -> None:
        self.unit = unit

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Shifts]:
        """For sums over windows along several axes on NumPy, without strides along the first."""
        windows = task.windows
        if not (task.reduces and traits(xp).threads) or windows.ndim == 1 or windows.stride[0] > 1:
            return []
        if windows.kernel_size[0] == 1 or is_kind(xp, dtype, "integral"):
            return []
        rows = min(OVERLAPS * windows.reach[0], windows.output_size[0])
        return [cls((rows, *(1 for _ in windows.output_size[1:])))]

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        rows, padded = _rows(windows), math.prod(windows.padded_size)
        steps = 2 if windows.ndim == 2 else 3  # axis after axis
        return channels * (steps * rows.taps * rows.positions + padded) + 2 * filters * windows.positions

    def weight_workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        return channels * filters * windows.taps

    def steps(self, task: Task) -> Steps:
        windows, rows, stack = task.windows, _rows(task.windows), task.batch * task.groups
        laid_out = stack * task.channels * rows.taps * rows.positions
        strides, taps = windows.stride[-1] > 1, windows.kernel_size[0]
        is_read = has_outer_kernels(task.filters, task.channels * rows.taps, windows.positions, stack * taps)
        return Steps(
            operation=OPERATIONS,
            product=stack * taps,
            multiplication=task.multiplications,
            packed=0 if is_read else laid_out * taps,
            written=task.batch * task.pairs * windows.taps,
            copied=task.inputs + (0 if strides else laid_out),
            strided=laid_out if strides else 0,
            row=laid_out / windows.output_size[-1],
            transposed=0 if is_read or task.filters == 1 else laid_out * taps,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (N, k[0], G, C*prod(k[1:]), prod(o)), views of the same rows."""
        rows, (batch, groups, channels) = _rows(geometry), x.shape[:3]
        columns = channels * rows.taps
        laid_out = reshaped(xp, gather(xp, x, rows, axis=3), (batch, groups, columns, rows.positions))
        sample, group, column, element = laid_out.strides
        row = geometry.dilation[0] * math.prod(geometry.output_size[1:]) * element  # between taps of the first axis
        shape = (batch, geometry.kernel_size[0], groups, columns, geometry.positions)
        return xp.lib.stride_tricks.as_strided(laid_out, shape, (sample, row, group, column, element))

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(k[0], G, K, C*prod(k[1:])) -> (G, K, C, *k)."""
        others = geometry.kernel_size[1:]
        rows = reshaped(xp, rows, (*rows.shape[:3], rows.shape[3] // math.prod(others), *others))
        return xp.permute_dims(rows, (1, 2, 3, 0, *range(4, rows.ndim)))

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (N, 1, G, K, prod(o))."""
        return reshaped(xp, y, (y.shape[0], 1, *y.shape[1:3], geometry.positions))


@functools.lru_cache(maxsize=1024)
def _rows(geometry: Geometry) -> Geometry:
    """The windows without the taps of the first axis, of all rows of the input that any of those reads."""
    lo, hi = geometry.padding[0]
    beyond = geometry.padded_size[0] - (geometry.output_size[0] - 1) - geometry.reach[0]  # what no window reads
    return Geometry(
        geometry.input_size,
        (1, *geometry.kernel_size[1:]),
        geometry.stride,
        (1, *geometry.dilation[1:]),
        ((lo, hi - beyond), *geometry.padding[1:]),
    )
