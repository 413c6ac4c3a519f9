"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xconv.demo.backends import BACKENDS
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError, require_packages

from .options import DEFAULT, Parser, add_backend, add_numbers_file, count, duration, seed
from .peers import PEERS
from .suites import SUITES

PROGRAM = "python -m benchmarks"
FILTER = "filter"  # the suite that is of no layers


@dataclass(frozen=True)
class Command:
    """One of the command lines: what it needs, takes and does, and what Ctrl-C leaves."""

    packages: tuple[str, ...]
    parser: Callable[[], Parser]
    run: Callable[..., None]
    interrupted: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = given[0] if given and given[0] in COMMANDS else ""
    command = COMMANDS.get(name, _SUITES)
    options = vars(command.parser().parse_args(given[1:] if name else given))
    try:
        require_packages(command.packages)
        return _run(command, shlex.join([*PROGRAM.split(), *given]), options)
    except CommandError as error:
        return _fail(str(error), UNUSABLE)
    except KeyboardInterrupt:
        return _fail(f"interrupted: {command.interrupted}", INTERRUPTED)


def _run(command: Command, line: str, options: dict[str, Any]) -> int:
    """What needs packages is imported once they are known to be there."""
    from .expected import WrongResultError

    try:
        command.run(command=line, **options)
    except WrongResultError as error:
        return _fail(str(error), FAILED)
    return 0


def _fail(reason: str, status: int) -> int:
    print(f"{PROGRAM}: {reason}", file=sys.stderr)
    return status


def _run_suites(*, suites: Sequence[str], **options: Any) -> None:
    from .filters import run_filters
    from .run import run_benchmarks

    layers = [suite for suite in suites if suite != FILTER]
    if layers:
        run_benchmarks(suites=layers, **options)
    if FILTER in suites:
        out = options["out"] / f"{FILTER}.json"
        run_filters(out=out, **{name: options[name] for name in ("seconds", "quick", "command")})


def _run_choice(**options: Any) -> None:
    from .choice import run_choice

    run_choice(**options)


def _run_rates(**options: Any) -> None:
    from .rates import run_rates

    run_rates(**options)


def _run_pools(**options: Any) -> None:
    from .pools import run_pools

    run_pools(**options)


def _suites_parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Time xconv and others on the same arrays, in one process: forward, input gradient and weight "
        "gradient of every layer, in float32. Every result is checked against float64 first.",
        epilog=f"As first argument, {', '.join(COMMANDS)} are commands of their own: see {PROGRAM} choice --help.",
    )
    add_backend(parser, [backend.name for backend in BACKENDS])
    parser.add_argument(
        "--suite",
        dest="suites",
        nargs="+",
        choices=[*SUITES, FILTER],
        default=list(SUITES),
        metavar="NAME",
        help=f"out of {', '.join(SUITES)}, and {FILTER}, of SciPy's functions on NumPy; default: all but that",
    )
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=list(PEERS),
        metavar="NAME",
        help=f"out of {', '.join(PEERS)} (xconv's own, by hand); default: all that run on the backend",
    )
    parser.add_argument(
        "--out", type=Path, default="runs/benchmarks", metavar="DIR", help=f"for numbers, summary and figure; {DEFAULT}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny layers and two rounds: whether it runs and is right")
    parser.add_argument("--repeats", type=count, metavar="N", help="rounds at least; default: 7, or 2 with --quick")
    parser.add_argument(
        "--seconds",
        type=duration,
        metavar="S",
        help="for all calls of an operation together, unless the least rounds take longer; default: 4",
    )
    return parser


def _choice_parser() -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} choice",
        description='How much time method="auto" loses against the best method by hand, on layers drawn at random.',
    )
    add_backend(parser, HOSTS)
    parser.add_argument("--layers", type=count, default=60, metavar="N", help=f"how many; {DEFAULT}")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help=f"which layers; {DEFAULT}")
    parser.add_argument(
        "--seconds",
        type=duration,
        metavar="S",
        help="for all methods of a function together, unless the least rounds take longer; default: 1.5",
    )
    parser.add_argument("--quick", action="store_true", help="tiny layers and two rounds: whether it runs and is right")
    add_numbers_file(parser)
    return parser


def _rates_parser() -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} rates",
        description="What an array library takes for plain things, in nanoseconds of float32: by its own calls alone, "
        "NumPy's on all processors at once.",
    )
    add_backend(parser, HOSTS)
    parser.add_argument(
        "--seconds",
        type=duration,
        metavar="S",
        help="for all together, unless the least rounds take longer; default: 20",
    )
    parser.add_argument("--quick", action="store_true", help="two rounds, and smaller large arrays: whether it runs")
    parser.add_argument("--write", action="store_true", help="put them in the package, for method='auto' to use")
    add_numbers_file(parser)
    return parser


def _pools_parser() -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} pools",
        description="Time xconv's pools, max_pool's gradient and col2im beside PyTorch, on NumPy's float32.",
    )
    parser.add_argument(
        "--seconds",
        type=duration,
        metavar="S",
        help="for both sides of one, unless the least rounds take longer; default: 4",
    )
    parser.add_argument("--quick", action="store_true", help="tiny arrays and two rounds: whether it runs and is right")
    add_numbers_file(parser)
    return parser


HOSTS = ("numpy", "jax", "torch")  # what the other commands know how to call

_SUITES = Command(
    ("matplotlib", "rich", "threadpoolctl"), _suites_parser, _run_suites, "only finished suites were written"
)
COMMANDS = {
    "choice": Command(("rich", "threadpoolctl"), _choice_parser, _run_choice, "only finished layers were written"),
    "rates": Command(("rich", "threadpoolctl"), _rates_parser, _run_rates, "nothing was written"),
    "pools": Command(("rich", "threadpoolctl"), _pools_parser, _run_pools, "nothing was written"),
}


if __name__ == "__main__":
    sys.exit(main())
