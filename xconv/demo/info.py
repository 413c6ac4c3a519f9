"""``xconv info``: versions, backends and their devices, and why each missing one is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from .. import __version__
from .._methods.native_cudnn import missing
from .backends import find_backends
from .errors import CHUNKED_PACKAGES, DEMO_PACKAGES, PICTURES, CommandError, fitted, require_packages
from .machine import blas, processor


def run() -> int:
    """Print what there is, by means of the standard library only, and return the exit status 0."""
    print(f"xconv {__version__}")
    print(f"Python {platform.python_version()} on {platform.platform(terse=True)}")
    print(f"array-api-compat {importlib.metadata.version('array-api-compat')}")
    print("\nbackends")
    found, others = find_backends(_announce)
    for library in found:
        print(fitted(", ".join(library.devices), f"  {library.name:6} {library.version:12} ", " " * 22))
    for name, reason in others.items():
        print(fitted(reason, f"  {name:6} missing      ", " " * 22))
    for title, state in (
        ("processor, and what multiplies matrices on it", "; ".join([processor(), *blas()])),
        ("method 'native' of CuPy's arrays", _cudnn_state()),
        ("arrays in chunks, and in files", _versions(CHUNKED_PACKAGES, "dask")),
        ("training, figures and the gallery", _versions((*DEMO_PACKAGES, *PICTURES[-1:]), "demo")),
    ):
        print(f"\n{title}", fitted(state, "  ", "  "), sep="\n")
    return 0


def _announce(name: str) -> None:
    """Some take seconds: a line on a terminal, which the next one takes the place of."""
    if sys.stdout is not None and sys.stdout.isatty():
        print(f"looking for {name:20}", end="\r", flush=True)


def _cudnn_state() -> str:
    if reason := missing():
        return reason
    import cudnn

    return f"cudnn {cudnn.__version__}, cuDNN {cudnn.backend_version()}"


def _versions(packages: tuple[str, ...], extra: str) -> str:
    try:
        require_packages(packages, extra)
    except CommandError as reason:
        return str(reason)
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
