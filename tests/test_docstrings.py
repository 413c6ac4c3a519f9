"""The docstrings of everything public: their sections, that they name every argument, and that their equations hold."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import xconv

MODULES = (xconv, xconv.ndimage, xconv.signal, xconv.testing)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
}
METHODS = {
    f"{label}.{name}": method
    for label, found in PUBLIC.items()
    if inspect.isclass(found)
    for name, method in vars(found).items()
    if inspect.isfunction(method) and not name.startswith("_")
}
INDEXED = r"``y\[m\] = (?:sum|max|min) over j of x\[([^]]*origin)\]"
DOORS = [name for name in xconv.ndimage.__all__ if re.search(INDEXED, getattr(xconv.ndimage, name).__doc__)]


def sections(found):
    """The text of each section by its title; what is before the first one by ''."""
    _, *parts = re.split(r"^([A-Z][A-Za-z ]+)\n-+\n", f"\n{inspect.getdoc(found)}", flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def arguments(found):
    return [name for name in inspect.signature(found).parameters if name != "self"]


def described(text):
    """The lines of a section that name something, and what they say of it."""
    lines = re.split(r"^(?=\S)", text.strip(), flags=re.MULTILINE)[1:]
    return [(*line.partition("\n")[0].partition(" : "), line) for line in lines]


@pytest.mark.parametrize("label", [*PUBLIC, *METHODS])
def test_it_names_every_argument_what_it_returns_and_what_it_raises(label):
    found = PUBLIC.get(label) or METHODS[label]
    parts = sections(found)
    named = [name.strip().lstrip("*") for names, *_ in described(parts["Parameters"]) for name in names.split(",")]
    assert sorted(named) == sorted(arguments(found))
    if not inspect.isclass(found):
        assert re.search(r"^[A-Z]\w+Error", parts["Raises"])
        returned = inspect.signature(found).return_annotation != "None"
        assert ("Returns" in parts) == returned


@pytest.mark.parametrize("label", [*PUBLIC, *METHODS])
def test_arrays_have_a_shape_or_a_dtype(label):
    found = PUBLIC.get(label) or METHODS[label]
    parts = sections(found)
    for _, _, kind, text in [*described(parts["Parameters"]), *described(parts.get("Returns", ""))]:
        assert not re.match(r"arrays?\b", kind) or re.search(r"shape|dtype|axes|axis|numbers", text), text


@pytest.mark.parametrize("label", PUBLIC)
def test_it_has_an_equation_and_an_example_that_shows_a_shape(label):
    assert re.search(r"``[^`]* = [^`]*``", inspect.getdoc(PUBLIC[label])) or label.endswith((".plan", ".choose_method"))
    assert "shape" in sections(PUBLIC[label])["Examples"]
    assert ">>> " in sections(PUBLIC[label])["Examples"]


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize(("k", "origin"), [(3, 1), (4, -1), (4, 1), (5, -2)])
def test_the_equations_of_filters_hold(name, k, origin):
    """With the index that each states, of windows whose origin and size are neither the middle nor odd."""
    function, x = getattr(xconv.ndimage, name), np.random.default_rng(0).standard_normal(12)
    (index,) = set(re.findall(INDEXED, function.__doc__))
    w = np.random.default_rng(1).standard_normal(k) * (
        1 + 2j if "conj" in function.__doc__.partition("Param")[0] else 1
    )
    read = np.array([[index_at(index, m, j, k, origin) for j in range(k)] for m in range(len(x))])
    values = np.where((read >= 0) & (read < len(x)), x[read % len(x)], 0)
    if "weights" in arguments(function):
        expected, given = values @ (w.conj() if np.iscomplexobj(w) else w), w
    else:
        by = {"max": values.max, "min": values.min, "uni": values.mean}[name[:3]]
        expected, given = by(axis=1), k
    y = function(x, given, mode="constant", origin=origin)
    assert np.allclose(y, expected, rtol=0, atol=1e-14)


def index_at(index, m, j, k, origin):
    return eval(index, {"m": m, "j": j, "k": k, "origin": origin})


def test_every_filter_of_windows_has_its_index():
    assert {"correlate", "convolve", "correlate1d", "convolve1d", "uniform_filter1d", "maximum_filter"} <= set(DOORS)
