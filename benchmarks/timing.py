"""Timing of several calls side by side, round by round, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Clock = Callable[[], float]

LONG = 1.0  # seconds of a call that one warm-up is enough for, and that may be hopeless
SHORT = 0.02  # seconds: a shorter call is repeated, untimed, before each sample
WARM_UPS = 3  # of a short call behind the first one: a hiccup in one of them says nothing
HOPELESS = 20  # times as slow as the first call
BEATEN = 10  # times as slow as the fastest call, where that is what is sought
DECIDED = 1.5  # times as slow as the first call, at its fastest: more rounds would not change which is faster

QUIET_SLICE = 0.012  # seconds: longer than a tick of the clock by which the kernel counts what other processors do
QUIET_USE = 0.0005  # seconds of processor time in a slice that count as none
QUIET_SLICES = 25

ORDERS = np.random.default_rng(0)  # of all layers: the same few orders for each might favour the same calls in all


def wait_until_quiet() -> None:
    """Wait until the threads of the call before sleep: BLAS and OpenMP keep theirs spinning for 0.1 s and more."""
    for _ in range(QUIET_SLICES):
        used = time.process_time()
        time.sleep(QUIET_SLICE)
        if time.process_time() - used < QUIET_USE:
            return


def go_on() -> None:
    """Wait for nothing, where times do not matter."""


@dataclass(frozen=True)
class Limits:
    """How long to measure.

    Attributes
    ----------
    least_rounds, most_rounds : int
    sample_seconds : float
        What one sample takes at least: shorter calls are looped, so that the clock is not the matter.
    wake_seconds : float
        How long a short call runs untimed before each sample, to wake processor, caches and threads from their sleep.
    call_seconds : float
        Enough samples of a call, once there are the least rounds.
    total_seconds : float
        Enough of all calls together, waiting included, once there are the least rounds.
    settle : callable
        Called before each sample, to keep the calls before it out of it.
    """

    least_rounds: int
    most_rounds: int
    sample_seconds: float
    wake_seconds: float
    call_seconds: float
    total_seconds: float
    settle: Callable[[], None]


THOROUGH = Limits(
    7, 200, sample_seconds=1e-3, wake_seconds=0.01, call_seconds=1, total_seconds=4, settle=wait_until_quiet
)
QUICK = Limits(2, 2, sample_seconds=0, wake_seconds=0, call_seconds=0, total_seconds=0, settle=go_on)


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the quartiles over the rounds."""

    lower_quartile: float
    median: float
    upper_quartile: float
    rounds: int
    calls_per_sample: int


def interleave(
    calls: Mapping[str, Callable[[], Any]],
    limits: Limits,
    *,
    expendable: Collection[str] = (),
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time all calls in rounds, each in another order.

    An expendable call that is hopeless beside the first one keeps the one timing of its warm-up. One that is clearly
    slower than the first keeps the least rounds, and what time is left goes to those whose order is in doubt.
    """
    pace = {name: warm_up(call, clock) for name, call in calls.items()}
    slowest = max(LONG, HOPELESS * next(iter(pace.values())))
    hopeless = [name for name in calls if name in expendable and pace[name] > slowest]
    return _timings(calls, pace, hopeless, limits, expendable, clock)


def race(
    calls: Mapping[str, Callable[[], Any]], limits: Limits, *, clock: Clock = time.perf_counter
) -> dict[str, Timing]:
    """Time calls of which the fastest is sought, in rounds as `interleave` does.

    All the others are expendable, and one that is beaten beside the fastest keeps the timing of its warm-up, however
    short that is.
    """
    pace = {name: warm_up(call, clock) for name, call in calls.items()}
    fastest_first = {name: calls[name] for name in sorted(calls, key=lambda name: pace[name])}
    beaten = [name for name in calls if pace[name] > BEATEN * min(pace.values())]
    timings = _timings(fastest_first, pace, beaten, limits, list(fastest_first)[1:], clock)
    return {name: timings[name] for name in calls}


def within(limits: Limits, seconds: float | None) -> Limits:
    """The limits with so many seconds for all calls, if that was said."""
    return limits if seconds is None else replace(limits, total_seconds=seconds)


def _timings(
    calls: Mapping[str, Callable[[], Any]],
    pace: Mapping[str, float],
    hopeless: Collection[str],
    limits: Limits,
    expendable: Collection[str],
    clock: Clock,
) -> dict[str, Timing]:
    loops = {name: repetitions(limits.sample_seconds, pace[name]) for name in calls if name not in hopeless}
    samples = _sample_in_rounds(calls, loops, pace, limits, expendable, clock)
    timings = {name: _timing(seconds, loops[name]) for name, seconds in samples.items()}
    return timings | {name: _timing([pace[name]], 1) for name in hopeless}


def _sample_in_rounds(
    calls: Mapping[str, Callable[[], Any]],
    loops: Mapping[str, int],
    pace: Mapping[str, float],
    limits: Limits,
    expendable: Collection[str],
    clock: Clock,
) -> dict[str, list[float]]:
    names = list(loops)
    first = names[0]
    samples: dict[str, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)

    def decided(name: str) -> bool:
        return name in expendable and min(samples[name]) > DECIDED * float(np.median(samples[first]))

    start = clock()
    with _without_collector():
        for number in range(limits.most_rounds):
            if number >= limits.least_rounds:
                names = [name for name in names if not decided(name)]
                enough = min(spent[name] for name in names) >= limits.call_seconds
                if enough or clock() - start >= limits.total_seconds:
                    break
            for at in ORDERS.permutation(len(names)):  # no call always comes behind the same one, which may slow it
                name = names[at]
                limits.settle()
                if pace[name] < SHORT:
                    _seconds(calls[name], repetitions(limits.wake_seconds, pace[name]), clock)
                seconds = _seconds(calls[name], loops[name], clock)
                samples[name].append(seconds / loops[name])
                spent[name] += seconds
    return samples


def warm_up(call: Callable[[], Any], clock: Clock) -> float:
    """Call at least twice, or once if that is long, and say how long it takes."""
    first = _seconds(call, 1, clock)
    if first > LONG:
        return first
    return min(_seconds(call, 1, clock) for _ in range(WARM_UPS if first < SHORT else 1))


def _seconds(call: Callable[[], Any], count: int, clock: Clock) -> float:
    start = clock()
    for _ in range(count):
        call()
    return clock() - start


def repetitions(seconds: float, pace: float) -> int:
    """How many calls take so long, but at least one."""
    return max(1, math.ceil(seconds / max(pace, 1e-9)))


def _timing(samples: list[float], calls_per_sample: int) -> Timing:
    lower, median, upper = (float(value) for value in np.quantile(samples, [0.25, 0.5, 0.75]))
    return Timing(lower, median, upper, len(samples), calls_per_sample)


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
