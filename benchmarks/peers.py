"""Who does the operations of a layer on a backend's arrays: xconv, also by each of its methods, and others."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import xconv
from xconv._arrays.libraries import TABLE
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .layers import Layer
from .timing import Call

XCONV, BY_HAND = "xconv", "xconv:"  # as it chooses, and before the name of a method
FORWARD, INPUT_GRAD, WEIGHT_GRAD = OPERATIONS = ("forward", "input_grad", "weight_grad")
FUNCTIONS = {FORWARD: "conv", INPUT_GRAD: "conv_input_grad", WEIGHT_GRAD: "conv_weight_grad"}  # xconv's, by operation
POOLED = ("max_pool", "avg_pool", "max_pool_grad", "col2im")  # what is done with windows alone

COMPILED_TAPS = 256  # with more of them, jax.jit compiles what lays windows out for a third of a minute per operation,
COMPILED_PAIRS = 1024  # and with more of these Toeplitz, which is far slower than others there, for up to two minutes

Array: TypeAlias = Any
Conversion: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True)
class Problem:
    """A layer with its arrays: the backend's own, on its default device."""

    layer: Layer
    x: Array
    w: Array
    dy: Array

    @property
    def pooling(self) -> dict[str, Any]:
        """The keywords of pools."""
        return {"stride": self.layer.stride, "padding": self.layer.padding}

    def arguments(self, operation: str) -> tuple[list[Array], list[tuple[int, ...]], dict[str, Any]]:
        """What xconv's function of an operation takes: arrays, shapes, keywords."""
        x, w, dy, shape, kernel = self.x, self.w, self.dy, self.layer.input_shape, self.layer.kernel_size
        if operation in FUNCTIONS:
            arrays, shapes = {FORWARD: ([x, w], []), INPUT_GRAD: ([dy, w], [shape])}.get(operation, ([dy, x], [kernel]))
            return arrays, shapes, self.layer.keywords
        if operation == "col2im":
            return [xconv.im2col(x, kernel, **self.pooling)], [shape, kernel], self.pooling
        return [dy, x] if operation == "max_pool_grad" else [x], [kernel], self.pooling


Peer: TypeAlias = Callable[[Problem, str], Call | str]  # a call that does an operation, or why there is none


def load_peers(backend: LoadedBackend, names: Sequence[str] | None) -> tuple[dict[str, Peer], list[str]]:
    """xconv and the peers of these names, or all that run on the backend, and why others are missing."""
    peers, missing = {XCONV: own(backend, "auto")}, []
    there = [name for name, (backends, _) in PEERS.items() if backend.name in backends]
    for name in there if names is None else names:
        if name not in there:
            raise CommandError(f"the peer {name!r} does not run on {backend.name}: choose from {', '.join(there)}")
        try:
            peers |= PEERS[name][1](backend)
        except CommandError as reason:
            missing.append(f"left out: {reason}")
    if names and len(peers) == 1:
        raise CommandError("; ".join(missing) or f"{backend.name} has no method {', '.join(names)}")
    return peers, missing


def own(backend: LoadedBackend, method: str) -> Peer:
    """xconv with one method, which pools have not, under ``jax.jit`` on JAX."""

    def call(problem: Problem, operation: str) -> Call | str:
        if backend.name == "jax" and (reason := compiles_too_long(method, problem.layer)):
            return reason
        arrays, shapes, keywords = problem.arguments(operation)
        function = getattr(xconv, FUNCTIONS.get(operation, operation))
        keywords |= {"method": method} if operation in FUNCTIONS else {}
        return functools.partial(backend.compile(lambda *arrays: function(*arrays, *shapes, **keywords)), *arrays)

    return call


def by_hand(names: Sequence[str], backend: LoadedBackend) -> dict[str, Peer]:
    """xconv's methods, "native" only where the backend has a convolution of its own."""
    return {BY_HAND + name: own(backend, name) for name in names if name != "native" or TABLE[backend.name].own}


def compiles_too_long(method: str, layer: Layer) -> str:
    """Why ``jax.jit`` is not to be waited for, or nothing."""
    if method in ("im2col", "toeplitz") and math.prod(layer.kernel_size) > COMPILED_TAPS:
        return f"more than {COMPILED_TAPS} taps compile too long"
    if method == "toeplitz" and math.prod(layer.weight_shape[:2]) // layer.groups > COMPILED_PAIRS:
        return f"more than {COMPILED_PAIRS} pairs of channel and filter compile too long"
    return ""


def pytorch(backend: LoadedBackend) -> dict[str, Peer]:
    """PyTorch, as somebody with NumPy's arrays would call it: the conversions are part of the call. CuPy's are not."""
    torch = load_backend("torch").module
    if backend.name == "cupy" and not torch.cuda.is_available():
        raise CommandError(f"torch {torch.__version__} is installed but finds no CUDA device")
    ahead: Conversion = torch.from_dlpack if backend.name == "cupy" else _same
    there: Conversion = torch.from_numpy if backend.name == "numpy" else _same
    back: Conversion = (lambda y: y.numpy()) if backend.name == "numpy" else _same
    functional = torch.nn.functional

    def call(problem: Problem, operation: str) -> Call:
        x, w, dy, layer = *map(ahead, (problem.x, problem.w, problem.dy)), problem.layer
        kernel, pooling, n = layer.kernel_size, problem.pooling, len(layer.kernel_size)
        conv, max_pool, avg_pool = (getattr(functional, f"{name}{n}d") for name in ("conv", "max_pool", "avg_pool"))

        def gradients(*mask: bool) -> Any:
            static = None, layer.stride, layer.padding, layer.dilation, False, [0] * n, layer.groups, [*mask, False]
            return torch.ops.aten.convolution_backward(there(dy), there(x), there(w), *static)

        def forward_and_backward() -> Array:
            """PyTorch's gradient needs what its forward found, and xconv's finds it anew: both start from x."""
            with torch.enable_grad():
                leaf = there(x).detach().requires_grad_()
                return torch.autograd.grad(max_pool(leaf, kernel, **pooling), leaf, there(dy))[0]

        columns = functional.unfold(there(x), kernel, **pooling) if operation == "col2im" else None
        found: Call = {
            FORWARD: lambda: conv(there(x), there(w), **layer.keywords),
            INPUT_GRAD: lambda: gradients(True, False)[0],
            WEIGHT_GRAD: lambda: gradients(False, True)[1],
            "max_pool": lambda: max_pool(there(x), kernel, **pooling),
            "avg_pool": lambda: avg_pool(there(x), kernel, **pooling),
            "max_pool_grad": forward_and_backward,
            "col2im": lambda: functional.fold(columns, layer.input_shape[2:], kernel, **pooling),
        }[operation]
        return lambda: back(found())

    return {"torch": call}


def _same(array: Array) -> Array:
    return array


def lax(backend: LoadedBackend) -> dict[str, Peer]:
    """``jax.lax.conv_general_dilated``, ``reduce_window`` and their gradients, each under ``jax.jit``.

    Of a gradient that is not asked for, nothing is computed.
    """
    jax = backend.module

    def call(problem: Problem, operation: str) -> Call:
        x, w, dy, layer = problem.x, problem.w, problem.dy, problem.layer
        stride, padding = layer.stride, [(p, p) for p in layer.padding]
        windows = (1, 1, *layer.kernel_size), (1, 1, *stride), [(0, 0), (0, 0), *padding]

        def convolve(x: Array, w: Array) -> Array:
            words = {"rhs_dilation": layer.dilation, "feature_group_count": layer.groups}
            return jax.lax.conv_general_dilated(x, w, stride, padding, **words)

        def largest(x: Array) -> Array:
            return jax.lax.reduce_window(x, -math.inf, jax.lax.max, *windows)

        def mean(x: Array) -> Array:
            return jax.lax.reduce_window(x, 0.0, jax.lax.add, *windows) / math.prod(layer.kernel_size)

        def patches(x: Array) -> Array:
            return jax.lax.conv_general_dilated_patches(x, layer.kernel_size, stride, padding)

        forward = {FORWARD: (convolve, x, w), "max_pool": (largest, x), "avg_pool": (mean, x)}
        if operation in forward:
            function, *arrays = forward[operation]
            return functools.partial(jax.jit(function), *arrays)
        function, output, *arrays = {
            INPUT_GRAD: (convolve, 0, dy, x, w),
            WEIGHT_GRAD: (convolve, 1, dy, x, w),
            "max_pool_grad": (largest, 0, dy, x),
            "col2im": (patches, 0, patches(x) if operation == "col2im" else None, x),
        }[operation]
        return functools.partial(jax.jit(lambda dy, *at: jax.vjp(function, *at)[1](dy)[output]), *arrays)

    return {"lax": call}


EVERYWHERE = ("numpy", "jax", "torch", "cupy")
NAMES = list(dict.fromkeys((*METHODS, "native")))
# The names that --peers takes, each with the backends that it runs on and what loads it.
PEERS: dict[str, tuple[tuple[str, ...], Callable[[LoadedBackend], dict[str, Peer]]]] = {
    "torch": (("numpy", "torch", "cupy"), pytorch),
    "lax": (("jax",), lax),
    "methods": (EVERYWHERE, functools.partial(by_hand, NAMES)),
    **{name: (EVERYWHERE, functools.partial(by_hand, [name])) for name in NAMES},
}
