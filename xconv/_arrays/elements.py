"""New arrays, and changes to arrays of our own: in place where a library can, else as changed copies."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Any

from .._plan.geometry import Ints
from .libraries import Array, DType, Namespace, device, has_int64, is_immutable, is_kind, may_look, mesh, traits
from .operands import working_dtype
from .scratch import is_making_again, made

FINITE = "fn"  # in the names of formats whose numbers are all finite: float8_e4m3fn, float8_e5m2fnuz


SAMPLED = 8  # elements along each axis, at least, of which one is typical: thousands of an image or a volume
VISIBLE = 1e-3  # the relative error that somebody might see
ALONE = 2**13  # numbers whose products OpenBLAS adds up on one thread: it spreads more than 10,000 (its dot.c)
EXACT = 2**46  # integers that float64 holds to within 1/128


def lowest(xp: Namespace, dtype: DType, highest: bool = False) -> float | int:
    """What no element is below, or above: an inf, or the last number of a dtype that has none."""
    if is_kind(xp, dtype, "integral"):
        return int(xp.iinfo(dtype).max if highest else xp.iinfo(dtype).min)
    if FINITE in str(dtype):
        return float(xp.finfo(dtype).max if highest else xp.finfo(dtype).min)
    return math.inf if highest else -math.inf


def ordered(xp: Namespace, array: Array) -> tuple[Array, float | int]:
    """Elements as some that every library compares, and what none is below.

    Unsigned integers become signed ones in the same order, their highest bit toggled, and floats of a byte float32.
    """
    dtype = array.dtype
    if is_kind(xp, dtype, "unsigned integer"):
        signed = xp.astype(array, working_dtype(xp, dtype))
        return signed ^ xp.iinfo(signed.dtype).min, int(xp.iinfo(signed.dtype).min)
    if _is_byte(xp, dtype):
        return xp.astype(array, working_dtype(xp, dtype)), lowest(xp, dtype)
    return array, lowest(xp, dtype)


def from_ordered(xp: Namespace, array: Array, dtype: DType) -> Array:
    """The inverse of `ordered`."""
    if is_kind(xp, dtype, "unsigned integer"):
        return xp.astype(array ^ xp.iinfo(array.dtype).min, dtype)
    return xp.astype(array, dtype) if _is_byte(xp, dtype) else array


def _is_byte(xp: Namespace, dtype: DType) -> bool:
    return is_kind(xp, dtype, "real floating") and bool(xp.finfo(dtype).bits <= 8)


def reshaped(xp: Namespace, array: Array, shape: tuple[int, ...]) -> Array:
    """``xp.reshape``; NumPy's takes four times as long as the method, which a short call does several times."""
    return array.reshape(shape) if traits(xp).plain_memory else xp.reshape(array, shape)


def resized(array: Array, axis: int, size: int) -> tuple[int, ...]:
    """The shape of an array with another size of one axis."""
    return (*array.shape[:axis], size, *array.shape[axis + 1 :])


def cut(xp: Namespace, array: Array, axis: int, edges: Sequence[int]) -> Sequence[Array]:
    """The parts of an array along an axis: before the first edge, between edges, and behind the last one."""
    if not edges:
        return [array]
    if traits(xp).splits:
        parts: Sequence[Array] = getattr(xp, traits(xp).splits)(array, tuple(edges), axis)
        return parts
    before, bounds = (slice(None),) * axis, itertools.pairwise((0, *edges, array.shape[axis]))
    return [array[(*before, slice(start, stop), ...)] for start, stop in bounds]


def is_finite(xp: Namespace, array: Array) -> bool:
    """Whether no element is NaN or inf: by the extremes of real numbers, which takes no memory."""
    if math.prod(array.shape) == 0:
        return True
    if is_kind(xp, array.dtype, "complex floating"):
        return bool(xp.all(xp.isfinite(array)))
    return bool(xp.isfinite(xp.min(array)) & xp.isfinite(xp.max(array)))


def are_finite_squares(xp: Namespace, array: Array) -> bool:
    """Whether NumPy's numbers have a sum of squares, so that all are finite: one pass of BLAS, held to one thread."""
    return array.flags.c_contiguous and array.dtype.char in "fd" and math.isfinite(_squares(xp, array))


def _squares(xp: Namespace, array: Array) -> float:
    """The sum of squares of NumPy's numbers in one run, by BLAS on this thread alone; inf or NaN if there is none."""
    flat = xp.reshape(array, (-1,))
    end = math.prod(flat.shape) % ALONE
    rest, rows = flat[:end], xp.reshape(flat[end:], (-1, ALONE))
    if math.prod(rows.shape) == 0:  # a short call has no time for more
        return float(abs(xp.vdot(rest, rest)))
    with xp.errstate(all="ignore"):
        return float(abs(xp.sum(xp.vecdot(rows, rows)) + xp.vdot(rest, rest)))


def are_exact_in_floats(xp: Namespace, first: Array, second: Array, terms: int) -> bool:
    """Whether sums of so many products of integers, by transforms in float64, err by less than 1/2, as far as is seen.

    Their errors are some dozen epsilons of the largest sum.
    """
    return may_look(xp, first) and magnitude(xp, first) * magnitude(xp, second) * terms < EXACT


def squares_of(xp: Namespace, array: Array, dtype: DType) -> float | None:
    """The sum of squares of NumPy's numbers of a dtype, if they lie in one run or are so few that a copy is nothing."""
    if not traits(xp).threads or array.dtype != dtype:
        return None
    return _squares(xp, array) if array.flags.c_contiguous or array.size <= ALONE else None


def are_moderate(xp: Namespace, dtype: DType, *arrays: Array | float) -> bool:
    """Whether `scale` need not be asked for any, by sums of squares, which may be known: on NumPy, which may look."""
    if not traits(xp).threads:
        return False
    limit = 4.0 ** _moderate(xp, dtype)
    for one in arrays:
        squares = one if isinstance(one, float) else squares_of(xp, one, dtype)
        if not 1 / limit < (_largest(xp, one, dtype) ** 2 if squares is None else squares) < limit:
            return False
    return True


def scale(xp: Namespace, array: Array, dtype: DType) -> Array:
    """A power of two that brings the largest element to where products and their sums stay finite: 1 nearly always.

    What it is multiplied with keeps all its digits. It is 1 where an element is NaN or inf, too.
    """
    largest = _largest(xp, array, dtype)
    moderate, dtype, place = _moderate(xp, dtype), largest.dtype, device(array)
    bounds, factors = (
        xp.asarray([[2.0**exponent for exponent in exponents]], dtype=dtype, device=place)
        for exponents in ((moderate, 2 * moderate, 3 * moderate), (-moderate, -moderate, -moderate // 5))
    )
    largest = xp.where((largest > 0) & (largest <= xp.finfo(dtype).max), largest, xp.ones_like(largest))
    both = xp.expand_dims(xp.stack([largest, 1 / largest]), axis=-1)  # the inverse of what is small is large
    down, up = xp.prod(xp.where(both > bounds, factors, xp.ones_like(factors)), axis=1, dtype=dtype)
    return down / up


def has_outliers(xp: Namespace, array: Array, dtype: DType, squares: float | None = None) -> bool:
    """Whether errors of the largest element would be a thousandth of a typical one, or of the smallest of few.

    Those of a dtype that is computed in; no element is larger than the root of all squares, where their sum is known.
    False where elements cannot be looked at.
    """
    if not (math.prod(array.shape) and may_look(xp, array)):
        return False
    array = array.detach() if traits(xp).hidden_axes else array  # of what is only looked at no derivative is recorded
    some = xp.abs(array[tuple(slice(None, None, max(size // SAMPLED, 1)) for size in array.shape)])
    typical = float(xp.sort(xp.reshape(some, (-1,)))[math.prod(some.shape) // 2])
    eps = float(xp.finfo(dtype).eps)
    if squares is not None and squares**0.5 * eps <= VISIBLE * typical:
        return False
    largest = float(_largest(xp, array, dtype))
    if math.isnan(largest):  # behind which others would hide
        return has_outliers(xp, xp.where(xp.isnan(array), xp.zeros_like(array), array), dtype)
    error = largest * eps
    if typical == 0:
        others = xp.abs(array)
        typical = float(xp.min(xp.where(others == 0, xp.max(others), others)))
    return 0 < VISIBLE * typical < error


def magnitude(xp: Namespace, integers: Array) -> int:
    """The largest of all integers by magnitude; 0 if there are none."""
    return max(int(xp.max(integers)), -int(xp.min(integers))) if math.prod(integers.shape) else 0


def _largest(xp: Namespace, array: Array, dtype: DType) -> Array:
    """The largest of all elements, and of the real and the imaginary parts of complex ones, by magnitude.

    It is of a dtype that is computed in, or of its real parts.
    """
    array = xp.astype(array, dtype) if _is_byte(xp, array.dtype) else array  # which not every library compares
    parts = (xp.real(array), xp.imag(array)) if is_kind(xp, array.dtype, "complex floating") else (array,)
    bounds = [xp.astype(bound, dtype, copy=False) for part in parts for bound in (xp.max(part), xp.min(part))]
    bounds = [xp.real(bound) for bound in bounds] if is_kind(xp, dtype, "complex floating") else bounds
    return functools.reduce(xp.maximum, map(xp.abs, bounds))


@functools.lru_cache(maxsize=1024)
def _moderate(xp: Namespace, dtype: DType) -> int:
    """The exponent up to which elements are left as they are: 5/16 of the largest.

    Two such factors leave room for sums of 2**47 products, and an element 2**-38 of a scaled largest one is no
    subnormal number yet. Of more than 64 bits those of 64 do.
    """
    return 40 if xp.finfo(dtype).bits == 32 else 320


def unscaled(xp: Namespace, array: Array, *scales: Array) -> Array:
    """An array over two powers of two, whose own product might not be finite: what makes it smaller comes first."""
    first, second = (1 / one for one in scales)
    return array * xp.minimum(first, second) * xp.maximum(first, second)


def gathered(xp: Namespace, array: Array) -> Array:
    """The same elements in the order of the axes, where memory has one."""
    return xp.asarray(array, order="C") if traits(xp).plain_memory else array  # ascontiguousarray gives one an axis


def full(xp: Namespace, like: Array, shape: tuple[int, ...], value: complex, dtype: DType | None = None) -> Array:
    """A new array of one value, with the device of ``like`` and, if none is given, its dtype.

    Inside torch.func.vmap it has the hidden axis of ``like``, too, so that it may be written to.
    """
    dtype = like.dtype if dtype is None else dtype
    if traits(xp).hidden_axes:
        return xp.full_like(_number_of(xp, like, shape), _within(xp, value, dtype), dtype=dtype)
    return xp.full(shape, _within(xp, value, dtype), dtype=dtype, device=device(like))


def _within(xp: Namespace, value: Any, dtype: DType) -> Any:
    """A number, or inf where it is beyond those of a dtype: PyTorch refuses these, and others warn of them."""
    if value == 0 or not is_kind(xp, dtype, ("real floating", "complex floating")):
        return value
    most = float(xp.finfo(dtype).max)
    parts = [math.copysign(math.inf, part) if abs(part) > most else part for part in (value.real, value.imag)]
    return complex(*parts) if isinstance(value, complex) else parts[0]


def zeros(
    xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array | None, dtype: DType | None = None
) -> Array:
    """A new array of zeros, as `full` but for another dtype; memory from the system may be zero already.

    It has the hidden axes of the others, too, those left out that are None: it may be written what is computed of all.
    """
    if not (traits(xp).threads and is_making_again()):
        return _new(xp, "zeros", like, shape, others, dtype)
    array = made(xp, shape, like.dtype if dtype is None else dtype)
    array[...] = 0
    return array


def empty(
    xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array | None, dtype: DType | None = None
) -> Array:
    """A new array to fill wholly, as `zeros`."""
    return _new(xp, "empty", like, shape, others, dtype)


def _new(xp: Namespace, name: str, like: Array, shape: tuple[int, ...], others: Any, dtype: DType | None) -> Array:
    dtype = like.dtype if dtype is None else dtype
    if traits(xp).hidden_axes:
        return getattr(xp, f"{name}_like")(_number_of(xp, like, shape, *others), dtype=dtype)
    return getattr(xp, name)(shape, dtype=dtype, device=device(like))


def copied_view(xp: Namespace, array: Array, shape: tuple[int, ...], strides: tuple[int, ...], rows: int = 0) -> Array:
    """What a view of plain memory reads that may read an element many times, copied in one operation, into `made`."""
    if traits(xp).threads and array.flags.c_contiguous:
        view = xp.ndarray(shape, array.dtype, array, strides=strides)  # as_strided takes ten times as long
    else:
        view = xp.lib.stride_tricks.as_strided(array, shape, strides)
    if not traits(xp).threads:
        return xp.asarray(view, copy=True, order="C")
    return copied(xp, view, rows)


def has_runs(array: Array) -> bool:
    """Whether no elements of NumPy's array lie closer together than those along its last axis."""
    if array.flags.c_contiguous:
        return True
    strides = [abs(stride) for stride, size in zip(array.strides, array.shape, strict=True) if size > 1]
    return array.shape[-1] == 1 or not strides or bool(strides[-1] == min(strides))


def copied(xp: Namespace, view: Array, rows: int = 0) -> Array:
    """A copy of NumPy's, `made`: contiguous, or its rows."""
    copy = made(xp, view.shape, view.dtype, rows=rows)
    copy[...] = view
    return copy


def truncated(xp: Namespace, array: Array, dtype: DType) -> Array:
    """Numbers as SciPy's filters store them: integers without the fraction, and modulo 2**bits what is out of range.

    Of 2**64 and more, of which C leaves open what becomes, none is left, as on the processors that SciPy is built for.
    """
    if array.dtype == dtype:
        return array
    floats = ("real floating", "complex floating")
    if not is_kind(xp, array.dtype, "real floating") or is_kind(xp, dtype, floats):
        return xp.astype(array, dtype)
    if is_kind(xp, dtype, "bool"):
        return xp.astype(xp.asarray(xp.trunc(array)), dtype)  # of no axes NumPy gives numbers
    if not has_int64(xp, device(array)):
        return _of_high_bit(xp, _modulo(xp, array), xp.int32, dtype)
    if is_kind(xp, dtype, "unsigned integer") and xp.iinfo(dtype).bits == 64:
        return _of_high_bit(xp, xp.where(array < 2.0**64, array, xp.zeros_like(array)), xp.int64, dtype)
    return xp.astype(xp.astype(array, xp.int64), dtype)


def _of_high_bit(xp: Namespace, array: Array, signed: DType, dtype: DType) -> Array:
    """Floats as integers, by the bits of signed ones, of which those beyond the largest are negative."""
    is_high = array >= -float(xp.iinfo(signed).min)
    bits = xp.astype(xp.where(is_high, array + float(xp.iinfo(signed).min), array), signed)
    return xp.astype(xp.where(is_high, bits + xp.iinfo(signed).min, bits), dtype)


def _modulo(xp: Namespace, array: Array) -> Array:
    """Floats without their fraction modulo 2**32, exactly, from -2**31 on; 0 of NaN and inf, as int64 gives."""
    array = xp.trunc(xp.astype(array, xp.float32, copy=False))
    array = array - xp.trunc(array / 2.0**32) * 2.0**32
    array = xp.where(xp.isfinite(array), array, xp.zeros_like(array))
    return xp.where(array < -(2.0**31), array + 2.0**32, array)


def modular(xp: Namespace, operation: Callable[..., Array], *arrays: Array) -> Array:
    """A sum or product of arrays of one dtype: modulo 2**bits if unsigned, which not every library computes with."""
    dtype = arrays[0].dtype
    if not is_kind(xp, dtype, "unsigned integer"):
        return operation(*arrays)
    return xp.astype(operation(*(xp.astype(array, working_dtype(xp, dtype)) for array in arrays)), dtype)


def flipped(xp: Namespace, array: Array, axes: int | tuple[int, ...]) -> Array:
    """Elements in the opposite order along axes, of any dtype: PyTorch turns none that it does not compute in."""
    if traits(xp).plain_memory:
        some = {axis % array.ndim for axis in ([axes] if isinstance(axes, int) else axes)}
        return array[tuple([slice(None, None, -1 if axis in some else 1) for axis in range(array.ndim)])]
    working = xp.astype(array, working_dtype(xp, array.dtype), copy=False)
    return xp.astype(xp.flip(working, axis=axes), array.dtype, copy=False)


def add_at(xp: Namespace, array: Array, index: tuple[Any, ...], values: Array) -> Array:
    """``array[index] += values`` on an array of our own: in place where arrays are mutable, else a new one (JAX).

    The index is of slices and of numbers with an ellipsis. Where that gives a view, ``+=`` on the index itself would
    write the view to where it is, which takes CuPy and PyTorch as long as the sum; where it may be a copy, it must be.
    """
    if is_immutable(array):
        return _changed(array, index, values, adds=True)
    if not traits(xp).views:
        array[index] = array[index] + values
        return array
    try:
        part = array[index]
        part += values
    except RuntimeError:
        if not traits(xp).hidden_axes:
            raise
        if index == (...,):
            return array + values
        array = array + zeros(xp, values, (), dtype=array.dtype)  # has the hidden axes of what is added, now
        part = array[index]
        part += values
    return array


def put_at(array: Array, index: tuple[Any, ...], values: Array) -> Array:
    """``array[index] = values`` on an array of our own, as `add_at`."""
    if is_immutable(array):
        return _changed(array, index, values, adds=False)
    array[index] = values
    return array


def _changed(array: Array, index: tuple[Any, ...], values: Any, adds: bool) -> Array:
    """JAX's array with a box of it written anew: XLA's scatter may be wrong where arrays are divided unevenly.

    Of arrays whose types say how they are divided, a box must be divided likewise, but not what is scattered.
    """
    from jax import lax
    from jax import numpy as xp

    box, around = _box(array.shape, index), mesh(array)
    if box is None or (around is not None and any(kind.name == "Explicit" for kind in around.axis_types)):
        at = array.at[index]
        return at.add(values) if adds else at.set(values)
    starts, sizes, shape = box
    part = xp.reshape(xp.broadcast_to(xp.asarray(values, dtype=array.dtype), shape), sizes)
    if adds:
        part = part + lax.slice(array, starts, [start + size for start, size in zip(starts, sizes, strict=True)])
    return lax.dynamic_update_slice(array, part, starts)


def _box(shape: Ints, index: tuple[Any, ...]) -> tuple[Ints, Ints, Ints] | None:
    """Where the box begins that an index of numbers and slices is of, its sizes, and the shape of its elements."""
    if not all(isinstance(part, int | slice | EllipsisType) for part in index):
        return None
    index = index if ... in index else (*index, ...)
    at = index.index(...)
    parts = (*index[:at], *(slice(None),) * (len(shape) - len(index) + 1), *index[at + 1 :])
    lines = [range(d)[p] if isinstance(p, slice) else range(d)[p:][:1] for d, p in zip(shape, parts, strict=True)]
    if any(line.step != 1 and len(line) > 1 for line in lines):
        return None
    kept = tuple([len(line) for line, part in zip(lines, parts, strict=True) if isinstance(part, slice)])
    return tuple([line.start for line in lines]), tuple(map(len, lines)), kept


def placed(xp: Namespace, values: Array, positions: Array, size: int) -> Array:
    """A line of zeros but for values at positions, of equal ones the last; what is at ``size`` is left out.

    By the standard, which writes to slices only, they are sorted, and each place looks for its own.
    """
    if traits(xp).scatters:
        return put_at(zeros(xp, values, (size + 1,), positions), (positions,), values)[:size]
    values, positions = (xp.concat([one, zeros(xp, one, (1,)) + end]) for one, end in ((values, 0), (positions, size)))
    order, places = xp.argsort(positions), xp.arange(size, dtype=positions.dtype, device=device(values))
    ordered_positions = xp.take(positions, order)
    last = xp.maximum(xp.searchsorted(ordered_positions, places, side="right") - 1, xp.zeros_like(places))
    found = xp.take(values, xp.take(order, last))
    return xp.where(xp.take(ordered_positions, last) == places, found, xp.zeros_like(found))


def spread(values: Array, index: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
    """An array of JAX that is zero but for ``values`` at an index of slices."""
    from jax import lax

    at = index.index(...)
    others = (slice(None),) * (len(shape) - len(index) + 1)
    padding = []
    for size, part, count in zip(shape, (*index[:at], *others, *index[at + 1 :]), values.shape, strict=True):
        start, _, step = part.indices(size)
        covered = (count - 1) * step + 1 if count else 0
        padding.append((start, size - start - covered, step - 1))
    return lax.pad(values, values.dtype.type(0), padding)


def transposed(xp: Namespace, matrices: Array) -> Array:
    """Each matrix of a stack transposed; where that is no view (JAX), a stack of one comes back as the matrix alone.

    Factors broadcast, and XLA reads one matrix transposed in the product itself, but copies a stack first.
    """
    if is_immutable(matrices) and math.prod(matrices.shape[:-2]) == 1:
        matrices = xp.reshape(matrices, matrices.shape[-2:])
    return xp.matrix_transpose(matrices)


def conjugate(xp: Namespace, array: Array) -> Array:
    """The complex conjugate; real arrays pass through untouched."""
    return xp.conj(array) if is_kind(xp, array.dtype, "complex floating") else array


def _number_of(xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array | None) -> Array:
    """A number with the hidden axes of arrays, broadcast; float32, since not every dtype can be summed."""
    pieces = [
        array[tuple(slice(0, min(1, size)) for size in array.shape)] for array in (like, *others) if array is not None
    ]
    numbers = [xp.sum(xp.zeros_like(piece, dtype=xp.float32)) for piece in pieces]
    return xp.broadcast_to(sum(numbers[1:], numbers[0]), shape)
