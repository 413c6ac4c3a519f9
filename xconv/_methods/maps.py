"""What a method is: three linear maps and their adjoints around one batched matrix product.

y  = Out( Wt(w) @ In(x) )
dx = In*( Wt(w)^H @ Out*(dy) )
dw = Wt*( Out*(dy) @ In(x)^H )
"""

from __future__ import annotations

from typing import Protocol

from .._arrays.libraries import Array, Namespace
from .._plan.geometry import Geometry
from .._plan.task import Tile


class Maps(Tile, Protocol):
    """Groups apart from the channels in them, in and out: x (N, G, C/G, *d), w (G, K/G, C/G, *k), y (N, G, K/G, *o).

    In between are stacks of matrices that multiply: Wt(w) (..., G, K/G, q) @ In(x) (..., G, q, p) -> (..., G, K/G, p),
    where p counts over samples and positions. One value of a class serves all blocks of a convolution.
    """

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array: ...
    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array: ...
    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array: ...
    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array: ...
    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array: ...
    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array: ...
