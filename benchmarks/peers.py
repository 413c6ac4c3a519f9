"""Who does the operations of a layer on a library's arrays: xconv, also by each of its methods, and PyTorch."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace

import xconv
from xconv._arrays.libraries import TABLE
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .comparison import EVERYWHERE, Case, Run
from .layers import SUITES, Layer, draw_layers, random, shrunk
from .lines import function_of, read
from .report import BY_HAND, XCONV
from .timing import Call

CONVOLUTIONS, POOLS = read("operations").values()

# The names that --peers takes, with the backends that each runs on; a library's own convolution is the method native.
PEERS = {"torch": ["numpy", "torch", "cupy"], "methods": EVERYWHERE, **dict.fromkeys(METHODS, EVERYWHERE)}
PEERS["native"] = [name for name in EVERYWHERE if TABLE[name].own]

COMPILED_TAPS = 256  # with more of them, jax.jit compiles what lays windows out for a third of a minute per operation,
COMPILED_PAIRS = 1024  # and with more of these Toeplitz, which is far slower than others there, for up to two minutes

Array: TypeAlias = Any
Arrays: TypeAlias = Mapping[str, Array]  # by their names in lines
Function: TypeAlias = Callable[..., Array]
Cases = tuple[int, Generator[Case]]


def networks(run: Run) -> Cases:
    """The suites that were asked for, or all."""
    names = [name for name in run.options.suites if name in SUITES] or [name for name in SUITES if name != "pool"]
    return of_layers([layer for name in names for layer in SUITES[name]], CONVOLUTIONS, run.options.peers, run)


def choice(run: Run) -> Cases:
    """All methods on layers that were drawn."""
    run.notes.append(f"Layers of seed {run.options.seed}.")
    return of_layers(draw_layers(run.options.layers, run.options.seed), CONVOLUTIONS, ["methods"], run)


def pools(run: Run) -> Cases:
    return of_layers(SUITES["pool"], POOLS, run.options.peers, run)


def of_layers(layers: Sequence[Layer], operations: Collection[str], names: Sequence[str] | None, run: Run) -> Cases:
    library, batch, dtype = run.library, run.options.batch, run.options.dtype
    peers, missing = load_peers(library, names)
    run.notes.extend(missing)
    sized = (replace(one, input_shape=(batch or one.input_shape[0], *one.input_shape[1:])) for one in layers)
    pairs = itertools.product(map(shrunk, sized) if run.options.quick else sized, operations)
    return len(layers) * len(operations), (case_of(*pair, dtype, peers, library) for pair in pairs)


def load_peers(library: LoadedBackend, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The peers of these names, or all that run on the backend, and why PyTorch is missing if others are there."""
    there = [name for name, backends in PEERS.items() if library.name in backends]
    found, missing = list(names or there), list[str]()
    if wrong := [name for name in found if name not in there]:
        raise CommandError(f"the peer {wrong[0]!r} does not run on {library.name}: choose from {', '.join(there)}")
    try:
        load_backend("torch" if "torch" in found else "numpy")
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
    given, facts = arrays_of(layer, operation, dtype), {}
    arrays = {name: library.from_numpy(array) for name, array in given.items()}
    calls: dict[str, Call | str] = {XCONV: own_call(layer, operation, arrays, library)}
    if "torch" in peers:
        calls["torch"] = torch_call(layer, operation, arrays, library)
    if operation in CONVOLUTIONS:
        function = CONVOLUTIONS[operation]["xconv"].partition("(")[0].removeprefix("xconv.")
        words = {"dtype": arrays["x"].dtype, "function": function, **layer.keywords}
        plan = xconv.plan(layer.input_shape, layer.weight_shape, xp=array_namespace(arrays["x"]), **words)
        facts, reasons = {"chosen": plan.method}, dict(plan.reasons)
        for name in (name for name, _ in plan.costs if name in peers):
            reason = reasons.get(name) or (compiles_too_long(name, layer) if library.name == "jax" else "")
            calls[BY_HAND + name] = reason or own_call(layer, operation, arrays, library, name)
    checker = library if library.name == "cupy" else load_backend("numpy")
    exact = {name: checker.from_numpy(array.astype("float64")) for name, array in given.items()}
    expected = checker.to_numpy(own_call(layer, operation, exact, checker, "im2col")())
    group = layer.suite if dtype == "float32" else f"{layer.suite} {dtype}"
    return Case(group, layer.name, operation, calls, expected, facts)


def arrays_of(layer: Layer, operation: str, dtype: str = "float32") -> dict[str, np.ndarray]:
    """All that lines know, the same for the same layer."""
    x, w, dy = (random(shape, dtype, seed) for seed, shape in enumerate(layer.shapes))
    if operation != "col2im":
        return {"x": x, "w": w, "dy": dy}
    rows = xconv.im2col(x, layer.kernel_size, stride=layer.stride, padding=layer.padding)
    return {"rows": rows, "columns": rows.reshape(len(x), -1, rows.shape[1]).mT.copy()}


def line_of(layer: Layer, operation: str, side: str, arrays: Arrays, **names: Any) -> tuple[list[Array], Function]:
    """Of a side, with the arrays that it takes: its function of them."""
    line = (CONVOLUTIONS | POOLS)[operation][side].format(n=len(layer.kernel_size))
    kept = {**vars(layer), "kernel_size": layer.kernel_size, "keywords": layer.keywords}
    parameters, function = function_of(line, arrays, kept | names)
    return [arrays[name] for name in parameters], function


def own_call(layer: Layer, operation: str, arrays: Arrays, library: LoadedBackend, method: str = "auto") -> Call:
    """xconv by one method, which pools have not."""
    return call_of(library, *line_of(layer, operation, XCONV, arrays, xconv=xconv, method=method))


def call_of(library: LoadedBackend, arrays: Sequence[Array], function: Function) -> Call:
    """A call on a library's arrays; under ``jax.jit`` on JAX, which returns when it is done.

    JAX's processors would work on several calls at once.
    """
    call = functools.partial(library.compile(function), *arrays)
    return (lambda: call().block_until_ready()) if library.name == "jax" else call


def torch_call(layer: Layer, operation: str, arrays: Arrays, library: LoadedBackend) -> Call:
    """As somebody with NumPy's arrays would call it: the conversions are part of the call. CuPy's are not."""
    torch = load_backend("torch").module
    modules = {"torch": torch, "F": torch.nn.functional, "G": torch.nn.grad}
    given, function = line_of(layer, operation, "torch", arrays, **modules)
    if library.name == "numpy":
        return lambda: function(*map(torch.from_numpy, given)).numpy()
    return functools.partial(function, *map(torch.from_dlpack, given))


def compiles_too_long(method: str, layer: Layer) -> str:
    """Why ``jax.jit`` is not to be waited for, or nothing."""
    if method in ("im2col", "toeplitz") and math.prod(layer.kernel_size) > COMPILED_TAPS:
        return f"more than {COMPILED_TAPS} taps compile too long"
    if method == "toeplitz" and math.prod(layer.weight_shape[:2]) // layer.groups > COMPILED_PAIRS:
        return f"more than {COMPILED_PAIRS} pairs of channel and filter compile too long"
    return ""
