"""im2col: the input map lays out windows, the weight and output maps only reshape. Exact for every dtype.

NaN and inf stay in the windows that read them.
"""

from __future__ import annotations

import math

from .._arrays.elements import reshaped
from .._arrays.layout import batch_inwards, batch_outwards
from .._arrays.libraries import Array, DType, Namespace, on_accelerator, traits
from .._arrays.matmul import has_outer_kernels
from .._arrays.windows import gather, scatter
from .._plan.geometry import Geometry, Ints, numbers_of
from .._plan.task import OVERLAPPING, Steps, Task
from .maps import Maps
from .shifts import Shifts
from .strips import Strips

OPERATIONS = 150  # of the shortest, that a block takes as long as, with what Python does for it
ADDING = 3  # such operations for each tap that windows are added up by, along one axis after the other
LARGE = 100  # positions of a sample, or sums over them, of which a product by itself is worth while


class Im2col(Maps):
    """The maps, the same for all windows: a matrix of all samples, or a stack of one for each, (N, ...).

    Samples of many positions need no company for a fast product, and by themselves they need not be moved.
    """

    def __init__(self, unit: Ints, stacked: int, at_once: bool, is_moved: bool, in_program: bool) -> None:
        self.unit, self.stacked = unit, stacked
        self.in_program = in_program  # where the result is one of two arrays of its size
        self.is_moved = is_moved  # whether samples are brought beside positions, and back: one need not be
        self.at_once = at_once  # whether all taps are surely laid out in one step

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Im2col | Strips | Shifts]:
        windows = task.windows
        stacked = int(_are_alone(xp, task))
        library = traits(xp)
        is_moved = not stacked and task.batch > 1
        laid_out = cls((1,) * windows.ndim, stacked, library.kernels, is_moved, library.traced)
        return [laid_out, *Strips.of_single_rows(xp, dtype, task), *Shifts.variants(xp, dtype, task)]

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return self.stacked > 0 or samples == 1

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        products = (1 if self.in_program else 1 + self.is_moved) * filters * windows.positions
        if windows.is_sparse:
            return channels * 2 * windows.taps * windows.positions + products
        padded = math.prod(windows.padded_size)
        copied = padded if any(map(any, windows.padding)) else 0
        data = windows.positions if self.is_moved or max(windows.stride) > 1 else 0  # of one tap
        held = sum(self._laid_out(windows)) + 2 * padded if windows.taps > 1 else data + copied
        return channels * held + products

    def _laid_out(self, windows: Geometry) -> list[int]:
        """How many numbers each step lays out."""
        return numbers_of([windows] if self.at_once or windows.is_sparse else windows.steps)

    def steps(self, task: Task) -> Steps:
        windows, stack = task.windows, task.batch * task.groups
        laid_out = stack * sum(self._laid_out(windows)) * task.channels
        padded = stack * math.prod(windows.padded_size) * task.channels if any(map(any, windows.padding)) else 0
        windowed = task.positions * windows.taps * task.channels
        strides = windows.stride[-1] > 1
        moved = (task.inputs if windows.taps == 1 else 0) + task.outputs if self.is_moved else 0
        copies = windowed if windows.taps > 1 or strides else 0
        is_read = has_outer_kernels(task.filters, task.channels * windows.taps, windows.positions, stack)
        reduced = task.pairs * windows.taps * (task.batch if self.stacked else 1)
        turned = windowed if task.reduces and task.filters > 1 and not is_read else 0
        return Steps(
            operation=OPERATIONS + (ADDING * sum(windows.kernel_size) if task.scatters else 0),
            product=stack if self.stacked else task.groups,
            multiplication=task.multiplications,
            packed=task.outputs if task.scatters else windowed + (task.outputs if task.reduces else 0),
            written=reduced if task.reduces else windowed if task.scatters else task.outputs,
            copied=padded + moved + (0 if strides else laid_out if copies else 0),
            strided=copies if strides else 0,
            row=copies / windows.output_size[-1] * (windows.kernel_size[-1] / windows.taps) + moved / windows.positions,
            transposed=(task.pairs * windows.taps if task.turned else 0) + turned,
            added=OVERLAPPING * windowed if task.scatters else 0,
        )

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (G, C*prod(k), N*prod(o)), or (N, G, C*prod(k), prod(o))."""
        x = self._arranged(xp, x)
        axis = 3 if self.stacked else 2
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
        axis = 3 if self.stacked else 2
        return reshaped(xp, y, (*y.shape[:axis], math.prod(y.shape[axis:])))

    def _arranged(self, xp: Namespace, data: Array) -> Array:
        return data if self.stacked else batch_inwards(xp, data)

    def _restored(self, xp: Namespace, data: Array) -> Array:
        return data if self.stacked else batch_outwards(xp, data)

    def _apart(self, positions: int, geometry: Geometry) -> Ints:
        """The axes that one of positions was."""
        samples = () if self.stacked else (positions // geometry.positions,)
        return (*samples, *geometry.output_size)


def _are_alone(xp: Namespace, task: Task) -> bool:
    """Whether samples are multiplied by themselves: of programs and GPUs one alone, for there products are best few."""
    positions, channels, filters = task.windows.positions, task.channels * task.windows.taps, task.filters
    if traits(xp).traced or on_accelerator(xp):
        return task.batch == 1 and not task.reduces
    sums, data = channels * filters, (channels + filters) * positions
    if task.reduces and not traits(xp).threads and not LARGE <= sums <= data:  # of a sample, that are added up
        return False
    return bool(positions >= LARGE or (task.batch == 1 and not task.reduces))
