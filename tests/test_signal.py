"""xconv.signal gives what scipy.signal gives: shapes, dtypes, values and classes of errors, on every backend."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from backends import assert_array, assert_values
from geometries import normal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_autodiff import vector_jacobian_product

import xconv.ndimage
import xconv.signal
from xconv._arrays.operands import described
from xconv._plan.arguments import window_geometry
from xconv._plan.remembered import forget
from xconv._run import lines
from xconv._run.lines import Line

scipy_signal = pytest.importorskip("scipy.signal")

PAIRS = ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d")
MODES = ("full", "same", "valid")
EXTENSIONS = (
    *("constant", "wrap", "edge", "symmetric", "reflect"),
    *("smooth", "line", "antisymmetric", "antireflect"),
)
# The function, the shapes of its operands, their dtypes and the keywords.
CASES = [
    *[("convolve", ((9,), (4,)), dtypes, {"mode": mode}) for dtypes in ("ff", "di", "bb") for mode in MODES],
    ("convolve", ((4,), (11,)), "dd", {"mode": "same"}),
    ("convolve", ((1, 5), (4, 1)), "dd", {"mode": "same"}),
    ("convolve", ((3, 7, 5), (2, 3, 2)), "DF", {"mode": "valid"}),
    ("convolve", ((6, 5), (3, 2)), "ff", {"method": "fft"}),
    ("convolve", ((6, 5), (3, 2)), "fi", {"method": "direct", "mode": "same"}),
    ("convolve", ((), ()), "dd", {}),
    *[("correlate", ((6, 5), (3, 2)), dtypes, {"mode": mode}) for dtypes in ("DD", "fF") for mode in MODES],
    ("correlate", ((3, 2), (6, 5)), "DD", {"mode": "valid"}),
    ("correlate", ((4,), (9,)), "DD", {"mode": "same", "method": "direct"}),
    ("correlate", ((4,), (9,)), "DD", {"mode": "same", "method": "fft"}),
    ("fftconvolve", ((5, 1, 12), (1, 3, 4)), "dd", {"axes": -1}),
    ("fftconvolve", ((5, 4, 12), (5, 1, 20)), "ff", {"axes": [2], "mode": "same"}),
    ("fftconvolve", ((1, 12), (6, 5)), "dd", {"axes": 1, "mode": "same"}),
    ("fftconvolve", ((3, 4), (4, 3)), "ii", {"mode": "same"}),
    ("fftconvolve", ((1, 4), (3, 1)), "bb", {}),
    ("fftconvolve", ((1, 4), (3, 1)), "bb", {"mode": "same"}),
    ("fftconvolve", ((6, 3, 7), (2, 3, 3)), "DF", {"axes": [0, 2], "mode": "valid"}),
    ("fftconvolve", ((9,), (4,)), "?f", {}),
    ("oaconvolve", ((300,), (7,)), "ff", {}),
    ("oaconvolve", ((7, 2), (1, 40)), "dd", {"axes": [1], "mode": "same"}),
    *[
        (name, shapes, "dd", {"mode": mode, "boundary": boundary})
        for name in ("convolve2d", "correlate2d")
        for mode, boundary in itertools.product(MODES, ("fill", "wrap", "symm"))
        for shapes in (((4, 7), (3, 4)), ((2, 3), (2, 8)))[: 2 if mode == "same" else 1]
    ],
    ("convolve2d", ((1, 4), (1, 21)), "dd", {"mode": "same", "boundary": "symm"}),
    ("convolve2d", ((4, 3), (3, 3)), "ii", {"fillvalue": 2.5}),
    ("correlate2d", ((4, 3), (2, 2)), "DD", {"fillvalue": 1 - 2j, "mode": "same"}),
]
RATES = [(1, 1), (2, 1), (1, 3), (3, 2), (2, 3), (4, 6), (7, 5), (11, 13)]
RESAMPLED = [
    *[((taps,), (2, 9), dtypes, {"up": u, "down": d}) for u, d in RATES for taps, dtypes in ((1, "ff"), (10, "di"))],
    *[((11,), (3, 4, 2), "dd", {"up": 3, "down": 2, "axis": 1, "mode": mode, "cval": 1.5}) for mode in EXTENSIONS],
    ((5,), (2, 3), "FD", {"mode": "antireflect"}),
    ((3,), (4,), "bb", {}),
    ((9,), (2, 0), "dd", {"up": 3}),
    *[
        ((3,), shape, dtypes, {"up": 2, "down": 3, "axis": axis, "mode": mode})
        for shape in ((0, 5), (5, 0), (3, 0, 4))
        for axis, size in enumerate(shape)
        for dtypes, mode in (("dd", "constant"), ("ff", "wrap"), ("di", "line"))
        if size  # SciPy divides by a size of 0 where "wrap" goes on
    ],
]
# Of shapes with no elements, which either function of two arrays may be given.
EMPTY_LINES = [((0,), (3,)), ((0,), (1,)), ((3,), (0,)), ((1,), (0,)), ((0,), (0,))]
EMPTY_IMAGES = [
    (shape, other)
    for shape, other in itertools.product([(0, 5), (5, 0), (0, 0), (3, 3), (1, 1), (1, 5)], repeat=2)
    if 0 in (*shape, *other)
]
EMPTY_VOLUMES = [((2, 0, 4), (2, 3, 1)), ((2, 3, 1), (2, 0, 4)), ((0, 2, 2), (1, 2, 3)), ((0, 3, 2), (3, 2, 2))]


def drawn(shape, code, seed=0):
    random = np.random.default_rng([seed, *shape])
    values = np.round(4 * random.standard_normal(shape), 1) if code in "bi?" else random.standard_normal(shape)
    if code in "FD":
        values = values + 1j * random.standard_normal(shape)
    return values.astype(code)


def answers(backend, name, arrays, keywords):
    """Ours on a backend and SciPy's on NumPy."""
    ours = backend.run(
        getattr(xconv.signal, name), *(backend.array(array, array.dtype) for array in arrays), **keywords
    )
    return ours, getattr(scipy_signal, name)(*arrays, **keywords)


@pytest.mark.over("case", CASES)
def test_pairs_are_as_scipy_has_them(backend, case):
    name, shapes, dtypes, keywords = case
    arrays = [drawn(shape, code, seed) for seed, (shape, code) in enumerate(zip(shapes, dtypes, strict=True))]
    ours, expected = answers(backend, name, arrays, keywords)
    lost = 2**29 if is_mixed(arrays) else 1
    assert_array(backend, ours, expected, dtype=promotion(backend, name, expected, arrays), terms=100 * lost)


def outcome(function, *arguments, **keywords):
    """What is given, or the class of the error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of SciPy's, which divides by sizes to find its method
            return function(*arguments, **keywords)
    except (ValueError, IndexError) as error:
        return type(error)


def assert_outcome(backend, found, expected):
    if isinstance(expected, type):
        assert found is expected
    else:
        assert_array(backend, found, expected, dtype=expected.dtype.name, terms=100)


@pytest.mark.on("numpy", "jax", "torch", "strict")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve"])
def test_of_no_elements(backend, name, mode):
    """SciPy's answers, by "direct": its "auto" looks for the largest integer, and finds none."""
    direct = {"method": "direct"} if name in ("convolve", "correlate") else {}
    for shapes, dtypes in itertools.product(EMPTY_LINES + EMPTY_IMAGES + EMPTY_VOLUMES, ("dd", "ii", "FF")):
        arrays = [drawn(shape, code) for shape, code in zip(shapes, dtypes, strict=True)]
        given = [backend.array(array, array.dtype) for array in arrays]
        expected = outcome(getattr(scipy_signal, name), *arrays, mode=mode, **direct)
        for words in (direct, {}):
            assert_outcome(backend, outcome(getattr(xconv.signal, name), *given, mode=mode, **words), expected)
        if direct:
            found = outcome(getattr(xconv.signal, name), *given, mode=mode, method="fft")
            assert found is outcome(getattr(scipy_signal, name), *arrays, mode=mode, method="fft")


@pytest.mark.on("numpy", "jax", "torch", "strict")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_of_images_of_no_elements(backend, name, mode):
    """Windows of a border alone hold ``fillvalue``; there is none that repeats nothing, for which SciPy ends Python."""
    for shapes, dtypes in itertools.product(EMPTY_IMAGES, ("dd", "ii", "FF")):
        arrays = [drawn(shape, code) for shape, code in zip(shapes, dtypes, strict=True)]
        given = [backend.array(array, array.dtype) for array in arrays]
        filled = outcome(getattr(scipy_signal, name), *arrays, mode=mode, fillvalue=2)
        found = outcome(getattr(xconv.signal, name), *given, mode=mode, fillvalue=2)
        assert_outcome(backend, found, filled)
        for boundary in ("wrap", "symm"):
            words = {"mode": mode, "boundary": boundary}
            has_none = mode == "full" and 0 in shapes[0] and 0 not in getattr(filled, "shape", (0,))
            expected = ValueError if has_none else outcome(getattr(scipy_signal, name), *arrays, **words)
            assert_outcome(backend, outcome(getattr(xconv.signal, name), *given, **words), expected)


@pytest.mark.on("numpy", "jax", "torch", "strict")
def test_axes_are_any_sequence_and_lie_within(backend):
    x = drawn((4, 5), "d")
    given = backend.array(x)
    for axes in ([0], range(1, 2), np.array([0, 1]), np.int64(1)):
        found = xconv.signal.fftconvolve(given, given, axes=axes, mode="same")
        assert_array(backend, found, scipy_signal.fftconvolve(x, x, axes=axes, mode="same"), terms=100)
    for axes in (2, (0, -3), [5]):
        with pytest.raises(np.exceptions.AxisError, match="axes exceeds dimensionality of input"):
            xconv.signal.fftconvolve(given, given, axes=axes)
    for axis in (2, -3):
        with pytest.raises(np.exceptions.AxisError, match="axis must be one of the 2 axes of x"):
            xconv.signal.upfirdn(backend.array(np.ones(3)), given, axis=axis)


@pytest.mark.parametrize("name", [*PAIRS, "upfirdn"])
def test_results_are_in_the_byte_order_of_the_machine(name):
    arrays = [drawn(shape, "f") for shape in (((4,), (6, 5)) if name == "upfirdn" else ((6, 5), (1, 1)))]
    swapped = [array.astype(array.dtype.newbyteorder("S")) for array in arrays]
    found = getattr(xconv.signal, name)(*swapped)
    assert found.dtype.isnative
    assert np.array_equal(found, getattr(xconv.signal, name)(*arrays))


def test_chunks_of_no_elements():
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    image, taps = np.zeros((0, 5)), np.ones((3, 3))
    for name, words in (("convolve", {"mode": "same"}), ("convolve2d", {}), ("correlate2d", {"fillvalue": 2.0})):
        found = getattr(xconv.signal, name)(da.from_array(image), taps, **words)
        assert isinstance(found, da.Array)
        expected = getattr(scipy_signal, name)(image, taps, **words)
        assert np.array_equal(found.compute(), expected)
        assert found.shape == expected.shape
    for axis in (0, 1):
        found = xconv.signal.upfirdn(taps[0], da.from_array(image), 2, 3, axis=axis)
        assert np.array_equal(found.compute(), scipy_signal.upfirdn(taps[0], image, 2, 3, axis=axis))


@pytest.mark.parametrize("mode", MODES)
def test_any_of_bools(backend, mode):
    arrays = [np.random.default_rng(seed).random(size) > 0.7 for seed, size in enumerate((9, 4))]
    for name in ("convolve", "correlate"):
        ours, expected = answers(backend, name, arrays, {"mode": mode})
        assert ours.dtype == backend.dtype("bool")
        assert np.array_equal(backend.to_numpy(ours), expected)


def is_mixed(arrays):
    """Whether SciPy transforms one operand in single precision and the other one not."""
    dtypes = {array.real.dtype for array in arrays}
    return len(dtypes) > 1 and np.dtype("float32") in dtypes


def promotion(backend, name, expected, arrays):
    """The dtype as the library promotes, where SciPy has NumPy do it: float32 with integers is float32 in others."""
    dtypes = [array.dtype.name for array in arrays]
    mixed = "int32" in dtypes and "float32" in dtypes and name in ("convolve", "correlate")
    return "float32" if mixed and backend.name in ("torch", "torch-watched", "jax", "jax-jit") else expected.dtype.name


@pytest.mark.over("case", RESAMPLED)
def test_resampling_is_as_scipy_has_it(backend, case):
    taps, shape, dtypes, keywords = case
    ours, expected = answers(backend, "upfirdn", [drawn(taps, dtypes[0]), drawn(shape, dtypes[1], 1)], keywords)
    assert_array(backend, ours, expected, terms=100)


@settings(max_examples=150)
@given(data=st.data())
def test_drawn_pairs_are_as_scipy_has_them(data):
    """Every function, with axes of one element and empty words left to it, on arrays of every order in memory."""
    name = data.draw(st.sampled_from(PAIRS))
    axes = 2 if name.endswith("2d") else data.draw(st.integers(1, 3))
    sizes = st.lists(st.integers(1, 9), min_size=axes, max_size=axes)
    first, second = (
        drawn(tuple(data.draw(sizes)), data.draw(st.sampled_from("fdFDil")), seed).transpose(
            data.draw(st.permutations(range(axes)))
        )
        for seed in range(2)
    )
    keywords = {"mode": data.draw(st.sampled_from(MODES))}
    if name.endswith("2d"):
        keywords["boundary"] = data.draw(st.sampled_from(["fill", "wrap", "symm"]))
        keywords["fillvalue"] = data.draw(st.integers(-2, 2))
    elif name in ("convolve", "correlate"):
        keywords["method"] = data.draw(st.sampled_from(["auto", "direct", "fft"]))
    elif data.draw(st.booleans()):
        keywords["axes"] = data.draw(st.lists(st.integers(0, axes - 1), min_size=1, max_size=axes, unique=True))
    try:
        with np.errstate(all="ignore"):  # SciPy casts memory that it has not filled yet, where dtypes differ
            if name == "correlate2d" and keywords["mode"] == "valid":  # where it conjugates in1 if that is smaller
                expected = scipy_signal.correlate(first, second, "valid", "direct")
            else:
                expected = getattr(scipy_signal, name)(first, second, **keywords)
    except ValueError:
        with pytest.raises(ValueError, match=r"got|incompatible"):
            getattr(xconv.signal, name)(first, second, **keywords)
        return
    ours = getattr(xconv.signal, name)(first, second, **keywords)
    assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
    is_single = ours.real.dtype == np.float32 or is_mixed([first, second])
    assert_values(ours, expected, 1e-5 if is_single else 1e-13)


@settings(max_examples=100)
@given(
    st.integers(1, 40),
    st.integers(2, 12),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from(EXTENSIONS),
    st.floats(-2, 2),
    st.sampled_from([-1e9, xconv.signal.PICKED, 1e9]),
)
def test_drawn_resamplings_are_as_scipy_has_them(taps, size, up, down, mode, cval, begun):
    """Number by number, as convolutions, and by what is estimated to take less time."""
    h, x = drawn((taps,), "d"), drawn((2, size), "d", 1)
    expected = scipy_signal.upfirdn(h, x, up, down, mode=mode, cval=cval)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xconv.signal, "PICKED", begun)
        forget()
        ours = xconv.signal.upfirdn(h, x, up, down, mode=mode, cval=cval)
    forget()
    assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
    assert_values(ours, expected, 1e-13)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("given", [([1.0, 2.0], [3, 4]), (np.ones(3), [1, 2]), ([1], [2])])
def test_lists_are_arrays(name, given):
    one, other = ([array] if name.endswith("2d") else array for array in given)
    ours, expected = (getattr(module, name)(one, other) for module in (xconv.signal, scipy_signal))
    assert ours.dtype == expected.dtype
    assert_values(ours, expected, 1e-15)


@pytest.mark.on("jax", "torch")
def test_lists_become_arrays_of_the_other_library(backend):
    ours = xconv.signal.convolve([1.0, 2.0], backend.array([3.0, 4.0]))
    assert_array(backend, ours, np.array([3.0, 10.0, 8.0]))


def test_numbers_multiply():
    assert xconv.signal.convolve(3, 4) == 12
    assert xconv.signal.correlate(3, 4j) == -12j
    assert xconv.signal.fftconvolve(3, 4.5) == 13.5


WRONG = [
    *[(name, ([1, 2], [[1]]), {}) for name in PAIRS],
    *[(name, (np.ones((2, 3)), np.ones((3, 2))), {"mode": "valid"}) for name in PAIRS],
    *[(name, (np.ones((2, 3)), np.ones((2, 2))), {"mode": "no"}) for name in PAIRS],
    *[(name, (np.ones(3), np.ones(0)), {}) for name in ("convolve", "correlate")],
    *[(name, ([1], [2]), {"method": "no"}) for name in ("convolve", "correlate")],
    *[
        (name, ([1], [2]), {"axes": axes})
        for name in ("fftconvolve", "oaconvolve")
        for axes in ([], [1], [-2], [0, 0], [0.0], 0.5, "0")
    ],
    ("fftconvolve", (np.ones((2, 3)), np.ones((3, 3))), {"axes": [1]}),
    *[("convolve2d", (np.eye(2), np.eye(2)), {"boundary": word}) for word in ("no", "reflect")],
    *[("convolve2d", ([[1]], [[1, 2]]), {"fillvalue": value}) for value in (1j, [1, 2], [])],
    ("convolve2d", (np.ones((3, 3)), np.ones((3, 3))), {"mode": "valid", "fillvalue": 1j}),
    *[("upfirdn", operands, {}) for operands in (([], [1]), ([[1]], [1]))],
    *[("upfirdn", ([1], [1]), keywords) for keywords in ({"up": 0}, {"down": 0}, {"mode": "no"})],
    ("upfirdn", ([1], [1]), {"axis": 1}),
    ("upfirdn", ([1], [1]), {"axis": 0.0}),
]


@pytest.mark.parametrize(("name", "operands", "keywords"), WRONG)
def test_errors_are_of_scipys_classes(name, operands, keywords):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as theirs:  # noqa: PT011 - whichever it is
            getattr(scipy_signal, name)(*operands, **keywords)
    with pytest.raises((ValueError, TypeError, IndexError)) as ours:
        getattr(xconv.signal, name)(*operands, **keywords)
    assert issubclass(ours.type, theirs.type)


@pytest.mark.parametrize("code", "?bBil")
def test_integers_are_exact_by_every_method(code):
    """SciPy's transforms are not, and make True of what is noise between bools."""
    x, w = (np.random.default_rng(seed).integers(0, 100, size).astype(code) for seed, size in enumerate((3000, 500)))
    expected = np.convolve(x, w)
    for method in ("auto", "direct", "fft"):
        assert np.array_equal(xconv.signal.convolve(x, w, method=method), expected)
    huge = np.full(40, 2**40 + 1)
    assert np.array_equal(xconv.signal.convolve(huge, huge, method="fft"), np.convolve(huge, huge))  # modulo 2**64


@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
def test_one_short_line_of_integers_is_summed_as_it_is(method):
    line = np.arange(100) + 2**40
    found = xconv.signal._convolution(described(in1=line, in2=line[:5]), "convolve", "full", method)
    assert isinstance(found.call, Line) == (method != "fft")
    assert np.array_equal(xconv.signal.convolve(line, line[:5], method=method), np.convolve(line, line[:5]))


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (3, 2), (1, 3), (8, 5)])
@pytest.mark.parametrize(("taps", "size"), [(31, 1000), (3, 40), (9, 3), (1, 1)])
def test_phases_of_one_signal_are_convolved_one_after_the_other(taps, size, up, down):
    """Each by NumPy's own, of whose outputs it keeps every so many, also where windows end behind the signal."""
    h, x = np.random.default_rng(0).standard_normal(taps), np.random.default_rng(1).standard_normal(size)
    resample = xconv.signal._resampling(described(h=h, x=x), "", up, down, -1, "")
    assert resample.calls
    assert all(isinstance(call, Line) for call in resample.calls)
    relative = (taps + 1) * np.finfo(float).eps
    assert_values(xconv.signal.upfirdn(h, x, up, down), scipy_signal.upfirdn(h, x, up, down), relative)


@pytest.mark.parametrize(("size", "up", "down"), [(1000, 997, 991), (50, 160, 147)])
def test_resamplings_of_few_numbers_begin_no_convolutions(size, up, down):
    h, x = np.random.default_rng(0).standard_normal(100), np.random.default_rng(1).standard_normal(size)
    assert not xconv.signal._resampling(described(h=h, x=x), "", up, down, -1, "").calls
    assert_values(xconv.signal.upfirdn(h, x, up, down), scipy_signal.upfirdn(h, x, up, down), 1e-13)
    x[0] = np.nan
    ours, theirs = (module.upfirdn(h, x, up, down) for module in (xconv.signal, scipy_signal))
    assert np.isnan(ours[0])
    assert not np.any(np.isnan(ours) & ~np.isnan(theirs))


@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("shapes", [((2, 2), (3, 1)), ((5, 1), (3, 4)), ((3,), (8,)), ((2, 3, 1), (3, 3, 4))])
@pytest.mark.parametrize("mode", ["full", "same"])
@pytest.mark.parametrize("value", [np.nan, np.inf, complex(1, np.inf)])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NumPy's, of infinite complex numbers in products
def test_what_is_not_finite_stays_in_its_windows_though_the_other_array_is_larger(name, shapes, mode, value):
    """Taps are then those of the first, of which none is multiplied by a zero beyond the ends of the second."""
    x, w = (np.ones(shape, type(value)) for shape in shapes)
    x[tuple(d // 2 for d in x.shape)] = value
    whole = np.zeros(tuple(d + k - 1 for d, k in zip(*shapes, strict=True)), dtype=x.dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(x.shape):
            whole[tuple(slice(at, at + k) for at, k in zip(place, w.shape, strict=True))] += x[place] * w
    if mode == "same":
        sizes = zip(*shapes, strict=True)
        whole = whole[tuple(slice((k - 1) // 2, (k - 1) // 2 + d) for d, k in sizes)]
    y = getattr(xconv.signal, name)(x, w, mode, method="direct")
    assert np.array_equal(np.isfinite(y), np.isfinite(whole))
    assert np.allclose(y[np.isfinite(y)], whole[np.isfinite(y)])


def test_nan_stays_in_its_windows_where_scipy_keeps_it():
    x = np.random.default_rng(0).standard_normal(200)
    x[90] = np.nan
    h = np.arange(1.0, 24)
    for method in ("auto", "direct"):
        ours, theirs = (module.convolve(x, h, method=method) for module in (xconv.signal, scipy_signal))
        assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    ours, theirs = (module.upfirdn(h, x, 7, 5) for module in (xconv.signal, scipy_signal))
    assert 0 < np.sum(np.isnan(ours)) <= np.sum(np.isnan(theirs))  # SciPy multiplies by zeros that it adds to h
    assert not np.any(np.isnan(ours) & ~np.isnan(theirs))
    with pytest.warns(RuntimeWarning, match="Use of fft convolution"):
        xconv.signal.convolve(x, h, method="fft")


def test_sums_of_few_products_have_exact_zeros(backend):
    """By "auto" as well, which is "direct" in SciPy for so few: transforms leave some 1e-6 of the largest output."""
    x, w = (np.array(values, dtype="F") for values in ([0, 1 + 1j, 2 + 2j], [1 + 3j, 2 + 4j, 3 + 5j, 4 + 6j]))
    ours, expected = answers(backend, "correlate", (x, w), {})
    assert_array(backend, ours, expected, terms=4)
    assert backend.to_numpy(ours)[0] == 0


def test_same_of_a_short_signal_reads_a_part_of_a_long_filter():
    from xconv._plan.broadcast import convolution

    plan = convolution((10,), (1000,), (0,), "same", False)
    assert plan.swaps
    assert plan.windows.input_size == (19,)
    assert plan.windows.padding == ((0, 0),)


@pytest.mark.on("numpy")
def test_batches_are_not_repeated(backend):
    """Axes that one operand alone has: its data lie in the call as they are."""
    from xconv._plan.broadcast import convolution

    plan = convolution((5, 1, 4, 100), (1, 3, 4, 7), (3,), "full", False)
    assert plan.data.shape == (5, 4, 100)
    assert plan.weights.shape == (12, 1, 7)
    assert plan.groups == 4


DIFFERENTIATED = [
    ("fftconvolve", ((3, 1, 9), (1, 2, 4)), "dd", {"axes": -1, "mode": "same"}),
    ("oaconvolve", ((9, 5), (4, 6)), "dd", {}),
    ("correlate", ((4, 3), (6, 5)), "dd", {"mode": "same"}),
    ("convolve2d", ((4, 5), (3, 4)), "dd", {"mode": "same", "boundary": "symm"}),
    ("correlate2d", ((4, 5), (3, 4)), "dd", {"fillvalue": 2}),
    ("upfirdn", ((10,), (2, 7)), "dd", {"up": 3, "down": 2, "mode": "antireflect"}),
]


@pytest.mark.on("jax-jit", "torch")
@pytest.mark.parametrize(("name", "shapes", "dtypes", "keywords"), DIFFERENTIATED)
def test_own_gradients_are_adjoint(backend, name, shapes, dtypes, keywords):
    """Each is affine in either operand, so <dy, f(x + v) - f(x)> = <gradient, v> for every v."""
    arrays = [drawn(shape, code, seed) for seed, (shape, code) in enumerate(zip(shapes, dtypes, strict=True))]
    function, theirs = getattr(xconv.signal, name), getattr(scipy_signal, name)
    y = theirs(*arrays, **keywords)
    dy = drawn(y.shape, "d", 5)
    own = vector_jacobian_product(
        backend, lambda one, other: function(one, other, **keywords), [*map(backend.array, arrays)], backend.array(dy)
    )
    for at, gradient in enumerate(own):
        moved = [array + (place == at) * drawn(array.shape, "d", 7) for place, array in enumerate(arrays)]
        expected = np.vdot(dy, theirs(*moved, **keywords) - y)
        assert np.isclose(np.vdot(backend.to_numpy(gradient), moved[at] - arrays[at]), expected, rtol=1e-10)


@pytest.mark.on("jax")
def test_vmap_maps_over_either_operand(backend):
    import jax

    x, w = backend.array(drawn((3, 9), "d")), backend.array(drawn((3, 4), "d", 1))
    ours = jax.vmap(lambda x, w: xconv.signal.fftconvolve(x, w, "same"))(x, w)
    expected = scipy_signal.fftconvolve(backend.to_numpy(x), backend.to_numpy(w), "same", axes=1)
    assert_array(backend, ours, expected, terms=10)


def test_torch_compiles_each_function_as_one_graph(torch_backend):
    import torch

    torch._dynamo.reset()
    for name, shapes, dtypes, keywords in DIFFERENTIATED:
        arrays = [drawn(shape, code, seed) for seed, (shape, code) in enumerate(zip(shapes, dtypes, strict=True))]
        compiled = torch.compile(getattr(xconv.signal, name), backend="aot_eager", fullgraph=True)
        ours = compiled(*map(torch.tensor, arrays), **keywords)
        assert_array(torch_backend, ours, getattr(scipy_signal, name)(*arrays, **keywords), terms=100)


def test_all_is_scipys_names():
    assert dir(xconv.signal) == xconv.signal.__all__ == sorted((*PAIRS, "upfirdn"))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("sizes", [(40, 5), (5, 40), (40, 1), (7, 7), (30, 12)])
def test_one_short_signal_takes_numpys_own_convolution(name, mode, sizes):
    """Whose outputs are the sums over their own windows: a NaN stays in those that read it."""
    x, w = (np.random.default_rng(size).normal(size=size) for size in sizes)
    found = xconv.signal._convolution(described(in1=x, in2=w), name, mode, "direct")
    assert min(sizes) == 1 or isinstance(found.call, Line)
    x[2], full = np.nan, np.zeros(sum(sizes) - 1)
    for at, tap in enumerate(w if name == "convolve" else w[::-1]):
        full[at : at + len(x)] += x * tap
    first = {"full": 0, "same": (len(w) - 1) // 2, "valid": min(sizes) - 1}[mode]
    y = getattr(xconv.signal, name)(x, w, mode=mode, method="direct")
    np.testing.assert_allclose(y, full[first : first + len(y)], rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", ["full", "valid"])
@pytest.mark.parametrize("taps", [1, 2, 11, 12, 60])
@pytest.mark.parametrize("code", ["f", "d", "q", "D"])
def test_threads_share_a_long_signal(numpy_backend, monkeypatch, mode, taps, code):
    """In blocks, of which the first and the last read beyond the ends, and which round as one does."""
    line, taps = drawn((500,), code), drawn((taps,), code, seed=1)
    windows = window_geometry(
        (500,), taps.size, stride=1, padding=0 if mode == "valid" else [(taps.size - 1, taps.size - 1)], dilation=1
    )
    found = []
    for threads, block, worthwhile in ((1, 2**16, math.inf), (1, 50, 0), (3, 50, 0), (3, 77, 0)):
        monkeypatch.setattr(lines, "cpu_count", lambda threads=threads: threads)
        monkeypatch.setattr(lines, "BLOCK", block)
        monkeypatch.setattr(lines, "WORTHWHILE", worthwhile)
        call = lines.line_of(np, line.dtype, ((1, 1, 500), (1, 1, taps.size)), windows, flip=True)
        assert call.is_shared == (worthwhile == 0)
        found.append(call.forward(line[None, None], taps[None, None])[0, 0])
    expected = np.convolve(line, taps, "valid" if mode == "valid" else "full")
    for result in found:
        assert_array(numpy_backend, result, expected, terms=taps.size)
    assert np.array_equal(found[1], found[2])
    assert code == "q" or taps.size > lines.FEW or np.array_equal(found[0], found[3])


@pytest.mark.parametrize(("size", "is_shared"), [(10**5, False), (10**6, True)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_taps_of_a_long_signal_are_numpys_own(numpy_backend, size, is_shared, dtype):
    """They took up to four times as long by products of matrices."""
    signal, taps = np.empty(size, dtype), np.empty(3, dtype)
    found = xconv.signal._convolution(described(in1=signal, in2=taps), "convolve", "full", "auto")
    assert isinstance(found.call, Line)
    assert found.call.is_shared == is_shared


def test_a_value_beyond_the_border_keeps_all_digits_of_an_integer():
    ones, fill = np.ones((3, 3), dtype=np.int64), 2**53 + 1
    for value in (fill, np.int64(fill)):
        assert xconv.signal.convolve2d(ones, ones[:2, :2], "full", "fill", value)[0, 0] == 3 * fill + 1


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("shape", [(20, 30), (6, 9, 10)])
def test_small_images_are_added_up_tap_by_tap(shape, mode):
    """What is kept for a filter is of its elements; a tap of 0 reads NaN, too, and results are nobody's memory."""
    x, found, expected = normal(shape), [], []
    x[tuple(d // 2 for d in shape)] = np.nan
    for seed, zero in ((0, False), (1, False), (2, True)):
        w = normal((3, 4, 2)[: len(shape)], seed)
        w.flat[2] = 0 if zero else 1
        for _ in range(2):
            found.append(xconv.signal.convolve(x, w, mode))
            expected.append(scipy_signal.convolve(x, w, mode, method="direct"))
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("words", [{}, {"down": 3}])
def test_signals_of_no_elements_are_resampled_to_those_that_scipy_gives(backend, words):
    for up, shape in [(1, (3, 0)), (2, (3, 0)), (2, (0,))]:
        h, x = np.array([1.0, 2.0]), np.zeros(shape)
        expected = scipy_signal.upfirdn(h, x, up, **words)
        assert_array(backend, xconv.signal.upfirdn(backend.array(h), backend.array(x), up, **words), expected)


def test_what_jax_does_not_know_yet_is_to_be_marked_static(jax_backend):
    import jax

    x = jax_backend.array(np.ones((4, 4)))
    for call in (
        lambda value: xconv.signal.convolve2d(x, x, fillvalue=value),
        lambda value: xconv.signal.upfirdn(x[0], x[0], cval=value),
    ):
        with pytest.raises(TypeError) as refused:
            jax.jit(call)(3.0)
        assert refused.match(r"^(fillvalue|cval) must be a number, got .*: under jax.jit, mark it")
    with pytest.raises(TypeError) as refused:
        jax.jit(lambda footprint: xconv.ndimage.maximum_filter(x, footprint=footprint))(x[:2])
    assert refused.match(r"^footprint must be known, got .*: under jax.jit, mark it static")


def test_no_array_of_dates_is_asked_for_its_memory(numpy_backend):
    with pytest.raises(TypeError) as refused:
        xconv.signal.upfirdn([1.0, 2.0], np.zeros(3, "M8[s]"))
    assert refused.match(r"^x must have an integer, real or complex dtype, got datetime64\[s\]$")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve"])
def test_results_lie_in_the_order_of_their_axes(name, mode, dtype):
    """As SciPy's, which may be given another shape, and to code in C: transforms give parts of larger arrays."""
    data, filters = np.asfortranarray(normal((97, 90)) * 9).astype(dtype), np.ones((30, 28), dtype)
    found = getattr(xconv.signal, name)(data, filters, mode)
    assert found.flags.c_contiguous
    volume = getattr(xconv.signal, name)(np.ones((5, 40, 6)), np.ones((1, 9, 1)), mode)
    assert volume.flags.c_contiguous


def test_resampled_lines_lie_in_the_order_of_their_axes():
    assert xconv.signal.upfirdn(np.ones(5), normal((30, 4)), 2, 3, axis=0).flags.c_contiguous


@pytest.mark.on("numpy", "jax", "torch")
@pytest.mark.parametrize("value", [None, "abc", {}, [[1], [1, 2]]], ids=str)
def test_what_is_no_number_is_named(backend, value):
    x = backend.array(np.ones(8))
    for call in (lambda: xconv.signal.convolve(x, value), lambda: xconv.ndimage.correlate(x, value)):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as raised:
            call()
        assert str(raised.value).startswith(("operands must", "in2 must", "weights"))


@pytest.mark.parametrize("mode", EXTENSIONS)
def test_nothing_goes_on_as_nothing(mode, numpy_backend):
    """Of which SciPy's process may end."""
    assert xconv.signal.upfirdn([1.0, 2.0, 3.0], np.zeros(0), mode=mode).tolist() == [0, 0]
    dask_array = pytest.importorskip("dask.array", reason="Dask is not installed")
    assert np.asarray(xconv.signal.upfirdn([1.0, 2.0, 3.0], dask_array.zeros(0), mode=mode)).tolist() == [0, 0]


def test_a_complex_number_beyond_real_signals_is_refused():
    with pytest.raises(TypeError) as raised:
        xconv.signal.upfirdn([1.0, 2.0], [1.0, 2.0, 3.0], cval=2 + 1j)
    assert str(raised.value) == "cval must be real, as h and x are, got (2+1j)"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_no_integer_is_lies_beyond_no_image_of_them(value):
    x = np.ones((3, 3), int)
    with pytest.raises(ValueError, match="could not cast `fillvalue`") as raised:
        xconv.signal.convolve2d(x, x, fillvalue=value)
    assert str(value) in str(raised.value)
