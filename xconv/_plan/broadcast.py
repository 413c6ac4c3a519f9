"""Two arrays that broadcast along some axes, and are convolved along the others, as one convolution.

Of the axes that are not convolved, those that only x has are samples, those that only w has filters, and shared ones
groups: (N, G, *d) with (G*K, 1, *k) gives (N, G*K, *o), and nothing is repeated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .geometry import Geometry, Ints, Slices

MODES = ("valid", "same", "full")


class Order(NamedTuple):
    """The axes of an array in another order, and the sizes that these are then joined or split to."""

    axes: Ints
    shape: Ints

    @property
    def is_kept(self) -> bool:
        return self.axes == tuple(range(len(self.axes)))

    def back(self, *sizes: int) -> Order:
        """What undoes it: an array of these sizes in its order, with the axes where they belong."""
        return Order(tuple(map(self.axes.index, range(len(self.axes)))), sizes)


def kept(first: int, second: int, mode: str) -> tuple[int, int]:
    """Which outputs of a full convolution along an axis a mode keeps.

    All, the middle ones of the first's size ("same_high": where there are two such, the higher ones), or those that
    need no padding.
    """
    return {
        "full": (0, first + second - 1),
        "same": ((second - 1) // 2, (second - 1) // 2 + first),
        "same_high": (second // 2, second // 2 + first),
        "valid": (min(first, second) - 1, max(first, second)),
    }[mode]


def kept_shape(first: Ints, second: Ints, mode: str) -> Ints:
    """How many outputs a mode keeps along each axis, of which either may have no elements, but not both if all."""
    boxes = [kept(d, k, mode) for d, k in zip(first, second, strict=True)]
    return tuple([stop - start for start, stop in boxes])


class Convolution(NamedTuple):
    """A convolution of two arrays along some axes: the larger one is the data of windows, of which a part is read."""

    crop: Slices  # of the second array, along the axes that only it has
    swaps: bool  # whether that is the data
    data: Order
    weights: Order
    groups: int
    read: Slices
    windows: Geometry
    result: Order


def convolution(first: Ints, second: Ints, spatial: Ints, mode: str, bordered: bool) -> Convolution:
    """What a mode keeps of the convolution of two shapes; the first one is the data if that is to have a border.

    "same" keeps the middle of broadcast axes as well. A convolution restricted to a box of its outputs reads a part.
    """
    boxes = [kept(d, k, mode) for d, k in zip(first, second, strict=True)]
    middle = [mode == "same" and d == 1 and axis not in spatial for axis, d in enumerate(first)]
    crop = tuple(slice(*box) if alone else slice(None) for box, alone in zip(boxes, middle, strict=True))
    second = tuple(1 if alone else k for k, alone in zip(second, middle, strict=True))
    swaps = not bordered and _product(first, spatial) < _product(second, spatial)
    x, w = (second, first) if swaps else (first, second)
    others = [axis for axis in range(len(x)) if axis not in spatial]  # sizes along these are equal, or one of them is 1
    samples = tuple(axis for axis in others if w[axis] == 1)
    filters = tuple(axis for axis in others if x[axis] == 1 != w[axis])
    groups = tuple(axis for axis in others if 1 not in (x[axis], w[axis]))
    size, kernel = (tuple([shape[axis] for axis in spatial]) for shape in (x, w))
    kept_boxes = [boxes[axis] for axis in spatial]
    data = Order((*samples, *groups, *filters, *spatial), (_product(x, samples), _product(x, groups), *size))
    weights = Order((*groups, *filters, *samples, *spatial), (_product(w, (*groups, *filters)), 1, *kernel))
    if bordered:
        spans = zip(size, kernel, kept_boxes, strict=True)
        read: Slices = ()
        padding = tuple((k - 1 - start, stop - d) for d, k, (start, stop) in spans)
        windows = Geometry(size, kernel, padding=padding)
    else:
        full = Geometry(size, kernel, padding=tuple((k - 1, k - 1) for k in kernel))
        read, windows = full.restrict(kept_boxes)
    apart = [shape[axis] for shape, axes in ((x, samples), (x, groups), (w, filters)) for axis in axes]
    result = data.back(*apart, *windows.output_size)
    return Convolution(crop if any(middle) else (), swaps, data, weights, data.shape[1], read, windows, result)


def _product(shape: Ints, axes: Ints) -> int:
    return math.prod([shape[axis] for axis in axes])
