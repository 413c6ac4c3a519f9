"""From the user's arrays to canonical ones and back.

Canonical are x (N, G, C/G, *d), w (G, K/G, C/G, *k) and y (N, G, K/G, *o) with channels first, groups as a batch axis,
correlation and padding with zeros, in a dtype that sums can be accumulated in. The methods see nothing else, so channel
order, groups, flip, padding modes and half precision each stand here once, beside their adjoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._arrays import Array, DType, Namespace, add_at, working_dtype
from ._geometry import ConvGeometry, Geometry
from ._windows import pad, unpad


@dataclass(frozen=True)
class Layout:
    """One call's way in and out; ``dtype`` is that of the arrays that leave."""

    xp: Namespace
    dtype: DType
    geometry: ConvGeometry
    flip: bool

    @property
    def windows(self) -> Geometry:
        """The windows over the canonical input."""
        return self.geometry.zero_padded

    def enter_input(self, x: Array) -> Array:
        x = self._enter_data(x)
        if self.geometry.padding_mode != "zeros":
            x = pad(self.xp, x, self.geometry.windows.padding, self.geometry.padding_mode)
        return x

    def leave_input(self, dx: Array, b: Array | None = None) -> Array:
        if self.geometry.padding_mode != "zeros":
            dx = unpad(self.xp, dx, self.geometry.windows.padding, self.geometry.padding_mode)
        if b is not None:  # before the sums are rounded to the result's dtype
            b = self.enter_bias(b)
            dx = add_at(dx, (...,), self.xp.reshape(b, (*b.shape, *(1,) * self.windows.ndim)))
        return self._leave_data(dx)

    def enter_weight(self, w: Array) -> Array:
        groups, filters = self.geometry.groups, self.geometry.filters
        return self._flip(self.xp.reshape(self._enter(w), (groups, filters // groups, *w.shape[1:])))

    def leave_weight(self, dw: Array) -> Array:
        return self._leave(self.xp.reshape(self._flip(dw), self.geometry.weight_shape))

    def enter_output(self, dy: Array) -> Array:
        return self._enter_data(dy)

    def leave_output(self, y: Array) -> Array:
        return self._leave_data(y)

    def enter_bias(self, b: Array) -> Array:
        """(channels,) -> (G, channels/G)."""
        groups = self.geometry.groups
        return self.xp.reshape(self._enter(b), (groups, b.shape[0] // groups))

    def bias_adjoint(self, dy: Array) -> Array:
        """The sum of a canonical output over everything but its channels."""
        sums = self.xp.sum(dy, axis=(0, *range(3, dy.ndim)), dtype=dy.dtype)
        return self._leave(self.xp.reshape(sums, (self.geometry.filters,)))

    def _enter(self, array: Array) -> Array:
        return self.xp.astype(array, working_dtype(self.xp, self.dtype), copy=False)

    def _leave(self, array: Array) -> Array:
        return self.xp.astype(array, self.dtype, copy=False)

    def _enter_data(self, data: Array) -> Array:
        data = channels_first(self.xp, self._enter(data), self.geometry.channels_last)
        groups = self.geometry.groups
        return self.xp.reshape(data, (data.shape[0], groups, data.shape[1] // groups, *data.shape[2:]))

    def _leave_data(self, data: Array) -> Array:
        data = self.xp.reshape(data, (data.shape[0], data.shape[1] * data.shape[2], *data.shape[3:]))
        return self._leave(channels_back(self.xp, data, self.geometry.channels_last))

    def _flip(self, w: Array) -> Array:
        return self.xp.flip(w, axis=tuple(range(3, w.ndim))) if self.flip else w


def channels_first(xp: Namespace, data: Array, channels_last: bool) -> Array:
    """(N, *d, C) -> (N, C, *d) if that is how the user's channels lie."""
    return xp.moveaxis(data, -1, 1) if channels_last else data


def channels_back(xp: Namespace, data: Array, channels_last: bool) -> Array:
    """The adjoint, and the inverse, of `channels_first`."""
    return xp.moveaxis(data, 1, -1) if channels_last else data


def batch_inwards(xp: Namespace, data: Array) -> Array:
    """(N, G, C, ...) -> (G, C, N, ...): samples lie beside positions, so that one product takes many of either."""
    return xp.permute_dims(data, (1, 2, 0, *range(3, data.ndim)))


def batch_outwards(xp: Namespace, data: Array) -> Array:
    """The adjoint, and the inverse, of `batch_inwards`."""
    return xp.permute_dims(data, (2, 0, 1, *range(3, data.ndim)))
