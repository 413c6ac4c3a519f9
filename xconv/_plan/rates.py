"""Nanoseconds of plain steps, by which methods are compared: ``python -m benchmarks rates --write`` measures them.

NumPy's are of all CPUs together, in float32. Only the ratios of a row matter.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from .remembered import loading
from .task import Steps

FILE = "measured.json"  # beside this one: by libraries, with machine and date


class Own(NamedTuple):
    """Nanoseconds of plain things that a library's own convolution does; 0 of what it never does."""

    operation: float  # a call, however small
    multiplication: float  # with many channels, 256 to 256, 3x3
    moved: float  # an element of input or output brought into another layout, of 24 to 24, 1x1
    unfolded: float  # an element of windows that are laid out for a product: those of 31 taps, or without padding
    looped: float = 0  # a multiply-add of plain loops, for the windows of which there is no room: 17x17 in groups of 1
    grouped: float = 0  # a tap of an output where there are groups of one channel, 13x13
    run: float = 0  # a tap of a position, of few channels: 4 to 16, 3x3
    volume: float = 0  # an element of windows over three axes: 16 to 16, 3x3x3
    spread: float = 0  # the same of windows of every second element, or in the gradient by an input with strides
    scattered: float = 0  # an element of windows added to the gradient by an input with strides, 5x5


class Rates(NamedTuple):
    """A library on a kind of processor."""

    machine: str  # and versions, and the date
    steps: Steps
    uncached: float  # how many times longer a step over memory takes if no cache holds it
    own: Own | None = None


@functools.cache
@loading
def rates_of(name: str) -> Rates:
    """The rates of a library; NumPy's if it is not known: they are those of plain loops."""
    import json  # which, as the other one, takes longer to load than all of this
    import pkgutil

    rows = json.loads(pkgutil.get_data(__package__, FILE) or "")
    measured = rows.get(name, rows["numpy"])
    found = {name.removeprefix("own_"): rate for name, rate in measured.items() if name.startswith("own_")}
    steps = Steps(*[measured[name] for name in Steps._fields])
    return Rates(measured["machine"], steps, measured["uncached"], Own(**found) if found else None)
