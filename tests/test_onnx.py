"""ONNX's own node tests, through an adapter from a node's attributes to xconv's keywords.

Every case of these operators passes or stands in ``OUT_OF_SCOPE`` with its reason, and their numbers are asserted.
"""

from __future__ import annotations

import functools
import math
import warnings

import pytest
from array_api_compat import array_namespace
from backends import assert_array

import xconv

COUNTS = {
    "Conv": 6,
    "ConvTranspose": 11,
    "ConvInteger": 2,
    "MaxPool": 19,
    "AveragePool": 20,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "Col2Im": 5,
    "LpPool": 8,
    "MaxUnpool": 2,
    "DeformConv": 4,
    "QLinearConv": 1,
    "CausalConvWithState": 13,
}

OUT_OF_SCOPE = {
    "DeformConv": "there is no deformable convolution",
    "QLinearConv": "quantisation scales are no part of a convolution here",
    "CausalConvWithState": "carries a state from call to call; padding 'causal' covers one whole call",
}

BACKENDS = ("numpy", "strict", "jax-jit", "torch", "cupy")


@functools.cache
def cases():
    """Name -> (operator, attributes, inputs, outputs) of every case that is one node of these operators."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases of other operators overflows on purpose
        everything = collect_testcases(None)
    found = {}
    for case in everything:
        node = case.model.graph.node[0]
        if len(case.model.graph.node) == 1 and node.op_type in COUNTS:
            attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            inputs, outputs = case.data_sets[0]
            found[case.name] = (node.op_type, attributes, inputs, outputs)
    return found


def reason_out_of_scope(name, operator):
    return OUT_OF_SCOPE.get(name) or OUT_OF_SCOPE.get(operator)


def window_keywords(attributes):
    """stride, padding and dilation; ONNX lists all low paddings before all high ones."""
    n = len(attributes.get("strides") or attributes.get("dilations") or attributes.get("pads", ())[::2])
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    keywords = {
        "stride": tuple(attributes.get("strides", ())) or 1,
        "dilation": tuple(attributes.get("dilations", ())) or 1,
    }
    words = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": "valid"}
    if automatic in words:
        keywords["padding"] = words[automatic]
    elif "pads" in attributes:
        pads = attributes["pads"]
        keywords["padding"] = list(zip(pads[:n], pads[n:], strict=True))
    return keywords


def run_conv(attributes, x, w, b=None):
    return xconv.conv(x, w, b, groups=attributes.get("group", 1), **window_keywords(attributes))


def run_conv_transpose(attributes, x, w, b=None):
    keywords = window_keywords(attributes) | {"groups": attributes.get("group", 1)}
    if "output_padding" in attributes:
        keywords["output_padding"] = tuple(attributes["output_padding"])
    if "output_shape" in attributes:  # the padding follows from it, and a negative one is more output_padding
        without = xconv.conv_transpose(x, w, **{**keywords, "output_padding": 0})
        keywords["output_padding"] = tuple(
            wanted - d for wanted, d in zip(attributes["output_shape"], without.shape[2:], strict=True)
        )
    return xconv.conv_transpose(x, w, b, **keywords)


def run_conv_integer(attributes, x, w, x_zero=None, w_zero=None):
    xp = array_namespace(x)
    x, w = (xp.astype(array, xp.int32) for array in (x, w))
    if x_zero is not None:
        x = x - xp.astype(x_zero, xp.int32)
    if w_zero is not None:  # one per filter
        w = w - xp.reshape(xp.astype(w_zero, xp.int32), (-1, 1, 1, 1))
    return run_conv(attributes, x, w)


def pool_arguments(attributes):
    keywords = window_keywords(attributes)
    keywords["ceil_mode"] = bool(attributes.get("ceil_mode", 0))
    return tuple(attributes["kernel_shape"]), keywords


def run_max_pool(attributes, x):
    """ONNX counts positions over all of x, and with ``storage_order`` column after column in each plane."""
    kernel, keywords = pool_arguments(attributes)
    y, indices = xconv.max_pool(x, kernel, return_indices=True, **keywords)
    xp, (height, width) = array_namespace(x), x.shape[-2:]
    if attributes.get("storage_order", 0):
        indices = indices % width * height + indices // width
    planes = xp.arange(math.prod(x.shape[:2]), dtype=indices.dtype) * math.prod(x.shape[2:])
    return y, indices + xp.reshape(planes, (*x.shape[:2], *(1 for _ in kernel)))


def run_max_unpool(attributes, y, indices, shape=None):
    """ONNX's count over all of the smallest x, which zeros then make larger."""
    kernel, keywords = pool_arguments(attributes)
    words = {"stride": keywords["stride"], "padding": keywords.get("padding", 0)}
    plane = math.prod(xconv.max_unpool(y, indices, kernel, **words).shape[2:])
    x = xconv.max_unpool(y, indices % plane, kernel, **words)
    if shape is None:
        return x
    xp = array_namespace(x)
    for axis, (size, wanted) in enumerate(zip(x.shape, shape, strict=True)):
        more = xp.zeros((*x.shape[:axis], wanted - size, *x.shape[axis + 1 :]), dtype=x.dtype)
        x = xp.concat([x, more], axis=axis)
    return x


def run_lp_pool(attributes, x):
    """There is no Lp pooling: it is a mean of powers, where every window has all of its taps."""
    kernel, keywords = pool_arguments(attributes)
    xp, p = array_namespace(x), attributes["p"]
    return (xconv.avg_pool(xp.abs(x) ** p, kernel, **keywords) * math.prod(kernel)) ** (1 / p)


def run_average_pool(attributes, x):
    kernel, keywords = pool_arguments(attributes)
    return xconv.avg_pool(x, kernel, count_include_pad=bool(attributes.get("count_include_pad", 0)), **keywords)


def run_global_average_pool(attributes, x):
    return xconv.avg_pool(x, tuple(x.shape[2:]))


def run_global_max_pool(attributes, x):
    return xconv.max_pool(x, tuple(x.shape[2:]))


def run_col2im(attributes, col, size, kernel):
    """ONNX's columns are (N, C*prod(k), prod(o)), and the sizes are inputs."""
    xp = array_namespace(col)
    batch, rows, positions = col.shape
    matrix = xp.reshape(xp.permute_dims(col, (0, 2, 1)), (batch * positions, rows))
    shape = (batch, rows // math.prod(kernel), *size)
    return xconv.col2im(matrix, shape, kernel, **window_keywords(attributes))


ADAPTERS = {
    "Conv": run_conv,
    "ConvTranspose": run_conv_transpose,
    "ConvInteger": run_conv_integer,
    "MaxPool": run_max_pool,
    "MaxUnpool": run_max_unpool,
    "LpPool": run_lp_pool,
    "AveragePool": run_average_pool,
    "GlobalAveragePool": run_global_average_pool,
    "GlobalMaxPool": run_global_max_pool,
    "Col2Im": run_col2im,
}


def check_case(backend, operator, attributes, inputs, outputs):
    arrays, static = inputs, {}
    if operator == "Col2Im":
        arrays, static = inputs[:1], {"size": inputs[1].tolist(), "kernel": inputs[2].tolist()}
    if operator == "MaxUnpool":
        arrays, static = inputs[:2], {"shape": inputs[2].tolist() if len(inputs) > 2 else None}
    adapter = functools.partial(ADAPTERS[operator], attributes, **static)
    results = backend.run(adapter, *map(backend.array, arrays))
    for result, expected in zip(results if isinstance(results, tuple) else (results,), outputs, strict=False):
        assert_array(backend, result, expected, terms=1000)  # indices if the node has them


def test_every_case_of_these_operators_is_known():
    counts = dict.fromkeys(COUNTS, 0)
    for operator, *_ in cases().values():
        counts[operator] += 1
    assert counts == COUNTS
    assert set(OUT_OF_SCOPE) <= {*cases(), *COUNTS}


@pytest.mark.parametrize("operator", ADAPTERS)
@pytest.mark.on(*BACKENDS)
def test_onnx_cases(backend, operator, record_property):
    wanted = {name: case for name, case in cases().items() if case[0] == operator}
    passed = 0
    for name, case in wanted.items():
        if reason_out_of_scope(name, operator) is None:
            check_case(backend, *case)
            passed += 1
    skipped = sum(name in OUT_OF_SCOPE for name in wanted)
    record_property("conformance", ("ONNX node cases", backend.name, passed))
    assert passed + skipped == COUNTS[operator]
