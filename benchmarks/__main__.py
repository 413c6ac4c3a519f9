"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import functools
import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xconv.__main__ import Parser, whole_number
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError, complaint

from .comparison import EVERYWHERE, Options, WrongResultError, carry_out
from .gpu import run_gpu
from .layers import SUITES
from .peers import PEERS
from .rates import run_rates
from .report import run_report
from .suites import KINDS

PROGRAM = "python -m benchmarks"
OUT, GPU_OUT = "runs/benchmarks", "benchmarks/results/gpu"
RUNS: dict[str, Callable[[Options], None]] = {
    **{kind: functools.partial(carry_out, kind, suite) for kind, suite in KINDS.items()},
    "rates": run_rates,
    "gpu": run_gpu,
    "report": run_report,
}
STATUSES = {CommandError: UNUSABLE, WrongResultError: FAILED, KeyboardInterrupt: INTERRUPTED}
ABOUT = "Time xconv and others on the same arrays, side by side, once their results are known to be right."
FURTHER = """layers are of networks: one may be named instead. choice: what method="auto" loses on drawn layers. rates:
plain things, which costs are estimated from. gpu: all that a GPU has to prove. report: write the tables and the figure
of the READMEs. The name of a suite may come first, without --suite."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    first = given[0] if given and given[0] in {*RUNS, *SUITES} else ""
    parser = parser_of(f"{PROGRAM} {first}".strip())
    options = parser.parse_args(["--suite", *given] if first else given)
    options.command = shlex.join([*PROGRAM.split(), *given])
    options.out = options.out or Path(GPU_OUT if "gpu" in options.suites else OUT)
    try:
        for name in dict.fromkeys(suite if suite in RUNS else "layers" for suite in options.suites):
            RUNS[name](options)
    except tuple(STATUSES) as error:
        print(complaint(parser.prog, str(error) or "interrupted: what was finished was written"), file=sys.stderr)
        return STATUSES[type(error)]
    return 0


def seconds(text: str) -> float:
    if not (number := float(text)) > 0:  # NaN included
        raise ArgumentTypeError(f"must be more than 0, got {text!r}")
    return number


def parser_of(program: str) -> Parser:
    parser, default = Parser(prog=program, description=ABOUT, epilog=FURTHER), "default: %(default)s"

    def names(option: str, choices: Sequence[str], words: str, **others: Any) -> None:
        words = f"out of {', '.join(choices)}; {words}"
        parser.add_argument(option, nargs="+", choices=choices, metavar="NAME", help=words, **others)

    def number(option: str, least: int, words: str, default: int | None = None) -> None:
        parser.add_argument(option, type=whole_number(least), metavar="N", help=words, default=default)

    names("--suite", [*RUNS, *SUITES], "default: layers", dest="suites", default=["layers"])
    names("--peers", [*PEERS], "default: all that run on the backend; methods are xconv's own, by hand")
    parser.add_argument("--backend", choices=EVERYWHERE, default="numpy", help=default)
    parser.add_argument(
        "--dtype", choices=["float16", "float32", "float64"], default="float32", help=f"of layers; {default}"
    )
    number("--batch", 1, "of layers; default: what is usual for the network")
    parser.add_argument(
        "--seconds", type=seconds, metavar="S", help="for all calls that are compared; of gpu and rates for all"
    )
    parser.add_argument("--quick", action="store_true", help="tiny arrays and two rounds: whether it runs and is right")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"for numbers; default: {OUT}, of gpu {GPU_OUT}")
    number("--layers", 1, f"how many are drawn; {default}", 60)
    number("--seed", 0, f"which layers are drawn; {default}", 0)
    parser.add_argument("--write", action="store_true", help="put rates into the package, for method='auto' to use")
    return parser


if __name__ == "__main__":
    sys.exit(main())
