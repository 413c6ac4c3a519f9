"""The command line: ``python -m benchmarks``, from the root of a checkout."""

from __future__ import annotations

import argparse
import importlib
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xconv.__main__ import Parser, whole_number
from xconv.demo.backends import BACKENDS
from xconv.demo.errors import FAILED, INTERRUPTED, UNUSABLE, CommandError

from .comparison import WrongResultError
from .peers import PEERS
from .suites import SUITES

PROGRAM = "python -m benchmarks"
DEFAULT = "default: %(default)s"
NOT_LAYERS = "; default: all but the last three, which are of functions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on these arguments, or the process's own, and return its exit status.

    0; 1 if a result is wrong; 2 if something is missing or cannot be used; 130 after Ctrl-C.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    name = given[0] if given and given[0] in COMMANDS else ""
    program = f"{PROGRAM} {name}".strip()
    options = vars(_parser(program, *COMMANDS[name]).parse_args(given[1:] if name else given))
    options["command"] = shlex.join([*PROGRAM.split(), *given])
    try:
        _run_suites(**options) if name == "" else _run(name, **options)
    except CommandError as error:
        return _fail(program, str(error), UNUSABLE)
    except WrongResultError as error:
        return _fail(program, str(error), FAILED)
    except KeyboardInterrupt:
        return _fail(program, "interrupted: what was finished was written", INTERRUPTED)
    return 0


def _fail(program: str, reason: str, status: int) -> int:
    print(f"{program}: {reason}", file=sys.stderr)
    return status


def _run_suites(*, suites: Sequence[str], backend: str, peers: Sequence[str] | None, **options: Any) -> None:
    if layers := [suite for suite in suites if suite in SUITES]:
        _run("layers", suites=layers, backend=backend, peers=peers, **options)
    for suite in suites:
        if suite not in SUITES:
            _run(suite, **options)


def _run(name: str, **options: Any) -> None:
    """What needs packages is imported once they are known to be there."""
    module, function = RUNS[name].split(".")
    getattr(importlib.import_module(f".{module}", __package__), function)(**options)


def _parser(program: str, about: str, options: str, defaults: Mapping[str, Any]) -> Parser:
    parser = Parser(prog=program, description=about)
    for name in options.split():
        parser.add_argument(f"--{name}", **OPTIONS[name])
    parser.set_defaults(**defaults)
    return parser


def _duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {text!r}")
    return seconds


def _names(names: Sequence[str], words: str) -> dict[str, Any]:
    return {"nargs": "+", "choices": names, "metavar": "NAME", "help": f"out of {', '.join(names)}{words}"}


RUNS = {
    "layers": "layers.run_layers",
    "filter": "filters.run_filters",
    "pool": "pools.run_pools",
    "chunked": "chunked.run_chunked",
    "choice": "layers.run_choice",
    "rates": "rates.run_rates",
    "gpu": "gpu.run_gpu",
    "report": "report.run_report",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "suite": {"dest": "suites", "default": list(SUITES), **_names([*SUITES, "filter", "pool", "chunked"], NOT_LAYERS)},
    "peers": _names(list(PEERS), " (xconv's own, by hand); default: all that run on the backend"),
    "backend": {"choices": [backend.name for backend in BACKENDS], "default": "numpy", "help": DEFAULT},
    "seconds": {"type": _duration, "metavar": "S", "help": "for all calls that are compared, after the least rounds"},
    "quick": {"action": "store_true", "help": "tiny arrays and two rounds: whether it runs and is right"},
    "out": {"type": Path, "default": "runs/benchmarks", "metavar": "DIR", "help": f"for numbers; {DEFAULT}"},
    "layers": {"type": whole_number(1), "default": 60, "metavar": "N", "help": f"how many; {DEFAULT}"},
    "seed": {"type": whole_number(0), "default": 0, "metavar": "N", "help": f"which layers; {DEFAULT}"},
    "write": {"action": "store_true", "help": "put them in the package, for method='auto' to use"},
    "results": {"type": Path, "default": "benchmarks/results", "metavar": "DIR", "help": DEFAULT},
}
# Of each command line, "" being the one without a name: what it does, the options it takes, and their own defaults.
COMMANDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "": (
        "Time xconv and others on the same arrays, in one process. Every result is checked before. As first argument, "
        "choice, rates, gpu and report are commands of their own.",
        "suite peers backend seconds quick out",
        {},
    ),
    "choice": (
        'How much time method="auto" loses against the best method by hand, on layers drawn at random.',
        "backend seconds quick out layers seed",
        {},
    ),
    "rates": (
        "What a library takes for plain things, in nanoseconds of float32: NumPy's on all processors at once.",
        "backend seconds quick out write",
        {},
    ),
    "gpu": (
        "Check and time xconv on a GPU for so many seconds, and say how NumPy scales over CPU cores.",
        "seconds quick out",
        {"seconds": 540.0, "out": Path("benchmarks/results/gpu")},
    ),
    "report": ("Write the tables of both READMEs, and the figure, from the numbers of runs.", "results", {}),
}


if __name__ == "__main__":
    sys.exit(main())
