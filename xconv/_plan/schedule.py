"""How a task is carried out within a workspace: cut into parts, and those into blocks, by integers alone.

A schedule depends on sizes and on the workspace, never on the number of threads, so that no rounding does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .blocks import Grid, Part, block_geometry, boxes, grid, lengths, parts, unit_counts
from .geometry import Geometry, Ints
from .task import Steps, Task, Variant

CACHED = 10 * 2**20  # bytes of a block: in 8 MiB Winograd's tiles take a tenth longer, in 16 depthwise rows a fifth
WORTHWHILE = 200_000  # nanoseconds: starting a thread takes a tenth of that
LONG = 1_000_000  # nanoseconds that each of more parts than a few must take: narrower products are slower
MOST_BLOCKS = 16  # that threads are sure to share: more CPUs than that find more where blocks fill the cache
SMALL_WEIGHT = 2**20  # bytes of a gradient of which every partial sum may have a copy
COLUMNS, ROWS = 128, 1024  # of a product that reads all filters, or all of dy: with fewer, reading takes longer
FEWEST = 4  # parts for threads all the same, if there is work for so many
UNEVEN = 3, 5, 7, 9  # blocks, of which one of two threads would have a tenth of the time and more to wait
ROOM = 0.6  # of the workspace, for what is held all the while: blocks need the rest


class Machine(NamedTuple):
    """What a schedule needs to know of a library and a dtype: integers and rates, no arrays."""

    element: int  # bytes of a number while it is multiplied
    threads: bool  # whether threads of ours run blocks
    rates: Steps  # nanoseconds of each step
    uncached: float  # how many times longer a step over memory takes if a cache does not hold it
    cache: int  # bytes that it holds
    compiled: bool = False  # whether blocks are parts of one program, which many would make too large


class Schedule(NamedTuple):
    """A task by the variants of a method: in parts of channels, filters and taps, and blocks of these."""

    task: Task
    variant: Variant
    groups: int
    channels: int
    filters: int
    taps: Ints
    box: Ints  # groups, samples and outputs along each axis of a block
    apart: int  # filters of each of the parts that threads share, with data mapped once for all; 0 if they share data
    sums: int  # partial sums that a reduction over the blocks of some groups is made of
    width: int  # channels that each of them is over
    held: int  # bytes all the while
    each: int  # bytes for each block under way
    limit: int  # blocks under way at once that there is room for
    kept: int  # blocks whose sums are kept until all parts are added, where the result could not hold them
    cost: float  # nanoseconds, estimated
    threads: bool  # whether threads of ours run blocks

    def parts(self) -> Iterator[Part]:
        return parts(self.task.windows, self.task.channels, self.channels, self.taps)

    def grid(self, part: Part) -> Grid:
        return grid(part, self.task.batch, self.task.groups, self.box)

    @property
    def is_whole(self) -> bool:
        """Whether there is one part, of all channels, filters and taps of the groups of a part."""
        task = self.task
        return (self.channels, self.filters, self.taps) == (task.channels, task.filters, task.windows.kernel_size)

    @property
    def is_one_block(self) -> bool:
        return self.blocks * self.part_count == 1

    @property
    def shares_maps(self) -> bool:
        """Whether two threads transform data and filters at once, since there are no other blocks for them.

        Filters then take copies beside data; of one channel and one filter these have what their product has later.
        """
        has_room = self.limit > 1 or self.task.pairs == 1
        is_long = self.variant.transforms and self.cost > LONG
        return self.threads and is_long and has_room and self.is_one_block

    @property
    def blocks(self) -> int:
        return _count(self.task._replace(groups=self.groups), self.box)

    @property
    def part_count(self) -> int:
        return _part_count(self.task, self.groups, self.channels, self.filters, self.taps)

    def bytes(self, threads: int) -> int:
        """Bytes held at once on so many threads."""
        return self.held + self.each * min(threads, self.limit, max(self.blocks, self.sums))


def schedule(task: Task, variants: Callable[[Task], Sequence[Variant]], machine: Machine, room: int) -> Schedule | int:
    """The least costly way to carry a task out by the variants that a method has for it, or the bytes that would do.

    Taps are cut only where nothing else fits.
    """
    taps, sums = task.windows.kernel_size, task.summed * machine.element
    while True:
        is_cut = taps != task.windows.kernel_size
        part = task._replace(windows=_of_taps(task.windows, taps), copies_filters=task.copies_filters or is_cut)
        offered = variants(part)
        found = [_fitted(task, part, variant, machine, room - sums) for variant in offered]
        fitting = [one for one in found if isinstance(one, Schedule)]
        if fitting:
            best: Schedule = cheapest(fitting)
            return best._replace(held=best.held + sums)
        longest = taps.index(max(taps))
        if taps[longest] == 1 or not offered[0].cuts_taps:
            return sums + min([one for one in found if isinstance(one, int)])
        taps = (*taps[:longest], -(-taps[longest] // 2), *taps[longest + 1 :])


def _part_count(task: Task, *widths: Any) -> int:
    """How many parts of so many groups, channels, filters and taps a task has."""
    (*some, taps), kernel = widths, task.windows.kernel_size
    sizes = zip((task.groups, task.channels, task.filters, *kernel), (*some, *taps), strict=True)
    return math.prod([-(-size // width) for size, width in sizes])


def cheapest(found: list[Any]) -> Any:
    """That of the least cost, found by its place, since PyTorch's compiler knows no keys of a minimum."""
    costs = [one.cost for one in found]
    return found[costs.index(min(costs))]


def _of_taps(windows: Geometry, taps: Ints) -> Geometry:
    """Windows with a box of the taps, over as much input as any of them reads."""
    if taps == windows.kernel_size:
        return windows
    axes = zip(taps, windows.axes, strict=True)
    return Geometry.of([axis._replace(d=(axis.o - 1) * axis.s + axis.a * (k - 1), k=k, lo=0, hi=1) for k, axis in axes])


def _fitted(task: Task, part: Task, variant: Variant, machine: Machine, room: int) -> Schedule | int:
    """The schedule of a task whose parts have those taps, with as few parts as fit; or the bytes that would do."""
    shared = _apart(task, part, variant, machine, room)
    if shared is not None:
        return shared
    need = sum(_needs(part.of_channels(1)._replace(groups=1, filters=1), variant, machine))
    if need > room:
        return need
    held, least = _needs(part, variant, machine)
    while held + least > room or held > ROOM * room:
        narrower = part.halves
        if not narrower:
            break
        needs = [_needs(one, variant, machine) for one in narrower]
        sums = [*map(sum, needs)]
        at = sums.index(min(sums))
        part, (held, least) = narrower[at], needs[at]
    return _blocked(task, part, variant, machine, room)


def _needs(part: Task, variant: Variant, machine: Machine) -> tuple[int, int]:
    """Bytes that a part holds all the while, and of its smallest block beside them."""
    weight = 0 if part.reduces else part.groups * _weight(part, variant, part.channels, part.copies_filters)
    held = weight * machine.element  # transformed filters, or those turned round
    return held, _least(part, variant, machine, held)


def _weight(part: Task, variant: Variant, channels: int, copied: bool) -> int:
    """How many numbers the filters of a group are, as they are multiplied; 0 if these are a view of the caller's."""
    plain = channels * part.filters * part.windows.taps if copied else 0
    return variant.weight_workspace(part.windows, channels, part.filters) or plain


def _least(part: Task, variant: Variant, machine: Machine, held: int) -> int:
    """Bytes of the smallest block, or of what transforming the filters takes before there are any."""
    box, channels = (1, 1, *map(min, variant.unit, part.windows.output_size)), part.channels
    numbers = _numbers(part, variant, channels, box) + _sums(part, variant, channels)
    copied = 0 if part.reduces or not part.copies_filters else part.pairs * part.windows.taps
    return max(numbers * machine.element, variant.weight_copies * held + copied * machine.element)


def _numbers(part: Task, variant: Variant, channels: int, box: Ints) -> int:
    """How many numbers a block holds; in a reduction beside its sums."""
    groups, samples, *outputs = box
    windows = block_geometry(part.windows, tuple(outputs))
    numbers = groups * samples * variant.workspace(windows, channels, part.filters)
    if part.reduces and variant.stacked:
        strips = windows.output_size[0] if variant.stacked > 1 else 1  # of a row at least
        numbers += groups * samples * strips * _weight(part, variant, channels, copied=True)
    if part.scatters:
        numbers += groups * samples * channels * math.prod(windows.input_size)
    if part.copies and not variant.reads_views:
        numbers += groups * samples * (2 * channels * math.prod(windows.input_size) + part.filters * windows.positions)
    return max(numbers, 1)


def _sums(part: Task, variant: Variant, channels: int) -> int:
    """How many numbers a group of a reduction holds beside its maps: a sum, and what is added to it."""
    if not part.reduces:
        return 0
    copies = 2 if variant.stacked or not variant.transforms else max(variant.weight_copies, 2) + 1
    return copies * _weight(part, variant, channels, copied=True)


def _apart(task: Task, part: Task, variant: Variant, machine: Machine, room: int) -> Schedule | None:
    """By parts of the filters that threads share, each of which is transformed just before its product.

    It pays where filters outweigh data, which is mapped once, and held, and where these are matrices of many columns.
    """
    if part.windows.taps < task.windows.taps:
        return None
    columns = part.batch * math.prod(unit_counts(part.windows, variant.unit))
    cost = _cost(task, part, variant, machine, 1, 0)
    shares = _worth(cost)
    if not (
        machine.threads
        and (variant.transforms or variant.stacked == 1)  # strips have channels within rows
        and not variant.stacks_taps
        and columns <= part.filters
        and min(part.filters, shares) > 1
        and not part.scatters
    ):
        return None
    samples = max(part.batch, 1) * part.groups
    held = samples * variant.workspace(part.windows, part.channels, 0) * machine.element
    single = part._replace(filters=1)
    transformed = 3 * part.groups * _weight(single, variant, part.channels, part.copies_filters)  # on the way, too
    each = (samples * variant.workspace(part.windows, 0, 1) + transformed) * machine.element
    width = min((room - held) // (2 * each), CACHED // each, -(-part.filters // shares))
    if width < 1:
        return None
    box = (part.groups, max(part.batch, 1), *part.windows.output_size)
    taps, each = part.windows.kernel_size, width * each
    limit = (room - held) // each
    cuts = part.groups, part.channels, part.filters, taps, box, width, 1, part.channels
    return Schedule(task, variant, *cuts, held, each, limit, 1, cost, True)


def _worth(cost: float) -> int:
    """How many parts are worth a thread each: a power of two, which threads share evenly."""
    parts = max(min(int(cost / WORTHWHILE), FEWEST), min(int(cost / LONG), MOST_BLOCKS))
    return _power_of_two(parts)


def _power_of_two(most: int) -> int:
    return 1 << max(most.bit_length() - 1, 0)


def _blocked(task: Task, part: Task, variant: Variant, machine: Machine, room: int) -> Schedule:
    """The blocks of parts that fit: as large as there is room, a cache holds and threads have enough of them."""
    shares = _worth(_cost(part, part, variant, machine, 1, 0)) if machine.threads else 1  # of the blocks of one part
    held, least = _needs(part, variant, machine)
    sums, width = _reduction(part, variant, machine, room - least, shares)
    if sums > 1:
        held += sums * part.groups * _weight(part, variant, width, copied=True) * machine.element
    counts = unit_counts(part.windows, variant.unit)
    whole = _numbers(part, variant, width, (1, 1, *part.windows.output_size))
    unit = max(whole * machine.element // math.prod(counts), 1)
    most = room - held if machine.compiled else min(room - held, _kept(variant, machine))
    units = max(most // unit, 1)
    if machine.threads:
        all_units = math.prod(counts) * max(part.batch, 1) * part.groups
        columns = part.batch * part.groups * part.windows.positions
        shares = min(sums if part.reduces else shares, max(columns // COLUMNS, FEWEST))  # blocks of a sum take turns
        units = max(min(units, CACHED // unit, -(-all_units // shares)), 1)

    def sizes(box: Ints) -> tuple[int, int]:
        """Bytes that a block makes, and holds, with its sums."""
        made = _numbers(part, variant, width, box) * machine.element
        return made, made + box[0] * _sums(part, variant, width) * machine.element

    box = _best_box(part, variant, units, shares, sizes, (most, room - held))
    made, each = sizes(box)
    kept, taps = 1, part.windows.kernel_size
    if part.copies and (part.channels, taps) != (task.channels, task.windows.kernel_size):
        sum_bytes = math.prod(box) * part.filters * machine.element
        kept = 1 + max(room - held - each, 0) // 2 // sum_bytes
        held += (kept - 1) * sum_bytes
    limit = max((room - held) // each, 1)
    cuts = part.groups, part.channels, part.filters, taps, box, 0, sums, width
    found = Schedule(task, variant, *cuts, held, each, limit, kept, 0.0, machine.threads)
    return found._replace(cost=_cost(task, part, variant, machine, found.blocks * found.part_count, made))


def _best_box(
    part: Task,
    variant: Variant,
    units: int,
    shares: int,
    sizes: Callable[[Ints], tuple[int, int]],
    limits: tuple[int, int],
) -> Ints:
    """The blocks of so many units or fewer whose sizes are within limits, and of which no thread waits for long."""
    box = _box(part, variant, units)
    while units > 1 and any(size > limit for size, limit in zip(sizes(box), limits, strict=True)):
        units = max(units * 3 // 4, 1)  # fewer would do, but what neighbouring blocks read twice weighs more then
        box = _box(part, variant, units)
    if shares == 1 or _count(part, box) not in UNEVEN:
        return box
    smaller = (_box(part, variant, max(units * tenths // 10, 1)) for tenths in range(9, 4, -1))
    return next((one for one in smaller if _count(part, one) not in UNEVEN and sizes(one) <= sizes(box)), box)


def _box(part: Task, variant: Variant, units: int) -> Ints:
    """Groups, samples and outputs along each axis of blocks of so many units, as equal as may be."""
    counts = unit_counts(part.windows, variant.unit)
    along = lengths(counts[:0:-1], min(units, variant.widest))
    along += lengths([counts[0], part.batch, part.groups], units // math.prod(along))
    outputs = (length * m for length, m in zip(along[: len(counts)][::-1], variant.unit, strict=True))
    return (along[-1], along[-2], *map(min, outputs, part.windows.output_size))


def _count(part: Task, box: Ints) -> int:
    return boxes((part.groups, part.batch, *part.windows.output_size), box).total


def _reduction(part: Task, variant: Variant, machine: Machine, room: int, shares: int) -> tuple[int, int]:
    """Into how many partial sums a reduction goes, or how many channels each sum is over, for threads to share.

    Of a small gradient each sum has a share of the blocks, of a large one a share of the channels. Then each maps dy
    anew, which costs little if that is a view: transforms do so only where there is no room for two sums.
    """
    if not (part.reduces and machine.threads) or shares == 1:
        return 1, part.channels
    weight = part.groups * _weight(part, variant, part.channels, copied=True) * machine.element
    most = room // (8 if variant.transforms else 4) // weight
    if weight <= SMALL_WEIGHT or (variant.transforms and most > 1):
        return _power_of_two(min(shares, most)), part.channels
    rows = max(part.channels * part.windows.taps // ROWS, FEWEST)
    return 1, -(-part.channels // min(2 if variant.transforms else shares, rows, part.channels))


def _kept(variant: Variant, machine: Machine) -> int:
    """Bytes of a block whose arrays a cache holds, or malloc keeps: what a transform holds are copies of one size.

    All that a compiled program makes on its way is one array.
    """
    return machine.cache * (1 if machine.compiled else 1 + variant.weight_copies)


def _cost(task: Task, part: Task, variant: Variant, machine: Machine, blocks: int, each: int) -> float:
    """Nanoseconds for all parts of a task, each of which takes what ``part`` does."""
    count = _part_count(task, part.groups, part.channels, part.filters, part.windows.kernel_size)
    steps, rates = variant.steps(part), machine.rates
    made = each / machine.element if each > _kept(variant, machine) else 0
    memory = (machine.uncached - 1) * rates.copied * made * blocks
    return count * steps.times(rates) + memory + (blocks - count) * steps.operation * rates.operation
