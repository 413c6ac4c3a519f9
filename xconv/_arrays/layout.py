"""From the user's arrays to canonical ones and back.

Canonical are x (N, C, *d), w (K, C/G, *k) and y (N, K, *o) with channels first, correlation and padding with zeros, in
a dtype that sums can be accumulated in. The methods see nothing else, so channel order, flip, conjugates, padding modes
and half precision each stand here once, beside their adjoints.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._plan.broadcast import Order
from .._plan.geometry import ConvGeometry, Pairs, Words
from .._plan.remembered import remembered
from .elements import add_at, conjugate, flipped, reshaped, truncated
from .libraries import Array, DType, Namespace, device_count, is_kind, mesh_axes, traits
from .operands import Operand, working_dtype
from .windows import framed, pad, unpad


class Access(NamedTuple):
    """Reads blocks of operands, with their borders and conjugates, and leaves blocks of results, whatever their dtypes.

    No operand is copied as a whole: it keeps its dtype until a block of it is read.
    """

    xp: Namespace
    dtype: DType  # of sums
    result: DType
    conjugates: bool = False  # the filters, which is its own adjoint
    frame: tuple[Pairs, Words, complex] | None = None  # what is added to the input, if it is other than zeros
    devices: int = 1  # that operands are divided over
    mesh_axes: int = 1  # along which these lie

    @property
    def rounds(self) -> bool:
        """Whether sums must not be added up where the result is."""
        return bool(self.result != self.dtype)

    def of(self, direction: str, geometry: ConvGeometry) -> Access:
        """That of a direction: dx of what has a border is left in the dtype of sums, to be added to what it repeats."""
        if direction == "backward_data" and geometry.is_framed:
            return self._replace(result=self.dtype, frame=None)
        return self

    def read(self, data: Array) -> Array:
        return data if data.dtype == self.dtype else self.xp.astype(data, self.dtype)

    def read_input(self, x: Array, index: tuple[Any, ...]) -> Array:
        """What a block reads of the input (N, ..., C, *d); the slices of the index are of the framed one."""
        if self.frame is None:
            return self.read(x[index])
        axes = len(self.frame[0])
        return framed(self.xp, x[(*index[:-axes], ...)], index[-axes:], *self.frame, self.dtype)

    def read_filters(self, w: Array) -> Array:
        return self._conjugated(self.read(w))

    def leave(self, data: Array) -> Array:
        return truncated(self.xp, data, self.result)

    def leave_filters(self, dw: Array) -> Array:
        return self.leave(self._conjugated(dw))

    def _conjugated(self, w: Array) -> Array:
        return conjugate(self.xp, w) if self.conjugates else w


class Layout:
    """One call's way in and out; ``dtype`` is that of the arrays that leave, ``working`` that of sums, if one is given.

    A transpose is the adjoint with conjugate filters.
    """

    def __init__(
        self,
        xp: Namespace,
        operands: tuple[Operand, ...],
        dtype: DType,
        geometry: ConvGeometry,
        flip: bool,
        conjugates: bool,
        working: DType | None = None,
    ) -> None:
        self.xp = xp
        self.operands = operands
        self.dtype = dtype
        self.geometry = geometry
        self.flip = flip
        self.working = working_dtype(xp, dtype) if working is None else working
        self.conjugates = conjugates and is_kind(xp, self.working, "complex floating")

    def of(self, geometry: ConvGeometry) -> Layout:
        """The same of another geometry."""
        return Layout(self.xp, self.operands, self.dtype, geometry, self.flip, self.conjugates, self.working)

    @remembered
    def casts(self) -> bool:
        """Whether sums have another dtype than an operand or the result."""
        return {self.access.dtype, *(operand.dtype for operand in self.operands)} != {self.dtype}

    @remembered
    def access(self) -> Access:
        geometry = self.geometry
        frame = (geometry.windows.padding, geometry.padding_modes, geometry.pad_value) if geometry.is_framed else None
        devices, axes = (max([count(one.device) for one in self.operands]) for count in (device_count, mesh_axes))
        return Access(self.xp, self.working, self.dtype, self.conjugates, frame, devices, axes)

    def leave_frame(self, dx: Array, b: Array | None) -> Array:
        """Canonical, before sums are rounded to the result's dtype: an array of its own, and no view of the frame."""
        dx = pad(self.xp, dx, self.geometry.unread)
        dx = unpad(self.xp, dx, self.geometry.windows.padding, self.geometry.padding_modes)
        result = self.access.leave(biased(self.access, dx, b))
        return self.xp.astype(result, result.dtype) if result is dx and traits(self.xp).views else result

    def enter_data(self, data: Array) -> Array:
        """(N, *d, C) -> (N, C, *d) if that is how the user's channels lie."""
        last = self.geometry.channels_last
        return self.xp.permute_dims(data, (0, data.ndim - 1, *range(1, data.ndim - 1))) if last else data

    def leave_data(self, data: Array) -> Array:
        """The adjoint, and the inverse, of `enter_data`."""
        return self.xp.permute_dims(data, (0, *range(2, data.ndim), 1)) if self.geometry.channels_last else data

    def turned(self, w: Array) -> Array:
        """The filters that the canonical convolution has, or those of the user's: it is its own adjoint and inverse."""
        return turned(self.xp, w, self.geometry.windows.ndim) if self.flip else w

    def bias_adjoint(self, dy: Array) -> Array:
        """The sum of a canonical output over everything but its channels."""
        access = self.access
        return access.leave(self.xp.sum(dy, axis=(0, *range(2, dy.ndim)), dtype=access.dtype))


def turned(xp: Namespace, w: Array, axes: int) -> Array:
    """Filters (..., *k) turned round along their last axes."""
    return flipped(xp, w, tuple(range(-axes, 0)))


def biased(access: Access, y: Array, b: Array | None) -> Array:
    """y (N, ..., channels, *o) of our own with a bias for each channel, (..., channels)."""
    if b is None:
        return y
    bias = access.xp.astype(access.read(b), y.dtype, copy=False)  # integers may be stored before all is added
    return add_at(access.xp, y, (...,), bias[(..., *(None,) * (y.ndim - b.ndim - 1))])


def joined(xp: Namespace, array: Array, order: Order) -> Array:
    """An array with its axes in an order, then joined to the order's shape."""
    return reshaped(xp, array if order.is_kept else xp.permute_dims(array, order.axes), order.shape)


def split(xp: Namespace, array: Array, order: Order) -> Array:
    """An array with its axes split to the order's shape, then in the order."""
    array = reshaped(xp, array, order.shape)
    return array if order.is_kept else xp.permute_dims(array, order.axes)


def batch_inwards(xp: Namespace, data: Array, place: int = 0) -> Array:
    """(N, G, C, *d) -> (G, C, *d) with N before the axis ``place`` of d: samples lie beside positions.

    One product then takes many of either.
    """
    spatial = [*range(3, data.ndim)]
    return xp.permute_dims(data, (1, 2, *spatial[:place], 0, *spatial[place:]))


def batch_outwards(xp: Namespace, data: Array) -> Array:
    """The adjoint, and the inverse, of `batch_inwards` with the place 0."""
    return xp.permute_dims(data, (2, 0, 1, *range(3, data.ndim)))
