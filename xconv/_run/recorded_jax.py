"""Products of JAX's arrays as an operation of its own, which it differentiates forwards, backwards and again.

JAX transposes what is linear. A method may not be, operation by operation: transforms scale what they are given by its
largest element. Under `jax.vmap` a product is a wider one, of more samples, channels, filters or groups.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._arrays.elements import conjugate
from .._arrays.layout import Layout, biased
from .._arrays.libraries import Array, is_kind
from .frames import inside
from .recorded import Operands, RecordedCall
from .runners import Scheduled

FLOATING = "real floating", "complex floating"
# Samples, channels and filters, of which the first operand, the second and the result have two each. Many products of
# one that all share are one with more of what it alone has; many of two are groups, as are those within groups.
AXES = {"forward": ("NC", "KC", "NK"), "backward_data": ("NK", "KC", "NC"), "backward_filter": ("NK", "NC", "KC")}
SIZES = {"N": ("batch",), "C": ("channels",), "K": ("filters",), "G": ("channels", "filters", "groups")}


class TracedCall(RecordedCall):
    """A call of JAX's arrays."""

    def __init__(self, layout: Layout, method: str, max_workspace: int | None) -> None:
        super().__init__(layout, method, max_workspace)
        self.wider = functools.cache(self._wider)

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

    def transforms(self, name: str) -> bool:
        """Whether a product is one of transforms."""
        runner = inside({"forward": self.for_forward, "backward_data": self.for_data}.get(name, self.for_filter))
        return isinstance(runner, Scheduled) and not runner.is_local

    def _wider(self, letter: str, times: int) -> TracedCall:
        """The call of so many times as many."""
        geometry = self.layout.geometry
        sizes = {name: times * getattr(geometry, name) for name in SIZES[letter]}
        return self.of(geometry._replace(**sizes))

    def axis(self, letters: str, letter: str) -> int:
        """Where an array with these letters has one: w (K, C, *k), others (N, channels, *d) or (N, *d, channels)."""
        if letters == "KC":
            return int(letter == "C")
        return 0 if letter == "N" else (-1 if self.layout.geometry.channels_last else 1)


def _carried_out(*operands: Any, call: TracedCall, name: str) -> Array:
    result = call.carry_out(name, operands)
    # XLA may fail at a transform of what it divides anew behind it.
    is_apart = call.layout.access.devices > 1 and call.transforms(name)
    return jax.lax.optimization_barrier(result) if is_apart else result


def _described(*operands: Any, call: TracedCall, name: str) -> Any:
    """The shape, dtype and sharding of the result."""
    return jax.make_jaxpr(functools.partial(_carried_out, call=call, name=name))(*operands).out_avals[0]


def _of_batches(operands: Any, axes: Any, *, call: TracedCall, name: str) -> tuple[Array, int]:
    """Many products as a wider one."""
    *own, result = AXES[name]
    (times,) = {one.shape[axis] for one, axis in zip(operands, axes, strict=True) if axis is not None}
    if times == 0:
        return _of_none(operands, axes, call, name), 0
    (letter,) = {*own[axes[0] is None]} - {*own[axes[0] is not None]}
    if None not in axes or (letter != "N" and call.layout.geometry.groups > 1):
        letter = "G"
        operands = [
            one if axis is not None else _repeated(one, times) for one, axis in zip(operands, axes, strict=True)
        ]
        axes = [0 if axis is None else axis for axis in axes]
    wide = [
        one if axis is None else _joined(jax.numpy.moveaxis(one, axis, 0), call.axis(letters, letter))
        for one, axis, letters in zip(operands, axes, own, strict=True)
    ]
    found = call.wider(letter, times).recorded(name, tuple(wide))
    axis = call.axis(result, letter) % found.ndim
    return found.reshape(*found.shape[:axis], times, found.shape[axis] // times, *found.shape[axis + 1 :]), axis


def _of_none(operands: Any, axes: Any, call: TracedCall, name: str) -> Array:
    """No products, of the shape and dtype that one would have."""
    one = [
        operand
        if axis is None
        else jax.ShapeDtypeStruct(operand.shape[:axis] + operand.shape[axis + 1 :], operand.dtype)
        for operand, axis in zip(operands, axes, strict=True)
    ]
    result = jax.eval_shape(functools.partial(_carried_out, call=call, name=name), *one)
    return jax.numpy.zeros((0, *result.shape), result.dtype)


def _repeated(array: Array, times: int) -> Array:
    return jax.numpy.broadcast_to(array, (times, *array.shape))


def _joined(arrays: Array, axis: int) -> Array:
    """Arrays behind each other along an axis of theirs."""
    axis %= arrays.ndim - 1
    moved = jax.numpy.moveaxis(arrays, 0, axis)
    return moved.reshape(*moved.shape[:axis], moved.shape[axis] * moved.shape[axis + 1], *moved.shape[axis + 2 :])


def _by_first(g: Array, first: Any, second: Array, *, call: TracedCall, name: str) -> Array:
    return call.transposed(name, (first, second), g, 0)


def _by_second(g: Array, first: Array, second: Any, *, call: TracedCall, name: str) -> Array:
    return call.transposed(name, (first, second), g, 1)


def _first_changed(change: Array, first: Array, second: Array, *, call: TracedCall, name: str) -> Any:
    return _product.bind(change, second, call=call.linear if name == "forward" else call, name=name)


def _second_changed(change: Array, first: Array, second: Array, *, call: TracedCall, name: str) -> Any:
    return _product.bind(first, change, call=call.linear if name == "backward_filter" else call, name=name)


_product = Primitive("convolution")
_product.def_impl(_carried_out)
_product.def_abstract_eval(_described)
ad.defbilinear(_product, _by_first, _by_second)
ad.defjvp(_product, _first_changed, _second_changed)
batching.primitive_batchers[_product] = _of_batches
mlir.register_lowering(_product, mlir.lower_fun(_carried_out, multiple_results=False))
with contextlib.suppress(ImportError):  # what looks for NaN, which has no public place for operations of others
    from jax._src.checkify import error_checks, nan_error_check

    error_checks[_product] = functools.partial(nan_error_check, _product)
