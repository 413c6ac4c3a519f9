"""xconv equals what PyTorch, lax and SciPy compute themselves."""

from __future__ import annotations

import numpy as np
import pytest
from backends import assert_array
from geometries import normal

import xconv

CONVOLUTIONS = [
    ((2, 4, 9), (6, 4, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 9, 8), (6, 4, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 3), "padding": (0, 2), "groups": 2}),
    ((1, 2, 5, 6, 4), (3, 2, 3, 2, 2), {"stride": (1, 2, 1), "padding": 1, "dilation": (2, 1, 1)}),
]
TRANSPOSED = [
    ((2, 4, 6), (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    ((2, 4, 5, 4), (4, 3, 3, 2), {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "output_padding": (0, 2)}),
    ((2, 4, 5, 4), (4, 3, 3, 2), {"stride": 2, "groups": 2}),
    ((1, 2, 3, 4, 2), (2, 3, 2, 2, 3), {"stride": 2}),
    ((2, 4, 5), (4, 2, 3), {"stride": 2, "dilation": 4, "padding": 1, "groups": 2, "output_padding": 3}),
    ((2, 4, 5, 4), (4, 3, 3, 2), {"dilation": 3, "padding": 2, "output_padding": 2}),
]
TERMS = 200  # no sum here has more


def torch_functional(backend):
    functional = pytest.importorskip("torch.nn.functional", reason="torch is not installed")
    assert backend.name == "torch"
    return functional


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv_equals_torch(torch_backend, case):
    functional = torch_functional(torch_backend)
    x, w, keywords = torch_backend.array(normal(case[0])), torch_backend.array(normal(case[1], 1)), case[2]
    b = torch_backend.array(normal(case[1][:1], 2))
    theirs = getattr(functional, f"conv{x.ndim - 2}d")(x, w, b, **keywords)
    assert_array(torch_backend, xconv.conv(x, w, b, **keywords), torch_backend.to_numpy(theirs), terms=TERMS)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_and_its_gradients_equal_torch(torch_backend, case, dtype):
    """PyTorch does not conjugate the filters, and its gradients are the adjoint's."""
    functional = torch_functional(torch_backend)
    (shape, weight_shape, keywords), bias_shape = case, (case[1][1] * case[2].get("groups", 1),)
    x, w, b = (
        torch_backend.array(normal(shape, i, dtype)) for i, shape in enumerate((shape, weight_shape, bias_shape))
    )
    leaves = [array.clone().requires_grad_() for array in (x, w, b)]
    theirs = getattr(functional, f"conv_transpose{x.ndim - 2}d")(*leaves, **keywords)
    ours = xconv.conv_transpose(x, w, b, **keywords)
    assert_array(torch_backend, ours, torch_backend.to_numpy(theirs), terms=TERMS)
    dy = torch_backend.array(normal(tuple(ours.shape), 3, dtype))
    theirs.backward(dy)
    for gradient, leaf in zip(xconv.conv_transpose_backward(dy, x, w, **keywords), leaves, strict=True):
        assert_array(torch_backend, gradient, torch_backend.to_numpy(leaf.grad), terms=TERMS)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_gradients_equal_torch(torch_backend, case):
    """Weight gradients for groups > 1 were once silently wrong in PyTorch's explicit function (issue 51430)."""
    torch_functional(torch_backend)
    grad = pytest.importorskip("torch.nn.grad")
    x, w, keywords = torch_backend.array(normal(case[0])), torch_backend.array(normal(case[1], 1)), case[2]
    dy = torch_backend.array(normal(tuple(xconv.conv(x, w, **keywords).shape), 2))
    n = x.ndim - 2
    dx, dw, _ = xconv.conv_backward(dy, x, w, **keywords)
    theirs = getattr(grad, f"conv{n}d_input")(x.shape, w, dy, **keywords)
    assert_array(torch_backend, dx, torch_backend.to_numpy(theirs), terms=TERMS)
    theirs = getattr(grad, f"conv{n}d_weight")(x, w.shape, dy, **keywords)
    assert_array(torch_backend, dw, torch_backend.to_numpy(theirs), terms=TERMS)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_equal_torch(torch_backend, mode):
    functional = torch_functional(torch_backend)
    x, w = torch_backend.array(normal((2, 3, 5, 6))), torch_backend.array(normal((4, 3, 3, 3), 1))
    padded = functional.pad(x, (2, 3, 4, 1), mode=mode)
    theirs = functional.conv2d(padded, w, stride=2)
    ours = xconv.conv(x, w, stride=2, padding=[(4, 1), (2, 3)], padding_mode=mode)
    assert_array(torch_backend, ours, torch_backend.to_numpy(theirs), terms=TERMS)


@pytest.mark.parametrize("word", ["valid", "same"])
@pytest.mark.parametrize("kernel", [3, 4])
def test_padding_words_equal_torch(torch_backend, word, kernel):
    functional = torch_functional(torch_backend)
    x, w = torch_backend.array(normal((2, 3, 9, 6))), torch_backend.array(normal((4, 3, kernel, 2), 1))
    if word == "same" and kernel == 4:
        theirs = functional.conv2d(functional.pad(x, (0, 1, 1, 2)), w)
    else:
        theirs = functional.conv2d(
            functional.pad(x, (0, 1)) if word == "same" else x, w, padding=(1, 0) if word == "same" else 0
        )
    assert_array(torch_backend, xconv.conv(x, w, padding=word), torch_backend.to_numpy(theirs), terms=TERMS)


@pytest.mark.parametrize("keywords", [{}, {"stride": 2, "padding": 1}, {"stride": (1, 3), "dilation": 2}], ids=str)
def test_im2col_and_col2im_equal_torchs_unfold_and_fold(torch_backend, keywords):
    functional = torch_functional(torch_backend)
    x = torch_backend.array(normal((2, 3, 7, 8)))
    theirs = functional.unfold(x, (3, 2), **keywords)
    ours = xconv.im2col(x, (3, 2), **keywords)
    as_rows = theirs.movedim(1, 2).reshape(ours.shape)
    assert_array(torch_backend, ours, torch_backend.to_numpy(as_rows), terms=0)
    back = functional.fold(theirs, (7, 8), (3, 2), **keywords)
    assert_array(torch_backend, xconv.col2im(ours, x.shape, (3, 2), **keywords), torch_backend.to_numpy(back), terms=6)


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": 2, "ceil_mode": True},
        {"stride": (1, 3), "padding": 1, "ceil_mode": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_pools_equal_torch(torch_backend, n, keywords):
    functional = torch_functional(torch_backend)
    if isinstance(keywords.get("stride"), tuple):
        keywords = {**keywords, "stride": (3, 1, 2)[:n]}
    x = torch_backend.array(np.round(2 * normal((2, 3, *(8, 7, 6)[:n])))).requires_grad_()
    theirs = getattr(functional, f"max_pool{n}d")(x, 3, **keywords)
    ours = xconv.max_pool(x, 3, **keywords)
    assert_array(torch_backend, ours.detach(), torch_backend.to_numpy(theirs), terms=0)
    dy = torch_backend.array(normal(tuple(ours.shape), 1))
    theirs.backward(dy)
    dx = xconv.max_pool_grad(dy, x.detach(), 3, **keywords)
    assert_array(torch_backend, dx, torch_backend.to_numpy(x.grad), terms=27)
    theirs, places = getattr(functional, f"max_pool{n}d")(x.detach(), 3, return_indices=True, **keywords)
    ours, indices = xconv.max_pool(x.detach(), 3, return_indices=True, **keywords)
    assert_array(torch_backend, indices, torch_backend.to_numpy(places), terms=0)
    if keywords.get("dilation", 1) == 1:
        words = {name: value for name, value in keywords.items() if name in ("stride", "padding")}
        words["output_size"] = tuple(x.shape[2:])
        y, leaf = theirs.clone().requires_grad_(), ours.clone().requires_grad_()
        theirs = getattr(functional, f"max_unpool{n}d")(y, places, 3, **words)
        ours = xconv.max_unpool(leaf, indices, 3, **words)
        assert_array(torch_backend, ours.detach(), torch_backend.to_numpy(theirs), terms=0)
        dx = torch_backend.array(normal(tuple(x.shape), 2))
        theirs.backward(dx)
        ours.backward(dx)
        assert_array(torch_backend, leaf.grad, torch_backend.to_numpy(y.grad), terms=0)
    for include in (True, False):
        theirs = getattr(functional, f"avg_pool{n}d")(x.detach(), 3, count_include_pad=include, **keywords)
        ours = xconv.avg_pool(x.detach(), 3, count_include_pad=include, **keywords)
        assert_array(torch_backend, ours, torch_backend.to_numpy(theirs), terms=27)


def test_nan_in_max_pool_equals_torch(torch_backend):
    functional = torch_functional(torch_backend)
    values = normal((1, 2, 6, 5))
    values[0, 0, 2:4, 2] = values[0, 1, 5, 4] = np.nan
    x = torch_backend.array(values).requires_grad_()
    theirs = functional.max_pool2d(x, 3, stride=1, padding=1)
    assert_array(
        torch_backend, xconv.max_pool(x.detach(), 3, stride=1, padding=1), torch_backend.to_numpy(theirs), terms=0
    )
    _, places = functional.max_pool2d(x.detach(), 3, stride=1, padding=1, return_indices=True)
    _, indices = xconv.max_pool(x.detach(), 3, stride=1, padding=1, return_indices=True)
    assert_array(torch_backend, indices, torch_backend.to_numpy(places), terms=0)
    dy = torch_backend.array(normal(tuple(theirs.shape), 1))
    theirs.backward(dy)
    dx = xconv.max_pool_grad(dy, x.detach(), 3, stride=1, padding=1)
    assert_array(torch_backend, dx, torch_backend.to_numpy(x.grad), terms=9)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv_equals_lax(jax_backend, case):
    lax = pytest.importorskip("jax.lax", reason="jax is not installed")
    x, w, keywords = jax_backend.array(normal(case[0])), jax_backend.array(normal(case[1], 1)), case[2]
    n = x.ndim - 2
    padding, stride, dilation = (
        np.broadcast_to(keywords.get(name, default), n).tolist()
        for name, default in (("padding", 0), ("stride", 1), ("dilation", 1))
    )
    theirs = lax.conv_general_dilated(
        x,
        w,
        window_strides=stride,
        padding=[(p, p) for p in padding],
        rhs_dilation=dilation,
        feature_group_count=keywords.get("groups", 1),
        precision=lax.Precision.HIGHEST,
    )
    assert_array(jax_backend, xconv.conv(x, w, **keywords), np.asarray(theirs), terms=TERMS)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("word", ["VALID", "SAME"])
def test_conv_transpose_with_same_equals_lax(jax_backend, kernel, word, dtype):
    """lax counts both words from the adjoint's side, as Keras does, and does not conjugate: "SAME" is size * stride."""
    lax = pytest.importorskip("jax.lax", reason="jax is not installed")
    x, w = (
        jax_backend.array(normal(shape, i, dtype)) for i, shape in enumerate([(2, 3, 5, 4), (3, 2, kernel, kernel)])
    )
    theirs = lax.conv_transpose(x, w, (2, 2), word, dimension_numbers=("NCHW", "OIHW", "NCHW"), transpose_kernel=True)
    ours = xconv.conv_transpose(x, w, stride=2, padding=word.lower())
    assert_array(jax_backend, ours, np.asarray(theirs), terms=TERMS)


@pytest.mark.parametrize("kernel", [(2, 2), (3, 2)], ids=str)
def test_max_pool_equals_lax(jax_backend, kernel):
    lax = pytest.importorskip("jax.lax", reason="jax is not installed")
    x = jax_backend.array(normal((2, 3, 7, 6)))
    theirs = lax.reduce_window(x, -np.inf, lax.max, (1, 1, *kernel), (1, 1, 2, 2), [(0, 0), (0, 0), (1, 0), (0, 1)])
    ours = xconv.max_pool(x, kernel, stride=2, padding=[(1, 0), (0, 1)])
    assert_array(jax_backend, ours, np.asarray(theirs), terms=0)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("shapes", [((9,), (3,)), ((6, 7), (3, 5)), ((4, 5, 6), (3, 1, 3))], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "complex128", "int64"])
def test_correlate_and_convolve_equal_scipy(numpy_backend, mode, shapes, dtype):
    """SciPy's correlate conjugates the filter, which a convolution in a network does not."""
    signal = pytest.importorskip("scipy.signal", reason="scipy is not installed")
    x, w = (normal(shape, seed, dtype) for seed, shape in enumerate(shapes))
    xs, ws = numpy_backend.array(x[None, None]), numpy_backend.array(w[None, None])
    ours = xconv.conv(xs, ws, padding=mode, flip=True)
    assert_array(numpy_backend, ours, signal.convolve(x, w, mode, method="direct")[None, None], terms=TERMS)
    ours = xconv.conv(xs, ws, padding=mode)
    assert_array(numpy_backend, ours, signal.correlate(x, w.conj(), mode, method="direct")[None, None], terms=TERMS)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("zeros", "constant"),
        ("reflect", "mirror"),
        ("symmetric", "reflect"),
        ("replicate", "nearest"),
        ("circular", "wrap"),
    ],
)
@pytest.mark.parametrize("shape", [(7, 6), (2, 1), (1, 3)], ids=str)
def test_padding_modes_equal_ndimage(numpy_backend, ours, theirs, shape):
    """What SciPy calls "reflect" repeats the edge, "mirror" is PyTorch's reflect; kernels may be wider than images."""
    ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
    x, w = normal(shape), normal((3, 5) if shape == (7, 6) else (13, 11), 1)
    y = xconv.conv(x[None, None], w[None, None], padding="same", padding_mode=ours)
    assert_array(numpy_backend, y, ndimage.correlate(x, w, mode=theirs)[None, None], terms=TERMS)
    y = xconv.conv(x[None, None], w[None, None], padding="same", padding_mode=ours, flip=True)
    assert_array(numpy_backend, y, ndimage.convolve(x, w, mode=theirs)[None, None], terms=TERMS)
