"""Convolutions of two arrays and resampling, of chunked arrays: each chunk is one of what it reads, cropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .._arrays.elements import resized, zeros
from .._arrays.libraries import Array, DType, is_chunked
from .._arrays.operands import namespace_of
from .._plan.borders import Run
from .._plan.broadcast import kept as kept_by
from .._plan.chunked import Part, Reads, everything, overlaps_of, pointwise, resampled_of, scaled
from .._plan.geometry import Ints
from .._plan.polyphase import EXTENSIONS, ODD
from .chunked import Given, cropped
from .graph import Chunked, edges, write


class Convolving(NamedTuple):
    """A function of two arrays and a mode, and what else it is given; of which the second may be what is cut."""

    function: Callable[..., Array]
    words: tuple[Any, ...]
    dtype: DType
    swaps: bool


class Resampling(NamedTuple):
    """A function of a filter, a signal and keywords."""

    function: Callable[..., Array]
    rates: tuple[int, int]
    axis: int
    value: complex
    dtype: DType


def convolved(
    function: Callable[..., Array],
    arrays: tuple[Array, Array],
    axes: Ints,
    mode: str,
    border: str,
    turns: bool,
    words: tuple[Any, ...],
    dtype: DType,
) -> Array:
    """A convolution, or a correlation, which ``turns`` the second array round, of arrays that broadcast otherwise.

    The larger one of those that are chunked is cut, but for a border, which is the first one's: a number ("value"),
    which the function adds, or another. "same" keeps the middle of broadcast axes as well.
    """
    first, second = arrays
    border, may_swap = ("zeros", False) if border == "value" else (border, border == "zeros")
    swaps = may_swap and (not is_chunked(first) or (is_chunked(second) and second.size > first.size))
    data, other = (second, first) if swaps else (first, second)
    cuts, reads, whole = [], [], []
    for axis, (cut, some) in enumerate(zip(edges(data), edges(other), strict=True)):
        d, k = data.shape[axis], other.shape[axis]
        if axis in axes:
            start, stop = kept_by(first.shape[axis], second.shape[axis], mode)
            cuts.append(scaled(cut, 1, 1, stop - start))
            reads.append(overlaps_of((d, k), start, border, swaps and turns, axis, cuts[-1]))
            whole.append(everything(k))
        elif mode == "same" and first.shape[axis] < second.shape[axis]:
            cuts.append((0, 1))
            both = [everything(1), Reads((), ((Part((Run(kept_by(1, second.shape[axis], mode)[0], 1),)),),))]
            reads.append(both[swaps])
            whole.append(both[not swaps])
        else:
            cuts.append(some if d == 1 else cut)
            both = [everything(1) if size == 1 else pointwise(axis, cuts[-1]) for size in (d, k)]
            reads.append(both[0])
            whole.append(both[1])
    operands = (data, tuple(reads)), (other, tuple(whole))
    return write(Chunked(convolution_block, Convolving(function, words, dtype, swaps), tuple(cuts), dtype, operands))


def resampled(
    function: Callable[..., Array],
    h: Array,
    x: Array,
    rates: tuple[int, int],
    axis: int,
    mode: str,
    value: complex,
    outputs: int,
    dtype: DType,
) -> Array:
    """A signal along an axis of x."""
    (up, down), (taps,), size = rates, h.shape, x.shape[axis]
    cuts = [*edges(x)]
    reads = [pointwise(at, cut) for at, cut in enumerate(cuts)]
    cuts[axis] = scaled(cuts[axis], up, down, outputs)
    words = mode, "" if mode in ODD or mode == "constant" else EXTENSIONS[mode]
    reads[axis] = resampled_of(size, taps, rates, words, axis, cuts[axis])
    settings = Resampling(function, rates, axis, value, dtype)
    operands = (h, (everything(taps),)), (x, tuple(reads))
    return write(Chunked(resampling_block, settings, tuple(cuts), dtype, operands))


def convolution_block(settings: Convolving, sizes: Ints, like: Array, xs: Given, others: Given) -> Array:
    ((places, x),), ((_, other),) = xs, others
    if x is None or other is None or 0 in sizes:
        return zeros(namespace_of(x=like), like, sizes, dtype=settings.dtype)
    xp = namespace_of(x=like)
    x, other = (xp.astype(one, settings.dtype, copy=False) for one in (x, other))  # one element is multiplied as it is
    y = settings.function(*((other, x) if settings.swaps else (x, other)), "full", *settings.words)
    kept = tuple([place if isinstance(place, slice) else slice(None) for place in places])
    return cropped(xp, xp.asarray(y), kept)  # of arrays without axes NumPy makes numbers


def resampling_block(settings: Resampling, sizes: Ints, like: Array, hs: Given, xs: Given) -> Array:
    ((_, h),), ((places, x),) = hs, xs
    if x is None or 0 in sizes:
        return zeros(namespace_of(x=like), like, sizes, dtype=settings.dtype)
    index = [slice(None)] * x.ndim
    index[settings.axis], mode = places[settings.axis]
    y = settings.function(h, x, *settings.rates, settings.axis, mode, settings.value)
    xp = namespace_of(y=y)
    y = cropped(xp, y, tuple(index))
    if y.shape == sizes:
        return y
    # The last outputs may read no element, and lie between those that do.
    rest = resized(y, settings.axis, sizes[settings.axis] - y.shape[settings.axis])
    return xp.concat([y, zeros(xp, y, rest, dtype=settings.dtype)], axis=settings.axis)
