"""Nanoseconds of plain steps, by which methods are compared: the data in `measured`.

NumPy's are of all CPUs together, in float32. Only the ratios of a row matter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .measured import MEASURED
from .task import Steps


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


RATES = {name: _row(measured) for name, measured in MEASURED.items()}


def rates_of(name: str) -> Rates:
    """The rates of a library; NumPy's if it is not known: they are those of plain loops."""
    return RATES.get(name, RATES["numpy"])
