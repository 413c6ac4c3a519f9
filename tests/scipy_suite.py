"""SciPy's own tests with xconv's functions in SciPy's place: a plugin of the pytest that runs them, and what starts it.

The plugin replaces the functions before SciPy's tests are collected, notes which tests called one, compares every call
with SciPy's own answer, and writes what became of each test: with all functions replaced, and with each that the test
called alone, since SciPy's tests take one function as the oracle of another.
"""

from __future__ import annotations

import collections
import fnmatch
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np

TESTS = pathlib.Path(__file__).parent
RESULTS = "XCONV_SCIPY_RESULTS"  # environment variable: where to write them
ALL = "XCONV_SCIPY_ALL"  # environment variable: if set, the tests that take long run as well
DOORS = {"scipy.ndimage": "xconv.ndimage", "scipy.signal": "xconv.signal"}
IDS = {"numpy": "numpy", "strict": "array_api_strict", "jax": "jax.numpy", "torch": "torch"}  # SciPy's names
BROKEN = ("failed", "error")
ALONE = " alone)"  # how the name of a test ends that one function was replaced for
TERMS = 100  # of sums, whose roundings add up

CALLS: collections.Counter[str] = collections.Counter()  # of the test that is running
COMPARED: collections.Counter[str] = collections.Counter()  # calls of all tests
DIFFERENT: collections.Counter[str] = collections.Counter()
OUTCOMES: dict[str, str] = {}
RUNNING = {"test": "", "alone": ""}


def pytest_configure(config):
    for theirs, ours in DOORS.items():
        swap(importlib.import_module(theirs), importlib.import_module(ours))


def swap(scipy_module, xconv_module):
    """Put xconv's functions in SciPy's place, with what SciPy knows of the libraries that its own take."""
    from scipy._lib._array_api import xp_capabilities_table

    for name in xconv_module.__all__:
        original = getattr(scipy_module, name)
        swapped = in_place_of(original, getattr(xconv_module, name))
        setattr(scipy_module, name, swapped)
        if original in xp_capabilities_table:
            xp_capabilities_table[swapped] = xp_capabilities_table[original]


def in_place_of(theirs, ours):
    name = theirs.__name__

    @functools.wraps(ours)
    def call(*arguments, **keywords):
        if RUNNING["alone"] not in ("", name):
            return theirs(*arguments, **keywords)
        CALLS[name] += 1
        expected = answer(theirs, arguments, keywords)  # of copies, before anything is written to
        try:
            found = ours(*arguments, **keywords)
        except Exception as error:
            compare(name, error, expected)
            raise
        compare(name, found, expected)
        return found

    return call


def answer(function, arguments, keywords):
    """What SciPy gives for the same in NumPy, or the error that it raises; None if numbers are not known yet."""
    try:
        arguments, keywords = [*map(in_numpy, arguments)], {key: in_numpy(value) for key, value in keywords.items()}
    except TracedError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            return error


class TracedError(Exception):
    """An array of a program that is being made."""


def in_numpy(value):
    """A copy of an array, and a dtype by its name, alone or in a sequence or mapping; anything else as it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(in_numpy, value))
    if isinstance(value, dict):
        return {key: in_numpy(one) for key, one in value.items()}
    if hasattr(value, "shape") and hasattr(value, "__array__") and not isinstance(value, type | np.generic):
        if "Tracer" in str(type(value)):
            raise TracedError
        return np.array(value)
    if type(value).__module__.startswith(("torch", "array_api_strict", "jax")) and hasattr(np, name_of(value)):
        return np.dtype(name_of(value))
    return value


def name_of(dtype):
    return str(dtype).rpartition(".")[2].removesuffix("'>")


def compare(name, found, expected):
    if expected is None:
        COMPARED["traced"] += 1
        return
    COMPARED[name] += 1
    words = difference(found, expected)
    if words:
        how = f" ({name}{ALONE}" if RUNNING["alone"] else ""
        DIFFERENT[f"{name}: {words}: {RUNNING['test']}{how}"] += 1


def difference(found, expected):
    """What is not as in SciPy's answer, in words: the class of an error, the shape, the dtype, and values."""
    errors = [one for one in (found, expected) if isinstance(one, Exception)]
    if errors:
        fits = len(errors) == 2 and isinstance(found, type(expected))
        return "" if fits else f"{described(found)} for {described(expected)}"
    if described(found) != described(expected):
        return f"{described(found)} for {described(expected)}"
    found = np.asarray(found)
    if found.dtype.kind in "biu":
        return "" if np.array_equal(found, expected) else "other integers"
    good = np.isfinite(expected)
    if not np.array_equal(np.isfinite(found), good):
        return "other places of NaN"
    error, scale = (np.max(np.abs(one), where=good, initial=0) for one in (found - expected, expected))
    return "" if error <= TERMS * np.finfo(found.dtype).eps * scale else "other values"


def described(value):
    if isinstance(value, Exception):
        return type(value).__name__
    return f"{name_of(getattr(value, 'dtype', type(value)))} of {tuple(getattr(value, 'shape', ()))}"


def pytest_runtest_logstart(nodeid, location):
    CALLS.clear()
    RUNNING["test"] = nodeid.rpartition(".py::")[2]


def pytest_runtest_protocol(item, nextitem):
    """After a test has run with all functions, it runs with each that it called alone."""
    from _pytest.runner import runtestprotocol

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem)
    called = list(CALLS)
    for name in called if len(called) > 1 else ():
        CALLS.clear()
        RUNNING["alone"] = name
        item._initrequest()
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            note(report, f" ({name}{ALONE}")
    RUNNING["alone"] = ""
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_runtest_logreport(report):
    note(report, "")


def note(report, how):
    name = report.nodeid.rpartition(".py::")[2] + how
    if report.when == "call" or report.outcome != "passed":
        word = "error" if report.failed and report.when != "call" else report.outcome
        OUTCOMES[name] = word if CALLS or report.failed else f"{word}, without xconv"
        if how and report.failed:
            print(name, report.longreprtext[-1500:])


def pytest_sessionfinish(session, exitstatus):
    found = {"status": int(exitstatus), "outcomes": OUTCOMES, "compared": COMPARED, "different": DIFFERENT}
    pathlib.Path(os.environ[RESULTS]).write_text(json.dumps(found))


def check(files, name, folder, listed, record_property, leave_out="", different=()):
    """On a backend all of SciPy's tests pass but those listed, with a reason each, which fail; counts are recorded.

    ``listed`` is pattern -> reason, or (reason, backends) if it fails on these alone. Every call gives SciPy's own
    answer, but in listed tests and as patterns of ``different`` say.
    """
    found = run(files, name, folder / "results.json", leave_out)
    here = [pattern for pattern, entry in listed.items() if isinstance(entry, str) or name in entry[1]]
    unlisted, passing = disagreements(found["outcomes"], here)
    assert not unlisted, f"fail, and are not listed: {unlisted}"
    assert not passing, f"are listed, but do not fail: {passing}"
    known = [*different, *(f"*: {pattern}" for pattern in here)]
    other = [call for call in found["different"] if not any(fnmatch.fnmatch(call, pattern) for pattern in known)]
    assert not other, f"calls do not give what SciPy's give: {other}"
    alone = [outcome for test, outcome in found["outcomes"].items() if test.endswith(ALONE)]
    whole, suite = passed(found["outcomes"].values()) - passed(alone), f"SciPy's {', '.join(files)}"
    for what, count in (
        ("", whole),
        (" by one function alone", passed(alone)),
        (": calls", sum(found["compared"].values())),
    ):
        record_property("conformance", (suite + what, name, count))
    assert passed(alone) > 0
    return whole


def passed(outcomes):
    """How many tests passed of those that called a function of xconv's."""
    return list(outcomes).count("passed")


def run(files, name, results, leave_out=""):
    """What becomes of the tests in SciPy's files on a backend: what the plugin has noted."""
    scipy = pathlib.Path(importlib.util.find_spec("scipy").origin).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "scipy_suite", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-c", os.devnull, f"--rootdir={scipy}", f"--confcutdir={scipy}", "-m", "not slow", "-k", leave_out]
    environment = os.environ | {RESULTS: str(results), "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    environment |= {} if name == "numpy" else {"SCIPY_ARRAY_API": json.dumps([IDS[name]])}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # each operation compiles once and runs once
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # for arrays as small as these
    command += [str(scipy / file) for file in files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    text = done.stdout[-5000:] + done.stderr[-5000:]
    assert results.exists(), text
    found = json.loads(results.read_text())
    assert found["status"] in (0, 1), text
    print(text)  # which pytest shows if a test fails
    return found


def disagreements(outcomes, listed):
    """Tests that fail though no pattern lists them, and patterns listed that fit no test, or one that does not fail."""
    failed = {test for test, outcome in outcomes.items() if outcome in BROKEN}
    fitting = {pattern: set(fnmatch.filter(outcomes, pattern)) for pattern in listed}
    unlisted = failed.difference(*fitting.values())
    return sorted(unlisted), sorted(pattern for pattern, tests in fitting.items() if not tests or tests - failed)
