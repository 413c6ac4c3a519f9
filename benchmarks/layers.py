"""The layers that are timed, of networks and drawn at random: shapes and keywords, no arrays."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

import xconv

Ints = tuple[int, ...]

QUICK_BATCH, QUICK_CHANNELS, QUICK_SIZE = 2, 8, 12
QUICK_WINDOWS = 4  # how far beyond a large kernel the input reaches


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
    def keywords(self) -> dict[str, Any]:
        """What the functions of xconv take beside the arrays."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}

    @property
    def kernel_size(self) -> Ints:
        return self.weight_shape[2:]

    @property
    def extent(self) -> Ints:
        """How far a window reaches along each axis."""
        return tuple(a * (k - 1) + 1 for a, k in zip(self.dilation, self.kernel_size, strict=True))

    @functools.cached_property
    def output_shape(self) -> Ints:
        return xconv.conv_output_shape(self.input_shape, self.weight_shape, **self.keywords)

    @property
    def shapes(self) -> tuple[Ints, Ints, Ints]:
        """Of x, w and dy."""
        return self.input_shape, self.weight_shape, self.output_shape

    @property
    def multiply_adds(self) -> int:
        """How many the direct algorithm does, those with zeros of the padding included. Both gradients do as many."""
        return math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    def arrays(self, dtype: str = "float32") -> list[np.ndarray]:
        """x, w and dy, the same for the same layer."""
        return [random(shape, dtype, seed) for seed, shape in enumerate(self.shapes)]


def random(shape: Ints, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Numbers, the same for the same shape and seed."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype, copy=False)


def shrunk(layer: Layer) -> Layer:
    """The layer with the same kernel, stride and grouping, so small that it takes no time, for a quick run."""
    batch, _, *size = layer.input_shape
    filters, group_channels, *kernel = layer.weight_shape
    groups = min(layer.groups, QUICK_CHANNELS)
    most = QUICK_CHANNELS // groups
    channels, filters = groups * min(group_channels, most), groups * min(filters // layer.groups, most)
    sizes = (min(d, max(QUICK_SIZE, e + QUICK_WINDOWS)) for d, e in zip(size, layer.extent, strict=True))
    shapes = (min(batch, QUICK_BATCH), channels, *sizes), (filters, channels // groups, *kernel)
    return replace(layer, input_shape=shapes[0], weight_shape=shapes[1], groups=groups)


# "7x7/2 3-64 @224": a kernel, by strides, from 3 to 64 channels of 224x224; 64 alone is 64 groups of one.
NAME = re.compile(r"(?:.* )?([\dx]+)(?:/([\dx]+))? (\d+)(?:-(\d+)| dw)? @([\dx]+)")


def layer_of(suite: str, batch: int, words: str) -> Layer:
    """The layer of a name, padded so that stride 1 keeps odd kernels' sizes, or as it says behind the name."""
    name, _, around = words.partition(" padded ")
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"the name of a layer is like '7x7/2 3-64 @224', got {name!r}")
    kernel, channels, filters = _numbers(found[1]), int(found[3]), int(found[4] or found[3])
    groups, n = 1 if found[4] else channels, len(kernel)
    size, stride = (values * n if len(values) == 1 else values for values in map(_numbers, (found[5], found[2] or "1")))
    padding = (int(around),) * n if around else tuple(k // 2 for k in kernel)
    weight_shape = (filters, channels // groups, *kernel)
    return Layer(suite, name, (batch, channels, *size), weight_shape, stride, padding, (1,) * n, groups)


def _numbers(text: str) -> Ints:
    return tuple(map(int, text.split("x")))


# Of a network every shape once, by suite and batch; ResNet-50 is v1.5, which strides in its 3x3 layers.
_NAMES = {
    ("resnet50", 8): """7x7/2 3-64 @224, 1x1 64-64 @56, 3x3 64-64 @56, 1x1 64-256 @56, 1x1 256-64 @56, 1x1 256-128 @56,
        3x3/2 128-128 @56, 1x1/2 256-512 @56, 1x1 128-512 @28, 1x1 512-128 @28, 3x3 128-128 @28, 1x1 512-256 @28,
        3x3/2 256-256 @28, 1x1/2 512-1024 @28, 1x1 256-1024 @14, 1x1 1024-256 @14, 3x3 256-256 @14,
        1x1 1024-512 @14, 3x3/2 512-512 @14, 1x1/2 1024-2048 @14, 1x1 512-2048 @7, 1x1 2048-512 @7, 3x3 512-512 @7""",
    ("vgg16", 2): """3x3 3-64 @224, 3x3 64-64 @224, 3x3 64-128 @112, 3x3 128-128 @112, 3x3 128-256 @56,
        3x3 256-256 @56, 3x3 256-512 @28, 3x3 512-512 @28, 3x3 512-512 @14""",
    ("small", 100): """SimpleConvNet 5x5 1-30 @28 padded 0, DeepConvNet 3x3 1-16 @28, DeepConvNet 3x3 16-16 @28,
        DeepConvNet 3x3 16-32 @14, DeepConvNet 3x3 32-32 @14 padded 2, DeepConvNet 3x3 32-64 @8,
        DeepConvNet 3x3 64-64 @8, LeNet-5 5x5 1-6 @28, LeNet-5 5x5 6-16 @14 padded 0, CIFAR-10 3x3 3-32 @32,
        CIFAR-10 3x3 32-32 @32, CIFAR-10 3x3 32-64 @16, CIFAR-10 3x3 64-64 @16, CIFAR-10 5x5 3-64 @32""",
    ("depthwise", 8): """MobileNet v1 3x3 32 dw @112, MobileNet v1 3x3/2 64 dw @112, MobileNet v1 3x3 128 dw @56,
        MobileNet v1 3x3/2 256 dw @28, MobileNet v1 3x3 512 dw @14, MobileNet v2 3x3/2 96 dw @112,
        MobileNet v2 3x3 144 dw @56, MobileNet v2 3x3 960 dw @7""",
    ("large_kernel", 1): """image 31x31 1-1 @512 padded 0, image 31x31 1-1 @1024 padded 0,
        image 31x31 8-8 @128 padded 0, RepLKNet 31x31 64 dw @56, audio 1024 1-1 @1000000 padded 0,
        audio 1024 2-2 @200000 padded 0""",
    ("pool", 8): "3x3/2 64 dw @112, 2x2/2 64 dw @56 padded 0, 3x3 64 dw @56",
    ("pool", 100): "2x2/2 30 dw @24 padded 0",
    ("latency", 1): "valid 3x3 1-1 @8 padded 0, padded 3x3 1-1 @8",
    ("volume", 1): "3x3x3 1-16 @64, 3x3x3 16-32 @32, 3x3x3 32-32 @32, 3x3x3 64-64 @16",
    ("volume", 2): "video 3x7x7/1x2x2 3-64 @16x112x112",
}
SUITES: dict[str, list[Layer]] = {}
for (_suite, _batch), _names in _NAMES.items():
    SUITES.setdefault(_suite, []).extend(layer_of(_suite, _batch, " ".join(name.split())) for name in _names.split(","))

# Layers drawn at random, on which the choice of a method is judged: nobody has fitted it to them.
LEAST_MULTIPLY_ADDS, MOST_MULTIPLY_ADDS = 1e6, 3e9
MOST_ELEMENTS = 16e6  # of input, filters and output together
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
        fits = LEAST_MULTIPLY_ADDS <= layer.multiply_adds <= MOST_MULTIPLY_ADDS
        return layer if fits and sum(map(math.prod, layer.shapes)) <= MOST_ELEMENTS else None

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
