"""The command line: ``xconv`` and ``python -m xconv``.

What a subcommand needs is imported when it runs: ``info`` works wherever xconv does, without any extra.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .demo.backends import BACKENDS
from .demo.errors import (
    DEMO_PACKAGES,
    FAILED,
    INTERRUPTED,
    PICTURES,
    UNUSABLE,
    CommandError,
    complaint,
    lacks_memory,
    require_packages,
)
from .demo.kernels import Kernel, forms, parse_kernel
from .ndimage import MODES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process if left out.

    Returns
    -------
    status : int
        0; 1 if a check failed, or nobody reads the output any more; 2 if something is missing, cannot be used or finds
        no room; 130 after Ctrl-C.

    Raises
    ------
    SystemExit
        By argparse: status 2 if the arguments are wrong, 0 after ``--help``.
    """
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:  # which it is where it was closed from the beginning
                sys.stdout.flush()  # at the interpreter's end it would be too late to answer for it
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        if error.errno == errno.EPIPE:
            return FAILED
        print(complaint("xconv", f"cannot write: {error.strerror}"), file=sys.stderr)
        return UNUSABLE


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    if options["command"] is None:
        parser.print_help()
        return 0
    command, packages, extras = options.pop("command"), options.pop("packages"), options.pop("extras")
    try:
        require_packages(packages, extras)
        status: int = importlib.import_module(f"xconv.demo.{command}").run(**options)
    except Exception as error:
        if not (isinstance(error, CommandError) or lacks_memory(error)):
            raise
        reason = str(error) if isinstance(error, CommandError) else "out of memory"
        print(complaint(f"xconv {command}", reason), file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print(f"xconv {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status


class Parser(argparse.ArgumentParser):
    """Answers a mistake with a sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{complaint(self.prog, message)}\n")


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
    _add_filter(commands)
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


def _add_filter(commands: argparse._SubParsersAction[Parser]) -> None:
    purpose = "filter an image in a file, which may be larger than memory, into another file"
    command = _add_command(commands, "filter", purpose, ("dask", "rich"), "dask,demo")
    command.epilog = (
        "Ctrl-C leaves what is written beside OUT, as NAME.partial.npy or NAME.partial.zarr, with zeros for the rest."
    )
    command.add_argument("source", type=Path, metavar="IN", help="a .npy file or a Zarr array, of any number of axes")
    command.add_argument("out", type=Path, metavar="OUT", help="its name ends in .npy or .zarr")
    kinds = (
        f"{', '.join(forms())}; the last two are derivatives along AXIS, by default the last, smoothed along the others"
    )
    command.add_argument("--kernel", type=_kernel, required=True, metavar="KIND:NUMBER", help=kinds)
    command.add_argument("--axes", type=_whole_numbers(None), metavar="A,B", help="the axes to filter; default: all")
    command.add_argument(
        "--chunks", type=_whole_numbers(1), metavar="SIZE", help="elements along each axis, or A,B; default: by memory"
    )
    beyond = f"what is beyond the ends: {', '.join(MODES)}; {_DEFAULT}"
    command.add_argument("--mode", choices=[*MODES], default="reflect", metavar="MODE", help=beyond)
    command.add_argument("--cval", type=number(), default=0.0, help=f"what is there with constant; {_DEFAULT}")
    command.add_argument("--dtype", metavar="NAME", help="of the result; default: that of the input")
    command.add_argument("--workers", type=whole_number(1), metavar="N", help="threads; default: one for each CPU")
    command.add_argument("--picture", type=_png, metavar="FILE.png", help="thumbnails of it before and after")
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists, once all is done")


def _add_command(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    purpose: str,
    packages: tuple[str, ...] = (),
    extras: str = "demo",
) -> Parser:
    command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    command.set_defaults(packages=packages, extras=extras)
    return command


def _kernel(text: str) -> Kernel:
    try:
        return parse_kernel(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _whole_numbers(least: int | None) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        return tuple(map(whole_number(least), text.split(",")))

    return parse


def whole_number(least: int | None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            number = int(text)
            if least is None or number >= least:
                return number
        bound = "" if least is None else f" of at least {least}"
        raise argparse.ArgumentTypeError(f"must be a whole number{bound}, got {text!r}")

    return parse


def number(above: float | None = None) -> Callable[[str], float]:
    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = float(text)
            if above is None or value > above:
                return value
        bound = "" if above is None else f" above {above:g}"
        raise argparse.ArgumentTypeError(f"must be a number{bound}, got {text!r}")

    return parse


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"must end in .png, got {text!r}")
    return path


if __name__ == "__main__":
    sys.exit(main())
