"""Products of PyTorch's tensors as steps of autograd, and by NumPy where tensors are only memory."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from .._arrays.entrance_torch import as_tensor, is_memory, is_plain, is_watched, memory_of
from .._arrays.layout import Layout
from .._arrays.libraries import Array
from .._arrays.operands import namespace_of_library
from .._methods.native import convolves
from .._plan.remembered import remembered
from .call import Call
from .frames import inside
from .recorded import Operands, RecordedCall
from .runners import Own, Runner

NATIVE = "native"


class TensorCall(RecordedCall):
    """A call of tensors."""

    def step(self, name: str, runner: Runner, operands: Operands) -> Array:
        if isinstance(inside(runner), Own):
            return Call.carry_out(self, name, operands)  # PyTorch's own convolution has derivatives of its own
        return super().step(name, runner, operands)

    def are_watched(self, operands: list[Array]) -> bool:
        """Whether autograd records what plain tensors go through, and nobody else looks at it."""
        if not (torch.is_grad_enabled() and any(one.requires_grad for one in operands)):
            return False
        return all(map(is_plain, operands)) and not is_watched()

    def recorded(self, name: str, operands: Operands) -> Array:
        return _Step.apply(self, name, *operands)

    def carry_out(self, name: str, operands: Operands) -> Array:
        """A product, by NumPy if it can: of what it cannot PyTorch tells."""
        there = [one for one in operands if one is not None]
        if all(map(is_memory, there)) and not is_watched() and self.in_memory is not None:
            try:
                with np.errstate(all="ignore"):  # of which PyTorch does not warn
                    arrays = [None if one is None else memory_of(one) for one in operands]
                    return as_tensor(np.ascontiguousarray(getattr(self.in_memory, name)(*arrays)))
            except (RuntimeError, TypeError, ValueError):
                pass
        return super().carry_out(name, operands)

    @remembered
    def in_memory(self) -> Call | None:
        """The same of NumPy's arrays; none of dtypes that it has not."""
        layout, xp = self.layout, namespace_of_library(np)
        try:
            dtype, working, *others = [
                memory_of(torch.empty((), dtype=one, device="cpu")).dtype
                for one in (layout.dtype, layout.working, *(operand.dtype for operand in layout.operands))
            ]
        except TypeError:
            return None
        pairs = zip(layout.operands, others, strict=True)
        operands = tuple(operand._replace(xp=xp, dtype=own, device="cpu") for operand, own in pairs)
        twin = Layout(xp, operands, dtype, layout.geometry, layout.flip, layout.conjugates, working)
        return Call(twin, self.method, self.room)

    def gradients_of_batches(self, name: str, operands: Operands, g: Array, needed: list[bool]) -> list[Array]:
        """Those of many g at once (``is_grads_batched``), which PyTorch's own convolution takes, and few others do."""
        own = convolves(self.layout.xp, self.layout.dtype, self.layout.geometry.windows.ndim)
        call = Call(self.layout, NATIVE if own else self.method, self.room)
        with torch.enable_grad():  # of views, since operands may depend on each other
            views = [None if one is None else one.view_as(one) for one in operands]
            result = getattr(call, name)(*views)
        some = [one for one, is_needed in zip(views, needed, strict=True) if is_needed]
        return list(torch.autograd.grad(result, some, g, create_graph=torch.is_grad_enabled()))


class _Step(torch.autograd.Function):  # type: ignore[misc]
    """A product in autograd's graph."""

    @staticmethod
    def forward(ctx: Any, call: TensorCall, name: str, *operands: Any) -> Any:
        """Keep of two factors that which the other one's derivative needs."""
        ctx.call, ctx.name = call, name
        ctx.described = [None if one is None else (one.shape, one.dtype, one.device) for one in operands]
        first, second, *_ = operands
        by_first, by_second, *_ = ctx.needs_input_grad[2:]
        ctx.save_for_backward(first if by_second else None, second if by_first else None)
        return call.carry_out(name, operands)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (g,), call, operands, needed = gradients, ctx.call, ctx.saved_tensors, [*ctx.needs_input_grad[2:]]
        if torch._C._functorch.is_legacy_batchedtensor(g):
            found = iter(call.gradients_of_batches(ctx.name, _all_operands(ctx, needed), g, needed))
            return None, None, *(next(found) if is_needed else None for is_needed in needed)
        makers = zip(call.gradients(ctx.name, operands, g), needed, strict=False)
        return None, None, *(make() if is_needed else None for make, is_needed in makers)


def _all_operands(ctx: Any, needed: list[bool]) -> Operands:
    """Zeros in the place of those that are not kept, on which the derivative by them does not depend."""

    def zeros(description: Any, is_needed: bool) -> Any:
        shape, dtype, device = description
        return torch.zeros(shape, dtype=dtype, device=device, requires_grad=is_needed)

    kept = itertools.zip_longest(ctx.saved_tensors, ctx.described, needed)
    return tuple(zeros(one, is_needed) if there is None and one else there for there, one, is_needed in kept)
