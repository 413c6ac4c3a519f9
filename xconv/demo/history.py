"""The record of a training: numbers per step and per epoch."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field

from .learning import Step

RECENT = 20  # steps to average over: single batches are noisy


@dataclass
class History:
    """What was asked for and what happened.

    Attributes
    ----------
    step_loss, step_accuracy : list of float
        Of each batch, before the step that learns from it.
    tested_after : list of int
        The numbers of steps after which the held-out digits were tested: each epoch's end, and the end.
    held_out_loss, held_out_accuracy : list of float
        The results of these tests.
    seconds : float
        How long the training took.
    interrupted : bool
        Whether Ctrl-C ended it early.
    """

    backend: str
    device: str
    seed: int
    batch_size: int
    epochs: int
    step_loss: list[float] = field(default_factory=list)
    step_accuracy: list[float] = field(default_factory=list)
    tested_after: list[int] = field(default_factory=list)
    held_out_loss: list[float] = field(default_factory=list)
    held_out_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return len(self.step_loss)

    @property
    def is_tested(self) -> bool:
        """Whether the held-out digits were tested after the latest step."""
        return self.tested_after[-1:] == [self.steps]

    def add_step(self, step: Step) -> None:
        """Note a step."""
        self.step_loss.append(step.loss)
        self.step_accuracy.append(step.accuracy)

    def add_test(self, loss: float, accuracy: float) -> None:
        """Note how the network does, after the steps so far, on the held-out digits."""
        self.tested_after.append(self.steps)
        self.held_out_loss.append(loss)
        self.held_out_accuracy.append(accuracy)

    def recent(self) -> tuple[float, float]:
        """Mean loss and accuracy of the latest steps."""
        return statistics.fmean(self.step_loss[-RECENT:]), statistics.fmean(self.step_accuracy[-RECENT:])

    def to_json(self) -> str:
        """All of it as a JSON object."""
        return json.dumps(asdict(self), indent=1) + "\n"
