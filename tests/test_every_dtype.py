"""Every dtype and every form of array that the installed libraries define: it works, or it is refused in words."""

from __future__ import annotations

import re
import warnings

import calls
import numpy as np
import pytest
from backends import UnavailableError, load

EPSILON = float(np.finfo("float64").eps)
REFUSAL = r"^(x|w|dy|col) must (be|have) "


def drawn(name, unit):
    """Zeros and units: all sums of their products have few digits."""
    arrays = calls.operands(name)
    return [unit * np.random.default_rng(seed).integers(0, 2, array.shape) for seed, array in enumerate(arrays)]


def check(make, to_numpy, info=None, jit=lambda function: function, names=tuple(calls.CALLS)):
    """Results are NumPy's in float64, rounded to the dtype of this info; how many functions take it."""
    epsilon, least = (max(float(info.eps), EPSILON), float(info.smallest_normal)) if info else (0, 0)
    unit, refused = 0.25 if info else 1, []

    def run(arrays):
        found = {}
        for name in arrays:
            try:
                found[name] = calls.results(name, arrays[name])
            except TypeError as error:
                refused.append(str(error))
        return found

    found = jit(run)({name: [make(values) for values in drawn(name, unit)] for name in names})
    assert all(re.match(REFUSAL, message) for message in refused), refused
    for name, results in found.items():
        expected = calls.results(name, drawn(name, float(unit)))
        for result, exact in zip(results, expected, strict=True):
            assert np.max(np.abs(to_numpy(result) - exact)) <= epsilon * (np.max(np.abs(exact)) + least), name
    return len(found)


def lacking(integral, is_complex):
    """How many functions refuse a dtype: integers have no mean, complex numbers no order, nor indices of maxima."""
    return 2 if integral else 4 if is_complex else 0


def numpy_dtypes():
    import ml_dtypes

    names = [name for name in dir(ml_dtypes) if isinstance(getattr(ml_dtypes, name), type)]
    small = [getattr(ml_dtypes, name) for name in names if not name.endswith("info")]
    return [*map(np.dtype, np.typecodes["All"]), *map(np.dtype, small), np.dtypes.StringDType(), np.dtype("f4,f4")]


@pytest.mark.parametrize("dtype", numpy_dtypes(), ids=lambda dtype: f"{dtype.char}-{dtype.name}")
def test_numpy(dtype):
    integral = np.issubdtype(dtype, np.integer) and dtype.kind != "m"
    floating = np.issubdtype(dtype, np.inexact)

    def make(values):
        return values.astype(dtype) if integral or floating else np.zeros(values.shape, dtype)

    works = check(make, np.asarray, np.finfo(dtype) if floating else None)
    assert works == (len(calls.CALLS) - lacking(integral, dtype.kind == "c") if integral or floating else 0)


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i2", "u4", "u8", "F", "D"])
@pytest.mark.parametrize("name", calls.CALLS)
def test_results_are_in_the_byte_order_of_the_machine(name, code):
    """As those of NumPy's own arithmetic, and the same numbers as of operands that are in it."""
    swapped = np.dtype(code).newbyteorder("S")
    arrays = [values.astype(code) for values in drawn(name, 1)]
    try:
        expected = calls.results(name, arrays)
    except TypeError:
        pytest.skip("not of this kind")
    found = calls.results(name, [array.astype(swapped) for array in arrays])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype.isnative
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["im2col", "col2im", "max_pool", "max_unpool", "avg_pool", "avg_pool_grad"])
def test_so_are_those_of_chunks(name):
    da = pytest.importorskip("dask.array", reason="dask is not installed")
    arrays = [values.astype("f4") for values in drawn(name, 1)]
    expected, found = (
        calls.results(name, [da.from_array(array.astype(code), chunks=2) for array in arrays])
        for code in ("=f4", np.dtype("f4").newbyteorder("S"))
    )
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.compute().dtype.isnative
        assert np.array_equal(one.compute(), other.compute())


def jax_dtypes():
    jnp = pytest.importorskip("jax.numpy", reason="jax is not installed")
    kinds = {name: getattr(jnp, name) for name in dir(jnp) if isinstance(getattr(jnp, name), type(jnp.int8))}
    return sorted({str(np.dtype(kind)) for kind in kinds.values()})


@pytest.mark.parametrize("name", jax_dtypes())
def test_jax(jax_backend, name):
    import jax
    import jax.numpy as jnp

    dtype = np.dtype(getattr(jnp, name, name))
    try:
        jnp.zeros(1, dtype).block_until_ready()
        jnp.ones(2).astype(dtype).block_until_ready()
    except Exception as error:
        pytest.skip(f"JAX has no arrays of {name}: {error}"[:99])
    integral, named = (
        jnp.isdtype(dtype, "integral"),
        ("conv", "conv_weight_grad", "max_pool", "max_pool_grad", "avg_pool"),
    )
    info = None if integral or name == "bool" else jnp.finfo(dtype)
    works = check(
        lambda values: jnp.asarray(values).astype(dtype),
        lambda array: np.asarray(array.astype(complex)),
        info,
        jax.jit,
        named,
    )
    bits = jnp.iinfo(dtype).bits if integral else info.bits if info else 0
    taken = 4 if integral else 3 if jnp.isdtype(dtype, "complex floating") else 5
    assert works == (taken if bits >= 8 and name != "float8_e8m0fnu" else 0)


def torch_dtypes():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    found = {name: getattr(torch, name) for name in dir(torch)}
    return sorted(name for name, value in found.items() if str(value) == f"torch.{name}" and hasattr(value, "itemsize"))


WORK = re.compile(r"u?int(8|16|32|64)|b?float16|float(32|64|8_e[45]\w+)|complex(32|64|128)")


@pytest.mark.parametrize("name", torch_dtypes())
def test_torch(torch_backend, name):
    import torch

    dtype = getattr(torch, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that complex32 is experimental

        def make(values):
            tensor = torch.tensor(values)
            return tensor.to(dtype) if WORK.fullmatch(name) else torch.empty_like(tensor, dtype=dtype)

        try:
            make(np.zeros(1))
        except (RuntimeError, NotImplementedError) as error:
            pytest.skip(f"PyTorch makes no tensors of {name}: {error}"[:99])
        works = check(
            make,
            lambda tensor: tensor.to(torch.complex128).numpy(),
            torch.finfo(dtype) if WORK.fullmatch(name) and "int" not in name else None,
        )
    expected = len(calls.CALLS) - lacking("int" in name, dtype.is_complex)
    assert works == (expected if WORK.fullmatch(name) else 0)


def nested(torch, values, layout):
    pieces = [torch.tensor(values)[0]] * 2
    return torch.nested.nested_tensor(pieces, layout=layout)


FORMS = {
    "sparse_coo": lambda torch, values: torch.tensor(values).to_sparse(),
    "sparse_csr": lambda torch, values: torch.tensor(values)[..., 0].contiguous().to_sparse_csr(),
    "mkldnn": lambda torch, values: torch.tensor(values, dtype=torch.float32).to_mkldnn(),
    "nested": lambda torch, values: nested(torch, values, torch.strided),
    "jagged": lambda torch, values: nested(torch, values, torch.jagged),
    "masked": lambda torch, values: torch.masked.masked_tensor(torch.tensor(values), torch.tensor(values) > 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_tensors_are_refused(torch_backend, form):
    """Those of the type torch.Tensor are refused after a dense one has been let in, too."""
    import torch

    dense = [torch.tensor(array) for array in calls.operands("conv")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are prototypes
        odd = [FORMS[form](torch, array) for array in calls.operands("conv")[:1]]
        for _ in range(2):
            with pytest.raises(TypeError, match=r"^x must be (a dense tensor|an array without a mask)"):
                calls.results("conv", [*odd, *dense[1:]])
            with pytest.raises(TypeError, match=r"^w must be (a dense tensor|an array without a mask)"):
                calls.results("conv", [dense[0], *odd, dense[2]])
            assert calls.results("conv", dense)[0].shape == (2, 6, 3, 3)


def test_random_keys_are_refused(jax_backend):
    import jax

    keys = jax.random.split(jax.random.key(0), 8).reshape(1, 1, 8)
    with pytest.raises(TypeError, match=r"^x must be a dtype that jax computes with, got key<fry>$") as error:
        calls.xconv.max_pool(keys, 2)
    assert error.type is TypeError


def test_the_strict_namespace_has_no_other_dtypes(request):
    try:
        xp = load("strict").xp
    except UnavailableError as error:
        pytest.skip(str(error))
    for name, dtype in xp.__array_namespace_info__().dtypes().items():
        integral = xp.isdtype(dtype, "integral")
        works = check(
            lambda values, dtype=dtype: xp.astype(xp.asarray(values), dtype),
            np.asarray,
            None if integral or name == "bool" else xp.finfo(dtype),
        )
        expected = len(calls.CALLS) - lacking(integral, xp.isdtype(dtype, "complex floating"))
        assert works == (expected if name != "bool" else 0)


@pytest.mark.parametrize("library", ["sparse"])
def test_libraries_refused_in_words(monkeypatch, library):
    import types

    from xconv._arrays import operands

    namespace = types.ModuleType(f"{library}.array")

    class Lazy:
        shape, dtype, device = (1, 1, 4), None, None

        def __array_namespace__(self, api_version=None):
            return namespace

    monkeypatch.setattr(operands, "_NAMESPACES", {})
    for _ in range(2):
        with pytest.raises(TypeError, match=f"^x must be of another library than {library}: its arrays are ") as error:
            calls.xconv.max_pool(Lazy(), 2)
        assert "pass x." in str(error.value)
