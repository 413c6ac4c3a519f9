"""Sums over windows tap by tap: on NumPy filter after filter in boxes that stay in cache, on threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._arrays.elements import truncated
from .._arrays.libraries import Array, DType, Namespace
from .._arrays.scratch import scratch
from .._arrays.taps import PADDED, Shifted, means, weighted
from .._arrays.windows import framed, pad
from .._plan.chains import Box, Chain, chains
from .._plan.geometry import Geometry, Ints, Pairs, Words, fills, frame
from .._plan.remembered import remembering
from .threads import cpu_count, for_each

FEWEST, BLOCK = 2**15, 2**19  # elements, and bytes, of a box: a few times which stay in a core's own cache, or near it
SHARES = 4  # boxes for each thread, if there are elements for so many


class Windows(NamedTuple):
    """Windows along some axes, in order: how many elements lie before the first one, and what is beyond the ends."""

    axes: Ints
    sizes: Ints
    before: Ints
    modes: Words
    value: complex = 0
    taps: Any = None  # numbers, or an array of them, in the order of the windows; None for the mean along an axis
    is_line: bool = True

    @property
    def is_complex(self) -> bool:
        """Whether its taps are complex numbers."""
        return isinstance(self.taps, tuple) and any(isinstance(tap, complex) for tap in self.taps)


def neighbours(xp: Namespace, x: Array, windows: Windows, dtype: DType, working: DType) -> Array:
    """Weighted sums of windows, computed in a working dtype and stored in another, as many as there are elements."""
    sizes, padding, modes = on_all_axes(*windows[:4], x.ndim)
    padded = pad(xp, x, padding, modes, windows.value, working)
    if windows.taps is None:
        return truncated(xp, means(padded, windows.axes[0], windows.sizes[0]), dtype)
    return truncated(xp, weighted(padded, _unpadded(padded.shape, sizes), windows.taps, windows.is_line), dtype)


def filtered(xp: Namespace, x: Array, lines: Sequence[Windows], dtype: DType, workings: Sequence[DType]) -> Array:
    """The same of NumPy's arrays, of one filter after another: along axes of which no two filters have the same."""
    shape, y, after = x.shape, x, 0
    size, most = math.prod(shape), BLOCK // xp.dtype(workings[0]).itemsize
    room = min(max(size // (SHARES * cpu_count()), FEWEST), most)
    with xp.errstate(all="ignore"):  # SciPy warns of nothing, and rows that are added as one have sums that nobody sees
        for chain in chains(shape, tuple([line[:3] for line in lines]), room):
            first, after = after, after + chain.filters
            source, y = y, xp.empty(shape, dtype) if y is x or chain.cuts else y
            run = _Run(xp, source, y, chain, lines[first:after], workings[first:after])
            for_each(run.fill, chain.boxes, cpu_count())
    return y


class _Run:
    """A chain of filters from one array to another."""

    def __init__(
        self, xp: Namespace, x: Array, y: Array, chain: Chain, lines: Sequence[Windows], workings: Sequence[DType]
    ) -> None:
        self.xp, self.x, self.y, self.chain, self.lines, self.workings = xp, x, y, chain, lines, workings
        self.modes = [on_all_axes(*line[:4], x.ndim)[2] for line in lines]
        self.edges = ["zeros"] * x.ndim  # what is beyond the ends of axes that boxes cut
        for line in lines:
            for axis, mode in zip(line.axes, line.modes, strict=True):
                self.edges[axis] = mode

    def fill(self, box: Box) -> None:
        """Write the results of a box."""
        memory = self._entered(box)
        for at, (line, working) in enumerate(zip(self.lines, self.workings, strict=True)):
            shifted = self._shifted(memory, line)
            if at + 1 < len(self.lines):
                following, place = self._room(at + 1, shifted.output)
            else:
                following, place = None, self.y[box.place]
            direct = place if place.dtype == working == self.y.dtype else None
            if line.taps is None:
                found = shifted.means(line.sizes[0], direct)
            else:
                found = shifted.sums(line.taps, line.is_line, direct)
            if direct is None:
                place[...] = truncated(self.xp, found, self.y.dtype)
            if following is not None:
                memory = self._bordered(at + 1, following, shifted.output, box)

    def _shifted(self, memory: Array, line: Windows) -> Shifted:
        if len(line.axes) == 1:
            return Shifted.along(self.xp, memory, line.axes[0], line.sizes[0])
        return Shifted.over(self.xp, memory, _unpadded(memory.shape, on_all_axes(*line[:4], memory.ndim)[0]))

    def _entered(self, box: Box) -> Array:
        """What the first filter reads, contiguous, with its borders."""
        xp, working = self.xp, self.workings[0]
        if box.is_inside:
            part = self.x[box.read]
        else:
            part = framed(xp, self.x, box.framed, self.chain.border, tuple(self.edges), self.lines[0].value, working)
        if part.dtype == working and part.flags.c_contiguous and not any(map(any, self.chain.uncut[0])):
            return part
        memory, place = self._room(0, part.shape)
        place[...] = part
        return self._bordered(0, memory, part.shape, box)

    def _room(self, at: int, size: Ints) -> tuple[Array, Array]:
        """Memory that a filter reads, with its borders, and in that the place of so many elements."""
        shape, inside = frame(size, self.chain.uncut[at])
        memory = scratch(self.xp, shape, self.workings[at], PADDED[at % 2])
        if "zeros" in self.modes[at] and shape != size:
            memory[...] = self.lines[at].value
        return memory, memory[inside]

    def _bordered(self, at: int, memory: Array, size: Ints, box: Box) -> Array:
        """Memory with what is beyond the ends of so many elements."""
        for place, source in fills(size, self.chain.uncut[at], self.modes[at]):
            memory[place] = memory[source]
        if at and not box.is_inside:  # of what the filters before it found there, only borders that repeat are right
            for axis, mode in zip(self.lines[at].axes, self.lines[at].modes, strict=True):
                start, d = box.read[axis].start, self.x.shape[axis]
                if mode == "zeros" and any(self.chain.border[axis]):
                    for beyond in (slice(max(-start, 0)), slice(d - start, None)):
                        memory[(*(slice(None),) * axis, beyond)] = self.lines[at].value
        return memory


@remembering(5)
def on_all_axes(axes: Ints, sizes: Ints, before: Ints, modes: Words, ndim: int) -> tuple[Ints, Pairs, Words]:
    """Sizes and borders along every axis, those that are not filtered as well."""
    kernel, padding, borders = [1] * ndim, [(0, 0)] * ndim, ["zeros"] * ndim
    for axis, k, lo, mode in zip(axes, sizes, before, modes, strict=True):
        kernel[axis], padding[axis], borders[axis] = k, (lo, k - 1 - lo), mode
    return tuple(kernel), tuple(padding), tuple(borders)


@remembering(2)
def _unpadded(size: Ints, kernel: Ints) -> Geometry:
    ones = (1,) * len(size)
    return Geometry(size, kernel, ones, ones, ((0, 0),) * len(size))
