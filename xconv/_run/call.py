"""A checked call of a convolution: its arrays' way in and out, and the three products between."""

from __future__ import annotations

from .._arrays.layout import Layout
from .._arrays.libraries import Array, traits
from .._arrays.operands import item_size
from .._arrays.pieces import Pieces
from .._plan.arguments import workspace
from .._plan.choice import Candidate, Room, TooLittleError
from .._plan.remembered import remembered
from .._plan.task import task_of
from .frames import Framed
from .integers import runner
from .products import Product, Products


class Call:
    """A checked call: the way in and out, and the products between, each by its own method if that is "auto".

    An array that a result lies ``beside`` says how it is divided, where arrays are: here they are whole.
    """

    def __init__(self, layout: Layout, method: str, max_workspace: int | None) -> None:
        self.layout = layout
        self.method = method
        self.room = workspace(max_workspace, item_size(layout.xp, layout.dtype) * layout.geometry.elements)

    def forward(self, x: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        layout, product = self.layout, self.for_forward
        if layout.is_trivial:
            return product(x, w, b)
        return layout.leave_data(product(layout.enter_data(x), layout.turned(w), b))

    def backward_data(self, dy: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        layout, product = self.layout, self.for_data
        if layout.is_trivial:
            return product(dy, w, b)
        return layout.leave_data(product(layout.enter_data(dy), layout.turned(w), b))

    def backward_filter(self, dy: Array, x: Array) -> Array:
        layout, product = self.layout, self.for_filter
        if layout.is_trivial:
            return product(dy, x)
        return layout.turned(product(layout.enter_data(dy), layout.enter_data(x)))

    @remembered
    def for_forward(self) -> Product:
        return self._product("forward")

    @property
    def cost(self) -> float:
        """Estimated nanoseconds of the product itself; none known for a library's own."""
        return getattr(self.for_forward, "candidate", Candidate("", 0.0)).cost

    @remembered
    def for_data(self) -> Product:
        return self._product("scatter")

    @remembered
    def for_filter(self) -> Product:
        return self._product("backward_filter")

    def bias_adjoint(self, dy: Array) -> Array:
        return self.layout.bias_adjoint(self.layout.enter_data(dy))

    def read(self, product: Product, x: Array | Pieces) -> Array | Pieces:
        """An input in pieces for one of the products: joined, if not by blocks that read it one after another."""
        geometry, in_blocks = self.layout.geometry, traits(self.layout.xp).threads and len(x.parts) > 1
        is_even = not geometry.channels_last and (geometry.groups == 1 or x.grid[1] == 1)
        if in_blocks and is_even and isinstance(product, Products) and product.local is None:
            return x
        return x.joined()  # outliers, too, are looked for in all at once

    def _product(self, product: str) -> Product:
        layout, access = self.layout, self.layout.access
        task = task_of(product, layout.geometry, layout.casts, access.conjugates)
        if product == "scatter" and layout.geometry.is_framed:
            return Framed(layout, task, self.method, self.room)
        try:
            return runner(access.of(product, layout.geometry), task, self.method, Room(self.room, self.room))
        except TooLittleError as error:
            raise ValueError(str(error)) from None


def call_of(layout: Layout, method: str, max_workspace: int | None) -> Call:
    """The call of arrays as their library has them."""
    if traits(layout.xp).entrance != "torch":
        return Call(layout, method, max_workspace)
    from .recorded import TensorCall

    return TensorCall(layout, method, max_workspace)
