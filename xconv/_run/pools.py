"""Pools and rows of windows over blocks, in bounded memory, and on threads where they help."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from .._arrays.elements import from_ordered, lowest, ordered, placed, put_at, reshaped, zeros
from .._arrays.libraries import Array, DType, Namespace, device, is_chunked, is_kind, traits
from .._arrays.machine import machine_of
from .._arrays.maxima import extremes, maxima_adjoint, maxima_positions
from .._arrays.means import means, means_adjoint
from .._arrays.operands import item_size, working_dtype
from .._arrays.unfold import put_rows, rows_adjoint
from .._arrays.windows import framed, gather, pad, scatter
from .._plan.arguments import workspace
from .._plan.geometry import Geometry, Ints, PoolGeometry, Words, of_samples, planned_samples
from .._plan.pooling import (
    Held,
    PoolBlock,
    PoolSchedule,
    PoolTask,
    Runs,
    held_by_extremes,
    held_by_maxima,
    held_by_maxima_adjoint,
    held_by_means,
    held_by_positions,
    held_by_rows,
    pool_schedule,
)
from .threads import cpu_count, for_each

PROGRAM = 8  # blocks of one program, of 3x3 windows, that XLA compiles in 0.2 s, and one in 0.1


def functions_for(*arrays: Array) -> ModuleType:
    """Where the functions are that take such arrays: here, or in `chunked_pools`."""
    if not is_chunked(*arrays):
        return sys.modules[__name__]
    from . import chunked_pools

    return chunked_pools


class Pooling(NamedTuple):
    """A checked call of one of `KINDS`: what it is of, what comes of it, and the room that it has.

    Positions are those in a plane, of which a chunk's input is a part that begins at a corner.
    """

    kind: str
    pool: PoolGeometry
    dtype: DType
    max_workspace: int | None = None
    plane: Ints = ()
    corner: Ints = ()
    counts: Sequence[Sequence[int]] = ()


class Kind(NamedTuple):
    """What a pool does with what a block has of x and dy, with sums in a dtype, and how many numbers it then holds."""

    held: Held
    kernel: Callable[..., Array]
    more: Callable[[Pooling, PoolBlock], tuple[Any, ...]] = lambda call, block: ()  # that it is given of a block
    in_lines: bool = False  # whether it may be done along one axis after the other, each rounded to the result's dtype


def pooled(xp: Namespace, call: Pooling, x: Array | None, dy: Array | None = None) -> Array:
    """A pool of x, (N, C, *d) -> (N, C, *o), or an adjoint of dy, the other way; or with channels last."""
    kind, pool, dtype = KINDS[call.kind], call.pool, call.dtype
    given = [array for array in (x, dy) if array is not None]
    shape = pool.output_shape if dy is None else pool.input_shape
    shapes = [pool.input_shape, pool.output_shape, shape][: len(given) + 1]
    samples = planned_samples(pool.batch)
    known = item_size(xp, dtype) * samples * sum([math.prod(some[1:]) for some in shapes])
    windows, channels, canonical = pool.windows, pool.channels, shape
    if pool.channels_last:  # channels are an axis then: (N, 1, *d, C)
        windows, channels, canonical = of_samples(windows, channels, windows.ndim), 1, _with_one(shape)
        x, dy = (array if array is None else reshaped(xp, array, _with_one(array.shape)) for array in (x, dy))
    element = max([item_size(xp, working_dtype(xp, array.dtype)) for array in given])
    converts = element > min([item_size(xp, array.dtype) for array in given])
    plain, room = traits(xp).plain_memory, workspace(call.max_workspace, known)
    task = PoolTask(windows, samples, channels, dy is not None, kind.held, element, plain, converts)
    if not plain:  # malloc keeps no more of all that is made on the way, but a program of many blocks compiles long
        room = min(room, max(machine_of(xp, dtype).cache, task.bytes_of(task.sizes) // PROGRAM))
    cut = pool_schedule(task, room, traits(xp).threads)
    if kind.in_lines and cut.is_wasteful:
        largest = max([line.positions for line in pool.windows.by_axis])
        between = 2 * item_size(xp, dtype) * samples * pool.channels * largest  # what a pass reads, and gives
        if 2 * between <= room:
            for line in pool.windows.by_axis:
                part = call._replace(pool=pool._replace(windows=line), max_workspace=room - between)
                given[0] = pooled(xp, part, given[0])
            return given[0]
    sums, call = working_dtype(xp, dtype), call._replace(counts=pool.counts if kind.more is _counted else ())

    def piece(block: PoolBlock) -> Array:
        parts = [part for part in (_of_x(x, block), _of_y(dy, block)) if part is not None]
        return kind.kernel(xp, *parts, block.windows, *kind.more(call, block), sums)

    return reshaped(xp, _gathered(xp, cut, piece, given[0], canonical, dtype), shape)


def _with_one(shape: Ints) -> Ints:
    return (shape[0], 1, *shape[1:])


def _places(call: Pooling, block: PoolBlock) -> tuple[Any]:
    """The positions of a block's elements in the plane of their sample and channel, by axes."""
    pool, size = call.pool, call.pool.windows.input_size
    steps = [math.prod((call.plane or size)[axis:]) for axis in range(1, len(size) + 1)]
    corner = call.corner or (0,) * len(size)
    ranges = [range(first, first + d) for first, d in zip(corner, size, strict=True)]
    if pool.channels_last:
        ranges, steps = [*ranges, range(pool.channels)], [*steps, 0]
    return ([(some[part], step) for some, part, step in zip(ranges, block.inputs, steps, strict=True)],)


def _counted(call: Pooling, block: PoolBlock) -> tuple[Any]:
    """The counts of the windows of a block, for the axes that have more than one."""
    counts = zip(call.counts, block.outputs, strict=False)
    return ([count if len(count) == 1 else count[part] for count, part in counts],)


KINDS = {
    "max_pool": Kind(held_by_maxima, lambda xp, x, windows, sums: extremes(xp, x, windows), in_lines=True),
    "max_pool_indices": Kind(held_by_positions, maxima_positions, _places),
    "max_pool_grad": Kind(held_by_maxima_adjoint, maxima_adjoint),
    "avg_pool": Kind(held_by_means, means, _counted),
    "avg_pool_grad": Kind(held_by_means, means_adjoint, _counted),
}


def extreme_filter(
    xp: Namespace, x: Array, windows: Geometry, modes: Words, value: complex, largest: bool, runs: Runs = ()
) -> Array:
    """The largest, or the smallest, element of each window, or of runs of its taps: (*d) -> (*o).

    Each axis has a border of its own mode, in which "zeros" are this value.
    """
    dtype, size, plain = x.dtype, item_size(xp, working_dtype(xp, x.dtype)), traits(xp).plain_memory
    task = PoolTask(windows.padded, 1, 1, False, held_by_extremes, size, plain, False, runs)
    known = item_size(xp, dtype) * (math.prod(windows.input_size) + windows.positions)
    cut = pool_schedule(task, workspace(None, known), traits(xp).threads)
    if cut.is_wasteful and not runs:
        for line in windows.by_axis:
            x = extreme_filter(xp, x, line, modes, value, largest)
        return x
    if not plain:  # PyTorch cannot even turn round a border of unsigned integers
        x, least = ordered(xp, x)
        value = value - lowest(xp, dtype) + least if is_kind(xp, dtype, "integral") else value

    def piece(block: PoolBlock) -> Array:
        part = framed(xp, x, block.inputs, windows.padding, modes, value)
        return extremes(xp, part[(None, None, ...)], block.windows, largest, runs)

    y = reshaped(xp, _gathered(xp, cut, piece, x, (1, 1, *windows.output_size), x.dtype), windows.output_size)
    return y if plain else from_ordered(xp, y, dtype)


def max_unpool(xp: Namespace, y: Array, indices: Array, pool: PoolGeometry, result: DType) -> Array:
    """(N, C, *o) -> (N, C, *d), or with channels last."""
    samples, channels, size = y.shape[0], pool.channels, pool.windows.input_size
    dtype, axes, plane = position_dtype(xp, y), (1,) * len(size), math.prod(size)
    step, between, places = (channels, 1, (*axes, -1)) if pool.channels_last else (1, plane, (-1, *axes))
    total = samples * channels * plane
    first, second = (xp.arange(count, dtype=dtype, device=device(y)) for count in (samples, channels))
    planes = xp.reshape(first, (-1, 1, *axes)) * (channels * plane) + xp.reshape(second, (1, *places)) * between
    indices = xp.astype(indices, dtype, copy=False)
    check_positions(xp, indices, size)
    positions = xp.where((indices >= 0) & (indices < plane), planes + step * indices, xp.full_like(indices, total))
    values = xp.astype(y, working_dtype(xp, result), copy=False)
    x = placed(xp, xp.reshape(values, (-1,)), xp.reshape(positions, (-1,)), total)
    return xp.astype(xp.reshape(x, pool.input_shape), result, copy=False)


def check_positions(xp: Namespace, indices: Array, size: Ints) -> None:
    """Of which PyTorch and JAX drop those that lie outside of a plane of a size."""
    plane = math.prod(size)
    if traits(xp).plain_memory and 0 not in indices.shape and bool(xp.max(indices) >= plane):
        raise ValueError(
            f"indices must be less than the {plane} elements of a plane of size {size}, which follows from y, "
            f"kernel_size, stride, padding, output_size and channel_axis, got {xp.max(indices)}"
        )


def position_dtype(xp: Namespace, array: Array) -> DType:
    """The library's own of sizes: int64, but where JAX has none."""
    return xp.arange(1, device=device(array)).dtype


def im2col(xp: Namespace, x: Array, windows: Geometry, value: complex, dtype: DType) -> Array:
    """(N, C, *d) -> (N*prod(o), C*prod(k))."""
    samples, channels = x.shape[:2]
    if traits(xp).plain_memory:
        rows = xp.empty((samples, *windows.output_size, channels, windows.taps), dtype=dtype)
        task = PoolTask(windows, samples, channels, False, held_by_rows, x.itemsize, True, False)

        def fill(block: PoolBlock) -> None:
            put_rows(xp, _of_x(x, block), _of_rows(rows, block), block.windows, value)

        _each(xp, pool_schedule(task, workspace(None, x.nbytes + rows.nbytes), traits(xp).threads), fill)
    else:
        columns = gather(xp, pad(xp, x, windows.padding, value=value), windows.padded, axis=2)
        rows = xp.permute_dims(columns, (0, *range(3, columns.ndim), 1, 2))
    col = reshaped(xp, rows, (samples * windows.positions, channels * windows.taps))
    return xp.astype(col, dtype, copy=windows.taps == 1)  # which may be a view of x still


def col2im(xp: Namespace, col: Array, samples: int, channels: int, windows: Geometry, dtype: DType) -> Array:
    """(N*prod(o), C*prod(k)) -> (N, C, *d)."""
    shape, sums = (samples, channels, *windows.input_size), working_dtype(xp, dtype)
    rows = reshaped(xp, col, (samples, *windows.output_size, channels, windows.taps))
    if traits(xp).plain_memory:
        task = PoolTask(windows, samples, channels, True, held_by_rows, item_size(xp, sums), True, col.dtype != sums)
        room = workspace(None, col.nbytes + math.prod(shape) * col.itemsize)
        cut = pool_schedule(task, room, traits(xp).threads)
        return _gathered(
            xp, cut, lambda block: rows_adjoint(xp, _of_rows(rows, block), block.windows, sums), col, shape, dtype
        )
    order = (0, rows.ndim - 2, rows.ndim - 1, *range(1, rows.ndim - 2))
    x = scatter(xp, xp.permute_dims(xp.astype(rows, sums, copy=False), order), windows, axis=2)
    return xp.astype(x, dtype, copy=windows.is_tiling)  # which may be a view of col still


def _gathered(
    xp: Namespace, cut: PoolSchedule, piece: Callable[[PoolBlock], Array], like: Array, shape: Ints, dtype: DType
) -> Array:
    """One array of what all blocks give; zeros where no window reaches."""
    if cut.boxes.total == 1:
        return xp.astype(piece(cut.whole), dtype, copy=False)
    result = zeros(xp, like, shape, dtype=dtype)

    def fill(block: PoolBlock) -> None:
        nonlocal result
        part = xp.astype(piece(block)[(..., *block.crop)], dtype, copy=False)
        result = put_at(result, (block.samples, block.channels, *block.place), part)

    _each(xp, cut, fill)
    return result


def _each(xp: Namespace, cut: PoolSchedule, function: Callable[[PoolBlock], None]) -> None:
    def run(number: int) -> None:
        block = cut.block(number)
        if block is not None:
            function(block)

    for_each(run, range(cut.boxes.total), min(cut.limit, cpu_count()) if traits(xp).threads else 1)


def _of_x(x: Array | None, block: PoolBlock) -> Any:
    return x if x is None else x[(block.samples, block.channels, *block.inputs)]


def _of_y(y: Array | None, block: PoolBlock) -> Any:
    return y if y is None else y[(block.samples, block.channels, *block.outputs)]


def _of_rows(rows: Array, block: PoolBlock) -> Array:
    return rows[(block.samples, *block.outputs, block.channels)]
