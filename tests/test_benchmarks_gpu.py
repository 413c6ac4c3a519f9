"""``python -m benchmarks gpu`` without one: what is skipped and why, what is kept, and times of NumPy's arrays."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.__main__ import main
from benchmarks.comparison import Comparison
from xconv._arrays.libraries import TABLE
from xconv.demo.backends import load_backend


@pytest.fixture(autouse=True)
def no_handler(monkeypatch):
    monkeypatch.setattr(gpu.signal, "signal", lambda *arguments: None)


@pytest.fixture
def without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def found_by(tmp_path, *options):
    status = main(["gpu", "--quick", "--out", str(tmp_path), *options])
    (path,) = tmp_path.iterdir()
    return status, json.loads(path.read_text())


@pytest.fixture
def numpy_as_cupy(monkeypatch, tmp_path, without_cupy):
    """A run whose GPU is NumPy."""
    run = gpu.Run(tmp_path, 60, True, "none")
    run.reasons.pop("cupy")
    monkeypatch.setattr(gpu.Run, "backend", lambda self, name: load_backend("numpy" if name == "cupy" else name))
    return run


def test_every_part_says_why_it_is_skipped(tmp_path, capsys, without_cupy):
    status, found = found_by(tmp_path)
    printed = capsys.readouterr().out
    assert status == 0
    assert list(found["parts"]) == list(gpu.PARTS)
    *parts, cores = found["parts"].values()
    assert list(cores) == ["1 cores"]
    assert set(cores["1 cores"]) == {layer.name for layer in gpu.SCALED}
    for name, part in zip(gpu.PARTS, parts, strict=False):
        library = {"tests of PyTorch": "torch", "tests of JAX": "jax"}.get(name, "cupy")
        assert part["skipped"].startswith(library)
        assert f"{name}: skipped: {library}" in printed
    assert "[cuda12]" in printed
    assert found["versions"]["numpy"]
    assert found["date"] in printed


def test_what_was_found_survives(tmp_path, monkeypatch, capsys):
    def part(run):
        yield "first", 1.0
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "PARTS", {"some": part})
    status, found = found_by(tmp_path)
    assert status == 130
    assert found["parts"] == {"some": {"first": 1.0}}
    assert "what was finished was written" in capsys.readouterr().err


STOPPED = """
import sys, time
sys.modules |= dict.fromkeys(["cupy", "dask", "jax", "torch"])
from benchmarks import gpu
def part(run):
    yield "first", 1.0
    print("begun", flush=True)
    time.sleep(60)
gpu.PARTS = {"some": part}
from benchmarks.__main__ import main
sys.exit(main(["gpu", "--quick", "--out", sys.argv[1]]))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 130), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_leaves_what_was_found(tmp_path, number, status):
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(gpu.__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        assert any(line == "begun\n" for line in process.stdout)
        process.send_signal(getattr(signal, number))
        process.communicate(timeout=30)
    (path,) = tmp_path.glob("*.json")
    assert process.returncode == status
    assert json.loads(path.read_text())["parts"] == {"some": {"first": 1.0}}


def test_a_part_that_fails_does_not_stop_the_next(tmp_path, monkeypatch):
    def bad(run):
        yield "first", 1.0
        raise RuntimeError("an illegal memory access\nmore")

    def good(run):
        yield "second", 2.0

    monkeypatch.setattr(gpu, "PARTS", {"bad": bad, "good": good})
    status, found = found_by(tmp_path)
    assert status == 0
    assert found["parts"]["bad"] == {"first": 1.0, "failed": "RuntimeError: an illegal memory access"}
    assert found["parts"]["good"] == {"second": 2.0}


def test_time_ends(tmp_path, monkeypatch):
    def part(run):
        run.end = 0
        yield "first", 1.0
        yield "second", 2.0

    monkeypatch.setattr(gpu, "PARTS", {"long": part, "next": part})
    _, found = found_by(tmp_path)
    assert found["parts"]["long"] == {"first": 1.0, "stopped": "no time is left"}
    assert found["parts"]["next"] == {"skipped": "no time is left"}


def test_layers_are_timed_beside_pytorch(numpy_as_cupy):
    """NumPy has no convolution of its own, which is told in the place of its time."""
    pytest.importorskip("torch", reason="torch is not installed")
    numpy_as_cupy.reasons.pop("torch")
    part = functools.partial(gpu.layers, ("latency",), ("float32", "float16"), gpu.OPERATIONS, batch=1)
    numpy_as_cupy.do("latency", part)
    found = numpy_as_cupy.found["parts"]["latency"]
    assert len(found) == 3 * 2 * len(gpu.SUITES["latency"])
    for times in found.values():
        assert times[gpu.NATIVE].startswith("ValueError: method 'native' must have")
        assert 0 < times[gpu.IM2COL] < 1
        assert 0 < times[gpu.TORCH] < 1
        assert times["difference"] < gpu.ROUGH


def test_what_computes_something_else_is_told(numpy_as_cupy):
    """And not timed."""
    calls = {gpu.NATIVE: lambda: np.ones(3), gpu.IM2COL: lambda: np.full(3, 1.1), "other": lambda: np.ones(2)}
    found = gpu.seconds_of(Comparison("some", "arrays", calls), load_backend("numpy"))
    assert 0 < found[gpu.NATIVE] < 1
    assert found[gpu.IM2COL].startswith("WrongResultError: some, arrays, xconv:im2col: the relative error is 1.0e-01")
    assert "has shape (2,), expected (3,)" in found["other"]


def test_many_calls_are_waited_for_at_once(monkeypatch):
    """Each sample ends, and each is preceded, by waiting for the device."""
    log = []
    monkeypatch.setattr(gpu, "waiting", lambda backend, call: lambda: log.append("wait"))
    monkeypatch.setattr(gpu, "LIMITS", dataclasses.replace(gpu.LIMITS, least_rounds=1, most_rounds=1, sample_seconds=0))
    calls = {"one": lambda: log.append("call") or np.ones(1)}
    gpu.seconds_of(Comparison("some", "arrays", calls), load_backend("numpy"))
    assert log[-5:] == ["wait", "call", "wait", "call", "wait"]


def test_ratios_are_of_long_calls():
    times = [
        {gpu.NATIVE: 1e-3, gpu.TORCH: 2e-3},
        {gpu.NATIVE: 4e-3, gpu.TORCH: 2e-3},
        {gpu.NATIVE: 1e-5, gpu.TORCH: 9e-5},
    ]
    found = gpu.beside_torch([*times, {gpu.NATIVE: "ValueError"}, "no time is left"])
    assert found == {"mean": pytest.approx(1), "least": 0.5, "layers": 2}


def test_ratios_end_a_part(numpy_as_cupy):
    numpy_as_cupy.do("some", lambda run: iter([("a layer", {gpu.NATIVE: 1e-3, gpu.TORCH: 2e-3})]))
    assert numpy_as_cupy.found["parts"]["some"]["torch's time by native's"]["mean"] == pytest.approx(2)


def test_filters_are_timed_beside_scipy(numpy_as_cupy, monkeypatch):
    for name in ("ndimage", "signal"):
        monkeypatch.setitem(sys.modules, f"cupyx.scipy.{name}", importlib.import_module(f"scipy.{name}"))
    monkeypatch.setattr(gpu, "KERNELS", (3,))
    numpy_as_cupy.do("filters", gpu.filters)
    ((name, found),) = numpy_as_cupy.found["parts"]["filters"].items()
    assert name == "filters, 3x3 1-1 @64"
    assert {one for one, seconds in found.items() if isinstance(seconds, float)} == set(found) - {gpu.NATIVE}


def test_loading_is_tried_in_processes(numpy_as_cupy, monkeypatch):
    monkeypatch.setattr(gpu, "LOADING", {"good": "pass", "bad": "raise SystemExit('no library')"})
    assert dict(gpu.loading(numpy_as_cupy)) == {"good": "ok", "bad": "status 1: no library"}


def test_the_suite_is_run_on_the_device(numpy_as_cupy, monkeypatch):
    monkeypatch.setattr(gpu, "CHECKED", ("gpu",))
    monkeypatch.setattr(gpu, "cpu_count", lambda: 0)  # no processes of pytest's own
    found = dict(gpu.checks("cupy", numpy_as_cupy))
    assert "skipped" in found["result"]
    assert found["failed"] == []
    assert set(gpu.CHECK_SECONDS) <= set(TABLE)
