"""Memory of a thread's own, until it asks again: new memory takes as long as what is done in it.

That of blocks goes back to the system when they are done, and comes from there page by page.
"""

from __future__ import annotations

import math
import threading

from .libraries import Array, DType, Namespace

KEPT = 2**22  # bytes of one array: larger ones are rare, and worth their pages
LAID_OUT = 11 * 2**20  # of one that windows are laid out in: all that a block makes, and what lies between its rows
PAGED = 2**16  # bytes from which an array's memory may come page by page: half of what glibc begins with
BENCH = 2**21  # of all that a thread's prepared operations work on, one after the other: of images of some 256**2
LINE = 64  # bytes that caches read at once
ALIASED = 2048  # bytes: rows a multiple of that apart share one or two of the 64 sets of a core's first cache
PLACES = ((-1, -2), (-3, -4))  # of what blocks make of their inputs, and of their outputs, away from the others
READ = -5  # of what a block reads, if it is a copy: what is made of that is where other blocks have it, as a cache has


class _Own(threading.local):
    def __init__(self) -> None:
        self.places: dict[int, Array | None] = {}
        self.bench: Array | None = None
        self.side: int | None = None
        self.turns = [0, 0]


_OWN = _Own()


def scratch(xp: Namespace, shape: tuple[int, ...], dtype: DType, place: int = 0, most: int = KEPT) -> Array:
    """An array of NumPy's to fill, in one of the places for those that are needed at once."""
    size = math.prod(shape) * xp.dtype(dtype).itemsize
    if size > most:
        return xp.empty(shape, dtype=dtype)
    memory = _OWN.places.get(place)
    if memory is None or memory.size < size:
        memory = _OWN.places[place] = None  # given up before there is a larger one
        memory = _OWN.places[place] = xp.empty(size, dtype=xp.uint8)
    return xp.ndarray(shape, dtype, memory)


class Bench:
    """Memory of a thread's own whose places stay where they are, for operations that are prepared once; not for all."""

    def __init__(self, xp: Namespace) -> None:
        if _OWN.bench is None:
            _OWN.bench = xp.empty(BENCH, dtype=xp.uint8)
        self.memory, self.places, self.end = _OWN.bench, dict[int, Array](), 0

    @property
    def is_enough(self) -> bool:
        return self.end <= BENCH

    def __call__(self, xp: Namespace, shape: tuple[int, ...], dtype: DType, place: int) -> Array:
        """As `scratch`."""
        size = math.prod(shape) * xp.dtype(dtype).itemsize
        if place not in self.places or self.places[place].size < size:
            start = self.end
            self.end += -(-size // LINE) * LINE
            self.places[place] = self.memory[start : self.end] if self.is_enough else xp.empty(size, dtype=xp.uint8)
        return xp.ndarray(shape, dtype, self.places[place])


class making_again:  # noqa: N801  # as the context managers of the standard library
    """A chain of arrays that this thread makes: each is computed of the one before it, and none is kept at the end.

    So two places are enough for what `made` gives, in turns. Each chain begins with the first place, which a cache may
    still have, unless it goes on with an earlier one. Chains of outputs (side 1) have places of their own, since a
    product for the gradient by the filters needs the ends of both.
    """

    def __init__(self, side: int = 0, goes_on: bool = False) -> None:
        self.side: int | None = side
        self.goes_on = goes_on

    def __enter__(self) -> None:
        if _OWN.side is None and self.side is not None and not self.goes_on:
            _OWN.turns[self.side] = 0
        _OWN.side, self.side = self.side, _OWN.side

    def __exit__(self, *_: object) -> None:
        _OWN.side = self.side


def is_making_again() -> bool:
    """Whether this thread is inside `making_again`."""
    return _OWN.side is not None


def made(xp: Namespace, shape: tuple[int, ...], dtype: DType, is_read: bool = False, rows: int = 0) -> Array:
    """An array of NumPy's to fill: inside `making_again` in the memory of the last but one, if it is large.

    What is read is no part of the chain. Rows are what lies behind the first few axes, if these are given: they are
    then so far apart that a product which reads some of each finds all of them in a cache.
    """
    side = _OWN.side
    if side is None or math.prod(shape) * xp.dtype(dtype).itemsize < PAGED:
        return xp.empty(shape, dtype=dtype)
    if is_read:
        return scratch(xp, shape, dtype, READ, LAID_OUT)
    turn = _OWN.turns[side]
    _OWN.turns[side] = 1 - turn
    row, item = math.prod(shape[rows:]), xp.dtype(dtype).itemsize
    if not rows or row * item % ALIASED or row * item == ALIASED:  # of the shortest a line would be too much
        return scratch(xp, shape, dtype, PLACES[side][turn], LAID_OUT)
    apart = row + LINE // item
    memory = scratch(xp, (math.prod(shape[:rows]), apart), dtype, PLACES[side][turn], LAID_OUT)
    return memory[:, :row].reshape(shape)
