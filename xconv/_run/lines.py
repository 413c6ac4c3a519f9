"""One signal and one filter by NumPy's own convolution: of few elements it is done before a plan is carried out.

Each output is the sum of the products in its own window, one after the other on one thread.
"""

from __future__ import annotations

from .._arrays.elements import reshaped
from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.machine import item_size
from .._arrays.operands import working_dtype
from .._plan.geometry import Geometry, Ints

BEGUN, OUTPUT, BYTE = 1500.0, 8.0, 0.0115  # nanoseconds of a call, of each output, and of each byte that it reads
INTEGER = 0.65  # nanoseconds of each product of integers, which are not BLAS's
CARRIED_OUT = 40_000  # nanoseconds that any plan takes besides its estimate, for all that Python does


class Line:
    """The windows of a line."""

    def __init__(self, xp: Namespace, windows: Geometry, flip: bool, product: float) -> None:
        self.xp, self.flip = xp, flip
        (axis,), (k,) = windows.axes, windows.kernel_size
        self.mode = "full" if axis.lo or axis.hi else "valid"
        first = k - 1 - axis.lo if self.mode == "full" else 0
        self.kept = slice(first, first + axis.s * (axis.o - 1) + 1, axis.s)
        self.behind = max(axis.hi - k + 1, 0)  # windows of nothing but zeros
        computed = axis.d + k - 1 if self.mode == "full" else axis.d - k + 1
        self.cost = BEGUN + computed * (OUTPUT + product * k) - CARRIED_OUT

    def forward(self, x: Array, w: Array) -> Array:
        """(1, 1, d), (1, 1, k) -> (1, 1, o)."""
        x, w = reshaped(self.xp, x, (-1,)), reshaped(self.xp, w, (-1,))
        x = self.xp.concat([x, self.xp.zeros(self.behind, x.dtype)]) if self.behind else x
        y = self.xp.convolve(x, w if self.flip else w[::-1], self.mode)
        return reshaped(self.xp, y[self.kept], (1, 1, -1))


def line_of(xp: Namespace, dtype: DType, shapes: tuple[Ints, Ints], windows: Geometry, flip: bool) -> Line | None:
    """That of x and w of these shapes, if they are one signal and one filter of NumPy's."""
    if not traits(xp).threads or windows.ndim > 1 or (*shapes[0][:2], *shapes[1][:2]) != (1, 1, 1, 1):
        return None
    if windows.dilation != (1,) or windows.padding[0][0] >= windows.kernel_size[0]:
        return None
    if is_kind(xp, dtype, "integral"):
        return Line(xp, windows, flip, INTEGER)
    if not is_kind(xp, dtype, ("real floating", "complex floating")) or working_dtype(xp, dtype) != dtype:
        return None
    return Line(xp, windows, flip, BYTE * item_size(xp, dtype))
