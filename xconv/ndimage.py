"""Filters of `scipy.ndimage`, by their names and signatures, on arrays of every library.

What SciPy computes, these compute, in the dtypes that SciPy stores: in double precision, unless everything is of single
precision, and integers without the fraction. Where a library has no double precision now, as JAX by default, integers
beyond 2**24 keep 24 bits. They are differentiable where the library is; NaN, inf and fill values stay in the windows
that read them. Filters along one axis, and those made of them, give the same bits for windows that hold the same:
constants stay constant, and first derivatives of them are exactly zero. Where windows are twice as wide as what they
read of an axis and its borders, what they read again is added to one tap: of infinite elements opposite taps then make
no NaN.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

from ._arrays.elements import conjugate, modular, put_at, truncated
from ._arrays.entrances import entrance, warn
from ._arrays.layout import turned
from ._arrays.libraries import Array, DType, Namespace, is_chunked, is_immutable, is_kind, row_of, traits
from ._arrays.operands import (
    Operand,
    arrays,
    axis_error,
    complex_dtype,
    described,
    filter_dtype,
    named_dtype,
    namespace_of,
    namespace_of_numbers,
)
from ._correlate import Known, correlation, halos, known, loses, separable
from ._plan.arguments import SYNONYMS, a_function, a_number, check_names, entries, got, meant
from ._plan.chains import on_all_axes
from ._plan.geometry import Geometry, Ints, Words, at_every_element
from ._plan.pooling import runs_of
from ._plan.remembered import remembering
from ._run.chunked_filters import element_by_element, neighbourhoods
from ._run.graph import Chunked, write
from ._run.neighbours import Filter
from ._run.pools import extreme_filter

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_laplace",
    "laplace",
    "maximum_filter",
    "maximum_filter1d",
    "minimum_filter",
    "minimum_filter1d",
    "prewitt",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]

Axes: TypeAlias = int | Sequence[int] | None
Function: TypeAlias = Callable[..., Array]
MODES = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
    "constant": "zeros",
    "grid-constant": "zeros",
}
NEGLIGIBLE = 1e-15  # SciPy's bound for deviations of Gaussians that change nothing


def __dir__() -> list[str]:
    return __all__


@entrance
def correlate(
    input: Any,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Correlate along some or all axes, as `scipy.ndimage.correlate`.

    ``y[m] = sum over j of x[m + j - k//2 - origin] * conj(w[j])`` for one axis, likewise for n of them.

    Parameters
    ----------
    input : array, or what NumPy makes one of
        Of any number of axes and any dtype.
    weights : array
        One axis for each that is filtered, in the order of the input's.
    output : dtype or array, optional
        What the result is stored in: the input's dtype if left out, or the complex one that it promotes to if the
        weights are complex. An array of the input's shape, which can be written to, is returned itself.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}, or "grid-" with "mirror", "wrap" or "constant"
        What is beyond the ends: (d c b a | a b c d | d c b a), (d c b | a b c d | c b a), (a a a | a b c d | d d d),
        (a b c d | a b c d | a b c d) or ``cval``.
    cval : number
        The elements beyond the ends, with "constant". No gradient goes there.
    origin : int or ints, one for each of ``axes``
        How many elements further to the left windows are.
    axes : int or ints, optional
        The axes that are filtered: all if left out.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``
        Sums are carried in double precision, or in single if the input, the weights and the result are of single
        precision or less; integers lose the fraction, and wrap. Of equal windows bits at the end may differ where
        weights are more than some 3x3 or 3x3x3, since matrix products, which then take less than two thirds of the
        time, sum in orders of their own: those of `correlate1d` do not.

    Raises
    ------
    RuntimeError
        If weights or a sequence have not one entry for each axis, there is no such mode, or an array cannot be output.
    ValueError
        If an axis or an origin is out of range, ``cval`` is complex though the input is real, or ``output`` read-only.
    TypeError
        If arrays are of different libraries, or ``output`` is one of a library whose arrays cannot be written to.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    >>> y = ndimage.correlate(image, np.ones((3, 3)), mode="constant")
    >>> y.shape, y.dtype
    ((3, 4), dtype('uint8'))
    >>> int(y[1, 1])
    45
    """
    return _correlated("correlate", input, weights, output, mode, cval, origin, axes)


@entrance
def convolve(
    input: Any,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Convolve along some or all axes, as `scipy.ndimage.convolve`: correlate with weights turned round.

    ``y[m] = sum over j of x[m - j + k//2 + origin] * w[j]`` for one axis, likewise for n of them.

    Parameters
    ----------
    input, weights, output, mode, cval, axes
        As in `correlate`.
    origin : int or ints, one for each of ``axes``
        How many elements further to the right windows are.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.convolve(np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), np.array([[1.0, 2.0, 3.0]]))
    >>> y.shape
    (1, 5)
    >>> y[0]
    array([0., 1., 2., 3., 0.])
    """
    return _correlated("convolve", input, weights, output, mode, cval, origin, axes)


@entrance
def correlate1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """Correlate along one axis, as `scipy.ndimage.correlate1d`.

    ``y[m] = sum over j of x[m + j - k//2 - origin] * conj(w[j])``

    Weights that are known as numbers, as all on NumPy are, are folded if they are symmetric or antisymmetric:
    ``w * (x[+j] +- x[-j])``.

    Parameters
    ----------
    input, output, mode, cval, origin
        As in `correlate`.
    weights : sequence or array of numbers
    axis : int

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.correlate1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), [1, 3])
    >>> y.shape
    (8,)
    >>> y
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    return _along_one("correlate", input, weights, axis, output, mode, cval, origin)


@entrance
def convolve1d(
    input: Any,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """Convolve along one axis, as `scipy.ndimage.convolve1d`.

    ``y[m] = sum over j of x[m - j + k//2 + origin] * w[j]``

    Parameters
    ----------
    input, weights, axis, output, mode, cval
        As in `correlate1d`.
    origin : int
        How many elements further to the right windows are.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.convolve1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), [1, 3])
    >>> y.shape
    (8,)
    >>> y
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    return _along_one("convolve", input, weights, axis, output, mode, cval, origin)


@entrance
def uniform_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """The mean of windows along one axis, as `scipy.ndimage.uniform_filter1d`.

    ``y[m] = sum over j of x[m + j - k//2 - origin] / k``

    Each is summed by itself, in about log2(size) steps for all, so that no error and no NaN is carried along the axis.

    Parameters
    ----------
    input, axis, output, mode, cval, origin
        As in `correlate1d`.
    size : int
        How many elements a window has.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.uniform_filter1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), size=3)
    >>> y.shape
    (8,)
    >>> y
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    return _filtered(_boxes, input, output, (cval,), size, axis, mode, origin)


@entrance
def uniform_filter(
    input: Any,
    size: int | Sequence[int] = 3,
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: Axes = None,
) -> Array:
    """The mean of windows along some or all axes, as `scipy.ndimage.uniform_filter`.

    That of `uniform_filter1d` along one axis after the other: ``y[m] = sum over j of x[m + j - k//2 - origin] / k``.

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    size : int or ints, one for each of ``axes``
        How many elements a window has.
    mode, origin : one, or one for each of ``axes``
        As in `correlate`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``
        One axis after another, each stored in that dtype.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> ndimage.uniform_filter(np.ones((64, 64)), size=(3, 5), mode=("wrap", "nearest")).shape
    (64, 64)
    """
    return _filtered(_boxes_by_axis, input, output, (cval,), size, mode, origin, axes)


@entrance
def gaussian_filter1d(
    input: Any,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> Array:
    """A Gaussian, or a derivative of one, along one axis, as `scipy.ndimage.gaussian_filter1d`.

    ``y[m] = sum over j of x[m + j] * g[j]``, where ``g[j] = exp(-j**2 / (2*sigma**2))`` by their sum, for order 0.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `correlate1d`.
    sigma : float
        The standard deviation, in elements.
    order : int
        How many times the Gaussian is derived.
    truncate : float
        The standard deviations after which it ends.
    radius : int, optional
        The elements after which it ends, instead.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.gaussian_filter1d(np.full(100, 0.1), sigma=3, order=1)
    >>> y.shape, bool(np.any(y))  # exactly zero
    ((100,), False)
    """
    return _filtered(_gaussian_along_one, input, output, (cval, sigma, truncate), axis, order, mode, radius)


@entrance
def gaussian_filter(
    input: Any,
    sigma: float | Sequence[float],
    order: int | Sequence[int] = 0,
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | Sequence[int] | None = None,
    axes: Axes = None,
) -> Array:
    """Gaussians, or derivatives of them, along some or all axes, as `scipy.ndimage.gaussian_filter`.

    Those of `gaussian_filter1d` along one axis after the other: ``y = g * x``, g a product of Gaussians.

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    sigma, order, mode, radius : one, or one for each of ``axes``
        As in `gaussian_filter1d`.
    truncate : float
        As in `gaussian_filter1d`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``
        One axis after another, each stored in that dtype.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.gaussian_filter(np.ones((64, 48), dtype=np.float32), sigma=(1, 2.5))
    >>> y.shape, y.dtype
    ((64, 48), dtype('float32'))
    """
    return _filtered(_gaussians, input, output, (cval, sigma, truncate), order, mode, radius, axes, promotes=False)


@entrance
def prewitt(
    input: Any, axis: int = -1, output: Any = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0
) -> Array:
    """Differences along an axis of means along the others, as `scipy.ndimage.prewitt`: [-1, 0, 1] and [1, 1, 1].

    ``y[m] = x[m + 1] - x[m - 1]`` along the axis, and ``y[m] = x[m - 1] + x[m] + x[m + 1]`` of that along the others.

    Parameters
    ----------
    input, axis, output, cval
        As in `correlate1d`.
    mode : one, or one for each axis of the input
        As in `correlate`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.prewitt(np.arange(12.0).reshape(3, 4), axis=0)
    >>> y.shape, y[1].tolist()
    ((3, 4), [24.0, 24.0, 24.0, 24.0])
    """
    return _filtered(_differences, input, output, (cval, (1.0, 1.0, 1.0)), axis, mode, promotes=False)


@entrance
def sobel(
    input: Any, axis: int = -1, output: Any = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0
) -> Array:
    """Differences along an axis of means along the others, as `scipy.ndimage.sobel`: [-1, 0, 1] and [1, 2, 1].

    ``y[m] = x[m + 1] - x[m - 1]`` along the axis, and ``y[m] = x[m - 1] + 2*x[m] + x[m + 1]`` of that along the others.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `prewitt`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.sobel(np.arange(12.0).reshape(3, 4), axis=0)
    >>> y.shape, y[1].tolist()
    ((3, 4), [32.0, 32.0, 32.0, 32.0])
    """
    return _filtered(_differences, input, output, (cval, (1.0, 2.0, 1.0)), axis, mode, promotes=False)


def generic_laplace(
    input: Any,
    derivative2: Function,
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    extra_arguments: Sequence[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    axes: Axes = None,
) -> Array:
    """The sum of second derivatives by a function of one's own, as `scipy.ndimage.generic_laplace`.

    ``y = sum over axes of derivative2(x, axis)``

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    derivative2 : callable
        ``derivative2(input, axis, output, mode, cval, *extra_arguments, **extra_keywords)`` gives the derivative along
        an axis, in the dtype ``output``.
    mode : one, or one for each of ``axes``
        As in `correlate`.
    extra_arguments, extra_keywords : sequence and mapping, optional

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> def second(x, axis, output, mode, cval):
    ...     return ndimage.correlate1d(x, [1, -2, 1], axis, output, mode, cval)
    >>> ndimage.generic_laplace(np.ones((5, 6)), second).shape
    (5, 6)
    """
    a_function("derivative2", derivative2)
    return _summed(_sum, input, derivative2, output, mode, axes, cval, *extra_arguments, **(extra_keywords or {}))


@entrance
def laplace(
    input: Any, output: Any = None, mode: str | Sequence[str] = "reflect", cval: complex = 0.0, *, axes: Axes = None
) -> Array:
    """The sum of second differences [1, -2, 1] along some or all axes, as `scipy.ndimage.laplace`.

    ``y[m] = sum over axes of x[m + 1] - 2*x[m] + x[m - 1]``, each along its axis.

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    mode : one, or one for each of ``axes``
        As in `correlate`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.laplace(np.arange(5.0)[:, None] ** 2 * np.ones(4))
    >>> y.shape, y[2].tolist()
    ((5, 4), [2.0, 2.0, 2.0, 2.0])
    """
    return _summed(_total, input, _second_difference, output, mode, axes, cval)


@entrance
def gaussian_laplace(
    input: Any,
    sigma: float | Sequence[float],
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: Axes = None,
    **kwargs: Any,
) -> Array:
    """The sum of second derivatives of a Gaussian, as `scipy.ndimage.gaussian_laplace`.

    ``y = sum over axes i of gaussian_filter(x, sigma, order)`` with order 2 along i, and 0 along the others.

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    sigma : float, or one for each of ``axes``
        As in `gaussian_filter`.
    mode : one, or one for each of ``axes``
        As in `correlate`: that of a derivative holds along all axes for its term.
    **kwargs
        ``truncate`` and ``radius`` of `gaussian_filter`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.gaussian_laplace(np.full((32, 32), 0.1), sigma=2)
    >>> y.shape
    (32, 32)
    """
    (x,) = arrays(input)
    each = _each("sigma", sigma, _axes(axes, x.ndim), x.ndim)
    deviations = tuple([each.get(axis, 0.0) for axis in range(x.ndim)])
    words = _passed_on(gaussian_laplace, kwargs)
    return _summed(_total, x, _gaussian_derivative, output, mode, axes, cval, deviations, 2, **words)


@entrance
def gaussian_gradient_magnitude(
    input: Any,
    sigma: float | Sequence[float],
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    *,
    axes: Axes = None,
    **kwargs: Any,
) -> Array:
    """The root of the sum of squared derivatives of a Gaussian, as `scipy.ndimage.gaussian_gradient_magnitude`.

    ``y**2 = sum over axes i of gaussian_filter(x, sigma, order)**2`` with order 1 along i, and 0 along the others.

    Parameters
    ----------
    input, output, cval, axes
        As in `correlate`.
    sigma : float, or one for each axis of the input
        As in `gaussian_filter`.
    mode : one, or one for each of ``axes``
        As in `correlate`: that of a derivative holds along all axes for its term.
    **kwargs
        ``truncate`` and ``radius`` of `gaussian_filter`.

    Returns
    -------
    y : array, shape and dtype of the input, or ``output``

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As in `correlate`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import ndimage
    >>> y = ndimage.gaussian_gradient_magnitude(np.full((32, 32), 0.1), sigma=2)
    >>> y.shape, bool(np.any(y))
    ((32, 32), False)
    """
    words = _passed_on(gaussian_gradient_magnitude, kwargs)
    return _summed(_magnitude, input, _gaussian_derivative, output, mode, axes, cval, sigma, 1, **words)


@entrance
def maximum_filter(
    input: Any,
    size: int | Sequence[int] | None = None,
    footprint: Any = None,
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """The largest element of the window around each element.

    ``y[m] = max over j of x[m + j - k//2 - origin]`` along every axis, of the j that the footprint has.

    Parameters
    ----------
    input : array, any integer or real dtype, or bool
    size : int or one int per axis, optional
        Of a window without holes.
    footprint : array, optional
        What a window reads, as true elements of an array with one axis per axis; known numbers, also where input is
        traced.
    output : dtype or array, optional
        Of the result, if it is not that of input, or what the result is written to, where that can be.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}, or one per axis of a window without holes
        How input goes on beyond its ends.
    cval : float
        The elements beyond the ends with mode "constant".
    origin : int or one int per axis
        How far the window lies before the middle one.
    axes : int or ints, optional
        Those along which windows lie; all if left out.

    Returns
    -------
    y : array, shape of input
        NaN in a window makes its maximum NaN. Where the library differentiates, the first of equal elements has the
        gradient.

    Raises
    ------
    RuntimeError
        If neither size nor footprint is given, or some argument does not have one entry, or axis, per axis.
    ValueError
        If axes are none of input's, or repeated, an origin lies outside its window, or nothing in footprint is true.
    TypeError
        If input is complex.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.ndimage import maximum_filter
    >>> y = maximum_filter(np.array([[2, 8, 0, 4, 1]]), 3)
    >>> y.shape
    (1, 5)
    >>> y
    array([[8, 8, 8, 4, 4]])
    """
    return _extreme(_largest, input, size, footprint, output, mode, cval, origin, axes)


@entrance
def minimum_filter(
    input: Any,
    size: int | Sequence[int] | None = None,
    footprint: Any = None,
    output: Any = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    origin: int | Sequence[int] = 0,
    *,
    axes: int | Sequence[int] | None = None,
) -> Array:
    """The smallest element of the window around each element.

    ``y[m] = min over j of x[m + j - k//2 - origin]`` along every axis, of the j that the footprint has.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        As in `maximum_filter`.

    Returns
    -------
    y : array, shape of input

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `maximum_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.ndimage import minimum_filter
    >>> y = minimum_filter(np.array([[2, 8, 0, 4, 1]]), footprint=[[1, 0, 1]])
    >>> y.shape
    (1, 5)
    >>> y
    array([[2, 0, 4, 0, 1]])
    """
    return _extreme(_smallest, input, size, footprint, output, mode, cval, origin, axes)


@entrance
def maximum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: float = 0.0, origin: int = 0
) -> Array:
    """The largest element of the window around each element, along one axis.

    ``y[m] = max over j of x[m + j - k//2 - origin]``

    Parameters
    ----------
    input, output, cval
        As in `maximum_filter`.
    size, mode, origin
        The window's, and how input goes on beyond its ends.
    axis : int
        That along which windows lie.

    Returns
    -------
    y : array, shape of input

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `maximum_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.ndimage import maximum_filter1d
    >>> y = maximum_filter1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), 3)
    >>> y.shape
    (8,)
    >>> y
    array([8, 8, 8, 4, 9, 9, 9, 9])
    """
    return _filtered(_boxes, input, output, (cval,), size, axis, mode, origin, build=_largest)


@entrance
def minimum_filter1d(
    input: Any, size: int, axis: int = -1, output: Any = None, mode: str = "reflect", cval: float = 0.0, origin: int = 0
) -> Array:
    """The smallest element of the window around each element, along one axis.

    ``y[m] = min over j of x[m + j - k//2 - origin]``

    Parameters
    ----------
    input, size, axis, output, mode, cval, origin
        As in `maximum_filter1d`.

    Returns
    -------
    y : array, shape of input

    Raises
    ------
    RuntimeError, ValueError, TypeError
        As `maximum_filter`.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.ndimage import minimum_filter1d
    >>> y = minimum_filter1d(np.array([2, 8, 0, 4, 1, 9, 9, 0]), 3)
    >>> y.shape
    (8,)
    >>> y
    array([2, 0, 0, 0, 1, 1, 0, 0])
    """
    return _filtered(_boxes, input, output, (cval,), size, axis, mode, origin, build=_smallest)


def _correlated(
    function: str, input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> Array:
    x, w = arrays(input, weights)
    operands = described(input=x, weights=w)
    dtype, target = (None, None) if output is None else _output(output, operands)
    elements = known(operands[1], w)
    elements = elements if elements is None or elements.are_few else None
    cval = _plain(cval) if hasattr(cval, "shape") else cval
    return _written(_correlation(operands, dtype, elements, cval, function, mode, origin, axes)(x, w), target)


@remembering(trusted=4)
def _correlation(
    operands: tuple[Operand, ...], dtype: DType, weights: Known | None, cval: Any, function: str, *words: Any
) -> Callable[[Array, Array], Array]:
    """What the keywords of a correlation mean, the words of which are mode, origin and axes."""
    x, w = operands
    mode, origin, axes = words
    value, found = _number(cval, x), _axes(axes, len(x.shape))
    windows = _of_shape("weights", tuple(w.shape), found, len(x.shape), mode, origin, value, function)
    dtype = _dtype(operands, None, False) if dtype is None else dtype
    return correlation(operands, windows, dtype, function == "convolve", weights)


def _of_shape(
    name: str, shape: Ints, axes: Ints, ndim: int, mode: Any, origin: Any, value: Any, function: str, taps: Any = None
) -> Filter:
    """Windows along axes that are named in any order, of a shape in that of the input."""
    origins = _each("origin", origin, axes, ndim)
    if len(shape) != len(axes):
        counts = f"{name}.ndim ({len(shape)}) must match len(axes) ({len(axes)}) of input"
        words = "as a sequence argument must have length equal to input rank"  # SciPy's words where there are no holes
        raise RuntimeError(f"{counts}, {words}, got shape {shape}")
    if 0 in shape:
        raise RuntimeError(f"{name} must have at least one element along each axis, got shape {shape}")
    if not isinstance(mode, str):
        raise RuntimeError(f"mode must be one word for all axes, {got(mode)}")
    return _around(sorted(axes), shape, mode, origins, value, function, taps)


def _around(
    axes: Sequence[int], sizes: Ints, mode: Any, origins: Mapping[int, Any], value: Any, function: str, taps: Any = None
) -> Filter:
    """Windows along some axes, which have one border and an origin each."""
    before = tuple([_before(k, origins[axis], function) for axis, k in zip(axes, sizes, strict=True)])
    return Filter(tuple(axes), tuple(sizes), before, (_mode(mode),) * len(axes), value, taps)


def _along_one(
    function: str, input: Any, weights: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any
) -> Array:
    (x,) = arrays(input)
    if type(weights) is list and weights and all([type(tap) in (int, float) for tap in weights]):  # noqa: C419 - soon
        numbers = tuple(weights if function == "correlate" else weights[::-1])
        return _filtered(_tapped, x, output, (cval, numbers), axis, mode, origin, function)
    (w,) = arrays(weights)
    operand = described(weights=w)[0]
    if operand.is_chunked:
        return _correlated(function, x, w, output, mode, cval, origin, (axis,))
    if len(operand.shape) != 1 or operand.shape[0] < 1:
        _number(cval, described(input=x)[0])
        raise RuntimeError(f"weights must be at least one number along one axis, got shape {tuple(w.shape)}")
    taps: Any = known(operand, w)  # whatever library the input is of
    if taps is None:
        xp = namespace_of_numbers([operand])
        namespace_of(input=x, weights=w)
        taps = turned(xp, w, 1) if function == "convolve" else conjugate(xp, w)
    return _filtered(_tapped, x, output, (cval, taps), axis, mode, origin, function)


def _filtered(
    filters_of: Function,
    input: Any,
    output: Any,
    values: Any,
    *words: Any,
    build: Function = separable,
    promotes: bool = True,
) -> Array:
    """The filters that ``filters_of`` translates keywords to, by what ``build`` makes of them for arrays like one.

    filters_of(ndim, cval, *numbers, *words) gives windows, one after another, and build(operand, windows, dtype) a
    function of the array. ``values`` are cval and the numbers, which may be arrays of one element.
    """
    (x,) = arrays(input)
    dtype, target = None, None
    if output is not None:
        operands = described(input=x)
        if build is not separable:
            _check_order(operands[0])
        dtype, target = _output(output, operands, *values[1:], promotes=promotes)
    return _written(_applied(build, filters_of, x, dtype, values, *words), target)


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's, which is found again; those of other libraries may not be known."""
    return value.item() if row_of(value).threads and value.ndim == 0 else value


def _applied(build: Function, filters_of: Function, x: Array, dtype: DType, values: Any, *words: Any) -> Any:
    if any([hasattr(value, "shape") for value in values]):  # noqa: C419 - soon
        values = [*map(_plain, values)]
    cval, *others = values
    forgets = any([hasattr(value, "shape") or not getattr(value, "are_few", True) for value in values])  # noqa: C419
    make = _built if forgets else _built_once
    return make(build, filters_of, described(input=x), dtype, tuple(others), cval, *words)(x)


def _built(
    build: Function, filters_of: Function, operands: tuple[Operand, ...], dtype: DType, values: Any, *words: Any
) -> Function:
    """What finds it in arrays like one; cval is the first of the words."""
    x, (cval, *others) = operands[0], words
    namespace_of_numbers([x])
    filters = filters_of(len(x.shape), _number(cval, x), *values, *others)
    dtype = _dtype(operands, None, _are_complex(values)) if dtype is None else dtype
    filters, sums = (filters,) if isinstance(filters, Filter) else tuple(filters), build is separable
    if not (sums and loses(x.xp, dtype)):
        filters = tuple([line.over(x.shape, sums) for line in filters])
    built: Function = build(x, filters, dtype)
    return built


_built_once = remembering(trusted=6)(_built)


def _tapped(ndim: int, value: complex, taps: Any, axis: Any, mode: Any, origin: Any, function: str) -> Filter:
    taps = taps.taps(function == "convolve") if isinstance(taps, Known) else taps
    size, at = len(taps) if isinstance(taps, tuple) else taps.shape[0], _axis(axis, ndim)
    return _around((at,), (size,), mode, {at: origin}, value, function, taps)


def _boxes(ndim: int, value: complex, size: Any, axis: Any, mode: Any, origin: Any) -> Filter:
    """Windows of equal elements along an axis, of a mean or an extreme."""
    at, k = _axis(axis, ndim), a_number("size", size, operator.index)
    if k < 1:
        raise RuntimeError(f"size must be at least 1, {got(size)}")
    return _around((at,), (k,), mode, {at: origin}, value, "correlate")


def _boxes_by_axis(ndim: int, value: complex, size: Any, mode: Any, origin: Any, axes: Any) -> list[Filter]:
    each = _by_axis(axes, ndim, size=size, mode=mode, origin=origin)
    return [_boxes(ndim, value, int(k), *words) for k, *words in each if a_number("size", k, int) > 1]


def _by_axis(axes: Any, ndim: int, **words: Any) -> Iterator[tuple[Any, ...]]:
    """The first word, an axis, and the others, for each of the axes."""
    found = _axes(axes, ndim)
    each = [_sequence(name, word, len(found)) for name, word in words.items()]
    return zip(each[0], found, *each[1:], strict=True)


def _differences(ndim: int, value: complex, across: Any, axis: Any, mode: Any) -> list[Filter]:
    first, words = _axis(axis, ndim), _sequence("mode", mode, ndim)
    others = [(other, across) for other in range(ndim) if other != first]
    return [_tapped(ndim, value, t, at, words[at], 0, "correlate") for at, t in [(first, (-1.0, 0.0, 1.0)), *others]]


def _gaussians(
    ndim: int, value: complex, sigma: Any, truncate: Any, order: Any, mode: Any, radius: Any, axes: Any
) -> list[Filter]:
    return [
        _gaussian_along_one(ndim, value, deviation, truncate, *words)
        for deviation, *words in _by_axis(axes, ndim, sigma=sigma, order=order, mode=mode, radius=radius)
        if a_number("sigma", deviation) > NEGLIGIBLE
    ]


def _gaussian_along_one(
    ndim: int, value: complex, sigma: Any, truncate: Any, axis: Any, order: Any, mode: Any, radius: Any
) -> Filter:
    deviation = a_number("sigma", sigma)
    if deviation <= 0:
        raise ZeroDivisionError(f"sigma must be greater than 0, {got(sigma)}")
    reach = radius
    if radius is None:
        reach = a_number("truncate * sigma", a_number("truncate", truncate) * deviation + 0.5, int)
    if not isinstance(reach, Integral) or reach < 0:
        likely = f"radius must be an int of at least 0, {got(radius)}"
        raise ValueError(f"truncate must be at least 0, {got(truncate)}" if radius is None else likely)
    taps = gaussian_taps(deviation, a_number("order", order, operator.index), int(reach))
    return _tapped(ndim, value, taps, axis, mode, 0, "correlate")


def _second_difference(x: Array, axis: int, dtype: DType, mode: str, cval: Any) -> Array:
    return _applied(separable, _tapped, x, dtype, (cval, (1.0, -2.0, 1.0)), axis, mode, 0, "correlate")


def _passed_on(function: Function, words: dict[str, Any]) -> dict[str, Any]:
    """Those of the keywords of `gaussian_filter` that SciPy's functions made of it have besides their own."""
    check_names(function, ("input", "sigma", "output", "mode", "cval", "axes", "truncate", "radius"), words)
    return words


def _gaussian_derivative(
    x: Any, axis: int, dtype: Any, mode: str, cval: Any, sigma: Any, order: int, truncate: Any = 4.0, radius: Any = None
) -> Array:
    """Gaussians along all axes, that along one of them derived so many times."""
    orders = tuple([order if at == axis else 0 for at in range(x.ndim)])
    return _applied(separable, _gaussians, x, dtype, (cval, sigma, truncate), orders, mode, radius, None)


@functools.lru_cache(maxsize=128)
def gaussian_taps(sigma: float, order: int, radius: int) -> tuple[float, ...]:
    """A derivative of a Gaussian at the integers, of which the Gaussian's own values sum to 1, to correlate with.

    The derivatives of exp(-x**2/(2 s**2)) are it times polynomials q, and q' - x/s**2 q the next of these.
    """
    import numpy as np

    if order < 0:
        raise ValueError(f"order must be at least 0, got {order}")
    places = np.arange(-radius, radius + 1)
    values = np.exp(-0.5 / (sigma * sigma) * places**2)
    values = values / values.sum()
    polynomial = [1.0]
    for _ in range(order):
        derivative = [power * factor for power, factor in enumerate(polynomial)][1:]
        shifted = [0.0, *(-factor / (sigma * sigma) for factor in polynomial)]
        polynomial = [a + b for a, b in itertools.zip_longest(derivative, shifted, fillvalue=0.0)]
    factors = sum([q * places**power for power, q in enumerate(polynomial)])
    taps: list[float] = (factors * values)[::-1].tolist()  # a convolution reads windows backwards
    return tuple(taps)


def _extreme(
    build: Function, input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> Array:
    if footprint is not None:
        if size is not None:
            warn("ignoring size because footprint is set", UserWarning, depth=4)
        (holes,) = arrays(footprint)
        operand = described(footprint=holes)[0]
        if operand.is_chunked:
            raise TypeError("footprint must be known, since it decides what is read: pass footprint.compute()")
        namespace_of_numbers([operand])
        taps = known(operand, holes) or _flat(operand.xp, holes)
        return _filtered(_footprints, input, output, (cval, taps, tuple(holes.shape)), mode, origin, axes, build=build)
    if size is None:
        raise RuntimeError("size or footprint must be given, got neither")
    return _filtered(_boxes_by_axis, input, output, (cval,), size, mode, origin, axes, build=build)


def _flat(xp: Namespace, holes: Array) -> tuple[bool, ...]:
    """Which elements a window reads, row after row."""
    flat = xp.reshape(holes, (-1,))
    return tuple([a_number("footprint", flat[place], bool) for place in range(flat.shape[0])])


def _footprints(
    ndim: int, value: complex, footprint: Any, size: Ints, mode: Any, origin: Any, axes: Any
) -> Filter | list[Filter]:
    """One window with holes, or boxes along one axis after the other if there are none."""
    taps = tuple(map(bool, footprint.taps(False))) if isinstance(footprint, Known) else footprint
    if not any(taps):
        raise ValueError(f"footprint must have a true element, got none in the shape {size}")
    found = _axes(axes, ndim)
    if len(size) == len(found) and all(taps):
        return _boxes_by_axis(ndim, value, size, mode, origin, axes)
    return _of_shape("footprint", size, found, ndim, mode, origin, value, "correlate", taps)


def _extremes(operand: Operand, filters: Sequence[Filter], dtype: DType, pick: str) -> Function:
    """Of windows over some axes, one after the other, or of one with holes.

    SciPy stores what it finds along one axis before it goes on to the next. That makes a difference only where numbers
    may not fit the integers that they are stored as.
    """
    xp, own = operand.xp, operand.dtype
    _check_order(operand)
    if operand.is_chunked:
        arguments = filters, dtype, pick
        return lambda x: neighbourhoods(_extremes_of, x, halos(filters), dtype, (), arguments)
    fits = not any(line.taps for line in filters) and (own == dtype or is_kind(xp, dtype, "real floating"))
    if not traits(xp).threads:
        return functools.partial(
            _extremes_elsewhere, filters=filters, dtype=dtype, fits=fits, largest=pick == "maximum"
        )
    picked, workings = [], []
    for at, line in enumerate(filters):
        stored = xp.result_type(own if at == 0 and not fits else dtype)
        value, working = _border(xp, xp.uint8 if stored == xp.bool else stored, line)
        picked.append(line._replace(value=value, taps=line.taps or (True,) * line.sizes[0], pick=pick))
        workings.append(xp.dtype(working))
    return separable(operand, picked, dtype, workings)


def _check_order(operand: Operand) -> None:
    if is_kind(operand.xp, operand.dtype, "complex floating"):
        raise TypeError(f"input must have an integer or real dtype, whose elements have an order, got {operand.dtype}")


def _extremes_of(x: Array, filters: Sequence[Filter], dtype: DType, pick: str) -> Array:
    found: Array = _extremes(described(input=x)[0], filters, dtype, pick)(x)
    return found


def _border(xp: Namespace, dtype: DType, line: Filter) -> tuple[float, DType]:
    """The pad value that windows over such elements read, and the dtype that these are compared in.

    As in SciPy one that integers do not hold is, with holes, one of them modulo 2**bits, and else all are compared as
    floats.
    """
    value = line.value.real if "zeros" in line.modes else 0.0
    if not is_kind(xp, dtype, "integral"):
        return value, dtype
    info = xp.iinfo(dtype)
    value = value if math.isfinite(value) or not line.taps else -(2.0**63)  # what processors make of NaN
    if line.taps or info.min - 1 < value < info.max + 1:
        return (int(value) - info.min) % (info.max - info.min + 1) + info.min, dtype
    return value, filter_dtype(xp, dtype)


def _extremes_elsewhere(x: Array, filters: Sequence[Filter], dtype: DType, fits: bool, largest: bool) -> Array:
    """Elsewhere than on NumPy, of windows over all axes at once where that makes no difference."""
    xp = namespace_of(input=x)
    x = truncated(xp, x, dtype) if fits else x
    for part in [filters] if fits or any(line.taps for line in filters) else [filters[:1], filters[1:]]:
        x = xp.astype(x, xp.uint8) if is_kind(xp, x.dtype, "bool") else x
        windows, borders, line = _laid_over(tuple(x.shape), tuple(part))
        if windows is not None and line is not None:
            value, working = _border(xp, x.dtype, line)
            x = xp.astype(x, working, copy=False)
            x = extreme_filter(
                xp, x, windows, borders, value, largest, runs_of(line.taps, windows.kernel_size) if line.taps else ()
            )
        x = truncated(xp, x, dtype)
    return x


_largest = functools.partial(_extremes, pick="maximum")
_smallest = functools.partial(_extremes, pick="minimum")


@remembering(trusted=2)
def _laid_over(shape: Ints, filters: tuple[Filter, ...]) -> tuple[Geometry | None, Words, Filter | None]:
    """Windows over all axes, if there are elements, borders, and a line with all their modes."""
    axes, sizes, before, modes = (tuple(itertools.chain(*map(operator.itemgetter(at), filters))) for at in range(4))
    kernel, padding, borders = on_all_axes(axes, sizes, before, modes, len(shape))
    some = shape and 0 not in shape
    windows = at_every_element(tuple(map(operator.index, shape)), kernel, padding) if some else None
    return windows, borders, filters[0]._replace(modes=modes) if filters else None


def _before(k: int, origin: Any, function: str) -> int:
    """How many elements lie before the first one in its window."""
    shift: int = a_number("origin", origin, operator.index)
    if function == "convolve":
        shift = -shift - (k % 2 == 0)
    if not -(k // 2) <= shift <= (k - 1) // 2:
        raise ValueError(f"origin must leave the {k} elements of a window around it, {got(origin)}")
    return k // 2 + shift


def _mode(mode: Any) -> str:
    if not isinstance(mode, str) or mode not in MODES:
        ours = SYNONYMS.get(str(mode), str(mode))
        words = [word for word, meaning in MODES.items() if meaning == ours]
        hint = meant(ours, tuple(MODES), {ours: words[0]} if words else {})
        raise RuntimeError(f"mode must be one of {', '.join(map(repr, MODES))}, {got(mode)}{hint}")
    return MODES[mode]


def _sequence(name: str, value: Any, count: int) -> list[Any]:
    """One value for each of so many axes."""
    values = entries(value)
    if values is None:
        return [value] * count
    if len(values) != count:
        raise RuntimeError(
            f"{name}: sequence argument must have length equal to input rank, or axes, {count}, {got(value)}"
        )
    return [*values]


def _each(name: str, value: Any, axes: Ints, ndim: int) -> dict[int, Any]:
    """One value for each axis, in the order in which they are named, but of all axes in their own, as SciPy has it."""
    values = _sequence(name, value, len(axes))
    return dict(zip(axes if len(axes) < ndim else range(ndim), values, strict=True))


def _axes(axes: Any, ndim: int) -> Ints:
    if axes is None:
        return tuple(range(ndim))
    given = entries(axes)
    found = tuple([_axis(axis, ndim, "axes") for axis in ((axes,) if given is None else given)])
    if len(set(found)) != len(found):
        raise ValueError(f"axes must be unique, {got(axes)}")
    return found


def _axis(axis: Any, ndim: int, name: str = "axis") -> int:
    if isinstance(axis, float):
        raise TypeError(f"{name} must be an int, {got(axis)}, which cannot be interpreted as an integer")
    index: int = a_number(name, axis, operator.index)
    if not -ndim <= index < ndim:
        raise axis_error(f"{name} must lie within the {ndim} axes of input, {got(axis)}, which is out of range")
    return index % ndim


def _number(cval: Any, x: Operand) -> complex:
    """The pad value as a number of Python's own."""
    if is_kind(x.xp, x.dtype, "complex floating"):
        return complex(a_number("cval", cval, complex))
    if isinstance(cval, complex) or _has_complex_dtype(cval):
        raise ValueError(f"Cannot provide a complex-valued cval when the input is real: {x.dtype}, {got(cval)}")
    return float(a_number("cval", cval))


def _summed(
    combined: Function, input: Any, derivative: Function, output: Any, mode: Any, axes: Any, /, *words: Any, **more: Any
) -> Array:
    """The sum over axes of a filter for each, or what else is made of these, in the result's dtype."""
    (x,) = arrays(input)
    operands = described(input=x)
    dtype, target = _dtype(operands, None, False), None
    if output is not None:
        dtype, target = _output(output, operands, promotes=False)
    found = _axes(axes, x.ndim)
    if not found:
        return _written(separable(operands[0], (), dtype)(x), target)
    each = zip(found, _sequence("mode", mode, len(found)), strict=True)
    shares = [derivative(x, axis, dtype, word, *words, **more) for axis, word in each]
    return _written(element_by_element(combined, *shares), target)


def _total(*shares: Array) -> Array:
    """The sum of arrays of our own: in the place of the first, where that is memory."""
    first = shares[0]
    return functools.reduce(operator.iadd, shares) if _has_place(namespace_of(x=first), first.dtype) else _sum(*shares)


def _sum(*shares: Array) -> Array:
    """The sum of arrays that may be others'."""
    first, *others = shares
    xp = namespace_of(input=first)
    if not others:
        return xp.asarray(first, copy=True)
    return truncated(xp, functools.reduce(functools.partial(modular, xp, operator.add), shares), first.dtype)


def _magnitude(*shares: Array) -> Array:
    """The root of the sum of squares, likewise."""
    xp, dtype = namespace_of(input=shares[0]), shares[0].dtype
    if _has_place(xp, dtype):
        total = _total(*(xp.multiply(share, share, out=share) for share in shares))
        return xp.sqrt(total, out=total)
    squares = _total(*(modular(xp, operator.mul, share, share) for share in shares))
    return truncated(xp, xp.sqrt(xp.astype(squares, filter_dtype(xp, dtype))), dtype)


def _has_place(xp: Namespace, dtype: DType) -> bool:
    """Whether results are computed where arrays lie: NumPy's would come from new memory, page by page."""
    return traits(xp).threads and is_kind(xp, dtype, "real floating") and filter_dtype(xp, dtype) == dtype


def _output(
    output: Any, operands: tuple[Operand, ...], *values: Any, promotes: bool = True
) -> tuple[DType, Array | None]:
    """The result's dtype, and the array that it is to be written to, if one was given.

    Of a complex result, a real dtype ``promotes`` to a complex one; its name and a real array are refused. SciPy's
    filters of several steps, which hand an array of that dtype from one to the next, refuse it as well.
    """
    xp, shape = operands[0].xp, operands[0].shape
    target, named = None, output
    if hasattr(type(output), "__setitem__"):
        if not hasattr(output, "dtype"):
            raise TypeError(f"output must be a dtype, or an array that can be written to, {got(output)}")
        (target,) = arrays(output)
        if is_chunked(target) or any(operand.is_chunked for operand in operands):
            raise TypeError("output must be a dtype for an array in chunks, which is computed later, got an array")
        if described(output=target)[0].xp is not xp or is_immutable(target):
            raise TypeError(
                f"output must be a dtype, or an array of {xp.__name__} that can be written to, {got(output)}"
            )
        if not getattr(getattr(target, "flags", None), "writeable", True):
            raise ValueError("output must be an array that can be written to, got one that is read-only")
        if tuple(target.shape) != tuple(shape):
            raise RuntimeError(f"output must have the shape {tuple(shape)} of input, got {tuple(target.shape)}")
        named = target.dtype
    dtype, needed = _dtype(operands, named, False), _dtype(operands, None, _are_complex(values))
    if is_kind(xp, needed, "complex floating") and not is_kind(xp, dtype, "complex floating"):
        if target is not None or isinstance(output, str) or not promotes:
            raise RuntimeError(f"output must be complex, as the result is, got {dtype}")
        warn("promoting specified output dtype to complex", UserWarning, depth=5)
        dtype = complex_dtype(xp, dtype)
    return dtype, target


@remembering(trusted=3)
def _dtype(operands: tuple[Operand, ...], named: Any, has_complex: bool) -> DType:
    """That which is named, or the input's in the machine's byte order, or a complex one if it, or taps, have such."""
    xp = namespace_of_numbers(operands)
    if named is not None:
        return named_dtype(xp, named)
    has_complex = has_complex or any(is_kind(xp, operand[3], "complex floating") for operand in operands)
    return complex_dtype(xp, operands[0][3]) if has_complex else xp.result_type(operands[0][3])


def _are_complex(values: tuple[Any, ...]) -> bool:
    """Whether taps, of the values that a filter has, are complex: numbers, or an array of them."""
    taps = [tap for value in values if isinstance(value, tuple) for tap in value]
    return any(isinstance(tap, complex) for tap in taps) or any(map(_has_complex_dtype, values))


def _has_complex_dtype(value: Any) -> bool:
    """By its name, which in another byte order is one of letters only."""
    dtype = getattr(value, "dtype", "")
    return "complex" in str(getattr(dtype, "name", dtype))


def _written(y: Array, target: Array | None) -> Array:
    y = write(y) if isinstance(y, Chunked) else y
    return y if target is None else put_at(target, (...,), y)
