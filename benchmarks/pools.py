"""Pools and col2im on NumPy's arrays beside PyTorch, as somebody with such arrays would call it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.table import Table

import xconv
from xconv.demo.backends import load_backend

from .devices import without_autograd
from .expected import checked_error
from .machine import Machine, describe_machine
from .memory import keep_memory
from .numbers_file import prepare, write_numbers
from .peers.peer import Call
from .plain import random
from .results import XCONV
from .suites import QUICK_BATCH, QUICK_CHANNELS, QUICK_SIZE, Ints, shortest
from .table import add_columns, make_console
from .timing import QUICK, THOROUGH, Limits, Timing, interleave, within

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


@dataclass(frozen=True)
class PoolResult:
    """The times of both sides."""

    pool: Pool
    timings: Mapping[str, Timing]

    @property
    def ratio(self) -> float:
        """PyTorch's time by xconv's: above 1, xconv is faster."""
        return self.timings[TORCH].median / self.timings[XCONV].median


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


def run_pools(*, seconds: float | None, quick: bool, out: Path | None, command: str) -> None:
    """Time them all, print PyTorch's times by xconv's, and write the numbers to the file."""
    numpy, torch = load_backend("numpy"), load_backend(TORCH).module
    prepare(out)
    keeps_memory = not quick and keep_memory()
    limits = within(QUICK if quick else THOROUGH, seconds)
    machine = describe_machine(numpy, (TORCH,), command, keeps_memory)
    with without_autograd():
        results = [measure_pool(_tiny(pool) if quick else pool, torch, limits) for pool in POOLS]
    console = make_console()
    console.print(_table(results))
    console.print(f"on {machine.heading}", highlight=False)
    if quick:
        console.print("Tiny arrays: the times mean nothing.")
    write_numbers(_as_json(machine, quick, results), out)


def measure_pool(pool: Pool, torch: ModuleType, limits: Limits) -> PoolResult:
    """Both sides, whose results must agree."""
    calls = CALLS[pool.function](pool, torch)
    checked_error(calls[XCONV](), calls[TORCH](), f"pools, {pool.name}, {pool.function}, {XCONV}")
    return PoolResult(pool, interleave(calls, limits))


def _tiny(pool: Pool) -> Pool:
    batch, channels, *size = pool.input_shape
    shape = (min(batch, QUICK_BATCH), min(channels, QUICK_CHANNELS), *(min(d, QUICK_SIZE) for d in size))
    return replace(pool, input_shape=shape)


def _table(results: Sequence[PoolResult]) -> Table:
    table = Table(title="xconv's ms, and PyTorch's time / xconv's time", title_justify="left")
    add_columns(table, ("function", "windows"), ("ms", "ratio"))
    for result in results:
        milliseconds = 1e3 * result.timings[XCONV].median
        table.add_row(result.pool.function, result.pool.name, f"{milliseconds:.3g}", f"{result.ratio:.2f}")
    return table


def _as_json(machine: Machine, quick: bool, results: Sequence[PoolResult]) -> dict[str, Any]:
    pools = [
        {
            **asdict(result.pool),
            "timings": {name: asdict(timing) for name, timing in result.timings.items()},
            "ratio": result.ratio,
        }
        for result in results
    ]
    return {"machine": asdict(machine), "quick": quick, "pools": pools}
