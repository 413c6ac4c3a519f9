"""Sums over windows tap by tap: on NumPy in blocks that stay in cache, on threads."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from .._arrays.elements import gathered, truncated
from .._arrays.libraries import Array, DType, Namespace, traits
from .._arrays.taps import means, weighted
from .._arrays.windows import pad, padded_dtype
from .._plan.blocks import pieces
from .._plan.geometry import Geometry, Ints, Pairs, Slices, Words
from .._plan.remembered import remembering
from .threads import cpu_count, for_each

BLOCK = 2**15  # elements, a few times which stay in a core's own cache


class Windows(NamedTuple):
    """Windows along some axes, in order: how many elements lie before the first one, and what is beyond the ends."""

    axes: Ints
    sizes: Ints
    before: Ints
    modes: Words
    value: complex = 0
    taps: Any = None  # numbers, or an array of them, in the order of the windows; None for the mean along an axis
    is_line: bool = True

    @property
    def is_complex(self) -> bool:
        """Whether its taps are complex numbers."""
        return isinstance(self.taps, tuple) and any(isinstance(tap, complex) for tap in self.taps)


def neighbours(xp: Namespace, x: Array, windows: Windows, dtype: DType, working: DType) -> Array:
    """Weighted sums of windows, computed in a working dtype and stored in another, as many as there are elements."""
    sizes, padding, modes = on_all_axes(*windows[:4], x.ndim)
    in_blocks = traits(xp).threads and math.prod(x.shape) > BLOCK
    own = padded_dtype(xp, x.dtype, working, windows.modes, windows.value) if in_blocks else working
    padded = pad(xp, x, padding, modes, windows.value, own)

    def stored(part: Array) -> Array:
        if windows.taps is None:
            return truncated(xp, means(part, windows.axes[0], windows.sizes[0]), dtype)
        found = weighted(xp, part, _unpadded(part.shape, sizes), windows.taps, windows.is_line)
        return truncated(xp, found, dtype)

    def fill(box: Slices) -> None:
        read = [slice(some.start, some.stop + k - 1) for some, k in zip(box, sizes, strict=True)]
        y[box] = stored(padded[tuple(read)].astype(working, copy=False))  # xp.astype takes as long as a small block

    if not traits(xp).threads:
        return stored(padded)
    with xp.errstate(all="ignore"):  # SciPy warns of nothing, and rows that are added as one have sums that nobody sees
        if not in_blocks:
            return gathered(xp, stored(padded))
        y = xp.empty(x.shape, dtype=dtype)
        for_each(fill, _boxes(x.shape), cpu_count())
    return y


@remembering(5)
def on_all_axes(axes: Ints, sizes: Ints, before: Ints, modes: Words, ndim: int) -> tuple[Ints, Pairs, Words]:
    """Sizes and borders along every axis, those that are not filtered as well."""
    kernel, padding, borders = [1] * ndim, [(0, 0)] * ndim, ["zeros"] * ndim
    for axis, k, lo, mode in zip(axes, sizes, before, modes, strict=True):
        kernel[axis], padding[axis], borders[axis] = k, (lo, k - 1 - lo), mode
    return tuple(kernel), tuple(padding), tuple(borders)


@remembering(2)
def _unpadded(size: Ints, kernel: Ints) -> Geometry:
    ones = (1,) * len(size)
    return Geometry(size, kernel, ones, ones, ((0, 0),) * len(size))


@remembering(1)
def _boxes(shape: Ints) -> list[Slices]:
    """Parts of an array whose rows are as long as a block allows."""
    room, cut = BLOCK, []
    for size in reversed(shape):
        length = min(size, max(room, 1))
        cut.append(pieces(size, length))
        room //= length
    return [*itertools.product(*reversed(cut))]
