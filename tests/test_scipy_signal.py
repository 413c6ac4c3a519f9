"""SciPy's own tests of its convolutions and of upfirdn, with those of xconv.signal in their place."""

from __future__ import annotations

import pytest
import scipy_suite

FILES = {
    "signal/tests/test_signaltools.py": "onvolve or orrelate or FreqConv",
    "signal/tests/test_upfirdn.py": "",
}
LEAST = {"signal/tests/test_signaltools.py": 1200, "signal/tests/test_upfirdn.py": 280}
LISTED: dict[str, str] = {}  # nothing is

# Under JAX each of these compiles anew, for minutes in all; what they compare is drawn in tests/test_signal.py.
SLOWLY = {"signal/tests/test_upfirdn.py": "not vs_naive"}


@pytest.mark.on("numpy", "strict", "jax", "torch")
@pytest.mark.parametrize("file", FILES)
def test_scipys_tests_of_its_convolutions(backend, file, record_property, tmp_path):
    chosen = SLOWLY.get(file, FILES[file]) if backend.name == "jax" else FILES[file]
    outcomes = scipy_suite.check([file], backend.name, tmp_path, LISTED, record_property, chosen)
    assert scipy_suite.passed(outcomes) > (100 if backend.name == "jax" else LEAST[file])
