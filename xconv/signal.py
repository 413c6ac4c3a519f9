"""Functions of scipy.signal by their names, signatures and results, on arrays of every library.

They translate keywords to the engine of `xconv.conv`, and are differentiable where the library is.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from ._arrays.elements import are_exact_in_floats, conjugate, full, gathered, is_finite, reshaped, zeros
from ._arrays.entrances import entrance
from ._arrays.layout import joined, split, turned
from ._arrays.libraries import Array, DType, Namespace, has_float64, is_chunked, is_kind, may_look, traits
from ._arrays.operands import (
    Operand,
    arrays,
    as_element,
    axis_error,
    chunk_of,
    described,
    floating,
    item_size,
    namespace_of_numbers,
    number,
    promoted,
)
from ._arrays.polyphase import extended, interleaved, phase_filters, picked
from ._arrays.taps import add_infinite_taps
from ._arrays.windows import pad
from ._conv import conv_of
from ._plan.arguments import a_number, entries, got, meant, one_of, workspace
from ._plan.broadcast import MODES, Convolution, Order, convolution, kept_shape
from ._plan.geometry import Ints
from ._plan.polyphase import EXTENSIONS, Polyphase, extension, polyphase
from ._plan.remembered import remembering
from ._plan.schedule import cheapest
from ._run.chunked_signals import convolved, resampled
from ._run.graph import lazily
from ._run.lines import BEGUN, CARRIED_OUT, Settled, line_of, plane_of

__all__ = ["convolve", "convolve2d", "correlate", "correlate2d", "fftconvolve", "oaconvolve", "upfirdn"]

Mode: TypeAlias = Literal["full", "valid", "same"]
Method: TypeAlias = Literal["auto", "direct", "fft"]
Boundary: TypeAlias = Literal["fill", "pad", "wrap", "circular", "symm", "symmetric"]
Axes: TypeAlias = int | Sequence[int] | None
CALL = 20_000  # nanoseconds that any call takes: what "auto" gives away for outputs that read their own windows alone
PICKED, PLACE, PRODUCT = (
    30_000,
    10,
    5,
)  # nanoseconds of a resampling number by number, of each tap, and of each product,
MOST = 2**20  # of which there is memory for so many
SPECTRA = 3  # times operands and result: what scipy.signal holds, too, the spectra of both and their product
SPREADS = (
    "Use of fft convolution on input with NAN or inf results in NAN or inf output. Consider using method='direct' "
    "instead."
)
BOUNDARIES = {
    "fill": "zeros",
    "pad": "zeros",
    "wrap": "circular",
    "circular": "circular",
    "symm": "symmetric",
    "symmetric": "symmetric",
}


def __dir__() -> list[str]:
    return __all__


@entrance
def convolve(in1: Array, in2: Array, mode: Mode = "full", method: Method = "auto") -> Array:
    """Convolve two arrays, as `scipy.signal.convolve`.

    ``out[m] = sum over j of in1[m - j] * in2[j]`` along every axis.

    Parameters
    ----------
    in1, in2 : arrays of equal ndim, any shapes, any numeric dtype
        Lists and numbers become arrays of the other one's library, or of NumPy's.
    mode : {"full", "valid", "same"}
        Every overlap; those that need no padding, of which one of the arrays must be the larger one along every axis;
        the middle of "full", of the size of ``in1``.
    method : {"auto", "direct", "fft"}
        "direct": every output is the sum of the products in its own window. "fft": by transforms, which spread NaN,
        inf and rounding. "auto": the fastest of all that `xconv.conv` has; integers are exact with any.

    Returns
    -------
    out : array, the dtype that the operands promote to
        For each axis, with sizes d and k, of d + k - 1, abs(d - k) + 1 or d elements, by the mode.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or an array is empty. But "same" of an empty ``in1``
        is empty, and of more than one axis sums of nothing are zeros wherever SciPy has them.
    IndexError
        If an array is empty, and the method is "fft".
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import convolve
    >>> out = convolve(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.5]))
    >>> out.shape
    (5,)
    >>> out
    array([0. , 1. , 2.5, 4. , 1.5])
    """
    in1, in2 = arrays(in1, in2)
    return _convolution(described(in1=in1, in2=in2), "convolve", mode, method)(in1, in2)


@entrance
def correlate(in1: Array, in2: Array, mode: Mode = "full", method: Method = "auto") -> Array:
    """Correlate two arrays, as `scipy.signal.correlate`.

    ``out[m] = sum over j of in1[m + j - (k - 1)] * conj(in2[j])`` along every axis, with k the size of ``in2``.

    Parameters
    ----------
    in1, in2, mode, method
        As in `convolve`.

    Returns
    -------
    out : array, the dtype that the operands promote to
        Of the shape that `convolve` gives.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or an array is empty, as in `convolve`.
    IndexError
        If an array is empty, and the method is "fft".
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import correlate
    >>> out = correlate(np.array([1, 2, 3]), np.array([0, 1, 2]), mode="same")
    >>> out.shape
    (3,)
    >>> out
    array([5, 8, 3])
    """
    in1, in2 = arrays(in1, in2)
    return _convolution(described(in1=in1, in2=in2), "correlate", mode, method)(in1, in2)


@entrance
def fftconvolve(in1: Array, in2: Array, mode: Mode = "full", axes: Axes = None) -> Array:
    """Convolve two arrays along some axes, as `scipy.signal.fftconvolve`.

    ``out[m] = sum over j of in1[m - j] * in2[j]`` along each of the axes.

    It takes the fastest of all that `xconv.conv` has, transforms of blocks included.

    Parameters
    ----------
    in1, in2 : arrays of equal ndim, any shapes, any numeric dtype
        Lists and numbers become arrays of the other one's library, or of NumPy's. They broadcast along the axes that
        are not named, and nothing is repeated for that.
    mode : {"full", "valid", "same"}
        Every overlap; those that need no padding, of which one of the arrays must be the larger one along every axis;
        the middle of "full", of the size of ``in1``.
    axes : int or sequence of ints, optional
        The axes to convolve along; all if left out.

    Returns
    -------
    out : array, the floating-point dtype that the operands promote to
        Integers count as float64, shorter floats as float32. Where no axis has more than one element in both arrays, it
        is their product, in their dtype; if one of them is empty, a line without elements.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a keyword has no such value.
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import fftconvolve
    >>> signals, filters = np.ones((8, 1, 1000)), np.ones((1, 3, 20))
    >>> fftconvolve(signals, filters, mode="same", axes=-1).shape
    (8, 1, 1000)
    >>> fftconvolve(signals, filters, axes=-1).shape
    (8, 3, 1019)
    """
    return _along(in1, in2, mode, axes)


@entrance
def oaconvolve(in1: Array, in2: Array, mode: Mode = "full", axes: Axes = None) -> Array:
    """Convolve two arrays along some axes, as `scipy.signal.oaconvolve`: by blocks where that is faster.

    ``out[m] = sum over j of in1[m - j] * in2[j]`` along each of the axes.

    Parameters
    ----------
    in1, in2, mode, axes
        As in `fftconvolve`, which does the same here.

    Returns
    -------
    out : array, the floating-point dtype that the operands promote to
        As of `fftconvolve`.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a keyword has no such value.
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import oaconvolve
    >>> oaconvolve(np.ones(100_000), np.ones(512), mode="valid").shape
    (99489,)
    """
    return _along(in1, in2, mode, axes)


@entrance
def convolve2d(
    in1: Array, in2: Array, mode: Mode = "full", boundary: Boundary = "fill", fillvalue: complex = 0
) -> Array:
    """Convolve two images, with a border, as `scipy.signal.convolve2d`.

    ``out[m, n] = sum over i, j of in1[m - i, n - j] * in2[i, j]``

    Parameters
    ----------
    in1, in2, mode
        As in `convolve`, of two axes.
    boundary : {"fill", "pad", "wrap", "circular", "symm", "symmetric"}
        What ``in1`` has beyond its ends: ``fillvalue``, its other end, or itself turned round.
    fillvalue : number

    Returns
    -------
    out : array, the dtype that the operands promote to
        Of the shape that `convolve` gives.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, ``fillvalue`` is no number of out's dtype, or out
        would repeat elements of an empty ``in1``.
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import convolve2d
    >>> out = convolve2d(np.eye(3), np.ones((3, 3)), mode="same", boundary="wrap")
    >>> out.shape, float(out[0, 0])
    ((3, 3), 3.0)
    """
    return _of_images("convolve2d", in1, in2, mode, boundary, fillvalue)


@entrance
def correlate2d(
    in1: Array, in2: Array, mode: Mode = "full", boundary: Boundary = "fill", fillvalue: complex = 0
) -> Array:
    """Correlate two images, with a border, as `scipy.signal.correlate2d`.

    ``out[m, n] = sum over i, j of in1[m + i - k + 1, n + j - l + 1] * conj(in2[i, j])`` with ``in2`` of shape (k, l).

    With "same" and an even size of ``in2`` the output is one element later than that of `correlate`, as in SciPy. With
    "valid" and a smaller ``in1`` it is that of `correlate`, where SciPy leaves out a conjugate.

    Parameters
    ----------
    in1, in2, mode
        As in `correlate`, of two axes.
    boundary : {"fill", "pad", "wrap", "circular", "symm", "symmetric"}
        What ``in1`` has beyond its ends: ``fillvalue``, its other end, or itself turned round.
    fillvalue : number

    Returns
    -------
    out : array, the dtype that the operands promote to
        Of the shape that `convolve` gives.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, ``fillvalue`` is no number of out's dtype, or out
        would repeat elements of an empty ``in1``.
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import correlate2d
    >>> out = correlate2d(np.eye(3), np.ones((3, 3)), mode="same", boundary="wrap")
    >>> out.shape, float(out[0, 0])
    ((3, 3), 3.0)
    """
    return _of_images("correlate2d", in1, in2, mode, boundary, fillvalue)


@entrance
def upfirdn(
    h: Array, x: Array, up: int = 1, down: int = 1, axis: int = -1, mode: str = "constant", cval: complex = 0
) -> Array:
    """Upsample, filter and downsample, as `scipy.signal.upfirdn`.

    ``y[m] = sum over k of h[m*down - k*up] * x[k]`` along an axis: in its polyphase form, where no zero that upsampling
    puts in and no output that downsampling leaves out is computed.

    Parameters
    ----------
    h : array, shape (taps,)
        The filter.
    x : array, any shape
        The signals; they lie along ``axis``.
    up, down : int
        How many times as many elements, and how many of them become one.
    axis : int
    mode : str
        How x goes on beyond its ends: "constant" (by ``cval``), "wrap", "edge", "symmetric", "reflect",
        "antisymmetric" and "antireflect" (negated, or turned by half a circle), "smooth" and "line" (straight, by the
        slope between the last two elements or between the two ends).
    cval : number

    Returns
    -------
    y : array, the floating-point dtype that h, x and float32 promote to
        With ``((n - 1)*up + taps - 1) // down + 1`` elements along the axis for n of x.

    Raises
    ------
    ValueError
        If h is no line of numbers, or a keyword has no such value.
    IndexError
        If x has no such axis.
    TypeError
        If operands are of two libraries, or not of numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv.signal import upfirdn
    >>> y = upfirdn(np.array([0.5, 1.0, 0.5]), np.array([1.0, 2.0, 3.0]), up=2)
    >>> y.shape
    (7,)
    >>> y
    array([0.5, 1. , 1.5, 2. , 2.5, 3. , 1.5])
    """
    h, x = arrays(h, x)
    cval = number("cval", cval)
    mode = one_of("mode", mode.lower() if isinstance(mode, str) else mode, [*EXTENSIONS])
    if mode != "constant" and 0 in x.shape:  # of nothing nothing goes on
        mode, cval = "constant", 0
    operands = described(h=h, x=x)
    rates, along = (a_number("up", up, int), a_number("down", down, int)), a_number("axis", axis, operator.index)
    keywords = *rates, along, "" if mode == "constant" and cval == 0 else mode
    resample = _resampling(operands, "", *keywords)
    if isinstance(cval, complex) and not is_kind(resample.xp, resample.dtype, "complex floating"):
        raise TypeError(f"cval must be real, as h and x are, {got(cval)}")
    if is_chunked(h, x):
        return resampled(upfirdn, h, x, rates, along % x.ndim, mode, cval, resample.plan.outputs, resample.dtype)
    y = resample(h, x, cval)
    if not resample.is_local and may_look(resample.xp, y) and not is_finite(resample.xp, y):
        return _resampling(operands, "alone", *keywords)(h, x, cval)
    return y


def _along(in1: Array, in2: Array, mode: Mode, axes: Axes) -> Array:
    in1, in2 = arrays(in1, in2)
    given, operands = entries(axes), described(in1=in1, in2=in2)
    axes = axes if given is None else given
    if 0 in in1.shape or 0 in in2.shape:
        _check_ranks(in1.shape, in2.shape)
        xp, place = operands[0].xp, operands[0].device
        nothing = xp.asarray([], device=place)
        return lazily(nothing) if is_chunked(in1, in2) else nothing
    return _convolution(operands, "fftconvolve", mode, "auto", axes)(in1, in2)


def _of_images(name: str, in1: Array, in2: Array, mode: Mode, boundary: Boundary, fillvalue: Any) -> Array:
    in1, in2 = arrays(in1, in2)
    if not in1.ndim == in2.ndim == 2:
        shapes = f"{tuple(in1.shape)} and {tuple(in2.shape)}"
        raise ValueError(f"{name} inputs must both be 2-D arrays, got in1 and in2 of shapes {shapes}")
    border = BOUNDARIES[one_of("boundary", boundary, [*BOUNDARIES])]
    value = number("fillvalue", fillvalue)
    if border == "zeros" and value != 0:
        border = "value"
    operands = described(in1=in1, in2=in2)
    if isinstance(mode, str) and mode == "valid":  # which reads none, but it is checked all the same
        xp = namespace_of_numbers(operands)
        as_element("fillvalue", xp, value, promoted(xp, *(operand.dtype for operand in operands)))
    outputs = kept_shape(in1.shape, in2.shape, "full")
    if border == "value" and 0 in in1.shape and 0 not in (*in2.shape, *outputs) and mode == "full":
        in1, mode, border = _border_alone(operands, in1, value), "valid", "zeros"
        operands = described(in1=in1, in2=in2)
    return _convolution(operands, name, mode, "direct", (0, 1), border)(in1, in2, value)


def _border_alone(operands: tuple[Operand, ...], in1: Array, value: complex) -> Array:
    """What all windows read of an empty image: as many numbers of its border as a full convolution adds to it."""
    first, second = operands
    xp = namespace_of_numbers([first, second])
    dtype = promoted(xp, first.dtype, second.dtype)
    shape = tuple([d + 2 * (k - 1) for d, k in zip(first.shape, second.shape, strict=True)])
    border = full(xp, chunk_of(in1), shape, as_element("fillvalue", xp, value, dtype), dtype)
    return lazily(border) if first.is_chunked or second.is_chunked else border


def _of_nothing(xp: Namespace, shape: Ints, dtype: DType, in1: Array, in2: Array, value: complex = 0) -> Array:
    """The sums of no products."""
    nothing = zeros(xp, chunk_of(in1), shape, chunk_of(in2), dtype=dtype)
    return lazily(nothing) if is_chunked(in1, in2) else nothing


@remembering(trusted=2)
def _convolution(
    operands: tuple[Operand, ...], name: str, mode: Any, method: Any, axes: Any = None, border: str = "zeros"
) -> Callable[..., Array]:
    """All that is settled before an array is touched; "fftconvolve" stands for both functions that take axes."""
    first, second = operands
    xp, data, weights = namespace_of_numbers(operands), tuple(first.shape), tuple(second.shape)
    _check_ranks(data, weights)
    taken, result = _axes(axes, len(data)), promoted(xp, *(operand.dtype for operand in operands))
    border = "zeros" if isinstance(mode, str) and mode == "valid" else border  # it is checked with sizes
    bordered = border != "zeros"
    one = [weights[a] == 1 or (data[a] == 1 and not name.startswith("correlate")) for a in range(len(data))]
    spatial = tuple([axis for axis in taken if bordered or not one[axis]])  # correlation turns in2 round
    for axis in range(len(data)):
        if axis not in spatial and data[axis] != weights[axis] and 1 not in (data[axis], weights[axis]):
            likely = f"they must be equal but along the axes {taken}, got {axes=}"  # behind SciPy's words
            raise ValueError(f"incompatible shapes for in1 and in2: {data} and {weights}: {likely}")
    dtype = xp.int32 if result == xp.bool else result
    one_of("method", method, get_args(Method))
    if method == "fft" and not is_kind(xp, dtype, "integral"):
        dtype = promoted(xp, *(_transformed(xp, operand.dtype) for operand in operands))
    if name == "fftconvolve":
        taken = spatial
        if spatial:
            result = dtype = promoted(xp, *(_transformed(xp, operand.dtype) for operand in operands))
    _check_mode(mode, [(data[axis], weights[axis]) for axis in taken])
    if 0 in data or 0 in weights:
        _check_empty(name, data, weights, mode, method, border if bordered else "zeros")
        return functools.partial(_of_nothing, xp, kept_shape(data, weights, mode), result)
    mode = "same_high" if mode == "same" and name == "correlate2d" else mode
    if any(operand.is_chunked for operand in operands):
        by_name = {"fftconvolve": (_axes(axes, len(data)) or None,), "convolve": (method,), "correlate": (method,)}
        words = by_name.get(name)
        return functools.partial(_chunk_by_chunk, name, taken, mode, border, words, result)
    plan = convolution(data, weights, spatial, mode, bordered)
    return _Convolution(first._replace(dtype=dtype), result, plan, name, method, border)


class _Convolution:
    """A convolution, and what is done to arrays before the engine has them and to what it gives."""

    def __init__(self, like: Operand, result: DType, plan: Convolution, name: str, method: str, border: str) -> None:
        self.xp, self.plan, self.border = like.xp, plan, border
        self.dtype, self.result = like.dtype, result
        self.correlates, self.warns = name in ("correlate", "correlate2d"), method == "fft"
        self.axes = len(plan.windows.input_size)
        is_floating = is_kind(like.xp, like.dtype, ("real floating", "complex floating"))
        # NaN of the first array stays in its windows, though the smaller array is that of taps.
        self.is_local = plan.swaps and method == "direct" and is_floating and traits(like.xp).threads
        self.in_floats: Any = None
        if self.axes:
            self._settle(like, method, name != "fftconvolve")

    def _settle(self, like: Operand, method: str, prefers_direct: bool) -> None:
        """The engine's call, and that in floats which integers may take if it is the faster one."""
        xp, plan, windows = self.xp, self.plan, self.plan.windows
        data, padding, mode = windows.input_size, windows.padding, self.border
        if mode == "value":
            data, padding, mode = windows.padded_size, ((0, 0),) * self.axes, "zeros"
        shapes = (plan.data.shape[0], plan.groups, *data), plan.weights.shape
        flip = plan.swaps or not self.correlates
        elements = sum(map(math.prod, (*shapes, plan.result.shape)))
        room = workspace(None, SPECTRA * elements * item_size(xp, self.dtype))
        keywords: dict[str, Any] = {"flip": flip, "groups": plan.groups, "padding": padding, "padding_mode": mode}
        keywords["max_workspace"] = room
        integral = is_kind(xp, self.dtype, "integral")
        self.call: Settled = conv_of(like, shapes, method="direct" if integral else method, **keywords)
        if method == "auto" and prefers_direct and not integral:
            direct = conv_of(like, shapes, method="direct", **keywords)
            self.call = direct if direct.cost < self.call.cost + CALL else self.call
        if method != "fft" and self.border == "zeros":
            other = line_of(xp, self.dtype, shapes, windows, flip)
            other = other or plane_of(xp, self.dtype, shapes, windows, flip, self.call)
            self.call = other if other is not None and other.cost < self.call.cost else self.call
        if integral and method != "direct" and has_float64(xp, like.device):
            floats = conv_of(like._replace(dtype=xp.float64), shapes, method="fft", **keywords)
            self.in_floats = floats if floats.cost < self.call.cost else None

    def __call__(self, in1: Array, in2: Array, value: complex = 0) -> Array:
        xp, plan = self.xp, self.plan
        in1, in2 = self._as(in1, self.dtype), self._as(in2[plan.crop] if plan.crop else in2, self.dtype)
        in2 = conjugate(xp, in2) if self.correlates else in2
        if not self.axes:
            return self._as(in1 * in2, self.result)
        x, w = (in2, in1) if plan.swaps else (in1, in2)
        x, w = joined(xp, x, plan.data), joined(xp, w, plan.weights)
        if plan.swaps and self.correlates:
            x = turned(xp, x, self.axes)
        x = x[(..., *plan.read)] if plan.read else x
        if self.border == "value":
            x = pad(xp, x, plan.windows.padding, value=as_element("fillvalue", xp, value, self.result))
        y = gathered(xp, split(xp, self._convolved(x, w), plan.result))
        return self._as(y, self.result)

    def _convolved(self, x: Array, w: Array) -> Array:
        xp, floats = self.xp, self.in_floats
        if floats is not None and are_exact_in_floats(xp, x, w, self.plan.windows.taps):
            return xp.round(floats.forward(xp.astype(x, xp.float64), xp.astype(w, xp.float64)))
        if self.is_local and not is_finite(xp, w):
            y = self.call.forward(x, xp.where(xp.isfinite(w), w, xp.asarray(0, dtype=w.dtype)))
            add_infinite_taps(xp, y, x, w, self.plan.windows)
            return y
        y = self.call.forward(x, w)
        if self.warns and may_look(xp, y) and not is_finite(xp, reshaped(xp, y, (-1,))[:1]):
            warnings.warn(SPREADS, RuntimeWarning, stacklevel=4)
        return y

    def _as(self, array: Array, dtype: DType) -> Array:
        """An array in another dtype; what is rounded wraps to integers of less than 64 bits, as their sums do."""
        if array.dtype == dtype:
            return array
        if self.in_floats is not None and array.dtype == self.xp.float64:
            array = self.xp.astype(array, self.xp.int64)
        return self.xp.astype(array, dtype)


def _chunk_by_chunk(
    name: str, axes: Ints, mode: str, border: str, words: Any, result: DType, in1: Array, in2: Array, value: complex = 0
) -> Array:
    """The same of chunked arrays, of which each chunk is a call of the public function."""
    words = ("fill", value if border == "value" else 0) if words is None else words
    turns = name.startswith("correlate")
    return convolved(globals()[name], (in1, in2), axes, mode, border, turns, words, result)


@remembering(trusted=2)
def _resampling(operands: tuple[Operand, ...], word: str, up: int, down: int, axis: int, mode: str) -> _Resampling:
    """All that is settled before an array is touched; "alone" if phases are to be convolutions of their own."""
    h, x = operands
    xp = namespace_of_numbers([h, x])
    if len(h.shape) != 1 or h.shape[0] == 0:
        raise ValueError(f"h must be 1-D with non-zero length, got shape {tuple(h.shape)}")
    if up < 1 or down < 1:
        raise ValueError(f"Both up and down must be >= 1, got {up} and {down}")
    if not -len(x.shape) <= axis < len(x.shape):
        raise axis_error(f"axis must be one of the {len(x.shape)} axes of x, got {axis}")
    dtype = promoted(xp, floating(xp, h.dtype), floating(xp, x.dtype), xp.float32)
    axis, shape = axis % len(x.shape), tuple(x.shape)
    like, words = x._replace(dtype=dtype), (h.shape[0], shape[axis], up, down, mode != "")
    if word == "alone":
        return _Resampling(like, polyphase(*words, True), axis, mode)
    together = _Resampling(like, polyphase(*words, False), axis, mode)
    if not traits(xp).threads:
        return together
    found = [_Picked(like, together.plan, axis, mode), together]
    if min(up, together.plan.outputs) * BEGUN < together.cost:
        found.append(_Resampling(like, polyphase(*words, True), axis, mode, by_lines=True))
    best: _Resampling = cheapest(found)
    return best


class _Resampling:
    """A resampling, by convolutions whose filters are phases that lie near each other."""

    def __init__(self, like: Operand, plan: Polyphase, axis: int, mode: str, by_lines: bool = False) -> None:
        self.xp, self.dtype, self.plan = like.xp, like.dtype, plan
        size, others = like.shape[axis], tuple(other for other in range(len(like.shape)) if other != axis)
        outer = tuple(like.shape[other] for other in others)
        self.order = Order((*others, axis), (math.prod(outer), 1, size))
        self.result = self.order.back(*outer, plan.outputs)
        self.is_empty = 0 in (*like.shape, plan.outputs)
        self.is_local = len(plan.parts) == min(plan.up, plan.outputs)  # no phase reads what is for others alone
        self.extension = extension(mode, size, *plan.extension) if mode else None
        self.calls: list[Settled] = []
        for part in () if self.is_empty else plan.parts:
            shapes = (math.prod(outer), 1, part.windows.input_size[0]), part.shape
            words: dict[str, Any] = {"stride": part.windows.stride, "padding": part.windows.padding}
            line = line_of(like.xp, like.dtype, shapes, part.windows, flip=False) if by_lines else None
            self.calls.append(line or conv_of(like, shapes, method="direct", **words))

    @property
    def cost(self) -> float:
        """Estimated nanoseconds, of all that Python does as well."""
        return sum([call.cost + CARRIED_OUT for call in self.calls])

    def __call__(self, h: Array, x: Array, value: complex) -> Array:
        xp, plan = self.xp, self.plan
        h, x = (array if array.dtype == self.dtype else xp.astype(array, self.dtype) for array in (h, x))
        x = joined(xp, x, self.order)
        if self.is_empty:
            return split(xp, zeros(xp, x, (x.shape[0], plan.outputs), h), self.result)
        if self.extension is not None:
            x = extended(xp, x, self.extension, value)
        return gathered(xp, split(xp, self._outputs(h, x), self.result))

    def _outputs(self, h: Array, x: Array) -> Array:
        """(taps,), (N, 1, size) -> (N, outputs)."""
        parts = [
            call.forward(x[(..., *part.read)], phase_filters(self.xp, h, self.plan, part))
            for part, call in zip(self.plan.parts, self.calls, strict=True)
        ]
        return interleaved(self.xp, parts, self.plan.outputs)


class _Picked(_Resampling):
    """A resampling number by number: of few, in less time than convolutions begin."""

    def __init__(self, like: Operand, plan: Polyphase, axis: int, mode: str) -> None:
        super().__init__(like, plan._replace(parts=()), axis, mode)

    @property
    def cost(self) -> float:
        plan = self.plan
        taps, products = plan.terms * min(plan.up, plan.outputs), plan.terms * plan.outputs * self.order.shape[0]
        return PICKED + taps * PLACE + products * PRODUCT if products <= MOST else math.inf

    def _outputs(self, h: Array, x: Array) -> Array:
        return picked(self.xp, h, x, self.plan)


def _transformed(xp: Namespace, dtype: DType) -> DType:
    """The dtype that transforms compute in: float64 for integers, float32 for shorter floats."""
    if is_kind(xp, dtype, ("bool", "integral")):
        return xp.result_type(xp.float64)
    return xp.result_type(dtype, xp.float32)


def _axes(axes: Any, count: int) -> Ints:
    """The axes to convolve along, all if there are none named, each counted from the first."""
    if axes is None:
        return tuple(range(count))
    try:
        found = [operator.index(axis) for axis in (axes if isinstance(axes, tuple) else (axes,))]
    except TypeError as error:
        raise ValueError(f"axes must be a scalar or iterable of integers, {got(axes)}") from error
    if not found:
        raise ValueError("when provided, axes cannot be empty")
    if not all(-count <= axis < count for axis in found):
        raise axis_error(f"axes exceeds dimensionality of input: must be from {-count} to {count - 1}, {got(axes)}")
    if len({axis % count for axis in found}) < len(found):
        raise ValueError(f"all axes must be unique, {got(axes)}")
    return tuple(sorted([axis % count for axis in found]))


def _check_ranks(first: Ints, second: Ints) -> None:
    if len(first) != len(second):
        raise ValueError(
            f"in1 and in2 should have the same dimensionality, got shapes {tuple(first)} and {tuple(second)}"
        )


def _check_empty(name: str, first: Ints, second: Ints, mode: str, method: str, border: str) -> None:
    """Refuse sums of no products where SciPy does: where it has no room for them, no such element, or no border."""
    words = f"got shapes {first} and {second} with {mode=}"
    sizes = [*zip(first, second, strict=True)]
    is_refused = mode == "full" and any(d + k == 0 for d, k in sizes)
    if name in ("convolve", "correlate"):
        if method == "fft":
            raise IndexError(f"in1 and in2 must not be empty with method='fft', which looks at an element, {words}")
        is_refused = any(d + k != 1 and 0 in ((d, k) if mode == "full" else (k,)) for d, k in sizes) and mode != "valid"
        is_refused = is_refused or (len(sizes) == 1 and (mode != "same" or 0 in second))
    if is_refused:
        raise ValueError(f"in1 and in2 must not be empty, {words}")
    if border in ("circular", "symmetric") and 0 in first and 0 not in kept_shape(first, second, mode):
        raise ValueError(f"in1 must not be empty with a boundary that repeats its elements, {words}")


def _check_mode(mode: Any, sizes: Sequence[tuple[int, int]]) -> None:
    if not isinstance(mode, str) or mode not in MODES:
        hint = meant(mode, MODES) if isinstance(mode, str) else ""
        raise ValueError(f"mode: acceptable mode flags are 'valid', 'same', or 'full', {got(mode)}{hint}")
    if mode == "valid" and not (all(d >= k for d, k in sizes) or all(k >= d for d, k in sizes)):
        raise ValueError(
            "For 'valid' mode, one must be at least as large as the other in every dimension, "
            f"got sizes {[d for d, _ in sizes]} and {[k for _, k in sizes]}"
        )
