"""README: its example on every library it names, and its promises about itself."""

from __future__ import annotations

import ast
import doctest
import pathlib

import pytest
from conftest import loaded_or_skip

README = pathlib.Path(__file__).parents[1] / "README.md"
IMPORTS = {"numpy": "numpy", "cupy": "cupy", "jax": "jax.numpy", "torch": "torch"}

# Each row of the table of libraries, and the test that backs what it says about xconv.
COMPARISON = {
    "spatial axes, with batch and channels": "test_forward_equals_the_loops_s1",
    "groups, depthwise included": "test_gradients_equal_the_loops_s5",
    "stride and dilation together": "test_drawn_convolutions_equal_the_loops",
    "asymmetric padding": "test_drawn_convolutions_equal_the_loops",
    '"same" with a stride': "test_forward_equals_the_loops_s1",
    "reflect, symmetric, replicate, circular padding": "test_forward_equals_the_loops_s1",
    "transposed convolution, the adjoint in every padding mode": "test_conv_transpose_is_the_adjoint_of_conv",
    "gradients as functions": "test_single_gradients_equal_the_loops",
    "im2col and its adjoint": "test_windows_of_every_dtype",
    "integers": "test_integers_wrap_as_the_dtype_does",
    "complex, gradients conjugated": "test_complex_gradients_are_the_adjoint",
    "half precision summed in float32": "test_a_long_sum_keeps_what_half_precision_would_lose",
    "flipped filters": "test_conv_is_correlation_and_flip_makes_it_convolution_s8",
    "ceil_mode, dilation and asymmetric padding in pools": "test_drawn_pools_equal_the_loops",
    "arrays it takes": "test_results_share_the_inputs_library_and_device",
}


def first_example():
    """The first python block of the README."""
    return README.read_text().split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("name", IMPORTS)
def test_first_example_runs_on_every_library_it_names(name, request):
    loaded_or_skip(name, request)
    example = first_example()
    assert f"import {IMPORTS[name]} as xp" in example
    code = example.replace("import numpy as xp", f"import {IMPORTS[name]} as xp", 1)
    test = doctest.DocTestParser().get_doctest(code, {}, f"README on {name}", str(README), 0)
    outcome = doctest.DocTestRunner().run(test)
    assert outcome.attempted >= 10
    assert outcome.failed == 0


def test_example_has_at_most_15_lines():
    assert len(first_example().strip().splitlines()) <= 15


def test_every_row_of_the_comparison_has_its_test():
    table = README.read_text().split("## Beside other libraries")[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]
    assert rows == list(COMPARISON)
    tests = {
        node.name
        for path in pathlib.Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert set(COMPARISON.values()) <= tests


def test_the_number_of_onnx_cases_is_the_one_that_passes():
    from test_onnx import ADAPTERS, COUNTS, OUT_OF_SCOPE

    passing = sum(COUNTS[operator] for operator in ADAPTERS) - sum(name.startswith("test_") for name in OUT_OF_SCOPE)
    assert f"passes the {passing} node cases" in README.read_text()
