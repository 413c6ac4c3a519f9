"""What ``import xconv`` adds to the start of an interpreter."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

from .timing import Limits, interleave


def import_seconds(limits: Limits) -> float:
    """The difference of the medians with and without it, once bytecode is there."""
    timings = interleave({code: functools.partial(_run, code) for code in ("import xconv", "pass")}, limits)
    return timings["import xconv"].median - timings["pass"].median


def _run(code: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
