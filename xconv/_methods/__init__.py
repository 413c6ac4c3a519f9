"""The methods: what one is, and which there are.

A method is three linear maps and their adjoints around one batched matrix product:

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

A new method is one module with these six functions and the integers of `Tile`, and one entry in ``METHODS``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from .._arrays.libraries import Array, DType, Namespace, is_kind, traits
from .._arrays.machine import machine_of
from .._plan.choice import Request
from .._plan.geometry import Geometry
from .._plan.task import Task, Tile
from .fft import Fft
from .im2col import Im2col
from .native import convolves, has_native, own_cost
from .toeplitz import Toeplitz
from .winograd import Winograd


class Maps(Tile, Protocol):
    """Groups apart from the channels in them, in and out: x (N, G, C/G, *d), w (G, K/G, C/G, *k), y (N, G, K/G, *o).

    In between are stacks of matrices that multiply: Wt(w) (..., G, K/G, q) @ In(x) (..., G, q, p) -> (..., G, K/G, p),
    where p counts over samples and positions. One value of a class serves all blocks of a convolution.
    """

    def input_map(self, xp: Namespace, x: Array, geometry: Geometry) -> Array: ...
    def input_adjoint(self, xp: Namespace, columns: Array, geometry: Geometry) -> Array: ...
    def weight_map(self, xp: Namespace, w: Array, geometry: Geometry) -> Array: ...
    def weight_adjoint(self, xp: Namespace, rows: Array, geometry: Geometry) -> Array: ...
    def output_map(self, xp: Namespace, products: Array, geometry: Geometry) -> Array: ...
    def output_adjoint(self, xp: Namespace, y: Array, geometry: Geometry) -> Array: ...


Tiles: TypeAlias = Callable[[Namespace, DType, Task], Sequence[Maps]]  # those to choose among, or a ValueError

# What may be passed as a method: the words for the fastest of all or of those that are local, and each by its name.
Method: TypeAlias = Literal["auto", "direct", "im2col", "toeplitz", "winograd", "fft", "native"]
METHODS: MappingProxyType[str, Tiles] = MappingProxyType(
    {"im2col": Im2col.tiles, "toeplitz": Toeplitz.tiles, "winograd": Winograd.tiles, "fft": Fft.tiles}
)


def request(xp: Namespace, dtype: DType, task: Task, room: int, devices: int = 1, sums: DType | None = None) -> Request:
    """What is asked of the plan of a task on arrays of a dtype, and of sums in that one, or another that holds them.

    The room is that of each of so many devices.
    """
    copies = is_kind(xp, dtype, "integral") or (task.product == "scatter" and is_kind(xp, dtype, "complex floating"))
    sums = dtype if sums is None else sums
    # into limbs, conjugated, or cast
    task = task._replace(copies=task.copies or sums != dtype, copies_filters=task.copies_filters or copies)
    methods = {name: functools.partial(_tiles, tiles, xp, dtype, sums) for name, tiles in METHODS.items()}
    own = functools.partial(own_cost, xp, dtype) if has_native(xp, dtype, task) else None
    undivided = _undivided(task, convolves(xp, dtype, task.windows.ndim)) if devices > 1 else ()
    return Request(
        task,
        machine_of(xp, sums),
        room * devices,
        methods,
        own,
        traits(xp).threads,
        devices=devices,
        undivided=undivided,
    )


def _tiles(tiles: Tiles, xp: Namespace, dtype: DType, sums: DType, task: Task) -> Sequence[Maps]:
    """Those for sums in a dtype, of a method that takes numbers of another, as well."""
    if sums != dtype:
        tiles(xp, dtype, task)  # which refuses integers where it computes with fractions
    return tiles(xp, sums, task)


def _undivided(task: Task, has_own: bool) -> tuple[str, ...]:
    """The methods that leave operands on the devices that they are divided over, the best first.

    XLA cuts its own convolution by samples, and by positions with an exchange of halos, but brings x together where a
    group sums over several channels (openxla/xla#47945). im2col is cut by samples.
    """
    summed = task.filters if task.product == "scatter" else task.channels
    if has_own and (task.groups == 1 or task.reduces or summed == 1):
        return ("native",)
    return ("im2col", "native") if has_own else ("im2col",)
