"""Gradients by an input that has borders, in integers: all at once, or in pieces where that would hold too much.

The input with its borders is a frame, of which the gradient is a convolution's, and each element of a border gives its
own to the element that it repeats. A piece of a frame, with the windows that reach into it, is again such a gradient.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar

from .blocks import boxes
from .borders import Run, border_parts
from .choice import Room, TooLittleError
from .geometry import Axis, ConvGeometry, Geometry, Pairs, Slices
from .remembered import remembering
from .task import Task

Value = TypeVar("Value")
Span: TypeAlias = tuple[int, int]

HALF = 2  # of the workspace, that a frame may take; the product has what is left
SHARE = 6  # of it, for each of a piece of a frame, that piece added up, and sums that the result cannot hold


class Line(NamedTuple):
    """Along an axis: the windows that reach into some of the frame, and they over it; and which elements of the result
    get what, by runs that each begin somewhere.
    """

    outputs: slice
    windows: Axis
    target: slice
    runs: tuple[tuple[int, Run], ...]  # of elements of the target


class Piece(NamedTuple):
    """A piece of a frame, by its lines along each axis."""

    outputs: Slices
    windows: Geometry
    lines: tuple[Line, ...]


class Frame(NamedTuple):
    """The gradient by an input, of elements of so many bytes each, within a workspace: framed if it has borders."""

    geometry: ConvGeometry
    item: int
    room: int
    rounds: bool  # whether sums must not be added up where the result is
    compiled: bool  # into a program, which holds what its compiler likes
    is_framed: bool = True

    @property
    def whole(self) -> int:
        """The bytes of all of it."""
        geometry = self.geometry
        elements = geometry.samples * geometry.channels * math.prod(geometry.zero_padded.input_size)
        return self.item * elements * self.is_framed

    @property
    def is_whole(self) -> bool:
        return self.compiled or self.whole <= self.room // HALF

    @property
    def held(self) -> int:
        """The bytes that are held beside those of the product."""
        return self.whole if self.is_whole else self.room // HALF

    @property
    def room_beside(self) -> Room:
        return Room(max(self.room - self.held, self.room // HALF), self.room, self.whole)

    @property
    def box(self) -> tuple[int, ...]:
        """How many samples and elements along each axis of the result are added up at once."""
        sizes = self.geometry.samples, *self.geometry.windows.input_size
        return self._cut(sizes) if self.rounds else sizes

    @property
    def piece(self) -> tuple[int, ...]:
        """How many samples and elements along each axis of the frame."""
        return self._cut((self.box[0], *self.geometry.zero_padded.input_size))

    def _cut(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Samples are cut first: they share no windows."""
        found, most = [*sizes], self.room // SHARE // (self.item * self.geometry.channels)
        while math.prod(found) > max(most, 1):
            axis = 0 if found[0] > 1 else max(range(len(found)), key=found.__getitem__)
            found[axis] = -(-found[axis] // 2)
        return tuple(found)

    def boxes(self, samples: int) -> Iterator[Pairs]:
        """(start, stop) along the batch and each axis of the result."""
        sizes = samples, *self.geometry.windows.input_size
        cut = boxes(sizes, (self.box[0] if self.rounds else samples, *self.box[1:]))
        return (tuple(cut.ranges(number)) for number in range(cut.total))

    def pieces(self, box: Pairs) -> Iterator[Piece]:
        """Of the frame, those that give to a box of the result, which no sample is part of."""
        geometry = self.geometry
        lines = zip(geometry.zero_padded.lines, geometry.windows.axes, geometry.padding_modes, strict=True)
        axes = [
            _along(line, mode, (axis.d, axis.lo), span, most)
            for (line, axis, mode), span, most in zip(lines, box, self.piece[1:], strict=True)
        ]
        for found in itertools.product(*axes):
            yield Piece(tuple([line.outputs for line in found]), Geometry.of([line.windows for line in found]), found)

    def of_piece(self, task: Task) -> Task:
        """The task of the largest piece."""
        if self.is_whole:
            return task
        samples, *sizes = self.piece
        axes = zip(sizes, task.windows.axes, strict=True)
        over = [_over(axis, (0, min(size, axis.d)))[1] for size, axis in axes]
        return task._replace(windows=Geometry.of(over), batch=samples)

    @property
    def piece_count(self) -> int:
        """How many pieces take about as long as all."""
        sizes = self.geometry.samples, *self.geometry.zero_padded.input_size
        pairs = zip(sizes, self.piece, strict=True)
        return 1 if self.is_whole else math.prod([-(-size // max(piece, 1)) for size, piece in pairs])


def fitting(frame: Frame, make: Callable[[Frame], Value]) -> Value:
    """What is made for a frame; or an error of its room, by which it can be made: pieces grow with rooms."""
    try:
        return make(frame)
    except TooLittleError as error:
        least, method = error.least, error.method
    while True:
        try:
            make(frame._replace(room=least))
        except TooLittleError as error:
            least = error.least
        else:
            raise ValueError(str(TooLittleError(least, method, frame.room)))


def _over(axis: Axis, span: Span) -> tuple[slice, Axis]:
    """The windows that reach into some of an axis without padding, and they over that: it may begin behind."""
    (first, end), (_, k, s, a, _, _) = span, axis
    low, high = max(-((axis.r - 1 - first) // s), 0), min((end - 1) // s + 1, axis.o)
    begin, stop = low * s, (high - 1) * s + axis.r
    inner = max(first, begin), min(end, stop)
    return slice(low, high), Axis(inner[1] - inner[0], k, s, a, inner[0] - begin, stop - inner[1])


@remembering(0)
def _along(line: Geometry, mode: str, sizes: Span, span: Span, most: int) -> tuple[Line, ...]:
    """What gives to a span of an axis of ``sizes`` (d, lo): of the frame and of the result no more at once than so
    many elements.
    """
    (axis,), (d, lo) = line.axes, sizes
    found: list[list[tuple[int, Run]]] = []
    for place, run in sorted([(0, Run(0, d)), *border_parts(mode, d, (lo, max(axis.d - lo - d, 0)))]):
        before, some = run.within(*span)
        for start in range(0, some.length, most):
            part = lo + place + before + start, some.part(start, min(most, some.length - start))
            if found and found[-1][-1][0] + found[-1][-1][1].length == part[0] and _fits([*found[-1], part], most):
                found[-1].append(part)
            else:
                found.append([part])
    lines = (_line(axis, runs, span[0]) for runs in found)
    return tuple([line for line in lines if line is not None])


def _fits(runs: list[tuple[int, Run]], most: int) -> bool:
    """Whether neither what lies one behind the other nor what it gives to is longer."""
    (first, _), (last, run), low, high = runs[0], runs[-1], *_target([run for _, run in runs])
    return max(last + run.length - first, high - low) <= most


def _target(runs: list[Run]) -> Span:
    ends = [end for run in runs for end in (run.first, run.first + run.step * (run.length - 1))]
    return min(ends), max(ends) + 1


def _line(axis: Axis, runs: list[tuple[int, Run]], start: int) -> Line | None:
    """That of runs in an axis of the frame, as far as windows reach."""
    stop = min(runs[-1][0] + runs[-1][1].length, axis.d)
    outputs, windows = _over(axis, (runs[0][0], stop))
    if outputs.start >= outputs.stop or windows.d <= 0:
        return None
    begin = outputs.start * axis.s + windows.lo
    inside = []
    for place, run in runs:
        before, behind = max(begin - place, 0), max(place + run.length - begin - windows.d, 0)
        if before + behind < run.length:
            inside.append((place + before - begin, run.part(before, run.length - before - behind)))
    low, high = _target([run for _, run in inside])
    moved = [(place, run._replace(first=run.first - low)) for place, run in inside]
    return Line(outputs, windows, slice(low - start, high - start), tuple(moved))
