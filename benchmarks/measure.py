"""The measurement of one layer: make its arrays, check every peer's results, time those that do it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend
from xconv.demo.errors import first_line

from .devices import Rates, waiting_calls, without_autograd
from .expected import checked_error, expected_results, place
from .peers.peer import OPERATIONS, Call, Peer, Problem
from .results import LayerResult, Measurement
from .suites import Ints, Layer
from .timing import Limits, interleave

SEED = 0


def measure_layer(
    layer: Layer, backend: LoadedBackend, peers: Sequence[Peer], limits: Limits, rates: Rates
) -> LayerResult:
    """Time the three operations of a layer, xconv's and all peers', the first of which is xconv."""
    problem, expected = _problem(layer, backend)
    offers = [(peer, peer.operations(problem)) for peer in peers]
    with without_autograd():
        operations = {
            operation: _measure(
                layer, backend, operation, [(peer, offer[operation]) for peer, offer in offers], expected, limits
            )
            for operation in OPERATIONS
        }
    return LayerResult(layer, _chosen_methods(problem), rates.floor_seconds(layer), operations)


def _measure(
    layer: Layer,
    backend: LoadedBackend,
    operation: str,
    offers: Sequence[tuple[Peer, Call | str]],
    expected: dict[str, np.ndarray],
    limits: Limits,
) -> dict[str, Measurement | str]:
    """One operation of all peers."""

    def check(peer: Peer, call: Call) -> float | str:
        """The call's error, or why it refuses."""
        try:
            result = backend.to_numpy(call())
        except peer.refusals as refusal:
            return first_line(refusal)
        return checked_error(result, expected[operation], place(layer, operation, peer.name))

    found = {peer.name: offer if isinstance(offer, str) else check(peer, offer) for peer, offer in offers}
    calls = {
        peer.name: offer for peer, offer in offers if not isinstance(offer, str) and isinstance(found[peer.name], float)
    }
    expendable = {peer.name for peer, _ in offers if peer.expendable}
    timings = interleave(waiting_calls(backend, calls), limits, expendable=expendable)
    return {
        name: error if isinstance(error, str) else Measurement(timings[name], error) for name, error in found.items()
    }


def _problem(layer: Layer, backend: LoadedBackend) -> tuple[Problem, dict[str, np.ndarray]]:
    """The layer with random arrays, and what the results should be."""
    generator = np.random.default_rng(SEED)

    def random(shape: Ints) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)

    x, w, dy = (random(shape) for shape in (layer.input_shape, layer.weight_shape, layer.output_shape))
    expected = expected_results(layer, x, w, dy)
    return Problem(layer, *(backend.from_numpy(array) for array in (x, w, dy))), expected


def _chosen_methods(problem: Problem) -> dict[str, str]:
    layer, xp = problem.layer, array_api_compat.array_namespace(problem.x)
    choose = functools.partial(
        xconv.choose_method, layer.input_shape, layer.weight_shape, xp=xp, dtype=problem.x.dtype, **layer.keywords
    )
    functions = ("conv", "conv_input_grad", "conv_weight_grad")
    return {operation: choose(function=function) for operation, function in zip(OPERATIONS, functions, strict=True)}
