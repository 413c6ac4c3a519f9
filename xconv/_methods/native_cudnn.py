"""cuDNN's convolution of CuPy's arrays, which have none of their own, through NVIDIA's frontend: the module ``cudnn``.

A graph of one convolution is planned for sizes, layout and dtype, within a workspace, and the plan is kept. Handles
and plans are of one thread and one device. Sums are of full float32, unless the user allows CuPy TF32, and the same
from run to run; half precision goes in and comes out as it is.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .._arrays.elements import zeros
from .._arrays.libraries import TABLE, Array, DType, Namespace
from .._plan.geometry import Geometry, Ints
from .._plan.remembered import loading
from .._plan.task import Task
from .native import Native, UnsupportedError

OLDEST = (1, 27)  # the frontend's version that brought float64
PLANS = 256  # that a thread keeps for a device, of some 200 KiB each
ALIGNED = 16  # bytes, of which all addresses are multiples
LARGEST = 2**31 - 1  # elements of filters that cuDNN counts
MOST = 2**63 - 1  # bytes that it does
TF32 = 7  # COMPUTE_TYPE_TF32 of cupy._core
TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}
SINGLE, DOUBLE = "f", "d"  # NumPy's letters, which are told sooner than names
OPERANDS = {"conv_fprop": ("image", "weight"), "conv_dgrad": ("loss", "filter"), "conv_wgrad": ("image", "loss")}
ROUNDED = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS")  # in these plans float32 is
_OWN = threading.local()


@functools.cache
@loading
def missing() -> str:
    """Why cuDNN cannot be used, and which extra installs it; nothing if it can."""
    install = " or ".join(f"pip install '.[{extra}]'" for extra in TABLE["cupy"].own_extras)
    with contextlib.suppress(Exception):  # the runtime that the frontend looks for by itself, if this is not there
        from cuda.pathfinder import load_nvidia_dynamic_lib

        load_nvidia_dynamic_lib("cudart")
    try:
        import cudnn

        if _version(cudnn) < OLDEST:
            return f"cudnn {cudnn.__version__} is older than {'.'.join(map(str, OLDEST))}: {install}"
        cudnn.backend_version()
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed: {install}"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"cudnn is installed but cannot load cuDNN ({_in_words(error)}): {install}"
    return ""


class Cudnn(Native):
    """Operands in one packed layout: channels last if the data is, and else first."""

    takes_halves = True
    may_refuse = True

    def __init__(self, xp: Namespace, task: Task, room: int) -> None:
        super().__init__(xp, task)
        self.room = min(room, MOST)

    def forward(self, x: Array, w: Array, b: Array | None) -> Array:
        shape = (x.shape[0], self.groups * self.filters, *self.windows.output_size)
        y = self._run("conv_fprop", x, w, shape)
        if b is not None:
            y += b[(slice(None), *(None,) * self.windows.ndim)]
        return y

    def backward_data(self, dy: Array, w: Array) -> Array:
        shape = (dy.shape[0], self.groups * self.channels, *self.windows.input_size)
        return self._run("conv_dgrad", dy, w, shape)

    def backward_filter(self, dy: Array, x: Array) -> Array:
        return self._run("conv_wgrad", x, dy, self.weight_shape)

    def _run(self, product: str, first: Array, second: Array, shape: Ints) -> Array:
        """Of two arrays on the device that is current."""
        import cupy

        if 0 in (*first.shape, *second.shape, *shape):
            return zeros(self.xp, first, shape)
        xp, dtype = self.xp, first.dtype
        last = not first.flags.c_contiguous and _inwards(first).flags.c_contiguous
        ready = [_is_ready(array, last) for array in (first, second)]
        copied = sum([0 if good else array.nbytes for good, array in zip(ready, (first, second), strict=True)])
        exact = dtype.char == SINGLE and cupy._core.get_compute_type(dtype) != TF32
        shapes = (first.shape, second.shape, shape)
        own = _own(first.data.device_id)
        plan = own.plan(_What(product, self.windows, shapes, dtype, last, self.room - copied, exact))
        first, second = (
            one if good else _packed(xp, one, last) for good, one in zip(ready, (first, second), strict=True)
        )
        result = xp.empty((shape[0], *shape[2:], shape[1]) if last else shape, dtype=dtype)
        memory = cupy.cuda.alloc(plan.workspace) if plan.workspace else None
        own.follow(cupy.cuda.get_current_stream().ptr)
        addresses = {1: first.data.ptr, 2: second.data.ptr, 3: result.data.ptr}
        plan.run(addresses, 0 if memory is None else memory.ptr)
        return _outwards(result) if last else result


class _What(NamedTuple):
    """All that a plan depends on."""

    product: str
    windows: Geometry
    shapes: tuple[Ints, Ints, Ints]  # of the operands and the result, with channels first
    dtype: DType
    last: bool  # whether channels are last in memory
    room: int  # bytes of workspace
    exact: bool  # whether factors may not be rounded


class _Plan(NamedTuple):
    run: Callable[[dict[int, int], int], None]  # of addresses, and of that of the workspace
    workspace: int


class _Place:
    """What a thread has on a device: a handle, the stream that it follows, and plans, the latest used last."""

    def __init__(self) -> None:
        import cudnn

        self.cudnn = cudnn
        try:
            self.handle = cudnn.create_handle()
        except RuntimeError as error:
            raise UnsupportedError(_in_words(error)) from error
        self.stream: int | None = None
        self.plans: dict[_What, _Plan | str] = {}  # or why there is none
        weakref.finalize(self, _leave, cudnn, self.handle, self.plans)  # with the thread, or at exit

    def follow(self, stream: int) -> None:
        """Do what comes on a stream; to say so takes cuDNN microseconds."""
        if stream != self.stream:
            self.cudnn.set_stream(handle=self.handle, stream=stream)
            self.stream = stream

    def plan(self, what: _What) -> _Plan:
        """The plan, or an `UnsupportedError`: each is found once."""
        found = self.plans.pop(what, None)
        if found is None:
            try:
                found = _planned(self.cudnn, self.handle, what)
            except UnsupportedError as refusal:
                found = refusal.reason
            if len(self.plans) >= PLANS:
                self.plans.pop(next(iter(self.plans)))
        self.plans[what] = found
        if isinstance(found, str):
            raise UnsupportedError(found)
        return found


def _own(place: int) -> _Place:
    """What this thread has on the device, which is current."""
    places: dict[int, _Place] = vars(_OWN).setdefault("places", {})
    if place not in places:
        places[place] = _Place()
    return places[place]


def _leave(cudnn: Any, handle: Any, plans: dict[Any, Any]) -> None:
    plans.clear()
    with contextlib.suppress(RuntimeError):  # as the process ends, the device may be gone
        cudnn.destroy_handle(handle)


def _planned(cudnn: Any, handle: Any, what: _What) -> _Plan:
    """The first plan by cuDNN's heuristics that it can build, or an `UnsupportedError`."""
    if what.room < 0:
        raise UnsupportedError("max_workspace has no room for the packed copies of the operands that cuDNN needs")
    weights = what.shapes[2] if what.product == "conv_wgrad" else what.shapes[1]
    if math.prod(weights) > LARGEST:
        raise UnsupportedError(f"filters may have {LARGEST} elements, got {math.prod(weights)}")
    try:
        graph = _with_plans(cudnn, handle, what)
        for number in range(graph.get_execution_plan_count()):
            with contextlib.suppress(*_refusals(cudnn)):  # of plans that are left out, or that cannot be built
                graph.build_plan_at_index(number)  # which `execute` takes from then on
                workspace = graph.get_workspace_size_plan_at_index(number)
                if workspace <= what.room:
                    run = functools.partial(graph.execute, handle=handle)
                    return _alone(cudnn, handle, what, graph, number) or _Plan(run, workspace)
    except _refusals(cudnn) as error:
        raise UnsupportedError(_in_words(error)) from error
    raise UnsupportedError(f"no plan of {what.dtype} does with {what.room} bytes of workspace")


def _alone(cudnn: Any, handle: Any, what: _What, planned: Any, number: int) -> _Plan | None:
    """The same plan in a graph of its own, which starts twice as fast: the frontend goes through no others.

    None if knobs of the plan have no names in the frontend.
    """
    with contextlib.suppress(*_refusals(cudnn)):
        graph = _graph(cudnn, handle, what)
        graph.create_execution_plan(*planned.get_engine_and_knobs_at_index(number))
        graph.build_plan_at_index(0)
        workspace = graph.get_workspace_size_plan_at_index(0)
        if workspace <= what.room:
            return _Plan(functools.partial(graph.execute_plan_at_index, index=0, handle=handle), workspace)
    return None


def _refusals(cudnn: Any) -> tuple[type[Exception], ...]:
    """What the frontend raises for a graph or plan, NotImplementedError among them."""
    return (cudnn.cudnnGraphNotSupportedError, ValueError, RuntimeError)


def _with_plans(cudnn: Any, handle: Any, what: _What) -> Any:
    """The graph and its plans, but those that round factors, reduce in half precision, or vary from run to run."""
    graph = _graph(cudnn, handle, what)
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    notes = ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", *(ROUNDED if what.exact else ()))
    graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in notes])
    graph.deselect_workspace_greater_than(what.room)
    graph.check_support()
    return graph


def _graph(cudnn: Any, handle: Any, what: _What) -> Any:
    """One convolution, without plans."""
    kind = getattr(cudnn.data_type, TYPES[what.dtype.name])
    sums = kind if what.dtype.char == DOUBLE else cudnn.data_type.FLOAT
    graph = cudnn.pygraph(handle=handle, io_data_type=kind, intermediate_data_type=sums, compute_data_type=sums)
    shapes = [_in_a_plane(shape) for shape in what.shapes]
    strides = [_strides(shape, what.last) for shape in shapes]
    names = OPERANDS[what.product]
    operands = {
        name: graph.tensor(dim=shape, stride=stride, data_type=kind, name=name, uid=uid)
        for uid, name, shape, stride in zip((1, 2), names, shapes, strides, strict=False)
    }
    windows, row = what.windows, what.windows.ndim == 1
    result = getattr(graph, what.product)(
        **operands,
        pre_padding=[0] * row + [lo for lo, _ in windows.padding],
        post_padding=[0] * row + [hi for _, hi in windows.padding],
        stride=[1] * row + [*windows.stride],
        dilation=[1] * row + [*windows.dilation],
    )
    result.set_output(True)
    result.set_dim(shapes[2])
    result.set_stride(strides[2])
    result.set_data_type(kind)
    result.set_uid(3)
    graph.validate()
    graph.build_operation_graph()
    return graph


def _in_a_plane(shape: Ints) -> list[int]:
    """A shape (N, C, d) as that of images of one row; others as they are."""
    return [*shape] if len(shape) > 3 else [*shape[:2], 1, shape[2]]


def _strides(shape: list[int], last: bool) -> list[int]:
    """Elements between neighbours along each axis of a packed array (N, C, *d)."""
    axes = [0, *range(2, len(shape)), 1] if last else [*range(len(shape))]
    strides, step = [0] * len(shape), 1
    for axis in reversed(axes):
        strides[axis], step = step, step * shape[axis]
    return strides


def _is_ready(array: Array, last: bool) -> bool:
    """Whether cuDNN can read an array (N, C, *d) where it is."""
    return bool((_inwards(array) if last else array).flags.c_contiguous) and array.data.ptr % ALIGNED == 0


def _packed(xp: Namespace, array: Array, last: bool) -> Array:
    copied = xp.asarray(_inwards(array) if last else array, copy=True, order="C")
    return _outwards(copied) if last else copied


def _inwards(array: Array) -> Array:
    """(N, C, *d) -> (N, *d, C), a view."""
    return array.transpose((0, *range(2, array.ndim), 1))


def _outwards(array: Array) -> Array:
    """(N, *d, C) -> (N, C, *d), a view."""
    return array.transpose((0, array.ndim - 1, *range(1, array.ndim - 1)))


def _version(cudnn: Any) -> Ints:
    return tuple(int(part) for part in cudnn.__version__.split(".")[:2])


def _in_words(error: Exception) -> str:
    """The first line of an error; of the one that says least, what it means."""
    text = str(error)
    if "SUBLIBRARY_VERSION_MISMATCH" in text:
        return "libraries of two versions of cuDNN are loaded: LD_LIBRARY_PATH, or another package, has one beside it"
    return (text.strip() or type(error).__name__).splitlines()[0]
