"""SciPy's own tests with xconv's functions in SciPy's place: a plugin of the pytest that runs them, and what starts it.

The plugin replaces the functions before SciPy's tests are collected, notes which tests called one, and writes what
became of each test. A function is swapped if xconv has one of its name.
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

TESTS = pathlib.Path(__file__).parent
RESULTS = "XCONV_SCIPY_RESULTS"  # environment variable: where to write them
DOORS = {"scipy.ndimage": "xconv.ndimage", "scipy.signal": "xconv.signal"}
IDS = {"numpy": "numpy", "strict": "array_api_strict", "jax": "jax.numpy", "torch": "torch"}  # SciPy's names
BROKEN = ("failed", "error")

CALLS: collections.Counter[str] = collections.Counter()  # of the test that is running
OUTCOMES: dict[str, str] = {}


def pytest_configure(config):
    for theirs, ours in DOORS.items():
        swap(importlib.import_module(theirs), importlib.import_module(ours))


def swap(scipy_module, xconv_module):
    """Put xconv's functions in SciPy's place, with what SciPy knows of the libraries that its own take."""
    from scipy._lib._array_api import xp_capabilities_table

    for name in xconv_module.__all__:
        original = getattr(scipy_module, name)
        counted = counting(name, getattr(xconv_module, name))
        setattr(scipy_module, name, counted)
        if original in xp_capabilities_table:
            xp_capabilities_table[counted] = xp_capabilities_table[original]


def counting(name, function):
    @functools.wraps(function)
    def call(*arguments, **keywords):
        CALLS[name] += 1
        return function(*arguments, **keywords)

    return call


def pytest_runtest_logstart(nodeid, location):
    CALLS.clear()


def pytest_runtest_logreport(report):
    name = report.nodeid.rpartition(".py::")[2]
    if report.when == "call" or report.outcome != "passed":
        word = "error" if report.failed and report.when != "call" else report.outcome
        OUTCOMES[name] = word if CALLS or report.failed else f"{word}, without xconv"


def pytest_sessionfinish(session, exitstatus):
    pathlib.Path(os.environ[RESULTS]).write_text(json.dumps({"status": int(exitstatus), "outcomes": OUTCOMES}))


def check(files, name, folder, listed, record_property, leave_out=""):
    """On a backend all of SciPy's tests pass but those listed, with a reason each, which fail; counts are recorded.

    ``listed`` is pattern -> reason, or (reason, backends) if it fails on these alone.
    """
    outcomes = run(files, name, folder / "results.json", leave_out)
    here = [pattern for pattern, entry in listed.items() if isinstance(entry, str) or name in entry[1]]
    unlisted, passing = disagreements(outcomes, here)
    assert not unlisted, f"fail, and are not listed: {unlisted}"
    assert not passing, f"are listed, but do not fail: {passing}"
    record_property("conformance", (f"SciPy's {', '.join(files)}", name, passed(outcomes)))
    return outcomes


def passed(outcomes):
    """How many tests passed of those that called a function of xconv's."""
    return list(outcomes.values()).count("passed")


def run(files, name, results, leave_out=""):
    """What becomes of the tests in SciPy's files on a backend: test -> outcome."""
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
    return found["outcomes"]


def disagreements(outcomes, listed):
    """Tests that fail though no pattern lists them, and patterns listed that fit no test, or one that does not fail."""
    failed = {test for test, outcome in outcomes.items() if outcome in BROKEN}
    fitting = {pattern: set(fnmatch.filter(outcomes, pattern)) for pattern in listed}
    unlisted = failed.difference(*fitting.values())
    return sorted(unlisted), sorted(pattern for pattern, tests in fitting.items() if not tests or tests - failed)
