"""What is to be done, and what doing it takes, in integers: a task, variants of a method, and plain steps counted."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from .geometry import ConvGeometry, Geometry, Ints

ANY = 2**62  # outputs: as many as there are
OVERLAPPING = 5  # elements added in one long run, in the time of one added to windows that overlap


class Task(NamedTuple):
    """One of the three maps of a convolution; channels and filters counted within a group.

    "forward" gives y, "backward_filter" dw, and "backward_data" adds windows back to dx. The gradient by the input is
    also run "forward", of dy by filters ``turned`` round, whose channels are those of dy. Operands may have to be
    copied where they are read: data, and filters. ``summed`` counts the numbers of dx that are held in the dtype of
    the sums, if dx itself has another.
    """

    direction: str
    windows: Geometry
    batch: int
    groups: int
    channels: int
    filters: int
    turned: bool = False
    copies: bool = False
    copies_filters: bool = False
    summed: int = 0

    @property
    def positions(self) -> int:
        return self.batch * self.groups * self.windows.positions

    @property
    def inputs(self) -> int:
        return self.batch * self.groups * self.channels * math.prod(self.windows.input_size)

    @property
    def outputs(self) -> int:
        return self.positions * self.filters

    @property
    def pairs(self) -> int:
        return self.groups * self.channels * self.filters

    @property
    def terms(self) -> int:
        """How many products at most are added up to one result."""
        if self.reduces:
            return self.batch * self.windows.positions
        return (self.filters if self.scatters else self.channels) * self.windows.taps

    @property
    def multiplications(self) -> int:
        return self.batch * self.pairs * self.windows.taps * self.windows.positions

    @property
    def halves(self) -> list[Task]:
        """The task with half of its groups, channels or filters, where it has several."""
        halves = [] if self.groups < 2 else [self._replace(groups=-(-self.groups // 2))]
        halves += [] if self.channels < 2 else [self.of_channels(-(-self.channels // 2))]
        return halves + ([] if self.filters < 2 else [self._replace(filters=-(-self.filters // 2))])

    def of_channels(self, channels: int) -> Task:
        """The task with some of its channels: its filters are no longer one piece of memory."""
        return self._replace(channels=channels, copies_filters=self.copies_filters or channels < self.channels)

    @property
    def scatters(self) -> bool:
        return self.direction == "backward_data"

    @property
    def reduces(self) -> bool:
        return self.direction == "backward_filter"


def task_of(direction: str, geometry: ConvGeometry, casts: bool = False, conjugates: bool = False) -> Task:
    """One of the three maps of a convolution; operands may be of other dtypes than sums, and filters conjugated."""
    copies = casts or (geometry.is_framed and direction != "backward_data")
    return Task(direction, geometry.zero_padded, *geometry.sizes, False, copies, casts or conjugates)


class Steps(NamedTuple):
    """How many of each plain step something takes; or the nanoseconds of one, for a library."""

    operation: float = 0  # of the library, however little it does
    product: float = 0  # one of a stack of matrix products, however small it is
    multiplication: float = 0  # with its addition, in a product of large matrices
    packed: float = 0  # an element of the factor of a matrix product that has the positions
    written: float = 0  # an element of the result of a matrix product
    copied: float = 0  # an element copied in long runs
    strided: float = 0  # an element copied from every other place
    row: float = 0  # a run, however short
    transposed: float = 0  # an element copied into another order
    added: float = 0  # an element added to another in place
    butterfly: float = 0  # an element of a Fourier transform, by the logarithm of its length

    def times(self, others: Steps) -> float:
        return sum([one * other for one, other in zip(self, others, strict=True)])


class Variant(Protocol):
    """The integers of a method: what it works on at once, what it holds, and what it does.

    Numbers are elements of the dtype that is computed in. What is not told of a method is as here.
    """

    unit: Ints = ()  # outputs along each axis that the maps work on at once: blocks hold whole units
    stacked: int = 0  # axes by which In(x) and Out*(y) are stacked first, each multiplied by Wt(w): samples, and strips
    stacks_taps: bool = False  # In(x), behind those, and Wt(w) are stacked by what adds up in y: of plain memory
    widest: int = ANY  # units of outputs that a block has at most along all axes but the first
    reads_views: bool = False  # In(x) copies nothing but what it lays out, so that x should not be copied before
    transforms: bool = False  # Wt(w) is a transform of the filters, which outweighs them
    mixes_zeros: bool = False  # elements of other windows are multiplied by zeros, which NaN and inf survive
    cuts_taps: bool = True  # a box of the taps is as good a kernel as all
    weight_copies: int = 0  # how many times Wt(w) is held besides while it is made
    is_local: bool = True  # every output is the sum of the products in its own window, and of zeros

    def is_accurate(self, task: Task) -> bool:
        """Whether errors in float32 stay below 1e-5 of the largest output, so that "auto" may take it."""
        return True

    def writes_in_place(self, samples: int, filters: int) -> bool:
        """Whether the output map of a block only renames axes: the product can be written where y belongs."""
        return False

    def weight_workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        """How many numbers Wt(w) is for one group; 0 if it is a view of w."""
        return 0

    def workspace(self, windows: Geometry, channels: int, filters: int) -> int:
        """How many numbers the maps and the product of a block hold at most, for one sample and group."""

    def steps(self, task: Task) -> Steps:
        """What a task takes in one block."""
