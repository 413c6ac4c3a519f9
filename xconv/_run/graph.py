"""Dask's graph of a chunked call: tasks that cut pieces out of chunks, and one for each chunk of a result.

A piece is a copy, since a view would keep its whole chunk; it is cut where its chunk is, so that no more than it moves.
Pieces are named by what they are of, so that all results that read one share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .._arrays.elements import empty, put_at
from .._arrays.libraries import Array, DType, row_of
from .._arrays.operands import namespace_of
from .._plan.chunked import Part, Reads, edges_of, lengths_of
from .._plan.geometry import Ints
from .threads import alone


class Chunked(NamedTuple):
    """What computes the chunks of a result: a function of settings, of a chunk's sizes and of parts of operands.

    It is given an empty array of the chunks' library, and for each operand the parts that the chunk reads of it, each
    with its places along all axes, row-major: as an array, or as `Pieces`, if it ``joins`` them itself. None is a part
    without elements.
    """

    function: Callable[..., Array]
    settings: Any
    edges: tuple[Ints, ...]
    dtype: DType
    operands: tuple[tuple[Array, tuple[Reads, ...]], ...]
    joins: bool = False


def is_chunked(*arrays: Any) -> bool:
    """Whether one of them is in chunks that are computed later."""
    return any([row_of(array).chunked for array in arrays])  # noqa: C419 - of small arrays a generator takes longer


def lazily(array: Array) -> Array:
    """An array as one chunk, if it is no chunked one."""
    from dask.array import from_array

    return array if is_chunked(array) else from_array(array, chunks=array.shape)


def edges(array: Array) -> tuple[Ints, ...]:
    """Where each axis is cut; an array that is no chunked one is not."""
    return tuple([edges_of(lengths) for lengths in getattr(array, "chunks", [(size,) for size in array.shape])])


def write(chunked: Chunked) -> Array:
    """The result, whose chunks are computed when they are asked for."""
    from dask.base import tokenize
    from dask.task_spec import List, Task, TaskRef

    word = chunked.function.__name__.strip("_").removesuffix("_block")
    sources = [_Source(array, reads) for array, reads in chunked.operands]
    given = [(source.name, source.reads) for source in sources]
    name = f"{word}-{tokenize(chunked.function, chunked.settings, chunked.edges, repr(given))}"
    lengths = tuple(map(lengths_of, chunked.edges))
    like = next(array._meta for array, _ in chunked.operands if row_of(array).chunked)
    layer: dict[Any, Any] = {}
    for source in sources:
        layer.update(source.nodes())
    counts = tuple(map(len, lengths))
    for place in itertools.product(*map(range, counts)):
        parts: list[Any] = []
        keys: list[Any] = []
        for source in sources:
            parts.append(source.read(place, counts, layer, keys))
        sizes = tuple([along[at] for along, at in zip(lengths, place, strict=True)])
        pieces = List(*map(TaskRef, keys))
        key = (name, *place)
        layer[key] = Task(key, run, chunked.function, chunked.settings, sizes, like, parts, pieces, chunked.joins)
    return _array(name, layer, lengths, like, chunked.dtype, [array for array, _ in chunked.operands])


def run(
    function: Callable[..., Array],
    settings: Any,
    sizes: Ints,
    like: Array,
    operands: Sequence[Any],
    pieces: list[Array],
    joins: bool,
) -> Array:
    """A task: a chunk of a result, on one core, since many run at once."""
    left = iter(pieces)
    parts = [[(places, None if 0 in grid else Pieces(grid, left)) for places, grid in operand] for operand in operands]
    if not joins:
        parts = [[(places, part and part.joined()) for places, part in operand] for operand in parts]
    with alone():
        return function(settings, sizes, like, *parts)


def cut(chunk: Array, index: tuple[slice, ...]) -> Array:
    """A task: a piece of a chunk."""
    xp = namespace_of(chunk=chunk)
    backwards = [axis for axis, part in enumerate(index) if part.step == -1]  # which PyTorch does not slice
    for axis in backwards:
        chunk = xp.flip(chunk, axis=axis)
        size, part = chunk.shape[axis], index[axis]
        index = (
            *index[:axis],
            slice(size - 1 - part.start, size if part.stop is None else size - 1 - part.stop),
            *index[axis + 1 :],
        )
    return xp.asarray(chunk[index], copy=True)


class Pieces:
    """Pieces of one array, so many along each axis."""

    def __init__(self, grid: Ints, pieces: Iterator[Array]) -> None:
        self.parts = {place: next(pieces) for place in itertools.product(*map(range, grid))}
        self.first = next(iter(self.parts.values()))
        axes = range(len(grid))
        along = [
            [self.parts[tuple([at if axis == one else 0 for one in axes])].shape[axis] for at in range(grid[axis])]
            for axis in axes
        ]
        self.ends = [[*itertools.accumulate(sizes)] for sizes in along]
        self.shape = tuple([ends[-1] for ends in self.ends])

    def joined(self) -> Array:
        return self.first if len(self.parts) == 1 else self.rows(0, self.shape[0])

    def rows(self, start: int, stop: int) -> Array:
        """Some rows of the array, into which each piece's is copied once."""
        whole = empty(namespace_of(piece=self.first), self.first, (stop - start, *self.shape[1:]))
        for place, part in self.parts.items():
            ends = [along[at] for along, at in zip(self.ends, place, strict=True)]
            low = ends[0] - part.shape[0]
            first, end = max(start, low), min(stop, ends[0])
            if first < end:
                index = [slice(end - size, end) for end, size in zip(ends, part.shape, strict=True)]
                index[0] = slice(first - start, end - start)
                whole = put_at(whole, tuple(index), part[first - low : end - low, ...])
        return whole


class _Source:
    """An operand in a graph: chunks under their keys, and pieces of them."""

    def __init__(self, array: Array, reads: tuple[Reads, ...]) -> None:
        from dask.base import tokenize

        self.array, self.reads = array, reads
        self.is_chunked = row_of(array).chunked
        self.name = array.name if self.is_chunked else f"array-{tokenize(array)}"
        numbers = getattr(array, "chunks", [(size,) for size in array.shape])
        kept = [[number for number, length in enumerate(along) if length] for along in numbers]
        self.axes = [
            [[(part.place, _cuts(part, along, some)) for part in parts] for parts in read.parts]
            for read, along, some in zip(reads, edges(array), kept, strict=True)
        ]

    def nodes(self) -> dict[Any, Any]:
        """What is no task of another collection's."""
        from dask.task_spec import DataNode

        return {} if self.is_chunked else {self.name: DataNode(self.name, self.array)}

    def read(
        self, place: Ints, counts: Ints, layer: dict[Any, Any], keys: list[Any]
    ) -> list[tuple[tuple[Any, ...], Ints]]:
        """The parts that a chunk reads, (places, pieces along each axis), whose keys are appended."""
        chosen = [axes[read.of(place, counts)] for axes, read in zip(self.axes, self.reads, strict=True)]
        found = []
        for parts in itertools.product(*chosen):
            along = [cuts for _, cuts in parts]
            keys.extend([self._piece(piece, layer) for piece in itertools.product(*along)])
            found.append((tuple([some for some, _ in parts]), tuple(map(len, along))))
        return found

    def _piece(self, piece: tuple[tuple[int, slice | None], ...], layer: dict[Any, Any]) -> Any:
        """The key of a piece of a chunk, which may be all of it."""
        from dask.task_spec import Task, TaskRef

        numbers = [number for number, _ in piece]
        chunk = (self.name, *numbers) if self.is_chunked else self.name
        if all([part is None for _, part in piece]):  # noqa: C419 - there are many pieces
            return chunk
        index = tuple([part or slice(None) for _, part in piece])
        names = [str(part and (part.start, part.stop, part.step)) for _, part in piece]
        key = (f"cut-{self.name}", *numbers, *names)
        if key not in layer:
            layer[key] = Task(key, cut, TaskRef(chunk), index)
        return key


def _cuts(part: Part, edges: Ints, numbers: Sequence[int]) -> list[tuple[int, slice | None]]:
    """(chunk, what of it), and None for all of it, of the chunks that are not empty."""
    found = []
    for run in part.runs:
        for chunk, piece in run.slices(edges):
            is_whole = piece == slice(0, edges[chunk + 1] - edges[chunk])
            found.append((numbers[chunk], None if is_whole else piece))
    return found


def _array(
    name: str, layer: dict[Any, Any], lengths: tuple[Ints, ...], like: Array, dtype: DType, operands: Sequence[Array]
) -> Array:
    """Dask's array of the keys (name, number along each axis), in either of its modes."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    meta = namespace_of(like=like).empty((0,) * len(lengths), dtype=dtype)
    chunked = [array for array in operands if row_of(array).chunked]
    if not getattr(da, "array_expr_enabled", bool)():
        return da.Array(HighLevelGraph.from_collections(name, layer, dependencies=chunked), name, lengths, meta=meta)
    from dask.array._array_expr._collection import from_graph

    for array in chunked:
        layer.update(array.__dask_graph__())
    keys = [(name, *place) for place in itertools.product(*map(range, map(len, lengths)))]
    return from_graph(layer, meta, lengths, keys, name)
