"""The way in of CuPy's arrays: it computes, and has its new memory, on the device that is current for a thread."""

from __future__ import annotations

import contextlib
from typing import Any

HERE = contextlib.nullcontext()


def on_device_of(array: Any) -> contextlib.AbstractContextManager[Any]:
    """The array's device is current meanwhile, if it is not."""
    import cupy

    current = cupy.cuda.runtime.getDevice()
    place = array.data.device_id if isinstance(array, cupy.ndarray) else current
    elsewhere: contextlib.AbstractContextManager[Any] = cupy.cuda.Device(place)
    return HERE if place == current else elsewhere
