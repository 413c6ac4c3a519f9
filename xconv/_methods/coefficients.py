"""The matrices of Winograd's F(m, k) as exact fractions, by polynomials evaluated at points (Cook and Toom)."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import TypeAlias

from .._plan.geometry import Ints

Matrix: TypeAlias = tuple[tuple[Fraction, ...], ...]

# Polynomials are evaluated at the first m + k - 2 of these and at infinity; this choice has the smallest errors.
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))


def exact_matrix(name: str, unit: Ints, kernel_size: Ints) -> Matrix:
    """A's transpose, B or G for all the axes at once."""
    matrix_of = {"A": lambda m, k: _powers(m + k - 1, m), "B": _input_matrix, "G": _weight_matrix}[name]
    return functools.reduce(_kronecker, [matrix_of(m, k) for m, k in zip(unit, kernel_size, strict=True)])


def _weight_matrix(m: int, k: int) -> Matrix:
    """G: a filter's polynomial at each point, divided by what `_input_matrix` leaves out."""
    finite = POINTS[: m + k - 2]
    norms = [math.prod(a - b for b in finite if b != a) for a in finite] + [Fraction(1)]
    return tuple(tuple(power / norm for power in row) for row, norm in zip(_powers(m + k - 1, k), norms, strict=True))


def _input_matrix(m: int, k: int) -> Matrix:
    """B: for each point the coefficients of the polynomial that vanishes at the other finite points."""
    finite = POINTS[: m + k - 2]
    rows = [_with_roots([b for b in finite if b != a]) for a in (*finite, None)]
    return tuple(row + (Fraction(0),) * (m + k - 1 - len(row)) for row in rows)


def _powers(points: int, count: int) -> Matrix:
    finite = tuple(tuple(a**i for i in range(count)) for a in POINTS[: points - 1])
    return (*finite, (Fraction(0),) * (count - 1) + (Fraction(1),))


def _with_roots(roots: list[Fraction]) -> tuple[Fraction, ...]:
    """The coefficients of prod(x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return tuple(coefficients)


def _kronecker(left: Matrix, right: Matrix) -> Matrix:
    return tuple(tuple(a * b for a in row for b in other) for row in left for other in right)
