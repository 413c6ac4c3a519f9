"""JAX's derivatives of sums over taps, of which it makes gradients that are such sums, too.

Of a sum of views it would make a sum of arrays with zeros around, one for each tap, which XLA computes again for each
of those that what comes before reads.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

from .._plan.geometry import Geometry, Slices
from .libraries import Array

Function = Callable[..., Array]


def bilinear(total: Function, by_first: Function, by_second: Function) -> Any:
    """A sum of products of two arrays with its derivative: what it changes by where the first changes, or the second.

    Each is given both, one of them changed, and what else decides on the sum, which is no array. A second may lack.
    """
    import jax
    from jax.custom_derivatives import SymbolicZero

    def derivative(*arguments: Any) -> tuple[Array, Array]:
        *others, (x, w), (dx, dw) = arguments
        y, dy = total(x, w, *others), list[Array]()
        if not isinstance(dx, SymbolicZero):
            dy.append(by_first(dx, w, *others))
        if not (w is None or isinstance(dw, SymbolicZero)):
            dy.append(by_second(x, dw, *others))
        return y, functools.reduce(operator.add, dy) if dy else jax.numpy.zeros_like(y)

    count = total.__code__.co_argcount
    differentiable = jax.custom_jvp(total, nondiff_argnums=tuple(range(2, count)))
    differentiable.defjvp(derivative, symbolic_zeros=True)
    return differentiable


def sum_of_products(x: Array, windows: Geometry, taps: Iterable[tuple[Any, Slices]]) -> Array:
    """The sum of what windows, which need no padding, read by each tap of x times its weight: multiplied first.

    So the adjoint adds views, and multiplies the sums.
    """
    return functools.reduce(operator.add, (_view(x * weight, windows, elements) for weight, elements in taps))


def _view(x: Array, windows: Geometry, elements: Slices) -> Array:
    """What one tap reads, as what is left in one place of the array with zeros around.

    XLA makes a slice of that. In the adjoint it is what every tap reads, with zeros around, that is made first and
    once, and of which the taps' slices are taken.
    """
    from jax import lax

    first = x.ndim - windows.ndim
    around = [(r - 1 - part.start, part.start, 0) for r, part in zip(windows.reach, elements, strict=True)]
    widened = lax.pad(x, x.dtype.type(0), [*((0, 0, 0),) * first, *around])
    axes = zip(windows.reach, windows.stride, windows.output_size, strict=True)
    return widened[(..., *(slice(r - 1, r + s * (o - 1), s) for r, s, o in axes))]
