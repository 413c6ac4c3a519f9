"""The backends that the tests run on, and the one assertion that compares an array of theirs with NumPy's."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import array_api_compat
import numpy as np

from xconv._arrays.libraries import TABLE

VARIANTS = {"numpy": ("numpy", "numpy-readonly"), "jax": ("jax", "jax-jit"), "torch": ("torch", "torch-watched")}
CAUTIOUS = ("strict", "strict-device1")  # which have no row in the table
TAKEN = [row.name for row in TABLE.values() if not (row.refused or row.chunked)]  # chunks are of one of these
NAMES = (*(name for library in TAKEN for name in VARIANTS.get(library, (library,))), *CAUTIOUS)

# Which part of a list of cases is enough, another part by every test: eager JAX compiles every operation for every new
# shape, jax.jit every call; and watched tensors have all that autograd's tests have besides.
EVERY = {"jax": 8, "jax-jit": 2, "torch-watched": 4}


def part(name, values, start):
    """What is enough of a list of cases on a backend, of which there is always one."""
    every = EVERY.get(name, 1)
    return values[start % min(every, len(values)) :: every]


# Of XLA's two ways to emit a kernel on CPUs the one that compiles a small program 4 times as fast, in one piece.
SOON = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"}


def compile_soon():
    """Have JAX compile so in this process and in those that it starts, if its XLA knows how: else it would abort."""
    probe = [sys.executable, "-c", "from jaxlib import xla_client; xla_client.CompileOptions()"]
    known = "XLA_FLAGS" not in os.environ and subprocess.run(probe, env=os.environ | SOON, capture_output=True)
    if known and known.returncode == 0:
        os.environ.update(SOON)


def wait_asleep():
    """Have OpenMP's threads, which are PyTorch's, sleep while they wait for work, in processes started from here.

    They would spin for milliseconds after every call: of as small arrays as these a quarter of all processor time,
    and taken from the other worker.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class UnavailableError(Exception):
    """Why a backend cannot run here, in words."""


class Backend:
    """One array library, on one device, called in one way."""

    name = "numpy"
    examples = 60  # how many drawn examples a property is worth here: compiling backends pay for each new shape

    def __init__(self):
        self.xp = self.import_namespace()
        self.device = array_api_compat.device(self.array(np.zeros(1)))

    def import_namespace(self):
        import array_api_compat.numpy as xp

        return xp

    def array(self, values, dtype=None):
        return np.array(values, dtype=dtype)

    def dtype(self, name):
        return getattr(self.xp, name)

    def to_numpy(self, array):
        return np.asarray(array)

    def run(self, function, *arrays, **static):
        """Call a function of arrays; the static arguments are no arrays."""
        return function(*arrays, **static)


class ReadOnlyNumPy(Backend):
    name = "numpy-readonly"
    examples = 20

    def array(self, values, dtype=None):
        array = np.array(values, dtype=dtype)
        array.flags.writeable = False
        return array


class Strict(Backend):
    name = "strict"
    examples = 25
    where = "CPU_DEVICE"

    def import_namespace(self):
        try:
            import array_api_strict as xp
        except ImportError as error:
            raise UnavailableError("array-api-strict is not installed") from error
        return xp

    def array(self, values, dtype=None):
        return self.xp.asarray(np.array(values, dtype=dtype), device=self.xp.Device(self.where))

    def to_numpy(self, array):
        return np.asarray(array.to_device(self.xp.Device("CPU_DEVICE")))


class StrictOtherDevice(Strict):
    name = "strict-device1"
    where = "device1"


class Jax(Backend):
    name = "jax"
    examples = 2

    def import_namespace(self):
        try:
            import jax
        except ImportError as error:
            raise UnavailableError("jax is not installed") from error
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_disable_most_optimizations", True)  # each shape compiles once and runs once
        jax.config.update("jax_default_matmul_precision", "highest")  # GPUs would keep 11 bits of each factor
        return jax.numpy

    def array(self, values, dtype=None):
        return self.xp.asarray(np.array(values, dtype=dtype))


class JaxJit(Jax):
    name = "jax-jit"
    examples = 10

    def __init__(self):
        self.compiled = {}
        super().__init__()

    def run(self, function, *arrays, **static):
        import jax

        key = function, repr(static)
        if key not in self.compiled:
            self.compiled[key] = jax.jit(functools.partial(function, **static))
        return self.compiled[key](*arrays)


class Torch(Backend):
    name = "torch"

    def import_namespace(self):
        try:
            import array_api_compat.torch as xp
            import torch
        except ImportError as error:
            raise UnavailableError("torch is not installed") from error
        self.where = "cuda" if torch.cuda.is_available() else "cpu"
        torch.backends.cudnn.allow_tf32 = False  # which would keep 11 bits of each factor
        return xp

    def array(self, values, dtype=None):
        import torch

        return torch.tensor(np.array(values, dtype=dtype), device=self.where)

    def to_numpy(self, array):
        return array.detach().cpu().resolve_conj().numpy()


class WatchedTorch(Torch):
    """Tensors that are more than memory, as those that compilers trace: of a class of their own."""

    name = "torch-watched"
    examples = 8

    def array(self, values, dtype=None):
        return super().array(values, dtype).as_subclass(_watched())


@functools.cache
def _watched():
    import torch

    return type("Watched", (torch.Tensor,), {"__module__": "torch.watched"})


class CuPy(Backend):
    name = "cupy"

    def import_namespace(self):
        try:
            import array_api_compat.cupy as xp
            import cupy
        except ImportError as error:
            raise UnavailableError("cupy is not installed") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError:
            count = 0
        if count == 0:
            raise UnavailableError("no CUDA device")
        return xp

    def array(self, values, dtype=None):
        return self.xp.asarray(np.array(values, dtype=dtype))

    def to_numpy(self, array):
        return array.get()


def load(name):
    """The backend of that name, or `UnavailableError`."""
    kinds = (Backend, ReadOnlyNumPy, Strict, StrictOtherDevice, Jax, JaxJit, Torch, WatchedTorch, CuPy)
    return {kind.name: kind for kind in kinds}[name]()


def assert_array(backend, actual, expected, *, dtype=None, terms=1):
    """Same library, device, dtype and shape as expected; then the values, to the rounding of sums of ``terms`` terms.

    ``expected`` is NumPy's. ``dtype`` is the name of the dtype, if it is not that of ``expected``. A sum of L terms
    rounds to within L epsilons of its largest partial sum; integers have no rounding.
    """
    expected = np.asarray(expected)
    assert array_api_compat.array_namespace(actual) is backend.xp
    assert array_api_compat.device(actual) == backend.device
    name = dtype or expected.dtype.name
    assert actual.dtype == backend.dtype(name), f"{actual.dtype} is not {name}"
    assert tuple(actual.shape) == expected.shape
    values = backend.to_numpy(actual)
    assert_values(values, expected, terms * epsilon(backend, name))


def assert_values(values, expected, relative):
    """Equal to within ``relative`` of the largest finite element; infinite and NaN in the same places."""
    if expected.dtype == bool:
        assert np.array_equal(values, expected)
        return
    finite = np.isfinite(expected)
    scale = np.max(np.abs(expected[finite]), initial=0)
    assert np.array_equal(values[~finite], expected[~finite], equal_nan=expected.dtype.kind in "fc")
    error = np.max(np.abs(values[finite].astype(expected.dtype) - expected[finite]), initial=0)
    assert error <= relative * max(scale, 1)


def epsilon(backend, name):
    """Spacing of the dtype's numbers near 1; none for integers."""
    dtype = backend.dtype(name)
    return 0 if backend.xp.isdtype(dtype, ("bool", "integral")) else float(backend.xp.finfo(dtype).eps)
