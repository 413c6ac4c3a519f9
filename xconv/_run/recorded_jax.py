"""Products of JAX's arrays as an operation of its own, which it differentiates forwards, backwards and again.

JAX transposes what is linear. A method may not be, operation by operation: transforms scale what they are given by its
largest element. Under `jax.vmap` a product is what its method does, derivatives included.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._arrays.elements import conjugate
from .._arrays.layout import biased
from .._arrays.libraries import Array, is_kind
from .recorded import Operands, RecordedCall

FLOATING = "real floating", "complex floating"


class TracedCall(RecordedCall):
    """A call of JAX's arrays."""

    def are_watched(self, operands: list[Array]) -> bool:
        is_traced = any(isinstance(one, jax.core.Tracer) for one in operands)
        return is_traced and is_kind(self.layout.xp, operands[0].dtype, FLOATING)

    def recorded(self, name: str, operands: Operands) -> Array:
        """The product, which is linear in either operand, and then the bias."""
        first, second, *b = operands
        layout, result = self.layout, _product.bind(first, second, call=self, name=name)
        if not b or b[0] is None:
            return result
        return layout.leave_data(biased(layout.access, layout.enter_data(result), b[0]))

    def transposed(self, name: str, operands: Operands, g: Array, place: int) -> Array:
        """The gradient by an operand, which JAX has conjugated, as it has g."""
        xp = self.layout.xp
        return conjugate(xp, self.gradients(name, operands, conjugate(xp, g))[place]())


def _carried_out(*operands: Any, call: TracedCall, name: str) -> Array:
    return call.carry_out(name, operands)


def _described(*operands: Any, call: TracedCall, name: str) -> Any:
    """The shape, dtype and sharding of the result."""
    return jax.make_jaxpr(functools.partial(_carried_out, call=call, name=name))(*operands).out_avals[0]


def _of_batches(operands: Any, axes: Any, *, call: TracedCall, name: str) -> tuple[Array, int]:
    return jax.vmap(functools.partial(_carried_out, call=call, name=name), axes)(*operands), 0


def _by_first(g: Array, first: Any, second: Array, *, call: TracedCall, name: str) -> Array:
    return call.transposed(name, (first, second), g, 0)


def _by_second(g: Array, first: Array, second: Any, *, call: TracedCall, name: str) -> Array:
    return call.transposed(name, (first, second), g, 1)


_product = Primitive("convolution")
_product.def_impl(_carried_out)
_product.def_abstract_eval(_described)
ad.defbilinear(_product, _by_first, _by_second)
batching.primitive_batchers[_product] = _of_batches
mlir.register_lowering(_product, mlir.lower_fun(_carried_out, multiple_results=False))
