"""PyTorch's autograd: each product of a convolution is one step, whose derivatives are the other two."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
from geometries import normal

import xconv

GIVEN = [
    {},
    {"stride": 2, "padding": 1, "dilation": 2, "groups": 2},
    {"padding": 1, "padding_mode": "reflect", "channel_axis": -1},
    {"padding": "same", "flip": True, "method": "fft"},
]


@pytest.fixture(params=["float64", "complex128"])
def leaf(request, torch_backend):
    """What makes tensors that need gradients."""
    return lambda shape, seed: torch_backend.array(normal(shape, seed, request.param)).requires_grad_()


def calls(leaf, words):
    """Each of the family that has one product, with its operands, a bias among them."""
    last, groups = words.get("channel_axis", 1) == -1, words.get("groups", 1)
    shape = (1, 5, 4, 2) if last else (1, 2, 5, 4)
    x, w, b = leaf(shape, 0), leaf((2, 2 // groups, 3, 2), 1), leaf((2,), 2)
    dy = leaf(tuple(xconv.conv(x, w, **words).shape), 3)
    transposed = leaf((2, 2 // groups, 3, 2), 4)
    return {
        "conv": (functools.partial(xconv.conv, **words), (x, w, b)),
        "conv_input_grad": (lambda dy, w: xconv.conv_input_grad(dy, w, shape, **words), (dy, w)),
        "conv_weight_grad": (lambda dy, x: xconv.conv_weight_grad(dy, x, (3, 2), **words), (dy, x)),
        "conv_transpose": (functools.partial(xconv.conv_transpose, **words), (x, transposed, b)),
    }


@pytest.mark.parametrize("words", GIVEN, ids=str)
@pytest.mark.parametrize("name", ["conv", "conv_input_grad", "conv_weight_grad", "conv_transpose"])
def test_first_and_second_derivatives_equal_finite_differences(name, words, leaf):
    import torch

    method = {} if "method" in words else {"method": "direct"}  # by "auto" some are PyTorch's own
    function, operands = calls(leaf, words | method)[name]
    assert type(function(*operands).grad_fn).__name__ == "_StepBackward"
    assert torch.autograd.gradcheck(function, operands)
    assert torch.autograd.gradgradcheck(function, operands, fast_mode=True)


def test_only_operands_are_kept_for_the_derivative(torch_backend):
    import torch

    x, w = (
        torch_backend.array(normal(shape, 0, "float32")).requires_grad_() for shape in ((2, 8, 64, 64), (8, 8, 5, 5))
    )
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        y = xconv.conv(x, w, padding=2, method="im2col")
    assert sum(kept) == x.numel() + w.numel()
    expected = torch.nn.functional.conv2d(x, w, padding=2)
    g = torch_backend.array(normal(tuple(y.shape), 1, "float32"))
    for found, own in zip(*(torch.autograd.grad(one, (x, w), g) for one in (y, expected)), strict=True):
        assert torch.allclose(found, own, atol=1e-3)


def test_windows_far_apart_keep_no_more_than_near_ones(torch_backend):
    """A derivative by PyTorch's ``unfold`` would be as large as what windows reach."""
    import torch

    x = torch_backend.array(normal((1, 2, 4000), 0, "float32")).requires_grad_()
    made = []
    xconv.im2col(x, 2, dilation=512).sum().backward()
    expected = torch.zeros(4000)
    expected[:3488] += 1
    expected[512:] += 1
    assert torch.equal(x.grad, expected.expand(1, 2, -1))
    node = [xconv.im2col(x, 2, dilation=512).grad_fn]
    while node:
        made.append(node[0].name())
        node = [one for other in node for one, _ in other.next_functions if one is not None]
    assert made
    assert not [name for name in made if "Unfold" in name]


@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_many_gradients_at_once_equal_one_after_the_other(method, torch_backend):
    import torch

    x, w = (torch_backend.array(normal(shape, 0)).requires_grad_() for shape in ((2, 4, 7, 6), (6, 4, 3, 2)))
    y = xconv.conv(x, w, padding=1, method=method)
    g = torch_backend.array(normal((3, *y.shape), 1))
    together = torch.autograd.grad(y, (x, w), g, is_grads_batched=True, retain_graph=True)
    for found, *alone in zip(
        together, *(torch.autograd.grad(y, (x, w), one, retain_graph=True) for one in g), strict=True
    ):
        assert torch.allclose(found, torch.stack(alone), atol=1e-9)


def test_who_watches_more_than_gradients_sees_operations(torch_backend):
    """A class of its own, ``torch.func`` and PyTorch's own convolution have derivatives of their own."""
    import torch

    x, w = (torch_backend.array(normal(shape, 0)).requires_grad_() for shape in ((2, 4, 7, 6), (6, 4, 3, 2)))
    kind = type("Kind", (torch.Tensor,), {"__module__": "torch.kind"})
    for y in (xconv.conv(x, w, method="native"), xconv.conv(x.as_subclass(kind), w.as_subclass(kind), method="direct")):
        assert y.grad_fn is not None
        assert type(y.grad_fn).__name__ != "_StepBackward"
    found = torch.func.grad(lambda x: xconv.conv(x, w, method="direct").sum())(x)
    assert torch.allclose(found, torch.autograd.grad(xconv.conv(x, w, method="direct").sum(), x)[0])


@pytest.mark.parametrize("method", ["auto", "direct", "im2col", "fft", "winograd", "toeplitz"])
def test_results_may_be_viewed_and_nobody_is_warned(method, torch_backend):
    x, w = (torch_backend.array(normal(shape, 0, "float32")) for shape in ((4, 8, 40, 30), (6, 8, 3, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for operand in (x, x.clone().requires_grad_()):
            y = xconv.conv(operand, w, method=method)
            assert y.view(4, -1).shape == (4, y[0].numel())
    assert np.array_equal(torch_backend.to_numpy(y), torch_backend.to_numpy(xconv.conv(x, w, method=method)))


def test_what_pytorch_traces_by_symbols_is_no_array(torch_backend):
    import torch

    class Layer(torch.nn.Module):
        def forward(self, x):
            return xconv.conv(x, torch.ones(6, 4, 3, 3))

    with pytest.raises(TypeError) as error:
        torch.fx.symbolic_trace(Layer())
    assert "x must be an array" in str(error.value)
    assert "got Proxy" in str(error.value)
