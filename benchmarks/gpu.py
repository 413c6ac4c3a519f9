"""``python -m benchmarks gpu``: whatever a GPU has to prove, in one command, the most valuable first.

It runs other commands, each of which keeps what it has found when it is stopped. Where there is no GPU they say so;
how NumPy scales over CPU cores is measured anywhere.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time

from xconv._run.threads import cpu_count
from xconv.demo.files import make_writable

from .comparison import Options

SECONDS = 540.0  # for all of it
PYTHON = shlex.quote(sys.executable)
LOADING = "import sys; from xconv._methods.native_cudnn import missing; sys.exit(missing() or 0)"
CHECKED = ("gpu", "methods", "conv", "pool", "dtypes", "every_dtype", "blocks", "extrema", "windows")  # tests/test_*.py
TESTS = f"{PYTHON} -m pytest -q --tb=line --numprocesses={min(cpu_count(), 8)} --junitxml={{out}}/tests.xml "
TESTS += " ".join(f"tests/test_{file}.py" for file in CHECKED)
TIMES = f"{PYTHON} -m benchmarks --seconds 0.1 --out {{out}} --peers torch"
LAYERS = f"{TIMES} im2col --backend cupy --batch 32 --suite"

# By names how many seconds a command may take, and the command: what it finds is in a folder of that name.
COMMANDS = {
    "cuDNN loads": (60.0, f"{PYTHON} -c {shlex.quote(LOADING)}"),
    "latency": (60.0, f"{TIMES} im2col --backend cupy --suite latency"),
    "tests of CuPy": (150.0, f"{TESTS} --backends=cupy -k cupy"),
    "networks": (120.0, f"{LAYERS} resnet50 vgg16"),
    "networks in float16": (120.0, f"{LAYERS} resnet50 vgg16 --dtype float16"),
    "filters": (60.0, f"{TIMES} --backend cupy --suite filter"),
    "tests of PyTorch": (60.0, f"{TESTS} --backends=torch -k torch"),
    "tests of JAX": (60.0, f"{TESTS} --backends=jax,jax-jit -k jax"),
    "others": (120.0, f"{LAYERS} depthwise small volume"),
    "others in float16": (120.0, f"{LAYERS} depthwise small volume --dtype float16"),
}
for cores in (1, 2, 4, 8, 16)[: cpu_count().bit_length()]:  # as many as there are
    pinned = f"taskset --cpu-list 0-{cores - 1} {TIMES} --suite volume"
    COMMANDS[f"NumPy on {cores} core{'s' * (cores > 1)}"] = (60.0, pinned)


def run_gpu(options: Options) -> None:
    """Run one command after the other, and keep how each ended."""
    make_writable(options.out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end, outcomes = time.monotonic() + (options.seconds or SECONDS), dict[str, str]()
    for name, (limit, command) in COMMANDS.items():
        print(f"== {name}", flush=True)
        words = shlex.split(command.format(out=shlex.quote(str(options.out / name))))
        words += ["--quick"] * (options.quick and "benchmarks" in words)
        outcomes[name] = outcome_of(words, min(limit, end - time.monotonic()))
        print(f"== {name}: {outcomes[name]}", flush=True)
        (options.out / "outcomes.json").write_text(json.dumps(outcomes, indent=1), encoding="utf-8")


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
