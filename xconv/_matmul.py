"""The matrix product that everything runs on.

Libraries multiply integer matrices slowly, some not at all on a GPU, and floating-point ones at the full rate. Sums of
integers below 2**53 are exact in float64, so integer factors are cut into limbs short enough for that.
"""

from __future__ import annotations

from array_api_compat import device

from ._arrays import Array, Namespace

FLOAT64_INTEGER_BITS = 53


def matmul(xp: Namespace, left: Array, right: Array) -> Array:
    """The product of two stacks of matrices of one dtype; signed integers modulo 2**bits, as all their arithmetic."""
    if not xp.isdtype(left.dtype, "signed integer") or not _has_float64(xp, left):
        return xp.matmul(left, right)
    bits = xp.iinfo(left.dtype).bits
    length = max(left.shape[-1], 1)
    width = (FLOAT64_INTEGER_BITS - (length - 1).bit_length()) // 2
    products = [
        xp.astype(xp.matmul(a, b), xp.int64) << shift_a + shift_b
        for shift_a, a in _limbs(xp, left, bits, width)
        for shift_b, b in _limbs(xp, right, bits, width)
        if shift_a + shift_b < bits  # higher ones vanish modulo 2**bits
    ]
    return xp.astype(sum(products[1:], products[0]), left.dtype, copy=False)


def _limbs(xp: Namespace, array: Array, bits: int, width: int) -> list[tuple[int, Array]]:
    """(shift, limb) with array = sum of limb * 2**shift, |limb| < 2**width, in float64."""
    limbs = []
    for shift in range(0, bits, width):
        limb = array >> shift if shift else array
        if shift + width < bits:  # all but the highest, which has the sign
            limb = xp.astype(limb, xp.int64, copy=False) & ((1 << width) - 1)
        limbs.append((shift, xp.astype(limb, xp.float64)))
    return limbs


def _has_float64(xp: Namespace, array: Array) -> bool:
    """JAX has it only when switched on, and some accelerators never."""
    return "float64" in xp.__array_namespace_info__().dtypes(device=device(array), kind="real floating")
