"""Timing of several calls side by side, round by round, so that whatever slows the machine slows all."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Call = Callable[[], Any]

SHORT = 0.02  # seconds: a shorter call wakes nobody by itself
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


@dataclass(frozen=True)
class Stopwatch:
    """How calls are timed, and for how long."""

    least_rounds: int
    total_seconds: float = 0  # enough of all calls together, waiting included, once there are the least rounds
    sample_seconds: float = 0  # of one sample at least: shorter calls are looped, so that the clock is not the matter
    wake_seconds: float = 0  # of a short call, untimed, before each sample, to wake processor, caches and threads
    short: float = SHORT  # seconds: calls that take less are woken
    settle: Call = lambda: None  # before each sample, to keep the calls before it out of it
    finish: Call = lambda: None  # the last part of each sample
    clock: Callable[[], float] = time.perf_counter

    def interleave(self, calls: Mapping[str, Call]) -> dict[str, dict[str, float]]:
        """The "median" of each call's seconds and over how many "rounds", of which each has another order.

        One that is beaten by far, and would take all the time for its least rounds, keeps the timing of its warm-up.
        """
        pace = {name: self.pace(call) for name, call in calls.items()}
        patience = max(BEATEN * min(pace.values(), default=0), self.total_seconds / self.least_rounds or math.inf)
        samples = {name: [seconds] if seconds > patience else [] for name, seconds in pace.items()}
        names, start, rounds = [name for name in calls if not samples[name]], self.clock(), 0
        gc.disable()
        try:
            while names and (rounds < self.least_rounds or self.clock() - start < self.total_seconds):
                for at in ORDERS.permutation(len(names)):  # no call always comes behind the same one
                    samples[names[at]].append(self.sample(calls[names[at]], pace[names[at]]))
                rounds += 1
        finally:
            gc.enable()
        return {name: {"median": statistics.median(found), "rounds": len(found)} for name, found in samples.items()}

    def sample(self, call: Call, pace: float) -> float:
        self.settle()
        if pace < self.short:
            self.seconds(call, repetitions(self.wake_seconds, pace))
        loops = repetitions(self.sample_seconds, pace)
        return self.seconds(call, loops) / loops

    def pace(self, call: Call) -> float:
        """Call at least twice, and say how long it takes."""
        first = self.seconds(call)
        return min(self.seconds(call) for _ in range(WARM_UPS if first < SHORT else 1))

    def seconds(self, call: Call, count: int = 1) -> float:
        start = self.clock()
        for _ in range(count):
            call()
        self.finish()
        return self.clock() - start


THOROUGH = Stopwatch(7, 4, sample_seconds=1e-3, wake_seconds=0.01, settle=wait_until_quiet)
QUICK = Stopwatch(2)


def repetitions(seconds: float, pace: float) -> int:
    """How many calls take so long, but at least one."""
    return max(1, math.ceil(seconds / max(pace, 1e-9)))
