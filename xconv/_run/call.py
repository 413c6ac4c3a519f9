"""A checked call of a convolution: its arrays' way in and out, and the three products between."""

from __future__ import annotations

from .._arrays.layout import Layout
from .._arrays.libraries import Array, traits
from .._arrays.operands import item_size
from .._plan.arguments import workspace
from .._plan.choice import Candidate, Room, TooLittleError
from .._plan.remembered import remembered
from .._plan.task import task_of
from .frames import Framed
from .runners import Runner, runner_of


class Call:
    """A checked call: the way in and out, and the products between, each by its own method if that is "auto".

    An array that a result lies ``beside`` says how it is divided, of a `ChunkedCall`: here arrays are whole.
    """

    def __init__(self, layout: Layout, method: str, max_workspace: int | None) -> None:
        self.layout = layout
        self.method = method
        self.room = workspace(max_workspace, item_size(layout.xp, layout.dtype) * layout.geometry.elements)

    def forward(self, x: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        return self._through(self.for_forward, x, w, b)

    def backward_data(self, dy: Array, w: Array, b: Array | None = None, beside: Array | None = None) -> Array:
        return self._through(self.for_data, dy, w, b)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        layout = self.layout
        return layout.turned(self.for_filter(layout.enter_data(dy), layout.enter_data(x)))

    def carry_out(self, name: str, operands: tuple[Array | None, ...]) -> Array:
        """A product by its name, whatever records it."""
        result: Array = getattr(Call, name)(self, *operands)
        return result

    def _through(self, runner: Runner, data: Array, w: Array, b: Array | None) -> Array:
        layout = self.layout
        return layout.leave_data(runner(layout.enter_data(data), layout.turned(w), b))

    @remembered
    def for_forward(self) -> Runner:
        return self._runner("forward")

    @property
    def cost(self) -> float:
        """Estimated nanoseconds of the sums themselves; none known for a library's own."""
        return getattr(self.for_forward, "candidate", Candidate("", 0.0)).cost

    @remembered
    def for_data(self) -> Runner:
        return self._runner("backward_data")

    @remembered
    def for_filter(self) -> Runner:
        return self._runner("backward_filter")

    def bias_adjoint(self, dy: Array) -> Array:
        return self.layout.bias_adjoint(self.layout.enter_data(dy))

    def _runner(self, direction: str) -> Runner:
        layout, access = self.layout, self.layout.access
        task = task_of(direction, layout.geometry, layout.casts, access.conjugates)
        if direction == "backward_data" and layout.geometry.is_framed:
            return Framed(layout, task, self.method, self.room)
        try:
            return runner_of(access.of(direction, layout.geometry), task, self.method, Room(self.room, self.room))
        except TooLittleError as error:
            raise ValueError(str(error)) from None


def call_of(layout: Layout, method: str, max_workspace: int | None) -> Call:
    """The call of arrays as their library has them."""
    way = traits(layout.xp).entrance
    if way == "torch":
        from .recorded_torch import TensorCall

        return TensorCall(layout, method, max_workspace)
    if way == "jax":
        from .recorded_jax import TracedCall

        return TracedCall(layout, method, max_workspace)
    return Call(layout, method, max_workspace)
