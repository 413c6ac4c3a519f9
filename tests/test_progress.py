"""A plan that times methods says how far it is where somebody waits for it at a terminal, and nothing anywhere else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

TIMED = """\
import sys, numpy, xconv
{before}
found = xconv.plan((1, 1, 16, 16), (1, 1, 3, 3), xp=numpy, dtype=numpy.float32, measure=True)
print(found.measured, any(name.startswith("rich") and sys.modules[name] for name in sys.modules))
"""
AT_ONCE, LATE = (f"from xconv import _progress; _progress.PATIENCE = {seconds}" for seconds in (0, 3600))
SLOW = "import time; from xconv import _choose; _choose.time.perf_counter = lambda: time.sleep(0.05) or time.time()"


def stdout_and_terminal(before, is_terminal=True):
    """What is printed, and what the terminal shows that stderr is."""
    ours, theirs = pty.openpty() if is_terminal else os.pipe()
    command = [sys.executable, "-c", TIMED.format(before=before)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        shown = b""
        try:
            while some := os.read(ours, 1024):
                shown += some
        except OSError:  # which is how a terminal ends
            pass
        os.close(ours)
        return process.stdout.read().strip(), shown.decode()


def test_a_bar_on_a_terminal_when_it_takes_long():
    printed, shown = stdout_and_terminal(f"{AT_ONCE}\n{SLOW}")
    assert printed == "True True"
    assert "timing methods" in shown
    assert "/12" in shown  # three trials of each of four methods


@pytest.mark.parametrize(
    ("before", "is_terminal", "loads_rich"),
    [(LATE, True, True), (f"{AT_ONCE}\n{SLOW}", False, False), (f"{AT_ONCE}; sys.modules['rich'] = None", True, False)],
    ids=["quick", "no terminal", "no rich"],
)
def test_nothing_anywhere_else(before, is_terminal, loads_rich):
    printed, shown = stdout_and_terminal(before, is_terminal)
    assert printed == f"True {loads_rich}"
    assert shown == ""
