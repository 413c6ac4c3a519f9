"""How the network learns: momentum, the rate over time, and the steps, free of any display or file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backends import LoadedBackend
from .data import Digits, shift_randomly, shuffled_batches
from .network import Network, accuracy, cross_entropy

MOMENTUM = 0.9
RATE_PER_IMAGE = 0.001  # small batches have noisy gradients, which only small steps average out
LARGEST_RATE = 0.1
WARM_UP = 0.1  # the part of all steps in which the rate climbs to its peak
CHUNK = 250  # images at once where nothing is learned: bounds the memory


@dataclass(frozen=True)
class Step:
    """One step of a training: its place, and the network's loss and accuracy on the batch before it learned from it."""

    epoch: int
    is_last_of_epoch: bool
    images: int
    loss: float
    accuracy: float


class Momentum:
    """Gradient descent that keeps part of its speed, ``v = MOMENTUM*v - rate*gradient``, on a network's weights."""

    def __init__(self, network: Network) -> None:
        self._layers = network.trained_layers
        self._speeds: dict[str, tuple[Any, Any]] = dict.fromkeys(self._layers, (0.0, 0.0))

    def step(self, rate: float) -> None:
        """Move all weights by the gradients of the last ``backward``."""
        for name, layer in self._layers.items():
            speed_W, speed_b = self._speeds[name]
            speed_W = MOMENTUM * speed_W - rate * layer.dW
            speed_b = MOMENTUM * speed_b - rate * layer.db
            layer.W += speed_W  # in place where arrays can be changed, a new array in JAX
            layer.b += speed_b
            self._speeds[name] = speed_W, speed_b


def learning_rate(progress: float, batch_size: int) -> float:
    """The rate when this part of all steps (0 to 1) is done: up a ramp to its peak, then down a cosine to 0."""
    peak = min(LARGEST_RATE, RATE_PER_IMAGE * batch_size)
    return peak * min(1.0, progress / WARM_UP) * (1 + math.cos(math.pi * progress)) / 2


def count_steps(digits: Digits, epochs: int, batch_size: int) -> int:
    """The number of steps that `training_steps` takes."""
    return epochs * math.ceil(len(digits) / batch_size)


def training_steps(
    network: Network, digits: Digits, backend: LoadedBackend, rng: np.random.Generator, epochs: int, batch_size: int
) -> Iterator[Step]:
    """Train the network in place, and tell of every step once it is taken."""
    optimizer = Momentum(network)
    total, done = count_steps(digits, epochs, batch_size), 0
    for epoch in range(1, epochs + 1):
        batches = shuffled_batches(digits, batch_size, rng)
        for number, batch in enumerate(batches, start=1):
            done += 1
            targets = backend.from_numpy(batch.targets)
            logits = network.forward(backend.from_numpy(shift_randomly(batch.images, rng)))
            loss, dlogits = cross_entropy(logits, targets)
            network.backward(dlogits)
            optimizer.step(learning_rate(done / total, batch_size))
            yield Step(epoch, number == len(batches), len(batch), float(loss), accuracy(logits, targets))


def predict(network: Network, images: Any, backend: LoadedBackend) -> Any:
    """The network's output for images (N, 1, 28, 28), in NumPy: (N, 10)."""
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    return np.concatenate([backend.to_numpy(network.forward(backend.from_numpy(part))) for part in parts])
