"""JAX on a CPU, where XLA's own convolution has no fast path for few channels.

y and dx are sums of shifted arrays times taps, of which XLA's compiler makes one loop over all elements that lays
nothing out. dw is a convolution of x by dy, group after group: with all at once XLA takes ten times as long.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from .._arrays.libraries import Array, Namespace
from .._arrays.windows import pad, tap_views
from .._plan.geometry import Geometry, Ints
from .._plan.task import Task

MOST = 64  # products in a sum: XLA compiles so many in a quarter of a second

# Nanoseconds, on 2 cores of an AMD EPYC with jax 0.10, float32: of a product in such a loop (1 to 16 channels, 5 to 125
# taps, 0.02 to 0.1), of one that is added up over positions (1 and 64 groups, 0.1 to 0.4), and of a group more (960).
PRODUCT, REDUCED, GROUP = 0.06, 0.2, 2000.0


def are_few(task: Task) -> bool:
    """Whether a task may be such sums."""
    summed = {"forward": task.channels, "backward_data": task.filters}.get(task.direction, 0)
    return summed * task.windows.taps <= MOST


def fused_cost(task: Task) -> float:
    """Nanoseconds of the sums."""
    if task.reduces:
        return task.groups * GROUP + task.multiplications * REDUCED * math.prod(task.windows.stride)  # dy with zeros
    elements = task.inputs * task.filters if task.scatters else task.outputs * task.channels
    return elements * task.windows.taps * PRODUCT


@functools.cache
def program(direction: str) -> Any:
    """One of the three, compiled for each geometry and number of groups."""
    import jax

    functions = {"forward": _sum, "backward_data": _backward_data, "backward_filter": _backward_filter}
    return jax.jit(functions[direction], static_argnums=(2, 3))


def _sum(x: Array, w: Array, windows: Geometry, groups: int) -> Array:
    """The sum over c and j of x[u, g, c, a*j + s*m - lo] * w[g, k, c, j]."""
    import jax.numpy as jnp

    views, filters = _views(jnp, x, windows, groups), w.shape[0] // groups
    w = w.reshape(1, groups, filters, w.shape[1], windows.taps, *(1 for _ in windows.kernel_size))
    products = (
        view[:, :, c] * w[:, :, :, c, tap] for tap, view in enumerate(views) for c in range(w.shape[3])
    )  # (N, G, 1, *o) times (1, G, K, 1, ...)
    y = functools.reduce(jnp.add, products)
    return y.reshape(y.shape[0], groups * filters, *windows.output_size)


def _backward_data(dy: Array, w: Array, windows: Geometry, groups: int) -> Array:
    """The sum over k and j of dy[u, g, k, m] * conj(w[g, k, c, j]), where a*j + s*m - lo is the input's place.

    It is that of dy with zeros between and around, and of filters turned round, without strides.
    """
    import jax.numpy as jnp
    from jax import lax

    low = [axis.a * (axis.k - 1) - axis.lo for axis in windows.axes]
    around = [
        (before, axis.d + axis.r - 1 - before - (axis.s * (axis.o - 1) + 1), axis.s - 1)
        for before, axis in zip(low, windows.axes, strict=True)
    ]
    dy = lax.pad(dy, dy.dtype.type(0), [(0, 0, 0), (0, 0, 0), *around])
    w = jnp.conj(w).reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    w = lax.rev(w, tuple(range(3, w.ndim))).reshape(-1, *w.shape[2:])
    return _sum(dy, w, Geometry(dy.shape[2:], windows.kernel_size, dilation=windows.dilation), groups)


def _backward_filter(dy: Array, x: Array, windows: Geometry, groups: int) -> Array:
    """The sum over u and m of dy[u, g, k, m] * conj(x[u, g, c, a*j + s*m - lo]): strides and dilations swapped."""
    import jax.numpy as jnp
    from jax import lax

    def of_group(pair: tuple[Array, Array]) -> Array:
        """(N, K, *o), (N, C, *d) -> (K, C, *k)."""
        dy, x = (one.swapaxes(0, 1) for one in pair)
        strides = {"window_strides": windows.dilation, "rhs_dilation": windows.stride, "padding": windows.padding}
        dw = lax.conv_general_dilated(x, dy, **strides)
        return dw[(..., *(slice(k) for k in windows.kernel_size))].swapaxes(0, 1)  # others are behind the last window

    pair = tuple(
        one.reshape(one.shape[0], groups, one.shape[1] // groups, *one.shape[2:]).swapaxes(0, 1)
        for one in (dy, jnp.conj(x))
    )
    if groups == 1:
        return of_group((pair[0][0], pair[1][0]))
    dw = lax.map(of_group, pair)
    return dw.reshape(-1, *dw.shape[2:])


def _views(xp: Namespace, x: Array, windows: Geometry, groups: int) -> list[Array]:
    """For each tap what all windows read there, (N, G, C, 1, *o)."""
    shape: Ints = (x.shape[0], groups, x.shape[1] // groups, 1, *windows.padded_size)
    return tap_views(pad(xp, x, windows.padding).reshape(shape), windows.padded)
