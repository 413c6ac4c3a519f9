"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xconv.__main__ import Parser, whole_number
from xconv.demo.backends import BACKENDS
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError, require_packages

from .expected import WrongResultError
from .peers import PEERS
from .suites import SUITES

PROGRAM = "python -m benchmarks"
DEFAULT = "default: %(default)s"
# The suites that are of no layers, and their modules.
OTHERS = {"filter": "filters", "pool": "pools", "chunked": "chunked"}
HOSTS = ("numpy", "jax", "torch")  # what the other commands know how to call


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = given[0] if given and given[0] in COMMANDS else ""
    make_parser, run, left = COMMANDS[name]
    program = f"{PROGRAM} {name}".strip()
    options = vars(make_parser(program).parse_args(given[1:] if name else given))
    try:
        require_packages(("matplotlib",) if name == "report" else ())
        run(command=shlex.join([*PROGRAM.split(), *given]), **options)
    except CommandError as error:
        return _fail(program, str(error), UNUSABLE)
    except WrongResultError as error:
        return _fail(program, str(error), FAILED)
    except KeyboardInterrupt:
        return _fail(program, f"interrupted: {left}", INTERRUPTED)
    return 0


def _fail(program: str, reason: str, status: int) -> int:
    print(f"{program}: {reason}", file=sys.stderr)
    return status


def _run_suites(*, suites: Sequence[str], backend: str, peers: Sequence[str] | None, **options: Any) -> None:
    """What needs packages is imported once they are known to be there."""
    layers = [suite for suite in suites if suite not in OTHERS]
    if layers:
        importlib.import_module(".measure", __package__).run_layers(
            suites=layers, backend=backend, peers=peers, **options
        )
    for suite in [suite for suite in suites if suite in OTHERS]:
        module = OTHERS[suite]
        getattr(importlib.import_module(f".{module}", __package__), f"run_{module}")(**options)


def _run(module: str) -> Callable[..., None]:
    def run(**options: Any) -> None:
        getattr(importlib.import_module(f".{module}", __package__), f"run_{module}")(**options)

    return run


def _suites_parser(program: str) -> Parser:
    parser = Parser(
        prog=program,
        description="Time xconv and others on the same arrays, in one process: forward, input gradient and weight "
        "gradient of every layer, in float32. Every result is checked against float64 first.",
        epilog=f"As first argument, {', '.join(filter(None, COMMANDS))} are commands of their own.",
    )
    _add_limits(parser, [backend.name for backend in BACKENDS])
    suites = [*SUITES, *OTHERS]
    parser.add_argument(
        "--suite",
        dest="suites",
        nargs="+",
        choices=suites,
        default=list(SUITES),
        metavar="NAME",
        help=f"out of {', '.join(suites)}; default: all but {', '.join(OTHERS)}, which are of functions",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=list(PEERS),
        metavar="NAME",
        help=f"out of {', '.join(PEERS)} (xconv's own, by hand); default: all that run on the backend",
    )
    return parser


def _choice_parser(program: str) -> Parser:
    about = 'How much time method="auto" loses against the best method by hand, on layers drawn at random.'
    parser = Parser(prog=program, description=about)
    _add_limits(parser, HOSTS)
    parser.add_argument("--layers", type=whole_number(1), default=60, metavar="N", help=f"how many; {DEFAULT}")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help=f"which layers; {DEFAULT}")
    return parser


def _rates_parser(program: str) -> Parser:
    about = "What a library takes for plain things, in nanoseconds of float32: NumPy's on all processors at once."
    parser = Parser(prog=program, description=about)
    _add_limits(parser, HOSTS)
    parser.add_argument("--write", action="store_true", help="put them in the package, for method='auto' to use")
    return parser


def _report_parser(program: str) -> Parser:
    about = "Write the tables of benchmarks/README.md and README.md, and the figure, from the numbers of runs."
    parser = Parser(prog=program, description=about)
    parser.add_argument("--results", type=Path, default="benchmarks/results", metavar="DIR", help=DEFAULT)
    return parser


def _gpu_parser(program: str) -> Parser:
    about = "Check and time xconv on a GPU, the most valuable first, and say how NumPy scales over CPU cores."
    parser = Parser(prog=program, description=about)
    parser.add_argument("--out", type=Path, default="benchmarks/results/gpu", metavar="DIR", help=DEFAULT)
    parser.add_argument("--seconds", type=_duration, default=540.0, metavar="S", help=f"for all of it; {DEFAULT}")
    parser.add_argument("--quick", action="store_true", help="tiny layers, and one CPU core: whether it runs")
    return parser


def _add_limits(parser: Parser, backends: Sequence[str]) -> None:
    parser.add_argument("--backend", choices=list(backends), default=backends[0], help=DEFAULT)
    parser.add_argument(
        "--seconds", type=_duration, metavar="S", help="for all calls of an operation, once there are the least rounds"
    )
    parser.add_argument("--quick", action="store_true", help="tiny arrays and two rounds: whether it runs and is right")
    parser.add_argument("--out", type=Path, default="runs/benchmarks", metavar="DIR", help=f"for numbers; {DEFAULT}")


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


# Of each command line, "" being the one without a name: what it takes, what it does, and what Ctrl-C leaves.
COMMANDS: dict[str, tuple[Callable[[str], Parser], Callable[..., None], str]] = {
    "": (_suites_parser, _run_suites, "only finished suites were written"),
    "choice": (_choice_parser, _run("choice"), "only finished layers were written"),
    "rates": (_rates_parser, _run("rates"), "nothing was written"),
    "gpu": (_gpu_parser, _run("gpu"), "what was found was written"),
    "report": (_report_parser, _run("report"), "some may not have been written"),
}


if __name__ == "__main__":
    sys.exit(main())
