"""xconv itself: as it chooses, and with each of its methods by hand."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import xconv
from xconv._arrays.libraries import TABLE
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend

from ..suites import Layer
from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem

COMPILED_TAPS = 256  # with more of them, jax.jit compiles what lays windows out for a third of a minute per operation,
COMPILED_PAIRS = 1024  # and with more of these Toeplitz, which is far slower than others there, for up to two minutes


class Own:
    """xconv with one method, under ``jax.jit`` on JAX."""

    packages = ()

    def __init__(self, backend: LoadedBackend, method: str) -> None:
        self.name = "xconv" if method == "auto" else f"xconv:{method}"
        self.refusals: tuple[type[Exception], ...] = () if method == "auto" else (ValueError,)
        self._backend, self._method = backend, method

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        if self._backend.name == "jax" and (reason := _compiles_too_long(self._method, problem.layer)):
            return {FORWARD: reason, INPUT_GRAD: reason, WEIGHT_GRAD: reason}
        return {**self.calls(problem)}

    def calls(self, problem: Problem) -> dict[str, Call]:
        """For each operation the call, however long it compiles."""
        layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
        forward, input_grad, weight_grad = _functions(self._backend, self._method, layer.nameless)
        return {
            FORWARD: lambda: forward(x, w),
            INPUT_GRAD: lambda: input_grad(dy, w),
            WEIGHT_GRAD: lambda: weight_grad(dy, x),
        }


def load_methods(backend: LoadedBackend) -> list[Peer]:
    """One peer for each method, "native" only where the backend has a convolution of its own."""
    names = dict.fromkeys((*METHODS, "native"))
    return [Own(backend, name) for name in names if name != "native" or TABLE[backend.name].own]


def _compiles_too_long(method: str, layer: Layer) -> str:
    """Why ``jax.jit`` is not to be waited for, or nothing."""
    if method in ("im2col", "toeplitz") and math.prod(layer.kernel_size) > COMPILED_TAPS:
        return f"more than {COMPILED_TAPS} taps compile too long"
    if method == "toeplitz" and math.prod(layer.weight_shape[:2]) // layer.groups > COMPILED_PAIRS:
        return f"more than {COMPILED_PAIRS} pairs of channel and filter compile too long"
    return ""


@functools.cache
def _functions(backend: LoadedBackend, method: str, layer: Layer) -> tuple[Callable[..., Any], ...]:
    """Kept, so that layers of one geometry compile once."""

    def forward(x: Any, w: Any) -> Any:
        return xconv.conv(x, w, **keywords)

    def input_grad(dy: Any, w: Any) -> Any:
        return xconv.conv_input_grad(dy, w, layer.input_shape, **keywords)

    def weight_grad(dy: Any, x: Any) -> Any:
        return xconv.conv_weight_grad(dy, x, layer.kernel_size, **keywords)

    keywords = layer.keywords | {"method": method}
    return tuple(backend.compile(function) for function in (forward, input_grad, weight_grad))
