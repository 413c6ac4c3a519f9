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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend

Call = Callable[[], Any]
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


@dataclass(frozen=True)
class Stopwatch:
    """How calls are timed, and for how long."""

    least_rounds: int
    total_seconds: float = 0  # enough of all calls together, waiting included, once there are the least rounds
    sample_seconds: float = 0  # of one sample at least: shorter calls are looped, so that the clock is not the matter
    wake_seconds: float = 0  # of a short call, untimed, before each sample, to wake processor, caches and threads
    short: float = SHORT  # seconds: calls that take less are woken
    settle: Call = lambda: None  # before each sample, to keep the calls before it out of it
    finish: Call = lambda: None  # the last part of each sample
    clock: Callable[[], float] = time.perf_counter

    def interleave(self, calls: Mapping[str, Call]) -> dict[str, Timing]:
        """Time all calls in rounds, each in another order.

        One that is beaten by far, and would take all the time for its least rounds, keeps the timing of its warm-up.
        """
        pace = {name: self.pace(call) for name, call in calls.items()}
        far, allowed = BEATEN * min(pace.values(), default=0), self.total_seconds / self.least_rounds or math.inf
        samples = {name: [pace[name]] if pace[name] > max(far, allowed) else [] for name in calls}
        names, start, rounds = [name for name in calls if not samples[name]], self.clock(), 0
        gc.disable()
        try:
            while names and (rounds < self.least_rounds or self.clock() - start < self.total_seconds):
                for at in ORDERS.permutation(len(names)):  # no call always comes behind the same one
                    samples[names[at]].append(self.sample(calls[names[at]], pace[names[at]]))
                rounds += 1
        finally:
            gc.enable()
        return {name: {"median": statistics.median(found), "rounds": len(found)} for name, found in samples.items()}

    def sample(self, call: Call, pace: float) -> float:
        self.settle()
        if pace < self.short:
            self.seconds(call, repetitions(self.wake_seconds, pace))
        loops = repetitions(self.sample_seconds, pace)
        return self.seconds(call, loops) / loops

    def pace(self, call: Call) -> float:
        """Call at least twice, and say how long it takes."""
        first = self.seconds(call)
        return min(self.seconds(call) for _ in range(WARM_UPS if first < SHORT else 1))

    def seconds(self, call: Call, count: int = 1) -> float:
        start = self.clock()
        for _ in range(count):
            call()
        self.finish()
        return self.clock() - start


THOROUGH = Stopwatch(7, 4, sample_seconds=1e-3, wake_seconds=0.01, settle=wait_until_quiet)
QUICK = Stopwatch(2)


def repetitions(seconds: float, pace: float) -> int:
    """How many calls take so long, but at least one."""
    return max(1, math.ceil(seconds / max(pace, 1e-9)))


LIBRARIES = ("numpy", "scipy", "jax", "jaxlib", "torch", "cupy", "cv2", "dask", "dask_image")


def describe_machine(library: LoadedBackend, command: str) -> dict[str, Any]:
    """What times depend on beside the code, with the versions of the libraries that are loaded."""
    versions = {"xconv": xconv.__version__, "Python": platform.python_version()}
    loaded = {name: getattr(sys.modules.get(name), "__version__", "") for name in LIBRARIES}
    versions |= {name: version for name, version in loaded.items() if version}
    torch = sys.modules.get("torch")
    if torch and torch.backends.cudnn.is_available():
        versions["cuDNN"] = str(torch.backends.cudnn.version())  # which PyTorch convolves with on NVIDIA's GPUs
    if library.name == "cupy":
        versions["CUDA driver"] = str(library.module.cuda.runtime.driverGetVersion())
    cpu = Path("/proc/cpuinfo")  # which only Linux has
    models = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    return {
        "backend": library.name,
        "processor": [*models, platform.processor() or platform.machine()][0].strip(),
        "cores": cpu_count(),
        "device": library.device,
        "system": platform.platform(),
        "versions": versions,
        "blas": _blas(),
        "date": datetime.date.today().isoformat(),
        "command": command,
    }


def _blas() -> list[str]:
    """The libraries that multiply matrices, NumPy's first: SciPy brings one of its own."""
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    details = "{internal_api} {version} ({architecture}, {num_threads} threads)"
    return list(dict.fromkeys(details.format(**{"architecture": "any", **pool}) for pool in found))


def heading(machine: Mapping[str, Any]) -> str:
    """One line of it: the device too, unless it is the processor, and the BLAS that NumPy multiplies with."""
    device = [] if "cpu" in machine["device"].lower() else [machine["device"]]
    blas = machine["blas"][:1] if machine["backend"] == "numpy" else ()
    versions = (f"{name} {version}" for name, version in machine["versions"].items())
    return ", ".join([*device, machine["processor"], f"{machine['cores']} cores", *versions, *blas, machine["date"]])


def file_name(machine: Mapping[str, Any]) -> str:
    """One for each machine and backend."""
    device = machine["processor" if "cpu" in machine["device"].lower() else "device"]
    return "-".join(re.findall("[a-z0-9]+", f"{device} {machine['cores']} {machine['backend']}".lower())) + ".json"
