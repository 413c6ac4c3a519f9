"""Small views of an image that is never in memory as a whole, put together from its chunks as they pass."""

from __future__ import annotations

import threading
from typing import Any, TypeAlias

import numpy as np

THUMBNAIL, DETAIL = 512, 128  # the longest side of each, in blocks and in elements
COLOURS = (3, 4)  # elements of a last axis that is one of colours


class Sample:
    """Means of blocks of elements, zero until one of theirs passes; several threads may bring them.

    Parameters
    ----------
    places : tuple of range
        One for each axis: a block goes from a place to the next one.
    """

    def __init__(self, places: tuple[range, ...]) -> None:
        self.places = places
        self._sums = np.zeros([len(each) for each in places])
        self._counts = np.zeros(self._sums.shape, np.int64)
        self._lock = threading.Lock()  # blocks reach over the ends of chunks

    def take(self, index: tuple[slice, ...], chunk: Any) -> None:
        """Add what is wanted of a chunk, which lies at an index of the image."""
        source, target, blocks = [], [], []
        for part, places in zip(index, self.places, strict=True):
            begin, end = max(part.start, places.start), min(part.stop, places.stop)
            if begin >= end:
                return
            source.append(slice(begin - part.start, end - part.start))
            first, last = ((place - places.start) // places.step for place in (begin, end - 1))
            target.append(slice(first, last + 1))
            blocks.append(np.array([max(place, begin) for place in places[first : last + 1]] + [end]) - begin)
        values, counts = chunk[tuple(source)], np.ones((), np.int64)
        values = np.abs(values) if values.dtype.kind == "c" else values
        with np.errstate(all="ignore"):  # of infinities that cancel
            for axis, bounds in enumerate(blocks):
                values = np.add.reduceat(values, bounds[:-1], axis, dtype=np.float64)
                counts = np.multiply.outer(counts, np.diff(bounds))
            with self._lock:
                self._sums[tuple(target)] += values
                self._counts[tuple(target)] += counts

    @property
    def image(self) -> Any:
        """Real numbers (rows, columns), or (rows, columns, 3 or 4), of complex ones their sizes."""
        has_colours = _has_colours(tuple(map(len, self.places)))
        shape = [len(places) for places in self.places[-3 if has_colours else -2 :]]
        return (self._sums / np.maximum(self._counts, 1)).reshape(shape)


Views: TypeAlias = tuple[Sample, ...]


def views_of(shape: tuple[int, ...]) -> Views:
    """A thumbnail of an image, and elements next to each other in its middle; of a volume, the plane in its middle."""
    rows = len(shape) - (3 if _has_colours(shape) else 2)
    step = -(-max(shape[rows : rows + 2]) // THUMBNAIL)
    thumbnail, detail = [], []
    for axis, size in enumerate(shape):
        is_shown, is_outer = rows <= axis < rows + 2, axis < rows
        middle = range(size // 2, size // 2 + 1)
        start = max(0, (size - DETAIL) // 2)
        thumbnail.append(middle if is_outer else range(0, size, step if is_shown else 1))
        detail.append(middle if is_outer else range(start, min(size, start + DETAIL)) if is_shown else range(size))
    return Sample(tuple(thumbnail)), Sample(tuple(detail))


def _has_colours(shape: tuple[int, ...]) -> bool:
    return len(shape) > 2 and shape[-1] in COLOURS
