"""Layers drawn at random, on which the choice of a method is judged: nobody has fitted it to them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .suites import Ints, Layer, shortest

SUITE = "drawn"

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
    return list(itertools.islice(_layers(np.random.default_rng(seed)), count))


def _layers(generator: np.random.Generator) -> Iterator[Layer]:
    """Draws that are no layers, or too small or too large, are drawn again."""
    while True:
        layer = _draw(generator)
        if layer is not None and _in_bounds(layer):
            yield layer


def _in_bounds(layer: Layer) -> bool:
    """Whether no axis is shorter than a window reaches, as in no network, and the sizes are as they should be."""
    covered = all(d >= e for d, e in zip(layer.input_shape[2:], layer.extent, strict=True))
    return covered and LEAST_MULTIPLY_ADDS <= layer.multiply_adds <= MOST_MULTIPLY_ADDS and layer.bytes <= MOST_BYTES


def _draw(generator: np.random.Generator) -> Layer | None:
    """Everything but the size, then the size that needs about as many multiply-adds as were drawn, if there is one."""
    n = _one_of(generator, AXES)
    batch = _logarithmic(generator, MOST_BATCH)
    channels, filters, groups = _draw_channels(generator)
    kernel = _along_axes(generator, n, lambda: _draw_taps(generator, MOST_TAPS_OF_AXIS[n]))
    stride = _along_axes(generator, n, lambda: _one_of(generator, STRIDES))
    dilation = (_one_of(generator, DILATIONS),) * n
    keeps_size = _one_of(generator, KEEPS_SIZE)
    padding = tuple(a * (k - 1) // 2 if keeps_size else 0 for a, k in zip(dilation, kernel, strict=True))
    weight_shape = (filters, channels // groups, *kernel)
    multiply_adds = math.exp(generator.uniform(math.log(LEAST_MULTIPLY_ADDS), math.log(MOST_MULTIPLY_ADDS)))
    output = _draw_output(generator, n, multiply_adds / (batch * math.prod(weight_shape)))
    size = tuple(
        (o - 1) * s + a * (k - 1) + 1 - 2 * p
        for o, k, s, a, p in zip(output, kernel, stride, dilation, padding, strict=True)
    )
    if min(output) < LEAST_OUTPUT or min(size) < 1:
        return None
    return _named(Layer(SUITE, "", (batch, channels, *size), weight_shape, stride, padding, dilation, groups))


def _draw_channels(generator: np.random.Generator) -> Ints:
    """Channels, filters and groups: mostly one group, else one per channel, or a divisor of both."""
    channels, filters = _logarithmic(generator, MOST_CHANNELS), _logarithmic(generator, MOST_CHANNELS)
    kind = _one_of(generator, GROUPS)
    if kind == "depthwise":
        return channels, channels, channels
    divisors = [d for d in range(2, channels + 1) if channels % d == 0 and d <= filters]
    if kind == "one" or not divisors:
        return channels, filters, 1
    groups = divisors[int(generator.integers(len(divisors)))]
    return channels, filters // groups * groups, groups


def _draw_taps(generator: np.random.Generator, most: int) -> int:
    """The most is odd itself."""
    taps = _logarithmic(generator, most)
    return taps | 1 if _one_of(generator, ODD) else taps


def _draw_output(generator: np.random.Generator, n: int, positions: float) -> Ints:
    """About so many positions, with equal axes mostly."""
    spread = math.log(LONGEST_TO_SHORTEST) / 2
    shares = _along_axes(generator, n, lambda: generator.uniform(-spread, spread))
    mean = sum(shares) / n
    return tuple(round(positions ** (1 / n) * math.exp(share - mean)) for share in shares)


def _along_axes(generator: np.random.Generator, n: int, draw: Callable[[], Value]) -> tuple[Value, ...]:
    if _one_of(generator, SAME_ALONG_AXES):
        return (draw(),) * n
    return tuple(draw() for _ in range(n))


def _logarithmic(generator: np.random.Generator, most: int) -> int:
    """From 1 to the most, each doubling as likely as the others."""
    return min(most, int(math.exp(generator.uniform(0, math.log(most + 1)))))


def _one_of(generator: np.random.Generator, weighted: Weighted[Value]) -> Value:
    values, weights = list(weighted), list(weighted.values())
    return values[int(generator.choice(len(values), p=weights))]


def _named(layer: Layer) -> Layer:
    """With a name that is put together from all its numbers, those left out that are 1."""

    def numbers(sign: str, values: Ints) -> str:
        return f"{sign}{'x'.join(map(str, shortest(values)))}" if max(values) > 1 else ""

    kernel, size = ("x".join(map(str, values)) for values in (layer.kernel_size, layer.input_shape[2:]))
    steps = numbers("/", layer.stride) + numbers(" dilated ", layer.dilation) + numbers(" padded ", layer.padding)
    groups = f" in {layer.groups}" if layer.groups > 1 else ""
    channels = f"{layer.input_shape[1]}-{layer.weight_shape[0]}{groups}"
    return replace(layer, name=f"{kernel}{steps} {channels} @{layer.input_shape[0]}x{size}")
