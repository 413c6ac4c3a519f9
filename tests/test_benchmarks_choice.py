"""How well methods are chosen, plain rates, and pools: that they run, and what they count. No time is asserted."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import sys
import threading
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_benchmarks import a_run, cells, exit_status, last_complaint, nameless, recorded
from threadpoolctl import threadpool_info

import xconv
from benchmarks import filters, layers, rates, report
from benchmarks.layers import SUITES, Layer, draw_layers, shrunk
from benchmarks.lines import random
from benchmarks.operations import CONVOLUTIONS, case_of
from benchmarks.report import BY_HAND, XCONV, judged
from benchmarks.timing import Stopwatch
from xconv._run.threads import cpu_count
from xconv.demo.backends import load_backend

LAYER = SUITES["resnet50"][2]
SEEDS = st.integers(0, 2**64)


class TestDrawnLayers:
    @given(SEEDS)
    def test_the_same_seed_draws_the_same_layers(self, seed):
        drawn = draw_layers(6, seed)
        assert draw_layers(6, seed) == drawn
        assert draw_layers(3, seed) == drawn[:3]
        assert len({nameless(layer) for layer in drawn}) == 6

    @given(SEEDS)
    def test_layers_are_legal_and_within_bounds(self, seed):
        for layer in draw_layers(8, seed):
            shape = xconv.conv_output_shape(layer.input_shape, layer.weight_shape, **layer.keywords)
            assert (shape, 1 <= len(shape) - 2 <= 3) == (layer.shapes[-1], True)
            assert 1e6 <= layer.multiply_adds <= 3e9
            assert sum(map(math.prod, layer.shapes)) <= 16e6
            assert 1 <= layer.input_shape[0] <= 32
            assert max(layer.input_shape[1], layer.weight_shape[0]) <= 256
            assert max(layer.kernel_size) <= 31
            assert max(layer.stride) <= 3
            assert layer.weight_shape[0] % layer.groups == 0

    @given(SEEDS)
    def test_tiny_ones_are_legal_too(self, seed):
        for layer in draw_layers(8, seed):
            tiny = shrunk(layer)
            assert min(tiny.shapes[-1]) >= 1
            assert (tiny.kernel_size, tiny.dilation, tiny.groups > 1) == (
                layer.kernel_size,
                layer.dilation,
                layer.groups > 1,
            )

    def test_the_default_list_stays_what_it_is(self):
        """Losses are compared from one version to the next, on the same layers."""
        first, *_ = drawn = draw_layers(60, 0)
        assert nameless(first) == Layer("", "", (2, 1, 1786, 1787), (1, 1, 9, 6), (1, 1), (4, 2), (1, 1), 1)
        assert sum(layer.multiply_adds for layer in drawn) == 15_685_391_604

    def test_all_kinds_are_drawn(self):
        drawn = draw_layers(200, 0)
        assert {len(layer.kernel_size) for layer in drawn} == {1, 2, 3}
        assert {max(layer.stride) for layer in drawn} == {1, 2, 3}
        assert {max(layer.dilation) for layer in drawn} == {1, 2, 3}
        assert {max(layer.padding) > 0 for layer in drawn} == {True, False}
        assert {_grouping(layer) for layer in drawn} == {"one", "divisor", "depthwise"}
        assert sum(max(layer.stride) == 1 for layer in drawn) > 100
        assert sum(layer.groups == 1 for layer in drawn) > 100

    def test_names_tell_layers_apart(self):
        drawn = draw_layers(200, 0)
        assert len({layer.name for layer in drawn}) == len(drawn)
        layer = Layer("", "", (4, 6, 8, 9), (12, 2, 3, 5), (2, 1), (1, 2), (2, 2), 3)
        assert layers.name_of(layer) == "3x5/2x1 dilated 2 padded 1x2 in 3 6-12 @4x8x9"


def _grouping(layer):
    return "one" if layer.groups == 1 else "depthwise" if layer.weight_shape[1] == 1 else "divisor"


def made_up(chosen, operation="forward", **seconds):
    """What is kept of a choice whose methods took so many seconds; a text is why one was not timed."""
    found = {name: {"absent": one} if isinstance(one, str) else {"median": one} for name, one in seconds.items()}
    timings = {XCONV: found.pop("auto")} | {BY_HAND + name: one for name, one in found.items()}
    return {"group": "drawn", "name": "a layer", "operation": operation, "chosen": chosen, "timings": timings}


class TestLoss:
    def test_the_best_loses_nothing_however_long_auto_took(self):
        assert judged(made_up("fft", auto=0.01, im2col=3.0, fft=0.1, winograd="no")) == ("fft", 0)

    def test_another_loses_what_its_own_time_says(self):
        assert judged(made_up("im2col", auto=99.0, im2col=3.0, fft=2.0)) == ("fft", pytest.approx(0.5))

    def test_equals_lose_nothing(self):
        assert judged(made_up("toeplitz", auto=1.0, im2col=2.0, toeplitz=2.0))[1] == 0

    def test_summary(self):
        """The geometric mean of what is lost, the 90th percentile, and the worst."""

        def losing(*losses):
            results = [made_up("im2col", auto=1, im2col=1 + loss, fft=1) for loss in losses]
            lines = report.render("choice", a_run(*results)).splitlines()
            return next(cells(line)[2:] for line in lines if line.startswith("| all"))

        mean, _, worst = losing(0.0, 0.0, 3.0)
        assert (mean, worst) == ("58.7%", "300.0%")
        assert losing(*(at / 100 for at in range(101)))[1] == "90.0%"

    def test_operations_apart_and_together(self):
        results = [
            made_up("im2col", auto=1, im2col=2, fft=1),
            made_up("fft", auto=1, im2col=2, fft=1),
            made_up("im2col", "weight_grad", auto=1, im2col=8, fft=1),
        ]
        lines = report.render("choice", a_run(*results)).splitlines()
        rows = [cells(line) for line in lines if line.startswith(("| forward", "| weight_grad", "| all"))]
        assert [row[:3] for row in rows] == [
            ["forward", "2", "41.4%"],
            ["weight_grad", "1", "700.0%"],
            ["all", "3", "152.0%"],
        ]
        assert [row[-1] for row in rows] == ["100.0%", "700.0%", "700.0%"]

    def test_large_losses_are_listed_the_largest_first(self):
        large, small = made_up("im2col", auto=1, im2col=2, fft=1), made_up("im2col", auto=1, im2col=1.5, fft=1)
        text = report.render("choice", a_run(small, large))
        lost = [line for line in text.splitlines() if line.startswith("* ")]
        assert lost == ["* 100%: a layer, forward: im2col, not fft", "* 50%: a layer, forward: im2col, not fft"]
        assert "differed by factors from 1.50 to 2.00; their geometric mean is 1.73" in text


class TestCandidates:
    @pytest.mark.parametrize(
        ("weight_shape", "groups", "operations"),
        [
            ((64, 64, 3, 3), 1, {"forward", "input_grad", "weight_grad"}),
            ((64, 64, 3, 4), 1, set()),
            ((64, 513, 3, 3), 1, {"input_grad", "weight_grad"}),
            ((513, 64, 3, 3), 1, {"forward", "weight_grad"}),
            ((1024, 512, 3, 3), 2, {"forward", "input_grad", "weight_grad"}),
        ],
    )
    def test_winograd_is_one_where_it_is_exact(self, weight_shape, groups, operations):
        layer = dataclasses.replace(LAYER, weight_shape=weight_shape, groups=groups)
        found = {one: self.sides(layer, one, "winograd")[BY_HAND + "winograd"] for one in CONVOLUTIONS}
        assert {one for one, call in found.items() if callable(call)} == operations
        assert all("winograd" in reason or "rounding" in reason for reason in found.values() if isinstance(reason, str))

    def sides(self, layer, operation, *peers):
        small = dataclasses.replace(layer, input_shape=(1, layer.weight_shape[1] * layer.groups, 8, 8))
        return case_of(small, operation, peers, load_backend("numpy")).calls

    def test_others_always_are(self):
        layer = dataclasses.replace(LAYER, weight_shape=(9, 9, 7, 7))
        names = ("im2col", "toeplitz", "fft")
        found = self.sides(layer, "forward", *names)
        assert list(found) == [XCONV, *(BY_HAND + name for name in names)]
        assert all(map(callable, found.values()))


class TestChoiceCommand:
    @pytest.mark.on("numpy", "jax", "torch")
    def test_it_writes_everything(self, backend, tmp_path, capsys):
        out = tmp_path / "new"
        options = ("--backend", backend.name, "--layers", 2, "--seconds", 0.01, "--quick", "--seed", 3, "--out", out)
        assert exit_status("choice", *options) == 0
        run = recorded(out)["choice"]
        assert (run["notes"], run["quick"], run["machine"]["backend"]) == (["Layers of seed 3."], True, backend.name)
        names = [(layer.name, operation) for layer in draw_layers(2, 3) for operation in CONVOLUTIONS]
        assert [(one["name"], one["operation"]) for one in run["results"]] == names
        for one in run["results"]:
            self.check(one, backend.name)
        printed = capsys.readouterr().out
        for words in ("geometric mean", "90th percentile", "worst", "weight_grad", "all", np.__version__):
            assert words in printed

    def check(self, one, backend_name):
        methods = {"im2col", "toeplitz", "fft"} | ({"native"} if backend_name != "numpy" else set())
        assert set(one["timings"]) == {XCONV, BY_HAND + "winograd", *(BY_HAND + name for name in methods)}
        times = {name: found["median"] for name, found in one["timings"].items() if "median" in found}
        assert all(found.get("error", 0) < 1e-3 for found in one["timings"].values())
        assert min(times.values()) > 0
        best, loss = judged(one)
        assert loss == pytest.approx(times[BY_HAND + one["chosen"]] / times[BY_HAND + best] - 1)


SIZES = {"piece": 2**18, "lines": 2**12, "runs": 2**15, "large": 2**20}


def table_of(name):
    return {rate.name: rate for rate in rates.rates_of(load_backend(name))}


PLAIN = table_of("numpy")
FREE = dict.fromkeys(PLAIN, 0.0)  # rates of what takes no time


class TestRates:
    def test_what_else_a_call_does_is_taken_off(self):
        known = FREE | {"operation": 300, "multiplication": 2}
        assert PLAIN["packed"].value(300 + 1806336 * 2 + 451584 * 5, known, SIZES) == pytest.approx(5)
        assert PLAIN["packed"].value(300 + 1806336, known, SIZES) == 0

    @pytest.mark.on("numpy", "jax", "torch")
    def test_the_first_is_the_call_itself_and_others_are_beyond_what_is_further_up(self, backend):
        known = {}
        for name, rate in table_of(backend.name).items():
            assert rate.value(70, known, SIZES) == (0 if known else 70)
            known[name] = 1.0 if known else 70.0
        assert next(iter(known)) == "operation"

    def test_a_number_of_times(self):
        known = FREE | {"operation": 300, "copied": 2}
        assert PLAIN["uncached"].value(300 + 6 * 2**20, known, SIZES) == pytest.approx(3)

    @pytest.mark.parametrize("name", [name for name in PLAIN if name != "uncached"])
    def test_units_are_what_calls_do(self, name):
        """By the arrays that calls take and return: numbers of elements, products, rows or multiply-adds."""
        rate = PLAIN[name]
        result = rates.timed_call(rate, load_backend("numpy"), SIZES)()
        inner = int(rate.on.partition(" ")[0].rpartition("x")[2]) if "matmul" in rate.line else 0
        units = {
            "operation": 1,
            "multiplication": result.size * inner,
            "packed": inner * result.shape[-1],
            "product": len(result),
            "row": len(result),
            "butterfly": 4 * 256**2 * math.log2(256**2),
        }.get(name, result.size)
        assert rate.value(7 * units, FREE, SIZES) == pytest.approx(7)
        besides = {"packed": result.size * inner, "written": result.size * inner, "product": result.size * inner}
        known = FREE | {"multiplication": 2.0, "copied": 3.0}
        others = 2 * besides.get(name, 0) + 3 * result.size * (name == "row")
        assert rate.value(7 * units + others, known, SIZES) == pytest.approx(7)

    @pytest.mark.parametrize(
        ("library", "name", "units"),
        [
            ("jax", "own_multiplication", 256 * 256 * 9 * 28**2),
            ("jax", "own_moved", 8 * 2 * 24 * 56**2),  # of x and y
            ("jax", "own_unfolded", 2 * 40**2 * 24 * 81),  # elements of windows
            ("jax", "own_run", 9 * 256**2),
            ("jax", "own_volume", 20**3 * 16 * 27),
            ("jax", "own_spread", 20**3 * 16 * 27),  # windows at all places of x read all of dy's channels
            ("jax", "own_scattered", 2 * 28**2 * 16 * 25),
            ("torch", "own_multiplication", 256 * 256 * 9 * 28**2),
            ("torch", "own_moved", 8 * 2 * 32 * 56**2),  # of whole registers
            ("torch", "own_unfolded", 8 * 4096 * 16 * 31),
            ("torch", "own_looped", 3 * 36**2 * 17**2),
            ("torch", "own_grouped", 8 * 64 * 28**2 * 13**2),
        ],
    )
    def test_units_of_the_librarys_own(self, library, name, units):
        rate = {rate.name: rate for rate in rates.rates_of(types.SimpleNamespace(name=library))}[name]
        free = FREE | {"own_multiplication": 0.0, "own_moved": 0.0}
        assert rate.value(7 * units, free, SIZES) == pytest.approx(7)

    def test_time_is_divided_among_all_copies_and_repetitions(self, monkeypatch):
        """Of three threads, each of which does its own work four times, in calls that take a second."""
        one_second = {"operation": {"median": 1.0, "rounds": 7}}
        stopwatch = types.SimpleNamespace(interleave=lambda calls: one_second)
        monkeypatch.setattr(rates, "on_all_processors", lambda make: (lambda: None, 3 * 4))
        found = rates.measure_rates([PLAIN["operation"]], load_backend("numpy"), stopwatch, quick=True)
        assert found == {"operation": pytest.approx(1e9 / 12)}

    def test_numpy_works_on_all_processors_with_one_blas_thread_each(self, monkeypatch):
        """Each call waits for the others: on fewer threads it would wait in vain."""
        meeting, blas_threads = threading.Barrier(cpu_count()), set()

        def call():
            blas_threads.update(pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"])
            meeting.wait(timeout=10)

        monkeypatch.setattr(Stopwatch, "pace", lambda self, call: 1.0)
        together, count = rates.on_all_processors(lambda: call)
        together()
        assert (count, blas_threads) == (cpu_count(), {1})

    def test_short_work_is_repeated(self, monkeypatch):
        monkeypatch.setattr(Stopwatch, "pace", lambda self, call: rates.TASK_SECONDS / 7.5)
        done = []
        together, count = rates.on_all_processors(lambda: lambda: done.append(1))
        together()
        assert count == len(done) == cpu_count() * 8

    @pytest.mark.on("numpy", "jax", "torch")
    def test_plain_calls_do_what_they_say(self, backend):
        library = load_backend(backend.name)

        def call(line, on):
            return rates.timed_call(rates.Rate("", "", "", "", line, on), library, {})

        calls = {
            "product": (call("matmul(x, w)", "4x3x5 * 4x5x2"), random((4, 3, 5)) @ random((4, 5, 2))),
            "add": (call("add(x, w)", "16 * 16"), 2 * random((16,))),
            "strided": (call("copy(x[::2])", "10"), random((10,))[::2]),
            "transform": (call("rfft2(x)", "3x8"), np.fft.rfft2(random((3, 8)))),
        }
        for call, expected in calls.values():
            assert library.to_numpy(call()) == pytest.approx(expected, abs=1e-5)

    def test_rows_are_written_as_they_stand_in_the_package(self, tmp_path):
        rows = json.loads(rates.MEASURED_FILE.read_text())
        assert {*rows["numpy"]} == {*rows["cupy"]} < {*rows["jax"]} & {*rows["torch"]}
        for name, row in rows.items():
            rates.write_row(name, row, tmp_path / "measured.json")
            assert (tmp_path / "measured.json").read_text() == rates.MEASURED_FILE.read_text()

    @pytest.mark.on("numpy", "jax", "torch")
    def test_it_writes_every_rate(self, backend, tmp_path, capsys):
        assert exit_status("rates", "--backend", backend.name, "--quick", "--seconds", 0.01, "--out", tmp_path) == 0
        found = {rate["name"]: rate for rate in recorded(tmp_path)["rates"]["results"]}
        assert list(found) == [*table_of(backend.name)]
        assert (len(found) > len(PLAIN)) is (backend.name != "numpy")
        assert all(0 <= rate["value"] < math.inf for rate in found.values())
        printed = capsys.readouterr().out
        assert all(name in printed for name in found)


class TestFilters:
    def test_means_are_geometric_and_of_a_group(self):
        pairs = (("one", 1.0, 2.0), ("one", 1.0, 8.0), ("two", 2.0, 1.0))
        results = [
            {
                "group": group,
                "name": f"on {other}",
                "operation": "float32",
                "timings": {"xconv": {"median": own}, "other": {"median": other}},
            }
            for group, own, other in pairs
        ]
        rows = [cells(line) for line in report.render("filter", a_run(*results)).splitlines()]
        assert ["one", "other", "4.00 (2.00)"] in rows
        assert ["two", "other", "0.500"] in rows
        assert ["one", "on 8.0", "float32", "1000", "8.00"] in rows

    def test_it_writes_every_ratio(self, numpy_backend, tmp_path, capsys):
        assert exit_status("--suite", "filter", "--quick", "--out", tmp_path) == 0
        found = recorded(tmp_path)["filter"]["results"]
        kinds = {(one["group"], one["operation"]) for one in found}
        groups = ("correlate", "smooth", "rgb", "maximum", "convolve", "fir")
        floats = {(group, f"float{bits}") for group in groups for bits in (32, 64)}
        assert kinds == floats | {("correlate", "uint8")}
        assert all("scipy" in one["timings"] for one in found)
        sides = {side for one in found for side in one["timings"]}
        assert sides == {"xconv", "scipy", "in blocks", "by fft", "opencv", *(["torch"] * ("torch" in sys.modules))}
        assert "Others' time / xconv's time" in capsys.readouterr().out

    def test_lines_of_what_is_not_installed_are_left_out(self, numpy_backend, tmp_path, monkeypatch):
        importlib.import_module("scipy.stats")  # which looks for PyTorch when it is imported
        for package in ("cv2", "torch"):
            monkeypatch.setitem(sys.modules, package, None)
        assert exit_status("--suite", "filter", "--quick", "--out", tmp_path) == 0
        assert set(recorded(tmp_path)["filter"]["results"][0]["timings"]) == {"xconv", "scipy"}

    def test_on_cupy_scipys_lines_are_those_of_cupyx(self, monkeypatch):
        import scipy.ndimage
        import scipy.signal

        modules = {"cupyx": types.SimpleNamespace(scipy=scipy), "cupyx.scipy": scipy}
        modules |= {"cupyx.scipy.ndimage": scipy.ndimage, "cupyx.scipy.signal": scipy.signal}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        run = types.SimpleNamespace(library=types.SimpleNamespace(name="cupy", compile=lambda function: function))
        row, image = filters.ROWS["smooth"][0], random((9, 8))
        calls = filters.calls_of(row, run, 2, {"x": image})
        assert list(calls) == ["xconv", "scipy"]
        assert np.array_equal(calls["scipy"](), scipy.ndimage.gaussian_filter(image, 2))

    def test_a_wrong_result_fails_the_run(self, numpy_backend, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(xconv.ndimage, "maximum_filter", lambda image, size: 2 * image)
        assert exit_status("--suite", "filter", "--quick", "--out", tmp_path) == 1
        assert "maximum" in last_complaint(capsys.readouterr())


class TestChunked:
    @pytest.mark.parametrize(
        ("suite", "sides", "count"),
        [("chunked", {"xconv", "dask-image", "map_overlap"}, 2), ("workers", {"xconv", "first", "second"}, 1)],
    )
    def test_it_writes_every_ratio(self, numpy_backend, tmp_path, suite, sides, count):
        pytest.importorskip("dask_image", reason="dask-image is not installed")
        assert exit_status(suite, "--quick", "--out", tmp_path) == 0
        run = recorded(tmp_path)[suite]
        assert [{name for name in one["timings"] if "median" in one["timings"][name]} for one in run["results"]] == (
            [sides] * count
        )
        assert len(run["notes"]) == (2 if suite == "chunked" else 0)
