"""Arbitrary arguments, many of them nonsense: a call equals the loops or raises ValueError or TypeError."""

from __future__ import annotations

import collections
import os

import numpy as np
import pytest
import reference
from backends import assert_values
from geometries import MODES, normal, output_shape, transposed_convolutions, transposed_shape, windows
from hypothesis import given, settings
from hypothesis import strategies as st

import xconv

EXAMPLES = int(os.environ.get("XCONV_FUZZ_EXAMPLES", "2000"))  # of 6 ms each; by 5,000 no call had a third outcome

NUMBERS = [
    0,
    1,
    2,
    3,
    -1,
    7,
    1.5,
    None,
    True,
    "2",
    (1, 2),
    (2,),
    [2, 1],
    (1, 1, 1),
    (),
    (0, 1),
    np.int64(2),
    np.array([1, 2]),
]
NONSENSE = {
    "stride": NUMBERS,
    "dilation": NUMBERS,
    "kernel_size": NUMBERS,
    "padding": [
        *NUMBERS,
        "same",
        "full",
        "SAME",
        [(1, 0), (2, 1)],
        [(1, 2)],
        [(-1, 1)],
        ((1,), (2,)),
        [1, (0, 1)],
        {1: 2},
        12,
    ],
    "padding_mode": [*MODES, "constant", None, 0],
    "groups": [1, 2, 3, 0, -2, 2.0, None, "1", True],
    "flip": [True, False, 1, None, "no"],
    "channel_axis": [1, -1, 0, 2, -2, None, True, "C"],
    "method": ["auto", "direct", "im2col", "toeplitz", "winograd", "fft", "native", "", None, 3],
    "max_workspace": [2**26, 20000, 2000, 1, 0, -5, 1.5, None, True, "1"],
    "ceil_mode": [True, False, 1, None],
    "count_include_pad": [True, False, 0, None],
    "pad_value": [0, 2, -1.5, float("nan"), None, "0", 1j, True],
    "output_padding": NUMBERS,
    "output_size": [None, 3, (4, 5), 0, "same", (2, 2, 2)],
    "input_shape": [(2, 2, 5), (1, 2, 4, 4), (0, 1, 3), (2, 2), (), None, 4, (1, 2, -3), (1, 2.5, 3), "abc"],
}
DTYPES = [
    *("float64", "float64", "float64", "float32", "float16", "longdouble", "int64", "int8", "uint8", "complex128"),
    *("complex64", "bool", "object", "U3", "datetime64[s]"),
]
# Sums of products of two of these, and of their inverses, still are numbers of the dtype.
HUGE = {"float64": 1e152, "complex128": 1e152, "longdouble": 1e152, "float32": 1e17, "complex64": 1e17}


@st.composite
def shapes(draw, right):
    """Mostly the right shape; else one axis changed, dropped or added, or something that is no array at all."""
    change = draw(st.sampled_from(["none"] * 12 + ["size", "drop", "add", "replace"]))
    at = draw(st.integers(0, max(len(right) - 1, 0)))
    if change == "size" and right:
        return (*right[:at], draw(st.integers(0, 4)), *right[at + 1 :])
    if change == "drop":
        return right[:-1]
    if change == "add":
        return (*right, 2)
    return None if change == "replace" else tuple(right)


@st.composite
def operands(draw, right):
    shape = draw(shapes(right))
    if shape is None:
        return draw(st.sampled_from([None, 3, "x", [[1.0]], {}]))
    dtype = draw(st.sampled_from(DTYPES)) if draw(st.integers(0, 7)) == 0 else "float64"
    values = normal(shape, draw(st.integers(0, 3)))
    scale = HUGE.get(dtype, 1) ** draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]))
    if dtype in HUGE:
        return (scale * values).astype(dtype)
    return (abs(4 * values) if dtype == "uint8" else 4 * values).astype(dtype)


@st.composite
def with_nonsense(draw, keywords, names):
    """Right keywords, of which up to two are replaced by anything."""
    keywords = dict(keywords)
    if draw(st.booleans()):
        for name in draw(st.lists(st.sampled_from(names), max_size=2)):
            keywords[name] = draw(st.sampled_from(NONSENSE[name]))
    return keywords


CONV_NAMES = [
    *("stride", "padding", "dilation", "groups", "padding_mode", "flip", "channel_axis", "method", "max_workspace"),
]
CONVOLUTIONS = (
    *("conv", "conv_transpose", "conv_input_grad", "conv_weight_grad", "conv_backward", "conv_transpose_backward"),
)
WINDOW_NAMES = ["stride", "padding", "dilation"]
# How many of a call's positional arguments are arrays, if more than one.
OPERANDS = {
    "conv": 3,
    "conv_transpose": 3,
    "conv_transpose_backward": 3,
    "conv_input_grad": 2,
    "conv_weight_grad": 2,
    "conv_backward": 3,
    "max_pool_grad": 2,
    "max_unpool": 2,
}
WINDOWED = ("im2col", "col2im", "max_pool", "avg_pool", "max_pool_grad", "avg_pool_grad", "max_unpool")
UNPOOL_NAMES = ["stride", "padding", "output_size", "channel_axis"]
POOL_NAMES = [*WINDOW_NAMES, "ceil_mode", "channel_axis"]


@st.composite
def convolution_calls(draw, name):
    """(name of a function, positional arguments, keywords)."""
    case = draw(transposed_convolutions(MODES, max_groups=2))
    right, names = dict(case.keywords), [*CONV_NAMES, "output_padding"]
    if not name.startswith("conv_transpose"):
        right.pop("output_padding", None)
        names.pop()
    keywords = draw(with_nonsense(right, names))
    x, w = draw(operands(case.input_shape)), draw(operands(case.weight_shape))
    dy = draw(operands(output_shape(case)))
    if name == "conv":
        b = draw(st.one_of(st.none(), operands((case.weight_shape[0],))))
        return name, (x, w, b), keywords
    if name == "conv_transpose":
        b = draw(st.one_of(st.none(), operands((transposed_shape(case)[case.keywords["channel_axis"]],))))
        return name, (dy, w, b), keywords
    if name == "conv_transpose_backward":
        return name, (draw(operands(transposed_shape(case))), dy, w), keywords
    if name == "conv_input_grad":
        shape = draw(st.sampled_from([case.input_shape] * 8 + NONSENSE["input_shape"]))
        return name, (dy, w, shape), keywords
    if name == "conv_weight_grad":
        kernel = draw(st.sampled_from([case.kernel_size] * 8 + NONSENSE["kernel_size"]))
        return name, (dy, x, kernel), keywords
    return name, (dy, x, w), keywords


@st.composite
def window_calls(draw, name):
    """The same."""
    size, kernel, keywords = draw(windows(ceil_modes="pool" in name))
    shape = (draw(st.integers(0, 2)), draw(st.integers(1, 2)), *size)
    o = reference.Windows(size, kernel, **keywords).output
    kernel = draw(st.sampled_from([kernel] * 8 + NONSENSE["kernel_size"]))
    names = WINDOW_NAMES if name in ("im2col", "col2im") else POOL_NAMES
    keywords = draw(with_nonsense(keywords, [*names, "pad_value"] if name == "im2col" else names))
    dy = draw(operands((*shape[:2], *o)))
    if name == "col2im":
        rows = shape[0] * int(np.prod(o)), shape[1] * int(np.prod(reference.sizes(kernel, 1))) if np.ndim(kernel) else 1
        wrong = draw(st.sampled_from([shape] * 8 + NONSENSE["input_shape"]))
        return name, (draw(operands(rows)), wrong, kernel), keywords
    if name == "max_unpool":
        places = np.random.default_rng(draw(st.integers(0, 3))).permutation(int(np.prod(size)) + 1) - 1
        indices = np.resize(places, (*shape[:2], *o)).astype(
            draw(st.sampled_from(["int64", "int64", "int32", "float64"]))
        )
        right = {name: keywords[name] for name in UNPOOL_NAMES[:2]} | {"output_size": size}
        return name, (dy, indices, kernel), draw(with_nonsense(right, UNPOOL_NAMES))
    if name == "max_pool_grad":
        return name, (dy, draw(operands(shape)), kernel), keywords
    if name == "avg_pool_grad":
        return name, (dy, draw(st.sampled_from([shape] * 8 + NONSENSE["input_shape"])), kernel), keywords
    return name, (draw(operands(shape)), kernel), keywords


def expected(name, arguments, keywords, results):
    """What the loops make of a call that xconv accepted, in the dtype that all of its operands promote to."""
    arrays, rest = arguments[: OPERANDS.get(name, 1)], arguments[OPERANDS.get(name, 1) :]
    dtype = np.result_type(*(array for array in arrays if array is not None))
    dtype = np.result_type(dtype, "float32") if dtype == "float16" else dtype  # in which its sums are
    arguments = [None if array is None else array.astype(dtype) for array in arrays] + [*rest]
    keywords = {key: value for key, value in keywords.items() if key not in ("method", "max_workspace")}
    if name == "conv_transpose_backward":
        return reference.conv_transpose_backward(*arguments, **keywords)
    if name == "conv_backward":
        dy, x, w = arguments
        kernel, axis = w.shape[2:], keywords.get("channel_axis", 1)
        return [
            reference.conv_input_grad(dy, w, x.shape, **keywords),
            reference.conv_weight_grad(dy, x, kernel, **keywords),
            reference.bias_grad(dy, axis),
        ]
    return [getattr(reference, name)(*arguments, **keywords)]


@pytest.mark.parametrize("name", [*CONVOLUTIONS, *WINDOWED])
def test_every_call_equals_the_loops_or_is_refused(numpy_backend, name):
    outcomes = collections.Counter()
    count = EXAMPLES // len([*CONVOLUTIONS, *WINDOWED])

    @settings(max_examples=count)
    @given((convolution_calls if name in CONVOLUTIONS else window_calls)(name))
    def check(call):
        name, arguments, keywords = call
        message = None
        try:
            results = getattr(xconv, name)(*arguments, **keywords)
        except (ValueError, TypeError) as error:
            (message,) = error.args
        outcomes["refused" if message else "accepted"] += 1
        if message:
            assert " must " in message
            assert ", got " in message
            return
        results = results if isinstance(results, tuple) else (results,)
        for result, values in zip(results, expected(name, arguments, keywords, results), strict=True):
            assert result.shape == values.shape
            relative = min(1e4 * np.finfo(result.dtype).eps, 2**-6) if result.dtype.kind in "fc" else 0
            values = values.astype(result.dtype)
            size = float(np.max(np.abs(values), initial=0)) if relative else 0
            if 0 < size < np.inf:  # tiny numbers are looked at, too
                unit = 2.0 ** np.round(np.log2(size))
                result, values = result / unit, values / unit
            assert_values(result, values, relative)

    check()
    assert outcomes["accepted"] > count / 50  # of col2im one in ten is, of most functions one in two
    assert outcomes["refused"] > count / 50
    assert sum(outcomes.values()) >= count
