"""The methods: what one is, which there are, and which of them "auto" takes.

A method is three linear maps and their adjoints around one batched matrix product:

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

A new method is one module with these six functions and one entry in ``METHODS``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from .._arrays import Array, DType, Namespace, working_dtype
from .._geometry import ConvGeometry, Geometry, Ints, Keywords, conv_geometry
from .._native import has_native
from .fft import Fft
from .im2col import Im2col
from .winograd import Winograd


class Maps(Protocol):
    """Canonical arrays in and out: x (N, G, C/G, *d), w (G, K/G, C/G, *k), y (N, G, K/G, *o).

    In between are stacks of matrices that multiply: Wt(w) (..., G, K/G, q) @ In(x) (..., G, q, p) -> (..., G, K/G, p),
    where p counts over samples and positions. One value of a class serves all blocks of a convolution.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> Ints:
        """How many outputs along each axis the maps work on at once: blocks hold whole units."""

    @property
    def stretches(self) -> bool:
        """Whether a block may hold several units along an axis."""

    def workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        """How many numbers the maps and the product of a block hold at most, for one sample and group."""

    def weight_workspace(self, geometry: Geometry, channels: int, filters: int) -> int:
        """How many numbers Wt(w) is for one group; 0 if it is a view of w."""

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array: ...
    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array: ...
    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array: ...
    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array: ...
    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array: ...
    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array: ...


Plan: TypeAlias = Callable[[Geometry, Namespace, DType], Maps]

# Each plans the maps for a convolution, or raises a ValueError that says what the method needs.
METHODS: MappingProxyType[str, Plan] = MappingProxyType(
    {"im2col": Im2col.plan, "winograd": Winograd.plan, "fft": Fft.plan}
)


def choose_method(
    input_shape: Any,
    weight_shape: Any,
    *,
    xp: Namespace,
    dtype: DType,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    padding_mode: str = "zeros",
    channel_axis: int = 1,
) -> str:
    """Name the method that ``method="auto"`` would run.

    Parameters
    ----------
    input_shape : tuple (N, C, *d), or (N, *d, C) with ``channel_axis=-1``
    weight_shape : tuple (K, C/G, *k)
    xp : namespace
        The array library: ``numpy``, ``jax.numpy``, ``torch``, ...
    dtype : dtype of that library
    stride, padding, dilation, groups, padding_mode, channel_axis
        As in `conv`.

    Returns
    -------
    method : str

    Raises
    ------
    ValueError
        If the shapes and the keywords are not those of a convolution.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import choose_method
    >>> x, w = np.ones((8, 64, 56, 56), dtype=np.float32), np.ones((64, 64, 3, 3), dtype=np.float32)
    >>> choose_method(x.shape, w.shape, xp=np, dtype=x.dtype, padding=1)
    'im2col'
    """
    keywords = Keywords(stride, padding, dilation, groups, padding_mode, channel_axis)
    geometry = conv_geometry(input_shape, weight_shape, keywords, names=("input_shape", "weight_shape"))
    return choose(xp, working_dtype(xp, dtype), geometry)


def choose(xp: Namespace, dtype: DType, geometry: ConvGeometry) -> str:
    return "native" if has_native(xp, dtype, geometry.windows.ndim) else "im2col"
