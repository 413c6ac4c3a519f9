"""What tests of the command line share: how a command is run, and what it must leave behind."""

from __future__ import annotations

import matplotlib.image
import numpy as np

from xconv.__main__ import main


def exit_status(*arguments):
    """What the process would exit with."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def complaints(captured):
    """The sentences on stderr, whose lines hang below the first and fit 80 columns, but for a word that is longer."""
    found = []
    for line in captured.err.splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line
        if line.startswith("  ") and found:
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
    return found


def assert_one_complaint(captured, *parts):
    """One sentence on stderr with all of these parts, and nothing printed before it."""
    (found,) = complaints(captured)
    for part in parts:
        assert part in found


def assert_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 100
    assert len(np.unique(pixels)) > 10, "a picture of nothing"
