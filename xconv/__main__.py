"""The command line: ``xconv`` and ``python -m xconv``.

What a subcommand needs is imported when it runs: ``info`` works wherever xconv does, without any extra.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .demo.backends import BACKENDS
from .demo.errors import DEMO_PACKAGES, FAILED, INTERRUPTED, PICTURES, UNUSABLE, CommandError, require_packages


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process if left out.

    Returns
    -------
    status : int
        0; 1 if a check failed, or nobody reads the output any more; 2 if something is missing or cannot be used; 130
        after Ctrl-C.

    Raises
    ------
    SystemExit
        By argparse: status 2 if the arguments are wrong, 0 after ``--help``.
    """
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # at the interpreter's end it would be too late to answer for it
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return FAILED


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    if options["command"] is None:
        parser.print_help()
        return 0
    command, packages = options.pop("command"), options.pop("packages")
    try:
        require_packages(packages)
        status: int = importlib.import_module(f"xconv.demo.{command}").run(**options)
    except CommandError as error:
        print(f"xconv {command}: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print(f"xconv {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


class Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def _parser() -> Parser:
    parser = Parser(prog="xconv", description="Convolution with exact gradients on any array library.")
    parser.add_argument("--version", action="version", version=f"xconv {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_train(commands)
    _add_command(commands, "info", "print versions, backends, devices, and why a backend is missing")
    check = _add_command(commands, "check", "check results and gradients on every backend found", ("rich",))
    names = [backend.name for backend in BACKENDS]
    check.add_argument(
        "--backend", dest="backends", nargs="+", choices=names, metavar="NAME", help=f"only these: {', '.join(names)}"
    )
    gallery = _add_command(commands, "gallery", "draw what xconv is good for, with the lines that do it", PICTURES)
    gallery.add_argument("--out", type=Path, default="runs/gallery", metavar="DIR", help=_DEFAULT)
    figure = _add_command(commands, "figure", "draw how im2col lays windows out as a matrix", ("matplotlib",))
    figure.add_argument("--out", type=_png, default="im2col.png", metavar="FILE.png", help=_DEFAULT)
    return parser


_DEFAULT = "default: %(default)s"


def _add_train(commands: argparse._SubParsersAction[Parser]) -> None:
    train = _add_command(commands, "train", "train a classifier of handwritten digits", DEMO_PACKAGES)
    names = [backend.name for backend in BACKENDS]
    train.add_argument("--backend", choices=names, default=names[0], help=_DEFAULT)
    train.add_argument("--epochs", type=whole_number(1), default=8, help=_DEFAULT)
    train.add_argument("--batch-size", type=whole_number(1), default=50, help=_DEFAULT)
    train.add_argument("--seed", type=whole_number(0), default=0, help=f"of weights and batches; {_DEFAULT}")
    train.add_argument(
        "--out", type=Path, default="runs/mnist", metavar="DIR", help=f"for weights, history and figures; {_DEFAULT}"
    )


def _add_command(
    commands: argparse._SubParsersAction[Parser], name: str, purpose: str, packages: tuple[str, ...] = ()
) -> Parser:
    command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    command.set_defaults(packages=packages)
    return command


def whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, got {text!r}")
        return number

    return parse


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png, got {text!r}")
    return path


if __name__ == "__main__":
    sys.exit(main())
