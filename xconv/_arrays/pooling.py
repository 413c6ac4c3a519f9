"""Maxima, sums and rows of windows, and their adjoints, of one block: (..., *d) to (..., *o) and back.

Maxima and sums are taken along one axis after the other: sum(k) passes instead of prod(k). Plain memory is written in
place, and taps that lie in the padding are left out; elsewhere windows are padded, and all can be differentiated.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .._plan.geometry import Geometry
from .._plan.pooling import BYTE, Runs, doubles, power_of, taps_of
from .elements import from_ordered, full, lowest, ordered, reshaped, resized, zeros
from .kernels import extreme, means_along, spread, taken
from .kernels import winners as found_winners
from .libraries import Array, DType, Namespace, device, is_kind, traits
from .windows import add_taps, pad, tap_views

NARROW = 8  # channels below which rows of windows are copied along images, measured for 3x3 (NumPy)


def extremes(xp: Namespace, x: Array, windows: Geometry, largest: bool = True, runs: Runs = ()) -> Array:
    """The largest, or the smallest, element of each window, or of runs of its taps; NaN if one is.

    Padding, which only windows of largest ones without holes may have, counts as what no element is below.
    """
    if traits(xp).plain_memory:
        operation, y = (xp.maximum if largest else xp.minimum), x
        if runs:
            y = _over_runs(operation, x, x.ndim - windows.ndim, windows, runs)
        for axis, line in () if runs else _axes(x, windows):
            if traits(xp).kernels:
                y = extreme(xp, y, axis, line, largest, lowest(xp, x.dtype, not largest))
            elif doubles(line):
                border = (*line.padding, *((0, 0),) * (x.ndim - axis - 1))
                y = _over_runs(operation, pad(xp, y, border, value=lowest(xp, x.dtype)), axis, line, taps_of(line))
            else:
                y = _reduced(xp, operation, y, axis, line, lowest(xp, x.dtype))
        return xp.array(y) if y is x or y.base is not None else y

    def first_of(old: Array, new: Array) -> Array:
        return xp.where(_beats(xp, new, old, largest), new, old)

    y, least = ordered(xp, x)
    y = pad(xp, y, windows.padding, value=least)
    lines = [(x.ndim - windows.ndim, windows)] if runs else _axes(x, windows.padded)[::-1]
    for axis, line in lines:
        y = _over_runs(first_of, y, axis, line, runs or taps_of(line))
    y = from_ordered(xp, y, x.dtype)
    return xp.astype(y, y.dtype) if windows.taps == 1 else y  # which may be a view of x still


def maxima_adjoint(xp: Namespace, dy: Array, x: Array, windows: Geometry, dtype: DType) -> Array:
    """Of each window the first largest element, or the last NaN, takes what dy has for it; sums in this dtype."""
    dy = xp.astype(dy, dtype, copy=not windows.by_row)
    for stage, winner in reversed(_winners(xp, x, windows)):
        if traits(xp).kernels:
            ((axis, line),) = _axes(dy, stage)
            dy = taken(xp, dy, winner, axis, line)
        else:
            dy = _added(xp, dy, (_where(xp, winner == tap, dy) for tap in range(stage.taps)), stage)
    return dy


def maxima_positions(
    xp: Namespace, x: Array, places: Sequence[tuple[range, int]], windows: Geometry, dtype: DType
) -> Array:
    """Of each window the position of the element that `maxima_adjoint` gives its share; -1 if all is padding.

    Positions add up over the axes of x: each has a range of them, and how many elements lie between two.
    """
    found: Any = 0
    for axis, (place, step) in enumerate(places):
        line = xp.arange(place.start, place.stop, dtype=dtype, device=device(x)) * step
        found = found + xp.reshape(line, (1, 1, *(-1 if axis == other else 1 for other in range(windows.ndim))))
    winners = _winners(xp, x, windows)
    for stage, winner in winners:
        views, found = tap_views(pad(xp, found, stage.padding), stage.padded), full(xp, found, (), -1)
        for tap, view in enumerate(views):
            found = xp.where(winner == tap, view, found)
    return found if winners else xp.astype(xp.broadcast_to(found, x.shape), dtype)


def means(xp: Namespace, x: Array, windows: Geometry, counts: Sequence[Sequence[int]], dtype: DType) -> Array:
    """The sum of each window in this dtype, over its count: a product of one number for each axis."""
    x = xp.astype(x, dtype, copy=False)
    if traits(xp).kernels:
        for axis, line in _axes(x, windows):
            x = means_along(xp, x, axis, line, counts[axis - x.ndim + windows.ndim])
        return x
    if traits(xp).plain_memory:
        y = x
        for axis, line in _axes(x, windows):
            y = _reduced(xp, xp.add, y, axis, line, 0)
        return _divided(xp, xp.array(y) if y is x else y, counts)
    for stage in windows.by_axis:
        x, *others = tap_views(pad(xp, x, stage.padding), stage.padded)
        for view in others:
            x = x + view
    return _divided(xp, x, counts)


def means_adjoint(xp: Namespace, dy: Array, windows: Geometry, counts: Sequence[Sequence[int]], dtype: DType) -> Array:
    """The adjoint of `means`."""
    if traits(xp).kernels:
        dx = xp.astype(dy, dtype, copy=False)
        for axis, line in _axes(dx, windows)[::-1]:
            dx = spread(xp, dx, axis, line, counts[axis - dx.ndim + windows.ndim])
        return dx
    dx = _divided(xp, xp.astype(dy, dtype, copy=False), counts)
    for stage in reversed(windows.by_axis):
        dx = _added(xp, dx, itertools.repeat(dx, stage.taps), stage)
    return dx


def put_rows(xp: Namespace, x: Array, rows: Array, windows: Geometry, value: complex) -> None:
    """Lay windows of x (N, C, *d) out in plain memory (N, *o, C, prod(k)); the padding has this value."""
    if any(map(any, windows.padding)):
        rows[...] = value
    x = x if x.shape[1] < NARROW else xp.ascontiguousarray(xp.moveaxis(x, 1, -1))
    for entries, elements in _entries(xp, rows, windows):
        entries[...] = x[elements]


def rows_adjoint(xp: Namespace, rows: Array, windows: Geometry, dtype: DType) -> Array:
    """The adjoint of `put_rows` with value 0, (N, *o, C, prod(k)) -> (N, C, *d), with sums in this dtype."""
    samples, channels = rows.shape[0], rows.shape[-2]
    narrow = channels < NARROW
    size = (channels, *windows.input_size) if narrow else (*windows.input_size, channels)
    x = xp.zeros((samples, *size), dtype=dtype)
    if rows.itemsize == x.itemsize:  # unsigned integers are added up as signed ones
        rows = rows.view(dtype)
    for entries, elements in _entries(xp, rows, windows):
        part = x[elements]
        part += entries
    return x if narrow else xp.moveaxis(x, -1, 1)


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


def _over_runs(pick: Callable[[Array, Array], Array], x: Array, axis: int, windows: Geometry, runs: Runs) -> Array:
    """What is picked of all elements of some runs of taps, of windows over the axes from this one on that need no
    padding: by levels of 2**i elements each, of which two make up a run, however long.
    """
    wanted = {power_of(length) for _, length in runs}
    along, levels = axis + windows.ndim - 1, {0: x}
    for power in range(max(wanted)):
        level, shift = levels[power], windows.dilation[-1] << power
        size = level.shape[along] - shift
        low, high = (level[(*(slice(None),) * along, slice(at, at + size), ...)] for at in (0, shift))
        levels[power + 1] = pick(low, high)
        levels = {known: level for known, level in levels.items() if known in wanted or known > power}
    views = [
        _tap_view(levels[power_of(length)], axis, windows, (*lead, start))
        for (*lead, tap), length in runs
        for start in sorted({tap, tap + length - (1 << power_of(length))})
    ]
    return functools.reduce(pick, views)


def _tap_view(x: Array, axis: int, windows: Geometry, tap: Sequence[int]) -> Array:
    """The elements that all windows read by a tap."""
    axes = zip(windows.dilation, tap, windows.stride, windows.output_size, strict=True)
    return x[(*(slice(None),) * axis, *(slice(a * j, a * j + s * (o - 1) + 1, s) for a, j, s, o in axes), ...)]


def _added(xp: Namespace, dy: Array, shares: Iterable[Array], stage: Geometry) -> Array:
    """What the windows of a stage have for each element of their input, (..., *d)."""
    return add_taps(xp, zeros(xp, dy, (*dy.shape[:2], *stage.input_size)), shares, stage)


def _plain_winners(xp: Namespace, x: Array, windows: Geometry) -> list[tuple[Geometry, Array]]:
    """`_winners` in plain memory: the maxima once more, with the number of the tap that each is of."""
    stages, winners = windows.by_row, []
    may_be_nan = not is_kind(xp, x.dtype, "integral")
    for axis, line in _axes(x, windows)[::-1]:
        number = xp.uint8 if line.taps <= BYTE else xp.int32
        if traits(xp).kernels:
            x, winner = found_winners(xp, x, axis, line, lowest(xp, x.dtype), xp.dtype(number))
            winners.append(winner)
            continue
        shape = resized(x, axis, line.output_size[0])
        best = xp.full(shape, lowest(xp, x.dtype), dtype=x.dtype)
        winner = xp.full(shape, line.taps, dtype=number)
        taps = _taps(line, axis)
        for tap, inside, _ in reversed(taps):  # the first that is no padding, should none be larger
            winner[inside] = tap
        for tap, inside, elements in taps:
            new, old, taken = xp.ascontiguousarray(x[elements]), best[inside], winner[inside]
            better = new > old
            if may_be_nan:
                better |= new != new
            xp.maximum(old, new, out=old)
            xp.maximum(taken, better.astype(number) * tap, out=taken)
        x = best
        winners.append(winner)
    return [*zip(stages, winners, strict=True)]


def _where(xp: Namespace, chosen: Array, values: Array) -> Array:
    """``where(chosen, values, 0)``: by bits, which takes NumPy a tenth of the time."""
    if not traits(xp).plain_memory or values.itemsize > 8:
        return xp.where(chosen, values, xp.zeros_like(values))
    bits = xp.dtype(f"i{values.itemsize}")
    mask = xp.negative(chosen.view(xp.int8), dtype=bits)
    mask &= values.view(bits)
    return mask.view(values.dtype)


def _axes(x: Array, windows: Geometry) -> list[tuple[int, Geometry]]:
    """Axes of x along which windows are more than single elements side by side."""
    lines = enumerate(windows.lines, start=x.ndim - windows.ndim)
    return [(axis, line) for axis, line in lines if not line.is_identity]


def _taps(line: Geometry, axis: int) -> list[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
    """Windows along an axis whose tap is no padding, and the elements that it reads, for each number of a tap."""
    before = (slice(None),) * axis
    return [
        (tap, (*before, *inside), (*before, *elements))
        for tap, (inside, elements) in enumerate(line.tap_slices)
        if inside != (slice(0, 0),)
    ]


def _sorted_taps(line: Geometry, axis: int) -> tuple[list[Any], list[tuple[Any, Any]]]:
    """The elements of those taps which no window has in the padding, and windows and elements of the others."""
    everywhere = (*(slice(None),) * axis, slice(0, line.output_size[0]))
    taps = _taps(line, axis)
    whole = [elements for _, inside, elements in taps if inside == everywhere]
    return whole, [(inside, elements) for _, inside, elements in taps if inside != everywhere]


def _entries(xp: Namespace, rows: Array, windows: Geometry) -> Iterator[tuple[Array, tuple[slice, ...]]]:
    """What rows (N, *o, C, prod(k)) have for each tap, and the elements of x it is of: (N, *d, C), or (N, C, *d).

    The latter if channels are few: NumPy's innermost loop should be long.
    """
    lead: tuple[slice, ...] = (slice(None),)
    if rows.shape[-2] < NARROW:
        rows, lead = xp.moveaxis(rows, -2, 1), (*lead, *lead)
    for tap, (inside, elements) in enumerate(windows.tap_slices):
        yield rows[..., tap][(*lead, *inside)], (*lead, *elements)


def _divided(xp: Namespace, sums: Array, counts: Sequence[Sequence[int]]) -> Array:
    """Divide sums (N, C, *o) by the size of each window, which is a product of one count per axis."""
    single = math.prod([count[0] for count in counts if len(count) == 1])
    if single > 1 or set(map(len, counts)) == {1}:
        sums = sums / xp.asarray(single, dtype=sums.dtype, device=device(sums))
    for axis, count in enumerate(counts, start=2):
        if len(count) > 1:
            divisor = xp.asarray(count, dtype=sums.dtype, device=device(sums))
            sums = sums / reshaped(xp, divisor, (-1, *(1,) * (sums.ndim - 1 - axis)))
    return sums


def _beats(xp: Namespace, new: Array, old: Array, largest: bool = True) -> Array:
    """Where a later element of the window takes over: when larger, or smaller, never when equal, always when NaN."""
    beyond = new > old if largest else new < old
    return beyond if is_kind(xp, new.dtype, "integral") else beyond | (new != new)


def _winners(xp: Namespace, x: Array, windows: Geometry) -> list[tuple[Geometry, Array]]:
    """The windows in stages, and of each window the tap of its first largest element, which padding never is; none
    of the taps if there is none.
    """
    if traits(xp).plain_memory:
        return _plain_winners(xp, x, windows)
    stages, (x, least) = windows.by_row, ordered(xp, x)
    inside = xp.ones(windows.input_size, dtype=xp.bool, device=device(x))
    winners = []
    for stage in stages:
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
