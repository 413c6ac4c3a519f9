"""Pooling and its gradients."""

from __future__ import annotations

from collections.abc import Sequence

from ._arrays.entrances import entrance
from ._arrays.libraries import Array, DType, Namespace, is_kind
from ._arrays.operands import chunk_of, common_namespace, namespace_and_dtype
from ._plan.arguments import ChannelAxis, Padding, PerAxis, check_shape, flag, pool_geometry, unpool_geometry
from ._run.pools import Pooling, functions_for, position_dtype


@entrance
def max_pool(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    channel_axis: ChannelAxis = 1,
    max_workspace: int | None = None,
    return_indices: bool = False,
) -> Array:
    """The largest element of every window.

    ``y[u, c, m] = max over j of x[u, c, a*j + s*m - lo]``, where padding counts as -inf, or as the minimum of an
    integer dtype.

    Parameters
    ----------
    x : array, shape (N, C, *d), any integer or real dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    kernel_size : int or n ints
        Window size k per spatial axis.
    stride : int or n ints, optional
        Step s between windows; ``kernel_size`` if left out.
    padding, dilation
        As in `conv`.
    ceil_mode : bool
        Round o up instead of down, but leave out windows that start in the high padding, which have nothing of x:
        o = min(ceil((d + lo + hi - r)/s) + 1, ceil((d + lo)/s)), as in PyTorch and ONNX.
    channel_axis : {1, -1}
        Where x and y have their channels.
    max_workspace : int, optional
        Bytes that may be held beyond the operands and the result; 64 MiB, or as many as these take, if left out.
    return_indices : bool
        Whether to give, beside y, where in x its elements are.

    Returns
    -------
    y : array, shape (N, C, *o), dtype of x
        NaN in a window makes its maximum NaN.
    indices : array, shape of y, the library's default integer dtype
        With ``return_indices``, so that ``(y, indices)`` is returned: the place of each element of y in the plane ``d``
        of its sample and channel, counted row after row, as PyTorch does: the first of equal elements, the last NaN;
        -1 for a window that has none but padding.

    Raises
    ------
    ValueError
        If an argument has the wrong form, or no window fits the padded input.
    TypeError
        If x is no array, or its dtype has no order (bool, complex).

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import max_pool
    >>> y = max_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> y.shape
    (1, 1, 2, 2)
    >>> y[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> max_pool(np.arange(16.0).reshape(1, 1, 4, 4), 2, return_indices=True)[1][0, 0]
    array([[ 5,  7],
           [13, 15]])
    """
    xp, dtype = namespace_and_dtype(x=x)
    _check(xp, "x", dtype, ORDERED)
    pool = pool_geometry("x", x.shape, kernel_size, stride, padding, dilation, ceil_mode, channel_axis)
    call = Pooling("max_pool", pool, dtype, max_workspace)
    if not flag("return_indices", return_indices):
        return functions_for(x).pooled(xp, call, x)
    places = call._replace(kind="max_pool_indices", dtype=position_dtype(xp, chunk_of(x)))
    indices = functions_for(x).pooled(xp, places, x)  # which takes more workspace, so that it is first
    return functions_for(x).pooled(xp, call, x), indices


@entrance
def max_unpool(
    y: Array,
    indices: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    output_size: PerAxis | None = None,
    channel_axis: ChannelAxis = 1,
) -> Array:
    """Put the maxima that `max_pool` found back where they were, among zeros.

    ``x[u, c].flat[indices[u, c, m]] = y[u, c, m]``

    Parameters
    ----------
    y : array, shape (N, C, *o), any numeric dtype
        What is to be put; (N, *o, C) with ``channel_axis=-1``.
    indices : array, shape of y, any integer dtype
        Places in the plane d, as `max_pool` returns them. What has a negative one is left out; one beyond the plane is
        a ValueError where arrays are plain memory (NumPy, CuPy), and left out where they may be traced.
    kernel_size, stride, padding, channel_axis
        As in the call of `max_pool`.
    output_size : int or n ints, optional
        The size d, less than a stride from ``(o-1)*s + k - lo - hi``, which it is if left out; ``o*s`` for "same".

    Returns
    -------
    x : array, shape (N, C, *d), dtype of y
        Where several are put to one place, which should be equal, one of them stays.

    Raises
    ------
    ValueError
        If an argument has the wrong form, indices does not have the shape of y, or output_size is no size whose
        pooling gives y.
    TypeError
        If an operand is no array, is of another library than the other, or indices has no integer dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import max_pool, max_unpool
    >>> y, indices = max_pool(np.array([[[3.0, 1.0, 2.0, 5.0, 4.0]]]), 2, return_indices=True)
    >>> max_unpool(y, indices, 2).shape
    (1, 1, 4)
    >>> max_unpool(y, indices, 2, output_size=5)[0, 0]
    array([3., 0., 0., 5., 0.])
    """
    xp = common_namespace(y=y, indices=indices)
    if not is_kind(xp, indices.dtype, "integral"):
        raise TypeError(f"indices must have an integer dtype, got {indices.dtype}")
    pool = unpool_geometry(y.shape, kernel_size, stride, padding, output_size, channel_axis)
    check_shape("indices", indices.shape, tuple(y.shape), "that of y")
    _, dtype = namespace_and_dtype(y=y)
    return functions_for(y, indices).max_unpool(xp, y, indices, pool, dtype)


@entrance
def max_pool_grad(
    dy: Array,
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    channel_axis: ChannelAxis = 1,
    max_workspace: int | None = None,
) -> Array:
    """Gradient of a loss with respect to the input of `max_pool`.

    ``dx[u, c, i] = sum of dy[u, c, m] over the windows m whose first largest element is i``

    Parameters
    ----------
    dy : array, shape (N, C, *o), any integer or real dtype
        Gradient with respect to y; (N, *o, C) with ``channel_axis=-1``.
    x : array, shape (N, C, *d), any integer or real dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    kernel_size, stride, padding, dilation, ceil_mode, channel_axis, max_workspace
        As in the call of `max_pool`.

    Returns
    -------
    dx : array, shape of x, the dtype that dy and x promote to
        Among equal elements of a window the first takes all of its gradient.

    Raises
    ------
    ValueError
        If an argument has the wrong form, or dy does not have the output's shape.
    TypeError
        If an operand is no array, is of another library than the other, or its dtype has no order (bool, complex).

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import max_pool_grad
    >>> dx = max_pool_grad(np.ones((1, 1, 2)), np.array([[[3.0, 3.0, 1.0, 2.0]]]), 2)
    >>> dx.shape
    (1, 1, 4)
    >>> dx[0, 0]
    array([1., 0., 0., 1.])
    """
    xp, dtype = namespace_and_dtype(dy=dy, x=x)
    for name, array in (("dy", dy), ("x", x)):
        _check(xp, name, array.dtype, ORDERED)
    pool = pool_geometry("x", x.shape, kernel_size, stride, padding, dilation, ceil_mode, channel_axis, dy.shape)
    return functions_for(dy, x).pooled(xp, Pooling("max_pool_grad", pool, dtype, max_workspace), x, dy)


@entrance
def avg_pool(
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    channel_axis: ChannelAxis = 1,
    max_workspace: int | None = None,
) -> Array:
    """The mean of every window.

    ``y[u, c, m] = (sum over j of x[u, c, a*j + s*m - lo]) / count[m]``, where padding counts as 0.

    Parameters
    ----------
    x : array, shape (N, C, *d), any real or complex dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    kernel_size, stride, padding, dilation, ceil_mode, channel_axis, max_workspace
        As in `max_pool`.
    count_include_pad : bool
        Whether count[m] includes the padding that window m reads, or the input's elements only. What ``ceil_mode`` adds
        beyond the padding never counts, as in PyTorch.

    Returns
    -------
    y : array, shape (N, C, *o), dtype of x

    Raises
    ------
    ValueError
        If an argument has the wrong form, no window fits the padded input, or a window has nothing to count.
    TypeError
        If x is no array or has no real or complex dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import avg_pool
    >>> y = avg_pool(np.array([[[2.0, 4.0, 6.0]]]), 2, stride=1, padding=1, count_include_pad=False)
    >>> y.shape
    (1, 1, 4)
    >>> y[0, 0]
    array([2., 3., 5., 6.])
    """
    xp, dtype = namespace_and_dtype(x=x)
    _check(xp, "x", dtype, DIVISIBLE)
    pool = pool_geometry("x", x.shape, kernel_size, stride, padding, dilation, ceil_mode, channel_axis)
    pool = pool.counting(flag("count_include_pad", count_include_pad))
    return functions_for(x).pooled(xp, Pooling("avg_pool", pool, dtype, max_workspace), x)


@entrance
def avg_pool_grad(
    dy: Array,
    input_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    channel_axis: ChannelAxis = 1,
    max_workspace: int | None = None,
) -> Array:
    """Gradient of a loss with respect to the input of `avg_pool`: its exact adjoint, since it is linear.

    ``dx[u, c, i] = sum over m, j with a*j + s*m - lo = i of dy[u, c, m] / count[m]``

    Parameters
    ----------
    dy : array, shape (N, C, *o), any real or complex dtype
        Gradient with respect to y; (N, *o, C) with ``channel_axis=-1``.
    input_shape : tuple (N, C, *d)
        Shape of x; (N, *d, C) with ``channel_axis=-1``.
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, channel_axis, max_workspace
        As in the call of `avg_pool`.

    Returns
    -------
    dx : array, shape ``input_shape``, dtype of dy

    Raises
    ------
    ValueError
        If an argument has the wrong form, or dy does not have the output's shape.
    TypeError
        If dy is no array or has no real or complex dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import avg_pool_grad
    >>> dx = avg_pool_grad(np.array([[[2.0, 4.0]]]), (1, 1, 3), 2, stride=1)
    >>> dx.shape
    (1, 1, 3)
    >>> dx[0, 0]
    array([1., 3., 2.])
    """
    xp, dtype = namespace_and_dtype(dy=dy)
    _check(xp, "dy", dtype, DIVISIBLE)
    windows = kernel_size, stride, padding, dilation, ceil_mode, channel_axis
    pool = pool_geometry("input_shape", input_shape, *windows, dy.shape)
    pool = pool.counting(flag("count_include_pad", count_include_pad))
    return functions_for(dy).pooled(xp, Pooling("avg_pool_grad", pool, dtype, max_workspace), None, dy)


ORDERED = "complex floating", "an integer or real dtype, whose elements have an order"
DIVISIBLE = "integral", "a real or complex dtype, which can hold a mean"


def _check(xp: Namespace, name: str, dtype: DType, refused: tuple[str, str]) -> None:
    if is_kind(xp, dtype, refused[0]):
        raise TypeError(f"{name} must have {refused[1]}, got {dtype}")
