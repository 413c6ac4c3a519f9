"""Checks of gradients and adjoints, for users' own layers as for xconv's: they know nothing of convolution.

Failures are AssertionErrors that name the numbers, so that the checks serve inside any test runner.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from ._arrays.elements import add_at, conjugate
from ._arrays.libraries import Array, Namespace, device, is_kind
from ._arrays.operands import namespace_and_dtype
from ._plan.arguments import a_function, a_number, got

__all__ = ["check_adjoint", "check_gradient", "numerical_gradient"]


def __dir__() -> list[str]:
    return __all__


def numerical_gradient(
    function: Callable[[Array], Array], x: Array, dy: Array | None = None, *, eps: float | None = None
) -> Array:
    """Gradient of ``function``, or of its inner product with ``dy``, by central differences.

    ``dx[i] = <dy, function(x + eps*e_i) - function(x - eps*e_i)> / (2*eps)``, for a complex x along the real and the
    imaginary axis, so that a linear map A gives A^H dy.

    Parameters
    ----------
    function : callable
        Maps an array like x to an array, or to a number or 0-d array if ``dy`` is left out.
    x : array, any shape, any real or complex dtype
        Where to differentiate. It is not changed.
    dy : array, shape of ``function(x)``, optional
        Gradient of a loss with respect to the result.
    eps : float, optional
        Step; the cube root of the dtype's epsilon if left out. With a function that is linear or bilinear, 1 is exact
        but for rounding.

    Returns
    -------
    dx : array, shape and dtype of x

    Raises
    ------
    TypeError
        If x is no array of a real or complex dtype.
    ValueError
        If the function's result does not have the shape of dy, or eps is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.testing import numerical_gradient
    >>> dx = numerical_gradient(lambda x: np.sum(x**2), np.array([1.0, -2.0, 3.0]))
    >>> dx.shape
    (3,)
    >>> dx.round(6)
    array([ 2., -4.,  6.])
    """
    xp, dtype = namespace_and_dtype(x=x)
    a_function("function", function)
    if dy is not None:
        namespace_and_dtype(x=x, dy=dy)
    if is_kind(xp, dtype, "integral"):
        raise TypeError(f"x must have a real or complex dtype to be differentiated by, got {dtype}")
    step: float = float(xp.finfo(dtype).eps) ** (1 / 3) if eps is None else a_number("eps", eps)
    if not 0 < step < math.inf:
        raise ValueError(f"eps must be positive and finite, {got(eps)}")
    complex_x = is_kind(xp, dtype, "complex floating")
    flat = xp.reshape(x, (-1,))

    def slope(i: int, direction: complex) -> float:
        moved = (
            add_at(xp, xp.asarray(flat, copy=True), (slice(i, i + 1),), sign * step * direction) for sign in (1, -1)
        )
        ahead, behind = (function(xp.reshape(one, x.shape)) for one in moved)
        if dy is None:
            return complex(ahead - behind).real / (2 * step)
        if (shape := tuple(getattr(ahead, "shape", ()))) != tuple(dy.shape):
            raise ValueError(f"dy must have the shape {shape} of the result, got {tuple(dy.shape)}")
        return _inner(xp, dy, ahead - behind).real / (2 * step)

    size = math.prod(x.shape)
    slopes = [complex(slope(i, 1), slope(i, 1j)) if complex_x else slope(i, 1) for i in range(size)]
    return xp.reshape(xp.asarray(slopes, dtype=dtype, device=device(x)), x.shape)


def check_gradient(
    forward: Callable[[Array], Array],
    backward: Callable[[Array], Array],
    x: Array,
    *,
    eps: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
) -> None:
    """Check that ``backward`` gives the gradient of ``forward``, against `numerical_gradient`.

    ``backward(dy)[i] = <dy, forward(x + eps*e_i) - forward(x - eps*e_i)> / (2*eps)`` within ``rtol``.

    Parameters
    ----------
    forward : callable
        Maps x to an array y.
    backward : callable
        Maps the gradient with respect to y to that with respect to x. It is called right after ``forward(x)``, so
        layers that remember their input work.
    x : array, any shape, any real or complex dtype
    eps : float, optional
        Step of the central differences.
    rtol : float, optional
        Largest deviation allowed, relative to the largest element of the gradient; ten times the dtype's epsilon to
        the power 2/3, which central differences reach, if left out.
    seed : int
        The gradient with respect to y is drawn at random from this seed.

    Raises
    ------
    AssertionError
        If the shapes differ or an element deviates.
    ValueError, TypeError
        If an argument is none: x no array of a real or complex dtype, eps not positive, rtol negative.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import Convolution
    >>> from xconv.testing import check_gradient
    >>> layer = Convolution(np.ones((2, 1, 3, 3)), np.zeros(2))
    >>> x = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> x.shape
    (1, 1, 4, 4)
    >>> check_gradient(layer.forward, layer.backward, x, eps=1)
    """
    xp, dtype = namespace_and_dtype(x=x)
    dy = _random_like(xp, a_function("forward", forward)(x), a_number("seed", seed, operator.index))
    dx = a_function("backward", backward)(dy)
    if tuple(dx.shape) != tuple(x.shape):
        raise AssertionError(f"backward must return the shape {tuple(x.shape)} of x, got {tuple(dx.shape)}")
    expected = numerical_gradient(forward, x, dy, eps=eps)
    tolerance = _tolerance(10 * float(xp.finfo(dtype).eps) ** (2 / 3), rtol)
    deviation, scale = _largest(xp, dx - expected), max(_largest(xp, expected), _largest(xp, dx))
    if not deviation <= tolerance * scale:
        raise AssertionError(
            f"backward must give the numerical gradient of forward at x, got one that deviates by {deviation:.3g}, "
            f"more than {tolerance * scale:.3g}, which is rtol={tolerance:.3g} of the largest element"
        )


def check_adjoint(
    forward: Callable[[Array], Array],
    adjoint: Callable[[Array], Array],
    x: Array,
    y: Array,
    *,
    rtol: float | None = None,
) -> None:
    """Check that two linear maps are adjoint: ``<forward(x), y> = <x, adjoint(y)>``.

    Parameters
    ----------
    forward, adjoint : callable
        A linear map from arrays like x to arrays like y, and one the other way.
    x, y : array, any shapes, any numeric dtype
        Points to test at; random ones are best. Integers are compared exactly.
    rtol : float, optional
        Largest difference allowed relative to ||forward(x)|| ||y||; if left out, 16 times the dtype's epsilon times
        the square root of the number of elements.

    Raises
    ------
    AssertionError
        If a result has the wrong shape or the two inner products differ.
    ValueError, TypeError
        If x or y is no array of a numeric dtype, or rtol negative.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import col2im, im2col
    >>> from xconv.testing import check_adjoint
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(2, 3, 8, 8)), rng.normal(size=(2 * 36, 27))
    >>> im2col(x, 3).shape
    (72, 27)
    >>> check_adjoint(lambda x: im2col(x, 3), lambda y: col2im(y, x.shape, 3), x, y)
    """
    xp, dtype = namespace_and_dtype(x=x, y=y)
    image, preimage = a_function("forward", forward)(x), a_function("adjoint", adjoint)(y)
    for name, result, words, like in (("forward", image, "y for x", y), ("adjoint", preimage, "x for y", x)):
        if (shape := tuple(result.shape)) != tuple(like.shape):
            raise AssertionError(f"{name} must return the shape {tuple(like.shape)} of {words}, got {shape}")
    left, right = _inner(xp, y, image), _inner(xp, preimage, x)
    if is_kind(xp, dtype, "integral"):
        allowed = 0.0
    else:
        size = max(math.prod(x.shape), math.prod(y.shape))
        tolerance = _tolerance(16 * float(xp.finfo(dtype).eps) * math.sqrt(size), rtol)
        allowed = tolerance * math.sqrt(abs(_inner(xp, image, image)) * abs(_inner(xp, y, y)))
    if not abs(left - right) <= allowed:
        raise AssertionError(
            f"<x, adjoint(y)> must be <forward(x), y> = {left}, got {right}, which differs by {abs(left - right):.3g}, "
            f"more than the {allowed:.3g} of rtol"
        )


def _tolerance(default: float, rtol: Any) -> float:
    tolerance: float = default if rtol is None else a_number("rtol", rtol)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"rtol must be at least 0 and finite, {got(rtol)}")
    return tolerance


def _inner(xp: Namespace, a: Array, b: Array) -> complex:
    products = conjugate(xp, a) * b
    return complex(xp.sum(products, dtype=products.dtype))


def _largest(xp: Namespace, array: Array) -> float:
    return float(xp.max(xp.abs(array))) if math.prod(array.shape) else 0.0


def _random_like(xp: Namespace, array: Array, seed: int) -> Array:
    """Standard normal numbers, the same ones in every library."""
    from random import Random  # what is seldom needed would be a part of every start

    draw = Random(seed)
    count = math.prod(array.shape)
    values: list[Any] = [draw.gauss() for _ in range(count)]
    if is_kind(xp, array.dtype, "complex floating"):
        values = [complex(value, draw.gauss()) for value in values]
    return xp.reshape(xp.asarray(values, dtype=array.dtype, device=device(array)), array.shape)
