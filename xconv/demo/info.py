"""``xconv info``: versions, backends and their devices, and why each missing one is missing."""

from __future__ import annotations

import importlib.metadata
import platform
import textwrap

from .. import __version__
from .._methods.native_cudnn import missing
from .backends import find_backends
from .errors import CHUNKED_PACKAGES, DEMO_PACKAGES, CommandError, require_packages

WIDTH = 80
DEPENDENCIES = ("array-api-compat", "array-api-extra")


def run() -> int:
    """Print what there is, by means of the standard library only, and return the exit status 0."""
    print(f"xconv {__version__}")
    print(f"Python {platform.python_version()} on {platform.platform(terse=True)}")
    for name in DEPENDENCIES:
        print(f"{name} {importlib.metadata.version(name)}")
    found, others = find_backends()
    print("\nbackends")
    for library in found:
        print(f"  {library.name:6} {library.version:12} {', '.join(library.devices)}")
    for name, reason in others.items():
        print(
            textwrap.fill(
                reason,
                WIDTH,
                initial_indent=f"  {name:6} missing      ",
                subsequent_indent=" " * 22,
                break_on_hyphens=False,
            )
        )
    print(f"\nmethod 'native' of CuPy's arrays\n  {_cudnn_state()}")
    print(f"\narrays in chunks, and in files\n  {_versions(CHUNKED_PACKAGES, 'dask')}")
    print(f"\ntraining and figures\n  {_versions(DEMO_PACKAGES, 'demo')}")
    return 0


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
