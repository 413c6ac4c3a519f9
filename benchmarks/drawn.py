"""Layers drawn at random, on which the choice of a method is judged: nobody has fitted it to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .suites import Ints, Layer

LEAST_MULTIPLY_ADDS, MOST_MULTIPLY_ADDS = 1e6, 3e9
MOST_BYTES = 64e6  # of input, filters and output together
MOST_CHANNELS = 256
MOST_BATCH = 32
MOST_TAPS_OF_AXIS = {1: 31, 2: 31, 3: 7}  # by how many spatial axes there are
LEAST_OUTPUT = 3  # positions along an axis
LONGEST_TO_SHORTEST = 4.0  # axis of an output

Value = TypeVar("Value")
Weighted = dict[Value, float]

AXES: Weighted[int] = {1: 0.2, 2: 0.6, 3: 0.2}
STRIDES: Weighted[int] = {1: 0.75, 2: 0.2, 3: 0.05}
DILATIONS: Weighted[int] = {1: 0.9, 2: 0.07, 3: 0.03}
GROUPS: Weighted[str] = {"one": 0.75, "depthwise": 0.15, "divisor": 0.1}
SAME_ALONG_AXES: Weighted[bool] = {True: 0.85, False: 0.15}
ODD: Weighted[bool] = {True: 0.8, False: 0.2}
KEEPS_SIZE: Weighted[bool] = {True: 0.75, False: 0.25}  # what padding does, if there are no strides


def draw_layers(count: int, seed: int) -> list[Layer]:
    """So many layers, of which fewer are the first: from one generator, so that they are the same everywhere."""
    draws = _Draws(np.random.default_rng(seed))
    return list(itertools.islice(filter(None, (draws.layer() for _ in itertools.count())), count))


class _Draws:
    """What is drawn from a generator, one after the other."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def layer(self) -> Layer | None:
        """Everything but the size, then the size that needs about as many multiply-adds as were drawn.

        Draws that are no layers, or too small or too large, are drawn again, and those with an axis shorter than a
        window reaches, as in no network.
        """
        n = self.one_of(AXES)
        batch = self.logarithmic(MOST_BATCH)
        channels, filters, groups = self.channels()
        kernel = self.along_axes(n, lambda: self.taps(MOST_TAPS_OF_AXIS[n]))
        stride = self.along_axes(n, lambda: self.one_of(STRIDES))
        dilation = (self.one_of(DILATIONS),) * n
        keeps_size = self.one_of(KEEPS_SIZE)
        padding = tuple(a * (k - 1) // 2 if keeps_size else 0 for a, k in zip(dilation, kernel, strict=True))
        weight_shape = (filters, channels // groups, *kernel)
        multiply_adds = math.exp(self._generator.uniform(math.log(LEAST_MULTIPLY_ADDS), math.log(MOST_MULTIPLY_ADDS)))
        output = self.output(n, multiply_adds / (batch * math.prod(weight_shape)))
        reach = [a * (k - 1) + 1 for a, k in zip(dilation, kernel, strict=True)]
        size = [(o - 1) * s + r - 2 * p for o, s, r, p in zip(output, stride, reach, padding, strict=True)]
        if min(output) < LEAST_OUTPUT or any(d < r for d, r in zip(size, reach, strict=True)):
            return None
        layer = _named(Layer("drawn", "", (batch, channels, *size), weight_shape, stride, padding, dilation, groups))
        fits = LEAST_MULTIPLY_ADDS <= layer.multiply_adds <= MOST_MULTIPLY_ADDS and layer.bytes <= MOST_BYTES
        return layer if fits else None

    def channels(self) -> Ints:
        """Channels, filters and groups: mostly one group, else one per channel, or a divisor of both."""
        channels, filters = self.logarithmic(MOST_CHANNELS), self.logarithmic(MOST_CHANNELS)
        kind = self.one_of(GROUPS)
        if kind == "depthwise":
            return channels, channels, channels
        divisors = [d for d in range(2, channels + 1) if channels % d == 0 and d <= filters]
        if kind == "one" or not divisors:
            return channels, filters, 1
        groups = divisors[int(self._generator.integers(len(divisors)))]
        return channels, filters // groups * groups, groups

    def taps(self, most: int) -> int:
        """The most is odd itself."""
        taps = self.logarithmic(most)
        return taps | 1 if self.one_of(ODD) else taps

    def output(self, n: int, positions: float) -> Ints:
        """About so many positions, with equal axes mostly."""
        spread = math.log(LONGEST_TO_SHORTEST) / 2
        shares = self.along_axes(n, lambda: self._generator.uniform(-spread, spread))
        return tuple(round(positions ** (1 / n) * math.exp(share - sum(shares) / n)) for share in shares)

    def along_axes(self, n: int, draw: Callable[[], Value]) -> tuple[Value, ...]:
        return (draw(),) * n if self.one_of(SAME_ALONG_AXES) else tuple(draw() for _ in range(n))

    def logarithmic(self, most: int) -> int:
        """From 1 to the most, each doubling as likely as the others."""
        return min(most, int(math.exp(self._generator.uniform(0, math.log(most + 1)))))

    def one_of(self, weighted: Weighted[Value]) -> Value:
        return list(weighted)[int(self._generator.choice(len(weighted), p=list(weighted.values())))]


def _named(layer: Layer) -> Layer:
    """With a name that is put together from all its numbers, those left out that are 1."""

    def numbers(sign: str, values: Ints) -> str:
        shortest = values[:1] if len(set(values)) == 1 else values
        return f"{sign}{'x'.join(map(str, shortest))}" if max(values) > 1 else ""

    kernel, size = ("x".join(map(str, values)) for values in (layer.kernel_size, layer.input_shape[2:]))
    steps = numbers("/", layer.stride) + numbers(" dilated ", layer.dilation) + numbers(" padded ", layer.padding)
    channels = f"{layer.input_shape[1]}-{layer.weight_shape[0]}" + (f" in {layer.groups}" if layer.groups > 1 else "")
    return replace(layer, name=f"{kernel}{steps} {channels} @{layer.input_shape[0]}x{size}")
