"""`method="native"` of CuPy's arrays, without a GPU: all of the contract through a cuDNN that opens addresses."""

from __future__ import annotations

import gc
import inspect
import itertools
import sys
import threading
import types

import numpy as np
import pytest
import reference
import standin
from backends import assert_values
from geometries import FULL_CASES, TRANSPOSED, Case, normal, output_shape, transposed_shape

import xconv
from xconv._arrays import libraries
from xconv._methods import native_cudnn
from xconv._plan.arguments import window_geometry

NATIVE = {"method": "native"}


@pytest.fixture
def cudnn(cupy, monkeypatch):
    """A stand-in for cuDNN beside it."""
    module = standin.CuDNN(cupy)
    monkeypatch.setitem(sys.modules, "cudnn", module)
    monkeypatch.setattr(native_cudnn, "_OWN", threading.local())
    native_cudnn.missing.cache_clear()
    yield module
    native_cudnn.missing.cache_clear()


def array(values, number=0):
    with standin.Device(number):
        return standin.wrapped(np.array(values))


def assert_close(found, expected, terms=1):
    assert type(found) is standin.Array
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert_values(standin.plain(found), expected, terms * float(np.finfo(found.dtype).eps))


def check(case, make=array, dtype="float64", **more):
    """Forward and gradients by cuDNN alone are those of the loops."""
    shapes = case.input_shape, case.weight_shape, case.weight_shape[:1], output_shape(case)
    x, w, b, dy = (normal(shape, seed).astype(dtype) for seed, shape in enumerate(shapes))
    keywords, exact = case.keywords | NATIVE | more, [one.astype("float64") for one in (x, w, b, dy)]
    assert_close(xconv.conv(make(x), make(w), make(b), **keywords), _loops(case, *exact).astype(dtype), case.terms)
    found = xconv.conv_backward(make(dy), make(x), make(w), **keywords)
    for gradient, expected in zip(found, _gradients(case, *exact), strict=True):
        assert_close(gradient, expected.astype(dtype), case.terms)


def _loops(case, x, w, b, dy):
    return reference.conv(x, w, b, **case.keywords)


def _gradients(case, x, w, b, dy):
    axis = case.keywords.get("channel_axis", 1)
    return (
        reference.conv_input_grad(dy, w, x.shape, **case.keywords),
        reference.conv_weight_grad(dy, x, case.kernel_size, **case.keywords),
        reference.bias_grad(dy, axis),
    )


UP_TO_3 = [case for case in FULL_CASES if len(case.kernel_size) <= 3]


@pytest.mark.parametrize("case", UP_TO_3, ids=str)
def test_forward_and_gradients_equal_the_loops(cudnn, case):
    check(case)
    assert len(cudnn.runs) == (3 if case.input_shape[0] else 0)


@pytest.mark.parametrize("case", [case for case in TRANSPOSED if len(case.kernel_size) <= 3], ids=str)
def test_transposed_convolutions_equal_the_loops(cudnn, case):
    x, w = normal(output_shape(case), 1), normal(case.weight_shape, 2)
    channels = case.weight_shape[1] * case.keywords.get("groups", 1)
    b, dy = normal((channels,), 3), normal(transposed_shape(case), 4)
    y = xconv.conv_transpose(array(x), array(w), array(b), **case.keywords, **NATIVE)
    assert_close(y, reference.conv_transpose(x, w, b, **case.keywords), case.terms)
    expected = xconv.conv_transpose_backward(dy, x, w, **case.keywords)
    found = xconv.conv_transpose_backward(*map(array, (dy, x, w)), **case.keywords, **NATIVE)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, case.terms)
    assert cudnn.runs or not x.size


def sliced(values):
    """Every other element of a larger array."""
    large = np.zeros([2 * size for size in values.shape], values.dtype)
    large[tuple(slice(1, None, 2) for _ in values.shape)] = values
    return array(large)[tuple(slice(1, None, 2) for _ in values.shape)]


def misaligned(values):
    """Packed memory at an address that is no multiple of 16."""
    line = array(np.zeros(values.size + 1, values.dtype))
    line[1:] = values.reshape(-1)
    return line[1:].reshape(values.shape)


def backwards(values):
    return array(np.ascontiguousarray(np.flip(values)))[(slice(None, None, -1),) * values.ndim]


def fortran(values):
    return array(np.asfortranarray(values)).view(standin.Array)


@pytest.mark.parametrize("make", [sliced, misaligned, backwards, fortran])
@pytest.mark.parametrize("case", UP_TO_3[13::3], ids=str)
def test_operands_may_be_views(cudnn, case, make):
    check(case, make)


def test_operands_may_be_broadcast(cudnn):
    x, w = np.broadcast_to(normal((1, 3, 1, 6)), (2, 3, 5, 6)), np.broadcast_to(normal((1, 3, 3, 3), 1), (4, 3, 3, 3))
    y = xconv.conv(*(one.view(standin.Array) for one in (x, w)), **NATIVE)
    assert_close(y, reference.conv(x, w), 27)


def test_channels_last_are_not_moved(cudnn):
    """Data stays where it is; filters are copied into its order."""
    x, w = array(normal((2, 5, 6, 4))), array(normal((6, 4, 3, 3), 1))
    standin.Array.launches.clear()
    y = xconv.conv(x, w, channel_axis=-1, **NATIVE)
    assert y.flags.c_contiguous
    assert standin.Array.launches == ["asarray", "fprop"]
    assert cudnn.runs[0].x.stride == [120, 1, 24, 4]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_dtype_goes_in_and_comes_out_as_it_is(cudnn, dtype):
    standin.Array.launches.clear()
    check(Case((2, 4, 6, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1, "stride": 2}), dtype=dtype)
    assert standin.Array.launches[:4] == ["fprop", "add", "dgrad", "wgrad"]
    assert {graph.io_data_type for graph in cudnn.runs} == {
        {"e": "HALF", "f": "FLOAT", "d": "DOUBLE"}[np.dtype(dtype).char]
    }


def test_bfloat16_where_the_library_has_it(cudnn, cupy):
    """CuPy 14 has it in kernels, but neither in `isdtype` nor in sums; a CuPy that has goes to cuDNN with it."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    kind = np.dtype(ml_dtypes.bfloat16)
    x, w, b = (array(normal(shape, seed).astype(kind)) for seed, shape in enumerate([(2, 4, 6, 5), (6, 2, 3, 3), (6,)]))
    with pytest.raises(TypeError, match=r"x must be a dtype that .* computes with, got .*bfloat16"):
        xconv.conv(x, w, groups=2)
    kinds = {"numeric", "real floating"}
    cupy.isdtype = lambda dtype, asked: (
        not kinds.isdisjoint((asked, *asked)) if dtype == kind else np.isdtype(dtype, asked)
    )
    cupy.finfo = lambda dtype: (ml_dtypes if dtype == kind else np).finfo(dtype)
    libraries.is_kind.cache_clear()
    y = xconv.conv(x, w, b, groups=2, **NATIVE)
    gradients = xconv.conv_backward(y, x, w, groups=2, **NATIVE)
    assert {graph.io_data_type for graph in cudnn.runs} == {"BFLOAT16"}
    exact = [standin.plain(one).astype("float64") for one in (x, w, b, y)]
    expected = reference.conv(*exact[:3], groups=2), reference.conv_input_grad(exact[3], exact[1], x.shape, groups=2)
    for found, one in zip((y, gradients[0]), expected, strict=True):
        assert found.dtype == kind
        assert_values(standin.plain(found).astype("float64"), one, 4 * 2**-8)


def test_half_precision_is_summed_in_float32(cudnn):
    x, w = np.full((1, 4096, 1), 1, "float16"), np.full((1, 4096, 1), 1 / 4096, "float16")
    x[0, 0] = 2048  # beside which 1/4096 would be lost in half precision, one after the other
    assert xconv.conv(array(x), array(w), **NATIVE)[0, 0, 0] == np.float16(1.5)


def test_dtypes_that_differ_promote(cudnn):
    x, w = normal((1, 2, 5), 0, "float16"), normal((2, 2, 3), 1, "float32")
    y = xconv.conv(array(x), array(w), **NATIVE)
    assert_close(y, reference.conv(x.astype("float64"), w.astype("float64")).astype("float32"), 6)


@pytest.mark.parametrize("shape", [(0, 2, 5, 5), (2, 2, 5, 5)])
def test_nothing_is_planned_for_empty_batches(cudnn, shape):
    x, w = array(np.ones(shape)), array(np.ones((3, 2, 3, 3)))
    assert xconv.conv(x, w, **NATIVE).shape == (shape[0], 3, 3, 3)
    assert xconv.conv_weight_grad(array(np.ones((shape[0], 3, 3, 3))), x, 3, **NATIVE).shape == w.shape
    assert len(cudnn.planned) == (2 if shape[0] else 0)


def layer(**more):
    """Operands of some 3x3, and its keywords."""
    return (array(normal((1, 2, 6, 6))), array(normal((3, 2, 3, 3), 1))), {"padding": 1, **NATIVE, **more}


class TestPlans:
    def test_are_made_once(self, cudnn):
        operands, keywords = layer()
        for _ in range(3):
            xconv.conv(*operands, **keywords)
        xconv.conv(*operands, **keywords, stride=2)
        assert len(cudnn.planned) == 2
        assert len(cudnn.runs) == 4

    def test_are_kept_up_to_a_number_the_latest_used(self, cudnn, monkeypatch):
        monkeypatch.setattr(native_cudnn, "PLANS", 2)
        operands, keywords = layer()
        for stride in (1, 2, 1, 3, 1, 2):
            xconv.conv(*operands, **keywords, stride=stride)
        assert [graph.stride[0] for graph in cudnn.planned] == [1, 2, 3, 2]

    def test_are_of_one_thread(self, cudnn):
        operands, keywords = layer()

        def call():
            xconv.conv(*operands, **keywords)

        for _ in range(2):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        call()
        gc.collect()
        assert len(cudnn.handles) == len(cudnn.planned) == 3
        assert cudnn.destroyed == cudnn.handles[:2]

    def test_go_before_their_handle(self):
        plans, seen = {"what": "plan"}, []
        module = types.SimpleNamespace(destroy_handle=lambda handle: seen.append((handle, *plans)))
        native_cudnn._leave(module, "handle", plans)
        assert seen == [("handle",)]

    def test_are_of_one_device(self, cudnn):
        (x, w), keywords = layer()
        other = [array(standin.plain(one), 1) for one in (x, w)]
        xconv.conv(*other, **keywords)
        xconv.conv(x, w, **keywords)
        assert [handle.device for handle in cudnn.handles] == [1, 0]

    def test_follow_the_stream_that_is_current(self, cudnn):
        operands, keywords = layer()
        for stream in (0, 0, 64, 64, 32, 0):
            with standin.Stream(stream):
                xconv.conv(*operands, **keywords)
        assert cudnn.settings == [0, 64, 32, 0]

    def test_are_the_first_that_can_be_built_in_full_precision(self, cudnn):
        notes = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION")
        refusals = standin.GraphNotSupportedError("no kernel"), RuntimeError("NVRTC cannot compile")
        cudnn.plans = [standin.Plan(notes=[note]) for note in notes]
        cudnn.plans += [*(standin.Plan(error=refusal) for refusal in refusals), standin.Plan(64)]
        operands, keywords = layer()
        operands = [one.astype("float32") for one in operands]
        xconv.conv(*operands, **keywords)
        assert cudnn.runs[-1].engine == 6
        assert len(cudnn.runs[-1].plans) == 1
        assert not cudnn.runs[-1].barred

    def test_stay_in_their_graph_if_they_cannot_be_built_alone(self, cudnn):
        cudnn.plans, cudnn.replays = [standin.Plan(notes=["NONDETERMINISTIC"]), standin.Plan(64)], False
        operands, keywords = layer()
        xconv.conv(*operands, **keywords)
        assert cudnn.runs == cudnn.planned
        assert cudnn.runs[-1].engine == 1
        assert cudnn.walks == 0

    @pytest.mark.parametrize(("compute", "plan"), [(1, 2), (7, 0)])
    def test_have_tf32_where_cupy_was_asked_for_it(self, cudnn, cupy, compute, plan):
        cupy.compute = compute
        cudnn.plans = [standin.Plan(notes=["TENSOR_CORE"]), standin.Plan(notes=["DOWN_CONVERT_INPUTS"]), standin.Plan()]
        for dtype, expected in (("float32", plan), ("float16", 0)):
            xconv.conv(*(one.astype(dtype) for one in layer()[0]), **NATIVE)
            assert cudnn.runs[-1].engine == expected

    @pytest.mark.parametrize(("room", "plan"), [(2**20, 0), (2**20 - 1, 1), (512, 1), (511, 2), (1, 2)])
    def test_hold_no_more_than_max_workspace(self, cudnn, room, plan):
        cudnn.plans = [standin.Plan(2**20), standin.Plan(512), standin.Plan()]
        operands, keywords = layer(max_workspace=room)
        xconv.conv(*operands, **keywords)
        assert cudnn.runs[-1].engine == plan

    def test_hold_no_more_with_copies_of_operands(self, cudnn):
        cudnn.plans = [standin.Plan(512), standin.Plan()]
        x, w = normal((1, 2, 6, 6)), normal((3, 2, 3, 3), 1)
        for room, plan in ((512 + x.nbytes, 0), (511 + x.nbytes, 1), (x.nbytes, 1)):
            xconv.conv(sliced(x), array(w), **NATIVE, max_workspace=room)
            assert cudnn.runs[-1].engine == plan
        with pytest.raises(ValueError, match=r"method 'native' must have .*: max_workspace has no room for .* copies"):
            xconv.conv(sliced(x), array(w), **NATIVE, max_workspace=x.nbytes - 1)


REFUSALS = [
    (standin.GraphNotSupportedError("[cudnn_frontend] Error: no engine\nmore"), "no engine$"),
    (RuntimeError("CUDNN_STATUS_BAD_PARAM"), "CUDNN_STATUS_BAD_PARAM"),
    (RuntimeError("CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH"), "two versions of cuDNN .* LD_LIBRARY_PATH"),
]


class TestRefusals:
    @pytest.mark.parametrize(("error", "reason"), REFUSALS)
    def test_by_name_are_errors_with_the_reason(self, cudnn, error, reason):
        asked = []
        cudnn.refuses = lambda graph: asked.append(graph) or error
        operands, keywords = layer()
        for _ in range(2):
            with pytest.raises(ValueError, match=f"method 'native' must have .*{reason}"):
                xconv.conv(*operands, **keywords)
        assert len(asked) == 1

    @pytest.mark.parametrize("kind", ["fprop", "dgrad", "wgrad"])
    def test_are_done_by_others_with_auto(self, cudnn, kind):
        cudnn.refuses = lambda graph: standin.GraphNotSupportedError("no engine") if graph.kind == kind else None
        check(Case((2, 3, 7, 6), (4, 3, 3, 3), {"padding": 1}), method="auto")
        assert [graph.kind for graph in cudnn.runs] == [one for one in ("fprop", "dgrad", "wgrad") if one != kind]

    def test_of_all_plans_say_so(self, cudnn):
        cudnn.plans = [standin.Plan(2**40), standin.Plan(notes=["NONDETERMINISTIC"])]
        operands, keywords = layer()
        with pytest.raises(ValueError, match=r"no plan of float64 does with \d+ bytes"):
            xconv.conv(*operands, **keywords)
        assert not cudnn.runs

    def test_of_filters_that_cannot_be_counted(self, cudnn, monkeypatch):
        monkeypatch.setattr(native_cudnn, "LARGEST", 53)
        operands, keywords = layer()
        with pytest.raises(ValueError, match="filters may have 53 elements, got 54"):
            xconv.conv(*operands, **keywords)
        assert xconv.conv(*operands, **keywords | {"method": "auto"}).shape == (1, 3, 6, 6)

    def test_errors_of_the_device_are_not_hidden(self, cudnn, monkeypatch):
        def fail(*arguments, **keywords):
            raise RuntimeError("an illegal memory access")

        monkeypatch.setattr(standin.Graph, "execute_plan_at_index", fail)
        operands, keywords = layer(method="auto")
        with pytest.raises(RuntimeError, match="illegal memory access"):
            xconv.conv(*operands, **keywords)
        assert len(cudnn.planned) == 1

    @pytest.mark.parametrize("dtype", ["int32", "complex64"])
    def test_of_other_dtypes(self, cudnn, dtype):
        x, w = array(np.ones((1, 1, 4), dtype)), array(np.ones((1, 1, 2), dtype))
        with pytest.raises(ValueError, match="method 'native' must have real floating-point arrays"):
            xconv.conv(x, w, **NATIVE)
        assert xconv.conv(x, w).shape == (1, 1, 3)
        assert not cudnn.planned

    def test_of_four_axes(self, cudnn):
        with pytest.raises(ValueError, match="at most 3 spatial axes"):
            xconv.conv(array(np.ones((1,) * 6)), array(np.ones((1,) * 6)), **NATIVE)
        assert not cudnn.planned


def _raise():
    raise RuntimeError("Unable to find symbol cudnnGetVersion")


class TestChoice:
    SHAPES = (8, 64, 56, 56), (64, 64, 3, 3)

    def chosen(self, cupy, dtype="float32", **keywords):
        return xconv.choose_method(*self.SHAPES, xp=cupy, dtype=np.dtype(dtype), **keywords)

    def test_is_native(self, cupy, cudnn):
        assert {self.chosen(cupy, dtype) for dtype in ("float16", "float32", "float64")} == {"native"}
        assert self.chosen(cupy, function="conv_weight_grad") == "native"
        assert self.chosen(cupy, "int64") != "native"

    def test_is_none_of_another_word(self, cupy, cudnn):
        operands, _ = layer()
        xconv.conv(*operands, method="direct")
        assert not cudnn.planned

    def test_without_it_says_what_to_install(self, cupy, monkeypatch):
        monkeypatch.setitem(sys.modules, "cudnn", None)
        native_cudnn.missing.cache_clear()
        assert self.chosen(cupy) != "native"
        operands, keywords = layer()
        with pytest.raises(ValueError, match=r"native' must have cuDNN .*cudnn is not .*\[cudnn12\].*\[cudnn13\]"):
            xconv.conv(*operands, **keywords)
        native_cudnn.missing.cache_clear()

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"__version__": "1.26.1"}, "cudnn 1.26.1 is older than 1.27"),
            ({"backend_version": _raise}, "cannot load cuDNN .*cudnnGetVersion"),
        ],
    )
    def test_with_one_that_does_not_do(self, cupy, cudnn, change, reason):
        vars(cudnn).update(change)
        native_cudnn.missing.cache_clear()
        assert self.chosen(cupy) != "native"
        operands, keywords = layer()
        with pytest.raises(ValueError, match=f"{reason}.*pip install"):
            xconv.conv(*operands, **keywords)


def test_two_threads_at_once(cudnn):
    """Each with a stream of its own."""
    operands, keywords = layer()
    expected, found = reference.conv(*map(standin.plain, operands), padding=1), {}

    def call(stream):
        with standin.Stream(stream):
            found[stream] = [xconv.conv(*operands, **keywords) for _ in range(5)]

    threads = [threading.Thread(target=call, args=(stream,)) for stream in (16, 32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [16, 32]
    for y in itertools.chain(*found.values()):
        assert_close(y, expected, 18)


class TestFrontend:
    """The real module, of which all but what calls the library is Python."""

    @pytest.fixture
    def real(self):
        return pytest.importorskip("cudnn", reason="the package nvidia-cudnn-frontend is not installed")

    def test_takes_what_is_declared(self, real):
        class Declared(real.pygraph):
            def validate(self):
                pass

            build_operation_graph = validate

        module = types.SimpleNamespace(**vars(real) | {"pygraph": Declared})
        windows = window_geometry((5, 6), (3, 2), stride=(2, 1), padding=[(1, 0), (0, 2)], dilation=1)
        x, w, y = (2, 4, 5, 6), (6, 2, 3, 2), (2, 6, 2, 7)
        results, sizes = (y, x, w), {"image": x, "weight": w, "filter": w, "loss": y}
        for (product, names), result in zip(native_cudnn.OPERANDS.items(), results, strict=True):
            shapes = (*map(sizes.get, names), result)
            what = native_cudnn._What(product, windows, shapes, np.dtype("float16"), True, 64, True)
            found = native_cudnn._graph(module, None, what).inspect()
            (node,), tensors = found["nodes"], found["tensors"].values()
            assert (node["type"].lower(), node["inputs"]) == (product, {name: name for name in names})
            assert node["params"]["pre_padding"] == [1, 0]
            assert node["params"]["post_padding"] == [0, 2]
            assert {tensor["uid"]: tensor["dim"] for tensor in tensors}[3] == [*result]
            assert all(tensor["stride"][1] == 1 for tensor in tensors)

    def test_is_called_as_it_is_written(self, real):
        graph, bound = real.pygraph, inspect.signature(real.pygraph.execute_plan_at_index)
        assert bound.bind(None, {1: 2}, 0, index=0, handle=None).arguments["index"] == 0
        assert inspect.signature(graph.execute).bind(None, {1: 2}, 0, handle=None).arguments["workspace"] == 0
        assert issubclass(real.cudnnGraphNotSupportedError, Exception)
        assert all(callable(getattr(graph, name)) for name in vars(standin.Graph) if not name.startswith("_"))
