"""Borders in integers: which elements of an axis those beyond its ends repeat, and in which order.

An axis of size d goes on at both ends as its mode says, however far: backwards, from its other end, or with its last
element. What repeats elements next to each other is a run.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .geometry import Ints, Pairs, Slices, Words
from .remembered import remembering

# How an axis goes on beyond its ends: 1 from its other end, -1 backwards, 0 with the last element; and how many
# elements at an end it leaves out.
BORDERS = {"reflect": (-1, 1), "symmetric": (-1, 0), "replicate": (0, 0), "circular": (1, 0)}


def farthest(mode: str, d: int) -> int:
    """How far from any element of an axis of size d lies the last one that none before it repeats, at each end.

    That is a period, where axes have one.
    """
    direction, edge = BORDERS.get(mode if d > 1 else "replicate", (0, 0))
    return (d - edge) * (2 if direction < 0 else 1)


class Border(NamedTuple):
    """A step in which an axis grows at both ends, by so many elements: where it has them from, and in which order."""

    direction: int  # as in `BORDERS`
    sources: tuple[slice, slice]
    widths: tuple[int, int]


@remembering(0)
def border_steps(mode: str, d: int, lo: int, hi: int) -> tuple[Border, ...]:
    """The steps in which an axis of size d gets its borders: one, unless they are wider than the axis.

    An axis that went backwards once repeats itself, so all steps but the first copy, from as many periods away as there
    are; axes grow by half at least. One element has nothing else to repeat than itself, as in numpy.pad.
    """
    (direction, edge), period = BORDERS[mode if d > 1 else "replicate"], farthest(mode, d)
    steps = []
    while lo or hi:
        widest = {-1: d - edge, 0: max(lo, hi), 1: d // period * period}[direction]
        low, high = min(lo, widest), min(hi, widest)
        sources = {
            -1: (slice(edge, edge + low), slice(d - edge - high, d - edge)),
            0: (slice(0, 1), slice(d - 1, d)),
            1: (slice(widest - low, widest), slice(d - widest, d - widest + high)),
        }[direction]
        steps.append(Border(direction, sources, (low, high)))
        lo, hi, d, direction = lo - low, hi - high, low + d + high, abs(direction)
    return tuple(steps)


def folded(mode: str, d: int, before: int, taps: Sequence[complex]) -> tuple[complex, ...]:
    """Taps, so many of them before an element; those beyond the farthest are added to what reads the same.

    That is an element a period nearer, or the last one of all, where the axis goes on with it or with a value.
    """
    far, is_periodic = farthest(mode, d), _is_periodic(mode, d)
    same: dict[int, list[complex]] = {}
    for place, tap in enumerate(taps, start=-before):
        distance = abs(place)
        nearer = distance if distance <= far else (distance - 1) % far + 1 if is_periodic else far
        same.setdefault(-nearer if place < 0 else nearer, []).append(tap)
    return tuple([_sum(same[place]) for place in range(min(same), max(same) + 1)])


def folded_counts(mode: str, d: int, before: int, behind: int) -> tuple[int, ...]:
    """How many taps `folded` makes each of."""
    far, is_periodic = farthest(mode, d), _is_periodic(mode, d)

    def of_end(reach: int) -> list[int]:
        if is_periodic:
            return [(reach - distance) // far + 1 for distance in range(1, min(reach, far) + 1)]
        return [*(1 for _ in range(min(reach, far) - 1)), *(max(reach - far + 1, 1) for _ in range(min(reach, 1)))]

    return (*of_end(before)[::-1], 1, *of_end(behind))


def _is_periodic(mode: str, d: int) -> bool:
    return d > 1 and BORDERS.get(mode, (0, 0))[0] != 0


def _sum(taps: Sequence[complex]) -> complex:
    """Rounded once, so that taps that mirror each other still do."""
    if any(isinstance(tap, complex) for tap in taps):
        return complex(_sum([tap.real for tap in taps]), _sum([tap.imag for tap in taps]))
    try:
        return math.fsum([tap.real for tap in taps])
    except (ValueError, OverflowError):  # infinite ones of both signs, or sums
        return sum(taps)


class FramedAxis(NamedTuple):
    """What a part of an axis with its borders reads, and of that the elements before, inside and behind."""

    read: slice
    pieces: tuple[Ints, slice, Ints]  # -1 for those of a border that repeats none


@remembering(0)
def framed_axis(mode: str, d: int, lo: int, part: tuple[int, int]) -> FramedAxis:
    """A part (start, stop) of an axis of size d that has ``lo`` elements of a border before it."""
    start, stop = part[0] - lo, part[1] - lo
    repeated = [sources(mode, d, places) for places in (range(start, min(stop, 0)), range(max(start, d), stop))]
    inner = range(max(start, 0), max(min(stop, d), start, 0))
    known = [place for places in (*repeated, inner[:1], inner[-1:]) for place in places if place >= 0]
    first, end = min(known, default=0), max(known, default=-1) + 1
    low, high = (tuple([max(place - first, -1) for place in places]) for places in repeated)
    return FramedAxis(
        slice(first, end), (low, slice(inner.start - first, inner.stop - first) if inner else slice(0, 0), high)
    )


def sources(mode: str, d: int, places: range) -> list[int]:
    """Which element of an axis of size d each place beyond its ends repeats, or -1."""
    if mode == "zeros":
        return [-1 for _ in places]
    direction, edge = BORDERS[mode if d > 1 else "replicate"]
    if direction == 0:
        return [min(max(place, 0), d - 1) for place in places]
    period = farthest(mode, d)
    found = [place % period for place in places]
    return found if direction > 0 else [place if place < d else period - (1 - edge) - place for place in found]


@remembering(0)
def fills(size: Ints, padding: Pairs, modes: Words) -> tuple[tuple[Any, Any], ...]:
    """The parts of a padded array that repeat others, and which, in the order in which they are known."""
    found = []
    for axis, (d, (lo, hi), mode) in enumerate(zip(size, padding, modes, strict=True)):
        before, behind = (..., *(slice(None),) * axis), (slice(None),) * (len(size) - axis - 1)
        start, stop = lo, lo + d
        for border in () if mode == "zeros" else border_steps(mode, d, lo, hi):
            low, high = border.widths
            places = slice(start - low, start), slice(stop, stop + high)
            for place, source in zip(places, border.sources, strict=True):
                first, end = start + source.start, start + source.stop
                backwards = slice(end - 1, first - 1 if first else None, -1)
                repeated = backwards if border.direction < 0 else slice(first, end)
                if place.start < place.stop:
                    found.append(((*before, place, *behind), (*before, repeated, *behind)))
            start, stop = start - low, stop + high
    return tuple(found)


@remembering(0)
def frame(size: Ints, padding: Pairs) -> tuple[Ints, Slices]:
    """The size with its padding, and where in that the elements lie."""
    pairs = [*zip(size, padding, strict=True)]
    return tuple(lo + d + hi for d, (lo, hi) in pairs), tuple(slice(lo, lo + d) for d, (lo, _) in pairs)


class Run(NamedTuple):
    """Elements next to each other: forwards (step 1), backwards (-1), or the same one again and again (0)."""

    first: int
    length: int
    step: int = 1

    def slices(self, edges: Ints) -> list[tuple[int, slice]]:
        """Those of an axis cut at edges: (which chunk, what of it), in order, a repeated one as often as it is."""
        last = self.first + self.step * (self.length - 1)
        low, high = min(self.first, last), max(self.first, last) + 1
        found = []
        for chunk in range(bisect.bisect_right(edges, low) - 1, bisect.bisect_left(edges, high)):
            start, end = edges[chunk], edges[chunk + 1]
            first, stop = max(low, start) - start, min(high, end) - start
            found.append((chunk, slice(first, stop)))
        if self.step == 0:
            return found * self.length
        if self.step > 0:
            return found
        return [
            (chunk, slice(part.stop - 1, part.start - 1 if part.start else None, -1)) for chunk, part in found[::-1]
        ]

    def part(self, start: int, length: int) -> Run:
        """So many of them from one on."""
        return Run(self.first + self.step * start, length, self.step)

    def within(self, start: int, stop: int) -> tuple[int, Run]:
        """How many of its elements come before those of start <= element < stop, and these."""
        if self.step == 0:
            return 0, self if start <= self.first < stop else Run(self.first, 0, 0)
        before = max(start - self.first if self.step > 0 else self.first - stop + 1, 0)
        behind = (stop - self.first if self.step > 0 else self.first - start + 1) - before
        return before, self.part(before, max(min(self.length - before, behind), 0))


def border_runs(mode: str, d: int, start: int, stop: int) -> tuple[Run, ...]:
    """The elements of an axis of size d from one place to another, which may lie in its borders."""
    low, high = _border(mode, d, start, min(stop, 0)), _border(mode, d, max(start, d), stop)
    inner = runs_of(max(start, 0), min(stop, d))
    return (*(run for _, run in low), *inner, *(run for _, run in high))


@remembering(0)
def border_parts(mode: str, d: int, widths: tuple[int, int]) -> list[tuple[int, Run]]:
    """Those of both ends, but for zeros."""
    lo, hi = widths
    return [] if mode == "zeros" else [*_border(mode, d, -lo, 0), *_border(mode, d, d, d + hi)]


def _border(mode: str, d: int, start: int, stop: int) -> list[tuple[int, Run]]:
    """Runs of the elements that a border repeats, and where each begins."""
    found: list[tuple[int, Run]] = []
    for place, source in zip(range(start, stop), sources(mode, d, range(start, stop)), strict=True):
        if found:
            begin, run = found[-1]
            step = source - (run.first + run.step * (run.length - 1))
            if (run.length == 1 and abs(step) <= 1) or (run.length > 1 and step == run.step):
                found[-1] = begin, Run(run.first, run.length + 1, step)
                continue
        found.append((place, Run(source, 1)))
    return found


def runs_of(start: int, stop: int) -> tuple[Run, ...]:
    return (Run(start, stop - start),) if start < stop else ()
