"""One signal and one filter by NumPy's own convolution, one image or volume tap by tap, as filters are.

Of few elements it is done before a plan is carried out. Each output is the sum of the products in its own window, one
after the other. Threads share a long signal.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

from .._arrays.elements import reshaped
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.operands import item_size, working_dtype
from .._plan.blocks import pieces
from .._plan.geometry import Geometry, Ints
from .._plan.schedule import WORTHWHILE
from .call import Call
from .neighbours import UNPLANNED, Filter, FilterChain
from .threads import cpu_count, for_each

BEGUN, OUTPUT, BYTE = 1500.0, 8.0, 0.0115  # nanoseconds of a call, of each output, and of each byte that it reads
FEW_ALONE, FEW_SHARED = (
    (0.13, 0.13),
    (0.3, 0.06),
)  # nanoseconds of an output and of each of few taps, on one thread, two
FEW = 11  # taps for which NumPy has such loops: small_correlate, numpy/_core/src/multiarray/arraytypes.c.src
BLOCK = 2**16  # outputs that a thread does at once
INTEGER = 0.65  # nanoseconds of each product of integers, which are not BLAS's
TAPS_BEGUN, TAP = 10_000.0, 0.042  # nanoseconds of a filter that is known, and of each output's tap and byte
CARRIED_OUT = 40_000  # nanoseconds that any plan takes besides its estimate, for all that Python does


Settled: TypeAlias = "Call | Line | Plane"  # a convolution of arrays of known shapes, and what it is estimated to take


class Line:
    """The windows of a line."""

    def __init__(self, xp: Namespace, windows: Geometry, flip: bool, product: float, is_few: bool) -> None:
        self.xp, self.flip = xp, flip
        (axis,), (k,) = windows.axes, windows.kernel_size
        self.mode = "full" if axis.lo or axis.hi else "valid"
        first = k - 1 - axis.lo if self.mode == "full" else 0
        self.kept = slice(first, first + axis.s * (axis.o - 1) + 1, axis.s)
        self.behind = max(axis.hi - k + 1, 0)  # windows of nothing but zeros
        self.computed = axis.d + k - 1 if self.mode == "full" else axis.d - k + 1
        output, product = FEW_ALONE if is_few else (OUTPUT, product)
        self.is_shared = self.computed * (output + product * k) > WORTHWHILE
        output, product = FEW_SHARED if is_few and self.is_shared else (output, product)
        self.cost = BEGUN + self.computed * (output + product * k) - CARRIED_OUT

    def forward(self, x: Array, w: Array) -> Array:
        """(1, 1, d), (1, 1, k) -> (1, 1, o)."""
        x, w = reshaped(self.xp, x, (-1,)), reshaped(self.xp, w, (-1,))
        x = self.xp.concat([x, self.xp.zeros(self.behind, x.dtype)]) if self.behind else x
        w = w if self.flip else w[::-1]
        y = self._in_blocks(x, w) if self.is_shared else self.xp.convolve(x, w, self.mode)
        return reshaped(self.xp, y[self.kept], (1, 1, -1))

    def _in_blocks(self, x: Array, w: Array) -> Array:
        """y[m], the sum of x[m - j] * w[j]: of the first and the last block fewer than k products are summed, too."""
        d, k = len(x), len(w)
        first = 0 if self.mode == "full" else k - 1
        y = self.xp.empty(d + k - 1 - 2 * first, dtype=x.dtype)

        def fill(block: slice) -> None:
            start, stop = block.start + first, block.stop + first
            read = max(start - k + 1, 0)
            is_inside = start >= k - 1 and stop <= d
            sums = self.xp.convolve(x[read:stop], w, "valid" if is_inside else "full")
            y[block] = sums if is_inside else sums[start - read : stop - read]

        for_each(fill, pieces(len(y), BLOCK), cpu_count())
        return y


def line_of(xp: Namespace, dtype: DType, shapes: tuple[Ints, Ints], windows: Geometry, flip: bool) -> Settled | None:
    """That of x and w of these shapes, if they are one signal and one filter of NumPy's."""
    is_plain = windows.dilation == (1,) and windows.padding[0][0] < windows.kernel_size[0]
    if not (is_plain and _is_alone(xp, dtype, shapes)):
        return None
    product = INTEGER if is_kind(xp, dtype, "integral") else BYTE * item_size(xp, dtype)
    return Line(xp, windows, flip, product, windows.taps <= FEW and is_kind(xp, dtype, "real floating"))


class Plane:
    """The windows of an image or a volume: as many as there are places in memory that holds all that they begin at."""

    def __init__(self, xp: Namespace, dtype: DType, windows: Geometry, flip: bool, other: Settled) -> None:
        self.xp, self.dtype, self.flip, self.other = xp, dtype, flip, other
        self.size, self.kept = windows.input_size, tuple(slice(o) for o in windows.output_size)
        self.memory = tuple(map(max, windows.input_size, windows.output_size))
        axes, before = tuple(range(windows.ndim)), tuple(lo for lo, _ in windows.padding)
        self.windows = Filter(axes, windows.kernel_size, before, ("zeros",) * windows.ndim, is_line=False)
        self.cost = TAPS_BEGUN + math.prod(self.memory) * windows.taps * TAP * item_size(xp, dtype) - CARRIED_OUT

    def forward(self, x: Array, w: Array) -> Array:
        """(1, 1, *d), (1, 1, *k) -> (1, 1, *o); by the other way where NaN beside a tap of 0 would be left out."""
        filters = _filters(self.xp, self.memory, self.dtype, self.windows, self.flip, w.tobytes())
        if filters is None:
            return self.other.forward(x, w)
        memory = x[0, 0]
        if self.memory != self.size:
            memory = self.xp.zeros(self.memory, dtype=self.dtype)
            memory[tuple([slice(d) for d in self.size])] = x[0, 0]
        y = filters(memory)
        return (y if y.shape == tuple([part.stop for part in self.kept]) else y[self.kept].copy())[None, None]


@functools.lru_cache(maxsize=128)
def _filters(
    xp: Namespace, shape: Ints, dtype: DType, windows: Filter, flip: bool, elements: bytes
) -> FilterChain | None:
    taps = tuple(xp.frombuffer(elements, dtype).tolist())
    line = windows._replace(taps=taps[::-1] if flip else taps)
    return FilterChain(xp, shape, dtype, [line], dtype, [dtype]) if all(taps) else None


def plane_of(
    xp: Namespace, dtype: DType, shapes: tuple[Ints, Ints], windows: Geometry, flip: bool, other: Settled
) -> Settled | None:
    """That of x and w of these shapes, if they are one image or volume and one filter of NumPy's few real numbers."""
    is_plain = max(*windows.stride, *windows.dilation) == 1 and windows.positions * windows.taps <= UNPLANNED
    is_known = windows.ndim > 1 and is_plain and is_kind(xp, dtype, "real floating") and _is_alone(xp, dtype, shapes)
    return Plane(xp, dtype, windows, flip, other) if is_known else None


def _is_alone(xp: Namespace, dtype: DType, shapes: tuple[Ints, Ints]) -> bool:
    """Whether there is one channel of one sample, and one filter, of NumPy's numbers that are computed as they are."""
    is_own = is_kind(xp, dtype, "integral") or working_dtype(xp, dtype) == dtype
    return traits(xp).threads and is_own and {*shapes[0][:2], *shapes[1][:2]} == {1}
