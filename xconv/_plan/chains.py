"""Filters one after another, chained: of each box of an array all of them, while it stays in cache.

A box reads beyond its ends along the axes that it cuts, and what a filter of a chain needs there, those before it
compute for both of its neighbours. So a chain ends where that would take longer than to write all and to read it again.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple, TypeAlias

from .blocks import equal, pieces
from .borders import fills, frame
from .geometry import Ints, Pairs, Slices, Words
from .remembered import remembering

# Of a filter: its axes, sizes there, how many elements of the first window lie before the array, and borders' modes.
Reach: TypeAlias = tuple[Ints, Ints, Ints, Words]
Reaches: TypeAlias = tuple[Reach, ...]
MOVED = 4.0  # taps, in the time of an element of the whole array read or written
STARTED = 2**12  # elements that a tap takes as long as, besides, for each box
LONG = 2**11  # elements along the last axis, of which operations begin no later than on all
NARROW = 4  # times as many elements with borders as without, from which an axis lies first in memory
GAP = 2**7  # elements that an operation computes sooner in vain than it begins a row


class Pass(NamedTuple):
    """A filter over a part of an array, in memory: its borders, and rows that begin at each tap, so many elements long.

    In memory a tap is as far from where its output is in all windows, counted row after row: where little lies between
    their ends, rows are added as one, and that is left out. An axis of long borders lies first, where nothing is
    computed for these: sizes are in the order of memory then, slices in that of the array.
    """

    order: Ints  # of the axes in memory; empty if it is theirs
    memory: Ints
    kernel: Ints
    inside: Slices
    is_bordered: bool
    has_value: bool  # whether borders hold one
    fills: tuple[tuple[Any, Any], ...]  # the parts of borders that repeat others, and which
    rows: Ints
    shifts: Ints
    length: int
    output: Ints
    is_one_row: bool

    @property
    def results(self) -> Ints:
        """The output's sizes in the order of its axes."""
        return tuple([self.output[self.order.index(at)] for at in range(len(self.order))]) or self.output


class Box(NamedTuple):
    """Where results belong, and what they read, which may begin before an array, and end behind it."""

    place: Slices
    read: Slices
    framed: Slices  # the same, counted from where borders begin
    is_inside: bool
    passes: tuple[Pass, ...]
    beyond: tuple[tuple[Any, ...], ...]  # of what each filter reads, the parts where the array ends in a value


class Chain(NamedTuple):
    """So many of the filters, over these boxes."""

    length: int
    border: Pairs  # what boxes read beyond their ends
    modes: Words  # what is there beyond those of the array
    cuts: bool  # whether boxes cut an axis that is filtered, and read of each other
    boxes: tuple[Box, ...]


@remembering(3)
def chains(shape: Ints, reaches: Reaches, room: int) -> tuple[Chain, ...]:
    """All filters in as many chains as take the least time, over boxes of so many elements, long borders too."""
    found, wider = [], max([_wider(shape, reach) for reach in reaches])
    if wider > NARROW:
        room = max(int(room / wider), 1)
    for count, lengths in _cheapest(shape, reaches, room)[1]:
        some, reaches = reaches[:count], reaches[count:]
        border, modes = [(0, 0)] * len(shape), ["zeros"] * len(shape)
        for axes, sizes, before, words in some:
            for axis, k, lo, mode in zip(axes, sizes, before, words, strict=True):
                if lengths[axis] < shape[axis]:
                    border[axis], modes[axis] = (lo, k - 1 - lo), mode
        boxes = [_box(place, shape, some, tuple(border)) for place in itertools.product(*map(pieces, shape, lengths))]
        found.append(Chain(count, tuple(border), tuple(modes), any(map(any, border)), tuple(boxes)))
    return tuple(found)


def _wider(shape: Ints, reach: Reach) -> float:
    """How many times as many elements an array has with the borders of a filter."""
    return math.prod([(shape[axis] + k - 1) / shape[axis] for axis, k in zip(reach[0], reach[1], strict=True)])


def _box(place: Slices, shape: Ints, reaches: Reaches, border: Pairs) -> Box:
    axes = [*zip(place, border, shape, strict=True)]
    read = tuple([slice(part.start - lo, part.stop + hi) for part, (lo, hi), _ in axes])
    framed = tuple([slice(part.start, part.stop + lo + hi) for part, (lo, hi), _ in axes])
    is_inside = all([part.start >= 0 and part.stop <= d for part, d in zip(read, shape, strict=True)])  # noqa: C419
    size, passes = tuple([part.stop - part.start for part in read]), []
    beyond: list[tuple[Any, ...]] = []
    for reach in reaches:
        passes.append(_pass(size, reach, border))
        size = passes[-1].results
        beyond.append(() if is_inside or not beyond else _beyond(read, shape, reach, border))
    return Box(place, read, framed, is_inside, tuple(passes), tuple(beyond))


def _beyond(read: Slices, shape: Ints, reach: Reach, border: Pairs) -> tuple[Any, ...]:
    """Where a value is to be put again, since the filters before have read it: borders that repeat need not be."""
    found = []
    for axis, mode in zip(reach[0], reach[3], strict=True):
        if mode == "zeros" and any(border[axis]):
            for part in (slice(max(-read[axis].start, 0)), slice(shape[axis] - read[axis].start, None)):
                found.append((*(slice(None),) * axis, part))
    return tuple(found)


@remembering(3)
def _pass(size: Ints, reach: Reach, border: Pairs) -> Pass:
    """A filter over so many elements, with borders along the axes that boxes do not cut."""
    kernel, borders, modes = on_all_axes(*reach, len(size))
    padding = tuple([(0, 0) if any(cut) else own for cut, own in zip(border, borders, strict=True)])
    memory, inside = frame(size, padding)
    is_bordered, parts = memory != size, fills(size, padding, modes)
    has_value = any([mode == "zeros" and any(pair) for mode, pair in zip(modes, padding, strict=True)])  # noqa: C419
    order, (axis, *others) = (), reach[0]
    if not others and axis > 0 and is_bordered and memory[axis] > NARROW * size[axis]:
        order = (axis, *range(axis), *range(axis + 1, len(size)))
        memory, kernel, axis = (*map(memory.__getitem__, order),), (*map(kernel.__getitem__, order),), 0
    output = tuple([d - k + 1 for d, k in zip(memory, kernel, strict=True)])
    strides = [math.prod(memory[at + 1 :]) for at in range(len(memory))]
    steps = [range(0, k * stride, stride) for k, stride in zip(kernel, strides, strict=True)]
    shifts = (*map(sum, itertools.product(*steps)),)
    is_one_row = bool(others) or shifts[-1] < GAP
    count = 1 if is_one_row else math.prod(memory[:axis])
    rows = (count, math.prod(memory) // count)
    return Pass(
        order,
        memory,
        kernel,
        inside,
        is_bordered,
        has_value,
        parts,
        rows,
        shifts,
        rows[1] - shifts[-1],
        output,
        is_one_row and not order,
    )


@remembering(5)
def on_all_axes(axes: Ints, sizes: Ints, before: Ints, modes: Words, ndim: int) -> tuple[Ints, Pairs, Words]:
    """Sizes and borders along every axis, those that are not filtered as well."""
    kernel, padding, borders = [1] * ndim, [(0, 0)] * ndim, ["zeros"] * ndim
    for axis, k, lo, mode in zip(axes, sizes, before, modes, strict=True):
        kernel[axis], padding[axis], borders[axis] = k, (lo, k - 1 - lo), mode
    return tuple(kernel), tuple(padding), tuple(borders)


@remembering(3)
def _cheapest(shape: Ints, reaches: Reaches, room: int) -> tuple[float, tuple[tuple[int, Ints], ...]]:
    """The time in taps, and for each chain how many filters it has and how long boxes are along each axis."""
    if not reaches:
        return 0.0, ()
    found = []
    for count in range(1, len(reaches) + 1):
        cost, rest = _cheapest(shape, reaches[count:], room)
        for lengths in _lengths(shape, room, _whole(shape, reaches[:count])):
            if count > 1 and math.prod(lengths) > max(room, 1):
                continue
            found.append((_cost(shape, lengths, reaches[:count]) + cost, ((count, lengths), *rest)))
    costs = [cost for cost, _ in found]
    return found[costs.index(min(costs))]


def _cost(shape: Ints, lengths: Ints, reaches: Reaches) -> float:
    """A filter is computed for what those behind it read, and the array is read for all of them."""
    cost, grown, started = MOVED, 1.0, 1 + STARTED / math.prod(lengths)
    for axes, sizes, *_ in reversed(reaches):
        cost += math.prod(sizes) * grown * started
        for axis, k in zip(axes, sizes, strict=True):
            if lengths[axis] < shape[axis]:
                grown *= (lengths[axis] + k - 1) / lengths[axis]
    return cost + MOVED * grown


def _whole(shape: Ints, reaches: Reaches) -> set[int]:
    """The axes that windows read whole, of which each box would do so."""
    return {
        axis for axes, sizes, *_ in reaches for axis, k in zip(axes, sizes, strict=True) if k - 1 >= shape[axis] > 1
    }


def _lengths(shape: Ints, room: int, whole: set[int]) -> list[Ints]:
    """How long boxes may be: whole rows, or parts of them, and any other axis before the rest; some are not cut."""
    last, found = len(shape) - 1, []
    room //= math.prod([shape[axis] for axis in whole])
    for longest in dict.fromkeys((shape[last], min(shape[last], LONG))):
        for favoured in range(max(last, 1)):
            lengths, left = list(shape), room
            for axis in (at for at in dict.fromkeys((last, favoured, *range(last - 1, -1, -1))) if at not in whole):
                lengths[axis] = equal(shape[axis], min(longest if axis == last else shape[axis], max(left, 1)))
                left //= lengths[axis]
            found.append(tuple(lengths))
    return found
