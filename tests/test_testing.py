"""The public checks find what is wrong and let pass what is right."""

from __future__ import annotations

import numpy as np
import pytest
from backends import assert_array
from geometries import normal

from xconv.testing import check_adjoint, check_gradient, numerical_gradient


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_numerical_gradient_of_a_quadratic(backend, dtype):
    """d|x|^2 = 2x; for complex x the gradient points along x as well."""
    x = normal((2, 3), dtype=dtype)
    dx = numerical_gradient(lambda x: backend.xp.sum(backend.xp.abs(x) ** 2), backend.array(x))
    assert_array(backend, dx, 2 * x, terms=1e6)  # epsilon ** (2/3), as central differences have it


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_numerical_gradient_of_a_linear_map_is_its_adjoint(backend, dtype):
    matrix, x, dy = normal((3, 4), dtype=dtype), normal((4,), 1, dtype), normal((3,), 2, dtype)
    dx = numerical_gradient(
        lambda x: backend.xp.matmul(backend.array(matrix), x), backend.array(x), backend.array(dy), eps=1
    )
    assert_array(backend, dx, matrix.conj().T @ dy, terms=16)


def test_numerical_gradient_leaves_its_input_alone(backend):
    values = normal((3,))
    x = backend.array(values)
    numerical_gradient(lambda x: backend.xp.sum(x), x)
    assert np.array_equal(backend.to_numpy(x), values)


def test_check_gradient_accepts_the_gradient(backend):
    x = backend.array(normal((2, 3)))
    assert check_gradient(lambda x: x**3, lambda dy: 3 * x**2 * dy, x) is None


def test_check_gradient_finds_a_wrong_gradient(backend):
    x = backend.array(normal((2, 3)))
    message = "backward must give the numerical gradient of forward at x, got one that deviates by"
    with pytest.raises(AssertionError, match=message) as error:
        check_gradient(lambda x: x**3, lambda dy: 3 * x**2 * dy * 1.001, x)
    assert "more than" in str(error.value)


def test_check_gradient_finds_a_wrong_shape(backend):
    x = backend.array(normal((2, 3)))
    with pytest.raises(AssertionError, match=r"backward must return the shape \(2, 3\) of x, got \(3,\)") as error:
        check_gradient(lambda x: x, lambda dy: dy[0, ...], x)
    assert error.type is AssertionError


def test_check_gradient_finds_nan(backend):
    x = backend.array(normal((2, 3)))
    with pytest.raises(AssertionError, match="deviates") as error:
        check_gradient(lambda x: x, lambda dy: dy * float("nan"), x)
    assert "nan" in str(error.value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", "int64"])
def test_check_adjoint_accepts_the_transpose(backend, dtype):
    matrix, x, y = normal((3, 4), dtype=dtype), normal((4,), 1, dtype), normal((3,), 2, dtype)
    forward, adjoint = backend.array(matrix), backend.array(matrix.conj().T)

    def product(matrix, vector):
        """PyTorch has none of integer matrices on a GPU."""
        return backend.xp.sum(matrix * vector, axis=-1, dtype=vector.dtype)

    outcome = check_adjoint(
        lambda x: product(forward, x), lambda y: product(adjoint, y), backend.array(x), backend.array(y)
    )
    assert outcome is None


def test_check_adjoint_finds_what_is_not_adjoint(backend):
    x, y = backend.array(normal((4,))), backend.array(normal((4,), 1))
    with pytest.raises(AssertionError, match=r"must be <forward\(x\), y> = .* differs by .* of rtol") as error:
        check_adjoint(lambda x: x, lambda y: y * 1.001, x, y)
    assert "more than" in str(error.value)


def test_check_adjoint_finds_a_wrong_shape(backend):
    x, y = backend.array(normal((4,))), backend.array(normal((3,), 1))
    with pytest.raises(AssertionError, match=r"forward must return the shape \(3,\) of y for x, got \(4,\)") as error:
        check_adjoint(lambda x: x, lambda y: y, x, y)
    assert error.type is AssertionError
