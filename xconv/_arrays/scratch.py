"""Memory of a thread's own, until it asks again: new memory takes as long as what is done in it.

That of blocks goes back to the system when they are done, and comes from there page by page.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

from .libraries import Array, DType, Namespace

KEPT = 2**22  # bytes of one array: larger ones are rare, and worth their pages
LAID_OUT = 2**23  # of one that windows are laid out in, which blocks make no larger but where memory is no matter
PLACES = (-1, -2)  # of those, away from the others


class _Own(threading.local):
    def __init__(self) -> None:
        self.places: dict[int, Array] = {}
        self.turn: int | None = None


_OWN = _Own()


def scratch(xp: Namespace, shape: tuple[int, ...], dtype: DType, place: int = 0, most: int = KEPT) -> Array:
    """An array of NumPy's to fill, in one of the places for those that are needed at once."""
    size = math.prod(shape) * xp.dtype(dtype).itemsize
    if size > most:
        return xp.empty(shape, dtype)
    memory = _OWN.places.get(place)
    if memory is None or memory.size < size:
        memory = _OWN.places[place] = xp.empty(size, xp.uint8)
    return xp.ndarray(shape, dtype, memory)


@contextlib.contextmanager
def laying_out_again() -> Iterator[None]:
    """What this thread lays out meanwhile is done with before it does so again, and so may share the memory."""
    _OWN.turn = 0
    try:
        yield
    finally:
        _OWN.turn = None


def laid_out(xp: Namespace, shape: tuple[int, ...], dtype: DType) -> Array:
    """An array of NumPy's to lay something out in: inside `laying_out_again` in the memory of the last but one."""
    if _OWN.turn is None:
        return xp.empty(shape, dtype)
    place, _OWN.turn = PLACES[_OWN.turn], 1 - _OWN.turn
    return scratch(xp, shape, dtype, place, LAID_OUT)
