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

from .._arrays.elements import flipped
from .._arrays.libraries import Array, DType, is_chunked, row_of
from .._arrays.operands import namespace_of
from .._arrays.pieces import Pieces
from .._plan.chunked import Part, Reads, Span, edges_of, lengths_of
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
    word: str = ""  # what tasks are called: as the function, if it is no other


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
    from dask.task_spec import Task

    word = chunked.word or chunked.function.__name__.strip("_").removesuffix("_block")
    largest = max([math.prod(map(max, array.chunks)) for array, _ in chunked.operands if row_of(array).chunked])
    numbering = _Numbering(tuple([len(lengths_of(cut)) for cut in chunked.edges]))
    sources = [_Source(array, reads, largest // WITHIN, numbering) for array, reads in chunked.operands]
    read = repr([(source.name, reads) for source, (_, reads) in zip(sources, chunked.operands, strict=True)])
    name = f"{word}-{tokenize(chunked.function, chunked.settings, chunked.edges, read)}"
    lengths = tuple(map(lengths_of, chunked.edges))
    like = next(array._meta for array, _ in chunked.operands if row_of(array).chunked)
    layer: dict[Any, Any] = {}
    for source in sources:
        layer.update(source.nodes())
    shared = Shared(chunked.function, chunked.settings, like, chunked.joins)
    patterns: dict[Any, _Pattern] = {}  # where chunks are as long as each other, all but those at the ends have one
    for place in itertools.product(*map(range, numbering.counts)):
        where = numbering.of(place)
        chosen = [[axis[where[at]] for at, axis in source.axes] for source in sources]
        kinds = tuple([entry.kind for entries in chosen for entry in entries])
        if kinds not in patterns:
            patterns[kinds] = _Pattern(sources, chosen)
        given = [tuple([entry.parts for entry in entries]) for entries in chosen]
        sizes = tuple([along[at] for along, at in zip(lengths, place, strict=True)])
        key, pattern = (name, *place), patterns[kinds]
        layer[key] = Task(key, run, shared, sizes, given, pattern.order, *pattern.inputs(where, layer))
    return _array(name, layer, lengths, like, chunked.dtype, [array for array, _ in chunked.operands])


class Shared(NamedTuple):
    """What all tasks of a result are given."""

    function: Callable[..., Array]
    settings: Any
    like: Array
    joins: bool


def run(shared: Shared, sizes: Ints, operands: Sequence[Any], order: Sequence[int], *inputs: Any) -> Array:
    """A task: a chunk of a result, on one core, since many run at once. Inputs are pieces, or several in a list."""
    pieces = [piece for some in inputs for piece in (some if isinstance(some, list) else [some])]
    left, given = iter([pieces[number] for number in order]), []
    for axes in operands:
        parts: list[tuple[Any, Any]] = []
        for along in itertools.product(*axes):
            grid = tuple([count for _, count in along])
            part = None if 0 in grid else Pieces(grid, left)
            parts.append(
                (tuple([place for place, _ in along]), part if shared.joins or part is None else part.joined())
            )
        given.append(parts)
    with alone():
        return shared.function(shared.settings, sizes, shared.like, *given)


def cut(chunk: Array, index: tuple[slice, ...]) -> Array:
    """A task: a piece of a chunk."""
    xp = namespace_of(chunk=chunk)
    backwards = tuple([axis for axis, part in enumerate(index) if part.step == -1])  # which PyTorch does not slice
    forwards = [
        slice((-1 if part.stop is None else part.stop) + 1, part.start + 1) for part in index if part.step == -1
    ]
    piece = chunk[tuple([forwards.pop(0) if part.step == -1 else part for part in index])]
    return xp.asarray(flipped(xp, piece, backwards) if backwards else piece, copy=True)


def cut_all(indices: Sequence[tuple[slice, ...]], *chunks: Array) -> list[Array]:
    """A task: a piece of each of several chunks."""
    return [cut(*piece) for piece in zip(chunks, indices, strict=True)]


class _Numbering:
    """Numbers by which what is read is found: those of a chunk of the result along its axes, then 0, and one for each
    pair of axes that something depends on at once.
    """

    def __init__(self, counts: Ints) -> None:
        self.counts, self.zero = counts, len(counts)
        self.others: list[Reads] = []

    def place(self, reads: Reads) -> int:
        """Which of the numbers is that of an entry."""
        if len(reads.axes) <= 1:
            return reads.axes[0] if reads.axes else self.zero
        self.others.append(reads)
        return self.zero + len(self.others)

    def of(self, place: Ints) -> Ints:
        return (*place, 0, *[reads.of(place, self.counts) for reads in self.others])


class _Cut(NamedTuple):
    """What is read of one chunk along an axis: its number, from one of the `_Numbering`, and what of it, if cut."""

    chunk: Span
    part: slice | None
    word: str


class _Entry(NamedTuple):
    """What is read along an axis: of each part its place and how many cuts, and these; a kind is of the same cuts."""

    kind: int
    parts: tuple[tuple[Any, int], ...]
    cuts: list[list[_Cut]]


class _Source:
    """An operand in a graph: chunks under their keys, and pieces of them.

    An array of no more than ``small`` elements lies in the tasks themselves. As one more input it would soon be on all
    workers, any of which a scheduler then takes to be good for any task, wherever its chunk is.
    """

    def __init__(self, array: Array, reads: tuple[Reads, ...], small: int, numbering: _Numbering) -> None:
        from dask.base import tokenize

        self.array = array
        self.is_chunked = row_of(array).chunked
        self.is_within = not self.is_chunked and math.prod(array.shape) <= small
        self.name = array.name if self.is_chunked else f"array-{tokenize(array)}"
        self.chunks: dict[Ints, Any] = {}  # as tasks take them
        lengths = getattr(array, "chunks", [(size,) for size in array.shape])
        self.grid = tuple(map(len, lengths)) if self.is_chunked else self.name
        self.axes: list[tuple[int, list[_Entry]]] = []
        for read, along in zip(reads, lengths, strict=True):
            at = numbering.place(read)
            base = at if at < numbering.zero and len(along) > 1 else numbering.zero
            self.axes.append((at, _entries(read, along, (base, numbering.zero))))

    def nodes(self) -> dict[Any, Any]:
        """What is no task of another collection's."""
        from dask.task_spec import DataNode

        return {} if self.is_chunked or self.is_within else {self.name: DataNode(self.name, self.array)}

    def whole(self, numbers: Ints) -> Any:
        """A chunk."""
        from dask.task_spec import TaskRef

        if self.is_within:
            return self.array
        if numbers not in self.chunks:
            self.chunks[numbers] = TaskRef((self.name, *numbers) if self.is_chunked else self.name)
        return self.chunks[numbers]


def _entries(reads: Reads, lengths: Ints, bases: Span) -> list[_Entry]:
    """What is read along an axis of such chunks, numbered from one of the `_Numbering`, or the other, which is 0."""
    numbers, edges = [number for number, length in enumerate(lengths) if length], edges_of(lengths)
    found, kinds = list[_Entry](), dict[Any, int]()
    for place, parts in enumerate(reads.parts):
        first = place if bases[0] != bases[1] else 0
        cuts = [_cuts(part, edges, numbers, (bases[0], first)) for part in parts]
        kind = kinds.setdefault(repr(cuts), len(kinds))
        found.append(
            _Entry(kind, tuple([(part.place, len(some)) for part, some in zip(parts, cuts, strict=True)]), cuts)
        )
    return found


def _cuts(part: Part, edges: Ints, numbers: Sequence[int], base: Span) -> list[_Cut]:
    """Of the chunks that are not empty, counted from a number."""
    found, (at, first) = list[_Cut](), base
    for run in part.runs:
        for chunk, piece in run.slices(edges):
            is_whole = piece == slice(0, edges[chunk + 1] - edges[chunk])
            word = f"{piece.start}:{piece.stop}:{piece.step}"
            found.append(_Cut((at, numbers[chunk] - first), *((None, "") if is_whole else (piece, word))))
    return found


class _Step(NamedTuple):
    """An input of a task: a chunk, pieces that a task of their own cuts of chunks in one place, or what is known."""

    chunk: tuple[Span, ...]
    sources: list[_Source]
    name: str
    words: tuple[Any, ...]
    indices: tuple[tuple[slice, ...], ...]
    known: Any = None


class _Pattern:
    """What tasks of chunks take, but for where they are: inputs, and in which order the pieces in these are read."""

    def __init__(self, sources: Sequence[_Source], chosen: Sequence[Sequence[_Entry]]) -> None:
        steps, reads = dict[Any, dict[Any, Any]](), []
        for source, entries in zip(sources, chosen, strict=True):
            for parts in itertools.product(*[entry.cuts for entry in entries]):
                for piece in itertools.product(*parts):
                    chunk, words = tuple([cut.chunk for cut in piece]), tuple([cut.word for cut in piece])
                    step = chunk, *((source.grid,) if any(words) else (source.name, "whole"))
                    index = tuple([cut.part or slice(None) for cut in piece])
                    steps.setdefault(step, {})[source.name, words] = source, index
                    reads.append((step, (source.name, words)))
        numbers = {read: at for at, read in enumerate([(step, item) for step in steps for item in steps[step]])}
        self.order = tuple([numbers[read] for read in reads])
        self.steps = [_step(chunk, items) for (chunk, *_), items in steps.items()]

    def inputs(self, where: Ints, layer: dict[Any, Any]) -> Iterator[Any]:
        """Those of a task, in whose layer those that cut pieces are put."""
        from dask.task_spec import Task, TaskRef

        for chunk, sources, name, words, indices, known in self.steps:
            if known is not None:
                yield known
                continue
            numbers = tuple([where[at] + offset for at, offset in chunk])
            if not indices:
                yield sources[0].whole(numbers)
                continue
            key = (name, *numbers, *words)
            if key not in layer:
                chunks = [source.whole(numbers) for source in sources]
                layer[key] = (
                    Task(key, cut, *chunks, *indices) if len(indices) == 1 else Task(key, cut_all, indices, *chunks)
                )
            yield TaskRef(key)


def _step(chunk: tuple[Span, ...], items: dict[Any, tuple[_Source, tuple[slice, ...]]]) -> _Step:
    sources, indices = [source for source, _ in items.values()], tuple([index for _, index in items.values()])
    words = [word for _, some in items for word in some]
    if not any(words):
        return _Step(chunk, sources, "", (), ())
    if sources[0].is_within:
        return _Step(chunk, sources, "", (), (), cut_all(indices, *[source.array for source in sources]))
    names = Counter([name for name, _ in items])
    return _Step(chunk, sources, f"cut-{'-'.join(names)}", (*words, *names.values()), indices)


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
