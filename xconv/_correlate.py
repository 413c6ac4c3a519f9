"""Correlation of arrays of any number of axes along some of them: what SciPy's functions are translated to.

Axes before the first one that is filtered are a batch, and those behind it have windows of one element, so that nothing
is copied and results lie in the order of their axes. Sums are carried in one dtype and stored in another. On NumPy
those along single axes, those that lose their fraction and those of few taps are tap by tap, of the same operations for
all outputs, as in SciPy. So are those of small arrays, sooner than by a plan, and where a weight of 0 leaves out NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ._arrays.elements import conjugate, full, gathered, is_finite, reshaped, truncated
from ._arrays.layout import Layout
from ._arrays.libraries import Array, DType, Namespace, is_kind, traits
from ._arrays.machine import item_size
from ._arrays.operands import Description, Operand, described, filter_dtype, one_namespace
from ._plan.arguments import Keywords, conv_geometry, workspace
from ._plan.chains import on_all_axes
from ._plan.geometry import Ints
from ._plan.remembered import remembering
from ._run.call import Call
from ._run.chunked_filters import Halo, neighbourhoods
from ._run.graph import Chunked, Pieces, is_chunked, write
from ._run.neighbours import Windows, filtered, neighbours
from ._run.threads import is_alone

FEW = 27  # taps that are added one by one in at most half as much time again as by products of matrices
BESIDE_OTHERS = 2**21  # bytes for each of many chunks at once: blocks that are fast, and hold less than a chunk
SMALL = 25 * 2**15  # elements by taps, that are added before there would be a plan


def correlate(x: Array, w: Array, windows: Windows, dtype: DType, flip: bool) -> Array:
    """``y[m] = sum over j of x[m + j - before] * conj(w[j])`` along the axes of windows, as many outputs as inputs.

    With ``flip`` the weights are turned round instead of conjugated.
    """
    if is_chunked(x, w):
        return write(neighbourhoods(correlate, x, halos([windows]), dtype, (w,), (windows, dtype, flip)))
    operands = described(x=x, w=w)
    (_, xp, shape, own, *_), (_, _, _, other, *_) = operands
    working = filter_dtype(xp, own, other, dtype)
    if 0 in shape:
        return full(xp, x, shape, 0, dtype)
    if not windows.axes:
        factor = w if flip else conjugate(xp, w)
        return xp.asarray(truncated(xp, xp.astype(x, working) * xp.astype(factor, working), dtype), dtype=dtype)
    if traits(xp).threads:
        taps = taps_of(xp, w, flip)
        if not any(taps):
            return full(xp, x, shape, 0, dtype)
        is_small = len(taps) <= FEW or math.prod(shape) * len(taps) <= SMALL
        truncates = is_kind(xp, dtype, ("integral", "bool"))
        line = Windows(*windows[:5], taps, False)
        spreads = not all(taps) or (is_kind(xp, own, "complex floating") and not line.is_complex)
        if is_small or truncates or (spreads and not is_finite(xp, x)):
            return filtered(xp, x, [line], dtype, [working])
    call, inner, kernel = _planned(operands, windows, dtype, working, flip, is_alone())
    return gathered(xp, reshaped(xp, call.forward(reshaped(xp, x, inner), reshaped(xp, w, kernel)), shape))


def halos(lines: Sequence[Windows]) -> list[Halo]:
    """What windows read around each element."""
    return [
        Halo(axis, before, size - 1 - before, mode)
        for line in lines
        for axis, size, before, mode in zip(*line[:4], strict=True)
    ]


def taps_of(xp: Namespace, w: Array, flip: bool) -> Any:
    """What windows are multiplied with: numbers, where these are known (NumPy), or an array of them."""
    if not traits(xp).threads:
        return xp.flip(w) if flip else conjugate(xp, w)
    taps = w.reshape(-1).tolist()
    return tuple(taps[::-1] if flip else [tap.conjugate() for tap in taps])


@remembering(trusted=6)
def _planned(
    operands: tuple[Description, ...], windows: Windows, dtype: DType, working: DType, flip: bool, alone: bool
) -> tuple[Call, Ints, Ints]:
    """The call, and what the shapes of x and w become for it; by itself on a thread, beside others that do the same."""
    x, w = (Operand(*operand) for operand in operands)
    xp, first = one_namespace((x, w)), windows.axes[0]
    kernel, padding, modes = (each[first:] for each in on_all_axes(*windows[:4], len(x.shape)))
    inner, filters = (math.prod(x.shape[:first]), 1, *x.shape[first:]), (1, 1, *kernel)
    geometry = conv_geometry({"x": inner, "w": filters}, Keywords(padding=padding, padding_mode=modes))
    layout = Layout(xp, (x, w), dtype, geometry._replace(pad_value=windows.value), flip, not flip, working)
    room = workspace(BESIDE_OTHERS if alone else None, item_size(xp, working) * geometry.elements)
    return Call(layout, "direct", room), inner, filters


def share(x: Array, lines: Sequence[Windows], dtype: DType) -> Array | Chunked:
    """`separable`, for `element_by_element`."""
    if is_chunked(x):
        return neighbourhoods(separable, x, halos(lines), dtype, (), (tuple(lines), dtype), takes_pieces=True)
    return separable(x, lines, dtype)


def separable(x: Array, lines: Sequence[Windows], dtype: DType) -> Array:
    """x by windows along one axis after another, each stored in the result's dtype."""
    if is_chunked(x):
        return write(share(x, lines, dtype))
    ((_, xp, _, own, *_),), shape = described(x=x.first if isinstance(x, Pieces) else x), x.shape
    if isinstance(x, Pieces) and not (traits(xp).threads and lines):
        x = x.joined()
    if 0 in shape:
        return full(xp, x, shape, 0, dtype)
    if not lines:
        return truncated(xp, xp.asarray(x, copy=True), dtype)
    workings = []
    for line in lines:
        others = [line.taps.dtype] if hasattr(line.taps, "dtype") else [xp.complex64] * line.is_complex
        workings.append(filter_dtype(xp, own, dtype, *others))
        own = dtype
    if traits(xp).threads:
        return filtered(xp, x, lines, dtype, workings)
    for line, working in zip(lines, workings, strict=True):
        taps = xp.astype(line.taps, working) if hasattr(line.taps, "dtype") else line.taps
        x = neighbours(xp, x, line._replace(taps=taps), dtype, working)
    return x
