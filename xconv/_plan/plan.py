"""What a call would do, as a value that a person reads."""

from __future__ import annotations

import math
from typing import NamedTuple

from .choice import Candidate
from .frames import Frame
from .schedule import Schedule
from .task import Task

MIB = 2**20
SPREAD = "NaN, inf and the rounding of far outliers may spread {}, and exact zeros be lost: not by 'direct'"
MS = 1e6  # nanoseconds


class Plan(NamedTuple):
    """What a call would do: ``print`` it to read it.

    Attributes
    ----------
    function : str
        As it was asked for: "conv", "conv_input_grad", ...
    method : str
        What to pass as ``method`` for the same.
    blocks : int
        Parts of the convolution that are computed one after the other, or on threads; 1 for the library's own.
    threads : int
        How many of them are under way at once; the library's own has its own.
    held : int
        Bytes held beyond operands and result, estimated; 0 for the library's own, which does not tell.
    workspace : int
        Bytes that might be held.
    costs : tuple of (str, float)
        The methods and their times in nanoseconds, estimated, or measured if ``measured``; infinite if ruled out.
    reasons : tuple of (str, str)
        The methods that are ruled out, and why.
    """

    function: str
    method: str
    blocks: int
    threads: int
    held: int
    workspace: int
    costs: tuple[tuple[str, float], ...]
    reasons: tuple[tuple[str, str], ...]
    measured: bool
    what: str

    def __repr__(self) -> str:
        times = dict(self.costs)
        word = "measured" if self.measured else "estimated"
        lines = [f"{self.function} by {self.method!r}: {_milliseconds(times[self.method])} {word}", f"  {self.what}"]
        for name, time in sorted(self.costs, key=lambda pair: pair[1]):
            if math.isinf(time):
                lines.append(f"  not {name}: {dict(self.reasons)[name]}")
            elif name != self.method:
                lines.append(f"  {name} would take {_milliseconds(time)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """The same in lines of 80 columns."""
        import textwrap  # only to read: a call that is planned pays for no more

        return "\n".join([textwrap.fill(line, 80, subsequent_indent="    ") for line in repr(self).splitlines()])


def plan_of(
    function: str, chosen: Candidate, others: list[Candidate], cpus: int, frame: Frame, measured: bool = False
) -> Plan:
    """The plan of a candidate beside the others, whose costs may have been measured, on a machine of so many CPUs: each
    is that of a piece of a frame.
    """
    blocks, threads, held = _held(chosen, cpus)
    blocks, held = blocks * frame.piece_count, held + frame.held * (chosen.schedule is not None)
    costs = tuple((one.method, one.cost * frame.piece_count) for one in others)
    reasons = tuple((one.method, one.reason) for one in others if one.reason)
    what = _what(chosen, blocks, threads, held)
    return Plan(function, chosen.method, blocks, threads, held, frame.room, costs, reasons, measured, what)


def _held(chosen: Candidate, cpus: int) -> tuple[int, int, int]:
    """Blocks, threads and bytes."""
    schedule = chosen.schedule
    if schedule is None:
        return 1, 1, 0
    each = -(-schedule.task.filters // schedule.apart) if schedule.apart else max(schedule.blocks, schedule.sums)
    threads = min(each, cpus, schedule.limit) if schedule.threads else 1
    threads = min(cpus, 2) if schedule.shares_maps else threads
    return each * schedule.part_count * max(len(chosen.phases), 1), threads, schedule.bytes(threads)


def _what(chosen: Candidate, blocks: int, threads: int, held: int) -> str:
    """What is run, in words."""
    schedule = chosen.schedule
    if schedule is None:
        return f"the library's own convolution, {SPREAD.format('by its algorithm')}"
    task = schedule.task
    cut = [f"{blocks} block{'s' * (blocks > 1)} on {threads} thread{'s' * (threads > 1)}"]
    if schedule.part_count > 1:
        cut.append(f"{schedule.part_count} parts of {_parts(task, schedule)}")
    if len(chosen.phases) > 1:
        cut.append(f"{len(chosen.phases)} phases of the strides")
    cut.append(f"{held / MIB:.1f} MiB held")
    if not schedule.variant.is_local:
        cut.append(SPREAD.format("over the block that reads them"))
    elif schedule.variant.mixes_zeros:
        cut.append("NaN and inf may spread over the outputs of a block, unless asked for by 'direct'")
    return ", ".join(cut)


def _parts(task: Task, schedule: Schedule) -> str:
    names = ("groups", "channels", "filters", "taps")
    wholes = (task.groups, task.channels, task.filters, task.windows.kernel_size)
    pieces = (schedule.groups, schedule.channels, schedule.filters, schedule.taps)
    cut = zip(names, pieces, wholes, strict=True)
    return " and ".join(f"{piece} of {whole} {name}" for name, piece, whole in cut if piece != whole)


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / MS:.3g} ms"
