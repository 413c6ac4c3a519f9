"""PyTorch, as somebody with NumPy or CuPy arrays would call it: the conversions are part of the call."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.errors import CommandError

from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem

Conversion = Callable[[Any], Any]


class PyTorch:
    """``torch.nn.functional.conv1d`` to ``conv3d`` and the backward operation beneath their autograd."""

    name = "torch"
    packages = ("torch",)
    refusals = ()

    def __init__(self, torch: ModuleType, to_torch: Conversion, from_torch: Conversion) -> None:
        functional = torch.nn.functional
        self._convolutions = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
        self._backward = torch.ops.aten.convolution_backward
        self._to_torch, self._from_torch = to_torch, from_torch

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        x, w, dy = problem.x, problem.w, problem.dy
        return {
            FORWARD: self._forward(problem),
            INPUT_GRAD: self._gradient(problem, dy, x, w, output=0),
            WEIGHT_GRAD: self._gradient(problem, dy, x, w, output=1),
        }

    def _forward(self, problem: Problem) -> Call:
        to_torch, from_torch = self._to_torch, self._from_torch
        convolution, keywords = self._convolutions[len(problem.layer.kernel_size)], problem.layer.keywords
        x, w = problem.x, problem.w
        return lambda: from_torch(convolution(to_torch(x), to_torch(w), **keywords))

    def _gradient(self, problem: Problem, dy: Any, x: Any, w: Any, output: int) -> Call:
        """dx is the first output of the backward operation, dw the second."""
        to_torch, from_torch, backward, layer = self._to_torch, self._from_torch, self._backward, problem.layer
        mask = [output == 0, output == 1, False]
        no_output_padding = [0] * len(layer.kernel_size)
        static = (None, layer.stride, layer.padding, layer.dilation, False, no_output_padding, layer.groups, mask)
        return lambda: from_torch(backward(to_torch(dy), to_torch(x), to_torch(w), *static)[output])


def load(backend: LoadedBackend) -> list[Peer]:
    """PyTorch for the arrays of this backend."""
    torch = load_backend("torch").module
    if backend.name == "cupy" and not torch.cuda.is_available():
        raise CommandError(f"torch {torch.__version__} is installed but finds no CUDA device")
    return [PyTorch(torch, *_conversions(torch, backend))]


def _conversions(torch: ModuleType, backend: LoadedBackend) -> tuple[Conversion, Conversion]:
    """To PyTorch and back, without copying."""
    if backend.name == "numpy":
        return torch.from_numpy, lambda tensor: tensor.numpy()
    if backend.name == "cupy":
        return torch.from_dlpack, backend.module.from_dlpack
    return _same, _same


def _same(array: Any) -> Any:
    return array
