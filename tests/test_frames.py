"""Gradients by an input with borders, piece after piece: the loops' results, arrays of their own, bounded memory."""

from __future__ import annotations

import re

import array_api_compat
import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import MODES, check_drawn, convolutions, normal, output_shape
from hypothesis import strategies as st
from test_blocks import peak

import xconv
from xconv._plan import frames
from xconv._plan.remembered import forget
from xconv._run.frames import Framed

MIB = 2**20
BORDERS = [mode for mode in MODES if mode != "zeros"]


@pytest.fixture
def in_pieces(monkeypatch):
    """Let no frame be whole, and choose how many bytes of the workspace are one piece."""

    def choose(size):
        monkeypatch.setattr(frames, "HALF", 2**40)
        monkeypatch.setattr(frames, "SHARE", 64 * MIB // size)
        forget()

    yield choose
    forget()


def test_pieces_have_the_gradients_of_loops(backend, in_pieces):
    def check(drawn):
        case, size = drawn
        in_pieces(size)
        dy, w = normal(output_shape(case)), normal(case.weight_shape, 1)
        dx = xconv.conv_input_grad(backend.array(dy), backend.array(w), case.input_shape, **case.keywords)
        expected = reference.conv_input_grad(dy, w, case.input_shape, **case.keywords)
        assert_array(backend, dx, expected, terms=max(case.terms, 1) * 9)  # borders give several to an element

    check_drawn(backend, st.tuples(convolutions(MODES, max_groups=3), st.sampled_from([8, 64, 512, 4096])), check)


@pytest.mark.parametrize("dtype", ["float16", "int16", "uint8", "complex64"])
@pytest.mark.parametrize("mode", BORDERS)
def test_pieces_are_rounded_once(in_pieces, mode, dtype):
    """Where a border adds to an element the sum is of both; integers wrap."""
    x, w = normal((3, 4, 11, 9), 0, dtype), normal((6, 2, 3, 2), 1, dtype)
    keywords = {"padding": [(13, 4), (2, 9)], "padding_mode": mode, "groups": 2, "stride": (1, 2), "method": "im2col"}
    dy = normal(xconv.conv(x, w, **keywords).shape, 2, dtype)
    whole = xconv.conv_input_grad(dy, w, x.shape, **keywords)
    in_pieces(500)
    found = xconv.conv_input_grad(dy, w, x.shape, **keywords)
    assert found.dtype == whole.dtype == np.dtype(dtype)
    difference = np.abs(found.astype(complex) - whole.astype(complex)).max()
    limit = {"float16": 2**-10, "complex64": 2**-19}.get(dtype, 0)  # of the largest, which is rounded once
    assert difference <= limit * np.abs(whole.astype(complex)).max()


class Forgetful(dict):
    """What another thread empties at once."""

    def __setitem__(self, key, value):
        pass


def test_threads_may_give_up_the_pieces_of_others(in_pieces, monkeypatch):
    in_pieces(512)
    w, dy, keywords = normal((3, 2, 3, 3)), normal((3, 3, 9, 8)), {"padding": 1, "padding_mode": "reflect"}
    expected = reference.conv_input_grad(dy, w, (3, 2, 9, 8), **keywords)
    monkeypatch.setattr(Framed, "known", property(lambda self: Forgetful(), lambda self, known: None), raising=False)
    assert np.allclose(xconv.conv_input_grad(dy, w, (3, 2, 9, 8), **keywords), expected)


def test_axes_of_borders_and_of_zeros(backend, in_pieces):
    dy, w = normal((2, 3, 7, 8)), normal((3, 2, 3, 3), 1)
    keywords = {"padding": [(2, 2), (1, 3)], "padding_mode": ["circular", "zeros"]}
    expected = reference.conv_input_grad(dy, w, (2, 2, 5, 6), **keywords)
    in_pieces(100)
    dx = xconv.conv_input_grad(backend.array(dy), backend.array(w), (2, 2, 5, 6), **keywords)
    assert_array(backend, dx, expected, terms=27 * 9)


def test_a_bias_is_added_once(in_pieces):
    x, w, b = normal((2, 3, 9)), normal((3, 2, 4), 1), normal((2,), 2)
    keywords = {"padding": 3, "padding_mode": "reflect", "stride": 2, "output_padding": 1}
    whole = xconv.conv_transpose(x, w, b, **keywords)
    in_pieces(24)
    assert np.allclose(xconv.conv_transpose(x, w, b, **keywords), whole, rtol=0, atol=1e-13)
    assert np.allclose(whole - xconv.conv_transpose(x, w, **keywords), b[:, None], rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64"])
@pytest.mark.parametrize("padding", [1, 40, 300])
@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_frames_are_within_the_workspace(mode, padding, dtype):
    """Which is what a plan says, too. Plans of the pieces are kept from a call before."""
    x, w = np.ones((1, 1, 500, 700), dtype), np.ones((1, 1, 3, 3), dtype)
    keywords = {"padding": padding, "padding_mode": mode, "max_workspace": MIB}
    y = xconv.conv(x, w, **keywords)
    gradient, transpose = xconv.conv_input_grad, xconv.conv_transpose
    for function in (lambda: [gradient(y, w, x.shape, **keywords)], lambda: [transpose(y, w, **keywords)]):
        function()
        assert peak(function) < MIB
    plan = xconv.plan(x.shape, w.shape, xp=np, dtype=x.dtype, function="conv_input_grad", **keywords)
    assert plan.held <= plan.workspace == MIB


def test_a_frame_far_larger_than_its_input_is_within_the_default_workspace():
    x, w = np.ones((1, 1, 10, 10)), np.ones((1, 1, 3, 3))
    keywords = {"padding": 2000, "padding_mode": "circular", "stride": 100}
    y = xconv.conv(x, w, **keywords)
    assert peak(lambda: [xconv.conv_input_grad(y, w, x.shape, **keywords)]) < 64 * MIB
    dx = xconv.conv_input_grad(np.ones_like(y), w, x.shape, **keywords)
    assert dx.sum() == 9 * y.size  # each output reads nine elements


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint8"])
@pytest.mark.parametrize("method", ["im2col", "toeplitz", "fft", "direct"])
def test_the_least_that_an_error_names_will_do(method, dtype):
    """Pieces grow with the workspace, and need more then."""
    if method == "fft" and dtype != "float64":
        pytest.skip("transforms are of floating-point numbers")
    x, w = np.ones((2, 1, 8, 6), dtype), np.ones((2, 1, 3, 3), dtype)
    keywords = {"padding": [(1, 1), (11, 9)], "padding_mode": "reflect", "method": method}
    y = xconv.conv(x, w, **keywords)
    expected = xconv.conv_input_grad(y, w, x.shape, **keywords)
    for room in (1, 100, 1000):
        try:
            found = xconv.conv_input_grad(y, w, x.shape, max_workspace=room, **keywords)
        except ValueError as error:
            (least,) = re.findall(rf"at least (\d+) bytes.* got {room}$", str(error))
            found = xconv.conv_input_grad(y, w, x.shape, max_workspace=int(least), **keywords)
        assert np.allclose(found, expected)


def test_a_batch_of_any_size_is_exported(torch_backend):
    import torch

    class Transposed(torch.nn.Module):
        def forward(self, x, w):
            return xconv.conv_transpose(x, w, padding=2, padding_mode="circular", max_workspace=20_000)

    x, w = (torch_backend.array(normal(shape, dtype="float32")) for shape in ((2, 8, 20, 20), (8, 8, 3, 3)))
    batch = {0: torch.export.Dim("batch", min=2, max=64)}
    exported = torch.export.export(Transposed(), (x, w), dynamic_shapes=(batch, None)).module()
    assert exported(torch.concat([x, x, x]), w).shape == (6, 8, 18, 18)


@pytest.mark.on("numpy", "torch")
@pytest.mark.parametrize("mode", BORDERS)
def test_gradients_are_arrays_of_their_own(backend, mode):
    """No views of a frame, which would keep all of it."""
    dy, w = backend.array(normal((2, 3, 12, 12))), backend.array(normal((3, 2, 3, 3), 1))
    dx = xconv.conv_input_grad(dy, w, (2, 2, 6, 6), padding=4, padding_mode=mode)
    assert array_api_compat.size(dx) == 2 * 2 * 6 * 6
    if backend.name == "torch":
        assert dx.is_contiguous()
        assert dx.untyped_storage().nbytes() == dx.numel() * dx.element_size()
    else:
        assert dx.flags.c_contiguous
        assert dx.base is None or dx.base.nbytes == dx.nbytes
