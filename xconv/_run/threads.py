"""A pool of threads for NumPy, whose functions release the interpreter's lock but use one core each.

It has as many threads as the process may use CPUs, the caller's own among them. BLAS is held to one thread meanwhile:
its own threads would compete with ours, and it does not spread small products at all.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .._arrays.blas import blas_libraries
from .._plan.remembered import loading, remembered

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
Item = TypeVar("Item", covariant=True)


class Items(Sized, Protocol[Item]):
    """So many, which may be made as they are asked for."""

    def __iter__(self) -> Iterator[Item]: ...


_ALONE = contextvars.ContextVar("alone", default=False)


def cpu_count() -> int:
    """How many CPUs this process may use, or this thread inside `alone`."""
    if is_alone():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def for_each(function: Callable[[Item], None], items: Items[Item], threads: int) -> None:
    """Call the function on every item, in any order and on at most so many threads, this one among them.

    Items are made one at a time. If a call raises, or the user interrupts, calls not yet begun are dropped and those
    begun are waited for.
    """
    if min(threads, len(items)) <= 1:
        for item in items:
            function(item)
        return
    waiting, taking = iter(items), threading.Lock()

    def work() -> None:
        nonlocal waiting
        try:
            while True:
                with taking:
                    item = next(waiting, None)
                if item is None:
                    return
                function(item)
        except BaseException:
            waiting = iter(())
            raise

    shared = [work]
    helpers = _started(shared, min(threads, len(items)) - 1)
    try:
        work()
    finally:
        shared.clear()  # what is dropped stays in the pool's queue for a while, and must not keep our arrays
        begun = [helper for helper in helpers if not helper.cancel()]
        failures = [failure for helper in begun if (failure := helper.exception()) is not None]
    for failure in failures:
        raise failure


def _started(work: list[Callable[[], None]], count: int) -> list[Future[None]]:
    """The function in a list on so many threads of the pool, each in the caller's context, with NumPy's error state.

    Fewer where no thread can be had, as while the interpreter shuts down: the caller goes on by itself. What was to
    run on one that could not be started may stay in the pool's queue, and must not begin when nobody waits for it.
    """
    helpers: list[Future[None]] = []
    all_known = threading.Event()

    def help_out(number: int) -> None:
        all_known.wait()
        if number < len(helpers):
            for function in work[:1]:
                function()

    try:
        with contextlib.suppress(RuntimeError):
            for number in range(count):
                helpers.append(_pool().submit(contextvars.copy_context().run, help_out, number))
    finally:
        all_known.set()
    return helpers


class one_blas_thread:  # noqa: N801  # as the context managers of the standard library
    """Hold NumPy's BLAS to one thread until the last of all calls that want so is done.

    ``everywhere`` holds all of the process: SciPy, and others, bring libraries of their own. To hold one takes 3
    microseconds, a twentieth of a small call.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.held = _BLAS if everywhere else _BLAS[:1]
        self.own: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        for blas in self.held:
            blas.hold()
        self.own = [(library, library.get_num_threads()) for blas in self.held for library in blas.per_thread]
        for library, _ in self.own:
            library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        for library, threads in self.own:
            library.set_num_threads(threads)
        for blas in self.held:
            blas.release()


def is_alone() -> bool:
    """Whether this thread is inside `alone`."""
    return _ALONE.get()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Compute on this thread alone, beside others that do the same."""
    token = _ALONE.set(True)
    try:
        with one_blas_thread(everywhere=True):
            yield
    finally:
        _ALONE.reset(token)


class _Blas:
    """The process-wide thread counts of BLAS libraries, set to one while anybody holds them: NumPy's, or the others'.

    Where somebody else has limited them already, or limits them in another thread, theirs stands.
    """

    def __init__(self, is_numpys: bool) -> None:
        self.is_numpys = is_numpys
        self.lock = threading.Lock()
        self.holders = 0
        self.before: list[tuple[Any, int]] = []

    @remembered
    def per_thread(self) -> list[Any]:
        """Those of which each thread has a count of its own, as with OpenMP."""
        return [one for one in blas_libraries()[self.is_numpys] if getattr(one, "threading_layer", None) == "openmp"]

    @remembered
    def shared(self) -> list[Any]:
        return [library for library in blas_libraries()[self.is_numpys] if library not in self.per_thread]

    def hold(self) -> None:
        with self.lock:
            if self.holders == 0:
                counts = [(library, library.get_num_threads()) for library in self.shared]
                for library, _ in counts:
                    library.set_num_threads(1)
                self.before = [(library, count) for library, count in counts if library.get_num_threads() != count]
            self.holders += 1

    def release(self) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                for library, threads in self.before:
                    _give_up_control(library)
                    library.set_num_threads(threads)
                    _give_up_control(library)


def _give_up_control(library: Any) -> None:
    """threadpoolctl lets one thread alone set a count until it is done; ours is done, whichever releases last."""
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


def _set_own_to_one() -> None:
    for blas in _BLAS:
        for library in blas.per_thread:
            library.set_num_threads(1)


@functools.cache
@loading
def _pool() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # which takes longer to load than all of xconv

    return ThreadPoolExecutor(max(cpu_count() - 1, 1), thread_name_prefix="xconv", initializer=_set_own_to_one)


def _after_fork() -> None:
    """A forked child has none of its parent's threads, and must not wait for locks that those held."""
    _pool.cache_clear()
    for blas in _BLAS:
        blas.lock, holders = threading.Lock(), blas.holders
        if holders:
            blas.holders = 1
            blas.release()


_BLAS = _Blas(is_numpys=True), _Blas(is_numpys=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
