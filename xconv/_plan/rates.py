"""Nanoseconds of plain steps, by which methods are compared: the data that ``python -m benchmarks rates`` writes.

NumPy's are of all CPUs together, in float32. Only the ratios of a row matter.
"""

from __future__ import annotations

from typing import NamedTuple

from .task import Steps


class Own(NamedTuple):
    """Nanoseconds of plain things that a library's own convolution does."""

    operation: float  # a call, however small
    multiplication: float  # with many channels, 64 to 64, 3x3
    reduction: float  # the same in its gradient by the filters
    moved: float  # an element of input or output brought into lanes of channels and back: 1 to 1, 3x3
    unfolded: float  # an element of the windows of its gradient by an input of few channels: 1 to 1, 9x9
    grouped: float  # a tap of an output where there are groups of one channel, 3x3


class Rates(NamedTuple):
    """A library on a kind of processor."""

    machine: str
    date: str
    steps: Steps
    uncached: float  # how many times longer a step over memory takes if no cache holds it
    own: Own | None = None


RATES = {
    "numpy": Rates(
        "AMD EPYC, AVX2, 2 cores",
        "2026-11-28",
        Steps(4000, 150, 0.016, 0.07, 0.1, 0.13, 0.33, 4.0, 0.5, 0.13, 0.25),
        2.0,
    ),
    "cupy": Rates(
        "NVIDIA H200",
        "2026-11-26",
        Steps(30000, 20, 0.000045, 0.0, 0.0, 0.006, 0.008, 0.0, 0.012, 0.03, 0.002),
        1.0,
    ),
    "jax": Rates(
        "AMD EPYC, AVX2, 2 cores",
        "2026-11-28",
        Steps(1000, 270, 0.018, 0.0, 0.1, 1.02, 1.23, 0.0, 0.5, 0.97, 0.44),
        2.6,
        Own(10000, 0.0239, 0.0234, 1.0, 0.5, 3.0),
    ),
    "torch": Rates(
        "AMD EPYC, AVX2, 2 cores",
        "2026-11-28",
        Steps(5000, 250, 0.016, 0.0, 0.1, 0.82, 0.88, 0.0, 0.5, 1.3, 0.27),
        1.0,
        Own(63600, 0.00885, 0.01374, 0.38, 0.054, 0.243),
    ),
}


def rates_of(name: str) -> Rates:
    """The rates of a library; NumPy's if it is not known: they are those of plain loops."""
    return RATES.get(name, RATES["numpy"])
