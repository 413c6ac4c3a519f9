"""Timing of several calls side by side, round by round, so that whatever slows the machine slows all of them."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Calls = Mapping[str, Callable[[], Any]]
Clock = Callable[[], float]

SHORT = 0.02  # seconds: a shorter call is repeated, untimed, before each sample
WARM_UPS = 3  # of a short call behind the first one: a hiccup in one of them says nothing
BEATEN = 10  # times as slow as the fastest call

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
    total_seconds : float
        Enough of all calls together, waiting included, once there are the least rounds.
    settle : callable
        Called before each sample, to keep the calls before it out of it.
    """

    least_rounds: int
    most_rounds: int
    sample_seconds: float
    wake_seconds: float
    total_seconds: float
    settle: Callable[[], None]


THOROUGH = Limits(7, 200, sample_seconds=1e-3, wake_seconds=0.01, total_seconds=4, settle=wait_until_quiet)
QUICK = Limits(2, 2, sample_seconds=0, wake_seconds=0, total_seconds=0, settle=go_on)


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the quartiles over the rounds."""

    lower_quartile: float
    median: float
    upper_quartile: float
    rounds: int
    calls_per_sample: int


def limits_of(quick: bool, seconds: float | None, thorough: Limits = THOROUGH) -> Limits:
    """Those of a run, with so many seconds for all calls, if that was said."""
    limits = QUICK if quick else thorough
    return limits if seconds is None else replace(limits, total_seconds=seconds)


def interleave(calls: Calls, limits: Limits, *, clock: Clock = time.perf_counter) -> dict[str, Timing]:
    """Time all calls in rounds, each in another order.

    One that is beaten by far, and would take all the time for its least rounds, keeps the timing of its warm-up.
    """
    pace = {name: warm_up(call, clock) for name, call in calls.items()}
    fastest = min(pace.values(), default=0)
    slow = {
        name
        for name, seconds in pace.items()
        if seconds > BEATEN * fastest and seconds * limits.least_rounds > limits.total_seconds > 0
    }
    loops = {name: repetitions(limits.sample_seconds, pace[name]) for name in calls if name not in slow}
    samples = _sample_in_rounds(calls, loops, pace, limits, clock) | {name: [pace[name]] for name in slow}
    return {name: _timing(samples[name], loops.get(name, 1)) for name in calls}


def _sample_in_rounds(
    calls: Calls, loops: Mapping[str, int], pace: Mapping[str, float], limits: Limits, clock: Clock
) -> dict[str, list[float]]:
    names, start = list(loops), clock()
    samples: dict[str, list[float]] = {name: [] for name in names}
    with _without_collector():
        for number in range(limits.most_rounds):
            if number >= limits.least_rounds and clock() - start >= limits.total_seconds:
                break
            for at in ORDERS.permutation(len(names)):  # no call always comes behind the same one, which may slow it
                name = names[at]
                limits.settle()
                if pace[name] < SHORT:
                    _seconds(calls[name], repetitions(limits.wake_seconds, pace[name]), clock)
                samples[name].append(_seconds(calls[name], loops[name], clock) / loops[name])
    return samples


def warm_up(call: Callable[[], Any], clock: Clock) -> float:
    """Call at least twice, and say how long it takes."""
    first = _seconds(call, 1, clock)
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
