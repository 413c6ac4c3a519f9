"""Who does the three operations of a layer on a backend's arrays: xconv, also by each of its methods, and others."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

import xconv
from xconv._arrays.libraries import TABLE
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .suites import Layer
from .timing import Call

XCONV, BY_HAND = "xconv", "xconv:"  # as it chooses, and before the name of a method
FORWARD, INPUT_GRAD, WEIGHT_GRAD = OPERATIONS = ("forward", "input_grad", "weight_grad")
FUNCTIONS = {FORWARD: "conv", INPUT_GRAD: "conv_input_grad", WEIGHT_GRAD: "conv_weight_grad"}  # xconv's, by operation

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


Calls: TypeAlias = dict[str, Call | str]  # for each operation a call that does it, or the reason why there is none
Peer: TypeAlias = Callable[[Problem], Calls]


def load_peers(backend: LoadedBackend, names: Sequence[str] | None) -> tuple[dict[str, Peer], list[str]]:
    """xconv and the peers of these names, and why others are missing.

    Without names, those that run on the backend; then one that is not installed is left out.
    """
    peers, missing = {XCONV: own(backend, "auto")}, []
    there = [name for name, (backends, _) in PEERS.items() if backend.name in backends]
    for name in there if names is None else names:
        if name not in there:
            raise CommandError(f"the peer {name!r} does not run on {backend.name}: choose from {', '.join(there)}")
        try:
            peers |= PEERS[name][1](backend)
        except CommandError as reason:
            if names is not None:
                raise
            missing.append(f"left out: {reason}")
    return peers, missing


def own(backend: LoadedBackend, method: str) -> Peer:
    """xconv with one method, under ``jax.jit`` on JAX."""

    def calls(problem: Problem) -> Calls:
        layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
        if backend.name == "jax" and (reason := compiles_too_long(method, layer)):
            return dict.fromkeys(OPERATIONS, reason)

        def call(function: Callable[..., Array], *arrays: Array, shape: tuple[tuple[int, ...], ...] = ()) -> Call:
            keywords = layer.keywords | {"method": method}
            return functools.partial(backend.compile(lambda *arrays: function(*arrays, *shape, **keywords)), *arrays)

        return {
            FORWARD: call(xconv.conv, x, w),
            INPUT_GRAD: call(xconv.conv_input_grad, dy, w, shape=(layer.input_shape,)),
            WEIGHT_GRAD: call(xconv.conv_weight_grad, dy, x, shape=(layer.kernel_size,)),
        }

    return calls


def by_hand(backend: LoadedBackend) -> dict[str, Peer]:
    """One peer for each method, "native" only where the backend has a convolution of its own."""
    names = dict.fromkeys((*METHODS, "native"))
    return {BY_HAND + name: own(backend, name) for name in names if name != "native" or TABLE[backend.name].own}


def compiles_too_long(method: str, layer: Layer) -> str:
    """Why ``jax.jit`` is not to be waited for, or nothing."""
    if method in ("im2col", "toeplitz") and math.prod(layer.kernel_size) > COMPILED_TAPS:
        return f"more than {COMPILED_TAPS} taps compile too long"
    if method == "toeplitz" and math.prod(layer.weight_shape[:2]) // layer.groups > COMPILED_PAIRS:
        return f"more than {COMPILED_PAIRS} pairs of channel and filter compile too long"
    return ""


def pytorch(backend: LoadedBackend) -> dict[str, Peer]:
    """PyTorch, as somebody with arrays of this backend would call it: the conversions are part of the call."""
    torch = load_backend("torch").module
    if backend.name == "cupy" and not torch.cuda.is_available():
        raise CommandError(f"torch {torch.__version__} is installed but finds no CUDA device")
    there: Conversion = same
    back: Conversion = same
    if backend.name == "numpy":
        there, back = torch.from_numpy, lambda tensor: tensor.numpy()
    elif backend.name == "cupy":
        there, back = torch.from_dlpack, backend.module.from_dlpack
    return {"torch": functools.partial(torch_calls, torch, there, back)}


def torch_calls(torch: ModuleType, there: Conversion, back: Conversion, problem: Problem) -> Calls:
    """``conv1d`` to ``conv3d`` and the backward operation beneath their autograd, between two conversions."""
    layer, x, w, dy = problem.layer, problem.x, problem.w, problem.dy
    n, backward, keywords = len(layer.kernel_size), torch.ops.aten.convolution_backward, layer.keywords
    convolution = getattr(torch.nn.functional, f"conv{n}d")

    def gradient(output: int) -> Call:
        """dx is the first output of the backward operation, dw the second."""
        mask = [output == 0, output == 1, False]
        static = (None, layer.stride, layer.padding, layer.dilation, False, [0] * n, layer.groups, mask)
        return lambda: back(backward(there(dy), there(x), there(w), *static)[output])

    return {
        FORWARD: lambda: back(convolution(there(x), there(w), **keywords)),
        INPUT_GRAD: gradient(0),
        WEIGHT_GRAD: gradient(1),
    }


def same(array: Array) -> Array:
    return array


def lax(backend: LoadedBackend) -> dict[str, Peer]:
    """``jax.lax.conv_general_dilated`` and its gradients, each under ``jax.jit``."""
    jax = backend.module

    def calls(problem: Problem) -> Calls:
        layer, arrays = problem.layer, (problem.dy, problem.x, problem.w)
        convolve = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=layer.stride,
            padding=[(p, p) for p in layer.padding],
            rhs_dilation=layer.dilation,
            feature_group_count=layer.groups,
        )

        def gradient(output: int) -> Call:
            """Of what is not asked for, nothing is computed."""
            return functools.partial(jax.jit(lambda dy, x, w: jax.vjp(convolve, x, w)[1](dy)[output]), *arrays)

        forward = functools.partial(jax.jit(convolve), problem.x, problem.w)
        return {FORWARD: forward, INPUT_GRAD: gradient(0), WEIGHT_GRAD: gradient(1)}

    return {"lax": calls}


# The names that --peers takes, each with the backends that it runs on and what loads it.
PEERS: dict[str, tuple[tuple[str, ...], Callable[[LoadedBackend], dict[str, Peer]]]] = {
    "torch": (("numpy", "torch", "cupy"), pytorch),
    "lax": (("jax",), lax),
    "methods": (("numpy", "jax", "torch", "cupy"), by_hand),
}
