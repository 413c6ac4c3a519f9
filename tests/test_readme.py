"""The READMEs: their examples on every library they name, and their promises about the code."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import types
import warnings
from typing import Literal

import numpy as np
import pytest
from conftest import loaded_or_skip

import xconv
from xconv import _conv, _methods
from xconv._arrays.libraries import Library
from xconv._methods.maps import Maps
from xconv._plan import arguments, borders
from xconv._plan.task import Steps, Variant

ROOT, PACKAGE = pathlib.Path(__file__).parents[1], pathlib.Path(xconv.__file__).parent  # which may be installed
README, INSIDE = ROOT / "README.md", PACKAGE / "README.md"
IMPORTS = {"numpy": "numpy", "cupy": "cupy", "jax": "jax.numpy", "torch": "torch"}

# Each row of the table of libraries, and the test that backs what it says about xconv.
COMPARISON = {
    "spatial axes, with batch and channels": "test_forward_equals_the_loops_s1",
    "groups, depthwise included": "test_gradients_equal_the_loops_s5",
    "stride and dilation together": "test_drawn_convolutions_equal_the_loops",
    "asymmetric padding": "test_drawn_convolutions_equal_the_loops",
    '"same" with a stride': "test_forward_equals_the_loops_s1",
    "reflect, symmetric, replicate, circular padding": "test_forward_equals_the_loops_s1",
    "transposed convolution, the adjoint in every padding mode": "test_conv_transpose_is_the_adjoint_of_conv",
    "gradients as functions": "test_single_gradients_equal_the_loops",
    "im2col and its adjoint": "test_windows_of_every_dtype",
    "integers": "test_integers_wrap_as_the_dtype_does",
    "complex, gradients conjugated": "test_complex_gradients_are_the_adjoint",
    "half precision summed in float32": "test_a_long_sum_keeps_what_half_precision_would_lose",
    "flipped filters": "test_conv_is_correlation_and_flip_makes_it_convolution_s8",
    "ceil_mode, dilation and asymmetric padding in pools": "test_drawn_pools_equal_the_loops",
    "arrays it takes": "test_results_share_the_inputs_library_and_device",
}


def section(path, title):
    """The text under a heading."""
    return path.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text):
    """Those of the table in a text, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def first_example():
    """The first python block of the README."""
    return README.read_text().split("```python\n")[1].split("```")[0]


@pytest.mark.parametrize("name", IMPORTS)
def test_first_example_runs_on_every_library_it_names(name, request):
    loaded_or_skip(name, request)
    example = first_example()
    assert f"import {IMPORTS[name]} as xp" in example
    code = example.replace("import numpy as xp", f"import {IMPORTS[name]} as xp", 1)
    test = doctest.DocTestParser().get_doctest(code, {}, f"README on {name}", str(README), 0)
    outcome = doctest.DocTestRunner().run(test)
    assert outcome.attempted >= 6
    assert outcome.failed == 0


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 170
    assert len(first_example().strip().splitlines()) <= 15


def test_the_first_table_has_every_function():
    text = section(README, "Functions")
    named = set(re.findall(r"`(?:ndimage\.|signal\.|testing\.)?(\w+)", text))
    assert {*xconv.__all__, *xconv.testing.__all__, *xconv.signal.__all__} - named <= {
        "layers",
        "ndimage",
        "signal",
        "testing",
    }
    assert {name.removesuffix("1d") for name in xconv.ndimage.__all__} <= named


def test_every_row_of_the_comparison_has_its_test():
    assert [row[0] for row in rows(section(INSIDE, "Beside other libraries"))] == list(COMPARISON)
    tests = {
        node.name
        for path in pathlib.Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert set(COMPARISON.values()) <= tests


def test_the_number_of_onnx_cases_is_the_one_that_passes():
    from test_onnx import ADAPTERS, COUNTS, OUT_OF_SCOPE

    passing = sum(COUNTS[operator] for operator in ADAPTERS) - sum(name.startswith("test_") for name in OUT_OF_SCOPE)
    assert f"passes the {passing} node cases" in INSIDE.read_text()


def defined_in(path):
    return [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def test_commands_beside_figures_run():
    """Those of pytest select tests, and those of xconv and of the benchmarks are ones that their parsers take."""
    text = " ".join("\n".join(path.read_text() for path in (README, INSIDE, ROOT / "benchmarks" / "README.md")).split())
    selections = re.findall(r"`python -m pytest (tests/\w+\.py)(?: -k (\w+))?`", text)
    assert selections
    for path, word in selections:
        assert any(name.startswith("test_") and word in name for name in defined_in(ROOT / path)), (path, word)
    main = importlib.import_module("benchmarks.__main__")
    lines = [line for line in set(re.findall(r"`python -m benchmarks([^`]*)`", text)) if "NAME" not in line]
    assert len(lines) >= 5
    for words in map(str.split, lines):
        main.parser_of("benchmarks").parse_args(["--suite", *words] if words and words[0] in main.RUNS else words)


class TestBorders:
    def table(self):
        return rows(section(README, "Borders"))

    def test_there_is_a_row_for_each(self):
        assert [row[0].strip('"') for row in self.table()] == list(arguments.PADDING_MODES)

    @pytest.mark.parametrize("row", range(len(arguments.PADDING_MODES)))
    def test_the_words_of_others_mean_the_same(self, row):
        mode, shown, torch_word, numpy_word, scipy_word, _ = (cell.strip('"') for cell in self.table()[row])
        x, w = np.arange(1.0, 5), np.array([10000.0, 1000, 100, 10, 1])  # which shows what it reads
        y = xconv.conv(x[None, None], w[None, None], padding=2, padding_mode=mode)[0, 0]
        padded = np.pad(x, 2, mode=numpy_word)
        assert ["0abcd"[int(value)] for value in padded] == list(shown.replace(" ", ""))
        assert np.array_equal(y, np.correlate(padded, w, "valid"))
        scipy = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")
        assert np.array_equal(y, scipy.correlate1d(x, w, mode=scipy_word))
        torch = pytest.importorskip("torch", reason="torch is not installed")
        if torch_word != "-":
            layer = torch.nn.Conv1d(1, 1, 5, padding=2, padding_mode=torch_word, bias=False, dtype=torch.float64)
            layer.weight.data = torch.tensor(w[None, None])
            assert np.array_equal(y, layer(torch.tensor(x[None, None])).detach().numpy()[0, 0])

    def test_opencvs_words_too(self):
        cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
        for row in self.table():
            border = cv2.copyMakeBorder(np.arange(1.0, 5)[None], 0, 0, 2, 2, getattr(cv2, row[-1]))[0]
            assert ["0abcd"[int(value)] for value in border] == list(row[1].replace(" ", "")), row

    def test_even_windows(self):
        """Each word of the sentence, by numbers that show what a window reads."""
        sentence = section(README, "Borders").split("has no middle.")[1].split("`xconv.ndimage`")[0]
        same, lower = (set(re.findall(r"`(\w+\.\w+)`", part)) for part in sentence.split('"same_lower"'))
        x, w = np.arange(1.0, 9), np.array([1.0, 10, 100, 1000])
        for word, names in (("same", same), ("same_lower", lower)):
            assert len(names) >= 2
            for name in names:
                expected = self.call(name, x, w)
                y = xconv.conv(x[None, None], w[None, None], padding=word, flip="convolve" in name)[0, 0]
                assert expected is None or np.array_equal(y, expected), name

    def test_even_windows_of_those_without_a_function_of_their_own_word(self):
        sentence = section(README, "Borders").split("has no middle.")[1].split('"same_lower"')[0]
        assert "as in PyTorch, JAX," in sentence
        x, w = np.arange(1.0, 9)[None, None], np.array([1.0, 10, 100, 1000])[None, None]
        y = xconv.conv(x, w, padding="same")
        jax = pytest.importorskip("jax", reason="jax is not installed")
        assert np.array_equal(y, jax.lax.conv(x.astype("float32"), w.astype("float32"), (1,), "SAME"))
        torch = pytest.importorskip("torch", reason="torch is not installed")
        with warnings.catch_warnings(action="ignore"):  # PyTorch says that it pads a copy
            found = torch.nn.functional.conv1d(torch.tensor(x), torch.tensor(w), padding="same")
        assert np.array_equal(y, found.numpy())
        with pytest.raises(ValueError, match="symmetric"):
            torch.nn.Conv1d(1, 1, 5, padding=2, padding_mode="symmetric")

    def call(self, name, x, w):
        module, function = name.split(".")
        try:
            found = importlib.import_module({"ndimage": "scipy.ndimage", "signal": "scipy.signal"}.get(module, module))
        except ImportError:
            return None
        if module == "ndimage":
            return getattr(found, function)(x, w, mode="constant")
        if module == "cv2":
            return found.filter2D(x[None], -1, w[None], borderType=found.BORDER_CONSTANT)[0]
        flat = function.endswith("2d")
        return getattr(found, function)(*((x[None], w[None]) if flat else (x, w)), "same").reshape(-1)


WRONG_CALLS = {  # by how the message begins that the table of errors shows
    "dy must have shape": lambda x, w: xconv.conv_backward(np.ones((2, 6, 4)), x, w),
    "stride must be": lambda x, w: xconv.conv(x, w, stride=0),
    "kernel_size must fit": lambda x, w: xconv.conv(x[..., :5], w, dilation=3),
    "method 'winograd' must": lambda x, w: xconv.conv(x, w, stride=2, method="winograd"),
    "max_workspace must be": lambda x, w: xconv.conv(
        np.ones((1, 2, 40, 40)), np.ones((3, 2, 5, 5)), method="fft", max_workspace=1000
    ),
    "x must be an array": lambda x, w: xconv.conv(x.tolist(), w),
    "w must have an integer": lambda x, w: xconv.conv(x, w > 0),
}


@pytest.mark.parametrize("beginning", WRONG_CALLS)
def test_the_table_of_errors_shows_what_they_say(beginning):
    table = section(INSIDE, "Errors").replace("\\", "")
    (kind, shown) = next((row[0].strip("`"), row[2]) for row in rows(table) if row[2].startswith(f"`{beginning}"))
    with pytest.raises((TypeError, ValueError)) as error:
        WRONG_CALLS[beginning](np.ones((2, 4, 6, 5)), np.ones((6, 4, 3, 3)))
    assert type(error.value).__name__ == kind
    words = map(re.escape, shown.split("`")[1].split("..."))
    assert re.fullmatch(".*".join(words), str(error.value))


class Toy(Maps):
    """A method by the walk: windows are laid out by slices, one tap after the other."""

    name = "toy"
    stacked = 1

    def __init__(self, unit):
        self.unit = unit

    @classmethod
    def variants(cls, xp, dtype, task):
        return [cls((1,) * task.windows.ndim)]

    def writes_in_place(self, samples, filters):
        return True

    def workspace(self, windows, channels, filters):
        return (channels * windows.taps + filters) * windows.positions

    def steps(self, task):
        return Steps(multiplication=task.multiplications / 100)  # so that "auto" takes it

    def slices(self, geometry):
        (s,), (o,), (k,) = geometry.stride, geometry.output_size, geometry.kernel_size
        return [slice(j, j + s * (o - 1) + 1, s) for j in range(k)]

    def input_map(self, xp, x, geometry):
        columns = xp.stack([x[..., part] for part in self.slices(geometry)], axis=3)
        return xp.reshape(columns, (*x.shape[:2], -1, geometry.positions))

    def input_adjoint(self, xp, columns, geometry):
        columns = xp.reshape(columns, (*columns.shape[:2], -1, geometry.taps, geometry.positions))
        x = xp.zeros((*columns.shape[:3], *geometry.input_size), dtype=columns.dtype)
        for j, part in enumerate(self.slices(geometry)):
            x[..., part] += columns[..., j, :]
        return x

    def weight_map(self, xp, w, geometry):
        return xp.reshape(w, (*w.shape[:2], -1))

    def weight_adjoint(self, xp, rows, geometry):
        return xp.reshape(rows, (*rows.shape[:2], -1, *geometry.kernel_size))

    def output_map(self, xp, products, geometry):
        return products

    def output_adjoint(self, xp, y, geometry):
        return y


class TestWalks:
    """What xconv/README.md says of adding things, followed."""

    def test_the_files_exist(self):
        text = INSIDE.read_text()
        assert len(re.findall(r"`((?:xconv|tests|benchmarks)/[\w/]+\.py)`", text)) > 10
        for path in re.findall(r"`((?:xconv|tests|benchmarks)/[\w/]+\.py)`", text):
            assert ((PACKAGE.parent if path.startswith("xconv/") else ROOT) / path).is_file(), path
        for storey, _, files in rows(section(INSIDE, "The house")):
            folder = PACKAGE / storey.strip("`")
            named, there = set(re.findall(r"(\w+\.py)`", files)), {path.name for path in folder.glob("*.py")}
            assert named <= there
            assert named, storey

    def test_the_maps_are_those_of_the_code(self):
        source = {line.strip() for line in inspect.getsource(Maps).splitlines()}
        quoted = re.findall(r"^ +(def .*)$", section(INSIDE, "Add a method"), re.MULTILINE)
        assert len(quoted) == 6
        assert set(quoted) <= source

    def test_the_traits_and_integers_are_those_of_the_code(self):
        method, library = section(INSIDE, "Add a method"), section(INSIDE, "Add a library")
        integers = re.findall(
            r"`(\w+)`", method.split("in a class over")[1].split("what `Variant` says")[0].partition(":")[2]
        )
        assert set(integers) == {name for name in dir(Variant) if not name.startswith("_")}
        traits = re.findall(r"`(\w+)`", library.split("what is true of it:")[1].split("4.")[0])
        assert len(traits) > 6
        assert set(traits) <= set(Library._fields)

    def test_a_method(self, monkeypatch):
        """A toy of what the walk names, and of nothing else: plans, gradients and blocks come with its entry."""
        methods = types.MappingProxyType({**_methods.METHODS, "toy": Toy.variants})
        monkeypatch.setattr(_methods, "METHODS", methods)
        monkeypatch.setattr(_conv, "Method", Literal["im2col", "toy"])
        x, w, keywords = np.arange(96.0).reshape(2, 4, 12), np.arange(36.0).reshape(6, 2, 3), {"groups": 2, "stride": 2}
        assert "by 'toy'" in repr(xconv.plan(x.shape, w.shape, xp=np, dtype=x.dtype, **keywords))
        y = xconv.conv(x, w, **keywords, method="toy")
        assert np.array_equal(y, xconv.conv(x, w, **keywords, method="im2col"))
        found, expected = (xconv.conv_backward(y, x, w, **keywords, method=name) for name in ("toy", "im2col"))
        assert all(map(np.array_equal, found, expected))

    def test_a_padding_mode(self, monkeypatch):
        """Two rows give a mode that nobody has: backwards without the last two elements."""
        assert f"BORDERS = {repr(borders.BORDERS).replace(chr(39), chr(34))}" in section(INSIDE, "Add a padding mode")
        monkeypatch.setitem(borders.BORDERS, "mine", (-1, 2))
        monkeypatch.setattr(arguments, "PADDING_MODES", (*arguments.PADDING_MODES, "mine"))
        x = np.arange(1.0, 7)
        y = xconv.conv(x[None, None], np.ones((1, 1, 1)), padding=2, padding_mode="mine")
        assert np.array_equal(y[0, 0], [4, 3, *x, 4, 3])
