"""The layers against the functions, finite differences and the book's own code."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import normal

import xconv
from xconv.testing import check_gradient, numerical_gradient

LAYERS = [
    {},
    {"stride": 2, "pad": 1},
    {"pad": [(1, 2), (0, 1)], "dilation": 2},
    {"groups": 2, "padding_mode": "circular", "pad": 1},
]


def book_forward(x, W, b, stride, pad):
    """The seed's forward pass: one matrix product between im2col and a transpose."""
    FN, _, FH, FW = W.shape
    out_h, out_w = ((d + 2 * pad - f) // stride + 1 for d, f in zip(x.shape[2:], (FH, FW), strict=True))
    out = reference.book_im2col(x, FH, FW, stride, pad) @ W.reshape(FN, -1).T + b
    return out.reshape(len(x), out_h, out_w, -1).transpose(0, 3, 1, 2)


def book_backward(dout, x, W, stride, pad):
    """The seed's backward pass, that of an affine layer and then col2im."""
    FN, C, FH, FW = W.shape
    dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
    dW = (reference.book_im2col(x, FH, FW, stride, pad).T @ dout).T.reshape(FN, C, FH, FW)
    dx = reference.book_col2im(dout @ W.reshape(FN, -1), x.shape, FH, FW, stride, pad, extra_rows=stride - 1)
    return dx, dW, dout.sum(axis=0)


@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1), (3, 2)])
def test_convolution_is_the_books_s4_s5_s6(backend, stride, pad):
    x, W, b = normal((2, 3, 7, 8)), normal((4, 3, 3, 3), 1), normal((4,), 2)
    out = book_forward(x, W, b, stride, pad)
    dout = normal(out.shape, 3)
    layer = xconv.Convolution(backend.array(W), backend.array(b), stride, pad)
    assert_array(backend, layer.forward(backend.array(x)), out, terms=27)
    dx, dW, db = book_backward(dout, x, W, stride, pad)
    assert_array(backend, layer.backward(backend.array(dout)), dx, terms=36)
    assert_array(backend, layer.dW, dW, terms=112)
    assert_array(backend, layer.db, db, terms=112)


@pytest.mark.parametrize("keywords", LAYERS, ids=str)
def test_layer_and_function_agree_s4(backend, keywords):
    x, W, b = (backend.array(normal(shape, i)) for i, shape in enumerate([(2, 4, 6, 6), (2, 4, 3, 3), (2,)]))
    if keywords.get("groups"):
        W = backend.array(normal((2, 2, 3, 3), 1))
    layer = xconv.Convolution(W, b, **keywords)
    renamed = {"padding" if name == "pad" else name: value for name, value in keywords.items()} | {"method": "direct"}
    y = xconv.conv(x, W, b, **renamed)
    assert_array(backend, layer.forward(x), backend.to_numpy(y), terms=0)
    dx, dW, db = xconv.conv_backward(y, x, W, **renamed)
    assert_array(backend, layer.backward(y), backend.to_numpy(dx), terms=0)
    assert_array(backend, layer.dW, backend.to_numpy(dW), terms=0)
    assert_array(backend, layer.db, backend.to_numpy(db), terms=0)


@pytest.mark.parametrize("keywords", LAYERS, ids=str)
def test_convolution_passes_finite_differences_s5(numpy_backend, keywords):
    x, W, b = normal((2, 2, 5, 4)), normal((2, 2 // keywords.get("groups", 1), 2, 2), 1), normal((2,), 2)

    def parameter(name):
        def backward(dout):
            layer.backward(dout)
            return getattr(layer, "d" + name)

        def forward(value):
            setattr(layer, name, value)
            return layer.forward(x)

        return forward, backward

    layer = xconv.Convolution(W, b, **keywords)
    assert check_gradient(layer.forward, layer.backward, x, eps=1, rtol=1e-12) is None
    for name, value in (("W", W), ("b", b)):
        assert check_gradient(*parameter(name), value, eps=1, rtol=1e-12) is None


def test_pooling_passes_finite_differences(backend):
    """Away from ties a maximum is linear: elements a step of 1/8 apart stay in order when one moves by 1/32."""
    x = np.random.default_rng(0).permutation(36).reshape(1, 1, 6, 6) / 8
    layer = xconv.Pooling(3, 3, stride=2, pad=1)
    assert check_gradient(layer.forward, layer.backward, backend.array(x), eps=1 / 32, rtol=1e-12) is None


def test_pooling_pads_with_less_than_anything(backend):
    layer = xconv.Pooling(2, 2, stride=2, pad=1)
    out = layer.forward(backend.array(np.full((1, 1, 4, 4), -1.0)))
    assert_array(backend, out, np.full((1, 1, 3, 3), -1.0))
    first_of_each_window = np.array([[1, 1, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]])
    assert_array(backend, layer.backward(out), -1.0 * first_of_each_window[None, None])


def test_layers_keep_the_very_objects(backend):
    W, b = backend.array(normal((2, 1, 3, 3))), backend.array(normal((2,)))
    x = backend.array(normal((1, 1, 4, 4)))
    layer = xconv.Convolution(W, b)
    layer.forward(x)
    assert layer.W is W
    assert layer.b is b
    assert layer.x is x


def test_in_place_updates_of_the_weights_take_effect(numpy_backend):
    W = np.ones((1, 1, 2, 2))
    layer = xconv.Convolution(W, 0)
    x = np.ones((1, 1, 2, 2))
    before = layer.forward(x)
    W *= 3
    after = layer.forward(x)
    assert before.item() == 4
    assert after.item() == 12


@pytest.mark.parametrize("b", [0, 1.5, np.float64(2), np.float32(2), np.int64(2)], ids=type)
def test_scalar_bias_keeps_float32(backend, b):
    layer = xconv.Convolution(backend.array(np.ones((2, 1, 2, 2)), "float32"), b)
    out = layer.forward(backend.array(np.ones((1, 1, 2, 2)), "float32"))
    assert_array(backend, out, np.full((1, 2, 1, 1), 4 + float(b), dtype="float32"))
    layer.backward(out)
    assert_array(backend, layer.db, np.full((2,), 4 + float(b), dtype="float32"))


def test_books_network_shapes_in_float32(backend):
    """The book's 28x28 network: 30 filters of 5x5, then 2x2 pooling."""
    layer = xconv.Convolution(
        backend.array(normal((30, 1, 5, 5), dtype="float32")), backend.array(np.zeros(30, "float32"))
    )
    pool = xconv.Pooling(pool_h=2, pool_w=2, stride=2)
    out = pool.forward(layer.forward(backend.array(normal((3, 1, 28, 28), dtype="float32"))))
    assert tuple(out.shape) == (3, 30, 12, 12)
    dx = layer.backward(pool.backward(out))
    assert tuple(dx.shape) == (3, 1, 28, 28)
    assert all(array.dtype == backend.dtype("float32") for array in (out, dx, layer.dW, layer.db))


@pytest.mark.parametrize(
    "layer", [xconv.Convolution(np.ones((1, 1, 2, 2)), 0), xconv.Pooling(2, 2)], ids=["conv", "pool"]
)
def test_backward_before_forward_says_so(layer):
    with pytest.raises(ValueError, match="last forward: there was none") as error:
        layer.backward(np.ones((1, 1, 1, 1)))
    assert str(error.value).startswith("x must be known")


def test_numerical_gradient_of_the_layer_is_its_gradient(numpy_backend):
    """The book's own check: numerical_gradient against backward."""
    x, layer = normal((1, 1, 3, 3)), xconv.Convolution(normal((1, 1, 2, 2), 1), np.zeros(1))
    dx = numerical_gradient(lambda x: np.sum(layer.forward(x) ** 2), x)
    assert np.allclose(layer.backward(2 * layer.forward(x)), dx, rtol=1e-8)


def test_the_readmes_training_with_jax_learns(jax_backend):
    """And the layers do not, if parameters are bound anew: JAX's arrays cannot be changed, as both say."""
    readme = (pathlib.Path(xconv.__file__).parent / "README.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "import jax\n" in block)
    names = {}
    exec(code, names)
    x, W = jax_backend.array(normal((4, 1, 6, 6))), normal((2, 1, 3, 3), 1)
    target = xconv.conv(x, jax_backend.array(W), padding=1)
    params = {"W1": jax_backend.array(0 * W), "b1": jax_backend.array(np.ones(2))}
    layer, first = xconv.Convolution(params["W1"], params["b1"], pad=1), names["loss"](params, x, target)
    for _ in range(40):
        params = names["step"](params, x, target)
    assert names["loss"](params, x, target) < first / 100
    assert np.array_equal(layer.W, 0 * W)
    assert "layer.W = params" in xconv.Convolution.__doc__
    assert "layer.W = params" in readme
