"""Calls of chunked arrays: which parts of operands each chunk of a result reads, and what is done with them.

Every chunk of a result is a call of its own: a convolution, or a pooling, of the parts that its windows read, with the
padding that remains. Adjoints read the outputs whose windows reach into the chunk, and keep what lies in it. Filters'
gradients are sums over chunks of the output, added up in a tree.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._arrays.elements import add_at, flipped, gathered, zeros
from .._arrays.layout import Layout
from .._arrays.libraries import Array, DType, traits
from .._arrays.operands import Operand, namespace_of
from .._arrays.pieces import Pieces, described_pieces
from .._plan.chunked import (
    Adjoint,
    Reads,
    Window,
    adjoint_of,
    channels_of,
    everything,
    group_edges,
    lengths_of,
    pointwise,
    scaled,
    together,
    windows_of,
)
from .._plan.geometry import ConvGeometry, Geometry, Ints, PoolGeometry
from .._plan.remembered import remembering
from .call import Call
from .graph import Chunked, edges, lazily, write
from .runners import Runner, Scheduled

Given: TypeAlias = Sequence[tuple[tuple[Any, ...], Any]]  # parts of an operand, each with its places along all axes
WIDE = 1.25  # times a chunk that a view of it may keep: what copying it would hold for a while is more
SPLIT = 4  # partial sums that are added up at once: a tree of few levels, of which a worker holds few


class Settings(NamedTuple):
    """What the calls of all chunks share."""

    geometry: ConvGeometry
    flip: bool
    conjugates: bool
    method: str
    max_workspace: int | None
    dtype: DType
    working: DType


class ChunkedCall:
    """A checked call of arrays of which at least one is chunked: the products of `Call`, computed later."""

    def __init__(self, layout: Layout, method: str, max_workspace: int | None) -> None:
        geometry = layout.geometry
        self.layout, self.geometry = layout, geometry
        self.whole = Call(layout, method, max_workspace)  # by which errors are found before there is a task
        self.settings = Settings(
            geometry, layout.flip, layout.conjugates, method, max_workspace, layout.dtype, layout.working
        )
        self.axes = spatial_axes(geometry)
        self.channel_axis = len(self.axes) + 1 if geometry.channels_last else 1
        self.group_channels, self.group_filters = geometry.sizes[2:]
        unread = geometry.unread or ((0, 0),) * len(self.axes)
        lines = zip(geometry.windows.lines, unread, strict=True)
        self.lines = [
            line.over(line.input_size, ((line.padding[0][0], line.padding[0][1] - high),)) for line, (_, high) in lines
        ]

    def forward(self, x: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        _, x, sizes = self.whole.for_forward, lazily(x), (self.group_channels, self.group_filters)
        rates = [(1, line.stride[0], line.output_size[0]) for line in self.lines]
        samples, filters, along = self._cuts(x, beside, sizes, edges(w)[0], rates)
        reads = self._each(windows_of, along)
        data = self._arranged(pointwise(0, samples), self._channels(filters, self.channel_axis), reads)
        kernel = [everything(k) for k in (self.group_channels, *self.geometry.windows.kernel_size)]
        operands = [(x, data), (w, (pointwise(self.channel_axis, filters), *kernel))]
        return self._written(conv_block, (samples, filters, along), operands, b)

    def backward_data(self, dy: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        _, dy, sizes = self.whole.for_data, lazily(dy), (self.group_filters, self.group_channels)
        rates = [(line.stride[0], 1, line.input_size[0]) for line in self.lines]
        samples, channels, along = self._cuts(dy, beside, sizes, edges(w)[1], rates)
        filters, columns = everything(self.geometry.filters), pointwise(self.channel_axis, channels)
        if self.geometry.groups > 1:
            filters = channels_of(self.channel_axis, channels, self.group_channels, self.group_filters)
            columns = everything(self.group_channels)
        data = self._arranged(pointwise(0, samples), filters, self._each(adjoint_of, along))
        operands = [(dy, data), (w, (filters, columns, *map(everything, self.geometry.windows.kernel_size)))]
        return self._written(input_grad_block, (samples, channels, along), operands, b)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        geometry, count, dy, _ = self.geometry, len(self.axes), lazily(dy), self.whole.for_filter
        samples, filters, along = self._cuts(dy, dy, (self.group_filters, self.group_filters), (), [])
        reads = [read._replace(axes=(axis,)) for axis, read in enumerate(self._each(windows_of, along), 1)]
        channels = self._channels(filters, count + 1)
        beside = [pointwise(axis, cut) for axis, cut in enumerate(along, 1)]
        operands = [
            (dy, self._arranged(pointwise(0, samples), pointwise(count + 1, filters), beside)),
            (x, self._arranged(pointwise(0, samples), channels, reads)),
        ]
        kernel = [(0, k) for k in (self.group_channels, *geometry.windows.kernel_size)]
        return self._added(weight_grad_block, (samples, *along), (filters, *kernel), operands)

    def bias_adjoint(self, dy: Array) -> Array:
        dy, cuts = lazily(dy), edges(dy)
        outer, channels = (cuts[0], *[cuts[axis] for axis in self.axes]), cuts[self.channel_axis]
        samples, *beside = [pointwise(axis, cut) for axis, cut in enumerate(outer)]
        reads = self._arranged(samples, pointwise(len(outer), channels), beside)
        return self._added(bias_grad_block, outer, (channels,), [(dy, reads)])

    def _added(
        self,
        function: Callable[..., Array],
        outer: Sequence[Ints],
        cuts: tuple[Ints, ...],
        operands: list[tuple[Array, tuple[Reads, ...]]],
    ) -> Array:
        """The sum of what a function gives for each chunk, by a tree without one more task for each."""
        counts, settings = tuple([len(lengths_of(cut)) for cut in outer]), self.settings
        ones, inner = [tuple(range(count + 1)) for count in counts], settings._replace(dtype=settings.working)
        partial = write(Chunked(function, inner, (*ones, *cuts), inner.dtype, tuple(operands), joins=True))
        while math.prod(counts) > SPLIT:
            at_once, left = [], SPLIT
            for count in counts:
                at_once.append(min(count, left))
                left //= at_once[-1]
            reads = [together(axis, *some) for axis, some in enumerate(zip(counts, at_once, strict=True))]
            counts = tuple([-(-count // some) for count, some in zip(counts, at_once, strict=True)])
            reads += [pointwise(axis, cut) for axis, cut in enumerate(cuts, len(counts))]
            result = *[tuple(range(count + 1)) for count in counts], *cuts
            several = ((partial, tuple(reads)),)
            partial = write(Chunked(added_block, settings, result, settings.working, several, joins=True))
        reads = [*map(everything, counts), *[pointwise(axis, cut) for axis, cut in enumerate(cuts)]]
        return write(Chunked(added_block, settings, cuts, settings.dtype, ((partial, tuple(reads)),), joins=True))

    def _channels(self, filters: Ints, axis: int) -> Reads:
        """The channels that filters between edges, which are along an axis of the result, read."""
        if self.geometry.groups == 1:
            return everything(self.geometry.channels)
        return channels_of(axis, filters, self.group_filters, self.group_channels)

    def _cuts(
        self, data: Array, beside: Array | None, sizes: tuple[int, int], free: Ints, rates: list[tuple[int, int, int]]
    ) -> tuple[Ints, Ints, list[Ints]]:
        """Where samples, channels and axes of a result are cut: as an array that it lies beside, or as the data are.

        ``sizes`` are the channels of a group, of the data and of the result; those of one group may be cut anywhere,
        as the filters are. Axes are longer than the data's, or shorter, by ``rates``.
        """
        cuts = edges(data if beside is None else beside)
        channels = free if beside is None else cuts[self.channel_axis]
        if self.geometry.groups > 1:
            size = sizes[0] if beside is None else sizes[1]
            channels = group_edges(cuts[self.channel_axis], size, sizes[1], self.geometry.groups)
        along = [cuts[axis] for axis in self.axes]
        if beside is None:
            along = [scaled(cut, *rate) for cut, rate in zip(along, rates, strict=True)]
        return cuts[0], channels, along

    def _each(self, reads: Callable[[Geometry, str, int, Ints], Reads], along: list[Ints]) -> list[Reads]:
        """What is read along each axis, of which the result's is cut so."""
        axes = zip(self.lines, self.geometry.padding_modes, self.axes, along, strict=True)
        return [reads(*axis) for axis in axes]

    def _arranged(self, samples: Any, channels: Any, spatial: Sequence[Any]) -> tuple[Any, ...]:
        return (samples, *spatial, channels) if self.geometry.channels_last else (samples, channels, *spatial)

    def _written(
        self,
        function: Callable[..., Array],
        cuts: tuple[Ints, Ints, list[Ints]],
        operands: list[tuple[Array, tuple[Reads, ...]]],
        b: Array | None,
    ) -> Array:
        if b is not None:
            operands.append((b, (pointwise(self.channel_axis, cuts[1]),)))
        result = self._arranged(*cuts)
        return write(Chunked(function, self.settings, result, self.settings.dtype, tuple(operands), joins=True))


def spatial_axes(geometry: ConvGeometry | PoolGeometry) -> Ints:
    """The user's axes that windows lie along."""
    first = 1 if geometry.channels_last else 2
    return tuple(range(first, first + geometry.windows.ndim))


def spatial(geometry: ConvGeometry | PoolGeometry, places: tuple[Any, ...]) -> list[Any]:
    return [places[axis] for axis in spatial_axes(geometry)]


def conv_block(settings: Settings, sizes: Ints, like: Array, xs: Given, ws: Given, bs: Given = ()) -> Array:
    """A chunk of y."""
    ((places, x),), ((_, w),) = xs, ws
    w, b = w.joined(), bs[0][1].joined() if bs else None
    if x is None or 0 in sizes:
        return _biased(settings, zeros(namespace_of(x=like), like, sizes, dtype=settings.working), b)
    call = _call(settings, spatial(settings.geometry, places), x=x, w=w, b=b)
    return call.forward(_read(call, call.for_forward, x), w, b)


def input_grad_block(settings: Settings, sizes: Ints, like: Array, dys: Given, ws: Given, bs: Given = ()) -> Array:
    """A chunk of dx: the sum of what each part of dy gives to it."""
    ((_, w),) = ws
    w, b = w.joined(), bs[0][1].joined() if bs else None

    def adjoint(dy: Any, windows: list[Window]) -> Array:
        call = _call(settings._replace(dtype=settings.working), windows, dy=dy, w=w)
        return call.backward_data(_read(call, call.for_data, dy), w)

    dx = summed_parts(like, sizes, settings.working, spatial_axes(settings.geometry), dys, adjoint)
    return _biased(settings, dx, b)


def weight_grad_block(settings: Settings, sizes: Ints, like: Array, dys: Given, xs: Given) -> Array:
    """What a chunk of dy gives to dw, (1, ..., 1, K, C/G, *k)."""
    ((_, dy),), ((places, x),) = dys, xs
    xp = namespace_of(x=like)
    if dy is None or x is None:
        return zeros(xp, like, sizes, dtype=settings.dtype)
    call = _call(settings, spatial(settings.geometry, places), dy=dy, x=x)
    return xp.reshape(call.backward_filter(dy.joined(), _read(call, call.for_filter, x)), sizes)


def bias_grad_block(settings: Settings, sizes: Ints, like: Array, dys: Given) -> Array:
    """What a chunk of dy gives to db, (1, ..., 1, K): of elements in one order, wherever they come from."""
    ((_, dy),) = dys
    xp = namespace_of(x=like)
    if dy is None:
        return zeros(xp, like, sizes, dtype=settings.dtype)
    axes = tuple([axis for axis in range(dy.ndim) if axis != (-1 if settings.geometry.channels_last else 1) % dy.ndim])
    return xp.reshape(xp.sum(gathered(xp, dy.joined()), axis=axes, dtype=settings.dtype), sizes)


def added_block(settings: Settings, sizes: Ints, like: Array, partials: Given) -> Array:
    """What several give to dw; once all are added, in its own shape and dtype."""
    ((_, pieces),) = partials
    total = functools.reduce(operator.add, pieces.parts.values())
    dtype = settings.dtype if len(sizes) < total.ndim else settings.working
    xp = namespace_of(x=like)
    return xp.astype(xp.reshape(total, sizes), dtype, copy=False)


def cropped(xp: Any, y: Array, index: tuple[slice, ...]) -> Array:
    """A part of an array of our own: a view, which keeps all of it, only where that is little more."""
    part = y[(*index, ...)]  # without axes it would be a number
    return part if WIDE * math.prod(part.shape) >= math.prod(y.shape) else xp.asarray(part, copy=True)


def summed_parts(
    like: Array, sizes: Ints, dtype: DType, axes: Ints, dys: Given, function: Callable[[Any, list[Window]], Array]
) -> Array:
    """A chunk of dx: the sum of what lies in it of a function's adjoints of parts, the first of which often is all."""
    xp, dx = namespace_of(x=like), None
    for places, dy in dys:
        if dy is None:
            continue
        adjoints: list[Adjoint] = [places[axis] for axis in axes]
        part = function(dy, [one.window for one in adjoints])
        kept, target = [slice(None)] * part.ndim, [slice(0, size) for size in sizes]
        for axis, adjoint in zip(axes, adjoints, strict=True):
            kept[axis], target[axis] = adjoint.kept, adjoint.target
        backwards = tuple([axis for axis, adjoint in zip(axes, adjoints, strict=True) if adjoint.step < 0])
        alike = tuple([axis for axis, adjoint in zip(axes, adjoints, strict=True) if adjoint.step == 0])
        if dx is None and not (backwards or alike) and target == [slice(0, size) for size in sizes]:
            dx = cropped(xp, part, tuple(kept))
            continue
        part = part[tuple(kept)]
        part = flipped(xp, part, backwards) if backwards else part
        part = xp.sum(part, axis=alike, keepdims=True, dtype=part.dtype) if alike else part
        dx = add_at(xp, zeros(xp, like, sizes, dtype=dtype) if dx is None else dx, tuple(target), part)
    return zeros(xp, like, sizes, dtype=dtype) if dx is None else dx


def _biased(settings: Settings, y: Array, b: Array | None) -> Array:
    xp = namespace_of(y=y)
    if b is not None:
        shape = [1] * y.ndim
        shape[-1 if settings.geometry.channels_last else 1] = b.shape[0]
        y = y + xp.astype(xp.reshape(b, tuple(shape)), settings.working)
    return xp.astype(y, settings.dtype, copy=False)


def _read(call: Call, runner: Runner, x: Array | Pieces) -> Array | Pieces:
    """An input in pieces: joined, if not by blocks that read it one after another."""
    geometry, in_blocks = call.layout.geometry, traits(call.layout.xp).threads and len(x.parts) > 1
    is_even = not geometry.channels_last and (geometry.groups == 1 or x.grid[1] == 1)
    if in_blocks and is_even and isinstance(runner, Scheduled) and runner.local is None:
        return x
    return x.joined()  # outliers, too, are looked for in all at once


def _call(settings: Settings, windows: Sequence[Window], **arrays: Array | Pieces | None) -> Call:
    return _planned(described_pieces(**arrays), settings, tuple(windows))


@remembering(trusted=3)
def _planned(operands: tuple[Operand, ...], settings: Settings, windows: tuple[Window, ...]) -> Call:
    """The call of a chunk, whose sizes are those of its operands."""
    shapes = {operand.name: operand.shape for operand in operands}
    whole, xp = settings.geometry, operands[0].xp
    channel_axis, (group_channels, group_filters) = -1 if whole.channels_last else 1, whole.sizes[2:]
    batch = shapes["x" if "x" in shapes else "dy"][0]
    if "w" in shapes and whole.groups == 1:  # of which a chunk may have some filters, or some channels
        filters, channels = shapes["w"][:2]
        groups = 1
    else:
        filters = shapes["w"][0] if "w" in shapes else shapes["dy"][channel_axis]
        groups = filters // group_filters if whole.groups > 1 else 1
        channels = groups * group_channels
    line = whole.windows.over(tuple([each.size for each in windows]), tuple([each.padding for each in windows]))
    geometry = ConvGeometry(batch, channels, filters, groups, whole.channels_last, ("zeros",) * len(windows), line)
    layout = Layout(xp, operands, settings.dtype, geometry, settings.flip, settings.conjugates, settings.working)
    return Call(layout, settings.method, settings.max_workspace)
