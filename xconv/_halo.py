"""The halo of a part of an array that is divided over devices by a spatial axis."""

from __future__ import annotations

from typing import Any

from ._arrays.libraries import Array, traits
from ._arrays.operands import namespace_of
from ._arrays.shards import shard_count, with_halo
from ._plan.arguments import BorderWord, PaddingWord, got, halo_widths, whole


def halo(
    x: Array,
    kernel_size: int,
    axis_name: str | tuple[str, ...],
    *,
    axis: int = 2,
    stride: int = 1,
    padding: PaddingWord | int | tuple[int, int] = "same",
    dilation: int = 1,
    padding_mode: BorderWord = "zeros",
) -> Array:
    """Exchange the borders that windows read across, where each device has a part of an array of JAX.

    ``y[i] = X[p*d + i - lo]`` along the axis, where X is the array as a whole, of which device p has d elements.

    Called inside `jax.shard_map`, on what each device has of an array that is divided by a spatial axis. Windows along
    that axis need no padding then: `conv`, a pool or `im2col` of the result gives each device its part of what it gives
    for the whole array, by every method, and no more than the border has moved. The same holds for gradients of the
    whole by `jax.grad`, which sends the borders back.

    Parameters
    ----------
    x : array of JAX, any shape and dtype
        The part of this device; all are equally large.
    kernel_size : int
        Window size k along the axis.
    axis_name : str or tuple of str
        The axis of the mesh, or the axes, by which the axis of x is divided.
    axis : int
        The axis of x: 2, the first spatial one, if channels come first. Where two axes are divided, call this twice.
    stride, dilation : int
        Steps s between windows and a between the elements of a window, along the axis.
    padding : str, int, or pair (lo, hi)
        What the axis as a whole is padded with at its ends, as in `conv`. Each device must have as many outputs:
        "same", "same_lower", "causal", or what gives o = d/s.
    padding_mode : {"zeros", "reflect", "symmetric", "replicate", "circular"}
        What the ends are padded with, as in `conv`.

    Returns
    -------
    x : array
        With lo elements more before the axis and max(r - s - lo, 0) behind it, where r = a*(k-1) + 1. Borders that are
        wider than a part come from several devices.

    Raises
    ------
    ValueError
        If a keyword has no such value, ``axis_name`` is none of a `jax.shard_map` around the call, the devices would
        not have equally many outputs, or "reflect", "symmetric" and "replicate" would repeat elements that another
        device has.
    TypeError
        If x is no array of JAX.

    Examples
    --------
    Rows over all devices, their halo instead of padding, and padding along the other axis:

    >>> import jax
    >>> from xconv import conv, halo
    >>> mesh = jax.make_mesh((jax.device_count(),), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> def layer(x, w):
    ...     return conv(halo(x, 3, "i", padding=1), w, padding=[(0, 0), (1, 1)])
    >>> rows, whole = jax.P(None, None, "i"), jax.P()
    >>> divided = jax.jit(jax.shard_map(layer, mesh=mesh, in_specs=(rows, whole), out_specs=rows))
    >>> x, w = jax.numpy.ones((1, 2, 8 * jax.device_count(), 8)), jax.numpy.ones((4, 2, 3, 3))
    >>> y = divided(x, w)
    >>> y.shape == (1, 4, *x.shape[2:]), bool((y == conv(x, w, padding=1)).all())
    (True, True)
    """
    xp, shape = namespace_of(x=x), x.shape
    if not traits(xp).traced:
        raise TypeError(f"x must be an array of JAX, inside jax.shard_map, got one of {xp.__name__}")
    at = _axis(axis, len(shape))
    widths, mode = halo_widths(shape[at], shard_count(axis_name), kernel_size, stride, padding, dilation, padding_mode)
    return with_halo(xp, x, at, axis_name, widths, mode)


def _axis(axis: Any, ndim: int) -> int:
    """The number of an axis, from 0."""
    number = whole(axis)
    if number is None or not -ndim <= number < ndim:
        raise ValueError(f"axis must be one of the {ndim} axes of x, {got(axis)}")
    return number % ndim
