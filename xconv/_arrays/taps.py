"""Weighted sums of neighbours, and the largest or smallest of them, tap by tap over shifted views.

Every output is summed in one order by the same operations, so windows that hold the same give the same bits: constants
stay constant. It is the order of SciPy's sums, so that what is stored without its fraction is SciPy's, too. Along an
axis equal and opposite taps, known as numbers, are folded, ``w*(x[+j] +- x[-j])``: what is antisymmetric gives exact
zeros of constants, and takes half of the multiplications.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from .._plan.blocks import pieces
from .._plan.chains import Pass
from .._plan.geometry import Geometry
from .._plan.pooling import power_of, runs_of
from .derivatives import bilinear, sum_of_products
from .libraries import Array, Namespace, is_kind, traits
from .windows import tap_views

TOTAL, OTHER, PAIR, *PADDED = range(5)  # places of a thread's own memory
LEVELS = 5  # the first of those of extremes
LANES = 2  # outputs in a row, with fewer of which NumPy adds up in another order
STACKED = 2**21  # bytes of rows laid out at once
MANY, FEW = 8, 1024  # taps, and outputs, of which an operation begins no sooner than it is done: terms are laid out
LAID_OUT = 2**14  # of them at once
Step: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Array]  # an operation, operands, and the result's memory


class Term(NamedTuple):
    """A tap times an element of each window, or the sum or difference of two that lie opposite."""

    tap: Any
    view: Array
    opposite: Array | None = None
    is_sum: bool = True


def weighted(xp: Namespace, x: Array, windows: Geometry, taps: Any, is_line: bool) -> Array:
    """The sums of windows, which need no padding, times taps: numbers in the order of the windows, or an array.

    Windows of more than a line do not read where taps are 0.
    """
    if not (traits(xp).traced and is_kind(xp, x.dtype, ("real floating", "complex floating"))):
        return _added(x, windows, taps, is_line)
    are_numbers = isinstance(taps, tuple)
    return _differentiable()(x, None if are_numbers else taps, windows, taps if are_numbers else None, is_line)


def add_infinite_taps(xp: Namespace, y: Array, x: Array, w: Array, windows: Geometry) -> None:
    """Add to sums of NumPy's y (N, K, *o) the products of x (N, 1, *d) and those taps that are no finite numbers.

    Filters w (K, 1, *k) are turned round. A tap beyond the ends of x multiplies nothing, where a product of matrices
    would multiply it by a zero.
    """
    slices, taps = list(windows.tap_slices), xp.reshape(w, (w.shape[0], windows.taps))[:, ::-1]
    with xp.errstate(all="ignore"):
        for at, tap in xp.argwhere(~xp.isfinite(taps)).tolist():
            inside, elements = slices[tap]
            y[(slice(None), at, *inside)] += x[(slice(None), 0, *elements)] * taps[at, tap]


def _added(x: Array, windows: Geometry, taps: Any, is_line: bool) -> Array:
    total: Any = None
    for term in _terms(tap_views(x, windows), taps, is_line):
        share = term.view
        if term.opposite is not None:
            share = share + term.opposite if term.is_sum else share - term.opposite
        share = share * term.tap
        total = share if total is None else total + share
    return total


@functools.cache
def _differentiable() -> Any:
    return bilinear(_weighted, _change, lambda x, dw, windows, numbers, is_line: _added(x, windows, dw, is_line))


def _weighted(x: Array, weights: Array | None, windows: Geometry, numbers: Any, is_line: bool) -> Array:
    """`_added`, of taps that are an array, or else numbers."""
    return _added(x, windows, numbers if weights is None else weights, is_line)


def _change(x: Array, weights: Array | None, windows: Geometry, numbers: Any, is_line: bool) -> Array:
    """The same of a change of x."""
    terms = _terms([elements for _, elements in windows.tap_slices], numbers if weights is None else weights, is_line)
    pairs = [(term.tap, term.view) for term in terms]
    pairs += [(term.tap if term.is_sum else -term.tap, term.opposite) for term in terms if term.opposite is not None]
    return sum_of_products(x, windows, pairs)


def _terms(views: Sequence[Array], taps: Any, is_line: bool) -> list[Term]:
    """What is added, in order."""
    if not is_line:
        return [Term(tap, view) for view, tap in zip(views, taps, strict=True) if tap]
    last, sign = len(views) - 1, _symmetry(taps)
    if sign == 0:
        return [Term(taps[at], views[at]) for at in (last, *range(last))]
    half = last // 2
    pairs = [Term(taps[at], views[at], views[last - at], sign > 0) for at in range(half)]
    return [Term(taps[half], views[half]), *pairs]


def _symmetry(taps: Any) -> int:
    """1 or -1 for numbers that are the same, or opposite, from the other end; 0 for others, and where nobody knows."""
    if not isinstance(taps, tuple) or len(taps) % 2 == 0:
        return 0
    turned = taps[::-1]
    if taps == turned:
        return 1
    return -1 if all([one == -other for one, other in zip(taps, turned, strict=True)]) else 0  # noqa: C419


def put(source: Any, out: Array) -> None:
    """Copying as a step."""
    out[...] = source


def in_order(laid_out: Array, plan: Pass) -> Array:
    """What lies in memory as the array that it is of."""
    if not plan.order:
        return laid_out
    back = [plan.order.index(axis) for axis in range(len(plan.order))]
    return laid_out.transpose(back)


class Shifted(NamedTuple):
    """The windows of a pass over its memory, and where that and what is summed up lie.

    What is done is given in steps, each an operation, its operands and where the result is written, for that may be
    done again and again. Behind them is what the last one gives, or writes to ``place`` if it can.
    """

    xp: Namespace
    memory: Array
    plan: Pass
    rows: Array
    room: Callable[..., Array]

    def results(self, rows: Array) -> Array:
        """Rows of results in their shape."""
        if self.plan.is_one_row:
            return self.xp.ndarray(self.plan.output, rows.dtype, rows, strides=self.memory.strides)
        return in_order(rows.reshape(self.plan.output), self.plan)

    def sums(self, taps: tuple[complex, ...], is_line: bool, place: Array | None) -> tuple[list[Step], Array]:
        """The sums of windows times taps: 1 and -1 need not be multiplied with."""
        xp, length, dtype = self.xp, self.plan.length, self.rows.dtype
        if is_line and len(taps) > MANY and self.rows.shape[0] * length <= FEW and dtype.kind == "f":
            return self._at_once(tuple([tap.real for tap in taps]))
        first, *others = _terms([self._view(self.rows, shift) for shift in self.plan.shifts], taps, is_line)
        total, pair, steps = self._memory(length, TOTAL), self._memory(length, OTHER), list[Step]()
        # NumPy rounds a single complex number otherwise where it is multiplied in its place.
        product = self._memory(length, PAIR) if dtype.kind == "c" else pair
        so_far = first.view
        if first.tap != 1 or not others:
            steps.append((xp.multiply, (first.view, xp.asarray(first.tap, dtype=dtype)), total))
            so_far = total
        for term in others:
            share = term.view
            if term.opposite is not None:
                steps.append((xp.add if term.is_sum else xp.subtract, (share, term.opposite), pair))
                share = pair
            if term.tap not in (1, -1):
                steps.append((xp.multiply, (share, xp.asarray(term.tap, dtype=dtype)), product))
                share = product
            steps.append((xp.subtract if term.tap == -1 else xp.add, (so_far, share), total))
            so_far = total
        return self._ending(steps, total, place)

    def _at_once(self, taps: tuple[float, ...]) -> tuple[list[Step], Array]:
        """The same of few outputs of a line, whose terms are laid out in their order: many taps by an operation."""
        xp, dtype, steps, sign, k = self.xp, self.rows.dtype, list[Step](), _symmetry(taps), len(taps)
        shape, item = (self.rows.shape[0], self.plan.length), dtype.itemsize
        strides = self.plan.shifts[1] * item, *self.rows.strides
        views = xp.ndarray((k, *shape), dtype, self.rows, strides=strides)
        weights = xp.asarray(taps, dtype=dtype).reshape((k, 1, 1))
        first, count = (k // 2, k // 2) if sign else (-1, k - 1)
        outputs, rows = math.prod(shape), max(LAID_OUT // math.prod(shape), 1)
        total = self.room(xp, (max(outputs, LANES),), dtype, TOTAL)
        memory = self.room(xp, (min(rows, count) + 1, *total.shape), dtype, OTHER)
        terms = memory[:, :outputs].reshape((-1, *shape))
        steps.append((xp.multiply, (views[first], weights[first]), terms[0]))
        for some in pieces(count, rows):
            laid_out, used = terms[1 : some.stop - some.start + 1], memory[: some.stop - some.start + 1]
            share = views[some]
            if sign:
                opposite = views[::-1][some]
                steps.append((xp.add if sign > 0 else xp.subtract, (share, opposite), laid_out))
                share = laid_out
            steps.append((xp.multiply, (share, weights[some]), laid_out))
            steps.append((functools.partial(xp.add.reduce, axis=0), (used,), total))
            steps.append((put, (total,), memory[0]))
        return steps, self.results(total[:outputs].reshape(shape))

    def stacked(self, taps: tuple[float, ...], place: Array | None) -> tuple[list[Step], Array]:
        """The same sums of windows along more axes, of which all are read: tap by tap over rows that stay nearer.

        The taps along the last of these axes are laid out, and those along the others are views of that.
        """
        xp, plan, dtype, steps = self.xp, self.plan, self.rows.dtype, list[Step]()
        last = max([1, *(axis for axis, k in enumerate(plan.kernel) if k > 1)])  # the first is cut
        k, step = plan.kernel[last], math.prod(plan.memory[last + 1 :])
        lead, n = plan.kernel[:last], last
        memory = self.memory.reshape((*plan.memory[:last], -1))
        width = memory.shape[-1] - (k - 1) * step
        weights, lanes = xp.asarray(taps, dtype=dtype).reshape((*lead, k)), max(width, LANES)
        shape = (*plan.output[:last], lanes)
        if place is not None and (lanes > width or not place.flags.c_contiguous):
            place = None
        sums = self.room(xp, shape, dtype, TOTAL) if place is None else place.reshape(shape)
        row = math.prod(plan.memory[1:last]) * k * lanes * dtype.itemsize
        axes = [*range(n)], [*range(n, 2 * n + 1)], 2 * n + 1
        for some in pieces(plan.output[0], max(STACKED // row - plan.kernel[0] + 1, 1)):
            part = memory[some.start : some.stop + plan.kernel[0] - 1]
            shape, strides = (*part.shape[:-1], k, width), (*part.strides[:-1], step * dtype.itemsize, dtype.itemsize)
            stack = self.room(xp, (*shape[:-1], lanes), dtype, OTHER)
            steps.append((put, (xp.ndarray(shape, dtype, part, strides=strides),), stack))
            outer = stack.strides[:-2]
            shape = (*sums[some].shape[:-1], *lead, k, lanes)
            windows = xp.ndarray(shape, dtype, stack, strides=(*outer, *outer, *stack.strides[-2:]))
            operands = windows, [*axes[0], *axes[1], axes[2]], weights, axes[1], [*axes[0], axes[2]]
            steps.append((xp.einsum, operands, sums[some]))
        return steps, sums[..., :width].reshape(plan.output) if place is None else place

    def means(self, size: int, place: Array | None) -> tuple[list[Step], Array]:
        """Those of so many neighbours: of sums of twice as many again and again those that make them up."""
        xp, step, sums, width, start = self.xp, self.plan.shifts[-1] // max(size - 1, 1), self.rows, 1, 0
        steps, total = list[Step](), self._memory(self.plan.length, TOTAL)
        found: Any = None
        while True:
            if size & width:
                share = self._view(sums, start * step)
                if start:
                    steps.append((xp.add, (found, share), total))
                elif 1 < width < size:  # in memory of which more sums will be made
                    steps.append((put, (share,), total))
                found = total if start or 1 < width < size else share
                start += width
            if start == size:
                steps.append((xp.divide, (found, xp.asarray(size, dtype=total.dtype)), total))
                return self._ending(steps, total, place)
            sums = self._twice(steps, xp.add, sums, width * step, (OTHER, PAIR)[width.bit_length() % 2])
            width *= 2

    def extremes(self, pick: Any, taps: tuple[bool, ...], place: Array | None) -> tuple[list[Step], Array]:
        """What is picked of the elements that taps read, in runs along the last axis: by levels of 2**i elements each,
        of which two make up a run, however long.
        """
        plan, levels, steps, views = self.plan, [self.rows], list[Step](), list[Array]()
        axis = max([0, *(axis for axis, k in enumerate(plan.kernel) if k > 1)])
        strides = [math.prod(plan.memory[at + 1 :]) for at in range(axis + 1)]
        runs, step = runs_of(taps, plan.kernel[: axis + 1]), strides[axis]
        wanted = {power_of(length) for _, length in runs}
        for power in range(max(wanted)):
            place_of_level = LEVELS + (power + 2 if power + 1 in wanted else power % 2)
            levels.append(self._twice(steps, pick, levels[power], step << power, place_of_level))
        for tap, length in runs:
            first, power = sum(map(operator.mul, tap, strides)), power_of(length)
            views += [self._view(levels[power], first + at * step) for at in sorted({0, length - (1 << power)})]
        found, *others = views
        total = self._memory(plan.length, TOTAL)
        for view in others:
            steps.append((pick, (found, view), total))
            found = total
        return self._ending(steps, found, place)

    def _twice(self, steps: list[Step], operation: Any, level: Array, shift: int, place: int) -> Array:
        """What an operation makes of a level and the same so much further on."""
        length = level.shape[1] - shift
        steps.append((operation, (level[:, :length], level[:, shift:]), self._memory(length, place)))
        return steps[-1][-1]

    def _ending(self, steps: list[Step], found: Array, place: Array | None) -> tuple[list[Step], Array]:
        """With the last step's result in its shape, written to a place if one is given."""
        if place is None or not steps or steps[-1][-1] is not found:
            return steps, self.results(found)
        operation, operands, _ = steps.pop()
        operands = tuple([self.results(one) if one.shape else one for one in operands])
        return [*steps, (operation, operands, place)], place

    def _view(self, rows: Array, shift: int) -> Array:
        return rows[:, shift : shift + self.plan.length]

    def _memory(self, length: int, place: int) -> Array:
        """Rows of so many elements to fill, of a thread's own."""
        return self.room(self.xp, (self.rows.shape[0], length), self.rows.dtype, place)
