"""Windows in integers: sizes, parts of a convolution as convolutions, and the phases of strides.

Letters: N batch, C channels in, K channels out, G groups, n spatial axes. For axis i: input size d, kernel k, stride s,
dilation a, padding (lo, hi), reach r = a*(k-1)+1, output size o = floor((d + lo + hi - r)/s) + 1.
No array is touched here, so everything below is decided before one is.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from .remembered import remembered, remembering

Ints: TypeAlias = tuple[int, ...]
Pairs: TypeAlias = tuple[tuple[int, int], ...]
Slices: TypeAlias = tuple[slice, ...]
Words: TypeAlias = tuple[str, ...]
Sizes: TypeAlias = tuple[int, int, int, int]  # samples, groups, channels of a group, filters of a group
NEAR = 7  # taps along a row, up to which few of them lie beyond it
ROW = 50  # elements that can be copied in the time it takes to begin a row of them


class Axis(NamedTuple):
    """Windows along one axis, in the letters above: a single element each, if no more is told."""

    d: int
    k: int = 1
    s: int = 1
    a: int = 1
    lo: int = 0
    hi: int = 0

    @property
    def r(self) -> int:
        return self.a * (self.k - 1) + 1

    @property
    def o(self) -> int:
        return (self.lo + self.d + self.hi - self.r) // self.s + 1

    def bands(self, m: int) -> list[slice]:
        """For each of m windows next to each other, which elements of what they all read its taps are."""
        return [slice(b * self.s, b * self.s + self.r, self.a) for b in range(m)]


class Geometry:
    """Windows over n spatial axes: one tuple entry per axis. They lie at every element, unpadded, unless told."""

    def __init__(
        self, input_size: Ints, kernel_size: Ints, stride: Ints = (), dilation: Ints = (), padding: Pairs = ()
    ) -> None:
        self.input_size = input_size
        self.kernel_size = kernel_size
        self.stride = stride or (1,) * len(input_size)
        self.dilation = dilation or (1,) * len(input_size)
        self.padding = padding or ((0, 0),) * len(input_size)
        self._values = (input_size, kernel_size, self.stride, self.dilation, self.padding)

    @classmethod
    def of(cls, axes: Iterable[Axis]) -> Geometry:
        d, k, s, a, lo, hi = [*zip(*axes, strict=True)] or [()] * 6  # of no axes
        return cls(d, k, s, a, tuple(zip(lo, hi, strict=True)))

    @remembered
    def axes(self) -> tuple[Axis, ...]:
        return tuple(Axis(d, k, s, a, lo, hi) for d, k, s, a, (lo, hi) in zip(*self._values, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Geometry) and self._values == other._values

    def __hash__(self) -> int:
        return self._hash

    @remembered
    def _hash(self) -> int:
        """Computed once, since sizes are looked up again and again, and not while PyTorch compiles, which cannot."""
        return hash(self._values)

    def __repr__(self) -> str:
        return f"Geometry{self._values}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Geometry, self._values

    @remembered
    def reach(self) -> Ints:
        return effective_size(self.kernel_size, self.dilation)

    @remembered
    def padded_size(self) -> Ints:
        return tuple(lo + d + hi for d, (lo, hi) in zip(self.input_size, self.padding, strict=True))

    @remembered
    def output_size(self) -> Ints:
        return tuple((p - r) // s + 1 for p, r, s in zip(self.padded_size, self.reach, self.stride, strict=True))

    @remembered
    def ndim(self) -> int:
        return len(self.input_size)

    @remembered
    def taps(self) -> int:
        """How many elements a window reads: prod(k)."""
        return math.prod(self.kernel_size)

    @remembered
    def positions(self) -> int:
        """How many windows there are: prod(o)."""
        return math.prod(self.output_size)

    def over(self, input_size: Ints, padding: Pairs = ()) -> Geometry:
        """The same windows over another input."""
        return Geometry(input_size, self.kernel_size, self.stride, self.dilation, padding)

    @remembered
    def padded(self) -> Geometry:
        """The same windows over an input that already carries its padding."""
        return self.over(self.padded_size)

    @property
    def tap_slices(self) -> Iterator[tuple[Slices, Slices]]:
        """For each kernel offset, row-major: (windows whose tap lies in the input, input elements that it reads).

        Tap j of window m reads the input at a*j + s*m - lo, so the elements that one tap reads form a strided slice.

        It stops one past the last element read, s*(o-1) + 1 past its start. The book's s*o reads as well in NumPy,
        which clips a stop beyond the end, and its ``+ stride - 1`` extra rows only keep that stop inside the buffer:
        NumPy does not need them. The Array API leaves a stop beyond the end unspecified, so portable code stops
        exactly, and then no array needs extra rows either.
        """
        inside, elements = self._taps_along
        return zip(itertools.product(*inside), itertools.product(*elements), strict=True)

    @remembered
    def _taps_along(self) -> tuple[list[Slices], list[Slices]]:
        """The same along each axis alone: nothing as long as all taps is kept."""
        axes = zip(self.axes, self.output_size, strict=True)
        taps = [[_tap(j * axis.a, axis, o) for j in range(axis.k)] for axis, o in axes]
        inside, elements = [[tuple([pair[at] for pair in line]) for line in taps] for at in (0, 1)]
        return inside, elements

    def restrict(
        self, block: Sequence[tuple[int, int]], taps: Sequence[tuple[int, int]] = ()
    ) -> tuple[Slices, Geometry]:
        """A box of outputs, and of taps, as a convolution of its own.

        Parameters
        ----------
        block : n pairs (start, stop)
            Output positions start <= m < stop along each axis, none of them empty.
        taps : n pairs (start, stop), optional
            Kernel offsets start <= j < stop along each axis, none of them empty; all if left out.

        Returns
        -------
        slices : n slices
            The part of the input that the block reads.
        geometry : Geometry
            Windows over that part, with the padding that remains: its ``output_size`` is stop - start.
        """
        taps = taps or [(0, k) for k in self.kernel_size]
        slices, axes = [], []
        for (start, stop), (low, high), (d, _, s, a, lo, _) in zip(block, taps, self.axes, strict=True):
            first, end = start * s - lo + a * low, (stop - 1) * s - lo + a * (high - 1) + 1
            inner_first, inner_end = (min(max(edge, 0), d) for edge in (first, end))
            size, inner_lo = inner_end - inner_first, min(max(-first, 0), end - first)
            slices.append(slice(inner_first, inner_end))
            axes.append(Axis(size, high - low, s, a, inner_lo, end - first - size - inner_lo))
        return tuple(slices), Geometry.of(axes)

    def reading(self, box: Sequence[tuple[int, int]]) -> Pairs:
        """The outputs whose windows reach into a box of the input, (start, stop) along each axis; maybe none."""
        return tuple(
            (max(-((axis.r - 1 - axis.lo - start) // axis.s), 0), min((stop - 1 + axis.lo) // axis.s + 1, axis.o))
            for (start, stop), axis in zip(box, self.axes, strict=True)
        )

    @remembered
    def lines(self) -> tuple[Geometry, ...]:
        """The windows along each axis alone, with its own padding."""
        return tuple(Geometry((d,), (k,), (s,), (a,), (pad,)) for d, k, s, a, pad in zip(*self._values, strict=True))

    @remembered
    def phases(self) -> tuple[Phase, ...]:
        """The adjoint as convolutions without strides, of outputs by filters turned round.

        Elements of the input with equal remainders by the strides read the same taps, and those of a phase no others.
        Phases without taps, whose elements no window reads, are left out.
        """
        return tuple(_phase(self.output_size, axes) for axes in itertools.product(*map(_axis_phases, self.axes)))

    @remembered
    def phase_count(self) -> int:
        """How many phases the elements of the input are of, those without taps as well: one has all of a short axis."""
        return math.prod([*map(min, self.stride, self.input_size)])

    @remembered
    def is_identity(self) -> bool:
        """Whether each window is one element, and all elements have one."""
        return self.taps == 1 and set(self.stride) == {1} and not any(map(any, self.padding))

    @remembered
    def is_sparse(self) -> bool:
        """Whether windows read so little of the padded input that it is not worth padding."""
        return any(map(any, self.padding)) and self.taps * self.positions < math.prod(self.padded_size)

    @remembered
    def is_tiling(self) -> bool:
        """Whether windows lie side by side, without overlap or gap."""
        covered = all(k * o == p for k, o, p in zip(self.kernel_size, self.output_size, self.padded_size, strict=True))
        return self.kernel_size == self.stride and set(self.dilation) == {1} and covered

    @remembered
    def wraps(self) -> bool:
        """Whether a window's taps lie equally far from where its output does, counted row after row.

        All windows then read a tap in one run, if those that lie beyond the ends of their rows are cleared: it pays if
        these are few.
        """
        same = self.output_size[-1] == self.input_size[-1]
        return same and self.ndim > 1 and set(self.stride) == {1} and 1 < self.kernel_size[-1] <= NEAR

    @remembered
    def stages(self) -> list[Geometry]:
        """The same windows one axis after the other, the last axis first, for what may be done so: sums and maxima.

        Windows of k elements along each of n axes then cost sum(k) instead of prod(k). The first stage has all padding.
        """
        first, *others = self.padded._in_turn(range(self.ndim)[::-1])
        return [stage for stage in (first.over(self.input_size, self.padding), *others) if not stage.is_identity]

    @remembered
    def by_axis(self) -> list[Geometry]:
        """The same windows along one axis after the other, the first axis first, each with its own padding."""
        return [stage for stage in self._in_turn(range(self.ndim)) if not stage.is_identity]

    @remembered
    def by_row(self) -> list[Geometry]:
        """The same, the last axis first: of equal elements that of the first row is then found last."""
        return [stage for stage in self._in_turn(range(self.ndim)[::-1]) if not stage.is_identity]

    def _in_turn(self, order: Sequence[int]) -> list[Geometry]:
        found, axes = [], [Axis(d) for d in self.input_size]
        for at in order:
            axes[at] = self.axes[at]
            found.append(Geometry.of(axes))
            axes[at] = Axis(self.axes[at].o)
        return found

    @property
    def steps(self) -> list[Geometry]:
        """The stages that do anything, or all of them as one, as of tiles, whichever lays out windows sooner."""
        found = self._sooner_in_stages  # geometries must not keep themselves: memory would wait to be looked for
        return [self] if found is None else found

    @remembered
    def _sooner_in_stages(self) -> list[Geometry] | None:
        """The rows of x are short. All taps at once copy each of them prod(k) times; of the stages only the first
        copies rows, k times, and the others long runs, but what is laid out for the next is written and read once more.
        """
        if self.is_tiling:
            return None
        laid_out = numbers_of(self.stages)
        rows = ROW / self.output_size[-1]
        at_once, in_stages = self.taps * self.positions * (1 + rows), 2 * sum(laid_out) + sum(laid_out[:1]) * rows
        return self.stages if in_stages - sum(laid_out[-1:]) < at_once else None

    def taps_inside(self, margins: Pairs) -> list[list[int]]:
        """Along each axis, how many taps of each window lie in the input widened by (lo, hi) margins.

        One number stands for all windows of an axis that has no padding.
        """
        axes = zip(self.axes, margins, strict=True)
        return [_taps_inside(axis, *margin) if axis.lo or axis.hi else [axis.k] for axis, margin in axes]


class Phase(NamedTuple):
    """A part of the adjoint: windows over some of the outputs, with some of the taps, give some of the inputs."""

    inputs: Slices
    taps: Slices
    outputs: Slices
    windows: Geometry


class ConvGeometry(NamedTuple):
    """A whole convolution in integers: the windows, the channels and how the user's arrays are laid out.

    What is ``unread`` lies behind the last window that counts, (0, elements) along each axis.
    """

    batch: int
    channels: int
    filters: int
    groups: int
    channels_last: bool
    padding_modes: Words
    windows: Geometry
    unread: Pairs = ()
    pad_value: complex = 0

    @property
    def output_shape(self) -> Ints:
        return _joined(self.batch, self.filters, self.zero_padded.output_size, self.channels_last)

    @property
    def input_shape(self) -> Ints:
        return _joined(self.batch, self.channels, self.windows.input_size, self.channels_last)

    @property
    def samples(self) -> int:
        return planned_samples(self.batch)

    @property
    def sizes(self) -> Sizes:
        return self.samples, self.groups, self.channels // self.groups, self.filters // self.groups

    @property
    def elements(self) -> int:
        """How many numbers operands and result are."""
        weights = self.filters * self.channels // self.groups * self.windows.taps
        shapes = (self.channels, *self.windows.input_size), (self.filters, *self.windows.output_size)
        return weights + self.samples * sum(map(math.prod, shapes))

    @property
    def is_framed(self) -> bool:
        """Whether the input is padded, or cut off, before the windows see it: by other borders than zeros."""
        plain = "zeros" if self.pad_value == 0 else None
        axes = zip(self.windows.padding, self.padding_modes, strict=True)
        return any(map(any, self.unread)) or any(any(pair) and mode != plain for pair, mode in axes)

    @property
    def zero_padded(self) -> Geometry:
        """The windows over an input that is framed, if it has to be: such a border is already part of it."""
        if not self.is_framed:
            return self.windows
        padded, unread = self.windows.padded, self.unread or ((0, 0),) * self.windows.ndim
        read = tuple(size - high for size, (_, high) in zip(padded.input_size, unread, strict=True))
        return padded.over(read, padded.padding)


class PoolGeometry(NamedTuple):
    """A whole pooling in integers; a mean counts ``margins`` beyond the ends, without what ceil_mode adds to them."""

    batch: int
    channels: int
    channels_last: bool
    windows: Geometry
    margins: Pairs

    @property
    def output_shape(self) -> Ints:
        return _joined(self.batch, self.channels, self.windows.output_size, self.channels_last)

    @property
    def input_shape(self) -> Ints:
        return _joined(self.batch, self.channels, self.windows.input_size, self.channels_last)

    def counting(self, include: bool) -> PoolGeometry:
        """The same, for a mean that counts its padding, or does not."""
        found = self if include else self._replace(margins=((0, 0),) * self.windows.ndim)
        if min(map(min, found.counts)) == 0:
            raise ValueError(
                f"padding must leave every window something to count, got {self.margins} for an input of size "
                f"{self.windows.input_size} with kernel_size {self.windows.kernel_size} and count_include_pad={include}"
            )
        return found

    @property
    def counts(self) -> list[list[int]]:
        """What each window of a mean counts: the product of one number per axis, which has one for all or for each."""
        return self.windows.taps_inside(self.margins)


@remembering(1)
def of_samples(windows: Geometry, samples: int, place: int) -> Geometry:
    """The same windows over many samples, which are one more axis, at this place, with windows of one element."""

    return Geometry.of([*windows.axes[:place], Axis(samples), *windows.axes[place:]])


@remembering(0)
def at_every_element(size: Ints, kernel_size: Ints, padding: Pairs = ()) -> Geometry:
    return Geometry(size, kernel_size, padding=padding)


def numbers_of(stages: Sequence[Geometry]) -> list[int]:
    """How many numbers each of the stages lays out, for each plane."""
    taps = itertools.accumulate((stage.taps for stage in stages), operator.mul)
    return [count * stage.positions for count, stage in zip(taps, stages, strict=True)]


def _taps_inside(axis: Axis, lo: int, hi: int) -> list[int]:
    """Of each window, how many taps s*m - axis.lo + a*j for j < k are at least -lo and below d + hi."""
    counts = []
    for start in range(-axis.lo, axis.s * axis.o - axis.lo, axis.s):
        before, below = -((start + lo) // axis.a), -((start - axis.d - hi) // axis.a)  # the least j that reach the ends
        counts.append(max(min(below, axis.k) - max(before, 0), 0))
    return counts


def _joined(batch: int, channels: int, size: Ints, channels_last: bool) -> Ints:
    return (batch, *size, channels) if channels_last else (batch, channels, *size)


def planned_samples(batch: int) -> int:
    """How many to plan for: one, in a block that takes any number, if the batch is a symbol."""
    return 1 if is_symbol(batch) else batch


def is_symbol(size: Any) -> bool:
    """Whether PyTorch left a size open while it traces: what is asked of a symbol holds for its value alone."""
    return hasattr(size, "node")


def effective_size(kernel: Ints, dilation: Ints) -> Ints:
    return tuple(a * (k - 1) + 1 for k, a in zip(kernel, dilation, strict=True))


class _AxisPhase(NamedTuple):
    """A phase along one axis; its first window begins at output ``first``, which may lie outside."""

    inputs: range
    taps: range
    dilation: int
    first: int


def _axis_phases(axis: Axis) -> list[_AxisPhase]:
    """Input i = s*q + p reads tap j of output m = (i + lo - a*j)/s, for the j that leave no remainder.

    These j are s/g apart, and their outputs a/g, where g is the greatest common divisor of s and a.
    """
    d, k, s, a, lo, _ = axis
    common, phases = math.gcd(s, a), []
    for p in range(min(s, d)):
        dividing = [j for j in range(min(k, s // common)) if (p + lo - a * j) % s == 0]
        for j in dividing:  # one at most
            taps = range(j, k, s // common)
            phases.append(_AxisPhase(range(p, d, s), taps, a // common, (p + lo - a * taps[-1]) // s))
    return phases


def _phase(output_size: Ints, axes: tuple[_AxisPhase, ...]) -> Phase:
    lines = [Axis(o, len(axis.taps), 1, axis.dilation, -axis.first) for o, axis in zip(output_size, axes, strict=True)]
    outputs, windows = Geometry.of(lines).restrict([(0, len(axis.inputs)) for axis in axes])
    inputs, taps = zip(*((_as_slice(axis.inputs), _as_slice(axis.taps)) for axis in axes), strict=True)
    return Phase(inputs, taps, outputs, windows)


def _as_slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop, numbers.step)


def _tap(offset: int, axis: Axis, o: int) -> tuple[slice, slice]:
    """Windows m and elements offset + s*m - lo of one axis, for the m that keep the element inside 0..d-1."""
    d, _, s, _, lo, _ = axis
    first = max(0, -((offset - lo) // s))
    end = max(first, min(o, (d - 1 + lo - offset) // s + 1))
    if first == end:
        return slice(0, 0), slice(0, 0)
    start = offset + s * first - lo
    return slice(first, end), slice(start, start + s * (end - first - 1) + 1, s)
