"""What an array is: operands checked, their common namespace and dtype."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Hashable, Sequence
from numbers import Number
from typing import Any, NamedTuple

from .._plan.arguments import a_number, got
from .._plan.remembered import loading
from .libraries import UNKNOWN, Array, DType, Namespace, device, has_float64, is_kind, library, mesh, row_of, traits

SMALLEST = 8  # bits of a number that every operation takes

# Of array types seen so far whose devices have a hash: finding a namespace takes longer than all other checks.
_NAMESPACES: dict[type, Namespace] = {}
_WORDED: dict[type, Namespace] = {}  # the same where devices have none, as CuPy's, and are told apart by their words


class Operand(NamedTuple):
    """What a named array is besides its elements."""

    name: str
    xp: Namespace
    shape: tuple[int, ...]
    dtype: DType
    device: Any
    is_chunked: bool = False  # of chunks that are like this, and computed later


_operand = functools.partial(tuple.__new__, Operand)  # of all fields, in half the time that the class takes


def described(*, b: Array | None = None, **arrays: Array) -> tuple[Operand, ...]:
    """What each of the named arrays is, as far as it decides what is to be done. Only the bias b may be absent."""
    if b is not None:
        arrays["b"] = b
    found = _known_operands(arrays)
    if found is not None:
        return found
    with contextlib.suppress(KeyError):
        return tuple(
            [_operand((name, _WORDED[type(a)], a.shape, a.dtype, str(a.device), False)) for name, a in arrays.items()]
        )
    for name, array in arrays.items():
        _check_layout(name, _namespace(name, array), chunk_of(array))
    return tuple([_described(name, array) for name, array in arrays.items()])


def _known_operands(arrays: dict[str, Array]) -> tuple[Operand, ...] | None:
    """Arrays of types that came before, the ordinary case."""
    try:
        found = tuple(
            [_operand((name, _NAMESPACES[type(a)], a.shape, a.dtype, a.device, False)) for name, a in arrays.items()]
        )
    except (KeyError, AttributeError, RuntimeError):  # nested tensors have no shape
        return None
    if traits(found[0][1]).layouts:
        for name, xp, *_ in found:
            _check_layout(name, xp, arrays[name])
    return found


def _described(name: str, array: Array) -> Operand:
    """What an array is; what a chunked one is, by an empty one of its chunks'."""
    xp, chunk = _namespace(name, array), chunk_of(array)
    shape = array.shape if chunk is array else tuple([_known(name, size) for size in array.shape])
    return Operand(name, xp, shape, array.dtype, _place(chunk), chunk is not array)


def _known(name: str, size: Any) -> int:
    """A size; that of chunks which depend on elements is NaN."""
    if size != size:
        raise ValueError(
            f"{name} must have chunks of known sizes, got an unknown one: call {name}.compute_chunk_sizes()"
        )
    return int(size)


def chunk_of(array: Array) -> Array:
    """An array like those that a chunked one is made of; any other itself."""
    return array._meta if row_of(array).chunked else array


def arrays(*values: Any) -> tuple[Array, ...]:
    """Values as arrays: numbers and sequences of them become such of the first one's library and device, or NumPy's.

    Subclasses of NumPy's arrays become plain ones, without a mask.
    """
    if all([type(value) in _NAMESPACES for value in values]):  # noqa: C419 - a generator takes as long as the rest
        return values
    return _as_arrays(values)


@loading
def _as_arrays(values: tuple[Any, ...]) -> tuple[Array, ...]:
    import numpy as np
    from array_api_compat import is_array_api_obj

    values = tuple([np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else value for value in values])
    for value in values:
        if row_of(value) is UNKNOWN and row_of(getattr(value, "data", None)).chunked:  # tensors may not be asked
            kind = type(value).__name__
            raise TypeError(
                f"an array must not be wrapped, got {kind} of chunks, all of them to be computed: pass its .data"
            )
    first = next((value for value in values if is_array_api_obj(value)), None)
    if first is None:
        return tuple([np.asarray(value) for value in values])
    xp, place = _namespace("input", first), device(chunk_of(first))
    return tuple([value if is_array_api_obj(value) else _array_of(xp, value, place) for value in values])


def _array_of(xp: Namespace, value: Any, place: Any) -> Array:
    """Numbers as an array: fractions in double precision where there is one, as NumPy's are."""
    try:
        found = xp.asarray(value, device=place)
        wide = {xp.float32: xp.float64, xp.complex64: xp.complex128} if has_float64(xp, place) else {}
        return xp.asarray(value, dtype=wide.get(found.dtype, found.dtype), device=place)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"operands must be arrays, numbers, or numbers in rows of one length, {got(value)}") from error


def namespace_and_dtype(**arrays: Array) -> tuple[Namespace, DType]:
    """The one namespace of the named arrays, and the dtype that they promote to."""
    return common_namespace_and_dtype(described(**arrays))


def common_namespace(**arrays: Array) -> Namespace:
    """The one namespace of the named arrays, whose dtypes need not promote to one."""
    return _checked_namespace(described(**arrays))


def namespace_of_numbers(operands: Sequence[Operand]) -> Namespace:
    """The one namespace of operands on one device, of which some may be bool."""
    xp = operands[0].xp
    return _checked_namespace([one._replace(dtype=xp.int8) if one.dtype == xp.bool else one for one in operands])


def namespace_of(**arrays: Array) -> Namespace:
    """The one namespace of the named arrays, which may be of any dtypes."""
    return one_namespace(described(**arrays))


def common_namespace_and_dtype(operands: Sequence[Operand]) -> tuple[Namespace, DType]:
    """The one namespace of operands on one device, and the dtype that they promote to: in the machine's byte order.

    Results take it from here, and not from an operand, whose bytes NumPy may have in the other order.
    """
    xp = _checked_namespace(operands)
    try:
        return xp, xp.result_type(*(operand.dtype for operand in operands))
    except Exception as error:
        dtypes = ", ".join(f"{operand.name} of {operand.dtype}" for operand in operands)
        raise TypeError(f"all arrays must have dtypes that promote to one, got {dtypes}") from error


def promoted(xp: Namespace, *dtypes: DType) -> DType:
    """The dtype that all promote to, bool and mixed kinds as well, which the standard leaves open."""
    try:
        return xp.result_type(*dtypes)
    except (TypeError, RuntimeError):  # of the strict namespace, and of PyTorch for unsigned integers
        numbers = [dtype for dtype in dtypes if dtype != xp.bool]
        if is_kind(xp, numbers[0], "integral") and len(numbers) == 1:
            return numbers[0]
        return xp.result_type(*[floating(xp, dtype) for dtype in numbers])


def floating(xp: Namespace, dtype: DType) -> DType:
    """That of the floating-point numbers which hold those of an integer's dtype, as NumPy promotes it with float32."""
    if not is_kind(xp, dtype, ("bool", "integral")):
        return dtype
    short = dtype == xp.bool or xp.iinfo(dtype).bits <= 16
    return xp.result_type(xp.float32 if short else xp.float64)  # which JAX may not have switched on


def check_numeric(name: str, xp: Namespace, dtype: DType) -> None:
    """What is not a number cannot be convolved, nor what a library packs several of into a byte."""
    try:
        bits = bits_of(xp, dtype)
    except Exception as error:
        hint = f": {library(xp)}.{dtype} is one" if isinstance(dtype, str) and hasattr(xp, dtype) else ""
        raise TypeError(f"{name} must be a dtype that {library(xp)} computes with, {got(dtype)}{hint}") from error
    if bits == 0:
        hint = ": None is no array, nor are rows of several lengths" if str(dtype) == "object" else ""
        raise TypeError(f"{name} must have an integer, real or complex dtype, got {dtype}{hint}")
    if bits < SMALLEST:
        raise TypeError(f"{name} must have a dtype of at least {SMALLEST} bits, got {dtype}")


def namespace_of_library(xp: Namespace) -> Namespace:
    """The namespace that arrays of a library have here: PyTorch's own module lacks a part of the standard."""
    if not hasattr(xp, "empty"):
        raise TypeError(f"xp must be the namespace of an array library, {got(xp)}")
    return _namespace("xp", xp.empty(0))


@functools.lru_cache(maxsize=1024)
def working_dtype(xp: Namespace, dtype: DType) -> DType:
    """The dtype to compute in.

    Sums of float16 and bfloat16 lose too much, so float32 carries them. Modulo 2**bits, sums and products of unsigned
    integers are those of signed ones, which every library has in all sizes.
    """
    if is_kind(xp, dtype, "real floating") and xp.finfo(dtype).bits < 32:
        return xp.float32
    if is_kind(xp, dtype, "complex floating") and xp.finfo(dtype).bits < 32:
        return xp.complex64
    if is_kind(xp, dtype, "unsigned integer"):
        return getattr(xp, f"int{xp.iinfo(dtype).bits}")
    return dtype


def dtypes_of_sums(xp: Namespace, dtype: DType) -> tuple[DType, ...]:
    """The dtypes that one which is computed in may be replaced by, itself the last.

    Of integers that can be looked at, those of floating-point numbers, where they hold all sums.
    """
    looks = traits(xp).threads and is_kind(xp, dtype, "integral")
    return (xp.float32, xp.float64, dtype) if looks else (dtype,)


def planned_dtype(xp: Namespace, dtype: DType) -> DType:
    """That of them which most sums are computed in: no plan depends on elements."""
    return dtypes_of_sums(xp, dtype)[:2][-1]


def number(name: str, value: Any) -> Any:
    """A number, or the one that an array holds."""
    value = plain_number(value)
    if isinstance(value, int | float | complex):
        return value
    (array,) = arrays(value)
    check_numeric(name, _namespace(name, array), array.dtype)
    if math.prod(array.shape) != 1:
        raise ValueError(f"`{name}` must be scalar or an array with one element, got shape {tuple(array.shape)}")
    found = a_number(name, _namespace(name, array).reshape(array, ()), complex)
    return found if found.imag else found.real


def as_element(name: str, xp: Namespace, value: Any, dtype: DType) -> Any:
    """A number as one of a dtype; fractions are cut off for integers."""
    if is_kind(xp, dtype, "complex floating"):
        return value
    if isinstance(value, complex):
        raise ValueError(f"could not cast `{name}` directly to the output type {dtype}, got {value}")
    if is_kind(xp, dtype, "integral"):
        if not (math.isfinite(value) and xp.iinfo(dtype).min <= int(value) <= xp.iinfo(dtype).max):
            raise ValueError(f"could not cast `{name}` directly to the output type {dtype}, got {value}")
        return int(value)
    return value


def filter_dtype(xp: Namespace, *dtypes: DType) -> DType:
    """The dtype that filters compute in, as SciPy's: double precision, but for single precision all over.

    Where a library has no double precision now, as JAX by default, it is single.
    """
    is_single, is_complex = _precision(xp, dtypes)
    if is_single or not _has_doubles(xp):
        return xp.complex64 if is_complex else xp.float32
    return xp.complex128 if is_complex else xp.float64


@functools.lru_cache(maxsize=1024)
def _precision(xp: Namespace, dtypes: tuple[DType, ...]) -> tuple[bool, bool]:
    """Whether all are of single precision, or half, and whether one is complex."""
    kinds = ("real floating", "complex floating")
    is_single = all([is_kind(xp, dtype, kinds) and bits_of(xp, dtype) <= 32 for dtype in dtypes])  # noqa: C419
    return is_single, any([is_kind(xp, dtype, "complex floating") for dtype in dtypes])  # noqa: C419


def complex_dtype(xp: Namespace, dtype: DType) -> DType:
    """The complex dtype that numbers and complex ones of single precision promote to in NumPy."""
    if is_kind(xp, dtype, "complex floating"):
        return xp.result_type(dtype)
    short = is_kind(xp, dtype, "bool") or bits_of(xp, dtype) <= (16 if is_kind(xp, dtype, "integral") else 32)
    return xp.complex64 if short or not _has_doubles(xp) else xp.complex128


def _has_doubles(xp: Namespace) -> bool:
    return traits(xp).threads or has_float64(xp, None)


PLAIN = {int: "integral", float: "real floating", complex: "complex floating"}


def named_dtype(xp: Namespace, value: Any) -> DType:
    """A dtype of the library: one of its own, or what NumPy knows under that name, as "int16".

    ``int`` and ``float`` are of 64 bits, or what the library has in their place now.
    """
    import numpy as np

    found = value
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        if value in PLAIN and not _has_doubles(xp):
            return xp.__array_namespace_info__().default_dtypes()[PLAIN[value]]
        dtype = np.dtype(value)
        if dtype.kind not in "OSUMm":  # whose names are words of NumPy's for something else
            found = getattr(xp, dtype.name) if dtype.isnative or not traits(xp).threads else dtype
    with contextlib.suppress(Exception):
        if not isinstance(value, np.generic) and is_kind(xp, found, ("bool", "numeric")):
            return found
    raise TypeError(f"output must be a dtype of numbers, or its name, of {library(xp)}'s, {got(value)}")


def check_floating(method: str, xp: Namespace, dtype: DType) -> None:
    """What computes with fractions or roots of unity cannot be exact for integers."""
    if is_kind(xp, dtype, "integral"):
        raise ValueError(f"method {method!r} must have floating-point arrays, got integers, computed as {dtype}")


def axis_error(message: str) -> Exception:
    """What NumPy and SciPy raise of an axis that an array has not: a ValueError and an IndexError, of all libraries."""
    from numpy.exceptions import AxisError

    return AxisError(message)


def plain_number(value: Any) -> Any:
    """A scalar of NumPy's as the number of Python's own that it is; anything else as it is."""
    return value.item() if isinstance(value, Number) and hasattr(value, "item") else value


def _namespace(name: str, array: Array) -> Namespace:
    """The namespace of a named array, or of its chunks, which is that of all of its type."""
    chunk = chunk_of(array)
    return _NAMESPACES.get(type(chunk)) or _found_namespace(name, chunk)


@loading
def _found_namespace(name: str, array: Array) -> Namespace:
    from array_api_compat import array_namespace, is_array_api_obj  # a fifth of what importing xconv would take

    if not is_array_api_obj(array):
        hint = f": pass {name}.data" if is_array_api_obj(getattr(array, "data", None)) else ""
        hint = f": pass {name}.toarray()" if hasattr(array, "toarray") else hint  # of scipy.sparse
        raise TypeError(f"{name} must be an array, got {type(array).__name__}{hint}")
    if hasattr(array, "mask") or hasattr(array, "get_mask"):  # which the sums would not see
        raise TypeError(f"{name} must be an array without a mask, got {type(array).__name__}")
    xp = array_namespace(array)
    if library(xp) == "numpy":  # which follows the standard by itself: a wrapper takes longer than a small array needs
        import numpy as xp
    if traits(xp).refused:
        raise TypeError(f"{name} must be of another library than {library(xp)}: {traits(xp).refused}")
    (_NAMESPACES if isinstance(device(array), Hashable) else _WORDED)[type(array)] = xp
    return xp


def _check_layout(name: str, xp: Namespace, array: Array) -> None:
    """Sparse and nested tensors are of PyTorch's one type, too."""
    if traits(xp).layouts and (array.is_nested or str(array.layout) != "torch.strided"):
        layout = "nested" if array.is_nested else array.layout
        raise TypeError(f"{name} must be a dense tensor, whose layout is torch.strided, got {layout}")


@functools.lru_cache(maxsize=1024)
def bits_of(xp: Namespace, dtype: DType) -> int:
    """Those of a number, or of each of the two that a complex one is; 0 for what is none."""
    if not is_kind(xp, dtype, "numeric"):
        return 0
    info = (xp.iinfo if is_kind(xp, dtype, "integral") else xp.finfo)(dtype)
    return int(info.bits) if info.min <= 0 < info.max else 0  # float8_e8m0fnu has no zero, and pairs of 4 bits no least


def item_size(xp: Namespace, dtype: DType) -> int:
    """Bytes of an element in memory."""
    return bits_of(xp, dtype) // 8 * (2 if is_kind(xp, dtype, "complex floating") else 1)


def _place(array: Array) -> Any:
    """Where an array is, as part of what calls are remembered by; in words, where a device has no hash."""
    place = mesh(array) or getattr(array, "device", None)
    return place if isinstance(place, Hashable) else str(place)


def _checked_namespace(operands: Sequence[Operand]) -> Namespace:
    xp = one_namespace(operands)
    for operand in operands:
        check_numeric(operand.name, xp, operand.dtype)
    return xp


def one_namespace(operands: Sequence[Operand]) -> Namespace:
    """The one namespace of operands of any dtypes, on one device."""
    xp = operands[0].xp
    if any(operand.xp is not xp for operand in operands):
        libraries = ", ".join(f"{one.name} from {'chunks of ' * one.is_chunked}{library(one.xp)}" for one in operands)
        likely = [operand for operand in operands if operand.is_chunked or library(operand.xp) != "numpy"]
        other = max(likely, key=lambda operand: operand.is_chunked)  # chunks are many, and may be larger than memory
        name = next(operand.name for operand in operands if operand.xp is not other.xp)
        convert = f"{other.xp.__name__.removeprefix('array_api_compat.')}.asarray({name})"
        raise TypeError(f"all arrays must come from one library, got {libraries}: pass {convert}")
    if not traits(xp).traced and len({operand.device for operand in operands}) > 1:  # JAX places arrays itself
        places = ", ".join(f"{operand.name} on {operand.device}" for operand in operands)
        raise ValueError(f"all arrays must be on one device, got {places}")
    return xp
