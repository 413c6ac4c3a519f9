"""The backends' own differentiation through xconv equals xconv's explicit gradients."""

from __future__ import annotations

import numpy as np
import pytest
from backends import assert_array
from geometries import FULL_CASES, TRANSPOSED, normal, output_shape, transposed_shape

import xconv

# Those that differentiate by themselves: of watched tensors PyTorch records all operations, of others each product.
pytestmark = pytest.mark.on("jax-jit", "torch", "torch-watched")

POOLS = [
    ((2, 2, 7, 6), 3, {"stride": 2, "padding": 1}),
    ((1, 2, 5, 5), 2, {"stride": 2, "ceil_mode": True, "channel_axis": -1}),
    ((1, 1, 6), 3, {"stride": 1, "padding": [(2, 0)], "dilation": 2}),
]


def vector_jacobian_product(backend, function, arrays, dy):
    """The backend's own gradients of <function(*arrays), dy> by each array."""
    if backend.name.startswith("torch"):
        leaves = [array.clone().requires_grad_() for array in arrays]
        function(*leaves).backward(dy)
        return [leaf.grad for leaf in leaves]
    import jax

    def gradients(dy, *arrays):
        return jax.vjp(function, *arrays)[1](dy)

    return backend.run(gradients, dy, *arrays)


@pytest.mark.over("case", FULL_CASES)
def test_own_gradients_of_conv_equal_conv_backward(backend, case):
    shapes = case.input_shape, case.weight_shape, (case.weight_shape[0],)
    x, w, b = (backend.array(normal(shape, seed)) for seed, shape in enumerate(shapes))
    dy = backend.array(normal(output_shape(case), 3))
    own = vector_jacobian_product(backend, lambda x, w, b: xconv.conv(x, w, b, **case.keywords), (x, w, b), dy)
    explicit = backend.run(xconv.conv_backward, dy, x, w, **case.keywords)
    for ours, theirs in zip(explicit, own, strict=True):
        assert_array(backend, ours, backend.to_numpy(theirs), terms=case.terms)


@pytest.mark.over("case", TRANSPOSED[1::2])
def test_own_gradients_of_conv_transpose_equal_conv_transpose_backward(backend, case):
    shape = transposed_shape(case)
    shapes = output_shape(case), case.weight_shape, (shape[case.keywords.get("channel_axis", 1)],), shape
    x, w, b, dy = (backend.array(normal(shape, seed)) for seed, shape in enumerate(shapes))

    def function(x, w, b):
        return xconv.conv_transpose(x, w, b, **case.keywords)

    own = vector_jacobian_product(backend, function, (x, w, b), dy)
    explicit = backend.run(xconv.conv_transpose_backward, dy, x, w, **case.keywords)
    for ours, theirs in zip(explicit, own, strict=True):
        assert_array(backend, ours, backend.to_numpy(theirs), terms=case.terms)


@pytest.mark.over("pool", POOLS)
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_own_gradients_of_pools_equal_the_explicit_ones(backend, pool, ties):
    """Also at ties, where differentiating a plain maximum would split the gradient in halves."""
    shape, kernel, keywords = pool
    values = normal(shape)
    x = backend.array(np.round(values) if ties else values)
    dy = backend.array(normal(tuple(xconv.max_pool(x, kernel, **keywords).shape), 1))
    (own,) = vector_jacobian_product(backend, lambda x: xconv.max_pool(x, kernel, **keywords), (x,), dy)
    assert_array(backend, xconv.max_pool_grad(dy, x, kernel, **keywords), backend.to_numpy(own), terms=x.ndim)
    (own,) = vector_jacobian_product(backend, lambda x: xconv.avg_pool(x, kernel, **keywords), (x,), dy)
    assert_array(backend, xconv.avg_pool_grad(dy, shape, kernel, **keywords), backend.to_numpy(own), terms=9)


def test_own_gradient_of_im2col_is_col2im(backend):
    shape, keywords = (2, 2, 5, 6), {"stride": 2, "padding": [(1, 0), (2, 1)], "dilation": (1, 2)}
    x = backend.array(normal(shape))
    col = xconv.im2col(x, 3, **keywords)
    rows = backend.array(normal(tuple(col.shape), 1))
    (dx,) = vector_jacobian_product(backend, lambda x: xconv.im2col(x, 3, **keywords), (x,), rows)
    assert_array(backend, xconv.col2im(rows, shape, 3, **keywords), backend.to_numpy(dx), terms=9)
    (drows,) = vector_jacobian_product(backend, lambda rows: xconv.col2im(rows, shape, 3, **keywords), (rows,), x)
    assert_array(backend, col, backend.to_numpy(drows), terms=0)
