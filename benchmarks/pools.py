"""Pools and col2im on NumPy's arrays beside PyTorch, as somebody with such arrays would call it."""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any

import numpy as np

import xconv
from xconv.demo.backends import load_backend

from .comparison import Comparison, Options, run_comparisons
from .peers import XCONV
from .suites import Layer, layer_of, random, shrunk
from .timing import Call

WINDOWS = ((8, "3x3/2 64 @112"), (8, "2x2/2 64 @56 padded 0"), (100, "2x2/2 30 @24 padded 0"))
POOLS = (
    *(layer_of(function, *window) for function in ("max_pool", "avg_pool", "max_pool_grad") for window in WINDOWS),
    layer_of("col2im", 8, "3x3 64 @56"),
)


def run_pools(options: Options) -> None:
    """Time them all beside PyTorch."""
    torch = load_backend("torch").module
    comparisons = (comparison(shrunk(pool, options.quick), torch) for pool in POOLS)
    run_comparisons("pools", load_backend("numpy"), comparisons, options)


def comparison(pool: Layer, torch: ModuleType) -> Comparison:
    """What is done with windows of one size, on both sides, which call the keywords by the same names."""
    make = {"max_pool_grad": _max_pool_grad, "col2im": _col2im}.get(pool.suite, _forward)
    words = {"stride": pool.stride, "padding": pool.padding}
    ours, theirs = make(pool, torch, words)
    return Comparison(pool.suite, pool.name, {XCONV: ours, "torch": theirs})


def _forward(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    x, peer = random(pool.input_shape), getattr(torch.nn.functional, f"{pool.suite}2d")
    return (
        functools.partial(getattr(xconv, pool.suite), x, pool.kernel_size, **words),
        lambda: peer(torch.from_numpy(x), pool.kernel_size, **words).numpy(),
    )


def _max_pool_grad(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    """PyTorch's gradient needs what its forward found, and xconv's finds it anew: both start from x."""
    x, dy, convert = random(pool.input_shape), random(pool.output_shape), torch.from_numpy

    def forward_and_backward() -> np.ndarray:
        with torch.enable_grad():
            leaf = convert(x).requires_grad_()
            y = torch.nn.functional.max_pool2d(leaf, pool.kernel_size, **words)
            return np.asarray(torch.autograd.grad(y, leaf, convert(dy))[0])

    return functools.partial(xconv.max_pool_grad, dy, x, pool.kernel_size, **words), forward_and_backward


def _col2im(pool: Layer, torch: ModuleType, words: dict[str, Any]) -> tuple[Call, Call]:
    """Each side has its windows as it lays them out: PyTorch's are columns, sample by sample."""
    (batch, channels, *size), peer = pool.input_shape, torch.nn.functional.fold
    positions, taps = math.prod(pool.output_shape[2:]), channels * math.prod(pool.kernel_size)
    rows = random((batch * positions, taps))
    columns = np.ascontiguousarray(np.moveaxis(rows.reshape(batch, positions, taps), 1, 2))
    return (
        functools.partial(xconv.col2im, rows, pool.input_shape, pool.kernel_size, **words),
        lambda: peer(torch.from_numpy(columns), size, pool.kernel_size, **words).numpy(),
    )
