"""Rows of windows and their adjoint in plain memory, by assignments: `windows` has them of every library's arrays."""

from __future__ import annotations

from collections.abc import Iterator

from .._plan.geometry import Geometry
from .libraries import Array, DType, Namespace

NARROW = 8  # channels below which rows of windows are copied along images, measured for 3x3 (NumPy)


def put_rows(xp: Namespace, x: Array, rows: Array, windows: Geometry, value: complex) -> None:
    """Lay windows of x (N, C, *d) out in plain memory (N, *o, C, prod(k)); the padding has this value."""
    if any(map(any, windows.padding)):
        rows[...] = value
    x = x if x.shape[1] < NARROW else xp.ascontiguousarray(xp.moveaxis(x, 1, -1))
    for entries, elements in _entries(xp, rows, windows):
        entries[...] = x[elements]


def rows_adjoint(xp: Namespace, rows: Array, windows: Geometry, dtype: DType) -> Array:
    """The adjoint of `put_rows` with value 0, (N, *o, C, prod(k)) -> (N, C, *d), with sums in this dtype."""
    samples, channels = rows.shape[0], rows.shape[-2]
    narrow = channels < NARROW
    size = (channels, *windows.input_size) if narrow else (*windows.input_size, channels)
    x = xp.zeros((samples, *size), dtype=dtype)
    if rows.itemsize == x.itemsize:  # unsigned integers are added up as signed ones
        rows = rows.view(dtype) if rows.dtype.isnative else xp.astype(rows, dtype)
    for entries, elements in _entries(xp, rows, windows):
        part = x[elements]
        part += entries
    return x if narrow else xp.moveaxis(x, -1, 1)


def _entries(xp: Namespace, rows: Array, windows: Geometry) -> Iterator[tuple[Array, tuple[slice, ...]]]:
    """What rows (N, *o, C, prod(k)) have for each tap, and the elements of x it is of: (N, *d, C), or (N, C, *d).

    The latter if channels are few: NumPy's innermost loop should be long.
    """
    lead: tuple[slice, ...] = (slice(None),)
    if rows.shape[-2] < NARROW:
        rows, lead = xp.moveaxis(rows, -2, 1), (*lead, *lead)
    for tap, (inside, elements) in enumerate(windows.tap_slices):
        yield rows[..., tap][(*lead, *inside)], (*lead, *elements)
