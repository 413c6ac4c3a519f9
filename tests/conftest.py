"""Every test that takes ``backend`` runs once on each backend; the summary says which ran."""

from __future__ import annotations

import collections
import importlib.util
import os
import sys
import types

import numpy as np
import pytest

pytest.register_assert_rewrite("backends", "geometries", "standin")

import backends  # noqa: E402
import standin  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from xconv._arrays import libraries, matmul, operands  # noqa: E402
from xconv._plan.remembered import forget  # noqa: E402

settings.register_profile(
    "xconv",
    deadline=None,  # the first call on a backend compiles
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("xconv")

RAN: collections.Counter[str] = collections.Counter()
CONFORMANCE: dict[str, collections.Counter[str]] = {}  # of other projects' tests, how many passed on each backend
MISSING: dict[str, str] = {}
LOADED: dict[str, backends.Backend | backends.UnavailableError] = {}


# Of a processor with AVX-512, whatever this one is: products are in pieces there, and not only as a whole.
matmul.reads_small_factors = lambda: True


def pytest_addoption(parser):
    parser.addoption(
        "--backends",
        default=",".join(backends.NAMES),
        help=f"comma-separated backends to run on, out of {', '.join(backends.NAMES)}",
    )


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers, and what they start, have it from here
        backends.compile_soon()
        backends.wait_asleep()
    config.addinivalue_line("markers", "on(*names): of the selected backends, only these")
    config.addinivalue_line(
        "markers",
        "over(argument, values): every backend runs on the values, one that compiles slowly on a part of them",
    )
    unknown = set(selected(config)) - set(backends.NAMES)
    if unknown:
        raise pytest.UsageError(
            f"--backends: unknown {', '.join(sorted(unknown))}; there are {', '.join(backends.NAMES)}"
        )


def selected(config):
    return [name.strip() for name in config.getoption("--backends").split(",")]


def load(name):
    """Load a backend once, or keep why it cannot be."""
    if name not in LOADED:
        try:
            LOADED[name] = backends.load(name)
        except backends.UnavailableError as reason:
            LOADED[name] = reason
    return LOADED[name]


def pytest_collection_modifyitems(items):
    """Examples of what one library alone has do not run where it is not installed."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and "import jax" in "".join(e.source for e in item.dtest.examples):
            missing = importlib.util.find_spec("jax") is None
            item.add_marker(pytest.mark.skipif(missing, reason="jax is not installed"))


def pytest_generate_tests(metafunc):
    if "backend" not in metafunc.fixturenames:
        return
    names, over = selected(metafunc.config), metafunc.definition.get_closest_marker("over")
    if on := metafunc.definition.get_closest_marker("on"):
        names = [name for name in names if name in on.args]
    if over is None:
        metafunc.parametrize("backend", names, indirect=True)
    else:
        argument, values = over.args
        start = len(metafunc.function.__name__)  # as good as drawn
        pairs = [(name, value) for name in names for value in backends.part(name, values, start)]
        ids = [f"{name}-{value}" for name, value in pairs]
        metafunc.parametrize(("backend", argument), pairs, indirect=["backend"], ids=ids)


def loaded_or_skip(name, request):
    """The backend, noted in the test's report: reports come back from worker processes, variables do not."""
    if name not in selected(request.config):
        pytest.skip(f"{name}: not selected by --backends")
    loaded = load(name)
    if isinstance(loaded, backends.UnavailableError):
        request.node.user_properties.append(("missing", (name, str(loaded))))
        pytest.skip(f"{name}: {loaded}")
    request.node.user_properties.append(("backend", name))
    return loaded


@pytest.fixture
def backend(request):
    return loaded_or_skip(request.param, request)


@pytest.fixture
def numpy_backend(request):
    return loaded_or_skip("numpy", request)


@pytest.fixture
def jax_backend(request):
    return loaded_or_skip("jax", request)


@pytest.fixture
def torch_backend(request):
    return loaded_or_skip("torch", request)


@pytest.fixture
def named_cupy(monkeypatch):
    """NumPy under CuPy's name, with its traits: plain memory, but kernels instead of threads."""
    namespace = types.ModuleType("cupy")
    namespace.__getattr__ = lambda name: getattr(np, name)
    namespace.ElementwiseKernel = standin.ElementwiseKernel
    monkeypatch.setitem(operands._NAMESPACES, np.ndarray, namespace)
    assert libraries.traits(namespace).plain_memory
    assert not libraries.traits(namespace).threads
    return namespace


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy, with arrays that count launches."""
    module, of_others = standin.CuPy(), operands._namespace
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(
        operands, "_namespace", lambda name, one: module if type(one) is standin.Array else of_others(name, one)
    )
    yield module
    forget()


def pytest_runtest_logreport(report):
    for what, value in report.user_properties if report.when == "teardown" else ():
        if what == "backend":
            RAN[value] += 1
        elif what == "missing":
            MISSING.update([value])
        elif what == "conformance":
            suite, name, passed = value
            CONFORMANCE.setdefault(suite, collections.Counter())[name] += passed


def pytest_terminal_summary(terminalreporter, config):
    ran = ", ".join(f"{name} ({RAN[name]} tests)" for name in selected(config) if RAN[name])
    terminalreporter.section("backends")
    terminalreporter.write_line(f"ran: {ran or 'none'}")
    for name in selected(config):
        if not RAN[name]:
            terminalreporter.write_line(f"did not run: {name}: {MISSING.get(name, 'no test asked for it')}")
    for suite, counts in sorted(CONFORMANCE.items()):
        passed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        terminalreporter.write_line(f"{suite} passed: {passed}")
