"""Rates of an array library, each the time of one plain thing: what costs of methods are estimated from.

Products, copies and transforms are new arrays, as they are in the steps of a convolution: new memory takes its time.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from xconv._arrays.libraries import transforms
from xconv._plan import rates as of_package
from xconv._run.threads import cpu_count, for_each, one_blas_thread
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.files import make_writable
from xconv.demo.machine import heading

from .comparison import Options, Run, on_equal_terms
from .layers import Ints, layer_of, random
from .peers import CONVOLUTIONS, call_of, numbers, own
from .report import show
from .timing import THOROUGH, Call, Stopwatch, repetitions

MEASURED_FILE = Path(of_package.__file__).with_name(of_package.FILE)
SECONDS = 20.0  # for all rates together
TASK_SECONDS = 5e-3  # of the work of a thread: handing it out takes a hundredth of that
MEBIBYTE = 2**18  # of float32, in elements
PIECE = 16 * MEBIBYTE  # that libraries lay out at once; in blocks, as on NumPy, it is one
LARGE, QUICK_LARGE = 256 * MEBIBYTE, 4 * MEBIBYTE
PLANES, LOGARITHM = (4, 256, 256), 16  # of Fourier transforms along two axes
LANES = 16  # channels that fill a register
OWN = ("jax", "torch")  # whose own convolution is estimated


class Rate(NamedTuple):
    """A plain thing that a call does, and how often."""

    name: str
    words: str  # what takes so many nanoseconds
    units: int  # of these things in a call
    what: str  # one of the plain calls, or an operation of the library's own convolution
    of: Any  # the shapes of its arrays, or a layer's batch and name
    view: Callable[[Any], Any] = lambda array: array
    beyond: Mapping[str, int] = {}  # what it does besides, by names further up: taken off
    beside: str = ""  # a rate further up that this one is divided by: then it is no time but a number

    def value(self, nanoseconds: float, known: Mapping[str, float]) -> float:
        """The rate, by the time of a call and the rates further up; 0 if it is lost in noise."""
        besides = known.get("operation", 0.0) + sum(count * known[name] for name, count in self.beyond.items())
        return max(0.0, nanoseconds - besides) / self.units / known.get(self.beside, 1.0)


def plain_rates(large: int, piece: int = MEBIBYTE) -> list[Rate]:
    """The table of what is measured, on pieces of so many elements: a rate is the time of ..."""

    def product(name: str, words: str, left: Ints, right: Ints, units: int) -> Rate:
        beyond = {"multiplication": math.prod(left) * right[-1]} if name != "multiplication" else {}
        return Rate(name, f"{words} {left} @ {right}", units, "product", [left, right], beyond=beyond)

    rows, runs, left, right = piece // 64, piece // 8, (32, 288), (288, 1568)
    return [
        Rate("operation", "any call, here adding 16 elements", 1, "add", [(16,), (16,)]),
        product("multiplication", "a multiply-add of", left, right, math.prod(left) * right[-1]),
        product("packed", "an element of b in", (4, 288), right, 288 * 1568),
        product("written", "an element of", (64, 36), (36, 1568), 64 * 1568),
        product("product", "each of", (512, 1, 9), (512, 9, 196), 512),
        Rate("copied", "an element copied, in runs of 56", rows * 56, "copy", [(rows, 64)], lambda x: x[:, :56]),
        Rate("strided", "an element copied, every second", rows * 28, "copy", [(rows, 64)], lambda x: x[:, :56:2]),
        Rate("row", "a run of 8 begun", runs, "copy", [(runs, 16)], lambda x: x[:, :8], {"copied": piece}),
        Rate("transposed", "an element transposed", 4096 * 16, "copy", [(4096, 16)], lambda x: x.T),
        Rate("added", "an element of a += b", piece, "add", [(piece,), (piece,)]),
        Rate("uncached", "times as long as copied, in 256 MiB", large, "copy", [(large,)], beside="copied"),
        Rate("butterfly", "an element of FFTs, by log2 of them", math.prod(PLANES) * LOGARITHM, "transform", [PLANES]),
    ]


def own_rates(library: LoadedBackend) -> list[Rate]:
    """The same of the library's own convolution, if it has one, by the paths that it takes."""

    def rate(name: str, words: str, of: tuple[int, str], units: float, moved: int = 0, what: str = "forward") -> Rate:
        """So many units for each multiply-add, beyond which it moves so many times its output."""
        layer = layer_of("own", *of)
        beyond = {"own_multiplication": layer.multiply_adds, "own_moved": moved * math.prod(layer.shapes[-1])}
        return Rate(f"own_{name}", words, round(units * layer.multiply_adds), what, of, beyond=beyond)

    wide, flat = (1, "3x3 256-256 @28"), (8, "1x1 24-24 @56")
    lanes = LANES if library.name == "torch" else 1
    wide_adds, flat_adds = (layer_of("own", *one).multiply_adds for one in (wide, flat))
    # Of one small sample PyTorch does not ask oneDNN.
    few = ("4 channels", (2, "3x3 4-4 @8")) if library.name == "torch" else ("1 channel", (1, "3x3 1-1 @8"))
    moved = 2 * flat_adds // 24**2 * (-(-24 // lanes) * lanes)  # of whole registers, as oneDNN has them
    beyond = {"own_multiplication": flat_adds}
    common = [
        Rate("own_operation", f"a call for {few[0]} of 8x8", 1, "forward", few[1]),
        Rate("own_multiplication", "a multiply-add of 3x3 256-256", wide_adds, "forward", wide),
        Rate("own_moved", "an element of x or y of 1x1 24-24", moved, "forward", flat, beyond=beyond),
    ]
    paths = {
        "torch": [
            rate("unfolded", "a tap of dw of 31 16-1", (8, "31 16-1 @4096"), 1, what="weight_grad"),
            rate("looped", "a tap of 17x17 in 3 groups of 1", (1, "17x17 3 dw @36"), 1)._replace(beyond={}),
            rate("grouped", "a tap of 13x13 in groups of 1", (8, "13x13 64 dw @28"), 1)._replace(beyond={}),
        ],
        "jax": [
            rate("unfolded", "an element of windows of 9x9 24-24 @48", (2, "9x9 24-24 @48 padded 0"), 1 / 24),
            rate("run", "a tap of a position of 3x3 4-16", (1, "3x3 4-16 @256"), 1 / 64, moved=1),
            rate("volume", "an element of windows of 3x3x3 16-16", (1, "3x3x3 16-16 @20"), 1 / 16),
            rate("spread", "the same of dx with stride 2", (1, "3x3x3/2 16-16 @20"), 8 / 16, what="input_grad"),
            rate("scattered", "the same of dx of 5x5/2 16-16", (2, "5x5/2 16-16 @56"), 1 / 16, what="input_grad"),
        ],
    }
    return common + paths[library.name] if library.name in OWN else []


def timed_call(rate: Rate, library: LoadedBackend) -> Call:
    """The library's call on random float32 arrays."""
    if rate.what in CONVOLUTIONS:
        layer = layer_of("own", *rate.of)
        arrays = [*map(library.from_numpy, numbers(layer, rate.what, "float32"))]
        return call_of(library, own(layer, rate.what, "native"), arrays)
    xp = library.module.numpy if library.name == "jax" else library.module
    if library.name == "torch":
        copy = functools.partial(xp.clone, memory_format=xp.contiguous_format)
    else:
        copy = functools.partial(xp.copy, **{} if library.name == "jax" else {"order": "C"})
    plain: dict[str, Callable[..., Any]] = {
        "product": xp.matmul,
        "add": xp.add if library.name == "jax" else lambda a, b: xp.add(a, b, out=a),
        "copy": lambda a: copy(rate.view(a)),
        "transform": lambda a: transforms(xp).rfft2(a),
    }
    return call_of(library, plain[rate.what], [library.from_numpy(random(shape)) for shape in rate.of])


def run_rates(options: Options) -> None:
    """Measure all rates of a library, print them, and write them to the folder, or also to the package."""
    make_writable(options.out)
    run = Run(library := load_backend(options.backend), options, [])
    is_numpy = library.name == "numpy"
    piece = MEBIBYTE if options.quick or is_numpy else PIECE
    table = plain_rates((QUICK_LARGE if options.quick else LARGE) // (cpu_count() if is_numpy else 1), piece)
    table += own_rates(library)
    with on_equal_terms(library, options, replace(THOROUGH, total_seconds=SECONDS)) as stopwatch:
        seconds = f"{stopwatch.total_seconds:.0f} s"  # without a bar, which would take time from the calls
        print(f"timing {len(table)} calls in turns: {seconds} behind their first ones", file=sys.stderr)
        rates = measure_rates(table, library, stopwatch)
    kept = run.keep("rates", [{"name": one.name, "value": rates[one.name], "words": one.words} for one in table])
    show("rates", kept)
    if options.write:
        digits = {name: float(f"{value:.3g}") for name, value in rates.items()}
        write_row(library.name, {"machine": heading(kept["machine"]), **digits}, MEASURED_FILE)
        print(f"wrote them to {MEASURED_FILE}")


def measure_rates(table: list[Rate], library: LoadedBackend, stopwatch: Stopwatch) -> dict[str, float]:
    """All rates by their names, from calls that take turns: of NumPy on as many threads as xconv would have."""
    makers = {rate.name: functools.partial(timed_call, rate, library) for rate in table}
    calls = {name: on_all_processors(make) if library.name == "numpy" else (make(), 1) for name, make in makers.items()}
    timings, rates = stopwatch.interleave({name: call for name, (call, _) in calls.items()}), dict[str, float]()
    for rate in table:
        rates[rate.name] = rate.value(1e9 * timings[rate.name]["median"] / calls[rate.name][1], rates)
    return rates


def on_all_processors(make: Callable[[], Call]) -> tuple[Call, int]:
    """A call that does the same on all, each with one thread of BLAS, as blocks are, and how often it does it.

    Each is repeated until handing it out does not matter.
    """
    calls = [make() for _ in range(cpu_count())]
    with one_blas_thread():
        loops = repetitions(TASK_SECONDS, THOROUGH.pace(calls[0]))

    def repeat(call: Call) -> None:
        with one_blas_thread():
            for _ in range(loops):
                call()

    return lambda: for_each(repeat, calls, len(calls)), loops * len(calls)


def write_row(name: str, row: Mapping[str, Any], file: Path) -> None:
    """Put a library's rates in the place of its earlier ones."""
    rows = json.loads(MEASURED_FILE.read_text(encoding="utf-8")) | {name: row}
    file.write_text(json.dumps(rows, indent=4) + "\n", encoding="utf-8")
