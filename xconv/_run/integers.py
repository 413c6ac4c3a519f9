"""Products of integers in floating point, where their sums are exact in it: BLAS multiplies no others.

A sum of so many products is at most their number times the largest factors, which are looked for in the operands. What
lies below 2**24 is exact in float32, as of 8-bit images and small filters, and below 2**53 in float64. Larger integers
are cut into limbs (`_arrays.matmul`).
"""

from __future__ import annotations

from .._arrays.elements import magnitude
from .._arrays.layout import Access
from .._arrays.libraries import Array, DType
from .._arrays.operands import dtypes_of_sums, planned_dtype
from .._methods import request
from .._plan.choice import Candidate, Room, TooLittleError, choose
from .._plan.task import Task
from .products import Product, Products, products

ALWAYS_ENOUGH = 2**20  # bytes of a workspace, from which on nothing is refused


def runner(access: Access, task: Task, method: str, room: Room) -> Product:
    """What carries a task out: `products`, in a dtype that is found for integers when they are there."""
    if task.batch and method != "native" and dtypes_of_sums(access.xp, access.dtype) != (access.dtype,):
        return OfIntegers(access, task, method, room)
    return products(access, task, method, room)


class OfIntegers:
    """A task on integers, in the first dtype that surely holds its sums."""

    def __init__(self, access: Access, task: Task, method: str, room: Room) -> None:
        self.access = access
        self.task = task
        self.method = method
        self.room = room
        self.dtypes = dtypes_of_sums(access.xp, access.dtype)
        self.known: dict[DType, Products] = {}
        if room.workspace < ALWAYS_ENOUGH:  # for some dtype it may not be: all are asked before elements are looked at
            refusals = []
            for dtype in self.dtypes:
                try:
                    self._in(dtype)
                except TooLittleError as error:
                    refusals.append(error)
            if refusals:
                raise max(refusals, key=lambda error: error.least)
        self.candidate: Candidate = self._in(planned_dtype(access.xp, access.dtype)).candidate

    def __call__(self, first: Array, second: Array, b: Array | None = None) -> Array:
        xp, access = self.access.xp, self.access
        border = 0 if access.frame is None else abs(access.frame[-1])
        factors = [max(magnitude(xp, array), border) for array in (first, second)]
        largest = self.task.terms * factors[0] * factors[1] + (0 if b is None else magnitude(xp, b))
        *floats, own = self.dtypes
        found = next((dtype for dtype in floats if largest <= 2 / float(xp.finfo(dtype).eps)), own)
        return self._in(found)(first, second, b)

    def _in(self, dtype: DType) -> Products:
        if dtype not in self.known:
            access = self.access._replace(dtype=dtype)
            asked = request(access, self.task, self.room, self.access.dtype)
            self.known[dtype] = Products(access, asked, choose(asked, self.method))
        return self.known[dtype]
