"""The array libraries that the command line runs on: the one place that lists them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .._arrays.libraries import TABLE, Array
from .errors import CommandError, first_line, install


@dataclass(frozen=True)
class Backend:
    """An array library that may or may not be installed.

    Attributes
    ----------
    name : str
        Name of its module, and what ``--backend`` takes.
    extras : tuple of str
        The extras of xconv that install it, one of which is enough.
    devices : callable
        Maps the module to the devices that it can compute on, the default one first.
    from_numpy : callable
        Maps the module and a NumPy array to an array of its own on the default device.
    to_numpy : callable
        Maps an array of its own to what ``numpy.array`` reads.
    needs : str
        What it cannot work without, besides being installed.
    compile : callable
        Maps the module and a function of arrays to the same function, faster if it is called often.
    full_precision : callable
        Maps the module to a context in which float32 products are not rounded to fewer bits.
    synchronize : callable
        Waits, given the module, until its devices have done what they were given.
    forget : callable
        Gives back, given the module, what it keeps of the calls that it compiled.
    """

    name: str
    extras: tuple[str, ...]
    devices: Callable[[ModuleType], list[str]]
    from_numpy: Callable[[ModuleType, Any], Array]
    to_numpy: Callable[[Array], Any]
    needs: str = "device"
    compile: Callable[[ModuleType, Callable[..., Any]], Callable[..., Any]] = lambda module, function: function
    full_precision: Callable[[ModuleType], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    synchronize: Callable[[ModuleType], None] = lambda module: None
    forget: Callable[[ModuleType], None] = lambda module: None

    def load(self) -> LoadedBackend:
        """Import the library and look for a device. `CommandError` says why it cannot be used."""
        module = self._import()
        try:
            devices = self.devices(module)
        except RuntimeError as error:
            raise self._without_device(module, f": {first_line(error)}") from error
        if not devices:
            raise self._without_device(module, "")
        return LoadedBackend(self, module, tuple(devices))

    def _import(self) -> ModuleType:
        try:
            return importlib.import_module(self.name)
        except ModuleNotFoundError as error:
            if error.name == self.name:
                raise CommandError(f"{self.name} is not installed: {install(*self.extras)}") from error
            raise CommandError(
                f"{self.name} needs {error.name}, which is not installed: {install(*self.extras)}"
            ) from error
        except (ImportError, OSError) as error:  # OSError: a shared library that it loads itself
            raise CommandError(f"{self.name} is installed but cannot be imported: {first_line(error)}") from error

    def _without_device(self, module: ModuleType, reason: str) -> CommandError:
        return CommandError(f"{self.name} {module.__version__} is installed but finds no {self.needs}{reason}")


@dataclass(frozen=True)
class LoadedBackend:
    """An array library that is ready to compute."""

    backend: Backend
    module: ModuleType
    devices: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def device(self) -> str:
        """The device that arrays are made on."""
        return self.devices[0]

    def from_numpy(self, array: Any) -> Array:
        """The same numbers as an array of this library, on its default device."""
        return self.backend.from_numpy(self.module, array)

    def to_numpy(self, array: Array) -> Any:
        """A NumPy copy, which later changes of the array leave alone."""
        import numpy as np  # only here: the list of backends is read before anything is computed

        return np.array(self.backend.to_numpy(array))

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function of arrays, made faster where the library knows how."""
        return self.backend.compile(self.module, function)

    def full_precision(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which float32 products keep all of float32's bits."""
        return self.backend.full_precision(self.module)

    def synchronize(self) -> None:
        """Wait until its devices have done what they were given."""
        self.backend.synchronize(self.module)

    def forget(self) -> None:
        """Give back what it keeps of the calls that it compiled, which memory maps would not suffice for."""
        self.backend.forget(self.module)


def _jax_devices(jax: ModuleType) -> list[str]:
    return [f"{device} ({device.device_kind})" for device in jax.devices()]


def _jax_full_precision(jax: ModuleType) -> contextlib.AbstractContextManager[Any]:
    """On GPUs and TPUs, JAX multiplies float32 matrices in fewer bits unless told otherwise."""
    context: contextlib.AbstractContextManager[Any] = jax.default_matmul_precision("highest")
    return context


@contextlib.contextmanager
def _torch_full_precision(torch: ModuleType) -> Iterator[None]:
    """On GPUs, PyTorch convolves float32 arrays in fewer bits unless told otherwise."""
    users = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [user.allow_tf32 for user in users]
    try:
        for user in users:
            user.allow_tf32 = False
        yield
    finally:
        for user, allowed in zip(users, before, strict=True):
            user.allow_tf32 = allowed


def _torch_devices(torch: ModuleType) -> list[str]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [*(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count)), "cpu"]


def _torch_from_numpy(torch: ModuleType, array: Any) -> Array:
    return torch.asarray(array, device="cuda" if torch.cuda.is_available() else "cpu")


def _cupy_devices(cupy: ModuleType) -> list[str]:
    runtime = cupy.cuda.runtime
    return [f"cuda:{i} ({runtime.getDeviceProperties(i)['name'].decode()})" for i in range(runtime.getDeviceCount())]


BACKENDS = (
    Backend("numpy", TABLE["numpy"].extras, lambda module: ["cpu"], lambda module, array: array, lambda array: array),
    Backend(
        "jax",
        TABLE["jax"].extras,
        _jax_devices,
        lambda jax, array: jax.numpy.asarray(array),
        lambda array: array,
        compile=lambda jax, function: jax.jit(function),
        full_precision=_jax_full_precision,
        forget=lambda jax: jax.clear_caches(),
    ),
    Backend(
        "torch",
        TABLE["torch"].extras,
        _torch_devices,
        _torch_from_numpy,
        lambda array: array.cpu().numpy(),
        full_precision=_torch_full_precision,
        synchronize=lambda torch: torch.cuda.synchronize() if torch.cuda.is_available() else None,
    ),
    Backend(
        "cupy",
        TABLE["cupy"].extras,
        _cupy_devices,
        lambda cupy, array: cupy.asarray(array),
        lambda array: array.get(),
        needs="CUDA device",
        synchronize=lambda cupy: cupy.cuda.Device().synchronize(),
    ),
)


def load_backend(name: str) -> LoadedBackend:
    """The backend of this name, ready to use, or a `CommandError` that says why it is not."""
    for backend in BACKENDS:
        if backend.name == name:
            return backend.load()
    raise CommandError(f"no backend is named {name!r}: choose from {', '.join(b.name for b in BACKENDS)}")


def find_backends(announce: Callable[[str], None] = lambda name: None) -> tuple[list[LoadedBackend], dict[str, str]]:
    """The backends that can be used, and for each of the others why it cannot; each is announced before it loads."""
    found, missing = [], {}
    for backend in BACKENDS:
        announce(backend.name)
        try:
            found.append(backend.load())
        except CommandError as reason:
            missing[backend.name] = str(reason)
    return found, missing
