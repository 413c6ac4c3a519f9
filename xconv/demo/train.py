"""``xconv train``: a training with its files, and an end at Ctrl-C that keeps what was learned."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from . import figures
from .backends import LoadedBackend, load_backend
from .data import Digits, load_digits
from .errors import INTERRUPTED, fitted
from .files import make_writable, writing_to
from .history import History
from .learning import count_steps, predict, training_steps
from .network import FIRST_FILTERS, Network, accuracy, build_network, cross_entropy
from .progress import TrainingProgress


def run(*, backend: str, epochs: int, batch_size: int, seed: int, out: Path) -> int:
    """Train, write the files to the folder ``out``, and return the exit status: 0, or 130 after Ctrl-C."""
    library = load_backend(backend)
    make_writable(out)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with console.status("reading the digits"):
        digits, held_out = load_digits()
    counts = f"{len(digits)} digits to learn from, {len(held_out)} held out"
    console.print(fitted(f"{counts}; {library.name} on {library.device}"))
    rng = np.random.default_rng(seed)
    network = build_network(rng, library.from_numpy)
    history = History(library.name, library.device, seed, batch_size, epochs)
    training = _Training(library, network, digits, held_out, history, console)
    untrained = training.parameters()
    # These products are so small that BLAS threads gain nothing, and wait for each other as soon as a core is busy.
    # In full precision a seed gives one course on every device.
    with threadpool_limits(1, user_api="blas"), library.full_precision():
        training.learn(rng)
        training.write(out, untrained)
    return INTERRUPTED if history.interrupted else 0


@dataclass
class _Training:
    library: LoadedBackend
    network: Network
    digits: Digits
    held_out: Digits
    history: History
    console: Console

    def parameters(self) -> dict[str, Any]:
        """All weights and biases as they are now, in NumPy."""
        return {name: self.library.to_numpy(array) for name, array in self.network.parameters.items()}

    def learn(self, rng: np.random.Generator) -> None:
        """Train to the end or until Ctrl-C, and note it in the history."""
        history, started = self.history, time.perf_counter()
        total = count_steps(self.digits, history.epochs, history.batch_size)
        try:
            with TrainingProgress(self.console, history, total) as progress:
                self._learn_and_show(rng, progress)
        except KeyboardInterrupt:
            history.interrupted = True
            line = f"interrupted after {history.steps} of {total} steps: what was learned so far is kept"
            self.console.print(fitted(line))
        history.seconds = time.perf_counter() - started

    def write(self, out: Path, untrained: dict[str, Any]) -> None:
        """Write weights, history and figures, and say what came out."""
        logits = predict(self.network, self.held_out.images, self.library)
        if not self.history.is_tested:
            self._note_test(logits)
        trained, answers = self.parameters(), logits.argmax(axis=1)
        images = {
            "learning_curves.png": figures.learning_curves(self.history),
            "filters.png": figures.filters(untrained[FIRST_FILTERS], trained[FIRST_FILTERS]),
            "misclassified.png": figures.misclassified(self.held_out, answers),
        }
        with writing_to(out):
            np.savez(out / "weights.npz", **trained)
            (out / "history.json").write_text(self.history.to_json())
            for name, figure in images.items():
                figure.savefig(out / name)
        self._report(["weights.npz", "history.json", *images], out)

    def _learn_and_show(self, rng: np.random.Generator, progress: TrainingProgress) -> None:
        history, library = self.history, self.library
        for step in training_steps(self.network, self.digits, library, rng, history.epochs, history.batch_size):
            history.add_step(step)
            progress.show_step(step)
            if step.is_last_of_epoch:
                self._note_test(predict(self.network, self.held_out.images, library))
                progress.show_epoch(step)

    def _note_test(self, logits: Any) -> None:
        loss, _ = cross_entropy(logits, self.held_out.targets)
        self.history.add_test(float(loss), accuracy(logits, self.held_out.targets))

    def _report(self, names: list[str], out: Path) -> None:
        right, seconds = self.history.held_out_accuracy[-1], self.history.seconds
        self.console.print(f"{right:.1%} of the {len(self.held_out)} held-out digits are right, after {seconds:.0f} s")
        self.console.print(fitted(f"wrote {', '.join(names)} to {out}"))
