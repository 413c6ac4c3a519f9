"""One call of xconv's beside what others have for the same, many times over: measured, printed, written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xconv.demo.backends import load_backend
from xconv.demo.files import make_writable

from .devices import without_autograd
from .expected import checked_error
from .machine import describe_machine
from .measure import announce
from .peers.peer import Call
from .report import XCONV, finish
from .timing import Limits, interleave, limits_of


@dataclass(frozen=True)
class Comparison:
    """What is called, on what, and how each side calls it: xconv first."""

    group: str
    name: str
    calls: Callable[[], dict[str, Call]]


def run_compared(
    kind: str,
    comparisons: Sequence[Comparison],
    packages: tuple[str, ...],
    notes: Sequence[str] = (),
    *,
    seconds: float | None,
    quick: bool,
    out: Path,
    command: str,
) -> None:
    """Time them all, print the others' times by xconv's, and write the numbers to the folder."""
    make_writable(out)
    machine = describe_machine(load_backend("numpy"), packages, command)
    with without_autograd():
        results = [_measured(comparison, limits_of(quick, seconds)) for comparison in comparisons]
    finish(kind, machine, {"quick": quick, "notes": [*notes], "results": results}, out)


def _measured(comparison: Comparison, limits: Limits) -> dict[str, Any]:
    """All sides, whose results must agree."""
    where = f"{comparison.group}, {comparison.name}"
    announce(where)
    calls = comparison.calls()
    own = calls[XCONV]()
    for name in [name for name in calls if name != XCONV]:
        checked_error(own, calls[name](), f"{where}, {name}")
    timings = {name: asdict(timing) for name, timing in interleave(calls, limits).items()}
    return {"group": comparison.group, "name": comparison.name, "timings": timings}
