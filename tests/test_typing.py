"""A user's program passes ``mypy --strict``, and mistakes in it are found without running it."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

import xconv

ROOT = pathlib.Path(xconv.__file__).parents[1]
PROGRAM = """\
from typing import Any
import xconv

def program(xp: Any, x: Any, w: Any, b: Any, stride: int, sizes: list[int]) -> tuple[Any, ...]:
    y = xconv.conv(x, w, b, stride=stride, padding="same", dilation=(1, 1), padding_mode="reflect", channel_axis=-1)
    v = xconv.conv_transpose(y, w, stride=sizes, padding=[(1, 2), (0, 1)], output_padding=1, method="fft", flip=True)
    dx, dw, db = xconv.conv_backward(y, x, w, padding=(1, 1), groups=2, max_workspace=2**20)
    dw = xconv.conv_transpose_backward(x, y, w, output_padding=(1, 1), padding_mode="symmetric")[1] + dw
    dx = xconv.conv_input_grad(y, w, x.shape) + xconv.conv_weight_grad(y, x, w.shape[2:], method="direct")
    col = xconv.col2im(xconv.im2col(x, 3, pad_value=0.5), (1, 2, 3), [3, 3])
    p = xconv.max_pool_grad(xconv.max_pool(x, (2, 2), ceil_mode=True), x, 2) + xconv.avg_pool(x, 2, stride=None)
    u = xconv.max_unpool(y, xconv.max_pool(x, 2, return_indices=True)[1], 2, stride=(2, 2), output_size=[5, 4])
    q = xconv.avg_pool_grad(p, x.shape, 2, count_include_pad=False)
    shape: tuple[int, ...] = xconv.conv_output_shape(x.shape, w.shape, padding="causal")
    name: str = xconv.choose_method(x.shape, w.shape, xp=xp, dtype=x.dtype, function="conv_input_grad")
    held: int = xconv.plan(x.shape, w.shape, xp=xp, dtype=x.dtype, measure=False).held
    layer, pool = xconv.Convolution(w, 0, 1, "same", method="auto"), xconv.layers.Pooling(2, 2, stride=(2, 2))
    xconv.testing.check_adjoint(layer.forward, layer.backward, x, xconv.Pooling(2, 2).forward(y))
    g = xconv.ndimage.gaussian_filter(x, (1, 2.5), order=[0, 1], mode=("wrap", "constant"), cval=1, axes=(2, 3))
    h = xconv.halo(x, 3, "i", axis=-1, stride=2, padding=(1, 0), padding_mode="reflect")
    f = xconv.signal.fftconvolve(x, w, mode="same", axes=(2, 3))
    v = xconv.linear_operator(w, (1, 2, 3), padding="same", method="direct").H @ v
    return v, dw, db, dx, col, u, q, g, h, f, shape, name, held, pool
"""
MISTAKES = {
    'xconv.conv(1, 2, stride="two")': "stride",
    'xconv.conv(1, 2, padding="sane")': "padding",
    'xconv.conv(1, 2, padding_mode="constant")': "padding_mode",
    'xconv.conv(1, 2, method="magic")': "method",
    "xconv.conv(1, 2, channel_axis=0)": "channel_axis",
    "xconv.conv(1, 2, dilation=1.5)": "dilation",
    'xconv.max_pool(1, "2")': "max_pool",
    'xconv.avg_pool(1, 2, padding="same ")': "padding",
    "xconv.conv_weight_grad(1, 2, 2.0)": "conv_weight_grad",
    'xconv.conv_input_grad(1, 2, "shape")': "conv_input_grad",
    'xconv.Convolution(1, 2, pad="sane")': "pad",
    'xconv.ndimage.correlate(1, 2, mode=["wrap"])': "mode",
    'xconv.plan((1,), (1,), xp=1, dtype=2, function="max_pool")': "function",
    "xconv.conv(1, 2, strides=2)": "strides",
    'xconv.linear_operator(1, (1, 2), padding="sane")': "padding",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of both programs, so that the second finds what mypy keeps of the libraries."""
    return tmp_path_factory.mktemp("typed")


def check(text, folder):
    """What mypy prints, line by line."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    (folder / "program.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        f"--cache-dir={folder}",
        "program.py",
    ]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr + found.stdout
    return found.stdout.splitlines()


def test_a_program_that_calls_everything_passes(folder):
    assert set(re.findall(r"xconv\.(\w+)", PROGRAM)) == set(xconv.__all__)
    assert check(PROGRAM, folder) == ["Success: no issues found in 1 source file"]
    assert (ROOT / "xconv" / "py.typed").is_file()  # without which an installed xconv would not be looked at


def test_mistakes_are_found(folder):
    lines = check("import xconv\n" + "\n".join(MISTAKES), folder)
    for number, (call, word) in enumerate(MISTAKES.items(), start=2):
        assert any(line.startswith(f"program.py:{number}: error:") and word in line for line in lines), (call, lines)
