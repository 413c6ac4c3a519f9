"""Weighted sums of neighbours, tap by tap over shifted views.

Every output is summed in one order by the same operations, so windows that hold the same give the same bits: constants
stay constant. It is the order of SciPy's sums, so that what is stored without its fraction is SciPy's, too. Along an
axis equal and opposite taps, known as numbers, are folded, ``w*(x[+j] +- x[-j])``: what is antisymmetric gives exact
zeros of constants, and takes half of the multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._plan.blocks import pieces
from .._plan.chains import Pass
from .._plan.geometry import Geometry
from .libraries import Array, Namespace
from .scratch import scratch
from .windows import tap_views

TOTAL, OTHER, PAIR, *PADDED = range(5)  # places of a thread's own memory
STACKED = 2**21  # bytes of rows laid out at once


class Term(NamedTuple):
    """A tap times an element of each window, or the sum or difference of two that lie opposite."""

    tap: Any
    view: Array
    opposite: Array | None = None
    is_sum: bool = True


def weighted(x: Array, windows: Geometry, taps: Any, is_line: bool) -> Array:
    """The sums of windows, which need no padding, times taps: numbers in the order of the windows, or an array.

    Windows of more than a line do not read where taps are 0.
    """
    total: Any = None
    for term in _terms(tap_views(x, windows), taps, is_line):
        share = term.view
        if term.opposite is not None:
            share = share + term.opposite if term.is_sum else share - term.opposite
        share = share * term.tap
        total = share if total is None else total + share
    return total


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


class Shifted(NamedTuple):
    """The windows of a pass over its memory."""

    xp: Namespace
    memory: Array
    plan: Pass
    rows: Array

    @classmethod
    def over(cls, xp: Namespace, memory: Array, plan: Pass) -> Shifted:
        return cls(xp, memory, plan, memory.reshape(plan.rows))

    def results(self, rows: Array) -> Array:
        """Rows of results in their shape."""
        if self.plan.is_one_row:
            return self.xp.ndarray(self.plan.output, rows.dtype, rows, strides=self.memory.strides)
        return rows.reshape(self.plan.output)

    def sums(self, taps: tuple[complex, ...], is_line: bool, place: Array | None = None) -> Array:
        """The sums of windows times taps, written to a place if one is given."""
        xp, rows, length = self.xp, self.rows, self.plan.length
        first, *others = _terms([rows[:, shift : shift + length] for shift in self.plan.shifts], taps, is_line)
        total, pair = self._memory(length, TOTAL), self._memory(length, OTHER)
        place = self.results(total) if place is None else place
        if not others:
            return xp.multiply(self.results(first.view), first.tap, out=place)
        xp.multiply(first.view, first.tap, out=total)
        for term in others[:-1]:
            add, share = self._share(term, pair)
            add(total, share, out=total)
        add, share = self._share(others[-1], pair)
        return add(self.results(total), self.results(share), out=place)

    def _share(self, term: Term, memory: Array) -> tuple[Any, Array]:
        """What a term adds, and how: 1 and -1 need not be multiplied with."""
        xp, share = self.xp, term.view
        if term.opposite is not None:
            share = (xp.add if term.is_sum else xp.subtract)(share, term.opposite, out=memory)
        if term.tap in (1.0, -1.0):
            return xp.add if term.tap == 1 else xp.subtract, share
        return xp.add, xp.multiply(share, term.tap, out=memory)

    def stacked(self, taps: tuple[float, ...], place: Array | None = None) -> Array:
        """The same sums of windows along more axes, of which all are read: tap by tap over rows that stay nearer.

        The taps along the last of these axes are laid out, and those along the others are views of that.
        """
        xp, plan, dtype = self.xp, self.plan, self.rows.dtype
        last = max([1, *(axis for axis, k in enumerate(plan.kernel) if k > 1)])  # the first is cut
        k, step = plan.kernel[last], math.prod(plan.memory[last + 1 :])
        lead, n = plan.kernel[:last], last
        memory = self.memory.reshape((*plan.memory[:last], -1))
        width = memory.shape[-1] - (k - 1) * step
        weights = xp.asarray(taps, dtype=dtype).reshape((*lead, k))
        place = scratch(xp, plan.output, dtype, TOTAL) if place is None or not place.flags.c_contiguous else place
        sums = place.reshape((*plan.output[:last], width))
        row = math.prod(plan.memory[1:last]) * k * width * dtype.itemsize
        axes = [*range(n)], [*range(n, 2 * n + 1)], 2 * n + 1
        for some in pieces(plan.output[0], max(STACKED // row - plan.kernel[0] + 1, 1)):
            part = memory[some.start : some.stop + plan.kernel[0] - 1]
            shape, strides = (*part.shape[:-1], k, width), (*part.strides[:-1], step * dtype.itemsize, dtype.itemsize)
            stack = scratch(xp, shape, dtype, OTHER)
            stack[...] = xp.ndarray(shape, dtype, part, strides=strides)
            outer = stack.strides[:-2]
            shape = (*sums[some].shape[:-1], *lead, k, width)
            windows = xp.ndarray(shape, dtype, stack, strides=(*outer, *outer, *stack.strides[-2:]))
            xp.einsum(windows, [*axes[0], *axes[1], axes[2]], weights, axes[1], [*axes[0], axes[2]], out=sums[some])
        return place

    def means(self, size: int, place: Array | None = None) -> Array:
        """Those of so many neighbours: of sums of twice as many again and again those that make them up."""
        xp, step, sums, width, start = self.xp, self.plan.shifts[-1] // max(size - 1, 1), self.rows, 1, 0
        count = self.plan.length
        total = self._memory(count, TOTAL)
        while True:
            if size & width:
                share = sums[:, start * step : start * step + count]
                if start:
                    xp.add(total, share, out=total)
                elif size > width:
                    total[...] = share
                else:
                    total = share
                start += width
            if start == size:
                place = self.results(self._memory(count, TOTAL)) if place is None else place
                return xp.divide(self.results(total), size, out=place)
            length = sums.shape[1] - width * step
            twice = self._memory(length, (OTHER, PAIR)[width.bit_length() % 2])
            sums = xp.add(sums[:, :length], sums[:, width * step :], out=twice)
            width *= 2

    def _memory(self, length: int, place: int) -> Array:
        """Rows of so many elements to fill, of a thread's own."""
        return scratch(self.xp, (self.rows.shape[0], length), self.rows.dtype, place)


def means(x: Array, axis: int, size: int) -> Array:
    """The means of so many neighbours: of sums of twice as many again and again those that make them up."""

    def part(array: Array, start: int, stop: int) -> Array:
        return array[(*(slice(None),) * axis, slice(start, stop), ...)]

    count, sums, width, start = x.shape[axis] - size + 1, x, 1, 0
    total: Any = None
    while True:
        if size & width:
            share = part(sums, start, start + count)
            total = share if total is None else total + share
            start += width
        if start == size:
            return total / size
        sums = part(sums, 0, sums.shape[axis] - width) + part(sums, width, sums.shape[axis])
        width *= 2
