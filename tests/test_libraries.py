"""Libraries that xconv has no row for are used by what the Array API guarantees; some are refused in words."""

from __future__ import annotations

import types

import calls
import numpy as np
import pytest
from calls import assert_close

import xconv
from xconv._arrays import libraries, operands


class Copies:
    """An array of a library that is strict about the standard, and whose slices and shapes are all copies."""

    def __init__(self, strict):
        self.strict = strict

    def __getattr__(self, name):
        return getattr(self.strict, name)

    def __getitem__(self, index):
        return Copies(COPYING.strict.asarray(self.strict[unwrapped(index)], copy=True))

    def __setitem__(self, index, value):
        self.strict[unwrapped(index)] = unwrapped(value)

    def __bool__(self):
        return bool(self.strict)

    def __array_namespace__(self, api_version=None):
        return COPYING


def unwrapped(value):
    if isinstance(value, list | tuple):
        return type(value)(map(unwrapped, value))
    return value.strict if isinstance(value, Copies) else value


def wrapped(value):
    """What a function returned, copied."""
    if isinstance(value, list | tuple):
        return type(value)(map(wrapped, value))
    array = COPYING.strict
    return Copies(array.asarray(value, copy=True)) if hasattr(value, "__array_namespace__") else value


def lifted(function):
    def run(*arguments, **keywords):
        keywords = {name: unwrapped(value) for name, value in keywords.items()}
        return wrapped(function(*map(unwrapped, arguments), **keywords))

    return run


BINARY = "add sub mul truediv pow lshift rshift and or xor lt le gt ge eq ne"
for operator in BINARY.split():
    for name in (f"__{operator}__", f"__r{operator}__"):
        setattr(Copies, name, lambda self, other, name=name: lifted(getattr(type(self.strict), name))(self, other))
for name in ("__neg__", "__invert__", "__abs__"):
    setattr(Copies, name, lambda self, name=name: lifted(getattr(type(self.strict), name))(self))


class Namespace(types.ModuleType):
    """array-api-strict with arrays that are `Copies`; in-place operators rebind, as they do for Dask."""

    def __getattr__(self, name):
        if "strict" not in vars(self):
            raise AttributeError(name)
        found = getattr(self.strict, name)
        return lifted(found) if isinstance(found, types.FunctionType) else found


COPYING = Namespace("copying_library")
COPYING.fft = Namespace("copying_library.fft")


@pytest.fixture
def copying(monkeypatch):
    COPYING.strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    COPYING.fft.strict = COPYING.strict.fft
    monkeypatch.setattr(operands, "_NAMESPACES", {})
    return COPYING


def test_every_public_function_is_called():
    assert set(calls.CALLS) | calls.WITHOUT_ARRAYS == set(xconv.__all__)


def test_slices_of_the_library_are_copies(copying):
    x = copying.asarray(np.zeros(3))
    part = x[:2]
    part += 1
    part[:1] = copying.asarray(np.ones(1))
    assert not np.any(np.asarray(x.strict))
    assert not libraries.traits(copying).views


@pytest.mark.parametrize("name", calls.CALLS)
def test_a_library_whose_slices_are_copies(copying, name):
    check_copying(name)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("method", ["im2col", "toeplitz", "winograd", "fft"])
@pytest.mark.parametrize("name", calls.BY_METHOD)
def test_methods_where_slices_are_copies(copying, name, method, stride):
    if method != "winograd" or stride == 1:
        for room in (None, 2**15):
            check_copying(name, method=method, stride=stride, max_workspace=room)


def check_copying(name, **more):
    arrays = calls.operands(name, stride=more.get("stride", 2))
    found = calls.results(name, [COPYING.asarray(array) for array in arrays], **more)
    assert_close(found, calls.results(name, arrays, **more), lambda array: np.asarray(array.strict))


@pytest.fixture
def walked(copying, monkeypatch):
    """The row of ``TABLE`` that the walk asks for, of a library that has none."""
    libraries.traits.cache_clear()
    monkeypatch.setitem(libraries.TABLE, copying.__name__, libraries.Library(copying.__name__, keeps_arrays=True))
    yield copying
    libraries.traits.cache_clear()


def test_a_row_of_the_table_makes_it_faster(request, monkeypatch):
    """What xconv/README.md says of adding a library, followed: without a row it works, with one it makes less anew."""
    original, made = Namespace.__getattr__, []
    monkeypatch.setattr(Namespace, "__getattr__", lambda self, name: made.append(name) or original(self, name))
    x, w = np.ones((1, 8, 30, 31)), np.ones((8, 8, 3, 3))
    counts = []
    for fixture in ("copying", "walked"):
        xp = request.getfixturevalue(fixture)
        for _ in range(2):
            made.clear()
            y = xconv.conv(*(Copies(xp.strict.asarray(array)) for array in (x, w)), method="winograd")
        counts.append(made.count("asarray"))
        assert isinstance(y, Copies)
        assert np.allclose(np.asarray(y.strict), 72, rtol=1e-12)
    assert counts[1] < counts[0]
