"""Sums and means of windows, and their adjoint, of one block: (..., *d) to (..., *o) and back.

Along one axis after the other, as maxima are: of many taps by halves, where windows lie apart, or by levels of 2**i.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from .._plan.geometry import Axis, Geometry
from .._plan.pooling import sums_by, tiles
from .along import (
    all_taps,
    by_halves,
    from_tiles,
    line_of,
    lines_of,
    padded_along,
    shares_added,
    tap_places,
    tap_view,
    tiled,
)
from .elements import reshaped, resized, zeros
from .kernels import means_along, spread
from .libraries import Array, DType, Namespace, device, traits
from .windows import added, at_axis, pad, tap_views


def means(xp: Namespace, x: Array, windows: Geometry, counts: Sequence[Sequence[int]], dtype: DType) -> Array:
    """The sum of each window in this dtype, over its count: a product of one number for each axis."""
    x = xp.astype(x, dtype, copy=False)
    if traits(xp).kernels:
        for axis, line in lines_of(x, windows):
            x = means_along(xp, x, axis, line, counts[axis - x.ndim + windows.ndim])
        return x
    if traits(xp).plain_memory:
        y = x
        for axis, line in lines_of(x, windows):
            y = _SUMS[sums_by(line)](xp, y, axis, line)
        return _divided(xp, xp.array(y) if y is x else y, counts)
    for stage in windows.by_axis:
        if sums_by(stage) != "taps":
            axis, line = line_of(x, stage)
            if tiles(line):
                x = xp.sum(tiled(xp, x, axis, line, 0), axis=axis + 1, dtype=x.dtype)
            else:
                x = sums_by_levels(xp, x, axis, line)
            continue
        x, *others = tap_views(pad(xp, x, stage.padding), stage.padded)
        for view in others:
            x = x + view
    return _divided(xp, x, counts)


def means_adjoint(xp: Namespace, dy: Array, windows: Geometry, counts: Sequence[Sequence[int]], dtype: DType) -> Array:
    """The adjoint of `means`."""
    if traits(xp).kernels:
        dx = xp.astype(dy, dtype, copy=False)
        for axis, line in lines_of(dx, windows)[::-1]:
            dx = spread(xp, dx, axis, line, counts[axis - dx.ndim + windows.ndim])
        return dx
    dx = _divided(xp, xp.astype(dy, dtype, copy=False), counts)
    for stage in reversed(windows.by_axis):
        if sums_by(stage) != "taps":
            dx = _shared(xp, dx, *line_of(dx, stage))
        else:
            dx = shares_added(xp, dx, itertools.repeat(dx, stage.taps), stage)
    return dx


def _sums_by_taps(xp: Namespace, x: Array, axis: int, line: Geometry) -> Array:
    """In the order of the taps, wherever windows lie."""
    y, taps = xp.empty(resized(x, axis, line.output_size[0]), dtype=x.dtype), tap_places(line, axis)
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
        return xp.add.reduce(all_taps(xp, xp.ascontiguousarray(x), axis, line, 0), axis=-1)
    return by_halves(xp.add, all_taps(xp, x, axis, line, 0), axis + 1)


def sums_by_levels(xp: Namespace, x: Array, axis: int, line: Geometry) -> Array:
    """Of sums of 2**i taps those that make up all."""
    level, width, start = padded_along(xp, x, axis, line, 0), 1, 0
    total: Any = None
    while True:
        if line.taps & width:
            share = tap_view(level, axis, line, (start,))
            total = share if total is None else total + share
            start += width
        if start == line.taps:
            return total
        shift = line.dilation[0] * width
        size = level.shape[axis]
        level = level[at_axis(axis, slice(0, size - shift))] + level[at_axis(axis, slice(shift, size))]
        width *= 2


# By these rules a sum is rounded as if there were one block: they look at windows alone.
_SUMS = {"taps": _sums_by_taps, "halves": _sums_by_halves, "levels": sums_by_levels}


def _shared(xp: Namespace, dy: Array, axis: int, line: Geometry) -> Array:
    """The adjoint of sums by halves, of windows apart, or by levels: of each element those of windows that read it."""
    ((d, k, s, a, lo, hi),) = line.axes
    if sums_by(line) == "halves" and traits(xp).plain_memory:
        dx = xp.zeros(resized(dy, axis, lo + d + hi), dtype=dy.dtype)
        taps = all_taps(xp, dx, axis, line.padded, 0)
        taps[...] = xp.expand_dims(dy, axis=axis + 1)
    elif tiles(line):
        return from_tiles(xp, xp.repeat(xp.expand_dims(dy, axis=axis + 1), k, axis=axis + 1), axis, line)
    else:
        # dx[i] is the sum of dy where windows begin, over k elements a apart of which the last is i.
        last = (dy.shape[axis] - 1) * s
        shape = resized(dy, axis, (k - 1) * a + max(last + 1, lo + d))
        place = slice((k - 1) * a, (k - 1) * a + last + 1, s)
        begun = added(xp, zeros(xp, dy, shape), at_axis(axis, place), dy)
        dx = sums_by_levels(xp, begun, axis, Geometry.of([Axis(begun.shape[axis], k, 1, a)]))
    return dx[at_axis(axis, slice(lo, lo + d))]


def _divided(xp: Namespace, sums: Array, counts: Sequence[Sequence[int]]) -> Array:
    """Divide sums (N, C, *o) by the size of each window, which is a product of one count per axis."""
    single = math.prod([count[0] for count in counts if len(count) == 1])
    if single > 1 or set(map(len, counts)) == {1}:
        sums = sums / xp.asarray(single, dtype=sums.dtype, device=device(sums))
    for axis, count in enumerate(counts, start=2):
        if len(count) > 1:
            divisor = xp.asarray(count, dtype=sums.dtype, device=device(sums))
            sums = sums / reshaped(xp, divisor, (*(1,) * axis, -1, *(1,) * (sums.ndim - 1 - axis)))
    return sums
