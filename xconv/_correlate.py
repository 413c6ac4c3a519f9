"""Correlation of arrays of any number of axes along some of them: what SciPy's functions are translated to.

Axes before the first one that is filtered are a batch, and those behind it have windows of one element, so that nothing
is copied and results lie in the order of their axes. Sums are carried in one dtype and stored in another. On NumPy
those along single axes, those that lose their fraction and those of few taps are tap by tap, of the same operations for
all outputs, as in SciPy. So are those of small arrays, sooner than by a plan, and where a weight of 0 leaves out NaN.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ._arrays.elements import conjugate, full, gathered, is_finite, reshaped, truncated
from ._arrays.layout import Layout
from ._arrays.libraries import Array, DType, Namespace, is_chunked, is_kind, traits
from ._arrays.machine import machine_of
from ._arrays.operands import (
    Operand,
    described,
    filter_dtype,
    item_size,
    namespace_of,
    namespace_of_numbers,
    one_namespace,
)
from ._arrays.pieces import Pieces, described_pieces
from ._plan.arguments import Keywords, conv_geometry, workspace
from ._plan.chains import on_all_axes
from ._plan.geometry import Ints
from ._plan.remembered import remembering
from ._plan.task import Steps
from ._run.call import Call, call_of
from ._run.chunked_filters import Halo, neighbourhoods
from ._run.graph import Chunked
from ._run.neighbours import UNPLANNED, Filter, FilterChain, neighbours
from ._run.threads import is_alone

AGAIN = 1.5  # times as long as products of matrices taps may take that are added one by one: equal windows, equal bits
FEW = 27  # taps, more of which take longer than that even where products have much to begin with
COMPLEX = 2  # times as long as is estimated, that products of complex numbers take: 3x3 to 9x9 on 512x512 and 1024x1024
# Times the last axis: with its borders, and the axis before it. 3x3x3 on 512x512x1 and x3 takes a tenth and a third of
# the time so, on 256x256x8, where borders are a quarter, half of it.
BORDERED, LONGER = 1.2, 4
BESIDE_OTHERS = 2**21  # bytes for each of many chunks at once: blocks that are fast, and hold less than a chunk
MOST = 2**12  # bytes of weights that calls are remembered by


class Known(NamedTuple):
    """The elements of an array of NumPy's as they are now: what is found for them holds for equal ones alone."""

    dtype: DType
    elements: bytes

    @property
    def are_few(self) -> bool:
        """Whether they are compared sooner than looked at again, and may be kept."""
        return len(self.elements) <= MOST

    def taps(self, flip: bool) -> tuple[complex, ...]:
        """What windows are multiplied with: turned round, or conjugated."""
        import numpy as np

        namespace_of_numbers([Operand("weights", np, (), self.dtype, None)])
        taps = np.frombuffer(self.elements, self.dtype).tolist()
        return tuple(taps[::-1] if flip else [tap.conjugate() for tap in taps])


def known(operand: Operand, array: Array) -> Known | None:
    """Elements, where they can be looked at."""
    can_look = traits(operand.xp).threads and not operand.is_chunked
    return Known(operand.dtype, array.tobytes()) if can_look else None


def correlation(
    operands: tuple[Operand, ...], windows: Filter, dtype: DType, flip: bool, weights: Known | None
) -> Callable[[Array, Array], Array | Chunked]:
    """`correlate` of such arrays, if their weights are known by what is settled once."""
    first, _ = operands
    if weights is not None and windows.axes and 0 not in first.shape and not first.is_chunked:
        line = Filter(*windows[:5], weights.taps(flip), False)
        is_added = any(line.taps) and _last_first(first.shape, line, loses(first.xp, dtype)) is None
        if is_added and _is_added(operands, line, dtype, flip):
            working = filter_dtype(first.xp, first.dtype, weights.dtype, dtype)
            chain = FilterChain(first.xp, first.shape, first.dtype, [line], dtype, [working])
            return lambda x, w: chain(x)
    return functools.partial(correlate, windows=windows, dtype=dtype, flip=flip)


def correlate(x: Array, w: Array, windows: Filter, dtype: DType, flip: bool) -> Array | Chunked:
    """``y[m] = sum over j of x[m + j - before] * conj(w[j])`` along the axes of windows, as many outputs as inputs.

    With ``flip`` the weights are turned round instead of conjugated.
    """
    if is_chunked(x, w):
        return neighbourhoods(correlate, x, halos([windows]), dtype, (w,), (windows, dtype, flip))
    operands = described(x=x, w=w)
    first, second = operands
    xp, shape, own, other = first.xp, first.shape, first.dtype, second.dtype
    working = filter_dtype(xp, own, other, dtype)
    if 0 in shape:
        return full(xp, x, shape, 0, dtype)
    if not windows.axes:
        factor = w if flip else conjugate(xp, w)
        return xp.asarray(truncated(xp, xp.astype(x, working) * xp.astype(factor, working), dtype), dtype=dtype)
    if traits(xp).threads:
        line = Filter(*windows[:5], Known(other, w.tobytes()).taps(flip), False)
        if not any(line.taps):
            return full(xp, x, shape, 0, dtype)
        others = _last_first(shape, line, loses(xp, dtype))
        if others is not None:
            moved = correlate(xp.moveaxis(x, -1, 0), xp.moveaxis(w, -1, 0), others, dtype, flip)
            return gathered(xp, xp.moveaxis(moved, 0, -1))
        spreads = not all(line.taps) or (is_kind(xp, own, "complex floating") and not line.is_complex)
        if _is_added(operands, line, dtype, flip) or (spreads and not is_finite(xp, x)):
            return FilterChain(xp, shape, own, [line], dtype, [working])(x)
    call, inner, kernel = _planned(operands, windows, dtype, working, flip, is_alone())
    return gathered(xp, reshaped(xp, call.forward(reshaped(xp, x, inner), reshaped(xp, w, kernel)), shape))


def loses(xp: Namespace, dtype: DType) -> bool:
    """Whether what is stored is without fraction, so that sums in another order may be other numbers."""
    return is_kind(xp, dtype, ("integral", "bool"))


def _last_first(shape: Ints, line: Filter, loses: bool) -> Filter | None:
    """The windows of an array whose last axis is moved to the front, where it is short: rows hold its borders, too.

    Sums have another order then, which shows where fractions are lost, but not of taps that have none.
    """
    if len(line.axes) < 2 or line.axes[-1] != len(shape) - 1 or len(shape) < 2:
        return None
    d, (*_, k) = shape[-1], line.sizes
    if d + k - 1 <= BORDERED * d or shape[-2] < LONGER * d or math.prod(shape) * len(line.taps) <= UNPLANNED:
        return None
    if loses and not all(tap == int(tap.real) for tap in line.taps):
        return None
    axes, sizes, before, modes = [(values[-1], *values[:-1]) for values in line[:4]]
    return Filter((0, *(axis + 1 for axis in axes[1:])), sizes, before, modes, line.value)


def _is_added(operands: tuple[Operand, ...], line: Filter, dtype: DType, flip: bool) -> bool:
    """Whether it is taps that are added, whatever x holds: of few elements, and where that costs little more."""
    first, second = operands
    xp, shape, own, other = first.xp, first.shape, first.dtype, second.dtype
    size, taps = math.prod(shape), len(line.taps)
    if size * taps <= UNPLANNED or loses(xp, dtype):
        return True
    if taps > FEW:
        return False
    working = filter_dtype(xp, own, other, dtype)
    added = Steps(copied=size, added=2 * taps * size).times(machine_of(xp, working).rates)
    call, *_ = _planned(operands, line._replace(taps=None), dtype, working, flip, is_alone())
    return added <= AGAIN * call.cost * (COMPLEX if is_kind(xp, working, "complex floating") else 1)


def halos(filters: Sequence[Filter]) -> list[Halo]:
    """What windows read around each element."""
    return [
        Halo(axis, before, size - 1 - before, mode)
        for line in filters
        for axis, size, before, mode in zip(*line[:4], strict=True)
    ]


@remembering(trusted=6)
def _planned(
    operands: tuple[Operand, ...], windows: Filter, dtype: DType, working: DType, flip: bool, alone: bool
) -> tuple[Call, Ints, Ints]:
    """The call, and what the shapes of x and w become for it; by itself on a thread, beside others that do the same."""
    x, w = operands
    xp, first = one_namespace((x, w)), windows.axes[0]
    kernel, padding, modes = (each[first:] for each in on_all_axes(*windows[:4], len(x.shape)))
    inner, filters = (math.prod(x.shape[:first]), 1, *x.shape[first:]), (1, 1, *kernel)
    geometry = conv_geometry({"x": inner, "w": filters}, Keywords(padding=padding, padding_mode=modes))
    layout = Layout(xp, (x, w), dtype, geometry._replace(pad_value=windows.value), flip, not flip, working)
    room = workspace(BESIDE_OTHERS if alone else None, item_size(xp, working) * geometry.elements)
    return call_of(layout, "direct", room), inner, filters


def separable(
    operand: Operand, filters: Sequence[Filter], dtype: DType, workings: Sequence[DType] = ()
) -> Callable[[Array], Array | Chunked]:
    """What filters such arrays by windows along one axis after another, each stored in the result's dtype.

    Of chunked ones it is not written yet, since `element_by_element` may go on with it.
    """
    xp, shape, own = operand.xp, operand.shape, operand.dtype
    if operand.is_chunked:
        words = tuple(filters), dtype
        return lambda x: neighbourhoods(_of_filters, x, halos(filters), dtype, (), words, takes_pieces=True)
    if 0 in shape:
        return lambda x: full(xp, x, shape, 0, dtype)
    if not filters:
        return lambda x: truncated(xp, gathered(xp, xp.asarray(x, copy=True)), dtype)
    if traits(xp).threads:
        return FilterChain(xp, shape, own, filters, dtype, workings or _workings(xp, own, filters, dtype))
    return functools.partial(_elsewhere, filters=filters, dtype=dtype)


def _of_filters(x: Array | Pieces, filters: Sequence[Filter], dtype: DType) -> Array:
    """`separable` of an array, or of pieces of one."""
    (operand,) = described_pieces(x=x)
    if isinstance(x, Pieces) and not (traits(operand[1]).threads and filters):
        x = x.joined()
    return separable(operand, filters, dtype)(x)


def _elsewhere(x: Array, filters: Sequence[Filter], dtype: DType) -> Array:
    """Elsewhere than on NumPy, where double precision may be switched on and off."""
    xp = namespace_of(x=x)
    for line, working in zip(filters, _workings(xp, x.dtype, filters, dtype), strict=True):
        taps = xp.astype(line.taps, working) if hasattr(line.taps, "dtype") else line.taps
        x = neighbours(xp, x, line._replace(taps=taps), dtype, working)
    return x


def _workings(xp: Namespace, own: DType, filters: Sequence[Filter], dtype: DType) -> list[DType]:
    workings = []
    for line in filters:
        others = [line.taps.dtype] if hasattr(line.taps, "dtype") else [xp.complex64] * line.is_complex
        workings.append(filter_dtype(xp, own, dtype, *others))
        own = dtype
    return workings
