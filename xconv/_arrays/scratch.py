"""Memory of a thread's own, until it asks again: new memory takes as long as what is done in it.

That of blocks goes back to the system when they are done, and comes from there page by page.
"""

from __future__ import annotations

import math
import threading

from .libraries import Array, DType, Namespace

KEPT = 2**22  # bytes of one array: larger ones are rare, and worth their pages


class _Own(threading.local):
    def __init__(self) -> None:
        self.places: dict[int, Array] = {}


_OWN = _Own()


def scratch(xp: Namespace, shape: tuple[int, ...], dtype: DType, place: int = 0) -> Array:
    """An array of NumPy's to fill, in one of the places for those that are needed at once."""
    size = math.prod(shape) * xp.dtype(dtype).itemsize
    if size > KEPT:
        return xp.empty(shape, dtype)
    memory = _OWN.places.get(place)
    if memory is None or memory.size < size:
        memory = _OWN.places[place] = xp.empty(size, xp.uint8)
    return xp.ndarray(shape, dtype, memory)
