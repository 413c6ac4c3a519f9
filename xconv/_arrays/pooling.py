"""Maxima, sums and rows of windows, and their adjoints, of one block: (..., *d) to (..., *o) and back.

Maxima and sums are taken along one axis after the other: sum(k) passes instead of prod(k), and of many taps log2(k), by
levels of 2**i taps or by halves. Plain memory is written in place, and taps that lie in the padding are left out;
elsewhere windows are padded, and all can be differentiated.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from .._plan.geometry import Axis, Geometry
from .._plan.pooling import BYTE, LONG, MANY, MANY_STEPS, Runs, by_levels, doubles, power_of, sums_by, taps_of, tiles
from .elements import flipped, from_ordered, full, lowest, ordered, reshaped, resized, zeros
from .kernels import extreme, means_along, spread, taken
from .kernels import winners as found_winners
from .libraries import Array, DType, Namespace, device, is_kind, traits
from .windows import add_taps, added, pad, tap_views

BEGUN = 8  # windows for each tap, of fewer of which a step over all takes longer to begin than it takes (NumPy)
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
                y = _over_runs(operation, _padded(xp, y, axis, line, lowest(xp, x.dtype)), axis, line, taps_of(line))
            elif line.taps >= LONG or _are_few(math.prod(resized(y, axis, line.output_size[0])), line.taps):
                y = _by_halves(operation, _all_taps(xp, y, axis, line, lowest(xp, x.dtype)), axis + 1)
            else:
                y = _reduced(xp, operation, y, axis, line, lowest(xp, x.dtype))
        return xp.array(y) if y is x or y.base is not None else y

    def first_of(old: Array, new: Array) -> Array:
        return xp.where(_beats(xp, new, old, largest), new, old)

    y, least = ordered(xp, x)
    y = pad(xp, y, windows.padding, value=least)
    lines = [(x.ndim - windows.ndim, windows)] if runs else _axes(x, windows.padded)[::-1]
    for axis, line in lines:
        if largest and not runs and tiles(line) and not traits(xp).traced:  # XLA's places take longer than levels
            y = _Tiles.of(xp, y, axis, line, least)[1]
        else:
            y = _over_runs(first_of, y, axis, line, runs or taps_of(line, steps=_steps(xp)))
    y = from_ordered(xp, y, x.dtype)
    return xp.astype(y, y.dtype) if windows.taps == 1 else y  # which may be a view of x still


def maxima_adjoint(xp: Namespace, dy: Array, x: Array, windows: Geometry, dtype: DType) -> Array:
    """Of each window the first largest element, or the last NaN, takes what dy has for it; sums in this dtype."""
    dy = xp.astype(dy, dtype, copy=not windows.by_row)
    for stage, winner in reversed(_winners(xp, x, windows)):
        if traits(xp).kernels:
            dy = taken(xp, dy, winner, *_axis_of(dy, stage))
        elif isinstance(winner, (_Levels, _Tiles)):
            dy = winner.adjoint(xp, dy)
        elif traits(xp).plain_memory and stage.taps > MANY:
            dy = _added_at(xp, dy, winner, *_axis_of(dy, stage))
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
        if isinstance(winner, (_Levels, _Tiles)):
            found = winner.picked(xp, found, -1)
            continue
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
            y = _SUMS[sums_by(line)](xp, y, axis, line)
        return _divided(xp, xp.array(y) if y is x else y, counts)
    for stage in windows.by_axis:
        if sums_by(stage) != "taps":
            axis, line = _axis_of(x, stage)
            if tiles(line):
                x = xp.sum(_tiles(xp, x, axis, line, 0), axis=axis + 1, dtype=x.dtype)
            else:
                x = _sums_by_levels(xp, x, axis, line)
            continue
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
        if sums_by(stage) != "taps":
            dx = _shared(xp, dx, *_axis_of(dx, stage))
        else:
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


def _are_few(windows: int, taps: int) -> bool:
    """Whether a step over all windows takes longer to begin than it takes."""
    return taps > MANY and windows < BEGUN * taps


def _all_taps(xp: Namespace, x: Array, axis: int, line: Geometry, neutral: complex) -> Array:
    """Windows along an axis with their taps as one axis more behind it: plain memory, padded with a neutral number."""
    x = _padded(xp, x, axis, line, neutral)
    (_, k, s, a, _, _), step = line.axes[0], x.strides[axis]
    shape = *x.shape[:axis], line.output_size[0], k, *x.shape[axis + 1 :]
    strides = *x.strides[:axis], s * step, a * step, *x.strides[axis + 1 :]
    return xp.lib.stride_tricks.as_strided(x, shape, strides)


def _padded(xp: Namespace, x: Array, axis: int, line: Geometry, neutral: complex) -> Array:
    return pad(xp, x, (*line.padding, *((0, 0),) * (x.ndim - axis - 1)), value=neutral)


def _sums_by_taps(xp: Namespace, x: Array, axis: int, line: Geometry) -> Array:
    """In the order of the taps, wherever windows lie."""
    y, taps = xp.empty(resized(x, axis, line.output_size[0]), dtype=x.dtype), _taps(line, axis)
    if not taps:
        y[...] = 0
    for at, (_, inside, elements) in enumerate(taps):
        if at:
            xp.add(y[inside], x[elements], out=y[inside])
            continue
        y[inside] = x[elements]
        for outside in (slice(inside[axis].start), slice(inside[axis].stop, None)):
            y[(*inside[:axis], outside)] = 0
    return y


def _sums_by_halves(xp: Namespace, x: Array, axis: int, line: Geometry) -> Array:
    """Of windows apart: of one half of the taps and of the other, again and again, as NumPy adds what lies in a run."""
    if axis == x.ndim - 1:
        return xp.add.reduce(_all_taps(xp, xp.ascontiguousarray(x), axis, line, 0), axis=-1)
    return _by_halves(xp.add, _all_taps(xp, x, axis, line, 0), axis + 1)


def _by_halves(operation: Callable[..., Array], x: Array, axis: int) -> Array:
    """An operation over all elements along an axis, those of one half with those of the other again and again."""
    before = (slice(None),) * axis
    while (n := x.shape[axis]) > 1:
        both = operation(x[(*before, slice(n // 2))], x[(*before, slice(n // 2, n // 2 * 2))])
        if n % 2:
            first = both[(*before, slice(1))]
            operation(first, x[(*before, slice(n - 1, n))], out=first)
        x = both
    return x[(*before, 0)]


def _sums_by_levels(xp: Namespace, x: Array, axis: int, line: Geometry) -> Array:
    """Of sums of 2**i taps those that make up all."""
    level, width, start = _padded(xp, x, axis, line, 0), 1, 0
    total: Any = None
    while True:
        if line.taps & width:
            share = _tap_view(level, axis, line, (start,))
            total = share if total is None else total + share
            start += width
        if start == line.taps:
            return total
        shift = line.dilation[0] * width
        size = level.shape[axis]
        level = level[_at(level, axis, slice(0, size - shift))] + level[_at(level, axis, slice(shift, size))]
        width *= 2


# By these rules a sum is rounded as if there were one block: they look at windows alone.
_SUMS = {"taps": _sums_by_taps, "halves": _sums_by_halves, "levels": _sums_by_levels}


def _shared(xp: Namespace, dy: Array, axis: int, line: Geometry) -> Array:
    """The adjoint of sums by halves, of windows apart, or by levels: of each element those of windows that read it."""
    ((d, k, s, a, lo, hi),) = line.axes
    if sums_by(line) == "halves" and traits(xp).plain_memory:
        dx = xp.zeros(resized(dy, axis, lo + d + hi), dtype=dy.dtype)
        taps = _all_taps(xp, dx, axis, line.padded, 0)
        taps[...] = xp.expand_dims(dy, axis=axis + 1)
    elif tiles(line):
        return _from_tiles(xp, xp.repeat(xp.expand_dims(dy, axis=axis + 1), k, axis=axis + 1), axis, line)
    else:
        # dx[i] is the sum of dy where windows begin, over k elements a apart of which the last is i.
        last = (dy.shape[axis] - 1) * s
        shape = resized(dy, axis, (k - 1) * a + max(last + 1, lo + d))
        place = slice((k - 1) * a, (k - 1) * a + last + 1, s)
        begun = added(xp, zeros(xp, dy, shape), _at(dy, axis, place), dy)
        dx = _sums_by_levels(xp, begun, axis, Geometry.of([Axis(begun.shape[axis], k, 1, a)]))
    return dx[_at(dx, axis, slice(lo, lo + d))]


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


def _winners_by_levels(xp: Namespace, x: Array, axis: int, line: Geometry, number: DType) -> tuple[Array, Array]:
    """The maxima along an axis and the tap of each, by levels of 2**i taps: of two runs the later if that is larger."""
    (_, k, _, a, _, _), may_be_nan = line.axes[0], not is_kind(xp, x.dtype, "integral")

    def better_of(old: tuple[Array, Array], new: tuple[Array, Array], taps: int) -> tuple[Array, Array]:
        better = new[0] > old[0]
        if may_be_nan:
            better |= new[0] != new[0]
        return xp.maximum(old[0], new[0]), xp.where(better, new[1] + number(taps), old[1])

    best = _padded(xp, x, axis, line, lowest(xp, x.dtype))
    level, before = (best, xp.zeros(best.shape, dtype=number)), (slice(None),) * axis
    for power in range(power_of(k)):
        shift = a << power
        low, high = ((*before, slice(at, best.shape[axis] - (shift << 1) + a + at)) for at in (0, shift))
        level = better_of(tuple([one[low] for one in level]), tuple([one[high] for one in level]), 1 << power)
    rest = k - (1 << power_of(k))
    first, second = (tuple([_tap_view(one, axis, line, (tap,)) for one in level]) for tap in (0, rest))
    best, winner = better_of(first, second, rest) if rest else first
    return best, _no_padding(xp, winner, axis, line)


def _winners_of_all(xp: Namespace, x: Array, axis: int, line: Geometry, number: DType) -> tuple[Array, Array]:
    """The same of few windows, whose taps are looked at where they lie."""
    taps = xp.moveaxis(_all_taps(xp, x, axis, line, lowest(xp, x.dtype)), axis + 1, -1)
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
        if line.taps > MANY:
            found = _winners_by_levels if doubles(line) else _winners_of_all
            x, winner = found(xp, x, axis, line, number)
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


def _axis_of(x: Array, stage: Geometry) -> tuple[int, Geometry]:
    """The axis of windows along one."""
    (found,) = _axes(x, stage)
    return found


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


def _steps(xp: Namespace) -> int:
    """How many operations one after another are too many: a program's are compiled."""
    return MANY if traits(xp).traced else MANY_STEPS


def _tiles(xp: Namespace, x: Array, axis: int, line: Geometry, neutral: complex) -> Array:
    """Windows side by side, their taps as one more axis behind theirs."""
    x = _padded(xp, x, axis, line, neutral)
    outputs, k = line.output_size[0], line.taps
    x = x[_at(x, axis, slice(0, outputs * k))]
    return xp.reshape(x, (*x.shape[:axis], outputs, k, *x.shape[axis + 1 :]))


def _from_tiles(xp: Namespace, tiled: Array, axis: int, line: Geometry) -> Array:
    """The adjoint of `_tiles`."""
    ((d, k, _, _, lo, _),), outputs = line.axes, tiled.shape[axis]
    x = xp.reshape(tiled, (*tiled.shape[:axis], outputs * k, *tiled.shape[axis + 2 :]))
    x = pad(xp, x, ((0, max(lo + d - outputs * k, 0)), *((0, 0),) * (x.ndim - axis - 1)))
    return x[_at(x, axis, slice(lo, lo + d))]


class _Tiles(NamedTuple):
    """Of windows side by side along an axis, whether a tap is the first largest element: as `_Levels`."""

    axis: int
    line: Geometry
    chosen: Array

    @classmethod
    def of(cls, xp: Namespace, x: Array, axis: int, line: Geometry, least: complex) -> tuple[_Tiles, Array]:
        taps, k, last = _tiles(xp, x, axis, line, least), line.taps, axis + 1
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
        taps = _tiles(xp, x, self.axis, self.line, beyond)
        return xp.sum(_where(xp, self.chosen, taps), axis=self.axis + 1, dtype=x.dtype)

    def adjoint(self, xp: Namespace, dy: Array) -> Array:
        taps = _where(xp, self.chosen, xp.expand_dims(dy, axis=self.axis + 1))
        return _from_tiles(xp, taps, self.axis, self.line)


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
        best, is_real, later = _padded(xp, x, axis, line, least), _padded(xp, is_real, 0, line, False), []
        for places in _halves(line):
            old, *new = [best[_at(best, axis, place)] for place in places]
            reals = [is_real[_at(is_real, 0, place)] for place in places]
            later.append(_beats(xp, new[0], old) | (reals[1] & ~reals[0]) if new else None)
            best = xp.where(later[-1], new[0], old) if new else old
            is_real = reals[0] | reals[-1]
        return cls(axis, line, later), best

    def picked(self, xp: Namespace, x: Array, beyond: int) -> Array:
        """The elements of another array that lie where the largest do."""
        x = _padded(xp, x, self.axis, self.line, beyond)
        for places, later in zip(_halves(self.line), self.later, strict=True):
            old, *new = [x[_at(x, self.axis, place)] for place in places]
            x = old if later is None else xp.where(later, new[0], old)
        return x

    def adjoint(self, xp: Namespace, dy: Array) -> Array:
        """What the largest elements have of dy."""
        steps, size = [], self.line.padded_size[0]
        for places, later in zip(_halves(self.line), self.later, strict=True):
            steps.append((places, later, size))
            size = places[0].stop
        for places, later, size in reversed(steps):
            shares = [dy] if later is None else [_where(xp, ~later, dy), _where(xp, later, dy)]
            dx = zeros(xp, dy, resized(dy, self.axis, size))
            for place, share in zip(places, shares, strict=True):
                dx = added(xp, dx, _at(dx, self.axis, place), share)
            dy = dx
        (lo, _), (d,) = self.line.padding[0], self.line.input_size
        return dy[_at(dy, self.axis, slice(lo, lo + d))]


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


def _at(x: Array, axis: int, place: slice) -> tuple[Any, ...]:
    return (..., place, *(slice(None),) * (x.ndim - axis - 1))


def _winners(xp: Namespace, x: Array, windows: Geometry) -> list[tuple[Geometry, Any]]:
    """The windows in stages, and of each window the tap of its first largest element, which padding never is; none
    of the taps if there is none.
    """
    if traits(xp).plain_memory:
        return _plain_winners(xp, x, windows)
    stages, (x, least) = windows.by_row, ordered(xp, x)
    inside = xp.ones(windows.input_size, dtype=xp.bool, device=device(x))
    winners = []
    for stage in stages:
        if tiles(stage) or by_levels(stage, _steps(xp)):
            found = _Tiles if tiles(stage) else _Levels
            winner, x = found.of(xp, x, *_axis_of(x, stage), least)
            winners.append(winner)
            inside = xp.ones(stage.output_size, dtype=xp.bool, device=device(x))
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
