"""xconv.ndimage, call by call, beside SciPy's own answers, and what it promises beyond them."""

from __future__ import annotations

import inspect
import math
import re
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from backends import assert_array
from hypothesis import given, settings
from hypothesis import strategies as st

import xconv
from xconv import _correlate, ndimage, signal
from xconv._arrays import taps as tap_by_tap
from xconv._arrays.elements import truncated
from xconv._plan import chains
from xconv._plan.remembered import forget
from xconv._run import neighbours
from xconv._run.threads import alone

MODES = ["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-wrap", "grid-constant"]
INTEGERS = ["uint8", "int16", "int64", "uint64", "bool"]
DTYPES = ["float64", "float32", *INTEGERS, "complex64", "complex128"]
ALONG_ONE = ["correlate1d", "convolve1d", "uniform_filter1d", "gaussian_filter1d"]
NAMES = [name for name in ndimage.__all__ if hasattr(scipy.ndimage, name) and "imum" not in name]


def numbers(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    if dtype in INTEGERS:
        return rng.integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


class Drawn:
    """The array and the keywords of a call, drawn by the names of the function's parameters."""

    def __init__(self, draw, name):
        self.draw, self.name = draw, name
        self.shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
        self.names = inspect.signature(getattr(scipy.ndimage, name)).parameters
        self.axes = draw(st.permutations(range(len(self.shape))))[: draw(st.integers(1, len(self.shape)))]
        self.count = len(self.axes) if "axes" in self.names else len(self.shape)
        dtypes = set(DTYPES) - ({"complex64", "complex128"} if name == "gaussian_gradient_magnitude" else set())
        if name not in ("correlate", "convolve", *ALONG_ONE):
            dtypes -= {"bool"}  # SciPy stores 2 in a byte that is to be 0 or 1, and goes on with that
        self.x = numbers(self.shape, draw(st.sampled_from(sorted(dtypes))), draw(st.integers(0, 99)))

    def call(self):
        found = {
            name: getattr(self, name)() for name in self.names if hasattr(self, name) and name not in ("axes", "x")
        }
        if "axes" in self.names:
            found["axes"] = [axis - self.draw(st.sampled_from([0, len(self.shape)])) for axis in self.axes]
        if self.name in ("correlate", "convolve"):
            sizes = dict(zip(sorted(self.axes), found["weights"].shape, strict=True))
            owners = self.axes if len(self.axes) < len(self.shape) else sizes  # SciPy forgets then whose an origin is
            found["origin"] = [self.within(sizes[axis]) for axis in owners]
        elif "weights" in found:
            found["origin"] = self.within(len(found["weights"]))
        is_complex = "c" in (self.x.dtype.kind, np.asarray(found.get("weights", 0)).dtype.kind)
        kinds = ["complex128"] if is_complex else ["float64", "float32", "int32", "uint8"]
        output = self.draw(st.sampled_from([None, *kinds]))
        return found if output is None else found | {"output": output}

    def within(self, k):
        """An origin, as correlate and convolve take it, of windows of k elements."""
        origin = self.draw(st.integers(-(k // 2), (k - 1) // 2))
        return -origin - (k % 2 == 0) if self.name[:8] == "convolve" else origin

    def some(self, strategy):
        """One, or one for each axis where that is allowed."""
        if self.name in ALONG_ONE or self.draw(st.booleans()):
            return self.draw(strategy)
        return [self.draw(strategy) for _ in range(self.count)]

    def axis(self):
        return self.draw(st.integers(-len(self.shape), len(self.shape) - 1))

    def cval(self):
        return self.draw(st.sampled_from([0, 1.5, 3]))

    def mode(self):
        strategy = st.sampled_from(MODES)
        return self.draw(strategy) if self.name in ("correlate", "convolve") else self.some(strategy)

    def weights(self):
        count = 1 if self.name in ALONG_ONE else len(self.axes)
        size = [self.draw(st.integers(1, 5)) for _ in range(count)]
        dtype = self.draw(st.sampled_from(["float64", "int64", "float32", "complex128"]))
        w = numbers(size, dtype, self.draw(st.integers(0, 99)))
        turned = np.flip(w)
        return self.draw(st.sampled_from([w, w + turned, w - turned]))

    def size(self):
        return self.some(st.integers(1, 7))

    def sigma(self):
        if self.name == "gaussian_gradient_magnitude":
            self.count = len(self.shape)
        sigma = self.some(st.sampled_from([0.4, 1, 1.7]))
        self.count = len(self.axes) if "axes" in self.names else len(self.shape)
        return sigma

    def order(self):
        return self.some(st.integers(0, 3))


def answer(module, name, x, keywords):
    """What a call gives; numbers that no integer is get lost without a warning."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        return getattr(module, name)(x, **keywords)


def check(name, x, keywords):
    """The dtype and the shape of SciPy's answer, and its values: exactly those of integers."""
    expected, found = (answer(module, name, x, keywords) for module in (scipy.ndimage, ndimage))
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.flags.c_contiguous
    if found.dtype == "uint64" and np.max(expected) > 2**53:
        return  # a negative number once, which C leaves open what becomes of in sums
    if found.dtype == "bool":  # of which SciPy stores the last byte, which is 0 of 256
        expected = answer(scipy.ndimage, name, x, keywords | {"output": "int64"}) != 0
    if found.dtype.kind in "iub":
        assert np.array_equal(found, expected)
        return
    single = any(np.finfo(one.dtype).bits == 32 for one in (x, found) if one.dtype.kind in "fc")
    scale = max(np.max(np.abs(expected)), np.max(np.abs(x.astype(complex))), 1)
    assert np.max(np.abs(found - expected)) <= 200 * scale * np.finfo("float32" if single else "float64").eps


@pytest.mark.parametrize("name", [name for name in NAMES if name != "generic_laplace"])
def test_calls_give_what_scipys_give(name):
    @settings(max_examples=100)
    @given(st.data())
    def drawn(data):
        call = Drawn(data.draw, name)
        check(name, call.x, call.call())

    drawn()
    assert drawn.hypothesis


LARGE = {
    "correlate": {"weights": numbers((3, 4), "float64", 1)},
    "convolve": {"weights": numbers((5, 7), "float64", 2), "mode": "wrap"},
    "correlate1d": {"weights": [0.5, 1, 2, 4], "axis": 0, "mode": "constant", "cval": 2.5},
    "convolve1d": {"weights": [1, 0, -1], "mode": "mirror"},
    "uniform_filter1d": {"size": 250, "axis": 0},
    "uniform_filter": {"size": (3, 8), "origin": (1, -2)},
    "gaussian_filter1d": {"sigma": 4, "order": 1},
    "gaussian_filter": {"sigma": (1, 3), "mode": ("wrap", "constant")},
    "prewitt": {"axis": 0},
    "sobel": {},
    "laplace": {"mode": "constant", "cval": 300},
    "gaussian_laplace": {"sigma": 2},
    "gaussian_gradient_magnitude": {"sigma": 2},
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("name", LARGE)
def test_blocks_give_what_scipy_gives(name, dtype):
    """Arrays of several blocks, which begin anywhere, and rows that are not in one run."""
    assert set(LARGE) == set(NAMES) - {"generic_laplace"}
    x = numbers((230, 311), dtype, 0)
    check(name, x, LARGE[name])
    check(name, x[::2, 10:], LARGE[name])
    check(name, x.T, LARGE[name])


@pytest.mark.parametrize("sign", [0, 1, -1], ids=["any", "even", "odd"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(
    ("shape", "k"), [((1,), 9), ((2,), 300), ((5, 3), 101), ((4, 1, 2), 33), ((700,), 10), ((60,), 701)]
)
def test_many_taps_at_once_have_the_bits_of_tap_by_tap(monkeypatch, shape, k, dtype, sign):
    """Of so few outputs that an operation takes longer to begin: in one piece, and in several."""
    x, taps = numbers(shape, dtype, 0), numbers((k,), "float64", 1)
    taps = taps + sign * taps[::-1]  # of an even number, which are not folded, too

    def found(few, laid_out):
        monkeypatch.setattr(tap_by_tap, "FEW", few)
        monkeypatch.setattr(tap_by_tap, "LAID_OUT", laid_out)
        forget()
        return [
            ndimage.correlate1d(x, taps, mode="mirror").tobytes() for _ in range(3)
        ]  # the third by steps that are kept

    assert found(1024, 2**14) == found(1024, 40) == found(0, 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "generic_laplace"])
def test_boxes_of_any_size_give_the_same_bits(monkeypatch, name):
    """Filters are chained box by box, each of which begins anywhere, and reads beyond itself what others give."""

    @settings(max_examples=60)
    @given(st.data(), st.integers(1, 40))
    def drawn(data, room):
        call = Drawn(data.draw, name)
        keywords = call.call()
        monkeypatch.setattr(neighbours, "BLOCK", 2**20)
        monkeypatch.setattr(neighbours, "WORTH", 2**40)
        expected = answer(ndimage, name, call.x, keywords)
        monkeypatch.setattr(neighbours, "BLOCK", 8 * room)
        monkeypatch.setattr(neighbours, "WORTH", 0)
        check(name, call.x, keywords)
        assert answer(ndimage, name, call.x, keywords).tobytes() == expected.tobytes()

    monkeypatch.setattr(chains, "MOVED", 1e9)  # so that one chain has all filters
    forget()
    drawn()
    forget()
    assert drawn.hypothesis


@pytest.mark.parametrize("mode", ["reflect", "constant"])
@pytest.mark.parametrize(("name", "value"), [("correlate", np.ones((3, 3), np.float32)), ("gaussian_filter", 2)])
def test_boxes_at_the_ends_are_made_where_others_are(monkeypatch, name, value, mode):
    """New memory comes page by page: threads would wait for that as long as they compute."""
    monkeypatch.setattr(chains, "MOVED", 1e9)  # so that one chain has all filters
    forget()
    x = numbers((600, 700), "float32", 0)
    with alone():  # one thread does all, so that the second call finds its memory
        y = getattr(ndimage, name)(x, value, mode=mode)
        tracemalloc.start()
        y = getattr(ndimage, name)(x, value, mode=mode)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    forget()
    assert peak - y.nbytes < 2**17


@pytest.mark.parametrize("sign", [1, -1])
def test_a_complex_number_alone_gives_the_bits_of_those_beside_others(sign, monkeypatch):
    """NumPy would round it otherwise where it is multiplied in its place."""
    x, w = numbers((50,), "complex128", 0), numbers((5,), "complex128", 1)
    w = w + sign * w[::-1]
    expected = ndimage.correlate1d(x, w)
    monkeypatch.setattr(neighbours, "BLOCK", 8)
    forget()
    assert np.array_equal(ndimage.correlate1d(x, w), expected)
    forget()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", [(1, 3), (2, 2), (3, 3)])
def test_a_column_alone_gives_the_bits_of_columns_beside_others(kernel, dtype):
    """NumPy's sums over windows of one output in a row would be in another order."""
    x, w = numbers((40, 30), dtype, 0), numbers(kernel, "float64", 1)
    y = ndimage.correlate(x, w)
    reach = kernel[1] // 2, kernel[1] - 1 - kernel[1] // 2
    for column in range(4, 26):
        alone = ndimage.correlate(x[:, column - reach[0] : column + 1 + reach[1]], w)
        assert np.array_equal(alone[2:-2, reach[0]], y[2:-2, column])
    single = ndimage.correlate(x[:, 7:8], w, mode="constant")
    padded = ndimage.correlate(np.pad(x[:, 7:8], ((0, 0), (3, 3))), w, mode="constant")
    assert np.array_equal(single[2:-2, 0], padded[2:-2, 3])


@pytest.mark.parametrize("name", ["gaussian_filter1d", "uniform_filter1d", "maximum_filter1d", "correlate1d"])
@pytest.mark.parametrize("shape", [(150, 200, 3), (60, 3, 90), (3, 80, 100)])
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_an_axis_shorter_than_its_windows_is_filtered_without_its_borders(name, shape, mode):
    """As of colours: what is added up is as much as there are elements, where rows are few."""
    keywords = {
        "gaussian_filter1d": {"sigma": 2},
        "correlate1d": {"weights": numbers((13,), "float64", 1)},
    }.get(name, {"size": 13})
    x, axis = numbers(shape, "float64", 0), shape.index(3)
    words = {"mode": mode, "cval": 1.5} | keywords
    check(name, x, {"axis": axis} | words)
    y = getattr(ndimage, name)(x, axis=axis, **words)
    moved = getattr(ndimage, name)(np.moveaxis(x, axis, 0), axis=0, **words)
    assert np.array_equal(np.moveaxis(y, axis, 0), moved)
    line = ((axis,), (13,), (6,), ("symmetric",))
    for chain in chains.chains(shape, (line,), 2**30):
        (box,) = chain.boxes
        assert box.passes[0].rows[0] * box.passes[0].length < 1.1 * x.size


WIDE = {
    "gaussian_filter1d": {"sigma": 20},
    "correlate1d": {"weights": numbers((150,), "float64", 1)},
    "convolve1d": {"weights": numbers((151,), "float64", 2) + 1j},
    "uniform_filter1d": {"size": 152},
    "maximum_filter1d": {"size": 153},
    "minimum_filter1d": {"size": 1001},
}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1,), (2, 3), (3, 5), (2, 40)])
def test_windows_wider_than_an_axis_with_its_borders_read_each_element_once(name, mode, shape):
    """What they read again and again is added to one tap, or compared once."""
    x = numbers(shape, "float64", 3)
    widest = 0 if "gaussian" in name else len(WIDE[name].get("weights", range(WIDE[name].get("size", 0)))) // 2
    for origin in {0, -widest + 1, widest - 1} if widest else {0}:
        words = {"mode": mode, "cval": 0.75} | WIDE[name] | ({"origin": origin} if widest else {})
        check(name, x, words)


@pytest.mark.parametrize(
    ("mode", "pads"),
    [("reflect", "symmetric"), ("mirror", "reflect"), ("nearest", "edge"), ("wrap", "wrap"), ("constant", "constant")],
)
def test_windows_with_holes_that_are_wider_than_a_line_read_its_borders(mode, pads):
    """SciPy's own reflect reads others where windows are several times as wide as the axis."""
    holes, x = np.arange(41) % 7 == 3, numbers((5,), "float64", 3)
    words = {"constant_values": 0.75} if pads == "constant" else {}
    padded = np.pad(x, (24, 16), pads, **words)
    rows = [padded[at : at + 41][holes] for at in range(5)]
    for name, pick in (("maximum_filter", np.max), ("minimum_filter", np.min)):
        found = getattr(ndimage, name)(x, footprint=holes, mode=mode, cval=0.75, origin=4)
        assert np.array_equal(found, [pick(row) for row in rows])


@pytest.mark.parametrize(
    ("mode", "d", "most"),
    [
        ("symmetric", 3, 13),
        ("reflect", 3, 9),
        ("replicate", 3, 7),
        ("circular", 3, 7),
        ("zeros", 3, 7),
        ("reflect", 1, 3),
    ],
)
@pytest.mark.parametrize("reach", [(100, 100), (150, 50), (0, 200), (0, 100)])
def test_windows_are_no_wider_than_what_they_read(mode, d, most, reach):
    """To each side of an element that is a period, or all of the axis: 24,001 taps over 3 elements took 0.2 s."""
    taps = tuple(numbers((sum(reach) + 1,), "float64", 1).tolist())
    line = neighbours.Filter((1,), (len(taps),), reach[:1], (mode,), 0.0, taps)
    widest = most if all(reach) else most // 2 + 1
    equal = line._replace(taps=None)
    for filtered, sums in ((line, True), (equal, True), (equal, False)):
        found = filtered.over((5, d), sums)
        assert found.sizes == (widest,)
        assert found.before == (most // 2 if reach[0] else 0,)
        if sums:
            assert len(found.taps) == widest
            assert math.isclose(sum(found.taps), sum(filtered.taps or (1,)), rel_tol=1e-9, abs_tol=1e-9)
    near = line._replace(sizes=(3,), before=(1,), taps=(1.0, 2.0, 3.0))
    assert near.over((5, d), True) is near


def test_infinite_borders_under_opposite_taps_are_nan_as_scipy_has_them():
    """Of a tap of the other sign among those that read an end, nothing would be seen once they are one."""
    x, weights = np.ones(2), np.ones(22)
    weights[0] = weights[-1] = -0.5
    words = {"weights": weights, "mode": "constant", "cval": -np.inf}
    assert np.isnan(scipy.ndimage.correlate1d(x, **words)).all()
    assert np.isnan(ndimage.correlate1d(x, **words)).all()


def test_windows_much_wider_than_an_image_take_no_more_memory_than_a_few_of_it():
    """Boxes of 200x300 that read 5000 rows each took 140 MB, and a hundred times SciPy's time."""
    x = numbers((200, 300), "float64", 0)
    for name in ("uniform_filter", "maximum_filter"):
        tracemalloc.start()
        found = getattr(ndimage, name)(x, 5001)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 * x.nbytes
        assert np.allclose(found, getattr(scipy.ndimage, name)(x, 5001))


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("name", ["gaussian_filter", "uniform_filter", "maximum_filter"])
def test_windows_wider_than_axes_agree_on_all_libraries(backend, name, mode):
    x = numbers((4, 5), "float32", 3)
    words = {"mode": mode, "cval": 0.5} | ({"sigma": 9} if "gaussian" in name else {"size": 33})
    expected = getattr(scipy.ndimage, name)(x.astype("float64"), **words).astype("float32")
    found = backend.run(getattr(ndimage, name), backend.array(x), **words)
    assert_array(backend, found, expected, terms=200)


@pytest.mark.parametrize("name", [name for name in LARGE if name not in ("correlate", "convolve")])
@given(st.floats(1e-3, 1e3), st.integers(0, 99), st.sampled_from(["float32", "float64"]))
@settings(max_examples=20)
def test_constants_stay_constant(name, value, seed, dtype):
    keywords = LARGE[name] | {"mode": "reflect", "cval": 0}
    if "weights" in keywords:
        keywords["weights"] = numbers((5,), "float64", seed)
    y = getattr(ndimage, name)(np.full((24, 37), value, dtype), **keywords)
    assert np.all(y == y[0, 0])
    if "order" in keywords or name in ("prewitt", "sobel", "gaussian_gradient_magnitude"):
        assert not np.any(y)


@pytest.mark.parametrize(("shape", "kernel"), [((80, 400), (5, 5)), ((300, 400), (3, 3)), ((40, 30, 50), (3, 3, 3))])
@given(st.integers(0, 99), st.floats(0.1, 1e3))
@settings(max_examples=20)
def test_few_taps_of_several_axes_keep_constants_constant(shape, kernel, seed, value):
    y = ndimage.correlate(np.full(shape, value), numbers(kernel, "float64", seed))
    assert np.all(y == y.flat[0])


@pytest.mark.parametrize(
    ("shape", "kernel", "adds"),
    [
        ((512, 512), (3, 3), True),
        ((64, 64, 64), (3, 3, 3), True),
        ((180, 180), (5, 5), True),
        ((512, 512), (5, 5), False),
        ((2048, 2048), (7, 3), False),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_taps_are_added_where_products_of_matrices_take_little_less(shape, kernel, adds, dtype, monkeypatch):
    made = []
    monkeypatch.setattr(_correlate, "FilterChain", lambda *given: made.append(given) or (lambda x: x))
    forget()
    assert ndimage.correlate(np.zeros(shape, dtype), numbers(kernel, dtype, 0)).shape == shape
    forget()  # what was made
    assert bool(made) is adds


@pytest.mark.parametrize("size", [3, 9])
def test_nan_stays_in_the_windows_that_read_it(size):
    """Weights of 0 do not read, in SciPy's filters of several axes."""
    x, w = numbers((80, 70), "float64", 0), np.ones((size, size))
    w[0], x[40, 30] = 0, np.nan
    expected = scipy.ndimage.correlate(x, w)
    found = ndimage.correlate(x, w)
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.allclose(found, expected, equal_nan=True)


def test_no_warning_comes_of_sums_that_nobody_sees():
    """Ends of rows are added to the beginnings of the next ones; in float32 the largest have no sum."""
    x = np.zeros((40, 50), np.float32)
    x[:, 0] = x[:, -1] = 3e38
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ndimage.correlate1d(x, [1, 0, 1], mode="constant").max() == np.float32(3e38)


def test_output_arrays_may_be_the_input():
    x = numbers((40, 30), "float64", 0)
    for name in LARGE:
        expected, y = getattr(ndimage, name)(x, **LARGE[name]), x.copy()
        assert getattr(ndimage, name)(y, output=y, **LARGE[name]) is y
        assert np.array_equal(y, expected), name


def test_what_numpy_makes_an_array_of_is_an_input():
    assert ndimage.correlate([1, 2, 3], [1, 1, 1]).tolist() == [4, 6, 8]
    masked = np.ma.masked_equal([1.0, 2, 3], 2)
    assert type(ndimage.gaussian_filter(masked, 1)) is np.ndarray
    assert ndimage.correlate(np.float64(3), np.float64(2)) == 6
    assert type(ndimage.uniform_filter(np.array(2.5), 3, output=bool)) is np.ndarray
    assert ndimage.gaussian_filter(np.zeros((0, 3)), 1).shape == (0, 3)


@pytest.mark.parametrize("name", LARGE)
def test_backends_agree(backend, name):
    """The same call on every library, in its own dtypes."""
    x = numbers((7, 9), "float32", 3)
    keywords = LARGE[name] | ({"size": 6} if "size" in LARGE[name] and name[-1] == "d" else {})
    weights = [backend.array(w) for w in ([keywords.pop("weights")] if "weights" in keywords else [])]
    expected = getattr(ndimage, name)(x, *map(np.asarray, [LARGE[name]["weights"]] if weights else []), **keywords)
    found = backend.run(getattr(ndimage, name), backend.array(x), *weights, **keywords)
    assert_array(backend, found, expected, terms=100)


CALLS = {
    "correlate": lambda x: ndimage.correlate(x, [[1.0, 2], [0, 3], [4, -1]], mode="wrap", axes=(0, 2)),
    "few lines": lambda x: ndimage.gaussian_filter(x, (1, 0.5), mode=("reflect", "constant"), cval=2.0, axes=(0, 2)),
    "mirror": lambda x: ndimage.correlate(x, [[[1.0, 2, 3, 4, 5]]], mode="mirror", origin=(0, 0, 1)),
    "constant": lambda x: ndimage.convolve(x, [[[1.0], [2], [3]]], mode="constant", cval=7.0),
    "mean": lambda x: ndimage.uniform_filter(x, 3, mode="nearest"),
    "laplace": ndimage.laplace,
}


@pytest.mark.parametrize("name", CALLS)
def test_jax_differentiates_and_maps(jax_backend, name):
    import jax

    x = jax_backend.array(numbers((3, 4, 5), "float64", 0))
    from jax.test_util import check_grads

    check_grads(jax.jit(CALLS[name]), (x,), order=1, modes=["rev", "fwd"], atol=1e-6, rtol=1e-6, eps=1)
    several = jax_backend.xp.stack([x, 2 * x])
    mapped = jax.vmap(CALLS[name])(several)
    assert np.allclose(mapped[1], CALLS[name](several[1]), rtol=1e-12, atol=1e-12)


def convolved(x, mode):
    import jax

    w = jax.numpy.ones((1, 1, 3, 3))
    return xconv.conv(x[None, None], w, padding=1, padding_mode=PADDING_MODES[mode])


PADDING_MODES = {
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "constant": "zeros",
}
SUMS = {  # with how many arrays the taps of their adjoints read
    "gaussian_filter": (lambda x, mode: ndimage.gaussian_filter(x, 2, mode=mode), 2),
    "gaussian_laplace": (lambda x, mode: ndimage.gaussian_laplace(x, 1, mode=mode), 3),
    "sobel": (lambda x, mode: ndimage.sobel(x, mode=mode), 2),
    "laplace": (lambda x, mode: ndimage.laplace(x, mode=mode), 1),
    "correlate1d": (lambda x, mode: ndimage.correlate1d(x, [1.0, 2, 3, 4, 5], mode=mode), 1),
    "conv": (convolved, 1),
}


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("name", SUMS)
def test_jax_puts_no_tap_among_zeros_by_itself_in_the_adjoint(jax_backend, name, mode):
    """What all taps read has zeros around, once, and of it their slices are taken; borders add to the ends alone.

    XLA computes a sum of arrays with zeros around again for each of those that the next pass reads, which takes 20 to
    100 times as long as the filter.
    """
    import jax

    function, read = SUMS[name]
    x = jax_backend.array(numbers((20, 24), "float64", 0))
    y, adjoint = jax.vjp(lambda x: function(x, mode), x)
    text = jax.jit(adjoint).lower(y).as_text()
    pads = re.findall(r"stablehlo\.pad (\S+), \S+, low = (.*), interior", text)
    widened = {array for array, around in pads if "-" not in around}  # less than none is how JAX writes a slice
    assert len(widened) == read


@pytest.mark.parametrize("name", CALLS)
def test_torch_differentiates_and_compiles(torch_backend, name):
    import torch

    x = torch_backend.array(numbers((3, 4, 5), "float64", 0)).requires_grad_(True)
    assert torch.autograd.gradcheck(CALLS[name], (x,))
    compiled = torch.compile(CALLS[name], backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), CALLS[name](x), rtol=1e-12, atol=1e-12)


def test_weights_of_a_library_have_gradients(torch_backend):
    """Taps that may be differentiated by are not folded, which would give one of two the gradients of both."""
    import torch

    x = torch_backend.array(numbers((6, 7), "float64", 0))
    for w in ([1.0, 2.0, 1.0], [[1.0, 2.0], [3.0, 4.0]]):
        w = torch_backend.array(w).requires_grad_(True)
        function = ndimage.correlate if w.ndim == 2 else ndimage.correlate1d
        assert torch.autograd.gradcheck(lambda w, function=function: function(x, w), (w,))


REFUSED = [
    (lambda x: ndimage.correlate(x, np.ones(3)), RuntimeError, r"weights.ndim \(1\) must match len\(axes\) \(2\)"),
    (lambda x: ndimage.correlate(x, np.ones((3, 0))), RuntimeError, "at least one element along each axis"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), mode="zeros"), RuntimeError, "mode must be one of 'reflect'"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), mode=["wrap", "wrap"]), RuntimeError, "one word for all axes"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), cval=1j), ValueError, "complex-valued cval"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), origin=2), ValueError, "origin must leave the 3 elements"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), axes=(0, 0)), ValueError, "axes must be unique"),
    (lambda x: ndimage.correlate(x, np.ones((3, 3)), axes=(0, 1.0)), TypeError, "integer"),
    (lambda x: ndimage.correlate1d(x, np.ones((3, 3))), RuntimeError, "weights must be at least one number along one"),
    (lambda x: ndimage.sobel(x, axis=2), np.exceptions.AxisError, "got 2, which is out of range"),
    (lambda x: ndimage.uniform_filter1d(x, 0), RuntimeError, "size must be at least 1, got 0"),
    (lambda x: ndimage.uniform_filter(x, (3, 3, 3)), RuntimeError, "length equal to input rank"),
    (lambda x: ndimage.gaussian_filter(x, 1, order=-1), ValueError, "order must be at least 0, got -1"),
    (lambda x: ndimage.gaussian_filter(x, 1, radius=1.5), ValueError, "radius must be an int of at least 0, got 1.5"),
    (lambda x: ndimage.laplace(x, output=np.zeros(3)), RuntimeError, r"output must have the shape \(4, 5\)"),
    (lambda x: ndimage.laplace(x * 1j, output=np.zeros((4, 5))), RuntimeError, "output must be complex"),
    (lambda x: ndimage.laplace(x * 1j, output="float64"), RuntimeError, "output must be complex"),
    (lambda x: ndimage.gaussian_filter(x, "a"), TypeError, "sigma must be a real number, got 'a'"),
    (lambda x: ndimage.gaussian_filter(x, 1, truncate="a"), TypeError, "truncate must be a real number, got 'a'"),
    (lambda x: ndimage.gaussian_filter(x, 1, order="a"), TypeError, "order must be an int, got 'a'"),
    (lambda x: ndimage.uniform_filter(x, "3"), TypeError, "size must be a finite number, got '3'"),
    (lambda x: ndimage.maximum_filter(x, "3"), TypeError, "size must be a finite number, got '3'"),
    (lambda x: ndimage.sobel(x, axis="y"), TypeError, "axis must be an int, got 'y'"),
    (lambda x: ndimage.correlate(x, x, mode="symmetric"), RuntimeError, "mode must.*'reflect' is likely meant"),
    (lambda x: ndimage.correlate(x, x, mode="edge"), RuntimeError, "mode must.*'nearest' is likely meant"),
]


OF_ONE_AXIS = {"correlate1d": ([1.0],), "convolve1d": ([1.0],), "gaussian_filter1d": (1,), "sobel": (), "prewitt": ()}
OF_ONE_AXIS |= dict.fromkeys(["uniform_filter1d", "maximum_filter1d", "minimum_filter1d"], (3,))
OF_SOME_AXES = dict.fromkeys(["gaussian_filter", "gaussian_laplace", "gaussian_gradient_magnitude"], (1,))
OF_SOME_AXES |= dict.fromkeys(["uniform_filter", "maximum_filter", "minimum_filter"], (3,)) | {"laplace": ()}
WRONG_AXES = [(5,), (-3,), (0, 5), (0, 0), (0, -2), (0, 1.0), ("0",), 1.5]


@pytest.mark.on("numpy", "jax", "torch", "strict")
def test_wrong_axes_raise_what_scipys_do(backend):
    """Axes out of range an AxisError, which is a ValueError and an IndexError, whatever library the array is of."""
    x = np.ones((4, 5))
    for name, words in OF_ONE_AXIS.items():
        for axis in (2, -3, 1.5, "0", None, (0,)):
            assert_raises_alike(backend, name, x, *words, axis)
    for name, words in OF_SOME_AXES.items():
        for axes in WRONG_AXES:
            assert_raises_alike(backend, name, x, *words, axes=axes)
    for axes in (5, (-3,)):
        assert_raises_alike(backend, "correlate", x, np.ones(3), axes=axes)


COMPLEX = OF_ONE_AXIS | OF_SOME_AXES | {"correlate": (np.ones((3, 3)),), "convolve": (np.ones((3, 3)),)}


@pytest.mark.on("numpy", "jax", "torch", "strict")
@pytest.mark.parametrize("name", COMPLEX)
def test_real_outputs_of_complex_results_are_as_scipy_has_them(backend, name):
    """A dtype promotes with a warning, or is refused; a word, or an array, is refused."""
    x = numbers((4, 5), "complex64", 0)
    for output in ("float32", "f4", np.float32, np.dtype("float64"), np.int32, np.complex128, "complex64"):
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            expected = outcome(getattr(scipy.ndimage, name), x, *COMPLEX[name], output=output)
        with warnings.catch_warnings(record=True) as ours:
            warnings.simplefilter("always")
            found = outcome(getattr(ndimage, name), *given_to(backend, x, *COMPLEX[name]), output=output)
        assert [one.category for one in ours] == [one.category for one in theirs]
        if isinstance(expected, type):
            assert found is expected
        else:
            assert_array(backend, found, expected, dtype=expected.dtype.name, terms=100)


def outcome(function, *arguments, **keywords):
    """What is given, or the class of the error."""
    try:
        return function(*arguments, **keywords)
    except (RuntimeError, TypeError) as error:
        return type(error)


def given_to(backend, *arguments):
    return [backend.array(one) if isinstance(one, np.ndarray) else one for one in arguments]


def assert_raises_alike(backend, name, *arguments, **keywords):
    with pytest.raises((ValueError, IndexError, TypeError, RuntimeError)) as theirs:
        getattr(scipy.ndimage, name)(*arguments, **keywords)
    with pytest.raises(theirs.type) as ours:
        getattr(ndimage, name)(*given_to(backend, *arguments), **keywords)
    assert "got" in str(ours.value)


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_refused_in_words(call, kind, message):
    with pytest.raises(kind) as refused:
        call(np.ones((4, 5)))
    assert refused.match(message)


def test_arrays_that_cannot_be_written_to_are_no_output(jax_backend):
    x = jax_backend.array(np.ones((4, 5)))
    with pytest.raises(TypeError) as refused:
        ndimage.sobel(x, output=x)
    assert refused.match(r"output must be a dtype, or an array of jax.numpy that can be written to")


@pytest.mark.parametrize("keywords", [{}, {"mode": "constant", "cval": 1 + 2j}])
@pytest.mark.parametrize(
    ("name", "words"),
    [("gaussian_filter", {"sigma": 1}), ("correlate1d", {"weights": [1.0, 2.0]}), ("laplace", {})]
    + [("correlate", {"weights": numbers((k, k), "float64", 1)}) for k in (3, 9)],
)
def test_inf_in_one_part_of_a_complex_number_is_no_nan_in_the_other(name, words, keywords):
    x = numbers((80, 70), ">c16", 0)
    x[40, 30] = complex(np.inf, 1)
    found, expected = (answer(module, name, x, words | keywords) for module in (ndimage, scipy.ndimage))
    assert np.isfinite(found.imag).all()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_numbers_beyond_integers_are_as_scipy_stores_them(backend):
    x = np.array([5, -3, 2.0**63, 3 * 2.0**64])
    found = backend.run(lambda x: ndimage.correlate1d(x, [1.0], output=backend.dtype("uint64")), backend.array(x))
    assert np.array_equal(backend.to_numpy(found), scipy.ndimage.correlate1d(x, [1.0], output=np.uint64))


@pytest.mark.parametrize("cval", [np.nan, np.inf, -np.inf])
def test_what_no_integer_is_may_lie_beyond_the_ends(cval):
    """C leaves open which integer that becomes."""
    for taps in ([1, 0, 1], [1, 1, 1]):
        y = ndimage.minimum_filter(np.array([3, 2, 4, 1]), footprint=taps, mode="constant", cval=cval)
        assert y[1:3].tolist() == scipy.ndimage.minimum_filter([3, 2, 4, 1], footprint=taps)[1:3].tolist()


@pytest.mark.parametrize("axes", [(0, 1), (1,)])
@pytest.mark.parametrize("shape", [(7, 8), (400, 500)])
def test_what_somebody_else_gives_is_not_written_to(shape, axes):
    """Sums over axes are computed in the place of the first share, if that is ours."""
    x = numbers(shape, "float64", 0)
    expected, kept = len(axes) * x, x.copy()
    y = ndimage.generic_laplace(x, lambda x, *others: x, axes=axes)
    assert not np.shares_memory(x, y)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("generic_laplace", "correlate", "convolve")])
def test_outputs_have_the_byte_order_that_is_asked_for(name):
    x, words = np.arange(72.0).reshape(9, 8), LARGE[name]
    for dtype in (">f8", ">i2"):
        assert getattr(ndimage, name)(x, **words, output=dtype).dtype == dtype


def test_complex_numbers_keep_their_precision():
    for dtype in ("complex64", "complex128", "clongdouble"):
        assert ndimage.gaussian_filter(np.ones(9, dtype), 1).dtype == dtype


@pytest.mark.parametrize("function", ["gaussian_filter", "uniform_filter", "maximum_filter"])
def test_results_are_in_the_byte_order_of_the_machine(function):
    x = np.arange(72.0).reshape(9, 8).astype(">f4")
    y = getattr(ndimage, function)(x, 3)
    assert y.dtype.isnative
    np.testing.assert_allclose(y, getattr(scipy.ndimage, function)(x, 3), rtol=1e-6)


IMAGE, WEIGHTS = numbers((24, 37), "float64", 0), numbers((3, 3), "float64", 1)
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
# By what is changed between two calls: of which function, the keywords of the first, and those of the second.
CHANGES = {
    "weights": ("correlate", {"weights": WEIGHTS}, {"weights": WEIGHTS + 1}),
    "weights along one axis": ("convolve1d", {"weights": WEIGHTS[0]}, {"weights": WEIGHTS[1]}),
    "a list of weights": ("correlate1d", {"weights": [1.0, 2.0]}, {"weights": [2.0, 2.0]}),
    "the sign of a zero weight": ("correlate1d", {"weights": np.zeros(1)}, {"weights": -np.zeros(1)}),
    "weights' dtype": ("correlate1d", {"weights": np.ones(3)}, {"weights": np.ones(3, complex)}),
    "weights' dtype, of the same bytes": (
        "correlate1d",
        {"weights": np.arange(3)},
        {"weights": np.arange(3).view(float)},
    ),
    "weights' shape": ("correlate", {"weights": np.ones((1, 3))}, {"weights": np.ones((3, 1))}),
    "a footprint": ("maximum_filter", {"footprint": CROSS}, {"footprint": ~CROSS}),
    "a footprint's shape": ("maximum_filter", {"footprint": np.ones((1, 3))}, {"footprint": np.ones((3, 1))}),
    "the function": ("correlate", {"weights": WEIGHTS}, {"weights": WEIGHTS, "function": "convolve"}),
    "which extreme": ("maximum_filter", {"size": 3}, {"size": 3, "function": "minimum_filter"}),
    "a size": ("uniform_filter", {"size": 3}, {"size": 4}),
    "sigma": ("gaussian_filter", {"sigma": 1.0}, {"sigma": 2.0}),
    "truncate": ("gaussian_filter", {"sigma": 1.0}, {"sigma": 1.0, "truncate": 2.0}),
    "order": ("gaussian_filter", {"sigma": 1.0}, {"sigma": 1.0, "order": 1}),
    "mode": ("laplace", {"mode": "reflect"}, {"mode": "wrap"}),
    "cval": (
        "correlate",
        {"weights": WEIGHTS, "mode": "constant"},
        {"weights": WEIGHTS, "mode": "constant", "cval": 2.0},
    ),
    "origin": ("correlate", {"weights": WEIGHTS}, {"weights": WEIGHTS, "origin": 1}),
    "axes": ("correlate", {"weights": WEIGHTS[0], "axes": 0}, {"weights": WEIGHTS[0], "axes": 1}),
    "axis": ("sobel", {"axis": 0}, {"axis": 1}),
    "output": ("gaussian_filter", {"sigma": 1.0}, {"sigma": 1.0, "output": "float32"}),
    "input's dtype": ("uniform_filter", {"size": 3}, {"size": 3, "input": IMAGE.astype("int16")}),
    "input's shape": ("uniform_filter", {"size": 3}, {"size": 3, "input": IMAGE[:20]}),
}


def called(function, keywords):
    keywords = {"function": function, "input": IMAGE} | keywords
    return getattr(ndimage, keywords.pop("function"))(**keywords)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_remembered_is_of_the_same_call(change):
    name, first, second = CHANGES[change]
    forget()
    expected = called(name, second)
    forget()
    for _ in range(2):
        called(name, first)
    y = [called(name, second) for _ in range(2)][-1]
    assert (y.shape, y.dtype, y.tobytes()) == (expected.shape, expected.dtype, expected.tobytes())
    expected, found = called(name, first), called(name, first)
    assert expected.tobytes() != y.tobytes() or expected.shape != y.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["correlate", "correlate1d"])
def test_weights_written_to_between_calls_are_read_again(name):
    weights = np.ones((3,) * (2 if name == "correlate" else 1))
    before = getattr(ndimage, name)(IMAGE, weights)
    weights[...] = 2
    assert np.array_equal(getattr(ndimage, name)(IMAGE, weights), 2 * before)


@pytest.mark.parametrize("name", ["correlate", "correlate1d"])
def test_a_complex_pad_value_of_real_arrays_is_refused_though_it_equals_one_that_was_not(name):
    weights = np.ones((3,) * (2 if name == "correlate" else 1))
    getattr(ndimage, name)(IMAGE, weights, mode="constant", cval=1.0)
    with pytest.raises(ValueError, match="complex-valued cval") as error:
        getattr(ndimage, name)(IMAGE, weights, mode="constant", cval=1 + 0j)
    assert "got (1+0j)" in str(error.value)


@pytest.mark.parametrize("name", LARGE)
def test_small_calls_are_settled_once_and_forgotten_with_the_plans(monkeypatch, name):
    settled, own = [], neighbours.FilterChain.__init__

    def init(self, *words):
        settled.append(words)
        own(self, *words)

    monkeypatch.setattr(neighbours.FilterChain, "__init__", init)
    keywords = LARGE[name]
    forget()
    called(name, keywords)
    count = len(settled)
    called(name, keywords)
    assert len(settled) == count > 0
    forget()
    called(name, keywords)
    assert len(settled) == 2 * count


def test_results_are_no_memory_that_later_calls_write_to():
    first = [ndimage.gaussian_filter(IMAGE, 1.0) for _ in range(2)][-1]
    expected = first.copy()
    ndimage.gaussian_filter(IMAGE[::-1], 1.0)
    assert np.array_equal(first, expected)


def test_threads_filter_small_arrays_at_once():
    """Each has steps over memory of its own."""
    images = [numbers((64, 64), "float64", seed) for seed in range(4)]
    expected = [ndimage.gaussian_filter(image, 1.0) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            found = pool.map(lambda image: [ndimage.gaussian_filter(image, 1.0) for _ in range(5)], images)
            assert all(np.array_equal(y, one) for ys, one in zip(found, expected, strict=True) for y in ys)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_filters_of_unsigned_integers_are_turned_round(backend, dtype):
    """PyTorch turns only some of them, and what borders mirror."""
    x, w = numbers((6, 7), "uint8", 1).astype(dtype), numbers((2, 3), "uint8", 2).astype(dtype)
    wide = numbers((5, 6), "uint8", 3).astype(dtype)
    mirrored = backend.run(ndimage.correlate, backend.array(x), backend.array(wide))
    assert_array(backend, mirrored, scipy.ndimage.correlate(x, wide))
    for function, ours, theirs in [
        ("convolve", ndimage, scipy.ndimage),
        ("convolve", signal, scipy.signal),
        ("convolve2d", signal, scipy.signal),
        ("correlate2d", signal, scipy.signal),
    ]:
        expected = getattr(theirs, function)(x, w)
        found = backend.run(getattr(ours, function), backend.array(x), backend.array(w))
        assert_array(backend, found, expected)
    line = backend.run(lambda x, w: ndimage.convolve1d(x, w), backend.array(x), backend.array(w[0]))
    assert_array(backend, line, scipy.ndimage.convolve1d(x, w[0]))
    swapped = backend.run(lambda w, x: signal.correlate(w, x, "valid"), backend.array(w), backend.array(x))
    assert_array(backend, swapped, scipy.signal.correlate(w, x, "valid"))


def test_read_only_arrays_are_refused_before_anything_is_computed(monkeypatch):
    target = np.zeros((4, 5))
    target.flags.writeable = False
    monkeypatch.setattr(ndimage, "_applied", None)
    with pytest.raises(ValueError, match="output must be an array that can be written to, got one that is read-only"):
        ndimage.gaussian_filter(np.ones((4, 5)), 1, output=target)
    assert not target.any()


@pytest.mark.on("numpy", "jax", "torch", "cupy")
@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e300), ("float32", -1e300), ("float16", 1e10)])
def test_a_fill_value_beyond_a_dtype_is_inf(backend, dtype, value):
    x, sign = backend.array(np.ones((4, 5), dtype)), math.copysign(math.inf, value)
    for y in (
        ndimage.correlate1d(x, [1.0, 1.0, 1.0], mode="constant", cval=value),
        ndimage.maximum_filter(x, 3, mode="constant", cval=value),
        ndimage.minimum_filter(x, 3, mode="constant", cval=value),
    ):
        y = backend.to_numpy(y)
        assert y.dtype == dtype
        assert y[2, 2] in (1, 3)
        assert y[2, 0] in (sign, 1, 3)
    assert backend.to_numpy(ndimage.correlate1d(x, [1.0, 1.0], mode="constant", cval=value))[2, 0] == sign


@pytest.mark.parametrize(
    "output",
    [
        "U3",
        np.dtype("U3"),
        object,
        np.dtype(object),
        "M8[s]",
        np.float32(0),
        [[0.0] * 5] * 4,
        "f33",
        ml_dtypes.bfloat16,
    ],
)
def test_what_holds_no_numbers_is_no_output(numpy_backend, output):
    for name, words in [("correlate1d", {"weights": [1, 2.0]}), ("maximum_filter", {"size": 3})]:
        with pytest.raises(TypeError) as refused:
            getattr(ndimage, name)(np.ones((4, 5)), **words, output=output)
        assert refused.match(r"^output must be a dtype")
    with pytest.raises(TypeError) as refused:
        ndimage.sobel(np.ones((4, 5)), output=np.zeros((4, 5), "U3"))
    assert refused.match(r"^output must be a dtype")


def test_arrays_of_other_dtypes_are_named(numpy_backend):
    for name, words in [("gaussian_filter", {"sigma": 1}), ("maximum_filter", {"size": 3}), ("sobel", {})]:
        with pytest.raises(TypeError) as refused:
            getattr(ndimage, name)(np.ones((4, 5), ml_dtypes.bfloat16), **words)
        assert refused.match(r"^input must be a dtype that numpy computes with, got dtype\(bfloat16\)")


class TestSinglePrecision:
    """JAX without 64-bit numbers, as it comes."""

    @pytest.fixture(autouse=True)
    def without_doubles(self, jax_backend):
        import jax

        with jax.enable_x64(False), warnings.catch_warnings():
            warnings.simplefilter("error")  # JAX warns of each int64 that it does not give
            yield

    @pytest.mark.parametrize("output", [None, "uint8", "int16", int, float])
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "uint32", "float32"])
    def test_integers_are_stored_as_scipy_stores_them(self, jax_backend, dtype, output):
        x = np.random.default_rng(0).integers(0, 100, (9, 8)).astype(dtype)
        signed = output in ("int16", int, float) or (output is None and dtype[0] != "u")
        for name, words in {**LARGE, "maximum_filter": {"size": 3}}.items():
            if "weights" in words or "mode" in words or not (signed or name in ("gaussian_filter1d", "maximum_filter")):
                continue
            expected = getattr(scipy.ndimage, name)(x, **words, output=output)
            found = getattr(ndimage, name)(jax_backend.array(x), **words, output=output)
            assert found.dtype.itemsize == min(expected.dtype.itemsize, 4)
            assert np.allclose(found, expected, rtol=1e-5, atol=1 if expected.dtype.kind in "iu" else 1e-4), name

    def test_all_32_bits_are_there(self, jax_backend):
        x = jax_backend.array(np.full((5, 5), 3_000_000_000, np.uint32))
        assert np.all(np.asarray(ndimage.uniform_filter(x, 3)) == 3_000_000_000)

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
    def test_numbers_beyond_an_integer_wrap(self, jax_backend, dtype):
        """As float64's that are float32's do by way of int64, which is none of infinite ones."""
        x = [2.0**31, 3e9, -3e9, 2.0**32 - 256, 2.0**32 + 512, -(2.0**31) - 256, 2.0**40 + 2.0**20, -5.75, 5.75, 1e30]
        x = np.array([*x, -1e30, np.inf, -np.inf, np.nan], "float32")
        finite = np.where(np.abs(x) < 2.0**63, x, 0).astype("int64").astype(dtype)
        assert np.array_equal(truncated(jax_backend.xp, jax_backend.array(x), np.dtype(dtype)), finite)


@pytest.mark.parametrize(("name", "word"), [("gaussian_filter", 0), ("uniform_filter", 1), ("maximum_filter", 1)])
def test_filters_that_do_nothing_give_the_order_of_the_axes(name, word):
    x = np.asfortranarray(np.arange(20.0).reshape(4, 5))
    found = getattr(ndimage, name)(x, word)
    assert found.flags.c_contiguous
    assert np.array_equal(found, x)
    assert not np.shares_memory(found, x)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not name.endswith(("1d", "sobel", "prewitt"))] + ["maximum_filter"]
)
def test_an_array_without_axes_stays_one(backend, name):
    words = {"correlate": np.float64(2), "convolve": np.float64(2), "generic_laplace": lambda x, *more: x}
    sizes = {"uniform_filter": 3, "maximum_filter": 3, "laplace": None}
    argument = words.get(name, sizes.get(name, 1.0))
    more = [] if argument is None else [backend.array(argument) if isinstance(argument, np.float64) else argument]
    expected = getattr(scipy.ndimage, name)(np.asarray(3.0), *([] if argument is None else [argument]))
    assert_array(backend, getattr(ndimage, name)(backend.array(np.asarray(3.0)), *more), np.asarray(expected))


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 2, 4), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
@pytest.mark.parametrize(("dtype", "colours"), [("float64", 3), ("float32", 1), ("uint8", 3), ("complex128", 2)])
def test_colours_lie_before_rows_while_windows_reach_over_them(kernel, mode, dtype, colours):
    """Of integers by weights without fractions: sums are in another order."""
    x, w = numbers((200, 160, colours), dtype, 0), numbers(kernel, "int64", 1) - 50
    w = w.astype("float32" if dtype == "float32" else "float64")
    for function in ("correlate", "convolve"):
        expected = getattr(scipy.ndimage, function)(x, w, mode=mode, cval=2.0)
        found = getattr(ndimage, function)(x, w, mode=mode, cval=2.0)
        assert (found.dtype, found.flags.c_contiguous) == (expected.dtype, True)
        if dtype == "uint8":
            assert np.array_equal(found, expected)
        else:
            assert np.abs(found - expected).max() <= 300 * w.size * np.finfo(dtype).eps * np.abs(x).max()


def test_borders_much_longer_than_their_axis_are_laid_out_in_parts():
    """With those of all rows at once there would be 200 MB."""
    x = numbers((50_000, 4), "float64", 0)
    tracemalloc.start()
    found = ndimage.uniform_filter1d(x, 501)
    peak = tracemalloc.get_traced_memory()[1] - found.nbytes
    tracemalloc.stop()
    assert peak < 40 * 2**20
    assert np.allclose(found, scipy.ndimage.uniform_filter1d(x, 501))


@pytest.mark.parametrize("order", ["<", ">"])
def test_complex_weights_are_such_in_any_order_of_bytes(order):
    x, w = np.arange(6, dtype="float32"), np.array([1 + 1j, 2, 3j]).astype(f"{order}c16")
    for function in ("correlate1d", "convolve1d", "correlate"):
        expected = getattr(scipy.ndimage, function)(x, w)
        found = getattr(ndimage, function)(x, w)
        assert found.dtype == expected.dtype
        assert np.allclose(found, expected)


def test_numbers_beside_tensors_are_of_double_precision(torch_backend):
    x, weights = torch_backend.array(numbers((5, 6), "float64", 0)), [[0.1, 0.2]]
    expected = scipy.ndimage.correlate(x.numpy(), weights)
    for image in (x, x.clone().requires_grad_()):
        assert np.abs(ndimage.correlate(image, weights).detach().numpy() - expected).max() < 1e-15
    assert signal.convolve([0.1, 0.2], x[0]).dtype == signal.convolve(x[0], [0.1, 0.2]).dtype == x.dtype
