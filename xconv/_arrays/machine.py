"""What a plan needs to know of a library and a dtype, in numbers."""

from __future__ import annotations

import functools

from .._plan.rates import rates_of
from .._plan.schedule import Machine
from .._plan.task import ANY, OVERLAPPING, Steps
from .libraries import DType, Namespace, library, on_accelerator, traits
from .matmul import bytes_per_element
from .operands import item_size

CACHE = 16 * 2**20  # bytes of a block, beyond which steps over memory are those of uncached memory
WHOLE = 32 * 2**20  # the same where a block is all: malloc keeps no larger array, which comes page by page each time

FLOAT = 4  # bytes of the numbers that rates are of
ALONE = 0.5  # of the time for Python between operations, where no other thread of ours wants to have it


@functools.lru_cache(maxsize=1024)
def machine_of(xp: Namespace, dtype: DType) -> Machine:
    """The numbers for a dtype that is computed in."""
    rates, library_traits = rates_of(library(xp)), traits(xp)
    is_traced, is_remote = library_traits.traced, on_accelerator(xp)
    share = 0.0 if is_traced else 1 if library_traits.threads else ALONE  # in a program operations are one,
    added = rates.steps.added / (OVERLAPPING if is_traced else 1)  # and windows that overlap are added in one loop
    steps = rates.steps._replace(operation=share * rates.steps.operation, added=added)
    element = bytes_per_element(xp, dtype)
    if library_traits.threads:
        steps = _of_numbers(steps, item_size(xp, dtype) / FLOAT, element / FLOAT)
    cache = ANY if is_remote else CACHE if library_traits.threads else WHOLE
    return Machine(element, library_traits.threads, steps, rates.uncached, cache, is_traced)


def _of_numbers(rates: Steps, wide: float, multiplied: float) -> Steps:
    """Those of numbers so many times as wide as float32, which move as many bytes, and of what they are multiplied as.

    A library's own convolution, whose rates are of float32 alone, is compared as one of these.
    """
    times = {"operation": 1.0, "product": 1.0, "row": 1.0, "multiplication": multiplied}
    return Steps(*[rate * times.get(name, wide) for name, rate in zip(Steps._fields, rates, strict=True)])
