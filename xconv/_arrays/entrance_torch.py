"""How tensors come in: as one node of a graph that is compiled, without autocast, and not by torch.jit unwarned; and as
NumPy's arrays, whose memory they share, where they are no more than memory.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.utils import _python_dispatch

from .entrances import PUBLIC

TRACED = (
    "torch.jit.trace makes the sizes of this call of xconv.{} constants: the traced function is wrong for others. Use "
    "torch.compile or torch.export, which take any batch"
)
PLAIN = (torch.Tensor, torch.nn.Parameter)  # and no class of somebody's, as are the tensors of compilers
FOREIGN = (torch.dtype, np.ndarray)  # of which NumPy has no such, and which is no array beside tensors


def _inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its results in the dtypes of its operands, by whatever method: autocast knows only some."""
    is_whole = "groups" not in inspect.signature(function).parameters  # else it is for each product to say

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if torch.jit.is_tracing():
            warnings.warn(TRACED.format(function.__name__), torch.jit.TracerWarning, stacklevel=3)
        elif is_whole:
            result = _as_memory(function, arguments, keywords)
            if result is not NotImplemented:
                return result
        first = arguments[0] if arguments else next(iter(keywords.values()))
        kind = first.device.type if isinstance(first, torch.Tensor) else "cpu"
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return function(*arguments, **keywords)
        return function(*arguments, **keywords)

    return call


def _as_memory(function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """What the function gives of NumPy's arrays, which compute faster, as tensors; not, where somebody watches tensors,
    or NumPy has no such dtype or another rule for two of them. Mistakes are PyTorch's to tell.
    """
    given = [*arguments, *keywords.values()]
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    if not tensors or any(isinstance(one, FOREIGN) for one in given) or not all(map(is_memory, tensors)):
        return NotImplemented
    if len({one.dtype for one in tensors}) > 1 or is_watched():
        return NotImplemented
    try:
        known = {id(one): memory_of(one) for one in tensors}
        places = [known.get(id(one), one) for one in arguments]
        with np.errstate(all="ignore"):  # of which PyTorch does not warn
            result = function(*places, **{name: known.get(id(one), one) for name, one in keywords.items()})
    except (RuntimeError, TypeError, ValueError):
        return NotImplemented
    written = {id(known[id(one)]): one for one in tensors}  # of these what is an ``output`` is given back

    def left(array: Any) -> Any:
        return written[id(array)] if id(array) in written else as_tensor(array)

    return tuple(map(left, result)) if isinstance(result, tuple) else left(result)


def memory_of(tensor: torch.Tensor) -> np.ndarray:
    """NumPy's array of the same memory."""
    array: np.ndarray = tensor.detach().numpy()
    return array


def as_tensor(array: Any) -> torch.Tensor:
    """The tensor of an array's memory, which may not run backwards."""
    array = np.asarray(array)
    return torch.from_numpy(array if min(array.strides, default=0) >= 0 else array.copy())


def is_plain(tensor: torch.Tensor) -> bool:
    return type(tensor) in PLAIN and tensor.layout is torch.strided


def is_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor is no more than memory now."""
    return is_plain(tensor) and tensor.device.type == "cpu" and not (tensor.requires_grad and torch.is_grad_enabled())


def is_watched() -> bool:
    """Whether operations on tensors are recorded, by a mode, by a trace, for derivatives forwards or by `torch.func`,
    inside which a new tensor is no memory either.
    """
    is_recorded = torch.jit.is_tracing() or forward_ad._current_level >= 0
    is_recorded = is_recorded or torch._C._are_functorch_transforms_active()
    return is_recorded or _python_dispatch._get_current_dispatch_mode() is not None


# What compiles follows the operations of a call then, and not the integers before them, which decide on no tensor.
INSIDE = {name: torch.compiler.allow_in_graph(_inside(function)) for name, function in PUBLIC.items()}
