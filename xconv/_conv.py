"""Convolution, its adjoint and its gradients: check, lay out, pick a method, run it.

For one axis, with x zero outside 0..d-1 and the letters of `_plan.geometry`:

    y[u, k, m]  = b[k] + sum over c, j of  x[u, c, a*j + s*m - lo] * w[k, c, j]
    dx[u, c, i] =        sum over k, m, j with a*j + s*m - lo = i of  dy[u, k, m] * conj(w[k, c, j])
    dw[k, c, j] =        sum over u, m of  dy[u, k, m] * conj(x[u, c, a*j + s*m - lo])
    db[k]       =        sum over u, m of  dy[u, k, m]

The transposed convolution is dx without the conjugate. Its own gradients are y of dy, and dw with x and dy in each
other's place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

from ._arrays.entrances import entrance
from ._arrays.layout import Layout
from ._arrays.libraries import Array
from ._arrays.operands import Operand, common_namespace_and_dtype, described
from ._methods import Method
from ._plan.arguments import (
    ChannelAxis,
    Keywords,
    Padding,
    PaddingMode,
    PerAxis,
    conv_geometry,
    conv_transpose_geometry,
    conv_weight_grad_geometry,
    flag,
    one_of,
)
from ._plan.geometry import ConvGeometry, Ints
from ._plan.remembered import remembering
from ._run.call import Call, call_of
from ._run.chunked import ChunkedCall


@entrance
def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> Array:
    """Convolve as neural networks do: slide the filters over the input without flipping them.

    ``y[u, k, m] = b[k] + sum over c, j of x[u, c, a*j + s*m - lo] * w[k, c, j]`` for one axis, likewise for n of them.

    Parameters
    ----------
    x : array, shape (N, C, *d), any numeric dtype
        The input; (N, *d, C) with ``channel_axis=-1``. Its number of axes decides n, the number of spatial axes.
    w : array, shape (K, C/G, *k), any numeric dtype
        The filters.
    b : array, shape (K,), any numeric dtype, optional
        The bias.
    stride : int or n ints
        Step s between neighbouring windows, in elements.
    padding : int, n ints, n pairs (lo, hi), or str
        Elements added before and after each axis. "valid": none. "same": so that o = ceil(d/s), the odd one at the
        high end; "same_lower": at the low end. "causal": lo = r - 1, so no output sees a later input. "full":
        lo = hi = r - 1, every overlap.
    dilation : int or n ints
        Step a between the elements of a window.
    groups : int
        Number G of groups: the g-th K/G filters read the g-th C/G channels only. G = C is a depthwise convolution.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}, or n of them
        What the added elements hold, as in PyTorch; "symmetric" mirrors as "reflect" does, but repeats the edge, as in
        NumPy. Borders wider than the axis go on mirroring or wrapping, as `numpy.pad` does.
    flip : bool
        Flip the filters along every spatial axis: convolution as in mathematics and signal processing.
    channel_axis : {1, -1}
        Where x and y have their channels. w does not change.
    method : {"auto", "direct", "im2col", "toeplitz", "winograd", "fft", "native"}
        The algorithm. "im2col" and "toeplitz" take everything and are exact for integers; "toeplitz" suits few
        channels in a group. "winograd" needs stride 1, dilation 1 and kernels of at most 5, "fft" floating-point
        numbers; both round a little more, and spread a NaN, an inf or the rounding of a far outlier over their blocks.
        "native" is the library's own (PyTorch; JAX, whose compiler makes one loop of sums over few channels; for CuPy
        cuDNN, in full float32 unless CuPy was allowed TF32). "auto" plans all of them and takes the fastest by the
        estimates, as `plan` shows; "winograd" only where its float32 error stays below 1e-5 of the largest output. So
        with "auto" a NaN or an inf may spoil outputs that do not read it, as may a far outlier, such as a fill value of
        9.97e36, where it is not seen (under jit) or the direct way would take long, and windows of zeros may give
        1e-17.
        "direct" is the faster of those whose outputs are the sums over their own
        windows, so that exact zeros, NaN, inf and outliers stay in the windows that read them, in gradients too.
    max_workspace : int, optional
        Bytes that may be held beyond operands and result: 64 MiB if left out, or as much as operands and result take
        together, whichever is more. Larger convolutions run in blocks, of outputs, channels and taps; with "native"
        JAX and PyTorch decide. ``flip`` needs a copy of the filters besides, where a flipped array is no view.

    Returns
    -------
    y : array, shape (N, K, *o), the dtype that the operands promote to
        o = floor((d + lo + hi - r)/s) + 1 with r = a*(k-1) + 1. float16 and bfloat16 are summed in float32. Integers
        wrap: sums of uint8 by uint8 are modulo 256, so images want a wider dtype first, as below.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv
    >>> x = np.ones((2, 3, 8, 8), dtype=np.float32)
    >>> w = np.ones((4, 3, 3, 3), dtype=np.float32)
    >>> y = conv(x, w, stride=2, padding="same")
    >>> y.shape, y.dtype
    ((2, 4, 4, 4), dtype('float32'))
    >>> float(y[0, 0, 0, 0])  # a window wholly inside: 3 channels times 3*3 elements
    27.0
    >>> image, box = np.full((1, 1, 3), 200, dtype=np.uint8), np.ones((1, 1, 2), dtype=np.uint8)
    >>> conv(image, box).tolist(), conv(image.astype(np.int32), box).tolist()
    ([[[144, 144]]], [[[400, 400]]])
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    return _call(conv_geometry, described(x=x, w=w, b=b), flag("flip", flip), keywords).forward(x, w, b)


@entrance
def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> Array:
    """The transpose of `conv`, as an operation of its own ("deconvolution", upsampling convolution).

    ``y[u, k, i] = b[k] + sum over c, m, j with a*j + s*m - lo = i of x[u, c, m] * w[c, k, j]``. For real numbers it is
    the exact adjoint, `conv_input_grad` of the convolution with the same keywords that maps y's shape to x's:
    <conv(v, w), x> = <v, conv_transpose(x, w)> for every v.

    Parameters
    ----------
    x : array, shape (N, C, *d), any numeric dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    w : array, shape (C, K/G, *k), any numeric dtype
        The filters, as in PyTorch. Complex ones act as they are, not conjugated as in the adjoint `conv_input_grad`.
    b : array, shape (K,), any numeric dtype, optional
        The bias.
    output_padding : int or n ints
        Elements by which y is larger than the smallest size that the convolution maps to d; less than ``stride`` or
        ``dilation``, as in PyTorch.
    stride, padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in `conv`: they describe the convolution that this is the transpose of.

    Returns
    -------
    y : array, shape (N, K, *o), the dtype that the operands promote to
        o = (d - 1)*s + r - lo - hi + output_padding; with "same" and "same_lower" o = d*s.

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or y would be empty.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    See Also
    --------
    conv_transpose_backward : its gradients.

    References
    ----------
    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv_transpose
    >>> x = np.array([[[1.0, 10.0, 100.0]]])
    >>> y = conv_transpose(x, np.array([[[1.0, 2.0, 3.0]]]), stride=2)
    >>> y.shape
    (1, 1, 7)
    >>> y[0, 0]
    array([  1.,   2.,  13.,  20., 130., 200., 300.])
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    call = _call(conv_transpose_geometry, described(x=x, w=w, b=b), flag("flip", flip), keywords, output_padding)
    return call.backward_data(x, w, b)


@entrance
def conv_transpose_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> tuple[Array, Array, Array]:
    """All three gradients of `conv_transpose`: with respect to the input, the filters and the bias.

    dx is a convolution of dy, and dw the gradient of that by its filters. For one axis, with dy zero outside y's size:

    ``dx[u, c, m] = sum over k, j of dy[u, k, a*j + s*m - lo] * conj(w[c, k, j])``
    ``dw[c, k, j] = sum over u, m of dy[u, k, a*j + s*m - lo] * conj(x[u, c, m])``
    ``db[k]       = sum over u, i of dy[u, k, i]``

    Parameters
    ----------
    dy : array, shape (N, K, *o), any numeric dtype
        Gradient with respect to y; (N, *o, K) with ``channel_axis=-1``.
    x : array, shape (N, C, *d), any numeric dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    w : array, shape (C, K/G, *k), any numeric dtype
        The filters.
    stride, padding, output_padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in the call of `conv_transpose`.

    Returns
    -------
    dx, dw, db : arrays, shapes of x and w, and (K,), the dtype that the operands promote to

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv_transpose, conv_transpose_backward
    >>> x, w = np.ones((2, 4, 3, 3)), np.ones((4, 3, 2, 2))
    >>> y = conv_transpose(x, w, stride=2)
    >>> dx, dw, db = conv_transpose_backward(np.ones_like(y), x, w, stride=2)
    >>> y.shape, dx.shape, dw.shape, db.shape
    ((2, 3, 6, 6), (2, 4, 3, 3), (4, 3, 2, 2), (3,))
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    call = _call(conv_transpose_geometry, described(dy=dy, x=x, w=w), flag("flip", flip), keywords, output_padding)
    return call.forward(dy, w, beside=x), call.backward_filter(x, dy), call.bias_adjoint(dy)


@entrance
def conv_input_grad(
    dy: Array,
    w: Array,
    input_shape: Sequence[int],
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> Array:
    """Gradient of a loss with respect to the input of `conv`, given the gradient with respect to its output.

    ``dx[u, c, i] = sum over k, m, j with a*j + s*m - lo = i of dy[u, k, m] * conj(w[k, c, j])``

    Parameters
    ----------
    dy : array, shape (N, K, *o), any numeric dtype
        Gradient with respect to y; (N, *o, K) with ``channel_axis=-1``.
    w : array, shape (K, C/G, *k), any numeric dtype
        The filters.
    input_shape : tuple (N, C, *d)
        Shape of x; (N, *d, C) with ``channel_axis=-1``. With strides, several d give the same o.
    stride, padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in the call of `conv`.

    Returns
    -------
    dx : array, shape ``input_shape``, the dtype that dy and w promote to

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv_input_grad
    >>> dy, w = np.ones((2, 4, 3, 3)), np.ones((4, 3, 3, 3))
    >>> conv_input_grad(dy, w, (2, 3, 6, 6), stride=2, padding=1).shape
    (2, 3, 6, 6)
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    call = _call(conv_geometry, described(dy=dy, w=w), flag("flip", flip), keywords, input_shape)
    return call.backward_data(dy, w)


@entrance
def conv_weight_grad(
    dy: Array,
    x: Array,
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> Array:
    """Gradient of a loss with respect to the filters of `conv`, given the gradient with respect to its output.

    ``dw[k, c, j] = sum over u, m of dy[u, k, m] * conj(x[u, c, a*j + s*m - lo])``

    Parameters
    ----------
    dy : array, shape (N, K, *o), any numeric dtype
        Gradient with respect to y; (N, *o, K) with ``channel_axis=-1``.
    x : array, shape (N, C, *d), any numeric dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    kernel_size : int or n ints
        The filters' spatial size k. With strides, several k give the same o.
    stride, padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in the call of `conv`.

    Returns
    -------
    dw : array, shape (K, C/G, *k), the dtype that dy and x promote to

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv_weight_grad
    >>> dy, x = np.ones((2, 4, 3, 3)), np.ones((2, 3, 6, 6))
    >>> conv_weight_grad(dy, x, 3, stride=2, padding=1).shape
    (4, 3, 3, 3)
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    call = _call(conv_weight_grad_geometry, described(dy=dy, x=x), flag("flip", flip), keywords, kernel_size)
    return call.backward_filter(dy, x)


@entrance
def conv_backward(
    dy: Array,
    x: Array,
    w: Array,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: PaddingMode = "zeros",
    flip: bool = False,
    channel_axis: ChannelAxis = 1,
    method: Method = "auto",
    max_workspace: int | None = None,
) -> tuple[Array, Array, Array]:
    """All three gradients of `conv`: with respect to the input, the filters and the bias.

    The equations are those of `conv_input_grad` and `conv_weight_grad`, and ``db[k] = sum over u, m of dy[u, k, m]``.

    Parameters
    ----------
    dy : array, shape (N, K, *o), any numeric dtype
        Gradient with respect to y; (N, *o, K) with ``channel_axis=-1``.
    x : array, shape (N, C, *d), any numeric dtype
        The input; (N, *d, C) with ``channel_axis=-1``.
    w : array, shape (K, C/G, *k), any numeric dtype
        The filters.
    stride, padding, dilation, groups, padding_mode, flip, channel_axis, method, max_workspace
        As in the call of `conv`.

    Returns
    -------
    dx, dw, db : arrays, shapes of x and w, and (K,), the dtype that the operands promote to

    Raises
    ------
    ValueError
        If shapes do not fit together, a keyword has no such value, or the method cannot do this.
    TypeError
        If an operand is no array, is of another library than the others, or is bool.

    Examples
    --------
    >>> import numpy as np
    >>> from xconv import conv, conv_backward
    >>> x, w = np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3))
    >>> y = conv(x, w, padding=1)
    >>> dx, dw, db = conv_backward(np.ones_like(y), x, w, padding=1)
    >>> dx.shape, dw.shape, db.shape
    ((2, 3, 6, 6), (4, 3, 3, 3), (4,))
    """
    keywords = stride, padding, dilation, groups, padding_mode, channel_axis, method, max_workspace
    call = _call(conv_geometry, described(dy=dy, x=x, w=w), flag("flip", flip), keywords)
    return call.backward_data(dy, w, beside=x), call.backward_filter(dy, x), call.bias_adjoint(dy)


@remembering(trusted=3)
def _call(
    check: Callable[..., ConvGeometry], operands: tuple[Operand, ...], flip: bool, words: Any, *more: Any
) -> Call | ChunkedCall:
    """What is checked once for equal arguments, and planned when it is first carried out; more are sizes of results."""
    keywords = Keywords(*words)
    xp, dtype = common_namespace_and_dtype(operands)
    geometry = check({operand.name: tuple(operand.shape) for operand in operands}, keywords, *more)
    method = one_of("method", keywords.method, get_args(Method))
    conjugates = check is conv_transpose_geometry  # it is the adjoint but for these
    layout = Layout(xp, operands, dtype, geometry, flip, conjugates)
    if any(operand.is_chunked for operand in operands):
        return ChunkedCall(layout, method, keywords.max_workspace)
    return call_of(layout, method, keywords.max_workspace)


def conv_of(like: Operand, shapes: tuple[Ints, Ints], *, flip: bool = False, **keywords: Any) -> Call:
    """A call of `conv` for arrays of these shapes, x's and w's, that are otherwise like an operand."""
    x, w = (Operand(name, like.xp, shape, like.dtype, like.device) for name, shape in zip("xw", shapes, strict=True))
    call = _call(conv_geometry, (x, w), flag("flip", flip), tuple(Keywords(**keywords)))
    return cast("Call", call)  # these operands are no chunked ones
