"""What carries a task out, of which a convolution has three:

    y  = Out( Wt(w) @ In(x) )
    dx = In*( Wt(w)^H @ Out*(dy) )
    dw = Wt*( Out*(dy) @ In(x)^H )

Either the library's own convolution (`Own`), or the schedule of a method (`Scheduled`), block by block: scaled where
transforms would overflow, and once more by im2col where NaN, inf or far outliers would be seen in outputs that do not
read them.

Scheduled of integers are computed in floating point, where their sums are exact in it: BLAS multiplies no others. A sum
of so many is at most their number times the largest factors, which are looked for in the operands. What lies below
2**24 is exact in float32, as of 8-bit images and small filters, and below 2**53 in float64. Larger integers are cut
into limbs (`_arrays.matmul`).
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from .._arrays.elements import (
    are_moderate,
    empty,
    has_outliers,
    is_finite,
    magnitude,
    reshaped,
    scale,
    squares_of,
    zeros,
)
from .._arrays.layout import Access, biased, turned
from .._arrays.libraries import Array, DType, compiled, is_kind, traits
from .._arrays.operands import dtypes_of_sums, planned_dtype, working_dtype
from .._arrays.pieces import Pieces, pieces_of
from .._methods import METHODS, request
from .._methods.native import Native, UnsupportedError, native
from .._plan.choice import Candidate, Request, Room, TooLittleError, candidates, choose, of_phase, planned
from .._plan.geometry import Phase
from .._plan.remembered import remembered
from .._plan.schedule import cheapest
from .._plan.task import Task
from .blockwise import Blockwise, input_shape
from .threads import one_blas_thread

# Multiplications up to which OpenBLAS spreads no product over threads, those of complex numbers and others, in its
# matrix-vector products: 1024 and 2304 times GEMM_MULTITHREAD_THRESHOLD.
COMPLEX_ALONE, ALONE = 4096, 9216
NEAR = 64  # outputs of Winograd's largest tiles, all over which an outlier is seen, but not beyond
ALWAYS_ENOUGH = 2**20  # bytes of a workspace, from which on nothing is refused
BEARABLE = 128  # times as long as transforms would take, for outputs that outliers elsewhere do not ruin


class Runner(Protocol):
    """Carries a task out: of x and w, of dy and w, either with a bias, or of dy and x."""

    def __call__(self, first: Array, second: Array, b: Array | None = None, /) -> Array: ...


def runner_of(access: Access, task: Task, method: str, room: Room) -> Runner:
    """What carries a task out by a method, or by that which a word stands for."""
    xp, dtype = access.xp, access.dtype
    if task.batch and method != "native" and dtypes_of_sums(xp, dtype) != (dtype,):
        return OfIntegers(access, task, method, room)
    asked = request(access, task, room)
    if method == "native":
        return _own(access, task, room)
    if task.batch == 0 and method in METHODS:
        METHODS[method](xp, dtype, task)  # which may refuse; not every library transforms nothing
        method = "im2col"
    found = choose(asked, "im2col" if task.batch == 0 else method)
    if found.schedule is None:
        own = _own(access, task, room)
        return _or_other(own, access, asked._replace(own=None)) if own.own.may_refuse else own
    if method == "direct":
        return _direct(access, asked, found)
    local = None
    variant = found.schedule.variant
    if method == "auto" and not (task.reduces or variant.is_local) and math.prod(variant.unit) > NEAR:
        direct = cheapest(candidates(asked, "direct"))
        local = _direct(access, asked, direct) if direct.cost < BEARABLE * found.cost else None
    return Scheduled(access, asked, found, local=local)


def _direct(access: Access, asked: Request, found: Candidate) -> Scheduled:
    integral = is_kind(access.xp, access.dtype, "integral")
    mixes = found.schedule is not None and found.schedule.variant.mixes_zeros and not integral
    return Scheduled(access, asked, found, Scheduled(access, asked, planned(asked, "im2col")) if mixes else None)


def _own(access: Access, task: Task, room: Room) -> Own:
    """With half precision as it is, if those are the sums that the library makes of it."""
    xp, result = access.xp, access.result
    own = native(xp, access.dtype, task, room.bytes, access.devices, access.mesh_axes)
    halves = own.takes_halves and is_kind(xp, result, "real floating") and access.dtype == working_dtype(xp, result)
    return Own(access._replace(dtype=result) if halves else access, own, task.direction)


class Own(NamedTuple):
    """The library's own convolution, which takes operands as a whole."""

    access: Access
    own: Native
    direction: str

    def __call__(self, first: Array, second: Array, b: Array | None = None) -> Array:
        access, own, direction = self
        if direction == "backward_filter":
            return access.leave_filters(own.backward_filter(access.read(first), self._input(second)))
        w = access.read_filters(second)
        if direction == "backward_data":
            return access.leave(biased(access, own.backward_data(access.read(first), w), b))
        return access.leave(own.forward(self._input(first), w, None if b is None else access.read(b)))

    def _input(self, x: Array) -> Array:
        return self.access.read_input(
            x, (slice(None), slice(None), *(slice(0, d) for d in self.own.windows.input_size))
        )


def _or_other(own: Own, access: Access, asked: Request) -> Runner:
    """The library's own convolution, or the least costly other where it finds that it does not support this."""
    other = functools.cache(lambda: Scheduled(access, asked, choose(asked, "auto")))

    def run(*operands: Any) -> Array:
        try:
            return own(*operands)
        except UnsupportedError:
            return other()(*operands)

    return run


class Scheduled:
    """One task by its plan: canonical arrays in and out, which may be written to parts of larger ones."""

    def __init__(
        self,
        access: Access,
        request: Request,
        candidate: Candidate,
        exact: Scheduled | None = None,
        local: Scheduled | None = None,
    ) -> None:
        xp = access.xp
        self.access = access
        self.xp = xp
        self.local = local  # what computes instead where outliers would be seen all over a block, if that is bearable
        self.exact = exact  # what computes again where NaN and inf must stay in their windows, and may not have
        self.request = request
        self.candidate = candidate
        self.task = request.task
        self.is_local = candidate.schedule is None or candidate.schedule.variant.is_local
        alone = COMPLEX_ALONE if is_kind(xp, access.dtype, "complex floating") else ALONE
        found, self.spreads = candidate.schedule, traits(xp).threads and self.task.multiplications > alone
        if self.spreads and found and not self.task.reduces:  # products of single numbers are NumPy's own, but for sums
            self.spreads = found.variant.steps(found.task).multiplication > 0

    def __call__(self, *operands: Array | None) -> Array:
        """Hold BLAS to one thread: its own would spin on the CPUs that ours need, and round by how many there are."""
        if not self.spreads:
            return self._checked(*operands)
        with one_blas_thread():
            return self._checked(*operands)

    def _checked(self, *operands: Any) -> Array:
        """The product; where "direct" must keep NaN and inf in their windows, by im2col if the result is not finite."""
        squares = None
        if self.local is not None:
            squares = squares_of(self.xp, operands[0], self.access.dtype)
            if has_outliers(self.xp, operands[0], self.access.dtype, squares):
                return self.local._checked(*operands)
        if self.exact is not None:
            seen: list[int] = []
            with self.xp.errstate(all="ignore"):  # it is NumPy, and warns again if it has a reason to
                result = self._with(lambda one: one.looking(seen))._product(*operands)
            has_seen_all = sum(seen) == math.prod(result.shape) and is_finite(self.xp, operands[1])
            is_fine = has_seen_all or is_finite(self.xp, result)
            return result if is_fine else self.exact._checked(*operands)
        return self._sums(squares, *operands)

    def _sums(self, squares: float | None, *operands: Any) -> Array:
        """What is computed once operands were looked at: where libraries compile, as one program."""
        if traits(self.xp).traced:
            return self._program(*operands)
        return self._product(*operands) if self.is_local else self._scaled(squares, *operands)

    @remembered
    def _program(self) -> Callable[..., Array]:
        return compiled(self._product if self.is_local else functools.partial(self._scaled, None))

    def _with(self, change: Callable[[Blockwise], Blockwise]) -> Scheduled:
        """The same by other passes."""
        changed = copy.copy(self)
        phases = [(phase, change(convolution)) for phase, convolution in self._phases]
        changed.__dict__.update(_pass=change(self._pass), _phases=phases)
        return changed

    def _scaled(self, squares: float | None, first: Array, second: Array, b: Array | None = None) -> Array:
        """The product of a transform, of operands as they are only where these are surely moderate."""
        scaled, dtype = self, self.access.dtype
        looked = pieces_of(first) if squares is None else [squares]
        if not are_moderate(self.xp, dtype, *looked, *pieces_of(second)):
            first, second = (one.joined() if isinstance(one, Pieces) else one for one in (first, second))
            scales = scale(self.xp, first, dtype), scale(self.xp, second, dtype)
            scaled = self._with(lambda one: one.scaled(*scales))
        return scaled._product(first, second, b)

    def _product(self, first: Array, second: Array, b: Array | None = None) -> Array:
        """x or dy (N, G*channels, ...), and w (G*K, C, *k) with a bias or x (N, G*C, *d)."""
        first = self._grouped(first, 1)
        if self.task.reduces:
            return self._joined(self._pass.backward_filter(first, self._grouped(second, 1)), 0)
        run = self._data if self.task.scatters else self._pass.forward
        return self._joined(run(first, self._grouped(second, 0), None if b is None else self._grouped(b, 0)), 1)

    @remembered
    def _pass(self) -> Blockwise:
        return Blockwise(self.access, self.candidate.schedule)

    @remembered
    def _phases(self) -> list[tuple[Phase, Blockwise]]:
        """The convolutions that the gradient by the input is run as, if it is."""
        found, adjoint = [], self.access._replace(conjugates=not self.access.conjugates)
        for phase in self.candidate.phases:
            request = self.request._replace(task=of_phase(self.task, phase))
            found.append((phase, Blockwise(adjoint, planned(request, self.candidate.method).schedule)))
        return found

    def _data(self, dy: Array, w: Array, b: Array | None) -> Array:
        """(N, G, K, *o), (G, K, C, *k), (G, C) -> (N, G, C, *d)."""
        phases = self._phases
        if not phases:
            return self._pass.backward_data(dy, w, b)
        xp, task = self.xp, self.task
        everything = tuple([slice(0, o) for o in task.windows.output_size])
        swapped = xp.permute_dims(w, (0, 2, 1, *range(3, w.ndim)))

        def run(phase: Phase, convolution: Blockwise, dx: Array | None = None) -> Array:
            filters = turned(xp, swapped[(..., *phase.taps)], task.windows.ndim)
            read = dy if phase.outputs == everything else dy[(..., *phase.outputs)]  # of pieces, no copy
            return convolution.forward(read, filters, b, dx)

        count = task.windows.phase_count
        if count == 1:
            return run(*phases[0])
        made = empty if len(phases) == count else zeros
        dx: Array = made(xp, dy, input_shape(task, dy), w, b, dtype=self.access.result)
        if len(phases) < count:  # which hold the bias alone
            dx = biased(self.access, dx, b)
        for phase, convolution in phases:
            run(phase, convolution, dx[(..., *phase.inputs)])
        return dx

    def _grouped(self, array: Array, axis: int) -> Array:
        """(..., G*channels, ...) -> (..., G, channels, ...)."""
        if isinstance(array, Pieces):
            grid = array.grid
            return array.each(lambda piece: self._grouped(piece, axis), (*grid[:axis], 1, *grid[axis:]))
        shape, groups = array.shape, self.task.groups
        return reshaped(self.xp, array, (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))

    def _joined(self, array: Array, axis: int) -> Array:
        """The inverse of `_grouped`."""
        shape = array.shape
        return reshaped(self.xp, array, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


class OfIntegers:
    """A task on integers, in the first dtype that surely holds its sums."""

    def __init__(self, access: Access, task: Task, method: str, room: Room) -> None:
        self.access = access
        self.task = task
        self.method = method
        self.room = room
        self.dtypes = dtypes_of_sums(access.xp, access.dtype)
        self.known: dict[DType, Scheduled] = {}
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

    def _in(self, dtype: DType) -> Scheduled:
        if dtype not in self.known:
            access = self.access._replace(dtype=dtype)
            asked = request(access, self.task, self.room, self.access.dtype)
            self.known[dtype] = Scheduled(access, asked, choose(asked, self.method))
        return self.known[dtype]
