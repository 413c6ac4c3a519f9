"""How well "auto" chooses: its loss against the best method by hand, on layers that were drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.files import make_writable

from .devices import compile_quickly, forget_programs, full_precision, without_autograd
from .drawn import draw_layers
from .machine import describe_machine
from .measure import announce, chosen_methods, measure_operation, problem_of, random_arrays
from .peers.own import Own, load_methods
from .peers.peer import FORWARD, FUNCTIONS, INPUT_GRAD, Peer, Problem
from .report import METHOD_PREFIX, XCONV, finish, geometric_mean, write
from .suites import Layer, shrunk
from .timing import Limits, limits_of, wait_until_quiet

LIMITS = Limits(5, 50, sample_seconds=1e-3, wake_seconds=5e-3, total_seconds=1.5, settle=wait_until_quiet)

PERCENTILE = 90
ALL, AUTO = "all", "auto"

# Winograd by hand is only a candidate where "auto" may take it: where its error in float32 stays below 1e-5 of the
# largest output. That a faster method is less exact is not a loss.
EXACT_KERNEL = 3
EXACT_CHANNELS = 512


def run_choice(
    *, backend: str, layers: int, seed: int, seconds: float | None, quick: bool, out: Path, command: str
) -> None:
    """Time all methods on that many layers, print what "auto" loses, and write everything to the folder."""
    library = load_backend(backend)
    make_writable(out)
    if quick:
        compile_quickly(library)
    machine, limits = describe_machine(library, (), command), limits_of(quick, seconds, LIMITS)
    results: list[dict[str, Any]] = []
    run: dict[str, Any] = {"machine": machine.as_json(), "quick": quick, "seed": seed, "results": results}
    with full_precision(backend), without_autograd():
        for number, drawn in enumerate(draw_layers(layers, seed), 1):
            announce(f"{number}/{layers}: {drawn.name}")
            layer = shrunk(drawn) if quick else drawn
            results.append({**asdict(layer), "functions": measure_choices(layer, library, limits)})
            forget_programs(library)
            run["losses"] = losses_by_function(results)
            write("choice", machine, run, out)
    finish("choice", machine, run, out)


def losses_by_function(layers: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each function, and all together."""
    functions = [(name, one["loss"]) for layer in layers for name, one in layer["functions"].items()]
    names = dict.fromkeys(name for name, _ in functions)
    by_function = {name: summarize([loss for other, loss in functions if other == name]) for name in names}
    return by_function | {ALL: summarize([loss for _, loss in functions])}


def summarize(losses: Sequence[float]) -> dict[str, float]:
    """Of at least one loss: the geometric mean of 1 + loss, less 1, the 90th percentile, and the worst."""
    mean = geometric_mean(1 + loss for loss in losses) - 1
    percentile = float(np.percentile(losses, PERCENTILE))
    return {"choices": len(losses), "mean": mean, "percentile": percentile, "worst": max(losses)}


def may_be_taken(method: str, layer: Layer, operation: str) -> bool:
    """Whether a method by hand is a candidate: Winograd where it is exact enough, all others always."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    return method != "winograd" or (max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS)


def measure_choices(layer: Layer, backend: LoadedBackend, limits: Limits) -> dict[str, dict[str, Any]]:
    """The three functions of a layer by "auto" and by every method that can do it, which must agree."""
    problem = problem_of(layer, backend, random_arrays(layer))
    chosen = chosen_methods(problem)
    return {
        function: judged(chosen[operation], _measure(problem, backend, operation, limits))
        for operation, function in FUNCTIONS.items()
    }


def judged(chosen: str, methods: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What was chosen, the fastest method, and the loss: exactly 0 where they are the same or equally fast.

    Auto's own time stands for the chosen one's only if nobody could time that by hand.
    """
    by_hand = {name: one["median"] for name, one in methods.items() if "median" in one}
    seconds = {chosen: by_hand.pop(AUTO)} | by_hand
    best = min(seconds, key=lambda name: (seconds[name], name != chosen))
    return {"chosen": chosen, "best": best, "loss": seconds[chosen] / seconds[best] - 1, "methods": methods}


def _measure(problem: Problem, backend: LoadedBackend, operation: str, limits: Limits) -> dict[str, dict[str, Any]]:
    layer = problem.layer
    auto = Own(backend, "auto")
    peers: list[Peer] = [auto, *load_methods(backend)]
    offers = [
        (peer, peer.operations(problem)[operation])
        for peer in peers
        if may_be_taken(peer.name.removeprefix(METHOD_PREFIX), layer, operation)
    ]
    expected = backend.to_numpy(auto.calls(problem)[operation]())
    found = measure_operation(layer, backend, operation, offers, expected, limits)
    return {AUTO if name == XCONV else name.removeprefix(METHOD_PREFIX): one for name, one in found.items()}
