"""Arrays in chunks: what each chunk of a result is computed from, in integers.

Along an axis, a chunk of a result reads parts of an operand. A part is runs of elements, one after the other: those
beyond the ends of an axis repeat others, as its border says. Each chunk is again a convolution, by `Geometry.restrict`,
and an adjoint reads those windows that reach into it, by `Geometry.reading`; where a border gives back to the elements
that it repeats, that is one more part. Nothing is as long as an axis.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from .borders import Run, border_parts, border_runs, runs_of
from .geometry import Geometry, Ints

Span: TypeAlias = tuple[int, int]


class Part(NamedTuple):
    """What is read at once along an axis, and how what comes of it lies in the chunk."""

    runs: tuple[Run, ...]
    place: Any = None


Parts: TypeAlias = tuple[Part, ...]


class Reads(NamedTuple):
    """What chunks read along an axis of an operand: it depends on where they are along some axes of the result.

    There is one entry for each of the places along these, row-major: one for all if there are none.
    """

    axes: Ints
    parts: tuple[Parts, ...]

    def of(self, place: Ints, counts: Ints) -> int:
        """Which entry is that of a chunk, of so many along each axis of the result."""
        found = 0
        for axis in self.axes:
            found = found * counts[axis] + place[axis]
        return found


class Window(NamedTuple):
    """A convolution of a part of an axis, which begins at an element of it."""

    size: int
    padding: Span
    start: int = 0


class Adjoint(NamedTuple):
    """The same, and of its input the elements that are added to the chunk, forwards, backwards or all to one, at its
    elements ``target``.
    """

    window: Window
    kept: slice
    target: slice
    step: int = 1


def edges_of(lengths: Iterable[int]) -> Ints:
    """Where chunks begin, and where the last one ends."""
    return tuple(sorted({0, *itertools.accumulate(lengths)}))


def lengths_of(edges: Ints) -> Ints:
    """The chunks between edges; one of nothing where there is nothing."""
    return tuple([stop - start for start, stop in spans(edges)])


def spans(edges: Ints) -> list[Span]:
    """(start, stop) of each chunk."""
    return [*itertools.pairwise(edges)] or [(0, 0)]


def scaled(edges: Ints, numerator: int, denominator: int, size: int) -> Ints:
    """Edges for another axis, of this size: ceil(edge * numerator / denominator)."""
    inner = {-(-edge * numerator // denominator) for edge in edges}
    return tuple(sorted({0, size, *(edge for edge in inner if 0 < edge < size)}))


def _of_spans(parts_of: Callable[..., Iterable[Part]]) -> Callable[..., Reads]:
    """What each chunk of an axis of the result reads, which is cut at edges, by what a span of it does."""

    @functools.wraps(parts_of)
    def reads(*arguments: Any) -> Reads:
        *what, axis, edges = arguments
        return Reads((axis,), tuple([tuple(parts_of(*what, *span)) for span in spans(edges)]))

    return reads


@_of_spans
def pointwise(start: int, stop: int) -> Iterable[Part]:
    """Of an operand that lies beside the result."""
    yield _whole(start, stop)


def everything(size: int) -> Reads:
    """All of an axis, for all chunks."""
    return Reads((), ((_whole(0, size),),))


def together(axis: int, size: int, count: int) -> Reads:
    """So many elements that lie beside each other for each one of the result."""
    groups = [(first, min(first + count, size)) for first in range(0, size, count)]
    return Reads((axis,), tuple([(_whole(*group),) for group in groups]))


@_of_spans
def everywhere(size: int, start: int, stop: int) -> Iterable[Part]:
    """All of an axis, of which a chunk is made somewhere."""
    yield Part(runs_of(0, size), slice(start, stop))


@_of_spans
def windows_of(line: Geometry, mode: str, start: int, stop: int) -> Iterable[Part]:
    """The input of windows along one axis, for outputs that are cut at edges.

    What is beyond the ends is padding that remains if it is zeros, and runs of the elements that it repeats if not.
    """
    (inputs,), windows = line.restrict([(start, stop)])
    if mode == "zeros":
        window = Window(windows.input_size[0], windows.padding[0], inputs.start)
        yield Part(runs_of(inputs.start, inputs.stop), window)
    else:
        first, count = start * line.stride[0] - line.padding[0][0], windows.padded_size[0]
        yield Part(border_runs(mode, line.input_size[0], first, first + count), Window(count, (0, 0)))


@_of_spans
def adjoint_of(line: Geometry, mode: str, start: int, stop: int) -> Iterable[Part]:
    """The outputs that reach into an input that is cut at edges, and how each part of them is an adjoint of its own."""
    yield from _adjoint(line, mode, (start, stop), slice(0, stop - start), 1)
    for place, run in border_parts(mode, line.input_size[0], line.padding[0]):
        before, some = run.within(start, stop)
        if some.length:
            box = place + before, place + before + some.length
            lowest = min(some.first, some.first + some.step * (some.length - 1)) - start
            target = slice(lowest, lowest + (some.length if some.step else 1))
            yield from _adjoint(line, mode, box, target, some.step)


@_of_spans
def restricted_of(line: Geometry, start: int, stop: int) -> Iterable[Part]:
    """The input that those outputs read, of windows padded with zeros: what a gradient of maxima looks at again."""
    ((m0, m1),) = line.reading([(start, stop)])
    inputs = line.restrict([(m0, m1)])[0][0] if m0 < m1 else slice(0, 0)
    yield Part(runs_of(inputs.start, inputs.stop))


@_of_spans
def neighbours_of(d: int, before: int, behind: int, mode: str, start: int, stop: int) -> Iterable[Part]:
    """Each element with so many before and behind it; the place is where the chunk begins in what is read.

    A border of a number is left to what filters; any other is read, but where it is wider than the axis, of which all
    is read then.
    """
    first, end = start - before, stop + behind
    if max(before, behind) >= d > 0:
        first, end = 0, d
    elif mode == "zeros" or start == stop:
        first, end = max(first, 0), min(end, d)
    yield Part(border_runs(mode, d, first, end), slice(start - first, stop - first))


@_of_spans
def overlaps_of(sizes: Span, first: int, mode: str, turns: bool, start: int, stop: int) -> Iterable[Part]:
    """What a full convolution along an axis reads of its first array, of ``sizes`` (d, k), for a part of its outputs
    that begins at the ``first`` of them and is cut at edges. A chunk is a full convolution of what it reads.

    If it is the second array that is read so, and ``turns``, it is one of a correlation: read from its end.
    """
    d, k = sizes
    begin, end = first + start - k + 1, first + stop
    if turns:
        begin, end = d - end, d - begin
    if mode == "zeros":
        begin, end = max(begin, 0), min(end, d)
    skipped = first + start - (d - end if turns else begin)
    yield Part(border_runs(mode, d, begin, end), slice(skipped, skipped + stop - start))


class Resampled(NamedTuple):
    """Which outputs of the resampling of what is read are a chunk, and how the signal goes on at its ends."""

    kept: slice
    mode: str


@_of_spans
def resampled_of(size: int, taps: int, rates: Span, words: tuple[str, str], start: int, stop: int) -> Iterable[Part]:
    """What a signal's outputs by ``rates`` (up, down) read of it: y[m] = sum over k of h[m*down - k*up] * x[k].

    Of ``words`` the first is how the signal goes on: by a number, which the resampling adds itself, as a border, which
    is the second then, or in another way, for which a chunk that needs it reads all of the signal.
    """
    (up, down), (word, border) = rates, words
    period = down // math.gcd(up, down)  # of elements whose first tap some output has
    begin = min(-((taps - 1 - start * down) // up), start * down // up) // period * period
    end = (stop - 1) * down // up + 1
    reaches = begin < 0 or end > size
    if word != "constant" and border == "" and reaches:
        begin, end = 0, size
    elif border in ("", "zeros"):
        begin, end = max(begin, 0), min(end, size)
    skipped = start - begin * up // down
    inner = word if border in ("", "zeros") and reaches else "constant"
    runs = border_runs(border or "zeros", size, begin, end)
    yield Part(runs, Resampled(slice(skipped, skipped + stop - start), inner))


def group_edges(edges: Ints, group: int, other: int, groups: int) -> Ints:
    """Where an axis of the other channels may be cut if one of channels is: between groups, if there are several.

    ``group`` and ``other`` are how many channels a group has of both.
    """
    if groups == 1:
        return (0, other)
    return tuple([edge // group * other for edge in edges if edge % group == 0])


def rows_of(reads: Reads, axis: int, edges: Ints, windows: int, width: int) -> Reads:
    """Rows of a matrix of windows, which are the samples' along an axis of the result, then windows along the first
    axis, each of which is so many rows: what chunks read of it that read these windows.
    """
    found = []
    for start, stop in spans(edges):
        for parts in reads.parts:
            rows = [
                tuple(
                    [
                        Run((sample * windows + run.first) * width, run.length * width)
                        for sample in range(start, stop)
                        for run in part.runs
                    ]
                )
                for part in parts
            ]
            found.append(tuple([Part(runs, part.place) for runs, part in zip(rows, parts, strict=True)]))
    return Reads((axis, *reads.axes), tuple(found))


def row_chunks(samples: Ints, along: Ints, windows: int, width: int) -> tuple[Ints, list[tuple[Span, int]]]:
    """Chunks of such a matrix whose samples and windows are cut at edges: where rows are cut, and of each chunk which
    samples and which of the chunks of windows. Several samples are one chunk only if their windows are.
    """
    if samples == (0,):
        return samples, [((0, 0), 0)]
    if len(along) > 2:
        samples = tuple(range(samples[-1] + 1))
    chunks = [(span, number) for span in spans(samples) for number in range(len(along) - 1)]
    rows = {(start * windows + along[number]) * width for (start, _), number in chunks}
    return tuple(sorted({*rows, samples[-1] * windows * width})), chunks


def channels_of(axis: int, edges: Ints, group: int, other: int) -> Reads:
    """The channels beside those of the result that are cut at edges between groups, of so many each."""
    return pointwise(axis, tuple([edge // group * other for edge in edges]))


def _adjoint(line: Geometry, mode: str, box: Span, target: slice, step: int) -> list[Part]:
    """The part of an adjoint that lies in a box of the input and its borders, if any window reaches there."""
    ((m0, m1),) = line.reading([box])
    if m0 >= m1:
        return []
    (inputs,), windows = line.restrict([(m0, m1)])
    first, window = inputs.start, Window(windows.input_size[0], windows.padding[0], inputs.start)
    if mode != "zeros":
        first, window = m0 * line.stride[0] - line.padding[0][0], Window(windows.padded_size[0], (0, 0))
    start, stop = max(box[0], first), min(box[1], first + window.size)
    if start >= stop:
        return []
    low, high = start - box[0], box[1] - stop  # of the box, which no window reads
    if step < 0:
        low, high = high, low
    if step:
        target = slice(target.start + low, target.stop - high)
    return [Part(runs_of(m0, m1), Adjoint(window, slice(start - first, stop - first), target, step))]


def _whole(start: int, stop: int) -> Part:
    return Part(runs_of(start, stop), Window(stop - start, (0, 0)))
