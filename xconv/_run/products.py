"""The three products of a method, carried out by a schedule: part after part, over blocks, on threads where they help.

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

Outputs of different blocks are different elements of y; what they give to dx overlaps, so blocks of one colour run
together and colours one after the other; what they give to dw all adds, so a thread has channels or a sum of its own.
Where filters outweigh data, as in deep layers, threads share filters instead, and data is mapped once for all of them.
Which block adds to what, and when, does not depend on the threads, and so neither does any rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .._arrays.elements import (
    add_at,
    are_moderate,
    conjugate,
    conjugate_transpose,
    empty,
    has_outliers,
    is_finite,
    put_at,
    reshaped,
    scale,
    transposed,
    zeros,
)
from .._arrays.layout import per_channel, turned
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.matmul import matmul, summed_matmul
from .._methods import METHODS, Maps, request
from .._methods.native import Native, native
from .._methods.scaled import Scaled
from .._plan.blocks import Block, Grid, Part, pieces
from .._plan.choice import AUTOMATIC, LOCAL, Candidate, Request, candidates, choose, of_phase, planned
from .._plan.geometry import Ints, Phase
from .._plan.remembered import remembered
from .._plan.schedule import Schedule, cheapest
from .._plan.task import Task
from .threads import Item, Items, cpu_count, for_each, one_blas_thread

ALONE = 9216  # multiplications up to which OpenBLAS spreads no product over threads: 2304 * GEMM_MULTITHREAD_THRESHOLD
NEAR = 64  # outputs of Winograd's largest tiles, all over which an outlier is seen, but not beyond
BEARABLE = 64  # times as long as transforms would take, for outputs that outliers elsewhere do not ruin
SHARES = 4  # threads that map shared data, each some of its channels


def products(xp: Namespace, dtype: DType, task: Task, method: str, room: int) -> Products | Native:
    """What carries a task out by a method, or by that which a word stands for."""
    asked = request(xp, dtype, task, room)
    if method == "native":
        return native(xp, dtype, task)
    if task.batch == 0 and method in METHODS:
        METHODS[method](xp, dtype, task)  # which may refuse; not every library transforms nothing
        method = "im2col"
    found = choose(asked, "im2col" if task.batch == 0 else method)
    if found.schedule is None:
        return native(xp, dtype, task)
    if method in LOCAL:
        return _direct(xp, dtype, asked, found, method)
    local = None
    if method == "auto" and not task.reduces and math.prod(found.schedule.tile.unit) > NEAR:
        direct = cheapest(candidates(asked, "direct"))
        local = _direct(xp, dtype, asked, direct, "direct") if direct.cost < BEARABLE * found.cost else None
    return Products(xp, asked, found, local=local)


def _direct(xp: Namespace, dtype: DType, asked: Request, found: Candidate, word: str) -> Products:
    asked = asked._replace(patience=AUTOMATIC[word])
    mixes = found.schedule is not None and found.schedule.tile.mixes_zeros and not is_kind(xp, dtype, "integral")
    return Products(xp, asked, found, Products(xp, asked, planned(asked, "im2col")) if mixes else None)


class Products:
    """One task by its plan: canonical arrays in and out, which may be written to parts of larger ones."""

    def __init__(
        self,
        xp: Namespace,
        request: Request,
        candidate: Candidate,
        exact: Products | None = None,
        local: Products | None = None,
    ) -> None:
        self.xp = xp
        self.local = local  # what computes instead where outliers would be seen all over a block, if that is bearable
        self.exact = exact  # what computes again where NaN and inf must stay in their windows, and may not have
        self.request = request
        self.candidate = candidate
        self.task = request.task
        self.plain = self if exact is None else Products(xp, request, candidate)
        self.is_local = candidate.schedule is None or candidate.schedule.tile.is_local
        self.spreads = traits(xp).threads and self.task.multiplications > ALONE

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        """(N, G*C, *d), (G*K, C, *k), (G*K,) -> (N, G*K, *o)."""
        return self._run(Products._forward, x, w, b)

    def backward_data(self, dy: Array, w: Array) -> Array:
        """(N, G*K, *o), (G*K, C, *k) -> (N, G*C, *d)."""
        return self._run(Products._backward_data, dy, w)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        """(N, G*K, *o), (N, G*C, *d) -> (G*K, C, *k)."""
        return self._run(Products._backward_filter, dy, x)

    def _run(self, product: Callable[..., Array], *operands: Array | None) -> Array:
        """Hold BLAS to one thread: its own would spin on the CPUs that ours need, and round by how many there are."""
        if not self.spreads:
            return self._checked(product, *operands)
        with one_blas_thread():
            return self._checked(product, *operands)

    def _checked(self, product: Callable[..., Array], *operands: Array | None) -> Array:
        """The product; where "direct" must keep NaN and inf in their windows, by im2col if the result is not finite."""
        if self.local is not None and has_outliers(self.xp, operands[0]):
            return self.local._checked(product, *operands)
        if self.exact is not None:
            with self.xp.errstate(all="ignore"):  # it is NumPy, and warns again if it has a reason to
                result = self.plain._checked(product, *operands)
            return result if is_finite(self.xp, result) else self.exact._checked(product, *operands)
        return product(self, *operands) if self.is_local else self._scaled(product, *operands)

    def _scaled(self, product: Callable[..., Array], first: Array, second: Array, *bias: Array | None) -> Array:
        """The product of a transform, of operands as they are only where these are surely moderate."""
        scaled = self
        if not are_moderate(self.xp, first, second):
            scales = scale(self.xp, first), scale(self.xp, second)
            scaled = Products(self.xp, self.request, self.candidate)
            phases = [(phase, convolution.scaled(*scales)) for phase, convolution in self._phases]
            scaled.__dict__.update(_pass=self._pass.scaled(*scales), _phases=phases)
        return product(scaled, first, second, *bias)

    def _forward(self, x: Array, w: Array, b: Array | None) -> Array:
        bias = None if b is None else self._grouped(b, 0)
        return self._joined(self._pass.forward(self._grouped(x, 1), self._grouped(w, 0), bias), 1)

    def _backward_filter(self, dy: Array, x: Array) -> Array:
        return self._joined(self._pass.backward_filter(self._grouped(dy, 1), self._grouped(x, 1)), 0)

    def _backward_data(self, dy: Array, w: Array) -> Array:
        return self._joined(self._data(self._grouped(dy, 1), self._grouped(w, 0)), 1)

    @remembered
    def _pass(self) -> _Pass:
        return _Pass(self.xp, self.candidate.schedule)

    @remembered
    def _phases(self) -> list[tuple[Phase, _Pass]]:
        """The convolutions that the gradient by the input is run as, if it is."""
        found = []
        for phase in self.candidate.phases:
            request = self.request._replace(task=of_phase(self.task, phase))
            found.append((phase, _Pass(self.xp, planned(request, self.candidate.method).schedule)))
        return found

    def _data(self, dy: Array, w: Array) -> Array:
        """(N, G, K, *o), (G, K, C, *k) -> (N, G, C, *d)."""
        phases = self._phases
        if not phases:
            return self._pass.scatter(dy, w)
        xp, task = self.xp, self.task
        swapped = conjugate(xp, xp.permute_dims(w, (0, 2, 1, *range(3, w.ndim))))

        def run(phase: Phase, convolution: _Pass, dx: Array | None = None) -> Array:
            filters = turned(xp, swapped[(..., *phase.taps)], task.windows.ndim)
            return convolution.forward(dy[(..., *phase.outputs)], filters, None, dx)

        count = task.windows.phase_count
        if count == 1:
            return run(*phases[0])
        dx = (empty if len(phases) == count else zeros)(xp, dy, input_shape(task, dy), w)
        for phase, convolution in phases:
            run(phase, convolution, dx[(..., *phase.inputs)])
        return dx

    def _grouped(self, array: Array, axis: int) -> Array:
        """(..., G*channels, ...) -> (..., G, channels, ...)."""
        shape, groups = array.shape, self.task.groups
        return reshaped(self.xp, array, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))

    def _joined(self, array: Array, axis: int) -> Array:
        """The inverse of `_grouped`."""
        shape = array.shape
        return reshaped(self.xp, array, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def input_shape(task: Task, samples: Array) -> Ints:
    return (samples.shape[0], task.groups, task.channels, *task.windows.input_size)


def output_shape(task: Task, samples: Array) -> Ints:
    return (samples.shape[0], task.groups, task.filters, *task.windows.output_size)


def weight_shape(task: Task) -> Ints:
    return (task.groups, task.filters, task.channels, *task.windows.kernel_size)


class _Pass:
    """One schedule carried out on x (N, G, C, *d), w (G, K, C, *k) and y (N, G, K, *o)."""

    def __init__(self, xp: Namespace, schedule: Any, maps: Any = None) -> None:
        self.xp = xp
        self.schedule: Schedule = schedule
        self.task = schedule.task
        self.maps: Maps = schedule.tile if maps is None else maps

    def scaled(self, first: Array, second: Array) -> _Pass:
        """The same, of operands multiplied by powers of two meanwhile."""
        return _Pass(self.xp, self.schedule, Scaled(self.maps, first, second, self.task.reduces))

    @remembered
    def _only_part(self) -> Any:
        """The part that is all, if one is."""
        return next(self.schedule.parts(), None) if self.schedule.is_whole else None

    def _parts(self) -> Iterable[Part]:
        return self.schedule.parts() if self._only_part is None else [self._only_part]

    @remembered
    def _only_grid(self) -> Grid:
        return self.schedule.grid(self._only_part)

    def _grid(self, part: Part) -> Grid:
        return self._only_grid if part is self._only_part else self.schedule.grid(part)

    def forward(self, x: Array, w: Array, b: Array | None, y: Array | None = None) -> Array:
        """y, written to that if it is given: plain memory."""
        schedule, task = self.schedule, self.task
        if schedule.groups < task.groups:
            y = empty(self.xp, x, output_shape(task, x), w) if y is None else y
            return self._by_groups(
                y,
                1,
                lambda part, some: part.forward(x[:, some, ...], w[some, ...], None if b is None else b[some, ...]),
            )
        if self._only_part is not None:
            return self._forward_part(x, w, b, self._only_part, y, adds=False)
        y = zeros(self.xp, x, output_shape(task, x), w) if y is None else put_at(y, (...,), 0)
        for filters in pieces(task.filters, schedule.filters):
            index = (slice(None), slice(None), filters, ...)
            for part in self._parts():
                rows = w[part.weight_index][:, filters, ...]
                if traits(self.xp).plain_memory:
                    self._forward_part(x, rows, None, part, y[index], adds=True)
                else:
                    y = add_at(self.xp, y, index, self._forward_part(x, rows, None, part, None, adds=False))
        return self._biased(y, b)

    def _by_groups(self, whole: Array, axis: int, share: Callable[[_Pass, slice], Array]) -> Array:
        """Some groups after others, each of which is a convolution: an array that has them along an axis."""
        for some in pieces(self.task.groups, self.schedule.groups):
            task = self.task._replace(groups=some.stop - some.start)
            part = _Pass(self.xp, self.schedule._replace(task=task, groups=task.groups), self.maps)
            whole = put_at(whole, (*(slice(None),) * axis, some, ...), share(part, some))
        return whole

    def _forward_part(self, x: Array, w: Array, b: Array | None, part: Part, y: Array | None, adds: bool) -> Array:
        """What a part gives, or y with that added to it."""
        if self.schedule.apart:
            return self._forward_apart(x, w, b, part, y, adds)
        xp, grid = self.xp, self._grid(part)
        rows = self.maps.weight_map(xp, w, part.windows)

        def product(block: Block, place: Array | None = None) -> Array:
            columns = self.maps.input_map(xp, x[block.input_index(part.channels)], block.windows)
            some = _of_groups(rows, block)
            return summed_matmul(xp, some, columns) if self.maps.stacks_taps else matmul(xp, some, columns, place)

        def output(block: Block) -> Array:
            bias = None if b is None else b[block.groups, :]
            return self._biased(self.maps.output_map(xp, product(block), block.windows), bias)

        if y is None and len(grid) == 1:
            return output(grid[0])
        is_own = y is None
        shape = (*output_shape(self.task, x)[:2], w.shape[1], *part.windows.output_size)
        target: Array = empty(xp, x, shape, w) if y is None else y

        def fill(block: Block) -> None:
            nonlocal target
            place = self._place(target, block) if is_own else None
            if place is not None:
                product(block, place)
                if b is not None:
                    self._biased(target[block.output_index], b[block.groups, :])
            else:
                index, share = block.output_index, output(block)
                target = add_at(xp, target, index, share) if adds else put_at(target, index, share)

        self._each(fill, grid)
        return target

    def _forward_apart(self, x: Array, w: Array, b: Array | None, part: Part, y: Array | None, adds: bool) -> Array:
        """As `_forward_part`, by parts of the filters."""
        xp, columns = self.xp, self._shared_input(x, part)
        y = empty(xp, x, (*x.shape[:2], w.shape[1], *part.windows.output_size), w) if y is None else y

        def fill(filters: slice) -> None:
            nonlocal y
            products = matmul(xp, self.maps.weight_map(xp, w[:, filters, ...], part.windows), columns)
            share = self._biased(self.maps.output_map(xp, products, part.windows), None if b is None else b[:, filters])
            index = (slice(None), slice(None), filters, ...)
            y = add_at(xp, y, index, share) if adds else put_at(y, index, share)

        self._each(fill, pieces(w.shape[1], self.schedule.apart))
        return y

    def _shared_input(self, x: Array, part: Part) -> Array:
        """In(x) of all samples, whose channels threads share."""
        x = x[(slice(None), slice(None), part.channels, *part.input)]
        shares = pieces(x.shape[2], -(-x.shape[2] // SHARES))
        columns: dict[int, Array] = {}

        def fill(at: int) -> None:
            columns[at] = self.maps.input_map(self.xp, x[:, :, shares[at], ...], part.windows)

        self._each(fill, range(len(shares)))
        return self.xp.concat([columns[at] for at in range(len(shares))], axis=-2)

    def scatter(self, dy: Array, w: Array) -> Array:
        """dx, to which the windows of all parts are added."""
        xp, schedule, task = self.xp, self.schedule, self.task
        if schedule.groups < task.groups:
            whole = empty(xp, dy, input_shape(task, dy), w)
            return self._by_groups(whole, 1, lambda part, some: part.scatter(dy[:, some, ...], w[some, ...]))
        dx: Array | None = None
        for filters in pieces(task.filters, schedule.filters):
            for part in self._parts():
                grid = self._grid(part)
                rows = conjugate(xp, self.maps.weight_map(xp, w[part.weight_index][:, filters, ...], part.windows))

                def share(block: Block, filters: slice = filters, rows: Array = rows) -> Array:
                    y = dy[block.output_index][:, :, filters, ...]
                    columns = self.maps.output_adjoint(xp, y, block.windows)
                    products = matmul(xp, transposed(xp, _of_groups(rows, block)), columns)
                    return self.maps.input_adjoint(xp, products, block.windows)

                if schedule.is_whole and len(grid) == 1:
                    return share(grid[0])
                dx = zeros(xp, dy, input_shape(task, dy), w) if dx is None else dx
                for same in grid.colours:

                    def add(block: Block, part: Part = part, share: Any = share) -> None:
                        nonlocal dx
                        dx = add_at(xp, dx, block.input_index(part.channels), share(block))

                    self._each(add, same)
        return zeros(xp, dy, input_shape(task, dy), w) if dx is None else dx

    def backward_filter(self, dy: Array, x: Array) -> Array:
        """dw, of which parts of channels, filters and taps are different elements."""
        xp, schedule, task = self.xp, self.schedule, self.task
        if schedule.groups < task.groups:
            whole = empty(xp, dy, weight_shape(task), x)
            return self._by_groups(whole, 0, lambda part, some: part.backward_filter(dy[:, some, ...], x[:, some, ...]))
        if self._only_part is not None:
            return self._backward_filter_part(dy, x, self._only_part)
        dw = zeros(xp, dy, weight_shape(task), x)
        for filters in pieces(task.filters, schedule.filters):
            for part in self._parts():
                share = self._backward_filter_part(dy[:, :, filters, ...], x, part)
                dw = put_at(dw, (slice(None), filters, *part.weight_index[2:]), share)
        return dw

    def _backward_filter_part(self, dy: Array, x: Array, part: Part) -> Array:
        if self.schedule.apart:
            return self._backward_filter_apart(dy, x, part)
        xp, runs = self.xp, self._only_runs if part is self._only_part else self._runs(part)

        def rows_of(block: Block, channels: slice) -> Array:
            left = self.maps.output_adjoint(xp, dy[block.output_index], block.windows)
            right = self.maps.input_map(xp, x[block.input_index(channels)], block.windows)
            return self._summed(matmul(xp, left, conjugate_transpose(xp, right)))

        def share(run: _Run) -> Array:
            rows: Array | None = None
            for number in run.numbers:
                more = rows_of(run.grid[number], run.channels)
                rows = more if rows is None else add_at(xp, rows, (...,), more)
            return self.maps.weight_adjoint(xp, rows, part.windows)

        if len(runs) == 1:
            return share(runs[0])
        width = part.channels.stop - part.channels.start
        shape = (x.shape[1], dy.shape[2], width, *part.windows.kernel_size)
        if len({run.target for run in runs}) == len(runs):
            dw = empty(xp, dy, shape, x)

            def fill(run: _Run) -> None:
                nonlocal dw
                dw = put_at(dw, run.place(part), share(run))

            self._each(fill, runs)
            return dw
        dw, shares = zeros(xp, dy, shape, x), dict[int, Array]()
        self._each(lambda at: shares.update({at: share(runs[at])}), range(len(runs)))
        for at, run in enumerate(runs):
            dw = add_at(xp, dw, run.place(part), shares.pop(at))
        return dw

    def _summed(self, rows: Array) -> Array:
        """Products of all samples, where each has its own."""
        return self.xp.sum(rows, axis=0, dtype=rows.dtype) if self.maps.stacks_samples else rows

    @remembered
    def _only_runs(self) -> list[_Run]:
        return self._runs(self._only_part)

    def _runs(self, part: Part) -> list[_Run]:
        """The sums that make up the gradient of a part."""
        grids, start = self._grid(part).by_groups(), part.channels.start
        count = max(self.schedule.sums // len(grids), 1)
        found = []
        for grid in grids:
            for numbers in pieces(len(grid), -(-len(grid) // count)):
                for channels in pieces(part.channels.stop - start, self.schedule.width):
                    some = slice(channels.start + start, channels.stop + start)
                    found.append(_Run(grid, range(len(grid))[numbers], some))
        return found

    def _backward_filter_apart(self, dy: Array, x: Array, part: Part) -> Array:
        """As `_backward_filter_part`, by parts of the filters."""
        xp, columns = self.xp, conjugate_transpose(self.xp, self._shared_input(x, part))
        width = part.channels.stop - part.channels.start
        dw = empty(xp, dy, (x.shape[1], dy.shape[2], width, *part.windows.kernel_size), x)

        def fill(filters: slice) -> None:
            nonlocal dw
            rows = self._summed(matmul(xp, self.maps.output_adjoint(xp, dy[:, :, filters, ...], part.windows), columns))
            dw = put_at(dw, (slice(None), filters, ...), self.maps.weight_adjoint(xp, rows, part.windows))

        self._each(fill, pieces(dy.shape[2], self.schedule.apart))
        return dw

    def _biased(self, y: Array, b: Array | None) -> Array:
        return y if b is None else add_at(self.xp, y, (...,), per_channel(b, self.task.windows.ndim))

    def _place(self, y: Array, block: Block) -> Array | None:
        """Where in y the product itself belongs, if the output map is a view and a product can be written to one."""
        if not traits(self.xp).threads:
            return None
        share = y[block.output_index]
        if not self.maps.writes_in_place(share.shape[0], y.shape[2]):
            return None
        place = self.maps.output_adjoint(self.xp, share, block.windows)
        return place if self.xp.may_share_memory(place, y) else None  # what reshape returns may be a copy

    def _each(self, function: Callable[[Item], None], items: Items[Item]) -> None:
        if not traits(self.xp).threads:
            for item in items:
                function(item)
        else:
            for_each(function, items, min(cpu_count(), self.schedule.limit))


class _Run(NamedTuple):
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


def _of_groups(rows: Array, block: Block) -> Array:
    return rows[(..., block.groups, slice(None), slice(None))]
