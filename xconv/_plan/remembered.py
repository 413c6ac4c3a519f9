"""What is computed or loaded once: the checks and plans of a small convolution take longer than the convolution."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from numbers import Integral
from typing import Any, Generic, TypeVar, cast

Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])
KEPT = 1024  # results of a function
PATIENCE = 10.0  # seconds that a fork waits for modules to be loaded
_KEPT: list[Callable[[], None]] = []  # what empties each of the caches
EXACT = frozenset({int, str, type(None)})


class remembered(Generic[Value]):  # noqa: N801 - it is used as a decorator
    """A property computed once; unlike functools.cached_property without a lock, which no tracer can follow."""

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self.compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Value:
        value = self.compute(instance)
        instance.__dict__[self.name] = value
        return value


def remembering(trusted: int) -> Callable[[Function], Function]:
    """Compute what the same arguments give once.

    The first arguments are trusted to equal no others of their types, as 1.0 equals 1 + 0j. Of the rest lists are as
    good as tuples, and NumPy's integers as ints; True, and what cannot be looked up, as a size that is a symbol, is
    computed every time.
    """

    def decorate(function: Function) -> Function:
        looked_up = functools.lru_cache(maxsize=KEPT, typed=True)(function)
        _KEPT.append(looked_up.cache_clear)

        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            if _are_plain(arguments[trusted:]):
                try:  # contextlib.suppress takes as long as the look-up
                    return looked_up(*arguments)
                except TypeError:  # of what has no hash; one of the function's own is raised again
                    pass
            rest = _frozen(arguments[trusted:])
            if _are_plain(rest):
                try:
                    return looked_up(*arguments[:trusted], *rest)
                except (TypeError, ValueError):  # which is raised again, of lists as they came
                    pass
            return function(*arguments)

        return cast(Function, run)

    return decorate


class _Loading:
    """What holds off forks while a thread loads modules: a child would wait for their locks for ever."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_held = False

    def before_fork(self) -> None:
        """Wait, but not for ever: what is loaded may itself wait for a lock that another library holds over a fork."""
        self.is_held = self.lock.acquire(timeout=PATIENCE)

    def after_in_parent(self) -> None:
        if self.is_held:
            self.lock.release()

    def after_in_child(self) -> None:
        self.lock = threading.RLock()


_LOADING = _Loading()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_LOADING.before_fork, after_in_parent=_LOADING.after_in_parent, after_in_child=_LOADING.after_in_child
    )


def loading(function: Function) -> Function:
    """Of a function that loads modules: no other thread forks meanwhile."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with _LOADING.lock:
            return function(*arguments)

    return cast(Function, run)


def forgotten(clear: Callable[[], None]) -> None:
    """Have another cache emptied with these."""
    _KEPT.append(clear)


def forget() -> None:
    """Empty the caches, as of calls that were planned with other constants."""
    for clear in _KEPT:
        clear()


def _frozen(values: Any) -> tuple[Any, ...]:
    """With tuples in the place of lists, which cannot be looked up, and ints in that of NumPy's."""
    return tuple([_frozen(value) if type(value) in (list, tuple) else _plain(value) for value in values])


def _plain(value: Any) -> Any:
    return int(value) if type(value) is not bool and isinstance(value, Integral) else value


def _are_plain(values: tuple[Any, ...]) -> bool:
    """Whether all are ints, words and None of exactly these types, or tuples of them."""
    for value in values:
        if type(value) not in EXACT and not (isinstance(value, tuple) and _are_plain(value)):
            return False
    return True
