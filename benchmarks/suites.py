"""The layers that are timed: shapes and keywords, no arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

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
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def kernel_size(self) -> Ints:
        return self.weight_shape[2:]

    @property
    def extent(self) -> Ints:
        """How far a window reaches along each axis."""
        return tuple(a * (k - 1) + 1 for a, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def output_shape(self) -> Ints:
        return xconv.conv_output_shape(self.input_shape, self.weight_shape, **self.keywords)

    @property
    def multiply_adds(self) -> int:
        """How many the direct algorithm does, those with zeros of the padding included. Both gradients do as many."""
        return math.prod(self.output_shape) * math.prod(self.weight_shape[1:])

    @property
    def bytes(self) -> int:
        """The size of x, w and y together: each of the three operations reads two of them and writes the third."""
        return ITEM_BYTES * sum(map(math.prod, (self.input_shape, self.weight_shape, self.output_shape)))

    @property
    def nameless(self) -> Layer:
        """The same for every layer with these shapes and keywords."""
        return replace(self, suite="", name="")


def shrunk(layer: Layer) -> Layer:
    """The layer with the same kernel, stride and grouping, so small that it takes no time."""
    batch, _, *size = layer.input_shape
    filters, group_channels, *kernel = layer.weight_shape
    groups = min(layer.groups, QUICK_CHANNELS)
    most = QUICK_CHANNELS // groups
    group_channels, group_filters = min(group_channels, most), min(filters // layer.groups, most)
    sizes = (min(d, max(QUICK_SIZE, e + QUICK_WINDOWS)) for d, e in zip(size, layer.extent, strict=True))
    return replace(
        layer,
        input_shape=(min(batch, QUICK_BATCH), groups * group_channels, *sizes),
        weight_shape=(groups * group_filters, group_channels, *kernel),
        groups=groups,
    )


def layer_of(
    suite: str, network: str, input_shape: Ints, weight_shape: Ints, stride: int | Ints = 1, padding: int | Ints = 0
) -> Layer:
    """A layer whose name is put together from its numbers; groups follow from the channels of x and w."""
    n = len(input_shape) - 2
    strides = _per_axis(stride, n)
    groups = input_shape[1] // weight_shape[1]
    channels = f"{input_shape[1]} dw" if groups > 1 else f"{input_shape[1]}-{weight_shape[0]}"
    step = f"/{'x'.join(map(str, shortest(strides)))}" if max(strides) > 1 else ""
    kernel, size = "x".join(map(str, weight_shape[2:])), "x".join(map(str, shortest(input_shape[2:])))
    name = f"{network} {kernel}{step} {channels} @{size}".strip()
    return Layer(suite, name, input_shape, weight_shape, strides, _per_axis(padding, n), (1,) * n, groups)


def square(
    suite: str,
    network: str,
    batch: int,
    size: int,
    channels: int,
    filters: int,
    kernel: int,
    stride: int = 1,
    padding: int | None = None,
) -> Layer:
    """A 2-d layer on square images, padded so that stride 1 keeps their size if nothing else is said."""
    input_shape, weight_shape = (batch, channels, size, size), (filters, channels, kernel, kernel)
    return layer_of(suite, network, input_shape, weight_shape, stride, kernel // 2 if padding is None else padding)


def _depthwise(network: str, size: int, channels: int, stride: int) -> Layer:
    return layer_of("depthwise", network, (8, channels, size, size), (channels, 1, 3, 3), stride, padding=1)


def _per_axis(value: int | Ints, n: int) -> Ints:
    return (value,) * n if isinstance(value, int) else value


def shortest(values: Ints) -> Ints:
    """One number where all are equal."""
    return values[:1] if len(set(values)) == 1 else values


# ResNet-50 v1.5, which strides in its 3x3 layers: every shape once. (size, C, K, kernel, stride)
_RESNET50 = (
    (224, 3, 64, 7, 2),
    (56, 64, 64, 1, 1),
    (56, 64, 64, 3, 1),
    (56, 64, 256, 1, 1),
    (56, 256, 64, 1, 1),
    (56, 256, 128, 1, 1),
    (56, 128, 128, 3, 2),
    (56, 256, 512, 1, 2),
    (28, 128, 512, 1, 1),
    (28, 512, 128, 1, 1),
    (28, 128, 128, 3, 1),
    (28, 512, 256, 1, 1),
    (28, 256, 256, 3, 2),
    (28, 512, 1024, 1, 2),
    (14, 256, 1024, 1, 1),
    (14, 1024, 256, 1, 1),
    (14, 256, 256, 3, 1),
    (14, 1024, 512, 1, 1),
    (14, 512, 512, 3, 2),
    (14, 1024, 2048, 1, 2),
    (7, 512, 2048, 1, 1),
    (7, 2048, 512, 1, 1),
    (7, 512, 512, 3, 1),
)

# (size, C, K), all 3x3
_VGG16 = (
    (224, 3, 64),
    (224, 64, 64),
    (112, 64, 128),
    (112, 128, 128),
    (56, 128, 256),
    (56, 256, 256),
    (28, 256, 512),
    (28, 512, 512),
    (14, 512, 512),
)

_LAYERS = (
    *(square("resnet50", "", 8, *numbers) for numbers in _RESNET50),
    *(square("vgg16", "", 2, *numbers, 3) for numbers in _VGG16),
    square("small", "SimpleConvNet", 100, 28, 1, 30, 5, padding=0),
    square("small", "DeepConvNet", 100, 28, 1, 16, 3),
    square("small", "DeepConvNet", 100, 28, 16, 16, 3),
    square("small", "DeepConvNet", 100, 14, 16, 32, 3),
    square("small", "DeepConvNet", 100, 14, 32, 32, 3, padding=2),
    square("small", "DeepConvNet", 100, 8, 32, 64, 3),
    square("small", "DeepConvNet", 100, 8, 64, 64, 3),
    square("small", "LeNet-5", 100, 28, 1, 6, 5),
    square("small", "LeNet-5", 100, 14, 6, 16, 5, padding=0),
    square("small", "CIFAR-10", 100, 32, 3, 32, 3),
    square("small", "CIFAR-10", 100, 32, 32, 32, 3),
    square("small", "CIFAR-10", 100, 16, 32, 64, 3),
    square("small", "CIFAR-10", 100, 16, 64, 64, 3),
    square("small", "CIFAR-10", 100, 32, 3, 64, 5),
    _depthwise("MobileNet v1", 112, 32, 1),
    _depthwise("MobileNet v1", 112, 64, 2),
    _depthwise("MobileNet v1", 56, 128, 1),
    _depthwise("MobileNet v1", 28, 256, 2),
    _depthwise("MobileNet v1", 14, 512, 1),
    _depthwise("MobileNet v2", 112, 96, 2),
    _depthwise("MobileNet v2", 56, 144, 1),
    _depthwise("MobileNet v2", 7, 960, 1),
    square("large_kernel", "image", 1, 512, 1, 1, 31, padding=0),
    square("large_kernel", "image", 1, 1024, 1, 1, 31, padding=0),
    square("large_kernel", "image", 1, 128, 8, 8, 31, padding=0),
    layer_of("large_kernel", "RepLKNet", (1, 64, 56, 56), (64, 1, 31, 31), padding=15),
    layer_of("large_kernel", "audio", (1, 1, 1_000_000), (1, 1, 1024)),
    layer_of("large_kernel", "audio", (1, 2, 200_000), (2, 2, 1024)),
    square("latency", "valid", 1, 8, 1, 1, 3, padding=0),
    square("latency", "padded", 1, 8, 1, 1, 3),
    layer_of("volume", "", (1, 1, 64, 64, 64), (16, 1, 3, 3, 3), padding=1),
    layer_of("volume", "", (1, 16, 32, 32, 32), (32, 16, 3, 3, 3), padding=1),
    layer_of("volume", "", (1, 32, 32, 32, 32), (32, 32, 3, 3, 3), padding=1),
    layer_of("volume", "", (1, 64, 16, 16, 16), (64, 64, 3, 3, 3), padding=1),
    layer_of("volume", "video", (2, 3, 16, 112, 112), (64, 3, 3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3)),
)

SUITES = {
    suite: tuple(layer for layer in _LAYERS if layer.suite == suite)
    for suite in dict.fromkeys(layer.suite for layer in _LAYERS)
}
