"""SciPy's own tests of its filters, with those of xconv.ndimage in their place.

On JAX, which compiles every operation for every shape and dtype, some dtypes and one kind of call are left out; with
XCONV_SCIPY_ALL in the environment none is.
"""

from __future__ import annotations

import os

import pytest
import scipy_suite

FILES = ["ndimage/tests/test_filters.py"]
LEAVE_OUT = "not rank and not median and not percentile and not Vectorized"  # what is of other filters, and takes long
LAST_BITS = "values of hundreds are compared to 1e-6, less than their last bit in single precision, with SciPy's own"
LISTED = {
    "test_gaussian_filter_float16*": (
        "half precision is no error here: sums are carried in single precision",
        ("numpy", "jax", "torch"),
    ),
    "*test_gaussian_laplace0?*float32* alone)": LAST_BITS,
    "*test_gaussian_laplace0?*complex64* alone)": LAST_BITS,
    "test_multiple_modes_sequentially* (uniform_filter* alone)": "all bits are to be those of SciPy's running sums",
    "*test_generic_laplace01* (generic_laplace alone)": (
        "SciPy's gaussian_filter, which it calls then, knows no dtype of these libraries",
        ("strict", "torch"),
    ),
}


# JAX compiles every operation for every shape and dtype: half of them do there.
ONE_PRECISION = "not (correlate_convolve_axes and (float32 or complex64))"  # of 240 tests by axes, dtype and origin
SLOWLY = f"{LEAVE_OUT} and {ONE_PRECISION} and not int16 and not int32 and not uint16 and not uint32 and not extend"


@pytest.mark.on("numpy", "strict", "jax", "torch")
def test_scipys_tests_of_its_filters(backend, record_property, tmp_path):
    is_part = backend.name == "jax" and scipy_suite.ALL not in os.environ
    leave_out = SLOWLY if is_part else LEAVE_OUT
    passed = scipy_suite.check(FILES, backend.name, tmp_path, LISTED, record_property, leave_out)
    assert passed > (400 if is_part else 1200)
