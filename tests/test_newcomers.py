"""Anything at all in the place of any argument of any function: one line that names that argument, or a result."""

from __future__ import annotations

import inspect
import re
import warnings

import numpy as np
import pytest

import xconv

X, W, DY = np.ones((2, 3, 6, 5)), np.ones((4, 3, 3, 2)), np.ones((2, 4, 4, 4))
IMAGE, BOX, LINE = np.ones((7, 6)), np.ones((3, 3)), np.ones(3)
SHAPES = {"input_shape": X.shape, "weight_shape": W.shape}
RIGHT = {
    xconv.conv: {"x": X, "w": W},
    xconv.conv_transpose: {"x": DY, "w": W},
    xconv.conv_input_grad: {"dy": DY, "w": W, "input_shape": X.shape},
    xconv.conv_weight_grad: {"dy": DY, "x": X, "kernel_size": (3, 2)},
    xconv.conv_backward: {"dy": DY, "x": X, "w": W},
    xconv.conv_transpose_backward: {"dy": X, "x": DY, "w": W},
    xconv.im2col: {"x": X, "kernel_size": (3, 2)},
    xconv.col2im: {"col": np.ones((32, 18)), "input_shape": X.shape, "kernel_size": (3, 2)},
    xconv.max_pool: {"x": X, "kernel_size": 2},
    xconv.avg_pool: {"x": X, "kernel_size": 2},
    xconv.max_pool_grad: {"dy": np.ones((2, 3, 3, 2)), "x": X, "kernel_size": 2},
    xconv.avg_pool_grad: {"dy": np.ones((2, 3, 3, 2)), "input_shape": X.shape, "kernel_size": 2},
    xconv.max_unpool: {"y": np.ones((1, 1, 2)), "indices": np.array([[[0, 3]]]), "kernel_size": 2},
    xconv.conv_output_shape: SHAPES,
    xconv.choose_method: {**SHAPES, "xp": np, "dtype": np.float64},
    xconv.plan: {**SHAPES, "xp": np, "dtype": np.float64},
    xconv.linear_operator: {"w": W, "input_shape": X.shape},
    xconv.Pooling: {"pool_h": 2, "pool_w": 2},
    xconv.Convolution: {"W": W, "b": np.zeros(4)},
    xconv.testing.numerical_gradient: {"function": lambda x: float((x**2).sum()), "x": LINE},
    xconv.testing.check_gradient: {"forward": lambda x: x**2, "backward": lambda dy: 2 * dy, "x": LINE},
    xconv.testing.check_adjoint: {"forward": lambda x: x, "adjoint": lambda y: y, "x": LINE, "y": LINE},
}
NDIMAGE = {
    "input": IMAGE,
    "weights": BOX,
    "size": 3,
    "sigma": 1.0,
    "derivative2": lambda input, axis, output, mode, cval: xconv.ndimage.correlate1d(input, LINE, axis, output, mode),
}
SIGNAL = {"in1": IMAGE, "in2": BOX, "h": LINE, "x": IMAGE}
FUNCTIONS = [
    *((function, function.__name__, given) for function, given in RIGHT.items()),
    *((getattr(xconv.ndimage, name), f"ndimage.{name}", NDIMAGE) for name in xconv.ndimage.__all__),
    *((getattr(xconv.signal, name), f"signal.{name}", SIGNAL) for name in xconv.signal.__all__),
]
WRONG = ["same?", None, object(), 1.5, -1, 0, float("nan"), float("inf"), True, 40, {}, (1, 2, 3, 4, 5)]
ARRAYS = [np.arange(900.0).reshape(30, 30) - 7, np.ones(3, dtype=bool), np.array(["a"]), np.array(object())]
KINDS = TypeError, ValueError
SCIPYS = RuntimeError, OverflowError, ZeroDivisionError, IndexError  # which its functions raise
FINDINGS = (AssertionError,)  # of checks of other functions, by arrays that are no mistake
ALIASES = {"pool_h": "kernel_size", "pool_w": "kernel_size", "pad": "padding", "W": "w"}
EXPECTED = r"\b(must|should|acceptable|the keywords)\b"  # the second and the third are words of SciPy's
LONGEST = 420


def given_to(function, given):
    names = list(inspect.signature(function).parameters)
    right = {name: given[name] for name in names if name in given}
    if function.__name__.endswith("1d") and "weights" in right:
        right["weights"] = LINE
    return names, right


@pytest.mark.parametrize(("function", "label", "given"), FUNCTIONS, ids=[label for _, label, _ in FUNCTIONS])
def test_one_line_names_the_culprit_what_came_and_what_was_expected(function, label, given, numpy_backend):
    names, right = given_to(function, given)
    room = {"xconv.ndimage": SCIPYS, "xconv.signal": SCIPYS, "xconv.testing": FINDINGS}.get(function.__module__, ())
    faults = []
    warnings.simplefilter("ignore")
    for name in names:
        for value in [*WRONG, *ARRAYS] if not name.startswith("extra_") else []:  # which are Python's own to pass on
            try:
                made = function(**right | {name: value})
                if isinstance(made, xconv.Pooling | xconv.Convolution):
                    made.forward(X)
            except Exception as error:
                message = str(error)
                fine = (
                    isinstance(error, KINDS + room)
                    and "\n" not in message
                    and len(message) <= LONGEST
                    and re.search(rf"\b({name}|{ALIASES.get(name, name)})\b", message)
                    and re.search(EXPECTED, message)
                    and "got " in message
                )
                if not fine:
                    faults.append(f"{name}={value!r:.30}: {type(error).__name__}: {message[:200]}")
    assert not faults, "\n" + "\n".join(faults)
