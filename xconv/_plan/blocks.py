"""Blocks: a convolution cut into smaller ones that fit a workspace, and run one after the other or on threads.

A part of a convolution is some of its channels and a box of its taps: parts add up in y, and are disjoint in dw. A
block of a part is some samples, some groups and a box of outputs: blocks are disjoint in y, and add up in dw. Both are
convolutions themselves, by `Geometry.restrict`. They are made when they are asked for, since there may be many.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .geometry import Geometry, Ints, Slices
from .remembered import remembered

FEW = 64  # blocks that are kept, each of which is a kilobyte


class Part(NamedTuple):
    """Some channels and a box of taps, which read a part of the input."""

    channels: slice
    taps: Slices
    input: Slices
    windows: Geometry

    @property
    def weight_index(self) -> tuple[Any, ...]:
        """Where (G, K, C, *k) has the part."""
        return (slice(None), slice(None), self.channels, *self.taps)


class Block(NamedTuple):
    """Some samples, some groups and a box of outputs of a part; ``input`` are those of the whole convolution."""

    batch: slice
    groups: slice
    output: Slices
    input: Slices
    windows: Geometry

    @property
    def output_index(self) -> tuple[Any, ...]:
        return (self.batch, self.groups, slice(None), *self.output)

    def input_index(self, channels: slice) -> tuple[Any, ...]:
        return (self.batch, self.groups, channels, *self.input)


class Boxes(NamedTuple):
    """Boxes side by side, the last of which may be smaller, or every so many of them along an axis."""

    sizes: Ints
    box: Ints  # the length along each axis
    steps: tuple[range, ...]  # which of the boxes along each axis

    @property
    def total(self) -> int:
        """How many there are."""
        return math.prod([*map(len, self.steps)])

    @property
    def is_whole(self) -> bool:
        """Whether one box is all."""
        return self.total == 1 and self.box == tuple(map(max, self.box, self.sizes))

    def ranges(self, number: int) -> list[tuple[int, int]]:
        """(start, stop) along each axis of a box: they are counted row-major, and made when they are asked for."""
        found = []
        for steps, length, size in zip(self.steps[::-1], self.box[::-1], self.sizes[::-1], strict=True):
            number, at = divmod(number, len(steps))
            found.append((steps[at] * length, min((steps[at] + 1) * length, size)))
        return found[::-1]


def boxes(sizes: Ints, box: Ints) -> Boxes:
    """All boxes of a length along each axis; one of nothing where there is nothing."""
    steps = tuple(range(max(-(-size // max(length, 1)), 1)) for size, length in zip(sizes, box, strict=True))
    return Boxes(sizes, box, steps)


class Grid:
    """The blocks of a part, or some of them: boxes of groups, samples and outputs along each axis."""

    def __init__(self, part: Part, boxes: Boxes) -> None:
        self.part = part
        self.boxes = boxes

    def __len__(self) -> int:
        return self.boxes.total

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    @remembered
    def only(self) -> Block | None:
        """The block, if there is one."""
        return self[0] if len(self) == 1 else None

    def __getitem__(self, number: int) -> Block:
        return self._few[number] if len(self) <= FEW else self._block(number)

    @remembered
    def _few(self) -> list[Block]:
        """Those that are kept: making them takes as long as a small convolution."""
        return [self._block(number) for number in range(len(self))]

    def _block(self, number: int) -> Block:
        groups, samples, *output = self.boxes.ranges(number)
        inputs, windows = self.part.input, self.part.windows
        if not self.boxes.is_whole:  # which has what no window reads, behind the last one, too
            inputs, windows = windows.restrict(output)
            inputs = _within(self.part.input, inputs)
        return Block(of_any(samples, self.boxes.sizes[1]), slice(*groups), slices_of(output), inputs, windows)

    @property
    def colours(self) -> Iterable[Grid]:
        """Grids whose blocks read parts of the input that do not overlap."""
        return self._few_colours if len(self) <= FEW else self._coloured()

    @remembered
    def _few_colours(self) -> list[Grid]:
        return [*self._coloured()]

    def _coloured(self) -> Iterator[Grid]:
        steps, axes = self.boxes.steps, []
        for along, length, axis in zip(steps[2:], self.boxes.box[2:], self.part.windows.axes, strict=True):
            period = -(-((length - 1) * axis.s + axis.r) // (length * axis.s))
            axes.append([along[colour::period] for colour in range(min(period, len(along)))])
        return (self._along((*steps[:2], *some)) for some in itertools.product(*axes))

    def by_groups(self) -> list[Grid]:
        """A grid for each step along groups."""
        groups, *others = self.boxes.steps
        return [self] if len(groups) == 1 else [self._along((groups[at : at + 1], *others)) for at in groups]

    def _along(self, steps: tuple[range, ...]) -> Grid:
        return Grid(self.part, self.boxes._replace(steps=steps))


def grid(part: Part, batch: int, groups: int, box: Ints) -> Grid:
    """The blocks of a part, of so many groups, samples and outputs along each axis."""
    return Grid(part, boxes((groups, batch, *part.windows.output_size), box))


def parts(windows: Geometry, channels: int, width: int, box: Ints) -> Iterator[Part]:
    """The parts of ``width`` channels and a box of taps; those whose taps lie in the padding only are left out."""
    everywhere = [(0, o) for o in windows.output_size]
    for taps in itertools.product(*map(ranges, windows.kernel_size, box)):
        if box == windows.kernel_size:  # all that no window reads, too
            inputs, restricted = tuple(slice(0, d) for d in windows.input_size), windows
        else:
            inputs, restricted = windows.restrict(everywhere, taps)
        if 0 not in restricted.input_size:
            for some in ranges(channels, width):
                yield Part(slice(*some), slices_of(taps), inputs, restricted)


def whole_part(windows: Geometry, channels: int) -> Part:
    """The part of all channels and taps, also of windows that lie in the padding only."""
    taps, inputs = (tuple(slice(0, size) for size in sizes) for sizes in (windows.kernel_size, windows.input_size))
    return Part(slice(0, channels), taps, inputs, windows)


def of_any(samples: tuple[int, int], planned: int) -> slice:
    """(start, stop) as a slice; if that is all that was planned for, of any number, as a batch that is a symbol has."""
    return slice(None) if samples == (0, planned) else slice(*samples)


def equal(size: int, most: int) -> int:
    """The length of equal pieces of at most that."""
    return -(-size // -(-size // most))


def ranges(size: int, length: int) -> list[tuple[int, int]]:
    """(start, stop) of pieces of a length, the last of which may be shorter."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def pieces(size: int, length: int) -> list[slice]:
    """The same as slices."""
    return [slice(*pair) for pair in ranges(size, length)]


def evenly(size: int, count: int) -> list[slice]:
    """So many pieces as slices, whose lengths differ by one at most."""
    return [slice(size * at // count, size * (at + 1) // count) for at in range(count)]


@functools.lru_cache(maxsize=1024)
def block_geometry(windows: Geometry, box: Ints) -> Geometry:
    """The windows of a box of outputs at a border, if there is padding: no other box of the size takes more room.

    It is the same object for as many channels and filters as are tried, whose sizes are known then.
    """
    axes = []
    for m, d, o, s, r, (lo, hi) in zip(
        box, windows.input_size, windows.output_size, windows.stride, windows.reach, windows.padding, strict=True
    ):
        read = (m - 1) * s + r
        if m >= o:
            axes.append((d, (lo, hi)))
        else:
            axes.append((read - min(lo or hi, read), (min(lo, read), 0 if lo else min(hi, read))))
    sizes, padding = zip(*axes, strict=True)
    return windows.over(sizes, padding)


def unit_counts(windows: Geometry, unit: Ints) -> list[int]:
    """How many units of outputs each axis has, the last of which may be a part of one."""
    return [-(-o // m) for o, m in zip(windows.output_size, unit, strict=True)]


def lengths(sizes: list[int], budget: int) -> list[int]:
    """How far a block of a budget of units reaches along each axis, the first filled first, in equal pieces."""
    found = []
    for size in sizes:
        found.append(equal(size, max(1, min(size, budget))) if size else 1)
        budget //= found[-1]
    return found


def slices_of(pairs: Iterable[tuple[int, int]]) -> Slices:
    return tuple(slice(*pair) for pair in pairs)


def _within(outer: Slices, inner: Slices) -> Slices:
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))
