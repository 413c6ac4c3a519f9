"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from xconv.demo.backends import BACKENDS
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError, require_packages

from .peers import PEERS
from .suites import SUITES

PROGRAM = "python -m benchmarks"
PACKAGES = ("matplotlib", "rich", "threadpoolctl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = vars(_parser().parse_args(given))
    try:
        require_packages(PACKAGES)
        return _run(shlex.join([*PROGRAM.split(), *given]), options)
    except CommandError as error:
        return _fail(str(error), UNUSABLE)
    except KeyboardInterrupt:
        return _fail("interrupted: only finished suites were written", INTERRUPTED)


def _run(command: str, options: dict[str, Any]) -> int:
    """What needs packages is imported once they are known to be there."""
    from .expected import WrongResultError
    from .run import run_benchmarks

    try:
        run_benchmarks(command=command, **options)
    except WrongResultError as error:
        return _fail(str(error), FAILED)
    return 0


def _fail(reason: str, status: int) -> int:
    print(f"{PROGRAM}: {reason}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog=PROGRAM,
        description="Time xconv and others on the same arrays, in one process: forward, input gradient and weight "
        "gradient of every layer, in float32. Every result is checked against float64 first.",
    )
    names = [backend.name for backend in BACKENDS]
    default = "default: %(default)s"
    parser.add_argument("--backend", choices=names, default=names[0], help=default)
    parser.add_argument(
        "--suite",
        dest="suites",
        nargs="+",
        choices=list(SUITES),
        default=list(SUITES),
        metavar="NAME",
        help=f"out of {', '.join(SUITES)}; default: all",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=list(PEERS),
        metavar="NAME",
        help=f"out of {', '.join(PEERS)} (xconv's own, by hand); default: all that run on the backend",
    )
    parser.add_argument(
        "--out", type=Path, default="runs/benchmarks", metavar="DIR", help=f"for numbers, summary and figure; {default}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny layers and two rounds: whether it runs and is right")
    parser.add_argument("--repeats", type=_count, metavar="N", help="rounds at least; default: 7, or 2 with --quick")
    parser.add_argument(
        "--seconds",
        type=_duration,
        metavar="S",
        help="for all calls of an operation together, unless the least rounds take longer; default: 4",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
