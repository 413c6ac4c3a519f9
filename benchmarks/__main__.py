"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import functools
import math
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xconv.__main__ import Parser, number, whole_number
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError, complaint

from .chunks import chunked, workers
from .comparison import EVERYWHERE, Suite, WrongResultError, carry_out
from .filters import SCIPY, filters
from .gpu import run_gpu
from .layers import SUITES
from .operations import TORCH, choice, networks, pools
from .rates import run_rates
from .report import run_report
from .timing import THOROUGH, Stopwatch

PROGRAM = "python -m benchmarks"
OUT, GPU_OUT = "runs/benchmarks", "benchmarks/results/gpu"
KINDS = {
    "layers": Suite(networks),
    "filter": Suite(filters, backends=tuple(SCIPY), packages=("scipy",)),
    "pool": Suite(pools, backends=TORCH),
    "chunked": Suite(chunked, backends=("numpy",), packages=("scipy", "dask.array", "dask_image")),
    "workers": Suite(workers, Stopwatch(3, short=math.inf), ("numpy",), ("dask.array", "distributed")),
    "choice": Suite(choice, replace(THOROUGH, least_rounds=5, total_seconds=1.5, wake_seconds=5e-3)),
}
RUNS: dict[str, Callable[[Namespace], None]] = {
    **{kind: functools.partial(carry_out, kind, suite) for kind, suite in KINDS.items()},
    "rates": run_rates,
    "gpu": run_gpu,
    "report": run_report,
}
STATUSES = {CommandError: UNUSABLE, WrongResultError: FAILED, KeyboardInterrupt: INTERRUPTED}
ABOUT = "Time xconv and others on the same arrays, side by side, once their results are known to be right."
FURTHER = """layers are of networks: one may be named instead. choice: what method="auto" loses on drawn layers, beside
methods by hand. rates: plain things, which costs are estimated from. gpu: all that a GPU has to prove. report: write
the tables and the figure of the READMEs. The name of a suite may come first, without --suite."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    first = given[0] if given and given[0] in {*RUNS, *SUITES} else ""
    parser = parser_of(f"{PROGRAM} {first}".strip())
    options = parser.parse_args(["--suite", *given] if first else given)
    options.command = shlex.join([*PROGRAM.split(), *given])
    options.out = options.out or Path(GPU_OUT if "gpu" in options.suites else OUT) / ("quick" * options.quick)
    try:
        for name in dict.fromkeys(suite if suite in RUNS else "layers" for suite in options.suites):
            RUNS[name](options)
    except tuple(STATUSES) as error:
        print(complaint(parser.prog, str(error) or "interrupted: what was finished was written"), file=sys.stderr)
        return STATUSES[type(error)]
    return 0


def parser_of(program: str) -> Parser:
    parser, default = Parser(prog=program, description=ABOUT, epilog=FURTHER), "default: %(default)s"

    def add(option: str, words: str, **others: Any) -> None:
        if "nargs" in others:
            words = f"out of {', '.join(others['choices'])}; {words}"
        parser.add_argument(option, help=words, **others)

    several, count = {"nargs": "+", "metavar": "NAME"}, {"metavar": "N"}
    suites = [*dict.fromkeys([*RUNS, *SUITES])]
    add("--suite", "default: layers", dest="suites", default=["layers"], choices=suites, **several)
    add("--backend", default, choices=EVERYWHERE, default="numpy")
    add("--dtype", f"of layers; {default}", choices=["float16", "float32", "float64"], default="float32")
    add("--batch", "of layers; default: what is usual for the network", type=whole_number(1), **count)
    add("--seconds", "for all calls that are compared; of gpu and rates for all", type=number(above=0), metavar="S")
    add("--quick", "tiny arrays and two rounds: whether it runs and is right", action="store_true")
    add("--out", f"for numbers; default: {OUT}, of gpu {GPU_OUT}; in quick/ of --quick", type=Path, metavar="DIR")
    add("--layers", f"how many are drawn; {default}", type=whole_number(1), default=60, **count)
    add("--seed", f"which layers are drawn; {default}", type=whole_number(0), default=0, **count)
    add("--write", "put rates into the package, for method='auto' to use", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
