"""Weighted sums of neighbours, tap by tap over shifted views.

Every output is summed in one order by the same operations, so windows that hold the same give the same bits: constants
stay constant. It is the order of SciPy's sums, so that what is stored without its fraction is SciPy's, too. Along an
axis equal and opposite taps, known as numbers, are folded, ``w*(x[+j] +- x[-j])``: what is antisymmetric gives exact
zeros of constants, and takes half of the multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .._plan.geometry import Geometry, tap_shifts
from .libraries import Array, Namespace, traits
from .windows import tap_views


def weighted(xp: Namespace, x: Array, windows: Geometry, taps: Any, is_line: bool) -> Array:
    """The sums of windows, which need no padding, times taps: numbers in the order of the windows, or an array.

    In memory a tap is as far from where its output is in all windows, counted row after row: rows are added as one,
    and what lies between their ends is left out. Windows of more than a line do not read where taps are 0.
    """
    add = _added_line if is_line else _added
    if not (traits(xp).threads and x.flags.c_contiguous):
        return add(tap_views(x, windows), taps)
    shifts = tap_shifts(windows)
    row, count = x.reshape(-1), math.prod(x.shape) - shifts[-1]
    sums = add([row[shift : shift + count] for shift in shifts], taps)
    return xp.ndarray(windows.output_size, sums.dtype, sums, strides=x.strides)


def _added(views: list[Array], taps: tuple[complex, ...]) -> Array:
    return _one_by_one(*zip(*[(view, tap) for view, tap in zip(views, taps, strict=True) if tap], strict=True))


def _added_line(views: list[Array], taps: Any) -> Array:
    last, sign = len(views) - 1, _symmetry(taps)
    if sign == 0:
        order = [last, *range(last)]
        return _one_by_one([views[tap] for tap in order], [taps[tap] for tap in order])
    total = views[last // 2] * taps[last // 2]
    for tap in range(last // 2):
        pair = views[tap] + views[last - tap] if sign > 0 else views[tap] - views[last - tap]
        pair *= taps[tap]
        total += pair
    return total


def _one_by_one(views: Sequence[Array], taps: Sequence[Any]) -> Array:
    total = views[0] * taps[0]
    for view, tap in zip(views[1:], taps[1:], strict=True):
        total += view * tap
    return total


def _symmetry(taps: Any) -> int:
    """1 or -1 for numbers that are the same, or opposite, from the other end; 0 for others, and where nobody knows."""
    if not isinstance(taps, tuple) or len(taps) % 2 == 0:
        return 0
    turned = taps[::-1]
    if taps == turned:
        return 1
    return -1 if all(one == -other for one, other in zip(taps, turned, strict=True)) else 0


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
