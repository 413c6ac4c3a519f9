"""What a convolution costs by each method, from a few measured rates: how ``method="auto"`` chooses.

Rates are nanoseconds, of two cores of an x86 CPU and float32; only their ratios matter. On an accelerator no rates are
known, so there the library's own convolution is taken if it has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import array_api_compat

from .._arrays import Namespace
from .._geometry import Geometry


@dataclass(frozen=True)
class Work:
    """One of the three products of a convolution; channels and filters counted within a group."""

    windows: Geometry
    batch: int
    groups: int
    channels: int
    filters: int
    reduces: bool = False  # whether it is the gradient by the filters

    @property
    def positions(self) -> int:
        return self.batch * self.groups * self.windows.positions

    @property
    def multiplications(self) -> int:
        return self.positions * self.windows.taps * self.channels * self.filters


@dataclass(frozen=True)
class Rates:
    """Nanoseconds of a library for each step of the methods."""

    operation: float  # any, however little it does
    multiplication: float  # in a matrix product
    gathered: float  # an element that im2col lays out
    transformed: float  # a number on its way through Winograd's maps, both ways counted once
    filter: float  # a transformed number of Winograd's filters
    butterfly: float  # an element of a Fourier transform, by the logarithm of its length
    spectral: float  # a product at a frequency
    own_multiplication: float = math.inf  # in the library's own convolution
    own_pair: float = math.inf  # the same with few channels, by pairs of channel and filter
    own_grouped_pair: float = math.inf  # the same with groups
    own_output: float = 0.0  # an output of it
    own_reduction: float = 1.0  # how much longer its gradient by the filters takes


NUMPY = Rates(4000, 0.016, 0.13, 2.8, 5.6, 0.25, 2.0)
JAX = Rates(1000, 0.018, 2.8, 2.1, 2.8, 0.5, 1.0, 0.016, 1.3, 5.0, 5.0, 4.0)
TORCH = Rates(5000, 0.016, 1.3, 2.8, 5.6, 0.25, 1.0, 0.015, 0.7, 0.1, 0.5, 1.3)


def rates_of(xp: Namespace) -> Rates:
    """The rates of the library, NumPy's if it is not known: they are those of plain loops."""
    if array_api_compat.is_jax_namespace(xp):
        return JAX
    return TORCH if array_api_compat.is_torch_namespace(xp) else NUMPY


def native_cost(rates: Rates, work: Work) -> float:
    pairs = work.channels * work.filters
    slow = (rates.own_pair if work.groups == 1 else rates.own_grouped_pair) / pairs
    outputs = work.positions * work.filters
    cost = work.multiplications * max(rates.own_multiplication, slow) + outputs * rates.own_output
    return rates.operation + cost * (rates.own_reduction if work.reduces else 1)
