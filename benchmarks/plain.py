"""Plain calls of the array libraries, of which rates are measured: no code of xconv is in them.

Products, copies and transforms are new arrays, as they are in the steps of a convolution: new memory takes its time.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import threadpoolctl

from xconv._arrays.libraries import transforms
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend

from .measure import problem_of, random_arrays
from .peers import PEERS
from .peers.peer import Call
from .suites import Ints, Layer
from .timing import repetitions, warm_up

OWN = {"jax": "lax", "torch": "torch"}  # the peer that is the library's own convolution
TASK_SECONDS = 5e-3  # of the work of a thread: handing it out takes a hundredth of that

View = Callable[[Any], Any]


class Plain(Protocol):
    """Makes calls of a library on random float32 arrays of these shapes."""

    def product(self, left: Ints, right: Ints) -> Call:
        """A matrix product, or a stack of them."""

    def add(self, shape: Ints) -> Call:
        """``a += b``."""

    def copy(self, shape: Ints, view: View) -> Call:
        """Copy this view of an array into an array of its own."""

    def transform(self, shape: Ints) -> Call:
        """Fourier transforms along the last two axes."""


class NumPy:
    """With the Fourier transforms that are used for its arrays."""

    def __init__(self, backend: LoadedBackend) -> None:
        self._xp = backend.module

    def product(self, left: Ints, right: Ints) -> Call:
        a, b = random(left), random(right)
        return functools.partial(self._xp.matmul, a, b)

    def add(self, shape: Ints) -> Call:
        a, b = random(shape), random(shape)
        return functools.partial(self._xp.add, a, b, out=a)

    def copy(self, shape: Ints, view: View) -> Call:
        return functools.partial(self._xp.array, view(random(shape)), order="C")

    def transform(self, shape: Ints) -> Call:
        return functools.partial(transforms(self._xp).rfft2, random(shape))


class PyTorch:
    """Of whole tensors."""

    def __init__(self, backend: LoadedBackend) -> None:
        self._torch, self._from_numpy = backend.module, backend.from_numpy

    def product(self, left: Ints, right: Ints) -> Call:
        a, b = self._random(left), self._random(right)
        return functools.partial(self._torch.matmul, a, b)

    def add(self, shape: Ints) -> Call:
        return functools.partial(self._random(shape).add_, self._random(shape))

    def copy(self, shape: Ints, view: View) -> Call:
        return functools.partial(
            self._torch.clone, view(self._random(shape)), memory_format=self._torch.contiguous_format
        )

    def transform(self, shape: Ints) -> Call:
        return functools.partial(self._torch.fft.rfft2, self._random(shape))

    def _random(self, shape: Ints) -> Any:
        return self._from_numpy(random(shape))


class Jax:
    """Each under ``jax.jit``, into memory of its own."""

    def __init__(self, backend: LoadedBackend) -> None:
        self._jax, self._from_numpy = backend.module, backend.from_numpy

    def product(self, left: Ints, right: Ints) -> Call:
        return self._compiled(self._jax.numpy.matmul, left, right)

    def add(self, shape: Ints) -> Call:
        """The first operand is given up, so that the sum is written over it."""
        add = self._jax.jit(self._jax.numpy.add, donate_argnums=0)
        a, b = (self._from_numpy(random(shape)) for _ in range(2))

        def call() -> Any:
            nonlocal a
            a = add(a, b)
            return a

        return call

    def copy(self, shape: Ints, view: View) -> Call:
        return self._compiled(lambda x: self._jax.numpy.copy(view(x)), shape)

    def transform(self, shape: Ints) -> Call:
        return self._compiled(self._jax.numpy.fft.rfft2, shape)

    def _compiled(self, function: Callable[..., Any], *shapes: Ints) -> Call:
        return functools.partial(self._jax.jit(function), *(self._from_numpy(random(shape)) for shape in shapes))


PLAIN: dict[str, Callable[[LoadedBackend], Plain]] = {"numpy": NumPy, "jax": Jax, "torch": PyTorch}


def random(shape: Ints) -> np.ndarray:
    """Numbers, the same for the same shape."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def own_convolution(backend: LoadedBackend, layer: Layer, operation: str) -> Call:
    """The library's own, forward or a gradient."""
    (peer,) = PEERS[OWN[backend.name]][1](backend)
    offer = peer.operations(problem_of(layer, backend, random_arrays(layer)))[operation]
    if isinstance(offer, str):
        raise ValueError(offer)
    return offer


class Processors:
    """Runs copies of the same work at once, as many as xconv would have threads, and one where the library has its own.

    Attributes
    ----------
    copies : int
    """

    def __init__(self, pool: ThreadPoolExecutor | None, copies: int) -> None:
        self.copies = copies
        self._pool = pool

    def spread(self, make: Callable[[], Call]) -> tuple[Call, int]:
        """A call that does all copies of the work, and how often it does each."""
        calls = [make() for _ in range(self.copies)]
        if self._pool is None:
            return calls[0], 1
        pool, loops = self._pool, repetitions(TASK_SECONDS, warm_up(calls[0], time.perf_counter))

        def repeat(call: Call) -> None:
            for _ in range(loops):
                call()

        return lambda: list(pool.map(repeat, calls)), loops


@contextlib.contextmanager
def all_processors(backend: LoadedBackend) -> Iterator[Processors]:
    """For NumPy a thread for each, with BLAS held to one thread in each of them: so does xconv run its blocks."""
    if backend.name != "numpy":
        yield Processors(None, 1)
        return
    one_blas_thread = functools.partial(threadpoolctl.threadpool_limits, 1, "blas")
    threads = cpu_count()
    with one_blas_thread(), ThreadPoolExecutor(threads, initializer=one_blas_thread) as pool:
        yield Processors(pool, threads)
