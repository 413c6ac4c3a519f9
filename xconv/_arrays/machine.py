"""What a plan needs to know of a library and a dtype, in numbers."""

from __future__ import annotations

import functools

from .._plan.rates import rates_of
from .._plan.schedule import Machine
from .libraries import DType, Namespace, library, traits
from .matmul import bytes_per_element

CACHE = 16 * 2**20  # bytes of a block, beyond which steps over memory are those of uncached memory
WHOLE = 32 * 2**20  # the same where a block is all: malloc keeps no larger array, which comes page by page each time


@functools.lru_cache(maxsize=1024)
def machine_of(xp: Namespace, dtype: DType) -> Machine:
    """The numbers for a dtype that is computed in."""
    rates = rates_of(library(xp))
    steps = rates.steps._replace(operation=0) if traits(xp).traced else rates.steps  # in a program they are one
    return Machine(
        bytes_per_element(xp, dtype), traits(xp).threads, steps, rates.uncached, CACHE if traits(xp).threads else WHOLE
    )
