"""SciPy's own tests of its convolutions and of upfirdn, with those of xconv.signal in their place."""

from __future__ import annotations

import pytest
import scipy_suite

FILES = ["signal/tests/test_signaltools.py", "signal/tests/test_upfirdn.py"]  # of one process: a library loads once
CHOSEN = "onvolve or orrelate or FreqConv or test_upfirdn"
LISTED: dict[str, str] = {}  # nothing is

# Under JAX each of these compiles anew, for minutes in all; what they compare is drawn in tests/test_signal.py. Of the
# two that have all dtypes double precision is enough: neither modes nor lengths depend on it.
SLOWLY = f"({CHOSEN}) and not vs_naive and not ((test_modes or test_vs_convolve) and (float32 or complex64))"


@pytest.mark.on("numpy", "strict", "jax", "torch")
def test_scipys_tests_of_its_convolutions(backend, record_property, tmp_path):
    chosen = SLOWLY if backend.name == "jax" else CHOSEN
    outcomes = scipy_suite.check(FILES, backend.name, tmp_path, LISTED, record_property, chosen)
    assert scipy_suite.passed(outcomes) > (200 if backend.name == "jax" else 1480)
