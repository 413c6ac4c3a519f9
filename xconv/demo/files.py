"""Files that the command line writes: whether it may, before the work, and one line if it fails after it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import CommandError


def make_writable(folder: Path) -> None:
    """Make the folder if there is none, and try to write there: nobody wants to know it after the training."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a `CommandError`."""
    try:
        yield
    except BrokenPipeError:  # of what is printed meanwhile
        raise
    except FileExistsError as error:
        raise CommandError(f"cannot write to {path}: it is a file, not a folder") from error
    except OSError as error:
        raise CommandError(f"cannot write to {path}: {error.strerror or error}") from error
