"""ONE table of how array libraries differ, and the look-up of a namespace in it.

A library without a row has the cautious one: only what the Array API guarantees. Nothing else asks for names.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

from .._plan.remembered import loading

Array: TypeAlias = Any
Namespace: TypeAlias = Any
DType: TypeAlias = Any


class Library(NamedTuple):
    """The traits of an array library; the defaults are what holds for any."""

    name: str
    extras: tuple[str, ...] = ()  # of xconv, that install it
    refused: str = ""  # why its arrays are, if they are
    views: bool = False  # slices are views: what is written to one is written to the array
    scatters: bool = False  # arrays are written to at arrays of positions, too
    plain_memory: bool = False  # arrays are strided memory and no more: views may be written to, and may overlap
    threads: bool = False  # it computes on one core: threads of our own make it faster
    kernels: bool = False  # every operation is a kernel that a GPU is given by itself: few are best, however long
    traced: bool = False  # arrays may stand for those of a program to be compiled, and have no device then
    hidden_axes: bool = False  # arrays may have axes that only others like them have, inside torch.func.vmap
    keeps_arrays: bool = False  # an array made once serves every later call: one device, and no trace it belongs to
    entrance: str = ""  # which of the ways in `_arrays.entrances` its arrays take
    gathers: bool = False  # matrices of a stack are copied one by one where BLAS cannot read them
    splits: str = ""  # its function that cuts an array along an axis, whose derivative joins parts, and adds nothing
    unfolds: bool = False  # arrays have `unfold`, views that overlap, though not of what PyTorch's vmap differentiates
    chunked: bool = False  # arrays are chunks of another library's, computed later
    layouts: bool = False  # arrays may be sparse or nested, by an attribute of each
    own: str = ""  # which of the classes in `_methods.native` and `native_cudnn` its own convolution is
    own_extras: tuple[str, ...] = ()  # of xconv, that install it, where the library does not bring it
    solvers: str = ""  # the module of its iterative solvers, which take its linear operators
    transforms: str = ""  # a module with faster Fourier transforms of its arrays than its own, where it is installed


TABLE = {
    row.name: row
    for row in (
        Library(
            "numpy",
            views=True,
            scatters=True,
            plain_memory=True,
            threads=True,
            keeps_arrays=True,
            transforms="scipy.fft",
            solvers="scipy.sparse.linalg",
        ),  # SciPy's transforms are two to three times as fast as NumPy's, by `python -m benchmarks rates`
        Library(
            "cupy",
            ("cuda12", "cuda13"),
            views=True,
            scatters=True,
            plain_memory=True,
            kernels=True,
            solvers="cupyx.scipy.sparse.linalg",
            entrance="cupy",
            own="cudnn",
            own_extras=("cudnn12", "cudnn13"),
        ),
        Library("jax", ("jax",), scatters=True, traced=True, splits="split", entrance="jax", own="lax"),
        Library(
            "torch",
            ("torch",),
            views=True,
            scatters=True,
            hidden_axes=True,
            splits="tensor_split",
            unfolds=True,
            layouts=True,
            entrance="torch",
            own="torch",
            gathers=True,
        ),
        Library("dask", ("dask",), chunked=True),
        Library("sparse", refused="its arrays are no dense ones: pass x.todense()"),
    )
}
UNKNOWN = Library("")


def row_of(array: Array) -> Library:
    """The row of an array by the package of its type, before anything is asked of it; the cautious one if none."""
    return TABLE.get(type(array).__module__.partition(".")[0].removesuffix("lib"), UNKNOWN)  # JAX's are of jaxlib


def is_chunked(*arrays: Array) -> bool:
    """Whether one of them is in chunks that are computed later."""
    return any([row_of(array).chunked for array in arrays])  # noqa: C419 - of small arrays a generator takes longer


@functools.cache
def library(xp: Namespace) -> str:
    """The package that a namespace is of."""
    return str(xp.__name__).removeprefix("array_api_compat.").split(".")[0]


@functools.cache
def traits(xp: Namespace) -> Library:
    """The row of a namespace, or the cautious one."""
    return TABLE.get(library(xp), Library(library(xp)))


@functools.cache
@loading
def transforms(xp: Namespace) -> Any:
    """Where a library's Fourier transforms are: its own, where the faster ones are not installed or, as the interpreter
    shuts down, can no longer be loaded (RuntimeError, of the threads that their package would register).
    """
    if traits(xp).transforms:
        with contextlib.suppress(ImportError, RuntimeError):
            return importlib.import_module(traits(xp).transforms)
    return xp.fft


def in_place(xp: Namespace) -> dict[str, bool]:
    """Keywords of complex transforms of arrays of our own, which may be written over."""
    return {} if transforms(xp) is xp.fft else {"overwrite_x": True}


def on_accelerator(xp: Namespace) -> bool:
    """Whether new arrays of a library that convolves by itself are where its rates were not measured."""
    if traits(xp).kernels or not traits(xp).own:
        return traits(xp).kernels
    if traits(xp).own == "lax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import torch

    return bool(torch.cuda.is_available())


def device(array: Array) -> Any:
    """Where an array is, for what is made beside it; None if that is not known, as of Dask's arrays and traced ones.

    Nor of those of JAX that follow others to where these are, or are on several devices: by a sharding of their shape.
    """
    place = getattr(array, "device", None)
    if place is None or hasattr(place, "device_set") or not getattr(array, "committed", True):
        return None
    return place


def mesh(array: Array) -> Any:
    """The mesh of devices over which an array of JAX is divided, or may be, also while it is traced; None if none is.

    That of its type, or the one set around the call: ``in_shardings`` of `jax.jit` alone are not seen.
    """
    if not row_of(array).traced:
        return None
    import jax

    if not hasattr(jax, "typeof"):  # before which types did not tell
        return None
    own = jax.typeof(array).sharding.mesh
    found = jax.sharding.get_abstract_mesh() if own.empty else own
    return None if found.empty else found


def device_count(place: Any) -> int:
    """Over how many devices an array at a place is divided, or may be: those of a sharding, or of a mesh.

    Along the axes of a mesh that `jax.shard_map` has taken apart, each device has arrays of its own.
    """
    if hasattr(place, "device_set"):
        return 1 if place.is_fully_replicated else len(place.device_set)
    if not hasattr(place, "axis_types"):
        return 1
    return math.prod(
        [size for size, kind in zip(place.axis_sizes, place.axis_types, strict=True) if kind.name != "Manual"]
    )


def mesh_axes(place: Any) -> int:
    """Along how many axes of a mesh an array at a place is divided, or may be, of which each has several devices."""
    whole = getattr(place, "mesh", place)
    sizes, kinds = getattr(whole, "axis_sizes", (1,)), getattr(whole, "axis_types", None)
    if not isinstance(kinds, tuple):  # an old JAX's, which tell no kind of each
        return sum([size > 1 for size in sizes])
    return sum([size > 1 and kind.name != "Manual" for size, kind in zip(sizes, kinds, strict=True)])


@functools.lru_cache(maxsize=1024)
def is_kind(xp: Namespace, dtype: DType, kind: str | tuple[str, ...]) -> bool:
    """``xp.isdtype``, remembered: a short call would spend most of its time asking."""
    return bool(xp.isdtype(dtype, kind))


def has_float64(xp: Namespace, place: Any) -> bool:
    """Whether a device has it: JAX only when it is switched on, and some accelerators never."""
    return "float64" in xp.__array_namespace_info__().dtypes(device=place, kind="real floating")


def has_int64(xp: Namespace, place: Any) -> bool:
    """The same of integers."""
    return "int64" in xp.__array_namespace_info__().dtypes(device=place, kind="signed integer")


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of JAX's arrays as one program: outside of one each operation by itself takes its time."""
    import jax

    return cast(Callable[..., Any], jax.jit(function))


def may_look(xp: Namespace, array: Array) -> bool:
    """Whether elements are numbers now, and not those of a program to be compiled or of a transformation."""
    if traits(xp).hidden_axes:
        import torch

        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(array)
        return type(array) in (torch.Tensor, torch.nn.Parameter) and not (wrapped or torch.compiler.is_compiling())
    return traits(xp).threads


def is_immutable(array: Array) -> bool:
    """Whether it offers changed copies, ``at``, instead of being written to."""
    return hasattr(array, "at")
