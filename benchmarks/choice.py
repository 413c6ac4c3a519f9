"""How well "auto" chooses: its loss against the best method by hand, on layers that were drawn at random."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from xconv.demo.backends import LoadedBackend, load_backend

from .devices import compile_quickly, forget_programs, full_precision, without_autograd
from .drawn import draw_layers
from .machine import Machine, describe_machine
from .measure import chosen_methods, measure_operation, problem_of, random_arrays
from .memory import keep_memory
from .numbers_file import prepare, write_numbers
from .peers.own import Own, load_methods
from .peers.peer import FORWARD, FUNCTIONS, INPUT_GRAD, Peer, Problem
from .results import METHOD_PREFIX, XCONV, Measurement, geometric_mean
from .suites import Layer, shrunk
from .table import add_columns, make_console
from .timing import QUICK, Limits, race, wait_until_quiet, within

LIMITS = Limits(
    5, 50, sample_seconds=1e-3, wake_seconds=5e-3, call_seconds=0.3, total_seconds=1.5, settle=wait_until_quiet
)

SHOWN = 0.05  # the loss above which a choice has a row
PERCENTILE = 90
ALL, AUTO = "all", "auto"

# Winograd by hand is only a candidate where "auto" may take it: where its error in float32 stays below 1e-5 of the
# largest output. That a faster method is less exact is not a loss.
EXACT_KERNEL = 3
EXACT_CHANNELS = 512


@dataclass(frozen=True)
class Choice:
    """What "auto" chose for one function of a layer, and what was found of it and of the methods by hand.

    Attributes
    ----------
    layer : Layer
    function : str
        One of xconv's, by its name.
    chosen : str
        The method, by `xconv.choose_method`.
    found : dict
        For "auto", under `AUTO`, and each method by hand a measurement, or the reason why there is none.
    """

    layer: Layer
    function: str
    chosen: str
    found: dict[str, Measurement | str]

    @property
    def seconds(self) -> dict[str, float]:
        """Every method's median. Auto's own stands for the chosen one's only if nobody could time that by hand."""
        by_hand = _medians(self.found)
        return {self.chosen: by_hand.pop(AUTO)} | by_hand

    @property
    def best(self) -> str:
        """The fastest method; the chosen one if it is no slower than any."""
        seconds = self.seconds
        return min(seconds, key=lambda name: (seconds[name], name != self.chosen))

    @property
    def loss(self) -> float:
        """The time of the method that was chosen / that of the best - 1: the same call, so exactly 0 for the best."""
        return self.seconds[self.chosen] / self.seconds[self.best] - 1

    @property
    def check(self) -> float | None:
        """The time of "auto" / that of the method that it chose by hand: the same call, so 1 but for noise."""
        medians = _medians(self.found)
        return medians[AUTO] / medians[self.chosen] if self.chosen in medians else None


@dataclass(frozen=True)
class Losses:
    """Of many choices: the geometric mean of 1 + loss, less 1, the 90th percentile, and the worst."""

    choices: int
    mean: float
    percentile: float
    worst: float


def summarize(losses: Sequence[float]) -> Losses:
    """Of at least one loss."""
    mean = geometric_mean(1 + loss for loss in losses) - 1
    return Losses(len(losses), mean, float(np.percentile(losses, PERCENTILE)), max(losses))


def losses_by_function(choices: Iterable[Choice]) -> dict[str, Losses]:
    """For each function, and all together."""
    found = [(choice.function, choice.loss) for choice in choices]
    functions = dict.fromkeys(function for function, _ in found)
    by_function = {name: summarize([loss for function, loss in found if function == name]) for name in functions}
    return by_function | {ALL: summarize([loss for _, loss in found])}


def may_be_taken(method: str, layer: Layer, operation: str) -> bool:
    """Whether a method by hand is a candidate: Winograd where it is exact enough, all others always."""
    filters, channels = layer.weight_shape[0] // layer.groups, layer.weight_shape[1]
    summed = {FORWARD: channels, INPUT_GRAD: filters}.get(operation, 1)
    return method != "winograd" or (max(layer.kernel_size) <= EXACT_KERNEL and summed <= EXACT_CHANNELS)


def run_choice(
    *, backend: str, layers: int, seed: int, seconds: float | None, quick: bool, out: Path | None, command: str
) -> None:
    """Time all methods on that many layers, print what "auto" loses, and write everything to the file."""
    library = load_backend(backend)
    prepare(out)
    if quick:
        compile_quickly(library)
    keeps_memory = not quick and keep_memory()
    limits = within(QUICK if quick else LIMITS, seconds)
    machine = describe_machine(library, (), command, keeps_memory)
    choices: list[Choice] = []
    with full_precision(backend), without_autograd():
        for number, drawn in enumerate(draw_layers(layers, seed), 1):
            layer = shrunk(drawn) if quick else drawn
            print(f"{number}/{layers}: {layer.name}", file=sys.stderr, flush=True)
            choices += measure_choices(layer, library, limits)
            forget_programs(library)
            _write(choices, machine, seed, quick, out)
    console = make_console()
    _print(console, choices, machine)
    if quick:
        console.print("Tiny layers: the times mean nothing.")


def measure_choices(layer: Layer, backend: LoadedBackend, limits: Limits) -> list[Choice]:
    """The three functions of a layer by "auto" and by every method that can do it, which must agree."""
    problem = problem_of(layer, backend, random_arrays(layer))
    chosen = chosen_methods(problem)
    return [_measure(problem, backend, operation, chosen[operation], limits) for operation in FUNCTIONS]


def _measure(problem: Problem, backend: LoadedBackend, operation: str, chosen: str, limits: Limits) -> Choice:
    layer = problem.layer
    auto = Own(backend, "auto")
    peers: list[Peer] = [auto, *load_methods(backend)]
    offers = [
        (peer, peer.operations(problem)[operation])
        for peer in peers
        if may_be_taken(peer.name.removeprefix(METHOD_PREFIX), layer, operation)
    ]
    expected = backend.to_numpy(auto.calls(problem)[operation]())
    timer = functools.partial(race, limits=limits)
    found = measure_operation(layer, backend, operation, offers, expected, timer)
    by_method = {AUTO if name == XCONV else name.removeprefix(METHOD_PREFIX): one for name, one in found.items()}
    return Choice(layer, FUNCTIONS[operation], chosen, by_method)


def _medians(found: dict[str, Measurement | str]) -> dict[str, float]:
    return {name: one.timing.median for name, one in found.items() if isinstance(one, Measurement)}


def _write(choices: Sequence[Choice], machine: Machine, seed: int, quick: bool, out: Path | None) -> None:
    """The layers so far: a run takes long, and may be stopped."""
    by_layer = {choice.layer: [one for one in choices if one.layer == choice.layer] for choice in choices}
    numbers = {
        "machine": asdict(machine),
        "quick": quick,
        "seed": seed,
        "losses": {function: asdict(losses) for function, losses in losses_by_function(choices).items()},
        "layers": [_layer_as_json(layer, functions) for layer, functions in by_layer.items()],
    }
    write_numbers(numbers, out)


def _layer_as_json(layer: Layer, choices: Sequence[Choice]) -> dict[str, Any]:
    return {
        **asdict(layer),
        "output_shape": layer.output_shape,
        "multiply_adds": layer.multiply_adds,
        "bytes": layer.bytes,
        "functions": {choice.function: _choice_as_json(choice) for choice in choices},
    }


def _choice_as_json(choice: Choice) -> dict[str, Any]:
    found = {
        name: {"absent": one} if isinstance(one, str) else {**asdict(one.timing), "deviation": one.error}
        for name, one in choice.found.items()
    }
    return {"chosen": choice.chosen, "best": choice.best, "loss": choice.loss, "methods": found}


def _print(console: Console, choices: Sequence[Choice], machine: Machine) -> None:
    console.print(_choice_table(choices))
    console.print(_losses_table(choices))
    checks = [choice.check for choice in choices if choice.check is not None]
    if checks:
        console.print(
            f'Identical calls, of "auto" and of the method that it chose, differed by factors from {min(checks):.2f} '
            f"to {max(checks):.2f}; their geometric mean is {geometric_mean(checks):.2f}.",
            highlight=False,
        )
    console.print(f"on {machine.heading}", highlight=False)


def _choice_table(choices: Sequence[Choice]) -> Table:
    """Where much is lost, the worst last, where one looks first."""
    table = Table(title=f"where auto loses more than {SHOWN:.0%} against the best method by hand", title_justify="left")
    add_columns(table, ("layer", "function", "chosen", "best"), ("loss",))
    for choice in sorted(choices, key=lambda choice: choice.loss):
        if choice.loss > SHOWN:
            table.add_row(choice.layer.name, choice.function, choice.chosen, choice.best, f"{choice.loss:.0%}")
    return table


def _losses_table(choices: Sequence[Choice]) -> Table:
    table = Table(title="what auto loses", title_justify="left")
    add_columns(table, ("function",), ("choices", "geometric mean", f"{PERCENTILE}th percentile", "worst"))
    for function, losses in losses_by_function(choices).items():
        shares = (f"{share:.1%}" for share in (losses.mean, losses.percentile, losses.worst))
        table.add_row(function, str(losses.choices), *shares)
    return table
