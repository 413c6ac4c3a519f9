"""What a peer is: somebody who does the three operations of a layer on a backend's arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..suites import Layer

FORWARD, INPUT_GRAD, WEIGHT_GRAD = OPERATIONS = ("forward", "input_grad", "weight_grad")
FUNCTIONS = {FORWARD: "conv", INPUT_GRAD: "conv_input_grad", WEIGHT_GRAD: "conv_weight_grad"}  # xconv's, by operation

Call = Callable[[], Any]


@dataclass(frozen=True)
class Problem:
    """A layer with its arrays: the backend's own, on its default device."""

    layer: Layer
    x: Any
    w: Any
    dy: Any


class Peer(Protocol):
    """Somebody to be timed.

    Attributes
    ----------
    name : str
    packages : tuple of str
        The distributions whose versions matter.
    refusals : tuple of exception types
        By which a call says that it does not do this layer. Anything else that it raises is a mistake.
    """

    @property
    def name(self) -> str: ...
    @property
    def packages(self) -> tuple[str, ...]: ...
    @property
    def refusals(self) -> tuple[type[Exception], ...]: ...

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        """For each operation a call that does it, or the reason why there is none."""
