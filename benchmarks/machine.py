"""Where and with what the times were measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import threadpoolctl

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend

BACKEND_PACKAGES = {"numpy": ("numpy",), "jax": ("numpy", "jax", "jaxlib"), "torch": ("numpy", "torch")}


@dataclass(frozen=True)
class Machine:
    """What times depend on beside the code."""

    backend: str
    processor: str
    cores: int
    device: str
    system: str
    versions: dict[str, str]
    blas: tuple[str, ...]
    date: str
    command: str

    @property
    def heading(self) -> str:
        """One line of it: the device too, unless it is the processor, and the BLAS that NumPy multiplies with."""
        where = [self.processor, _counted(self.cores, "core")]
        where = where if "cpu" in self.device.lower() else [self.device, *where]
        blas = self.blas[:1] if self.backend == "numpy" else ()
        return ", ".join([*where, *(f"{name} {version}" for name, version in self.versions.items()), *blas, self.date])

    @property
    def file_name(self) -> str:
        """One for each machine and backend."""
        device = self.processor if "cpu" in self.device.lower() else self.device
        words = re.findall("[a-z0-9]+", f"{device} {self.cores} {self.backend}".lower())
        return "-".join(words) + ".json"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"heading": self.heading}


def describe_machine(backend: LoadedBackend, packages: tuple[str, ...], command: str) -> Machine:
    """The machine, with the versions of the backend and of the peers' packages."""
    return Machine(
        backend=backend.name,
        processor=_processor(),
        cores=cpu_count(),
        device=backend.device,
        system=platform.platform(),
        versions=_versions(backend, packages) | _cudnn(),
        blas=_blas(),
        date=datetime.date.today().isoformat(),
        command=command,
    )


def _processor() -> str:
    """Its model, which only Linux tells in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _versions(backend: LoadedBackend, packages: tuple[str, ...]) -> dict[str, str]:
    """CuPy's distribution is named after the CUDA that it is for: a backend outside the table is asked itself."""
    versions = {"xconv": xconv.__version__, "Python": platform.python_version()}
    names = dict.fromkeys((*BACKEND_PACKAGES.get(backend.name, ("numpy",)), *packages))
    versions |= {name: importlib.metadata.version(name) for name in names}
    return versions if backend.name in BACKEND_PACKAGES else versions | {backend.name: backend.version}


def _cudnn() -> dict[str, str]:
    """The library that PyTorch convolves with on NVIDIA's GPUs, if it is there."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.backends.cudnn.is_available():
        return {}
    return {"cuDNN": str(torch.backends.cudnn.version())}


def _blas() -> tuple[str, ...]:
    """The libraries that multiply matrices, NumPy's first: SciPy brings one of its own."""
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    return tuple(dict.fromkeys(f"{pool['internal_api']} {pool['version']} ({_details(pool)})" for pool in found))


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _details(pool: dict[str, object]) -> str:
    threads = _counted(int(str(pool["num_threads"])), "thread")
    return f"{pool['architecture']}, {threads}" if pool.get("architecture") else threads
