"""What is done to a backend's device around the calls: wait for it, and measure what it can do at most."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from xconv._run.threads import cpu_count
from xconv.demo.backends import BACKENDS, LoadedBackend, load_backend

from .suites import ITEM_BYTES, Layer
from .timing import Limits, interleave

MATRIX_SIZE = 2048
COPY_BYTES = 256 << 20
QUICK_SHARE = 16  # by which both are smaller where the numbers do not matter


@dataclass(frozen=True)
class Rates:
    """What the device does at most, measured in the same run.

    Attributes
    ----------
    matmul_flops : float
        Floating-point operations per second of a large float32 matrix product.
    copy_bytes : float
        Bytes read and written per second by a copy.
    """

    matmul_flops: float
    copy_bytes: float

    def floor_seconds(self, layer: Layer) -> float:
        """About the least that who multiplies directly takes; FFT and Winograd multiply less."""
        return max(2 * layer.multiply_adds / self.matmul_flops, layer.bytes / self.copy_bytes)


def measure_rates(backend: LoadedBackend, limits: Limits, *, quick: bool) -> Rates:
    """Multiply and copy random numbers on the backend's device: ones, whose bits hardly change, take less power."""
    share = QUICK_SHARE if quick else 1
    size, count = MATRIX_SIZE // share, COPY_BYTES // share // ITEM_BYTES
    random = np.random.default_rng(0).standard_normal
    matrix, source = (backend.from_numpy(random(shape, dtype=np.float32)) for shape in ((size, size), count))
    calls = {"matmul": lambda: matrix @ matrix, "copy": _copy(backend, source)}
    timings = interleave(waiting_calls(backend, calls), limits)
    return Rates(2 * size**3 / timings["matmul"].median, 2 * count * ITEM_BYTES / timings["copy"].median)


def waiting_calls(backend: LoadedBackend, calls: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """The same calls, each of which returns when the device is done."""
    wait = _wait(backend)
    return {name: _waiting(call, wait) for name, call in calls.items()}


def without_autograd() -> contextlib.AbstractContextManager[Any]:
    """A context in which PyTorch, if anybody uses it, does not look for gradients to record."""
    torch = sys.modules.get("torch")
    return contextlib.nullcontext() if torch is None else torch.no_grad()


@contextlib.contextmanager
def full_precision(*names: str) -> Iterator[None]:
    """All of float32's bits in whatever is timed: on GPUs, JAX and PyTorch keep 11 unless told otherwise."""
    with contextlib.ExitStack() as stack:
        for name in {backend.name for backend in BACKENDS}.intersection(names):
            stack.enter_context(load_backend(name).full_precision())
        yield


def compile_quickly(backend: LoadedBackend) -> None:
    """For calls whose times do not matter: JAX compiles in half the time without optimising."""
    if backend.name == "jax":
        backend.module.config.update("jax_disable_most_optimizations", True)


def forget_programs(backend: LoadedBackend) -> None:
    """Give back what compiled calls hold: all suites by all methods would need more mappings than Linux allows."""
    if backend.name == "jax":
        backend.module.clear_caches()


def _waiting(call: Callable[[], Any], wait: Callable[[Any], Any] | None) -> Callable[[], Any]:
    return call if wait is None else lambda: wait(call())


def _wait(backend: LoadedBackend) -> Callable[[Any], Any] | None:
    """How to wait for a result; None where calls return when they are done."""
    if backend.name == "jax":
        return lambda result: result.block_until_ready()
    if backend.name == "cupy":
        return lambda result: backend.module.cuda.Device().synchronize()  # all streams, PyTorch's too
    if backend.name == "torch" and backend.module.cuda.is_available():
        return lambda result: backend.module.cuda.synchronize()
    return None


def _copy(backend: LoadedBackend, source: Any) -> Callable[[], Any]:
    """Copy into an array that is there already: new memory may take longer than the copy."""
    target = source + 0
    if backend.name == "numpy":
        return _copy_on_threads(target, source)
    if backend.name == "jax":
        overwritten = backend.module.jit(lambda target, source: target.at[:].set(source), donate_argnums=0)

        def copy() -> Any:
            nonlocal target
            target = overwritten(target, source)
            return target

    else:

        def copy() -> Any:
            target[...] = source

    return copy


def _copy_on_threads(target: Any, source: Any) -> Callable[[], Any]:
    """NumPy's copy runs on one thread, but xconv on as many as it may use CPUs."""
    threads = cpu_count()
    pool = ThreadPoolExecutor(threads)
    targets, sources = (np.array_split(array, threads) for array in (target, source))
    return lambda: list(pool.map(np.copyto, targets, sources))
