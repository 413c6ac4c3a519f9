"""How well "auto" chooses, by a table of times of every method on layers that its rates were not fitted to."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

import xconv

TABLE = pathlib.Path(__file__).parent / "choice_numpy.json"
MEAN, MOST, WORST = 1.04, 0.2, 0.6  # geometric mean of 1 + loss, loss that one in ten may exceed, and none


@pytest.fixture(scope="module")
def layers():
    found = json.loads(TABLE.read_text())["layers"]
    assert found
    return found


def keywords_of(layer):
    """The geometry keywords, with tuples for JSON's lists."""
    names = ("stride", "padding", "dilation", "groups")
    return {name: as_tuple(layer[name]) for name in names}


def as_tuple(value):
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def losses_of(layers, choose):
    """How much longer than the fastest method the chosen one took, for every layer and function."""
    return np.array(
        [
            times[choose(layer, function)] / min(times.values()) - 1
            for layer in layers
            for function, times in layer["functions"].items()
        ]
    )


def chosen(layer, function):
    shapes = tuple(layer["input_shape"]), tuple(layer["weight_shape"])
    dtype = np.dtype(layer.get("dtype", "float32"))
    return xconv.choose_method(*shapes, xp=np, dtype=dtype, function=function, **keywords_of(layer))


def passes(losses):
    mean, most = np.exp(np.mean(np.log1p(losses))), np.percentile(losses, 90)
    return bool(mean <= MEAN and most <= MOST and losses.max() <= WORST)


def test_auto_loses_little_to_the_fastest_method(layers):
    losses = losses_of(layers, chosen)
    assert np.exp(np.mean(np.log1p(losses))) <= MEAN
    assert np.percentile(losses, 90) <= MOST
    assert losses.max() <= WORST
    assert passes(losses)


def test_no_single_method_would_lose_so_little(layers):
    """The layers differ so much that the bounds tell a good choice from none."""
    assert not passes(losses_of(layers, lambda layer, function: "im2col"))


def test_every_method_is_fastest_somewhere(layers):
    fastest = {min(times, key=times.get) for layer in layers for times in layer["functions"].values()}
    assert fastest == {"im2col", "toeplitz", "winograd", "fft"}
