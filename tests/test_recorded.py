"""PyTorch's autograd: each product of a convolution is one step, whose derivatives are the other two."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import reference
from geometries import normal

import xconv
from xconv._plan.remembered import forget
from xconv._run.call import Call

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


def bordered(x, w):
    """More taps than are added one by one, of an image with numbers beyond its ends: affine in x."""
    return xconv.ndimage.correlate(x, w, mode="constant", cval=7.0)


def test_a_number_beyond_the_ends_changes_by_nothing(torch_backend):
    import torch

    operands = [torch_backend.array(normal(shape, 0)).requires_grad_() for shape in ((6, 7), (6, 6))]
    assert "_Step" in str(bordered(*operands).grad_fn.next_functions)
    assert torch.autograd.gradcheck(bordered, operands)
    assert torch.autograd.gradgradcheck(bordered, operands)


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


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_many_gradients_at_once_equal_one_after_the_other(method, dtype, torch_backend):
    """Also where operands depend on each other, and where one needs none and the other is not kept."""
    import torch

    x, w, b = (
        torch_backend.array(normal(shape, 0, dtype)).requires_grad_() for shape in ((2, 4, 7, 6), (6, 4, 3, 2), (6,))
    )
    given = [(x + w.sum(), w, b), (xconv.conv(x, w, padding="same")[:, :4], w, None), (x, w.detach(), b)]
    for operands in [*given, (x.detach(), w.detach(), b)]:
        y = xconv.conv(*operands, padding=1, method=method)
        g = torch_backend.array(normal((3, *y.shape), 1, dtype))
        some = [one for one in (x, w, b) if one in set(_leaves(y.grad_fn))]
        together = torch.autograd.grad(y, some, g, is_grads_batched=True, retain_graph=True)
        each = zip(*(torch.autograd.grad(y, some, one, retain_graph=True) for one in g), strict=True)
        for found, alone in zip(together, each, strict=True):
            assert torch.allclose(found, torch.stack(alone), atol=1e-8)


def _leaves(node):
    """The tensors that a graph ends at."""
    if node is not None:
        yield from [node.variable] if hasattr(node, "variable") else []
        for other, _ in node.next_functions:
            yield from _leaves(other)


@pytest.mark.parametrize(("needs", "kept"), [("xwb", "xw"), ("x", "w"), ("w", "x"), ("b", ""), ("xb", "w")])
def test_only_factors_that_a_derivative_needs_are_kept(needs, kept, torch_backend):
    import torch

    shapes, sizes = {"x": (2, 3, 9, 8), "w": (5, 3, 3, 3), "b": (5,)}, []
    arrays = {
        name: torch_backend.array(normal(shape, 0)).requires_grad_(name in needs) for name, shape in shapes.items()
    }
    with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
        y = xconv.conv(*arrays.values(), padding=1, method="direct")
    assert sizes == [arrays[name].numel() for name in kept]
    expected = torch.nn.functional.conv2d(*arrays.values(), padding=1)
    some = [arrays[name] for name in needs]
    for found, own in zip(*(torch.autograd.grad(one.sum(), some) for one in (y, expected)), strict=True):
        assert torch.allclose(found, own)


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


@pytest.mark.parametrize("method", ["direct", "fft"])
def test_inside_of_transformations_what_is_constant_is_no_memory(method, torch_backend):
    import torch

    x, w, s = (torch_backend.array(normal(shape, 0)) for shape in ((3, 1, 1, 9), (2, 1, 3), ()))
    conv = functools.partial(xconv.conv, method=method)
    assert torch.allclose(torch.func.grad(lambda s: (conv(x[0], w) * s).sum())(s), conv(x[0], w).sum())
    found = torch.func.grad(lambda x: torch.func.vmap(lambda one: conv(one, w))(x).sum())(x)
    assert torch.allclose(found, torch.stack([torch.func.grad(lambda one: conv(one, w).sum())(one) for one in x]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by what forward derivatives load
def test_only_what_a_bias_changes_by_is_of_many(torch_backend):
    import torch

    x, w, b, changes = (torch_backend.array(normal(shape, 0)) for shape in ((1, 1, 5), (2, 1, 3), (2,), (3, 2)))
    conv = functools.partial(xconv.conv, method="im2col")
    found = torch.func.vmap(lambda change: torch.func.jvp(conv, (x, w, b), (x, w, change))[1])(changes)
    for one, change in zip(found, changes, strict=True):
        assert torch.allclose(one, 2 * conv(x, w) + change[:, None])


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


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("method", ["toeplitz", "im2col", "winograd", "fft"])
@pytest.mark.parametrize("step", ["stride", "dilation"])
def test_steps_along_one_axis_are_kept_where_pytorch_computes(step, method, dtype, torch_backend):
    """Of tensors that NumPy has not, or of two dtypes with gradients."""
    x, w = np.round(4 * normal((1, 1, 13, 12))), np.round(4 * normal((1, 1, 2, 2), 1))
    for steps in ((2, 1), (1, 2)):
        if method == "winograd":
            steps = (1, 1)
        single = dtype == "float32"
        first = torch_backend.array(x).to(torch_backend.dtype(dtype)).requires_grad_(single)
        second = torch_backend.array(w).to(torch_backend.dtype("float64" if single else dtype))
        y = xconv.conv(first, second, method=method, **{step: steps})
        expected = reference.conv(x, w, **{step: steps})
        assert np.allclose(torch_backend.to_numpy(y.detach().double()), expected, atol=1e-2 * np.max(np.abs(expected)))


def test_a_default_device_is_none_of_tensors_that_are_there(torch_backend, monkeypatch):
    """What NumPy has for a dtype is asked of memory, wherever new tensors are made."""
    import torch

    x, w = (torch_backend.array(normal(shape, 0, "float32")) for shape in ((1, 2, 9, 11), (3, 2, 3, 2)))
    expected = xconv.conv(x.numpy(), w.numpy(), method="im2col")
    forget()
    with torch.device("meta"):
        monkeypatch.setattr(Call, "forward", monitored := Monitored(Call.forward))
        y = xconv.conv(x, w, method="im2col")
    assert monitored.libraries == ["numpy"]
    assert np.array_equal(y.numpy(), expected)


class Monitored:
    """Calls by the library whose arrays they have."""

    def __init__(self, function):
        self.function, self.libraries = function, []

    def __get__(self, call, kind):
        return self if call is None else functools.partial(self, call)

    def __call__(self, call, *operands):
        self.libraries.append(type(operands[0]).__module__)
        return self.function(call, *operands)
