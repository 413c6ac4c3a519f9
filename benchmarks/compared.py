"""One call of xconv's beside what others have for the same, many times over: measured, printed, written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from xconv.demo.backends import load_backend

from .devices import without_autograd
from .expected import checked_error
from .machine import describe_machine
from .memory import keep_memory
from .numbers_file import prepare, write_numbers
from .peers.peer import Call
from .results import XCONV, geometric_mean
from .table import add_columns, make_console
from .timing import QUICK, THOROUGH, Timing, interleave, within


@dataclass(frozen=True)
class Comparison:
    """What is called, on what, and how each side calls it: xconv first."""

    group: str
    name: str
    calls: Callable[[], dict[str, Call]]


@dataclass(frozen=True)
class Compared:
    """The times of all sides."""

    comparison: Comparison
    timings: Mapping[str, Timing]

    def ratio(self, peer: str) -> float | None:
        """The peer's time by xconv's: above 1, xconv is faster."""
        return self.timings[peer].median / self.timings[XCONV].median if peer in self.timings else None


def run_compared(
    title: str,
    comparisons: Sequence[Comparison],
    packages: tuple[str, ...],
    *,
    seconds: float | None,
    quick: bool,
    out: Path | None,
    command: str,
) -> None:
    """Time them all, print the others' times by xconv's, and write the numbers to the file."""
    prepare(out)
    keeps_memory = not quick and keep_memory()
    limits = within(QUICK if quick else THOROUGH, seconds)
    machine = describe_machine(load_backend("numpy"), packages, command, keeps_memory)
    with without_autograd():
        results = [_measured(title, comparison, limits) for comparison in comparisons]
    console = make_console()
    console.print(_table(title, results))
    console.print(_means(results))
    console.print(f"on {machine.heading}", highlight=False)
    if quick:
        console.print("Tiny arrays: the times mean nothing.")
    write_numbers({"machine": asdict(machine), "quick": quick, title: [*map(_as_json, results)]}, out)


def _measured(title: str, comparison: Comparison, limits: Any) -> Compared:
    """All sides, whose results must agree; another that would take very long is called once."""
    calls = comparison.calls()
    own = calls[XCONV]()
    others = [name for name in calls if name != XCONV]
    for name in others:
        checked_error(own, calls[name](), f"{title}, {comparison.group}, {comparison.name}, {name}")
    return Compared(comparison, interleave(calls, limits, expendable=others))


def peers_of(results: Sequence[Compared]) -> list[str]:
    """All but xconv, in the order in which they come."""
    return [name for name in dict.fromkeys(itertools.chain(*(result.timings for result in results))) if name != XCONV]


def _table(title: str, results: Sequence[Compared]) -> Table:
    peers = peers_of(results)
    table = Table(title=f"{title}: xconv's ms, and others' time / xconv's time", title_justify="left")
    add_columns(table, ("what", "on what"), ("ms", *peers))
    for result in results:
        milliseconds = 1e3 * result.timings[XCONV].median
        ratios = (_number(result.ratio(peer)) for peer in peers)
        table.add_row(result.comparison.group, result.comparison.name, f"{milliseconds:.3g}", *ratios)
    return table


def _means(results: Sequence[Compared]) -> Table:
    """Geometric means, and the least, of each group."""
    peers = peers_of(results)
    table = Table(title="geometric means (least)", title_justify="left")
    add_columns(table, ("what",), peers)
    for group in dict.fromkeys(result.comparison.group for result in results):
        cells = []
        for peer in peers:
            ratios = [result.ratio(peer) for result in results if result.comparison.group == group]
            known = [ratio for ratio in ratios if ratio is not None]
            cells.append(f"{geometric_mean(known):.2f} ({min(known):.2f})" if known else "-")
        table.add_row(group, *cells)
    return table


def _number(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _as_json(result: Compared) -> dict[str, Any]:
    return {
        "group": result.comparison.group,
        "name": result.comparison.name,
        "timings": {name: asdict(timing) for name, timing in result.timings.items()},
        "ratios": {name: result.ratio(name) for name in peers_of([result])},
    }
