"""What times depend on beside the code: the machine, what multiplies matrices on it, and versions."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import threadpoolctl

from .. import __version__
from .._run.threads import cpu_count
from .backends import LoadedBackend

LIBRARIES = ("numpy", "scipy", "jax", "jaxlib", "torch", "cupy", "cv2", "dask", "dask_image")


def processor() -> str:
    """Its name, and how many of its cores this process may use."""
    cpu = Path("/proc/cpuinfo")  # which only Linux has
    models = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    name = [*models, platform.processor() or platform.machine()][0].strip()
    return f"{name}, {(count := cpu_count())} core{'s' * (count > 1)}"


def blas() -> list[str]:
    """The loaded libraries that multiply matrices, NumPy's first: SciPy brings one of its own."""
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    found.sort(key=lambda pool: "numpy" not in pool["filepath"])
    details = "{internal_api} {version} ({architecture}, {num_threads} threads)"
    return list(dict.fromkeys(details.format(**{"architecture": "any", **pool}) for pool in found))


def versions(library: LoadedBackend) -> dict[str, str]:
    """Those of what is loaded, cuDNN's, by which PyTorch convolves on NVIDIA's GPUs, and that of CuPy's driver."""
    found = {"xconv": __version__, "Python": platform.python_version()}
    loaded = {name: getattr(sys.modules.get(name), "__version__", "") for name in LIBRARIES}
    found |= {name: version for name, version in loaded.items() if version}
    torch = sys.modules.get("torch")
    if torch and torch.backends.cudnn.is_available():
        found["cuDNN"] = str(torch.backends.cudnn.version())
    if library.name == "cupy":
        found["CUDA driver"] = str(library.module.cuda.runtime.driverGetVersion())
    return found


def describe(library: LoadedBackend) -> dict[str, Any]:
    """All of it, of calls on a library's arrays."""
    names = {"backend": library.name, "device": library.device, "processor": processor()}
    return {**names, "versions": versions(library), "blas": blas()}


def heading(machine: dict[str, Any]) -> str:
    """One line of a description with a date: the device, unless it is the processor, and NumPy's BLAS."""
    device = [] if "cpu" in machine["device"].lower() else [machine["device"]]
    blas = machine["blas"][:1] if machine["backend"] == "numpy" else ()
    versions = (f"{name} {version}" for name, version in machine["versions"].items())
    return ", ".join([*device, machine["processor"], *versions, *blas, machine["date"]])


def machine_name(machine: dict[str, Any]) -> str:
    """The device, or the processor with that by whose kernels NumPy's matrices are multiplied: of one name are many."""
    if "cpu" not in machine["device"].lower():
        return str(machine["device"])
    kernels = re.search(r"\((\w+),", " ".join(machine["blas"][:1]))
    return f"{machine['processor']}, {kernels[1]}" if kernels else str(machine["processor"])


def file_name(machine: dict[str, Any]) -> str:
    """One for each machine and backend."""
    name = re.sub(" cores?(,|$)", " ", machine_name(machine))
    return "-".join(re.findall("[a-z0-9]+", f"{name} {machine['backend']}".lower())) + ".json"
