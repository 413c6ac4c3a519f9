"""By "direct" every result is the sum over its own window, on every backend: nothing else's zeros, NaN or size."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import reference
from geometries import normal

import xconv

EPSILON = float(np.finfo("float32").eps)
FILL = 9.96921e36  # netCDF's fill value in float32
LAYERS = {
    "few": ((2, 1, 9, 20), (2, 1, 3, 3), {"padding": 1}),
    "depthwise": ((1, 4, 6, 17), (4, 1, 3, 5), {"padding": (1, 2), "groups": 4}),
    "strided": ((2, 4, 9, 9), (6, 2, 3, 3), {"padding": 1, "stride": 2, "groups": 2}),
}


def gradients(x, w, dy, kernel, shape, **words):
    return (
        xconv.conv(x, w, **words),
        xconv.conv_input_grad(dy, w, shape, **words),
        xconv.conv_weight_grad(dy, x, kernel, **words),
    )


def expected(x, w, dy, words):
    pads = np.broadcast_to(words["padding"], x.ndim - 2)
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pads)])  # whose zeros times NaN are NaN
    return (
        reference.conv(x, w, **words),
        reference.conv_input_grad(dy, w, x.shape, **words),
        reference.conv_weight_grad(dy, padded, w.shape[2:], **words | {"padding": 0}),
    )


@functools.cache
def case(layer, value, where):
    """Operands in float32 with blank borders and one bad number, the loops' results, and those of magnitudes."""
    shape, weight, words = LAYERS[layer]
    x, w = normal(shape, 0, "float32"), normal(weight, 1, "float32")
    x[..., :4] = 0
    dy = normal(reference.conv(x, w, **words).shape, 2, "float32")
    dy[..., :4] = 0
    {"x": x, "dy": dy}[where][0, -1, 3, -2] = value
    wide = [array.astype("float64") for array in (x, w, dy)]
    with np.errstate(invalid="ignore"):
        return (x, w, dy), expected(*wide, words), expected(*map(np.abs, wide), words)


@pytest.mark.on("numpy", "strict", "jax-jit", "torch", "cupy")
@pytest.mark.parametrize("where", ["x", "dy"])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, FILL])
@pytest.mark.parametrize("layer", LAYERS)
def test_results_are_the_sums_over_their_own_windows(backend, layer, value, where):
    """To within the rounding of each window's own magnitudes, which are zero where all it reads is zero."""
    arrays, exact, magnitudes = case(layer, value, where)
    words, (shape, weight, _) = LAYERS[layer][2] | {"method": "direct"}, LAYERS[layer]
    with np.errstate(invalid="ignore"):
        results = backend.run(gradients, *map(backend.array, arrays), kernel=weight[2:], shape=shape, **words)
    for result, one, size in zip(results, exact, magnitudes, strict=True):
        found, finite = backend.to_numpy(result), np.isfinite(one)
        assert np.array_equal(np.isfinite(found), finite)
        assert np.all(np.abs(found[finite] - one[finite]) <= 200 * EPSILON * size[finite])
    assert value == 0 or np.isfinite(exact[0]).sum() >= exact[0].size / 2
    assert np.sum(magnitudes[0 if where == "x" else 1] == 0) > 10


@pytest.mark.on("numpy", "torch")  # XLA compiles 961 taps for half a minute
@pytest.mark.parametrize("size", [32, 96])
def test_a_fill_value_stays_where_it_is_whatever_the_size(backend, size):
    """Of images so large that "auto" takes a transform, too."""
    x, w = np.random.default_rng(0).random((1, 1, size, size)).astype("float32"), np.full((1, 1, 31, 31), 1 / 961, "f4")
    x[0, 0, 3, 3] = FILL
    y = backend.to_numpy(backend.run(xconv.conv, *map(backend.array, (x, w)), padding=15, method="direct"))
    x[0, 0, 3, 3] = 0
    clean = xconv.conv(x.astype("float64"), w.astype("float64"), padding=15, method="im2col")
    assert np.allclose(y[0, 0, 19:, :], clean[0, 0, 19:, :], rtol=0, atol=1e-5)
    assert np.allclose(y[0, 0, :, 19:], clean[0, 0, :, 19:], rtol=0, atol=1e-5)


def relu_network(method=None):
    """The book's way of stacking its layers: convolution, ReLU, convolution, ReLU, pooling, and so on."""
    words = {} if method is None else {"method": method}
    channels = [1, 4, 4, 6, 6]
    return [
        xconv.Convolution(normal((k, c, 3, 3), k + seed) * np.sqrt(2 / (9 * c)), np.zeros(k), stride=1, pad=1, **words)
        for seed, (c, k) in enumerate(itertools.pairwise(channels))
    ]


def test_gradients_of_the_books_network_are_the_loops_layer_by_layer(numpy_backend):
    """Images with blank borders, biases of zero: a ReLU lets no gradient through where its input is exactly zero."""
    x = np.zeros((2, 1, 12, 12))
    x[:, :, 4:8, 5:9] = normal((2, 1, 4, 4))
    layers, masks, entered = relu_network(), [], []
    for layer in layers:
        entered.append(x)
        out = reference.conv(x, layer.W, layer.b, padding=1)
        assert np.array_equal(layer.forward(x) > 0, out > 0)
        assert np.array_equal(layer.forward(x) == 0, out == 0)
        masks.append(out > 0)
        x = out * masks[-1]
    dout = found = normal(x.shape, 9)
    for layer, mask, x in list(zip(layers, masks, entered, strict=True))[::-1]:
        dout, found = dout * mask, found * mask
        gradients = (
            reference.conv_input_grad(dout, layer.W, x.shape, padding=1),
            reference.conv_weight_grad(dout, x, 3, padding=1),
            reference.bias_grad(dout),
        )
        found = layer.backward(found)
        for one, exact in zip((found, layer.dW, layer.db), gradients, strict=True):
            assert np.max(np.abs(one - exact)) <= 1e-12 * np.max(np.abs(exact))
        dout = gradients[0]


def test_a_method_that_transforms_loses_those_zeros(numpy_backend):
    """Why the layers do not take the fastest method."""
    x = np.zeros((2, 4, 12, 12))
    x[:, :, 4:8, 5:9] = normal((2, 4, 4, 4))
    exact, other = (relu_network(method)[1].forward(x) for method in (None, "fft"))
    assert np.sum(exact == 0) > 4 * np.sum(other == 0)


def _filled(kind):
    """An image of numbers between 0 and 1 with outliers, and where the windows of 31x31 read none."""
    image, clean = np.random.default_rng(0).random((1, 1, 256, 256)).astype("float32"), np.ones((256, 256), bool)
    if kind == "land":
        image[..., :80, :] = FILL
        clean[:96, :] = False
    else:
        image[..., 3, 3] = {"a bright one": 1e6}.get(kind, FILL)
        clean[:19, :19] = False
        if kind == "one beside a NaN":
            image[..., 3, 5], clean[:19, :21] = np.nan, False
    return image, clean


@pytest.mark.on("numpy", "torch")
@pytest.mark.parametrize("kind", ["one fill value", "a bright one", "land", "one beside a NaN"])
def test_auto_takes_no_large_transforms_of_far_outliers(backend, kind):
    """Where elements can be looked at: what does not read the outliers is as exact as elsewhere, gradients too."""
    image, clean = _filled(kind)
    box = np.full((1, 1, 31, 31), 1 / 961, "float32")
    want = reference_of_boxes(image)
    x, w = backend.array(image), backend.array(box)
    y = backend.to_numpy(xconv.conv(x, w, padding=15))
    dx = backend.to_numpy(xconv.conv_input_grad(x, w, image.shape, padding=15))
    for result in (y, dx):
        assert np.max(np.abs(result[0, 0] - want)[clean]) <= 961 * EPSILON


def reference_of_boxes(image):
    """The mean over 31x31 with zeros around, by differences of sums, as if there were no outliers."""
    image = np.where(image <= 1, image, 0).astype("float64")  # of NaN, too
    sums = np.cumsum(np.cumsum(np.pad(image[0, 0], ((16, 15), (16, 15))), axis=0), axis=1)
    return (sums[31:, 31:] - sums[:-31, 31:] - sums[31:, :-31] + sums[:-31, :-31]) / 961


def test_outliers_are_left_to_transforms_where_no_other_method_is_bearable(numpy_backend, monkeypatch):
    """A kernel as large as the image, directly, would take minutes."""
    image = np.random.default_rng(0).random((1, 1, 600, 600)).astype("float32")
    image[0, 0, 3, 3] = FILL
    y = xconv.conv(image, np.ones((1, 1, 600, 600), "float32"), padding="full")
    assert y.shape == (1, 1, 1199, 1199)
    assert np.isfinite(y).all()


def test_few_elements_of_many_magnitudes_are_summed_directly(numpy_backend):
    numbers = np.array([0.0] * 10000 + [10.0 ** (9 * i) for i in range(10)])
    y = xconv.conv(numbers[None, None], numbers[None, None], padding="full", flip=True)[0, 0]
    assert np.isclose(y[-19], 1.0)
