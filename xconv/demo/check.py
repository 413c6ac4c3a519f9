"""``xconv check``: results and gradients on every backend found, for a machine or GPU that is not trusted yet."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table
from threadpoolctl import threadpool_limits

import xconv
from xconv.testing import numerical_gradient

from .._arrays.libraries import Array
from .._progress import bar
from .backends import LoadedBackend, find_backends, load_backend
from .errors import FAILED, first_line, fitted
from .loops import Case, convolve, convolve_back, pool

DTYPES = ("float32", "float64")

# What an error may be, in units of the dtype's epsilon. The fastest algorithms for 3x3 filters lose up to 170 of them;
# a wrong index or sign costs about 1, which is 30,000 times as much as float32 is allowed.
ALLOWED_EPSILONS = 256

LEGEND = """\
The numbers are the largest errors, relative to the result's largest element.
conv, conv_transpose and the pools are compared with loops in float64,
conv_backward and the gradient of max_pool with central differences;
conv_input_grad, col2im and the gradient of avg_pool must be adjoints.
A dash: the backend has no such dtype here."""

CASES = (
    Case(d=(8,), k=(3,), s=(2,), a=(2,), padding=((3, 0),), groups=2, N=1),
    Case(d=(4, 4), k=(3, 3), s=(1, 1), a=(1, 1), padding=((1, 1), (1, 1))),
    Case(d=(2, 3, 3), k=(1, 2, 2), s=(1, 2, 1), a=(1, 1, 2), padding=((0, 0), (0, 1), (2, 1)), groups=2, N=1),
)


def run(*, backends: Sequence[str] | None = None) -> int:
    """Print a table of all checks, on these backends or all found; the exit status is 0, or 1 if one failed."""
    console, started = Console(highlight=False, soft_wrap=True), time.perf_counter()
    with console.status("looking for backends"):
        found, missing = ([*map(load_backend, backends)], {}) if backends else find_backends()
    count = len(found) * len(CHECKS) * len(DTYPES)
    # While one library compiles, another computes; of so small arrays, on one core each.
    with bar("checking", count, console) as advance, threadpool_limits(1), ThreadPoolExecutor() as threads:
        columns = [*threads.map(functools.partial(_run_checks, advance), found)]
    console.print(_table(found, columns), soft_wrap=False)
    console.print(LEGEND)
    failures = [outcome.failure for column in columns for outcome in column if outcome.failure]
    for line in failures or [f"all passed in {time.perf_counter() - started:.0f} s"]:
        console.print(fitted(line), markup=False)
    for reason in missing.values():
        console.print(fitted(f"not checked: {reason}"), markup=False)
    return FAILED if failures else 0


def _run_checks(advance: Callable[[], None], library: LoadedBackend) -> list[_Outcome]:
    outcomes = []
    for name in CHECKS:
        for dtype in DTYPES:
            outcomes.append(_run_check(name, dtype, library))
            advance()
    return outcomes


@dataclass(frozen=True)
class _Outcome:
    """What a check says in its cell of the table, in rich's markup, and beneath the table if it failed."""

    cell: str
    failure: str = ""


@dataclass(frozen=True)
class _Trial:
    """One case on one backend. Operands and results are in NumPy's float64, operands with numbers of the dtype."""

    case: Case
    library: LoadedBackend
    dtype: str
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def draw(self, shape: tuple[int, ...]) -> Any:
        """A random operand."""
        return self._round(self.rng.standard_normal(shape))

    def draw_near(self, array: Any) -> Any:
        """A random operand whose inner product with the array is not nearly 0 by chance."""
        return self._round(array + self.rng.standard_normal(array.shape))

    def draw_all(self) -> tuple[Any, Any, Any]:
        """A random input, filters, and a gradient by the output."""
        return self.draw(self.case.input_shape), self.draw(self.case.weight_shape), self.draw(self.case.output_shape)

    def compute(self, function: Callable[..., Any], *operands: Any, **keywords: Any) -> Any:
        """``function(*operands, **keywords)`` computed by the backend: one result or a tuple of them."""
        results = _compiled(self.library, function, **keywords)(*self._enter(*operands))
        return tuple(self._leave(result) for result in results) if isinstance(results, tuple) else self._leave(results)

    def differences(
        self, function: Callable[..., Any], operands: tuple[Any, ...], place: int, dy: Any, step: float, **keywords: Any
    ) -> Any:
        """The gradient of <dy, function(*operands)> by one of the operands, by central differences."""
        before, (x, *after) = operands[:place], operands[place:]
        return numerical_gradient(lambda x: self.compute(function, *before, x, *after, **keywords), x, dy, eps=step)

    def _enter(self, *operands: Any) -> list[Array]:
        return [self.library.from_numpy(operand.astype(self.dtype)) for operand in operands]

    def _round(self, operand: Any) -> Any:
        return operand.astype(self.dtype).astype(np.float64)

    def _leave(self, result: Array) -> Any:
        return self.library.to_numpy(result).astype(np.float64)


@functools.cache
def _compiled(library: LoadedBackend, function: Callable[..., Any], **keywords: Any) -> Callable[..., Any]:
    """Several checks need the same function, and compiling takes longer than they do."""
    return library.compile(functools.partial(function, **keywords))


def _conv(trial: _Trial) -> Iterator[float]:
    case, (x, w, _) = trial.case, trial.draw_all()
    yield _error(trial.compute(xconv.conv, x, w, **case.keywords), convolve(case, x, w))


def _conv_transpose(trial: _Trial) -> Iterator[float]:
    case, (_, w, y) = trial.case, trial.draw_all()
    x = trial.compute(xconv.conv_transpose, y, w, output_padding=case.output_padding, **case.keywords)
    yield _error(x, convolve_back(case, y, w))


def _conv_backward(trial: _Trial) -> Iterator[float]:
    """The convolution is linear in each operand, so differences over a step of 1 are exact but for rounding."""
    case, (x, w, dy) = trial.case, trial.draw_all()
    dx, dw, db = trial.compute(xconv.conv_backward, dy, x, w, **case.keywords)
    yield _error(dx, trial.differences(xconv.conv, (x, w), 0, dy, step=1, **case.keywords))
    yield _error(dw, trial.differences(xconv.conv, (x, w), 1, dy, step=1, **case.keywords))
    yield _error(db, dy.sum(axis=(0, *range(2, dy.ndim))))


def _conv_input_grad(trial: _Trial) -> Iterator[float]:
    case, (x, w, _) = trial.case, trial.draw_all()
    y = trial.compute(xconv.conv, x, w, **case.keywords)
    dy = trial.draw_near(y)
    dx = trial.compute(xconv.conv_input_grad, dy, w, input_shape=case.input_shape, **case.keywords)
    yield _inner_error(y, dy, x, dx)


def _col2im(trial: _Trial) -> Iterator[float]:
    case, x = trial.case, trial.draw(trial.case.input_shape)
    col = trial.compute(xconv.im2col, x, **case.window_keywords)
    other = trial.draw_near(col)
    back = trial.compute(xconv.col2im, other, input_shape=case.input_shape, **case.window_keywords)
    yield _inner_error(col, other, x, back)


def _max_pool(trial: _Trial) -> Iterator[float]:
    """Among different whole numbers a step of 1/4 moves no maximum, so differences are exact."""
    case, dy = trial.case, trial.draw(trial.case.pooled_shape)
    x = trial.rng.permutation(np.prod(case.input_shape)).reshape(case.input_shape).astype(np.float64)
    yield _error(trial.compute(xconv.max_pool, x, **case.window_keywords), pool(case, x, max, outside=-np.inf))
    dx = trial.compute(xconv.max_pool_grad, dy, x, **case.window_keywords)
    yield _error(dx, trial.differences(xconv.max_pool, (x,), 0, dy, step=0.25, **case.window_keywords))


def _avg_pool(trial: _Trial) -> Iterator[float]:
    case, x = trial.case, trial.draw(trial.case.input_shape)
    y = trial.compute(xconv.avg_pool, x, **case.window_keywords)
    yield _error(y, pool(case, x, np.mean, outside=0.0))
    dy = trial.draw_near(y)
    dx = trial.compute(xconv.avg_pool_grad, dy, input_shape=case.input_shape, **case.window_keywords)
    yield _inner_error(y, dy, x, dx)


CHECKS: dict[str, Callable[[_Trial], Iterator[float]]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "conv_backward": _conv_backward,
    "conv_input_grad": _conv_input_grad,
    "col2im": _col2im,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
}


def _run_check(name: str, dtype: str, library: LoadedBackend) -> _Outcome:
    """The check on all cases; what it raises is a failure like any other, and the other checks go on."""
    allowed, largest, place = ALLOWED_EPSILONS * float(np.finfo(dtype).eps), 0.0, f"{name}, {dtype}, {library.name}"
    try:
        if not _has(library, dtype):
            return _Outcome("[dim]-[/]")
        for case in CASES:
            place = f"{name}, {dtype}, {library.name}, {case}"
            with library.full_precision():
                error = float(np.max([*CHECKS[name](_Trial(case, library, dtype))]))  # NaN, if there is one
            if not error <= allowed:
                return _failure(f"{place}: error {error:.2g}, at most {allowed:.2g} was expected")
            largest = max(largest, error)
    except Exception as error_of_the_library:
        return _failure(f"{place}: {type(error_of_the_library).__name__}: {first_line(error_of_the_library)}")
    return _Outcome(f"[green]ok {largest:.0e}[/]")


def _failure(line: str) -> _Outcome:
    return _Outcome("[bold red]FAILED[/]", line)


def _has(library: LoadedBackend, dtype: str) -> bool:
    """Whether the dtype survives the conversion: JAX makes float64 float32 unless told otherwise."""
    return str(library.to_numpy(library.from_numpy(np.zeros(1, dtype))).dtype) == dtype


def _error(result: Any, expected: Any) -> float:
    """The largest deviation, relative to the largest number expected."""
    if result.shape != expected.shape:
        raise ValueError(f"a result has the shape {result.shape}, {expected.shape} was expected")
    return float(np.max(np.abs(result - expected)) / np.max(np.abs(expected)))


def _inner_error(a: Any, b: Any, c: Any, d: Any) -> float:
    """How far <a, b> is from <c, d>, relative to the largest that <a, b> could be."""
    return float(abs(np.vdot(a, b) - np.vdot(c, d)) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _table(found: list[LoadedBackend], columns: list[list[_Outcome]]) -> Table:
    """One row per check and dtype, one column per backend."""
    names = (Column(name, no_wrap=True) for name in ("check", "dtype"))
    heads = (f"{library.name} {library.version.partition('+')[0]}\n{library.device}" for library in found)
    table = Table(*names, *heads)
    for (name, dtype), row in zip(itertools.product(CHECKS, DTYPES), zip(*columns, strict=True), strict=True):
        table.add_row(name, dtype, *(outcome.cell for outcome in row))
    return table
