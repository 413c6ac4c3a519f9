"""Every wrong argument names itself, what came and what was expected, on every backend, and touches no input."""

from __future__ import annotations

import array_api_compat
import numpy as np
import pytest
from backends import assert_array
from geometries import normal

import xconv

SHAPES = {
    "x": (2, 4, 6, 5),
    "w": (6, 4, 3, 3),
    "b": (6,),
    "dy": (2, 6, 4, 3),
    "bt": (4,),
    "col": (24, 36),
    "pool": (2, 4, 3, 2),
}


class Arrays:
    """The operands of right calls, as arrays of one backend; ``of`` makes others."""

    def __init__(self, backend):
        self.backend = backend
        self.made = {name: backend.array(normal(shape)) for name, shape in SHAPES.items()}

    def __getattr__(self, name):
        return self.made[name]

    def of(self, *shape, dtype="float64"):
        return self.backend.array(np.zeros(shape, dtype=dtype))


def conv(a, x=None, w=None, b=None, **keywords):
    return xconv.conv(a.x if x is None else x, a.w if w is None else w, a.b if b is None else b, **keywords)


def transpose(a, x=None, w=None, b=None, **keywords):
    return xconv.conv_transpose(a.dy if x is None else x, a.w if w is None else w, b, **keywords)


def transpose_backward(a, dy=None, x=None, w=None, **keywords):
    dy, x, w = (right if given is None else given for given, right in ((dy, a.x), (x, a.dy), (w, a.w)))
    return xconv.conv_transpose_backward(dy, x, w, **keywords)


def input_grad(a, dy=None, w=None, input_shape=SHAPES["x"], **keywords):
    return xconv.conv_input_grad(a.dy if dy is None else dy, a.w if w is None else w, input_shape, **keywords)


def weight_grad(a, dy=None, x=None, kernel_size=3, **keywords):
    return xconv.conv_weight_grad(a.dy if dy is None else dy, a.x if x is None else x, kernel_size, **keywords)


def backward(a, dy=None, x=None, w=None, **keywords):
    return xconv.conv_backward(a.dy if dy is None else dy, a.x if x is None else x, a.w if w is None else w, **keywords)


def unpool(a, indices=None, **keywords):
    return xconv.max_unpool(a.pool, a.of(2, 4, 3, 2, dtype="int64") if indices is None else indices, 2, **keywords)


VALUE = [
    # conv: shapes
    (
        lambda a: conv(a, x=a.of(4, 6)),
        r"x must have at least 3 axes.*got shape \(4, 6\): x\[None, None\] is one sample",
    ),
    (
        lambda a: conv(a, x=a.of(48, 64, 4)),
        r"w must have 3 axes.*\(48, 64, 4\).*x\[None\].*channel_axis must be -1",
    ),
    (lambda a: conv(a, x=a.of(2, 6, 5, 4)), r"w must have C / groups.*C = 6.*: with channel_axis=-1 x has 4$"),
    (lambda a: backward(a, dy=a.of(6, 4), x=a.of(4, 6)), r"x must have at least 3 axes.*: x\[None, None\]"),
    (lambda a: conv(a, x=a.of()), r"x must have at least 3 axes.*got shape \(\)"),
    (lambda a: conv(a, x=a.of(2, 0, 6, 5)), r"x must have at least size 1 on every axis but the batch.*\(2, 0, 6, 5\)"),
    (lambda a: conv(a, x=a.of(2, 4, 0, 5)), r"x must have at least size 1 on every axis but the batch.*\(2, 4, 0, 5\)"),
    (lambda a: conv(a, w=a.of(6, 4, 3)), r"w must have 4 axes.*got shape \(6, 4, 3\)"),
    (lambda a: conv(a, w=a.of(6, 4, 3, 0)), r"w must have 4 axes.*each at least 1, got shape \(6, 4, 3, 0\)"),
    (lambda a: conv(a, w=a.of(0, 4, 3, 3)), r"w must have 4 axes.*got shape \(0, 4, 3, 3\)"),
    (
        lambda a: conv(a, w=a.of(6, 3, 3, 3)),
        r"w must have C / groups channels.*C = 4.*got w of shape \(6, 3, 3, 3\) with 3",
    ),
    (lambda a: conv(a, w=a.of(6, 4, 7, 3)), r"kernel_size must fit.*axis 0.*7 = dilation.*got an input of size 6"),
    (lambda a: conv(a, b=a.of(5)), r"b must have shape \(6,\).*got \(5,\)"),
    (lambda a: conv(a, b=a.of(6, 1)), r"b must have shape \(6,\).*got \(6, 1\)"),
    # conv: keywords
    (lambda a: conv(a, stride=0), r"stride must be an int or 2 ints.*at least 1, got 0"),
    (lambda a: conv(a, stride=-1), r"stride must be.*got -1"),
    (lambda a: conv(a, stride=1.5), r"stride must be.*got 1\.5"),
    (lambda a: conv(a, stride=True), r"stride must be.*got True"),
    (lambda a: conv(a, stride="2"), r"stride must be.*got '2'"),
    (lambda a: conv(a, stride=None), r"stride must be.*got None"),
    (lambda a: conv(a, stride=(1, 1, 1)), r"stride must be.*got \(1, 1, 1\)"),
    (lambda a: conv(a, stride=(1, 0)), r"stride must be.*got \(1, 0\)"),
    (lambda a: conv(a, stride=()), r"stride must be.*got \(\)"),
    (lambda a: conv(a, dilation=0), r"dilation must be.*at least 1, got 0"),
    (lambda a: conv(a, dilation=(2,)), r"dilation must be.*got \(2,\)"),
    (lambda a: conv(a, dilation=3), r"kernel_size must fit.*reaches over 7"),
    (lambda a: conv(a, padding=-1), r"padding must be an int, 2 ints or 2 \(lo, hi\) pairs.*got -1"),
    (
        lambda a: conv(a, padding=10**12),
        r"the input must have no more than \d+ elements with its padding, got size",
    ),
    (lambda a: conv(a, padding="Same"), r"padding must be one of 'valid', 'same'.*got 'Same' \('same' is likely meant"),
    (lambda a: conv(a, padding_mode="edge"), r"padding_mode must be one of.*got 'edge' \('replicate' is likely meant"),
    (lambda a: conv(a, padding_mode="constant"), r"got 'constant' \('zeros' is likely meant"),
    (lambda a: xconv.signal.convolve(a.x, a.x, "smae"), r"mode: .*'full', got 'smae' \('same' is likely meant"),
    (lambda a: conv(a, method="ftt"), r"method must be one of.*got 'ftt' \('fft' is likely meant"),
    (lambda a: conv(a, padding=(1, 2, 3)), r"padding must be.*got \(1, 2, 3\)"),
    (lambda a: conv(a, padding=[(1, 2)]), r"padding must be.*got \[\(1, 2\)\]"),
    (lambda a: conv(a, padding=[(1, 2), (0, -1)]), r"padding must be.*got \[\(1, 2\), \(0, -1\)\]"),
    (lambda a: conv(a, padding=[1, (0, 1)]), r"padding must be.*got \[1, \(0, 1\)\]"),
    (lambda a: conv(a, padding=[(1, 2, 3), (1, 2, 3)]), r"padding must be.*got \[\(1, 2, 3\)"),
    (lambda a: conv(a, padding=1.0), r"padding must be.*got 1\.0"),
    (lambda a: conv(a, padding={1: 2, 3: 4}), r"padding must be.*got \{1: 2, 3: 4\}"),
    (lambda a: conv(a, padding=None), r"padding must be.*got None"),
    (lambda a: conv(a, groups=0), r"groups must be an int of at least 1, got 0"),
    (lambda a: conv(a, groups=2.0), r"groups must be an int.*got 2\.0"),
    (lambda a: conv(a, groups=2), r"w must have C / groups channels.*groups is 2.*with 4"),
    (lambda a: conv(a, w=a.of(6, 1, 3, 3), groups=4), r"groups must divide the 6 filters K of w, got groups = 4"),
    (lambda a: conv(a, padding_mode="constant"), r"padding_mode must be one of 'zeros'.*got 'constant'"),
    (lambda a: conv(a, padding_mode=["zeros"]), r"padding_mode must be one of.*or 2 of them.*got \['zeros'\]"),
    (lambda a: conv(a, padding_mode=None), r"padding_mode must be one of.*got None"),
    (lambda a: conv(a, flip=1), r"flip must be True or False, got 1"),
    (lambda a: conv(a, channel_axis=0), r"channel_axis must be 1 .* or -1 .*got 0"),
    (lambda a: conv(a, channel_axis=True), r"channel_axis must be 1 .*got True"),
    (lambda a: conv(a, channel_axis="last"), r"channel_axis must be 1 .*got 'last'"),
    (lambda a: conv(a, method="magic"), r"method must be one of 'auto', 'direct', 'im2col'.*got 'magic'"),
    (lambda a: conv(a, method=None), r"method must be one of.*got None"),
    (lambda a: conv(a, method="winograd", stride=2), r"method 'winograd' must have stride 1.*got stride \(2, 2\)"),
    (lambda a: conv(a, max_workspace=0), r"max_workspace must be an int of at least 1, got 0"),
    (lambda a: conv(a, max_workspace="64MB"), r"max_workspace must be an int of at least 1, got '64MB'"),
    (lambda a: conv(a, method="im2col", max_workspace=9), r"max_workspace must be at least \d+ bytes.*got 9"),
    # conv_transpose
    (lambda a: transpose(a, w=a.of(5, 4, 3, 3)), r"w must have C = 6 filters on axis 0.*got w of shape \(5, 4, 3, 3\)"),
    (lambda a: transpose(a, b=a.of(6)), r"b must have shape \(4,\).*got \(6,\)"),
    (
        lambda a: transpose(a, output_padding=1),
        r"output_padding must be smaller than the stride or the dilation, got 1 with stride \(1, 1\)",
    ),
    (
        lambda a: transpose(a, stride=(2, 3), dilation=(3, 1), output_padding=(2, 3)),
        r"output_padding must be smaller.*got \(2, 3\) with stride \(2, 3\) and dilation \(3, 1\)",
    ),
    (lambda a: transpose_backward(a, dy=a.x, stride=2), r"dy must have shape \(2, 4, 9, 7\).*got \(2, 4, 6, 5\)"),
    (lambda a: transpose_backward(a, w=a.of(5, 4, 3, 3)), r"w must have C = 6 filters on axis 0"),
    (lambda a: transpose(a, stride=2, output_padding=-1), r"output_padding must be.*at least 0, got -1"),
    (
        lambda a: transpose(a, padding="same", stride=2, output_padding=1),
        r"output_padding must be 0 with padding='same'",
    ),
    (lambda a: transpose(a, padding=4), r"padding must leave an output.*got 4 for an input of size \(4, 3\)"),
    (lambda a: transpose(a, groups=4), r"groups must divide the 6 channels C of x, got groups = 4"),
    # gradients
    (lambda a: input_grad(a, input_shape=(2, 4, 6)), r"w must have 3 axes.*got shape \(6, 4, 3, 3\)"),
    (lambda a: input_grad(a, input_shape=(2, 4, 7, 5)), r"dy must have shape \(2, 6, 5, 3\).*got \(2, 6, 4, 3\)"),
    (lambda a: input_grad(a, input_shape=None), r"input_shape must be a shape.*got None"),
    (lambda a: input_grad(a, input_shape=(2, 4.0, 6, 5)), r"input_shape must be a shape.*4\.0"),
    (lambda a: input_grad(a, input_shape=(2, -4, 6, 5)), r"input_shape must be a shape.*none negative.*-4"),
    (lambda a: input_grad(a, dy=a.of(2, 6, 4)), r"dy must have shape \(2, 6, 4, 3\).*got \(2, 6, 4\)"),
    (lambda a: weight_grad(a, kernel_size=2), r"dy must have shape \(2, 6, 5, 4\).*got \(2, 6, 4, 3\)"),
    (lambda a: weight_grad(a, kernel_size=(3,)), r"kernel_size must be an int or 2 ints.*got \(3,\)"),
    (lambda a: weight_grad(a, groups=4), r"groups must divide the 4 channels C of x and the 6 channels K of dy.*4"),
    (lambda a: weight_grad(a, dy=a.of(3, 6, 4, 3)), r"dy must have shape \(2, 6, 4, 3\).*got \(3, 6, 4, 3\)"),
    (lambda a: backward(a, dy=a.of(2, 5, 4, 3)), r"dy must have shape \(2, 6, 4, 3\).*got \(2, 5, 4, 3\)"),
    (lambda a: backward(a, stride=2), r"dy must have shape \(2, 6, 2, 2\).*got \(2, 6, 4, 3\)"),
    # im2col and col2im
    (lambda a: xconv.im2col(a.x, 0), r"kernel_size must be.*at least 1, got 0"),
    (lambda a: xconv.im2col(a.x, (3, 3, 3)), r"kernel_size must be.*got \(3, 3, 3\)"),
    (lambda a: xconv.im2col(a.x, 7), r"kernel_size must fit the padded input"),
    (
        lambda a: xconv.im2col(a.of(2, 2, 4, dtype="int8"), 2, pad_value=300),
        r"pad_value must lie in the range.*got 300",
    ),
    (lambda a: xconv.col2im(a.col, SHAPES["x"], 2), r"col must have shape \(40, 16\).*got \(24, 36\)"),
    (lambda a: xconv.col2im(a.x, SHAPES["x"], 3), r"col must have shape \(24, 36\).*got \(2, 4, 6, 5\)"),
    # pools
    (lambda a: xconv.max_pool(a.of(4, 4), 2), r"x must have at least 3 axes"),
    (lambda a: xconv.max_pool(a.x, 2, stride=0), r"stride must be.*got 0"),
    (lambda a: xconv.max_pool(a.x, 7), r"kernel_size must fit.*input of size 6"),
    (lambda a: xconv.max_pool(a.x, 2, ceil_mode="yes"), r"ceil_mode must be True or False, got 'yes'"),
    (lambda a: xconv.max_pool(a.x, 2, channel_axis=2), r"channel_axis must be.*got 2"),
    (lambda a: xconv.max_pool_grad(a.x, a.x, 2), r"dy must have shape \(2, 4, 3, 2\).*got \(2, 4, 6, 5\)"),
    (lambda a: xconv.max_pool(a.x, 2, return_indices=1), r"return_indices must be True or False, got 1"),
    (
        lambda a: unpool(a, indices=a.of(2, 4, 3, 3, dtype="int64")),
        r"indices must have shape \(2, 4, 3, 2\).*got \(2, 4, 3, 3\)",
    ),
    (lambda a: unpool(a, output_size=4), r"output_size must differ from \(6, 4\) by less than the stride.*got 4"),
    (lambda a: unpool(a, output_size=(6, 4, 1)), r"output_size must be an int or 2 ints.*got \(6, 4, 1\)"),
    (lambda a: unpool(a, padding=3), r"padding must leave an output.*got 3 for an input of size \(3, 2\)"),
    (lambda a: xconv.avg_pool(a.x, 2, count_include_pad=0), r"count_include_pad must be True or False, got 0"),
    (
        lambda a: xconv.avg_pool(a.x, 2, padding=2, count_include_pad=False),
        r"padding must leave every window something to count, got \(\(2, 2\), \(2, 2\)\)",
    ),
    (lambda a: xconv.avg_pool_grad(a.pool, (2, 4, 6), 2), r"dy must have shape \(2, 4, 3\).*got \(2, 4, 3, 2\)"),
    (lambda a: xconv.avg_pool_grad(a.pool, 5, 2), r"input_shape must be a shape.*got 5"),
    # shapes alone
    (
        lambda a: xconv.conv_output_shape((1, 2, 5), (1, 3, 2)),
        r"weight_shape must have C / groups.*input_shape has C = 2",
    ),
    (lambda a: xconv.conv_output_shape("abc", (1, 3, 2)), r"input_shape must be a shape.*got 'abc'"),
    (
        lambda a: xconv.choose_method((1, 2, 5), (1, 2, 6), xp=a.backend.xp, dtype=a.x.dtype),
        r"kernel_size must fit.*input of size 5",
    ),
    (
        lambda a: xconv.choose_method((1, 2, 5), (1, 2, 3), xp=a.backend.xp, dtype=a.x.dtype, function="grad"),
        r"function must be one of 'conv', .*got 'grad'",
    ),
    # layers
    (lambda a: xconv.Convolution(a.w, a.b, stride=0).forward(a.x), r"stride must be.*got 0"),
    (lambda a: xconv.Convolution(a.w, a.bt).forward(a.x), r"b must have shape \(6,\).*got \(4,\)"),
    (lambda a: xconv.Pooling(9, 9).forward(a.x), r"kernel_size must fit"),
    # checks
    (lambda a: xconv.testing.numerical_gradient(lambda x: x, a.x, a.b), r"dy must have the shape.*got \(6,\)"),
    (lambda a: xconv.testing.numerical_gradient(lambda x: x, a.x, a.x, eps=0), "eps must be positive and finite, got"),
]

VALUE += [
    (lambda a: conv(a, padding="reflect"), r"padding must be one of.*got 'reflect' \('reflect' is a padding_mode\)"),
    (lambda a: conv(a, padding_mode="same"), r"padding_mode must be one of.*got 'same' \('same' is a padding\)"),
    (lambda a: conv(a, groups=2), r"w must have C / groups channels.*: that is w for groups=1$"),
    (lambda a: conv(a, stride=a.x), r"stride must be.*got \w+ of shape \(2, 4, 6, 5\)$"),
    (lambda a: conv(a, padding=list(range(99))), r"padding must be.*got list: \[0, 1, .*\.\.\.$"),
    (lambda a: weight_grad(a, kernel_size=a.w), r"kernel_size must be.*got \w+ of shape .*: pass w\.shape\[2:\]$"),
    (lambda a: weight_grad(a, kernel_size=(6, 4, 3, 3)), r"kernel_size must be.*got \(6, 4, .*: pass w\.shape\[2:\]$"),
    (lambda a: input_grad(a, input_shape=a.x), r"input_shape must be a shape.*got \w+ of shape .*: pass its \.shape$"),
    (lambda a: xconv.linear_operator(a.w, (6, 5)), r"input_shape must have.*: \(1, 1, 6, 5\) is one sample of one"),
    (
        lambda a: xconv.plan(SHAPES["x"], SHAPES["w"], xp=a.backend.xp, dtype=a.x.dtype, method="FFT"),
        r"method must be one of.*got 'FFT' \('fft' is likely meant",
    ),
]
TYPE = [
    (lambda a: conv(a, strides=2), r"conv must have the keywords x, w, .*got strides=2 \('stride' is likely meant\)"),
    (lambda a: xconv.conv(a.x, a.w, bias=a.b), r"conv must have .*got bias=\w+ of shape.*\('b' is likely meant\)"),
    (lambda a: xconv.max_pool(a.x, 2, ceil=1), r"max_pool must have .*got ceil=1 \('ceil_mode' is likely meant\)"),
    (lambda a: conv(a, x=[[[[1.0]]]]), r"x must be an array, got list"),
    (lambda a: conv(a, w=3), r"w must be an array, got int"),
    (lambda a: conv(a, b=1.5), r"b must be an array, got float"),
    (lambda a: xconv.conv(None, a.w), r"x must be an array, got NoneType"),
    (lambda a: xconv.conv(a.x, None), r"w must be an array, got NoneType"),
    (lambda a: conv(a, x=a.of(2, 4, 6, 5, dtype="bool")), r"x must have an integer, real or complex dtype, got .*bool"),
    (lambda a: conv(a, w=a.of(6, 4, 3, 3, dtype="bool")), r"w must have an integer, real or complex dtype, got .*bool"),
    (lambda a: conv(a, b=a.of(6, dtype="bool")), r"b must have an integer, real or complex dtype, got .*bool"),
    (lambda a: transpose(a, x="x"), r"x must be an array, got str"),
    (lambda a: input_grad(a, dy=a.of(2, 6, 4, 3, dtype="bool")), r"dy must have an integer, real or complex dtype"),
    (lambda a: input_grad(a, dy=[1]), r"dy must be an array, got list"),
    (lambda a: weight_grad(a, x=(1, 2)), r"x must be an array, got tuple"),
    (lambda a: backward(a, w={}), r"w must be an array, got dict"),
    (
        lambda a: backward(a, output_padding=1),
        r"conv_backward must have the keywords dy, x, .*, got output_padding=1: that is one of conv_transpose_backward",
    ),
    (lambda a: conv(a, output_padding=0), r"conv must have .*, got output_padding=0: that is one of conv_transpose$"),
    (lambda a: transpose_backward(a, w=[]), r"w must be an array, got list"),
    (lambda a: xconv.im2col([[1]], 1), r"x must be an array, got list"),
    (lambda a: xconv.im2col(a.x, 2, pad_value="0"), r"pad_value must be a number that .* can hold, got '0'"),
    (
        lambda a: xconv.im2col(a.of(1, 1, 4, dtype="int32"), 2, pad_value=0.5),
        r"pad_value must be a number that .*int32",
    ),
    (lambda a: xconv.im2col(a.x, 2, pad_value=1j), r"pad_value must be a number that .* can hold, got 1j"),
    (lambda a: xconv.col2im([[1]], (1, 1, 1), 1), r"col must be an array, got list"),
    (
        lambda a: xconv.max_pool(a.of(1, 1, 4, dtype="complex128"), 2),
        r"x must have an integer or real dtype.*complex128",
    ),
    (lambda a: xconv.max_pool(a.of(1, 1, 4, dtype="bool"), 2), r"x must have an integer, real or complex dtype"),
    (lambda a: unpool(a, indices=a.pool), r"indices must have an integer dtype, got .*float64"),
    (lambda a: unpool(a, indices=1), r"indices must be an array, got int"),
    (lambda a: xconv.max_pool_grad(1, a.x, 2), r"dy must be an array, got int"),
    (lambda a: xconv.avg_pool(a.of(1, 1, 4, dtype="int64"), 2), r"x must have a real or complex dtype.*int64"),
    (
        lambda a: xconv.avg_pool_grad(a.of(1, 1, 2, dtype="int64"), (1, 1, 4), 2),
        r"dy must have a real or complex.*int64",
    ),
    (lambda a: xconv.testing.numerical_gradient(lambda x: x, a.of(3, dtype="int64")), r"x must have a real or complex"),
]


def check_refused(backend, call, kind, pattern):
    arrays = Arrays(backend)
    before = {name: backend.to_numpy(array).copy() for name, array in arrays.made.items()}
    with pytest.raises(kind, match=pattern) as error:
        call(arrays)
    assert error.type is kind
    assert len(error.value.args) == 1  # a message, not a tuple of its parts
    assert "\n" not in str(error.value)
    assert all(np.array_equal(before[name], backend.to_numpy(array)) for name, array in arrays.made.items())


@pytest.mark.parametrize(("call", "pattern"), VALUE, ids=[pattern for _, pattern in VALUE])
def test_wrong_values(backend, call, pattern):
    check_refused(backend, call, ValueError, pattern)


@pytest.mark.parametrize(("call", "pattern"), TYPE, ids=[pattern for _, pattern in TYPE])
def test_wrong_types(backend, call, pattern):
    check_refused(backend, call, TypeError, pattern)


@pytest.mark.parametrize(
    ("keywords", "pattern"),
    [
        ({"stride": True}, r"stride must be.*got True"),
        ({"stride": (1, True)}, r"stride must be.*got \(1, True\)"),
        ({"padding": 0.0}, r"padding must be.*got 0.0"),
        ({"flip": 0}, r"flip must be.*got 0"),
        ({"max_workspace": 2.0**26}, r"max_workspace must be.*got 67108864.0"),
    ],
)
def test_what_equals_a_right_value_and_is_none_is_refused_after_it(numpy_backend, keywords, pattern):
    """Checks are looked up by their arguments, and True equals 1."""
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    for stride in (1, (1, 1)):
        xconv.conv(x, w, stride=stride, padding=0, flip=False, max_workspace=2**26)
    with pytest.raises(ValueError, match=pattern) as raised:
        xconv.conv(x, w, **keywords)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("transform", ["jit", "grad"])
def test_what_jax_does_not_know_yet_is_named(transform):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    blur = getattr(jax, transform)(lambda sigma: xconv.ndimage.gaussian_filter(jax.numpy.ones((4, 4)), sigma).sum())
    with pytest.raises(TypeError, match=r"^sigma must be a real number, got .*mark it static.*no gradient") as error:
        blur(1.0)
    assert "\n" not in str(error.value)


def test_the_table_is_long_enough():
    assert len({pattern for _, pattern in VALUE + TYPE}) >= 60


def test_arrays_of_two_libraries(backend):
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    other = np if backend.name.startswith("strict") else strict
    with pytest.raises(TypeError, match="all arrays must come from one library, got ") as error:
        xconv.conv(backend.array(normal((1, 1, 4))), other.ones((1, 1, 2)))
    package = backend.name.split("-")[0].replace("strict", "array_api_strict")
    assert f"got x from {package}, w from {other.__name__}: pass " in str(error.value)


@pytest.mark.parametrize(("library", "convert"), [("jax.numpy", "jax.numpy.asarray"), ("torch", "torch.asarray")])
def test_a_filter_of_numpy_beside_an_image_of_another_library(library, convert):
    xp = pytest.importorskip(library, reason=f"{library} is not installed")
    image, kernel = xp.ones((1, 1, 4)), np.ones((1, 1, 2))
    for x, w, name in ((image, kernel, "w"), (kernel, image, "x")):
        with pytest.raises(TypeError, match="all arrays must come from one library") as error:
            xconv.conv(x, w)
        assert str(error.value).endswith(f": pass {convert}({name})")


def test_arrays_on_two_devices():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    x, w = xp.ones((1, 1, 4)), xp.ones((1, 1, 2), device=xp.Device("device1"))
    with pytest.raises(
        ValueError, match=r"all arrays must be on one device, got x on .*CPU.*, w on .*device1"
    ) as error:
        xconv.conv(x, w)
    assert error.type is ValueError


class Placed(np.ndarray):
    """An array whose device has no hash, as CuPy's."""

    class Device:
        __hash__ = None

        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            return self.number == other.number

        def __repr__(self):
            return f"<device {self.number}>"

    number = 0

    @property
    def device(self):
        return self.Device(self.number)


def test_devices_without_a_hash():
    x, w = np.arange(8.0).reshape(1, 1, 8), np.ones((1, 1, 2))
    placed, beside, elsewhere = x.view(Placed), w.view(Placed), w.view(Placed)
    elsewhere.number = 1
    for _ in range(2):  # also once its type is known
        assert np.array_equal(xconv.conv(placed, beside), xconv.conv(x, w))
        with pytest.raises(ValueError, match="all arrays must be on one device, got x on <device 0>, w on <device 1>"):
            xconv.conv(placed, elsewhere)


def test_masks_are_refused(numpy_backend):
    """NumPy's functions drop them in silence, and what they hide would be summed."""
    x = np.ma.masked_equal(np.ones((1, 1, 4, 4)), 1)
    with pytest.raises(TypeError, match=r"^x must be an array without a mask, got MaskedArray$") as error:
        xconv.conv(x, np.ones((1, 1, 3, 3)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keywords", "pattern"),
    [
        ({"xp": None, "dtype": np.float32}, "^xp must be the namespace of an array library, got None$"),
        (
            {"xp": np, "dtype": "float32"},
            "^dtype must be a dtype that numpy computes with, got 'float32': numpy.float32 is one$",
        ),
        ({"xp": np, "dtype": np.dtype("bool")}, "^dtype must have an integer, real or complex dtype, got bool$"),
    ],
)
def test_methods_are_chosen_for_numbers_of_a_library(numpy_backend, keywords, pattern):
    with pytest.raises(TypeError, match=pattern) as error:
        xconv.choose_method((1, 1, 8, 8), (1, 1, 3, 3), **keywords)
    assert len(error.value.args) == 1


def test_an_index_beyond_the_plane_is_refused_where_looking_is_cheap(numpy_backend):
    y, indices = np.ones((1, 1, 2)), np.array([[[0, 4]]])
    message = r"^indices must be less than the 4 elements of a plane of size \(4,\), which follows from y, .*, got 4$"
    with pytest.raises(ValueError, match=message) as error:
        xconv.max_unpool(y, indices, 2)
    assert error.type is ValueError


def test_an_index_beyond_the_plane_reaches_no_other(torch_backend):
    y, indices = torch_backend.array(np.ones((1, 2, 2))), torch_backend.array([[[0, 4], [5, 1]]])
    assert_array(torch_backend, xconv.max_unpool(y, indices, 2), [[[1.0, 0, 0, 0], [0, 1, 0, 0]]])


def test_of_two_operands_the_one_without_an_order_is_named(numpy_backend):
    dy, x = np.ones((1, 1, 2), dtype="complex64"), np.ones((1, 1, 4), dtype="float32")
    with pytest.raises(TypeError, match=r"^dy must have an integer or real dtype.*got complex64$") as error:
        xconv.max_pool_grad(dy, x, 2)
    assert len(error.value.args) == 1


def test_dtypes_that_do_not_promote():
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    x, w = xp.ones((1, 1, 4)), xp.ones((1, 1, 2), dtype=xp.int64)
    with pytest.raises(
        TypeError, match=r"all arrays must have dtypes that promote to one, got x of .*float64, w of .*int64"
    ) as error:
        xconv.conv(x, w)
    assert error.type is TypeError


def test_traced_geometry_is_refused_in_words(jax_backend):
    """Under jit the geometry must be static."""
    import jax

    x, w = (jax_backend.array(normal(shape)) for shape in ((1, 1, 4), (1, 1, 2)))
    for name, value in [("stride", 1), ("padding", 1), ("groups", 1), ("flip", True), ("channel_axis", 1)]:
        with pytest.raises(ValueError, match=f"^{name} must be .*mark it static, by static_argnames") as error:
            jax.jit(lambda value, name=name: xconv.conv(x, w, **{name: value}))(value)
        assert error.type is ValueError
    with pytest.raises(ValueError, match=r"^padding must be .*, got \(.*mark it static"):
        jax.jit(lambda pads: xconv.max_pool(x, 2, padding=pads))(((1, 0),))


def test_results_share_the_inputs_library_and_device(backend):
    a = Arrays(backend)
    results = [
        conv(a),
        *backward(a),
        transpose(a),
        *transpose_backward(a),
        xconv.im2col(a.x, 2),
        xconv.max_pool(a.x, 2),
        xconv.avg_pool(a.x, 2),
    ]
    assert all(array_api_compat.array_namespace(result) is backend.xp for result in results)
    assert all(array_api_compat.device(result) == backend.device for result in results)


def test_nothing_of_the_inside_comes_before_a_message():
    """What a traceback would begin with."""
    x = np.ones((1, 1, 4, 4))
    for call in (lambda: xconv.conv(x, [[1.0]]), lambda: xconv.max_pool([1.0], 2), lambda: xconv.conv(None, x)):
        with pytest.raises(TypeError, match="must be an array") as raised:
            call()
        assert raised.value.__context__ is None
