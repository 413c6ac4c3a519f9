"""Layers of networks and pools beside others'; and how well "auto" chooses, on layers drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend, load_backend

from .comparison import Case, Options, Sides, carry_out
from .layers import SUITES, Layer, draw_layers, shrunk
from .peers import BY_HAND, FORWARD, FUNCTIONS, INPUT_GRAD, OPERATIONS, POOLED, Peer, Problem, load_peers, own
from .timing import THOROUGH, Call, Limits, wait_until_quiet

CHOICE = Limits(5, 50, sample_seconds=1e-3, wake_seconds=5e-3, total_seconds=1.5, settle=wait_until_quiet)

# Winograd by hand is timed where "auto" may take it: where its error in float32 stays below 1e-5 of the largest
# output. That a faster method is less exact is not a loss.
EXACT_KERNEL, EXACT_CHANNELS = 3, 512


def run_layers(options: Options) -> None:
    """Time the suites, or all, on the backend beside the peers."""
    names = [suite for suite in options.suites if suite in SUITES] or [suite for suite in SUITES if suite != "pool"]
    _time("layers", [layer for name in names for layer in SUITES[name]], OPERATIONS, options.peers, options)


def run_pools(options: Options) -> None:
    """The same of what is done with windows alone."""
    _time("pool", SUITES["pool"], POOLED, options.peers, options)


def run_choice(options: Options) -> None:
    """Time all methods on layers that were drawn, and print what "auto" loses."""
    layers, notes = draw_layers(options.layers, options.seed), [f"Layers of seed {options.seed}."]
    _time("choice", layers, OPERATIONS, ["methods"], options, notes, CHOICE)


def _time(
    kind: str,
    layers: Sequence[Layer],
    operations: Sequence[str],
    names: Sequence[str] | None,
    options: Options,
    notes: Sequence[str] = (),
    thorough: Limits = THOROUGH,
) -> None:
    library = load_backend(options.backend)
    peers, missing = load_peers(library, names)
    sized = [replace(one, input_shape=(options.batch or one.input_shape[0], *one.input_shape[1:])) for one in layers]
    cases = [
        case_of(shrunk(layer) if options.quick else layer, operation, options.dtype, peers, library)
        for layer in sized
        for operation in operations
    ]
    carry_out(kind, library, cases, options, [*missing, *notes], thorough)


def case_of(layer: Layer, operation: str, dtype: str, peers: Mapping[str, Peer], library: LoadedBackend) -> Case:
    """An operation by the peers, beside the result in float64, and what "auto" takes."""

    def sides() -> Sides:
        arrays, facts = layer.arrays(dtype), {}
        problem = Problem(layer, *map(library.from_numpy, arrays))
        if operation in FUNCTIONS:
            xp = array_api_compat.array_namespace(problem.x)
            words = {"xp": xp, "dtype": problem.x.dtype, "function": FUNCTIONS[operation], **layer.keywords}
            facts["chosen"] = xconv.choose_method(layer.input_shape, layer.weight_shape, **words)
        calls = {name: peer(problem, operation) for name, peer in peers.items() if may_be(name, layer, operation)}
        return Sides(calls, expected_result(layer, operation, arrays, library), facts)

    return Case(layer.suite if dtype == "float32" else f"{layer.suite} {dtype}", layer.name, operation, sides)


def expected_result(layer: Layer, operation: str, arrays: Sequence[np.ndarray], library: LoadedBackend) -> Any:
    """That of the arrays' numbers in float64, by the method that adds nothing to rounding; a GPU finds its own."""
    library = library if library.name == "cupy" else load_backend("numpy")
    problem = Problem(layer, *(library.from_numpy(array.astype("float64")) for array in arrays))
    call = own(library, "im2col" if operation in FUNCTIONS else "auto")(problem, operation)
    return cast(Call, call)()


def may_be(side: str, layer: Layer, operation: str) -> bool:
    """Whether a side can be asked: pools have no methods, and Winograd by hand is none where it is not exact enough."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    exact = max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS
    return (operation in FUNCTIONS or BY_HAND not in side) and (exact or side != BY_HAND + "winograd")
