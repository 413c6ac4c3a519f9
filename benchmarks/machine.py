"""Where and with what the times were measured."""

from __future__ import annotations

import datetime
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import threadpoolctl

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend

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
