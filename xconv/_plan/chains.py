"""Filters one after another, chained: of each box of an array all of them, while it stays in cache.

A box reads beyond its ends along the axes that it cuts, and what a filter of a chain needs there, those before it
compute for both of its neighbours. So a chain ends where that would take longer than to write all and to read it again.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple, TypeAlias

from .blocks import pieces
from .geometry import Ints, Pairs, Slices
from .remembered import remembering

Lines: TypeAlias = tuple[tuple[Ints, Ints, Ints], ...]  # axes of each, its sizes there, and what lies before the first
MOVED = 4.0  # taps, in the time of an element of the whole array read or written
STARTED = 2**12  # elements that a tap takes as long as, besides, for each box
LONG = 2**11  # elements along the last axis, of which operations begin no later than on all


class Box(NamedTuple):
    """Where results belong, and what they read, which may begin before an array, and end behind it."""

    place: Slices
    read: Slices
    framed: Slices  # the same, counted from where borders begin
    is_inside: bool


class Chain(NamedTuple):
    """So many of the filters, over these boxes."""

    filters: int
    border: Pairs  # what boxes read beyond their ends
    uncut: tuple[Pairs, ...]  # the border that each of them needs, along axes that boxes do not cut
    cuts: bool  # whether boxes cut an axis that is filtered, and read of each other
    boxes: tuple[Box, ...]


@remembering(0)
def chains(shape: Ints, lines: Lines, room: int) -> tuple[Chain, ...]:
    """All filters in as many chains as take the least time, over boxes of so many elements."""
    found = []
    for count, lengths in _cheapest(shape, lines, room)[1]:
        some, lines = lines[:count], lines[count:]
        border, own = [(0, 0)] * len(shape), []
        for axes, sizes, before in some:
            own.append([(0, 0)] * len(shape))
            for axis, k, lo in zip(axes, sizes, before, strict=True):
                (border if lengths[axis] < shape[axis] else own[-1])[axis] = lo, k - 1 - lo
        boxes = _boxes(shape, lengths, border)
        found.append(Chain(count, tuple(border), tuple(map(tuple, own)), any(map(any, border)), boxes))
    return tuple(found)


@remembering(0)
def _cheapest(shape: Ints, lines: Lines, room: int) -> tuple[float, tuple[tuple[int, Ints], ...]]:
    """The time in taps, and for each chain how many filters it has and how long boxes are along each axis."""
    if not lines:
        return 0.0, ()
    found = []
    for count in range(1, len(lines) + 1):
        cost, rest = _cheapest(shape, lines[count:], room)
        for lengths in _lengths(shape, room):
            found.append((_cost(shape, lengths, lines[:count]) + cost, ((count, lengths), *rest)))
    costs = [cost for cost, _ in found]
    return found[costs.index(min(costs))]


def _cost(shape: Ints, lengths: Ints, lines: Lines) -> float:
    """A filter is computed for what those behind it read, and the array is read for all of them."""
    cost, grown, started = MOVED, 1.0, 1 + STARTED / math.prod(lengths)
    for axes, sizes, _ in reversed(lines):
        cost += math.prod(sizes) * grown * started
        for axis, k in zip(axes, sizes, strict=True):
            if lengths[axis] < shape[axis]:
                grown *= (lengths[axis] + k - 1) / lengths[axis]
    return cost + MOVED * grown


def _lengths(shape: Ints, room: int) -> list[Ints]:
    """How long boxes may be: whole rows, or parts of them, and any other axis before the rest."""
    last, found = len(shape) - 1, []
    for longest in dict.fromkeys((shape[last], min(shape[last], LONG))):
        for favoured in range(max(last, 1)):
            lengths, left = list(shape), room
            for axis in dict.fromkeys((last, favoured, *range(last - 1, -1, -1))):
                lengths[axis] = _equal(shape[axis], min(longest if axis == last else shape[axis], max(left, 1)))
                left //= lengths[axis]
            found.append(tuple(lengths))
    return found


def _equal(size: int, most: int) -> int:
    """The length of equal pieces of at most that."""
    return -(-size // -(-size // most))


def _boxes(shape: Ints, lengths: Ints, border: list[tuple[int, int]]) -> tuple[Box, ...]:
    found = []
    for place in itertools.product(*map(pieces, shape, lengths)):
        read = [slice(part.start - lo, part.stop + hi) for part, (lo, hi) in zip(place, border, strict=True)]
        is_inside = all([part.start >= 0 and part.stop <= d for part, d in zip(read, shape, strict=True)])  # noqa: C419
        framed = [slice(part.start, part.stop + lo + hi) for part, (lo, hi) in zip(place, border, strict=True)]
        found.append(Box(place, tuple(read), tuple(framed), is_inside))
    return tuple(found)
