"""The memory of the process, which costs more to get from the system than to write."""

from __future__ import annotations

import ctypes
import platform

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h
NEVER = -1


def keep_memory() -> bool:
    """Have memory that is freed stay with the process from now on, and say whether it does: with glibc alone.

    Otherwise it depends on what was freed before whether a result of some megabytes is made of new pages, which may
    take longer than the convolution, and one side of a comparison gets them at every call and the other never.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    malloc_option = ctypes.CDLL(None).mallopt
    return bool(malloc_option(TRIM_THRESHOLD, NEVER) and malloc_option(MMAP_MAX, 0))
