"""What a plan needs to know of a library and a dtype, in numbers."""

from __future__ import annotations

import functools

from .._plan.rates import rates_of
from .._plan.schedule import Machine
from .._plan.task import ANY
from .libraries import DType, Namespace, library, on_accelerator, traits
from .matmul import bytes_per_element

CACHE = 16 * 2**20  # bytes of a block, beyond which steps over memory are those of uncached memory
WHOLE = 32 * 2**20  # the same where a block is all: malloc keeps no larger array, which comes page by page each time


@functools.lru_cache(maxsize=1024)
def machine_of(xp: Namespace, dtype: DType) -> Machine:
    """The numbers for a dtype that is computed in."""
    rates, library_traits = rates_of(library(xp)), traits(xp)
    is_traced, is_remote = library_traits.traced, bool(library_traits.own) and on_accelerator(xp)
    steps = rates.steps._replace(operation=0) if is_traced else rates.steps  # in a program they are one
    cache = ANY if is_remote else CACHE if library_traits.threads else WHOLE
    return Machine(bytes_per_element(xp, dtype), library_traits.threads, steps, rates.uncached, cache, is_traced)
