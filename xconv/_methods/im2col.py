"""im2col: the input map lays out windows, the weight and output maps only reshape. Exact for every dtype.

NaN and inf stay in the windows that read them.
"""

from __future__ import annotations

import math

from .._arrays import Array, Namespace
from .._geometry import Geometry
from .._windows import gather, pad, scatter


def input_map(xp: Namespace, x: Array, geometry: Geometry) -> Array:
    """(N, G, C, *d) -> (N, G, C*prod(k), prod(o))."""
    columns = gather(xp, pad(xp, x, geometry.padding), geometry.padded())
    batch, groups, channels = x.shape[:3]
    return xp.reshape(columns, (batch, groups, channels * geometry.taps, geometry.positions))


def input_adjoint(xp: Namespace, columns: Array, geometry: Geometry) -> Array:
    """(N, G, C*prod(k), prod(o)) -> (N, G, C, *d)."""
    batch, groups, rows = columns.shape[:3]
    shape = (batch, groups, rows // geometry.taps, geometry.taps, *geometry.output_size)
    return scatter(xp, xp.reshape(columns, shape), geometry)


def weight_map(xp: Namespace, w: Array, geometry: Geometry) -> Array:
    """(G, K, C, *k) -> (G, K, C*prod(k))."""
    return xp.reshape(w, (*w.shape[:2], math.prod(w.shape[2:])))


def weight_adjoint(xp: Namespace, rows: Array, geometry: Geometry) -> Array:
    """(G, K, C*prod(k)) -> (G, K, C, *k)."""
    groups, filters, columns = rows.shape
    return xp.reshape(rows, (groups, filters, columns // geometry.taps, *geometry.kernel_size))


def output_map(xp: Namespace, products: Array, geometry: Geometry) -> Array:
    """(N, G, K, prod(o)) -> (N, G, K, *o)."""
    return xp.reshape(products, (*products.shape[:3], *geometry.output_size))


def output_adjoint(xp: Namespace, y: Array, geometry: Geometry) -> Array:
    """(N, G, K, *o) -> (N, G, K, prod(o))."""
    return xp.reshape(y, (*y.shape[:3], geometry.positions))
