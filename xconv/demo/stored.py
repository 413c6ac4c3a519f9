"""Arrays in files, .npy or Zarr, larger than memory: read and written chunk by chunk, from several threads at once.

No file is mapped: an address space may be too small for it, and a full disk would end the process without a word.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import CommandError, first_line, lacks_memory, require_packages
from .files import writing_to

Index = tuple[slice, ...]
SUFFIXES = (".npy", ".zarr")
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
READABLE = "biufc"  # the kinds of dtype that a filter takes: bool, integers, real and complex numbers


class Stored(Protocol):
    """An array in a file, of which parts between slices are read and written."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, index: Index) -> Any: ...
    def __setitem__(self, index: Index, values: Any) -> None: ...


class NpyFile:
    """The array of a .npy file, whose header says what it is.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ValueError
        If it is no such file, or is too short.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            try:
                version = np.lib.format.read_magic(file)
            except ValueError as error:
                raise ValueError("it must be a .npy file or a Zarr array, and is neither") from error
            if version not in read_header:
                raise ValueError(f"its version is {version}, of which xconv knows nothing")
            shape, in_columns, dtype = read_header[version](file)
            self._begin = file.tell()
            size = file.seek(0, os.SEEK_END)
        self.path, self.shape, self.dtype = path, shape, dtype
        self._order = slice(None, None, -1 if in_columns else 1)  # of axes, first the one that is slowest in the file
        missing = self._begin + math.prod(shape) * dtype.itemsize - size
        if missing > 0:
            raise ValueError(f"it ends {missing} bytes too early")

    def __getitem__(self, index: Index) -> Any:
        values = np.empty([part.stop - part.start for part in index][self._order], dtype=self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for place, piece in self._pieces(index, values):
                file.seek(place)
                while piece:
                    count = file.readinto(piece)
                    if not count:
                        raise ValueError("it ends too early")
                    piece = piece[count:]
        return values.transpose(range(values.ndim)[self._order])

    def __setitem__(self, index: Index, values: Any) -> None:
        axes = range(len(self.shape))[self._order]
        values = np.asarray(np.transpose(values, axes), dtype=self.dtype, order="C")
        with self.path.open("r+b", buffering=0) as file:
            for place, piece in self._pieces(index, values):
                file.seek(place)
                while piece:
                    piece = piece[file.write(piece) :]

    def _pieces(self, index: Index, values: Any) -> Iterator[tuple[int, memoryview]]:
        """Where in the file each piece of it lies that is a box, and the part of ``values`` that it is."""
        spans, shape = index[self._order], self.shape[self._order]
        if 0 in values.shape:
            return
        joined = len(shape) - 1  # axes before it are gone through; the rest lies in one piece
        while joined > 0 and spans[joined] == slice(0, shape[joined]):
            joined -= 1
        strides = [math.prod(shape[axis + 1 :]) * self.dtype.itemsize for axis in range(len(shape))]
        first = self._begin + sum(span.start * stride for span, stride in zip(spans, strides, strict=True))
        for places in itertools.product(*map(range, values.shape[:joined])):
            shift = sum(place * stride for place, stride in zip(places, strides, strict=False))
            yield first + shift, memoryview(values[places].reshape(-1).view(np.uint8))


def is_replaceable(path: Path) -> bool:
    """Whether there is nothing but a file, or an array of Zarr's: no folder, nor group, with what else may be in it."""
    if not path.is_dir() or (path / ".zarray").exists():
        return True
    metadata = path / "zarr.json"
    with reading_from(metadata):
        return metadata.exists() and json.loads(metadata.read_bytes())["node_type"] == "array"


def open_stored(path: Path) -> Stored:
    """The array in a .npy file or a Zarr directory, to be read; a `CommandError` if there is none."""
    with reading_from(path):
        if not path.is_dir():
            array: Stored = NpyFile(path)
        elif not any((path / name).exists() for name in ZARR_FILES):
            raise ValueError("it is a folder, and no Zarr array")
        else:
            array = _open_zarr(path)
    if np.dtype(array.dtype).kind not in READABLE:
        raise CommandError(f"cannot filter {path}: its dtype is {array.dtype}, not one of numbers")
    if not array.shape:
        raise CommandError(f"cannot filter {path}: it is one number, without an axis")
    return array


def create_stored(path: Path, shape: Sequence[int], dtype: Any, chunks: Sequence[int], like: Any) -> Stored:
    """A new array of zeros, of the kind that the path's suffix says, with the attributes of another in Zarr."""
    if path.suffix == ".npy":
        with path.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(file, header)
            size = file.tell() + math.prod(shape) * dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a disk that is too small says so now
            file.truncate(size)
        return NpyFile(path)
    require_packages(("zarr",), "dask")
    import zarr

    is_zarr = isinstance(like, zarr.Array)
    created: Stored = zarr.create_array(
        str(path),
        shape=tuple(shape),
        dtype=dtype,
        chunks=tuple(max(size, 1) for size in chunks),
        zarr_format=like.metadata.zarr_format if is_zarr else 3,
        attributes=dict(like.attrs) if is_zarr else None,
        dimension_names=getattr(like.metadata, "dimension_names", None) if is_zarr else None,
    )
    return created


def stored_chunks(array: Any) -> tuple[int, ...] | None:
    """In what parts an array lies in its files; None if in one."""
    return getattr(array, "shards", None) or getattr(array, "chunks", None)


def read_whole(array: Any, sizes: Sequence[int]) -> tuple[int, ...] | None:
    """The parts of an array that are read as a whole, if they are larger than chunks of these sizes."""
    parts = getattr(array, "chunks", None)  # those within shards are read one by one
    if parts is None:
        return None
    parts = tuple(map(min, parts, array.shape))
    return parts if any(part > size for part, size in zip(parts, sizes, strict=True)) else None


def remove(path: Path) -> None:
    """Remove the file or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put_in_place(path: Path, final: Path) -> None:
    """Give what is finished its name; what had it goes away only then."""
    with writing_to(final):
        if not final.is_dir() and not path.is_dir():
            path.replace(final)
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        if os.path.lexists(final):  # as a link is that leads nowhere
            final.rename(aside / final.name)
        path.rename(final)
        shutil.rmtree(aside)


@contextlib.contextmanager
def reading_from(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file that is read into a `CommandError`."""
    try:
        yield
    except (CommandError, MemoryError):
        raise
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # of Zarr and its codecs any may come
        if lacks_memory(error):
            raise MemoryError(first_line(error)) from error
        raise CommandError(f"cannot read {path}: {first_line(error)}") from error


def _open_zarr(path: Path) -> Any:
    require_packages(("zarr",), "dask")
    import zarr

    found = zarr.open(str(path), mode="r")
    if isinstance(found, zarr.Array):
        return found
    names = ", ".join(str(path / name) for name in sorted(found.array_keys())) or "none"
    raise ValueError(f"it is a group, not an array; those in it: {names}")
