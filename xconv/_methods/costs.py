"""What a convolution costs by each method, from a few measured rates: how ``method="auto"`` chooses.

Rates are nanoseconds, of two cores of an x86 CPU and float32, CuPy's of an H200; only their ratios matter. On an
accelerator the library's own convolution is taken if it has one.
"""

# No annotations from the future: each field of a NamedTuple would be compiled from a string, at every start.
import functools
import math
from typing import NamedTuple

from .._arrays.libraries import Namespace, library, traits
from .._plan.geometry import Geometry, Phase

CACHED = 2**23  # numbers of float32 that a shared cache of 32 MiB holds
LAID_OUT = CACHED // 2  # numbers of windows that it holds beside what else a product needs
NARROW = 16  # channels of a group, fewer than which are few
SLIM = 128  # channels and filters of a group, fewer than which are few
SMALL_SAMPLE = 20480  # numbers along its first three axes, up to which PyTorch has no fast way for one by itself
SMALL_KERNEL = 3  # along the last two axes, up to which that is so
TRANSFORMS = frozenset({"winograd", "fft"})  # methods that lay out no windows and transform filters
TURNED = 13  # windows that can be laid out, not added up, in the time of turning one round


class Work(NamedTuple):
    """One of the three products of a convolution; channels and filters counted within a group."""

    windows: Geometry
    batch: int
    groups: int
    channels: int
    filters: int
    reduces: bool = False  # whether it is the gradient by the filters
    transposed: bool = False  # whether it is that by the input: channels are those of dy, filters those of dx
    scatters: bool = False  # whether that adds windows back to dx

    @property
    def positions(self) -> int:
        return self.batch * self.groups * self.windows.positions

    @property
    def inputs(self) -> int:
        return self.batch * self.groups * math.prod(self.windows.input_size) * self.channels

    @property
    def outputs(self) -> int:
        return self.positions * self.filters

    @property
    def narrow(self) -> bool:
        """Whether channels are few, not in groups, over one or two axes."""
        return self.groups == 1 and self.channels < NARROW and self.windows.ndim <= 2

    @property
    def unfolded(self) -> bool:
        """Whether PyTorch lays out the windows of its own convolution: of one small sample, with small kernels."""
        numbers = self.channels * math.prod(self.windows.input_size[:2])
        kernel = min((1, *self.windows.kernel_size)[-2:])  # one axis is the second of two
        return self.batch == self.groups == 1 and numbers <= SMALL_SAMPLE and kernel <= SMALL_KERNEL

    @property
    def rows(self) -> int:
        """How many numbers an element that is laid out is multiplied by, or that are to be added back."""
        return self.filters * (self.windows.taps if self.scatters else 1)

    @property
    def multiplications(self) -> int:
        return self.positions * self.windows.taps * self.channels * self.filters


class Rates(NamedTuple):
    """Nanoseconds of a library for each step of the methods."""

    operation: float  # any, however little it does
    multiplication: float  # in a matrix product
    product: float  # one of a stack of matrix products, however small it is
    share: float  # an element of what each sample gives to the gradient by the filters, if these are then added up
    read: float  # an element that a matrix product reads, in addition
    gathered: float  # an element that im2col lays out
    strided: float  # the same with a stride along the last axis, or one added back then
    row: float  # a row of such elements, however short
    framed: float  # an element of a window of Toeplitz
    copied: float  # an element of whatever is padded or put into another order there
    uncached: float  # how many times longer these and transforms take if the cache does not hold them
    scattered: float  # an element that im2col adds back to an input
    moved: float  # an element of an operand or the result that im2col copies from one layout to another
    transformed: float  # a number that Winograd's maps lay out, both ways counted once
    spilled: float  # the same if there are more than the cache holds
    filter: float  # a transformed number of Winograd's filters
    butterfly: float  # an element of a Fourier transform, by the logarithm of its length
    spectral: float  # a product at a frequency
    own_multiplication: float = math.inf  # in the library's own convolution
    own_slim: float = 0.0  # the same with few channels and filters
    own_pair: float = math.inf  # the same with few channels, by pairs of channel and filter
    own_reduced_pair: float = math.inf  # the same in its gradient by the filters
    own_grouped_pair: float = math.inf  # the same with groups
    own_slowest: float = math.inf  # the most that a multiplication takes by these
    own_narrow: float = 0.0  # a channel of dy, for each position and tap, in its gradient by an input of few channels
    own_lanes: int = 1  # of which there are whole vectors of so many
    own_spread: float = 0.0  # a multiplication in its gradient by the input with strides over more than two axes
    own_skipping: float = 0.0  # the same over any axes with kernels of one element
    own_unfolded: float = 0.0  # an element of the windows of one small sample, which PyTorch lays out first
    own_volume: float = 1.0  # how many times longer it takes over more than two axes
    own_moved: float = 0.0  # an element of its input or its output
    own_filter: float = 0.0  # an element of filters that it reads and puts into another order; those of 1x1 it need not
    own_reduction: float = 1.0  # how much longer its gradient by the filters takes
    own_narrow_reduction: float = 1.0  # the same with few channels
    own_strided_reduction: float = 1.0  # how much longer still with strides
    reduction: float = 1.0  # how much longer that takes by the methods
    narrow_reduction: float = 1.0  # the same by im2col with few channels


NUMPY = Rates(
    operation=4000,
    multiplication=0.016,
    product=150,
    share=0.0,
    read=0.07,
    gathered=0.13,
    strided=0.33,
    row=4.0,
    framed=0.35,
    copied=0.3,
    uncached=1.0,  # blocks stay in the cache
    scattered=0.13,
    moved=0.0,
    transformed=0.56,
    spilled=1.0,
    filter=0.65,
    butterfly=0.25,
    spectral=2.0,
)
NUMPY_AVX512 = NUMPY._replace(
    multiplication=0.0065,
    product=80,
    read=0.2,
    framed=0.15,
    transformed=0.6,
    spilled=0.6,
    filter=0.35,
)
JAX = Rates(
    operation=1000,
    multiplication=0.018,
    product=270,
    share=0.6,
    read=0.0,
    gathered=1.02,
    strided=1.23,
    row=0.0,
    framed=1.88,
    copied=0.28,
    uncached=2.6,
    scattered=0.97,
    moved=0.0,
    transformed=1.7,
    spilled=2.68,
    filter=2.0,
    butterfly=0.44,
    spectral=0.24,
    own_multiplication=0.0156,
    own_slim=0.025,
    own_pair=1.1,
    own_reduced_pair=29.0,
    own_grouped_pair=3.0,
    own_narrow=0.33,
    own_spread=0.5,
    own_volume=3.85,
    own_moved=2.5,
    own_filter=2.75,
    own_reduction=1.81,
    own_narrow_reduction=1.81,
    reduction=1.24,
    narrow_reduction=2.5,
)
JAX_AVX512 = JAX._replace(
    multiplication=0.0058,
    product=250,
    share=2.5,
    gathered=0.9,
    strided=1.15,
    framed=1.8,
    copied=1.0,
    uncached=3.0,
    scattered=0.9,
    transformed=1.15,
    spilled=1.8,
    filter=0.4,
    butterfly=0.45,
    spectral=0.5,
    own_multiplication=0.0067,
    own_slim=0.016,
    own_pair=1.29,
    own_reduced_pair=5.0,
    own_grouped_pair=5.0,
    own_narrow=0.146,
    own_spread=2.0,
    own_volume=5.0,
    own_moved=0.77,
    own_filter=0.0,
    own_reduction=1.8,
    own_narrow_reduction=0.66,
    reduction=1.25,
    narrow_reduction=3.0,
)
TORCH = Rates(
    operation=5000,
    multiplication=0.016,
    product=250,
    share=0.0,
    read=0.0,
    gathered=0.82,
    strided=0.88,
    row=0.0,
    framed=1.3,
    copied=0.3,
    uncached=1.0,
    scattered=1.3,
    moved=0.5,
    transformed=2.0,
    spilled=2.1,
    filter=2.4,
    butterfly=0.27,
    spectral=0.53,
    own_multiplication=0.0139,
    own_pair=0.54,
    own_reduced_pair=1.1,
    own_grouped_pair=0.06,
    own_slowest=0.11,
    own_narrow=0.167,
    own_skipping=0.035,
    own_unfolded=1.4,
    own_moved=0.22,
    own_filter=3.4,
    own_reduction=1.45,
    own_narrow_reduction=1.95,
    own_strided_reduction=1.25,
    reduction=1.1,
    narrow_reduction=1.1,
)
TORCH_AVX512 = TORCH._replace(
    multiplication=0.0075,
    gathered=0.4,
    strided=0.4,
    framed=5.0,
    scattered=0.5,
    uncached=2.5,
    transformed=0.9,
    spilled=0.9,
    filter=0.5,
    butterfly=0.15,
    spectral=0.5,
    own_multiplication=0.0064,
    own_pair=0.25,
    own_reduced_pair=0.3,
    own_grouped_pair=0.1,
    own_slowest=0.17,
    own_narrow=0.139,
    own_lanes=16,
    own_skipping=0.02,
    own_unfolded=0.0,
    own_moved=0.12,
    own_filter=0.0,
    own_reduction=1.1,
    own_narrow_reduction=1.1,
    own_strided_reduction=1.0,
    reduction=1.0,
    narrow_reduction=1.0,
)
CUPY = Rates(
    operation=30000,  # of several kernels: the most of what small convolutions take
    multiplication=0.000045,
    product=20,
    share=0.0,
    read=0.0,
    gathered=0.006,
    strided=0.008,
    row=0.0,
    framed=0.012,
    copied=0.005,
    uncached=1.0,
    scattered=0.03,
    moved=0.004,
    transformed=0.02,
    spilled=0.02,
    filter=0.02,
    butterfly=0.002,
    spectral=0.0002,
)


def rates_of(xp: Namespace) -> Rates:
    """The rates of the library, NumPy's if it is not known: they are those of plain loops."""
    if library(xp) == "cupy":
        return CUPY
    if library(xp) == "torch":
        return _torch_rates()
    if library(xp) == "jax":
        return JAX_AVX512 if _has_avx512() else JAX
    return NUMPY_AVX512 if _has_avx512() else NUMPY


@functools.cache
def _has_avx512() -> bool:
    """Whether the processor has registers twice as wide as AVX2's, by NumPy, which JAX is built on."""
    import numpy

    extensions = numpy.show_config(mode="dicts").get("SIMD Extensions", {})
    found = extensions.get("found", [])  # NumPy leaves out what would be empty
    return not {"AVX512F", "X86_V4"}.isdisjoint(found)  # as it is called before NumPy 2.4, and since


def _torch_rates() -> Rates:
    """PyTorch does without NumPy, and while it compiles, nothing can ask for the processor."""
    import torch

    wide = not torch.compiler.is_compiling() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return TORCH_AVX512 if wide else TORCH


def spread(rates: Rates, elements: float) -> float:
    """How many times longer it takes to pass over so many elements."""
    return 1.0 if elements <= LAID_OUT else rates.uncached


def adjoint_phases(
    method: str, xp: Namespace, windows: Geometry, batch: int, channels: int, filters: int
) -> tuple[Phase, ...]:
    """The convolutions by filters turned round that a method runs as the gradient by the input; none if it adds up.

    With many more filters than channels they would lay out more than is added up, and with more of them than fit the
    positions it would take longer to turn the filters round, unless they are transformed, or a GPU turns them. With
    strides each writes every s-th element of the gradient, which only plain memory lets it do in place, and would
    transform dy anew; on a GPU each would be kernels of its own.
    """
    transforms = method in TRANSFORMS
    turned = 0 if traits(xp).kernels or windows.taps == 1 else TURNED
    many = filters > 2 * channels or filters * turned > batch * windows.positions
    apart = max(windows.stride) > 1
    if (many and not transforms) or (apart and (transforms or not traits(xp).threads)):
        return ()
    return windows.phases


def reduction(rates: Rates, work: Work, method: str) -> float:
    """How much longer a method takes for a product if that is the gradient by the filters."""
    if not work.reduces:
        return 1.0
    return rates.narrow_reduction if work.narrow and method == "im2col" else rates.reduction


def native_cost(rates: Rates, work: Work) -> float:
    """What the library's own convolution costs: a library is slow where it has no fast path, as with few channels."""
    ungrouped = rates.own_reduced_pair if work.reduces else rates.own_pair
    few = (ungrouped if work.groups == 1 else rates.own_grouped_pair) / (work.channels * work.filters)
    multiplication = max(rates.own_multiplication, min(few, rates.own_slowest))
    if max(work.channels, work.filters) < SLIM:
        multiplication = max(multiplication, rates.own_slim)
    if work.transposed and work.groups == 1:
        lanes = -(-work.channels // rates.own_lanes) * rates.own_lanes
        multiplication = max(multiplication, rates.own_narrow * lanes / (work.channels * work.filters))
    if work.transposed and max(work.windows.stride) > 1:
        spread_out = rates.own_spread if work.windows.ndim > 2 else 0
        skipping = rates.own_skipping if work.windows.taps == 1 else 0
        multiplication = max(multiplication, spread_out, skipping)
    cost = work.multiplications * multiplication + (work.inputs + work.outputs) * rates.own_moved
    if work.unfolded:
        cost += work.positions * work.windows.taps * work.channels * rates.own_unfolded
    if work.windows.taps > 1:
        cost += work.groups * work.channels * work.filters * work.windows.taps * rates.own_filter
    if work.windows.ndim > 2:
        cost *= rates.own_volume
    if work.reduces:
        cost *= rates.own_narrow_reduction if work.narrow else rates.own_reduction
        cost *= rates.own_strided_reduction if max(work.windows.stride) > 1 else 1
    return rates.operation + cost
