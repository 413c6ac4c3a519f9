"""How well methods are chosen, on drawn layers of which all methods were timed: `python -m benchmarks choice`."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import xconv

TABLE = json.loads((pathlib.Path(__file__).parent / "choice_numpy.json").read_text())
FUNCTIONS = ("conv", "conv_input_grad", "conv_weight_grad")
KEYWORDS = ("stride", "padding", "dilation", "groups")


def chosen(layer, function):
    keywords = {name: layer[name] for name in KEYWORDS}
    shapes = layer["input_shape"], layer["weight_shape"]
    return xconv.choose_method(*shapes, xp=np, dtype=np.dtype("float32"), function=function, **keywords)


def losses(choose):
    """By how much the chosen method is slower than the fastest of those timed, for every layer and function."""
    found = []
    for layer in TABLE["layers"]:
        for function in FUNCTIONS:
            seconds = layer["functions"][function]
            found.append(seconds[choose(layer, function)] / min(seconds.values()) - 1)
    return np.array(found)


def summary(found):
    return np.exp(np.mean(np.log1p(found))) - 1, np.quantile(found, 0.9), np.max(found)


def test_auto_loses_little_on_the_recorded_layers(numpy_backend):
    mean, most, worst = summary(losses(chosen))
    assert mean <= 0.04
    assert most <= 0.2
    assert worst <= 0.6


@pytest.mark.parametrize("method", ["im2col", "toeplitz", "fft"])
def test_no_single_method_would_do(method):
    mean, most, worst = summary(losses(lambda layer, function: method))
    assert mean > 0.04
    assert most > 0.2
    assert worst > 0.6
