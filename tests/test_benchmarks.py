"""The benchmarks: that they run, that what they compare is right, and how they measure. No time is asserted."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import reference
from commands import assert_one_complaint, complaints

import xconv
from benchmarks import comparison, report, timing
from benchmarks.__main__ import main
from benchmarks.comparison import ERROR_LIMIT, WrongResultError, checked_error
from benchmarks.layers import SUITES, Layer, layer_of, shrunk
from benchmarks.lines import random
from benchmarks.operations import CONVOLUTIONS, POOLS, case_of, torch_call
from xconv.demo.backends import load_backend
from xconv.demo.machine import describe, file_name, heading

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = [layer for layers in SUITES.values() for layer in layers]
IDS = [f"{layer.suite}: {layer.name}" for layer in LAYERS]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # tests run in several processes at once
QUICK_SUITES = {"numpy": ("depthwise", "large_kernel", "latency", "volume")}  # others compile, or wait

# Who is timed in each backend's latency suite.
OPTIONAL = {"torch"} if importlib.util.find_spec("torch") else set()
TIMED_PEERS = {"numpy": OPTIONAL, "jax": {"xconv:native"}, "torch": {"torch", "xconv:native"}}


def exit_status(*arguments):
    """What the process would exit with."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def nameless(layer):
    """The same for every layer with these shapes and keywords."""
    return dataclasses.replace(layer, suite="", name="")


def last_complaint(captured):
    return complaints(captured)[-1]


@pytest.fixture
def latency(tmp_path):
    """Arguments of a run that takes no time."""
    return ["--quick", "--suite", "latency", "--out", tmp_path]


@pytest.fixture
def choice(tmp_path):
    """The same of a run in which methods are called by hand."""
    return ["choice", "--quick", "--layers", 1, "--out", tmp_path]


@pytest.mark.on("numpy", "jax", "torch", "cupy")
def test_quick_run(backend, tmp_path):
    names_of_suites = QUICK_SUITES.get(backend.name, ("latency",))
    options = ["--quick", "--backend", backend.name, "--suite", *names_of_suites, "--out", str(tmp_path)]
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
    run = recorded(tmp_path)["layers"]
    names = [(one["group"], one["name"], one["operation"]) for one in run["results"]]
    chosen = [layer for suite in names_of_suites for layer in SUITES[suite]]
    assert names == [(layer.suite, layer.name, operation) for layer in chosen for operation in CONVOLUTIONS]
    for one in run["results"]:
        assert_sane(one["timings"])
        if one["group"] == "latency":
            assert_timed(one["timings"], backend.name)
    printed = " ".join(process.stdout.split())
    for name in (*names_of_suites, np.__version__, "No result", "Tiny arrays", "python -m benchmarks --quick"):
        assert name in printed
    shown = f"{process.stdout}\n{process.stderr}".splitlines()
    assert all(len(line) <= 80 for line in shown if not line.startswith("|"))  # whose times mean nothing
    assert sum(line.startswith("latency, ") for line in shown) == len(SUITES["latency"]) * len(CONVOLUTIONS)


def recorded(folder):
    """The one file of a folder: all runs of this machine on a backend."""
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def described(command="none"):
    """What runs of this machine begin with."""
    return describe(load_backend("numpy")) | {"command": command, "date": "2026-11-29"}


def test_limits_of_the_command_line():
    def stopwatch(quick, seconds):
        options = argparse.Namespace(quick=quick, seconds=seconds)
        with comparison.on_equal_terms(load_backend("numpy"), options, timing.THOROUGH) as found:
            return dataclasses.replace(found, finish=timing.QUICK.finish)

    assert stopwatch(False, None) == timing.THOROUGH
    assert stopwatch(True, None) == timing.QUICK
    assert stopwatch(False, 0.5) == dataclasses.replace(timing.THOROUGH, total_seconds=0.5)


@pytest.mark.parametrize("backend_name", ["torch", "numpy"])
def test_pytorch_is_timed_in_full_precision(torch_backend, monkeypatch, tmp_path, backend_name):
    """As the backend and as a peer of another."""
    import torch

    allowed, original = [], comparison.measure

    def measure(*arguments):
        allowed.append(torch.backends.cudnn.allow_tf32)
        return original(*arguments)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(comparison, "measure", measure)
    options = ["--quick", "--suite", "latency", "--out", tmp_path]
    assert exit_status("--backend", backend_name, *options) == 0
    assert allowed == [False] * len(SUITES["latency"]) * len(CONVOLUTIONS)
    assert torch.backends.cudnn.allow_tf32


def assert_sane(timings):
    """Every side was timed and right, or there is a reason."""
    assert "xconv" in timings
    for name, found in timings.items():
        if "absent" in found:
            assert name != "xconv"
            assert found["absent"]
        else:
            assert found["median"] > 0
            assert found["rounds"] == timing.QUICK.least_rounds
            assert 0 <= found["error"] < 1e-3


def assert_timed(timings, backend_name):
    """None of the peers that are installed was left out."""
    assert {name for name, found in timings.items() if "absent" not in found} >= TIMED_PEERS.get(backend_name, set())


@pytest.mark.parametrize("backend_name", ["numpy", "jax"])
def test_blas_is_named_where_it_multiplies(backend_name):
    machine = described()
    blas = "openblas 0.3 (Haswell, 2 threads)"
    line = heading({**machine, "backend": backend_name, "blas": [blas, "openblas 0.2"]})
    assert (blas in line) is (backend_name == "numpy")
    assert "openblas 0.2" not in line


@pytest.mark.parametrize("available", [True, False])
def test_the_version_of_cudnn_is_told(monkeypatch, available):
    cudnn = types.SimpleNamespace(is_available=lambda: available, version=lambda: 91002)
    torch = types.SimpleNamespace(backends=types.SimpleNamespace(cudnn=cudnn), get_num_threads=lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", torch)
    machine = described()
    assert machine["versions"].get("cuDNN") == ("91002" if available else None)
    assert ("cuDNN 91002" in heading(machine)) is available


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--suite", "alexnet"], ["--suite", "'alexnet'", "resnet50"]),
            (["--backend", "tensorflow"], ["--backend", "'tensorflow'", "cupy"]),
            (["choice", "--layers", "0"], ["choice: ", "--layers", "at least 1", "'0'"]),
            (["choice", "--seed", "-1"], ["choice: ", "--seed", "at least 0"]),
            (["choice", "--backend", "strict"], ["choice: ", "invalid choice"]),
            (["--seconds", "soon"], ["--seconds", "a number above 0", "'soon'"]),
            (["--seconds", "-1"], ["--seconds", "a number above 0", "'-1'"]),
            (["filter", "--backend", "jax"], ["filter", "numpy", "cupy", "jax"]),
            (["pool", "--backend", "jax"], ["pool", "numpy", "cupy", "jax"]),
        ],
    )
    def test_wrong_names(self, arguments, parts, capsys):
        assert exit_status(*arguments) == 2
        assert_one_complaint(capsys.readouterr(), "python -m benchmarks", *parts)

    @pytest.mark.parametrize(
        ("package", "arguments"),
        [
            ("matplotlib", ["report"]),
            ("jax", ["--backend", "jax"]),
            ("scipy", ["--suite", "filter"]),
            ("tabulate", ["latency", "--quick"]),
            ("tabulate", ["rates", "--quick"]),
        ],
    )
    def test_missing_package(self, package, arguments, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        assert exit_status(*arguments) == 2
        assert_one_complaint(capsys.readouterr(), package.split(".")[0], "pip install")

    def test_pytorch_is_left_out_where_it_is_not(self, latency, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        assert exit_status(*latency) == 0
        assert "left out: torch is not installed" in capsys.readouterr().out
        assert ["torch" in note for note in recorded(tmp_path)["layers"]["notes"]] == [True]

    @pytest.mark.parametrize(("method", "side"), [("auto", "xconv"), ("fft", "xconv:fft")])
    def test_a_wrong_result_is_not_timed_and_fails_the_run(self, choice, tmp_path, capsys, monkeypatch, method, side):
        def input_grad(dy, w, input_shape, **keywords):
            return (1.002 if keywords["method"] == method else 1) * original(dy, w, input_shape, **keywords)

        original = xconv.conv_input_grad
        monkeypatch.setattr(xconv, "conv_input_grad", input_grad)
        assert exit_status(*choice) == 1
        line = last_complaint(capsys.readouterr())
        for part in ("drawn", f"input_grad, {side}: ", "relative error"):
            assert part in line
        results = recorded(tmp_path)["choice"]["results"]
        timed = [one["operation"] for one in results if "median" in one["timings"][side]]
        assert timed == ["forward", "weight_grad"]

    def test_a_method_that_fails_fails_the_run(self, choice, tmp_path, capsys, monkeypatch):
        def conv(x, w, **keywords):
            if keywords["method"] == "im2col" and x.dtype == np.float32:
                raise RuntimeError("out of order")
            return original(x, w, **keywords)

        original = xconv.conv
        monkeypatch.setattr(xconv, "conv", conv)
        assert exit_status(*choice) == 1
        assert last_complaint(capsys.readouterr()).count("RuntimeError: out of order") == 1
        forward = recorded(tmp_path)["choice"]["results"][0]["timings"]
        assert forward["xconv:im2col"] == {"absent": "RuntimeError: out of order"}

    def test_tiny_arrays_take_no_full_runs_place(self, latency, tmp_path, capsys):
        report.write("layers", a_run(), tmp_path)
        assert exit_status(*latency) == 2
        assert last_complaint(capsys.readouterr()).endswith("not tiny: --quick must have another --out")
        assert recorded(tmp_path)["layers"]["results"] == []

    def test_ctrl_c(self, latency, tmp_path, capsys, monkeypatch):
        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(comparison, "measure", interrupt)
        assert exit_status(*latency) == 130
        assert last_complaint(capsys.readouterr()) == "python -m benchmarks: interrupted: what was finished was written"
        assert not list(tmp_path.iterdir())

    def test_ctrl_c_behind_a_suite(self, tmp_path, monkeypatch):
        original = comparison.measure

        def interrupt_behind_latency(case, *arguments):
            if case.group != "latency":
                raise KeyboardInterrupt
            return original(case, *arguments)

        monkeypatch.setattr(comparison, "measure", interrupt_behind_latency)
        assert exit_status("--quick", "--out", tmp_path, "--suite", "latency", "small") == 130
        assert [one["group"] for one in recorded(tmp_path)["layers"]["results"]] == ["latency"] * 2 * len(CONVOLUTIONS)

    @pytest.mark.parametrize("result", [np.array([1.0, 2.01]), np.array([1.0, np.nan]), np.array([1.0])])
    def test_what_counts_as_wrong(self, result):
        with pytest.raises(WrongResultError) as raised:
            checked_error(result, np.array([1.0, 2.0]))
        assert str(raised.value).startswith("the ")

    def test_what_counts_as_right(self):
        error = checked_error(np.array([1.0, 2.001]), np.array([1.0, 2.0]))
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

    def interleave(self, **limits):
        settle = {"settle": lambda: self.log.append("|"), "clock": lambda: self.now}
        return dataclasses.replace(timing.QUICK, **settle, **limits).interleave(self.calls)

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
        timings = calls.interleave(least_rounds=12)
        rounds = calls.orders()
        assert len(rounds) == 12
        assert {"".join(sorted(names)) for names in rounds} == {"abc"}
        assert len(set(rounds)) > 1
        assert {name: found["median"] for name, found in timings.items()} == pytest.approx(
            {"a": 0.1, "b": 0.2, "c": 0.3}
        )
        assert all(found["rounds"] == 12 for found in timings.values())

    def test_every_layer_has_orders_of_its_own(self):
        layers = [Calls(a=0.1, b=0.2, c=0.3, d=0.4) for _ in range(2)]
        for calls in layers:
            calls.interleave(least_rounds=7)
        assert layers[0].orders() != layers[1].orders()

    def test_short_calls_are_looped(self):
        calls = Calls(a=0.25e-3)
        calls.interleave(sample_seconds=1e-3)
        assert calls.rounds() == [["a"] * 5] * 2  # the first of them is not timed

    def test_each_sample_ends_by_waiting_for_the_device(self):
        calls = Calls(a=0.25e-3)
        calls.interleave(sample_seconds=1e-3, finish=lambda: calls.log.append("."))
        assert calls.rounds() == [["a", ".", *"aaaa", "."]] * 2

    def test_long_calls_are_woken_if_asked_for(self):
        calls = Calls(a=1)
        calls.interleave(short=math.inf)
        assert calls.rounds() == [["a"] * 2] * 2

    def test_short_calls_wake_the_machine_first(self):
        calls = Calls(a=0.25e-3)
        calls.interleave(wake_seconds=2e-3)
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

    def test_rounds_end_when_the_time_is_up(self):
        calls = Calls(a=0.125, b=0.875)
        assert calls.interleave(least_rounds=1, total_seconds=4)["a"]["rounds"] == 4

    def test_a_call_that_is_beaten_and_would_take_all_the_time_is_timed_once(self):
        timings = Calls(a=0.1, b=3, c=0.9).interleave(least_rounds=2, total_seconds=2)
        assert [timings[name]["rounds"] for name in "abc"] == [2, 1, 2]
        assert timings["b"]["median"] == pytest.approx(3)

    def test_one_that_is_beaten_in_no_time_has_its_rounds(self):
        timings = Calls(a=0.001, b=0.1).interleave(least_rounds=2, total_seconds=0.2)
        assert [timings[name]["rounds"] for name in "ab"] == [2, 2]


def test_compiled_programs_are_given_back_after_each_comparison(jax_backend, tmp_path, monkeypatch):
    import jax

    def measure(*arguments):
        jitted.append(jax.jit(lambda x: 2 * x))
        jitted[-1](1.0)
        assert [double._cache_size() for double in jitted] == [0] * (len(jitted) - 1) + [1]
        return {"xconv": {"median": 1.0}}

    jitted = []
    monkeypatch.setattr(comparison, "measure", measure)
    assert exit_status("latency", "--quick", "--backend", "jax", "--out", tmp_path) == 0
    assert len(jitted) == len(SUITES["latency"]) * len(CONVOLUTIONS)


def layer_results(methods, name="", suite="resnet50", **seconds):
    """The operations of a layer, which took each side so many seconds."""
    return [
        {
            "group": suite,
            "name": name,
            "operation": operation,
            "chosen": methods[at],
            "timings": {side: {"median": times[at], "error": at / 10} for side, times in seconds.items()},
        }
        for at, operation in enumerate(CONVOLUTIONS)
    ]


def a_run(*results):
    machine = described("the command")
    return {"machine": machine, "quick": False, "notes": [], "results": list(results)}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestReport:
    def test_means_of_a_suite(self):
        slow = layer_results(["im2col"] * 3, xconv=(2, 3, 5), torch=(4, 3, 3), **{"xconv:fft": (2, 2, 2)})
        fast = layer_results(["im2col"] * 3, xconv=(1, 1, 1), torch=(8, 4, 8), **{"xconv:fft": (8, 8, 8)})
        lines = report.render("layers", a_run(*slow, *fast)).splitlines()
        assert lines[0].startswith("`the command` on ")
        rows = [cells(line) for line in lines if "resnet50" in line]
        assert rows[0] == ["resnet50", "torch", "4.00 (2.00)", "2.00 (1.00)", "2.19 (0.600)"]
        assert rows[1] == ["resnet50", "fft", "2.83 (1.00)", "2.31 (0.667)", "1.79 (0.400)"]
        assert "expected than 2e-01 of the largest element" in "\n".join(lines)

    def test_what_has_no_gradients_has_dashes(self):
        found = layer_results(["im2col"] * 3, "a layer", xconv=(1, 1, 1), whole=(2, 2, 2), other=(2, 2, 2))
        found[[*CONVOLUTIONS].index("input_grad")]["timings"]["other"] = {"absent": "no gradients"}
        text = report.render("layers", a_run(*found))
        rows = [cells(line) for line in text.splitlines()]
        assert ["resnet50", "other", "2.00", "-", "2.00"] in rows
        assert ["resnet50", "a layer", "input_grad", "1000", "2.00", "-"] in rows

    def test_what_failed_has_no_ratios(self):
        found = layer_results(["im2col"] * 3, "a layer", xconv=(1, 1, 1), torch=(2, 2, 2))
        found[0]["timings"]["xconv"] = {"absent": "out of order"}
        assert report.measured(found[0]) == "out of order"
        assert report.measured(found[1]) == "1000 ms, torch 2.00"
        rows = [cells(line) for line in report.render("layers", a_run(*found)).splitlines()]
        assert [row[:3] for row in rows if row[:2] == ["resnet50", "torch"]] == [["resnet50", "torch", "2.00"]]

    def test_noise_is_what_identical_calls_differ_by(self):
        by_name = {"xconv:im2col": (3, 1, 1), "xconv:fft": (9, 3, 9)}
        result = layer_results(["im2col", "fft", "winograd"], xconv=(2, 4, 5), torch=(99, 99, 99), **by_name)
        other = layer_results(["fft"] * 3, xconv=(2, 4, 5), **{"xconv:im2col": (1, 1, 1), "xconv:fft": (2, 8, 5)})
        assert "differed by factors from 0.750 to 2.00; " in report.render("layers", a_run(*result, *other))

    def test_tables_are_readable_as_they_are(self):
        assert report.table(("name", "n"), [("a", "1.00"), ("long name", "12")], words=1).splitlines() == [
            "| name      |    n |",
            "|:----------|-----:|",
            "| a         | 1.00 |",
            "| long name |   12 |",
        ]

    def test_runs_of_a_kind_take_each_others_place(self, tmp_path):
        machine = described()
        for kind, results in (("layers", [1]), ("choice", [{"m": 2}]), ("layers", [3])):
            report.write(kind, a_run(*results), tmp_path)
        assert {kind: run["results"] for kind, run in recorded(tmp_path).items()} == {
            "layers": [3],
            "choice": [{"m": 2}],
        }
        assert (tmp_path / file_name(machine)).exists()

    def test_every_backend_has_a_file(self):
        machine = described()
        names = [file_name(machine | {"backend": name}) for name in ("numpy", "jax", "torch")]
        assert [name.rpartition("-")[2] for name in names] == ["numpy.json", "jax.json", "torch.json"]
        assert len({name.rpartition("-")[0] for name in names}) == 1
        gpu = machine | {"backend": "cupy", "device": "cuda:0 (NVIDIA H200)"}
        assert file_name(gpu).startswith("cuda-0-nvidia-h200-")
        assert heading(gpu).startswith("cuda:0 (NVIDIA H200), ")

    @pytest.mark.parametrize("readme", [report.FOLDER / "README.md", ROOT / "README.md"], ids=["benchmarks", "root"])
    def test_tables_are_those_of_the_recorded_numbers(self, readme):
        """If not: python -m benchmarks report."""
        shown = readme.read_text().split(report.BEGIN)[1].split(report.END)[0].strip()
        assert shown == report.texts(report.load())[readme].strip()

    def test_report_writes_what_is_between_the_marks(self, tmp_path):
        readme = tmp_path / "README.md"
        readme.write_text(f"before\n{report.BEGIN}old\n{report.END}after\n")
        report.replace_between(readme, "new")
        report.replace_between(readme, "new")
        assert readme.read_text() == f"before\n{report.BEGIN}new\n{report.END}after\n"

    def test_every_kind_of_every_backend_has_tables_and_the_summary_is_of_numpy(self):
        results = layer_results(["im2col"] * 3, xconv=(1, 1, 1), torch=(2, 9, 9), **{"xconv:im2col": (1, 1, 1)})
        runs = {kind: a_run(*results) for kind in ("layers", "choice", "filter", "pool", "chunked", "workers")}
        runs["rates"] = a_run({"name": "copied", "value": 0.25, "words": "an element"})
        files = {}
        for backend in ("numpy", "jax", "torch", "cupy"):
            machines = {kind: {"machine": run["machine"] | {"backend": backend}} for kind, run in runs.items()}
            files[f"m-{backend}"] = {kind: run | machines[kind] for kind, run in runs.items()}
        text = report.texts(files)[ROOT / "benchmarks" / "README.md"]
        sections = {section.partition("\n")[0]: section for section in text.split("### ")[1:]}
        assert list(sections) == [f"m-{name}: {kind}" for name in ("numpy", "jax", "torch", "cupy") for kind in runs]
        assert all("\n| " in section for section in sections.values())
        assert "| copied | 0.25 | an element |" in sections["m-jax: rates"]
        assert len(report.texts(files)[ROOT / "README.md"].splitlines()) == 3

    def test_the_summary_has_rows_of_what_was_recorded(self):
        run = a_run(*layer_results(["im2col"] * 3, xconv=(1, 1, 1), torch=(2, 9, 9)))
        lines = report.texts({"a.json": {"layers": run}})[ROOT / "README.md"].splitlines()
        assert len(lines) == 3
        assert "ResNet-50" in lines[2]
        assert "2.00" in lines[2]


def test_the_figure_has_a_dot_for_each_call_and_a_bar_for_their_mean():
    (axes,) = report.draw_summary([report.Ratio("calls", "here", "float32", "scipy", ratio) for ratio in (2, 8)]).axes
    dots, bar, _ = axes.lines
    assert dots.get_xdata().tolist() == [2, 8]
    assert bar.get_xdata().tolist() == pytest.approx([4])


class TestLayers:
    @pytest.mark.parametrize("layer", LAYERS, ids=IDS)
    def test_geometry(self, layer):
        for version in (layer, shrunk(layer)):
            shape = xconv.conv_output_shape(version.input_shape, version.weight_shape, **version.keywords)
            assert min(shape) >= 1
            assert version.shapes[-1] == shape
        tiny = shrunk(layer)
        assert (tiny.kernel_size, tiny.stride, tiny.padding) == (layer.kernel_size, layer.stride, layer.padding)
        assert (tiny.groups > 1) == (layer.groups > 1)
        assert tiny.multiply_adds < 2e8

    def test_names_are_unique(self):
        assert len(set(IDS)) == len(IDS)
        assert len({nameless(layer) for layer in SUITES["resnet50"]}) == len(SUITES["resnet50"]) == 23

    def test_costs(self):
        layer = Layer("", "", (2, 4, 5), (6, 2, 3), (1,), (1,), (1,), 2)
        assert layer.multiply_adds == 2 * 6 * 5 * 2 * 3
        assert [*map(math.prod, layer.shapes)] == [2 * 4 * 5, 6 * 2 * 3, 2 * 6 * 5]


@pytest.mark.parametrize(
    "layer",
    [
        Layer("", "1-d", (2, 3, 9), (4, 3, 3), (2,), (1,), (2,), 1),
        Layer("", "2-d", (2, 4, 6, 7), (6, 2, 3, 2), (2, 1), (1, 0), (1, 2), 2),
        Layer("", "3-d", (1, 2, 4, 5, 3), (3, 2, 2, 3, 1), (1, 2, 1), (0, 1, 1), (1, 1, 1), 1),
    ],
    ids=lambda layer: layer.name,
)
def test_what_is_expected_is_right(layer):
    x, w, dy = (random(shape, seed=seed) for seed, shape in enumerate(layer.shapes))
    arrays = {"conv": (x, w), "conv_input_grad": (dy, w, x.shape), "conv_weight_grad": (dy, x, w.shape[2:])}
    for operation, function in zip(CONVOLUTIONS, arrays, strict=True):
        found = case_of(layer, operation, [], load_backend("numpy")).expected
        given = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arrays[function]]
        right = getattr(reference, function)(*given, **layer.keywords)
        assert found.dtype == np.float64
        assert np.abs(found - right).max() < 1e-12


@pytest.mark.on("numpy", "torch")
def test_others_do_with_windows_what_xconv_does(backend, tmp_path):
    """In float64: xconv's pools are not what they are compared with."""
    assert exit_status("pool", "--quick", "--backend", backend.name, "--out", tmp_path) == 0
    results = recorded(tmp_path)["pool"]["results"]
    names = [(layer.name, operation) for layer in SUITES["pool"] for operation in POOLS]
    assert [(one["name"], one["operation"]) for one in results] == names
    assert all({"xconv"} | OPTIONAL == set(one["timings"]) for one in results)


def test_pytorch_gives_cupy_its_own_arrays_back(torch_backend):
    """NumPy stands for it: both hand their memory over by DLPack."""
    cupy = types.SimpleNamespace(name="cupy", module=np, compile=lambda function: function)
    layer = SUITES["latency"][0]
    x, w, _ = (random(shape, seed=seed) for seed, shape in enumerate(layer.shapes))
    result = torch_call(layer, "forward", {"x": x, "w": w}, cupy)()
    assert type(result) is np.ndarray
    assert result == pytest.approx(reference.conv(x, w, **layer.keywords), abs=1e-5)


@pytest.mark.parametrize(("options", "suite"), [(["--dtype", "float16", "--batch", "3"], "latency float16")])
def test_other_types_and_batches(tmp_path, options, suite):
    assert exit_status("latency", "--quick", "--out", tmp_path, *options) == 0
    results = recorded(tmp_path)["layers"]["results"]
    assert {one["group"] for one in results} == {suite}
    assert {*results[0]["timings"]} == {"xconv"} | OPTIONAL
    assert all(1e-5 < one["timings"]["xconv"]["error"] < comparison.ROUGH_LIMIT for one in results)


@pytest.mark.parametrize(
    ("words", "layer"),
    [
        (
            "LeNet-5 5x5 6-16 @14",
            Layer("s", "LeNet-5 5x5 6-16 @14", (3, 6, 14, 14), (16, 6, 5, 5), (1, 1), (2, 2), (1, 1), 1),
        ),
        ("3x3/2 64 dw @9", Layer("s", "3x3/2 64 dw @9", (3, 64, 9, 9), (64, 1, 3, 3), (2, 2), (1, 1), (1, 1), 64)),
        ("2x2 7 @9 padded 0", Layer("s", "2x2 7 @9", (3, 7, 9, 9), (7, 1, 2, 2), (1, 1), (0, 0), (1, 1), 7)),
        ("3x5/1x2 2-4 @8x9", Layer("s", "3x5/1x2 2-4 @8x9", (3, 2, 8, 9), (4, 2, 3, 5), (1, 2), (1, 2), (1, 1), 1)),
    ],
)
def test_names_say_what_layers_are(words, layer):
    assert layer_of("s", 3, words) == layer


def test_a_name_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="got 'large'") as raised:
        layer_of("s", 3, "large")
    assert "like '7x7/2 3-64 @224'" in str(raised.value)
