"""Dask's graph of a chunked call: tasks that cut pieces out of chunks, and one for each chunk of a result.

A piece is a copy, since a view would keep its whole chunk; it is cut where its chunk is, so that no more than it moves.
Pieces are named by what they are of, so that all results that read one share it; those that one chunk of a result reads
of chunks in one place, of whichever operands, are cut at once.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .._arrays.elements import empty, put_at
from .._arrays.libraries import Array, DType, row_of
from .._arrays.operands import namespace_of
from .._plan.chunked import Part, Reads, edges_of, lengths_of
from .._plan.geometry import Ints
from .threads import alone

WITHIN = 100  # times as many elements as a small array's has a chunk beside it, to which it then adds hardly a byte


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
    from dask.task_spec import List, Task

    word = chunked.function.__name__.strip("_").removesuffix("_block")
    largest = max([math.prod(map(max, array.chunks)) for array, _ in chunked.operands if row_of(array).chunked])
    sources = [_Source(array, reads, largest // WITHIN) for array, reads in chunked.operands]
    read = repr([(source.name, source.reads) for source in sources])
    name = f"{word}-{tokenize(chunked.function, chunked.settings, chunked.edges, read)}"
    lengths = tuple(map(lengths_of, chunked.edges))
    like = next(array._meta for array, _ in chunked.operands if row_of(array).chunked)
    layer: dict[Any, Any] = {}
    for source in sources:
        layer.update(source.nodes())
    counts = tuple(map(len, lengths))
    for place in itertools.product(*map(range, counts)):
        pieces: list[_Piece] = []
        parts = [source.read(place, counts, pieces) for source in sources]
        inputs, order = _inputs(pieces, layer)
        sizes = tuple([along[at] for along, at in zip(lengths, place, strict=True)])
        key, given = (name, *place), (sizes, like, parts, List(*inputs), order)
        layer[key] = Task(key, run, chunked.function, chunked.settings, *given, chunked.joins)
    return _array(name, layer, lengths, like, chunked.dtype, [array for array, _ in chunked.operands])


def run(
    function: Callable[..., Array],
    settings: Any,
    sizes: Ints,
    like: Array,
    operands: Sequence[Any],
    inputs: list[Any],
    order: Sequence[int],
    joins: bool,
) -> Array:
    """A task: a chunk of a result, on one core, since many run at once. Inputs are pieces, or several in a list."""
    pieces = [piece for some in inputs for piece in (some if isinstance(some, list) else [some])]
    left = iter([pieces[number] for number in order])
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


def cut_all(indices: Sequence[tuple[slice, ...]], *chunks: Array) -> list[Array]:
    """A task: a piece of each of several chunks."""
    return [cut(*piece) for piece in zip(chunks, indices, strict=True)]


class Pieces:
    """Pieces of one array, so many along each axis, of which no more is joined than is asked for."""

    def __init__(self, grid: Ints, pieces: Iterator[Array]) -> None:
        self.parts = {place: next(pieces) for place in itertools.product(*map(range, grid))}
        self.first = next(iter(self.parts.values()))
        axes = range(len(grid))
        along = [
            [self.parts[tuple([at if axis == one else 0 for one in axes])].shape[axis] for at in range(grid[axis])]
            for axis in axes
        ]
        self.ends = [[*itertools.accumulate(sizes)] for sizes in along]
        self.shape, self.ndim, self.dtype = tuple([ends[-1] for ends in self.ends]), len(grid), self.first.dtype

    def joined(self) -> Array:
        return self.first if len(self.parts) == 1 else self[...]

    def __getitem__(self, index: Any) -> Array:
        """A part of the array, by slices after an ellipsis or none."""
        slices = [part for part in index if part is not ...] if isinstance(index, tuple) else [slice(None)] * self.ndim
        box = [slice(*part.indices(size)) for part, size in zip(slices, self.shape, strict=True)]
        shape = tuple([part.stop - part.start for part in box])
        return self.put(box, empty(namespace_of(piece=self.first), self.first, shape))

    def put(self, box: Sequence[slice], place: Array) -> Array:
        """Write a part to an array of its shape, what lies in each piece once."""
        for at, piece in self.parts.items():
            source, target = [], []
            for part, ends, number, size in zip(box, self.ends, at, piece.shape, strict=True):
                low = ends[number] - size
                first, end = max(part.start, low), min(part.stop, ends[number])
                source.append(slice(first - low, max(end, first) - low))
                target.append(slice(first - part.start, max(end, first) - part.start))
            if all([part.start < part.stop for part in source]):  # noqa: C419 - of few axes a generator takes longer
                place = put_at(place, tuple(target), piece[tuple(source)])
        return place


class _Piece(NamedTuple):
    """What is read of one chunk: along each axis the chunk's number, and what of it, also in words, if it is cut."""

    source: _Source
    numbers: Ints
    slices: tuple[slice | None, ...]
    words: tuple[str, ...]


class _Source:
    """An operand in a graph: chunks under their keys, and pieces of them.

    An array of no more than ``small`` elements lies in the tasks themselves. As one more input it would soon be on all
    workers, any of which a scheduler then takes to be good for any task, wherever its chunk is.
    """

    def __init__(self, array: Array, reads: tuple[Reads, ...], small: int) -> None:
        from dask.base import tokenize

        self.array, self.reads = array, reads
        self.is_chunked = row_of(array).chunked
        self.is_within = not self.is_chunked and math.prod(array.shape) <= small
        self.name = array.name if self.is_chunked else f"array-{tokenize(array)}"
        numbers = getattr(array, "chunks", [(size,) for size in array.shape])
        self.chunks: dict[Ints, Any] = {}  # as tasks take them
        self.grid = tuple(map(len, numbers)) if self.is_chunked else self.name
        kept = [[number for number, length in enumerate(along) if length] for along in numbers]
        self.axes = [
            [[(part.place, _cuts(part, along, some)) for part in parts] for parts in read.parts]
            for read, along, some in zip(reads, edges(array), kept, strict=True)
        ]

    def nodes(self) -> dict[Any, Any]:
        """What is no task of another collection's."""
        from dask.task_spec import DataNode

        return {} if self.is_chunked or self.is_within else {self.name: DataNode(self.name, self.array)}

    def read(self, place: Ints, counts: Ints, pieces: list[_Piece]) -> list[tuple[tuple[Any, ...], Ints]]:
        """The parts that a chunk reads, (places, pieces along each axis), whose pieces are appended."""
        chosen = [axes[read.of(place, counts)] for axes, read in zip(self.axes, self.reads, strict=True)]
        found = []
        for parts in itertools.product(*chosen):
            along = [cuts for _, cuts in parts]
            for piece in itertools.product(*along):
                numbers, index, words = zip(*piece, strict=True) if piece else ((), (), ())
                pieces.append(_Piece(self, numbers, index, words if any(words) else ()))
            found.append((tuple([some for some, _ in parts]), tuple(map(len, along))))
        return found

    def whole(self, numbers: Ints) -> Any:
        """A chunk."""
        from dask.task_spec import TaskRef

        if self.is_within:
            return self.array
        if numbers not in self.chunks:
            self.chunks[numbers] = TaskRef((self.name, *numbers) if self.is_chunked else self.name)
        return self.chunks[numbers]


def _inputs(pieces: Sequence[_Piece], layer: dict[Any, Any]) -> tuple[list[Any], list[int]]:
    """What a task takes: chunks, what other tasks cut of them, and small arrays; and in which order its pieces are."""
    inputs: list[Any] = []
    order, places = [-1] * len(pieces), dict[Any, list[int]]()
    for number, piece in enumerate(pieces):
        if not piece.words:
            order[number] = len(inputs)
            inputs.append(piece.source.whole(piece.numbers))
        else:
            places.setdefault((piece.source.grid, piece.numbers), []).append(number)
    count = len(inputs)
    for numbers in places.values():
        inputs.append(_cut([pieces[number] for number in numbers], layer))
        for number in numbers:
            order[number] = count
            count += 1
    return inputs, order


def _cut(pieces: Sequence[_Piece], layer: dict[Any, Any]) -> Any:
    """Pieces of chunks in one place, cut by one task, or at once of a small array."""
    from dask.task_spec import Task, TaskRef

    chunks = [piece.source.whole(piece.numbers) for piece in pieces]
    indices = [tuple([part or slice(None) for part in piece.slices]) for piece in pieces]
    if pieces[0].source.is_within:
        return cut_all(indices, *chunks)
    names = Counter([piece.source.name for piece in pieces])
    words = [word for piece in pieces for word in piece.words]
    key = (f"cut-{'-'.join(names)}", *pieces[0].numbers, *words, *names.values())
    if key not in layer:
        one = len(pieces) == 1
        layer[key] = Task(key, cut, *chunks, *indices) if one else Task(key, cut_all, indices, *chunks)
    return TaskRef(key)


def _cuts(part: Part, edges: Ints, numbers: Sequence[int]) -> list[tuple[int, slice | None, str]]:
    """(chunk, what of it, its word), and None and no word for all of it, of the chunks that are not empty."""
    found: list[tuple[int, slice | None, str]] = []
    for run in part.runs:
        for chunk, piece in run.slices(edges):
            is_whole = piece == slice(0, edges[chunk + 1] - edges[chunk])
            word = f"{piece.start}:{piece.stop}:{piece.step}"
            found.append((numbers[chunk], *((None, "") if is_whole else (piece, word))))
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
