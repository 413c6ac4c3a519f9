"""Sums and extremes of windows tap by tap: on NumPy filter after filter in boxes that stay in cache, on threads."""

from __future__ import annotations

import cmath
import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._arrays.elements import truncated
from .._arrays.libraries import Array, DType, Namespace, is_kind
from .._arrays.means import sums_by_levels
from .._arrays.pieces import Pieces
from .._arrays.scratch import Bench, scratch
from .._arrays.taps import PADDED, Shifted, Step, in_order, put, weighted
from .._arrays.windows import framed, pad, put_framed
from .._plan.borders import farthest, folded, folded_counts
from .._plan.chains import MOVED, Box, Chain, chains, on_all_axes
from .._plan.geometry import Ints, Words, at_every_element
from .threads import cpu_count, for_each, is_alone

WIDER = 2  # times as many taps as read something else, from which sums are no longer in SciPy's order
UNPLANNED = 25 * 2**15  # elements by taps, that are added before there would be a plan
SMALL = 2**17  # elements of an array whose steps are kept, and of a box where others compute beside
FEWEST = 2**19  # bytes of a box: of fewer, threads spend their time waiting for each other after every operation
BLOCK = 2**21  # bytes of one at most, which a cache keeps
BESIDE = 5 * 2**15  # elements of one of large arrays beside others: more take a tenth less time, and hold a tenth more
WORTH = 2**24  # bytes in as many operations that take 0.36 ms, of which 0.15 are what a second thread takes to begin


class Filter(NamedTuple):
    """Windows along some axes, in order: how many elements lie before the first one, and what is beyond the ends."""

    axes: Ints
    sizes: Ints
    before: Ints
    modes: Words
    value: complex = 0
    taps: Any = None  # numbers, or an array of them, in the order of the windows; None for the mean along an axis
    is_line: bool = True
    pick: str = ""  # "maximum" or "minimum" of the elements whose taps are true, instead of a sum

    @property
    def operations(self) -> int:
        """How many are done for each element, about: tap by tap, or of runs that become twice as long in each."""
        if self.pick or self.taps is None:
            return sum(map(int.bit_length, self.sizes))
        return len(self.taps)

    @property
    def is_complex(self) -> bool:
        """Whether its taps are complex numbers."""
        return isinstance(self.taps, tuple) and any(isinstance(tap, complex) for tap in self.taps)

    def over(self, shape: Ints, sums: bool) -> Filter:
        """The same over an array of this shape, by fewer elements where windows along an axis read some repeatedly.

        A mean becomes a sum of fewer taps where that takes less than as many runs over the axis and its borders.
        """
        if len(self.axes) > 1 or not (self.taps is None or (sums and isinstance(self.taps, tuple))):
            return self  # a window over all axes, with holes, or of numbers that are not known
        ((axis, k, before, mode),) = zip(*self[:4], strict=True)
        d, behind = shape[axis], k - 1 - before
        if not isinstance(d, int) or d == 0 or max(before, behind) <= (far := farthest(mode, d)):
            return self
        reach = min(before, far), min(behind, far)
        windows = self._replace(sizes=(sum(reach) + 1,), before=reach[:1])
        if not sums:
            return windows
        if WIDER * windows.sizes[0] > k or not cmath.isfinite(self.value):  # of which opposite taps make NaN
            return self
        if self.taps is not None:
            return windows._replace(taps=folded(mode, d, before, self.taps))
        counts = folded_counts(mode, d, before, behind)
        is_shorter = len(counts) < self.operations * (d + k - 1) / d
        return windows._replace(taps=tuple([count / k for count in counts])) if is_shorter else self


def neighbours(xp: Namespace, x: Array, windows: Filter, dtype: DType, working: DType) -> Array:
    """Weighted sums of windows, computed in a working dtype and stored in another, as many as there are elements."""
    sizes, padding, modes = on_all_axes(*windows[:4], x.ndim)
    padded = pad(xp, x, padding, modes, windows.value, working)
    around = at_every_element(padded.shape, sizes)
    if windows.taps is None:
        (at,), (size,) = windows.axes, windows.sizes
        return truncated(xp, sums_by_levels(xp, padded, at, around.lines[at]) / size, dtype)
    return truncated(xp, weighted(xp, padded, around, windows.taps, windows.is_line), dtype)


class Stage(NamedTuple):
    """A filter over memory: what is done first, where what it reads is put if not there, steps, what they give."""

    before: Sequence[Step]
    inside: Array | None
    steps: Sequence[Step]
    found: Array


class Room(NamedTuple):
    """Memory that a filter reads, the place inside of its borders if it is to be filled, and what is done for these."""

    memory: Array
    inside: Array | None = None
    before: Sequence[Step] = ()
    borders: Sequence[Step] = ()


class FilterChain:
    """`neighbours` of NumPy's arrays of one shape and dtype, of filters one after another, each along its own axes.

    Where taps are real complex numbers are pairs of real ones: inf in one of these is no NaN in the other, as in SciPy.
    From the second of small arrays on the steps are kept, over memory of each thread's own: to find them takes longer
    than they take.
    """

    def __init__(
        self, xp: Namespace, shape: Ints, own: DType, filters: Sequence[Filter], dtype: DType, workings: Sequence[DType]
    ) -> None:
        self.xp, self.shape, self.own, self.dtype = xp, shape, own, dtype
        self.filters, self.workings, self.keys = filters, workings, tuple([line[:4] for line in filters])
        self.kept, self.parts, self.is_known = threading.local(), list[FilterChain](), False
        self.work = math.prod(shape) * (MOVED + sum(line.operations for line in filters))
        if is_kind(xp, own, "complex floating") and not any(line.is_complex for line in filters):
            self._divide(xp.finfo(xp.result_type(dtype)).dtype, [xp.finfo(working).dtype for working in workings])

    def __call__(self, x: Array | Pieces) -> Array:
        if self.parts:
            return self._of_pairs(x.joined() if isinstance(x, Pieces) else x)
        return _quiet(self.xp)(self, x)

    def _divide(self, result: DType, workings: Sequence[DType]) -> None:
        """Along one axis more, but for what is beyond the ends if that has two parts."""
        real, whole = self.xp.finfo(self.own).dtype, True
        for line in self.filters:
            whole = whole and (line.value.real == line.value.imag or "zeros" not in line.modes)
        for part in ("real",) if whole else ("real", "imag"):
            filters = [line._replace(value=getattr(line.value, part)) for line in self.filters]
            shape = (*self.shape, 2) if whole else self.shape
            self.parts.append(FilterChain(self.xp, shape, real, filters, result, workings))

    def _of_pairs(self, x: Array) -> Array:
        xp, native, (first, *others) = self.xp, self.xp.result_type(self.dtype), self.parts
        if not others:
            pairs = xp.ascontiguousarray(x, xp.result_type(x.dtype)).view(xp.result_type(first.own))
            y = first(pairs.reshape(*x.shape, 2)).view(native).reshape(x.shape)
        else:
            y = xp.empty(x.shape, native)
            y.real, y.imag = first(x.real), others[0](x.imag)
        return xp.astype(y, self.dtype, copy=False)

    def run(self, x: Array | Pieces) -> Array:
        """The filters of real arrays, or all of them."""
        size, y, after = math.prod(self.shape), x, 0
        bytes_of_one = self.xp.dtype(self.workings[0]).itemsize
        cpus, most = 1 if self.work * bytes_of_one < WORTH else cpu_count(), BLOCK // bytes_of_one
        room = min(max(size // cpus, FEWEST // bytes_of_one), most)
        if is_alone():
            room = BESIDE if size >= most else SMALL
        is_small, self.is_known = self.is_known and size <= min(room, SMALL), True
        if is_small and not isinstance(x, Pieces) and self.stages:
            y = self.xp.empty(self.shape, self.dtype)
            _carry_out(self.xp, self.stages, x, y)
            return y
        for chain in chains(self.shape, self.keys, room):
            first, after = after, after + chain.length
            source = y if len(chain.boxes) > 1 else y[...]  # of pieces, all is joined only where all is read at once
            y = self.xp.empty(self.shape, self.dtype) if y is x or chain.cuts else y
            run = _Run(self.xp, chain, self.filters[first:after], self.workings[first:after])
            for_each(functools.partial(run.fill, source, y), chain.boxes, cpus)
        return y

    @property
    def stages(self) -> list[Stage]:
        """Those of all, if that is one box, and small."""
        if not hasattr(self.kept, "stages"):
            found, bench = chains(self.shape, self.keys, SMALL), Bench(self.xp)
            is_one = [len(chain.boxes) for chain in found] == [1]
            run = _Run(self.xp, found[0], self.filters, self.workings, bench)
            stages = run.stages(found[0].boxes[0]) if is_one else []
            self.kept.stages = stages if bench.is_enough else []
        kept: list[Stage] = self.kept.stages
        return kept


@functools.cache
def _quiet(xp: Namespace) -> Callable[[FilterChain, Array | Pieces], Array]:
    """SciPy warns of nothing, and rows that are added as one have sums that nobody sees."""
    quiet: Callable[[FilterChain, Array | Pieces], Array] = xp.errstate(all="ignore")(FilterChain.run)
    return quiet


def _carry_out(xp: Namespace, stages: Sequence[Stage], part: Array, place: Array) -> None:
    """Stages one after another, from an array to another one, in whose dtype is stored what each gives."""
    for before, inside, steps, found in stages:
        for operation, operands, out in before:
            operation(*operands, out=out)
        if inside is not None and inside is not part:
            inside[...] = part
        for operation, operands, out in steps:
            operation(*operands, out=out)
        part = truncated(xp, found, place.dtype)
    if part is not place:
        place[...] = part


class _Run(NamedTuple):
    """A chain of filters from one array to another."""

    xp: Namespace
    chain: Chain
    filters: Sequence[Filter]
    workings: Sequence[DType]
    room: Callable[..., Array] = scratch

    def fill(self, x: Array | Pieces, y: Array, box: Box) -> None:
        """Write the results of a box: it is laid out once, where filters read, but for what lies there already.

        Of pieces at the ends, whose borders may be those of others, it is joined first.
        """
        xp, place, first = self.xp, y[box.place], self.workings[0]
        framing = box.framed, self.chain.border, self.chain.modes, self.filters[0].value
        if box.is_inside is not isinstance(x, Pieces):
            part = x[box.read] if box.is_inside else framed(xp, x, *framing, first)
            is_ready = part.dtype == first and part.flags.c_contiguous and not box.passes[0].is_bordered
            _carry_out(xp, self.stages(box, part if is_ready else None, place), part, place)
            return
        stage, *others = self.stages(box, place=place)
        write, operands = (x.put, (box.read,)) if box.is_inside else (put_framed, (xp, x, *framing))
        step: Step = write, operands, stage.inside
        _carry_out(xp, [stage._replace(before=[*stage.before, step], inside=None), *others], x, place)

    def stages(self, box: Box, memory: Array | None = None, place: Array | None = None) -> list[Stage]:
        """What is done of a box, the first filter reading what is ready, and the last one writing to a place.

        Without one all add up rows in a line, which takes less time where these are short, before they are put.
        """
        stages, firsts = list[Stage](), [] if memory is None else [Room(memory)]
        rooms = [*firsts, *(self._room(box, at) for at in range(len(firsts), len(self.filters)))]
        for at, (line, working, plan) in enumerate(zip(self.filters, self.workings, box.passes, strict=True)):
            room, following = rooms[at], rooms[at + 1 : at + 2]
            before = [*([] if at else room.before), *(step for other in following for step in other.before)]
            target = following[0].inside if following else place
            if place is None or target is None or not place.dtype == working == target.dtype:
                target = None
            shifted = Shifted(self.xp, room.memory, plan, room.memory.reshape(plan.rows), self.room)
            steps, found = self._steps(line, shifted, target)
            stages.append(Stage(before, room.inside, [*room.borders, *steps], found))
        return stages

    def _room(self, box: Box, at: int) -> Room:
        """What a filter reads."""
        plan, value = box.passes[at], self.filters[at].value
        laid_out = self.room(self.xp, plan.memory, self.workings[at], PADDED[at % 2])
        memory = in_order(laid_out, plan)
        borders: list[Step] = [(put, (memory[source],), memory[border]) for border, source in plan.fills]
        borders += [(put, (value,), memory[beyond]) for beyond in box.beyond[at]]
        return Room(laid_out, memory[plan.inside], [(put, (value,), memory)] if plan.has_value else [], borders)

    def _steps(self, line: Filter, windows: Shifted, place: Array | None) -> tuple[list[Step], Array]:
        if line.pick:
            return windows.extremes(getattr(self.xp, line.pick), line.taps, place)
        if line.taps is None:
            return windows.means(line.sizes[0], place)
        if len(line.axes) > 1 and all(line.taps) and is_kind(self.xp, windows.rows.dtype, "real floating"):
            return windows.stacked(line.taps, place)
        return windows.sums(line.taps, line.is_line, place)
