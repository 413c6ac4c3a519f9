"""Kernels of our own, each one launch for what would be several operations of a library: CuPy compiles them.

They read arrays in any order of memory; ``i`` is the number of the element that is computed. Indices have 32 bits where
these will do, since a GPU divides those sooner.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from .._plan.geometry import Geometry, Ints
from .._plan.pooling import doubles
from .elements import empty, resized
from .libraries import Array, DType, Namespace

NARROW = 2**31 - 1  # what an index of 32 bits reaches
LOOPED = 64  # taps up to which each output has a thread that goes through them: those of blocks are fewer
LINE = "outputs inner d k s a lo"  # of windows along one axis: others behind it lie side by side

# Where an output lies along the axis, and before and behind it.
_OUTPUT = """
index t = index(i) % inner;
index m = index(i) / inner % outputs;
index lead = index(i) / inner / outputs;
"""
_EXTREME = """
T best = least;
for (index j = 0; j < k; ++j) {
  index at = m * s + j * a - lo;
  bool inside = (0 <= at) && (at < d);
  T v = inside ? x[(lead * d + at) * inner + t] : best;
  bool better = (v BEYOND best) || (v != v);
  best = better ? v : best;
}
y = best;
"""
# Of all windows that start in one block of as many elements as a window has, `a` apart: each is the rest of its block
# and the first elements of the next one (van Herk 1992, Gil and Werman 1993), three steps an element however long.
_LONG = """
index t = index(i) % inner;
index block = index(i) / inner % blocks;
index lead = index(i) / inner / blocks;
index first = block / a * a * k + block % a;
index more = k - 1;
T rest = least;
for (index j = 0; j < k; ++j) {
  index start = first + (more - j) * a;
  index at = start - lo;
  bool inside = (0 <= at) && (at < d);
  T v = inside ? x[(lead * d + at) * inner + t] : rest;
  bool better = (v BEYOND rest) || (v != v);
  rest = better ? v : rest;
  bool starts = (start % s == 0) && (start / s < outputs);
  index place = starts ? (lead * outputs + start / s) * inner + t : 0;
  if (starts) y[place] = rest;
}
T next = least;
for (index j = 0; j < more; ++j) {
  index start = first + (j + 1) * a;
  index at = start - lo + more * a;
  bool inside = (0 <= at) && (at < d);
  T v = inside ? x[(lead * d + at) * inner + t] : next;
  bool better = (v BEYOND next) || (v != v);
  next = better ? v : next;
  bool starts = (start % s == 0) && (start / s < outputs);
  index place = starts ? (lead * outputs + start / s) * inner + t : 0;
  T own = starts ? y[place] : next;
  bool beyond = (next BEYOND own) || (next != next);
  T most = beyond ? next : own;
  if (starts) y[place] = most;
}
"""
_WINNER = """
T best = least;
index found = k;
for (index j = 0; j < k; ++j) {
  index at = m * s + j * a - lo;
  bool inside = (0 <= at) && (at < d);
  T v = inside ? x[(lead * d + at) * inner + t] : best;
  bool better = inside && ((v > best) || (v != v) || (found == k));
  best = ((v > best) || (v != v)) ? v : best;
  found = better ? j : found;
}
y = best;
winner = found;
"""
_SUM = """
T total = T(0);
for (index j = 0; j < k; ++j) {
  index at = m * s + j * a - lo;
  bool inside = (0 <= at) && (at < d);
  T v = inside ? x[(lead * d + at) * inner + t] : T(0);
  total = total + v;
}
y = total / COUNT;
"""
# Of an element of the input, what all windows that read it have for it. A quotient of CuPy's halves is a float.
_SPREAD = """
index t = index(i) % inner;
index at = index(i) / inner % d;
index lead = index(i) / inner / d;
T total = T(0);
for (index j = 0; j < k; ++j) {
  index behind = at + lo - j * a;
  bool reads = (0 <= behind) && (behind % s == 0) && (behind / s < outputs);
  index m = reads ? behind / s : 0;
  index place = (lead * outputs + m) * inner + t;
  bool takes = TAKES;
  T v = takes ? T(x[place] / COUNT) : T(0);
  total = total + v;
}
y = total;
"""


def windows_of(xp: Namespace, x: Array, windows: Geometry, axis: int) -> Array:
    """The elements of each window, zeros in the padding: (..., *d) -> (..., *o), with a new axis of prod(k)."""
    first = x.ndim - windows.ndim
    shape = (*x.shape[:axis], windows.taps, *x.shape[axis:first], *windows.output_size)
    y = empty(xp, x, shape)
    kernel = _windows_kernel(xp, windows.ndim, _is_narrow(windows, x.size, y.size))
    return kernel(x, *_sizes(x.shape[axis:first], windows), y)


def windows_adjoint(xp: Namespace, columns: Array, windows: Geometry, axis: int) -> Array:
    """The adjoint of `windows_of`: overlaps add."""
    first = columns.ndim - windows.ndim
    y = empty(xp, columns, (*columns.shape[:axis], *columns.shape[axis + 1 : first], *windows.input_size))
    kernel = _adjoint_kernel(xp, windows.ndim, _is_narrow(windows, columns.size, y.size))
    return kernel(columns, *_sizes(columns.shape[axis + 1 : first], windows), y)


def extreme(xp: Namespace, x: Array, axis: int, line: Geometry, largest: bool, least: complex) -> Array:
    """The largest, or the smallest, elements of windows along an axis, NaN if one is. None is beyond `least`."""
    beyond, (one,) = ">" if largest else "<", line.axes
    if line.taps <= LOOPED or not doubles(line):
        code = _OUTPUT + _EXTREME.replace("BEYOND", beyond)
        return _along(xp, x, axis, line, one.o, code, "T least", least)
    y = empty(xp, x, resized(x, axis, one.o))
    blocks = ((one.o - 1) * one.s // one.a // one.k + 1) * one.a
    narrow = _is_narrow(line, x.size, y.size, line.padded_size[0] + 2 * one.r)
    kernel = _line_kernel(xp, _LONG.replace("BEYOND", beyond), "T least", "raw T y", narrow, LINE + " blocks")
    return kernel(x, least, *_line(x, axis, line), blocks, y, size=y.size // one.o * blocks)


def winners(xp: Namespace, x: Array, axis: int, line: Geometry, least: complex, number: DType) -> tuple[Array, Array]:
    """The largest elements, and which tap of its window each is of: the first of equal ones, the last NaN."""
    shape = resized(x, axis, line.output_size[0])
    y, winner = empty(xp, x, shape), empty(xp, x, shape, dtype=number)
    kernel = _line_kernel(xp, _OUTPUT + _WINNER, "T least", "T y, U winner", _is_narrow(line, x.size, y.size))
    kernel(x, least, *_line(x, axis, line), y, winner)
    return y, winner


def means_along(xp: Namespace, x: Array, axis: int, line: Geometry, count: Sequence[int]) -> Array:
    """Sums of windows along an axis, over their counts: one for all or one for each."""
    given, word, counts = _counts(xp, x, count)
    return _along(xp, x, axis, line, line.output_size[0], _OUTPUT + _SUM.replace("COUNT", word), given, counts)


def spread(xp: Namespace, dy: Array, axis: int, line: Geometry, count: Sequence[int]) -> Array:
    """The adjoint of `means_along`."""
    given, word, counts = _counts(xp, dy, count)
    code = _SPREAD.replace("TAKES", "reads").replace("COUNT", word)
    return _along(xp, dy, axis, line, line.input_size[0], code, given, counts)


def taken(xp: Namespace, dy: Array, winner: Array, axis: int, line: Geometry) -> Array:
    """What each element has of dy where it is the winner of a window."""
    code = _SPREAD.replace("TAKES", "reads && (index(winner[place]) == j)").replace(" / COUNT", "")
    return _along(xp, dy, axis, line, line.input_size[0], code, "raw U winner", winner)


def _along(xp: Namespace, x: Array, axis: int, line: Geometry, size: int, code: str, given: str, more: Any) -> Array:
    """What a kernel makes of windows along an axis, of which so many elements come, and of one thing more."""
    y = empty(xp, x, resized(x, axis, size))
    return _line_kernel(xp, code, given, "T y", _is_narrow(line, x.size, y.size))(x, more, *_line(x, axis, line), y)


def _counts(xp: Namespace, x: Array, count: Sequence[int]) -> tuple[str, str, Any]:
    """The parameter, how an output's is read, and the argument."""
    if len(count) == 1:
        return "T count", "count", count[0]
    return "raw T count", "count[m]", xp.asarray(count, dtype=x.dtype)


def _line(x: Array, axis: int, line: Geometry) -> list[int]:
    """The numbers of `LINE`."""
    (one,) = line.axes
    return [one.o, math.prod(x.shape[axis + 1 :]), one.d, one.k, one.s, one.a, one.lo]


def _is_narrow(windows: Geometry, *sizes: int) -> bool:
    return max(*sizes, *windows.padded_size, *windows.stride, *windows.dilation) <= NARROW


@functools.cache
def _line_kernel(xp: Namespace, code: str, given: str, results: str, narrow: bool, sizes: str = LINE) -> Any:
    return _kernel(xp, f"raw T x, {given}", sizes, results, code, narrow)


@functools.cache
def _windows_kernel(xp: Namespace, axes: int, narrow: bool) -> Any:
    """Of an element among the windows, first where it is, and then what it reads."""
    code = ["index rest = i;", *_apart("m", "o", axes), "index other = rest % others;", "rest = rest / others;"]
    code += _apart("j", "k", axes)
    code += [f"index at{n} = m{n} * s{n} + j{n} * a{n} - lo{n};" for n in range(axes)]
    code += ["bool inside = " + " && ".join(f"(0 <= at{n}) && (at{n} < d{n})" for n in range(axes)) + ";"]
    code += [f"y = inside ? x[{_joined('rest * others + other', 'at', 'd', axes)}] : T(0);"]
    return _kernel(xp, "raw T x", _names(axes), "T y", "\n".join(code), narrow)


@functools.cache
def _adjoint_kernel(xp: Namespace, axes: int, narrow: bool) -> Any:
    """Of an element of the input, what all windows that read it have for it."""
    code = ["index rest = i;", *_apart("at", "d", axes), "index other = rest % others;", "rest = rest / others;"]
    code += ["T total = T(0);"]
    for n in range(axes):
        code += [
            f"for (index j{n} = 0; j{n} < k{n}; ++j{n}) {{",
            f"index behind{n} = at{n} + lo{n} - j{n} * a{n};",
            f"bool reads{n} = (0 <= behind{n}) && (behind{n} % s{n} == 0) && (behind{n} / s{n} < o{n});",
            f"index m{n} = reads{n} ? behind{n} / s{n} : 0;",
        ]
    place = _joined(f"({_joined('rest', 'j', 'k', axes)}) * others + other", "m", "o", axes)
    reads = " && ".join(f"reads{n}" for n in range(axes))
    code += [f"bool reads = {reads};", f"T v = reads ? x[{place}] : T(0);", "total = total + v;", *["}"] * axes]
    return _kernel(xp, "raw T x", _names(axes), "T y", "\n".join([*code, "y = total;"]), narrow)


def _sizes(others: Ints, windows: Geometry) -> list[int]:
    """The numbers of `_names`."""
    axes = [(axis.d, axis.k, axis.o, axis.s, axis.a, axis.lo) for axis in windows.axes]
    return [math.prod(others), *itertools.chain(*axes)]


def _names(axes: int) -> str:
    return " ".join(["others", *(f"{name}{n}" for n in range(axes) for name in ("d", "k", "o", "s", "a", "lo"))])


def _apart(place: str, size: str, axes: int) -> list[str]:
    """What divides the places along all axes from the rest, the last axis first."""
    lines = [(f"index {place}{n} = rest % {size}{n};", f"rest = rest / {size}{n};") for n in reversed(range(axes))]
    return [line for pair in lines for line in pair]


def _joined(rest: str, place: str, size: str, axes: int) -> str:
    """The inverse of `_apart`."""
    for n in range(axes):
        rest = f"({rest}) * {size}{n} + {place}{n}"
    return rest


def _kernel(xp: Namespace, given: str, sizes: str, results: str, code: str, narrow: bool) -> Any:
    """With indices of 32 bits, or of 64."""
    bits, word = ("int32", "int") if narrow else ("int64", "ptrdiff_t")
    parameters = ", ".join([given, *(f"{bits} {size}" for size in sizes.split())])
    return xp.ElementwiseKernel(parameters, results, code.replace("index", word), "xconv_windows")
