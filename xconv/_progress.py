"""How far something is that takes a while: a bar on a terminal, which goes when all is done."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

PATIENCE = 2.0  # seconds that nobody minds


@contextlib.contextmanager
def bar(title: str, total: int, console: Any) -> Iterator[Callable[[], None]]:
    """A command's bar, by the function that moves it on a step."""
    with _progress(total, title, console) as progress:
        yield lambda: progress.advance(progress.task_ids[0])


@contextlib.contextmanager
def late_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    """A library's bar: on stderr, if that is a terminal and rich is here, once it has taken more than `PATIENCE`."""
    progress = None
    if sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from rich.console import Console

            progress = _progress(total, title, Console(stderr=True))
    if progress is None:
        yield lambda: None
        return
    timer = threading.Timer(PATIENCE, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda: progress.advance(progress.task_ids[0])
    finally:
        timer.cancel()
        timer.join()  # it may just be starting the bar
        progress.stop()


def _progress(total: int, title: str, console: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    # Drawn twice a second: drawing takes time from what may be timed meanwhile.
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, console=console, transient=True, refresh_per_second=2)
    progress.add_task(title, total=total)
    return progress
