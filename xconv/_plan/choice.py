"""The choice of a method: every candidate is planned, and "auto" is the least costly of the plans."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from .geometry import Phase
from .schedule import Machine, Schedule, cheapest, schedule
from .task import Task, Variant

Variants: TypeAlias = Callable[[Task], Sequence[Variant]]

AUTOMATIC = ("auto", "direct")  # words for the least costly of the methods, or of those that are local
PHASES = 64  # of strides, beyond which each would be a convolution of too few outputs


class Candidate(NamedTuple):
    """One way to do a task: by these schedules' method, in phases of strides if there are any."""

    method: str
    cost: float  # nanoseconds, estimated; infinite where the method is ruled out
    reason: str = ""  # why it is
    schedule: Schedule | None = None  # of the whole, or of the largest of the phases; none for the library's own
    phases: tuple[Phase, ...] = ()
    least: int = 0  # bytes that would do, if it is ruled out for want of them


class Room(NamedTuple):
    """Bytes for a task out of a workspace, beside something that takes so many, or in pieces no more than it."""

    bytes: int
    workspace: int
    beside: int = 0

    def over(self, devices: int) -> Room:
        """That of all devices, of each of which it is."""
        return Room(*[devices * part for part in self])

    def least(self, count: int) -> int:
        """The workspace in which a task has so many."""
        return count + min(count, self.beside)


class Request(NamedTuple):
    """What a plan is asked for: a task on a machine within a workspace, by which methods."""

    task: Task
    machine: Machine
    room: Room  # on all devices
    methods: Mapping[str, Variants]
    own: Callable[[Task], float] | None  # nanoseconds of the library's own convolution, if it has one
    writes_phases: bool  # whether results of strides are written where they belong, and not by kernels of their own
    devices: int = 1  # that operands are divided over
    undivided: tuple[str, ...] = ()  # methods that leave them where they are then, the best first
    is_finite: bool = False  # whether no number is NaN or inf: integers


class TooLittleError(ValueError):
    """A workspace in which a method cannot do it, and one in which it may."""

    def __init__(self, least: int, method: str, got: int) -> None:
        super().__init__(
            f"max_workspace must be at least {least} bytes for this convolution by method {method!r}, got {got}"
        )
        self.least, self.method = least, method

    @classmethod
    def of(cls, count: int, method: str, request: Request) -> TooLittleError:
        """That of the bytes that a task needs."""
        devices, room = request.devices, request.room
        return cls(-(-room.least(count) // devices), method, room.workspace // devices)


def choose(request: Request, method: str, found: list[Candidate] | None = None) -> Candidate:
    """The least costly candidate that a word stands for, or the method of that name: a ValueError if it cannot."""
    if method not in AUTOMATIC:
        return planned(request, method)
    if method == "auto" and (undivided := _undivided(request)) is not None:
        return undivided
    found = candidates(request, method) if found is None else found
    best: Candidate = cheapest(found)
    if math.isinf(best.cost):
        raise TooLittleError.of(min([one.least for one in found if one.least]), method, request)
    return best


def _undivided(request: Request) -> Candidate | None:
    """The first way that brings no operand together from several devices, if there are several: in one block."""
    for name in request.undivided:
        if name == "native":
            return Candidate(name, 0.0)
        found = _fitting(request, name)
        if found.schedule is not None and found.schedule.is_one_block:
            return found
    return None


def candidates(request: Request, method: str = "auto") -> list[Candidate]:
    """All methods as candidates for a word; those ruled out say why."""
    found = [_candidate(request, name, method == "direct") for name in request.methods]
    if request.own is not None and method == "auto":
        found.append(Candidate("native", request.own(request.task)))
    return found


def _candidate(request: Request, name: str, direct: bool) -> Candidate:
    try:
        variant = request.methods[name](request.task)[0]
    except ValueError as error:
        return Candidate(name, math.inf, str(error))
    if direct and not variant.is_local:
        return Candidate(name, math.inf, "its outputs are no sums over their own windows")
    if direct and variant.mixes_zeros and not (request.machine.threads or request.is_finite):
        return Candidate(name, math.inf, "NaN and inf spread, and results cannot be looked at for them")
    if not variant.is_accurate(request.task):
        return Candidate(name, math.inf, "its rounding errors could exceed 1e-5 of the largest output in float32")
    return _fitting(request, name)


def planned(request: Request, name: str) -> Candidate:
    """The candidate of that name; a ValueError if the method cannot do it, or not in this room."""
    if name not in request.methods:
        if request.own is None:
            raise ValueError(
                f"method {name!r} must have a convolution of the library's own, got one that has none for this"
            )
        return Candidate(name, request.own(request.task))
    found = _fitting(request, name)
    if math.isinf(found.cost):
        raise TooLittleError.of(found.least, name, request)
    return found


def _fitting(request: Request, name: str) -> Candidate:
    """The less costly of the ways in which a method does it, or that which needs the fewest bytes, if none fits.

    dx is also found by phases of strides: by few of them, unless sums of another dtype do not fit otherwise.
    """
    found = [_made(request, name, request.task)]
    if request.task.scatters:
        few = not request.task.summed or found[0].schedule is not None
        found = [*_by_phases(request, name, PHASES if few else math.inf), *found]
    costs = [(one.cost, one.least) for one in found]
    return found[costs.index(min(costs))]


def _made(request: Request, name: str, task: Task, phases: tuple[Phase, ...] = (), times: float = 1) -> Candidate:
    """The candidate by a task, or by phases that take so many times as long as the largest, which it is."""
    made = schedule(task, request.methods[name], request.machine, request.room.bytes)
    if isinstance(made, int):
        return Candidate(name, math.inf, str(TooLittleError.of(made, name, request)), least=made)
    return Candidate(name, made.cost * times, schedule=made, phases=phases)


def _by_phases(request: Request, name: str, most: float) -> list[Candidate]:
    """As convolutions of dy by filters turned round, one for each phase of the strides; none if these are too many."""
    task = request.task
    if task.windows.phase_count > (most if request.writes_phases else 1):
        return []
    phases = task.windows.phases
    if not phases:
        return []
    sizes = [phase.windows.taps * phase.windows.positions for phase in phases]
    largest = phases[sizes.index(max(sizes))]
    return [_made(request, name, of_phase(task, largest), phases, sum(sizes) / max(sizes))]


def of_phase(task: Task, phase: Phase) -> Task:
    """The convolution that gives a phase of the gradient by the input."""
    swapped = task._replace(channels=task.filters, filters=task.channels)
    return swapped._replace(direction="forward", windows=phase.windows, turned=True, copies_filters=True, summed=0)
