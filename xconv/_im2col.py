"""im2col and its adjoint in the layout of the book."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ._arrays.entrances import entrance
from ._arrays.libraries import Array, Namespace, is_kind
from ._arrays.operands import namespace_and_dtype, plain_number
from ._plan.arguments import Padding, PerAxis, check_shape, data_shape, got, window_geometry
from ._run.pools import functions_for


@entrance
def im2col(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    pad_value: complex = 0,
) -> Array:
    """Lay every window of the input out as a row of a matrix.

    ``col[(u, m), (c, j)] = x[u, c, a*j + s*m - lo]``, where m runs over window positions and j over kernel offsets of
    all n axes, and elements outside the input read as ``pad_value``. A convolution is then one matrix product,
    ``col @ w.reshape(K, -1).T``.

    Parameters
    ----------
    x : array, shape (N, C, *d), any numeric dtype
        The input.
    kernel_size : int or n ints
        Window size k per spatial axis.
    stride, dilation : int or n ints
        Steps s between windows and a between the elements of a window, in elements.
    padding : int, n ints, n pairs (lo, hi), or str
        Elements added before and after each axis, or one of "valid", "same", "same_lower", "causal" and "full"; see
        `conv`.
    pad_value : number
        What the added elements hold.

    Returns
    -------
    col : array, shape (N*prod(o), C*prod(k)), dtype of x
        Rows in the order (u, *m), columns in the order (c, *j), last axis fastest.

    Raises
    ------
    ValueError
        If an argument has the wrong form, or no window fits the padded input.
    TypeError
        If x is no array or has no numeric dtype, or ``pad_value`` is no number that this dtype holds.

    See Also
    --------
    col2im : the adjoint.

    References
    ----------
    K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006.

    Examples
    --------
    A 3x3 window moving over a 5x5 input in steps of 2 has 2x2 positions.

    >>> import numpy as np
    >>> from xconv import im2col
    >>> x = np.arange(25.0, dtype=np.float32).reshape(1, 1, 5, 5)
    >>> col = im2col(x, 3, stride=2)
    >>> col.shape
    (4, 9)
    >>> col[1]
    array([ 2.,  3.,  4.,  7.,  8.,  9., 12., 13., 14.], dtype=float32)
    """
    xp, dtype = namespace_and_dtype(x=x)
    _, _, size, _ = data_shape("x", x.shape, 1)
    geometry = window_geometry(size, kernel_size, stride=stride, padding=padding, dilation=dilation)
    return functions_for(x).im2col(xp, x, geometry, _fill(xp, dtype, pad_value), dtype)


@entrance
def col2im(
    col: Array,
    input_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> Array:
    """Add every row of a window matrix back to the input elements it came from: the adjoint of `im2col`.

    ``x[u, c, i] = sum of col[(u, m), (c, j)] over all m, j with a*j + s*m - lo = i``. Where windows overlap their
    entries add up, so this is not the inverse: <im2col(x), col> = <x, col2im(col)> with ``pad_value`` 0.

    Parameters
    ----------
    col : array, shape (N*prod(o), C*prod(k)), any numeric dtype
        One window per row, as `im2col` lays it out.
    input_shape : tuple (N, C, *d)
        Shape of the input that the windows were taken from.
    kernel_size, stride, padding, dilation
        As in `im2col`.

    Returns
    -------
    x : array, shape ``input_shape``, dtype of col

    Raises
    ------
    ValueError
        If an argument has the wrong form, or ``col`` does not have the shape that the others imply.
    TypeError
        If col is no array or has no numeric dtype.

    See Also
    --------
    im2col : the adjoint.

    Examples
    --------
    The centre of a 3x3 input lies in all four of its 2x2 windows.

    >>> import numpy as np
    >>> from xconv import col2im
    >>> x = col2im(np.ones((4, 4)), (1, 1, 3, 3), 2)
    >>> x.shape
    (1, 1, 3, 3)
    >>> x[0, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    xp, dtype = namespace_and_dtype(col=col)
    batch, channels, size, _ = data_shape("input_shape", input_shape, 1)
    words = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    geometry = window_geometry(size, **words, data="input_shape")
    expected = (batch * geometry.positions, channels * geometry.taps)
    check_shape("col", col.shape, expected, "(N*prod(o), C*prod(k))", input_shape=input_shape, **words)
    return functions_for(col).col2im(xp, col, batch, channels, geometry, dtype)


def _fill(xp: Namespace, dtype: Any, value: Any) -> complex:
    """A fill value as a number of Python's own that the array's dtype can hold."""
    integral = is_kind(xp, dtype, "integral")
    allowed = int if integral else int | float | complex if is_kind(xp, dtype, "complex floating") else int | float
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, allowed):
        raise TypeError(f"pad_value must be a number that {dtype} can hold, {got(value)}")
    if integral and not xp.iinfo(dtype).min <= number <= xp.iinfo(dtype).max:
        raise ValueError(f"pad_value must lie in the range of {dtype}, got {value}")
    return cast("complex", number)
