"""The command line: what it writes, what it says, and the exit status of every way it can end."""

from __future__ import annotations

import dataclasses
import errno
import html
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types

import matplotlib.image
import numpy as np
import pytest
from commands import assert_one_complaint, assert_picture, exit_status

import xconv
from xconv.demo import check, files, train
from xconv.demo.backends import BACKENDS, Backend
from xconv.demo.data import load_digits
from xconv.demo.errors import CommandError, require_packages
from xconv.demo.learning import Momentum

FIGURES = {"learning_curves.png", "filters.png", "misclassified.png"}
FILES = {"weights.npz", "history.json", *FIGURES}
NUMPY = BACKENDS[0]


def words(capsys):
    """What was printed, however the lines were broken, which fit 80 columns but for names of files."""
    printed = capsys.readouterr().out
    assert max([len(line) for line in printed.splitlines() if " " in line.strip()]) <= 80
    return " ".join(printed.split())


@pytest.fixture
def few_digits(monkeypatch):
    """A training of 200 digits and a test of 100, which take no time."""
    digits, held_out = load_digits()
    monkeypatch.setattr(train, "load_digits", lambda: (digits[:200], held_out[:100]))


def spoiled(results):
    """A thousandth too large: what no rounding does and no eye sees."""
    return tuple(map(spoiled, results)) if isinstance(results, tuple) else results * np.float32(1.001)


@pytest.fixture
def one_case(monkeypatch):
    """Some backends compile long."""
    monkeypatch.setattr(check, "CASES", check.CASES[:1])


@pytest.fixture
def only_numpy(monkeypatch):
    absent = Backend("absent_library", ("absent",), lambda module: [], None, None)
    monkeypatch.setattr("xconv.demo.backends.BACKENDS", (NUMPY, absent))


def interrupt_after(monkeypatch, steps):
    """Let Ctrl-C come in the middle of a step."""
    original, taken = Momentum.step, []

    def step(self, rate):
        taken.append(rate)
        if len(taken) > steps:
            raise KeyboardInterrupt
        original(self, rate)

    monkeypatch.setattr(Momentum, "step", step)


class TestTrain:
    def test_writes_weights_history_and_figures(self, few_digits, tmp_path, capsys):
        out = tmp_path / "new" / "folder"
        assert exit_status("train", "--epochs", 2, "--batch-size", 60, "--seed", 3, "--out", out) == 0
        assert {path.name for path in out.iterdir()} == FILES
        for name in FIGURES:
            assert_picture(out / name)
        history = json.loads((out / "history.json").read_text())
        assert (history["backend"], history["seed"], history["batch_size"], history["epochs"]) == ("numpy", 3, 60, 2)
        assert len(history["step_loss"]) == len(history["step_accuracy"]) == 8
        assert history["tested_after"] == [4, 8]
        assert len(history["held_out_accuracy"]) == len(history["held_out_loss"]) == 2
        assert history["interrupted"] is False
        printed = capsys.readouterr().out
        assert "epoch 2/2" in printed
        assert "images/s" in printed
        assert f"{history['held_out_accuracy'][-1]:.1%} of the 100 held-out digits" in printed

    def test_the_weights_are_those_of_the_network(self, few_digits, tmp_path):
        assert exit_status("train", "--epochs", 1, "--out", tmp_path) == 0
        with np.load(tmp_path / "weights.npz") as weights:
            shapes = {name: weights[name].shape for name in weights.files}
            dtypes = {str(weights[name].dtype) for name in weights.files}
        assert shapes["conv1.W"] == (16, 1, 5, 5)
        assert shapes["conv2.W"] == (32, 16, 3, 3)
        assert shapes["affine2.b"] == (10,)
        assert len(shapes) == 8
        assert dtypes == {"float32"}

    def test_the_same_seed_gives_the_same_losses(self, few_digits, tmp_path):
        losses = []
        for seed in (1, 1, 2):
            assert exit_status("train", "--epochs", 1, "--seed", seed, "--out", tmp_path) == 0
            losses.append(json.loads((tmp_path / "history.json").read_text())["step_loss"])
        assert losses[0] == losses[1] != losses[2]

    @pytest.mark.parametrize("steps", [0, 3, 5])
    def test_ctrl_c_keeps_what_was_learned(self, steps, few_digits, tmp_path, capsys, monkeypatch):
        interrupt_after(monkeypatch, steps)
        assert exit_status("train", "--epochs", 2, "--out", tmp_path) == 130
        assert {path.name for path in tmp_path.iterdir()} == FILES
        for name in FIGURES:
            assert_picture(tmp_path / name)
        history = json.loads((tmp_path / "history.json").read_text())
        assert history["interrupted"] is True
        assert len(history["step_loss"]) == steps
        assert history["tested_after"][-1] == steps, "the digits must be tested with the weights that are kept"
        lines = [line for line in capsys.readouterr().out.splitlines() if "interrupted" in line]
        assert lines == [f"interrupted after {steps} of 8 steps: what was learned so far is kept"]

    @pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
    def test_memory_that_is_missing_is_one_sentence(self, error, tmp_path, capsys, monkeypatch):
        """Of a library's code as well, while it is loaded."""

        def fail():
            raise error

        monkeypatch.setattr(train, "load_digits", fail)
        assert exit_status("train", "--out", tmp_path) == 2
        assert_one_complaint(capsys.readouterr(), "xconv train: out of memory")

    def test_a_package_that_cannot_be_loaded_is_not_called_missing(self, tmp_path, capsys, monkeypatch):
        (tmp_path / "broken_package.py").write_text("raise ImportError('failed to map segment from shared object')")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(CommandError) as refused:
            require_packages(("broken_package",))
        assert str(refused.value) == "broken_package cannot be loaded: failed to map segment from shared object"
        with pytest.raises(CommandError) as refused:
            require_packages(("absent_package",))
        assert str(refused.value).startswith("absent_package not found: pip install")

    def test_ctrl_c_before_the_training_is_one_sentence(self, tmp_path, capsys, monkeypatch):
        def interrupted():
            raise KeyboardInterrupt

        monkeypatch.setattr(train, "load_digits", interrupted)
        assert exit_status("train", "--out", tmp_path) == 130
        assert_one_complaint(capsys.readouterr(), "xconv train: interrupted")
        assert not list(tmp_path.iterdir())


class TestColumns:
    """What is printed fits 80 columns, but for a name of a file that is longer."""

    @pytest.mark.parametrize(
        "arguments",
        [
            *([], ["--help"], ["--version"], ["info"], ["check"], ["gallery"], ["figure"]),
            ["train", "--epochs", "1"],
            ["filter", "in.npy", "out.npy", "--kernel", "gaussian:1", "--chunks", "8,8,4", "--picture", "seen.png"],
            *([command, "--help"] for command in ("train", "info", "check", "gallery", "figure", "filter")),
        ],
        ids=" ".join,
    )
    def test_every_command(self, arguments, few_digits, one_case, only_numpy, tmp_path, capsys, monkeypatch):
        if arguments[:1] == ["filter"] and "--help" not in arguments:
            pytest.importorskip("dask", reason="dask is not installed")
        if arguments == ["gallery"]:
            gallery = pytest.importorskip("xconv.demo.gallery", reason="scipy is not installed")
            monkeypatch.setattr(gallery, "PAGES", gallery.PAGES[:1])
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "80")
        np.save("in.npy", np.ones((40, 50, 4)))
        assert exit_status(*arguments) == 0
        assert words(capsys)

    def test_a_long_name_stays_whole(self, few_digits, tmp_path, capsys):
        folder = tmp_path / ("long" * 20)
        assert exit_status("train", "--epochs", "1", "--out", folder) == 0
        lines = capsys.readouterr().out.splitlines()
        assert str(folder) in lines
        assert max(len(line) for line in lines if line != str(folder)) <= 80

    def test_the_table_of_four_libraries_with_devices_of_long_names(self, one_case, only_numpy, capsys, monkeypatch):
        (module := types.ModuleType("module")).__version__ = "2.13.0+cu130"
        numpy = dataclasses.replace(NUMPY.load(), module=module)
        names = ("cpu", *3 * ["cuda:0 (NVIDIA GeForce RTX 4090)"])
        found = [dataclasses.replace(numpy, devices=(name,)) for name in names]
        monkeypatch.setattr(check, "find_backends", lambda: (found, {}))
        assert exit_status("check") == 0
        printed = words(capsys)
        assert all(f"│ {name} │" in printed for name in check.CHECKS)
        assert printed.count("ok") == 4 * len(check.CHECKS) * len(check.DTYPES)

    def test_a_plan(self):
        plan = xconv.plan((1, 1, 512, 512), (1, 1, 31, 31), xp=np, dtype=np.float64)
        assert max(map(len, str(plan).splitlines())) <= 80
        assert str(plan).split() == repr(plan).split()


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["predict"], ["'predict'", "train"]),
            (["train", "--backend", "tensorflow"], ["'tensorflow'", "numpy", "jax", "torch", "cupy"]),
            (["train", "--epochs", "0"], ["--epochs", "at least 1", "'0'"]),
            (["train", "--epochs", "two"], ["--epochs", "whole number", "'two'"]),
            (["train", "--batch-size", "-1"], ["--batch-size", "at least 1", "'-1'"]),
            (["train", "--batch-size", "1.5"], ["--batch-size", "whole number", "'1.5'"]),
            (["train", "--seed", "-3"], ["--seed", "at least 0", "'-3'"]),
            (["train", "--lr", "1"], ["--lr"]),
            (["figure", "--out", "figure.jpg"], ["--out", ".png", "'figure.jpg'"]),
            (["info", "now"], ["now"]),
            (["check", "--backend", "tensorflow"], ["xconv check: ", "'tensorflow'", "numpy"]),
        ],
    )
    def test_wrong_arguments(self, arguments, parts, capsys):
        assert exit_status(*arguments) == 2
        captured = capsys.readouterr()
        assert_one_complaint(captured, "xconv", *parts)
        assert captured.out == ""

    @pytest.mark.parametrize(
        ("command", "package"),
        [
            ("train", "mlxtend"),
            ("train", "matplotlib"),
            ("train", "rich"),
            ("check", "rich"),
            ("figure", "matplotlib"),
            ("gallery", "scipy"),
        ],
    )
    def test_missing_extra(self, command, package, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        assert exit_status(command) == 2
        assert_one_complaint(capsys.readouterr(), f"xconv {command}: {package}", "pip install '.[demo]'")

    @pytest.mark.parametrize(
        ("name", "commands"),
        [
            ("jax", ["pip install '.[jax]'"]),
            ("torch", ["pip install '.[torch]'"]),
            ("cupy", ["pip install '.[cuda12]'", "pip install '.[cuda13]'"]),
        ],
    )
    def test_missing_backend(self, name, commands, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, name, None)
        assert exit_status("train", "--backend", name, "--out", tmp_path) == 2
        assert_one_complaint(capsys.readouterr(), f"xconv train: {name} is not installed", *commands)

    def test_out_is_a_file(self, tmp_path, capsys):
        (tmp_path / "taken").write_text("mine")
        assert exit_status("train", "--out", tmp_path / "taken") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {tmp_path / 'taken'}: it is a file")
        assert (tmp_path / "taken").read_text() == "mine"

    def test_out_is_below_a_file(self, tmp_path, capsys):
        (tmp_path / "taken").write_text("mine")
        assert exit_status("train", "--out", tmp_path / "taken" / "folder") == 2
        assert_one_complaint(capsys.readouterr(), "cannot write to", "Not a directory")

    def test_out_is_not_writable(self, tmp_path, capsys, monkeypatch):
        def refuse(**keywords):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
        assert exit_status("train", "--out", tmp_path) == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {tmp_path}: Permission denied")

    def test_out_stops_being_writable(self, few_digits, tmp_path, capsys):
        (tmp_path / "history.json").mkdir()
        assert exit_status("train", "--epochs", 1, "--out", tmp_path) == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {tmp_path}", "directory")

    def test_figure_is_a_folder(self, tmp_path, capsys):
        (tmp_path / "folder.png").mkdir()
        assert exit_status("figure", "--out", tmp_path / "folder.png") == 2
        assert_one_complaint(capsys.readouterr(), "xconv figure: cannot write to", "directory")


class TestInfo:
    def test_in_a_process_of_its_own(self):
        result = subprocess.run(
            [sys.executable, "-m", "xconv", "info"], capture_output=True, text=True, timeout=120, check=False
        )
        assert result.returncode == 0, result.stderr
        assert f"xconv {xconv.__version__}" in result.stdout
        assert np.__version__ in result.stdout
        lines = result.stdout.splitlines()
        assert {backend.name for backend in BACKENDS} <= {line.split()[0] for line in lines if line.strip()}

    def test_needs_no_extra_and_says_what_is_missing(self, capsys, monkeypatch):
        for name in ("jax", "torch", "cupy", "rich", "matplotlib", "mlxtend", "dask", "zarr"):
            monkeypatch.setitem(sys.modules, name, None)
        assert exit_status("info") == 0
        printed = words(capsys)
        for extra in ("jax", "torch", "cuda12", "cuda13", "cudnn12", "cudnn13", "dask", "demo"):
            assert f"pip install '.[{extra}]'" in printed
        assert "matplotlib, mlxtend, rich not found" in printed

    def test_cupy_without_a_device(self, capsys, monkeypatch):
        def no_device():
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

        cupy = types.ModuleType("cupy")
        cupy.__version__, cupy.ndarray = "13.6.0", type("ndarray", (), {})
        cupy.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=no_device))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        assert exit_status("info") == 0
        reason = "cupy 13.6.0 is installed but finds no CUDA device: cudaErrorNoDevice"
        assert reason in words(capsys)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("import not_there_at_all", "needs not_there_at_all, which is not installed"),
            ("raise ImportError('libcublas.so.12: cannot open\\nmore')", "cannot be imported: libcublas.so.12: cannot"),
            ("raise OSError('bad library')", "is installed but cannot be imported: bad library"),
        ],
    )
    def test_broken_backend(self, text, reason, tmp_path, capsys, monkeypatch):
        (tmp_path / "broken_library.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        broken = Backend("broken_library", ("torch",), lambda module: [], None, None)
        monkeypatch.setattr("xconv.demo.backends.BACKENDS", (NUMPY, broken))
        assert exit_status("info") == 0
        printed = words(capsys)
        assert reason in printed
        assert "more" not in printed


class TestCheck:
    def test_passes_on_every_backend_found(self, one_case, capsys):
        assert exit_status("check") == 0
        printed = capsys.readouterr().out
        assert "numpy" in printed
        assert "all passed" in printed
        assert "FAILED" not in printed

    def test_of_one_backend(self, one_case, capsys, monkeypatch):
        assert exit_status("check", "--backend", "numpy") == 0
        printed = words(capsys)
        assert printed.count("ok") == len(check.CHECKS) * len(check.DTYPES)
        monkeypatch.setitem(sys.modules, "jax", None)
        assert exit_status("check", "--backend", "jax") == 2
        assert_one_complaint(capsys.readouterr(), "xconv check: jax is not installed")

    def test_passes_in_every_case(self, only_numpy, capsys):
        assert exit_status("check") == 0
        printed = words(capsys)
        assert printed.count("ok") == len(check.CHECKS) * len(check.DTYPES)
        assert "not checked: absent_library is not installed: pip install '.[absent]'" in printed

    @pytest.mark.parametrize(
        "name",
        [
            *("conv", "conv_transpose", "conv_backward", "conv_input_grad", "im2col", "col2im"),
            *("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"),
        ],
    )
    def test_fails_with_the_numbers(self, name, one_case, only_numpy, capsys, monkeypatch):
        function = getattr(xconv, name)
        monkeypatch.setattr(xconv, name, lambda *operands, **keywords: spoiled(function(*operands, **keywords)))
        assert exit_status("check") == 1
        printed = words(capsys)
        assert "FAILED" in printed
        assert "all passed" not in printed
        assert "at most 3.1e-05 was expected" in printed

    @pytest.mark.parametrize(
        ("result", "reason"),
        [
            (np.zeros((1, 1)), "a result has the shape (1, 1)"),
            (np.nan, "error nan, at most"),
            (RuntimeError("out of memory\nat line 3"), "RuntimeError: out of memory"),
        ],
    )
    def test_fails_whatever_goes_wrong(self, result, reason, one_case, only_numpy, capsys, monkeypatch):
        def broken(x, **keywords):
            if isinstance(result, Exception):
                raise result
            return result if np.ndim(result) else original(x, **keywords) * result

        original = xconv.avg_pool
        monkeypatch.setattr(xconv, "avg_pool", broken)
        assert exit_status("check") == 1
        assert reason in words(capsys)


@pytest.fixture(scope="module")
def gallery_folder(tmp_path_factory):
    pytest.importorskip("scipy", reason="scipy is not installed")
    folder = tmp_path_factory.mktemp("gallery")
    assert exit_status("gallery", "--out", folder) == 0
    return folder


class TestGallery:
    def page(self, name):
        pages, gallery = importlib.import_module("xconv.demo.pages"), importlib.import_module("xconv.demo.gallery")
        return getattr(pages, name)(gallery.read_picture())

    def test_one_file_holds_all_pictures_with_their_lines(self, gallery_folder):
        document = (gallery_folder / "index.html").read_text()
        pages = importlib.import_module("xconv.demo.pages").PAGES
        drawn = [page for page in pages if (gallery_folder / f"{page.__name__}.png").exists()]
        assert len(pages) == document.count("<h2>") == document.count("<pre>")
        assert document.count('src="data:image/png;base64,') == len(drawn) >= len(pages) - 1  # one needs Dask
        assert not re.search(r"https?://|(src|href)=\"(?!data:)", document)  # nothing is asked of a network
        for page in drawn:
            picture = gallery_folder / f"{page.__name__}.png"
            assert_picture(picture)
            assert matplotlib.image.imread(picture).shape[1] == 1440  # 9.6 inches: the page is as wide

    @pytest.mark.parametrize("number", range(6))
    def test_lines_run_when_they_are_pasted(self, number, gallery_folder):
        pages, gallery = importlib.import_module("xconv.demo.pages"), importlib.import_module("xconv.demo.gallery")
        page = pages.PAGES[number]
        if page is pages.by_chunks:
            pytest.importorskip("dask", reason="dask is not installed")
        document = (gallery_folder / "index.html").read_text()
        namespace = {}
        exec(html.unescape(re.findall("<pre>(.*?)</pre>", document, re.DOTALL)[number]), namespace)
        redrawn = gallery._draw(namespace["shown"], gallery.ADORNED.get(page.__name__))
        redrawn.savefig(pixels := io.BytesIO(), format="png")
        pixels.seek(0)
        pictures = [matplotlib.image.imread(file) for file in (pixels, gallery_folder / f"{page.__name__}.png")]
        assert np.abs(np.subtract(*pictures)).max() <= 2 / 255  # a last bit may round to another gray

    def test_a_picture_in_chunks_shows_their_ends(self):
        da = pytest.importorskip("dask.array", reason="dask is not installed")
        gallery = importlib.import_module("xconv.demo.gallery")
        axes = gallery._draw({"it": da.ones((20, 30), chunks=(10, 15))}, None).axes[0]
        assert [np.asarray(line.get_data()).tolist() for line in axes.lines] == [
            [[0, 1], [9.5, 9.5]],
            [[14.5, 14.5], [0, 1]],
        ]

    def test_what_is_compared_has_one_scale(self):
        gallery = importlib.import_module("xconv.demo.gallery")
        shown = {"wide": np.diag([1.0, 9.0]), "narrow": np.eye(3), "wider": np.diag([-5.0, 20.0])}
        figure = gallery._draw(shown, gallery.ADORNED["deconvolution"])
        assert {axes.images[0].get_clim() for axes in figure.axes} == {(0, 9)}

    def test_what_is_looked_for_is_found(self):
        shown = self.page("template_matching")
        assert np.array_equal(shown["what is there"], shown["the picture"][165:225, 180:290])
        assert shown["score"].max() < 1

    def test_deconvolution_is_nearer_to_the_picture(self):
        shown = self.page("deconvolution")
        sharp, seen, found = shown.values()
        assert np.linalg.norm(found - sharp) < 0.5 * np.linalg.norm(seen - sharp)

    def test_a_missing_package_is_said(self, tmp_path, capsys, monkeypatch):
        gallery = importlib.import_module("xconv.demo.gallery")
        monkeypatch.setitem(sys.modules, "dask.array", None)
        monkeypatch.setattr(gallery, "PAGES", gallery.PAGES[-1:])
        assert exit_status("gallery", "--out", tmp_path) == 0
        assert "by chunks is left out: " in words(capsys)
        assert "Left out: " in (tmp_path / "index.html").read_text()

    def test_lines_are_few_and_name_what_they_need(self):
        pages, gallery = importlib.import_module("xconv.demo.pages"), importlib.import_module("xconv.demo.gallery")
        for page in pages.PAGES:
            setup, _, own = gallery.lines_of(page).partition("\n\n")
            assert len(own.splitlines()) <= 16, page
            words = re.findall(r"\w+", re.sub(r'"[^"]*"', "", own))
            for name, line in gallery.IMPORTS.items():
                assert (line in setup) == (name in words), (page, name)

    def test_a_browser_shows_it(self, gallery_folder, tmp_path):
        """Every picture in its own size, no line cut, and nothing asked of a network."""
        found = self.seen_by_a_browser(gallery_folder / "index.html", tmp_path)
        pages = importlib.import_module("xconv.demo.pages").PAGES
        drawn = [page for page in pages if (gallery_folder / f"{page.__name__}.png").exists()]
        assert found["asked"] == []
        assert found["hidden"] == 0
        assert len(found["pictures"]) == len(drawn)
        assert found["height"] > 2000
        pixels = matplotlib.image.imread(tmp_path / "screen.png")[..., :3].mean(axis=2)
        assert pixels.shape[0] == found["height"]
        for left, top, width, height, sharp in found["pictures"]:
            assert sharp >= width >= 900  # text of 10 points is read as such
            part = pixels[int(top) : int(top + height), int(left) : int(left + width)]
            assert part.shape == (int(top + height) - int(top), int(left + width) - int(left))
            assert part.std() > 0.1
            assert part.max() == 1
        ink = np.flatnonzero((pixels < 0.3).any(axis=1))
        assert ink[0] < 100
        assert ink[-1] > found["height"] - 100, "the page ends early"

    def seen_by_a_browser(self, page, folder):
        """What a script in a copy of the page finds, and ``screen.png``, as high as the page."""
        names = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
        browser = next(filter(None, map(shutil.which, names)), None)
        if browser is None:
            pytest.skip(f"no browser is installed: none of {', '.join(names)}")
        script = """<script>
            const own = name => name.startsWith("data:") || name.startsWith("file:")
            const place = image => { const box = image.getBoundingClientRect()
                return [box.left, box.top, box.width, box.height, image.naturalWidth] }
            onload = () => document.body.append(Object.assign(document.createElement("code"), {
                id: "found", hidden: true, textContent: JSON.stringify({
                    asked: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !own(name)),
                    hidden: [...document.querySelectorAll("pre, body")].filter(
                        part => part.scrollWidth > part.clientWidth).length,
                    pictures: [...document.images].filter(image => image.complete && image.naturalWidth).map(place),
                    height: document.documentElement.scrollHeight})}))
        </script>"""
        copy = folder / "copy.html"
        copy.write_text(page.read_text().replace("</html>", f"{script}</html>"))
        quiet = ("quic", "background-networking", "component-update", "sync", "gpu", "extensions", "default-apps")
        options = [
            *("--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={folder}/browser"),
            *(f"--disable-{name}" for name in quiet),
        ]

        def call(height, *more):
            command = [browser, *options, f"--window-size=1000,{height}", *more, copy.as_uri()]
            return subprocess.run(command, check=True, timeout=120, capture_output=True, text=True).stdout

        dom = call(800, "--dump-dom")
        found = json.loads(html.unescape(re.search('id="found"[^>]*>(.*?)</code>', dom, re.DOTALL)[1]))
        call(found["height"], f"--screenshot={folder / 'screen.png'}")
        return found


class TestFigure:
    def test_draws_a_picture(self, tmp_path, capsys):
        out = tmp_path / "new" / "im2col.png"
        assert exit_status("figure", "--out", out) == 0
        assert_picture(out)
        assert str(out) in capsys.readouterr().out


class TestClosedPipe:
    """As ``| head`` leaves it: the command ends, and says nothing."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ["info"],
            ["check"],
            ["figure", "--out", "FOLDER/a.png"],
            ["train", "--epochs", "1", "--out", "FOLDER"],
            ["--help"],
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_no_traceback(self, arguments, tmp_path):
        few_digits = (
            "import xconv.demo.train as train\n"
            "few = tuple(digits[:50] for digits in train.load_digits())\n"
            "train.load_digits = lambda: few\n"
        )
        code = (
            "import sys, xconv.demo.backends as backends, xconv.__main__ as main\n"
            "backends.BACKENDS = backends.BACKENDS[:1]\n"
            f"{few_digits if arguments[0] == 'train' else ''}"
            f"sys.exit(main.main({[argument.replace('FOLDER', str(tmp_path)) for argument in arguments]}))"
        )
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.wait(timeout=120) == 1 or arguments == ["--help"]  # argparse may say nothing of it

    def test_as_a_module(self):
        command = [sys.executable, "-m", "xconv", "info"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 1


class TestNoOutput:
    @pytest.mark.parametrize(
        ("target", "status", "said"),
        [("/dev/full", 2, "xconv: cannot write: No space left on device\n"), ("&-", 0, "")],
        ids=["full", "closed"],
    )
    @pytest.mark.parametrize("arguments", ['figure --out "$1"', "info"])
    def test_no_traceback(self, target, status, said, arguments, tmp_path):
        if target == "/dev/full" and not os.path.exists(target):
            pytest.skip("this system has no device that is always full")
        command = [*("sh", "-c", f'"$0" -m xconv {arguments} >{target}'), sys.executable, tmp_path / "a.png"]
        result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
        assert (result.returncode, result.stderr) == (status, said)


class TestImports:
    @pytest.mark.parametrize("module", ["xconv", "xconv.__main__"])
    def test_load_no_library(self, module):
        heavy = ["numpy", "jax", "torch", "cupy", "rich", "matplotlib", "mlxtend", "dask", "zarr"]
        code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert result.stdout.strip() == "[]"

    def test_the_library_does_not_load_the_demo(self):
        code = "import sys, xconv; print('xconv.demo' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
        assert result.stdout.strip() == "False"

    def test_version_and_help(self, capsys):
        assert exit_status("--version") == 0
        assert capsys.readouterr().out == f"xconv {xconv.__version__}\n"
        for arguments in (["--help"], []):
            assert exit_status(*arguments) == 0
            printed = words(capsys)
            for command in ("train", "info", "check", "figure", "gallery", "filter"):
                assert command in printed
