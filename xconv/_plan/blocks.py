"""Blocks: a convolution cut into smaller ones that fit a workspace, and run one after the other or on threads.

A block is some samples, some groups and a box of output positions; `Geometry.restrict` makes it a convolution of a part
of the input. How a convolution is cut depends on its sizes and on the workspace, never on the number of threads.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

from .geometry import Geometry, Ints, Pairs, Slices

MAX_WORKSPACE = 64 * 2**20  # bytes


class Block(NamedTuple):
    """A part of a convolution that is a convolution itself."""

    batch: slice
    groups: slice
    output: Slices
    input: Slices
    windows: Geometry
    colour: Ints

    def of_input(self, x: Any, channels: slice = slice(None)) -> Any:
        return x[(self.batch, self.groups, channels, *self.input)]

    def of_output(self, y: Any) -> Any:
        return y[self.output_index]

    @property
    def input_index(self) -> tuple[Any, ...]:
        return (self.batch, self.groups, slice(None), *self.input)

    @property
    def output_index(self) -> tuple[Any, ...]:
        return (self.batch, self.groups, slice(None), *self.output)


def unit_geometry(windows: Geometry, unit: Ints) -> Geometry:
    """The windows of one unit of outputs, in the middle of the input if there is one."""
    sizes = tuple(map(min, unit, windows.output_size))
    read = tuple((m - 1) * s + r for m, s, r in zip(sizes, windows.stride, windows.reach, strict=True))
    return Geometry(read, windows.kernel_size, windows.stride, windows.dilation, ((0, 0),) * windows.ndim)


def unit_counts(windows: Geometry, unit: Ints) -> list[int]:
    """How many units of outputs each axis has, the last of which may be a part of one."""
    return [-(-o // m) for o, m in zip(windows.output_size, unit, strict=True)]


@functools.lru_cache(maxsize=16)
def cut(batch: int, groups: int, windows: Geometry, unit: Ints, units: int) -> tuple[Block, ...]:
    """Cut a convolution into blocks of about ``units`` units of outputs, counted over samples and groups as well.

    Few results are remembered, for the operations of one layer: they may be long, and schedules keep what they use.
    Long runs of the last axis are worth most, then whole samples, then several of them. A block is a box of whole
    units.
    """
    counts = unit_counts(windows, unit)
    lengths = _lengths([*counts[::-1], batch, groups], units)
    box = tuple(length * m for length, m in zip(lengths[: windows.ndim][::-1], unit, strict=True))
    periods = _periods(windows, box)
    if box == tuple(map(max, box, windows.output_size)) and lengths[-2] >= batch and lengths[-1] == groups:
        return (_whole(batch, groups, windows),)
    boxes = itertools.product(*(_ranges(o, length) for o, length in zip(windows.output_size, box, strict=True)))
    parts = [_restricted(windows, ranges, box, periods) for ranges in boxes]
    alike: dict[Geometry, Geometry] = {}  # most blocks have equal windows, and these remember what they computed
    return tuple(
        Block(slice(*samples), slice(*some_groups), output, inputs, alike.setdefault(restricted, restricted), colour)
        for some_groups in _ranges(groups, lengths[-1])
        for samples in _ranges(batch, lengths[-2])
        for output, inputs, restricted, colour in parts
    )


def by_colour(blocks: tuple[Block, ...]) -> list[list[Block]]:
    """Blocks of one colour read parts of the input that do not overlap."""
    colours = sorted({block.colour for block in blocks})
    return [[block for block in blocks if block.colour == colour] for colour in colours]


def chains(blocks: tuple[Block, ...], count: int) -> list[tuple[Block, ...]]:
    """At most so many runs of neighbouring blocks."""
    length = max(-(-len(blocks) // count), 1)
    return [blocks[start : start + length] for start in range(0, len(blocks), length)]


def _whole(batch: int, groups: int, windows: Geometry) -> Block:
    """All in one: also what no window reads, behind the last one, which a restricted geometry leaves out."""
    output, inputs = (tuple(slice(0, size) for size in sizes) for sizes in (windows.output_size, windows.input_size))
    return Block(slice(0, batch), slice(0, groups), output, inputs, windows, (0,) * windows.ndim)


def _restricted(windows: Geometry, ranges: Pairs, box: Ints, periods: Ints) -> tuple[Slices, Slices, Geometry, Ints]:
    inputs, restricted = windows.restrict(ranges)
    colour = tuple(start // length % period for (start, _), length, period in zip(ranges, box, periods, strict=True))
    return tuple(slice(*pair) for pair in ranges), inputs, restricted, colour


def _lengths(sizes: list[int], budget: int) -> list[int]:
    """How far a block reaches along each axis, the first filled first, in pieces as equal as may be."""
    lengths = []
    for size in sizes:
        pieces = -(-size // max(1, min(size, budget)))
        lengths.append(-(-size // max(pieces, 1)) or 1)
        budget //= lengths[-1]
    return lengths


def _ranges(size: int, length: int) -> list[tuple[int, int]]:
    return [(start, min(start + length, size)) for start in range(0, max(size, 1), length)]


def _periods(windows: Geometry, box: Ints) -> Ints:
    """Every how many boxes along an axis two of them share no input."""
    return tuple(
        math.ceil(((length - 1) * s + r) / (length * s))
        for length, s, r in zip(box, windows.stride, windows.reach, strict=True)
    )
