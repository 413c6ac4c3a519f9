"""The maps of a method, of operands multiplied by powers of two, whose results are divided by these again.

Transforms add and subtract what plain sums keep apart, and so overflow, or vanish, where these do not yet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .._arrays.elements import unscaled
from .._arrays.libraries import Array, Namespace
from .._plan.geometry import Geometry
from .maps import Maps


class Scaled(NamedTuple):
    """The six maps, of x and w, of dy and w, or of dy and x if they give a gradient by the filters."""

    maps: Maps
    first: Array
    second: Array
    reduces: bool

    def __getattr__(self, name: str) -> Any:
        return getattr(self.maps, name)

    def writes_in_place(self, samples: int, filters: int) -> bool:
        return False

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
