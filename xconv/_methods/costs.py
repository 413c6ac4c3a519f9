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


NUMPY = Rates(
    operation=4000,
    multiplication=0.016,
    gathered=0.13,
    transformed=2.8,
    filter=5.6,
    butterfly=0.25,
    spectral=2.0,
)
JAX = Rates(
    operation=1000,
    multiplication=0.018,
    gathered=2.8,
    transformed=2.1,
    filter=2.8,
    butterfly=0.5,
    spectral=1.0,
    own_multiplication=0.016,
    own_pair=1.3,
    own_grouped_pair=5.0,
    own_output=5.0,
    own_reduction=4.0,
)
TORCH = Rates(
    operation=5000,
    multiplication=0.016,
    gathered=1.3,
    transformed=2.8,
    filter=5.6,
    butterfly=0.25,
    spectral=1.0,
    own_multiplication=0.015,
    own_pair=0.7,
    own_grouped_pair=0.1,
    own_output=0.5,
    own_reduction=1.3,
)


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
