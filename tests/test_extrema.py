"""Maximum and minimum filters against SciPy's, and as derivatives of themselves."""

from __future__ import annotations

import functools
import tracemalloc

import numpy as np
import pytest
import reference
from backends import assert_array
from geometries import check_drawn, normal
from hypothesis import strategies as st

import xconv
from xconv import ndimage
from xconv._arrays.libraries import traits
from xconv._plan import pooling as _pooling
from xconv._plan.remembered import forget
from xconv._run import neighbours as _neighbours
from xconv._run import pools as _pools
from xconv._run import threads as _threads

scipy_ndimage = pytest.importorskip("scipy.ndimage", reason="scipy is not installed")

MODES = ("reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant")
DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
UNSIGNED = ("uint32", "uint64")  # SciPy's doubles of negative numbers modulo 2**32 fit no int that they become
LARGEST = (9, 6, 4)  # sizes drawn of arrays, and half of windows
FILTERS = ("maximum_filter", "minimum_filter", "maximum_filter1d", "minimum_filter1d")


def values(shape, dtype):
    """Of which some are equal, some negative, and none NaN."""
    integers = (normal(shape) * 3).astype("int64")
    return {"u": abs(integers), "b": integers, "i": integers}.get(dtype[0], np.round(normal(shape) * 4) / 4).astype(
        dtype
    )


@st.composite
def calls(draw):
    """A filter's name, shape and dtype of its input, and keywords."""
    n = draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, LARGEST[n - 1])] * n))
    dtype, name = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(FILTERS))
    words = {"cval": draw(st.sampled_from([0.0, 1.5, 3, 300] + [-2.25, -70000] * (dtype not in UNSIGNED)))}
    if draw(st.booleans()):
        words["output"] = draw(st.sampled_from(["float32", "float64", "int16", "int32", "uint8"]))
    if name.endswith("1d"):
        k = draw(st.integers(1, 2 * LARGEST[n - 1]))
        axis, mode = draw(st.integers(-n, n - 1)), draw(st.sampled_from(MODES))
        return name, shape, dtype, words | {"size": k, "axis": axis, "mode": mode, "origin": draw(origins(k))}
    axes = tuple(draw(st.permutations(range(n))))[: draw(st.integers(1, n))]
    kernel = draw(st.tuples(*[st.integers(1, 2 * LARGEST[n - 1])] * len(axes)))
    words |= {"axes": axes, "origin": tuple(draw(origins(k)) for k in kernel)}
    if draw(st.booleans()):
        kernel = tuple(min(k, LARGEST[n - 1]) for k in kernel)
        words |= {"origin": 0, "footprint": footprint(draw, kernel)}
        return name, shape, dtype, words | {"mode": draw(st.sampled_from(MODES))}
    return name, shape, dtype, words | {"size": kernel, "mode": draw(st.tuples(*[st.sampled_from(MODES)] * len(axes)))}


def origins(k):
    return st.integers(-(k // 2), (k - 1) // 2)


def footprint(draw, kernel):
    taps = np.random.default_rng(draw(st.integers(0, 99))).random(kernel) < draw(st.sampled_from([0.3, 0.8, 1]))
    taps.flat[draw(st.integers(0, taps.size - 1))] = True
    return taps


def scipys(name, x, words):
    words = words | {"output": np.dtype(words["output"])} if "output" in words else words
    return getattr(scipy_ndimage, name)(x, **words)


def check(backend, drawn):
    name, shape, dtype, words = drawn
    x = values(shape, dtype)
    own = {
        key: {"output": backend.dtype, "footprint": lambda taps: taps.tolist()}.get(key, lambda same: same)(value)
        for key, value in words.items()
    }
    y = backend.run(functools.partial(getattr(ndimage, name), **own), backend.array(x))
    assert_array(backend, y, scipys(name, x, words), terms=0)


def test_drawn_filters_are_scipys(backend):
    check_drawn(backend, calls(), lambda drawn: check(backend, drawn))


@pytest.fixture
def cut_into(monkeypatch):
    """Sets how many bytes a block may hold, of calls however small, and how much of what others read."""

    def set_size(size, waste=_pooling.WASTE):
        monkeypatch.setattr(_pooling, "CACHED", size)
        monkeypatch.setattr(_pooling, "WASTE", waste)
        monkeypatch.setattr(_pooling, "SMALL", 0)
        monkeypatch.setattr(_neighbours, "BLOCK", size)
        monkeypatch.setattr(_neighbours, "WORTH", 0)
        forget()

    yield set_size
    forget()


@pytest.fixture
def elsewhere(monkeypatch):
    """NumPy's arrays are filtered as CuPy's."""
    monkeypatch.setattr(ndimage, "traits", lambda xp: traits(xp)._replace(threads=False))
    forget()
    yield
    forget()


def test_drawn_filters_of_other_plain_memory_are_scipys(numpy_backend, elsewhere):
    check_drawn(numpy_backend, calls(), lambda drawn: check(numpy_backend, drawn))


def test_drawn_blocks_of_other_plain_memory_are_scipys(numpy_backend, elsewhere, cut_into):
    test_drawn_blocks_are_scipys(numpy_backend, cut_into)


def test_drawn_blocks_are_scipys(numpy_backend, cut_into):
    """Down to blocks of one element, which may lie in a border alone, or need one from the other end."""

    def check_block(drawn):
        *block, call = drawn
        cut_into(*block)
        check(numpy_backend, call)

    blocks = st.sampled_from([1, 500, 4000]), st.sampled_from([_pooling.WASTE, np.inf])
    check_drawn(numpy_backend, st.tuples(*blocks, calls()), check_block)


@pytest.mark.parametrize("mode", MODES[:5])
def test_blocks_of_every_library_are_scipys(backend, elsewhere, monkeypatch, mode):
    cuts, own = [], _pools.pool_schedule
    forget()  # programs that were compiled
    monkeypatch.setattr(_pools, "workspace", lambda value, sizes: 6000)
    monkeypatch.setattr(_pooling, "WASTE", np.inf)
    monkeypatch.setattr(_pools, "pool_schedule", lambda *arguments: cuts.append(own(*arguments)) or cuts[-1])
    x = values((40, 23), "uint16")
    for words in ({"size": (7, 5)}, {"footprint": [[0, 1, 1], [1, 0, 1]], "origin": (0, 1)}):
        call = functools.partial(ndimage.minimum_filter, **words, mode=mode)
        y = backend.run(lambda x, call=call: call(x), backend.array(x))
        assert_array(backend, y, scipys("minimum_filter", x, words | {"mode": mode}))
    assert len(cuts) == 2
    assert all(cut.boxes.total > 1 for cut in cuts)


@pytest.mark.parametrize("words", [{"size": 31}, {"footprint": np.eye(9)}])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch, cut_into, words):
    cut_into(2**16)
    x, results = normal((150, 140), dtype="float32"), []
    for count in (1, 3):
        for module in (_neighbours, _threads):
            monkeypatch.setattr(module, "cpu_count", lambda count=count: count)
        results.append(ndimage.maximum_filter(x, **words))
    assert np.array_equal(*results)
    assert np.array_equal(results[0], scipy_ndimage.maximum_filter(x, **words))


def test_a_filter_holds_little_beside_its_result():
    x = normal((1200, 1200), dtype="float32")
    ndimage.maximum_filter(x, 25, mode="wrap")
    tracemalloc.start()
    y = ndimage.maximum_filter(x, 25)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - y.nbytes < 3 * 2**23  # blocks of 8 MiB, on two threads or a few


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_large_integers_are_exact(backend, dtype):
    """SciPy compares them as doubles; the least is that of the largest, also where it has no negative."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = np.asarray([high - 1, high, low, low + 1, 5, 2**53 + 1, 2**53], dtype=dtype)
    for name, pick in (("maximum_filter", np.max), ("minimum_filter", np.min)):
        y = backend.run(functools.partial(getattr(ndimage, name), size=3, mode="nearest"), backend.array(x))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, 1, mode="edge"), 3)
        assert np.array_equal(backend.to_numpy(y), pick(windows, axis=1))
        assert y.dtype == backend.dtype(dtype)


def test_nan_is_in_every_window_that_reads_it(backend):
    x = normal((12, 9))
    x[3, 4] = np.nan
    for name in ("maximum_filter", "minimum_filter"):
        y = backend.run(functools.partial(getattr(ndimage, name), size=(5, 3)), backend.array(x))
        expected = scipys(name, np.where(np.isnan(x), 0, x), {"size": (5, 3)})
        expected[1:6, 3:6] = np.nan
        clean = np.isfinite(expected)
        assert np.array_equal(np.isfinite(backend.to_numpy(y)), clean)
        assert np.array_equal(backend.to_numpy(y)[clean], expected[clean])


def gradient(x, dy, kernel, largest):
    """Each window's first element that is largest, or smallest, takes its share, wherever a border has it from."""
    border = [(k // 2, k - 1 - k // 2) for k in kernel]
    places = np.pad(np.arange(x.size).reshape(x.shape), border, mode="symmetric")
    padded = np.pad(x if largest else -x, border, mode="symmetric")[None, None]
    found = reference.max_pool_indices(padded, kernel, stride=1)[0, 0]
    dx = np.zeros(x.size)
    np.add.at(dx, places.ravel()[found.ravel()], dy.ravel())
    return dx.reshape(x.shape)


@pytest.mark.on("jax-jit", "torch")
@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter"])
@pytest.mark.parametrize("kernel", [(3, 2), (9, 6)])
def test_the_first_of_equal_elements_has_the_gradient(backend, name, kernel):
    """A window of all taps but its last is one with a hole, whose first elements are those of its rows in order."""
    x, dy = np.round(normal((7, 8))), normal((7, 8), 1)
    holed = np.ones((kernel[0] + 1, kernel[1]))
    holed[-1] = 0
    shift = {"origin": (-((kernel[0] + 1) // 2) + kernel[0] // 2, 0)}
    for words in ({"size": kernel}, {"footprint": holed, **shift}):
        function = functools.partial(getattr(ndimage, name), **words)
        if backend.name == "torch":
            leaf = backend.array(x).requires_grad_()
            function(leaf).backward(backend.array(dy))
            dx = leaf.grad
        else:
            import jax

            dx = backend.run(lambda dy, x, f=function: jax.vjp(f, x)[1](dy)[0], backend.array(dy), backend.array(x))
        assert_array(backend, dx, gradient(x, dy, kernel, name == "maximum_filter"), terms=x.size)


def test_filters_are_mapped(jax_backend, torch_backend):
    import jax
    import torch

    x = normal((3, 6, 5), dtype="float32")
    expected = scipy_ndimage.minimum_filter(x, (3, 5), mode="wrap", axes=(1, 2))
    function = functools.partial(ndimage.minimum_filter, size=(3, 5), mode="wrap")
    assert np.array_equal(jax.vmap(function)(jax_backend.array(x)), expected)
    assert np.array_equal(torch.func.vmap(function)(torch_backend.array(x)).cpu(), expected)


def test_filters_compile_to_one_graph(torch_backend):
    import torch

    torch._dynamo.reset()

    def run(x):
        return ndimage.maximum_filter(x, 9, mode="mirror"), ndimage.minimum_filter(x, footprint=[[1, 0], [1, 1]])

    x = torch_backend.array(normal((12, 9)))
    for ours, theirs in zip(torch.compile(run, backend="eager", fullgraph=True)(x), run(x), strict=True):
        assert_array(torch_backend, ours, torch_backend.to_numpy(theirs))


def test_large_windows_are_few_operations(jax_backend):
    """Some for each of 5 doublings, where there are 31 taps."""
    import jax

    x = jax_backend.array(normal((40, 40)))
    filtered, pooled = (
        jax.jit(function).lower(x).as_text().count("stablehlo.select")
        for function in (
            lambda x: ndimage.maximum_filter1d(x, 31),
            lambda x: xconv.max_pool(x[None, None], (31, 1), stride=1),
        )
    )
    assert filtered == pooled == 5


def test_results_are_written_to_arrays(numpy_backend):
    x = values((6, 7), "int16")
    for target in (np.zeros((6, 7)), np.zeros((7, 6), dtype="uint8").T, x):
        expected = scipys("maximum_filter", x, {"size": 3, "output": target.dtype.name})
        assert ndimage.maximum_filter(x, 3, output=target) is target
        assert np.array_equal(target, expected)


def test_lists_and_arrays_without_elements_or_axes_are_filtered():
    assert np.array_equal(ndimage.minimum_filter1d([2, 8, 0, 4, 1], 3), [2, 0, 0, 0, 1])
    assert ndimage.maximum_filter(np.zeros((3, 0)), 3).shape == (3, 0)
    assert ndimage.maximum_filter(np.asarray(3.0), 3) == 3
    x = normal((4, 5))
    for words in ({"size": 1}, {"size": 3, "axes": ()}):
        y = ndimage.maximum_filter(x, **words)
        assert np.array_equal(y, x)
        assert not np.may_share_memory(y, x)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(
    "words",
    [
        {"size": 3, "mode": "sane"},
        {"size": 3, "origin": 2},
        {"size": 4, "origin": 2},
        {"size": 3, "axes": (0, 0)},
        {"size": 3, "axes": 2},
        {"size": 3, "axes": 1.5},
        {"size": (3, 3, 3)},
        {},
        {"footprint": [[0, 0]]},
        {"footprint": [1, 0]},
        {"footprint": [[1, 0]], "mode": ["wrap", "wrap"]},
        {"footprint": [[1, 0]], "origin": (0, 1)},
        {"size": 0, "axis": 0},
        {"size": 3, "axis": 2},
        {"size": 3, "output": np.zeros(3)},
        {"input": np.zeros((3, 3), complex), "size": 3},
    ],
)
def test_what_is_refused_is_by_scipys_classes(name, words):
    if name.endswith("1d") and {"footprint", "axes"} & {*words}:
        pytest.skip("filters along one axis have no such word")
    arguments = {"input": np.zeros((4, 5))} | words
    with pytest.raises((ValueError, RuntimeError, TypeError)) as theirs:
        getattr(scipy_ndimage, name)(**arguments)
    with pytest.raises((ValueError, RuntimeError, TypeError)) as ours:
        getattr(ndimage, name)(**arguments)
    assert issubclass(theirs.type, ours.type)  # NumPy's AxisError is a ValueError


def test_a_size_beside_a_footprint_is_said_to_be_ignored():
    with pytest.warns(UserWarning, match="ignoring size because footprint is set"):
        y = ndimage.maximum_filter(np.eye(2), 3, footprint=[[1, 0]])
    assert np.array_equal(y, [[1, 1], [0, 0]])
