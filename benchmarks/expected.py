"""What the results should be: xconv's own in float64, and how far others are from them."""

from __future__ import annotations

from typing import Any

import numpy as np

import xconv

from .peers.peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD
from .suites import Layer

ERROR_LIMIT = 1e-3  # far above rounding in float32, far below the error of a wrong algorithm


class WrongResultError(Exception):
    """A peer, or xconv, computed something else: its time means nothing."""


def expected_results(layer: Layer, x: Any, w: Any, dy: Any) -> dict[str, Any]:
    """The three results of the arrays' numbers in float64, by the method that adds nothing to rounding."""
    x, w, dy = (np.asarray(array, dtype=np.float64) for array in (x, w, dy))
    return {
        FORWARD: xconv.conv(x, w, method="im2col", **layer.keywords),
        INPUT_GRAD: xconv.conv_input_grad(dy, w, layer.input_shape, method="im2col", **layer.keywords),
        WEIGHT_GRAD: xconv.conv_weight_grad(dy, x, layer.kernel_size, method="im2col", **layer.keywords),
    }


def checked_error(result: Any, expected: Any, where: str) -> float:
    """The largest difference relative to the largest element, or a `WrongResultError` that says where it is wrong."""
    if result.shape != expected.shape:
        raise WrongResultError(f"{where}: the result has shape {result.shape}, expected {expected.shape}")
    error = float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))
    if not error <= ERROR_LIMIT:  # NaN included
        raise WrongResultError(f"{where}: the relative error is {error:.1e}, at most {ERROR_LIMIT:.0e} was expected")
    return error


def place(layer: Layer, operation: str, peer: str) -> str:
    """Where something went wrong, in words."""
    return f"{layer.suite}, {layer.name}, {operation}, {peer}"
