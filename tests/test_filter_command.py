"""``xconv filter``: what it writes is what SciPy computes, and nothing that is not whole has the name of a result."""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
import zarr
from commands import assert_one_complaint, assert_picture, exit_status

from xconv.demo import filter as command
from xconv.demo.kernels import KERNELS, forms, parse_kernel
from xconv.demo.samples import Sample, views_of
from xconv.demo.stored import NpyFile

NO_SPACE = OSError(28, "No space left on device")


def drawn(shape, dtype="float64", seed=0):
    values = np.random.default_rng(seed).standard_normal(shape) * 50
    return (np.abs(values) if np.dtype(dtype).kind in "bu" else values).astype(dtype)


def written(path, array, chunks=None):
    """A file of the kind that the suffix says."""
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        chunks = chunks or array.shape
        zarr.create_array(str(path), shape=array.shape, dtype=array.dtype, chunks=chunks)[...] = array
    return path


def read(path):
    return np.load(path) if path.suffix == ".npy" else zarr.open(str(path), mode="r")[...]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_filtered(path, array, expected, *options):
    """That the command makes the expected array of this one, dtype and all."""
    source, out = path / "in.npy", path / "out.npy"
    assert exit_status("filter", written(source, array), out, *options) == 0
    assert names(path) == ["in.npy", "out.npy"]
    y = read(out)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    # Of whole numbers the fraction is dropped, which a last bit may decide.
    bound = (
        {"atol": 1} if y.dtype.kind in "iu" else {"rtol": 1e-5, "atol": 1e-5 * float(np.abs(expected).max(initial=0))}
    )
    np.testing.assert_allclose(y.astype(complex), expected.astype(complex), **bound)


class TestResults:
    @pytest.mark.parametrize(
        ("kernel", "name", "arguments"),
        [
            ("gaussian:1.5", "gaussian_filter", (1.5,)),
            ("uniform:4", "uniform_filter", (4,)),
            ("maximum:5", "maximum_filter", (5,)),
            ("minimum:3", "minimum_filter", (3,)),
            ("gaussian-laplace:1", "gaussian_laplace", (1.0,)),
            ("gaussian_gradient_magnitude:1", "gaussian_gradient_magnitude", (1.0,)),
            ("laplace", "laplace", ()),
            ("sobel", "sobel", ()),
            ("sobel:0", "sobel", (0,)),
            ("prewitt:-2", "prewitt", (-2,)),
        ],
    )
    def test_every_kernel(self, kernel, name, arguments, tmp_path):
        x = drawn((45, 38), "float32")
        expected = getattr(scipy.ndimage, name)(x, *arguments)
        assert_filtered(tmp_path, x, expected, "--kernel", kernel, "--chunks", 16)

    def test_all_kernels_are_in_the_test_above(self):
        tested = self.test_every_kernel.pytestmark[0].args[1]
        assert {parse_kernel(kernel).word for kernel, *_ in tested} == set(KERNELS)
        assert len(forms()) == len(KERNELS)

    @pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
    def test_modes(self, mode, tmp_path):
        x = drawn((23, 31))
        expected = scipy.ndimage.uniform_filter(x, 5, mode=mode, cval=2)
        assert_filtered(tmp_path, x, expected, "--kernel", "uniform:5", "--mode", mode, "--cval", 2, "--chunks", "7,40")

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", "complex64", "bool", ">f4"])
    def test_dtypes(self, dtype, tmp_path):
        x = drawn((20, 30), dtype)
        expected = scipy.ndimage.gaussian_filter(x, 1)
        assert_filtered(tmp_path, x, expected.astype(expected.dtype.newbyteorder("=")), "--kernel", "gaussian:1")

    def test_a_dtype_of_its_own(self, tmp_path):
        x = drawn((20, 30), "uint8")
        expected = scipy.ndimage.sobel(x, output=np.int32)
        assert_filtered(tmp_path, x, expected, "--kernel", "sobel", "--dtype", "int32", "--chunks", 16)

    @pytest.mark.parametrize("shape", [(50,), (12, 9, 14), (3, 4, 5, 6)])
    def test_any_number_of_axes(self, shape, tmp_path):
        x = drawn(shape)
        assert_filtered(tmp_path, x, scipy.ndimage.maximum_filter(x, 3), "--kernel", "maximum:3", "--chunks", 5)

    @pytest.mark.parametrize("kernel", ["gaussian:1", "sobel:1"])
    def test_colours_can_be_kept_apart(self, kernel, tmp_path, capsys):
        x = drawn((20, 30, 3), "float32")
        one = {"gaussian:1": scipy.ndimage.gaussian_filter, "sobel:1": scipy.ndimage.sobel}[kernel]
        apart = np.stack([one(x[..., colour], 1) for colour in range(3)], axis=-1)
        assert_filtered(tmp_path, x, apart, "--kernel", kernel, "--axes", "0,1", "--chunks", 16)
        assert "blended" not in capsys.readouterr().out
        assert_filtered(tmp_path, x, one(x, 1), "--kernel", kernel, "--chunks", 16, "--overwrite")
        assert "--axes 0,1 keeps them apart" in capsys.readouterr().out

    def test_columns_first(self, tmp_path):
        x = np.asfortranarray(drawn((20, 30, 4)))
        assert_filtered(tmp_path, x, scipy.ndimage.laplace(x), "--kernel", "laplace", "--chunks", 8)

    @pytest.mark.parametrize("suffixes", [(".zarr", ".zarr"), (".npy", ".zarr"), (".zarr", ".npy")])
    def test_zarr(self, suffixes, tmp_path):
        x = drawn((50, 70))
        source, out = (tmp_path / f"{name}{suffix}" for name, suffix in zip(("in", "out"), suffixes, strict=True))
        assert (
            exit_status("filter", written(source, x, (11, 13)), out, "--kernel", "gaussian:2", "--chunks", "16,32") == 0
        )
        np.testing.assert_allclose(read(out), scipy.ndimage.gaussian_filter(x, 2), rtol=1e-12, atol=1e-12)
        assert names(tmp_path) == sorted([source.name, out.name])
        if suffixes[1] == ".zarr":
            assert zarr.open(str(out)).chunks == (16, 32)

    @pytest.mark.parametrize("version", [2, 3])
    def test_zarr_keeps_attributes_and_format(self, version, tmp_path):
        attributes = {"pixel size": [0.5, 0.5]}
        x = zarr.create_array(
            str(tmp_path / "in.zarr"),
            shape=(8, 9),
            dtype="uint8",
            attributes=attributes,
            zarr_format=version,
            **({"dimension_names": ("y", "x")} if version == 3 else {}),
        )
        assert exit_status("filter", tmp_path / "in.zarr", tmp_path / "out.zarr", "--kernel", "minimum:3") == 0
        y = zarr.open(str(tmp_path / "out.zarr"))
        assert dict(y.attrs) == attributes
        assert y.metadata.zarr_format == version
        assert getattr(y.metadata, "dimension_names", None) == getattr(x.metadata, "dimension_names", None)

    def test_overwrites_if_told(self, tmp_path):
        for suffix in (".npy", ".zarr"):
            source, out = tmp_path / "in.npy", tmp_path / f"out{suffix}"
            written(source, drawn((8, 9)))
            written(out, drawn((3, 3)))
            assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 0
            assert read(out).shape == (8, 9)
        assert names(tmp_path) == ["in.npy", "out.npy", "out.zarr"]

    @pytest.mark.parametrize("name", ["out.npy", "out.zarr", "out.partial.zarr"])
    @pytest.mark.parametrize("is_group", [False, True])
    def test_no_folder_with_something_else_is_replaced(self, name, is_group, tmp_path, capsys):
        source, folder = written(tmp_path / "in.npy", drawn((8, 9))), tmp_path / name
        if is_group:
            zarr.create_group(str(folder)).create_array("level0", shape=(3, 3), dtype="float32")
        else:
            folder.mkdir()
            (folder / "notes.txt").write_text("kept")
        before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
        out = tmp_path / name.replace(".partial", "")
        assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {out}", f"{folder} is a folder, and no Zarr array")
        assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before

    def test_what_holds_the_input_is_not_replaced(self, tmp_path, capsys):
        out = tmp_path / "out.zarr"
        written(out, drawn((3, 3)))
        source = written(out / "in.npy", drawn((8, 9)))
        assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {out}", "in.npy would be gone before it is read")
        assert source.exists()

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    def test_what_an_earlier_run_left_is_not_replaced_by_what_is_read_of_it(self, suffix, tmp_path, capsys):
        x = drawn((8, 9))
        source = written(tmp_path / f"out.partial{suffix}", x)
        out = tmp_path / f"out{suffix}"
        assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot write to {out}", "would be gone before it is read")
        np.testing.assert_array_equal(read(source), x)

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    @pytest.mark.parametrize("target", ["out", "nothing"])
    def test_links_that_lead_nowhere_are_replaced(self, suffix, target, tmp_path):
        source, out = written(tmp_path / "in.npy", drawn((8, 9))), tmp_path / f"out{suffix}"
        out.symlink_to(tmp_path / f"{target}{suffix}")
        assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 0
        assert read(out).shape == (8, 9)
        assert names(tmp_path) == ["in.npy", out.name]

    def test_nothing_beside_is_removed(self, tmp_path):
        source, out = written(tmp_path / "in.npy", drawn((8, 9))), tmp_path / "out.zarr"
        written(out, drawn((3, 3)))
        (tmp_path / ".out.zarr.old").mkdir()
        assert exit_status("filter", source, out, "--kernel", "maximum:3", "--overwrite") == 0
        assert names(tmp_path) == [".out.zarr.old", "in.npy", "out.zarr"]

    def test_of_itself(self, tmp_path):
        x = drawn((40, 30))
        path = written(tmp_path / "image.npy", x)
        assert exit_status("filter", path, path, "--kernel", "maximum:3", "--overwrite", "--chunks", 8) == 0
        np.testing.assert_array_equal(read(path), scipy.ndimage.maximum_filter(x, 3))

    def test_each_chunk_is_read_once(self, tmp_path, monkeypatch):
        count, original = [], NpyFile.__getitem__
        monkeypatch.setattr(NpyFile, "__getitem__", lambda self, index: count.append(index) or original(self, index))
        x = drawn((64, 48))
        assert_filtered(tmp_path, x, scipy.ndimage.gaussian_filter(x, 2), "--kernel", "gaussian:2", "--chunks", 16)
        assert len(count) == 12


class TestProgressAndPicture:
    def test_says_what_is_done(self, tmp_path, capsys):
        source = written(tmp_path / "in.npy", drawn((256, 512)))
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "uniform:3", "--chunks", 128) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "uniform:3 along axes 0, 1 of (256, 512), float64 to float64, in 8 chunks" in printed
        assert "1.0/1.0 MiB" in printed
        assert f"wrote {tmp_path / 'out.npy'} in" in printed

    @pytest.mark.parametrize(
        ("kernel", "axes", "said"),
        [
            ("sobel", [], "sobel as the derivative along axis 1, smoothed along axis 0 of (8, 9)"),
            ("prewitt:0", [], "prewitt:0 as the derivative along axis 0, smoothed along axis 1 of (8, 9)"),
            ("sobel", ["--axes", "0"], "sobel as the derivative along axis 0 of (8, 9)"),
        ],
    )
    def test_says_along_which_axis_a_derivative_is(self, kernel, axes, said, tmp_path, capsys):
        source = written(tmp_path / "in.npy", drawn((8, 9)))
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", kernel, *axes) == 0
        printed = capsys.readouterr().out
        assert said in printed
        assert "in 1 chunk\n" in printed

    def test_help_names_what_errors_name(self, tmp_path, capsys):
        source = written(tmp_path / "in.npy", drawn((8, 9)))
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "laplace", "--mode", "same") == 2
        modes = re.findall("'([a-z-]+)'", capsys.readouterr().err.partition("choose from")[2])
        assert exit_status("filter", "--help") == 0
        printed = " ".join(capsys.readouterr().out.split()).replace("- ", "-")
        assert len(modes) == 8
        assert ", ".join(modes) in printed
        assert "derivatives along AXIS" in printed

    @pytest.mark.parametrize(("stored", "is_warned"), [((40, 40), True), ((10, 20), False), ((10, 40), True)])
    def test_chunks_that_are_larger_where_they_are_stored(self, stored, is_warned, tmp_path, capsys):
        source = written(tmp_path / "in.zarr", drawn((40, 40)), stored)
        arguments = source, tmp_path / "out.npy", "--kernel", "uniform:3", "--chunks", 20
        assert exit_status("filter", *arguments) == 0
        _, *warned = " ".join(capsys.readouterr().out.split()).split("warning: ")
        assert len(warned) == is_warned
        assert all(f"in chunks of {stored}" in words and "(20, 20)" in words for words in warned)

    def test_parts_of_shards_are_read_one_by_one(self, tmp_path, capsys):
        keywords = {"shape": (40, 40), "dtype": "float64", "chunks": (10, 10), "shards": (40, 40)}
        zarr.create_array(str(tmp_path / "in.zarr"), **keywords)[...] = drawn((40, 40))
        arguments = tmp_path / "in.zarr", tmp_path / "out.npy", "--kernel", "uniform:3", "--chunks", 20
        assert exit_status("filter", *arguments) == 0
        assert "warning" not in capsys.readouterr().out

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_picture_of_nothing_that_is_finite(self, value, tmp_path, capsys):
        source, picture = written(tmp_path / "in.npy", np.full((8, 9), value)), tmp_path / "a.png"
        arguments = source, tmp_path / "out.npy", "--kernel", "maximum:3", "--picture", picture
        assert exit_status("filter", *arguments) == 0
        assert capsys.readouterr().err == ""
        assert picture.exists()

    @pytest.mark.parametrize("kernel", ["maximum:3", "gaussian:1"])
    def test_what_a_dtype_cannot_hold_is_one_sentence(self, kernel, tmp_path, capsys):
        source = written(tmp_path / "in.npy", np.full((8, 9), 1e300))
        arguments = source, tmp_path / "out.npy", "--kernel", kernel, "--dtype", "float32"
        assert exit_status("filter", *arguments) == 0
        assert_one_complaint(capsys.readouterr(), "xconv filter: warning: overflow encountered in cast")
        assert np.array_equal(np.load(arguments[1]), np.full((8, 9), np.inf, np.float32))

    @pytest.mark.parametrize("shape", [(60, 90), (1200, 30), (3, 20, 30, 4)])
    def test_picture(self, shape, tmp_path, capsys):
        source, picture = written(tmp_path / "in.npy", drawn(shape, "float32")), tmp_path / "new" / "a.png"
        arguments = source, tmp_path / "out.npy", "--kernel", "gaussian:2", "--picture", picture, "--chunks", 25
        assert exit_status("filter", *arguments) == 0
        assert_picture(picture)
        assert f"wrote {picture}" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize("shape", [(700, 1100), (5, 40, 600), (30, 513, 3), (3, 7, 40, 4)])
    def test_views_are_means_of_blocks_of_the_image(self, shape):
        image, views = drawn(shape), views_of(shape)
        edges = [[0, *range(7, size, 37), size] for size in shape]
        for spans in itertools.product(*map(itertools.pairwise, edges)):
            index = tuple(slice(*span) for span in spans)
            for view in views:
                view.take(index, image[index])
        for view in views:
            expected = np.empty([len(places) for places in view.places])
            for block in np.ndindex(expected.shape):
                spans = [(places[at], places.step, places.stop) for at, places in zip(block, view.places, strict=True)]
                part = tuple(slice(start, min(start + step, stop)) for start, step, stop in spans)
                expected[block] = image[part].mean()
            bound = 1e-15 * np.abs(image).max()  # of sums of some elements in another order
            np.testing.assert_allclose(view.image, expected.reshape(view.image.shape), rtol=1e-15, atol=4 * bound)
            assert max(view.image.shape) <= 512

    def test_a_view_of_nothing_is_zero(self):
        assert not Sample((range(2), range(3))).image.any()


class TestNpyFile:
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_parts(self, order, tmp_path):
        rng = np.random.default_rng(1)
        for shape in [(9,), (5, 7), (4, 1, 6), (3, 4, 2, 5), (0, 4)]:
            x = np.asarray(drawn(shape, "int16"), order=order)
            file = NpyFile(written(tmp_path / "a.npy", x))
            for _ in range(20):
                index = tuple(slice(*sorted(rng.integers(0, size + 1, 2).tolist())) for size in shape)
                assert np.array_equal(file[index], x[index])
                x[index] = drawn(x[index].shape, "int16", rng)
                file[index] = x[index]
            np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), x)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["FOLDER/none.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "none.npy", "No such file"]),
            (["FOLDER", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "a folder, and no Zarr array"]),
            (
                ["FOLDER/text", "FOLDER/b.npy", "--kernel", "laplace"],
                ["cannot read", "text: ", "a .npy file or a Zarr array"],
            ),
            (["FOLDER/x.npz", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "a .npy file or a Zarr array"]),
            (["FOLDER/empty", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "a .npy file or a Zarr array"]),
            (
                ["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "gaussian:1e9"],
                ["--kernel", "at most 131072", "'gaussian:1e9'"],
            ),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "maximum:9999999"], ["--kernel", "at most 1048576"]),
            (["FOLDER/short.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "ends 8 bytes too early"]),
            (["FOLDER/words.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot filter", "<U3", "numbers"]),
            (["FOLDER/objects.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot filter", "object", "numbers"]),
            (["FOLDER/number.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot filter", "without an axis"]),
            (["FOLDER/group", "FOLDER/b.npy", "--kernel", "laplace"], ["cannot read", "a group", "group/level0"]),
            (["FOLDER/a.npy", "FOLDER/b.tif", "--kernel", "laplace"], ["cannot write", "b.tif", ".npy or .zarr"]),
            (["FOLDER/a.npy", "FOLDER/short.npy", "--kernel", "laplace"], ["cannot write", "exists", "--overwrite"]),
            (["FOLDER/a.npy", "FOLDER/text/b.npy", "--kernel", "laplace"], ["cannot write", "it is a file"]),
            (["FOLDER/a.npy", "FOLDER/b.npy"], ["--kernel"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "median:3"], ["--kernel", "gaussian:SIGMA", "'median:3'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "gaussian"], ["--kernel", "gaussian:SIGMA", "'gaussian'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "gaussian:-1"], ["positive", "'gaussian:-1'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "gaussian:nan"], ["positive", "'gaussian:nan'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "uniform:2.5"], ["whole number", "'uniform:2.5'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "maximum:0"], ["at least 1", "'maximum:0'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace:2"], ["without a number", "'laplace:2'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "sobel:x"], ["sobel:AXIS", "'sobel:x'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "sobel:2"], ["sobel:2", "axes 0, 1"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "sobel:0", "--axes", "1"], ["sobel:0", "axes 1"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--axes", "0,2"], ["--axes", "of the 2", "0, 2"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--axes", "1,1"], ["--axes", "different"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--axes", "y"], ["--axes", "whole number", "'y'"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--chunks", "0"], ["--chunks", "at least 1"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--chunks", "1,2,3"], ["--chunks", "or 2 for"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--workers", "0"], ["--workers", "at least 1"]),
            (
                ["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--mode", "same"],
                ["argument --mode", "'reflect'", "'same'"],
            ),
            (
                ["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--dtype", "f33"],
                ["--dtype", "float32", "'f33'"],
            ),
            (
                ["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--dtype", "str"],
                ["--dtype", "numbers", "'str'"],
            ),
            (["FOLDER/complex.npy", "FOLDER/b.npy", "--kernel", "maximum:3"], ["maximum:3", "complex128", "order"]),
            (["FOLDER/bytes.npy", "FOLDER/b.npy", "--kernel", "laplace"], ["laplace", "negative", "uint8", "--dtype"]),
            (["FOLDER/a.npy", "FOLDER/b.npy", "--kernel", "laplace", "--picture", "p.jpg"], ["--picture", ".png"]),
            (
                ["FOLDER/line.npy", "FOLDER/b.npy", "--kernel", "laplace", "--picture", "p.png"],
                ["--picture", "two axes"],
            ),
        ],
        ids=lambda value: None,
    )
    def test_one_sentence(self, arguments, parts, tmp_path, capsys):
        (tmp_path / "text").write_text("no array")
        (tmp_path / "empty").write_bytes(b"")
        np.savez(tmp_path / "x.npz", drawn((4, 5)))
        arrays = {
            "a": drawn((4, 5)),
            "short": drawn((4, 5)),
            "words": np.array(["one", "two"]),
            "objects": np.array([1, None]),
            "number": np.array(1.0),
            "complex": drawn((4, 5)) * 1j,
            "bytes": drawn((4, 5), "uint8"),
            "line": drawn(9),
        }
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        os.truncate(tmp_path / "short.npy", (tmp_path / "short.npy").stat().st_size - 8)
        zarr.create_array(str(tmp_path / "group"), name="level0", shape=(4, 5), dtype="float64")
        before = names(tmp_path)
        assert exit_status("filter", *(argument.replace("FOLDER", str(tmp_path)) for argument in arguments)) == 2
        captured = capsys.readouterr()
        assert_one_complaint(captured, "xconv filter: ", *parts)
        assert captured.out == ""
        assert names(tmp_path) == before

    @pytest.mark.parametrize(
        ("package", "options"), [("dask", []), ("rich", []), ("zarr", []), ("matplotlib", ["--picture", "a.png"])]
    )
    def test_missing_package(self, package, options, tmp_path, capsys, monkeypatch):
        source = written(tmp_path / "in.npy", drawn((4, 5)))
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.chdir(tmp_path)
        assert exit_status("filter", source, tmp_path / "out.zarr", "--kernel", "gaussian:1", *options) == 2
        assert_one_complaint(capsys.readouterr(), f"{package} not found", "pip install '.[")
        assert names(tmp_path) == ["in.npy"]


class TestFailures:
    """Whatever happens on the way, what had the name of the result before still has it, and nothing lies beside it."""

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    @pytest.mark.parametrize(
        ("error", "parts"),
        [
            (NO_SPACE, ["cannot write to", "out", "No space left on device"]),
            (MemoryError(), ["out of memory", "--chunks", "--workers"]),
            (RuntimeError("can't start new thread"), ["out of memory", "--chunks", "--workers"]),
            (RuntimeError("Zstd: not enough memory"), ["out of memory", "--chunks", "--workers"]),
        ],
        ids=["disk", "memory", "threads", "codec"],
    )
    def test_on_the_way(self, suffix, error, parts, tmp_path, capsys, monkeypatch):
        original, count = command._Target.__setitem__, itertools.count()

        def fail_later(self, index, values):
            if next(count) == 3:
                raise error
            original(self, index, values)

        monkeypatch.setattr(command._Target, "__setitem__", fail_later)
        source, out = written(tmp_path / "in.npy", drawn((40, 40))), tmp_path / f"out{suffix}"
        written(out, drawn((2, 3)))
        assert exit_status("filter", source, out, "--kernel", "gaussian:1", "--chunks", 10, "--overwrite") == 2
        assert_one_complaint(capsys.readouterr(), *parts)
        assert names(tmp_path) == ["in.npy", out.name]
        np.testing.assert_array_equal(read(out), drawn((2, 3)))

    def test_weights_that_are_too_many_for_the_memory(self, tmp_path, capsys, monkeypatch):
        def refuse(*arguments, **keywords):
            raise MemoryError

        monkeypatch.setattr(command.Kernel, "apply", refuse)
        source = written(tmp_path / "in.npy", drawn((4, 5)))
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "gaussian:9") == 2
        assert_one_complaint(capsys.readouterr(), "--kernel gaussian:9", "out of memory")
        assert names(tmp_path) == ["in.npy"]

    def test_a_disk_that_is_too_small_says_so_at_once(self, tmp_path, capsys, monkeypatch):
        def refuse(*arguments):
            raise NO_SPACE

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        monkeypatch.setattr(command.da, "store", None)
        source = written(tmp_path / "in.npy", drawn((4, 5)))
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "gaussian:1") == 2
        assert_one_complaint(capsys.readouterr(), "cannot write to", "No space left on device")
        assert names(tmp_path) == ["in.npy"]

    def test_a_chunk_that_is_broken(self, tmp_path, capsys):
        source = written(tmp_path / "in.zarr", drawn((40, 40)), (10, 10))
        (source / "c" / "2" / "1").write_bytes(b"broken")
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "gaussian:1") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot read {source}")
        assert names(tmp_path) == ["in.zarr"]

    def test_a_file_that_shrinks(self, tmp_path, capsys, monkeypatch):
        source = written(tmp_path / "in.npy", drawn((40, 40)))
        original = command.create_stored

        def shrink(*arguments):
            os.truncate(source, 1000)
            return original(*arguments)

        monkeypatch.setattr(command, "create_stored", shrink)
        assert exit_status("filter", source, tmp_path / "out.npy", "--kernel", "gaussian:1") == 2
        assert_one_complaint(capsys.readouterr(), f"cannot read {source}: it ends too early")
        assert names(tmp_path) == ["in.npy"]


def in_a_process(code, arguments, **keywords):
    """The command in a process of its own, after some code in it."""
    program = f"import sys\n{code}\nfrom xconv.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "filter", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **keywords)


class TestInterrupted:
    """By a signal as Ctrl-C sends it, which the main thread gets while others compute."""

    CODE = """
import signal, threading
from xconv.demo import filter as command
original = command._Target.__setitem__
def interrupt(self, index, values):
    if self.chunks == {chunks}:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        threading.Event().wait(0.2)
    original(self, index, values)
command._Target.__setitem__ = interrupt
"""

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    def test_keeps_what_is_written(self, suffix, tmp_path):
        x = drawn((96, 96))
        source, out, partial = (tmp_path / f"{name}{suffix}" for name in ("in", "out", "out.partial"))
        arguments = written(source, x), out, "--kernel", "gaussian:1", "--chunks", 8, "--workers", 1
        done = in_a_process(self.CODE.format(chunks=20), arguments)
        assert (done.returncode, done.stderr) == (130, "")
        assert names(tmp_path) == sorted([source.name, partial.name])
        said = re.search(
            r"interrupted after (\d+) of 144 chunks: (\S+) holds them, and zeros elsewhere",
            " ".join(done.stdout.split()),
        )
        assert said
        assert said[2] == str(partial)
        y, expected = read(partial), scipy.ndimage.gaussian_filter(x, 1)
        is_written = [y[i : i + 8, j : j + 8].any() for i in range(0, 96, 8) for j in range(0, 96, 8)]
        assert 21 <= sum(is_written) == int(said[1]) < 144
        assert np.allclose(np.where(y == 0, expected, y), expected, rtol=1e-12, atol=1e-12)

    def test_before_anything_is_written(self, tmp_path):
        source = written(tmp_path / "in.npy", drawn((9, 9)))
        code = """
from xconv.demo import filter as command
def stop(*arguments):
    raise KeyboardInterrupt
command.create_stored = stop
"""
        done = in_a_process(code, (source, tmp_path / "out.npy", "--kernel", "gaussian:1"))
        assert (done.returncode, done.stderr) == (130, "xconv filter: interrupted\n")
        assert names(tmp_path) == ["in.npy"]


def test_whatever_is_configured(tmp_path):
    """Arrays of expressions cannot be stored, and schedulers of other kinds cannot share a file's target."""
    x = drawn((20, 30))
    arguments = written(tmp_path / "in.npy", x), tmp_path / "out.npy", "--kernel", "gaussian:1", "--chunks", 8
    environment = {"DASK_ARRAY__QUERY_PLANNING": "True", "DASK_SCHEDULER": "processes"}
    done = in_a_process("", arguments, env={**os.environ, **environment})
    assert (done.returncode, done.stderr) == (0, "")
    np.testing.assert_allclose(read(tmp_path / "out.npy"), scipy.ndimage.gaussian_filter(x, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs limits of address space, and /proc to know it")
def test_larger_than_the_address_space(tmp_path):
    """The file and its result are 96 MB each; beyond what Python and the libraries take, the process may have 80."""
    warm = str(written(tmp_path / "small.npy", drawn((9, 9)))), str(tmp_path / "warm.npy")
    code = f"""
import re, resource
from xconv.__main__ import main
main(["filter", *{warm}, "--kernel", "gaussian:1"])
size = 1024 * int(re.search("VmSize:[^0-9]+([0-9]+)", open("/proc/self/status").read())[1])
resource.setrlimit(resource.RLIMIT_AS, (size + 80_000_000,) * 2)
"""
    shape = (3000, 4000)
    x = np.lib.format.open_memmap(tmp_path / "in.npy", "w+", "float64", shape)
    x[990:1010] = drawn((20, 4000))
    assert x.nbytes == math.prod(shape) * 8 == 96_000_000
    arguments = tmp_path / "in.npy", tmp_path / "out.npy", "--kernel", "gaussian:1", "--chunks", 250, "--workers", 2
    done = in_a_process(code, arguments, env={**os.environ, "MALLOC_ARENA_MAX": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    y = np.load(tmp_path / "out.npy", mmap_mode="r")
    np.testing.assert_allclose(
        y[980:1020], scipy.ndimage.gaussian_filter(x[970:1030], 1)[10:-10], rtol=1e-12, atol=1e-12
    )
    for name in ("in.npy", "out.npy"):
        (tmp_path / name).unlink()


def test_a_closed_pipe_is_one_end_of_it(tmp_path):
    """As ``| head`` leaves it: the command ends, and says nothing."""
    source = written(tmp_path / "in.npy", drawn((9, 9)))
    command = [sys.executable, "-m", "xconv", "filter", source, tmp_path / "out.npy", "--kernel", "gaussian:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
