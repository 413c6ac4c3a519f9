"""A schedule carried out: part after part, over blocks, on threads where they help.

Outputs of different blocks are different elements of y; what they give to dx overlaps, so blocks of one colour run
together and colours one after the other; what they give to dw all adds, so a thread has channels or a sum of its own.
Where filters outweigh data, as in deep layers, threads share filters instead, and data is mapped once for all of them.
Which block adds to what, and when, does not depend on the threads, and so neither does any rounding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .._arrays.elements import add_at, are_finite_squares, conjugate, empty, is_finite, put_at, transposed, zeros
from .._arrays.layout import Access, biased
from .._arrays.libraries import Array, traits
from .._arrays.matmul import Limbs, factor, matmul, outer_matmul, summed_matmul
from .._arrays.scratch import PAGED, making_again
from .._arrays.windows import at_axis
from .._methods.maps import Maps, Scaled
from .._plan.blocks import Block, Grid, Part, evenly, pieces, whole_part
from .._plan.geometry import Ints
from .._plan.remembered import remembered
from .._plan.schedule import Schedule
from .._plan.task import Task
from .threads import Item, Items, cpu_count, for_each

SHARES = 4  # threads that map shared data, each some of its channels


def input_shape(task: Task, samples: Array) -> Ints:
    return (samples.shape[0], task.groups, task.channels, *task.windows.input_size)


def output_shape(task: Task, samples: Array) -> Ints:
    return (samples.shape[0], task.groups, task.filters, *task.windows.output_size)


def weight_shape(task: Task) -> Ints:
    return (task.groups, task.filters, task.channels, *task.windows.kernel_size)


class Blockwise:
    """One schedule carried out, block by block, on x (N, G, C, *d), w (G, K, C, *k) and y (N, G, K, *o)."""

    def __init__(self, access: Access, schedule: Any, maps: Any = None) -> None:
        self.access = access
        self.xp = access.xp
        self.schedule: Schedule = schedule
        self.task = schedule.task
        self.maps: Maps = schedule.variant if maps is None else maps
        self.seen: list[int] | None = None
        self._only_part: Any = next(schedule.parts(), None) if schedule.is_whole else None  # making it takes time
        self._only_grid: Any = None if self._only_part is None else schedule.grid(self._only_part)
        self.shares_maps = schedule.shares_maps
        self.is_paged = schedule.each >= PAGED  # and making an array again takes less time than making it

    def looking(self, seen: list[int]) -> Blockwise:
        """The same, that looks at what blocks read while a cache has it, and notes the outputs of what is finite."""
        looking = copy.copy(self)
        looking.seen = seen
        return looking

    def scaled(self, first: Array, second: Array) -> Blockwise:
        """The same, of operands multiplied by powers of two meanwhile."""
        return Blockwise(self.access, self.schedule, Scaled(self.maps, first, second, self.task.reduces))

    def _parts(self) -> Iterable[Part]:
        return self.schedule.parts() if self._only_part is None else [self._only_part]

    def _grid(self, part: Part) -> Grid:
        return self._only_grid if part is self._only_part else self.schedule.grid(part)

    def forward(self, x: Array, w: Array, b: Array | None, y: Array | None = None) -> Array:
        """y, written to that if it is given: plain memory."""
        schedule, task, access = self.schedule, self.task, self.access
        if schedule.groups < task.groups:
            y = empty(self.xp, x, output_shape(task, x), w, b, dtype=access.result) if y is None else y
            return self._by_groups(Blockwise.forward, (y, 1), (x, 1), (w, 0), (b, 0))
        if self._only_part is not None:
            return self._forward_part(x, w, b, y)
        return self._forward_parts(x, w, b, y)

    def _forward_parts(self, x: Array, w: Array, b: Array | None, y: Array | None) -> Array:
        """As `forward`: the sums of blocks are kept until all parts are added, of some where the result holds none."""
        xp, schedule, access = self.xp, self.schedule, self.access
        target: Array = empty(xp, x, output_shape(self.task, x), w, b, dtype=access.result) if y is None else y
        whole = schedule.grid(whole_part(self.task.windows, self.task.channels))
        is_own = not access.rounds and traits(xp).plain_memory

        def add(filters: slice, part: Part, sums: dict[int, Array]) -> None:
            grid = schedule.grid(part)
            rows = self._rows(w[part.weight_index][:, filters, ...], part)

            def fill(number: int) -> None:
                block = grid[number]
                columns = self._columns(x, block, part.channels)
                share = self.maps.output_map(xp, self._product(rows, block, columns), block.windows)
                sums[number] = add_at(xp, sums[number], (...,), share)

            self._each(fill, [*sums])

        for filters in pieces(self.task.filters, schedule.filters):
            for some in pieces(len(whole), schedule.kept if access.rounds else len(whole)):
                places = {number: _of_filters(whole[number], filters) for number in range(len(whole))[some]}
                if is_own:
                    sums = {at: put_at(target[place], (...,), 0) for at, place in places.items()}
                else:
                    sums = {
                        at: zeros(xp, x, target[place].shape, w, dtype=access.dtype) for at, place in places.items()
                    }
                for part in self._parts():
                    add(filters, part, sums)
                for number, place in places.items():
                    total = biased(access, sums.pop(number), None if b is None else b[place[1:3]])
                    target = target if is_own else put_at(target, place, access.leave(total))
        return target

    def _by_groups(
        self, product: Callable[..., Array], result: tuple[Array, int], *operands: tuple[Array | None, int]
    ) -> Array:
        """Some groups after others, each of which is a convolution: of arrays that have groups along an axis each.

        Plain memory holds each where it belongs, and nothing besides.
        """
        whole, along = result
        for some in pieces(self.task.groups, self.schedule.groups):
            task = self.task._replace(groups=some.stop - some.start)
            part = Blockwise(self.access, self.schedule._replace(task=task, groups=task.groups), self.maps)
            given = [None if one is None else one[at_axis(axis, some)] for one, axis in operands]
            place = whole[at_axis(along, some)] if traits(self.xp).plain_memory else None
            found = product(part, *given, place)
            whole = put_at(whole, at_axis(along, some), found) if place is None else whole
        return whole

    def _forward_part(self, x: Array, w: Array, b: Array | None, y: Array | None) -> Array:
        """As `forward`: the only part gives all."""
        if self.schedule.apart:
            return self._forward_apart(x, w, b, y)
        xp, access, part, grid = self.xp, self.access, self._only_part, self._only_grid

        def left(block: Block, products: Array) -> Array:
            bias = None if b is None else b[block.groups, :]
            return access.leave(biased(access, self.maps.output_map(xp, products, block.windows), bias))

        if y is None and grid.only is not None:
            rows, columns = self._only_factors(x, w, grid.only)
            return left(grid.only, self._product(rows, grid.only, columns))
        rows = self._rows(w, part)

        def product(block: Block, place: Array | None = None) -> Array:
            columns = self._columns(x, block, part.channels, w.shape[1])
            return self._product(rows, block, columns, place)

        target: Array = empty(xp, x, output_shape(self.task, x), w, b, dtype=access.result) if y is None else y

        # BLAS writes in runs, which phases of strides, and their positions, are none of.
        in_place = not access.rounds and traits(xp).threads and target[:1, :1, :1].flags.c_contiguous

        def fill(block: Block) -> None:
            nonlocal target
            place = self._place(target, block) if in_place else None
            if place is not None:
                product(block, place)
                if b is not None:
                    biased(access, target[block.output_index], b[block.groups, :])
                return
            with making_again():
                target = put_at(target, block.output_index, left(block, product(block)))

        self._each(fill, grid)
        return target

    def _only_factors(self, x: Array, w: Array, block: Block) -> list[Any]:
        """Wt(w) and In(x) of the only block: large ones at once, and then in no thread's own memory."""
        part, filters = self._only_part, w.shape[1]
        if not self.shares_maps:
            return [self._rows(w, part), self._columns(x, block, part.channels, filters)]
        found: list[Any] = [lambda: self._rows(w, part), lambda: self._mapped(x, block, part.channels, filters)]
        for_each(lambda at: found.__setitem__(at, found[at]()), range(2), cpu_count())
        return found

    def _rows(self, w: Array, part: Part, conjugates: bool = False) -> Array | Limbs:
        """The filters of a part as the first factor of its products."""
        rows = self.maps.weight_map(self.xp, self.access.read_filters(w), part.windows)
        rows = conjugate(self.xp, rows) if conjugates else rows
        return rows if self.maps.stacks_taps else factor(self.xp, rows)

    def _columns(self, x: Array, block: Block, channels: slice, filters: int = 0) -> Array:
        """In(x) of a block, done with before the next one's is asked for; of so many filters it gives all outputs."""
        if not self.is_paged:
            return self._mapped(x, block, channels, filters)
        with making_again():
            return self._mapped(x, block, channels, filters)

    def _mapped(self, x: Array, block: Block, channels: slice, filters: int) -> Array:
        values = self.access.read_input(x, block.input_index(channels))
        if self.seen is not None and (are_finite_squares(self.xp, values) or is_finite(self.xp, values)):
            self.seen.append(math.prod(values.shape[:2]) * filters * block.windows.positions)
        return self.maps.input_map(self.xp, values, block.windows)

    def _product(self, rows: Array | Limbs, block: Block, columns: Array, place: Array | None = None) -> Array:
        some = _of_groups(rows, block)
        if self.maps.stacks_taps:
            return summed_matmul(self.xp, some, columns)
        return self._times(some, columns, place)

    def _times(self, rows: Any, columns: Array, place: Array | None = None) -> Array:
        """The product: of single numbers in the place of what was transformed, which nobody else reads."""
        if traits(self.xp).threads and self.maps.transforms and rows.shape[-2:] == (1, 1):
            place = columns
        return matmul(self.xp, rows, columns, place)

    def _forward_apart(self, x: Array, w: Array, b: Array | None, y: Array | None) -> Array:
        """As `_forward_part`, by parts of the filters."""
        xp, access, part = self.xp, self.access, self._only_part
        columns = self._shared_input(x, part)
        y = empty(xp, x, output_shape(self.task, x), w, b, dtype=access.result) if y is None else y

        def fill(filters: slice) -> None:
            nonlocal y
            rows = self.maps.weight_map(xp, access.read_filters(w[:, filters, ...]), part.windows)
            share = self.maps.output_map(xp, matmul(xp, rows, columns), part.windows)
            share = access.leave(biased(access, share, None if b is None else b[:, filters]))
            y = put_at(y, (slice(None), slice(None), filters, ...), share)

        self._each(fill, pieces(w.shape[1], self.schedule.apart))
        return y

    def _shared_input(self, x: Array, part: Part) -> Array:
        """In(x) of all samples, whose channels threads share."""
        start, count = part.channels.start, part.channels.stop - part.channels.start
        shares = pieces(count, -(-count // SHARES))
        columns: dict[int, Array] = {}

        def fill(at: int) -> None:
            some = slice(shares[at].start + start, shares[at].stop + start)
            share = self.access.read_input(x, (slice(None), slice(None), some, *part.input))
            columns[at] = self.maps.input_map(self.xp, share, part.windows)

        self._each(fill, range(len(shares)))
        return self.xp.concat([columns[at] for at in range(len(shares))], axis=-2)

    def backward_data(self, dy: Array, w: Array, b: Array | None, place: Array | None = None) -> Array:
        """dx, to which the windows of all parts are added, in a place if it is given: plain memory."""
        xp, schedule, task, access = self.xp, self.schedule, self.task, self.access
        if schedule.groups < task.groups:
            dx = empty(xp, dy, input_shape(task, dy), w, b, dtype=access.result)
            return self._by_groups(Blockwise.backward_data, (dx, 1), (dy, 1), (w, 0), (b, 0))
        dx = None if place is None or access.rounds else put_at(place, (...,), 0)
        for filters in pieces(task.filters, schedule.filters):
            for part in self._parts():
                grid = self._grid(part)
                rows = self._rows(w[part.weight_index][:, filters, ...], part, conjugates=True)

                def share(block: Block, filters: slice = filters, rows: Any = rows) -> Array:
                    y = access.read(dy[block.output_index][:, :, filters, ...])
                    columns = self.maps.output_adjoint(xp, y, block.windows)
                    products = self._times(_each(lambda a: transposed(xp, a), _of_groups(rows, block)), columns)
                    return self.maps.input_adjoint(xp, products, block.windows)

                if schedule.is_whole and grid.only is not None:
                    return _stored(place, access.leave(biased(access, share(grid.only), b)))
                dx = zeros(xp, dy, input_shape(task, dy), w, dtype=access.dtype) if dx is None else dx
                for same in grid.colours:

                    def add(block: Block, part: Part = part, share: Any = share) -> None:
                        nonlocal dx
                        with making_again():
                            dx = add_at(xp, dx, block.input_index(part.channels), share(block))

                    self._each(add, same)
        dx = zeros(xp, dy, input_shape(task, dy), w, dtype=access.dtype) if dx is None else dx
        return _stored(place, access.leave(biased(access, dx, b)))

    def backward_filter(self, dy: Array, x: Array, place: Array | None = None) -> Array:
        """dw, of which parts of channels, filters and taps are different elements, as `backward_data`."""
        xp, schedule, task, result = self.xp, self.schedule, self.task, self.access.result
        if schedule.groups < task.groups:
            dw = empty(xp, dy, weight_shape(task), x, dtype=result)
            return self._by_groups(Blockwise.backward_filter, (dw, 0), (dy, 1), (x, 1))
        if self._only_part is not None:
            return self._backward_filter_part(dy, x, self._only_part, place)
        dw = zeros(xp, dy, weight_shape(task), x, dtype=result) if place is None else put_at(place, (...,), 0)
        for filters in pieces(task.filters, schedule.filters):
            for part in self._parts():
                index = (slice(None), filters, *part.weight_index[2:])
                own = dw[index] if traits(xp).plain_memory else None
                share = self._backward_filter_part(dy[:, :, filters, ...], x, part, own)
                dw = put_at(dw, index, share) if own is None else dw
        return dw

    def _backward_filter_part(self, dy: Array, x: Array, part: Part, place: Array | None) -> Array:
        if self.schedule.apart:
            return _stored(place, self._backward_filter_apart(dy, x, part))
        xp, access, sums = self.xp, self.access, self._only_sums if part is self._only_part else self._sums(part)

        def rows_of(block: Block, channels: slice) -> Array:
            with making_again(1):
                left = self.maps.output_adjoint(xp, access.read(dy[block.output_index]), block.windows)
            right = self._columns(x, block, channels)
            return outer_matmul(xp, left, right, self.maps.stacked)

        def share(one: _Sum) -> Array:
            first, *others = one.numbers
            rows = rows_of(one.grid[first], one.channels)
            for number in others:  # and nothing keeps what was added while the next is made
                rows = add_at(xp, rows, (...,), rows_of(one.grid[number], one.channels))
            return self.maps.weight_adjoint(xp, rows, part.windows)

        if len(sums) == 1:
            return _stored(place, access.leave_filters(share(sums[0])))
        width = part.channels.stop - part.channels.start
        shape = (x.shape[1], dy.shape[2], width, *part.windows.kernel_size)
        if len({one.target for one in sums}) == len(sums):
            dw = empty(xp, dy, shape, x, dtype=access.result) if place is None else place

            def fill(one: _Sum) -> None:
                nonlocal dw
                dw = put_at(dw, one.place(part), access.leave_filters(share(one)))

            self._each(fill, sums)
            return dw
        dw, shares = zeros(xp, dy, shape, x, dtype=access.dtype), dict[int, Array]()
        self._each(lambda at: shares.update({at: share(sums[at])}), range(len(sums)))
        for at, one in enumerate(sums):
            dw = add_at(xp, dw, one.place(part), shares.pop(at))
        return _stored(place, access.leave_filters(dw))

    @remembered
    def _only_sums(self) -> list[_Sum]:
        return self._sums(self._only_part)

    def _sums(self, part: Part) -> list[_Sum]:
        """The sums that make up the gradient of a part."""
        grids, start = self._grid(part).by_groups(), part.channels.start
        count = max(self.schedule.sums // len(grids), 1)
        found = []
        for grid in grids:
            for numbers in evenly(len(grid), min(count, len(grid))):
                for channels in pieces(part.channels.stop - start, self.schedule.width):
                    some = slice(channels.start + start, channels.stop + start)
                    found.append(_Sum(grid, range(len(grid))[numbers], some))
        return found

    def _backward_filter_apart(self, dy: Array, x: Array, part: Part) -> Array:
        """As `_backward_filter_part`, by parts of the filters."""
        xp, columns = self.xp, self._shared_input(x, part)
        width = part.channels.stop - part.channels.start
        access, shape = self.access, (x.shape[1], dy.shape[2], width, *part.windows.kernel_size)
        dw = empty(xp, dy, shape, x, dtype=access.result)

        def fill(filters: slice) -> None:
            nonlocal dw
            left = self.maps.output_adjoint(xp, access.read(dy[:, :, filters, ...]), part.windows)
            share = self.maps.weight_adjoint(xp, outer_matmul(xp, left, columns, self.maps.stacked), part.windows)
            dw = put_at(dw, (slice(None), filters, ...), access.leave_filters(share))

        self._each(fill, pieces(dy.shape[2], self.schedule.apart))
        return dw

    def _place(self, y: Array, block: Block) -> Array | None:
        """Where in y the product itself belongs, if the output map is a view and a product can be written to one."""
        share = y[block.output_index]
        if not self.maps.writes_in_place(share.shape[0], y.shape[2]):
            return None
        place = self.maps.output_adjoint(self.xp, share, block.windows)
        return place if self.xp.may_share_memory(place, y) else None  # what reshape returns may be a copy

    def _each(self, function: Callable[[Item], None], items: Items[Item]) -> None:
        for_each(function, items, min(cpu_count(), self.schedule.limit) if traits(self.xp).threads else 1)


class _Sum(NamedTuple):
    """What one sum of a reduction adds up: some blocks of some groups, of these channels."""

    grid: Grid
    numbers: range
    channels: slice

    @property
    def target(self) -> tuple[int, int]:
        """Where in the gradient it begins."""
        return self.grid.boxes.steps[0].start, self.channels.start

    def place(self, part: Part) -> tuple[Any, ...]:
        """What it gives of the gradient of a part."""
        groups = self.grid[0].groups
        start = part.channels.start
        return (groups, slice(None), slice(self.channels.start - start, self.channels.stop - start), ...)


def _stored(place: Array | None, values: Array) -> Array:
    """In a place, if one is given, where they may be already."""
    return values if place is None or values is place else put_at(place, (...,), values)


def _of_filters(block: Block, filters: slice) -> tuple[Any, ...]:
    return (block.batch, block.groups, filters, *block.output)


def _of_groups(rows: Array | Limbs, block: Block) -> Array | Limbs:
    index = (..., block.groups, slice(None), slice(None))
    return _each(lambda matrices: matrices[index], rows)


def _each(function: Callable[[Array], Array], rows: Array | Limbs) -> Array | Limbs:
    return rows.each(function) if isinstance(rows, Limbs) else function(rows)
