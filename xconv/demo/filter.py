"""``xconv filter``: an image in a file, which may be larger than memory, filtered chunk by chunk into another file."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from .._run.threads import cpu_count
from .errors import INTERRUPTED, CommandError, complaint, first_line, fitted, lacks_memory, require_packages
from .files import make_writable, writing_to
from .kernels import Kernel
from .samples import COLOURS, Sample, Views, views_of
from .stored import (
    READABLE,
    SUFFIXES,
    Index,
    Stored,
    create_stored,
    is_replaceable,
    open_stored,
    put_in_place,
    read_whole,
    reading_from,
    remove,
    stored_chunks,
)

dask.config.set({"array.query-planning": False})  # whatever the user's is: arrays of expressions have no `store` yet
import dask.array as da  # noqa: E402 - reads it as it loads

CHUNK = "16 MiB"  # a worker holds some ten chunks, some of them in double precision


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What libraries warn of meanwhile, as of values that a dtype cannot hold, without the line of their source."""

    def show(message: Warning | str, *place: Any, **keywords: Any) -> None:
        print(complaint("xconv filter", f"warning: {first_line(message)}"), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=RuntimeWarning)
        warnings.showwarning = show
        yield


@_warnings_in_one_line()
def run(
    *,
    source: Path,
    out: Path,
    kernel: Kernel,
    axes: tuple[int, ...] | None,
    mode: str,
    cval: float,
    dtype: str | None,
    chunks: tuple[int, ...] | None,
    workers: int | None,
    picture: Path | None,
    overwrite: bool,
) -> int:
    """Filter ``source`` into ``out``, and return the exit status: 0, or 130 after Ctrl-C.

    Until all is done, what is written has a name of its own: ``image.partial.zarr`` for ``image.zarr``. Ctrl-C leaves
    it there, with zeros where no chunk was written; an error does not.
    """
    image, console = open_stored(source), Console(highlight=False, markup=False, soft_wrap=True)
    before, after = _views(picture, image.shape)
    sizes = _chunk_sizes(chunks, image)
    x = da.from_array(_Source(source, image, before), sizes, name=False, meta=np.empty((0,) * len(sizes), image.dtype))
    over = tuple(range(x.ndim)) if axes is None else _axes(axes, x.ndim)
    y = _filtered(kernel, x, over, mode, cval, dtype)
    _check_free(source, out, overwrite)
    count = math.prod(y.numblocks)
    header = f"{kernel} {kernel.where(over, x.ndim)} of {image.shape}, {x.dtype} to {y.dtype}, in {count} chunk"
    console.print(fitted(header + "s" * (count != 1)))
    if (parts := read_whole(image, sizes)) is not None:
        size = math.prod(parts) * x.dtype.itemsize / 2**20
        warning = (
            f"warning: {source} is stored in chunks of {parts}, {size:.1f} MiB each: larger than those of {sizes} "
            "that are filtered, each is held whole and read several times"
        )
        console.print(fitted(warning))
    if axes is None and x.ndim > 2 and x.shape[-1] in COLOURS:
        apart = ",".join(map(str, over[:-1]))
        blended = f"the {x.shape[-1]} elements of the last axis are blended as well: --axes {apart} keeps them apart"
        console.print(fitted(blended))
    started = time.perf_counter()
    is_done, written = _write(y, out, image, after, workers or cpu_count(), console)
    if is_done:
        console.print(fitted(f"wrote {written} in {time.perf_counter() - started:.0f} s"))
    if picture is not None:
        _draw(picture, str(kernel), before, after)
        console.print(fitted(f"wrote {picture}"))
    return 0 if is_done else INTERRUPTED


class _Source:
    """What dask reads chunks from."""

    def __init__(self, path: Path, image: Stored, views: Sequence[Sample]) -> None:
        self.path, self.image, self.views = path, image, views
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, len(image.shape)

    def __getitem__(self, index: Index) -> Any:
        with reading_from(self.path):
            values = self.image[index]
        for view in self.views:
            view.take(index, values)
        return values


@dataclass
class _Target:
    """What dask writes chunks to."""

    image: Stored
    views: Sequence[Sample]
    progress: Progress
    chunks: int = 0

    def __setitem__(self, index: Index, values: Any) -> None:
        self.image[index] = values
        for view in self.views:
            view.take(index, values)
        self.progress.advance(self.progress.task_ids[0], values.nbytes)
        self.chunks += 1  # as good as exact without a lock: it is what a message says


def _write(
    y: Any, out: Path, like: Stored, views: Sequence[Sample], workers: int, console: Console
) -> tuple[bool, Path]:
    """Compute a result and write it: whether all of it, and the name of what was written."""
    partial = _partial(out)
    columns = BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()
    try:
        with writing_to(out), Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
            remove(partial)
            progress.add_task("filtering", total=y.nbytes)
            target = _Target(create_stored(partial, y.shape, y.dtype, y.chunksize, like), views, progress)
            try:
                with ThreadPoolExecutor(workers) as pool:  # which waits for the chunks that are being written
                    da.store(y, target, lock=False, scheduler="threads", pool=pool)
            except KeyboardInterrupt:
                if not target.chunks:
                    raise
                done = f"interrupted after {target.chunks} of {math.prod(y.numblocks)} chunks"
                console.print(fitted(f"{done}: {partial} holds them, and zeros elsewhere"))
                return False, partial
        put_in_place(partial, out)
    except BaseException as error:
        remove(partial)
        if lacks_memory(error):
            raise CommandError("out of memory: smaller --chunks or fewer --workers need less") from error
        raise
    return True, out


def _filtered(kernel: Kernel, x: Any, axes: tuple[int, ...], mode: str, cval: float, dtype: str | None) -> Any:
    """The result, which is not computed yet."""
    if dtype is None and kernel.is_signed and x.dtype.kind in "bu":
        raise CommandError(
            f"{kernel} may be negative, which {x.dtype} cannot hold: choose --dtype, as float32 or int32"
        )
    try:
        output = None if dtype is None else np.dtype(dtype)
    except TypeError as error:
        raise CommandError(f"--dtype must name a dtype of NumPy, as float32, got {dtype!r}") from error
    if output is not None and output.kind not in READABLE:
        raise CommandError(f"--dtype must be one of numbers, got {dtype!r}")
    narrows = output is not None and x.dtype.kind == output.kind == "f" and output.itemsize < x.dtype.itemsize
    try:
        y = kernel.apply(x, axes, output=None if narrows else output, mode=mode, cval=cval)
        return y.astype(output) if narrows else y  # which warns of what is lost, as filters do not
    except MemoryError as error:
        raise CommandError(f"--kernel {kernel} of {x.dtype}: out of memory: a smaller one needs less") from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise CommandError(f"{kernel} of {x.dtype}: {first_line(error)}") from error


def _axes(axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    found = tuple(axis % ndim for axis in axes if -ndim <= axis < ndim)
    if len(set(found)) != len(axes):
        raise CommandError(f"--axes must be different axes of the {ndim} of the input, got {', '.join(map(str, axes))}")
    return found


def _chunk_sizes(chunks: tuple[int, ...] | None, image: Stored) -> tuple[int, ...]:
    """All chunks of an axis are of one size, but for the last: Zarr has no others."""
    shape, stored = image.shape, stored_chunks(image)
    if chunks is None:
        some = da.core.normalize_chunks("auto", shape, limit=CHUNK, dtype=image.dtype, previous_chunks=stored)
        chunks = tuple(lengths[0] for lengths in some)
    elif len(chunks) not in (1, len(shape)):
        raise CommandError(f"--chunks must be one size, or {len(shape)} for {shape}, got {', '.join(map(str, chunks))}")
    each = chunks * len(shape) if len(chunks) == 1 else chunks
    return tuple(max(1, min(pair)) for pair in zip(each, shape, strict=True))


def _partial(out: Path) -> Path:
    """Where a result is until all of it is there."""
    return out.with_name(f"{out.stem}.partial{out.suffix}")


def _check_free(source: Path, out: Path, overwrite: bool) -> None:
    if out.suffix not in SUFFIXES:
        raise CommandError(f"cannot write to {out}: its name must end in {' or '.join(SUFFIXES)}")
    for path in (out, _partial(out)):
        if not is_replaceable(path):
            raise CommandError(f"cannot write to {out}: {path} is a folder, and no Zarr array")
    read = Path(os.path.realpath(source))  # unlike Path.resolve, of links in a circle as well
    if Path(os.path.realpath(out)) in read.parents or Path(os.path.realpath(_partial(out))) in (read, *read.parents):
        raise CommandError(f"cannot write to {out}: {source} would be gone before it is read")
    if out.exists() and not overwrite:
        raise CommandError(f"cannot write to {out}: it exists; --overwrite replaces it")
    make_writable(out.parent)


def _views(picture: Path | None, shape: tuple[int, ...]) -> tuple[Views, Views]:
    """What the picture will show of the input and of the result."""
    if picture is None:
        return (), ()
    require_packages(("matplotlib",))
    if len(shape) < 2 or 0 in shape:
        raise CommandError(f"--picture needs an image of at least two axes, got {shape}")
    make_writable(picture.parent)
    return views_of(shape), views_of(shape)


def _draw(picture: Path, title: str, before: Views, after: Views) -> None:
    from .filtered import before_and_after

    figure = before_and_after(before, after, title)
    with writing_to(picture):
        figure.savefig(picture)
