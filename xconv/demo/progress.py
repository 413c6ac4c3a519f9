"""The progress bar of a training: loss, accuracy and images per second, and one line per epoch that stays."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .history import History
from .learning import Step


class TrainingProgress:
    """Shows a history as it grows.

    Parameters
    ----------
    console : rich.console.Console
    history : History
        Read, never changed.
    total : int
        The number of steps of the whole training.
    """

    def __init__(self, console: Console, history: History, total: int) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}")
        self._progress = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._progress.add_task("", total=total, numbers="")
        self._history = history
        self._numbers = ""
        self._start_clock()

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        self._start_clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show_step(self, step: Step) -> None:
        """Move the bar on by a step that the history has noted."""
        self._images += step.images
        loss, accuracy = self._history.recent()
        speed = self._images / (time.perf_counter() - self._started)
        self._numbers = f"loss {loss:.4f}  accuracy {accuracy:6.1%}  {speed:5.0f} images/s"
        self._progress.update(self._task, advance=1, description=self._title(step), numbers=self._numbers)

    def show_epoch(self, step: Step) -> None:
        """Leave a line about the epoch that this step ended, with the held-out accuracy that the history has noted."""
        held_out = self._history.held_out_accuracy[-1]
        self._progress.console.print(f"{self._title(step)}  {self._numbers}  held out {held_out:6.1%}")
        self._start_clock()

    def _start_clock(self) -> None:
        self._images, self._started = 0, time.perf_counter()

    def _title(self, step: Step) -> str:
        return f"epoch {step.epoch:{len(str(self._history.epochs))}}/{self._history.epochs}"
