"""A small convolutional classifier on any backend: xconv's layers, an affine layer, ReLU and the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from array_api_compat import array_namespace

from .. import Convolution, Pooling
from .._arrays.libraries import Array

FIRST_FILTERS = "conv1.W"


class Layer(Protocol):
    """What a network is made of: ``backward`` belongs to the last ``forward``."""

    def forward(self, x: Array) -> Array:
        """Map the input to the output."""

    def backward(self, dout: Array) -> Array:
        """Map the gradient by the output to that by the input."""


class TrainedLayer(Layer, Protocol):
    """A layer that learns: ``backward`` leaves the gradients of ``W`` and ``b`` in ``dW`` and ``db``."""

    W: Array
    b: Array
    dW: Array
    db: Array


class Affine:
    """``x W + b`` for every sample, whatever the shape of a sample.

    Parameters
    ----------
    W : array, shape (features, outputs)
    b : array, shape (outputs,)
    """

    def __init__(self, W: Array, b: Array) -> None:
        self.W = W
        self.b = b
        self.dW: Array = None
        self.db: Array = None

    def forward(self, x: Array) -> Array:
        """Map samples (N, ...) to (N, outputs)."""
        xp = array_namespace(x)
        self._input_shape = x.shape
        self._rows = xp.reshape(x, (x.shape[0], -1))
        return xp.matmul(self._rows, self.W) + self.b

    def backward(self, dout: Array) -> Array:
        """Take the gradient by the output (N, outputs), return that by the input, (N, ...)."""
        xp = array_namespace(dout)
        self.dW = xp.matmul(self._rows.T, dout)
        self.db = xp.sum(dout, axis=0)
        return xp.reshape(xp.matmul(dout, self.W.T), self._input_shape)


class ReLU:
    """``max(x, 0)``, elementwise."""

    def forward(self, x: Array) -> Array:
        """Set what is negative to 0."""
        self._positive = x > 0
        return self._where_positive(x)

    def backward(self, dout: Array) -> Array:
        """Set the gradient to 0 where the input was negative."""
        return self._where_positive(dout)

    def _where_positive(self, array: Array) -> Array:
        xp = array_namespace(array)
        return xp.where(self._positive, array, xp.zeros_like(array))


class Network:
    """Named layers, one after the other."""

    def __init__(self, **layers: Layer) -> None:
        self.layers = layers

    @property
    def trained_layers(self) -> dict[str, TrainedLayer]:
        """Those that have weights."""
        return {name: layer for name, layer in self.layers.items() if hasattr(layer, "W")}  # type: ignore[misc]

    @property
    def parameters(self) -> dict[str, Array]:
        """All weights and biases, by names such as ``conv1.W``."""
        layers = self.trained_layers
        return {f"{name}.{part}": getattr(layer, part) for name, layer in layers.items() for part in ("W", "b")}

    def forward(self, x: Array) -> Array:
        """Map images (N, 1, 28, 28) to one number per class, (N, 10): the larger, the more likely."""
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def backward(self, dout: Array) -> Array:
        """Take the gradient of the loss by the output, give every layer its own, return that by the input."""
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        return dout


def build_network(rng: np.random.Generator, convert: Callable[[Any], Array]) -> Network:
    """Draw the weights in NumPy, float32, and convert them: one seed gives one network on every backend.

    Pooling stands before ReLU, which gives the same (both keep order) with a quarter of the elements to clip.
    """

    def parameters(*shape: int, inputs: int, outputs: int) -> tuple[Array, Array]:
        spread = np.sqrt(2 / inputs)  # He: keeps the variance through ReLU
        W = (spread * rng.standard_normal(shape)).astype(np.float32)
        return convert(W), convert(np.zeros(outputs, dtype=np.float32))

    return Network(
        conv1=Convolution(*parameters(16, 1, 5, 5, inputs=25, outputs=16), pad=2),
        pool1=Pooling(2, 2),
        relu1=ReLU(),
        conv2=Convolution(*parameters(32, 16, 3, 3, inputs=16 * 9, outputs=32), pad=1),
        pool2=Pooling(2, 2),
        relu2=ReLU(),
        affine1=Affine(*parameters(32 * 49, 128, inputs=32 * 49, outputs=128)),
        relu3=ReLU(),
        affine2=Affine(*parameters(128, 10, inputs=128, outputs=10)),
    )


def cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Mean of ``-log softmax(logits)`` at the right class, and its gradient by the logits.

    Parameters
    ----------
    logits, targets : array, shape (N, classes)
        The network's output, and the probability that each class is the right one.

    Returns
    -------
    loss : array, 0-d
    dlogits : array, shape (N, classes)
    """
    xp = array_namespace(logits)
    shifted = logits - xp.max(logits, axis=1, keepdims=True)  # exp of nothing above 0 cannot overflow
    log_softmax = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    loss = -xp.sum(targets * log_softmax) / logits.shape[0]
    return loss, (xp.exp(log_softmax) - targets) / logits.shape[0]


def accuracy(logits: Array, targets: Array) -> float:
    """The part of the samples whose largest number is at the right class."""
    xp = array_namespace(logits)
    right = xp.argmax(logits, axis=1) == xp.argmax(targets, axis=1)
    return int(xp.sum(xp.astype(right, xp.int32))) / int(right.shape[0])
