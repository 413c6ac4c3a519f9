"""``python -m benchmarks gpu``: whatever a GPU has to prove, in one command, which runs those of gpu.toml.

Each of them keeps what it has found when it is stopped. Where there is no GPU they say so.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from xconv._run.threads import cpu_count
from xconv.demo.files import make_writable

from .lines import read

SECONDS = 540.0  # for all of it
WORDS, ALL = read("gpu").values()
COMMANDS = {name: (limit, command) for name, (limit, command, *cores) in ALL.items() if sum(cores) <= cpu_count()}


def run_gpu(options: Namespace) -> None:
    """Run one command after the other, and keep how each ended."""
    make_writable(options.out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end, outcomes = time.monotonic() + (options.seconds or SECONDS), dict[str, str]()
    for name, (limit, command) in COMMANDS.items():
        print(f"== {name}", flush=True)
        words = words_of(command, options.out / name)
        words += ["--quick"] * (options.quick and "benchmarks" in words)
        outcomes[name] = outcome_of(words, min(limit, end - time.monotonic()))
        print(f"== {name}: {outcomes[name]}", flush=True)
        (options.out / "outcomes.json").write_text(json.dumps(outcomes, indent=1), encoding="utf-8")


def words_of(command: str, out: Path) -> list[str]:
    names = {"python": shlex.quote(sys.executable), "out": shlex.quote(str(out)), "workers": min(cpu_count(), 8)}
    return shlex.split(command.format(**names, **{name: line.format(**names) for name, line in WORDS.items()}))


def outcome_of(words: list[str], limit: float) -> str:
    """How a command ends within its time."""
    if limit <= 0:
        return "skipped: no time is left"
    try:
        return f"status {subprocess.run(words, check=False, timeout=limit).returncode}"
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s"
    except OSError as error:
        return f"not found: {error}"
