"""Kernels of our own on CuPy: how many are launched, and that what a C++ compiler makes of them is what NumPy made."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import reference
import standin
from backends import assert_values
from calls import CALLS, operands, results
from geometries import normal

import xconv
from xconv._arrays import kernels, maxima
from xconv._plan.arguments import window_geometry

LAUNCHES = standin.Array.launches


def arrays(*shapes, dtype="float32"):
    return [standin.wrapped(normal(shape, seed, dtype)) for seed, shape in enumerate(shapes)]


def launched(function, *operands, **keywords):
    """The result, and the operations that were kernels."""
    function(*operands, **keywords)  # whose constants are made once
    LAUNCHES.clear()
    result = function(*operands, **keywords)
    return result, [*LAUNCHES]


@pytest.mark.parametrize("padding", [0, 1, [(0, 1), (2, 0)]])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 4])
def test_convolutions_take_at_most_three(cupy, batch, stride, padding):
    """Windows with their padding, one product of all samples, and the bias added where that is."""
    x, w, b = arrays((batch, 3, 30, 30), (16, 3, 3, 3), (16,))
    keywords = {"stride": stride, "padding": padding, "method": "im2col"}
    y, forward = launched(xconv.conv, x, w, b, **keywords)
    assert forward == ["kernel", "matmul", "add"]
    assert_values(
        standin.plain(y), reference.conv(*map(standin.plain, (x, w, b)), stride=stride, padding=padding), 1e-5
    )
    assert launched(xconv.conv_input_grad, y, w, x.shape, **keywords)[1] in (
        ["kernel", "matmul"],  # of filters turned round, which are a view
        ["matmul", "kernel"],
    )
    assert launched(xconv.conv_weight_grad, y, x, 3, **keywords)[1] == ["kernel", "matmul"]


def test_a_product_is_of_matrices(cupy):
    """CuPy copies a stack of them before it multiplies."""
    factors = []
    cupy.matmul = lambda *both: factors.extend(both) or standin.wrapped(np.matmul(*map(standin.plain, both)))
    x, w = arrays((4, 3, 30, 30), (16, 3, 3, 3))
    y = xconv.conv(x, w, method="im2col")
    xconv.conv_input_grad(y, w, x.shape, method="im2col")
    xconv.conv_weight_grad(y, x, 3, method="im2col")
    assert [factor.ndim for factor in factors] == [2] * 6


@pytest.mark.parametrize("keywords", [{}, {"stride": 2, "padding": 1}, {"padding": (1, 0), "ceil_mode": True}])
def test_pools_take_one_for_each_axis_and_pass(cupy, keywords):
    (x,) = arrays((2, 3, 13, 12))
    y, forward = launched(xconv.max_pool, x, 3, **keywords)
    assert forward == ["kernel"] * 2
    assert launched(xconv.max_pool_grad, y, x, 3, **keywords)[1] == ["kernel"] * 4  # winners, and what they take
    for include in (True, False):
        more = keywords | {"count_include_pad": include}
        assert launched(xconv.avg_pool, x, 3, **more)[1] == ["kernel"] * 2
        assert launched(xconv.avg_pool_grad, y, x.shape, 3, **more)[1] == ["kernel"] * 2


@pytest.mark.parametrize("name", [name for name in CALLS if name != "linear_operator"])  # which is of cupyx's class
def test_calls_are_done_on_the_device_of_their_arrays(cupy, name):
    """Where CuPy computes and allocates is current for the thread: the arrays may be elsewhere."""
    arrays = [standin.wrapped(one) for one in operands(name)]
    expected = results(name, arrays)
    with standin.Device(1):
        moved = [standin.wrapped(one.copy()) for one in operands(name)]
    found = results(name, moved)
    assert standin.CURRENT.device == 0
    assert {one.number for one in found} == {1}
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(standin.plain(one), standin.plain(other))


LONG = [
    ((1, 130), {"stride": 1}),
    ((67, 66), {"stride": (3, 1), "padding": (33, 5)}),
    ((70, 1), {"stride": (2, 1), "dilation": (3, 1), "padding": (35, 0), "ceil_mode": True}),
    ((65, 65), {"stride": (200, 1)}),
]


@pytest.mark.parametrize(("kernel_size", "keywords"), LONG)
def test_long_pools_take_no_more(cupy, kernel_size, keywords):
    """However long: not one for each tap or level."""
    x = normal((1, 2, 217, 201), dtype="float32")
    x[0, 1, 100:103, 150] = np.nan
    y, found = launched(xconv.max_pool, standin.wrapped(x), kernel_size, **keywords)
    assert found == ["kernel"] * sum(k > 1 for k in kernel_size)
    assert np.array_equal(standin.plain(y), xconv.max_pool(x, kernel_size, **keywords), equal_nan=True)
    if kernel_size[1] == 1:  # of others NumPy's loops take long
        gradient = launched(xconv.max_pool_grad, y, standin.wrapped(x), kernel_size, **keywords)[1]
        assert gradient == ["kernel"] * 2 * sum(k > 1 for k in kernel_size)


@pytest.mark.parametrize("k", [5, 70])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "int16"])
def test_the_smallest_of_windows(cupy, dtype, k):
    x, windows = (
        normal((1, 1, 20, 190), dtype="float32"),
        window_geometry((20, 190), (1, k), stride=1, padding=0, dilation=1),
    )
    x = (100 + 30 * x).astype(dtype)
    found = maxima.extremes(cupy, standin.wrapped(x), windows, largest=False)
    assert np.array_equal(standin.plain(found), np.lib.stride_tricks.sliding_window_view(x, k, -1).min(-1))


# CuPy's numbers of 16 bits are a class, which turns into a float wherever there is a choice.
HALF = """struct half {
  _Float16 value;
  half() = default;
  half(float v) : value(v) {}
  explicit half(int v) : value(v) {}
  operator float() const { return value; }
};
"""


class Compiled(standin.ElementwiseKernel):
    """A kernel that a C++ compiler has compiled as well: both give the same."""

    found: list[str] = []  # noqa: RUF012
    place = None

    def __call__(self, *arguments, size=None):
        result = super().__call__(*arguments, size=size)
        given = [standin.plain(one) for one in arguments]
        kinds = {
            one[-2]: _word(array)
            for one, array in zip(self.given + self.results, given, strict=True)
            if hasattr(array, "dtype")
        }
        parameters, passed = [], []
        for words, value in zip(self.given + self.results, given, strict=True):
            is_array = "raw" in words or words in self.results
            kind = {"int32": "int", "int64": "long long"}.get(words[-2]) or kinds[words[-2]]
            kind = kind if is_array else kind.replace("half", "float")  # which ctypes can hand over
            parameters.append(f"{kind} {'*' * is_array}{words[-1]}" + "_" * (words in self.results))
            if words in self.results:
                passed.append(np.zeros_like(value))
            else:
                passed.append(np.ascontiguousarray(value) if is_array else value)
        body = "".join(
            f"auto* {words[-1]} = {words[-1]}_;" if "raw" in words else f"auto& {words[-1]} = {words[-1]}_[i];"
            for words in self.results
        )
        types = "".join(f"typedef {kind} {letter};" for letter, kind in kinds.items() if letter in "TU")
        path = self.place / f"kernel{len(Compiled.found)}"
        path.with_suffix(".cpp").write_text(
            f"#include <cstddef>\n#include <cstdint>\n{HALF}{types}\n"
            f'extern "C" void run(ptrdiff_t size, {", ".join(parameters)}) '
            f"{{ for (ptrdiff_t i = 0; i < size; ++i) {{ {body} {self.text} }} }}\n"
        )
        command = ["c++", "-shared", "-fPIC", "-O0", "-Wall", "-o", f"{path}.so", f"{path}.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        ctypes.CDLL(f"{path}.so").run(
            ctypes.c_ssize_t(passed[-1].size if size is None else size),
            *(_argument(w, v, kinds) for w, v in zip(self.given + self.results, passed, strict=True)),
        )
        for value, expected in zip(passed[-len(self.results) :], given[-len(self.results) :], strict=True):
            assert np.array_equal(value, expected, equal_nan=True)
        Compiled.found.append(self.text)
        return result


def _word(array):
    return {"float16": "half", "float32": "float", "float64": "double", "uint8": "uint8_t", "int32": "int"}[
        array.dtype.name
    ]


def _argument(words, value, kinds):
    if isinstance(value, np.ndarray):
        return value.ctypes.data_as(ctypes.c_void_p)
    if words[-2] in kinds:
        return {"float": ctypes.c_float, "half": ctypes.c_float, "double": ctypes.c_double}[kinds[words[-2]]](value)
    return (ctypes.c_int if words[-2] == "int32" else ctypes.c_longlong)(value)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(("narrow", "dtype"), [(True, "float32"), (False, "float32"), (True, "float16")])
def test_a_compiler_makes_the_same_of_them(cupy, tmp_path, monkeypatch, narrow, dtype):
    monkeypatch.setattr(kernels, "NARROW", kernels.NARROW if narrow else 0)
    monkeypatch.setattr(Compiled, "place", tmp_path)
    monkeypatch.setattr(Compiled, "found", [])
    cupy.ElementwiseKernel = Compiled
    monkeypatch.setattr(kernels, "LOOPED", 3)
    x, more = arrays((2, 3, 7, 6), (2, 80, 3), dtype=dtype)
    standin.plain(x)[0, 1, 2, 3] = np.nan
    windows = window_geometry((7, 6), (3, 2), stride=(2, 3), padding=[(1, 2), (2, 0)], dilation=(1, 2))
    columns = kernels.windows_of(cupy, x, windows, 2)
    kernels.windows_adjoint(cupy, columns, windows, 2)
    line, long = windows.lines[0], window_geometry((80,), (40,), stride=2, padding=39, dilation=2)
    for largest in (True, False):
        kernels.extreme(cupy, x, 2, line, largest, -np.inf)
        kernels.extreme(cupy, more, 1, long, largest, -np.inf)
    _, winner = kernels.winners(cupy, x, 2, line, -np.inf, np.dtype("uint8"))
    dy = arrays(winner.shape, dtype=dtype)[0]
    kernels.taken(cupy, dy, winner, 2, line)
    for count in ([3], [1, 2, 3, 3]):
        kernels.means_along(cupy, x, 2, line, count)
        kernels.spread(cupy, dy, 2, line, count)
    assert len(Compiled.found) == 12
    assert sum("if (starts)" in text for text in Compiled.found) == 2
