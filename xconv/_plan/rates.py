"""Nanoseconds of plain steps, by which methods are compared: ``python -m benchmarks rates --write`` measures them.

NumPy's are of all CPUs together, in float32. Only the ratios of a row matter.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from .remembered import loading
from .task import Steps

FILE = "measured.json"  # beside this one: by libraries, with machine and date


class Own(NamedTuple):
    """Nanoseconds of plain things that a library's own convolution does."""

    operation: float  # a call, however small
    multiplication: float  # with many channels, 64 to 64, 3x3
    reduction: float  # the same in its gradient by the filters
    moved: float  # an element of input or output brought into lanes of channels and back: 1 to 1, 3x3
    unfolded: float  # an element of the windows of its gradient by an input of few channels: 1 to 1, 9x9
    grouped: float  # a tap of an output where there are groups of one channel, 3x3
    grouped_reduction: float  # the same in its gradient by the filters, for each pair of channels


class Rates(NamedTuple):
    """A library on a kind of processor."""

    machine: str  # and versions, and the date
    steps: Steps
    uncached: float  # how many times longer a step over memory takes if no cache holds it
    own: Own | None = None


def _row(measured: dict[str, Any]) -> Rates:
    """Numbers by their names, of which those of the library's own convolution begin with ``own_``."""
    own = Own(*[measured[f"own_{name}"] for name in Own._fields]) if "own_operation" in measured else None
    steps = Steps(*[measured[name] for name in Steps._fields])
    return Rates(measured["machine"], steps, measured["uncached"], own)


@functools.cache
@loading
def rates_of(name: str) -> Rates:
    """The rates of a library; NumPy's if it is not known: they are those of plain loops."""
    import json  # which, as the other one, takes longer to load than all of this
    import pkgutil

    rows = json.loads(pkgutil.get_data(__package__, FILE) or "")
    return _row(rows.get(name, rows["numpy"]))
