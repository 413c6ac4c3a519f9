"""Maxima of windows, and their adjoint, of one block: (..., *d) to (..., *o) and back.

They are taken along one axis after the other: sum(k) passes instead of prod(k), and of many taps log2(k), by levels
of 2**i taps. Plain memory is written in place, and taps that lie in the padding are left out; elsewhere windows are
padded, and all can be differentiated.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._plan.geometry import Geometry
from .._plan.pooling import BYTE, LONG, MANY, MANY_STEPS, Runs, by_levels, doubles, power_of, taps_of, tiles
from .along import (
    all_taps,
    by_halves,
    from_tiles,
    line_of,
    lines_of,
    over_runs,
    padded_along,
    shares_added,
    tap_places,
    tap_view,
    tiled,
    values_where,
)
from .elements import flipped, from_ordered, full, lowest, ordered, resized, zeros
from .kernels import extreme, taken
from .kernels import winners as found_winners
from .libraries import Array, DType, Namespace, device, is_kind, traits
from .windows import added, at_axis, pad, tap_views

BEGUN = 8  # windows for each tap, of fewer of which a step over all takes longer to begin than it takes (NumPy)


def extremes(xp: Namespace, x: Array, windows: Geometry, largest: bool = True, runs: Runs = ()) -> Array:
    """The largest, or the smallest, element of each window, or of runs of its taps; NaN if one is.

    Padding, which only windows of largest ones without holes may have, counts as what no element is below.
    """
    if traits(xp).plain_memory:
        operation, y = (xp.maximum if largest else xp.minimum), x
        if runs:
            y = over_runs(operation, x, x.ndim - windows.ndim, windows, runs)
        for axis, line in () if runs else lines_of(x, windows):
            if traits(xp).kernels:
                y = extreme(xp, y, axis, line, largest, lowest(xp, x.dtype, not largest))
            elif doubles(line):
                y = padded_along(xp, y, axis, line, lowest(xp, x.dtype))
                y = over_runs(operation, y, axis, line, taps_of(line))
            elif line.taps >= LONG or _are_few(math.prod(resized(y, axis, line.output_size[0])), line.taps):
                y = by_halves(operation, all_taps(xp, y, axis, line, lowest(xp, x.dtype)), axis + 1)
            else:
                y = _reduced(xp, operation, y, axis, line, lowest(xp, x.dtype))
        return xp.array(y) if y is x or y.base is not None else y

    def first_of(old: Array, new: Array) -> Array:
        return xp.where(_beats(xp, new, old, largest), new, old)

    y, least = ordered(xp, x)
    y = pad(xp, y, windows.padding, value=least)
    lines = [(x.ndim - windows.ndim, windows)] if runs else lines_of(x, windows.padded)[::-1]
    for axis, line in lines:
        if largest and not runs and tiles(line) and not traits(xp).traced:  # XLA's places take longer than levels
            y = _Tiles.of(xp, y, axis, line, least)[1]
        else:
            y = over_runs(first_of, y, axis, line, runs or taps_of(line, steps=_steps(xp)))
    y = from_ordered(xp, y, x.dtype)
    return xp.astype(y, y.dtype) if windows.taps == 1 else y  # which may be a view of x still


def maxima_adjoint(xp: Namespace, x: Array, dy: Array, windows: Geometry, dtype: DType) -> Array:
    """Of each window the first largest element, or the last NaN, takes what dy has for it; sums in this dtype."""
    dy = xp.astype(dy, dtype, copy=not windows.by_row)
    for stage, winner in reversed(_winners(xp, x, windows)):
        if traits(xp).kernels:
            dy = taken(xp, dy, winner, *line_of(dy, stage))
        elif isinstance(winner, (_Levels, _Tiles)):
            dy = winner.adjoint(xp, dy)
        elif traits(xp).plain_memory and stage.taps > MANY:
            dy = _added_at(xp, dy, winner, *line_of(dy, stage))
        else:
            dy = shares_added(xp, dy, (values_where(xp, winner == tap, dy) for tap in range(stage.taps)), stage)
    return dy


def maxima_positions(
    xp: Namespace, x: Array, windows: Geometry, places: Sequence[tuple[range, int]], dtype: DType
) -> Array:
    """Of each window the position of the element that `maxima_adjoint` gives its share; -1 if all is padding.

    Positions add up over the axes of x: each has a range of them, and how many elements lie between two.
    """
    first, where = x.ndim - windows.ndim, device(x)
    ends = [step * (place.start + d) for (place, step), d in zip(places, windows.padded_size, strict=True)]
    short = xp.int32 if sum(ends) <= xp.iinfo(xp.int32).max else dtype

    def along(axis: int, line: Array) -> Array:
        return xp.reshape(line, tuple([-1 if axis == at else 1 for at in range(x.ndim)]))

    def numbers(axis: int, some: range) -> Array:
        return along(axis, xp.arange(some.start, some.stop, some.step, dtype=short, device=where))

    found, rest = xp.zeros((1,) * x.ndim, dtype=short, device=where), {*range(first, x.ndim)}
    for stage, winner in _winners(xp, x, windows):
        axis, line = line_of(x, stage)
        (place, step), ((_, _, s, a, lo, _),), o = places[axis - first], line.axes, line.output_size[0]
        rest.remove(axis)
        if isinstance(winner, (_Levels, _Tiles)):
            found = winner.picked(xp, found + numbers(axis, place) * step, -1)
            continue
        element = numbers(axis, range(-lo, s * o - lo, s)) + a * xp.astype(winner, short)
        found = _picked(xp, found, axis, line, winner, element) + (element + place.start) * step
    for axis in rest:
        place, step = places[axis - first]
        found = found + numbers(axis, place) * step
    found = xp.broadcast_to(found, (*x.shape[:first], *windows.output_size))
    for axis, counts in enumerate(windows.taps_inside(((0, 0),) * windows.ndim), start=first):
        if 0 in counts:
            is_real = xp.asarray([count > 0 for count in counts], device=where)
            found = xp.where(along(axis, is_real), found, full(xp, found, (), -1))
    return xp.astype(found, dtype)


def _picked(xp: Namespace, x: Array, axis: int, line: Geometry, winner: Array, element: Array) -> Array:
    """What windows along an axis have of another array where their largest elements lie: by taps, or these elements."""
    if x.shape[axis] == 1:
        return x
    if line.taps > MANY:
        inside = xp.clip(element, 0, line.input_size[0] - 1)
        return xp.take_along_axis(x, xp.astype(inside, xp.int64), axis=axis)
    padded = padded_along(xp, x, axis, line, 0)
    shares = (values_where(xp, winner == tap, tap_view(padded, axis, line, (tap,))) for tap in range(line.taps))
    return functools.reduce(operator.ior if traits(xp).plain_memory else operator.or_, shares)


def _reduced(
    xp: Namespace, operation: Callable[..., Array], x: Array, axis: int, line: Geometry, neutral: complex
) -> Array:
    """An operation over all elements of each window along an axis, tap after tap, in plain memory of our own."""
    whole, edges = _sorted_taps(line, axis)
    y = xp.empty(resized(x, axis, line.output_size[0]), dtype=x.dtype)
    if len(whole) > 1:
        operation(x[whole[0]], x[whole[1]], out=y)
    else:
        y[...] = x[whole[0]] if whole else neutral
    for elements in whole[2:]:
        operation(y, x[elements], out=y)
    for inside, elements in edges:
        operation(y[inside], x[elements], out=y[inside])
    return y


def _sorted_taps(line: Geometry, axis: int) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The elements of those taps which no window has in the padding, and windows and elements of the others."""
    everywhere = (*(slice(None),) * axis, slice(0, line.output_size[0]))
    taps = tap_places(line, axis)
    whole = [elements for _, inside, elements in taps if inside == everywhere]
    return whole, [(inside, elements) for _, inside, elements in taps if inside != everywhere]


def _are_few(windows: int, taps: int) -> bool:
    """Whether a step over all windows takes longer to begin than it takes."""
    return taps > MANY and windows < BEGUN * taps


def _added_at(xp: Namespace, dy: Array, winner: Array, axis: int, line: Geometry) -> Array:
    """The same in plain memory, of windows along an axis of which one tap takes all: in the order of the taps."""
    ((d, _, s, a, lo, _),), outputs = line.axes, dy.shape[axis]
    lead, inner = math.prod(dy.shape[:axis]), math.prod(dy.shape[axis + 1 :])
    shape = lead, outputs, inner
    places = winner.reshape(shape).astype(xp.int64) * a  # along the axis, from where its window begins
    places += xp.arange(outputs)[:, None] * s - lo
    places += xp.arange(lead)[:, None, None] * d
    places *= inner
    places += xp.arange(inner)
    dx = xp.zeros(resized(dy, axis, d), dtype=dy.dtype)
    is_real = winner.reshape(shape) < line.taps
    taken = slice(None) if is_real.all() else is_real
    # The first taps of an element are those of the last windows that read it.
    xp.add.at(dx.reshape(-1), places[taken].reshape(-1)[::-1], dy.reshape(shape)[taken].reshape(-1)[::-1])
    return dx


def _winners(xp: Namespace, x: Array, windows: Geometry) -> list[tuple[Geometry, Any]]:
    """The windows in stages, and of each window the tap of its first largest element, which padding never is; none
    of the taps if there is none.
    """
    if traits(xp).plain_memory:
        return _plain_winners(xp, x, windows)
    stages, (x, least) = windows.by_row, ordered(xp, x)
    alike = (1,) * (x.ndim - windows.ndim)
    inside = xp.ones((*alike, *windows.input_size), dtype=xp.bool, device=device(x))
    winners = []
    for stage in stages:
        if tiles(stage) or by_levels(stage, _steps(xp)):
            found = _Tiles if tiles(stage) else _Levels
            winner, x = found.of(xp, x, *line_of(x, stage), least)
            winners.append(winner)
            inside = xp.ones((*alike, *stage.output_size), dtype=xp.bool, device=device(x))
            continue
        views = tap_views(pad(xp, x, stage.padding, value=least), stage.padded)
        reals = tap_views(pad(xp, inside, stage.padding, value=False), stage.padded)
        x, inside = full(xp, x, views[0].shape, least), xp.zeros_like(reals[0])
        winner = xp.full(x.shape, -1, dtype=xp.int32, device=device(x))
        for tap, (view, real) in enumerate(zip(views, reals, strict=True)):
            better = real & (_beats(xp, view, x) | ~inside)
            x = xp.where(better, view, x)
            winner = xp.where(better, full(xp, winner, (), tap), winner)
            inside = inside | real
        winners.append(winner)
    return [*zip(stages, winners, strict=True)]


def _plain_winners(xp: Namespace, x: Array, windows: Geometry) -> list[tuple[Geometry, Array]]:
    """`_winners` in plain memory: the maxima once more, with the number of the tap that each is of."""
    stages, winners = windows.by_row, []
    for axis, line in lines_of(x, windows)[::-1]:
        number = xp.uint8 if line.taps <= BYTE else xp.int32
        if traits(xp).kernels:
            x, winner = found_winners(xp, x, axis, line, lowest(xp, x.dtype), xp.dtype(number))
        else:
            found = _winners_by_taps if line.taps <= MANY else _winners_by_levels if doubles(line) else _winners_of_all
            x, winner = found(xp, x, axis, line, number)
        winners.append(winner)
    return [*zip(stages, winners, strict=True)]


def _winners_by_taps(xp: Namespace, x: Array, axis: int, line: Geometry, number: DType) -> tuple[Array, Array]:
    """The maxima along an axis and the tap of each, tap after tap."""
    shape, may_be_nan = resized(x, axis, line.output_size[0]), not is_kind(xp, x.dtype, "integral")
    best = xp.full(shape, lowest(xp, x.dtype), dtype=x.dtype)
    winner = xp.full(shape, line.taps, dtype=number)
    taps = tap_places(line, axis)
    for tap, inside, _ in reversed(taps):  # the first that is no padding, should none be larger
        winner[inside] = tap
    for tap, inside, elements in taps:
        new, old, taken = xp.ascontiguousarray(x[elements]), best[inside], winner[inside]
        better = new > old
        if may_be_nan:
            better |= new != new
        xp.maximum(old, new, out=old)
        xp.maximum(taken, better.astype(number) * tap, out=taken)
    return best, winner


def _winners_by_levels(xp: Namespace, x: Array, axis: int, line: Geometry, number: DType) -> tuple[Array, Array]:
    """The maxima along an axis and the tap of each, by levels of 2**i taps: of two runs the later if that is larger."""
    may_be_nan = not is_kind(xp, x.dtype, "integral")
    best = padded_along(xp, x, axis, line, lowest(xp, x.dtype))
    winner = xp.zeros(best.shape, dtype=number)
    for places in _halves(line):
        (best, winner), *later = [[one[at_axis(axis, place)] for one in (best, winner)] for place in places]
        for new, tap in later:
            better = new > best
            if may_be_nan:
                better |= new != new
            shift = places[1].start // line.dilation[0]
            best, winner = xp.maximum(best, new), xp.where(better, tap + number(shift), winner)
    return best, _no_padding(xp, winner, axis, line)


def _winners_of_all(xp: Namespace, x: Array, axis: int, line: Geometry, number: DType) -> tuple[Array, Array]:
    """The same of few windows, whose taps are looked at where they lie."""
    taps = xp.moveaxis(all_taps(xp, x, axis, line, lowest(xp, x.dtype)), axis + 1, -1)
    winner = xp.argmax(taps, axis=-1)
    best = xp.take_along_axis(taps, winner[..., None], axis=-1)[..., 0]
    if not is_kind(xp, x.dtype, "integral") and xp.any(best != best):  # of which it is the first
        last = line.taps - 1 - xp.argmax((taps != taps)[..., ::-1], axis=-1)
        winner = xp.where(best != best, last, winner)
    return best, _no_padding(xp, winner.astype(number), axis, line)


def _no_padding(xp: Namespace, winner: Array, axis: int, line: Geometry) -> Array:
    """Of windows that are nothing but the least, the first tap that is no padding, and none of the taps if all are."""
    ((d, k, s, a, lo, hi),) = line.axes
    if not (lo or hi):
        return winner
    starts = xp.arange(line.output_size[0]) * s - lo
    inside, last = xp.maximum(-(starts // a), 0), xp.minimum((d - 1 - starts) // a, k - 1)
    first = xp.where(inside > last, k, inside).astype(winner.dtype)
    return xp.maximum(winner, first.reshape((-1, *(1,) * (winner.ndim - axis - 1))))


def _beats(xp: Namespace, new: Array, old: Array, largest: bool = True) -> Array:
    """Where a later element of the window takes over: when larger, or smaller, never when equal, always when NaN."""
    beyond = new > old if largest else new < old
    return beyond if is_kind(xp, new.dtype, "integral") else beyond | (new != new)


def _steps(xp: Namespace) -> int:
    """How many operations one after another are too many: a program's are compiled."""
    return MANY if traits(xp).traced else MANY_STEPS


class _Tiles(NamedTuple):
    """Of windows side by side along an axis, whether a tap is the first largest element: as `_Levels`."""

    axis: int
    line: Geometry
    chosen: Array

    @classmethod
    def of(cls, xp: Namespace, x: Array, axis: int, line: Geometry, least: complex) -> tuple[_Tiles, Array]:
        taps, k, last = tiled(xp, x, axis, line, least), line.taps, axis + 1
        best_tap = xp.argmax(taps, axis=last)
        if not is_kind(xp, x.dtype, "integral"):
            is_nan = taps != taps
            last_nan = k - 1 - xp.argmax(xp.astype(flipped(xp, is_nan, last), xp.int32), axis=last)
            best_tap = xp.where(xp.any(is_nan, axis=last), last_nan, best_tap)
        (lo, _), shape = line.padding[0], (-1, *(1,) * (x.ndim - axis - 1))
        if lo:  # of windows that are nothing but the least
            first = [min(max(lo - at * k, 0), k - 1) for at in range(line.output_size[0])]
            least_tap = xp.asarray(first, dtype=best_tap.dtype, device=device(x))
            best_tap = xp.maximum(best_tap, xp.reshape(least_tap, shape))
        numbers = xp.reshape(xp.arange(k, dtype=best_tap.dtype, device=device(x)), shape)
        best_tap = xp.expand_dims(best_tap, axis=last)
        # Not the maximum, whose gradient goes to all that are as large.
        best = xp.squeeze(xp.take_along_axis(taps, best_tap, axis=last), axis=last)
        return cls(axis, line, numbers == best_tap), best

    def picked(self, xp: Namespace, x: Array, beyond: int) -> Array:
        taps = tiled(xp, x, self.axis, self.line, beyond)
        return xp.sum(values_where(xp, self.chosen, taps), axis=self.axis + 1, dtype=x.dtype)

    def adjoint(self, xp: Namespace, dy: Array) -> Array:
        taps = values_where(xp, self.chosen, xp.expand_dims(dy, axis=self.axis + 1))
        return from_tiles(xp, taps, self.axis, self.line)


class _Levels(NamedTuple):
    """Of windows along an axis which of two halves has the first largest element: of runs of two taps, of four and so
    on, and at last of the two runs that make up a window; None if one does.
    """

    axis: int
    line: Geometry
    later: list[Array | None]

    @classmethod
    def of(cls, xp: Namespace, x: Array, axis: int, line: Geometry, least: complex) -> tuple[_Levels, Array]:
        """With the largest elements: padding is none, even where all others are the least."""
        is_real = xp.ones((line.input_size[0], *(1,) * (x.ndim - axis - 1)), dtype=xp.bool, device=device(x))
        best, is_real, later = padded_along(xp, x, axis, line, least), padded_along(xp, is_real, 0, line, False), []
        for places in _halves(line):
            old, *new = [best[at_axis(axis, place)] for place in places]
            reals = [is_real[at_axis(0, place)] for place in places]
            later.append(_beats(xp, new[0], old) | (reals[1] & ~reals[0]) if new else None)
            best = xp.where(later[-1], new[0], old) if new else old
            is_real = reals[0] | reals[-1]
        return cls(axis, line, later), best

    def picked(self, xp: Namespace, x: Array, beyond: int) -> Array:
        """The elements of another array that lie where the largest do."""
        x = padded_along(xp, x, self.axis, self.line, beyond)
        for places, later in zip(_halves(self.line), self.later, strict=True):
            old, *new = [x[at_axis(self.axis, place)] for place in places]
            x = old if later is None else xp.where(later, new[0], old)
        return x

    def adjoint(self, xp: Namespace, dy: Array) -> Array:
        """What the largest elements have of dy."""
        steps, size = [], self.line.padded_size[0]
        for places, later in zip(_halves(self.line), self.later, strict=True):
            steps.append((places, later, size))
            size = places[0].stop
        for places, later, size in reversed(steps):
            shares = [dy] if later is None else [values_where(xp, ~later, dy), values_where(xp, later, dy)]
            dx = zeros(xp, dy, resized(dy, self.axis, size))
            for place, share in zip(places, shares, strict=True):
                dx = added(xp, dx, at_axis(self.axis, place), share)
            dy = dx
        (lo, _), (d,) = self.line.padding[0], self.line.input_size
        return dy[at_axis(self.axis, slice(lo, lo + d))]


def _halves(line: Geometry) -> list[tuple[slice, ...]]:
    """The elements that runs of twice as many taps are made of, for each level, and those that windows are made of."""
    (_, k, s, a, _, _), size, found = line.axes[0], line.padded_size[0], list[tuple[slice, ...]]()
    for power in range(power_of(k)):
        shift = a << power
        size -= shift
        found.append((slice(0, size), slice(shift, shift + size)))
    last = s * (line.output_size[0] - 1) + 1
    starts = dict.fromkeys((0, a * (k - (1 << power_of(k)))))
    return [*found, tuple([slice(start, start + last, s) for start in starts])]
