"""The way into every public function of arrays: what a library asks of a call as a whole, before and around it."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from .._plan.arguments import check_names, keyword_names
from .libraries import row_of

IN_PROGRAM = contextvars.ContextVar("IN_PROGRAM", default=False)  # whether a call is traced to be kept
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
PUBLIC: dict[str, Callable[..., Any]] = {}  # the functions as they are inside, by module and name


def entrance(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let arrays in by the way of their library, if the table names one for it."""
    key = f"{function.__module__}.{function.__name__}"
    PUBLIC[key], names = function, keyword_names(function)

    @functools.wraps(function)
    def enter(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> Result:
        check_names(function, names, keywords)
        first = arguments[0] if arguments else next(iter(keywords.values()), None)
        way = row_of(first).entrance
        if way == "torch":
            from .entrance_torch import INSIDE
        elif way == "jax":
            from .entrance_jax import INSIDE
        elif way == "cupy":
            with _on_device_of(first):
                return function(*arguments, **keywords)
        else:
            return function(*arguments, **keywords)
        result: Result = INSIDE[key](*arguments, **keywords)
        return result

    return enter


class WarnsError(RuntimeError):
    """A call that is traced to be kept warns, which a program would do once."""


def warn(text: str, category: type[Warning], depth: int) -> None:
    """Warn whoever called a public function, so many functions further out than that which warns."""
    if IN_PROGRAM.get():
        raise WarnsError(text)
    warnings.warn(text, category, stacklevel=depth + 1)


def _on_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """The array's device is current meanwhile, if it is not."""
    import cupy

    current = cupy.cuda.runtime.getDevice()
    place = array.data.device_id if isinstance(array, cupy.ndarray) else current
    elsewhere: contextlib.AbstractContextManager[Any] = cupy.cuda.Device(place)
    return contextlib.nullcontext() if place == current else elsewhere
