"""The methods: what one is, which there are, and which of them "auto" takes.

A method is three linear maps and their adjoints around one batched matrix product:

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( sum over batches of Out*(dy) @ In(x)^H )

A new method is one module with these six functions and one entry in ``METHODS``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Protocol

from .._arrays import Array, DType, Namespace
from .._geometry import Geometry, Keywords, conv_geometry, one_of
from . import im2col


class Method(Protocol):
    """Canonical arrays in and out: x (N, G, C/G, *d), w (G, K/G, C/G, *k), y (N, G, K/G, *o).

    In between are stacks of matrices that multiply: Wt(w) (..., K/G, q) @ In(x) (N, ..., q, p) -> (N, ..., K/G, p).
    """

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array: ...
    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array: ...
    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array: ...
    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array: ...
    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array: ...
    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array: ...


METHODS: MappingProxyType[str, Method] = MappingProxyType({"im2col": im2col})


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
    conv_geometry(input_shape, weight_shape, keywords, names=("input_shape", "weight_shape"))
    return "im2col"


def method_named(name: Any) -> Method:
    """The method that the keyword ``method`` asks for."""
    one_of("method", name, ("auto", *METHODS))
    return METHODS["im2col" if name == "auto" else name]
