"""The measurement of layers: make their arrays, check every peer's results, time those that do it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import first_line
from xconv.demo.files import make_writable

from .devices import compile_quickly, forget_programs, full_precision, waiting_calls, without_autograd
from .expected import checked_error, expected_results, place
from .machine import describe_machine
from .peers import load_peers
from .peers.peer import FUNCTIONS, OPERATIONS, Call, Peer, Problem
from .report import finish, write
from .suites import SUITES, Layer, shrunk
from .timing import Limits, interleave, limits_of

SEED = 0


def run_layers(
    *,
    backend: str,
    suites: Sequence[str],
    peers: Sequence[str] | None,
    out: Path,
    quick: bool,
    seconds: float | None,
    command: str,
) -> None:
    """Time the suites on the backend beside the peers, all that apply if None; finished suites are written at once."""
    library = load_backend(backend)
    rivals, missing = load_peers(library, peers)
    make_writable(out)
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    if quick:
        compile_quickly(library)
    packages = tuple(package for rival in rivals for package in rival.packages)
    machine = describe_machine(library, packages, command)
    run: dict[str, Any] = {"machine": machine.as_json(), "quick": quick, "missing_peers": missing, "results": []}
    with full_precision(backend, *packages), without_autograd():
        for suite in suites:
            for layer in SUITES[suite]:
                announce(f"{suite}: {layer.name}")
                tiny = shrunk(layer) if quick else layer
                run["results"].append(measure_layer(tiny, library, rivals, limits_of(quick, seconds)))
            write("layers", machine, run, out)  # a run takes long, and may be stopped
            forget_programs(library)
    finish("layers", machine, run, out)


def announce(what: str) -> None:
    """Say what is next: a live display would take time from it."""
    print(what, file=sys.stderr, flush=True)


def measure_layer(layer: Layer, backend: LoadedBackend, peers: Sequence[Peer], limits: Limits) -> dict[str, Any]:
    """Time the three operations of a layer, xconv's and all peers', the first of which is xconv."""
    arrays = random_arrays(layer)
    problem, expected = problem_of(layer, backend, arrays), expected_results(layer, *arrays)
    offers = [(peer, peer.operations(problem)) for peer in peers]
    operations = {
        name: measure_operation(layer, backend, name, [(peer, offer[name]) for peer, offer in offers], right, limits)
        for name, right in expected.items()
    }
    return {**asdict(layer), "methods": chosen_methods(problem), "operations": operations}


def measure_operation(
    layer: Layer,
    backend: LoadedBackend,
    operation: str,
    offers: Sequence[tuple[Peer, Call | str]],
    expected: np.ndarray,
    limits: Limits,
) -> dict[str, dict[str, Any]]:
    """One operation of all peers: the times of each whose result is as expected, or the reason for none."""

    def check(peer: Peer, call: Call) -> float | str:
        """The call's error, or why it refuses."""
        try:
            result = backend.to_numpy(call())
        except peer.refusals as refusal:
            return first_line(refusal)
        return checked_error(result, expected, place(layer, operation, peer.name))

    found = {peer.name: offer if isinstance(offer, str) else check(peer, offer) for peer, offer in offers}
    calls = {
        peer.name: offer for peer, offer in offers if not isinstance(offer, str) and isinstance(found[peer.name], float)
    }
    timings = interleave(waiting_calls(backend, calls), limits)
    return {
        name: {"absent": error} if isinstance(error, str) else {**asdict(timings[name]), "relative_error": error}
        for name, error in found.items()
    }


def random_arrays(layer: Layer) -> tuple[np.ndarray, ...]:
    """x, w and dy, the same for the same layer."""
    generator = np.random.default_rng(SEED)
    shapes = (layer.input_shape, layer.weight_shape, layer.output_shape)
    return tuple(generator.standard_normal(shape, dtype=np.float32) for shape in shapes)


def problem_of(layer: Layer, backend: LoadedBackend, arrays: Sequence[np.ndarray]) -> Problem:
    """The layer with these arrays as the backend's own."""
    return Problem(layer, *(backend.from_numpy(array) for array in arrays))


def chosen_methods(problem: Problem) -> dict[str, str]:
    """What "auto" takes for each operation."""
    layer, xp = problem.layer, array_api_compat.array_namespace(problem.x)
    choose: Callable[..., str] = functools.partial(
        xconv.choose_method, layer.input_shape, layer.weight_shape, xp=xp, dtype=problem.x.dtype, **layer.keywords
    )
    return {operation: choose(function=FUNCTIONS[operation]) for operation in OPERATIONS}
