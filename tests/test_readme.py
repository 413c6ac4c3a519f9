"""README: its example on every library it names, and its promises about itself."""

from __future__ import annotations

import doctest
import pathlib

import pytest
from conftest import loaded_or_skip

README = pathlib.Path(__file__).parents[1] / "README.md"
IMPORTS = {"numpy": "numpy", "cupy": "cupy", "jax": "jax.numpy", "torch": "torch"}


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
