"""Pools and rows of windows of chunked arrays: the functions of `pools`, computed later, one call for each chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .._arrays.elements import full, lowest, zeros
from .._arrays.libraries import Array, DType, Namespace
from .._arrays.operands import namespace_of
from .._plan.chunked import (
    Reads,
    Window,
    adjoint_of,
    everything,
    everywhere,
    pointwise,
    restricted_of,
    row_chunks,
    rows_of,
    scaled,
    windows_of,
)
from .._plan.geometry import Geometry, Ints, PoolGeometry
from . import pools
from .chunked import Given, spatial, spatial_axes, summed_parts
from .graph import Chunked, edges, write
from .pools import Pooling


class Rows(NamedTuple):
    """What the calls of all chunks of a matrix of windows share."""

    windows: Geometry
    dtype: DType
    value: complex = 0


def pooled(xp: Namespace, call: Pooling, x: Array | None, dy: Array | None = None) -> Array:
    """Outputs are in chunks as the inputs are where their windows begin, but for the padding; dx is as x, or as dy."""
    data, pool = dy if x is None else x, call.pool
    cuts, axes = [*edges(data)], [*zip(pool.windows.lines, spatial_axes(pool), strict=True)]
    if dy is None:
        for line, axis in axes:
            cuts[axis] = scaled(cuts[axis], 1, line.stride[0], line.output_size[0])
        operands = [(x, [windows_of(line, "zeros", axis, cuts[axis]) for line, axis in axes])]
    else:
        for line, axis in axes if x is None else ():
            cuts[axis] = scaled(cuts[axis], line.stride[0], 1, line.input_size[0])
        operands = [(dy, [adjoint_of(line, "zeros", axis, cuts[axis]) for line, axis in axes])]
        if x is not None:
            operands.append((x, [restricted_of(line, axis, cuts[axis]) for line, axis in axes]))
    result = tuple(cuts)
    given = tuple([(array, _reads(result, reads)) for array, reads in operands])
    function = pool_block if dy is None else adjoint_block
    return write(Chunked(function, call, result, call.dtype, given, word=call.kind))


def max_unpool(xp: Namespace, y: Array, indices: Array, pool: PoolGeometry, dtype: DType) -> Array:
    """Where an element is put is not known before it is computed, so that each chunk reads whole planes."""
    cuts, first = [*edges(y)], 1 if pool.channels_last else 2
    reads = []
    for axis, size in enumerate(pool.windows.input_size, first):
        cuts[axis] = scaled(cuts[axis], size, y.shape[axis], size)
        reads.append(everywhere(y.shape[axis], axis, cuts[axis]))
    given = _reads(tuple(cuts), reads)
    call = Pooling("max_unpool", pool, dtype)
    return write(Chunked(max_unpool_block, call, tuple(cuts), dtype, ((y, given), (indices, given))))


def im2col(xp: Namespace, x: Array, windows: Geometry, value: complex, dtype: DType) -> Array:
    """Rows are in chunks as samples are, or each sample's as the first axis of its windows."""
    (samples, _, first, *_), (outer, *inner) = edges(x), windows.output_size
    along = scaled(first, 1, windows.stride[0], outer)
    rows, chunks = row_chunks(samples, along, outer, math.prod(inner))
    line, *others = windows.lines
    read, each = pointwise(0, samples), windows_of(line, "zeros", 0, along)
    if len(along) > 2:
        read = pointwise(0, tuple(range(x.shape[0] + 1)))
    number = {span: at for at, span in enumerate(dict.fromkeys(span for span, _ in chunks))}
    reads = (
        Reads((0,), tuple([read.parts[number[span]] for span, _ in chunks])),
        everything(x.shape[1]),
        Reads((0,), tuple([each.parts[at] for _, at in chunks])),
        *(windows_of(other, "zeros", 0, (0, o))._replace(axes=()) for other, o in zip(others, inner, strict=True)),
    )
    result = rows, (0, x.shape[1] * windows.taps)
    return write(Chunked(im2col_block, Rows(windows, dtype, value), result, dtype, ((x, reads),)))


def col2im(xp: Namespace, col: Array, samples: int, channels: int, windows: Geometry, dtype: DType) -> Array:
    """x is in chunks as rows are: samples, and the first axis where a chunk begins within a sample."""
    (outer, *inner), line = windows.output_size, windows.lines[0]
    width, rows = math.prod(inner), edges(col)[0]
    batch = tuple(sorted({0, samples, *(row // windows.positions for row in rows)}))
    within = tuple(sorted({0, outer, *(row % windows.positions // width for row in rows)}))
    along = scaled(within, line.stride[0], 1, line.input_size[0])
    reads = (rows_of(adjoint_of(line, "zeros", 2, along), 0, batch, outer, width), everything(col.shape[1]))
    result = batch, (0, channels), along, *((0, d) for d in windows.input_size[1:])
    return write(Chunked(col2im_block, Rows(windows, dtype), result, dtype, ((col, reads),)))


def pool_block(call: Pooling, sizes: Ints, like: Array, xs: Given) -> Array:
    ((places, x),) = xs
    xp, pool = namespace_of(x=like), call.pool
    if x is None:
        nothing = {"max_pool": lowest(xp, call.dtype), "max_pool_indices": -1}
        return full(xp, like, sizes, nothing.get(call.kind, 0), call.dtype)
    windows = spatial(pool, places)
    plane, corner = pool.windows.input_size, tuple([window.start for window in windows])
    return pools.pooled(xp, call._replace(pool=_pool(pool, x.shape, windows), plane=plane, corner=corner), x)


def adjoint_block(call: Pooling, sizes: Ints, like: Array, dys: Given, xs: Given = ()) -> Array:
    """A chunk of dx, of which some elements may be in no window."""
    xp, pool, x = namespace_of(x=like), call.pool, xs[0][1] if xs else None

    def adjoint(dy: Array, windows: list[Window]) -> Array:
        return pools.pooled(xp, call._replace(pool=_pool(pool, dy.shape, windows)), x, dy)

    return summed_parts(like, sizes, call.dtype, spatial_axes(pool), dys, adjoint)


def max_unpool_block(settings: Pooling, sizes: Ints, like: Array, ys: Given, indices: Given) -> Array:
    """Positions in the plane become those in the chunk, or none."""
    ((places, y),), ((_, found),) = ys, indices
    xp, pool = namespace_of(x=like), settings.pool
    if y is None:
        return zeros(xp, like, sizes, dtype=settings.dtype)
    size = pool.windows.input_size
    pools.check_positions(xp, found, size)
    first = 1 if pool.channels_last else 2
    box = places[first : first + len(size)]
    rest = xp.astype(found, pools.position_dtype(xp, y))
    place, inside, step = xp.zeros_like(rest), rest >= 0, 1
    for d, part in zip(size[::-1], box[::-1], strict=True):
        at, rest = rest % d, rest // d
        inside &= (at >= part.start) & (at < part.stop)
        place, step = place + (at - part.start) * step, step * (part.stop - part.start)
    plane = tuple([part.stop - part.start for part in box])
    channels = sizes[-1] if pool.channels_last else sizes[1]
    chunk = pool._replace(batch=sizes[0], channels=channels, windows=pool.windows.over(plane))
    return pools.max_unpool(xp, y, xp.where(inside, place, xp.full_like(place, -1)), chunk, settings.dtype)


def im2col_block(settings: Rows, sizes: Ints, like: Array, xs: Given) -> Array:
    ((places, x),) = xs
    xp = namespace_of(x=like)
    if x is None:
        return full(xp, like, sizes, settings.value, settings.dtype)
    return pools.im2col(xp, x, _restricted(settings.windows, places[2:]), settings.value, settings.dtype)


def col2im_block(settings: Rows, sizes: Ints, like: Array, cols: Given) -> Array:
    xp, (samples, channels, *_) = namespace_of(x=like), sizes
    whole = [Window(axis.input_size[0], axis.padding[0]) for axis in settings.windows.lines[1:]]

    def adjoint(col: Array, first: list[Window]) -> Array:
        windows = _restricted(settings.windows, [*first, *whole])
        return pools.col2im(xp, col, samples, channels, windows, settings.dtype)

    along = [((None, None, rows), col) for (rows, _), col in cols]
    return summed_parts(like, sizes, settings.dtype, (2,), along, adjoint)


def _reads(result: tuple[Ints, ...], spatial: list[Reads]) -> tuple[Reads, ...]:
    """Samples and channels beside those of the result, and these along the axes of which they are."""
    reads = [pointwise(axis, cut) for axis, cut in enumerate(result)]
    for read in spatial:
        reads[read.axes[0]] = read
    return tuple(reads)


def _restricted(windows: Geometry, parts: Sequence[Window]) -> Geometry:
    return windows.over(tuple([part.size for part in parts]), tuple([part.padding for part in parts]))


def _pool(pool: PoolGeometry, shape: Ints, parts: Sequence[Window]) -> PoolGeometry:
    """The pooling of a chunk; what a mean counts lies as far beyond the part's ends as beyond those of the whole."""
    margins = tuple(
        [
            (lo + part.start, d + hi - part.start - part.size)
            for part, d, (lo, hi) in zip(parts, pool.windows.input_size, pool.margins, strict=True)
        ]
    )
    channels = shape[-1] if pool.channels_last else shape[1]
    return PoolGeometry(shape[0], channels, pool.channels_last, _restricted(pool.windows, parts), margins)
