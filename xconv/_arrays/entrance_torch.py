"""How tensors come in: as one node of a graph that is compiled, without autocast, and not by torch.jit unwarned."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from .entrances import PUBLIC

TRACED = (
    "torch.jit.trace makes the sizes of this call of xconv.{} constants: the traced function is wrong for others. Use "
    "torch.compile or torch.export, which take any batch"
)


def _inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its results in the dtypes of its operands, by whatever method: autocast knows only some."""

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if torch.jit.is_tracing():
            warnings.warn(TRACED.format(function.__name__), torch.jit.TracerWarning, stacklevel=3)
        first = arguments[0] if arguments else next(iter(keywords.values()))
        kind = first.device.type if isinstance(first, torch.Tensor) else ""
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return function(*arguments, **keywords)
        return function(*arguments, **keywords)

    return call


# What compiles follows the operations of a call then, and not the integers before them, which decide on no tensor.
INSIDE = {name: torch.compiler.allow_in_graph(_inside(function)) for name, function in PUBLIC.items()}
