"""The backend's own convolution, where it has one: JAX's `lax.conv_general_dilated`, PyTorch's `conv1d` to `conv3d`.

Both take real floating-point numbers here; integers are exact and complex gradients conjugated by the portable methods
only. How much memory they use is the library's own affair.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import array_api_compat

from ._arrays import Array, DType, Namespace, is_kind
from ._geometry import Geometry, Ints, Pairs
from ._windows import pad, unpad

TORCH_AXES = 3  # PyTorch has conv1d, conv2d and conv3d


class Native(NamedTuple):
    """One convolution by the library: canonical arrays in and out, as `Products`."""

    xp: Namespace
    windows: Geometry
    batch: int
    groups: int
    channels: int
    filters: int

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        """(N, G*C, *d), (G*K, C, *k), (G*K,) -> (N, G*K, *o)."""
        return self.library.forward(self, x, w, b)

    def input_adjoint(self, dy: Array, w: Array) -> Array:
        """(N, G*K, *o), (G*K, C, *k) -> (N, G*C, *d)."""
        return self.library.input_adjoint(self, dy, w)

    def weight_adjoint(self, dy: Array, x: Array) -> Array:
        """(N, G*K, *o), (N, G*C, *d) -> (G*K, C, *k)."""
        return self.library.weight_adjoint(self, dy, x)

    @property
    def input_shape(self) -> Ints:
        return (self.batch, self.groups * self.channels, *self.windows.input_size)

    @property
    def weight_shape(self) -> Ints:
        return (self.groups * self.filters, self.channels, *self.windows.kernel_size)

    @property
    def library(self) -> Any:
        return _Lax if array_api_compat.is_jax_namespace(self.xp) else _Torch


def has_native(xp: Namespace, dtype: DType, axes: int) -> bool:
    """Whether the library convolves such arrays by itself."""
    if not is_kind(xp, dtype, "real floating"):
        return False
    return bool(
        array_api_compat.is_jax_namespace(xp) or (array_api_compat.is_torch_namespace(xp) and axes <= TORCH_AXES)
    )


def computes_on_cpu(xp: Namespace) -> bool:
    """Whether new arrays of JAX or PyTorch are where rates have been measured: no accelerator is there."""
    if array_api_compat.is_jax_namespace(xp):
        import jax

        return bool(jax.default_backend() == "cpu")
    import torch

    return not torch.cuda.is_available()


def native(
    xp: Namespace, dtype: DType, windows: Geometry, batch: int, groups: int, channels: int, filters: int
) -> Native:
    """The library's own convolution, or a ValueError if it has none."""
    if not has_native(xp, dtype, windows.ndim):
        raise ValueError(
            f"method 'native' must have real floating-point arrays of JAX, or of PyTorch with at most {TORCH_AXES} "
            f"spatial axes, got {xp.__name__}, {dtype} and {windows.ndim}"
        )
    return Native(xp, windows, batch, groups, channels, filters)


class _Lax:
    """JAX, which transposes its convolution by itself."""

    @staticmethod
    def forward(call: Native, x: Array, w: Array, b: Array | None = None) -> Array:
        from jax import lax

        windows, groups = call.windows, call.groups
        y = lax.conv_general_dilated(
            x, w, windows.stride, windows.padding, rhs_dilation=windows.dilation, feature_group_count=groups
        )
        return y if b is None else y + b[(slice(None), *(None,) * windows.ndim)]

    @staticmethod
    def input_adjoint(call: Native, dy: Array, w: Array) -> Array:
        return _Lax._transposed(lambda x: _Lax.forward(call, x, w), call.input_shape, dy)

    @staticmethod
    def weight_adjoint(call: Native, dy: Array, x: Array) -> Array:
        return _Lax._transposed(lambda w: _Lax.forward(call, x, w), call.weight_shape, dy)

    @staticmethod
    def _transposed(function: Any, shape: Ints, dy: Array) -> Array:
        import jax

        return jax.linear_transpose(function, jax.ShapeDtypeStruct(shape, dy.dtype))(dy)[0]


class _Torch:
    """PyTorch, whose convolutions pad both ends of an axis alike."""

    @staticmethod
    def forward(call: Native, x: Array, w: Array, b: Array | None) -> Array:
        from torch.nn import functional

        windows = call.windows
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[windows.ndim - 1]
        common, rest = _paddings(call.windows)
        return convolve(pad(call.xp, x, rest), w, b, windows.stride, common, windows.dilation, call.groups)

    @staticmethod
    def input_adjoint(call: Native, dy: Array, w: Array) -> Array:
        common, rest = _paddings(call.windows)
        x = dy.new_empty(_padded(call.input_shape, rest))  # never read, nor is its memory ever touched
        return unpad(call.xp, _Torch._backward(call, dy, x, w, common, 0), rest, "zeros")

    @staticmethod
    def weight_adjoint(call: Native, dy: Array, x: Array) -> Array:
        common, rest = _paddings(call.windows)
        w = dy.new_empty(call.weight_shape)
        return _Torch._backward(call, dy, pad(call.xp, x, rest), w, common, 1)

    @staticmethod
    def _backward(call: Native, dy: Array, x: Array, w: Array, padding: Ints, wanted: int) -> Array:
        import torch

        windows = call.windows
        mask = [wanted == 0, wanted == 1, False]
        return torch.ops.aten.convolution_backward(
            dy, x, w, None, windows.stride, padding, windows.dilation, False, [0] * windows.ndim, call.groups, mask
        )[wanted]


@functools.lru_cache(maxsize=1024)
def _paddings(windows: Geometry) -> tuple[Ints, Pairs]:
    """What both ends of each axis have in common, and the rest."""
    common = tuple(map(min, windows.padding))
    return common, tuple((lo - c, hi - c) for c, (lo, hi) in zip(common, windows.padding, strict=True))


def _padded(shape: Ints, padding: Pairs) -> Ints:
    return (*shape[:2], *(lo + d + hi for d, (lo, hi) in zip(shape[2:], padding, strict=True)))
