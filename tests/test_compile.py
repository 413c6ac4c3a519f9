"""What PyTorch's compiler, its export, its autocast and torch.jit make of every function by every method."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import warnings
from typing import ClassVar

import numpy as np
import pytest
from backends import assert_array
from geometries import normal

import xconv
from xconv._methods import METHODS

ALL_METHODS = ("auto", "direct", "native", *METHODS)
# (N, C, *d), (K, C/G, *k) and keywords of a convolution. Winograd takes no strides.
GEOMETRIES = {
    "plane": ((2, 4, 9, 9), (6, 4, 3, 3), {"padding": 1}),
    "strided": (
        (2, 4, 9, 8),
        (6, 2, 3, 2),
        {"padding": [(1, 2), (0, 1)], "stride": 2, "dilation": (1, 2), "groups": 2},
    ),
    "line": ((2, 11, 4), (2, 4, 4), {"padding": 2, "padding_mode": "circular", "channel_axis": -1, "flip": True}),
}
CASES = [
    (geometry, method)
    for geometry in GEOMETRIES
    for method in ALL_METHODS
    if (geometry, method) != ("strided", "winograd")
]
# Every method by one geometry and every geometry by several methods: tracing a graph with a symbol takes long, and what
# a symbol meets depends on the one or on the other; that both together trace is shown by graphs of constants.
EACH_METHOD = [*zip(itertools.cycle(GEOMETRIES), ALL_METHODS, strict=False)]
POOL = {"padding": 1, "stride": 2, "ceil_mode": True}


@pytest.fixture(autouse=True)
def fresh_compiler(torch_backend):
    import torch

    torch._dynamo.reset()


def convolutions(geometry, method):
    """Every function of a convolution in one, of (x, w)."""
    _, weight_shape, keywords = GEOMETRIES[geometry]
    keywords = {**keywords, "method": method}

    def run(x, w):
        y = xconv.conv(x, w, w[:, 0].sum(tuple(range(1, w.ndim - 1))), **keywords)
        return (
            y,
            xconv.conv_transpose(y, w, **keywords),
            xconv.conv_input_grad(y, w, x.shape, **keywords),
            xconv.conv_weight_grad(y, x, weight_shape[2:], **keywords),
            *xconv.conv_backward(y, x, w, **keywords),
        )

    return run


def windowed(x, w):
    """Every other function of arrays in one."""
    col = xconv.im2col(x, 2, stride=2, padding=1, pad_value=3)
    largest, mean = xconv.max_pool(x, 3, **POOL), xconv.avg_pool(x, 3, **POOL)
    return (
        col,
        xconv.col2im(col, x.shape, 2, stride=2, padding=1),
        largest,
        xconv.max_pool_grad(largest, x, 3, **POOL),
        mean,
        xconv.avg_pool_grad(mean, x.shape, 3, **POOL),
        xconv.max_pool(x, 2, channel_axis=-1),
        xconv.max_pool(x, 3, return_indices=True, **POOL)[1],
        xconv.max_unpool(*xconv.max_pool(x, 2, return_indices=True), 2),
        xconv.avg_pool_grad(xconv.avg_pool(x, 2, channel_axis=-1), x.shape, 2, channel_axis=-1),
    )


def operands(backend, geometry, batch=None):
    (samples, *sizes), weight_shape, _ = GEOMETRIES[geometry]
    shape = (samples if batch is None else batch, *sizes)
    return backend.array(normal(shape)), backend.array(normal(weight_shape, 1))


def functions(cases=CASES):
    return [*(pytest.param(convolutions(*case), case[0], id="-".join(case)) for case in cases), *WINDOWED]


WINDOWED = [pytest.param(windowed, "plane", id="windowed")]


def assert_all(backend, actual, expected):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert_array(backend, one, backend.to_numpy(other), terms=1000)


@pytest.mark.parametrize(("function", "geometry"), functions())
def test_one_graph_has_every_function_by_every_method(torch_backend, function, geometry):
    import torch

    x, w = operands(torch_backend, geometry)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    assert_all(torch_backend, compiled(x, w), function(x, w))


def test_the_first_call_of_a_process_may_be_compiled():
    """Each in a child of a process that has loaded PyTorch, and nothing that xconv loads when it is called."""
    script = """
        import os, sys, torch, torch._dynamo, xconv
        x, w, dy = torch.ones(2, 3, 9, 9), torch.ones(4, 3, 3, 3), torch.ones(2, 4, 7, 7)
        calls = {
            "conv": lambda: xconv.conv(x, w), "conv_backward": lambda: xconv.conv_backward(dy, x, w)[0],
            "conv_transpose": lambda: xconv.conv_transpose(dy, w),
            "conv_input_grad": lambda: xconv.conv_input_grad(dy, w, x.shape),
            "conv_weight_grad": lambda: xconv.conv_weight_grad(dy, x, 3),
            "im2col": lambda: xconv.im2col(x, 3), "col2im": lambda: xconv.col2im(x[0, 0], (1, 1, 11, 11), 3, stride=4),
            "max_pool": lambda: xconv.max_pool(x, 2), "max_unpool": lambda: xconv.max_unpool(x, x.to(int), 1),
            "avg_pool": lambda: xconv.avg_pool(x, 2),
            "max_pool_grad": lambda: xconv.max_pool_grad(x[:, :, :4, :4], x, 2),
            "avg_pool_grad": lambda: xconv.avg_pool_grad(x[:, :, :4, :4], x.shape, 2),
        }
        calls |= {method: lambda method=method: xconv.conv(x, w, method=method)
                  for method in ("direct", "native", "im2col", "toeplitz", "winograd", "fft")}
        for name, call in calls.items():
            if os.fork() == 0:
                status = 1
                try:
                    compiled = torch.compile(call, backend="eager", fullgraph=True)()
                    status = 0 if torch.allclose(compiled, call(), atol=1e-3) else 2
                finally:
                    os._exit(status)
            print(name, os.waitstatus_to_exitcode(os.wait()[1]))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    results = dict(line.split() for line in process.stdout.splitlines())
    assert results.keys() > set(METHODS)
    assert set(results.values()) == {"0"}, process.stderr


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", ["native", "im2col", "windowed"])
def test_a_compiled_function_takes_any_batch(torch_backend, name, dynamic):
    """Compiled as often as PyTorch's own convolution is."""
    import torch
    from torch._dynamo.testing import CompileCounter

    counts, ours = [], windowed if name == "windowed" else convolutions("plane", name)
    for function in (torch.nn.functional.conv2d, ours):
        torch._dynamo.reset()
        count = CompileCounter()
        compiled = torch.compile(function, backend=count, fullgraph=True, dynamic=dynamic)
        for batch in range(1, 12):
            x, w = operands(torch_backend, "plane", batch)
            result = compiled(x, w)
        counts.append(count.frame_count)
    assert_all(torch_backend, result, ours(x, w))
    assert counts[1] <= counts[0]


def export(function, arguments):
    import torch

    class Module(torch.nn.Module):
        def forward(self, x, w):
            return function(x, w)

    shapes = ({0: torch.export.Dim("batch")}, None)
    return torch.export.export(Module(), arguments, dynamic_shapes=shapes).module()


@pytest.mark.parametrize("dtype", ["int32", "int8", "complex64", "float16"])
def test_exported_with_a_batch_of_any_size_in_every_kind_of_dtype(torch_backend, dtype):

    def function(x, w):
        return xconv.conv(x, w, padding=1), xconv.conv_weight_grad(xconv.conv(x, w), x, 3)

    first, second = [
        (torch_backend.array(normal((n, 2, 5, 5), 0, dtype)), torch_backend.array(normal((3, 2, 3, 3), 1, dtype)))
        for n in (2, 5)
    ]
    exported = export(function, first)
    assert_all(torch_backend, exported(*second), function(*second))


@pytest.mark.parametrize(("function", "geometry"), functions(EACH_METHOD))
def test_exported_with_a_batch_of_any_size(torch_backend, function, geometry):
    exported = export(function, operands(torch_backend, geometry))
    x, w = operands(torch_backend, geometry, 5)
    assert_all(torch_backend, exported(x, w), function(x, w))


@pytest.mark.parametrize("method", ALL_METHODS)
def test_gradients_of_a_batch_that_is_a_symbol(torch_backend, method):
    import torch

    def loss(x, w):
        return (xconv.conv(x, w, padding=1, method=method) ** 2).sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch in (2, 5):
        x, w = (operand.requires_grad_() for operand in operands(torch_backend, "plane", batch))
        gradients, expected = (torch.autograd.grad(run(x, w), (x, w)) for run in (compiled, loss))
        assert_all(torch_backend, gradients, expected)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "symmetric", "replicate", "circular"])
@pytest.mark.parametrize("dynamic", [None, True])
def test_sizes_other_than_the_batch_are_constants_of_a_graph(torch_backend, dynamic, mode):
    """Each new one is compiled anew, and right."""
    import torch

    w = torch_backend.array(normal((6, 4, 3, 3), 1))
    words = {"padding": "same", "padding_mode": mode}
    compiled = torch.compile(lambda x: xconv.conv(x, w, **words), backend="aot_eager", dynamic=dynamic)
    for size in (7, 8, 9):
        x = torch_backend.array(normal((2, 4, size, size)))
        assert_array(torch_backend, compiled(x), torch_backend.to_numpy(xconv.conv(x, w, **words)), terms=1000)


@pytest.mark.parametrize(("function", "geometry"), functions())
def test_autocast_does_not_change_results(torch_backend, function, geometry):
    """Their dtype is that of the operands, whatever the method, and to the last bit what it is without."""
    import torch

    x, w = (torch_backend.array(torch_backend.to_numpy(a), "float32") for a in operands(torch_backend, geometry))
    expected = function(x, w)
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        results = function(x, w)
        assert torch.is_autocast_enabled(x.device.type)
    for result, other in zip(results, expected, strict=True):
        assert result.dtype == (torch.float32 if other.is_floating_point() else torch.int64)  # indices
        assert torch.equal(result, other)


def test_tensors_without_autocast_of_their_device():
    import torch

    assert xconv.conv(torch.ones(1, 1, 5, 5, device="meta"), torch.ones(1, 1, 3, 3, device="meta")).shape == (
        1,
        1,
        3,
        3,
    )


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["conv", "max_pool"])
def test_torch_jit_trace_says_that_sizes_become_constants(torch_backend, name):
    import torch

    x, w = operands(torch_backend, "plane")
    call = {
        "conv": lambda x, w: xconv.conv(x, w, padding="same", stride=2),
        "max_pool": lambda x, w: xconv.max_pool(x, 2),
    }
    with pytest.warns(torch.jit.TracerWarning, match=f"xconv.{name} constants.*torch.compile or torch.export"):
        traced = torch.jit.trace(call[name], (x, w), check_trace=False)
    assert_array(torch_backend, traced(x, w), torch_backend.to_numpy(call[name](x, w)), terms=1000)


class TestMemory:
    """Tensors that are no more than memory are computed with as NumPy's arrays, which share it."""

    CALLS: ClassVar = {
        "ndimage": lambda x: xconv.ndimage.gaussian_filter(x, 1),
        "signal": lambda x: xconv.signal.convolve(x[0, 0], x[0, 0, :3, :3], mode="same"),
        "direct": lambda x: xconv.conv(x, x[:1, :, :2, :2], method="direct", flip=True),
        "pool": lambda x: xconv.max_pool(x, 2),
        "pairs": lambda x: xconv.max_pool(x, 2, return_indices=True)[1],
        "rows": lambda x: xconv.im2col(x, 2),
    }

    @pytest.mark.parametrize("name", CALLS)
    def test_a_trace_makes_no_constant_of_elements(self, torch_backend, name):
        """What NumPy computes is none of the operations that are traced."""
        import torch

        x, other = (torch_backend.array(normal((2, 3, 9, 8), seed, "float32")) for seed in range(2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, and that it is deprecated
            traced = torch.jit.trace(self.CALLS[name], (x,), check_trace=False)
        assert torch.allclose(traced(other).double(), self.CALLS[name](other).double(), atol=1e-4)

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "complex64"])
    @pytest.mark.parametrize("name", CALLS)
    def test_bits_are_numpys(self, torch_backend, name, dtype):
        if dtype == "complex64" and name in ("pool", "pairs"):
            pytest.skip("complex numbers have no order")
        x = normal((2, 3, 9, 8), 0, dtype)
        found, expected = self.CALLS[name](torch_backend.array(x)), self.CALLS[name](x)
        assert_array(torch_backend, found, expected, terms=0 if torch_backend.where == "cpu" else 100)
        assert found.is_contiguous() or name == "direct"

    def test_what_is_written_to_is_the_tensor(self, torch_backend):
        x, output = torch_backend.array(normal((9, 8))), torch_backend.array(np.zeros((9, 8)))
        assert xconv.ndimage.sobel(x, output=output) is output
        assert_array(torch_backend, output, torch_backend.to_numpy(xconv.ndimage.sobel(x)))

    def test_functions_of_the_users_are_given_tensors(self, torch_backend):
        import torch

        seen = []

        def second(x, axis, output, mode, cval):
            seen.append(type(x))
            return 2 * x

        found = xconv.ndimage.generic_laplace(torch_backend.array(normal((6, 5))), second)
        assert {type(found), *seen} == {torch.Tensor}

    def test_no_warning_is_numpys(self, torch_backend):
        """Warnings are errors here."""
        x = torch_backend.array(np.full((2, 3, 9, 8), np.finfo("float32").max, "float32"))
        x[0, 0, 2, 2] = np.inf
        assert not torch_backend.xp.all(torch_backend.xp.isfinite(xconv.conv(x, -x[:1, :, :2, :2], method="direct")))

    def test_numpys_arrays_beside_tensors_are_refused_by_all_ways(self, torch_backend):
        x, w = torch_backend.array(normal((9, 8))), normal((3, 3))
        calls = [
            lambda: xconv.ndimage.correlate(x, w),
            lambda: xconv.ndimage.correlate(x.clone().requires_grad_(), w),
            lambda: xconv.signal.convolve(x, w),
            lambda: xconv.signal.convolve(w, x),
            *(
                lambda method=method: xconv.conv(x[None, None], w[None, None], method=method)
                for method in ("auto", "direct", "im2col")
            ),
        ]
        for call in calls:
            with pytest.raises(TypeError) as error:
                call()
            assert str(error.value).startswith("all arrays must come from one library, got ")

    def test_the_first_call_of_a_process_may_be_mapped(self, torch_backend):
        """No tensor was looked at before, and those that are mapped may not be asked for their data."""
        code = """
            import torch, xconv
            x = torch.rand(2, 9, 8)
            for f in (xconv.ndimage.sobel, lambda x: xconv.signal.convolve(x, x)):
                assert torch.allclose(torch.func.vmap(f)(x)[1], f(x[1]), atol=1e-5)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("name", CALLS)
    def test_inputs_share_no_memory_with_results(self, torch_backend, name):
        x = torch_backend.array(normal((2, 3, 9, 8)))
        before, found = x.clone(), self.CALLS[name](x)
        found += 1
        assert torch_backend.xp.all(x == before)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # by what forward derivatives load
    def test_who_watches_sees_all(self, torch_backend):
        """Derivatives forwards and backwards, modes, mixed dtypes and dtypes of NumPy's that there are not."""
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.utils.flop_counter import FlopCounterMode

        x, w = (torch_backend.array(normal(shape)) for shape in ((1, 2, 6, 6), (3, 2, 2, 2)))

        def direct(x, w):
            return xconv.conv(x, w, method="im2col")

        traced = make_fx(direct)(x, w)
        assert_array(torch_backend, traced(2 * x, w), torch_backend.to_numpy(2 * direct(x, w)), terms=100)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
            tangent = torch.autograd.forward_ad.unpack_dual(direct(dual, w)).tangent
        assert_array(torch_backend, tangent, torch_backend.to_numpy(direct(torch.ones_like(x), w)), terms=100)
        with FlopCounterMode(display=False) as counter:
            direct(x, w)
        assert counter.get_total_flops() > 0
        assert direct(x.requires_grad_(), w).requires_grad
        with torch.no_grad():
            assert not direct(x, w).requires_grad
        assert direct(x.detach().bfloat16(), w.bfloat16()).dtype == torch.bfloat16
        assert direct(x.detach().float(), w.int()).dtype == torch.float32
