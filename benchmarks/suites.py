"""The layers that are timed: shapes and keywords, no arrays. A layer's name says what it is."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import xconv

Ints = tuple[int, ...]

ITEM_BYTES = 4  # float32

QUICK_BATCH = 2
QUICK_CHANNELS = 8
QUICK_SIZE = 12
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
    def multiply_adds(self) -> int:
        """How many the direct algorithm does, those with zeros of the padding included. Both gradients do as many."""
        return math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def bytes(self) -> int:
        """The size of x, w and y together: each of the three operations reads two of them and writes the third."""
        return ITEM_BYTES * sum(map(math.prod, self.shapes))

    @property
    def shapes(self) -> tuple[Ints, Ints, Ints]:
        """Of x, w and dy."""
        return self.input_shape, self.weight_shape, self.output_shape

    def arrays(self) -> list[np.ndarray]:
        """x, w and dy, the same for the same layer."""
        generator = np.random.default_rng(0)
        return [generator.standard_normal(shape, dtype=np.float32) for shape in self.shapes]


def random(shape: Ints) -> np.ndarray:
    """Numbers, the same for the same shape."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def shrunk(layer: Layer, quick: bool = True) -> Layer:
    """The layer with the same kernel, stride and grouping, so small that it takes no time, for a quick run."""
    if not quick:
        return layer
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
    ("latency", 1): "valid 3x3 1-1 @8 padded 0, padded 3x3 1-1 @8",
    ("volume", 1): "3x3x3 1-16 @64, 3x3x3 16-32 @32, 3x3x3 32-32 @32, 3x3x3 64-64 @16",
    ("volume", 2): "video 3x7x7/1x2x2 3-64 @16x112x112",
}
SUITES: dict[str, list[Layer]] = {}
for (_suite, _batch), _names in _NAMES.items():
    SUITES.setdefault(_suite, []).extend(layer_of(_suite, _batch, " ".join(name.split())) for name in _names.split(","))
