"""The matrix product that everything runs on.

Libraries multiply integer matrices slowly, some not at all on a GPU, and floating-point ones at the full rate. Sums of
integers below 2**53 are exact in float64, so integer factors are cut into limbs short enough for that.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import NamedTuple

from .._plan.blocks import equal, pieces
from .._plan.geometry import is_symbol
from .blas import reads_small_factors
from .elements import conjugate, copied, has_runs, reshaped, transposed
from .libraries import Array, DType, Namespace, device, has_float64, is_kind, traits
from .scratch import is_making_again, made, making_again, scratch

FLOAT64_INTEGER_BITS = 53
LONG_SUM = 2**20
LONGEST_SUM = 2**40  # of a length that is a symbol: no array is as long
ALONE = 500  # results of a product up to which NumPy lets no other thread run until it is done
PIECE = 2**9  # terms of a sum that are worth a product of their own
MULTIPLIED = 2**20  # bytes of products that are added up at once: half of what a core has in its own cache
SMALL = 100**3  # multiplications up to which OpenBLAS has kernels that read factors as they lie: its limit, for AVX-512
FEWEST_COLUMNS = 96  # of a product, with fewer of which several take longer than one that copies
RESULTS = 1200  # of a product with a right factor that is transposed, up to which there are such kernels: its limit
MOST_ROWS = 48  # of such a product: of more, kernels for large ones are as fast, on two threads,
FEW_RESULTS = 2 * RESULTS  # but where results are so few that they take two pieces
GATHERED = 2**13  # elements of a matrix up to which copying a stack at once is faster: of 2**14 copies stay in a cache
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

    With a place, which is NumPy's, it is written there, which may be where single numbers are multiplied with.
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
    if place is not None and left.shape[-1] == 1:
        return xp.multiply(left, right, out=place)
    if place is None and _are_tiny(xp, left, right):
        return _outer_products(xp, left, right)
    columns = _columns(left, right) if reads_small(xp, left.dtype) else 0
    if columns:
        return _by_columns(xp, left, right, columns, place)
    if place is not None:
        return xp.matmul(left, right, out=place)
    pieces = _pieces(left, right) if traits(xp).threads and left.shape[-1] >= 2 * PIECE else 1
    return _product(xp, left, right) if pieces == 1 else _sum_of_pieces(xp, left, right, pieces)


def outer_matmul(xp: Namespace, left: Array, right: Array, stacked: int) -> Array:
    """left (..., K, p) @ right (..., q, p)^H, a sum over positions, and over the first axes of a stack of products."""
    if stacked == 0:
        return _outer_stack(xp, left, right)
    with making_again(1, goes_on=True):  # of what is made of outputs
        products = _outer_stack(xp, left, right)
    return xp.sum(products, axis=tuple(range(stacked)), dtype=products.dtype)


def _outer_stack(xp: Namespace, left: Array, right: Array) -> Array:
    (rows, count), columns, right = left.shape[-2:], right.shape[-2], transposed(xp, conjugate(xp, right))
    if traits(xp).threads and not has_runs(left):  # BLAS has no kernels for such small products
        left = copied(xp, left)
    if not reads_small(xp, left.dtype) or (rows * columns <= RESULTS and rows * columns * count <= SMALL):
        return matmul(xp, left, right)
    stack = xp.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    if not has_outer_kernels(rows, columns, count, math.prod(stack)):
        return matmul(xp, left, right)
    width, length = equal(columns, RESULTS // rows), equal(count, SMALL // RESULTS)
    total = made(xp, (*stack, rows, columns), left.dtype)
    first, *others = pieces(count, length)
    for some in pieces(columns, width):
        place = total[..., some]
        xp.matmul(left[..., first], right[..., first, some], out=place)
        for piece in others:
            place += xp.matmul(left[..., piece], right[..., piece, some])
    return total


def reads_small(xp: Namespace, dtype: DType) -> bool:
    """Whether BLAS multiplies small matrices as they lie, which it has no kernels for if they are complex."""
    return traits(xp).threads and is_kind(xp, dtype, "real floating") and reads_small_factors()


def has_outer_kernels(rows: int, columns: int, count: int, stack: int) -> bool:
    """Whether BLAS reads both factors of a sum over so many positions as they lie, in pieces if they are large.

    Plans say so of every processor: those without such kernels take longer.
    """
    results = rows * columns
    is_alone = not is_symbol(stack) and results * stack <= ALONE and results * count > SMALL
    return rows <= count // 2 and (rows <= MOST_ROWS or results <= FEW_RESULTS) and not is_alone


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
    """The sum over s of left (*s, G, K, q) @ right (f, *s, G, q, p) -> (f, G, K, p), of NumPy's arrays.

    It is done in pieces of G and p, in few operations on all of s: between two a thread may have to wait for another.
    In memory the result is (G, p, f, K).
    """
    stack, (groups, filters, _), n = left.shape[:-3], left.shape[-3:], left.ndim - 3
    copies, count = right.shape[0], right.shape[-1]
    left, right = left[(*(slice(None),) * n, None)], xp.moveaxis(right, 0, -4)
    result = xp.empty((groups, count, copies, filters), dtype=right.dtype)
    order = (*range(n), n + 2, n, n + 1, n + 3)
    length = max(MULTIPLIED // (result.itemsize * math.prod(stack) * copies * filters), 1)
    with xp.errstate(invalid="ignore", over="ignore"):  # of what lies between the windows
        for some in pieces(groups, max(length // count, 1)):
            for piece in pieces(count, length):
                place = result[some, piece]
                products = scratch(xp, (*stack, *place.shape), place.dtype)
                factors = right[..., some, :, piece], left[..., some, :, :]
                xp.matmul(*map(xp.matrix_transpose, factors), out=xp.permute_dims(products, order))
                xp.add.reduce(reshaped(xp, products, (-1, *place.shape)), axis=0, out=place)
    return xp.permute_dims(result, (2, 0, 3, 1))


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


def made_matmul(xp: Namespace, left: Array, right: Array) -> Array:
    """``xp.matmul``, on NumPy in memory that is `made`; of one column and one row as numbers that are multiplied."""
    is_outer = left.shape[-1] == 1
    multiply = xp.multiply if is_outer else xp.matmul
    if not (traits(xp).threads and is_making_again()):
        return multiply(left, right)
    shape = (*xp.broadcast_shapes(left.shape[:-2], right.shape[:-2]), left.shape[-2], right.shape[-1])
    out = _made_like(xp, shape, left, right) if is_outer else made(xp, shape, right.dtype, rows=1)
    return multiply(left, right, out=out)


def _made_like(xp: Namespace, shape: tuple[int, ...], left: Array, right: Array) -> Array:
    """Memory of products of numbers, in the order of that of the factors: of spectra frequencies lie last there."""

    def stride(axis: int) -> int:
        """Along an axis, counted from the end; 0 along those of one number."""
        there = [one for one in (left, right) if -axis <= one.ndim and one.shape[axis] > 1]
        return max([abs(one.strides[axis]) for one in there], default=0)

    order = sorted(range(-len(shape), 0), key=stride, reverse=True)
    found = made(xp, tuple([shape[axis] for axis in order]), right.dtype)
    return xp.permute_dims(found, [order.index(axis) for axis in range(-len(shape), 0)])


def _product(xp: Namespace, left: Array, right: Array) -> Array:
    """``xp.matmul``; two stacks of one matrix as matrices, which CuPy reads transposed, but copies a stack of them."""
    if traits(xp).gathers:
        left, right = _in_runs(xp, left), _in_runs(xp, right)
    if not traits(xp).kernels or math.prod(left.shape[:-2]) * math.prod(right.shape[:-2]) > 1:
        return made_matmul(xp, left, right)
    stack = max(left.shape[:-2], right.shape[:-2], key=len)
    left, right = (reshaped(xp, factor, factor.shape[-2:]) for factor in (left, right))
    return reshaped(xp, xp.matmul(left, right), (*stack, left.shape[-2], right.shape[-1]))


def _in_runs(xp: Namespace, stack: Array) -> Array:
    """Small matrices of PyTorch's, copied at once if it would copy each: their rows or columns overlap or have gaps."""
    (rows, columns), (down, across) = stack.shape[-2:], stack.stride()[-2:]
    if any(map(is_symbol, (rows, columns, down, across))) or rows * columns > GATHERED:
        return stack
    is_read = (across == 1 and down >= columns) or (down == 1 and across >= rows)
    return stack if is_read else reshaped(xp, reshaped(xp, stack, (-1,)), stack.shape)


def _columns(left: Array, right: Array) -> int:
    """How many columns products have that OpenBLAS multiplies as they lie, without a copy first; 0 for all, or none."""
    size, columns = left.shape[-2] * left.shape[-1], right.shape[-1]
    most = SMALL // max(size, 1)
    return equal(columns, most) if FEWEST_COLUMNS <= most < columns else 0


def _by_columns(xp: Namespace, left: Array, right: Array, columns: int, place: Array | None) -> Array:
    """The product, some columns after others."""
    if place is None:
        stack = xp.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        place = made(xp, (*stack, left.shape[-2], right.shape[-1]), right.dtype)
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
    total = made_matmul(xp, left[..., :1], right[..., :1, :])
    others = (left[..., i : i + 1] * right[..., i : i + 1, :] for i in range(1, left.shape[-1]))
    return functools.reduce(operator.iadd if traits(xp).plain_memory else operator.add, others, total)


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
