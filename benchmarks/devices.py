"""What is done to a backend's device around the calls: wait for it, and have it compute as all sides do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from xconv.demo.backends import BACKENDS, LoadedBackend, load_backend


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
