"""SciPy's own tests of its convolutions and of upfirdn, with those of xconv.signal in their place.

On JAX, which compiles every operation for every shape and dtype, some of them are left out; with XCONV_SCIPY_ALL in the
environment none is.
"""

from __future__ import annotations

import os

import pytest
import scipy_suite

FILES = ["signal/tests/test_signaltools.py", "signal/tests/test_upfirdn.py"]  # of one process: a library loads once
CHOSEN = "onvolve or orrelate or FreqConv or test_upfirdn"
LISTED: dict[str, str] = {}  # nothing is
DIFFERENT = {
    "convolve: other *: TestConvolve::test_convolve_method*": "SciPy transforms what is of single precision in that, "
    "though the result is of double precision, and makes True of noise between bools",
}

# Under JAX each of these compiles anew, for minutes in all; what they compare is drawn in tests/test_signal.py. Of the
# two that have all dtypes double precision is enough: neither modes nor lengths depend on it.
SLOWLY = f"({CHOSEN}) and not vs_naive and not ((test_modes or test_vs_convolve) and (float32 or complex64))"


@pytest.mark.on("numpy", "strict", "jax", "torch")
def test_scipys_tests_of_its_convolutions(backend, record_property, tmp_path):
    is_part = backend.name == "jax" and scipy_suite.ALL not in os.environ
    chosen = SLOWLY if is_part else CHOSEN
    passed = scipy_suite.check(FILES, backend.name, tmp_path, LISTED, record_property, chosen, DIFFERENT)
    assert passed > (200 if is_part else 1480)
