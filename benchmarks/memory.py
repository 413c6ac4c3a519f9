"""The memory of the process, which costs more to get from the system than to write."""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = -1
LARGEST_KEPT = 32 * 2**20  # bytes, where malloc ends by itself: what is larger it always gets anew


def keep_memory() -> bool:
    """Have results of up to 32 MiB made of memory that was used before, and say whether they are: with glibc alone.

    Otherwise it depends on what was freed before whether they are made of new pages, which may take longer than the
    convolution, and one side of a comparison gets them at every call and the other never.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    malloc_option = ctypes.CDLL(None).mallopt
    return bool(malloc_option(TRIM_THRESHOLD, NEVER) and malloc_option(MMAP_THRESHOLD, LARGEST_KEPT))
