"""The one way in which calls are timed: side by side on the same arrays, once their results are known to be right."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from xconv.demo.backends import BACKENDS, LoadedBackend
from xconv.demo.errors import first_line, fitted, require_packages
from xconv.demo.files import make_writable

from .peers import BY_HAND
from .report import measured, show, write
from .timing import THOROUGH, Call, Limits, describe_machine, go_on, interleave, limits_of

Options: TypeAlias = Namespace  # of the command line
Found: TypeAlias = dict[str, Any]
ERROR_LIMIT = 1e-3  # far above rounding in float32, far below the error of a wrong algorithm
ROUGH_LIMIT = 1e-2  # of results that have eleven bits


class WrongResultError(Exception):
    """Somebody, or xconv, computed something else, or failed: all that it was compared with is timed nevertheless."""


class Sides(NamedTuple):
    """How each side does it, xconv first, or why one does not."""

    calls: Mapping[str, Call | str]
    expected: Any = None  # in place of what the first side computes
    facts: Mapping[str, Any] = {}  # what else is to be kept of the case,
    note: str = ""  # and of the run


@dataclass(frozen=True)
class Case:
    """What is called on what; arrays are made when it is their turn."""

    group: str
    name: str
    operation: str
    sides: Callable[[], Sides]

    @property
    def words(self) -> str:
        return f"{self.group}, {self.name}, {self.operation}"


def carry_out(
    kind: str,
    backend: LoadedBackend,
    cases: Sequence[Case],
    options: Options,
    notes: Sequence[str] = (),
    thorough: Limits = THOROUGH,
) -> None:
    """Time all cases, write the numbers after each, for a run takes long and may be stopped, and print them.

    Whatever is wrong or fails has no time, and fails the run at its end.
    """
    require_packages(("rich",))
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    make_writable(options.out)
    failures, limits = list[str](), limits_of(options.quick, options.seconds, thorough, finish_of(backend))
    found: Found = {"machine": {}, "quick": options.quick, "notes": [*notes], "results": []}
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    # Drawn between cases alone: a live display would take time from the calls.
    with (
        Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar,
        equal_terms(backend, options.quick),
    ):
        task = bar.add_task("", total=len(cases))
        for case in cases:
            bar.update(task, description=case.words, refresh=True)
            sides = case.sides()
            one = {"group": case.group, "name": case.name, "operation": case.operation, **sides.facts}
            found["results"].append(one | {"timings": measure(case.words, sides, backend, limits, failures)})
            found["notes"] += [sides.note] if sides.note else []
            found["machine"] = describe_machine(backend, options.command)
            write(kind, found, options.out)
            forget_programs(backend)
            line = f"{case.words}: {measured(found['results'][-1])}"
            bar.console.print(fitted(line, hanging="  "), markup=False, highlight=False)
            bar.update(task, advance=1)
    show(kind, found)
    if failures:
        raise WrongResultError("; ".join(failures))


def measure(words: str, sides: Sides, backend: LoadedBackend, limits: Limits, failures: list[str]) -> dict[str, Found]:
    """The times of each side whose result is as expected, or why there are none.

    Methods by hand refuse by a ValueError what they cannot do.
    """
    found, calls, expected = dict[str, Found](), dict[str, Call](), sides.expected
    for side, call in sides.calls.items():
        if isinstance(call, str):
            found[side] = {"absent": call}
            continue
        try:
            result = comparable(backend, call())
            expected = result if expected is None else expected
            found[side] = {"error": checked_error(result, expected, f"{words}, {side}")}
            calls[side] = waiting(backend, call)
        except Exception as error:
            found[side] = {"absent": f"{type(error).__name__}: {first_line(error)}"}
            if not (isinstance(error, ValueError) and side.startswith(BY_HAND)):
                failures.append(str(error) if isinstance(error, WrongResultError) else found[side]["absent"])
    for side, timing in interleave(calls, limits).items():
        found[side] = timing | found[side]
    return found


def checked_error(result: Any, expected: Any, where: str) -> float:
    """The largest difference relative to the largest element, or a `WrongResultError` that says where it is wrong."""
    if result.shape != expected.shape:
        raise WrongResultError(f"{where}: the result has shape {result.shape}, expected {expected.shape}")
    limit = ROUGH_LIMIT if result.dtype.itemsize == 2 else ERROR_LIMIT
    error = float(abs(result.astype("float64") - expected).max() / abs(expected).max())
    if not error <= limit:  # NaN included
        raise WrongResultError(f"{where}: the relative error is {error:.1e}, at most {limit:.0e} was expected")
    return error


def comparable(backend: LoadedBackend, array: Any) -> Any:
    """The array as NumPy's, or on a GPU as CuPy's, which compares faster than it comes from there."""
    return backend.module.from_dlpack(array) if backend.name == "cupy" else backend.to_numpy(array)


def waiting(backend: LoadedBackend, call: Call) -> Call:
    """The same call, which returns when JAX is done: its processors would work on several calls at once."""
    return (lambda: call().block_until_ready()) if backend.name == "jax" else call


def finish_of(backend: LoadedBackend) -> Call:
    """What waits for a GPU, on which many calls are under way at once: all streams, PyTorch's too."""
    if backend.name == "cupy":
        return backend.module.cuda.Device().synchronize  # type: ignore[no-any-return]
    on_gpu = backend.name == "torch" and backend.module.cuda.is_available()
    return backend.module.cuda.synchronize if on_gpu else go_on


@contextlib.contextmanager
def equal_terms(backend: LoadedBackend, quick: bool) -> Iterator[None]:
    """All of float32's bits in every library that is loaded, of which GPUs keep 11 unless told, and no autograd.

    In a quick run JAX compiles in half the time, without optimising.
    """
    if quick and backend.name == "jax":
        backend.module.config.update("jax_disable_most_optimizations", True)
    with contextlib.ExitStack() as stack:
        for library in BACKENDS:
            if module := sys.modules.get(library.name):
                stack.enter_context(library.full_precision(module))
        if torch := sys.modules.get("torch"):
            stack.enter_context(torch.no_grad())
        yield


def forget_programs(backend: LoadedBackend) -> None:
    """Give back what compiled calls hold: all layers by all methods would need more mappings than Linux allows."""
    if backend.name == "jax":
        backend.module.clear_caches()
