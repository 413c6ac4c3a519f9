"""CuPy and cuDNN without a GPU: arrays of NumPy that have what xconv asks of CuPy's, and a ``cudnn`` that opens their
addresses with the sizes and strides it was told, and convolves by loops."""

from __future__ import annotations

import ctypes
import itertools
import re
import threading
import types
from typing import ClassVar

import numpy as np

PAGE = 0xFF  # of which new memory is full: NaN


class Device:
    """A device by its number, which ``with`` makes the thread's own."""

    def __init__(self, number=None):
        self.id = CURRENT.device if number is None else number

    def __enter__(self):
        self.before, CURRENT.device = CURRENT.device, self.id
        return self

    def __exit__(self, *error):
        CURRENT.device = self.before

    def __eq__(self, other):
        return self.id == other.id

    def __int__(self):
        return self.id

    def __str__(self):
        return f"<CUDA Device {self.id}>"

    __hash__ = None  # as CuPy's


class Stream:
    """A stream by its address, which ``with`` makes the thread's own."""

    def __init__(self, ptr):
        self.ptr = ptr

    def __enter__(self):
        self.before, CURRENT.stream = CURRENT.stream, self.ptr

    def __exit__(self, *error):
        CURRENT.stream = self.before


class _Current(threading.local):
    device, stream, read = 0, 0, None


CURRENT = _Current()


class Memory:
    """A piece of a device's memory."""

    def __init__(self, ptr, device_id):
        self.ptr, self.device_id = ptr, device_id


class Array(np.ndarray):
    """NumPy's, on a device; operations that CuPy would launch a kernel for are counted."""

    __module__ = "cupy"
    launches: ClassVar[list[str]] = []  # of all arrays, by name
    COPIES = (
        "ascontiguousarray",
        "astype",
        "concatenate",
        "copyto",
        "full",
        "stack",
        "take",
        "where",
        "zeros_like",
        "full_like",
    )
    SUMS = ("max", "min", "sum", "flip")  # a flip is a view, of which the next operation makes a copy

    def __array_finalize__(self, source):
        self.number = getattr(source, "number", CURRENT.device)

    @property
    def data(self):
        return Memory(self.ctypes.data, self.number)

    @property
    def device(self):
        return Device(self.number)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        self._launched(ufunc.__name__)
        keywords |= {} if out is None else {"out": tuple(map(plain, out))}
        result = getattr(ufunc, method)(*map(plain, inputs), **keywords)
        return wrapped(result) if out is None else out[0]

    def __array_function__(self, function, kinds, arguments, keywords):
        arguments = [*map(plain, arguments)]
        result = function(*arguments, **{name: plain(value) for name, value in keywords.items()})
        if function.__name__ in self.COPIES + self.SUMS and arguments[0] is not result:
            self._launched(function.__name__)
        return wrapped(result)

    def __setitem__(self, index, values):
        self._launched("setitem")
        plain(self)[index] = plain(values)

    def astype(self, *arguments, **keywords):
        self._launched("astype")
        return wrapped(plain(self).astype(*arguments, **keywords))

    def _launched(self, name):
        assert self.number == CURRENT.device, f"{name} of an array of device {self.number} on {CURRENT.device}"
        Array.launches.append(name)


def plain(value):
    """NumPy's own arrays, in lists too."""
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value.view(np.ndarray) if isinstance(value, Array) else value


def wrapped(value):
    """As an array of the current device."""
    return value.view(Array) if type(value) is np.ndarray else value


class ElementwiseKernel:
    """CuPy's, of code that is assignments and loops of one length: done for some elements at once, by NumPy."""

    SOME = 2**12

    def __init__(self, given, results, code, name):
        self.given, self.results = ([one.split() for one in text.split(",")] for text in (given, results))
        lines, self.indices, depth = [], set(), 0
        for line in filter(None, map(str.strip, code.splitlines())):
            if line == "}":
                depth -= 1
            else:
                lines.append("    " * depth + self._translated(line))
                depth += line.endswith("{")
        self.source, self.text = compile("\n".join(lines), name, "exec"), code

    def _translated(self, line):
        if match := re.fullmatch(r"for \(\w+ (\w+) = 0; \w+ < (\w+); \+\+\w+\) {", line):
            self.indices.add(match[1])
            return f"for {match[1]} in range({match[2]}):"
        if match := re.fullmatch(r"if \((\w+)\) (\w+)\[(\w+)\] = (\w+);", line):
            return "{1}.put({0}, {2}, {3})".format(*match.groups())
        kind, name, value = re.fullmatch(r"(?:(\w+) )?(\w+) = (.*);", line).groups()
        self.indices |= {name} if kind in ("int", "ptrdiff_t") else set()
        value = value.replace("&&", "&").replace("||", "|")
        value = value.replace("/", "//") if name in self.indices or kind == "bool" else value
        if match := re.fullmatch(r"(.*) \? (.*) : (.*)", value):
            value = f"chosen({match[1]}, lambda: {match[2]}, lambda: {match[3]})"
        return f"{name} = {value}"

    def __call__(self, *arguments, size=None):
        Array.launches.append("kernel")
        names = [one[-1] for one in (*self.given, *self.results)]
        values = dict(zip(names, map(plain, arguments), strict=True))
        types_ = {
            one[-2]: values[one[-1]].dtype.type
            for one in self.given + self.results
            if one[-2] in "TU" and hasattr(values[one[-1]], "dtype")
        }
        for words in self.given + self.results:
            if "raw" in words:
                values[words[-1]] = Raw(values[words[-1]])
            elif words[-2] in types_ and words in self.given:
                values[words[-1]] = types_[words[-2]](values[words[-1]])
            elif words[-2] == "int32":
                assert -(2**31) <= values[words[-1]] < 2**31
        outputs = {words[-1]: values.pop(words[-1]).reshape(-1) for words in self.results if "raw" not in words}
        assert (size is None) == bool(outputs)
        size = size or next(iter(outputs.values())).size
        for start in range(0, size, self.SOME):
            part = slice(start, min(start + self.SOME, size))
            found = {
                **values,
                **types_,
                "i": np.arange(part.start, part.stop),
                "chosen": chosen,
                "int": np.int64,
                "ptrdiff_t": np.int64,
            }
            with np.errstate(all="ignore"):
                exec(self.source, found)
            for name, output in outputs.items():
                output[part] = found[name]
        results = arguments[len(self.given) :]
        return results[0] if len(results) == 1 else results


class Raw:
    """An array that is read by numbers in the order of its axes; `CURRENT.read` are those that have to be right."""

    def __init__(self, array):
        self.array = array

    def put(self, where, index, values):
        where, index, values = np.broadcast_arrays(where, index, values)
        assert np.unique(index[where]).size == where.sum()  # by one thread each
        self.array.reshape(-1)[index[where]] = values[where]

    def __getitem__(self, index):
        index = np.asarray(index)
        used = index if CURRENT.read is None else index[np.broadcast_to(CURRENT.read, index.shape)]
        assert used.size == 0 or (used.min() >= 0 and used.max() < self.array.size)
        return self.array[np.unravel_index(np.clip(index, 0, self.array.size - 1), self.array.shape)]


def chosen(where, first, second):
    """One or the other, of which only what is chosen is read."""
    CURRENT.read = where
    values = first()
    CURRENT.read = ~where
    others = second()
    CURRENT.read = None
    return np.where(where, values, others)


def new(shape, dtype=float):
    """An array that is no view."""
    array = Array(shape, dtype)
    ctypes.memset(array.ctypes.data, PAGE, array.nbytes)
    return array


class CuPy(types.ModuleType):
    """The module; its functions are NumPy's. ``compute`` is what float32 may be computed with, ``allocated`` memory."""

    def __init__(self):
        super().__init__("cupy")
        self.compute, self.allocated = 1, {}
        runtime = types.SimpleNamespace(getDevice=lambda: CURRENT.device)
        current = lambda: types.SimpleNamespace(ptr=CURRENT.stream)  # noqa: E731
        self.cuda = types.SimpleNamespace(runtime=runtime, Device=Device, get_current_stream=current, alloc=self.alloc)
        self._core = types.SimpleNamespace(get_compute_type=lambda dtype: self.compute)
        self.ndarray, self.ElementwiseKernel = Array, ElementwiseKernel
        kinds = np.__array_namespace_info__().dtypes
        self.__array_namespace_info__ = lambda: types.SimpleNamespace(dtypes=lambda device, kind: kinds(kind=kind))

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found

        def call(*arguments, device=None, **keywords):
            with Device(CURRENT.device if device is None else device.id):
                if name.startswith("empty"):
                    return new(*arguments, **keywords)
                if name in ("zeros", "full", "ones", "copyto", "array") or keywords.get("copy"):
                    Array.launches.append(name)
                return wrapped(found(*arguments, **keywords))

        return call

    def alloc(self, size):
        memory = np.empty(size + 16, np.uint8)
        at = memory.ctypes.data
        self.allocated[at] = size
        return types.SimpleNamespace(ptr=at, memory=memory)


class Words:
    """An enumeration: its members are their own names."""

    def __init__(self, names):
        for name in names.split():
            setattr(self, name, name)


class GraphNotSupportedError(Exception):
    pass


class Plan:
    """One of those that the heuristics offer."""

    def __init__(self, workspace=0, notes=(), error=None):
        self.workspace, self.notes, self.error = workspace, frozenset(notes), error


class Handle:
    """Of a thread and a device; ``stream`` as it was set."""

    def __init__(self):
        self.thread, self.device, self.stream = threading.get_ident(), CURRENT.device, None


class CuDNN(types.ModuleType):
    """The frontend's module. Tests may set what ``plans`` the heuristics offer, and what a graph ``refuses``."""

    data_type = Words("HALF BFLOAT16 FLOAT DOUBLE")
    heur_mode = Words("A B FALLBACK")
    numerical_note = Words("TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION NONDETERMINISTIC FFT WINOGRAD")
    cudnnGraphNotSupportedError = GraphNotSupportedError

    def __init__(self, cupy):
        super().__init__("cudnn")
        self.__version__ = "1.28.0"
        self.cupy = cupy
        self.plans = [Plan()]
        self.refuses = lambda graph: None
        self.replays, self.walks = True, 0
        self.planned, self.handles, self.destroyed, self.runs, self.settings = [], [], [], [], []

    def backend_version(self):
        return 91002

    def create_handle(self):
        self.handles.append(Handle())
        return self.handles[-1]

    def destroy_handle(self, handle):
        self.destroyed.append(handle)

    def set_stream(self, handle, stream):
        self.settings.append(stream)
        handle.stream = stream

    def pygraph(self, **keywords):
        return Graph(self, **keywords)


class Tensor:
    """What is declared of one."""

    def __init__(self, dim=None, stride=None, data_type=None, name="", uid=None):
        self.dim, self.stride, self.data_type, self.name, self.uid, self.output = (
            dim,
            stride,
            data_type,
            name,
            uid,
            False,
        )

    def set_output(self, value):
        self.output = value

    def set_dim(self, value):
        self.dim = value

    def set_stride(self, value):
        self.stride = value

    def set_data_type(self, value):
        self.data_type = value

    def set_uid(self, value):
        self.uid = value

    def opened(self, address):
        """The array at an address of the host."""
        names = {"HALF": "float16", "BFLOAT16": "bfloat16", "FLOAT": "float32", "DOUBLE": "float64"}
        kind = np.dtype(names[self.data_type])  # the second once ml_dtypes is imported
        assert type(address) is int
        assert address % 16 == 0
        last = sum((d - 1) * s for d, s in zip(self.dim, self.stride, strict=True))
        memory = (ctypes.c_char * ((last + 1) * kind.itemsize)).from_address(address)
        return np.ndarray(self.dim, kind, memory, strides=[s * kind.itemsize for s in self.stride])


STEPS = ("made", "validated", "built", "planned", "supported")


class Graph:
    """One convolution."""

    def __init__(self, cudnn, *, handle, io_data_type, intermediate_data_type, compute_data_type):
        assert intermediate_data_type == compute_data_type == ("DOUBLE" if io_data_type == "DOUBLE" else "FLOAT")
        assert handle.thread == threading.get_ident()
        assert handle.device == CURRENT.device
        self.cudnn, self.handle, self.io_data_type = cudnn, handle, io_data_type
        self.step, self.built, self.barred, self.room = "made", set(), set(), None
        self.engine = None  # of the plan that was built first

    def tensor(self, *, dim, stride, data_type, name, uid):
        return Tensor(dim, stride, data_type, name, uid)

    def conv_fprop(self, *, image, weight, **keywords):
        return self._convolution("fprop", image, weight, None, **keywords)

    def conv_dgrad(self, *, loss, filter, **keywords):
        return self._convolution("dgrad", None, filter, loss, **keywords)

    def conv_wgrad(self, *, image, loss, **keywords):
        return self._convolution("wgrad", image, None, loss, **keywords)

    def _convolution(self, kind, x, w, y, *, pre_padding, post_padding, stride, dilation):
        self.kind, self.result = kind, Tensor()
        self.x, self.w, self.y = (self.result if one is None else one for one in (x, w, y))
        self.lo, self.hi, self.stride, self.dilation = pre_padding, post_padding, stride, dilation
        return self.result

    def _then(self, before, after):
        assert self.step == before
        self.step = after

    def validate(self):
        """Sizes and layouts go together."""
        self._then("made", "validated")
        assert self.result.output
        tensors = self.x, self.w, self.y
        assert {tensor.data_type for tensor in tensors} == {self.io_data_type}
        assert {tensor.uid for tensor in tensors} == {1, 2, 3}
        assert self.result.uid == 3
        assert {len(tensor.dim) for tensor in tensors} <= {4} or {len(tensor.dim) for tensor in tensors} == {5}
        assert all(type(number) is int for tensor in tensors for number in (*tensor.dim, *tensor.stride))
        assert self.x.dim[0] == self.y.dim[0]
        assert self.w.dim[0] == self.y.dim[1]
        assert self.x.dim[1] % self.w.dim[1] == 0
        axes = zip(*(t.dim[2:] for t in tensors), self.lo, self.hi, self.stride, self.dilation, strict=True)
        for d, k, o, lo, hi, s, a in axes:
            assert o == (d + lo + hi - a * (k - 1) - 1) // s + 1
        assert any(all(tensor.stride == strides(tensor.dim, last) for tensor in tensors) for last in (False, True))
        if reason := self.cudnn.refuses(self):
            raise reason

    def build_operation_graph(self):
        self._then("validated", "built")

    def create_execution_plans(self, modes):
        self._then("built", "planned")
        assert modes == ["A", "FALLBACK"]
        self.plans = dict(enumerate(self.cudnn.plans))
        self.cudnn.planned.append(self)

    def get_engine_and_knobs_at_index(self, index):
        if not self.cudnn.replays:
            raise NotImplementedError("there is no pair to replay")
        return index, {"knobs of": index}

    def create_execution_plan(self, engine, knobs):
        """That of an engine alone."""
        self._then("built", "supported")
        assert knobs == {"knobs of": engine}
        self.plans, self.room, self.engine = {0: self.cudnn.plans[engine]}, 2**62, engine

    def deselect_numeric_notes(self, notes):
        assert self.step == "planned"
        self.barred |= {*notes}

    def deselect_workspace_greater_than(self, room):
        assert self.step == "planned"
        assert type(room) is int
        self.room = room

    def check_support(self):
        self._then("planned", "supported")

    def get_execution_plan_count(self):
        return len(self.plans)

    def build_plan_at_index(self, index):
        assert self.step == "supported"
        plan = self.plans[index]
        if plan.notes & self.barred:
            raise ValueError(f"plan {index} is excluded by a note filter")
        if plan.error:
            raise plan.error
        if plan.workspace > self.room:
            raise GraphNotSupportedError(f"plan {index} needs {plan.workspace} bytes")
        self.built.add(index)
        self.selected = index
        self.engine = index if self.engine is None else self.engine

    def get_workspace_size_plan_at_index(self, index):
        assert index in self.built
        return self.plans[index].workspace

    def execute(self, addresses, workspace, *, handle):
        """The plan that was built last."""
        self._execute(addresses, workspace, self.selected, handle)

    def execute_plan_at_index(self, addresses, workspace, *, index, handle):
        """For which the frontend goes through all plans of a graph."""
        self.cudnn.walks += len(self.plans) - 1
        self._execute(addresses, workspace, index, handle)

    def _execute(self, addresses, workspace, index, handle):
        assert index in self.built
        assert handle is self.handle
        assert handle.thread == threading.get_ident()
        assert handle.device == CURRENT.device
        assert handle.stream == CURRENT.stream
        assert type(workspace) is int
        size = self.plans[index].workspace
        assert workspace == 0 if size == 0 else self.cudnn.cupy.allocated[workspace] == size
        self.cudnn.runs.append(self)
        Array.launches.append(self.kind)
        x, w, y = (tensor.opened(addresses[tensor.uid]) for tensor in (self.x, self.w, self.y))
        self._convolve(x, w, y)

    def _convolve(self, x, w, y):
        """Of these the result is written, in the dtype of sums until the end."""
        result = {"fprop": y, "dgrad": x, "wgrad": w}[self.kind]
        sums = np.zeros(result.shape, np.float64 if result.dtype == np.float64 else np.float32)
        count = w.shape[1]
        groups, filters = x.shape[1] // count, w.shape[0] // (x.shape[1] // count)
        windows = itertools.product(np.ndindex(*y.shape[2:]), np.ndindex(*w.shape[2:]), range(groups))
        steps = [*zip(self.stride, self.dilation, self.lo, strict=True)]
        for at, tap, g in windows:
            read = tuple(s * m + a * j - lo for m, j, (s, a, lo) in zip(at, tap, steps, strict=True))
            if any(i < 0 or i >= d for i, d in zip(read, x.shape[2:], strict=True)):
                continue
            of_x = (slice(None), slice(g * count, (g + 1) * count), *read)
            of_w = (slice(g * filters, (g + 1) * filters), slice(None), *tap)
            of_y = (slice(None), slice(g * filters, (g + 1) * filters), *at)
            if self.kind == "fprop":
                sums[of_y] += x[of_x].astype(sums.dtype) @ w[of_w].T.astype(sums.dtype)
            elif self.kind == "dgrad":
                sums[of_x] += y[of_y].astype(sums.dtype) @ w[of_w].astype(sums.dtype)
            else:
                sums[of_w] += y[of_y].T.astype(sums.dtype) @ x[of_x].astype(sums.dtype)
        result[...] = sums


def strides(dim, last):
    """In elements, of a packed tensor (N, C, *d), its channels last in memory or not."""
    memory = np.empty([dim[0], *dim[2:], dim[1]] if last else dim, np.int8)
    return [*(np.moveaxis(memory, -1, 1) if last else memory).strides]
