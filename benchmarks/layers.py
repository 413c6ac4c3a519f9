"""The layers that are timed, of networks and drawn at random: shapes and keywords, no arrays."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

import xconv
from xconv._plan.geometry import effective_size

from .lines import Ints, read

QUICK_BATCH, QUICK_WINDOWS = 2, 2  # and how far the input reaches beyond a window

# What it means is in networks.toml.
NAME = re.compile(r"(?:.* )?([\dx]+)(?:/([\dx]+))? (\d+)(?:-(\d+)| dw)? @([\dx]+)")

# Layers drawn at random, on which the choice of a method is judged: nobody has fitted it to them.
MULTIPLY_ADDS = 1e6, 3e9
MOST_ELEMENTS = 16e6  # of input, filters and output together
MOST_TAPS_OF_AXIS = {1: 31, 2: 31, 3: 7}  # by how many spatial axes there are
LEAST_OUTPUT = 3  # positions along an axis
LONGEST_TO_SHORTEST = 4.0  # axis of an output

Value = TypeVar("Value")


@dataclass(frozen=True)
class Layer:
    """One convolution: x (N, C, *d) with w (K, C/G, *k) and symmetric padding, one int per spatial axis."""

    suite: str
    name: str
    input_shape: Ints
    weight_shape: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int

    @property
    def kernel_size(self) -> Ints:
        return self.weight_shape[2:]

    @property
    def keywords(self) -> dict[str, Any]:
        """What convolutions take beside arrays and sizes."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}

    @property
    def windows(self) -> dict[str, Ints]:
        """What pools take beside arrays."""
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding")}

    @functools.cached_property
    def shapes(self) -> tuple[Ints, Ints, Ints]:
        """Of x, w and dy."""
        shapes = self.input_shape, self.weight_shape
        return *shapes, xconv.conv_output_shape(*shapes, **self.keywords)

    @property
    def multiply_adds(self) -> int:
        """How many the direct algorithm does, those with zeros of the padding included. Both gradients do as many."""
        return math.prod(self.shapes[-1]) * math.prod(self.weight_shape[1:])


def shrunk(layer: Layer) -> Layer:
    """The layer of few samples, which are hardly larger than a window: for a quick run."""
    batch, channels, *size = layer.input_shape
    reach = effective_size(layer.kernel_size, layer.dilation)
    sizes = (min(d, r + QUICK_WINDOWS) for d, r in zip(size, reach, strict=True))
    return replace(layer, input_shape=(min(batch, QUICK_BATCH), channels, *sizes))


def layer_of(suite: str, batch: int, words: str) -> Layer:
    """The layer of a name, padded so that stride 1 keeps odd kernels' sizes, or as it says behind the name."""
    name, _, around = words.partition(" padded ")
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"the name of a layer is like '7x7/2 3-64 @224', got {name!r}")
    kernel, stride, size = (tuple(map(int, (text or "1").split("x"))) for text in found.group(1, 2, 5))
    channels, filters, n = int(found[3]), int(found[4] or found[3]), len(kernel)
    stride, size = (values * n if len(values) == 1 else values for values in (stride, size))
    padding = (int(around),) * n if around else tuple(k // 2 for k in kernel)
    groups = 1 if found[4] else channels
    weight_shape = (filters, channels // groups, *kernel)
    return Layer(suite, name, (batch, channels, *size), weight_shape, stride, padding, (1,) * n, groups)


SUITES = {
    suite: [layer_of(suite, part["batch"], words) for part in parts for words in part["layers"]]
    for suite, parts in read("networks").items()
}


def draw_layers(count: int, seed: int) -> list[Layer]:
    """So many layers, of which fewer are the first: from one generator, so that they are the same everywhere.

    Draws that are no layers, or too small or too large, are drawn again.
    """
    generator = np.random.default_rng(seed)
    drawn = (_drawn(generator) for _ in itertools.count())
    return list(itertools.islice(filter(None, drawn), count))


def _drawn(generator: np.random.Generator) -> Layer | None:
    """Everything but the size, then the size that needs about as many multiply-adds as were drawn.

    None is with an axis shorter than a window reaches, as none is in a network.
    """

    def one_of(values: Sequence[Value], *weights: float) -> Value:
        return values[int(generator.choice(len(values), p=weights))]

    def up_to(most: int) -> int:  # each doubling is as likely as the others
        return min(most, int(math.exp(generator.uniform(0, math.log(most + 1)))))

    def along_axes(draw: Callable[[], Value]) -> tuple[Value, ...]:
        return (draw(),) * n if one_of((True, False), 0.85, 0.15) else tuple(draw() for _ in range(n))

    n, batch, channels, filters = one_of((1, 2, 3), 0.2, 0.6, 0.2), up_to(32), up_to(256), up_to(256)
    groups, kind = 1, one_of(("one", "depthwise", "divisor"), 0.75, 0.15, 0.1)
    divisors = [d for d in range(2, channels + 1) if channels % d == 0 and d <= filters]
    if kind == "depthwise":
        groups = filters = channels
    elif kind == "divisor" and divisors:
        groups = divisors[int(generator.integers(len(divisors)))]
        filters -= filters % groups
    kernel = along_axes(lambda: up_to(MOST_TAPS_OF_AXIS[n]) | one_of((1, 0), 0.8, 0.2))  # odd ones mostly
    stride = along_axes(lambda: one_of((1, 2, 3), 0.75, 0.2, 0.05))
    dilation = (one_of((1, 2, 3), 0.9, 0.07, 0.03),) * n
    reach, keeps_size = effective_size(kernel, dilation), one_of((True, False), 0.75, 0.25)  # if there are no strides
    padding = tuple((r - 1) // 2 * keeps_size for r in reach)
    weight_shape = (filters, channels // groups, *kernel)
    least, most = MULTIPLY_ADDS
    multiply_adds = math.exp(generator.uniform(math.log(least), math.log(most)))
    spread = math.log(LONGEST_TO_SHORTEST) / 2
    shares = along_axes(lambda: generator.uniform(-spread, spread))
    edge = (multiply_adds / (batch * math.prod(weight_shape))) ** (1 / n)
    output = [round(edge * math.exp(share - sum(shares) / n)) for share in shares]
    size = [(o - 1) * s + r - 2 * p for o, s, r, p in zip(output, stride, reach, padding, strict=True)]
    if min(output) < LEAST_OUTPUT or any(d < r for d, r in zip(size, reach, strict=True)):
        return None
    layer = Layer("drawn", "", (batch, channels, *size), weight_shape, stride, padding, dilation, groups)
    fits = least <= layer.multiply_adds <= most and sum(map(math.prod, layer.shapes)) <= MOST_ELEMENTS
    return replace(layer, name=name_of(layer)) if fits else None


def name_of(layer: Layer) -> str:
    """All numbers, those left out that are 1, and one for axes that have the same."""

    def words(sign: str, values: Ints) -> str:
        text = "x".join(map(str, values if len({*values}) > 1 else values[:1]))
        return sign + text if max(values) > 1 else ""

    (batch, channels, *size), signs = layer.input_shape, ("/", " dilated ", " padded ", " in ")
    steps = map(words, signs, (layer.stride, layer.dilation, layer.padding, (layer.groups,)))
    kernel, sizes = ("x".join(map(str, values)) for values in (layer.kernel_size, (batch, *size)))
    return f"{kernel}{''.join(steps)} {channels}-{layer.weight_shape[0]} @{sizes}"
