"""Lines of code as somebody writes them, in the files of this folder: read, and made functions of their arrays."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Ints = tuple[int, ...]
Row = dict[str, Any]


def read(name: str) -> dict[str, Any]:
    """A file of them."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def shapes_of(on: str, values: Mapping[str, Any]) -> dict[str, Ints]:
    """Of the arrays x and w that a line is of: "512x512 * 3x3"."""
    shapes = (tuple(map(int, words.split("x"))) for words in on.format(**values).split(" * "))
    return dict(zip("xw", shapes, strict=False))


def function_of(line: str, arrays: Iterable[str], names: Mapping[str, Any]) -> tuple[list[str], Callable[..., Any]]:
    """Which of these arrays a line reads, and it as a function of them; what else it reads has a name."""
    read_there = compile(line, line, "eval").co_names
    parameters = [name for name in arrays if name in read_there]
    return parameters, eval(f"lambda {', '.join(parameters)}: {line}", {**names})
