"""The one way in which calls are timed: side by side on the same arrays, once their results are known to be right."""

from __future__ import annotations

import contextlib
import datetime
import sys
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from xconv.demo.backends import BACKENDS, LoadedBackend, load_backend
from xconv.demo.errors import CommandError, first_line, fitted, require_packages
from xconv.demo.files import make_writable
from xconv.demo.machine import describe

from .report import Numbers, measured, show, write
from .timing import QUICK, THOROUGH, Call, Stopwatch

EVERYWHERE = [backend.name for backend in BACKENDS]
SHOWN_BY = "rich", "tabulate"
ERROR_LIMIT = 1e-3  # far above rounding in float32, far below the error of a wrong algorithm
ROUGH_LIMIT = 1e-2  # of results that have eleven bits


class WrongResultError(Exception):
    """Somebody, or xconv, computed something else, or failed: all that it was compared with is timed nevertheless."""


class Case(NamedTuple):
    """What is called on what, made when it is its turn, for arrays take room."""

    group: str
    name: str
    operation: str
    calls: Mapping[str, Call | str]  # how each side does it, xconv first, or why one does not
    expected: Any = None  # in place of what the first side computes
    facts: Mapping[str, Any] = {}  # what else is to be kept of it


class Run(NamedTuple):
    """What is timed in one run of a suite, and what is kept of it beside times."""

    library: LoadedBackend
    options: Namespace  # of the command line
    notes: list[str]

    def keep(self, kind: str, results: Sequence[Numbers]) -> Numbers:
        """Write what was found, and return it."""
        about = {"command": self.options.command, "date": datetime.date.today().isoformat()}
        found = {"machine": describe(self.library) | about, "quick": self.options.quick, "notes": self.notes}
        return write(kind, found | {"results": results}, self.options.out)


Cases: TypeAlias = tuple[int, Generator[Case]]  # how many, and each when the one before is done


class Suite(NamedTuple):
    """Cases of one kind."""

    cases: Callable[[Run], Cases]
    thorough: Stopwatch = THOROUGH
    backends: Sequence[str] = EVERYWHERE
    packages: tuple[str, ...] = ()  # that it needs


def carry_out(kind: str, suite: Suite, options: Namespace) -> None:
    """Time all cases, write the numbers after each, for a run takes long and may be stopped, and print them.

    Whatever is wrong or fails has no time, and fails the run at its end.
    """
    if options.backend not in suite.backends:
        there = " or ".join(suite.backends)
        raise CommandError(f"the suite {kind} is of arrays of {there}, got --backend {options.backend}")
    require_packages((*SHOWN_BY, *suite.packages), "test")
    make_writable(options.out)
    run, results, failures = Run(load_backend(options.backend), options, []), list[Numbers](), list[str]()
    count, cases = suite.cases(run)
    drawn, timed = bar_between_calls(), on_equal_terms(run.library, options, suite.thorough)
    with contextlib.closing(cases), drawn as bar, timed as stopwatch:
        for case in bar.track(cases, count, description=kind):
            bar.refresh()
            words = f"{case.group}, {case.name}, {case.operation}"
            timings = measure(case, run.library, stopwatch)
            tried = {side: found for side, found in timings.items() if callable(case.calls[side])}
            failures += [f"{words}, {side}: {found['absent']}" for side, found in tried.items() if "absent" in found]
            one = {"group": case.group, "name": case.name, "operation": case.operation, **case.facts}
            results.append(one | {"timings": timings})
            kept = run.keep(kind, results)
            bar.console.print(fitted(f"{words}: {measured(results[-1])}", hanging="  "), markup=False, highlight=False)
            run.library.forget()
    show(kind, kept)
    if failures:
        raise WrongResultError("; ".join(failures))


def bar_between_calls() -> Any:
    """A progress bar that is drawn when it is told to: a live display would take time from the calls."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), auto_refresh=False)


def measure(case: Case, library: LoadedBackend, stopwatch: Stopwatch) -> dict[str, Numbers]:
    """The times of each side whose result is as expected, or why there are none."""
    found, calls, expected = dict[str, Numbers](), dict[str, Call](), case.expected
    for side, call in case.calls.items():
        if isinstance(call, str):
            found[side] = {"absent": call}
            continue
        try:
            result = library.to_numpy(call())
            expected = result if expected is None else expected
            found[side] = {"error": checked_error(result, expected)}
            calls[side] = call
        except Exception as error:
            found[side] = {"absent": f"{type(error).__name__}: {first_line(error)}"}
    return found | {side: found[side] | timing for side, timing in stopwatch.interleave(calls).items()}


def checked_error(result: Any, expected: Any) -> float:
    """The largest difference relative to the largest element, or a `WrongResultError`."""
    if result.shape != expected.shape:
        raise WrongResultError(f"the result has shape {result.shape}, expected {expected.shape}")
    limit = ROUGH_LIMIT if result.dtype.itemsize == 2 else ERROR_LIMIT
    error = float(abs(result.astype("float64") - expected).max() / abs(expected).max())
    if not error <= limit:  # NaN included
        raise WrongResultError(f"the relative error is {error:.1e}, at most {limit:.0e} was expected")
    return error


@contextlib.contextmanager
def on_equal_terms(library: LoadedBackend, options: Namespace, thorough: Stopwatch) -> Iterator[Stopwatch]:
    """All of float32's bits in every library that is loaded, of which GPUs keep 11 unless told, and no autograd.

    Devices are waited for: many calls are under way on them at once.
    """
    with contextlib.ExitStack() as stack:
        for backend in BACKENDS:
            if module := sys.modules.get(backend.name):
                stack.enter_context(backend.full_precision(module))
        if torch := sys.modules.get("torch"):
            stack.enter_context(torch.no_grad())
        stopwatch = replace(QUICK if options.quick else thorough, finish=library.synchronize)
        yield stopwatch if options.seconds is None else replace(stopwatch, total_seconds=options.seconds)
