"""Timing of several calls side by side, round by round, so that whatever slows the machine slows all; which machine."""

from __future__ import annotations

import datetime
import gc
import math
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend

Call = Callable[[], Any]
Clock = Callable[[], float]
Timing = dict[str, float]  # "median" of the seconds per call, and over how many "rounds"

SHORT = 0.02  # seconds: a shorter call wakes nobody by itself
WARM_UPS = 3  # of a short call behind the first one: a hiccup in one of them says nothing
BEATEN = 10  # times as slow as the fastest call

QUIET_SLICE = 0.012  # seconds: longer than a tick of the clock by which the kernel counts what other processors do
QUIET_USE = 0.0005  # seconds of processor time in a slice that count as none
QUIET_SLICES = 25

ORDERS = np.random.default_rng(0)  # of all layers: the same few orders for each might favour the same calls in all


def wait_until_quiet() -> None:
    """Wait until the threads of the call before sleep: BLAS and OpenMP keep theirs spinning for 0.1 s and more."""
    for _ in range(QUIET_SLICES):
        used = time.process_time()
        time.sleep(QUIET_SLICE)
        if time.process_time() - used < QUIET_USE:
            return


def go_on() -> None:
    """Wait for nothing."""


@dataclass(frozen=True)
class Limits:
    """How long to measure."""

    least_rounds: int
    most_rounds: int
    sample_seconds: float  # of one sample at least: shorter calls are looped, so that the clock is not the matter
    wake_seconds: float  # of a short call, untimed, before each sample, to wake processor, caches and threads
    total_seconds: float  # enough of all calls together, waiting included, once there are the least rounds
    settle: Call = go_on  # before each sample, to keep the calls before it out of it
    finish: Call = go_on  # the last part of each sample
    short: float = SHORT  # seconds: calls that take less are woken


THOROUGH = Limits(7, 200, sample_seconds=1e-3, wake_seconds=0.01, total_seconds=4, settle=wait_until_quiet)
QUICK = Limits(2, 2, sample_seconds=0, wake_seconds=0, total_seconds=0)


def limits_of(quick: bool, seconds: float | None, thorough: Limits = THOROUGH, finish: Call = go_on) -> Limits:
    """Those of a run, with so many seconds for all calls, if that was said."""
    limits = replace(QUICK if quick else thorough, finish=finish)
    return limits if seconds is None else replace(limits, total_seconds=seconds)


def interleave(calls: Mapping[str, Call], limits: Limits, *, clock: Clock = time.perf_counter) -> dict[str, Timing]:
    """Time all calls in rounds, each in another order.

    One that is beaten by far, and would take all the time for its least rounds, keeps the timing of its warm-up.
    """
    pace = {name: warm_up(call, clock, limits.finish) for name, call in calls.items()}
    far = BEATEN * min(pace.values(), default=0)
    slow = {name for name in calls if pace[name] > far and pace[name] * limits.least_rounds > limits.total_seconds > 0}
    samples: dict[str, list[float]] = {name: [pace[name]] if name in slow else [] for name in calls}
    names, start = [name for name in calls if name not in slow], clock()
    gc.disable()
    try:
        for number in range(limits.most_rounds):
            if number >= limits.least_rounds and clock() - start >= limits.total_seconds:
                break
            for at in ORDERS.permutation(len(names)):  # no call always comes behind the same one, which may slow it
                samples[names[at]].append(_sample(calls[names[at]], pace[names[at]], limits, clock))
    finally:
        gc.enable()
    return {name: {"median": statistics.median(found), "rounds": len(found)} for name, found in samples.items()}


def _sample(call: Call, pace: float, limits: Limits, clock: Clock) -> float:
    limits.settle()
    if pace < limits.short:
        _seconds(call, repetitions(limits.wake_seconds, pace), clock, limits.finish)
    loops = repetitions(limits.sample_seconds, pace)
    return _seconds(call, loops, clock, limits.finish) / loops


def warm_up(call: Call, clock: Clock = time.perf_counter, finish: Call = go_on) -> float:
    """Call at least twice, and say how long it takes."""
    first = _seconds(call, 1, clock, finish)
    return min(_seconds(call, 1, clock, finish) for _ in range(WARM_UPS if first < SHORT else 1))


def _seconds(call: Call, count: int, clock: Clock, finish: Call) -> float:
    start = clock()
    for _ in range(count):
        call()
    finish()
    return clock() - start


def repetitions(seconds: float, pace: float) -> int:
    """How many calls take so long, but at least one."""
    return max(1, math.ceil(seconds / max(pace, 1e-9)))


LIBRARIES = ("numpy", "scipy", "jax", "jaxlib", "torch", "cupy", "cv2", "dask", "dask_image")


def describe_machine(backend: LoadedBackend, command: str) -> dict[str, Any]:
    """What times depend on beside the code, with the versions of the libraries that are loaded."""
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in LIBRARIES}
    torch = sys.modules.get("torch")
    if torch and torch.backends.cudnn.is_available():
        versions["cuDNN"] = str(torch.backends.cudnn.version())  # which PyTorch convolves with on NVIDIA's GPUs
    if backend.name == "cupy":
        versions["CUDA driver"] = str(backend.module.cuda.runtime.driverGetVersion())
    versions = {"xconv": xconv.__version__, "Python": platform.python_version(), **versions}
    cpu = Path("/proc/cpuinfo")  # which only Linux has
    models = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    return {
        "backend": backend.name,
        "processor": [*models, platform.processor() or platform.machine()][0].strip(),
        "cores": cpu_count(),
        "device": backend.device,
        "system": platform.platform(),
        "versions": {name: version for name, version in versions.items() if version},
        "blas": _blas(),
        "date": datetime.date.today().isoformat(),
        "command": command,
    }


def heading(machine: Mapping[str, Any]) -> str:
    """One line of it: the device too, unless it is the processor, and the BLAS that NumPy multiplies with."""
    where = [machine["processor"], f"{machine['cores']} cores"]
    where = where if "cpu" in machine["device"].lower() else [machine["device"], *where]
    blas = machine["blas"][:1] if machine["backend"] == "numpy" else ()
    versions = (f"{name} {version}" for name, version in machine["versions"].items())
    return ", ".join([*where, *versions, *blas, machine["date"]])


def file_name(machine: Mapping[str, Any]) -> str:
    """One for each machine and backend."""
    device = machine["processor" if "cpu" in machine["device"].lower() else "device"]
    return "-".join(re.findall("[a-z0-9]+", f"{device} {machine['cores']} {machine['backend']}".lower())) + ".json"


def _blas() -> list[str]:
    """The libraries that multiply matrices, NumPy's first: SciPy brings one of its own."""
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    details = "{internal_api} {version} ({architecture}, {num_threads} threads)"
    return list(dict.fromkeys(details.format(**{"architecture": "any", **pool}) for pool in found))
