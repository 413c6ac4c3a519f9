"""Layers of networks and pools beside others'; and how well "auto" chooses, on layers drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend, load_backend

from .comparison import Case, Options, Run, Sides, carry_out
from .layers import SUITES, Layer, draw_layers, shrunk
from .peers import BY_HAND, FORWARD, FUNCTIONS, INPUT_GRAD, OPERATIONS, POOLED, Peer, Problem, load_peers, own
from .timing import Call, Limits, wait_until_quiet

CHOICE = Limits(5, 50, sample_seconds=1e-3, wake_seconds=5e-3, total_seconds=1.5, settle=wait_until_quiet)

# Winograd by hand is only a candidate where "auto" may take it: where its error in float32 stays below 1e-5 of the
# largest output. That a faster method is less exact is not a loss.
EXACT_KERNEL, EXACT_CHANNELS = 3, 512


def run_layers(options: Options) -> None:
    """Time the suites, or all, on the backend beside the peers, checked in float64."""
    names = [suite for suite in options.suites if suite in SUITES] or [suite for suite in SUITES if suite != "pool"]
    _carry_out("layers", [layer for name in names for layer in SUITES[name]], OPERATIONS, options)


def run_pools(options: Options) -> None:
    """The same of what is done with windows alone."""
    _carry_out("pool", SUITES["pool"], POOLED, options)


def run_choice(options: Options) -> None:
    """Time all methods on layers that were drawn, which must agree, and print what "auto" loses."""
    library = load_backend(options.backend)
    peers, _ = load_peers(library, ["methods"])
    cases = [
        case_of(layer, operation, candidates(peers, layer, operation), library, exact=False)
        for layer in _sized(draw_layers(options.layers, options.seed), options)
        for operation in OPERATIONS
    ]
    carry_out("choice", Run(library, cases, [f"Layers of seed {options.seed}."], CHOICE), options)


def _carry_out(kind: str, layers: Sequence[Layer], operations: Sequence[str], options: Options) -> None:
    library = load_backend(options.backend)
    peers, missing = load_peers(library, options.peers)
    cases = [
        case_of(layer, operation, peers, library, options.dtype)
        for layer in _sized(layers, options)
        for operation in operations
    ]
    carry_out(kind, Run(library, cases, missing), options)


def _sized(layers: Sequence[Layer], options: Options) -> list[Layer]:
    """Of the batch that was asked for, and tiny in a quick run."""
    batches = [options.batch or layer.input_shape[0] for layer in layers]
    found = [replace(one, input_shape=(n, *one.input_shape[1:])) for n, one in zip(batches, layers, strict=True)]
    return [shrunk(layer) for layer in found] if options.quick else found


def case_of(
    layer: Layer,
    operation: str,
    peers: Mapping[str, Peer],
    library: LoadedBackend,
    dtype: str = "float32",
    exact: bool = True,
) -> Case:
    """An operation by the peers, beside the result in float64, and what "auto" takes; else the layer is kept too."""

    def sides() -> Sides:
        arrays, facts = layer.arrays(dtype), {} if exact else asdict(layer)
        problem = Problem(layer, *map(library.from_numpy, arrays))
        if operation in FUNCTIONS:
            xp = array_api_compat.array_namespace(problem.x)
            words = {"xp": xp, "dtype": problem.x.dtype, "function": FUNCTIONS[operation], **layer.keywords}
            facts["chosen"] = xconv.choose_method(layer.input_shape, layer.weight_shape, **words)
        asked = [name for name in peers if operation in FUNCTIONS or not name.startswith(BY_HAND)]
        calls = {name: peers[name](problem, operation) for name in asked}
        return Sides(calls, expected_result(layer, operation, arrays, library) if exact else None, facts)

    return Case(layer.suite if dtype == "float32" else f"{layer.suite} {dtype}", layer.name, operation, sides)


def expected_result(layer: Layer, operation: str, arrays: Sequence[np.ndarray], library: LoadedBackend) -> Any:
    """That of the arrays' numbers in float64, by the method that adds nothing to rounding; a GPU finds its own."""
    library = library if library.name == "cupy" else load_backend("numpy")
    problem = Problem(layer, *(library.from_numpy(array.astype("float64")) for array in arrays))
    call = own(library, "im2col" if operation in FUNCTIONS else "auto")(problem, operation)
    return cast(Call, call)()


def candidates(peers: Mapping[str, Peer], layer: Layer, operation: str) -> dict[str, Peer]:
    """All, but Winograd by hand only where it is exact enough."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    exact = max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS
    return {name: peer for name, peer in peers.items() if exact or name != BY_HAND + "winograd"}
