"""Convolutions of libraries that differentiate: each product is one step, whose derivatives are the other two products.

Recorded operation by operation, a product keeps all that its method makes on its way, and in the derivative each part
that it reads has zeros around. The other two products need its operands alone. With g the gradient by the result:

    y  = forward(x, w, b)           dx  = backward_data(g, w),   dw = backward_filter(g, x),   db = the sum of g
    dx = backward_data(dy, w, b)    ddy = forward(g, w),         dw = backward_filter(dy, g),  db = the sum of g
    dw = backward_filter(dy, x)     ddy = forward(x, g),         dx = backward_data(dy, g)
"""

from __future__ import annotations

from typing import Any, Self

from .._arrays.layout import Layout
from .._arrays.libraries import Array
from .._plan.geometry import ConvGeometry
from .._plan.remembered import remembered
from .call import Call
from .runners import Runner

Operands = tuple[Any, ...]


class RecordedCall(Call):
    """A call that is differentiated by steps, each by its own method if that is "auto"."""

    def __init__(self, layout: Layout, method: str, max_workspace: int | None) -> None:
        super().__init__(layout, method, max_workspace)
        self.max_workspace = max_workspace

    def of(self, geometry: ConvGeometry) -> Self:
        """The same of another geometry."""
        return type(self)(self.layout.of(geometry), self.method, self.max_workspace)

    @remembered
    def linear(self) -> Self:
        """The call of what x changes by, which has no pad value."""
        geometry = self.layout.geometry
        return self if geometry.pad_value == 0 else self.of(geometry._replace(pad_value=0))

    def forward(self, x: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        return self.step("forward", self.for_forward, (x, w, b))

    def backward_data(self, dy: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        return self.step("backward_data", self.for_data, (dy, w, b))

    def backward_filter(self, dy: Array, x: Array) -> Array:
        return self.step("backward_filter", self.for_filter, (dy, x))

    def step(self, name: str, runner: Runner, operands: Operands) -> Array:
        """A product, recorded if somebody watches."""
        there = [one for one in operands if one is not None]
        is_recorded = len({one.dtype for one in there}) == 1 and self.are_watched(there)
        return self.recorded(name, operands) if is_recorded else self.carry_out(name, operands)

    def are_watched(self, operands: list[Array]) -> bool:
        """Whether the library will ask for derivatives, or may."""
        raise NotImplementedError

    def recorded(self, name: str, operands: Operands) -> Array:
        """A product as a step."""
        raise NotImplementedError

    def gradients(self, name: str, operands: Operands, g: Array) -> list[Any]:
        """What gives the gradient by each operand."""
        first, second, *_ = operands
        by_data, by_filter, linear = self.backward_data, self.backward_filter, self.linear
        return {
            "forward": [lambda: by_data(g, second), lambda: by_filter(g, first)],
            "backward_data": [lambda: linear.forward(g, second), lambda: linear.backward_filter(first, g)],
            "backward_filter": [lambda: self.forward(second, g), lambda: by_data(first, g)],
        }[name] + [lambda: self.bias_adjoint(g)]
