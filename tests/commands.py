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


def assert_one_line(captured, *parts):
    """One line on stderr with all of these parts, and nothing printed before it."""
    assert captured.err.count("\n") == 1, captured.err
    for part in parts:
        assert part in captured.err


def assert_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) > 100
    assert len(np.unique(pixels)) > 10, "a picture of nothing"
