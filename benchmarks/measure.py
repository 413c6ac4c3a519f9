"""The measurement of one layer: make its arrays, check every peer's results, time those that do it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend
from xconv.demo.errors import first_line

from .devices import Rates, waiting_calls, without_autograd
from .expected import checked_error, expected_results, place
from .peers.peer import FUNCTIONS, OPERATIONS, Call, Peer, Problem
from .results import LayerResult, Measurement
from .suites import Layer
from .timing import Limits, Timing, interleave

Timer = Callable[[Mapping[str, Call]], dict[str, Timing]]

SEED = 0


def measure_layer(
    layer: Layer, backend: LoadedBackend, peers: Sequence[Peer], limits: Limits, rates: Rates
) -> LayerResult:
    """Time the three operations of a layer, xconv's and all peers', the first of which is xconv."""
    arrays = random_arrays(layer)
    problem, expected = problem_of(layer, backend, arrays), expected_results(layer, *arrays)
    offers = [(peer, peer.operations(problem)) for peer in peers]
    timer = functools.partial(interleave, limits=limits, expendable={peer.name for peer in peers if peer.expendable})
    with without_autograd():
        operations = {
            operation: measure_operation(
                layer,
                backend,
                operation,
                [(peer, offer[operation]) for peer, offer in offers],
                expected[operation],
                timer,
            )
            for operation in OPERATIONS
        }
    return LayerResult(layer, chosen_methods(problem), rates.floor_seconds(layer), operations)


def measure_operation(
    layer: Layer,
    backend: LoadedBackend,
    operation: str,
    offers: Sequence[tuple[Peer, Call | str]],
    expected: np.ndarray,
    timer: Timer,
) -> dict[str, Measurement | str]:
    """One operation of all peers: a measurement of each whose result is as expected, or the reason for none."""

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
    timings = timer(waiting_calls(backend, calls))
    return {
        name: error if isinstance(error, str) else Measurement(timings[name], error) for name, error in found.items()
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
    return {operation: choose(function=function) for operation, function in FUNCTIONS.items()}
