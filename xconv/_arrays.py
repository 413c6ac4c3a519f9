"""What an array is: operands checked, their common namespace and dtype, and the traits in which backends differ."""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Sequence
from numbers import Number
from typing import Any, NamedTuple, TypeAlias

Array: TypeAlias = Any
Namespace: TypeAlias = Any
DType: TypeAlias = Any


# Of array types seen so far whose devices have a hash: finding a namespace takes longer than all other checks.
_NAMESPACES: dict[type, Namespace] = {}


class Operand(NamedTuple):
    """What a named array is besides its elements."""

    name: str
    xp: Namespace
    shape: tuple[int, ...]
    dtype: DType
    device: Any


Description: TypeAlias = tuple[str, Namespace, tuple[int, ...], DType, Any]  # an Operand's fields: it is slow to make


def described(*, b: Array | None = None, **arrays: Array) -> tuple[Description, ...]:
    """What each of the named arrays is, as far as it decides what is to be done. Only the bias b may be absent."""
    if b is not None:
        arrays["b"] = b
    try:
        return tuple([(name, _NAMESPACES[type(a)], a.shape, a.dtype, a.device) for name, a in arrays.items()])
    except (KeyError, AttributeError):  # Dask's arrays name no device, and CuPy's devices have no hash
        return tuple([(name, _namespace(name, a), a.shape, a.dtype, _place(a)) for name, a in arrays.items()])


def namespace_and_dtype(**arrays: Array) -> tuple[Namespace, DType]:
    """The one namespace of the named arrays, and the dtype that they promote to."""
    return common_namespace_and_dtype([Operand(*description) for description in described(**arrays)])


def common_namespace_and_dtype(operands: Sequence[Operand]) -> tuple[Namespace, DType]:
    """The one namespace of operands on one device, and the dtype that they promote to."""
    xp = _common_namespace(operands)
    for operand in operands:
        check_numeric(operand.name, xp, operand.dtype)
    _check_device(xp, operands)
    try:
        return xp, xp.result_type(*(operand.dtype for operand in operands))
    except Exception as error:
        dtypes = ", ".join(f"{operand.name} of {operand.dtype}" for operand in operands)
        raise TypeError(f"all arrays must have dtypes that promote to one, got {dtypes}") from error


def check_numeric(name: str, xp: Namespace, dtype: DType) -> None:
    """What is not a number cannot be convolved."""
    try:
        numeric = is_kind(xp, dtype, "numeric")
    except Exception as error:
        raise TypeError(f"{name} must be a dtype of {library(xp)}, got {dtype!r}") from error
    if not numeric:
        raise TypeError(f"{name} must have an integer, real or complex dtype, got {dtype}")


def namespace_of_library(xp: Namespace) -> Namespace:
    """The namespace that arrays of a library have here: PyTorch's own module lacks a part of the standard."""
    if not hasattr(xp, "empty"):
        raise TypeError(f"xp must be the namespace of an array library, got {xp!r}")
    return _namespace("xp", xp.empty(0))


@functools.cache
def library(xp: Namespace) -> str:
    """The package that a namespace is of."""
    return str(xp.__name__).removeprefix("array_api_compat.").split(".")[0]


def device(array: Array) -> Any:
    """Where an array is, for what is made beside it; None if that is not known: Dask's arrays, and traced ones."""
    return getattr(array, "device", None)


@functools.lru_cache(maxsize=1024)
def is_kind(xp: Namespace, dtype: DType, kind: str) -> bool:
    """``xp.isdtype``, remembered: a short call would spend most of its time asking."""
    return bool(xp.isdtype(dtype, kind))


@functools.lru_cache(maxsize=1024)
def working_dtype(xp: Namespace, dtype: DType) -> DType:
    """The dtype to compute in.

    Sums of float16 and bfloat16 lose too much, so float32 carries them. Modulo 2**bits, sums and products of unsigned
    integers are those of signed ones, which every library has in all sizes.
    """
    if is_kind(xp, dtype, "real floating") and xp.finfo(dtype).bits < 32:
        return xp.float32
    if is_kind(xp, dtype, "unsigned integer"):
        return getattr(xp, f"int{xp.iinfo(dtype).bits}")
    return dtype


def check_floating(method: str, xp: Namespace, dtype: DType) -> None:
    """What computes with fractions or roots of unity cannot be exact for integers."""
    if is_kind(xp, dtype, "integral"):
        raise ValueError(f"method {method!r} must have floating-point arrays, got {dtype}")


def lowest(xp: Namespace, dtype: DType) -> float | int:
    """What no element is below: -inf, or the smallest integer."""
    return xp.iinfo(dtype).min if is_kind(xp, dtype, "integral") else -float("inf")


def plain_number(value: Any) -> Any:
    """A scalar of NumPy's as the number of Python's own that it is; anything else as it is."""
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def ordered(xp: Namespace, array: Array) -> Array:
    """Unsigned integers as signed ones in the same order, their highest bit toggled; anything else as it is."""
    if not is_kind(xp, array.dtype, "unsigned integer"):
        return array
    signed = xp.astype(array, working_dtype(xp, array.dtype))
    return signed ^ xp.iinfo(signed.dtype).min


def from_ordered(xp: Namespace, array: Array, dtype: DType) -> Array:
    """The inverse of `ordered`."""
    if not is_kind(xp, dtype, "unsigned integer"):
        return array
    return xp.astype(array ^ xp.iinfo(array.dtype).min, dtype)


@functools.cache
def runs_on_threads(xp: Namespace) -> bool:
    """Whether threads of our own make the library faster: NumPy computes on one, the others have theirs."""
    return library(xp) == "numpy"


@functools.cache
def starts_kernels(xp: Namespace) -> bool:
    """Whether every operation is a kernel that a GPU is given by itself (CuPy): few of them are best, however long."""
    return library(xp) == "cupy"


@functools.cache
def keeps_arrays(xp: Namespace) -> bool:
    """Whether an array made once serves every later call: there is one device, and no trace that it belongs to."""
    return library(xp) == "numpy"


def reshaped(xp: Namespace, array: Array, shape: tuple[int, ...]) -> Array:
    """``xp.reshape``; NumPy's takes four times as long as the method, which a short call does several times."""
    return array.reshape(shape) if is_plain_memory(xp) else xp.reshape(array, shape)


def full(xp: Namespace, like: Array, shape: tuple[int, ...], value: complex) -> Array:
    """A new array of one value, with the dtype and the device of ``like``.

    Inside torch.func.vmap it has the hidden axis of ``like``, too, so that it may be written to.
    """
    if library(xp) == "torch":
        return xp.full_like(_number_of(xp, like, shape), value, dtype=like.dtype)
    return xp.full(shape, value, dtype=like.dtype, device=device(like))


def zeros(xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array) -> Array:
    """A new array of zeros, as `full`; memory from the system may be zero already.

    It has the hidden axes of the others, too: it may be written what is computed of all of them.
    """
    if library(xp) == "torch":
        return xp.zeros_like(_number_of(xp, like, shape, *others), dtype=like.dtype)
    return xp.zeros(shape, dtype=like.dtype, device=device(like))


def empty(xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array) -> Array:
    """A new array to fill wholly, as `zeros`."""
    if library(xp) == "torch":
        return xp.empty_like(_number_of(xp, like, shape, *others), dtype=like.dtype)
    return xp.empty(shape, dtype=like.dtype, device=device(like))


@functools.cache
def is_plain_memory(xp: Namespace) -> bool:
    """Whether arrays are strided memory and no more (NumPy, CuPy): parts may be written to, and views may overlap.

    PyTorch would have to differentiate every such step.
    """
    return library(xp) in ("numpy", "cupy")


def copied_view(xp: Namespace, array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """What a view of plain memory reads that may read an element many times, copied in one operation."""
    if library(xp) == "numpy" and array.flags.c_contiguous:
        view = xp.ndarray(shape, array.dtype, array, strides=strides)  # as_strided takes ten times as long
    else:
        view = xp.lib.stride_tricks.as_strided(array, shape, strides)
    return xp.asarray(view, copy=True, order="C")


def add_at(array: Array, index: tuple[Any, ...], values: Array) -> Array:
    """``array[index] += values`` on an array of our own: in place where arrays are mutable, else a new one (JAX).

    The index is of slices and of numbers with an ellipsis, and so gives a view: ``+=`` on the index itself would then
    write the view to where it is, which takes CuPy and PyTorch as long as the sum.
    """
    if _is_immutable(array):
        return array.at[index].add(values)
    part = array[index]
    part += values
    return array


def add_all(array: Array, parts: Iterable[tuple[tuple[Any, ...], Array]]) -> Array:
    """`add_at` for many overlapping indices, of slices only.

    XLA makes one loop of a sum of padded arrays, where each scatter would be one of its own, over single elements if
    there are steps.
    """
    spreads = _is_immutable(array)
    for index, values in parts:
        array = array + _spread(values, index, array.shape) if spreads else add_at(array, index, values)
    return array


def put_at(array: Array, index: tuple[Any, ...], values: Array) -> Array:
    """``array[index] = values`` on an array of our own, as `add_at`."""
    if _is_immutable(array):
        return array.at[index].set(values)
    array[index] = values
    return array


def _is_immutable(array: Array) -> bool:
    """Whether it is JAX's, which offers changed copies instead."""
    return hasattr(array, "at")


def _spread(values: Array, index: tuple[Any, ...], shape: tuple[int, ...]) -> Array:
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


def conjugate_transpose(xp: Namespace, matrices: Array) -> Array:
    """The adjoint of each matrix in a stack: transposed, and conjugated if complex."""
    return transposed(xp, conjugate(xp, matrices))


def transposed(xp: Namespace, matrices: Array) -> Array:
    """Each matrix of a stack transposed; where that is no view (JAX), a stack of one comes back as the matrix alone.

    Factors broadcast, and XLA reads one matrix transposed in the product itself, but copies a stack first.
    """
    if _is_immutable(matrices) and math.prod(matrices.shape[:-2]) == 1:
        matrices = xp.reshape(matrices, matrices.shape[-2:])
    return xp.matrix_transpose(matrices)


def conjugate(xp: Namespace, array: Array) -> Array:
    """The complex conjugate; real arrays pass through untouched."""
    return xp.conj(array) if is_kind(xp, array.dtype, "complex floating") else array


def _number_of(xp: Namespace, like: Array, shape: tuple[int, ...], *others: Array) -> Array:
    """A number with the hidden axes of arrays, broadcast; float32, since not every dtype can be summed."""
    pieces = [array[tuple(slice(0, min(1, size)) for size in array.shape)] for array in (like, *others)]
    numbers = [xp.sum(xp.zeros_like(piece, dtype=xp.float32)) for piece in pieces]
    return xp.broadcast_to(sum(numbers[1:], numbers[0]), shape)


def _namespace(name: str, array: Array) -> Namespace:
    """The namespace of a named array, which is that of all of its type."""
    from array_api_compat import array_namespace, is_array_api_obj  # a fifth of what importing xconv would take

    if not is_array_api_obj(array):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    if hasattr(array, "mask"):  # which the sums would not see
        raise TypeError(f"{name} must be an array without a mask, got {type(array).__name__}")
    xp = _without_wrappers(array_namespace(array))
    if isinstance(device(array), Hashable):
        _NAMESPACES[type(array)] = xp
    return xp


def _place(array: Array) -> Any:
    """Where an array is, as part of what calls are remembered by; in words, where a device has no hash."""
    place = device(array)
    return place if isinstance(place, Hashable) else str(place)


def _common_namespace(operands: Sequence[Operand]) -> Namespace:
    xp = operands[0].xp
    if any(operand.xp is not xp for operand in operands):
        libraries = ", ".join(f"{name} from {library(xp)}" for name, xp, *_ in operands)
        raise TypeError(f"all arrays must come from one library, got {libraries}")
    return xp


@functools.cache
def _without_wrappers(xp: Namespace) -> Namespace:
    """NumPy 2 follows the standard by itself, and a wrapper takes longer than what a small array needs done."""
    if library(xp) != "numpy":
        return xp
    import numpy

    return numpy


def _check_device(xp: Namespace, operands: Sequence[Operand]) -> None:
    if library(xp) == "jax":  # JAX places arrays itself, and traced ones have no device
        return
    if len({operand.device for operand in operands}) > 1:
        places = ", ".join(f"{operand.name} on {operand.device}" for operand in operands)
        raise ValueError(f"all arrays must be on one device, got {places}")
