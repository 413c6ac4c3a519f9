"""Sums over windows tap by tap: on NumPy filter after filter in boxes that stay in cache, on threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._arrays.elements import truncated
from .._arrays.libraries import Array, DType, Namespace, is_kind
from .._arrays.scratch import scratch
from .._arrays.taps import PADDED, Shifted, means, weighted
from .._arrays.windows import framed, pad
from .._plan.chains import Box, Chain, Pass, chains, on_all_axes
from .._plan.geometry import Ints, Words, at_every_element
from .graph import Pieces
from .threads import cpu_count, for_each, is_alone

FEWEST = 2**17  # elements of a box: of fewer, threads spend their time waiting for each other
BESIDE = 5 * 2**15  # the same where others compute beside: larger ones take a tenth less time, and hold a tenth more
BLOCK = 2**21  # bytes of one, if there are so many: threads wait for each other after every operation
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
    return truncated(xp, weighted(padded, at_every_element(padded.shape, sizes), windows.taps, windows.is_line), dtype)


def filtered(xp: Namespace, x: Array, lines: Sequence[Windows], dtype: DType, workings: Sequence[DType]) -> Array:
    """The same of NumPy's arrays, of one filter after another: along axes of which no two filters have the same.

    Where taps are real complex numbers are pairs of real ones: inf in one of these is no NaN in the other, as in SciPy.
    """
    if is_kind(xp, x.dtype, "complex floating") and not any(line.is_complex for line in lines):
        return _as_pairs(xp, x.joined() if isinstance(x, Pieces) else x, lines, dtype, workings)
    shape, y, after, room = x.shape, x, 0, FEWEST
    size, cpus, most = math.prod(shape), 1, BLOCK // xp.dtype(workings[0]).itemsize
    if size >= most and is_alone():
        room = BESIDE
    elif size >= most:
        cpus = cpu_count()
        room = min(max(size // (SHARES * cpus), FEWEST), most)
    with xp.errstate(all="ignore"):  # SciPy warns of nothing, and rows that are added as one have sums that nobody sees
        for chain in chains(shape, tuple([line[:4] for line in lines]), room):
            first, after = after, after + chain.filters
            source = y if len(chain.boxes) > 1 else y[...]  # of pieces, all is joined only where all is read at once
            y = xp.empty(shape, dtype) if y is x or chain.cuts else y
            run = _Run(xp, source, y, chain, lines[first:after], workings[first:after])
            for_each(run.fill, chain.boxes, cpus)
    return y


def _as_pairs(xp: Namespace, x: Array, lines: Sequence[Windows], dtype: DType, workings: Sequence[DType]) -> Array:
    """Along one axis more, but for what is beyond the ends if that has two parts."""
    native, reals = xp.result_type(dtype), [xp.finfo(working).dtype for working in workings]
    y, result = xp.empty(x.shape, native), xp.finfo(native).dtype
    if all(line.value.real == line.value.imag or "zeros" not in line.modes for line in lines):
        pairs = xp.ascontiguousarray(x, xp.result_type(x.dtype)).view(xp.finfo(x.dtype).dtype).reshape(*x.shape, 2)
        found = filtered(xp, pairs, [line._replace(value=line.value.real) for line in lines], result, reals)
        return xp.astype(found.view(native).reshape(x.shape), dtype, copy=False)
    for part in ("real", "imag"):
        own = [line._replace(value=getattr(line.value, part)) for line in lines]
        getattr(y, part)[...] = filtered(xp, getattr(x, part), own, result, reals)
    return xp.astype(y, dtype, copy=False)


class _Run(NamedTuple):
    """A chain of filters from one array to another."""

    xp: Namespace
    x: Array
    y: Array
    chain: Chain
    lines: Sequence[Windows]
    workings: Sequence[DType]

    def fill(self, box: Box) -> None:
        """Write the results of a box."""
        last, dtype, memory = len(self.lines) - 1, self.y.dtype, self._entered(box)
        for at, (line, working, plan) in enumerate(zip(self.lines, self.workings, box.passes, strict=True)):
            following, place = (None, self.y[box.place]) if at == last else self._room(at + 1, box.passes[at + 1])
            own = place if place.dtype == working == dtype else None
            windows = Shifted.over(self.xp, memory, plan)
            if line.taps is None:
                found = windows.means(line.sizes[0], own)
            elif len(line.axes) > 1 and all(line.taps) and is_kind(self.xp, working, "real floating"):
                found = windows.stacked(line.taps, own)
            else:
                found = windows.sums(line.taps, line.is_line, own)
            if found is not place:
                place[...] = truncated(self.xp, found, dtype)
            if following is not None:
                memory = self._bordered(at + 1, box, following)

    def _entered(self, box: Box) -> Array:
        """What the first filter reads, contiguous, with its borders."""
        xp, chain, plan = self.xp, self.chain, box.passes[0]
        if box.is_inside and isinstance(self.x, Pieces):
            memory, place = self._room(0, plan)
            self.x.put(box.read, place)
            return self._bordered(0, box, memory)
        if box.is_inside:
            part = self.x[box.read]
        else:
            value = self.lines[0].value
            part = framed(xp, self.x, box.framed, chain.border, chain.modes, value, self.workings[0])
        if part.dtype == self.workings[0] and part.flags.c_contiguous and not plan.is_bordered:
            return part
        memory, place = self._room(0, plan)
        place[...] = part
        return self._bordered(0, box, memory)

    def _room(self, at: int, plan: Pass) -> tuple[Array, Array]:
        """Memory that a filter reads, with its borders, and in that the place of what has none."""
        memory = scratch(self.xp, plan.memory, self.workings[at], PADDED[at % 2])
        if plan.has_value:
            memory[...] = self.lines[at].value
        return memory, memory[plan.inside]

    def _bordered(self, at: int, box: Box, memory: Array) -> Array:
        for place, source in box.passes[at].fills:
            memory[place] = memory[source]
        for beyond in box.beyond[at]:
            memory[beyond] = self.lines[at].value
        return memory
