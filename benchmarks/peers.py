"""Who does the operations of a layer on a library's arrays: xconv, also by each of its methods, and PyTorch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

import xconv
from xconv._arrays.libraries import TABLE
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .comparison import EVERYWHERE, Case
from .layers import Layer, random
from .report import BY_HAND, XCONV
from .timing import Call

# What is done with a layer: xconv's function, the arrays that it takes, and the sizes behind them.
CONVOLUTIONS = {
    "forward": ("conv", "x w", ""),
    "input_grad": ("conv_input_grad", "dy w", "input_shape"),
    "weight_grad": ("conv_weight_grad", "dy x", "kernel_size"),
}
POOLED = {
    "max_pool": ("max_pool", "x", "kernel_size"),
    "avg_pool": ("avg_pool", "x", "kernel_size"),
    "max_pool_grad": ("max_pool_grad", "dy x", "kernel_size"),
    "col2im": ("col2im", "rows", "input_shape kernel_size"),
}
OPERATIONS = CONVOLUTIONS | POOLED

# The names that --peers takes, with the backends that each runs on; a library's own convolution is the method native.
PEERS = {"torch": ["numpy", "torch", "cupy"], "methods": EVERYWHERE, **dict.fromkeys(METHODS, EVERYWHERE)}
PEERS["native"] = [name for name in EVERYWHERE if TABLE[name].own]

COMPILED_TAPS = 256  # with more of them, jax.jit compiles what lays windows out for a third of a minute per operation,
COMPILED_PAIRS = 1024  # and with more of these Toeplitz, which is far slower than others there, for up to two minutes

Array: TypeAlias = Any
Function: TypeAlias = Callable[..., Array]  # of an operation's arrays


def numbers(layer: Layer, operation: str, dtype: str) -> list[np.ndarray]:
    """The arrays that an operation takes, the same for the same layer: x, w, dy, or the windows of x as rows."""
    x, w, dy = (random(shape, dtype, seed) for seed, shape in enumerate(layer.shapes))
    if operation == "col2im":
        return [xconv.im2col(x, layer.kernel_size, **layer.windows)]
    return [{"x": x, "w": w, "dy": dy}[name] for name in OPERATIONS[operation][1].split()]


def own(layer: Layer, operation: str, method: str = "auto") -> Function:
    """xconv by one method, which pools have not."""
    name, _, sizes = OPERATIONS[operation]
    given = [getattr(layer, size) for size in sizes.split()]
    keywords = {**layer.keywords, "method": method} if operation in CONVOLUTIONS else layer.windows
    return lambda *arrays: getattr(xconv, name)(*arrays, *given, **keywords)


def pytorch(layer: Layer, operation: str) -> Function:
    """PyTorch's functions of its tensors."""
    torch = load_backend("torch").module
    functional, gradients = torch.nn.functional, torch.nn.grad
    kernel, windows, words, n = layer.kernel_size, layer.windows, layer.keywords, len(layer.kernel_size)
    conv, max_pool, avg_pool = (getattr(functional, f"{name}{n}d") for name in ("conv", "max_pool", "avg_pool"))

    def forward_and_backward(dy: Array, x: Array) -> Array:
        """PyTorch's gradient needs what its forward found, and xconv's finds it anew: both start from x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(max_pool(leaf, kernel, **windows), leaf, dy)[0]

    functions: dict[str, Function] = {
        "forward": lambda x, w: conv(x, w, **words),
        "input_grad": lambda dy, w: getattr(gradients, f"conv{n}d_input")(layer.input_shape, w, dy, **words),
        "weight_grad": lambda dy, x: getattr(gradients, f"conv{n}d_weight")(x, layer.weight_shape, dy, **words),
        "max_pool": lambda x: max_pool(x, kernel, **windows),
        "avg_pool": lambda x: avg_pool(x, kernel, **windows),
        "max_pool_grad": forward_and_backward,
        "col2im": lambda columns: functional.fold(columns, layer.input_shape[2:], kernel, **windows),
    }
    return functions[operation]


def call_of(library: LoadedBackend, function: Function, arrays: Sequence[Array]) -> Call:
    """A call on a library's arrays; under ``jax.jit`` on JAX, which returns when it is done.

    JAX's processors would work on several calls at once.
    """
    call = functools.partial(library.compile(function), *arrays)
    return (lambda: call().block_until_ready()) if library.name == "jax" else call


def call_of_torch(library: LoadedBackend, function: Function, arrays: Sequence[Array]) -> Call:
    """As somebody with NumPy's arrays would call it: the conversions are part of the call. CuPy's are not."""
    torch = load_backend("torch").module
    if library.name == "numpy":
        return lambda: function(*map(torch.from_numpy, arrays)).numpy()
    return functools.partial(function, *map(torch.from_dlpack, arrays))


def load_peers(library: LoadedBackend, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The peers of these names, or all that run on the backend, and why PyTorch is missing if others are there."""
    there = [name for name, backends in PEERS.items() if library.name in backends]
    found, missing = list(names or there), list[str]()
    if wrong := [name for name in found if name not in there]:
        raise CommandError(f"the peer {wrong[0]!r} does not run on {library.name}: choose from {', '.join(there)}")
    if "torch" in found:
        try:
            load_backend("torch")
        except CommandError as reason:
            if found == ["torch"]:
                raise
            found.remove("torch")
            missing.append(f"left out: {reason}")
    return found + [*METHODS, "native"] * ("methods" in found), missing


def case_of(layer: Layer, operation: str, dtype: str, peers: Sequence[str], library: LoadedBackend) -> Case:
    """An operation by the peers, beside the result in float64, and what "auto" takes.

    float64's is by the method that adds nothing to rounding; a GPU finds its own.
    """
    given = numbers(layer, operation, dtype)
    arrays, facts = [*map(library.from_numpy, given)], {}
    calls: dict[str, Call | str] = {XCONV: call_of(library, own(layer, operation), arrays)}
    if "torch" in peers:
        batch, _, *size = layer.shapes[-1]
        columns = [rows.reshape(batch, math.prod(size), -1).mT.copy() for rows in given if operation == "col2im"]
        tensors = [*map(library.from_numpy, columns)] or arrays
        calls["torch"] = call_of_torch(library, pytorch(layer, operation), tensors)
    if operation in CONVOLUTIONS:
        xp, function = array_api_compat.array_namespace(*arrays), OPERATIONS[operation][0]
        words = {"xp": xp, "dtype": arrays[0].dtype, "function": function, **layer.keywords}
        plan = xconv.plan(layer.input_shape, layer.weight_shape, **words)
        facts, reasons = {"chosen": plan.method}, dict(plan.reasons)
        for name in (name for name, _ in plan.costs if name in peers):
            reason = reasons.get(name) or (compiles_too_long(name, layer) if library.name == "jax" else "")
            calls[BY_HAND + name] = reason or call_of(library, own(layer, operation, name), arrays)
    checker = library if library.name == "cupy" else load_backend("numpy")
    exact = (checker.from_numpy(array.astype("float64")) for array in given)
    group = layer.suite if dtype == "float32" else f"{layer.suite} {dtype}"
    expected = checker.to_numpy(own(layer, operation, "im2col")(*exact))
    return Case(group, layer.name, operation, calls, expected, facts)


def compiles_too_long(method: str, layer: Layer) -> str:
    """Why ``jax.jit`` is not to be waited for, or nothing."""
    if method in ("im2col", "toeplitz") and math.prod(layer.kernel_size) > COMPILED_TAPS:
        return f"more than {COMPILED_TAPS} taps compile too long"
    if method == "toeplitz" and math.prod(layer.weight_shape[:2]) // layer.groups > COMPILED_PAIRS:
        return f"more than {COMPILED_PAIRS} pairs of channel and filter compile too long"
    return ""
