"""The three products of a method, over blocks, in bounded memory and on threads where they help.

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

In* and its overlaps are seldom needed: the adjoint of a convolution is one itself, of filters turned round, and with
strides one for each phase of them.
Outputs of different blocks are different elements of y; their shares of dx overlap, so blocks of one colour run
together and colours one after the other; their shares of dw all add, so a thread has channels or a sum of its own.
Where filters outweigh data, as in deep layers, threads share filters instead, and data is mapped once for all of them.
Which block adds to what, and when, does not depend on the threads, and so neither does any rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from .._arrays.elements import add_at, conjugate, conjugate_transpose, empty, put_at, reshaped, transposed, zeros
from .._arrays.layout import per_channel, turned
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.matmul import bytes_per_element, matmul
from .._methods import ROOM, Maps, filter_workspace, takes_filters_apart
from .._methods.costs import Work, adjoint_phases, rates_of
from .._plan.blocks import Block, by_colour, chains, cut, unit_counts, unit_geometry
from .._plan.geometry import Geometry, Ints, Phase
from .._plan.remembered import remembered
from .threads import Item, cpu_count, for_each, one_blas_thread

Product = TypeVar("Product", bound=Callable[..., Array])
CACHED = 8 * 2**20  # bytes of a block that stays in a core's cache while its maps and its product pass over it
PARTS = 4  # at least, that threads share, whatever their number
SUMS = 4  # that threads share of a reduction
WORTHWHILE = 200_000  # nanoseconds, below which a part is not worth a thread
SHARES = 16  # times a small gradient that must fit the workspace if several sums are to make it up
SCHEDULES = 256  # kept, each of which may be thousands of blocks
SMALL_WEIGHT = 2**20  # bytes of a gradient of which every part may have a copy


def _on_threads_of_ours(product: Product) -> Product:
    """Hold BLAS to one thread during a product: its own would spin on the CPUs that ours need."""

    @functools.wraps(product)
    def run(self: Products, *arrays: Array | None) -> Array:
        if not traits(self.xp).threads or self.worth == 1:
            return product(self, *arrays)
        with one_blas_thread():
            return product(self, *arrays)

    return cast(Product, run)


class Products:
    """One convolution by one method: canonical arrays in and out, channels and filters counted within a group."""

    def __init__(
        self,
        xp: Namespace,
        dtype: DType,
        maps: Maps,
        windows: Geometry,
        batch: int,
        groups: int,
        channels: int,
        filters: int,
        max_workspace: int,
        turned: bool = False,
    ) -> None:
        self.xp = xp
        self.dtype = dtype
        self.maps = maps
        self.windows = windows
        self.batch, self.groups, self.channels, self.filters = batch, groups, channels, filters
        self.max_workspace = max_workspace
        self.turned = turned  # whether filters are those of another convolution turned round, which no method can view

    @_on_threads_of_ours
    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        """(N, G*C, *d), (G*K, C, *k), (G*K,) -> (N, G*K, *o)."""
        bias = None if b is None else self._grouped(b, 0)
        return self._joined(self._forward(self._grouped(x, 1), self._grouped(w, 0), bias), 1)

    @_on_threads_of_ours
    def input_adjoint(self, dy: Array, w: Array) -> Array:
        """(N, G*K, *o), (G*K, C, *k) -> (N, G*C, *d)."""
        return self._joined(self._input_adjoint(self._grouped(dy, 1), self._grouped(w, 0)), 1)

    @_on_threads_of_ours
    def weight_adjoint(self, dy: Array, x: Array) -> Array:
        """(N, G*K, *o), (N, G*C, *d) -> (G*K, C, *k)."""
        return self._joined(self._weight_adjoint(self._grouped(dy, 1), self._grouped(x, 1)), 0)

    def _forward(self, x: Array, w: Array, b: Array | None, y: Array | None = None) -> Array:
        """(N, G, C, *d), (G, K, C, *k), (G, K) -> (N, G, K, *o), written to y if that is given: plain memory."""
        parts, threads = _filter_parts(self)
        if parts:
            return self._forward_by_filters(x, w, b, parts, threads)
        xp = self.xp
        blocks, threads = _schedule(self, self.channels, self.weight_bytes)
        rows = self.maps.weight_map(xp, w, self.windows)

        def product(block: Block, place: Array | None = None) -> Array:
            columns = self.maps.input_map(xp, block.of_input(x), block.windows)
            return matmul(xp, _of_groups(rows, block), columns, place)

        def output(block: Block) -> Array:
            return biased(self.maps.output_map(xp, product(block), block.windows), block)

        def biased(y: Array, block: Block) -> Array:
            return y if b is None else add_at(y, (...,), per_channel(b[block.groups, :], self.windows.ndim))

        if y is None and len(blocks) == 1:
            return output(blocks[0])
        is_own = y is None
        y = empty(xp, x, self.output_shape, w) if y is None else y

        def fill(block: Block) -> None:
            nonlocal y
            place = self._place(y, block) if is_own else None
            if place is None:
                y = put_at(y, block.output_index, output(block))
            else:
                product(block, place)
                biased(block.of_output(y), block)

        self._run(fill, [blocks], threads)
        return y

    def _forward_by_filters(self, x: Array, w: Array, b: Array | None, parts: tuple[slice, ...], threads: int) -> Array:
        """As `_forward`, by parts of the filters."""
        xp, columns = self.xp, self._shared_input(x, threads)

        def output(part: slice) -> Array:
            products = matmul(xp, self.maps.weight_map(xp, w[:, part], self.windows), columns)
            y = self.maps.output_map(xp, products, self.windows)
            return y if b is None else add_at(y, (...,), per_channel(b[:, part], self.windows.ndim))

        places = [((slice(None), slice(None), part), part) for part in parts]
        return self._filled((x, w), self.output_shape, places, output, threads)

    def _input_adjoint(self, dy: Array, w: Array) -> Array:
        """(N, G, K, *o), (G, K, C, *k) -> (N, G, C, *d)."""
        if self._phases:
            return self._input_adjoint_by_phases(dy, w)
        xp = self.xp
        blocks, threads = _schedule(self, self.channels, self.weight_bytes)
        rows = conjugate(xp, self.maps.weight_map(xp, w, self.windows))

        def share(block: Block) -> Array:
            columns = self.maps.output_adjoint(xp, block.of_output(dy), block.windows)
            products = matmul(xp, transposed(xp, _of_groups(rows, block)), columns)
            return self.maps.input_adjoint(xp, products, block.windows)

        if len(blocks) == 1:
            return share(blocks[0])
        dx = zeros(xp, dy, self._input_shape, w)

        def add(block: Block) -> None:
            nonlocal dx
            dx = add_at(dx, block.input_index, share(block))

        self._run(add, by_colour(blocks), threads)
        return dx

    def _input_adjoint_by_phases(self, dy: Array, w: Array) -> Array:
        """As `_input_adjoint`, by convolutions of dy, each of which gives a part of dx."""
        xp, n = self.xp, self.windows.ndim
        swapped = conjugate(xp, xp.permute_dims(w, (0, 2, 1, *range(3, w.ndim))))

        def run(phase: Phase, products: Products, dx: Array | None = None) -> Array:
            filters = turned(xp, swapped[(..., *phase.taps)], n)
            return products._forward(dy[(..., *phase.outputs)], filters, None, dx)

        if max(self.windows.stride) == 1:
            return run(*self._phases[0])
        is_whole = len(self._phases) == math.prod(map(min, self.windows.stride, self.windows.input_size))
        dx = (empty if is_whole else zeros)(xp, dy, self._input_shape, w)
        for phase, products in self._phases:
            run(phase, products, dx[(..., *phase.inputs)])
        return dx

    def _weight_adjoint(self, dy: Array, x: Array) -> Array:
        """(N, G, K, *o), (N, G, C, *d) -> (G, K, C, *k)."""
        parts, threads = _filter_parts(self)
        if parts:
            return self._weight_adjoint_by_filters(dy, x, parts, threads)
        xp = self.xp
        runs, threads = _reduction(self)

        def rows_of(block: Block, channels: slice) -> Array:
            left = self.maps.output_adjoint(xp, block.of_output(dy), block.windows)
            right = self.maps.input_map(xp, block.of_input(x, channels), block.windows)
            rows = matmul(xp, left, conjugate_transpose(xp, right))
            return xp.sum(rows, axis=0, dtype=rows.dtype) if self.maps.stacks_samples else rows

        def share(run: _Run) -> Array:
            first, *others = run.blocks
            rows = rows_of(first, run.channels)
            for block in others:
                rows = add_at(rows, (...,), rows_of(block, run.channels))
            return self.maps.weight_adjoint(xp, rows, self.windows)

        if len(runs) == 1:
            return share(runs[0])
        if len({run.target for run in runs}) == len(runs):
            return self._filled((dy, x), self.weight_shape, [(run.part, run) for run in runs], share, threads)
        dw = zeros(xp, dy, self.weight_shape, x)
        shares: dict[int, Array] = {}
        self._run(lambda at: shares.update({at: share(runs[at])}), [range(len(runs))], threads)
        for at, run in enumerate(runs):
            dw = add_at(dw, run.part, shares.pop(at))
        return dw

    def _weight_adjoint_by_filters(self, dy: Array, x: Array, parts: tuple[slice, ...], threads: int) -> Array:
        """As `_weight_adjoint`, by parts of the filters."""
        xp, columns = self.xp, conjugate_transpose(self.xp, self._shared_input(x, threads))

        def share(part: slice) -> Array:
            rows = matmul(xp, self.maps.output_adjoint(xp, dy[:, :, part], self.windows), columns)
            return self.maps.weight_adjoint(xp, rows, self.windows)

        return self._filled((dy, x), self.weight_shape, [((slice(None), part), part) for part in parts], share, threads)

    def _shared_input(self, x: Array, threads: int) -> Array:
        """In(x) of all samples, whose channels threads share."""
        parts = _slices(self.channels, -(-self.channels // PARTS))
        columns: dict[int, Array] = {}

        def fill(at: int) -> None:
            columns[at] = self.maps.input_map(self.xp, x[:, :, parts[at]], self.windows)

        self._run(fill, [range(len(parts))], threads)
        return self.xp.concat([columns[at] for at in range(len(parts))], axis=-2)

    def _filled(
        self,
        operands: tuple[Array, Array],
        shape: Ints,
        parts: Sequence[tuple[tuple[Any, ...], Item]],
        share: Callable[[Item], Array],
        threads: int,
    ) -> Array:
        """An array of which every part is one share of what the operands give."""
        like, other = operands
        whole = empty(self.xp, like, shape, other)

        def fill(part: tuple[tuple[Any, ...], Item]) -> None:
            nonlocal whole
            index, item = part
            whole = put_at(whole, index, share(item))

        self._run(fill, [parts], threads)
        return whole

    def _grouped(self, array: Array, axis: int) -> Array:
        """(..., G*channels, ...) -> (..., G, channels, ...)."""
        shape = array.shape
        return reshaped(self.xp, array, (*shape[:axis], self.groups, shape[axis] // self.groups, *shape[axis + 1 :]))

    def _joined(self, array: Array, axis: int) -> Array:
        """The inverse of `_grouped`."""
        shape = array.shape
        return reshaped(self.xp, array, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))

    @remembered
    def output_shape(self) -> Ints:
        return (self.batch, self.groups, self.filters, *self.windows.output_size)

    @remembered
    def _input_shape(self) -> Ints:
        return (self.batch, self.groups, self.channels, *self.windows.input_size)

    @remembered
    def weight_shape(self) -> Ints:
        return (self.groups, self.filters, self.channels, *self.windows.kernel_size)

    @remembered
    def work(self) -> Work:
        return Work(self.windows, self.batch, self.groups, self.channels, self.filters)

    @remembered
    def _phases(self) -> list[tuple[Phase, Products]]:
        """The convolutions that the adjoint is run as, if it is, the largest first: if that has no room, it says so.

        Where a copy of the filters, which it would do without, leaves none, it is not run so.
        """
        phases = adjoint_phases(self.maps.name, self.xp, self.windows, self.batch, self.channels, self.filters)
        pairs = [(phase, self._swapped(phase.windows)) for phase in phases]
        if not (self.weight_bytes or all(part.has_room_for_filters for _, part in pairs)):
            return []
        return sorted(pairs, key=lambda pair: -_unit_bytes(pair[1], pair[1].channels) - pair[1].weight_bytes)

    def _swapped(self, windows: Geometry) -> Products:
        """A convolution by the same method with the roles of channels and filters swapped."""
        maps = self.maps.plan(windows, self.xp, self.dtype)
        sizes = self.batch, self.groups, self.filters, self.channels
        return Products(self.xp, self.dtype, maps, windows, *sizes, self.max_workspace, turned=True)

    @remembered
    def weight_bytes(self) -> int:
        """Bytes of all filters as they are multiplied, if these are not a view of the caller's."""
        elements = self.maps.weight_workspace(self.windows, self.channels, self.filters)
        if self.turned and not elements:
            elements = self.windows.taps * self.channels * self.filters
        return elements * self.groups * bytes_per_element(self.xp, self.dtype)

    @remembered
    def has_room_for_filters(self) -> bool:
        """Whether their copy leaves room for blocks worth the name."""
        least = self.weight_bytes + _unit_bytes(self, self.channels)
        return self.weight_bytes <= ROOM * self.max_workspace and least <= self.max_workspace

    @remembered
    def worth(self) -> int:
        """How many parts are worth a thread each: a power of two, which threads share evenly."""
        parts = int(self.maps.cost(rates_of(self.xp), self.work) / WORTHWHILE)
        return 1 << max(parts.bit_length() - 1, 0)

    def _place(self, y: Array, block: Block) -> Array | None:
        """Where in y the product itself belongs, if the output map is a view and a product can be written to one."""
        samples = block.batch.stop - block.batch.start
        if not (traits(self.xp).threads and self.maps.writes_in_place(samples, self.filters)):
            return None
        place = self.maps.output_adjoint(self.xp, block.of_output(y), block.windows)
        return place if self.xp.may_share_memory(place, y) else None  # what reshape returns may be a copy

    def _run(self, function: Callable[[Item], None], phases: Sequence[Sequence[Item]], threads: int) -> None:
        if not traits(self.xp).threads:
            for phase in phases:
                for item in phase:
                    function(item)
            return
        for phase in phases:
            for_each(function, phase, threads)


class _Run(NamedTuple):
    """What one sum of a reduction adds up: blocks of some groups, of these channels."""

    blocks: tuple[Block, ...]
    channels: slice

    @property
    def part(self) -> tuple[Any, ...]:
        """What it gives of the gradient."""
        return (self.blocks[0].groups, slice(None), self.channels, ...)

    @property
    def target(self) -> tuple[int, int]:
        """Where in the gradient it begins."""
        return self.blocks[0].groups.start, self.channels.start


@functools.lru_cache(maxsize=SCHEDULES)
def _schedule(
    products: Products, channels: int, fixed: int, held: int = 0, reduced: int = 0
) -> tuple[tuple[Block, ...], int]:
    """Blocks of a convolution of so many channels that fit the workspace, and how many may be under way at once.

    ``fixed`` are bytes held all the while, ``held`` those beside each block under way, and ``reduced`` the numbers that
    each sample of a block holds besides its maps'.
    """
    windows, maps = products.windows, products.maps
    element = bytes_per_element(products.xp, products.dtype)
    room = products.max_workspace - fixed
    least = held + _unit_bytes(products, channels) + reduced * element
    if room < least:
        raise ValueError(
            f"max_workspace must be at least {fixed + least} bytes for this convolution by method "
            f"{maps.name!r}, got {products.max_workspace}"
        )
    each = math.prod(unit_counts(windows, maps.unit))
    unit_bytes = -(-(maps.workspace(windows, channels, products.filters) + reduced) * element // each)
    units = (room - held) // unit_bytes
    if traits(products.xp).threads:
        parts = min(PARTS, products.worth)
        units = min(units, CACHED // unit_bytes, -(-each * max(products.batch, 1) * products.groups // parts))
    while True:
        blocks = cut(products.batch, products.groups, windows, maps.unit, max(units, 1))
        largest = held + element * max([_numbers(maps, block, channels, products.filters, reduced) for block in blocks])
        if largest <= room or units <= 1:  # what neighbouring blocks read twice weighs more in small ones
            return blocks, min(cpu_count(), max(room // largest, 1)) if traits(products.xp).threads else 1
        units = units * 3 // 4


def _numbers(maps: Maps, block: Block, channels: int, filters: int, reduced: int) -> int:
    samples, groups = (part.stop - part.start for part in (block.batch, block.groups))
    return max((maps.workspace(block.windows, channels, filters) + reduced) * int(samples * groups), 1)


@functools.lru_cache(maxsize=1024)
def _filter_parts(products: Products) -> tuple[tuple[slice, ...], int]:
    """Parts of the filters, and how many may be under way at once, if transformed filters outweigh transformed data.

    Data is transformed once then, and held, and each part of the filters just before its product, by one thread.
    """
    if not takes_filters_apart(products.maps, products.work, products.xp) or products.worth < 2:
        return (), 1
    held, each = (
        numbers * bytes_per_element(products.xp, products.dtype)
        for numbers in filter_workspace(products.maps, products.work)
    )
    room, parts = products.max_workspace - held, min(PARTS, products.worth)
    width = min(room // (2 * each), CACHED // each, -(-products.filters // parts))
    return (_slices(products.filters, width), min(cpu_count(), room // (width * each))) if width > 0 else ((), 1)


@functools.lru_cache(maxsize=1024)
def _reduction(products: Products) -> tuple[tuple[_Run, ...], int]:
    """The sums that make up the gradient by the filters, and how many may be under way at once.

    Of a small gradient each has a share of the blocks, of a large one a share of the channels.
    """
    element = bytes_per_element(products.xp, products.dtype)
    small = products.filters * products.channels * products.windows.taps * element <= SMALL_WEIGHT
    parts = 1
    if traits(products.xp).threads and not small:  # each part maps dy anew, which costs little if it is a view
        parts = min(2 if products.weight_bytes else SUMS, products.channels)
    width = -(-products.channels // parts)
    while width > 1 and _least(products, width) > products.max_workspace:
        width = -(-width // 2)
    ranges = _slices(products.channels, width)
    weight = _weight(products, width)
    reduced = weight if products.maps.stacks_samples else 0
    sums = SUMS if traits(products.xp).threads and small and SHARES * weight * element <= products.max_workspace else 1
    fixed = sums * weight * element if sums > 1 else 0
    blocks, threads = _schedule(products, width, fixed, 2 * weight * element, reduced)
    groups = {block.groups.start: block.groups for block in blocks}
    count = max(sums // len(groups), 1)
    runs = tuple(
        _Run(run, channels)
        for start in groups
        for run in chains(tuple(block for block in blocks if block.groups.start == start), count)
        for channels in ranges
    )
    return runs, threads


def _least(products: Products, width: int) -> int:
    """Bytes that a sum over so many channels takes at least, with what is added to it and the maps of one block."""
    sums = (3 if products.maps.stacks_samples else 2) * _weight(products, width)
    return sums * bytes_per_element(products.xp, products.dtype) + _unit_bytes(products, width)


def _unit_bytes(products: Products, channels: int) -> int:
    """Bytes that the maps and the product of so many channels of the smallest block take."""
    maps, unit = products.maps, unit_geometry(products.windows, products.maps.unit)
    return maps.workspace(unit, channels, products.filters) * bytes_per_element(products.xp, products.dtype)


def _weight(products: Products, width: int) -> int:
    """How many numbers a sum over so many channels is."""
    transformed = products.maps.weight_workspace(products.windows, width, products.filters)
    return transformed or products.windows.taps * width * products.filters


def _slices(count: int, width: int) -> tuple[slice, ...]:
    return tuple(slice(start, min(start + width, count)) for start in range(0, count, width))


def _of_groups(rows: Array, block: Block) -> Array:
    return rows[(..., block.groups, slice(None), slice(None))]
