"""Nanoseconds of plain steps, by which methods are compared: the data that ``python -m benchmarks rates`` writes.

NumPy's are of all CPUs together, in float32. Only the ratios of a row matter.
"""

from __future__ import annotations

from typing import NamedTuple

from .task import Steps


class Own(NamedTuple):
    """Nanoseconds of a library's own convolution."""

    multiplication: float  # with many channels, 64 to 64, 3x3
    pair: float  # of a pair of channels, however few there are, for each tap and position: 1 to 1, 9x9
    depthwise: float  # with as many groups as channels, 3x3
    reduction: float  # of its gradient by the filters, as the first
    volume: float  # over three axes, 16 to 16 channels, 3x3x3


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
        Own(0.0156, 1.1, 3.0, 0.03, 0.06),
    ),
    "torch": Rates(
        "AMD EPYC, AVX2, 2 cores",
        "2026-11-28",
        Steps(5000, 250, 0.016, 0.0, 0.1, 0.82, 0.88, 0.0, 0.5, 1.3, 0.27),
        1.0,
        Own(0.0139, 0.54, 0.06, 0.02, 0.0139),
    ),
}


def rates_of(name: str) -> Rates:
    """The rates of a library; NumPy's if it is not known: they are those of plain loops."""
    return RATES.get(name, RATES["numpy"])
