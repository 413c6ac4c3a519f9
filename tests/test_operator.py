"""Convolutions as linear operators: against matrices made by the loops, the adjoint identity, and in solvers."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import FULL_CASES, MODES, Case, normal

import xconv

COMPLEX = Case(
    (2, 2, 5, 4), (4, 1, 3, 2), {"stride": (2, 1), "padding": "same", "groups": 2, "padding_mode": "circular"}
)
OPERATORS = [*FULL_CASES, COMPLEX]


@reference.remembered
def matrix(case, w):
    """The dense matrix, a column for each element of x, by the loops."""
    units = np.eye(int(np.prod(case.input_shape)))
    columns = [reference.conv(unit.reshape(case.input_shape), w, **case.keywords).reshape(-1) for unit in units]
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0), w.dtype)


def message(kind, function, *arguments, **words):
    with pytest.raises(kind) as caught:
        function(*arguments, **words)
    return str(caught.value)


@pytest.mark.on("numpy", "jax", "torch", "strict", "cupy")
@pytest.mark.over("case", OPERATORS)
def test_products_are_those_of_the_matrix(backend, case):
    dtype = "complex128" if case is COMPLEX else "float64"
    w = normal(case.weight_shape, 1, dtype)
    dense = matrix(case, w)
    rows, columns = dense.shape
    v, V, u, U = (normal(shape, i, dtype) for i, shape in enumerate([columns, (columns, 3), rows, (rows, 2)]))

    def products(w, *operands):
        v, V, u, U = operands
        A = xconv.linear_operator(w, case.input_shape, **case.keywords)
        assert tuple(A.shape) == dense.shape
        assert A.dtype == w.dtype
        assert A.H.shape == A.T.shape == A.shape[::-1]
        return A @ v, A.matvec(v), A @ V, A.matmat(V), A.H @ u, A.rmatvec(u), A.H @ U, A.rmatmat(U), A.T @ u, A.H.H @ v

    found = backend.run(products, *map(backend.array, (w, v, V, u, U)))
    H = dense.conj().T
    expected = dense @ v, dense @ v, dense @ V, dense @ V, H @ u, H @ u, H @ U, H @ U, dense.T @ u, dense @ v
    for one, other in zip(found, expected, strict=True):
        assert_array(backend, one, other, terms=8 * case.terms)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_adjoint_identity(mode, dtype):
    w = normal((4, 3, 3, 2), 0, dtype)
    words = {"stride": (2, 1), "padding": [(2, 1), (0, 3)], "padding_mode": mode, "channel_axis": -1, "flip": True}
    A = xconv.linear_operator(w, (2, 9, 7, 3), **words)
    x, y = normal((A.shape[1],), 1, dtype), normal((A.shape[0],), 2, dtype)
    left, right = np.vdot(A @ x, y), np.vdot(x, A.H @ y)
    assert abs(left - right) <= 1e-13 * np.linalg.norm(A @ x) * np.linalg.norm(y)


def composites(A, B, C, a, b, c):
    """Of two operators of one shape, and one from arrays in another shape: operators, and their matrices."""
    return [
        (A.H @ A, a.conj().T @ a),
        (2 * A, 2 * a),
        (A * (1 - 2j), (1 - 2j) * a),
        (A + B, a + b),
        (A - B / 2, a - b / 2),
        (-A.T, -a.T),
        ((2j * A.H @ B).H, (2j * a.conj().T @ b).conj().T),
        ((A.H @ A + A.T @ B) ** np.int64(2), np.linalg.matrix_power(a.conj().T @ a + a.T @ b, 2)),
        ((A.H @ B) ** 0, np.eye(a.shape[1])),
        (C @ A, c @ a),
        ((C + C @ (A @ A.H)).T, (c + c @ a @ a.conj().T).T),
    ]


def three_operators(array):
    """For `composites`: of which the third reads arrays of two samples."""
    w, v, u = (normal(shape, i, "complex128") for i, shape in enumerate([(2, 1, 3), (2, 1, 3), (1, 1, 5)]))
    shapes = [(1, 1, 12), (1, 1, 12), (2, 1, 12)]
    made = [
        xconv.linear_operator(array(one), shape, padding="same") for one, shape in zip((w, v, u), shapes, strict=True)
    ]
    dense = [
        matrix(Case(shape, one.shape, {"padding": "same"}), one) for one, shape in zip((w, v, u), shapes, strict=True)
    ]
    return *made, *dense


@pytest.mark.on("numpy", "jax", "torch", "strict", "cupy")
def test_arithmetic(backend):
    for made, dense in composites(*three_operators(backend.array)):
        x, y, X = (
            normal(shape, i, "complex128")
            for i, shape in enumerate([dense.shape[1], dense.shape[0], (dense.shape[1], 2)])
        )
        assert tuple(made.shape) == dense.shape
        for product in (made @ backend.array(x), made.dot(backend.array(x))):
            assert_array(backend, product, dense @ x, terms=2000)
        assert_array(backend, made.H @ backend.array(y), dense.conj().T @ y, terms=2000)
        assert_array(backend, made @ backend.array(X), dense @ X, terms=2000)


@pytest.mark.on("numpy", "jax", "torch", "strict")
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles(backend, again):
    """Of sums, products and transposes as well, which lead processes of others, and checkpoints, back to their maps."""
    for made, dense in composites(*three_operators(backend.array)):
        copied = again(made)
        assert type(copied) is type(made)
        assert (tuple(copied.shape), copied.dtype) == (dense.shape, made.dtype)
        for one, matrix in ((copied, dense), (copied.H, dense.conj().T), (copied.T, dense.T), (again(made.T), dense.T)):
            x = normal((matrix.shape[1],), 0, "complex128")
            assert_array(backend, one @ backend.array(x), matrix @ x, terms=2000)


def test_another_process_unpickles_what_it_never_made():
    pytest.importorskip("scipy", reason="scipy is not installed")
    A, x = xconv.linear_operator(np.ones((1, 1, 3)), (1, 1, 5), padding=1), np.arange(5.0)
    code = f"import pickle, numpy; print(list(pickle.loads({pickle.dumps(A.T)!r}) @ numpy.arange(5.0)))"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == str(list(A.T @ x))


@pytest.mark.on("jax", "torch")
@pytest.mark.parametrize("number", [2 - 1j, np.complex64(2 - 1j), np.complex128(2 - 1j), np.float32(2), np.int8(2)])
def test_numbers_of_numpys(backend, number):
    """Of NumPy's own operators, which are SciPy's, it is SciPy that computes with them."""
    w = normal((1, 1, 3), dtype="complex64")
    dense = matrix(Case((1, 1, 6), w.shape, {"padding": 1}), w)
    made = xconv.linear_operator(backend.array(w), (1, 1, 6), padding=1)
    x, y = normal((6,), 1, "complex64"), normal((6,), 2, "complex64")
    for one, factor in ((made * number, number), (number * made, number), (made / number, 1 / number)):
        for found, expected in [
            (one @ backend.array(x), factor * dense @ x),
            (one.H @ backend.array(y), (factor * dense).conj().T @ y),
        ]:
            assert_array(backend, found, expected.astype("complex64"), terms=20)


@pytest.mark.on("torch")
@pytest.mark.filterwarnings("error")
def test_from_the_left_by_one_row(backend):
    w, y = normal((1, 1, 3)), normal((6,), 1)
    dense = matrix(Case((1, 1, 6), w.shape, {"padding": 1}), w)
    made = xconv.linear_operator(backend.array(w), (1, 1, 6), padding=1)
    assert_array(backend, backend.array(y) @ made, y @ dense, terms=20)
    assert_array(backend, backend.array(y[None]) @ made, y[None] @ dense, terms=20)


@pytest.mark.parametrize("chunked_filters", [True, False])
def test_arithmetic_leaves_chunks_uncomputed(chunked_filters):
    """SciPy's own sums and products make an array of what they are given."""
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    for made, dense in composites(*three_operators(da.from_array if chunked_filters else np.asarray)):
        x, y, X = (
            normal(shape, i, "complex128")
            for i, shape in enumerate([dense.shape[1], dense.shape[0], (dense.shape[1], 2)])
        )
        lazy = [da.from_array(one, chunks=5) for one in (x, y, X)]
        for found, expected in [
            (made @ lazy[0], dense @ x),
            (made.H @ lazy[1], dense.conj().T @ y),
            (made.matmat(lazy[2]), dense @ X),
            (lazy[1] @ made, y @ dense),
        ]:
            assert isinstance(found, da.Array)
            assert np.allclose(found.compute(), expected, rtol=1e-11, atol=1e-11)


def test_operators_that_do_not_fit():
    A, B = (xconv.linear_operator(np.ones((1, 1, k)), (1, 1, 8)) for k in (1, 3))
    ours = A._made, B._made
    assert message(ValueError, lambda: A + B).startswith(
        "operators must have one shape to be added, got (8, 8) and (6, 8)"
    )
    assert message(ValueError, lambda: B @ B).startswith(
        "operators must fit one after the other, got shapes (6, 8) and"
    )
    assert message(ValueError, lambda: B**2).startswith("a power must be an int of at least 0, of a square operator")
    for wrong in (lambda: ours[0] + 1, lambda: "2" * ours[0], lambda: ours[0] / ours[1]):
        assert "unsupported operand" in message(TypeError, wrong) or "can't multiply" in message(TypeError, wrong)


def test_arithmetic_with_operators_of_others_is_theirs():
    linalg = pytest.importorskip("scipy.sparse.linalg", reason="scipy is not installed")
    A, eye = xconv.linear_operator(np.ones((1, 1, 3)), (1, 1, 8), padding=1), linalg.aslinearoperator(np.eye(8))
    x = normal((8,), 0)
    for made in (A + eye, eye + A):
        assert np.allclose(made @ x, A @ x + x, rtol=1e-12)
    for made in (A @ eye, eye @ A, A**1):
        assert np.allclose(made @ x, A @ x, rtol=1e-12)


@pytest.mark.on("numpy", "cupy")
def test_is_the_librarys_own_operator(backend):
    solvers = pytest.importorskip(
        "scipy.sparse.linalg" if backend.name == "numpy" else "cupyx.scipy.sparse.linalg", reason="no solvers here"
    )
    A = xconv.linear_operator(backend.array(np.ones((1, 1, 3))), (1, 1, 8), padding=1)
    assert isinstance(A, solvers.LinearOperator)
    assert tuple(((A.H @ A) * 2).shape) == (8, 8)  # whose arithmetic is theirs


def test_cupy_has_cupyxs(named_cupy, monkeypatch):
    """NumPy under CuPy's name, and SciPy's solvers under cupyx's."""
    solvers = pytest.importorskip("scipy.sparse.linalg", reason="scipy is not installed")
    asked = types.ModuleType("cupyx.scipy.sparse.linalg")

    asked.LinearOperator = solvers.LinearOperator
    monkeypatch.setattr(importlib, "import_module", lambda name: {asked.__name__: asked}[name])
    w = normal((2, 1, 3), 0)
    A = xconv.linear_operator(w, (1, 1, 8), padding=1)
    x = normal((8,), 1)
    assert np.allclose(A @ x, reference.conv(x[None, None], w, padding=1).reshape(-1), rtol=1e-12)


def test_those_of_solvers_take_x_in_its_own_shape_and_name_the_right_ones(numpy_backend):
    solvers = pytest.importorskip("scipy.sparse.linalg", reason="scipy is not installed")
    x, w = normal((1, 2, 8), 0), normal((3, 2, 3), 1)
    A = xconv.linear_operator(w, x.shape)
    assert isinstance(A, solvers.LinearOperator)
    y = A @ x
    assert np.array_equal(y, xconv.conv(x, w))
    assert np.array_equal(A.H @ y, xconv.conv_input_grad(y, w, x.shape))
    assert np.array_equal(A.T @ y.reshape(-1), (A.H @ y).reshape(-1))
    assert np.allclose((A.H @ A) @ x.reshape(-1), A.H @ (A @ x.reshape(-1)), rtol=1e-12)
    for wrong, hint in ((x[0], r": pass x\.reshape\(16\)"), (x[..., 1:], "")):
        message = rf"an operand must have shape \(16,\), \(16, p\) or \(1, 2, 8\), got .*\){hint}$"
        with pytest.raises(ValueError, match=message) as error:
            _ = A @ wrong
        assert len(error.value.args) == 1


def test_an_operand_of_another_library_is_named(torch_backend):
    A = xconv.linear_operator(torch_backend.array(np.ones((1, 1, 2))), (1, 1, 4))
    with pytest.raises(TypeError, match=r"^an operand must be an array of torch, as w is, got one of numpy$") as error:
        _ = A @ np.ones(4)
    assert len(error.value.args) == 1


@pytest.mark.parametrize("chunked_filters", [True, False])
def test_chunks_stay_chunks(chunked_filters):
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    pytest.importorskip("scipy", reason="scipy is not installed")
    w, x, y = (normal(shape, seed) + 1j for seed, shape in enumerate([(2, 1, 3), (1, 1, 12), (1, 2, 12)]))
    A = xconv.linear_operator(da.from_array(w) if chunked_filters else w, x.shape, padding=1)
    matrix = np.stack([reference.conv(one.reshape(x.shape), w, padding=1).reshape(-1) for one in np.eye(12)], axis=1)
    lazy_x, lazy_y = (da.from_array(one.reshape(-1), chunks=4) for one in (x, y))
    columns = da.from_array(normal((12, 3), 3), chunks=4)
    for found, expected in [
        (A @ lazy_x, matrix @ x.reshape(-1)),
        (A(lazy_x), matrix @ x.reshape(-1)),
        (A.matvec(lazy_x), matrix @ x.reshape(-1)),
        (A.rmatvec(lazy_y), matrix.conj().T @ y.reshape(-1)),
        (A.H @ lazy_y, matrix.conj().T @ y.reshape(-1)),
        (A.H.H @ lazy_x, matrix @ x.reshape(-1)),
        (A @ columns, matrix @ columns.compute()),
        (A.matmat(columns), matrix @ columns.compute()),
        (A.T @ lazy_y, matrix.T @ y.reshape(-1)),
        (A.T.H @ lazy_x, matrix.conj() @ x.reshape(-1)),
    ]:
        assert isinstance(found, da.Array)
        assert np.allclose(found.compute(), expected, rtol=1e-12)


@pytest.mark.on("jax", "torch", "strict")
def test_elsewhere_arrays_may_have_their_own_shape(backend):
    w, x = normal((4, 3, 3, 3), 0), normal((2, 3, 6, 5), 1)
    A = xconv.linear_operator(backend.array(w), x.shape, stride=2)
    y = reference.conv(x, w, stride=2)
    assert repr(A).startswith(f"<{y.size}x{x.size} Operator with dtype=")
    assert_array(backend, A(backend.array(x)), y, terms=100)
    assert_array(backend, A.H(backend.array(y)), reference.conv_input_grad(y, w, x.shape, stride=2), terms=400)
    assert_array(backend, A.matvec(backend.array(x.reshape(-1, 1))), y.reshape(-1, 1), terms=100)


@pytest.mark.on("jax", "torch", "strict")
def test_errors_of_operands(backend):
    A = xconv.linear_operator(backend.array(np.ones((1, 1, 3))), (1, 1, 8))
    for wrong in ((6,), (6, 1), (1, 1, 6), ()):
        text = message(ValueError, lambda operand: A @ operand, backend.array(np.ones(wrong)))
        assert text == f"an operand must have shape (8,), (8, p) or (1, 1, 8), got {wrong}"
    assert message(ValueError, A.matmat, backend.array(np.ones(8))) == "a matrix must have shape (8, p), got (8,)"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"input_shape": (1, 2, 8, 8)}, "input_shape has C = 2 channels"),
        ({"input_shape": (1, 1, 2, 2)}, "kernel_size must fit"),
        ({"flip": 1}, "flip must be"),
        ({"method": "winograd", "stride": 2}, "method 'winograd' must have stride 1"),
        ({"method": "fast"}, "method must be"),
        ({"max_workspace": 1, "method": "fft"}, "max_workspace must be at least"),
        ({"padding_mode": "mirror"}, "padding_mode must be"),
    ],
)
def test_mistakes_are_found_before_a_solver_starts(words, match):
    words = {"input_shape": (1, 1, 8, 8), **words}
    assert match in message(ValueError, xconv.linear_operator, np.ones((1, 1, 3, 3)), **words)


def test_arrays_are_asked_for():
    assert message(TypeError, xconv.linear_operator, [[[1.0]]], (1, 1, 8)) == "w must be an array, got list"
    text = message(TypeError, xconv.linear_operator, np.ones((1, 1, 1), dtype=bool), (1, 1, 8))
    assert text == "w must have an integer, real or complex dtype, got bool"


def test_without_scipy_the_error_says_so():
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.sparse'] = None\n"
        "import numpy as np, xconv\n"
        "try: xconv.linear_operator(np.ones((1, 1, 3)), (1, 1, 8))\n"
        "except ImportError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "linear operators of numpy need SciPy: pip install scipy"


SIZE = (1, 1, 32, 32)


def blurred():
    """A picture, the filter that blurs it, and the blurred one by the loops."""
    rows, columns = np.mgrid[-1:1:32j, -1:1:32j]
    sharp = ((rows**2 + columns**2 < 0.6) + (abs(rows) + abs(columns) < 0.4)).astype(float)
    offsets = np.arange(-2, 3)
    bell = np.exp(-(offsets**2) / 2)
    w = (np.outer(bell, bell) / bell.sum() ** 2)[None, None]
    return sharp, w, reference.conv(sharp[None, None], w, padding="same", padding_mode="symmetric")


def test_lsqr_and_cg_deconvolve_a_picture():
    linalg = pytest.importorskip("scipy.sparse.linalg", reason="scipy is not installed")
    sharp, w, seen = blurred()
    A = xconv.linear_operator(w, SIZE, padding="same", padding_mode="symmetric")
    by_lsqr = linalg.lsqr(A, seen.reshape(-1), atol=1e-12, btol=1e-12, iter_lim=3000)[0]
    by_cg, failed = linalg.cg(A.H @ A, A.H @ seen.reshape(-1), rtol=1e-10, maxiter=3000)
    assert failed == 0
    for found in (by_lsqr, by_cg):
        assert np.max(np.abs(found.reshape(32, 32) - sharp)) < 0.05 < np.max(np.abs(seen[0, 0] - sharp))


def test_jax_deconvolves_a_picture(jax_backend):
    from jax.scipy.sparse.linalg import cg

    sharp, w, seen = blurred()
    A = xconv.linear_operator(jax_backend.array(w), SIZE, padding="same", padding_mode="symmetric")
    found, _ = cg(lambda x: A.H @ (A @ x), A.H @ jax_backend.array(seen), tol=1e-7, maxiter=3000)
    assert found.shape == SIZE
    assert np.max(np.abs(np.asarray(found)[0, 0] - sharp)) < 0.05


def test_gradients_flow_through(torch_backend):
    import torch

    w = torch_backend.array(normal((2, 1, 3), 0)).requires_grad_()
    x = torch_backend.array(normal((1, 1, 8), 1)).requires_grad_()

    def there_and_back(w, x):
        A = xconv.linear_operator(w, x.shape)
        return A.T @ (A @ x.reshape(-1))

    assert torch.autograd.gradcheck(there_and_back, (w, x))
