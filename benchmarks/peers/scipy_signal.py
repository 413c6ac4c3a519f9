"""``scipy.signal``'s convolutions by FFT, which know neither channels nor strides: forward only."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from xconv.demo.backends import LoadedBackend
from xconv.demo.errors import CommandError

from ..suites import Layer
from .peer import FORWARD, INPUT_GRAD, WEIGHT_GRAD, Call, Peer, Problem

SUITES = ("large_kernel", "latency")


class SciPySignal:
    """One function of ``scipy.signal``, over all pairs of channel and filter at once."""

    packages = ("scipy",)
    refusals = ()
    expendable = False

    def __init__(self, convolve: Callable[..., Any]) -> None:
        self.name = f"scipy-{convolve.__name__}"
        self._convolve = convolve

    def operations(self, problem: Problem) -> dict[str, Call | str]:
        no_gradient = "scipy.signal has no gradients"
        return {FORWARD: self._forward(problem), INPUT_GRAD: no_gradient, WEIGHT_GRAD: no_gradient}

    def _forward(self, problem: Problem) -> Call | str:
        layer, x, w = problem.layer, problem.x, problem.w
        if layer.suite not in SUITES:
            return f"compared in {' and '.join(SUITES)} only"
        if max(*layer.stride, *layer.dilation) > 1:
            return "scipy.signal has no stride and no dilation"
        return lambda: self._correlate(x, w, layer)

    def _correlate(self, x: Any, w: Any, layer: Layer) -> Any:
        """Broadcast the groups' channels against their filters, convolve with flipped filters, sum over channels."""
        if any(layer.padding):
            x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in layer.padding)])
        filters, channels, *kernel = layer.weight_shape
        images = x.reshape(len(x), layer.groups, 1, channels, *x.shape[2:])
        flipped = np.flip(w, axis=tuple(range(2, w.ndim)))
        kernels = flipped.reshape(1, layer.groups, filters // layer.groups, channels, *kernel)
        y = self._convolve(images, kernels, mode="valid", axes=tuple(range(4, images.ndim)))
        return y.sum(axis=3).reshape(layer.output_shape)


def load(backend: LoadedBackend) -> list[Peer]:
    """Both functions: which is faster depends on the sizes."""
    try:
        signal = importlib.import_module("scipy.signal")
    except ImportError as error:
        raise CommandError("scipy is not installed: pip install 'xconv[test]'") from error
    return [SciPySignal(signal.oaconvolve), SciPySignal(signal.fftconvolve)]
