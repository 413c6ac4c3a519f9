"""What a method is: three linear maps and their adjoints around one batched matrix product.

y  = Out( Wt(w) @ In(x) )
dx = In*( Wt(w)^H @ Out*(dy) )
dw = Wt*( Out*(dy) @ In(x)^H )
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from .._arrays.elements import unscaled
from .._arrays.libraries import Array, Namespace
from .._plan.geometry import Geometry
from .._plan.task import Variant


class Maps(Variant, Protocol):
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


class Scaled(NamedTuple):
    """The six maps of operands multiplied by powers of two, by which results are divided (dy and x, if it reduces)."""

    maps: Maps
    first: Array
    second: Array
    reduces: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.maps, name)

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array:
        return self.maps.input_map(xp, x * (self.second if self.reduces else self.first), geometry)

    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array:
        return unscaled(xp, self.maps.input_adjoint(xp, columns, geometry), self.first, self.second)

    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array:
        return self.maps.weight_map(xp, w * self.second, geometry)

    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array:
        return unscaled(xp, self.maps.weight_adjoint(xp, rows, geometry), self.first, self.second)

    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array:
        return unscaled(xp, self.maps.output_map(xp, products, geometry), self.first, self.second)

    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array:
        return self.maps.output_adjoint(xp, y * self.first, geometry)
