"""Rates of an array library, each the time of one plain thing: what costs of methods are estimated from.

No code of xconv is in these calls. Products, copies and transforms are new arrays, as they are in the steps of a
convolution: new memory takes its time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import threadpoolctl

from xconv._arrays.libraries import transforms
from xconv._plan import measured
from xconv._plan.measured import MEASURED
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.files import make_writable

from . import report
from .comparison import equal_terms, waiting
from .layers import problem_of
from .machine import describe_machine
from .peers import FORWARD, INPUT_GRAD, PEERS, WEIGHT_GRAD
from .suites import Ints, Layer, layer_of, random
from .timing import Call, Limits, interleave, limits_of, repetitions, warm_up

MEASURED_FILE = Path(measured.__file__)
HEADING = (
    '"""Rates of libraries, as ``python -m benchmarks rates --write`` measured them."""\n\nfrom typing import Any\n\n'
)

SECONDS = 20.0  # for all rates together
TASK_SECONDS = 5e-3  # of the work of a thread: handing it out takes a hundredth of that
MEBIBYTE = 2**18  # of float32, in elements
PIECE = 16 * MEBIBYTE  # that libraries lay out at once; in blocks, as on NumPy, it is one
LARGE, QUICK_LARGE = 256 * MEBIBYTE, 4 * MEBIBYTE
LANES = 16  # channels that fill a register
RUN = 8  # elements of a short run, of which each is the half of a row
SIDE = 4096
PLANES = (4, 256, 256)  # of Fourier transforms
LOGARITHM = 2 * (PLANES[-1].bit_length() - 1)
OPERATION, MULTIPLICATION = "operation", "multiplication"
OWN = {"jax": "lax", "torch": "torch"}  # the peer that is the library's own convolution

View = Callable[[Any], Any]
# Makes a call that does copies of the same work at once, and says how often it does it.
Spread = Callable[[Callable[[], Call]], tuple[Call, int]]


def _of_numpy(xp: Any) -> dict[str, Callable[..., Any]]:
    copy, add = functools.partial(xp.array, order="C"), lambda a, b: xp.add(a, b, out=a)
    return {"product": xp.matmul, "add": add, "copy": copy, "transform": transforms(xp).rfft2}


# A matrix product, ``a += b``, a copy, and the Fourier transforms along the last two axes that are used for its arrays.
PLAIN: dict[str, Callable[[Any], dict[str, Callable[..., Any]]]] = {
    "numpy": _of_numpy,
    "cupy": _of_numpy,
    "torch": lambda torch: {
        "product": torch.matmul,
        "add": lambda a, b: a.add_(b),
        "copy": functools.partial(torch.clone, memory_format=torch.contiguous_format),
        "transform": torch.fft.rfft2,
    },
    "jax": lambda jax: {
        "product": jax.numpy.matmul,
        "add": jax.jit(jax.numpy.add, donate_argnums=0),
        "copy": jax.numpy.copy,
        "transform": jax.numpy.fft.rfft2,
    },
}


def plain_call(backend: LoadedBackend, what: str, *shapes: Ints, view: View = lambda x: x) -> Call:
    """A library's call for that, of views of random float32 arrays of these shapes; under ``jax.jit`` on JAX."""
    arrays = [backend.from_numpy(random(shape)) for shape in shapes]
    function = PLAIN[backend.name](backend.module)[what]
    if backend.name != "jax":
        return functools.partial(function, *map(view, arrays))
    if what != "add":
        return functools.partial(backend.compile(lambda *arrays: function(*map(view, arrays))), *arrays)

    def add() -> Any:
        """The first operand is given up, so that the sum is written over it."""
        arrays[0] = function(*arrays)
        return arrays[0]

    return add


def own_call(backend: LoadedBackend, layer: Layer, operation: str) -> Call:
    """A library's own convolution, forward or a gradient."""
    (peer,) = PEERS[OWN[backend.name]][1](backend).values()
    call = peer(problem_of(layer, backend))[operation]
    if isinstance(call, str):
        raise ValueError(call)
    return call


@dataclass(frozen=True)
class Rate:
    """A plain thing, and what takes so many nanoseconds of it."""

    name: str
    words: str
    make: Callable[[LoadedBackend], Call]  # makes a call that does it
    units: int  # of these things in a call
    beyond: Mapping[str, int] = field(
        default_factory=dict
    )  # what it does besides, by names further up; it is taken off
    beside: str = ""  # a rate further up that this one is divided by: then it is no time but a number

    def value(self, nanoseconds: float, known: Mapping[str, float]) -> float:
        """The rate, by the time of a call and the rates further up; 0 if it is lost in noise."""
        besides = sum(count * known[name] for name, count in self.beyond.items())
        own = max(0.0, nanoseconds - known.get(OPERATION, 0.0) - besides) / self.units
        return own / known[self.beside] if self.beside else own


def plain_rates(large: int, piece: int = MEBIBYTE) -> list[Rate]:
    """The table of what is measured, on pieces of so many elements: a rate is the time of ..."""

    def rate(
        name: str, words: str, what: str, shapes: list[Ints], units: int, view: View = lambda x: x, **more: Any
    ) -> Rate:
        def make(backend: LoadedBackend) -> Call:
            return plain_call(backend, what, *shapes, view=view)

        return Rate(name, words, make, units, **more)

    def product(name: str, words: str, left: Ints, right: Ints, units: int) -> Rate:
        beyond = {MULTIPLICATION: math.prod(left) * right[-1]}
        return rate(name, f"{words} {left} @ {right}", "product", [left, right], units, beyond=beyond)

    rows, left, right = piece // 64, (32, 288), (288, 1568)
    return [
        rate(OPERATION, "any call, here adding 16 elements", "add", [(16,), (16,)], 1),
        rate(MULTIPLICATION, f"a multiply-add of {left} @ {right}", "product", [left, right], 32 * 288 * 1568),
        product("packed", "an element of b in a @ b, of", (4, 288), right, 288 * 1568),
        product("written", "an element of the result of", (64, 36), (36, 1568), 64 * 1568),
        product("product", "one of a stack of", (512, 1, 9), (512, 9, 196), 512),
        rate("copied", "an element copied, in runs of 56", "copy", [(rows, 64)], rows * 56, lambda x: x[:, :56]),
        rate("strided", "an element copied, every second", "copy", [(rows, 64)], rows * 28, lambda x: x[:, :56:2]),
        rate(
            "row",
            "a run begun, of 8 elements",
            "copy",
            [(piece // RUN, 2 * RUN)],
            piece // RUN,
            lambda x: x[:, :RUN],
            beyond={"copied": piece},
        ),
        rate("transposed", "an element, transposed from 4096x16", "copy", [(SIDE, 16)], SIDE * 16, lambda x: x.T),
        rate("added", "an element of a += b", "add", [(piece,), (piece,)], piece),
        rate("uncached", "times as long as copied, in 256 MiB", "copy", [(large,)], large, beside="copied"),
        rate("butterfly", "an element of FFTs, by log2 of them", "transform", [PLANES], math.prod(PLANES) * LOGARITHM),
    ]


def own_rates(backend: LoadedBackend) -> list[Rate]:
    """The same of the library's own convolution, if it has one."""

    def rate(name: str, words: str, layer: Layer, operation: str = FORWARD, units: int = 0, lanes: int = 0) -> Rate:
        """Of one of so many units, or of a multiply-add, beyond the multiplications of so many lanes."""
        beyond = {"own_multiplication": lanes * layer.multiply_adds} if lanes else {}
        return Rate(
            name, words, lambda backend: own_call(backend, layer, operation), units or layer.multiply_adds, beyond
        )

    if backend.name not in OWN:
        return []
    wide, narrow = layer_of("own", 8, "3x3 64-64 @56"), layer_of("own", 1, "3x3 1-1 @2048")
    return [
        rate("own_operation", "a call for 1 channel of 8x8", layer_of("own", 1, "3x3 1-1 @8"), units=1),
        rate("own_multiplication", "a multiply-add of 3x3 64-64", wide),
        rate("own_reduction", "the same in its gradient by filters", wide, WEIGHT_GRAD),
        rate("own_moved", "an element of 16 lanes, of 3x3 1-1", narrow, units=2 * LANES * 2048**2, lanes=LANES),
        rate("own_unfolded", "a tap of dx of 9x9 1-1", layer_of("own", 1, "9x9 1-1 @512"), INPUT_GRAD, 0, LANES**2),
        rate("own_grouped", "a tap of 3x3 in groups of 1", layer_of("own", 8, "3x3 64 dw @56")),
    ]


def run_rates(*, backend: str, seconds: float | None, quick: bool, out: Path, write: bool, command: str) -> None:
    """Measure all rates of a library, print them, and write them to the folder, or also to the package."""
    library = load_backend(backend)
    make_writable(out)
    limits = limits_of(quick, seconds if quick or seconds is not None else SECONDS)
    with equal_terms(library, quick), all_processors(library) as (spread, copies):
        piece = MEBIBYTE if quick or library.name == "numpy" else PIECE
        table = plain_rates((QUICK_LARGE if quick else LARGE) // copies, piece) + own_rates(library)
        rates = measure_rates(table, library, spread, limits)
    machine = describe_machine(library, command)
    results = [{"name": rate.name, "value": rates[rate.name], "words": rate.words} for rate in table]
    run = {"machine": machine, "quick": quick, "notes": [], "results": results}
    report.show("rates", run)
    report.write("rates", run, out)
    if write:
        write_row(
            backend,
            {"machine": machine["heading"], **{name: float(f"{value:.3g}") for name, value in rates.items()}},
            MEASURED_FILE,
        )
        print(f"wrote them to {MEASURED_FILE}")


def measure_rates(table: Iterable[Rate], backend: LoadedBackend, spread: Spread, limits: Limits) -> dict[str, float]:
    """All rates by their names, from calls that take turns."""
    calls, counts = {}, {}
    for rate in table:
        call, counts[rate.name] = spread(functools.partial(rate.make, backend))
        calls[rate.name] = waiting(backend, call)
    timings = interleave(calls, limits)
    rates: dict[str, float] = {}
    for rate in table:
        rates[rate.name] = rate.value(1e9 * timings[rate.name].median / counts[rate.name], rates)
    return rates


@contextlib.contextmanager
def all_processors(backend: LoadedBackend) -> Iterator[tuple[Spread, int]]:
    """For as many copies as xconv would have threads, and for one where the library has its own.

    On NumPy, BLAS is held to one thread in each of them: so does xconv run its blocks.
    """
    if backend.name != "numpy":
        yield lambda make: (make(), 1), 1
        return
    one_blas_thread, threads = functools.partial(threadpoolctl.threadpool_limits, 1, "blas"), cpu_count()

    def spread(make: Callable[[], Call]) -> tuple[Call, int]:
        """Each is repeated until handing it out does not matter."""
        calls = [make() for _ in range(threads)]
        loops = repetitions(TASK_SECONDS, warm_up(calls[0]))

        def repeat(call: Call) -> None:
            for _ in range(loops):
                call()

        return lambda: list(pool.map(repeat, calls)), loops * threads

    with one_blas_thread(), ThreadPoolExecutor(threads, initializer=one_blas_thread) as pool:
        yield spread, threads


def write_row(name: str, row: Mapping[str, Any], file: Path) -> None:
    """Put a library's rates in the place of its earlier ones: the file is the literal of a dict."""
    rows = json.dumps({**MEASURED, name: row}, indent=4)
    literal = re.sub(r"(?<=[^{,])\n(\s*})", r",\n\1", rows)
    file.write_text(f"{HEADING}MEASURED: dict[str, dict[str, Any]] = {literal}\n", encoding="utf-8")
