"""The methods that there are, each of which is a few `Maps`.

A new method is one module, and one entry in ``METHODS``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

from .._arrays.layout import Access
from .._arrays.libraries import DType, Namespace, is_kind, traits
from .._arrays.machine import machine_of
from .._plan.choice import Request, Room
from .._plan.task import Task
from .fft import Fft
from .im2col import Im2col
from .maps import Maps
from .native import ONE_AXIS, convolves, is_fused, own_cost
from .toeplitz import Toeplitz
from .winograd import Winograd

Variants: TypeAlias = Callable[[Namespace, DType, Task], Sequence[Maps]]  # those to choose among, or a ValueError

# What may be passed as a method: the words for the fastest of all or of those that are local, and each by its name.
Method: TypeAlias = Literal["auto", "direct", "im2col", "toeplitz", "winograd", "fft", "native"]
METHODS: MappingProxyType[str, Variants] = MappingProxyType(
    {"im2col": Im2col.variants, "toeplitz": Toeplitz.variants, "winograd": Winograd.variants, "fft": Fft.variants}
)


STORED = 8  # bytes of a sum on its way into an integer: by way of int64, modulo whose powers of two others are


def request(access: Access, task: Task, room: Room, dtype: DType | None = None) -> Request:
    """What is asked of the plan of a task whose sums hold those of numbers of a dtype, if that is not their own.

    The room is that of each of the devices.
    """
    xp, sums, devices = access.xp, access.dtype, access.devices
    dtype = sums if dtype is None else dtype
    scatters, writes = task.scatters, traits(xp).threads
    copies = is_kind(xp, dtype, "integral") or (scatters and is_kind(xp, dtype, "complex floating"))
    task = task._replace(  # into limbs, conjugated, or cast
        copies=task.copies or sums != dtype,
        copies_filters=task.copies_filters or copies,
        summed=task.inputs if scatters and access.rounds and writes else 0,
    )
    stores = is_kind(xp, access.result, "integral") and not is_kind(xp, sums, "integral")
    machine = machine_of(xp, sums)._replace(element=STORED) if stores else machine_of(xp, sums)
    methods = {name: functools.partial(_variants, variants, xp, dtype, sums) for name, variants in METHODS.items()}
    is_right = access.mesh_axes <= ONE_AXIS
    convolved = is_right and convolves(xp, dtype, task.windows.ndim)
    own = functools.partial(own_cost, xp, dtype) if convolved or (is_right and is_fused(xp, task)) else None
    undivided = _undivided(task, convolved) if devices > 1 else ()
    is_finite = is_kind(xp, dtype, "integral")
    return Request(task, machine, room.over(devices), methods, own, writes, devices, undivided, is_finite)


def _variants(variants: Variants, xp: Namespace, dtype: DType, sums: DType, task: Task) -> Sequence[Maps]:
    """Those for sums in a dtype, of a method that takes numbers of another, as well."""
    if sums != dtype:
        variants(xp, dtype, task)  # which refuses integers where it computes with fractions
    return variants(xp, sums, task)


def _undivided(task: Task, has_own: bool) -> tuple[str, ...]:
    """The methods that leave operands on the devices that they are divided over, the best first.

    XLA cuts its own convolution by samples, and by positions with an exchange of halos, but brings x together where a
    group sums over several channels (openxla/xla#47945). im2col is cut by samples.
    """
    summed = task.filters if task.scatters else task.channels
    if has_own and (task.groups == 1 or task.reduces or summed == 1):
        return ("native",)
    return ("im2col", "native") if has_own else ("im2col",)
