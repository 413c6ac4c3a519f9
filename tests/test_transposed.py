"""JAX's derivatives: each product of a convolution is one linear operation, and its transposes are the other two."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import reference
from geometries import normal
from test_recorded import GIVEN, bordered, calls

import xconv

METHODS = "fft", "winograd", "im2col", "toeplitz", "direct", "auto"


@pytest.fixture(params=["float64", "complex128"])
def made(request, jax_backend):
    """What makes arrays."""
    return lambda shape, seed: jax_backend.array(normal(shape, seed, request.param))


@pytest.fixture
def made_real(jax_backend):
    return lambda shape, seed: jax_backend.array(normal(shape, seed, "float64"))


def operations(function, *arrays):
    """The names of all that a program does, of programs inside as well."""
    import jax

    def names(jaxpr):
        for equation in jaxpr.eqns:
            inner = [one for one in equation.params.values() if hasattr(one, "jaxpr")]
            yield from (name for one in inner for name in names(one.jaxpr))
            yield equation.primitive.name

    return [*names(jax.make_jaxpr(function)(*arrays).jaxpr)]


@pytest.mark.parametrize("words", GIVEN, ids=str)
@pytest.mark.parametrize("name", ["conv", "conv_input_grad", "conv_weight_grad", "conv_transpose"])
def test_first_and_second_derivatives_equal_finite_differences(name, words, made):
    from jax.test_util import check_grads

    method = {} if "method" in words else {"method": "direct"}  # by "auto" some are JAX's own
    function, operands = calls(made, words | method)[name]
    check_grads(function, operands, order=2, modes=("fwd", "rev"), atol=1e-5, rtol=1e-5)


def test_a_number_beyond_the_ends_changes_by_nothing(made_real):
    import jax
    from jax.test_util import check_grads

    x, w = made_real((6, 7), 0), made_real((6, 6), 1)
    check_grads(bordered, (x, w), order=2, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6)
    (back,) = jax.vjp(lambda x: jax.vmap(bordered, (0, None))(x, w), x[None])[1](x[None])
    assert np.allclose(back[0], jax.vjp(lambda x: bordered(x, w), x)[1](x)[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "place"),
    [("conv", 0), ("conv", 1), ("conv_input_grad", 0), ("conv_weight_grad", 0), ("conv_transpose", 0)],
)
def test_what_is_linear_has_a_transpose(name, place, method, made):
    """<f(u), g> = <u, f'(g)>, without conjugates, though transforms scale operands by their largest elements."""
    import jax

    function, (*operands,) = calls(made, {"padding": 1, "method": method})[name]
    operands = operands[:2]
    operand = operands[place]

    def alone(one):
        return function(*operands[:place], one, *operands[place + 1 :])

    g = made(alone(operand).shape, 5)
    (back,) = jax.linear_transpose(alone, operand)(g)
    assert back.dtype == operand.dtype
    assert complex((back * operand).sum()) == pytest.approx(complex((alone(operand) * g).sum()), rel=1e-9)


def test_gradients_are_the_other_two_products(made_real):
    import jax

    x, w = made_real((1, 2, 9, 8), 0), made_real((3, 2, 3, 3), 1)
    loss = lambda x, w: xconv.conv(x, w, method="fft").sum()  # noqa: E731
    for wanted in (0, 1):
        assert operations(jax.grad(loss, wanted), x, w).count("convolution") == 2
    names = operations(jax.grad(loss, (0, 1)), x, w)
    assert (names.count("convolution"), "fft" in names) == (3, False)


@pytest.mark.parametrize("solver", ["gmres", "bicgstab"])
@pytest.mark.parametrize("method", ["fft", "winograd"])
def test_solvers_are_differentiated(solver, method, made_real):
    """Which transpose the operator that they are given."""
    import jax
    import jax.scipy.sparse.linalg as solvers

    b, w, c = made_real((1, 1, 6, 5), 0), made_real((1, 1, 3, 3), 1) / 20, made_real((1, 1, 6, 5), 2)
    operator = lambda v: v + xconv.conv(v, w, padding=1, method=method)  # noqa: E731
    found = jax.grad(lambda b: (c * getattr(solvers, solver)(operator, b, tol=1e-12)[0]).sum())(b)
    units = np.eye(30).reshape(30, 1, 1, 6, 5)
    columns = [one + reference.conv(one, np.asarray(w), padding=1) for one in units]
    matrix = np.stack(columns).reshape(30, 30).T
    assert np.asarray(found).ravel() == pytest.approx(np.linalg.solve(matrix.T, np.asarray(c).ravel()), abs=1e-6)


@pytest.mark.parametrize("words", GIVEN[1:3], ids=str)  # of groups, and with channels last
@pytest.mark.parametrize("name", ["conv", "conv_input_grad", "conv_weight_grad", "conv_transpose"])
@pytest.mark.parametrize("axes", [(0, None), (None, 1), (2, 0), (-1, -1)], ids=str)
def test_many_are_one_wider_product(name, words, axes, made_real):
    """Of more samples, channels, filters or groups; derivatives outside are such, too."""
    import jax

    method = {} if "method" in words else {"method": "direct"}
    function, (first, second, *_) = calls(made_real, words | method)[name]
    count, operands, each = 3, [], []
    for seed, (one, axis) in enumerate(zip((first, second), axes, strict=True)):
        some = [made_real(one.shape, 10 * at + seed) for at in range(count)]
        operands.append(one if axis is None else jax.numpy.stack(some, axis))
        each.append([one] * count if axis is None else some)
    many = jax.vmap(function, axes)
    found, expected = many(*operands), np.stack([function(*pair) for pair in zip(*each, strict=True)])
    assert np.allclose(found, expected)
    assert operations(many, *operands).count("convolution") == 1
    g = made_real(found.shape, 5)
    backs = jax.vjp(many, *operands)[1](g)
    alone = [jax.vjp(function, *pair)[1](one) for pair, one in zip(zip(*each, strict=True), g, strict=True)]
    for back, axis, single in zip(backs, axes, zip(*alone, strict=True), strict=True):
        assert np.allclose(back, sum(single) if axis is None else np.stack(single, axis))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_none_are_none(axes, made_real):
    import jax

    shapes = (2, 2, 7, 6), (3, 2, 3, 3)
    operands = [made_real(s if axis is None else (0, *s), 0) for s, axis in zip(shapes, axes, strict=True)]
    for function in (xconv.conv, jax.grad(lambda x, w: xconv.conv(x, w).sum())):
        found = jax.vmap(function, axes)(*operands)
        assert found.shape == (0, *function(*(np.zeros(s) + jax.numpy.zeros(()) for s in shapes)).shape)


@pytest.mark.parametrize("method", ["fft", "winograd", "direct", "auto"])
def test_gradients_of_each_sample_and_many_within_many(method, made_real):
    import jax

    xs, w = made_real((4, 3, 1, 2, 7, 6), 0), made_real((3, 2, 3, 3), 1)
    loss = lambda w, x: (xconv.conv(x, w, padding=1, method=method) ** 2).sum()  # noqa: E731
    found = jax.vmap(jax.vmap(jax.grad(loss), (None, 0)), (None, 0))(w, xs)
    expected = [
        2 * reference.conv_weight_grad(reference.conv(x, np.asarray(w), padding=1), x, 3, padding=1)
        for x in np.asarray(xs).reshape(-1, 1, 2, 7, 6)
    ]
    assert np.allclose(np.asarray(found).reshape(-1, *w.shape), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_bias_is_added_once(dtype, jax_backend):
    """It is no part of what is linear; half precision is rounded once more then."""
    import jax

    x, w, b = (
        jax_backend.array(normal(shape, 0, "float32")).astype(dtype) for shape in ((1, 2, 6, 5), (3, 2, 3, 3), (3,))
    )
    function = functools.partial(xconv.conv, padding=1, method="direct")
    expected = reference.conv(*(np.asarray(one, np.float64) for one in (x, w, b)), padding=1)
    found = jax.jit(function)(x, w, b)
    assert found.dtype == x.dtype
    assert np.asarray(found, np.float64) == pytest.approx(expected, abs=40 * float(jax.numpy.finfo(dtype).eps))
    assert np.asarray(jax.grad(lambda b: function(x, w, b).sum())(b), np.float64) == pytest.approx(30)


def test_nan_is_found_in_it(made_real):
    import jax
    from jax.experimental import checkify

    x, w = made_real((1, 2, 6, 5), 0), made_real((3, 2, 3, 3), 1)
    checked = checkify.checkify(jax.jit(lambda x: xconv.conv(x, w, method="direct")), errors=checkify.float_checks)
    assert checked(x)[0].get() is None
    assert "nan generated by primitive: convolution" in checked(x.at[0, 0, 0, 0].set(np.nan))[0].get()
