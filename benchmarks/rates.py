"""Rates of an array library, each the time of one plain thing: what costs of methods are estimated from.

Products, copies and transforms are new arrays, as they are in the steps of a convolution: new memory takes its time.
"""

from __future__ import annotations

import functools
import json
import math
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from xconv._arrays.libraries import transforms
from xconv._plan import rates as of_package
from xconv._run.threads import cpu_count, for_each, one_blas_thread
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import require_packages
from xconv.demo.files import make_writable
from xconv.demo.machine import heading

from .comparison import SHOWN_BY, Run, bar_between_calls, on_equal_terms
from .layers import layer_of
from .lines import call_of, random, read, shapes_of
from .operations import arrays_of, own_call
from .report import show
from .timing import THOROUGH, Call, Stopwatch, repetitions

MEASURED_FILE = Path(of_package.__file__).with_name(of_package.FILE)
SECONDS = 20.0  # for all rates together
TASK_SECONDS = 5e-3  # of the work of a thread: handing it out takes a hundredth of that
MEBIBYTE = 2**18  # of float32, in elements
PIECES = 16  # of these are laid out at once; in blocks, as on NumPy, it is one
MOST = 256  # that no cache holds
Sizes = Mapping[str, int]  # by their names in lines


class Rate(NamedTuple):
    """A plain thing that a call does: a line of rates.toml, which says what each word means."""

    name: str
    of: str
    units: str
    besides: str
    line: str
    on: Any

    def value(self, nanoseconds: float, known: Mapping[str, float], sizes: Sizes) -> float:
        """The rate, by the time of a call and the rates further up; 0 if it is lost in noise."""
        if isinstance(self.on, str):
            counts = {name: math.prod(shape) for name, shape in shapes_of(self.on, sizes).items()}
        else:
            layer = layer_of("own", *self.on)
            counts = dict(zip(("x", "w", "dy"), map(math.prod, layer.shapes), strict=True))
            counts["adds"] = layer.multiply_adds
        besides = known.get("operation", 0.0) + eval(self.besides, {}, {**counts, **known})
        return float(max(0.0, nanoseconds - besides) / eval(self.units, {}, {**counts, **known}))


def rates_of(library: LoadedBackend) -> list[Rate]:
    """The table of what is measured."""
    tables = read("rates")
    return [Rate(*row) for row in (*tables["plain"], *tables.get(library.name, ()))]


def run_rates(options: Namespace) -> None:
    """Measure all rates of a library, print them, and write them to the folder, or also to the package."""
    make_writable(options.out)
    run = Run(library := load_backend(options.backend), options, [])
    table = rates_of(library)
    require_packages(SHOWN_BY, "test")
    with (
        on_equal_terms(library, options, replace(THOROUGH, total_seconds=SECONDS)) as stopwatch,
        bar_between_calls() as bar,
    ):
        task, start = bar.add_task(f"{len(table)} calls in turns", total=stopwatch.total_seconds), stopwatch.clock()

        def settle() -> None:
            bar.update(task, completed=stopwatch.clock() - start, refresh=True)
            stopwatch.settle()

        rates = measure_rates(table, library, replace(stopwatch, settle=settle), options.quick)
    kept = run.keep("rates", [{"name": one.name, "value": rates[one.name], "words": one.of} for one in table])
    show("rates", kept)
    if options.write:
        digits = {name: float(f"{value:.3g}") for name, value in rates.items()}
        write_row(library.name, {"machine": heading(kept["machine"]), **digits}, MEASURED_FILE)
        print(f"wrote them to {MEASURED_FILE}")


def measure_rates(table: list[Rate], library: LoadedBackend, stopwatch: Stopwatch, quick: bool) -> dict[str, float]:
    """All rates by their names, from calls that take turns: of NumPy on as many threads as xconv would have."""
    is_numpy, rates = library.name == "numpy", dict[str, float]()
    piece = MEBIBYTE * (1 if quick or is_numpy else PIECES)
    large = MEBIBYTE * (1 if quick else MOST) // (cpu_count() if is_numpy else 1)
    sizes = {"piece": piece, "lines": piece // 64, "runs": piece // 8, "large": large}
    makers = {rate.name: functools.partial(timed_call, rate, library, sizes) for rate in table}
    calls = {name: on_all_processors(make) if is_numpy else (make(), 1) for name, make in makers.items()}
    timings = stopwatch.interleave({name: call for name, (call, _) in calls.items()})
    for rate in table:
        nanoseconds = 1e9 * timings[rate.name]["median"] / calls[rate.name][1]
        rates[rate.name] = rate.value(nanoseconds, rates, sizes)
    return rates


def timed_call(rate: Rate, library: LoadedBackend, sizes: Sizes) -> Call:
    """The library's call on random float32 arrays."""
    if not isinstance(rate.on, str):
        layer = layer_of("own", *rate.on)
        own = {name: library.from_numpy(array) for name, array in arrays_of(layer, rate.line).items()}
        return own_call(layer, rate.line, own, library, "native")
    xp = library.module.numpy if library.name == "jax" else library.module
    if library.name == "torch":
        copy = functools.partial(xp.clone, memory_format=xp.contiguous_format)
    else:
        copy = functools.partial(xp.copy, **{} if library.name == "jax" else {"order": "C"})
    add = xp.add if library.name == "jax" else lambda a, b: xp.add(a, b, out=a)
    names = {"matmul": xp.matmul, "add": add, "copy": copy, "rfft2": transforms(xp).rfft2}
    arrays = {name: library.from_numpy(random(shape)) for name, shape in shapes_of(rate.on, sizes).items()}
    return call_of(rate.line, arrays, names, library)


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
