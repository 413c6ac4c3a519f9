"""Nanoseconds of a library's own convolution on a CPU, by the path that it takes there.

PyTorch has oneDNN's, and XLA Eigen's. Which code they have for what is a fact of their sources, and how long it takes
a few rates, each measured as a plain thing: `benchmarks/rates.toml`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

from .._arrays.machine import WHOLE
from .._plan.rates import Own, Rates
from .._plan.task import Task

LITTLE, NARROW = 20480, 3  # numbers and taps up to which PyTorch does not ask oneDNN,
PLAIN = 5  # and how many of the shortest operations it then takes as long as
LANES = 16  # channels of float32 that fill a register of AVX-512, and that oneDNN lays out side by side
IMAGE = 3  # channels that its gradient by filters reads as they are, where forward it does all below a register's
HALF = 8  # channels of a group that oneDNN has code for, in multiples
LONGEST = 14  # taps along the last axis that oneDNN's gradient by filters has code for, and a depthwise convolution,
WIDEST = 11  # elements before the first that a window reaches there, which its registers hold,
DEPTHWISE = 3  # and taps that its depthwise gradient by filters has: other windows it lays out (ONEDNN_VERBOSE=1 tells)
ROOM = 15  # times the room of all operands, that windows of a group and sample may take before it does without them
PAGED = WHOLE // 4  # float32s of the largest array that malloc keeps
VOLUME = 3  # axes of Eigen's convolution, which loads packets along two, and with more XLA has only plain loops
PACKET = 8  # filters of which Eigen's gradient lays windows out: of fewer it multiplies elements as it loads them, each
LOADED = 2  # times as long as one is packed (1 to 7 filters, 9 to 22148 sums: 0.06 to 0.4 ns, for the rate's 0.1)
ROW = 4  # places in a row of a window as large as the input, in the time of one: 1 to 23 samples, 0.2 to 0.9 ns each


def onednn_cost(rates: Rates, task: Task) -> float:
    """Arrays are brought into lanes of channels and back, but a few channels of an image are read as they are."""
    own, groups = cast("Own", rates.own), task.groups
    if _is_small(task):
        return PLAIN * rates.steps.operation + _unfolded(rates, task)
    taps = task.positions * task.windows.taps
    if _is_unfolded(task):
        return own.operation + _unfolded(rates, task)
    channels, filters = _lanes(groups * task.channels), _lanes(groups * task.filters)
    few = {"forward": LANES - 1, "backward_data": 0}.get(task.direction, IMAGE)
    is_image = groups == 1 and task.channels <= few
    if groups == 1:
        work = taps * (task.channels if is_image else channels) * filters * own.multiplication
    elif task.channels == task.filters == 1:
        work = taps / groups * channels * own.grouped
    else:
        work = task.multiplications * own.multiplication
    arrays = task.batch * filters * task.windows.positions, task.batch * channels * math.prod(task.windows.input_size)
    moved = sum([size * (own.moved + _paged(rates, size)) for size in arrays[: 1 if is_image else 2]])
    return own.operation + work + moved


def _is_small(task: Task) -> bool:
    """Whether PyTorch does one sample of few numbers itself, by a product of windows: ``use_mkldnn`` of its sources.

    oneDNN has those of more than three taps along both of the last two axes. Along a third one PyTorch does not count
    numbers; many take it longer than a product, and are estimated as oneDNN's.
    """
    windows = task.windows
    is_wide = windows.ndim > 1 and min(windows.kernel_size[-2:]) > NARROW
    is_little = task.channels * math.prod(windows.input_size) <= LITTLE
    return task.batch == task.groups == 1 and is_little and not is_wide


def _is_unfolded(task: Task) -> bool:
    """Whether oneDNN lays windows out for a matrix product, as it does where it has no code for them."""
    last, is_depthwise = task.windows.axes[-1], task.channels == task.filters == 1
    if task.groups > 1 and not is_depthwise:
        return task.channels % HALF > 0 or task.filters % HALF > 0
    if task.reduces:
        return last.k > (DEPTHWISE if task.groups > 1 else LONGEST)
    if task.groups > 1:
        return last.k > LONGEST if task.direction == "forward" else task.windows.ndim == VOLUME
    return (last.lo if task.direction == "forward" else last.r - 1 - last.lo) > WIDEST and last.s == 1


def _unfolded(rates: Rates, task: Task) -> float:
    """A product of windows that threads lay out, for the gradient by filters all of a group and sample at once.

    Where a depthwise convolution would need far more room for them than for all operands, it is plain loops.
    """
    own, is_depthwise = cast("Own", rates.own), task.groups > 1 and task.channels == task.filters == 1
    of_one, operands = task.windows.positions * task.windows.taps * task.channels, task.inputs + task.outputs
    if is_depthwise and task.direction == "forward" and of_one > ROOM * (operands + task.pairs * task.windows.taps):
        return task.multiplications * own.looped
    of_all = of_one * task.batch * task.groups
    each = own.unfolded + (_paged(rates, min(of_all, 2 * of_one)) if task.reduces else 0)
    return of_all * each + task.multiplications * own.multiplication


def _lanes(channels: int) -> int:
    """Channels with those that fill the last register."""
    return -(-channels // LANES) * LANES


def _paged(rates: Rates, size: float) -> float:
    """What an element of a new array of that size takes besides."""
    return (rates.uncached - 1) * rates.steps.copied if size > PAGED else 0.0


class _Product(NamedTuple):
    """A convolution as Eigen does it: a matrix product of windows, for each of the groups."""

    groups: int
    axes: int
    rows: int
    places: int  # of a window
    depth: int  # channels at each
    columns: int
    is_spread: bool  # whether windows read every so many elements, or the zeros between those of strides
    is_padded: bool


def eigen_cost(rates: Rates, task: Task) -> float:
    """Arrays are brought into an order with channels last, and each element of a window is loaded from there."""
    own, windows = cast("Own", rates.own), task.windows
    moved = (task.inputs + task.outputs + task.pairs * windows.taps) * own.moved
    is_strided, is_dilated = max(windows.stride) > 1, max(windows.dilation) > 1
    if task.scatters and is_strided and not is_dilated and task.groups == 1 and windows.ndim < VOLUME:
        elements, columns = task.positions * windows.taps * task.channels, task.filters
        each = own.scattered + _paged(rates, elements)
    else:
        found = _product(task, is_strided, is_dilated)
        elements, columns = found.groups * found.rows * found.places * found.depth, found.columns
        each = _loaded(rates, found, task.reduces, elements)
    return own.operation + moved + elements * (columns * own.multiplication + each)


def _product(task: Task, is_strided: bool, is_dilated: bool) -> _Product:
    """The gradient by filters has windows of all positions, and those of all groups by all, along one axis more."""
    windows, groups, batch, axes = task.windows, task.groups, task.batch, task.windows.ndim
    is_padded = any(map(any, windows.padding))
    if task.direction == "forward":
        sizes = batch * windows.positions, windows.taps, task.channels, task.filters
        return _Product(groups, axes, *sizes, is_dilated, is_padded)
    if task.scatters:
        sizes = batch * math.prod(windows.input_size), windows.taps, task.filters, task.channels
        is_padded = any(axis.r - 1 != axis.lo for axis in windows.axes)
        return _Product(groups, axes, *sizes, is_dilated or is_strided, is_padded)
    sizes = task.channels * groups * windows.taps, groups * windows.positions, batch, task.filters
    return _Product(1, axes + (groups > 1), *sizes, is_strided or groups > 1, is_padded)


def _loaded(rates: Rates, found: _Product, reduces: bool, elements: int) -> float:
    """What an element of windows takes: packets are loaded along two axes, of one group, where there is padding."""
    own = cast("Own", rates.own)
    if found.axes > VOLUME:
        return own.spread * found.columns
    if found.axes == VOLUME:
        return (own.spread if found.is_spread else own.volume) + _paged(rates, elements)
    if reduces and found.columns < PACKET and not found.is_spread:
        return LOADED * rates.steps.packed
    if found.groups > 1:
        return own.volume
    if not found.is_padded:  # of these windows are laid out before
        return (own.run if reduces else own.unfolded) + _paged(rates, elements)
    return rates.steps.packed + own.run / (ROW if reduces else max(found.depth, 1))
