"""Slow loops in NumPy that say what each operation means. Nothing of xconv is imported here.

Everything rests on `links`: which input element each window reads at each kernel offset.
"""

from __future__ import annotations

import collections
import copy
import functools
import itertools
import math

import numpy as np

KEPT = 4096  # results, of arrays of some hundred elements


def remembered(function):
    """The same of an operation, which keeps results: most are asked for on every backend, and by every method."""
    results = collections.OrderedDict()

    @functools.wraps(function)
    def call(*arguments, **keywords):
        key = *map(_contents, arguments), repr(keywords)
        if key not in results:
            results[key] = function(*arguments, **keywords)
            if len(results) > KEPT:
                results.popitem(last=False)
        return copy.deepcopy(results[key])

    return call


def _contents(argument):
    is_plain = isinstance(argument, np.ndarray) and not argument.dtype.hasobject
    return (argument.dtype, argument.shape, argument.tobytes()) if is_plain else repr(argument)


def sizes(value, n):
    """One int for every axis, or one per axis."""
    return (value,) * n if np.ndim(value) == 0 else tuple(value)


def pairs(padding, size, kernel, stride, dilation):
    """Every form of the padding argument as (lo, hi) pairs."""
    n = len(size)
    if not isinstance(padding, str):
        return [(p, p) if np.ndim(p) == 0 else tuple(p) for p in sizes(padding, n)]
    result = []
    for d, k, s, a in zip(size, kernel, stride, dilation, strict=True):
        r = a * (k - 1) + 1
        total = max((math.ceil(d / s) - 1) * s + r - d, 0)
        result.append(
            {
                "valid": (0, 0),
                "same": (total // 2, math.ceil(total / 2)),
                "same_lower": (math.ceil(total / 2), total // 2),
                "causal": (r - 1, 0),
                "full": (r - 1, r - 1),
            }[padding]
        )
    return result


def padded_axis(d, lo, hi, mode):
    """The input element that each position of a padded axis holds, or None where that is a constant: by numpy.pad."""
    if mode == "zeros":
        return [None] * lo + [*range(d)] + [None] * hi
    names = {"replicate": "edge", "circular": "wrap"}
    return np.pad(np.arange(d), (lo, hi), mode=names.get(mode, mode)).tolist()


def output_size(size, kernel, stride, dilation, padding, ceil_mode=False):
    """How many windows fit along each axis: they are counted one by one."""
    result = []
    for d, k, s, a, (lo, hi) in zip(size, kernel, stride, dilation, padding, strict=True):
        r, m = a * (k - 1) + 1, 0
        while (m * s < lo + d and (m - 1) * s + r < lo + d + hi) if ceil_mode else m * s + r <= lo + d + hi:
            m += 1
        result.append(m)
    return tuple(result)


class Windows:
    """A geometry as a list of links (m, j, i): window m reads at kernel offset j the input position i, or None."""

    def __init__(self, size, kernel_size, *, stride=1, padding=0, dilation=1, padding_mode="zeros", ceil_mode=False):
        n = len(size)
        self.size, self.kernel = tuple(size), sizes(kernel_size, n)
        stride, dilation = sizes(stride, n), sizes(dilation, n)
        self.padding = pairs(padding, size, self.kernel, stride, dilation)
        self.output = output_size(size, self.kernel, stride, dilation, self.padding, ceil_mode)
        modes = (padding_mode,) * n if isinstance(padding_mode, str) else padding_mode
        axes = [padded_axis(d, lo, hi, mode) for d, (lo, hi), mode in zip(size, self.padding, modes, strict=True)]
        self.links, self.counted = [], {}
        for m in np.ndindex(*self.output):
            for j in np.ndindex(*self.kernel):
                places = [a * jj + s * mm for mm, jj, s, a in zip(m, j, stride, dilation, strict=True)]
                inside = all(place < len(axis) for place, axis in zip(places, axes, strict=True))
                self.counted[m] = self.counted.get(m, 0) + inside  # ceil_mode reads on beyond the padding
                i = tuple(axis[place] for place, axis in zip(places, axes, strict=True)) if inside else (None,)
                self.links.append((m, j, None if None in i else i))


def at(*index):
    """Index an array (N, C, *position) at one position."""
    return (slice(None), slice(None), *index)


@remembered
def im2col(x, kernel_size, pad_value=0, **keywords):
    windows = Windows(x.shape[2:], kernel_size, **keywords)
    col = np.full((x.shape[0], *windows.output, x.shape[1], *windows.kernel), pad_value, dtype=x.dtype)
    for m, j, i in windows.links:
        if i is not None:
            col[(slice(None), *m, slice(None), *j)] = x[at(*i)]
    return col.reshape(x.shape[0] * math.prod(windows.output), x.shape[1] * math.prod(windows.kernel))


@remembered
def col2im(col, input_shape, kernel_size, **keywords):
    windows = Windows(input_shape[2:], kernel_size, **keywords)
    rows = col.reshape(input_shape[0], *windows.output, input_shape[1], *windows.kernel)
    x = np.zeros(input_shape, dtype=col.dtype)
    for m, j, i in windows.links:
        if i is not None:
            x[at(*i)] += rows[(slice(None), *m, slice(None), *j)]
    return x


def group_slices(groups, channels, filters):
    """For each group: its input channels and its filters."""
    c, k = channels // groups, filters // groups
    return [(slice(g * c, g * c + c), slice(g * k, g * k + k)) for g in range(groups)]


def flipped(w):
    return np.flip(w, axis=tuple(range(2, w.ndim)))


def last_to_first(array, channel_axis):
    return np.moveaxis(array, channel_axis, 1)


def first_to_last(array, channel_axis):
    return np.moveaxis(array, 1, channel_axis)


@remembered
def conv(x, w, b=None, *, groups=1, flip=False, channel_axis=1, **keywords):
    x, w = last_to_first(x, channel_axis), flipped(w) if flip else w
    windows = Windows(x.shape[2:], w.shape[2:], **keywords)
    y = np.zeros((x.shape[0], w.shape[0], *windows.output), dtype=np.result_type(x, w))
    for c, k in group_slices(groups, x.shape[1], w.shape[0]):
        for m, j, i in windows.links:
            if i is not None:
                y[:, k][at(*m)] += x[:, c][at(*i)] @ w[k][at(*j)].T
    if b is not None:
        y = y + b.reshape(-1, *(1,) * len(windows.output))
    return first_to_last(y, channel_axis)


@remembered
def conv_input_grad(dy, w, input_shape, *, groups=1, flip=False, channel_axis=1, **keywords):
    dy, w = last_to_first(dy, channel_axis), flipped(w) if flip else w
    dx = last_to_first(np.zeros(input_shape, dtype=np.result_type(dy, w)), channel_axis)
    for c, k in group_slices(groups, dx.shape[1], w.shape[0]):
        for m, j, i in Windows(dx.shape[2:], w.shape[2:], **keywords).links:
            if i is not None:
                dx[:, c][at(*i)] += dy[:, k][at(*m)] @ w[k][at(*j)].conj()
    return first_to_last(dx, channel_axis)


@remembered
def conv_weight_grad(dy, x, kernel_size, *, groups=1, flip=False, channel_axis=1, **keywords):
    dy, x = last_to_first(dy, channel_axis), last_to_first(x, channel_axis)
    windows = Windows(x.shape[2:], kernel_size, **keywords)
    shape = (dy.shape[1], x.shape[1] // groups, *windows.kernel)
    dw = np.zeros(shape, dtype=np.result_type(dy, x))
    for c, k in group_slices(groups, x.shape[1], dy.shape[1]):
        for m, j, i in windows.links:
            if i is not None:
                dw[k][at(*j)] += dy[:, k][at(*m)].T @ x[:, c][at(*i)].conj()
    return flipped(dw) if flip else dw


def transposed_size(size, kernel, output_padding, *, stride=1, padding=0, dilation=1, **_):
    """The size of what conv_transpose makes of a size."""
    n = len(size)
    stride, dilation, extra = sizes(stride, n), sizes(dilation, n), sizes(output_padding, n)
    grown = tuple(o * s for o, s in zip(size, stride, strict=True))
    if isinstance(padding, str) and padding.startswith("same"):
        return grown
    borders = pairs(padding, grown, kernel, stride, dilation)
    axes = zip(grown, kernel, stride, dilation, borders, extra, strict=True)
    return tuple(d - s + a * (k - 1) + 1 - lo - hi + e for d, k, s, a, (lo, hi), e in axes)


def transposed_links(size, kernel, output_padding, keywords):
    """The size of the output, and the links from its elements to those of the input; windows behind these are none."""
    grown = transposed_size(size, kernel, output_padding, **keywords)
    links = Windows(grown, kernel, **keywords).links
    return grown, [(m, j, i) for m, j, i in links if i is not None and all(map(int.__lt__, m, size))]


@remembered
def conv_transpose(x, w, b=None, *, output_padding=0, groups=1, flip=False, channel_axis=1, **keywords):
    """The transpose, not its conjugate: every element of x adds the filters times itself."""
    x, w = last_to_first(x, channel_axis), flipped(w) if flip else w
    size, links = transposed_links(x.shape[2:], w.shape[2:], output_padding, keywords)
    y = np.zeros((x.shape[0], w.shape[1] * groups, *size), dtype=np.result_type(x, w))
    for k, c in group_slices(groups, y.shape[1], x.shape[1]):
        for m, j, i in links:
            y[:, k][at(*i)] += x[:, c][at(*m)] @ w[c][at(*j)]
    if b is not None:
        y = y + b.reshape(-1, *(1,) * len(size))
    return first_to_last(y, channel_axis)


@remembered
def conv_transpose_backward(dy, x, w, *, output_padding=0, groups=1, flip=False, channel_axis=1, **keywords):
    db = bias_grad(dy, channel_axis)
    dy, x, w = last_to_first(dy, channel_axis), last_to_first(x, channel_axis), flipped(w) if flip else w
    _, links = transposed_links(x.shape[2:], w.shape[2:], output_padding, keywords)
    dtype = np.result_type(dy, x, w)
    dx, dw = np.zeros(x.shape, dtype), np.zeros(w.shape, dtype)
    for k, c in group_slices(groups, dy.shape[1], x.shape[1]):
        for m, j, i in links:
            dx[:, c][at(*m)] += dy[:, k][at(*i)] @ w[c][at(*j)].conj().T
            dw[c][at(*j)] += x[:, c][at(*m)].conj().T @ dy[:, k][at(*i)]
    return first_to_last(dx, channel_axis), flipped(dw) if flip else dw, db


def bias_grad(dy, channel_axis=1):
    return last_to_first(dy, channel_axis).sum(axis=(0, *range(2, dy.ndim)), dtype=dy.dtype)


def lowest(dtype):
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def first_largest(x, windows):
    """For each window m and (u, c): the position i of its first largest element, and the value; None for padding."""
    best = {}
    for m, _, i in windows.links:
        for u, c in np.ndindex(*x.shape[:2]):
            position, value = best.get((m, u, c), (None, lowest(x.dtype)))
            if i is not None:
                new = x[(u, c, *i)]
                if position is None or new > value or (new != new):
                    position, value = i, new
            best[m, u, c] = position, value
    return best


@remembered
def max_pool(x, kernel_size, *, stride=None, channel_axis=1, **keywords):
    x = last_to_first(x, channel_axis)
    windows = Windows(x.shape[2:], kernel_size, stride=kernel_size if stride is None else stride, **keywords)
    y = np.zeros((*x.shape[:2], *windows.output), dtype=x.dtype)
    for (m, u, c), (_, value) in first_largest(x, windows).items():
        y[(u, c, *m)] = value
    return first_to_last(y, channel_axis)


@remembered
def max_pool_indices(x, kernel_size, *, stride=None, channel_axis=1, **keywords):
    """Row after row in the plane of x; -1 for windows of padding alone."""
    x = last_to_first(x, channel_axis)
    windows = Windows(x.shape[2:], kernel_size, stride=kernel_size if stride is None else stride, **keywords)
    indices = np.zeros((*x.shape[:2], *windows.output), dtype="int64")
    for (m, u, c), (position, _) in first_largest(x, windows).items():
        place = -1
        if position is not None:
            place = 0
            for i, d in zip(position, x.shape[2:], strict=True):
                place = place * d + i
        indices[(u, c, *m)] = place
    return first_to_last(indices, channel_axis)


def max_unpool(y, indices, kernel_size, *, stride=None, padding=0, output_size=None, channel_axis=1):
    y, indices = last_to_first(y, channel_axis), last_to_first(indices, channel_axis)
    n = y.ndim - 2
    kernel = sizes(kernel_size, n)
    if output_size is None:
        stride = kernel if stride is None else stride
        output_size = transposed_size(y.shape[2:], kernel, 0, stride=stride, padding=padding)
    x = np.zeros((*y.shape[:2], *sizes(output_size, n)), dtype=y.dtype)
    for at_y in np.ndindex(*y.shape):
        rest, position = int(indices[at_y].real), []
        for d in reversed(x.shape[2:]):
            position.insert(0, rest % d)
            rest //= d
        if rest == 0:
            x[(*at_y[:2], *position)] = y[at_y]
    return first_to_last(x, channel_axis)


@remembered
def max_pool_grad(dy, x, kernel_size, *, stride=None, channel_axis=1, **keywords):
    dy, x = last_to_first(dy, channel_axis), last_to_first(x, channel_axis)
    windows = Windows(x.shape[2:], kernel_size, stride=kernel_size if stride is None else stride, **keywords)
    dx = np.zeros(x.shape, dtype=np.result_type(dy, x))
    for (m, u, c), (position, _) in first_largest(x, windows).items():
        if position is not None:
            dx[(u, c, *position)] += dy[(u, c, *m)]
    return first_to_last(dx, channel_axis)


def mean_links(size, kernel_size, stride, count_include_pad, keywords):
    """Each (m, i, 1/count of m) of an average pooling."""
    windows = Windows(size, kernel_size, stride=kernel_size if stride is None else stride, **keywords)
    counts = dict.fromkeys(windows.counted, 0)
    for m, _, i in windows.links:
        counts[m] += i is not None
    if count_include_pad:
        counts = windows.counted
    return windows.output, [(m, i, 1 / counts[m]) for m, _, i in windows.links if i is not None]


@remembered
def avg_pool(x, kernel_size, *, stride=None, count_include_pad=True, channel_axis=1, **keywords):
    x = last_to_first(x, channel_axis)
    output, links = mean_links(x.shape[2:], kernel_size, stride, count_include_pad, keywords)
    y = np.zeros((*x.shape[:2], *output), dtype=x.dtype)
    for m, i, share in links:
        y[at(*m)] += share * x[at(*i)]
    return first_to_last(y, channel_axis)


@remembered
def avg_pool_grad(dy, input_shape, kernel_size, *, stride=None, count_include_pad=True, channel_axis=1, **keywords):
    dy = last_to_first(dy, channel_axis)
    dx = last_to_first(np.zeros(input_shape, dtype=dy.dtype), channel_axis)
    _, links = mean_links(dx.shape[2:], kernel_size, stride, count_include_pad, keywords)
    for m, i, share in links:
        dx[at(*i)] += share * dy[at(*m)]
    return first_to_last(dx, channel_axis)


def book_im2col(x, filter_h, filter_w, stride=1, pad=0):
    """The seed's loop over kernel offsets, for square strides; slices stop at y + stride*out_h as in the seed."""
    N, C, H, W = x.shape
    out_h, out_w = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    img = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    col = np.zeros((N, C, filter_h, filter_w, out_h, out_w), dtype=x.dtype)
    for y, z in itertools.product(range(filter_h), range(filter_w)):
        col[:, :, y, z] = img[:, :, y : y + stride * out_h : stride, z : z + stride * out_w : stride]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * out_h * out_w, -1)


def book_col2im(col, input_shape, filter_h, filter_w, stride=1, pad=0, extra_rows=0):
    """The seed's adjoint; ``extra_rows`` is its conjecture: stride - 1 in the book, none in the seed's view."""
    N, C, H, W = input_shape
    out_h, out_w = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    col = col.reshape(N, out_h, out_w, C, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((N, C, H + 2 * pad + extra_rows, W + 2 * pad + extra_rows), dtype=col.dtype)
    for y, z in itertools.product(range(filter_h), range(filter_w)):
        img[:, :, y : y + stride * out_h : stride, z : z + stride * out_w : stride] += col[:, :, y, z]
    return img[:, :, pad : H + pad, pad : W + pad]


def book_col2im_four_loops(col, input_shape, filter_h, filter_w, stride=1, pad=0):
    """The seed's adjoint, one window at a time."""
    N, C, H, W = input_shape
    out_h, out_w = (H + 2 * pad - filter_h) // stride + 1, (W + 2 * pad - filter_w) // stride + 1
    col = col.reshape(N, out_h, out_w, C, filter_h, filter_w).transpose(0, 3, 4, 5, 1, 2)
    img = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dtype=col.dtype)
    for y, z, m, n in np.ndindex(filter_h, filter_w, out_h, out_w):
        img[:, :, y + stride * m, z + stride * n] += col[:, :, y, z, m, n]
    return img[:, :, pad : H + pad, pad : W + pad]
