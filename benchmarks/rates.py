"""Rates of an array library, each the time of one plain thing: what costs of methods are estimated from."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xconv._plan import measured
from xconv._plan.measured import MEASURED
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.files import make_writable

from .devices import compile_quickly, full_precision, waiting_calls, without_autograd
from .machine import Machine, describe_machine
from .peers.peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call
from .plain import OWN, PLAIN, Plain, Processors, all_processors, own_convolution
from .report import finish
from .suites import Layer, layer_of, square
from .timing import Limits, interleave, limits_of

MEASURED_FILE = Path(measured.__file__)
LANES = 16  # channels that fill a register
HEADING = (
    '"""Rates of libraries, as ``python -m benchmarks rates --write`` measured them."""\n\nfrom typing import Any\n\n'
)

SECONDS = 20.0  # for all rates together
MEBIBYTE = 2**18  # of float32, in elements
PIECE = 16 * MEBIBYTE  # that libraries lay out at once; in blocks, as on NumPy, it is one
LARGE, QUICK_LARGE = 256 * MEBIBYTE, 4 * MEBIBYTE
RUN = 8  # elements of a short run, of which each is the half of a row
SIDE = 4096
PLANES, EDGE = 4, 256  # of Fourier transforms
LOGARITHM = 2 * (EDGE.bit_length() - 1)


@dataclass(frozen=True)
class Rate:
    """A plain thing.

    Attributes
    ----------
    name : str
    words : str
        What takes so many nanoseconds.
    make : callable
        Makes a call that does it, given the library's plain calls.
    units : int
        How many of these things the call does.
    beyond : mapping
        What the call does besides, by the names of rates further up: their times are taken off. So is that of one
        operation, always.
    beside : str
        A rate further up that this one is divided by: then it is no time but a number.
    """

    name: str
    words: str
    make: Callable[[Plain], Call]
    units: int = 1
    beyond: Mapping[str, int] = field(default_factory=dict)
    beside: str = ""

    def value(self, nanoseconds: float, known: Mapping[str, float]) -> float:
        """The rate, by the time of a call and the rates further up; 0 if it is lost in noise."""
        besides = sum(count * known[name] for name, count in self.beyond.items())
        own = max(0.0, nanoseconds - known.get(OPERATION, 0.0) - besides) / self.units
        return own / known[self.beside] if self.beside else own


OPERATION = "operation"


def plain_rates(large: int, piece: int = MEBIBYTE) -> tuple[Rate, ...]:
    """The table of what is measured, on pieces of so many elements: a rate is the time of ..."""
    return (
        Rate(OPERATION, "any call, here adding 16 elements to others", lambda plain: plain.add((16,))),
        Rate(
            "multiplication",
            "a multiply-add of (32, 288) @ (288, 1568), filters of 3x3 by the windows of half an image of 56x56",
            lambda plain: plain.product((32, 288), (288, 1568)),
            units=32 * 288 * 1568,
        ),
        Rate(
            "packed",
            "an element of the right operand of (4, 288) @ (288, 1568), beyond its multiplications",
            lambda plain: plain.product((4, 288), (288, 1568)),
            units=288 * 1568,
            beyond={"multiplication": 4 * 288 * 1568},
        ),
        Rate(
            "written",
            "an element of the result of (64, 36) @ (36, 1568), beyond its multiplications",
            lambda plain: plain.product((64, 36), (36, 1568)),
            units=64 * 1568,
            beyond={"multiplication": 64 * 36 * 1568},
        ),
        Rate(
            "product",
            "one of a stack of 512 of (1, 9) @ (9, 196), beyond its multiplications",
            lambda plain: plain.product((512, 1, 9), (512, 9, 196)),
            units=512,
            beyond={"multiplication": 512 * 9 * 196},
        ),
        Rate(
            "copied",
            "an element copied in runs of 56, of a piece of memory",
            lambda plain: plain.copy((piece // 64, 64), lambda x: x[:, :56]),
            units=piece // 64 * 56,
        ),
        Rate(
            "strided",
            "an element copied, where every second one is, of rows of 56",
            lambda plain: plain.copy((piece // 64, 64), lambda x: x[:, :56:2]),
            units=piece // 64 * 28,
        ),
        Rate(
            "row",
            "beginning a run: copying runs of 8 elements of a larger array, beyond its elements",
            lambda plain: plain.copy((piece // RUN, 2 * RUN), lambda x: x[:, :RUN]),
            units=piece // RUN,
            beyond={"copied": piece},
        ),
        Rate(
            "transposed",
            "an element of a transposed copy of 4096x16",
            lambda plain: plain.copy((SIDE, 16), lambda x: x.T),
            units=SIDE * 16,
        ),
        Rate("added", "an element of a += b, of a piece of memory", lambda plain: plain.add((piece,)), units=piece),
        Rate(
            "uncached",
            "how many times longer than copied an element takes in arrays of 256 MiB, shared by all threads",
            lambda plain: plain.copy((large,), lambda x: x),
            units=large,
            beside="copied",
        ),
        Rate(
            "butterfly",
            "an element, by the logarithm of how many there are, of Fourier transforms of 4 real planes of 256x256",
            lambda plain: plain.transform((PLANES, EDGE, EDGE)),
            units=PLANES * EDGE**2 * LOGARITHM,
        ),
    )


def own_rates(backend: LoadedBackend) -> tuple[Rate, ...]:
    """The same of the library's own convolution, if it has one."""
    if backend.name not in OWN:
        return ()
    ordinary, narrow = square("own", "", 8, 56, 64, 64, 3), square("own", "", 1, 2048, 1, 1, 3)
    wide, depthwise = square("own", "", 1, 512, 1, 1, 9), layer_of("own", "", (8, 64, 56, 56), (64, 1, 3, 3), padding=1)

    def rate(
        name: str, words: str, layer: Layer, units: int, operation: str = FORWARD, multiplications: int = 0
    ) -> Rate:
        beyond = {"own_multiplication": multiplications} if multiplications else {}
        return Rate(name, words, lambda plain: own_convolution(backend, layer, operation), units, beyond)

    adds, taps = ordinary.multiply_adds, wide.multiply_adds
    return (
        rate("own_operation", "a call for 1 channel of 8x8", square("own", "", 1, 8, 1, 1, 3), 1),
        rate("own_multiplication", "a multiply-add of 3x3 from 64 to 64 channels", ordinary, adds),
        rate("own_reduction", "the same in its gradient by filters", ordinary, adds, WEIGHT_GRAD),
        rate(
            "own_moved",
            "an element of 16 lanes, of 3x3 from 1 to 1 channel, 2048x2048, beyond its multiplications",
            narrow,
            2 * LANES * 2048**2,
            multiplications=LANES * narrow.multiply_adds,
        ),
        rate(
            "own_unfolded",
            "a tap of the gradient of 9x9 by an input of 1 channel, beyond its multiplications",
            wide,
            taps,
            INPUT_GRAD,
            LANES**2 * taps,
        ),
        rate("own_grouped", "a tap of 3x3 in 64 groups of one channel, 56x56", depthwise, depthwise.multiply_adds),
    )


def run_rates(*, backend: str, seconds: float | None, quick: bool, out: Path, write: bool, command: str) -> None:
    """Measure all rates of a library, print them, and write them to the folder, or also to the package."""
    library = load_backend(backend)
    make_writable(out)
    if quick:
        compile_quickly(library)
    limits = limits_of(quick, seconds if quick or seconds is not None else SECONDS)
    machine = describe_machine(library, (), command)
    with full_precision(backend), without_autograd(), all_processors(library) as processors:
        piece = MEBIBYTE if quick or library.name == "numpy" else PIECE
        table = plain_rates((QUICK_LARGE if quick else LARGE) // processors.copies, piece) + own_rates(library)
        rates = measure_plain_rates(table, library, processors, limits)
    results = {rate.name: {"value": rates[rate.name], "words": rate.words} for rate in table}
    finish("rates", machine, {"quick": quick, "results": results}, out)
    if write:
        write_row(backend, _row(machine, rates), MEASURED_FILE)
        print(f"wrote them to {MEASURED_FILE}")


def _row(machine: Machine, rates: Mapping[str, float]) -> dict[str, Any]:
    """The rates to three digits, and where and when they were measured."""
    return {"machine": machine.heading, **{name: float(f"{value:.3g}") for name, value in rates.items()}}


def write_row(name: str, row: Mapping[str, Any], file: Path) -> None:
    """Put a library's rates in the place of its earlier ones: the file is the literal of a dict."""
    rows = json.dumps({**MEASURED, name: row}, indent=4)
    literal = re.sub(r"(?<=[^{,])\n(\s*})", r",\n\1", rows)
    file.write_text(f"{HEADING}MEASURED: dict[str, dict[str, Any]] = {literal}\n", encoding="utf-8")


def measure_plain_rates(
    table: Iterable[Rate], backend: LoadedBackend, processors: Processors, limits: Limits
) -> dict[str, float]:
    """All rates by their names, from calls that take turns."""
    plain = PLAIN[backend.name](backend)
    calls, units = {}, {}
    for rate in table:
        calls[rate.name], loops = processors.spread(functools.partial(rate.make, plain))
        units[rate.name] = loops * processors.copies
    timings = interleave(waiting_calls(backend, calls), limits)
    rates: dict[str, float] = {}
    for rate in table:
        rates[rate.name] = rate.value(1e9 * timings[rate.name].median / units[rate.name], rates)
    return rates
