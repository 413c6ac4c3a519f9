"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import functools
import shlex
import sys
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
DEFAULT, OUT, GPU_OUT = "default: %(default)s", "runs/benchmarks", "benchmarks/results/gpu"
RUNS: dict[str, Callable[[Options], None]] = {
    **{kind: functools.partial(carry_out, kind, suite) for kind, suite in KINDS.items()},
    "rates": run_rates,
    "gpu": run_gpu,
    "report": run_report,
}
STATUSES = {CommandError: UNUSABLE, WrongResultError: FAILED, KeyboardInterrupt: INTERRUPTED}
ABOUT = (
    "Time xconv and others on the same arrays, side by side in one process, once their results are known to be right."
)
FURTHER = """layers are of networks: one may be named instead. choice: what method="auto" loses on drawn layers. rates:
plain things, which costs are estimated from. gpu: all that a GPU has to prove. report: write the tables and the figure
of the READMEs. The name of a suite may come first, without --suite."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    first = given[0] if given and given[0] in {*RUNS, *SUITES} else ""
    program = f"{PROGRAM} {first}".strip()
    options = _parser(program).parse_args(["--suite", *given] if first else given)
    options.command = shlex.join([*PROGRAM.split(), *given])
    options.out = options.out or Path(GPU_OUT if "gpu" in options.suites else OUT)
    try:
        for name in dict.fromkeys(suite if suite in RUNS else "layers" for suite in options.suites):
            RUNS[name](options)
    except tuple(STATUSES) as error:
        print(complaint(program, str(error) or "interrupted: what was finished was written"), file=sys.stderr)
        return STATUSES[type(error)]
    return 0


def _parser(program: str) -> Parser:
    parser = Parser(prog=program, description=ABOUT, epilog=FURTHER)
    for name, words in OPTIONS.items():
        parser.add_argument(f"--{name}", **words)
    return parser


def _names(names: Sequence[str], words: str) -> dict[str, Any]:
    return {"nargs": "+", "choices": names, "metavar": "NAME", "help": f"out of {', '.join(names)}; {words}"}


OPTIONS: dict[str, dict[str, Any]] = {
    "suite": {"dest": "suites", "default": ["layers"], **_names(list(RUNS | SUITES), "default: layers")},
    "peers": _names(list(PEERS), "default: all that run on the backend; methods are xconv's own, by hand"),
    "backend": {"choices": EVERYWHERE, "default": "numpy", "help": DEFAULT},
    "dtype": {"choices": ["float16", "float32", "float64"], "default": "float32", "help": f"of layers; {DEFAULT}"},
    "batch": {"type": whole_number(1), "metavar": "N", "help": "of layers; default: what is usual for the network"},
    "seconds": {"type": float, "metavar": "S", "help": "for all calls that are compared; of gpu and rates for all"},
    "quick": {"action": "store_true", "help": "tiny arrays and two rounds: whether it runs and is right"},
    "out": {"type": Path, "metavar": "DIR", "help": f"for numbers; default: {OUT}, of gpu {GPU_OUT}"},
    "layers": {"type": whole_number(1), "default": 60, "metavar": "N", "help": f"how many are drawn; {DEFAULT}"},
    "seed": {"type": whole_number(0), "default": 0, "metavar": "N", "help": f"which layers are drawn; {DEFAULT}"},
    "write": {"action": "store_true", "help": "put rates into the package, for method='auto' to use"},
}


if __name__ == "__main__":
    sys.exit(main())
