"""A run: measure, print, write."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from xconv.demo.backends import LoadedBackend, load_backend
from xconv.demo.files import make_writable, writing_to

from .devices import Rates, compile_quickly, forget_programs, full_precision, measure_rates
from .figure import draw_ratios
from .loading import import_seconds
from .machine import describe_machine
from .markdown import as_markdown
from .measure import measure_layer
from .memory import keep_memory
from .peers import load_peers
from .peers.peer import Peer
from .results import LayerResult, Report, as_json
from .suites import SUITES, Layer, shrunk
from .table import make_console, print_suite, print_summary
from .timing import QUICK, THOROUGH, Limits, within


def run_benchmarks(
    *,
    backend: str,
    suites: Sequence[str],
    peers: Sequence[str] | None,
    out: Path,
    quick: bool,
    repeats: int | None,
    seconds: float | None,
    command: str,
) -> None:
    """Time the suites on the backend beside the peers, all that apply if None, and write three files."""
    library = load_backend(backend)
    rivals, missing = load_peers(library, peers)
    make_writable(out)
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    if quick:
        compile_quickly(library)
    keeps_memory = not quick and keep_memory()
    limits = _limits(quick, repeats, seconds)
    packages = tuple(package for rival in rivals for package in rival.packages)
    machine = describe_machine(library, packages, command, keeps_memory)
    loading = import_seconds(limits)
    console = make_console()
    with full_precision(backend, *packages):
        report = Report(machine, quick, loading, measure_rates(library, limits, quick=quick), missing, [])
        for suite in suites:
            layers = [shrunk(layer) if quick else layer for layer in SUITES[suite]]
            measured = [_announced(layer, library, rivals, limits, report.rates) for layer in layers]
            print_suite(console, measured)
            report.layers.extend(measured)
            _write_numbers(report, out)
            forget_programs(library)
    print_summary(console, report)
    _write_figure(report, out)


def _announced(
    layer: Layer, backend: LoadedBackend, peers: Sequence[Peer], limits: Limits, rates: Rates
) -> LayerResult:
    """Say which layer is next: a live display would take time from it."""
    print(f"{layer.suite}: {layer.name}", file=sys.stderr, flush=True)
    return measure_layer(layer, backend, peers, limits, rates)


def _limits(quick: bool, repeats: int | None, seconds: float | None) -> Limits:
    limits = QUICK if quick else THOROUGH
    if repeats is not None:
        limits = dataclasses.replace(limits, least_rounds=repeats, most_rounds=max(repeats, limits.most_rounds))
    return within(limits, seconds)


def _write_numbers(report: Report, out: Path) -> None:
    """The numbers and the summary of the suites so far: a run takes long, and may be stopped."""
    numbers, summary = (out / f"{report.backend}.{suffix}" for suffix in ("json", "md"))
    with writing_to(out):
        numbers.write_text(json.dumps(as_json(report), indent=1) + "\n", encoding="utf-8")
        summary.write_text(as_markdown(report) + "\n", encoding="utf-8")


def _write_figure(report: Report, out: Path) -> None:
    figure = out / f"{report.backend}.png"
    with writing_to(out):
        draw_ratios(report).savefig(figure)
    print(f"wrote {figure}, and the numbers and the summary beside it")
