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
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xconv
from xconv._run.threads import cpu_count
from xconv.demo.backends import LoadedBackend, find_backends, load_backend
from xconv.demo.errors import first_line
from xconv.demo.files import make_writable

from .comparison import ERROR_LIMIT, Comparison, Options, equal_terms, measure, waiting
from .layers import of_layer
from .machine import describe_machine
from .peers import BY_HAND, FORWARD, OPERATIONS, XCONV, Peer, Problem, own, same, torch_calls
from .report import geometric_mean, write_json
from .suites import SUITES, Layer, layer_of, shrunk
from .timing import Call, Limits, go_on

SECONDS = 540.0  # for all of it
BATCH = 32
NATIVE, IM2COL, TORCH, DIFFERENCE = BY_HAND + "native", BY_HAND + "im2col", "torch", "difference"
ROUGH = 1e-2  # the error of results that have eleven bits
LONG = 1e-4  # seconds of a call that its start does not outweigh
LIMITS = Limits(5, 5, sample_seconds=0.015, wake_seconds=0, total_seconds=0)  # many calls at once
IMAGE, KERNELS = 4096, (3, 5, 7, 9, 15, 31)
CORES = (1, 2, 4, 8, 16)
CHECK_SECONDS = {"cupy": 150.0, "torch": 60.0, "jax": 60.0}  # of the suite's part on the device
CHECKED = ("gpu", "methods", "conv", "pool", "dtypes", "every_dtype", "blocks", "extrema", "windows")  # tests/test_*.py
LOADING = {
    "as xconv does": "from xconv._methods.native_cudnn import missing; reason = missing(); assert not reason, reason",
    "by itself": "import cudnn; cudnn.backend_version()",
    "behind CuPy": "import cupy; cupy.ones(1) + 1; import cudnn; cudnn.create_handle()",
}
SCALED = [
    layer_of("scaling", *words) for words in ((8, "3x3 128-128 @28"), (2, "3x3 64-64 @112"), (1, "9x9 1-1 @2048"))
]
SCALING = "import sys, os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])]); "
SCALING += "from benchmarks.gpu import numpy_seconds; numpy_seconds(sys.argv[2] == 'quick')"

Found = dict[str, Any]
# What a part finds: by a name, or a comparison that is still to be measured.
Part = Callable[["Run"], Iterator[tuple[str, Any] | Comparison]]


class SkippedError(Exception):
    """Why a part cannot be done here."""


class Run:
    """What was found so far, the file that it is in, and how much time is left."""

    def __init__(self, out: Path, seconds: float, quick: bool, command: str) -> None:
        self.end = time.monotonic() + seconds
        self.quick = quick
        found, others = find_backends()
        gpus = {one.name: one for one in found if one.name != "numpy" and "cpu" not in one.device}
        reasons = others | {one.name: f"{one.name} {one.version} has no GPU" for one in found}
        self.reasons = {name: reason for name, reason in reasons.items() if name not in gpus}
        machine = describe_machine([*gpus.values(), load_backend("numpy")][0], command)
        self.card = machine["device"] if gpus else "no GPU"
        self.found: Found = {**machine, "card": self.card, "driver": _driver(), "parts": {}}
        name = "-".join(re.findall("[A-Za-z0-9]+", self.card.partition("(")[2] or self.card))
        self.out = out / f"{name}-{datetime.datetime.now():%Y-%m-%d-%H%M%S}.json"

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
            for one in part(self) if self.left > 0 else ():
                if isinstance(one, Comparison):
                    one = one.words, seconds_of(one, self.backend("cupy"))
                self._tell(name, *one)
                if self.left <= 0:
                    break
            if self.left <= 0:
                self._tell(name, "stopped" if found else "skipped", "no time is left")
            if ratios := beside_torch(found.values()):
                self._tell(name, "torch's time by native's", ratios)
        except SkippedError as reason:
            self._tell(name, "skipped", str(reason))
        except Exception as error:  # what one part finds wrong must not keep the next from being done
            self._tell(name, "failed", f"{type(error).__name__}: {first_line(error)}")

    def _tell(self, name: str, what: str, value: Any) -> None:
        self.found["parts"][name][what] = value
        print(f"{name}: {what}: {_in_words(value)}", flush=True)
        write_json(self.out, self.found)


def run_gpu(options: Options) -> None:
    """Do all parts, one after the other."""
    make_writable(options.out)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # or JAX takes most of the memory when it is found
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(options.out, options.seconds or SECONDS, options.quick, options.command)
    print(f"{run.card}, driver {run.found['driver']}: {run.out}", flush=True)
    with equal_terms(load_backend("numpy"), options.quick):
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
    backends = "jax,jax-jit" if name == "jax" else name
    command = [sys.executable, "-m", "pytest", *(f"tests/test_{file}.py" for file in CHECKED), "-q", "--tb=line"]
    command += [f"--backends={backends}", "-k", name, f"--numprocesses={min(cpu_count(), 8)}", "--dist=worksteal"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit).stdout
    except subprocess.TimeoutExpired as expired:
        yield "stopped", f"after {limit:.0f} s"
        text = expired.stdout.decode() if isinstance(expired.stdout, bytes) else expired.stdout or ""
    lines = text.strip().splitlines()
    yield "result", lines[-1] if lines else "nothing was printed"
    yield "failed", [line for line in lines if line.startswith(("FAILED", "ERROR"))][:40]


def layers(
    suites: Sequence[str], dtypes: Sequence[str], operations: Sequence[str], run: Run, batch: int = BATCH
) -> Iterator[Comparison]:
    """Of networks, beside PyTorch, which is given tensors."""
    cupy = run.backend("cupy")
    peers: dict[str, Peer] = {method: own(cupy, method.removeprefix(BY_HAND)) for method in (NATIVE, IM2COL)}
    if TORCH not in run.reasons:
        torch = run.backend(TORCH).module
        peers[TORCH] = lambda one: torch_calls(
            torch, same, same, Problem(one.layer, *map(torch.from_dlpack, (one.x, one.w, one.dy)))
        )
    for dtype, suite in itertools.product(dtypes, suites):
        for layer in SUITES[suite]:
            layer = shrunk(replace(layer, input_shape=(batch, *layer.input_shape[1:])), run.quick)
            problem = _drawn(cupy, layer, dtype)
            limit = ROUGH if dtype == "float16" else ERROR_LIMIT
            for one in of_layer(problem, peers, None, operations, limit):
                yield replace(one, name=f"{one.name} {dtype}")


def filters(run: Run) -> Iterator[Comparison]:
    """Of one large image between zeros, beside CuPy's own of SciPy."""
    cupy = run.backend("cupy")
    ndimage, scipy_signal = (importlib.import_module(f"cupyx.scipy.{name}") for name in ("ndimage", "signal"))
    size = 64 if run.quick else IMAGE
    for k in KERNELS:
        problem = _drawn(cupy, layer_of("filters", 1, f"{k}x{k} 1-1 @{size}"), "float32")
        image, w = problem.x[0, 0], problem.w[0, 0]
        calls: dict[str, Call | str] = {
            name: own(cupy, name.removeprefix(BY_HAND))(problem)[FORWARD]
            for name in ("auto", NATIVE, IM2COL, BY_HAND + "fft")
        }
        calls["xconv.ndimage"] = functools.partial(xconv.ndimage.correlate, image, w, mode="constant")
        calls["cupyx.ndimage"] = functools.partial(ndimage.correlate, image, w, mode="constant")
        calls["cupyx.correlate2d"] = functools.partial(scipy_signal.correlate2d, image, w, mode="same")
        calls["cupyx.fftconvolve"] = functools.partial(scipy_signal.fftconvolve, image, w[::-1, ::-1], mode="same")
        yield Comparison("filters", problem.layer.name, calls)


def scaling(run: Run) -> Iterator[tuple[str, Any]]:
    """NumPy's calls on some of the CPUs, in processes of their own."""
    for cores in [count for count in CORES if count <= cpu_count()][: 1 if run.quick else None]:
        command = [sys.executable, "-c", SCALING, str(cores), "quick" if run.quick else "full"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=max(run.left, 1))
        yield f"{cores} cores", json.loads(done.stdout)


def numpy_seconds(quick: bool) -> None:
    """Print the seconds of some layers on NumPy, on all CPUs that this process has."""
    numpy, found = load_backend("numpy"), {}
    for layer in SCALED:
        call = own(numpy, "auto")(_drawn(numpy, shrunk(layer, quick), "float32"))[FORWARD]
        found[layer.name] = seconds_of(Comparison("scaling", layer.name, {XCONV: call}), numpy)[XCONV]
    print(json.dumps(found))


def seconds_of(comparison: Comparison, backend: LoadedBackend) -> Found:
    """Of each side the median, or why there is none, and how far results are apart, by the largest."""
    wait = waiting(backend, go_on)
    limits = replace(LIMITS, settle=wait, finish=wait)

    def on_device(result: Any) -> Any:
        return backend.module.from_dlpack(result).astype("float64").squeeze()

    timings = measure(comparison, backend, limits, on_device)["timings"]
    found = {name: one.get("median", one.get("absent")) for name, one in timings.items()}
    return found | {DIFFERENCE: max((one["error"] for one in timings.values() if "error" in one), default=0.0)}


def beside_torch(found: Iterable[Any]) -> Found:
    """How native's times compare with PyTorch's, of calls that are long."""
    pairs = [(one.get(TORCH), one.get(NATIVE)) for one in found if isinstance(one, dict)]
    ratios = [a / b for a, b in pairs if isinstance(a, float) and isinstance(b, float) and a > LONG]
    return {"mean": geometric_mean(ratios), "least": min(ratios), "layers": len(ratios)} if ratios else {}


def _drawn(backend: LoadedBackend, layer: Layer, dtype: str) -> Problem:
    """A layer with arrays that are drawn on the device."""
    draw = backend.module.random.RandomState(0).standard_normal
    return Problem(layer, *(draw(shape).astype(dtype) for shape in layer.shapes))


def _driver() -> str | None:
    """NVIDIA's, as its own tool tells."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {one:.0e}" if name == DIFFERENCE else f"{name} {_in_words(one)}" for name, one in value.items()
        )
    if isinstance(value, float):
        return f"{value * 1e6:.1f} us" if value < 0.1 else f"{value:.3g}"
    return str(value)


NETWORKS, DTYPES = ("resnet50", "vgg16"), ("float32", "float16")
PARTS: dict[str, Part] = {
    "loading": loading,
    "latency": functools.partial(layers, ("latency",), ("float32",), (FORWARD,), batch=1),
    "tests of CuPy": functools.partial(checks, "cupy"),
    "networks": functools.partial(layers, NETWORKS, DTYPES, (FORWARD,)),
    "gradients": functools.partial(layers, NETWORKS, DTYPES, OPERATIONS[1:]),
    "filters": filters,
    "tests of PyTorch": functools.partial(checks, "torch"),
    "tests of JAX": functools.partial(checks, "jax"),
    "others": functools.partial(layers, ("depthwise", "small", "volume"), DTYPES, OPERATIONS),
    "NumPy by CPU cores": scaling,
}
