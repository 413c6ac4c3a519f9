"""Windows over the last n axes: padding in every mode, and windows laid out, with their adjoints.

All are linear and take any leading axes. ``pad`` and ``unpad`` are adjoint, <pad(x), y> = <x, unpad(y)>; so are
``gather`` and ``scatter``, which have all taps on one axis, as im2col's maps do, and ``frames`` and ``overlap_add``,
which have each window as a piece. In the book's order windows are laid out by `_arrays/unfold.py`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from .._plan.borders import Border, border_steps, fills, frame, framed_axis
from .._plan.geometry import Geometry, Ints, Pairs, Slices, Words, numbers_of
from .elements import (
    add_at,
    copied,
    copied_view,
    cut,
    flipped,
    full,
    has_runs,
    put_at,
    reshaped,
    resized,
    spread,
    zeros,
)
from .kernels import windows_adjoint, windows_of
from .libraries import Array, DType, Namespace, device, is_immutable, is_kind, may_look, traits
from .scratch import made

SHORT = 2**11  # numbers whose windows are laid out before another operation would have begun
FEW = 4  # taps that a program lays out or adds up at once: XLA compiles 225 of them in 4 to 9 s, and runs 9 no sooner
Cut: TypeAlias = tuple[int, tuple[Ints, slice, Ints]]  # an axis, and of that what lies before, inside and behind


def pad(
    xp: Namespace, x: Array, padding: Pairs, mode: str | Words = "zeros", value: complex = 0, dtype: DType | None = None
) -> Array:
    """Widen the last axes: (..., *d) -> (..., *(lo + d + hi)), in this dtype if one is given.

    ``mode`` is a word for all of them or one for each; ``value`` is what "zeros" adds.
    """
    dtype = x.dtype if dtype is None else dtype
    if mode == "zeros" or not any(map(any, padding)):
        return _framed(xp, x, padding, value, dtype)
    first, modes = x.ndim - len(padding), _each(mode, padding)
    repeats = any(any(pair) and word != "zeros" for word, pair in zip(modes, padding, strict=True))
    if not repeats or traits(xp).plain_memory:  # which can be written to: each element is written once
        padded = _framed(xp, x, padding, value, dtype)
        for place, source in fills(x.shape[first:], padding, modes) if repeats else ():
            padded[place] = padded[source]
        return padded
    x = _framed(xp, x, _only("zeros", padding, modes), value, dtype)
    for axis, (word, (lo, hi)) in enumerate(zip(modes, padding, strict=True), start=first):
        for border in () if word == "zeros" else border_steps(word, x.shape[axis], lo, hi):
            x = _bordered(xp, x, axis, border)
    return x


def unpad(xp: Namespace, y: Array, padding: Pairs, mode: str | Words = "zeros") -> Array:
    """The adjoint of `pad`: the borders add to the elements that they repeat."""
    if not any(map(any, padding)):
        return y
    first, modes = y.ndim - len(padding), _each(mode, padding)
    for axis, (word, (lo, hi)) in enumerate(zip(modes, padding, strict=True), start=first):
        for border in reversed(() if word == "zeros" else border_steps(word, y.shape[axis] - lo - hi, lo, hi)):
            start, stop = border.widths[0], y.shape[axis] - border.widths[1]
            low, y, high = (y[at_axis(axis, part)] for part in (slice(start), slice(start, stop), slice(stop, None)))
            for source, share in zip(border.sources, (low, high), strict=True):
                y = add_at(xp, y, at_axis(axis, source), _gathered_back(xp, share, axis, border.direction))
    zeros_alone = _only("zeros", padding, modes)
    if not any(map(any, zeros_alone)):
        return y
    return y[(..., *(slice(lo, d - hi) for d, (lo, hi) in zip(y.shape[first:], zeros_alone, strict=True)))]


def _each(mode: str | Words, padding: Pairs) -> Words:
    return (mode,) * len(padding) if isinstance(mode, str) else mode


def _only(word: str, padding: Pairs, modes: Words) -> Pairs:
    """The padding of the axes of one mode."""
    return tuple([pair if mode == word else (0, 0) for mode, pair in zip(modes, padding, strict=True)])


def framed(
    xp: Namespace, x: Array, parts: Slices, padding: Pairs, modes: Words, value: complex, dtype: DType | None = None
) -> Array:
    """Parts of what `pad` gives, in this dtype if one is given: of x no more is read or copied than they need."""
    first, dtype = x.ndim - len(parts), x.dtype if dtype is None else dtype
    axes = [*zip(modes, map(operator.index, x.shape[first:]), padding, parts, strict=True)]
    boxes = [part.indices(lo + d + hi)[:2] for _, d, (lo, hi), part in axes]
    if all(box == (0, lo + d + hi) for box, (_, d, (lo, hi), _) in zip(boxes, axes, strict=True)):
        fits = value == 0 or "zeros" not in modes or is_kind(xp, x.dtype, ("real floating", "complex floating"))
        return xp.astype(pad(xp, x, padding, modes, value, x.dtype if fits else dtype), dtype, copy=False)
    shape = (*x.shape[:first], *(stop - start for start, stop in boxes))
    x, cuts = _cut(x, boxes, padding, modes)
    if traits(xp).threads and any(low or high for _, (low, _, high) in cuts):
        block = made(xp, shape, dtype, is_read=True)
        _fill(xp, block, x, cuts, value)
        return block
    x = xp.astype(x, dtype, copy=False)
    for axis, (low, inner, high) in cuts:
        if low or high:
            before, behind = (_border(xp, x, axis, places, value) for places in (low, high))
            x = xp.concat([before, x[at_axis(axis, inner)], behind], axis=axis)
    return x


def put_framed(
    xp: Namespace, x: Array, parts: Slices, padding: Pairs, modes: Words, value: complex, out: Array
) -> None:
    """Write what `framed` gives of all axes of an array of NumPy's."""
    x, cuts = _cut(x, [(part.start, part.stop) for part in parts], padding, modes)
    _fill(xp, out, x, cuts, value)


def _cut(x: Array, boxes: Sequence[tuple[int, int]], padding: Pairs, modes: Words) -> tuple[Array, list[Cut]]:
    """What boxes need of an array, and of its axes the elements before, inside and behind that.

    Of axes what becomes shortest is first, to be cut before it is copied.
    """
    first = x.ndim - len(boxes)
    axes = zip(modes, map(operator.index, x.shape[first:]), padding, boxes, strict=True)
    found = [framed_axis(mode, d, lo, box) for mode, d, (lo, _), box in axes]
    x = x[(..., *(axis.read for axis in found))]
    growths = [(stop - start) / max(d, 1) for (start, stop), d in zip(boxes, x.shape[first:], strict=True)]
    order = sorted(range(len(boxes)), key=growths.__getitem__)
    return x, [(first + at, found[at].pieces) for at in order]


def _fill(xp: Namespace, block: Array, x: Array, axes: Sequence[Cut], value: complex) -> None:
    """Write a block of NumPy's, each element once, by assignments, which let other threads run, as joining does not."""
    if not axes:
        block[...] = x
        return
    (axis, (low, inner, high)), *others = axes
    start, stop = len(low), block.shape[axis] - len(high)
    if inner.stop > inner.start:
        _fill(xp, block[at_axis(axis, slice(start, stop))], x[at_axis(axis, inner)], others, value)
    for places, border in ((low, slice(0, start)), (high, slice(stop, None))):
        if places and places[0] < 0:
            block[at_axis(axis, border)] = value
        elif places:
            repeated = x[at_axis(axis, xp.asarray(places))]  # of what is in no one run, take would copy all
            _fill(xp, block[at_axis(axis, border)], repeated, others, value)


def _border(xp: Namespace, x: Array, axis: int, places: tuple[int, ...], value: complex) -> Array:
    """The elements of an axis that a border repeats, or the value where it repeats none."""
    if not places or places[0] < 0:
        return full(xp, x, resized(x, axis, len(places)), value)
    return xp.take(x, xp.asarray(places, device=device(x)), axis=axis)


def gather(xp: Namespace, x: Array, geometry: Geometry, axis: int) -> Array:
    """The elements of each window, (..., *d) -> (..., *o) with a new axis of prod(k), after padding with zeros."""
    if traits(xp).kernels and (geometry.taps > 1 or any(map(any, geometry.padding))):
        return windows_of(xp, x, geometry, axis)
    if geometry.is_sparse:
        return _tap_by_tap(xp, x, geometry, axis)
    if geometry.taps == 1:
        return xp.expand_dims(tap_views(pad(xp, x, geometry.padding), geometry.padded)[0], axis=axis)
    if traits(xp).threads and not has_runs(x):  # it is read across its lines of cache once, and not for every tap
        x = copied(xp, x)
    axes, (*others, last) = x.ndim, _steps(xp, x, geometry)
    for step in others:
        x = _laid_out(xp, x, step, axis)
    x = _laid_out(xp, x, last, axis, rows=axis + last.ndim + len(others))  # each step leaves an axis of its taps
    return x if not others else reshaped(xp, x, (*x.shape[:axis], geometry.taps, *x.shape[axis + x.ndim - axes :]))


def _tap_by_tap(xp: Namespace, x: Array, windows: Geometry, axis: int) -> Array:
    """`gather` without padding: zeros are left where windows read beyond the input."""
    first = x.ndim - windows.ndim
    columns = zeros(xp, x, (*x.shape[:axis], windows.taps, *x.shape[axis:first], *windows.output_size))
    for tap, (inside, elements) in enumerate(windows.tap_slices):
        columns = put_at(columns, (*at_axis(axis, tap), *inside), x[(..., *elements)])
    return columns


def scatter(xp: Namespace, columns: Array, geometry: Geometry, axis: int) -> Array:
    """The adjoint of `gather`, (..., *d) from (..., *o) and an axis of prod(k): overlaps add."""
    if traits(xp).kernels and not geometry.is_tiling:
        return windows_adjoint(xp, columns, geometry, axis)
    steps = (geometry.steps if traits(xp).plain_memory else _compiled(geometry))[::-1]
    x = xp.reshape(columns, (*columns.shape[:axis], *(step.taps for step in steps), *columns.shape[axis + 1 :]))
    for step in steps:
        x = _side_by_side(xp, x, step, axis) if step.is_tiling else _overlap_taps(xp, x, step, axis)
    return x


def _steps(xp: Namespace, x: Array, windows: Geometry) -> list[Geometry]:
    """Windows as what is laid out at once: a core copies long rows sooner one axis after the other."""
    if traits(xp).threads:
        return [windows] if windows.wraps or _is_short(x) else windows.steps
    return [windows] if traits(xp).plain_memory or _unfolds(xp, x, windows) else _compiled(windows)


def _compiled(windows: Geometry) -> list[Geometry]:
    """The same for compilers, which take long for many taps; at once where more would be held on the way than then."""
    held = max(numbers_of(windows.stages), default=0)
    is_at_once = windows.taps <= FEW or windows.is_tiling or held > windows.taps * windows.positions
    return [windows] if is_at_once else windows.stages


def _is_short(x: Array) -> bool:
    """Whether any second operation takes longer than all that the first one does."""
    return bool(math.prod(x.shape) <= SHORT)


def _laid_out(xp: Namespace, x: Array, windows: Geometry, axis: int, rows: int = 0) -> Array:
    """`gather` in one step: on NumPy in rows that are `made`, behind so many axes, before taps are one."""
    if _unfolds(xp, x, windows):
        pieces = _unfolded(pad(xp, x, windows.padding), windows)
        first, end = x.ndim - windows.ndim, pieces.ndim - windows.ndim
        columns = xp.permute_dims(pieces, (*range(axis), *range(end, pieces.ndim), *range(axis, end)))
        return xp.reshape(columns, (*x.shape[:axis], windows.taps, *x.shape[axis:first], *windows.output_size))
    if not traits(xp).plain_memory:
        return xp.stack(tap_views(pad(xp, x, windows.padding), windows.padded), axis=axis)
    lead, first = x.shape[:axis], x.ndim - windows.ndim
    wraps = windows.wraps and traits(xp).threads and not _is_short(x)
    if wraps:
        memory, strides = _row_after_row(xp, x, windows)
    else:
        memory = pad(xp, x, windows.padding)
        strides = memory.strides
    shape = (*lead, *windows.kernel_size, *x.shape[axis:first], *windows.output_size)
    taps, positions = _strides(strides, windows)
    columns = copied_view(xp, memory, shape, (*strides[:axis], *taps, *strides[axis:first], *positions), rows)
    if wraps:
        _clear_beyond_rows(columns, axis + windows.ndim - 1, windows)
    return reshaped(xp, columns, (*lead, windows.taps, *shape[axis + windows.ndim :]))


def _unfolds(xp: Namespace, x: Array, windows: Geometry) -> bool:
    """Whether views of windows are had by `unfold`, whose derivative is as large as what windows reach."""
    return traits(xp).unfolds and windows.reach == windows.kernel_size and may_look(xp, x)


def _unfolded(x: Array, windows: Geometry) -> Array:
    """Views of the windows of what is padded, (..., *d) -> (..., *o, *k)."""
    for at, axis in enumerate(windows.axes, start=x.ndim - windows.ndim):
        x = x.unfold(at, axis.k, axis.s)
    return x


def _row_after_row(xp: Namespace, x: Array, windows: Geometry) -> tuple[Array, Ints]:
    """Memory in which x is padded along all axes but the last, with room before its first row and behind its last one.

    The tap of a window that lies beyond its row is then an element of the next row or the one before. The strides are
    bytes between neighbours along the axes of x.
    """
    lo, hi = windows.padding[-1]
    size, inside = frame(windows.input_size, (*windows.padding[:-1], (0, 0)))
    lead, end = x.shape[: x.ndim - windows.ndim], lo + math.prod(size)
    memory = made(xp, (*lead, end + hi), x.dtype)
    memory[...] = 0
    put_at(reshaped(xp, memory[..., lo:end], (*lead, *size)), (..., *inside), x)
    *outer, element = memory.strides
    return memory, (*outer, *(element * math.prod(size[axis:]) for axis in range(1, windows.ndim + 1)))


def _clear_beyond_rows(columns: Array, axis: int, windows: Geometry) -> None:
    """Zeros where windows of `_row_after_row` have read of another row; the axis is that of taps along rows."""
    d, (lo, _) = windows.input_size[-1], windows.padding[-1]
    for tap, shift in enumerate(range(-lo, windows.reach[-1] - lo, windows.dilation[-1])):
        beyond = slice(0, -shift) if shift < 0 else slice(max(d - shift, 0), d)
        if shift:
            put_at(columns, (*at_axis(axis, tap), beyond), 0)


def _strides(strides: Ints, windows: Geometry) -> tuple[Iterable[int], Iterable[int]]:
    """Bytes of plain memory between the elements of a window, and between windows."""
    spatial = strides[len(strides) - windows.ndim :]
    return map(operator.mul, spatial, windows.dilation), map(operator.mul, spatial, windows.stride)


def _overlap_taps(xp: Namespace, columns: Array, windows: Geometry, axis: int) -> Array:
    shares = [columns[at_axis(axis, tap)] for tap in range(windows.taps)]
    x = zeros(xp, columns, (*shares[0].shape[: -windows.ndim], *windows.input_size))
    return add_taps(xp, x, shares, windows)


def _side_by_side(xp: Namespace, columns: Array, tiles: Geometry, axis: int) -> Array:
    """What `_overlap_taps` gives of windows side by side: nothing is added."""
    n, first = tiles.ndim, columns.ndim - 1
    x = xp.reshape(columns, (*columns.shape[:axis], *tiles.kernel_size, *columns.shape[axis + 1 :]))
    pairs = (place for i in range(n) for place in (first + i, axis + i))
    x = xp.permute_dims(x, (*range(axis), *range(axis + n, first), *pairs))
    x = copied(xp, x) if traits(xp).threads else x
    x = xp.reshape(x, (*x.shape[: first - n], *tiles.padded_size))
    inside = (slice(lo, lo + d) for d, (lo, _) in zip(tiles.input_size, tiles.padding, strict=True))
    return x[(..., *inside)]


def frames(xp: Namespace, x: Array, geometry: Geometry) -> Array:
    """Each window as a piece of its own, (..., *d) -> (..., *o, *k): long windows that need no padding."""
    first = x.ndim - geometry.ndim
    shape = (*x.shape[:first], *geometry.output_size, *geometry.kernel_size)
    if geometry.positions == 1 and geometry.kernel_size == geometry.input_size:
        return reshaped(xp, x, shape)
    if traits(xp).plain_memory:
        taps, positions = _strides(x.strides, geometry)
        return copied_view(xp, x, shape, (*x.strides[:first], *positions, *taps))
    if _unfolds(xp, x, geometry):
        return _unfolded(x, geometry)
    for at, axis in enumerate(geometry.axes):  # one after the other, in as few slices as compilers are quick with
        (_, k, s, a, *_), o, place = axis, axis.o, first + 2 * at
        if o < k:
            starts, length, step = range(0, o * s, s), axis.r, a
        else:
            starts, length, step = range(0, k * a, a), (o - 1) * s + 1, s
        parts = [x[at_axis(place, slice(start, start + length, step))] for start in starts]
        x = xp.stack(parts, axis=place + (o >= k))
    end = first + 2 * geometry.ndim
    return xp.permute_dims(x, (*range(first), *range(first, end, 2), *range(first + 1, end, 2)))


def overlap_add(xp: Namespace, pieces: Array, geometry: Geometry) -> Array:
    """The adjoint of `frames`, (..., *o, *k) -> (..., *d), along one axis after the other."""
    window = pieces.ndim - 2 * geometry.ndim  # the axis of o that is next, n axes before that of k
    tap = window + geometry.ndim
    for axis in geometry.axes:
        (d, k, s, a, *_), o = axis, axis.o
        others = pieces.shape[window + 1 : tap]
        x = zeros(xp, pieces, (*pieces.shape[:window], *others, d, *pieces.shape[tap + 1 :]))
        if o < k:
            for m in range(o):
                x = add_at(xp, x, at_axis(tap - 1, slice(m * s, m * s + axis.r, a)), pieces[at_axis(window, m)])
        else:
            order = (*range(window), *range(window + 1, tap), window, *range(tap, pieces.ndim))
            pieces = xp.permute_dims(pieces, order)
            for j in range(k):
                x = add_at(xp, x, at_axis(tap - 1, slice(j * a, j * a + (o - 1) * s + 1, s)), pieces[at_axis(tap, j)])
        pieces = x
    return pieces


def add_taps(xp: Namespace, x: Array, shares: Iterable[Array], geometry: Geometry) -> Array:
    """Add to an array of our own (..., *d), for each kernel offset, what every window has for it there (..., *o).

    XLA makes one loop of a sum of padded arrays, where each scatter would be one of its own, over single elements if
    there are steps.
    """
    for share, (windows, elements) in zip(shares, geometry.tap_slices, strict=True):
        x = added(xp, x, (..., *elements), share[(..., *windows)])
    return x


def added(xp: Namespace, x: Array, index: tuple[Any, ...], values: Array) -> Array:
    """An array of our own with what is added to it at an index of slices behind an ellipsis."""
    return x + spread(values, index, x.shape) if is_immutable(x) else add_at(xp, x, index, values)


def tap_views(x: Array, geometry: Geometry) -> list[Array]:
    """For each kernel offset, the element that every window reads there: prod(k) strided views (..., *o)."""
    return [x[(..., *elements)] for _, elements in geometry.tap_slices]


def _framed(xp: Namespace, x: Array, padding: Pairs, value: complex, dtype: DType) -> Array:
    if not any(map(any, padding)):
        return x if x.dtype == dtype else xp.astype(x, dtype)
    first = x.ndim - len(padding)
    size, inside = frame(tuple(map(operator.index, x.shape[first:])), padding)
    shape = (*x.shape[:first], *size)
    if not traits(xp).plain_memory and x.dtype != dtype:
        x = xp.astype(x, dtype)
    padded = full(xp, x, shape, value, dtype) if value else zeros(xp, x, shape, dtype=dtype)
    return put_at(padded, (..., *inside), x)


def _bordered(xp: Namespace, x: Array, axis: int, border: Border) -> Array:
    """An axis with what its border repeats.

    It is cut in parts, and these are joined: a derivative then adds up what lies at the ends, where that of views of
    the whole would add up whole arrays, and XLA would compute again for each what is added.
    """
    ends = [*zip(border.sources, border.widths, strict=True)]
    used = {edge for source, width in ends if width for edge in (source.start, source.stop)}
    edges = sorted(used - {0, x.shape[axis]})
    parts = cut(xp, x, axis, edges)
    starts = [*zip((0, *edges), parts, strict=True)]
    low, high = (
        _continued(xp, [part for start, part in starts if source.start <= start < source.stop], axis, border, width)
        for source, width in ends
    )
    return xp.concat([*low, *parts, *high], axis=axis)


def _continued(xp: Namespace, parts: list[Array], axis: int, border: Border, width: int) -> list[Array]:
    """What a border holds at one end, of the parts of an axis that it repeats there."""
    if width == 0:
        return []
    if border.direction == 0:
        return [xp.broadcast_to(part, resized(part, axis, width)) for part in parts]
    return [flipped(xp, part, axis) for part in reversed(parts)] if border.direction < 0 else parts


def _gathered_back(xp: Namespace, border: Array, axis: int, direction: int) -> Array:
    """The adjoint of `_continued`."""
    if direction == 0:
        return xp.sum(border, axis=axis, keepdims=True, dtype=border.dtype)
    return flipped(xp, border, axis) if direction < 0 else border


def at_axis(axis: int, part: Any) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, part, ...)
