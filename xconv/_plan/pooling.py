"""Pools and rows of windows in integers: blocks that fit a workspace and a cache.

A block is some samples, some channels and a box: of outputs, or, for an adjoint, of inputs with all windows that reach
into it. So no two blocks write to one place, and sums are rounded as if there were one block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from .blocks import Boxes, boxes, of_any, slices_of
from .geometry import Geometry, Ints, Slices
from .remembered import remembering
from .schedule import CACHED, FEWEST, MOST_BLOCKS

NEVER_REFUSED = 2**20  # bytes of workspace that no call is refused for
SMALL = 2**18  # bytes of what is done before a thread would have begun
OVERLAP = 0.75  # of what a box holds, that a half may hold to be worth cutting: what halves read twice costs time
POSITION = 8  # bytes of a position
BYTE = 254  # taps that a byte can number
# Taps, of more of which NumPy finds the largest by levels, and adds shares one by one, sooner than tap by tap.
MANY = 16
MANY_STEPS = 512  # taps, more of which are no steps one after another
LONG = 128  # taps from which they are halved sooner than taken one by one, as NumPy begins each
FEW_STEPS = 256  # taps up to which sums tap by tap may be those of fewer operations
WASTE = 4  # times as many elements as it gives that a box may read: 31^3 windows by boxes take three times as long


class PoolBlock(NamedTuple):
    """What a block reads of x and of y, its windows, and where what they give of the result belongs."""

    samples: slice
    channels: slice
    outputs: Slices
    inputs: Slices
    windows: Geometry
    place: Slices  # in the result, where part of what the block computes belongs
    crop: Slices  # that part


Runs: TypeAlias = tuple[tuple[Ints, int], ...]  # the first tap of each, and how many follow along the last axis


class PoolTask(NamedTuple):
    """A pool, rows of windows, or the adjoint of one, over planes of samples and channels."""

    windows: Geometry
    samples: int
    channels: int
    is_adjoint: bool
    held: Held
    element: int  # bytes of a number that is worked on
    in_place: bool  # whether passes over plain memory are written in place, or every step is an array of its own
    converts: bool  # whether operands have another dtype than what is worked on
    runs: Runs = ()  # of the taps of windows with holes

    @property
    def sizes(self) -> Ints:
        windows = self.windows
        return (self.samples, self.channels, *(windows.input_size if self.is_adjoint else windows.output_size))

    def bytes_of(self, lengths: Sequence[int]) -> int:
        """What a block of these lengths holds."""
        inputs, outputs = self._extent(lengths[2:])
        return math.prod(lengths[:2]) * self.element * self.held(self, inputs, outputs)

    def _extent(self, box: Sequence[int]) -> tuple[Ints, Ints]:
        """The most inputs and outputs, along each axis, of a box of outputs, or of inputs."""
        axes, outputs = self.windows.axes, tuple(box)
        if self.is_adjoint:
            outputs = tuple(min((d + axis.r - 2) // axis.s + 1, axis.o) for d, axis in zip(box, axes, strict=True))
        return tuple(min((o - 1) * axis.s + axis.r, axis.d) for o, axis in zip(outputs, axes, strict=True)), outputs


Held: TypeAlias = Callable[[PoolTask, Ints, Ints], int]


class PoolSchedule(NamedTuple):
    """How a task is cut, and how many blocks may be under way at once."""

    task: PoolTask
    boxes: Boxes
    limit: int

    @property
    def is_wasteful(self) -> bool:
        """Whether windows along one axis after the other would save boxes most of what they read."""
        windows, (_, _, *box) = self.task.windows, self.boxes.box
        several = sum([k > 1 for k in windows.kernel_size]) > 1
        return several and self.boxes.total > 1 and math.prod(read_by(windows, box)) > WASTE * math.prod(box)

    @property
    def whole(self) -> PoolBlock:
        """All in one block."""
        everything = (slice(None),) * self.task.windows.ndim
        return PoolBlock(slice(None), slice(None), everything, everything, self.task.windows, everything, everything)

    def block(self, number: int) -> PoolBlock | None:
        """A block; none if no window reaches into it."""
        if self.boxes.total == 1:
            return self.whole
        windows, is_adjoint = self.task.windows, self.task.is_adjoint
        samples, channels, *box = self.boxes.ranges(number)
        everything = (slice(None),) * windows.ndim
        lead = of_any(samples, self.task.samples), slice(*channels)
        ranges = windows.reading(box) if is_adjoint else box
        if any(start >= stop for start, stop in ranges):
            return None
        inputs, restricted = windows.restrict(ranges)
        outputs = slices_of(ranges)
        if not is_adjoint:
            return PoolBlock(*lead, outputs, inputs, restricted, outputs, everything)
        bounds = [(max(a, read.start), min(b, read.stop)) for (a, b), read in zip(box, inputs, strict=True)]
        crop = tuple(slice(a - read.start, b - read.start) for (a, b), read in zip(bounds, inputs, strict=True))
        return PoolBlock(*lead, outputs, inputs, restricted, slices_of(bounds), crop)


@remembering(3)
def pool_schedule(task: PoolTask, room: int, on_threads: bool) -> PoolSchedule:
    """Samples are cut first, then channels, then rows; a block is as large as the cache, or the workspace, allows."""
    sizes = task.sizes
    least, whole = task.bytes_of([min(size, 1) for size in sizes]), task.bytes_of(sizes)
    if room < min(least, NEVER_REFUSED):
        raise ValueError(f"max_workspace must be at least {min(least, NEVER_REFUSED)} bytes for this call, got {room}")
    budget = room
    if on_threads and whole > SMALL:
        budget = min(CACHED, room // FEWEST, whole // max(FEWEST, min(whole // CACHED, MOST_BLOCKS)))
    lengths = [*sizes]
    order = [0, *range(2, len(sizes)), 1] if task.held is held_by_rows else [*range(len(sizes))]  # channels make a row
    if least > room:
        order = [place for place in order if place < 2]
    while (now := task.bytes_of(lengths)) > budget:
        ways = [_halved(lengths, place) for place in order if lengths[place] > 1]
        held = [task.bytes_of(way) for way in ways]
        worth = [way for way, each in zip(ways, held, strict=True) if each <= OVERLAP * now]
        if not worth and (now <= room or not ways):
            break  # windows so large that each box would compute much of what others do
        lengths = worth[0] if worth else ways[held.index(min(held))]
    return PoolSchedule(task, boxes(sizes, tuple(lengths)), max(room // max(task.bytes_of(lengths), 1), 1))


def _halved(lengths: list[int], place: int) -> list[int]:
    return [*lengths[:place], -(-lengths[place] // 2), *lengths[place + 1 :]]


def held_by_sums(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """Numbers that a pass over each axis holds of a plane with so many inputs and outputs."""
    sizes = _sizes(inputs, outputs)
    pairs = [*itertools.pairwise(sizes)]
    if not task.in_place:
        return max([before + 4 * after for before, after in pairs]) + sizes[0]
    if not (task.is_adjoint or task.converts):
        pairs[0] = (0, sizes[1])  # which reads a view
    return max([before + after for before, after in pairs]) + (sizes[0] if task.converts else sizes[-1])


def held_by_extremes(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """Numbers of the input, with its border, of two levels at a time and of those that runs of taps are made of."""
    read = math.prod(read_by(task.windows, outputs))
    kept = len({power_of(length) for _, length in task.runs})
    if not task.in_place:  # comparisons as well, and what is written to blocks
        return max((5 + kept) * read, held_by_sums(task, inputs, outputs))
    return (3 + kept) * read + 2 * math.prod(outputs)


def held_by_maxima(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """As sums, which go tap after tap, or by levels; of taps that are halved, with the border and a half of all."""
    if any(map(doubles, task.windows.padded.lines)) or (not task.in_place and max(task.windows.kernel_size) > MANY):
        return held_by_extremes(task, inputs, outputs)
    held, kernel = held_by_sums(task, inputs, outputs), task.windows.kernel_size
    if task.in_place and max(kernel) >= LONG:
        most = max([o * k // max(d, 1) for o, k, d in zip(outputs, kernel, inputs, strict=True)])
        held += math.prod(read_by(task.windows, outputs)) + math.prod(inputs) * most // 2
    return held


def held_by_means(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """As sums tap after tap, or with the border, and two levels or a half of all taps."""
    held, ways = held_by_sums(task, inputs, outputs), {*map(sums_by, task.windows.lines)} - {"taps"}
    return held + (3 * math.prod(read_by(task.windows, outputs)) if task.in_place and ways else 0)


def held_by_maxima_adjoint(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """Numbers of one axis at work, and the number of each window's tap for all; of many taps two levels and places."""
    longest = max(task.windows.kernel_size)
    number = (1 if task.in_place and longest <= BYTE else 4) / task.element
    sizes = _sizes(inputs, outputs)
    stage = max([before + (4 + 2 * number) * after for before, after in itertools.pairwise(sizes)])
    if task.in_place and longest > MANY:
        levels = (3 + 4 * number) * math.prod(read_by(task.windows, outputs))
        stage = max(stage, sizes[0] + levels, sizes[0] + (2 + number + 4 * POSITION / task.element) * max(sizes[1:]))
    return math.ceil(stage + (sizes[0] if task.converts or not task.in_place else 0) + number * sum(sizes[1:]))


def held_by_positions(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """As the adjoint, and the positions of one axis at work."""
    pairs = itertools.pairwise(_sizes(inputs, outputs))
    positions = max([2 * before + 3 * after for before, after in pairs])
    return held_by_maxima_adjoint(task, inputs, outputs) + math.ceil(POSITION / task.element * positions)


def held_by_rows(task: PoolTask, inputs: Ints, outputs: Ints) -> int:
    """Numbers of a plane and of its rows, which stay in the cache."""
    return 2 * math.prod(inputs) + task.windows.taps * math.prod(outputs)


def _sizes(inputs: Ints, outputs: Ints) -> list[int]:
    """Elements of a plane before, between and after the passes over its axes, the last axis first."""
    return [math.prod((*inputs[:done], *outputs[done:])) for done in range(len(inputs), -1, -1)]


def read_by(windows: Geometry, outputs: Sequence[int]) -> list[int]:
    """Elements along each axis, those of the padding as well, that a box of outputs reads."""
    return [(o - 1) * axis.s + axis.r for o, axis in zip(outputs, windows.axes, strict=True)]


def power_of(length: int) -> int:
    """That of the largest power of two among lengths up to this one."""
    return length.bit_length() - 1


@remembering(1)
def doubles(line: Geometry) -> bool:
    """Whether extremes along an axis are found sooner by levels than tap after tap.

    A level has those of twice as many taps as the one before, at every element; any two of its runs that overlap make a
    longer one.
    """
    size, outputs = line.padded_size[0], line.output_size[0]
    passes = power_of(line.taps) + any(map(any, line.padding))  # over an input that is padded first
    return passes * size + outputs < (line.taps - 1) * outputs


@remembering(1)
def sums_by(line: Geometry) -> str:
    """How sums along an axis are found: tap after tap; by "halves" of many taps of windows apart; else by "levels".

    It does not depend on how many windows there are, since sums by another way are rounded otherwise.
    """
    ((_, k, s, a, _, _),) = [axis for axis in line.axes if axis.k > 1] or [line.axes[0]]
    if k <= MANY:
        return "taps"
    if s > a * (k - 1):
        return "halves"
    return "taps" if k <= FEW_STEPS and k <= s * (power_of(k) + k.bit_count()) else "levels"


def by_levels(line: Geometry, steps: float = math.inf) -> bool:
    """Whether extremes along an axis are found by levels: sooner than tap after tap, or as these are too many steps."""
    return line.taps > MANY and (doubles(line) or line.taps > steps)


def tiles(stage: Geometry) -> bool:
    """Whether windows of many taps lie side by side."""
    (axis, *others) = [axis for axis in stage.axes if axis.k > 1] or [stage.axes[0]]
    return not others and axis.k > MANY and axis.s == axis.k and axis.a == 1


def taps_of(line: Geometry, steps: float = math.inf) -> Runs:
    """The taps along an axis as one run, or as many of one tap, unless those would be too many steps."""
    is_run = doubles(line) or line.taps > steps
    return (((0,), line.taps),) if is_run else tuple([((tap,), 1) for tap in range(line.taps)])


@remembering(0)
def runs_of(footprint: tuple[bool, ...], kernel_size: Ints) -> Runs:
    """The taps that a footprint has, given row after row."""
    runs: list[tuple[Ints, int]] = []
    row = kernel_size[-1]
    for number, lead in enumerate(itertools.product(*map(range, kernel_size[:-1]))):
        tap = 0
        for has, group in itertools.groupby(footprint[number * row : (number + 1) * row]):
            length = len([*group])
            runs += [((*lead, tap), length)] if has else []
            tap += length
    return tuple(runs)
