"""The one way in which calls are timed: side by side on the same arrays, once their results are known to be right."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from xconv.demo.backends import BACKENDS, LoadedBackend
from xconv.demo.errors import first_line
from xconv.demo.files import make_writable

from .machine import describe_machine
from .peers import BY_HAND
from .report import show, write
from .timing import THOROUGH, Call, Limits, interleave, limits_of

Options: TypeAlias = Namespace  # of the command line
ERROR_LIMIT = 1e-3  # far above rounding in float32, far below the error of a wrong algorithm


class WrongResultError(Exception):
    """Somebody, or xconv, computed something else: its time means nothing."""


@dataclass(frozen=True)
class Comparison:
    """What is called on what, and how each side does it, xconv first; or why one does not."""

    group: str
    name: str
    calls: Mapping[str, Call | str]
    expected: Any = None  # in place of what the first side computes
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else is to be kept
    limit: float = ERROR_LIMIT  # of errors relative to the largest element

    @property
    def words(self) -> str:
        return ", ".join(filter(None, [self.group, self.name, self.facts.get("operation")]))


def run_comparisons(
    kind: str,
    backend: LoadedBackend,
    comparisons: Iterable[Comparison],
    options: Options,
    notes: Sequence[str] = (),
    thorough: Limits = THOROUGH,
) -> None:
    """Time them all, write the numbers to the folder after each, for a run takes long and may be stopped, and print."""
    make_writable(options.out)
    limits = limits_of(options.quick, options.seconds, thorough)
    run: dict[str, Any] = {"machine": {}, "quick": options.quick, "notes": [*notes], "results": []}
    for comparison in comparisons:
        announce(comparison.words)
        with equal_terms(backend, options.quick):
            run["results"].append(measure(comparison, backend, limits))
        run["machine"] = describe_machine(backend, options.command)
        write(kind, run, options.out)
        forget_programs(backend)
    show(kind, run)


def announce(what: str) -> None:
    """Say what is next: a live display would take time from it."""
    print(what, file=sys.stderr, flush=True)


def measure(
    comparison: Comparison, backend: LoadedBackend, limits: Limits, on_device: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """The times of each side whose result is as expected, or why there are none.

    Methods by hand refuse by a ValueError what they cannot do. With ``on_device``, which makes float64 of a result
    where it is, whatever goes wrong is told, and calls are waited for where the limits say so.
    """
    expected, calls = comparison.expected, {}
    found: dict[str, dict[str, Any]] = {}
    for side, call in comparison.calls.items():
        if isinstance(call, str):
            found[side] = {"absent": call}
            continue
        try:
            result = (on_device or backend.to_numpy)(call())
            expected = result if expected is None else expected
            found[side] = {"error": checked_error(result, expected, f"{comparison.words}, {side}", comparison.limit)}
        except Exception as error:
            if not (on_device or (isinstance(error, ValueError) and side.startswith(BY_HAND))):
                raise
            found[side] = {"absent": f"{type(error).__name__}: {first_line(error)}"}
        else:
            calls[side] = call if on_device else waiting(backend, call)
    for side, timing in interleave(calls, limits).items():
        found[side] = {**asdict(timing), **found[side]}
    return {"group": comparison.group, "name": comparison.name, **comparison.facts, "timings": found}


def checked_error(result: Any, expected: Any, where: str, limit: float = ERROR_LIMIT) -> float:
    """The largest difference relative to the largest element, or a `WrongResultError` that says where it is wrong."""
    if result.shape != expected.shape:
        raise WrongResultError(f"{where}: the result has shape {result.shape}, expected {expected.shape}")
    error = float(abs(result.astype("float64") - expected).max() / abs(expected).max())
    if not error <= limit:  # NaN included
        raise WrongResultError(f"{where}: the relative error is {error:.1e}, at most {limit:.0e} was expected")
    return error


def waiting(backend: LoadedBackend, call: Call) -> Call:
    """The same call, which returns when the device is done."""
    if backend.name == "jax":
        return lambda: call().block_until_ready()
    if backend.name == "cupy":
        device = backend.module.cuda.Device()
        return lambda: (call(), device.synchronize())  # all streams, PyTorch's too
    if backend.name == "torch" and backend.module.cuda.is_available():
        return lambda: (call(), backend.module.cuda.synchronize())
    return call


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
