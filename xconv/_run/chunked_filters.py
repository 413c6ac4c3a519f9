"""Filters of chunked arrays: each chunk of a result is the same filter of its elements and of those around them.

What lies beyond the ends is read with them, but for a border of a number, which the filter adds itself; what the filter
gives for elements around a chunk is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._arrays.libraries import Array, DType
from .._arrays.operands import namespace_of
from .._plan.chunked import everything, neighbours_of, pointwise
from .._plan.geometry import Ints
from .chunked import Given, cropped
from .graph import Chunked, edges, is_chunked, write


class Filter(NamedTuple):
    """A function of an array, of others that all chunks take whole, and of what is no array."""

    function: Callable[..., Array]
    arguments: tuple[Any, ...] = ()


class Halo(NamedTuple):
    """How many elements around one a filter reads along an axis, and the border that it has there."""

    axis: int
    before: int
    behind: int
    mode: str


def neighbourhoods(
    function: Callable[..., Array],
    x: Array,
    halos: Sequence[Halo],
    dtype: DType,
    others: tuple[Array, ...] = (),
    arguments: tuple[Any, ...] = (),
) -> Array:
    """``function(x, *others, *arguments)``, which has the shape of x, chunk by chunk."""
    cuts = edges(x)
    reads = [
        neighbours_of(size, 0, 0, "zeros", axis, cut)
        for axis, (size, cut) in enumerate(zip(x.shape, cuts, strict=True))
    ]
    for axis, before, behind, mode in halos:
        reads[axis] = neighbours_of(x.shape[axis], before, behind, mode, axis, cuts[axis])
    whole = [(other, tuple(map(everything, other.shape))) for other in others]
    return write(Chunked(filter_block, Filter(function, arguments), cuts, dtype, ((x, tuple(reads)), *whole)))


def element_by_element(function: Callable[..., Array], *arrays: Array) -> Array:
    """``function(*arrays)`` of arrays of one shape, chunk by chunk if they are chunked."""
    if not is_chunked(*arrays):
        return function(*arrays)
    cuts = edges(arrays[0])
    reads = tuple([pointwise(axis, cut) for axis, cut in enumerate(cuts)])
    operands = tuple([(array, reads) for array in arrays])
    return write(Chunked(elements_block, Filter(function), cuts, arrays[0].dtype, operands))


def filter_block(settings: Filter, sizes: Ints, like: Array, xs: Given, *others: Given) -> Array:
    """A chunk of a filter's result."""
    ((places, x),) = xs
    xp = namespace_of(x=like)
    x = xp.empty(sizes, dtype=like.dtype) if x is None else x
    y = settings.function(x, *_arrays(others), *settings.arguments)
    return y if y.shape == sizes else cropped(xp, y, places)


def elements_block(settings: Filter, sizes: Ints, like: Array, *operands: Given) -> Array:
    """A chunk of what is done to each element by itself."""
    empty = namespace_of(x=like).empty(sizes, dtype=like.dtype) if 0 in sizes else None
    return settings.function(*[empty if array is None else array for array in _arrays(operands)])


def _arrays(operands: Sequence[Given]) -> list[Any]:
    return [array for ((_, array),) in operands]
