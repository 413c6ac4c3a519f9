"""Upsampling, filtering and downsampling as strided convolutions: the polyphase form, in integers.

With up and down over their greatest common divisor, P and D, and every such tap alone,

    y[m] = sum over k of h[m*D - k*P] * x[k],

and the outputs m = P*q + p of a phase p are a convolution with stride D, whose windows have h[p*D - P*i] at i:

    y[P*q + p] = sum over i of h[p*D - P*i] * x[q*D + i]

Phases next to each other read nearly the same elements, so some of them are the filters of one convolution.

    P. P. Vaidyanathan, "Multirate Systems and Filter Banks", section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from .geometry import Geometry, Slices

NEAR = 64  # elements that phases of one convolution may lie apart however few taps they have: a call more takes as long


class Phases(NamedTuple):
    """Some phases as one convolution: which, the elements of windows, and the part of the signal that these read."""

    numbers: range
    offsets: range
    read: Slices
    windows: Geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of its filters."""
        return len(self.numbers), 1, len(self.offsets)


class Polyphase(NamedTuple):
    """A whole resampling: phases P and D, the common divisor, outputs, and what extends the signal at its ends."""

    up: int
    down: int
    common: int
    outputs: int
    terms: int  # products of an output, at most
    extension: tuple[int, int]
    parts: tuple[Phases, ...]


class Side(NamedTuple):
    """What is added at one end: the border's elements by signs, and elements of the signal by factors."""

    signs: list[int]
    terms: list[tuple[int, list[float]]]


class Extension(NamedTuple):
    """How a signal goes on: a border as of `geometry.BORDERS`, which ``sides`` change to an odd or a straight one."""

    mode: str
    widths: tuple[int, int]
    sides: tuple[Side, ...] = ()


# By SciPy's words: the border it is or is made of.
EXTENSIONS = {
    "constant": "zeros",
    "wrap": "circular",
    "edge": "replicate",
    "smooth": "replicate",
    "symmetric": "symmetric",
    "reflect": "reflect",
    "antisymmetric": "symmetric",
    "antireflect": "reflect",
    "line": "replicate",
}


def extension(mode: str, size: int, lo: int, hi: int) -> Extension:
    """A signal of a size with (lo, hi) elements before and behind it, by SciPy's word."""
    sides: tuple[Side, ...] = ()
    if mode in ODD:
        sides = tuple(ODD[mode](size, some) for some in (range(-lo, 0), range(size, size + hi)))
    return Extension(EXTENSIONS[mode], (lo, hi), sides)


def _smooth(size: int, places: range) -> Side:
    """The slope between the last two elements."""
    last, next_to_last = (0, min(1, size - 1)) if places.start < 0 else (size - 1, max(size - 2, 0))
    steps: list[float] = [abs(place - last) for place in places]
    return Side([1] * len(places), [(last, steps), (next_to_last, [-step for step in steps])])


def _line(size: int, places: range) -> Side:
    """The slope between the first and the last element."""
    last = 0 if places.start < 0 else size - 1
    steps = [(place - last) / max(size - 1, 1) for place in places]
    return Side([1] * len(places), [(size - 1, steps), (0, [-step for step in steps])])


def _antisymmetric(size: int, places: range) -> Side:
    """Turned round and negated again and again."""
    return Side([1 - 2 * (place // size % 2) for place in places], [])


def _antireflect(size: int, places: range) -> Side:
    """Turned by half a circle about the last element, again and again."""
    turns = [place // max(size - 1, 1) for place in places]
    last: list[float] = [turn + turn % 2 for turn in turns]
    return Side([1 - 2 * (turn % 2) for turn in turns], [(size - 1, last), (0, [turn % 2 - turn for turn in turns])])


ODD: dict[str, Callable[[int, range], Side]] = {
    "smooth": _smooth,
    "line": _line,
    "antisymmetric": _antisymmetric,
    "antireflect": _antireflect,
}


def polyphase(taps: int, size: int, up: int, down: int, extends: bool, alone: bool) -> Polyphase:
    """How a signal of a size is resampled; ``alone`` if each phase is to be a convolution of its own."""
    outputs = max(((size - 1) * up + taps - 1) // down + 1, 0)
    common = math.gcd(up, down)
    up, down, taps = up // common, down // common, -(-taps // common)
    before, behind = (taps - 1) // up, max((outputs - 1) * down // up - size + 1, 0)
    extension = (before, behind) if extends else (0, 0)
    phases = min(up, outputs)
    count = phases if alone else min(-(-(phases * down) // (up * max(-(-taps // up), NEAR))), phases)
    width = -(-phases // max(count, 1)) or 1  # of no outputs
    groups = [range(first, min(first + width, phases)) for first in range(0, phases, width)]
    positions = -(-outputs // up)
    parts = tuple(
        _phases(numbers, taps, sum(extension) + size, up, down, extension[0], positions) for numbers in groups
    )
    return Polyphase(up, down, common, outputs, -(-taps // up), extension, parts)


def _phases(numbers: range, taps: int, size: int, up: int, down: int, before: int, positions: int) -> Phases:
    first = -((taps - 1 - numbers[0] * down) // up)
    last = max(numbers[-1] * down // up, first)
    windows = Geometry((size,), (last - first + 1,), (down,), (1,), ((-first - before, 0),))
    return Phases(numbers, range(first, last + 1), *windows.restrict([(0, positions)]))
