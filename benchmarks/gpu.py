"""``python -m benchmarks gpu``: whatever a GPU has to prove, in one command, the most valuable first.

Every result is in the file before the next one is sought: the command may be stopped at any time. Where there is no
GPU, each part says so; how NumPy scales over CPU cores is measured anywhere.
"""

from __future__ import annotations

import datetime
import functools
import importlib
import importlib.util
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend, find_backends, load_backend
from xconv.demo.errors import first_line
from xconv.demo.files import make_writable, writing_to

from .devices import full_precision, waiting_calls, without_autograd
from .machine import describe_machine
from .peers.own import Own
from .peers.peer import FORWARD, OPERATIONS, Call, Problem
from .peers.pytorch import PyTorch
from .report import geometric_mean
from .suites import SUITES, Layer, layer_of, shrunk, square

BATCH = 32
NATIVE, IM2COL, TORCH = "xconv:native", "xconv:im2col", "torch"
LONG = 1e-4  # seconds of a call that its start does not outweigh
ROUNDS, ROUND_SECONDS = 5, 0.015
IMAGE, KERNELS = 4096, (3, 5, 7, 9, 15, 31)
CORES = (1, 2, 4, 8, 16)
CHECK_SECONDS = {"cupy": 150.0, "torch": 60.0, "jax": 60.0}  # of the suite's part on the device
CHECKED = ("gpu", "methods", "conv", "pool", "dtypes", "every_dtype", "blocks", "extrema", "windows")  # tests/test_*.py
LOADING = {
    "as xconv does": "from xconv._methods.native_cudnn import missing; reason = missing(); assert not reason, reason",
    "by itself": "import cudnn; cudnn.backend_version()",
    "behind CuPy": "import cupy; cupy.ones(1) + 1; import cudnn; cudnn.create_handle()",
}
SCALED = {
    "3x3 128-128 @28": square("scaling", "", 8, 28, 128, 128, 3),
    "3x3 64-64 @112": square("scaling", "", 2, 112, 64, 64, 3),
    "9x9 1-1 @2048": square("scaling", "", 1, 2048, 1, 1, 9),
}
SCALING = "import sys, os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])]); "
SCALING += "from benchmarks.gpu import numpy_seconds; numpy_seconds(sys.argv[2] == 'quick')"

Found = dict[str, Any]
Part = Callable[["Run"], Iterator[tuple[str, Any]]]


class SkippedError(Exception):
    """Why a part cannot be done here."""


class Run:
    """What was found so far, the file that it is in, and how much time is left."""

    def __init__(self, out: Path, seconds: float, quick: bool, command: str) -> None:
        self.end = time.monotonic() + seconds
        self.quick = quick
        found, others = find_backends()
        gpus = [backend for backend in found if _on_gpu(backend)]
        self.reasons = others | {backend.name: f"{backend.name} {backend.version} has no GPU" for backend in found}
        for backend in gpus:
            del self.reasons[backend.name]
        machine = describe_machine(gpus[0] if gpus else load_backend("numpy"), (), command)
        versions = {backend.name: backend.version for backend in found}
        self.found: Found = {
            "card": machine.device if gpus else None,
            "driver": _driver(),
            "versions": machine.versions | versions,
            "processor": machine.processor,
            "cores": machine.cores,
            "date": machine.date,
            "command": command,
            "parts": {},
        }
        card = "".join(c if c.isalnum() else "-" for c in machine.device.partition("(")[2].strip(")")) if gpus else ""
        self.out = out / f"{card or 'no-gpu'}-{datetime.datetime.now():%Y-%m-%d-%H%M%S}.json"

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def backend(self, name: str) -> LoadedBackend:
        """The library on a GPU, or why there is none."""
        if name in self.reasons:
            raise SkippedError(self.reasons[name])
        return load_backend(name)

    def do(self, name: str, part: Part) -> None:
        """All that a part finds, as long as there is time."""
        found = self.found["parts"].setdefault(name, {})
        try:
            if self.left <= 0:
                raise SkippedError("no time is left")
            for what, value in part(self):
                found[what] = value
                print(f"{name}: {what}: {_in_words(value)}", flush=True)
                self.write()
                if self.left <= 0:
                    found["stopped"] = "no time is left"
                    break
        except SkippedError as reason:
            found["skipped"] = str(reason)
            print(f"{name}: skipped: {reason}", flush=True)
        except Exception as error:  # what one part finds wrong must not keep the next from being done
            found["failed"] = f"{type(error).__name__}: {first_line(error)}"
            print(f"{name}: FAILED: {found['failed']}", flush=True)
        self.write()

    def write(self) -> None:
        """The whole file anew, in place of the old one at once."""
        draft = self.out.with_suffix(".part")
        with writing_to(self.out):
            draft.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
            draft.replace(self.out)


def run_gpu(*, out: Path, seconds: float, quick: bool, command: str) -> None:
    """Do all parts, one after the other."""
    make_writable(out)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes most of the memory when it is found
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(out, seconds, quick, command)
    print(f"{run.found['card'] or 'no GPU'}, driver {run.found['driver']}: {run.out}", flush=True)
    with full_precision(*{"torch", "jax"} - run.reasons.keys()), without_autograd():
        for name, part in PARTS.items():
            run.do(name, part)


def loading(run: Run) -> Iterator[tuple[str, Any]]:
    """Whether cuDNN loads, in processes of their own that have to end well."""
    run.backend("cupy")
    for name, code in LOADING.items():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        yield name, "ok" if done.returncode == 0 else f"status {done.returncode}: {done.stderr.strip()[-300:]}"


def checks(name: str, run: Run) -> Iterator[tuple[str, Any]]:
    """The part of the tests that is for a library on the device."""
    run.backend(name)
    if importlib.util.find_spec("pytest") is None:
        raise SkippedError("pytest is not installed: pip install 'xconv[test]'")
    limit = min(CHECK_SECONDS[name], run.left)
    files = [f"tests/test_{file}.py" for file in CHECKED]
    backends = "jax,jax-jit" if name == "jax" else name
    command = [sys.executable, "-m", "pytest", *files, "-q", "--tb=line", f"--backends={backends}", "-k", name]
    command += [f"--numprocesses={min(cpu_count(), 8)}", "--dist=worksteal"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
        text = done.stdout
    except subprocess.TimeoutExpired as expired:
        yield "stopped", f"after {limit:.0f} s"
        text = (expired.stdout or b"").decode() if isinstance(expired.stdout, bytes) else expired.stdout or ""
    lines = text.strip().splitlines()
    yield "result", lines[-1] if lines else "nothing was printed"
    yield "failed", [line for line in lines if line.startswith(("FAILED", "ERROR"))][:40]


def latency(run: Run) -> Iterator[tuple[str, Any]]:
    """Of calls so short that all of it is their start."""
    yield from _measured(run, SUITES["latency"], ("float32",), (FORWARD,))


def layers(suites: Sequence[str], dtypes: Sequence[str], operations: Sequence[str], run: Run) -> Iterator[Any]:
    """Of networks, beside PyTorch."""
    chosen = [
        replace(layer, input_shape=(BATCH, *layer.input_shape[1:])) for suite in suites for layer in SUITES[suite]
    ]
    ratios: list[float] = []
    for name, found in _measured(run, chosen, dtypes, operations):
        own, torch = found.get(NATIVE), found.get(TORCH)
        if isinstance(own, float) and isinstance(torch, float) and torch > LONG:
            ratios.append(torch / own)
        yield name, found
    if ratios:
        yield "torch's time by native's", {"mean": geometric_mean(ratios), "least": min(ratios), "layers": len(ratios)}


def filters(run: Run) -> Iterator[tuple[str, Any]]:
    """Of one large image, beside CuPy's own of SciPy."""
    cupy = run.backend("cupy")
    ndimage, scipy_signal = (importlib.import_module(f"cupyx.scipy.{name}") for name in ("ndimage", "signal"))
    size = 64 if run.quick else IMAGE
    for k in KERNELS:
        layer = layer_of("filters", "", (1, 1, size, size), (1, 1, k, k), padding=k // 2)
        x, w, _ = _arrays(cupy, layer, "float32")
        image, kernel = x[0, 0], w[0, 0]
        calls: dict[str, Call] = {
            method: functools.partial(xconv.conv, x, w, padding=k // 2, method=method)
            for method in ("auto", "native", "im2col", "fft")
        }
        calls["xconv.ndimage"] = functools.partial(xconv.ndimage.correlate, image, kernel)
        calls["cupyx.ndimage"] = functools.partial(ndimage.correlate, image, kernel)
        calls["cupyx.correlate2d"] = functools.partial(scipy_signal.correlate2d, image, kernel, mode="same")
        calls["cupyx.fftconvolve"] = functools.partial(scipy_signal.fftconvolve, image, kernel, mode="same")
        yield f"{k}x{k} @{size}", _seconds(cupy, calls)


def scaling(run: Run) -> Iterator[tuple[str, Any]]:
    """NumPy's calls on some of the CPUs, in processes of their own."""
    for cores in [count for count in CORES if count <= cpu_count()][: 1 if run.quick else None]:
        command = [sys.executable, "-c", SCALING, str(cores), "quick" if run.quick else "full"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=max(run.left, 1))
        yield f"{cores} cores", json.loads(done.stdout)


def numpy_seconds(quick: bool) -> None:
    """Print the seconds of some layers on NumPy, on all CPUs that this process has."""
    numpy, found = load_backend("numpy"), {}
    for name, layer in SCALED.items():
        problem = Problem(layer, *_arrays(numpy, shrunk(layer) if quick else layer, "float32"))
        found[name] = _seconds(numpy, {"forward": Own(numpy, "auto").calls(problem)[FORWARD]})["forward"]
    print(json.dumps(found))


def _measured(run: Run, chosen: Sequence[Layer], dtypes: Sequence[str], operations: Sequence[str]) -> Iterator[Any]:
    """The seconds of all peers in each operation of each layer."""
    cupy = run.backend("cupy")
    peers: Found = {method: Own(cupy, method.partition(":")[2]) for method in (NATIVE, IM2COL)}
    torch = None
    if TORCH not in run.reasons:
        torch = run.backend(TORCH).module
        peers[TORCH] = PyTorch(torch, _same, _same)
    for dtype, layer in itertools.product(dtypes, chosen):
        some = shrunk(layer) if run.quick else layer
        arrays = _arrays(cupy, some, dtype)
        offers = {}
        for name, peer in peers.items():
            given = map(torch.from_dlpack, arrays) if torch is not None and name == TORCH else arrays
            offers[name] = peer.operations(Problem(some, *given))
        for operation in operations:
            found = _seconds(cupy, {name: offer[operation] for name, offer in offers.items()})
            yield f"{layer.suite} {layer.name} {operation} {dtype}", found | _agreement(cupy, offers, operation)


def _agreement(cupy: LoadedBackend, offers: Found, operation: str) -> Found:
    """How far the results of native and im2col are apart, by the largest."""
    try:
        one, other = (offers[name][operation]().astype("float64") for name in (NATIVE, IM2COL))
    except Exception:  # which the times tell
        return {}
    return {"difference": float(abs(one - other).max() / abs(other).max())}


def _arrays(backend: LoadedBackend, layer: Layer, dtype: str) -> list[Any]:
    """x, w and dy, drawn on the device."""
    draw = backend.module.random.RandomState(0).standard_normal
    return [draw(shape).astype(dtype) for shape in (layer.input_shape, layer.weight_shape, layer.output_shape)]


def _seconds(backend: LoadedBackend, calls: dict[str, Call]) -> Found:
    """Of each call, many given at once, the median of rounds in which all take turns; or why there are none."""
    wait = waiting_calls(backend, {"nothing": lambda: None})["nothing"]
    found: Found = {}
    counts = {}
    for name, call in calls.items():
        try:
            call()
            counts[name] = max(1, int(ROUND_SECONDS / max(_timed(call, 1, wait), 1e-7)))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {first_line(error)}"
    rounds: dict[str, list[float]] = {name: [] for name in counts}
    for _, name in itertools.product(range(ROUNDS), counts):
        rounds[name].append(_timed(calls[name], counts[name], wait))
    return found | {name: statistics.median(samples) for name, samples in rounds.items()}


def _timed(call: Call, count: int, wait: Call) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(count):
        call()
    wait()
    return (time.perf_counter() - start) / count


def _on_gpu(backend: LoadedBackend) -> bool:
    return backend.name != "numpy" and "cpu" not in backend.device


def _driver() -> str | None:
    """NVIDIA's, as its own tool tells."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(one)}" for name, one in value.items())
    if isinstance(value, float):
        return f"{value * 1e6:.1f} us" if value < 0.1 else f"{value:.3g}"
    return str(value)


def _same(array: Any) -> Any:
    return array


NETWORKS = ("resnet50", "vgg16")
GRADIENTS = OPERATIONS[1:]
PARTS: dict[str, Part] = {
    "loading": loading,
    "latency": latency,
    "tests of CuPy": functools.partial(checks, "cupy"),
    "networks": functools.partial(layers, NETWORKS, ("float32", "float16"), (FORWARD,)),
    "gradients": functools.partial(layers, NETWORKS, ("float32", "float16"), GRADIENTS),
    "filters": filters,
    "tests of PyTorch": functools.partial(checks, "torch"),
    "tests of JAX": functools.partial(checks, "jax"),
    "others": functools.partial(layers, ("depthwise", "small", "volume"), ("float32", "float16"), OPERATIONS),
    "NumPy by CPU cores": scaling,
}
