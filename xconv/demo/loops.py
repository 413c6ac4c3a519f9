"""Convolution and pooling as plain loops over Python numbers and NumPy float64: what `check` compares xconv with.

Nothing here calls xconv. One list of index triples, straight from ``y[u, k, m] = sum of x[u, c, a*j + s*m - lo] *
w[k, c, j]``, serves the convolution and both of its adjoints.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Index = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One convolution: sizes, and the keywords of `xconv.conv` with one entry per axis.

    The letters are those of xconv's documentation; ``d``, ``k``, ``s`` and ``a`` are per axis, ``padding`` pairs.
    """

    d: Index
    k: Index
    s: Index
    a: Index
    padding: tuple[tuple[int, int], ...]
    groups: int = 1
    N: int = 2
    C: int = 2
    K: int = 4

    @property
    def o(self) -> Index:
        sizes = zip(self.d, self.k, self.s, self.a, self.padding, strict=True)
        return tuple((d + lo + hi - a * (k - 1) - 1) // s + 1 for d, k, s, a, (lo, hi) in sizes)

    @property
    def input_shape(self) -> Index:
        return (self.N, self.C, *self.d)

    @property
    def weight_shape(self) -> Index:
        return (self.K, self.C // self.groups, *self.k)

    @property
    def output_shape(self) -> Index:
        return (self.N, self.K, *self.o)

    @property
    def pooled_shape(self) -> Index:
        return (self.N, self.C, *self.o)

    @property
    def output_padding(self) -> Index:
        """What a transposed convolution of o must be told to give d: the elements that no window reaches at the end."""
        sizes = zip(self.d, self.k, self.s, self.a, self.padding, strict=True)
        return tuple((d + lo + hi - a * (k - 1) - 1) % s for d, k, s, a, (lo, hi) in sizes)

    @property
    def geometry(self) -> dict[str, Any]:
        return {"stride": self.s, "padding": self.padding, "dilation": self.a}

    @property
    def keywords(self) -> dict[str, Any]:
        """What `xconv.conv` and its gradients take."""
        return {**self.geometry, "groups": self.groups}

    @property
    def window_keywords(self) -> dict[str, Any]:
        """What `xconv.im2col` and the pools take."""
        return {**self.geometry, "kernel_size": self.k}

    def __str__(self) -> str:
        """What tells it from others in a message."""
        keywords = ", ".join(f"{name} {value}" for name, value in self.keywords.items())
        return f"input {self.input_shape}, filters {self.weight_shape}, {keywords}"

    def source(self, m: Index, j: Index) -> Index | None:
        """The input element that window m reads at its element j, or None in the padding."""
        terms = zip(m, j, self.s, self.a, self.padding, self.d, strict=True)
        place = tuple(a * j + s * m - lo for m, j, s, a, (lo, _), _ in terms)
        return place if all(0 <= i < d for i, d in zip(place, self.d, strict=True)) else None

    def products(self) -> Iterator[tuple[Index, Index, Index]]:
        """Where in x, w and y each product of the convolution takes its factors and adds itself."""
        for m, j in itertools.product(np.ndindex(self.o), np.ndindex(self.k)):
            i = self.source(m, j)
            if i is not None:
                for u, k, c in np.ndindex(self.N, self.K, self.C // self.groups):
                    group = k // (self.K // self.groups)
                    yield (u, group * (self.C // self.groups) + c, *i), (k, c, *j), (u, k, *m)


def convolve(case: Case, x: Any, w: Any) -> Any:
    """The convolution itself."""
    y = np.zeros(case.output_shape)
    for in_x, in_w, in_y in case.products():
        y[in_y] += x[in_x] * w[in_w]
    return y


def convolve_back(case: Case, y: Any, w: Any) -> Any:
    """Its adjoint in x: every product goes back to where its factor came from."""
    x = np.zeros(case.input_shape)
    for in_x, in_w, in_y in case.products():
        x[in_x] += y[in_y] * w[in_w]
    return x


def pool(case: Case, x: Any, reduce: Any, outside: float) -> Any:
    """``reduce`` over each window of a channel, whose elements in the padding count as ``outside``."""
    y = np.zeros(case.pooled_shape)
    for u, c, *m in np.ndindex(y.shape):
        sources = [case.source(tuple(m), j) for j in np.ndindex(case.k)]
        y[u, c, *m] = reduce([outside if i is None else x[u, c, *i] for i in sources])
    return y
