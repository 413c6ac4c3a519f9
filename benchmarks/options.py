"""What the command lines have in common: one-line mistakes, and options that are counts, times and files."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from xconv.demo.errors import UNUSABLE

DEFAULT = "default: %(default)s"


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def add_backend(parser: Parser, names: Sequence[str]) -> None:
    """The array library, the first of these unless another is named."""
    parser.add_argument("--backend", choices=list(names), default=names[0], help=DEFAULT)


def add_numbers_file(parser: Parser) -> None:
    """Where all numbers go, if anywhere."""
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="for all numbers; default: none")


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """What a generator starts from."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def duration(text: str) -> float:
    """A time in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds
