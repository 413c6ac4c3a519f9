"""SciPy's own tests of its filters, with those of xconv.ndimage in their place."""

from __future__ import annotations

import pytest
import scipy_suite

FILES = ["ndimage/tests/test_filters.py"]
LEAVE_OUT = "not rank and not median and not percentile and not Vectorized"  # what is of other filters, and takes long
LISTED = {
    "test_gaussian_filter_float16*": (
        "half precision is no error here: sums are carried in single precision",
        ("numpy", "jax", "torch"),
    ),
}


# JAX compiles every operation for every shape and dtype: half of them do there.
ONE_PRECISION = "not (correlate_convolve_axes and (float32 or complex64))"  # of 240 tests by axes, dtype and origin
SLOWLY = f"{LEAVE_OUT} and {ONE_PRECISION} and not int16 and not int32 and not uint16 and not uint32 and not extend"


@pytest.mark.on("numpy", "strict", "jax", "torch")
def test_scipys_tests_of_its_filters(backend, record_property, tmp_path):
    leave_out = SLOWLY if backend.name == "jax" else LEAVE_OUT
    outcomes = scipy_suite.check(FILES, backend.name, tmp_path, LISTED, record_property, leave_out)
    assert scipy_suite.passed(outcomes) > (400 if backend.name == "jax" else 1200)
