"""Filters of chunked arrays: each chunk of a result is the same filter of its elements and of those around them.

What lies beyond the ends is read with them, but for a border of a number, which the filter adds itself; what the filter
gives for elements around a chunk is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .._arrays.elements import empty, put_at
from .._arrays.libraries import Array, DType, is_chunked
from .._arrays.operands import namespace_of
from .._plan.blocks import ranges
from .._plan.chunked import everything, neighbours_of, pointwise
from .._plan.geometry import Ints
from .chunked import Given, cropped
from .graph import Chunked, edges, write

STRIPS = 12  # of a chunk: of what is read and held besides the result, a twelfth is little
LONG = 8  # times as many rows as lie around a strip, which are filtered twice


class ChunkFilter(NamedTuple):
    """A function of an array, of others that all chunks take whole, and of what is no array."""

    function: Callable[..., Array]
    arguments: tuple[Any, ...] = ()
    halo: tuple[int, int] | None = None  # of the first axis, if the function is called for some rows at a time
    takes_pieces: bool = False  # of which it joins what it reads


class Halo(NamedTuple):
    """How many elements around one a filter reads along an axis, and the border that it has there."""

    axis: int
    before: int
    behind: int
    mode: str


class Combined(NamedTuple):
    """A function of the results of several others, which have settings of their own."""

    function: Callable[..., Array]
    shares: tuple[tuple[Callable[..., Array], Any], ...]


def neighbourhoods(
    function: Callable[..., Array],
    x: Array,
    halos: Sequence[Halo],
    dtype: DType,
    others: tuple[Array, ...] = (),
    arguments: tuple[Any, ...] = (),
    takes_pieces: bool = False,
) -> Chunked:
    """``function(x, *others, *arguments)``, which has the shape of x, chunk by chunk, before it is written."""
    cuts = edges(x)
    reads = [
        neighbours_of(size, 0, 0, "zeros", axis, cut)
        for axis, (size, cut) in enumerate(zip(x.shape, cuts, strict=True))
    ]
    for axis, before, behind, mode in halos:
        reads[axis] = neighbours_of(x.shape[axis], before, behind, mode, axis, cuts[axis])
    whole = [(other, tuple(map(everything, other.shape))) for other in others]
    first = [(before, behind) for axis, before, behind, _ in halos if axis == 0] or [(0, 0)]
    halo = first[0] if others else None  # lines are chained in a cache of their own: strips of them take longer
    settings, operands = ChunkFilter(function, arguments, halo, takes_pieces), ((x, tuple(reads)), *whole)
    return Chunked(filter_block, settings, cuts, dtype, operands, joins=True)


def element_by_element(function: Callable[..., Array], *arrays: Array) -> Array:
    """``function(*arrays)`` of arrays of one shape, chunk by chunk if they are chunked.

    Of neighbourhoods that are not written a chunk of the result is one task, which has no other hold what it adds up.
    """
    if isinstance(arrays[0], Chunked):
        settings = Combined(function, tuple([(share.function, share.settings) for share in arrays]))
        operands = tuple([operand for share in arrays for operand in share.operands])
        return write(arrays[0]._replace(function=combined_block, settings=settings, operands=operands))
    if not is_chunked(*arrays):
        return function(*arrays)
    cuts = edges(arrays[0])
    reads = tuple([pointwise(axis, cut) for axis, cut in enumerate(cuts)])
    operands = tuple([(array, reads) for array in arrays])
    return write(Chunked(elements_block, ChunkFilter(function), cuts, arrays[0].dtype, operands))


def filter_block(settings: ChunkFilter, sizes: Ints, like: Array, xs: Given, *others: Given) -> Array:
    """A chunk of a filter's result, by strips of rows if it may be: a task then holds little besides it."""
    ((places, x),) = xs
    xp, arrays = namespace_of(x=like), [pieces.joined() for ((_, pieces),) in others]

    def filtered(part: Array) -> Array:
        return settings.function(part, *arrays, *settings.arguments)

    if x is None:
        return filtered(xp.empty(sizes, dtype=like.dtype))
    rows = max(-(-sizes[0] // STRIPS), LONG * sum(settings.halo)) if sizes and settings.halo else 0
    if settings.halo is None or not 0 < rows < sizes[0]:
        return cropped(xp, filtered(x if settings.takes_pieces and len(x.parts) > 1 else x.joined()), places)
    (before, behind), skipped, y = settings.halo, places[0].start, None
    for start, stop in ranges(sizes[0], rows):
        first, end = max(skipped + start - before, 0), min(skipped + stop + behind, x.shape[0])
        kept = slice(skipped + start - first, skipped + stop - first)
        strip = filtered(x[(slice(first, end), *[slice(None)] * (x.ndim - 1))])[(kept, *places[1:])]
        y = empty(xp, strip, sizes) if y is None else y
        y = put_at(y, (slice(start, stop),), strip)
        del strip  # before there is another
    return y


def combined_block(settings: Combined, sizes: Ints, like: Array, *operands: Given) -> Array:
    """A chunk of what is made of several filters of one array each."""
    shares = zip(settings.shares, operands, strict=True)
    return settings.function(*[share(inner, sizes, like, operand) for (share, inner), operand in shares])


def elements_block(settings: ChunkFilter, sizes: Ints, like: Array, *operands: Given) -> Array:
    """A chunk of what is done to each element by itself."""
    nothing = namespace_of(x=like).empty(sizes, dtype=like.dtype) if 0 in sizes else None
    return settings.function(*[nothing if array is None else array for ((_, array),) in operands])
