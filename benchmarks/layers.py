"""Layers of networks, all three operations beside others'; and how well "auto" chooses, on layers drawn at random."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import array_api_compat
import numpy as np

import xconv
from xconv.demo.backends import LoadedBackend, load_backend

from .comparison import ERROR_LIMIT, Comparison, Options, announce, run_comparisons
from .drawn import draw_layers
from .peers import BY_HAND, FORWARD, FUNCTIONS, INPUT_GRAD, OPERATIONS, WEIGHT_GRAD, Peer, Problem, load_peers
from .suites import SUITES, Layer, shrunk
from .timing import Limits, wait_until_quiet

CHOICE = Limits(5, 50, sample_seconds=1e-3, wake_seconds=5e-3, total_seconds=1.5, settle=wait_until_quiet)

# Winograd by hand is only a candidate where "auto" may take it: where its error in float32 stays below 1e-5 of the
# largest output. That a faster method is less exact is not a loss.
EXACT_KERNEL = 3
EXACT_CHANNELS = 512


def run_layers(options: Options) -> None:
    """Time the suites, or all, on the backend beside the peers, checked in float64."""
    library = load_backend(options.backend)
    peers, missing = load_peers(library, options.peers)
    for reason in missing:
        announce(reason)

    def comparisons() -> Iterator[Comparison]:
        for suite in [suite for suite in options.suites if suite in SUITES] or SUITES:
            for layer in (shrunk(layer, options.quick) for layer in SUITES[suite]):
                yield from of_layer(problem_of(layer, library), peers, expected_results(layer, *layer.arrays()))

    run_comparisons("layers", library, comparisons(), options, missing)


def run_choice(options: Options) -> None:
    """Time all methods on layers that were drawn, which must agree, and print what "auto" loses."""
    library = load_backend(options.backend)
    peers, _ = load_peers(library, ["methods"])

    def comparisons() -> Iterator[Comparison]:
        for layer in (shrunk(layer, options.quick) for layer in draw_layers(options.layers, options.seed)):
            for one in of_layer(problem_of(layer, library), peers):
                operation = one.facts["operation"]
                calls = {name: call for name, call in one.calls.items() if may_be_taken(name, layer, operation)}
                yield replace(one, calls=calls, facts={**asdict(layer), **one.facts})

    run_comparisons("choice", library, comparisons(), options, [f"Layers of seed {options.seed}."], CHOICE)


def problem_of(layer: Layer, backend: LoadedBackend) -> Problem:
    """The layer with its arrays as the backend's own."""
    return Problem(layer, *map(backend.from_numpy, layer.arrays()))


def of_layer(
    problem: Problem,
    peers: Mapping[str, Peer],
    expected: Mapping[str, Any] | None = None,
    operations: Iterable[str] = OPERATIONS,
    limit: float = ERROR_LIMIT,
) -> Iterator[Comparison]:
    """A comparison for each operation, which says what "auto" takes."""
    layer, xp = problem.layer, array_api_compat.array_namespace(problem.x)
    offers = {name: peer(problem) for name, peer in peers.items()}
    choose: Callable[..., str] = functools.partial(
        xconv.choose_method, layer.input_shape, layer.weight_shape, xp=xp, dtype=problem.x.dtype, **layer.keywords
    )
    for operation in operations:
        facts = {"operation": operation, "chosen": choose(function=FUNCTIONS[operation])}
        calls = {name: offer[operation] for name, offer in offers.items()}
        yield Comparison(layer.suite, layer.name, calls, expected and expected[operation], facts, limit)


def expected_results(layer: Layer, *arrays: np.ndarray) -> dict[str, np.ndarray]:
    """The three results of the arrays' numbers in float64, by the method that adds nothing to rounding."""
    x, w, dy = (array.astype(np.float64) for array in arrays)
    keywords = layer.keywords | {"method": "im2col"}
    return {
        FORWARD: xconv.conv(x, w, **keywords),
        INPUT_GRAD: xconv.conv_input_grad(dy, w, layer.input_shape, **keywords),
        WEIGHT_GRAD: xconv.conv_weight_grad(dy, x, layer.kernel_size, **keywords),
    }


def may_be_taken(side: str, layer: Layer, operation: str) -> bool:
    """Whether a side is a candidate: Winograd by hand where it is exact enough, all others always."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    return side != BY_HAND + "winograd" or (max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS)
