"""Small views of an image that is never in memory as a whole, put together from its chunks as they pass."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

THUMBNAIL, DETAIL = 512, 128  # the longest side of each, in elements
COLOURS = (3, 4)  # elements of a last axis that is one of colours


class Sample:
    """Elements at some places along each axis, zero until they pass.

    Parameters
    ----------
    places : tuple of range
        One for each axis.
    """

    def __init__(self, places: tuple[range, ...]) -> None:
        self.places = places
        self._values: Any = None

    def take(self, index: tuple[slice, ...], chunk: Any) -> None:
        """Keep what is wanted of a chunk, which lies at an index of the image."""
        if self._values is None:
            self._values = np.zeros([len(places) for places in self.places], chunk.dtype)
        target, source = [], []
        for part, places in zip(index, self.places, strict=True):
            first, end = (max(0, -((places.start - at) // places.step)) for at in (part.start, part.stop))
            end = min(end, len(places))
            if first >= end:
                return
            target.append(slice(first, end))
            begin = places[first] - part.start
            source.append(slice(begin, places[end - 1] - part.start + 1, places.step))
        self._values[tuple(target)] = chunk[tuple(source)]

    @property
    def image(self) -> Any:
        """Real numbers (rows, columns), or (rows, columns, 3 or 4), and nothing before a chunk has passed."""
        has_colours = _has_colours(tuple(map(len, self.places)))
        shape = [len(places) for places in self.places[-3 if has_colours else -2 :]]
        values = np.zeros(shape) if self._values is None else self._values.reshape(shape)
        return np.abs(values) if values.dtype.kind == "c" else values.astype(float)


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
