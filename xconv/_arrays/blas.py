"""The BLAS libraries of this process, which multiply NumPy's matrices."""

from __future__ import annotations

import functools
from typing import Any

from .._plan.remembered import loading

# OpenBLAS's cores whose kernels read the factors of small products where they lie: its SMALL_MATRIX_OPT, of AVX-512.
SMALL_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")


@functools.cache
@loading
def blas_libraries() -> tuple[list[Any], list[Any]]:
    """Those of other libraries, and NumPy's: all count as NumPy's where no path names it, for then they share one.

    Looking for them takes half a millisecond, so it is done once.
    """
    from threadpoolctl import ThreadpoolController

    found = list(ThreadpoolController().select(user_api="blas").lib_controllers)
    numpys = [library for library in found if "numpy" in library.filepath] or found
    return [library for library in found if library not in numpys], numpys


@functools.cache
def reads_small_factors() -> bool:
    """Whether NumPy's copies no factors of small products before it multiplies them."""
    return any([getattr(library, "architecture", None) in SMALL_KERNELS for library in blas_libraries()[1]])  # noqa: C419
