"""Lines of code as somebody writes them, in the files of this folder: read, and made calls on a library's arrays."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xconv.demo.backends import LoadedBackend

from .timing import Call

Ints = tuple[int, ...]
Names = Mapping[str, Any]  # what lines know


def read(name: str) -> dict[str, Any]:
    """A file of them."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def shapes_of(on: str, sizes: Names) -> dict[str, Ints]:
    """Of the arrays x and w that a line is of: "512x512 * 3x3"."""
    shapes = (tuple(map(int, words.split("x"))) for words in on.format(**sizes).split(" * "))
    return dict(zip("xw", shapes, strict=False))


def random(shape: Ints, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Numbers, the same for the same shape and seed."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype, copy=False)


def call_of(line: str, arrays: Names, names: Names, library: LoadedBackend) -> Call:
    """A line on a library's arrays; under ``jax.jit`` on JAX, which returns when it is done.

    JAX's processors would work on several calls at once.
    """
    parameters = [name for name in arrays if name in compile(line, line, "eval").co_names]
    function = library.compile(eval(f"lambda {', '.join(parameters)}: {line}", {**names}))
    call = functools.partial(function, *map(arrays.__getitem__, parameters))
    return (lambda: call().block_until_ready()) if library.name == "jax" else call
