"""The traits in which array libraries differ."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

Array: TypeAlias = Any
Namespace: TypeAlias = Any
DType: TypeAlias = Any


@functools.cache
def library(xp: Namespace) -> str:
    """The package that a namespace is of."""
    return str(xp.__name__).removeprefix("array_api_compat.").split(".")[0]


def device(array: Array) -> Any:
    """Where an array is, for what is made beside it; None if that is not known: Dask's arrays, and traced ones."""
    return getattr(array, "device", None)


@functools.lru_cache(maxsize=1024)
def is_kind(xp: Namespace, dtype: DType, kind: str) -> bool:
    """``xp.isdtype``, remembered: a short call would spend most of its time asking."""
    return bool(xp.isdtype(dtype, kind))


@functools.cache
def runs_on_threads(xp: Namespace) -> bool:
    """Whether threads of our own make the library faster: NumPy computes on one, the others have theirs."""
    return library(xp) == "numpy"


@functools.cache
def starts_kernels(xp: Namespace) -> bool:
    """Whether every operation is a kernel that a GPU is given by itself (CuPy): few of them are best, however long."""
    return library(xp) == "cupy"


@functools.cache
def keeps_arrays(xp: Namespace) -> bool:
    """Whether an array made once serves every later call: there is one device, and no trace that it belongs to."""
    return library(xp) == "numpy"


@functools.cache
def is_plain_memory(xp: Namespace) -> bool:
    """Whether arrays are strided memory and no more (NumPy, CuPy): parts may be written to, and views may overlap.

    PyTorch would have to differentiate every such step.
    """
    return library(xp) in ("numpy", "cupy")


def _is_immutable(array: Array) -> bool:
    """Whether it is JAX's, which offers changed copies instead."""
    return hasattr(array, "at")


@functools.cache
def _without_wrappers(xp: Namespace) -> Namespace:
    """NumPy 2 follows the standard by itself, and a wrapper takes longer than what a small array needs done."""
    if library(xp) != "numpy":
        return xp
    import numpy

    return numpy
