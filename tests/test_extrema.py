"""Maximum and minimum filters against SciPy's, and as derivatives of themselves."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from backends import assert_array
from geometries import check_drawn, normal
from hypothesis import strategies as st

from xconv import ndimage

scipy_ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

MODES = ("reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant")
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
UNSIGNED = ("uint32", "uint64")  # SciPy's doubles of negative numbers modulo 2**32 fit no int that they become
LARGEST = (9, 6, 4)  # sizes drawn of arrays, and half of windows
FILTERS = ("maximum_filter", "minimum_filter", "maximum_filter1d", "minimum_filter1d")


def values(shape, dtype):
    """Of which some are equal, some negative, and none NaN."""
    integers = (normal(shape) * 3).astype("int64")
    return {"u": abs(integers), "b": integers, "i": integers}.get(dtype[0], np.round(normal(shape) * 4) / 4).astype(
        dtype
    )


@st.composite
def calls(draw):
    """A filter's name, shape and dtype of its input, and keywords."""
    n = draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, LARGEST[n - 1])] * n))
    dtype, name = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(FILTERS))
    words = {"cval": draw(st.sampled_from([0.0, 1.5, 3, 300] + [-2.25, -70000] * (dtype not in UNSIGNED)))}
    if draw(st.booleans()):
        words["output"] = draw(st.sampled_from(["float32", "float64", "int16", "int32", "uint8"]))
    if name.endswith("1d"):
        k = draw(st.integers(1, 2 * LARGEST[n - 1]))
        axis, mode = draw(st.integers(-n, n - 1)), draw(st.sampled_from(MODES))
        return name, shape, dtype, words | {"size": k, "axis": axis, "mode": mode, "origin": draw(origins(k))}
    axes = tuple(draw(st.permutations(range(n))))[: draw(st.integers(1, n))]
    kernel = draw(st.tuples(*[st.integers(1, 2 * LARGEST[n - 1])] * len(axes)))
    words |= {"axes": axes, "origin": tuple(draw(origins(k)) for k in kernel)}
    if draw(st.booleans()):
        kernel = tuple(min(k, LARGEST[n - 1]) for k in kernel)
        words |= {"origin": 0, "footprint": footprint(draw, kernel)}
        return name, shape, dtype, words | {"mode": draw(st.sampled_from(MODES))}
    return name, shape, dtype, words | {"size": kernel, "mode": draw(st.tuples(*[st.sampled_from(MODES)] * len(axes)))}


def origins(k):
    return st.integers(-(k // 2), (k - 1) // 2)


def footprint(draw, kernel):
    taps = np.random.default_rng(draw(st.integers(0, 99))).random(kernel) < draw(st.sampled_from([0.3, 0.8, 1]))
    taps.flat[draw(st.integers(0, taps.size - 1))] = True
    return taps


def scipys(name, x, words):
    words = words | {"output": np.dtype(words["output"])} if "output" in words else words
    return getattr(scipy_ndimage, name)(x, **words)


def check(backend, drawn):
    name, shape, dtype, words = drawn
    x = values(shape, dtype)
    own = {
        key: {"output": backend.dtype, "footprint": lambda taps: taps.tolist()}.get(key, lambda same: same)(value)
        for key, value in words.items()
    }
    y = backend.run(functools.partial(getattr(ndimage, name), **own), backend.array(x))
    assert_array(backend, y, scipys(name, x, words), terms=0)


def test_drawn_filters_are_scipys(backend):
    check_drawn(backend, calls(), lambda drawn: check(backend, drawn))
