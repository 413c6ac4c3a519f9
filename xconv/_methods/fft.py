"""Fourier transforms: a correlation of blocks is a product at each frequency (the overlap-save method).

The input map transforms a block of the padded input, the weight map the filters turned round (hence correlation), and
the output map transforms back and keeps what does not wrap around the block's ends: that is all but the first r - 1. A
block has ``size`` elements along each axis and gives ``unit`` outputs.

    A. V. Oppenheim, R. W. Schafer, "Discrete-Time Signal Processing", section 8.7.

The error is some 1e-6 of the largest output in float32. A NaN or inf spreads over the block that reads it.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from .._arrays.elements import gathered
from .._arrays.layout import batch_inwards, batch_outwards, turned
from .._arrays.libraries import Array, DType, Namespace, in_place, is_kind, transforms
from .._arrays.matmul import TINY
from .._arrays.operands import check_floating
from .._arrays.windows import frames, overlap_add, pad, scatter
from .._plan.blocks import unit_counts
from .._plan.geometry import Axis, Geometry, Ints, Slices
from .._plan.task import Steps, Task
from .maps import Maps

BLOCKS = tuple(2**power for power in range(10, 29, 2))  # elements of a block: what is tried


LOOKED_AT = 10  # elements copied by all threads, while one looks for magnitudes and outliers at one that no cache has
LINE = 100  # butterflies in the time of beginning a transform along a line: 7 ns, as SciPy takes eight lines at once
SLOWER = 1.5  # times as many operations, where transforms are the library's own: each is several
MOVED = 3  # elements copied by SciPy for each axis, with what is padded and the way back; others' butterflies have them
SUMMED = 2  # operations for a term more, where all frequencies are multiplied at once
OPERATIONS = 500  # of the shortest, that a block takes as long as, with what Python does for it


class _Axis(NamedTuple):
    """The blocks along an axis: elements of the input kept, those padded, and where outputs start in a block."""

    blocks: int
    unit: int
    kept: int
    front: int
    end: int
    start: int


class Fft(Maps):
    """The maps for blocks of ``size`` elements along each axis; real arrays have half a spectrum on the last one."""

    transforms = True
    is_local = False
    mixes_zeros = True

    def __init__(self, unit: Ints, size: Ints, real: bool, copies: int, is_in_place: bool, task: Task) -> None:
        self.unit, self.size, self.real = unit, size, real
        self.copies = self.weight_copies = copies  # of spectra while they are transformed
        self.is_in_place = is_in_place  # whether its transforms write over what they read
        self.is_alone = self._are_alone(task)
        # What the spectrum of a block takes, in elements of a factor: real ones, or complex ones with conjugates. Real
        # ones have two for each of half as many frequencies; of complex ones a conjugate is counted as a copy.
        last = 2 * (size[-1] // 2 + 1) if real else -(-size[-1] // 2)
        self.spectrum = math.prod(size[:-1]) * last

    @classmethod
    def variants(cls, xp: Namespace, dtype: DType, task: Task) -> list[Fft]:
        check_floating("fft", xp, dtype)
        real = is_kind(xp, dtype, "real floating")
        copies = (2 if in_place(xp) else 6) + task.reduces  # of what it multiplies one is conjugated, one in runs
        found = dict.fromkeys(_sizes(task.windows, elements) for elements in BLOCKS)
        return [cls(*sizes, real, copies, bool(in_place(xp)), task) for sizes in found]

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        blocks = math.prod(unit_counts(windows, self.unit))
        terms = self.copies + (channels > 1)  # sums over channels keep one term more
        most = max(channels, filters) * terms
        return blocks * self.spectrum * (most + min(channels, filters))

    def weight_workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        return self.spectrum * channels * filters

    def steps(self, task: Task) -> Steps:
        size = math.prod(self.size)
        blocks = math.prod(unit_counts(task.windows, self.unit)) * task.batch * task.groups
        pairs = task.channels * task.filters
        planes, kernels = blocks * (task.channels + task.filters), task.groups * pairs
        lines = sum([size / length for length in self.size])
        alone, samples = self._are_alone(task), blocks / task.groups
        terms = samples if task.reduces else task.filters if task.scatters else task.channels
        looked = LOOKED_AT * task.inputs
        return Steps(
            operation=OPERATIONS * (1 if self.is_in_place else SLOWER) + (SUMMED * (terms - 1) if alone else 0),
            product=0 if alone else size / 2 * task.groups,
            multiplication=0 if alone else 6 * size * blocks * pairs,  # four each, of small matrices
            copied=(MOVED if self.is_in_place else 1) * (planes + kernels) * size * len(self.size) + looked,
            transposed=0 if alone else 2 * (planes + kernels) * size,
            added=(8 if task.reduces else 4) * size * blocks * pairs if alone else 0,  # and sums of these in place
            butterfly=(planes + kernels) * (size * math.log2(size + 1) + lines * LINE),
        )

    def _are_alone(self, task: Task) -> bool:
        """Whether numbers are multiplied, in few operations on all frequencies, as stacks of tiny matrices are."""
        samples = math.prod(unit_counts(task.windows, self.unit)) * task.batch
        tiny = task.channels * task.filters * samples < min(math.prod(self.size) / 2 * task.groups, TINY)
        return tiny or (task.channels == 1 and not task.reduces)

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        """(N, G, C, *d) -> (*frequencies, G, C, N*blocks)."""
        axes = _lying(geometry, self.unit, self.size)
        kept = tuple(slice(0, axis.kept) for axis in axes)
        ends = tuple((axis.front, axis.end) for axis in axes)
        x = pad(xp, batch_inwards(xp, x)[(..., *kept)], ends)
        return self._as_columns(xp, self._spectra(xp, frames(xp, x, _windows(geometry, self.unit, self.size)), "ortho"))

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        """(*frequencies, G, C, N*blocks) -> (N, G, C, *d)."""
        blocks, axes = _windows(geometry, self.unit, self.size), _lying(geometry, self.unit, self.size)
        whole = tuple(slice(0, size) for size in blocks.kernel_size)
        x = overlap_add(xp, self._inverse(xp, columns, blocks.output_size, whole, "ortho"), blocks)
        inside = (slice(axis.front, axis.front + axis.kept) for axis in axes)
        unread = tuple((0, d - axis.kept) for d, axis in zip(geometry.input_size, axes, strict=True))
        return batch_outwards(xp, pad(xp, x[(..., *inside)], unread))

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        """(G, K, C, *k) -> (*frequencies, G, K, C)."""
        spectra = self._spectra(xp, _spread(xp, turned(xp, w, geometry.ndim), geometry.dilation), "backward")
        rows = self._frequencies_first(xp, spectra)
        return rows if self.is_alone or rows.shape[-1] == 1 else gathered(xp, rows)  # once, not for each product

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        """(*frequencies, G, K, C) -> (G, K, C, *k)."""
        taps = tuple(slice(0, r, a) for r, a in zip(geometry.reach, geometry.dilation, strict=True))
        return turned(xp, self._inverse(xp, rows, (), taps, "forward"), geometry.ndim)

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        """(*frequencies, G, K, N*blocks) -> (N, G, K, *o)."""
        n, axes = geometry.ndim, _lying(geometry, self.unit, self.size)
        blocks = tuple(axis.blocks for axis in axes)
        steps = zip(axes, geometry.stride, strict=True)
        kept = tuple(slice(axis.start, axis.start + (axis.unit - 1) * s + 1, s) for axis, s in steps)
        y = self._inverse(xp, products, blocks, kept, "ortho")  # (G, K, N, *blocks, *unit)
        y = xp.permute_dims(y, (0, 1, 2, *(axis for i in range(3, 3 + n) for axis in (i, i + n))))
        y = xp.reshape(y, (*y.shape[:3], *(axis.blocks * axis.unit for axis in axes)))
        return batch_outwards(xp, y[(..., *(slice(0, o) for o in geometry.output_size))])

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        """(N, G, K, *o) -> (*frequencies, G, K, N*blocks)."""
        n, axes = geometry.ndim, _lying(geometry, self.unit, self.size)
        missing = ((0, axis.blocks * axis.unit - o) for axis, o in zip(axes, geometry.output_size, strict=True))
        y = pad(xp, batch_inwards(xp, y), tuple(missing))
        y = xp.reshape(y, (*y.shape[:3], *(size for axis in axes for size in (axis.blocks, axis.unit))))
        y = xp.permute_dims(y, (0, 1, 2, *range(3, 3 + 2 * n, 2), *range(4, 3 + 2 * n, 2)))
        before = tuple((axis.start, 0) for axis in axes)
        return self._as_columns(xp, self._spectra(xp, pad(xp, _spread(xp, y, geometry.stride), before), "ortho"))

    def _as_columns(self, xp: Namespace, spectra: Array) -> Array:
        """(G, C, N, *blocks, *frequencies) -> (*frequencies, G, C, N*blocks)."""
        n = len(self.size)
        spectra = self._frequencies_first(xp, spectra)
        return xp.reshape(spectra, (*spectra.shape[: n + 2], math.prod(spectra.shape[n + 2 :])))

    def _spectra(self, xp: Namespace, data: Array, norm: str) -> Array:
        """(..., *d) zero beyond d -> (..., *frequencies). Whoever gives data keeps none of it, for room."""
        fft = transforms(xp)
        data = (fft.rfft if self.real else fft.fft)(data, n=self.size[-1], axis=-1, norm=norm)
        for axis in range(-len(self.size), -1):
            data = fft.fft(data, n=self.size[axis], axis=axis, norm=norm, **in_place(xp))
        return data

    def _frequencies_first(self, xp: Namespace, spectra: Array) -> Array:
        lead = spectra.ndim - len(self.size)
        return xp.permute_dims(spectra, (*range(lead, spectra.ndim), *range(lead)))

    def _inverse(self, xp: Namespace, spectra: Array, blocks: Ints, kept: Slices, norm: str) -> Array:
        """(*frequencies, G, C, N*blocks) -> (G, C, N, *blocks, *kept)."""
        n = len(self.size)
        data = xp.permute_dims(spectra, (*range(n, spectra.ndim), *range(n)))
        if blocks:
            data = xp.reshape(data, (*data.shape[:2], data.shape[2] // math.prod(blocks), *blocks, *data.shape[3:]))
        fft = transforms(xp)
        for axis in range(-n, -1):
            data = fft.ifft(data, n=self.size[axis], axis=axis, norm=norm, **in_place(xp))
            data = _take(data, axis, kept[axis])
        backward = fft.irfft if self.real else fft.ifft
        return _take(backward(data, n=self.size[-1], axis=-1, norm=norm), -1, kept[-1])


def _spread(xp: Namespace, data: Array, steps: Ints) -> Array:
    """Zeros between the elements of the last axes, steps apart."""
    if max(steps) == 1:
        return data
    lines = [Axis((o - 1) * s + 1, 1, s) for o, s in zip(data.shape[-len(steps) :], steps, strict=True)]
    return scatter(xp, xp.expand_dims(data, axis=0), Geometry.of(lines), axis=0)


def _take(data: Array, axis: int, kept: slice) -> Array:
    """The kept elements of an axis counted from the end."""
    return data[(..., kept, *(slice(None),) * (-1 - axis))]


@functools.lru_cache(maxsize=1024)
def _lying(geometry: Geometry, unit: Ints, sizes: Ints) -> tuple[_Axis, ...]:
    """How the blocks of each axis lie.

    A single block needs no padding before it: with the input at its beginning, output m lies at r - 1 - lo + m*s, and
    what wraps around falls on places in front of these.
    """
    axes = []
    for axis, u, size in zip(geometry.axes, unit, sizes, strict=True):
        (d, _, s, _, lo, _), o, r = axis, axis.o, axis.r
        count = -(-o // u)
        if count == 1:
            kept, before = min(d, max((o - 1) * s + r - lo, 0)), max(lo - r + 1, 0)
            front = min(before, size)  # of a block that may read padding alone
            end = 0 if kept + front else 1  # PyTorch transforms no empty arrays
            axes.append(_Axis(1, o, kept, front, end, r - 1 - lo + before))
        else:
            read = (count - 1) * u * s + size
            front, kept = min(lo, read), min(d, max(read - lo, 0))  # blocks may read nothing but padding
            axes.append(_Axis(count, u, kept, front, read - front - kept, r - 1))
    return tuple(axes)


@functools.lru_cache(maxsize=1024)
def _windows(geometry: Geometry, unit: Ints, sizes: Ints) -> Geometry:
    """The blocks as windows over the input with what is padded."""
    axes = zip(_lying(geometry, unit, sizes), unit, geometry.stride, sizes, strict=True)
    read = [(axis.front + axis.kept + axis.end, axis.blocks, u * s, size) for axis, u, s, size in axes]
    return Geometry.of([Axis(d, size if count > 1 else d, step) for d, count, step, size in read])


@functools.lru_cache(maxsize=1024)
def _sizes(windows: Geometry, elements: int) -> tuple[Ints, Ints]:
    """The outputs and the size along each axis of blocks of about so many elements."""
    longest = round(elements ** (1 / windows.ndim))
    sizes, units = [], []
    for axis in windows.axes:
        (d, _, s, _, lo, _), o, r = axis, axis.o, axis.r
        read = (o - 1) * s + r
        # Less than is read, since what wraps around is not kept, but all taps: their gradients are where they are.
        whole = max(min(d, read - lo) + lo, read - min(lo, r - 1), r)
        size = _block_size(r, read, whole, max(longest, 2 * r))
        sizes.append(size)
        units.append(o if size >= whole else min((size - r) // s + 1, o))
    return tuple(units), tuple(sizes)


@functools.lru_cache(maxsize=1024)
def _block_size(reach: int, read: int, whole: int, longest: int) -> int:
    """The size of a transform that costs least for each output: all of a short axis, else one of equal pieces."""
    if whole <= longest:
        return _smooth(whole)
    fewest = -(-(read - reach + 1) // max(longest - reach + 1, 1))
    sizes = [_smooth(-(-(read - reach + 1) // count) + reach - 1) for count in (fewest, fewest + 1)]
    costs = [(size * math.log2(size + 1) * -(-(read - reach + 1) // (size - reach + 1)), size) for size in sizes]
    return int(min(costs)[1])


@functools.lru_cache(maxsize=1024)
def _smooth(least: int) -> int:
    """The smallest size from ``least`` on whose only factors are 2, 3 and 5, for which every library has code."""
    powers = range(least.bit_length())
    odd: list[int] = [3**b * 5**c for b in powers for c in powers]
    return min([factor << (-(-least // factor) - 1).bit_length() for factor in odd if factor < 2 * least])
