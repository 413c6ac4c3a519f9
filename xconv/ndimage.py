"""Filters of `scipy.ndimage`, by their names and signatures, on arrays of every library."""

from __future__ import annotations

import importlib
import operator
import warnings
from collections.abc import Sequence
from typing import Any

from ._arrays.elements import put_at
from ._arrays.entrances import entrance
from ._arrays.libraries import Array, DType, Namespace, is_immutable, is_kind
from ._arrays.operands import _namespace
from ._plan.geometry import Ints
from ._plan.pooling import Runs, centred, runs_of
from ._run.pools import extreme_filter

__all__ = [
    "maximum_filter",
    "maximum_filter1d",
    "minimum_filter",
    "minimum_filter1d",
]

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


# Maximum and minimum filters
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
    return _extreme(True, input, size, footprint, output, mode, cval, origin, axes)


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
    return _extreme(False, input, size, footprint, output, mode, cval, origin, axes)


@entrance
def maximum_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Array:
    """The largest element of the window around each element, along one axis.

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
    return _extreme_along(True, input, size, axis, output, mode, cval, origin)


@entrance
def minimum_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Array:
    """The smallest element of the window around each element, along one axis.

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
    return _extreme_along(False, input, size, axis, output, mode, cval, origin)


def _extreme(
    largest: bool, input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> Array:
    (x,) = as_arrays(input)
    found, taps = _axes(axes, x.ndim), None
    if footprint is not None:
        if size is not None:
            warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=4)
        size, taps = _footprint(footprint)
        if len(size) != len(found) and not all(taps):
            raise RuntimeError(f"footprint.ndim ({len(size)}) must match len(axes) ({len(found)}), got shape {size}")
    elif size is None:
        raise RuntimeError("size or footprint must be given, got neither")
    sizes, origins = _sequence(size, len(found)), _sequence(origin, len(found))
    if taps is None or all(taps):
        each = zip(found, sizes, _sequence(mode, len(found)), origins, strict=True)
        lines = [(axis, int(k), word, shift) for axis, k, word, shift in each if k > 1]
        return _extremes(largest, x, lines, (), cval, output)
    if not isinstance(mode, str):
        raise RuntimeError(f"mode must be one word for all axes of a footprint with holes, got {mode!r}")
    shifts = dict(zip(found if len(found) < x.ndim else range(x.ndim), origins, strict=True))
    lines = [(axis, k, mode, shifts[axis]) for axis, k in zip(sorted(found), sizes, strict=True)]
    kernel = [1] * x.ndim
    for axis, k, _, _ in lines:
        kernel[axis] = k
    return _extremes(largest, x, lines, runs_of(taps, tuple(kernel)), cval, output)


def _extreme_along(
    largest: bool, input: Any, size: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any
) -> Array:
    (x,) = as_arrays(input)
    axis, k = _axis(axis, x.ndim), operator.index(size)
    if k < 1:
        raise RuntimeError(f"size must be at least 1, got {size!r}")
    return _extremes(largest, x, [(axis, k, mode, origin)], (), cval, output)


def _footprint(footprint: Any) -> tuple[Ints, tuple[bool, ...]]:
    """The shape of a window, and which elements it reads, row after row."""
    (array,) = as_arrays(footprint)
    shape: Ints = tuple(array.shape)
    flat = namespace_of(footprint=array).reshape(array, (-1,))
    taps = tuple([bool(flat[place]) for place in range(flat.shape[0])])
    if not any(taps):
        raise ValueError(f"footprint must have a true element, got none in the shape {shape}")
    return shape, taps


def _extremes(
    largest: bool, x: Array, lines: list[tuple[int, int, str, Any]], runs: Runs, cval: Any, output: Any
) -> Array:
    """Of windows over some axes, of which each has a size, a border and an origin.

    SciPy stores what it finds along one axis before it goes on to the next. That makes a difference only where numbers
    may not fit the integers that they are stored as.
    """
    xp = namespace_of(input=x)
    if is_kind(xp, x.dtype, "complex floating"):
        raise TypeError(f"input must have an integer or real dtype, whose elements have an order, got {x.dtype}")
    dtype, target = _output(output, x)
    borders = [(axis, k, _before(k, origin, False), _mode(mode)) for axis, k, mode, origin in lines]
    fits = not runs and (x.dtype == dtype or is_kind(xp, dtype, "real floating"))
    y = truncated(xp, x, dtype) if fits else x
    for part in [borders] if fits or runs else [borders[:1], borders[1:]]:
        y = _stored_extremes(largest, y, part, runs, cval, dtype)
    return _written(y, target)


def _stored_extremes(
    largest: bool, x: Array, borders: Sequence[tuple[int, int, int, str]], runs: Runs, cval: Any, dtype: DType
) -> Array:
    """In SciPy's way with a pad value that integers do not hold: with holes it is one of them, modulo 2**bits, and else
    all are compared as floats.
    """
    xp = namespace_of(input=x)
    x = xp.astype(x, xp.uint8) if is_kind(xp, x.dtype, "bool") else x
    kernel, before, modes, value = [1] * x.ndim, [0] * x.ndim, ["zeros"] * x.ndim, float(cval)
    for axis, k, lo, mode in borders:
        kernel[axis], before[axis], modes[axis] = k, lo, mode
    if is_kind(xp, x.dtype, "integral") and any(mode == "zeros" for *_, mode in borders):
        info = xp.iinfo(x.dtype)
        if runs or info.min - 1 < value < info.max + 1:
            value = (int(value) - info.min) % (info.max - info.min + 1) + info.min
        else:
            x = xp.astype(x, filter_dtype(xp, x.dtype))
    if 0 not in x.shape and x.ndim:
        windows = centred(tuple(map(operator.index, x.shape)), tuple(kernel), tuple(before))
        x = extreme_filter(xp, x, windows, tuple(modes), value, largest, runs)
    return truncated(xp, x, dtype)


# What all filters translate


def as_arrays(*values: Any) -> tuple[Array, ...]:
    from array_api_compat import is_array_api_obj

    return tuple([v if is_array_api_obj(v) else importlib.import_module("numpy").asarray(v) for v in values])


def namespace_of(**arrays: Array) -> Namespace:
    return next(_namespace(name, array) for name, array in arrays.items())


def filter_dtype(xp: Namespace, dtype: DType) -> DType:
    return xp.float64


def truncated(xp: Namespace, array: Array, dtype: DType) -> Array:
    if array.dtype == dtype:
        return array
    if is_kind(xp, array.dtype, "real floating"):
        if is_kind(xp, dtype, "bool"):
            array = xp.trunc(array)
        elif is_kind(xp, dtype, "integral"):
            array = xp.astype(array, xp.int64)
    return xp.astype(array, dtype)


def _before(k: int, origin: Any, convolution: bool) -> int:
    """How many elements lie before the first one in its window."""
    shift = operator.index(origin)
    if not -(k // 2) <= shift <= (k - 1) // 2:
        raise ValueError(f"origin must leave the {k} elements of a window around it, got {origin!r}")
    return k // 2 + shift


def _mode(mode: Any) -> str:
    if mode not in MODES:
        raise RuntimeError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    return MODES[mode]


def _sequence(value: Any, count: int) -> list[Any]:
    """One value for each of so many axes."""
    if isinstance(value, str) or not _is_iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise RuntimeError(f"sequence argument must have length equal to input rank, or axes, {count}, got {value!r}")
    return values


def _is_iterable(value: Any) -> bool:
    try:
        iter(value)
    except TypeError:
        return False
    return True


def _axes(axes: Any, ndim: int) -> Ints:
    if axes is None:
        return tuple(range(ndim))
    given = [operator.index(axis) for axis in (axes if _is_iterable(axes) else (axes,))]
    found = tuple([_axis(axis, ndim) for axis in given])
    if len(set(found)) != len(found):
        raise ValueError(f"axes must be unique, got {axes!r}")
    return found


def _axis(axis: Any, ndim: int) -> int:
    index = operator.index(axis)
    if not -ndim <= index < ndim:
        raise ValueError(f"axes must be of an array of {ndim}, got {axis!r}, which is out of range")
    return index % ndim


def _output(output: Any, x: Array) -> tuple[DType, Array | None]:
    """The result's dtype, and the array that it is to be written to, if one was given."""
    xp = namespace_of(input=x)
    if output is None:
        return x.dtype, None
    if hasattr(type(output), "__setitem__"):
        (target,) = as_arrays(output)
        if tuple(target.shape) != tuple(x.shape):
            raise RuntimeError(f"output must have the shape {tuple(x.shape)} of input, got {tuple(target.shape)}")
        if is_immutable(target):
            raise TypeError(f"output must be a dtype, or an array that can be written to, got {type(output).__name__}")
        return target.dtype, target
    numpy = importlib.import_module("numpy")
    if isinstance(output, type | str):
        return getattr(xp, numpy.dtype(output).name), None
    return output, None


def _written(y: Array, target: Array | None) -> Array:
    return y if target is None else put_at(target, (...,), y)
