"""The matrix product that everything runs on.

Libraries multiply integer matrices slowly, some not at all on a GPU, and floating-point ones at the full rate. Sums of
integers below 2**53 are exact in float64, so integer factors are cut into limbs short enough for that.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from .._plan.blocks import pieces
from .._plan.geometry import is_symbol
from .elements import reshaped
from .libraries import Array, DType, Namespace, device, has_float64, is_kind, traits
from .scratch import scratch

FLOAT64_INTEGER_BITS = 53
LONG_SUM = 2**20
LONGEST_SUM = 2**40  # of a length that is a symbol: no array is as long
ALONE = 500  # results of a product up to which NumPy lets no other thread run until it is done
PIECE = 2**9  # terms of a sum that are worth a product of their own
SUMMED = 2**22  # bytes of products by elements that are added up at once: between two such a thread may have to wait
MULTIPLIED = 2**20  # bytes of those of matrices, which take longer: half of what a core has in its own cache
SMALL = 100**3  # multiplications up to which OpenBLAS has kernels that read factors as they lie: its limit, for AVX-512
FEWEST_COLUMNS = 96  # of a product, with fewer of which several take longer than one that copies
TINY = 256  # multiplications of a product, in the time of which a library begins one of a stack


class Limbs(NamedTuple):
    """Integers in float64, as the sum of limb * 2**shift."""

    dtype: DType
    width: int  # bits of a limb
    parts: list[tuple[int, Array]]

    def each(self, function: Callable[[Array], Array]) -> Limbs:
        return self._replace(parts=[(shift, function(limb)) for shift, limb in self.parts])


def factor(xp: Namespace, matrices: Array) -> Array | Limbs:
    """The first factor of many products, brought into limbs once if it is of integers."""
    if not is_kind(xp, matrices.dtype, "signed integer") or not has_float64(xp, device(matrices)):
        return matrices
    return _limbs(xp, matrices, _limb_bits(max(matrices.shape[-2:]) or 1))


def matmul(xp: Namespace, left: Array | Limbs, right: Array, place: Array | None = None) -> Array:
    """The product of two stacks of matrices of one dtype; signed integers modulo 2**bits, as all their arithmetic.

    With a place, which is NumPy's, it is written there.
    """
    if isinstance(left, Limbs):
        product = _of_limbs(xp, left, right)
        if place is None:
            return product
        place[...] = product
        return place
    left, right = _forwards(xp, left), _forwards(xp, right)
    if is_kind(xp, left.dtype, "signed integer") and has_float64(xp, device(left)):
        return _of_limbs(xp, _limbs(xp, left, _limb_bits(left.shape[-1] or 1)), right)
    if place is None and _are_tiny(xp, left, right):
        return _outer_products(xp, left, right)
    is_real = traits(xp).threads and is_kind(xp, left.dtype, "real floating")  # complex numbers have no such kernels
    columns = _columns(left, right) if is_real else 0
    if columns:
        return _by_columns(xp, left, right, columns, place)
    if place is not None:
        return xp.matmul(left, right, out=place)
    pieces = _pieces(left, right) if traits(xp).threads and left.shape[-1] >= 2 * PIECE else 1
    return _product(xp, left, right) if pieces == 1 else _sum_of_pieces(xp, left, right, pieces)


def _of_limbs(xp: Namespace, left: Limbs, right: Array) -> Array:
    """The sum of the products of all limbs but those that vanish modulo 2**bits."""
    parts, bits = _limbs(xp, right, left.width).parts, xp.iinfo(left.dtype).bits
    products = (
        xp.astype(xp.matmul(a, b), xp.int64) << shift_a + shift_b
        for shift_a, a in left.parts
        for shift_b, b in parts
        if shift_a + shift_b < bits
    )
    total = functools.reduce(operator.iadd if traits(xp).plain_memory else operator.add, products)
    return xp.astype(total, left.dtype, copy=False)


def summed_matmul(xp: Namespace, left: Array, right: Array) -> Array:
    """The sum over s of left (*s, G, K, q) @ right (f, *s, G, q, p) -> (f, 1, ..., 1, G, K, p), of NumPy's arrays.

    It is done in pieces of G and p, in few operations on all of s: between two a thread may have to wait for another.
    """
    summed = _summed_elements if right.shape[-2] == 1 else _summed_matrices
    with xp.errstate(invalid="ignore", over="ignore"):  # of what lies between the windows
        return summed(xp, left, right)[(slice(None), *(None,) * (left.ndim - 3))]


def _summed_matrices(xp: Namespace, left: Array, right: Array) -> Array:
    """(f, G, K, p), in memory (G, p, f, K)."""
    stack, (groups, filters, _), n = left.shape[:-3], left.shape[-3:], left.ndim - 3
    copies, count = right.shape[0], right.shape[-1]
    left, right = left[(*(slice(None),) * n, None)], xp.moveaxis(right, 0, -4)
    result = xp.empty((groups, count, copies, filters), dtype=right.dtype)
    order = (*range(n), n + 2, n, n + 1, n + 3)
    length = max(MULTIPLIED // (result.itemsize * math.prod(stack) * copies * filters), 1)
    for some in pieces(groups, max(length // count, 1)):
        for piece in pieces(count, length):
            place = result[some, piece]
            products = scratch(xp, (*stack, *place.shape), place.dtype)
            factors = right[..., some, :, piece], left[..., some, :, :]
            xp.matmul(*map(xp.matrix_transpose, factors), out=xp.permute_dims(products, order))
            xp.add.reduce(reshaped(xp, products, (-1, *place.shape)), axis=0, out=place)
    return xp.permute_dims(result, (2, 0, 3, 1))


def _summed_elements(xp: Namespace, left: Array, right: Array) -> Array:
    """(1, G, K, p), all in one order."""
    groups, filters, count = left.shape[-3], left.shape[-2], right.shape[-1]
    terms = _terms(xp, left[..., 0], right[0, ..., 0, :])
    weights = xp.concat([reshaped(xp, w, (-1, groups, filters)) for w, *_ in terms])
    result = xp.empty((1, groups, filters, count), dtype=right.dtype)
    length = max(SUMMED // (result.itemsize * len(weights)), 1)
    for some in pieces(groups, max(length // count, 1)):
        for piece in pieces(count, length):
            place = result[0, some, :, piece]
            elements = scratch(xp, (len(weights), place.shape[0], place.shape[2]), place.dtype)
            start = 0
            for _, *factors, join in terms:
                first, *others = (x[..., some, piece] for x in factors)
                stop = start + math.prod(first.shape[:-2])
                target = reshaped(xp, elements[start:stop], first.shape)
                join(first, *others, out=target)
                start = stop
            xp.einsum("sgp,sgk->gkp", elements, weights[:, some], out=place)
    return result


def _copied(values: Array, *, out: Array) -> None:
    out[...] = values  # a copy, where xp.positive looks at every element


def _terms(xp: Namespace, left: Array, right: Array) -> list[tuple[Any, ...]]:
    """Weights, elements, and how these become one array: as they are, or in pairs if w lies along one axis only.

    In the order of SciPy's sums along an axis: of symmetric filters the middle, and then from the ends inwards.
    """
    axes = [axis for axis in range(left.ndim - 2) if left.shape[axis] > 1]
    if len(axes) != 1 or left.shape[axes[0]] % 2 == 0:
        return [(left, right, _copied)]
    opposite = xp.flip(left, axis=axes[0])
    join = xp.add if xp.all(left == opposite) else xp.subtract if xp.all(left == -opposite) else None
    if join is None:
        return [(left, right, _copied)]
    half = left.shape[axes[0]] // 2
    first, middle, last = (_along(axes[0], slice(*ends)) for ends in ((half,), (half, half + 1), (half + 1, None)))
    return [
        (left[middle], right[middle], _copied),
        (left[first], right[first], xp.flip(right[last], axis=axes[0]), join),
    ]


def _along(axis: int, part: slice) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, part)


def bytes_per_element(xp: Namespace, dtype: DType) -> int:
    """What an element of a factor takes while it is multiplied, with its limbs or its conjugate."""
    if is_kind(xp, dtype, "integral"):
        bits = int(xp.iinfo(dtype).bits)
        return bits // 4 - 8 * (-bits // _limb_bits(LONG_SUM))
    return int(xp.finfo(dtype).bits) // 8 * (4 if is_kind(xp, dtype, "complex floating") else 1)


def _forwards(xp: Namespace, matrices: Array) -> Array:
    """A copy of a view that runs backwards: BLAS takes none, and NumPy multiplies it by itself, slowly."""
    if traits(xp).plain_memory and min(matrices.strides) < 0:
        return xp.asarray(matrices, copy=True, order="C")
    return matrices


def _product(xp: Namespace, left: Array, right: Array) -> Array:
    """``xp.matmul``; two stacks of one matrix as matrices, which CuPy reads transposed, but copies a stack of them."""
    if not traits(xp).kernels or math.prod(left.shape[:-2]) * math.prod(right.shape[:-2]) > 1:
        return xp.matmul(left, right)
    stack = max(left.shape[:-2], right.shape[:-2], key=len)
    left, right = (reshaped(xp, factor, factor.shape[-2:]) for factor in (left, right))
    return reshaped(xp, xp.matmul(left, right), (*stack, left.shape[-2], right.shape[-1]))


def _columns(left: Array, right: Array) -> int:
    """How many columns products have that OpenBLAS multiplies as they lie, without a copy first; 0 for all, or none."""
    size, columns = left.shape[-2] * left.shape[-1], right.shape[-1]
    most = SMALL // max(size, 1)
    return -(-columns // -(-columns // most)) if FEWEST_COLUMNS <= most < columns else 0


def _by_columns(xp: Namespace, left: Array, right: Array, columns: int, place: Array | None) -> Array:
    """The product, some columns after others."""
    if place is None:
        stack = xp.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        place = xp.empty((*stack, left.shape[-2], right.shape[-1]), dtype=right.dtype)
    for piece in pieces(right.shape[-1], columns):
        xp.matmul(left, right[..., piece], out=place[..., piece])
    return place


def _are_tiny(xp: Namespace, left: Array, right: Array) -> bool:
    """Whether there are more matrices than multiplications for one, as at the frequencies of a transform."""
    matrices, inner = math.prod(left.shape[:-2]), left.shape[-1]
    multiplications = left.shape[-2] * inner * right.shape[-1]
    if is_symbol(matrices) or is_symbol(multiplications):
        return False
    return bool(inner == 1 or (0 < multiplications < min(matrices, TINY) and not traits(xp).kernels))


def _outer_products(xp: Namespace, left: Array, right: Array) -> Array:
    """The product as a sum of columns times rows, for stacks of many tiny matrices: few operations on long arrays."""
    products = (left[..., i : i + 1] * right[..., i : i + 1, :] for i in range(left.shape[-1]))
    return functools.reduce(operator.iadd if traits(xp).plain_memory else operator.add, products)


def _pieces(left: Array, right: Array) -> int:
    """Into how many equal pieces long sums are best cut for threads: such that a product has results enough."""
    terms, results = left.shape[-1], math.prod(right.shape[:-2]) * left.shape[-2] * right.shape[-1]
    least = ALONE // max(results, 1) + 1
    return next((pieces for pieces in range(least, min(2 * least, terms // PIECE) + 1) if terms % pieces == 0), 1)


def _sum_of_pieces(xp: Namespace, left: Array, right: Array, pieces: int) -> Array:
    """The product as a sum of products, of views."""
    terms = left.shape[-1] // pieces
    left = xp.reshape(left, (*left.shape[:-1], pieces, terms))
    right = xp.reshape(right, (*right.shape[:-2], pieces, terms, right.shape[-1]))
    products = xp.matmul(left.swapaxes(-3, -2), right)
    return xp.sum(products, axis=-3, dtype=products.dtype)


def _limb_bits(length: int) -> int:
    """How wide limbs may be for sums of so many products to be exact."""
    length = LONGEST_SUM if is_symbol(length) else length
    return (FLOAT64_INTEGER_BITS - (length - 1).bit_length()) // 2


def _limbs(xp: Namespace, array: Array, width: int) -> Limbs:
    """Limbs of less than 2**width, but for the sign of the highest."""
    bits, parts = xp.iinfo(array.dtype).bits, []
    for shift in range(0, bits, width):
        limb = array >> shift if shift else array
        if shift + width < bits:  # all but the highest, which has the sign
            limb = limb & ((1 << width) - 1)
        parts.append((shift, xp.astype(limb, xp.float64)))
    return Limbs(array.dtype, width, parts)
