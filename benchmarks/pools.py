"""Pools and col2im on NumPy's arrays beside PyTorch, as somebody with such arrays would call it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

import xconv
from xconv.demo.backends import load_backend

from .compared import Comparison, run_compared
from .peers.peer import Call
from .plain import random
from .report import XCONV
from .suites import QUICK_BATCH, QUICK_CHANNELS, QUICK_SIZE, Ints, shortest

TORCH = "torch"


@dataclass(frozen=True)
class Pool:
    """Windows of one size along both axes of x (N, C, *d), and what is done with them."""

    function: str
    input_shape: Ints
    kernel_size: int
    stride: int
    padding: int = 0

    @property
    def keywords(self) -> dict[str, Any]:
        """What both sides call by the same names."""
        return {"stride": self.stride, "padding": self.padding}

    @property
    def output_size(self) -> Ints:
        return tuple((d + 2 * self.padding - self.kernel_size) // self.stride + 1 for d in self.input_shape[2:])

    @property
    def name(self) -> str:
        batch, channels, *size = self.input_shape
        step = f"/{self.stride}" if self.stride > 1 else ""
        around = f" padded {self.padding}" if self.padding else ""
        return f"{self.kernel_size}x{self.kernel_size}{step}{around} {channels} @{batch}x{shortest(tuple(size))[0]}"


def _forward(pool: Pool, torch: ModuleType) -> dict[str, Call]:
    """PyTorch's are called as ours, but for the number of axes."""
    x, convert = random(pool.input_shape), torch.from_numpy
    ours, theirs = getattr(xconv, pool.function), getattr(torch.nn.functional, f"{pool.function}2d")
    return {
        XCONV: lambda: ours(x, pool.kernel_size, **pool.keywords),
        TORCH: lambda: theirs(convert(x), pool.kernel_size, **pool.keywords).numpy(),
    }


def _max_pool_grad(pool: Pool, torch: ModuleType) -> dict[str, Call]:
    """PyTorch's gradient needs what its forward found, and xconv's finds it anew: both start from x."""
    x, dy, convert = random(pool.input_shape), random((*pool.input_shape[:2], *pool.output_size)), torch.from_numpy

    def forward_and_backward() -> Any:
        with torch.enable_grad():
            leaf = convert(x).requires_grad_()
            y = torch.nn.functional.max_pool2d(leaf, pool.kernel_size, **pool.keywords)
            return torch.autograd.grad(y, leaf, convert(dy))[0].numpy()

    return {XCONV: lambda: xconv.max_pool_grad(dy, x, pool.kernel_size, **pool.keywords), TORCH: forward_and_backward}


def _col2im(pool: Pool, torch: ModuleType) -> dict[str, Call]:
    """Each side has its windows as it lays them out: PyTorch's are columns, sample by sample."""
    (batch, channels, *size), convert = pool.input_shape, torch.from_numpy
    rows = random((batch * math.prod(pool.output_size), channels * pool.kernel_size**2))
    columns = np.ascontiguousarray(np.moveaxis(rows.reshape(batch, -1, rows.shape[1]), 1, 2))
    peer = torch.nn.functional.fold
    return {
        XCONV: lambda: xconv.col2im(rows, pool.input_shape, pool.kernel_size, **pool.keywords),
        TORCH: lambda: peer(convert(columns), size, pool.kernel_size, **pool.keywords).numpy(),
    }


CALLS: dict[str, Callable[[Pool, ModuleType], dict[str, Call]]] = {
    "max_pool": _forward,
    "avg_pool": _forward,
    "max_pool_grad": _max_pool_grad,
    "col2im": _col2im,
}

POOLS = (
    *(
        pool
        for function in ("max_pool", "avg_pool", "max_pool_grad")
        for pool in (
            Pool(function, (8, 64, 112, 112), 3, stride=2, padding=1),
            Pool(function, (8, 64, 56, 56), 2, stride=2),
            Pool(function, (100, 30, 24, 24), 2, stride=2),
        )
    ),
    Pool("col2im", (8, 64, 56, 56), 3, stride=1, padding=1),
)


def run_pools(*, quick: bool, **options: Any) -> None:
    """Time them all beside PyTorch."""
    torch = load_backend(TORCH).module
    run_compared(
        "pools", [comparison(_tiny(pool) if quick else pool, torch) for pool in POOLS], (TORCH,), quick=quick, **options
    )


def comparison(pool: Pool, torch: ModuleType) -> Comparison:
    """A pool on both sides."""
    return Comparison(pool.function, pool.name, lambda: CALLS[pool.function](pool, torch))


def _tiny(pool: Pool) -> Pool:
    batch, channels, *size = pool.input_shape
    shape = (min(batch, QUICK_BATCH), min(channels, QUICK_CHANNELS), *(min(d, QUICK_SIZE) for d in size))
    return replace(pool, input_shape=shape)
