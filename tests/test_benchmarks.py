"""The benchmarks: that they run, that what they compare is right, and how they measure. No time is asserted."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
import reference

import xconv
from benchmarks import devices, figure, loading, machine, run, textbook, timing
from benchmarks.__main__ import main
from benchmarks.expected import ERROR_LIMIT, WrongResultError, checked_error
from benchmarks.markdown import KEPT
from benchmarks.peers import book, own
from benchmarks.peers.peer import FORWARD, INPUT_GRAD, OPERATIONS, WEIGHT_GRAD, Problem
from benchmarks.results import LayerResult, Measurement, geometric_mean
from benchmarks.suites import SUITES, Layer, shrunk
from benchmarks.summary import loss_rows, noise, noise_lines, peer_rows
from xconv.demo.backends import load_backend

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = [layer for layers in SUITES.values() for layer in layers]
IDS = [f"{layer.suite}: {layer.name}" for layer in LAYERS]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # tests run in several processes at once
QUICK_SUITES = {"numpy": ("depthwise", "large_kernel", "latency", "volume")}  # others compile, or wait

# Who is timed in each backend's latency suite: in all operations, and besides these in forward.
OPTIONAL = {"torch"} if importlib.util.find_spec("torch") else set()
TIMED_PEERS = {"numpy": {"textbook"} | OPTIONAL, "jax": {"lax"}, "torch": {"torch"}}
TIMED_FORWARD = {"numpy": {"scipy-oaconvolve", "scipy-fftconvolve"}}


def exit_status(*arguments):
    """What the process would exit with."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def last_line(captured):
    return captured.err.splitlines()[-1]


@pytest.fixture
def latency(tmp_path):
    """Arguments of a run that takes no time."""
    return ["--quick", "--suite", "latency", "--peers", "textbook", "--out", tmp_path]


@pytest.mark.on("numpy", "jax", "torch", "cupy")
def test_quick_run(backend, tmp_path):
    suites = QUICK_SUITES.get(backend.name, ("latency",))
    limits = ("--repeats", "1", "--seconds", "1")
    options = ["--quick", "--backend", backend.name, "--suite", *suites, *limits, "--out", str(tmp_path)]
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / f"{backend.name}.json").read_text())
    names = [(layer["suite"], layer["name"]) for layer in report["layers"]]
    assert names == [(layer.suite, layer.name) for suite in suites for layer in SUITES[suite]]
    assert report["machine"]["keeps_memory"] is False  # what malloc does for the whole process is for times alone
    for layer in report["layers"]:
        assert list(layer["operations"]) == list(OPERATIONS)
        assert_sane(layer["operations"])
        if layer["suite"] == "latency":
            assert_timed(layer["operations"], backend.name)
    assert (tmp_path / f"{backend.name}.png").read_bytes().startswith(b"\x89PNG")
    summary = (tmp_path / f"{backend.name}.md").read_text()
    assert f"`python -m benchmarks {' '.join(options)}`" in summary
    added = f"adds {1e3 * report['import_seconds']:.0f} ms"
    for name in (*suites, np.__version__, xconv.__version__, added, "Identical calls"):
        assert name in summary
        assert name in process.stdout


def test_limits_of_the_command_line():
    assert run._limits(False, None, None) is timing.THOROUGH
    assert run._limits(True, None, None) is timing.QUICK
    limits = run._limits(False, 300, 0.5)
    assert (limits.least_rounds, limits.most_rounds, limits.total_seconds) == (300, 300, 0.5)


@pytest.mark.parametrize("backend_name", ["torch", "numpy"])
def test_pytorch_is_timed_in_full_precision(torch_backend, monkeypatch, tmp_path, backend_name):
    """As the backend and as a peer of another."""
    import torch

    allowed, measure = [], run.measure_layer

    def measure_layer(*arguments):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return measure(*arguments)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(run, "measure_layer", measure_layer)
    options = ["--quick", "--suite", "latency", "--peers", "torch", "--out", tmp_path]
    assert exit_status("--backend", backend_name, *options) == 0
    assert allowed == [False] * len(SUITES["latency"])
    assert torch.backends.cudnn.allow_tf32


def test_only_a_thorough_run_keeps_memory(monkeypatch, tmp_path):
    """A stub says that it does: it would for the whole process."""
    monkeypatch.setattr(run, "keep_memory", lambda: True)
    monkeypatch.setattr(run, "THOROUGH", timing.QUICK)
    kept = {}
    for quick in (False, True):
        options = {"backend": "numpy", "suites": ["latency"], "peers": [], "repeats": None, "seconds": None}
        run.run_benchmarks(**options, out=tmp_path, quick=quick, command="none")
        report = json.loads((tmp_path / "numpy.json").read_text())
        kept[report["quick"]] = report["machine"]["keeps_memory"], KEPT in (tmp_path / "numpy.md").read_text()
    assert kept == {False: (True, True), True: (False, False)}


def assert_sane(operations):
    """Every peer was timed and right, or there is a reason."""
    for peers in operations.values():
        assert "xconv" in peers
        for name, found in peers.items():
            if "absent" in found:
                assert name != "xconv"
                assert found["absent"]
            else:
                assert 0 < found["lower_quartile"] <= found["median"] <= found["upper_quartile"]
                assert found["rounds"] == 1
                assert found["ratio"] > 0
                assert 0 <= found["relative_error"] < 1e-3


def assert_timed(operations, backend_name):
    """None of the peers that are installed was left out."""
    everywhere, forward = (peers.get(backend_name, set()) for peers in (TIMED_PEERS, TIMED_FORWARD))
    for operation, peers in operations.items():
        timed = {name for name, found in peers.items() if "absent" not in found}
        assert timed >= (everywhere | forward if operation == FORWARD else everywhere)


def test_import_is_timed_with_bytecode(monkeypatch):
    started = []
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(subprocess, "run", lambda command, *, check, env: started.append((*command, check, env)))
    loading.import_seconds(timing.QUICK)
    assert {code for _, _, code, _, _ in started} == {"import xconv", "pass"}
    for executable, option, _, check, environment in started:
        assert (executable, option, check) == (sys.executable, "-c", True)
        assert "PYTHONDONTWRITEBYTECODE" not in environment


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told to keep memory")
def test_memory_that_was_used_once_is_not_asked_for_again():
    code = """
import resource
import numpy as np
from benchmarks.memory import keep_memory

def new_pages(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        [np.ones(1 << 18, dtype=np.float32) for _ in range(megabytes)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages(100)
without = new_pages(100)
kept = keep_memory()
new_pages(100)
print(kept, without, new_pages(100))
"""
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    kept, without, after = process.stdout.split()
    assert kept == "True"
    assert int(without) > 10_000
    assert int(after) < 100


@pytest.mark.on("jax")
def test_jax_copies_into_memory_that_is_there(backend):
    source, library = np.arange(8, dtype=np.float32), load_backend(backend.name)
    copy = devices._copy(library, library.from_numpy(source))
    first, second = copy(), copy()
    assert first.is_deleted()
    assert np.array_equal(second, source)


def test_numpy_copies_all_on_every_processor(monkeypatch):
    """Each part waits for the others: on fewer threads it would wait in vain."""
    meeting, copy_part = threading.Barrier(3), np.copyto

    def copy_together(target, source):
        meeting.wait(timeout=10)
        copy_part(target, source)

    monkeypatch.setattr(devices, "cpu_count", lambda: 3)
    monkeypatch.setattr(np, "copyto", copy_together)
    source, target = np.arange(8), np.zeros(8)
    devices._copy_on_threads(target, source)()
    assert np.array_equal(target, source)


@pytest.mark.parametrize("backend_name", ["numpy", "jax"])
def test_blas_is_named_where_it_multiplies(backend_name):
    described = machine.describe_machine(load_backend("numpy"), (), "none", False)
    blas = "openblas 0.3 (Haswell, 2 threads)"
    described = dataclasses.replace(described, backend=backend_name, blas=(blas, "openblas 0.2"))
    assert (blas in described.heading) is (backend_name == "numpy")
    assert "openblas 0.2" not in described.heading


@pytest.mark.parametrize("available", [True, False])
def test_the_version_of_cudnn_is_told(monkeypatch, available):
    cudnn = types.SimpleNamespace(is_available=lambda: available, version=lambda: 91002)
    torch = types.SimpleNamespace(backends=types.SimpleNamespace(cudnn=cudnn), get_num_threads=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", torch)
    described = machine.describe_machine(load_backend("numpy"), (), "none", False)
    assert described.versions.get("cuDNN") == ("91002" if available else None)
    assert ("cuDNN 91002" in described.heading) is available


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--suite", "alexnet"], ["--suite", "'alexnet'", "resnet50"]),
            (["--backend", "tensorflow"], ["--backend", "'tensorflow'", "cupy"]),
            (["--peers", "keras"], ["--peers", "'keras'", "textbook"]),
            (["--repeats", "0"], ["--repeats", "at least 1", "'0'"]),
            (["--seconds", "0"], ["--seconds", "above 0", "'0'"]),
            (["--seconds", "soon"], ["--seconds", "number of seconds", "'soon'"]),
            (["--peers", "lax"], ["'lax'", "numpy", "textbook"]),
        ],
    )
    def test_wrong_names(self, arguments, parts, capsys):
        assert exit_status(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        for part in ("python -m benchmarks", *parts):
            assert part in captured.err

    @pytest.mark.parametrize(
        ("package", "arguments"),
        [("matplotlib", []), ("torch", ["--peers", "torch"]), ("scipy.signal", ["--peers", "scipy"])],
    )
    def test_missing_package(self, package, arguments, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        assert exit_status(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert package.split(".")[0] in captured.err
        assert "pip install" in captured.err

    def test_a_missing_peer_is_left_out_if_nobody_asked_for_it(self, tmp_path, capsys, monkeypatch):
        for package in ("torch", "scipy.signal"):
            monkeypatch.setitem(sys.modules, package, None)
        assert exit_status("--quick", "--suite", "latency", "--out", tmp_path) == 0
        assert "left out: torch is not installed" in capsys.readouterr().err
        assert set(json.loads((tmp_path / "numpy.json").read_text())["missing_peers"]) == {"torch", "scipy"}

    def test_a_wrong_result_stops_the_run(self, latency, capsys, monkeypatch):
        monkeypatch.setattr(textbook, "input_grad", lambda dy, w, layer: np.ones(layer.input_shape))
        assert exit_status(*latency) == 1
        line = last_line(capsys.readouterr())
        for part in ("latency", SUITES["latency"][0].name, "input_grad", "textbook", "relative error"):
            assert part in line

    def test_ctrl_c(self, latency, tmp_path, capsys, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "measure_layer", interrupt)
        assert exit_status(*latency) == 130
        assert last_line(capsys.readouterr()) == "python -m benchmarks: interrupted: only finished suites were written"
        assert not list(tmp_path.iterdir())

    def test_ctrl_c_behind_a_suite(self, tmp_path, monkeypatch):
        measure = run.measure_layer

        def interrupt_behind_latency(layer, *arguments):
            if layer.suite != "latency":
                raise KeyboardInterrupt
            return measure(layer, *arguments)

        monkeypatch.setattr(run, "measure_layer", interrupt_behind_latency)
        options = ["--quick", "--peers", "textbook", "--out", str(tmp_path)]
        assert exit_status(*options, "--suite", "latency", "small") == 130
        assert sorted(path.name for path in tmp_path.iterdir()) == ["numpy.json", "numpy.md"]
        numbers = json.loads((tmp_path / "numpy.json").read_text())
        assert {layer["suite"] for layer in numbers["layers"]} == {"latency"}

    @pytest.mark.parametrize("result", [np.array([1.0, 2.01]), np.array([1.0, np.nan]), np.array([1.0])])
    def test_what_counts_as_wrong(self, result):
        with pytest.raises(WrongResultError) as raised:
            checked_error(result, np.array([1.0, 2.0]), "here")
        assert str(raised.value).startswith("here: the ")

    def test_what_counts_as_right(self):
        error = checked_error(np.array([1.0, 2.001]), np.array([1.0, 2.0]), "here")
        assert error == pytest.approx(0.0005)
        assert error < ERROR_LIMIT


class Calls:
    """Calls that take the seconds they are given, by a clock of their own, and leave a log."""

    def __init__(self, **seconds):
        self.now, self.log = 0.0, []
        self.calls = {name: lambda name=name: self.call(name, seconds[name]) for name in seconds}

    def call(self, name, seconds):
        self.now += seconds
        self.log.append(name)

    def interleave(self, expendable=(), **limits):
        limits = dataclasses.replace(timing.QUICK, settle=lambda: self.log.append("|"), **limits)
        return timing.interleave(self.calls, limits, expendable=expendable, clock=lambda: self.now)

    def rounds(self):
        """What was called after each time that the machine settled."""
        parts = [list(part) for settled, part in itertools.groupby(self.log, "|".__eq__) if not settled]
        return parts[1:]  # the warm-up comes first

    def orders(self):
        """The names called in each round."""
        names = "".join(name for (name,) in self.rounds())
        return [names[start : start + len(self.calls)] for start in range(0, len(names), len(self.calls))]


class TestTiming:
    def test_every_round_has_all_calls_in_an_order_of_its_own(self):
        calls = Calls(a=0.1, b=0.2, c=0.3)
        timings = calls.interleave(least_rounds=12, most_rounds=12)
        rounds = calls.orders()
        assert len(rounds) == 12
        assert {"".join(sorted(names)) for names in rounds} == {"abc"}
        assert len(set(rounds)) > 1
        assert {name: found.median for name, found in timings.items()} == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.3})
        assert all(found.rounds == 12 and found.calls_per_sample == 1 for found in timings.values())

    def test_every_layer_has_orders_of_its_own(self):
        layers = [Calls(a=0.1, b=0.2, c=0.3, d=0.4) for _ in range(2)]
        for calls in layers:
            calls.interleave(least_rounds=7, most_rounds=7)
        assert layers[0].orders() != layers[1].orders()

    def test_short_calls_are_looped(self):
        calls = Calls(a=0.25e-3)
        assert calls.interleave(sample_seconds=1e-3)["a"].calls_per_sample == 4
        assert calls.rounds() == [["a"] * 5] * 2  # the first of them is not timed

    def test_short_calls_wake_the_machine_first(self):
        calls = Calls(a=0.25e-3)
        assert calls.interleave(wake_seconds=2e-3)["a"].calls_per_sample == 1
        assert calls.rounds() == [["a"] * (8 + 1)] * 2

    @pytest.mark.parametrize("tick", [0.001, 0.004, 0.01])
    def test_threads_that_spin_on_other_processors_are_waited_for(self, monkeypatch, tick):
        now, spinning = 0.0, 0.1

        def sleep(seconds):
            nonlocal now
            now += seconds

        def process_time():
            """What the kernel has counted: of other processors, whole ticks."""
            return math.floor(min(now, spinning) / tick) * tick

        monkeypatch.setattr(timing, "time", types.SimpleNamespace(sleep=sleep, process_time=process_time))
        timing.wait_until_quiet()
        assert spinning < now < 2 * spinning

    def test_rounds_go_on_until_there_are_enough_samples(self):
        limits = {"least_rounds": 2, "call_seconds": 0.375, "total_seconds": 100}
        assert Calls(a=0.125, b=0.25).interleave(most_rounds=50, **limits)["b"].rounds == 3
        assert Calls(a=0.125, b=0.25).interleave(most_rounds=2, **limits)["b"].rounds == 2

    def test_rounds_end_when_the_time_is_up(self):
        calls = Calls(a=0.125, b=0.875)
        assert calls.interleave(least_rounds=1, most_rounds=50, call_seconds=5, total_seconds=4)["a"].rounds == 4

    def test_a_hopeless_call_is_timed_once(self):
        timings = Calls(a=0.1, b=3, c=3).interleave(expendable=["b"])
        assert [timings[name].rounds for name in "abc"] == [2, 1, 2]
        assert timings["b"].median == pytest.approx(3)

    def test_a_call_that_is_clearly_slower_has_the_least_rounds(self):
        calls = Calls(a=0.1, b=0.16, c=0.16, d=0.12)
        timings = calls.interleave(
            expendable=["b", "d"], least_rounds=3, most_rounds=5, call_seconds=9, total_seconds=99
        )
        assert [timings[name].rounds for name in "abcd"] == [5, 3, 5, 5]

    def test_geometric_mean(self):
        assert geometric_mean([4.0, 0.25]) == pytest.approx(1)
        assert geometric_mean([1.0, 2.0, 4.0]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("method", "name", "left_out"),
    [
        ("im2col", "7x7/2 3-64 @224", False),
        ("im2col", "image 31x31 8-8 @128", True),
        ("toeplitz", "image 31x31 8-8 @128", True),
        ("toeplitz", "CIFAR-10 3x3 32-32 @32", False),
        ("toeplitz", "CIFAR-10 3x3 32-64 @16", True),
        ("toeplitz", "MobileNet v1 3x3 512 dw @14", False),
        ("winograd", "3x3 512-512 @14", False),
    ],
)
def test_what_jax_compiles_too_long_is_left_out(method, name, left_out):
    reason = own._compiles_too_long(method, LAYERS[[layer.name for layer in LAYERS].index(name)])
    assert ("compile too long" in reason) is left_out


def test_pairs_are_counted_within_a_group():
    depthwise = dataclasses.replace(LAYERS[0], weight_shape=(2048, 1, 3, 3), groups=2048)
    assert own._compiles_too_long("toeplitz", depthwise) == ""


def test_programs_are_given_back_after_each_suite(tmp_path, monkeypatch):
    given_back = []
    monkeypatch.setattr(run, "forget_programs", given_back.append)
    options = ["--quick", "--suite", "latency", "depthwise", "--peers", "textbook", "--out", tmp_path]
    assert exit_status(*options) == 0
    assert [backend.name for backend in given_back] == ["numpy", "numpy"]


def test_compiled_programs_are_given_back(jax_backend):
    import jax

    double = jax.jit(lambda x: 2 * x)
    double(1.0)
    assert double._cache_size() == 1
    devices.forget_programs(load_backend("jax"))
    assert double._cache_size() == 0


def layer_result(methods, **seconds):
    """A layer whose operations took each peer so many seconds, and take one at least."""
    operations = {
        operation: {
            peer: Measurement(timing.Timing(times[at], times[at], times[at], 7, 1), 0.0)
            for peer, times in seconds.items()
        }
        for at, operation in enumerate(OPERATIONS)
    }
    return LayerResult(LAYERS[0], dict(zip(OPERATIONS, methods, strict=True)), 1.0, operations)


class TestSummary:
    def test_the_floor_is_a_row_like_a_peer(self):
        result = layer_result(["im2col"] * 3, xconv=(2, 3, 5), torch=(4, 3, 3))
        rows = {row.peer: row for row in peer_rows([result])}
        assert list(rows) == ["torch", "floor"]
        assert rows["floor"].forward.mean == rows["floor"].forward.least == pytest.approx(1 / 2)
        assert rows["floor"].with_gradients.mean == pytest.approx(3 / 10)
        assert rows["torch"].with_gradients.mean == pytest.approx(1)

    def test_what_auto_loses(self):
        result = layer_result(["im2col"] * 3, **{"xconv": (3, 3, 3), "xconv:im2col": (9, 9, 9), "xconv:fft": (2, 4, 4)})
        assert result.loss("fft", ["forward"]) == pytest.approx(0.5)
        assert result.loss("fft") == pytest.approx(-0.1)

    def test_the_same_method_twice_is_no_loss(self):
        times = {"xconv": (3, 3, 3), "xconv:im2col": (1, 1, 1), "xconv:fft": (9, 9, 2)}
        result = layer_result(["im2col", "im2col", "fft"], **times)
        assert result.loss("im2col", ["forward"]) == 0
        assert result.loss("im2col") == pytest.approx(9 / (1 + 6) - 1)
        assert [(row.best, row.operations) for row in loss_rows([result])] == [
            ("im2col", "forward"),
            ("im2col", "forward + gradients"),
        ]

    def test_noise_is_what_identical_calls_differ_by(self):
        auto, by_name = (2, 4, 5), {"xconv:im2col": (3, 1, 1), "xconv:fft": (9, 3, 9)}
        result = layer_result(["im2col", "fft", "winograd"], xconv=auto, torch=(99, 99, 99), **by_name)
        other = layer_result(["fft"] * 3, xconv=auto, **{"xconv:fft": (2, 8, 5)})
        assert noise([result]) == pytest.approx((3 / 4, 3 / 2))
        assert noise([result, other]) == pytest.approx((3 / 4, 2))
        (line,) = noise_lines([result, other])
        assert "differed by factors from 0.75 to 2.00 in" in line

    def test_no_noise_is_told_where_no_call_was_timed_twice(self):
        result = layer_result(["winograd"] * 3, **{"xconv": (2, 2, 2), "xconv:fft": (1, 1, 1)})
        assert noise([result]) is None
        assert noise_lines([result]) == []


def test_no_peer_is_left_out_of_the_figure():
    names = [f"peer {number}" for number in range(len(figure.COLOURS) + 1)]
    result = layer_result(["im2col"] * 3, xconv=(1, 1, 1), **dict.fromkeys(names, (1, 1, 1)))
    assert list(figure._colours(types.SimpleNamespace(layers=[result]))) == names


class TestLayers:
    @pytest.mark.parametrize("layer", LAYERS, ids=IDS)
    def test_geometry(self, layer):
        for version in (layer, shrunk(layer)):
            shape = xconv.conv_output_shape(version.input_shape, version.weight_shape, **version.keywords)
            assert min(shape) >= 1
            assert version.output_shape == shape
        tiny = shrunk(layer)
        assert (tiny.kernel_size, tiny.stride, tiny.padding) == (layer.kernel_size, layer.stride, layer.padding)
        assert (tiny.groups > 1) == (layer.groups > 1)
        assert tiny.multiply_adds < 1e8

    def test_names_are_unique(self):
        assert len(set(IDS)) == len(IDS)
        assert len({layer.nameless for layer in SUITES["resnet50"]}) == len(SUITES["resnet50"]) == 23

    def test_costs(self):
        layer = Layer("", "", (2, 4, 5), (6, 2, 3), (1,), (1,), (1,), 2)
        assert layer.output_shape == (2, 6, 5)
        assert layer.multiply_adds == 2 * 6 * 5 * 2 * 3
        assert layer.bytes == 4 * (2 * 4 * 5 + 6 * 2 * 3 + 2 * 6 * 5)


@pytest.mark.parametrize(
    "layer",
    [
        Layer("", "1-d", (2, 3, 9), (4, 3, 3), (2,), (1,), (2,), 1),
        Layer("", "2-d", (2, 4, 6, 7), (6, 2, 3, 2), (2, 1), (1, 0), (1, 2), 2),
        Layer("", "depthwise", (2, 3, 6, 5), (3, 1, 3, 2), (1, 2), (1, 1), (1, 1), 3),
        Layer("", "depthwise, two filters each", (2, 3, 6, 5), (6, 1, 3, 2), (1, 2), (1, 1), (1, 1), 3),
        Layer("", "3-d", (1, 2, 4, 5, 3), (3, 2, 2, 3, 1), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1),
    ],
    ids=lambda layer: layer.name,
)
def test_textbook_is_right(layer):
    generator = np.random.default_rng(5)
    shapes = (layer.input_shape, layer.weight_shape, layer.output_shape)
    x, w, dy = (generator.standard_normal(shape) for shape in shapes)
    col = textbook.im2col(x, layer)
    assert textbook.matrix_bytes(layer) == 4 * col.size
    pairs = [
        (textbook.forward(x, w, layer), reference.conv(x, w, **layer.keywords)),
        (textbook.input_grad(dy, w, layer), reference.conv_input_grad(dy, w, x.shape, **layer.keywords)),
        (textbook.weight_grad(dy, col, layer), reference.conv_weight_grad(dy, x, w.shape[2:], **layer.keywords)),
    ]
    for result, expected in pairs:
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() < 1e-12


def test_the_textbook_has_its_matrix_from_forward(monkeypatch):
    """It is made for the first weight gradient, and no other operation waits for it."""
    made, im2col = [], textbook.im2col
    layer = SUITES["latency"][0]
    shapes = (layer.input_shape, layer.weight_shape, layer.output_shape)
    calls = book.Textbook().operations(Problem(layer, *(np.ones(shape) for shape in shapes)))
    monkeypatch.setattr(textbook, "im2col", lambda *arguments: made.append(arguments) or im2col(*arguments))
    calls[INPUT_GRAD]()
    assert not made
    calls[WEIGHT_GRAD]()
    calls[WEIGHT_GRAD]()
    assert len(made) == 1


def test_a_layer_that_the_textbook_refuses_has_a_reason():
    audio = next(layer for layer in SUITES["large_kernel"] if "1024 1-1" in layer.name)
    reasons = book.Textbook().operations(Problem(audio, None, None, None))
    assert set(reasons.values()) == {"its matrix would have 3.8 GiB, above 2 GiB"}
