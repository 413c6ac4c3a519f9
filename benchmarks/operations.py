"""What is timed of layers: xconv's operations on them, also by each of its methods, and PyTorch's."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from array_api_compat import array_namespace

import xconv
from xconv._methods import METHODS
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .comparison import Case, Cases, Run
from .layers import SUITES, Layer, draw_layers, shrunk
from .lines import Names, call_of, random, read
from .report import BY_HAND, XCONV
from .timing import Call

CONVOLUTIONS, POOLS = read("operations").values()
TORCH = ("numpy", "torch", "cupy")  # whose arrays PyTorch takes
OWN = ("native",)  # a library's own convolution, where it has one


def networks(run: Run) -> Cases:
    """The suites that were asked for, or all."""
    names = [name for name in run.options.suites if name in SUITES] or [name for name in SUITES if name != "pool"]
    return of_layers([layer for name in names for layer in SUITES[name]], CONVOLUTIONS, [*OWN, *pytorch(run)], run)


def choice(run: Run) -> Cases:
    """All methods on layers that were drawn."""
    run.notes.append(f"Layers of seed {run.options.seed}.")
    return of_layers(draw_layers(run.options.layers, run.options.seed), CONVOLUTIONS, [*METHODS, *OWN], run)


def pools(run: Run) -> Cases:
    return of_layers(SUITES["pool"], POOLS, pytorch(run), run)


def pytorch(run: Run) -> list[str]:
    """Whether it takes the library's arrays, and is installed."""
    try:
        load_backend("torch")
    except CommandError as reason:
        run.notes.append(f"left out: {reason}")
        return []
    return ["torch"] * (run.library.name in TORCH)


def of_layers(layers: Sequence[Layer], operations: Collection[str], sides: Sequence[str], run: Run) -> Cases:
    batch, dtype = run.options.batch, run.options.dtype
    sized = (replace(one, input_shape=(batch or one.input_shape[0], *one.input_shape[1:])) for one in layers)
    pairs = itertools.product(map(shrunk, sized) if run.options.quick else sized, operations)
    return len(layers) * len(operations), (case_of(*pair, sides, run.library, dtype) for pair in pairs)


def case_of(layer: Layer, operation: str, sides: Sequence[str], library: LoadedBackend, dtype: str = "float32") -> Case:
    """An operation by all sides, beside the result in float64, and what "auto" takes.

    float64's is by the method that adds nothing to rounding; a GPU finds its own.
    """
    given, facts = arrays_of(layer, operation, dtype), {}
    arrays = {name: library.from_numpy(array) for name, array in given.items()}
    calls: dict[str, Call | str] = {XCONV: own_call(layer, operation, arrays, library)}
    if "torch" in sides:
        calls["torch"] = torch_call(layer, operation, arrays, library)
    if operation in CONVOLUTIONS:
        function = CONVOLUTIONS[operation][XCONV].partition("(")[0].removeprefix("xconv.")
        words = {"dtype": arrays["x"].dtype, "function": function, **layer.keywords}
        plan = xconv.plan(layer.input_shape, layer.weight_shape, xp=array_namespace(arrays["x"]), **words)
        facts, reasons = {"chosen": plan.method}, dict(plan.reasons)
        for name in (name for name, _ in plan.costs if name in sides):
            calls[BY_HAND + name] = reasons.get(name) or own_call(layer, operation, arrays, library, name)
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


def own_call(layer: Layer, operation: str, arrays: Names, library: LoadedBackend, method: str = "auto") -> Call:
    """xconv by one method, which pools have not."""
    names = {"xconv": xconv, "layer": layer, "method": method}
    return call_of((CONVOLUTIONS | POOLS)[operation][XCONV], arrays, names, library)


def torch_call(layer: Layer, operation: str, arrays: Names, library: LoadedBackend) -> Call:
    """As somebody with NumPy's or CuPy's arrays would call it: the conversions are part of the call."""
    torch = load_backend("torch").module
    numpy, others = (torch.from_numpy, torch.Tensor.numpy), (torch.from_dlpack, library.module.from_dlpack)
    tensor, array = numpy if library.name == "numpy" else others
    names = {"torch": torch, "F": torch.nn.functional, "G": torch.nn.grad, "tensor": tensor, "array": array}
    line = (CONVOLUTIONS | POOLS)[operation]["torch"].format(n=len(layer.kernel_size))
    return call_of(line, arrays, names | {"layer": layer}, library)
