"""One array in pieces, as of a chunk and its neighbours: joined where it is read, and no more of it than that."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .._plan.geometry import Ints
from .elements import empty, put_at
from .libraries import Array, traits
from .operands import Operand, described, namespace_of
from .scratch import made


class Pieces:
    """Pieces of one array, so many along each axis, of which no more is joined than is asked for."""

    def __init__(self, grid: Ints, pieces: Iterator[Array]) -> None:
        self.grid = grid
        self.parts = {place: next(pieces) for place in itertools.product(*map(range, grid))}
        self.first = next(iter(self.parts.values()))
        axes = range(len(grid))
        along = [
            [self.parts[tuple([at if axis == one else 0 for one in axes])].shape[axis] for at in range(grid[axis])]
            for axis in axes
        ]
        self.ends = [[*itertools.accumulate(sizes)] for sizes in along]
        self.shape, self.ndim, self.dtype = tuple([ends[-1] for ends in self.ends]), len(grid), self.first.dtype

    @property
    def device(self) -> Any:
        return self.first.device

    def joined(self) -> Array:
        return self.first if len(self.parts) == 1 else self[...]

    def each(self, function: Callable[[Array], Array], grid: Ints) -> Pieces:
        """What a function makes of each piece, which lie in such a grid then."""
        return Pieces(grid, map(function, self.parts.values()))

    def __getitem__(self, index: Any) -> Array:
        """A part of the array, by slices and an ellipsis: a view of a piece, if it lies in one."""
        index = index if isinstance(index, tuple) else (index,)
        at = index.index(...) if ... in index else len(index)
        slices = (*index[:at], *[slice(None)] * (self.ndim - len(index) + (... in index)), *index[at + 1 :])
        box = [slice(*part.indices(size)) for part, size in zip(slices, self.shape, strict=True)]
        starts = tuple([bisect.bisect_right(ends, part.start) for part, ends in zip(box, self.ends, strict=True)])
        stops = tuple([bisect.bisect_left(ends, part.stop) for part, ends in zip(box, self.ends, strict=True)])
        if starts == stops:
            lows = [ends[at] - size for at, ends, size in zip(starts, self.ends, self.parts[starts].shape, strict=True)]
            local = [slice(part.start - low, part.stop - low) for part, low in zip(box, lows, strict=True)]
            return self.parts[starts][tuple(local)]
        shape = tuple([max(part.stop - part.start, 0) for part in box])
        xp = namespace_of(piece=self.first)
        return self.put(
            box, made(xp, shape, self.dtype, is_read=True) if traits(xp).threads else empty(xp, self.first, shape)
        )

    def put(self, box: Sequence[slice], out: Array) -> Array:
        """Write a part to an array of its shape, what lies in each piece once."""
        for at, piece in self.parts.items():
            source, target = [], []
            for part, ends, number, size in zip(box, self.ends, at, piece.shape, strict=True):
                low = ends[number] - size
                first, end = max(part.start, low), min(part.stop, ends[number])
                source.append(slice(first - low, max(end, first) - low))
                target.append(slice(first - part.start, max(end, first) - part.start))
            if all([part.start < part.stop for part in source]):  # noqa: C419 - of few axes a generator takes longer
                out = put_at(out, tuple(target), piece[tuple(source)])
        return out


def pieces_of(array: Array | Pieces) -> Iterable[Array]:
    """What an array lies in memory as."""
    return array.parts.values() if isinstance(array, Pieces) else (array,)


def described_pieces(**arrays: Array | Pieces) -> tuple[Operand, ...]:
    """`described`, of arrays that may be in pieces."""
    first = {name: array.first if isinstance(array, Pieces) else array for name, array in arrays.items()}
    return tuple([one._replace(shape=arrays[one.name].shape) for one in described(**first)])
