"""What JAX and PyTorch do to functions: compile, differentiate any way and any number of times, vectorise."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import reference
from backends import assert_array, assert_values
from geometries import normal

import xconv
from xconv._methods import METHODS

KEYWORDS = {"stride": 2, "padding": [(6, 2), (0, 13)], "groups": 2, "padding_mode": "symmetric"}  # on and on
X, W = (4, 5, 6), (6, 2, 3, 2)  # one image; the filters


def images(count):
    return normal((count, 1, *X))


def filters(count):
    return normal((count, *W), 1)


def convolve(x, w):
    return xconv.conv(x, w, **KEYWORDS)


# Each is a function of (x, w) with arrays in and one array out.
FUNCTIONS = {
    "conv": convolve,
    "conv_transpose": lambda x, w: xconv.conv_transpose(convolve(x, w), w, **KEYWORDS, output_padding=(0, 0)),
    "conv_transpose_backward": lambda x, w: xconv.conv_transpose_backward(
        x, convolve(x, w), w, **KEYWORDS, output_padding=(0, 1)
    )[1],
    "conv_input_grad": lambda x, w: xconv.conv_input_grad(convolve(x, w), w, x.shape, **KEYWORDS),
    "conv_weight_grad": lambda x, w: xconv.conv_weight_grad(convolve(x, w), x, (3, 2), **KEYWORDS),
    "im2col": lambda x, w: xconv.im2col(x, 3, stride=2, padding=1),
    "col2im": lambda x, w: xconv.col2im(xconv.im2col(x, 3, stride=2, padding=1), x.shape, 3, stride=2, padding=1),
    "max_pool": lambda x, w: xconv.max_pool(x, 2, padding=1),
    "max_unpool": lambda x, w: xconv.max_unpool(*xconv.max_pool(x, 2, return_indices=True), 2),
    "max_pool_grad": lambda x, w: xconv.max_pool_grad(xconv.max_pool(x, 2, padding=1), x, 2, padding=1),
    "avg_pool": lambda x, w: xconv.avg_pool(x, 2, padding=1, ceil_mode=True),
    "avg_pool_grad": lambda x, w: xconv.avg_pool_grad(xconv.avg_pool(x, 2), x.shape, 2),
}


def loop(function, xs, ws):
    """What vmap over both operands means."""
    return np.stack([np.asarray(function(x, w)) for x, w in zip(xs, ws, strict=True)])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jax_vmap_over_inputs_and_over_weights(jax_backend, name):
    import jax

    function, xs, ws = FUNCTIONS[name], images(3), filters(3)
    both = jax.jit(jax.vmap(function))(xs, ws)
    assert_array(jax_backend, both, loop(function, xs, ws), terms=1000)
    inputs = jax.jit(jax.vmap(function, in_axes=(0, None)))(xs, ws[0])
    assert_array(jax_backend, inputs, loop(function, xs, ws[[0, 0, 0]]), terms=1000)
    if "conv" in name:
        weights = jax.jit(jax.vmap(function, in_axes=(None, 0)))(xs[0], ws)
        assert_array(jax_backend, weights, loop(function, xs[[0, 0, 0]], ws), terms=1000)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_vmap_over_inputs_and_over_weights(torch_backend, name):
    import torch

    function = FUNCTIONS[name]
    xs, ws = torch_backend.array(images(3)), torch_backend.array(filters(3))
    expected = loop(function, images(3), filters(3))
    assert_array(torch_backend, torch.func.vmap(function)(xs, ws), expected, terms=1000)
    inputs = torch.func.vmap(function, in_dims=(0, None))(xs, ws[0])
    assert_array(torch_backend, inputs, loop(function, images(3), filters(3)[[0, 0, 0]]), terms=1000)
    if "conv" in name:
        weights = torch.func.vmap(function, in_dims=(None, 0))(xs[0], ws)
        assert_array(torch_backend, weights, loop(function, images(3)[[0, 0, 0]], filters(3)), terms=1000)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch loops over the conjugates of spectra
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize("method", METHODS)
def test_torch_vmap_through_every_method(torch_backend, method, channel_axis):
    """Over the filters, and over dy of a gradient that adds overlaps."""
    import torch

    x, ws = normal((2, 4, 12, 12)), normal((3, 4, 2, 3, 3), 1)
    keywords = {"groups": 2, "stride": 1 if method == "winograd" else 2, "method": method, "channel_axis": channel_axis}
    if channel_axis == -1:
        x = np.moveaxis(x, 1, -1)

    def forward(w):
        return xconv.conv(torch_backend.array(x), w, **keywords)

    def gradient(dy):
        return xconv.conv_input_grad(dy, torch_backend.array(ws[0]), x.shape, **keywords)

    dys = np.stack([torch_backend.to_numpy(forward(torch_backend.array(w))) for w in ws])
    for function, operands in ((forward, ws), (gradient, dys)):
        batch = torch_backend.array(operands)
        alone = torch.stack([function(operand) for operand in batch])
        assert_array(torch_backend, torch.func.vmap(function)(batch), torch_backend.to_numpy(alone), terms=1000)


@pytest.mark.parametrize("name", ["forward", "input", "weight"])
def test_torch_vmap_over_the_second_operand_in_blocks(torch_backend, name):
    """What blocks write to is made before the first product, and must have the hidden axis of either operand."""
    import torch

    x, w, dy = normal((3, 2, 12, 12)), normal((4, 2, 3, 3), 1), normal((3, 4, 10, 10), 2)
    keywords = {"method": "im2col", "max_workspace": 20_000}
    function, first, second = {
        "forward": (lambda w, x: xconv.conv(x, w, **keywords), x, w),
        "input": (lambda w, dy: xconv.conv_input_grad(dy, w, x.shape, **keywords), dy, w),
        "weight": (lambda x, dy: xconv.conv_weight_grad(dy, x, 3, **keywords), dy, x),
    }[name]
    one, batch = torch_backend.array(first), torch_backend.array(np.stack([second, 2 * second, -second]))
    alone = torch.stack([function(operand, one) for operand in batch])
    together = torch.func.vmap(function, in_dims=(0, None))(batch, one)
    assert_array(torch_backend, together, torch_backend.to_numpy(alone), terms=1000)


SMALL = {"stride": 2, "padding": 2, "padding_mode": "reflect"}
SEVERAL = {  # functions of several arrays, and their shapes
    "conv": (lambda x, w, b, **words: xconv.conv(x, w, b, **words), (2, 3, 9), (4, 3, 2), (4,)),
    "conv_transpose": (lambda x, w, b, **words: xconv.conv_transpose(x, w, b, **words), (2, 4, 6), (4, 3, 2), (3,)),
    "framed": (lambda x, w, b, **words: xconv.conv_transpose(x, w, b, **SMALL, **words), (2, 4, 6), (4, 3, 2), (3,)),
    "input": (lambda dy, w, **words: xconv.conv_input_grad(dy, w, (2, 3, 9), **words), (2, 4, 8), (4, 3, 2)),
    "weight": (lambda dy, x, **words: xconv.conv_weight_grad(dy, x, 2, **words), (2, 4, 8), (2, 3, 9)),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # PyTorch loops over the conjugates of spectra
@pytest.mark.parametrize("method", ["auto", "native", "im2col", "toeplitz", "fft"])
@pytest.mark.parametrize("name", SEVERAL)
def test_torch_vmap_over_any_of_several_operands(torch_backend, name, method):
    """The others have no hidden axis, and what is made of them alone may be written what has."""
    function, *shapes = SEVERAL[name]
    assert_mapped(torch_backend, lambda *operands: function(*operands, method=method), shapes)


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_torch_vmap_over_a_bias_that_results_of_other_sums_have(torch_backend, mode, dtype):
    """In blocks, and frames in pieces, which are rounded as they are written."""
    import torch

    x, w, b = (torch_backend.array(np.ones(shape), dtype) for shape in ((1, 1, 9), (1, 1, 3), (2, 1)))
    words = {"padding": 1, "padding_mode": mode, "max_workspace": 400}
    found = torch.func.vmap(lambda b: xconv.conv_transpose(x, w, b, **words))(b)
    assert_array(torch_backend, found[0], torch_backend.to_numpy(xconv.conv_transpose(x, w, b[0], **words)))


def test_torch_vmap_over_either_operand_of_a_pools_gradient(torch_backend):
    assert_mapped(torch_backend, lambda dy, x: xconv.max_pool_grad(dy, x, 2), [(2, 3, 2, 2), (2, 3, 5, 5)])


def assert_mapped(backend, function, shapes):
    """Over each subset of the operands."""
    import torch

    for chosen in itertools.product((0, None), repeat=len(shapes)):
        several = [backend.array(normal((3, *shape), seed)) for seed, shape in enumerate(shapes)]
        given = [one if axis == 0 else one[0] for one, axis in zip(several, chosen, strict=True)]
        if 0 in chosen:
            found = torch.func.vmap(function, in_dims=chosen)(*given)
            sets = [[one[at] if axis == 0 else one for one, axis in zip(given, chosen, strict=True)] for at in range(3)]
            alone = torch.stack([function(*operands) for operands in sets])
            assert_array(backend, found, backend.to_numpy(alone), terms=1000)


def test_jax_jvp_is_linear_in_each_operand(jax_backend):
    """conv is bilinear: its derivative along (dx, dw) is conv(dx, w) + conv(x, dw)."""
    import jax

    (x, dx), (w, dw) = images(2), filters(2)
    y, dy = jax.jit(lambda *a: jax.jvp(convolve, a[:2], a[2:]))(x, w, dx, dw)
    assert_array(jax_backend, y, reference.conv(x, w, **KEYWORDS), terms=100)
    assert_array(jax_backend, dy, reference.conv(dx, w, **KEYWORDS) + reference.conv(x, dw, **KEYWORDS), terms=100)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by torch's own import
def test_torch_jvp_is_linear_in_each_operand(torch_backend):
    import torch

    (x, dx), (w, dw) = images(2), filters(2)
    tensors = [tuple(map(torch_backend.array, pair)) for pair in ((x, w), (dx, dw))]
    _, dy = torch.func.jvp(convolve, *tensors)
    expected = reference.conv(dx, w, **KEYWORDS) + reference.conv(x, dw, **KEYWORDS)
    assert_array(torch_backend, dy, expected, terms=100)


def test_jax_hessian_vector_products(jax_backend):
    """Of <c, conv(x, w)^2>/2 by x: H v = conv_input_grad(c * conv(v, w), w)."""
    import jax

    (x, v), (w, _) = images(2), filters(2)
    c = normal(reference.conv(x, w, **KEYWORDS).shape, 2)

    def loss(x, w):
        return jax.numpy.sum(c * convolve(x, w) ** 2) / 2

    product = jax.jit(lambda x, w, v: jax.jvp(lambda x: jax.grad(loss)(x, w), (x,), (v,))[1])(x, w, v)
    expected = reference.conv_input_grad(c * reference.conv(v, w, **KEYWORDS), w, x.shape, **KEYWORDS)
    assert_array(jax_backend, product, expected, terms=1000)


@pytest.mark.parametrize("transform", ["checkpoint", "scan"])
def test_jax_checkpoint_and_scan(jax_backend, transform):
    """Two layers, each recomputed in the backward pass, or run by lax.scan."""
    import jax

    x, ws = normal((1, 4, 5, 5)), normal((2, 4, 4, 3, 3), 1) / 6

    def layer(x, w):
        return xconv.conv(x, w, padding=1), None

    def plain(x, ws):
        return jax.numpy.sum(layer(layer(x, ws[0])[0], ws[1])[0] ** 3)

    def transformed(x, ws):
        if transform == "scan":
            return jax.numpy.sum(jax.lax.scan(layer, x, ws)[0] ** 3)
        step = jax.checkpoint(lambda x, w: layer(x, w)[0])
        return jax.numpy.sum(step(step(x, ws[0]), ws[1]) ** 3)

    expected, actual = (jax.jit(jax.grad(f, argnums=1))(x, jax.numpy.asarray(ws)) for f in (plain, transformed))
    assert_array(jax_backend, actual, np.asarray(expected), terms=1000)


def test_jax_bfloat16_gradients_keep_their_dtype(jax_backend):
    import jax

    x, w = (jax.numpy.asarray(normal(shape), dtype="bfloat16") for shape in ((1, 4, 5, 6), W))
    dx, dw = jax.jit(jax.grad(lambda x, w: jax.numpy.sum(convolve(x, w)), argnums=(0, 1)))(x, w)
    assert (dx.dtype, dw.dtype) == (x.dtype, w.dtype)
    exact = [np.asarray(array, dtype="float64") for array in (x, w)]
    ones = np.ones_like(reference.conv(*exact, **KEYWORDS))
    expected = reference.conv_input_grad(ones, exact[1], x.shape, **KEYWORDS)
    assert_values(np.asarray(dx, dtype="float64"), expected, 2**-7)


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_input_grad", "conv_weight_grad"])
def test_torch_gradcheck_and_gradgradcheck(torch_backend, name):
    import torch

    x = torch_backend.array(normal((1, 2, 3, 4))).requires_grad_()
    w = torch_backend.array(normal((2, 1, 2, 2), 1)).requires_grad_()
    keywords = {"stride": (1, 2), "padding": [(1, 0), (1, 1)], "groups": 2, "padding_mode": "reflect"}
    functions = {
        "conv": lambda x, w: xconv.conv(x, w, **keywords),
        "conv_transpose": lambda x, w: xconv.conv_transpose(x, w, **keywords),
        "conv_input_grad": lambda x, w: xconv.conv_input_grad(x, w, (1, 2, 3, 7), **keywords),
        "conv_weight_grad": lambda x, w: xconv.conv_weight_grad(xconv.conv(x, w, **keywords), x, 2, **keywords),
    }
    assert torch.autograd.gradcheck(functions[name], (x, w))
    assert torch.autograd.gradgradcheck(functions[name], (x, w))


def test_torch_gradcheck_of_pools(torch_backend):
    import torch

    x = torch_backend.array(np.random.default_rng(0).permutation(24).reshape(1, 2, 3, 4) / 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: xconv.max_pool(x, 2, stride=1, padding=1), (x,))
    assert torch.autograd.gradgradcheck(lambda x: xconv.max_pool(x, 2, stride=1, padding=1) ** 2, (x,))
    assert torch.autograd.gradgradcheck(lambda x: xconv.avg_pool(x, 2, stride=1, padding=1) ** 2, (x,))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_grad_under_vmap(torch_backend, name):
    """Per-example gradients."""
    import torch

    xs, ws = torch_backend.array(images(2)), torch_backend.array(filters(2))

    def loss(x, w):
        return (FUNCTIONS[name](x, w) ** 2).sum()

    together = torch.func.vmap(torch.func.grad(loss))(xs, ws)
    alone = torch.stack([torch.func.grad(loss)(x, w) for x, w in zip(xs, ws, strict=True)])
    assert_array(torch_backend, together, torch_backend.to_numpy(alone), terms=1000)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_compile(torch_backend, name):
    """One graph, without a break."""
    import torch

    x, w = torch_backend.array(images(1)[0]), torch_backend.array(filters(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of every cache that it looks through
        compiled = torch.compile(FUNCTIONS[name], backend="aot_eager", fullgraph=True)(x, w)
    expected = np.asarray(FUNCTIONS[name](images(1)[0], filters(1)[0]))
    assert_array(torch_backend, compiled, expected, terms=1000)
