"""Pools and rows of windows over blocks, in bounded memory, and on threads where they help.

A block is some samples, some channels and a box: of outputs, or, for an adjoint, of inputs with all windows that reach
into it. So no two blocks write to one place, and sums are rounded as if there were one block.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from .._arrays.elements import reshaped
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.operands import working_dtype
from .._arrays.pooling import (
    held_by_maxima_adjoint,
    held_by_rows,
    held_by_sums,
    maxima,
    maxima_adjoint,
    means,
    means_adjoint,
    put_rows,
    rows_adjoint,
)
from .._arrays.windows import gather, pad, scatter
from .._plan.geometry import Geometry, Ints, Pairs, PoolGeometry, Slices, of_samples
from .threads import cpu_count, for_each

MAX_WORKSPACE = 64 * 2**20  # bytes
NEVER_REFUSED = 2**20  # bytes of workspace that no call is refused for, should its largest windows take more
CACHED = 2**22  # bytes of a block, measured on 2 cores: 2**20 takes up to 2.5 times as long, 2**23 as long
SMALL = 2**18  # bytes of what is done before a thread would have begun
PARTS = 4  # at least, that threads share, whatever their number
FEW = 32  # taps that are laid out or added up at once; XLA compiles 225 of them in 4 to 9 s
OVERLAP = 0.75  # of what a box holds, that a half may hold to be worth cutting: what halves read twice costs time
Counts: TypeAlias = Sequence[Sequence[int]]
Held: TypeAlias = Callable[[Geometry, Ints, Ints, int], int]


class Part(NamedTuple):
    """A block: what it reads of x and of y, its windows, and where what they give of the result belongs."""

    samples: slice
    channels: slice
    outputs: Slices
    inputs: Slices
    windows: Geometry
    place: Slices  # in the result, where part of what the block computes belongs
    crop: Slices  # that part

    def of_x(self, x: Array) -> Array:
        return x[(self.samples, self.channels, *self.inputs)]

    def of_y(self, y: Array) -> Array:
        return y[(self.samples, self.channels, *self.outputs)]

    def of_rows(self, rows: Array) -> Array:
        return rows[(self.samples, *self.outputs, self.channels)]

    def of_counts(self, counts: Counts) -> Counts:
        return [count if len(count) == 1 else count[part] for count, part in zip(counts, self.outputs, strict=False)]

    def put(self, result: Array, piece: Array) -> None:
        result[(self.samples, self.channels, *self.place)] = piece[(..., *self.crop)]


class Blocks(NamedTuple):
    """How a call is cut, and how many parts may be under way at once."""

    parts: tuple[Part, ...]
    threads: int

    def run(self, xp: Namespace, function: Callable[[Part], None]) -> None:
        for_each(function, self.parts, min(self.threads, cpu_count()) if traits(xp).threads else 1)

    def gathered(self, xp: Namespace, kernel: Callable[[Part], Array], shape: Ints, dtype: DType) -> Array:
        """What the kernel gives of all parts."""
        if len(self.parts) == 1:
            return xp.astype(kernel(self.parts[0]), dtype, copy=False)
        result = xp.zeros(shape, dtype=dtype)
        self.run(xp, lambda part: part.put(result, kernel(part)))
        return result


def max_pool(xp: Namespace, x: Array, pool: PoolGeometry, max_workspace: int | None) -> Array:
    """(N, C, *d) -> (N, C, *o), or with channels last."""
    blocks, (x,) = _entered(xp, pool, held_by_sums, max_workspace, False, x)
    return _left(xp, pool, blocks, lambda part: maxima(xp, part.of_x(x), part.windows), x.dtype)


def max_pool_grad(
    xp: Namespace, dy: Array, x: Array, pool: PoolGeometry, dtype: DType, max_workspace: int | None
) -> Array:
    """(N, C, *o), (N, C, *d) -> (N, C, *d), or with channels last."""
    blocks, (x, dy) = _entered(xp, pool, held_by_maxima_adjoint, max_workspace, True, x, dy)
    sums = working_dtype(xp, dtype)

    def kernel(part: Part) -> Array:
        return maxima_adjoint(xp, part.of_y(dy), part.of_x(x), part.windows, sums)

    return _left(xp, pool, blocks, kernel, dtype, True)


def avg_pool(xp: Namespace, x: Array, pool: PoolGeometry, counts: Counts, max_workspace: int | None) -> Array:
    """(N, C, *d) -> (N, C, *o), or with channels last."""
    blocks, (x,) = _entered(xp, pool, held_by_sums, max_workspace, False, x)
    sums = working_dtype(xp, x.dtype)

    def kernel(part: Part) -> Array:
        return means(xp, part.of_x(x), part.windows, part.of_counts(counts), sums)

    return _left(xp, pool, blocks, kernel, x.dtype)


def avg_pool_grad(xp: Namespace, dy: Array, pool: PoolGeometry, counts: Counts, max_workspace: int | None) -> Array:
    """(N, C, *o) -> (N, C, *d), or with channels last."""
    blocks, (dy,) = _entered(xp, pool, held_by_sums, max_workspace, True, dy)
    sums = working_dtype(xp, dy.dtype)

    def kernel(part: Part) -> Array:
        return means_adjoint(xp, part.of_y(dy), part.windows, part.of_counts(counts), sums)

    return _left(xp, pool, blocks, kernel, dy.dtype, True)


def im2col(xp: Namespace, x: Array, windows: Geometry, value: complex) -> Array:
    """(N, C, *d) -> (N*prod(o), C*prod(k))."""
    samples, channels = x.shape[:2]
    if traits(xp).plain_memory:
        rows = xp.empty((samples, *windows.output_size, channels, windows.taps), dtype=x.dtype)
        blocks = _planned(xp, windows, samples, channels, held_by_rows, False, x.itemsize, x.nbytes + rows.nbytes)
        blocks.run(xp, lambda part: put_rows(xp, part.of_x(x), part.of_rows(rows), part.windows, value))
    else:
        columns = pad(xp, x, windows.padding, value=value)
        for step in _steps(windows.padded):
            columns = gather(xp, columns, step, axis=2)
        columns = xp.reshape(columns, (samples, channels, windows.taps, *windows.output_size))
        rows = xp.permute_dims(columns, (0, *range(3, columns.ndim), 1, 2))
    col = reshaped(xp, rows, (samples * windows.positions, channels * windows.taps))
    return xp.astype(col, x.dtype, copy=windows.taps == 1)  # which may be a view of x still


def col2im(xp: Namespace, col: Array, samples: int, channels: int, windows: Geometry) -> Array:
    """(N*prod(o), C*prod(k)) -> (N, C, *d)."""
    shape, sums = (samples, channels, *windows.input_size), working_dtype(xp, col.dtype)
    rows = reshaped(xp, col, (samples, *windows.output_size, channels, windows.taps))
    if traits(xp).plain_memory:
        element = xp.dtype(sums).itemsize
        known = col.nbytes + math.prod(shape) * col.itemsize
        blocks = _planned(xp, windows, samples, channels, held_by_rows, True, element, known)
        return blocks.gathered(
            xp, lambda part: rows_adjoint(xp, part.of_rows(rows), part.windows, sums), shape, col.dtype
        )
    steps = _steps(windows)[::-1]
    rows = xp.permute_dims(
        xp.astype(rows, sums, copy=False), (0, rows.ndim - 2, rows.ndim - 1, *range(1, rows.ndim - 2))
    )
    x = xp.reshape(rows, (samples, channels, *(step.taps for step in steps), *windows.output_size))
    for step in steps:
        x = scatter(xp, x, step, axis=2)
    return xp.astype(x, col.dtype, copy=windows.is_tiling)  # which may be a view of col still


def _steps(windows: Geometry) -> list[Geometry]:
    """Windows as what is laid out at once: one axis after the other, since compilers take long for many taps."""
    return [windows] if windows.taps <= FEW else windows.stages


def _entered(
    xp: Namespace, pool: PoolGeometry, held: Held, max_workspace: int | None, is_adjoint: bool, *arrays: Array
) -> tuple[Blocks, list[Array]]:
    """The blocks of a pool, and arrays as (N, C, *d), or (N, 1, *d, C): channels are an axis without windows then."""
    windows, channels = pool.windows, pool.channels
    if pool.channels_last:
        windows, channels = of_samples(windows, channels, windows.ndim), 1
        arrays = tuple([reshaped(xp, array, (pool.batch, 1, *array.shape[1:])) for array in arrays])
    if not traits(xp).plain_memory:
        return Blocks((_whole(windows, pool.batch, channels),), 1), [*arrays]
    element = max(xp.dtype(working_dtype(xp, array.dtype)).itemsize for array in arrays)
    known = sum(array.nbytes for array in arrays) + arrays[0].nbytes
    return _planned(xp, windows, pool.batch, channels, held, is_adjoint, element, known, max_workspace), [*arrays]


def _left(
    xp: Namespace,
    pool: PoolGeometry,
    blocks: Blocks,
    kernel: Callable[[Part], Array],
    dtype: DType,
    is_adjoint: bool = False,
) -> Array:
    shape = pool.input_shape if is_adjoint else pool.output_shape
    canonical = (shape[0], 1, *shape[1:]) if pool.channels_last else shape
    result = blocks.gathered(xp, kernel, canonical, dtype)
    return reshaped(xp, result, shape) if pool.channels_last else result


def _planned(
    xp: Namespace,
    windows: Geometry,
    samples: int,
    channels: int,
    held: Held,
    is_adjoint: bool,
    element: int,
    known: int,
    max_workspace: int | None = None,
) -> Blocks:
    """Blocks within the workspace, which is as much as is known of operands and result, if nothing is said of it."""
    room = max(MAX_WORKSPACE, known) if max_workspace is None else max_workspace
    return _cut(windows, (samples, channels), held, is_adjoint, element, room, traits(xp).threads)


@functools.lru_cache(maxsize=64)
def _cut(
    windows: Geometry, lead: Ints, held: Held, is_adjoint: bool, element: int, room: int, on_threads: bool
) -> Blocks:
    """Samples are cut first, then channels, then rows; a block is as large as the cache, or the workspace, allows."""
    sizes = (*lead, *(windows.input_size if is_adjoint else windows.output_size))

    def bytes_of(lengths: Sequence[int]) -> int:
        return math.prod(lengths[:2]) * held(windows, *_extent(windows, lengths[2:], is_adjoint), element)

    least, whole = bytes_of([min(size, 1) for size in sizes]), bytes_of(sizes)
    if room < min(least, NEVER_REFUSED):
        raise ValueError(f"max_workspace must be at least {min(least, NEVER_REFUSED)} bytes for this call, got {room}")
    budget = room
    if on_threads and whole > SMALL:
        budget = min(CACHED, room // PARTS, whole // PARTS)
    lengths = [*sizes]
    order = [0, *range(2, len(sizes)), 1] if held is held_by_rows else range(len(sizes))  # channels make up one row
    for place in order:
        while lengths[place] > 1 and (now := bytes_of(lengths)) > budget:
            halved = [*lengths[:place], -(-lengths[place] // 2), *lengths[place + 1 :]]
            if place > 1 and (least > room or (now <= room and bytes_of(halved) > OVERLAP * now)):
                break  # windows so large that each box would compute much of what others do
            lengths = halved
    if lengths == [*sizes]:
        return Blocks((_whole(windows, *lead),), 1)
    ranges = [[(i, min(i + n, size)) for i in range(0, size, n)] for size, n in zip(sizes, lengths, strict=True)]
    boxes = [box for pairs in itertools.product(*ranges[2:]) if (box := _restricted(windows, pairs, is_adjoint))]
    parts = [Part(slice(*some), slice(*few), *box) for some in ranges[0] for few in ranges[1] for box in boxes]
    return Blocks(tuple(parts), max(room // bytes_of(lengths), 1))


def _extent(windows: Geometry, box: Sequence[int], is_adjoint: bool) -> tuple[Ints, Ints]:
    """The most inputs and outputs, along each axis, of a box of outputs, or of inputs."""
    axes = [*zip(box, windows.input_size, windows.output_size, windows.reach, windows.stride, strict=True)]
    outputs = tuple(min((size + r - 2) // s + 1, o) if is_adjoint else size for size, _, o, r, s in axes)
    return tuple(min((m - 1) * s + r, d) for m, (_, d, _, r, s) in zip(outputs, axes, strict=True)), outputs


def _restricted(
    windows: Geometry, box: Pairs, is_adjoint: bool
) -> tuple[Slices, Slices, Geometry, Slices, Slices] | None:
    """Outputs, inputs and windows of a box, and its part of the result; nothing if no window reaches into it."""
    ranges = windows.reading(box) if is_adjoint else box
    if any(start >= stop for start, stop in ranges):
        return None
    inputs, restricted = windows.restrict(ranges)
    outputs = tuple(slice(*pair) for pair in ranges)
    if not is_adjoint:
        return outputs, inputs, restricted, outputs, (slice(None),) * len(box)
    bounds = [(max(start, read.start), min(stop, read.stop)) for (start, stop), read in zip(box, inputs, strict=True)]
    crop = tuple(slice(a - read.start, b - read.start) for (a, b), read in zip(bounds, inputs, strict=True))
    return outputs, inputs, restricted, tuple(slice(*pair) for pair in bounds), crop


def _whole(windows: Geometry, samples: int, channels: int) -> Part:
    everything = (slice(None),) * windows.ndim
    return Part(slice(0, samples), slice(0, channels), everything, everything, windows, everything, everything)
