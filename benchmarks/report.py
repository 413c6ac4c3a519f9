"""The one renderer: from the numbers of runs, as they are in the files, to tables, on the terminal and in READMEs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xconv.demo.files import make_writable, writing_to

from .machine import Machine
from .peers.peer import FORWARD, OPERATIONS

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
FIGURE = FOLDER / "speed.png"
BEGIN, END = "<!-- written by python -m benchmarks report: begin -->\n", "<!-- end -->\n"

XCONV, METHOD_PREFIX = "xconv", "xconv:"
TINY = "Tiny arrays: the times mean nothing."
SHOWN = 0.05  # the loss above which a choice has a row
GRADIENTS = "+ gradients"
Numbers = dict[str, Any]

# What README.md says of speed: of which runs, groups and peer, in the words of users.
SUMMARY = (
    ("correlate, 3x3 to 31x31, float32", "filters", ("correlate float32",), "scipy"),
    ("Gaussians, means, Sobel, float32", "filters", ("smooth float32",), "scipy"),
    ("maximum_filter, float32", "filters", ("maximum_filter float32",), "scipy"),
    ("signal.convolve, 1e3 to 1e7 elements, float32", "filters", ("convolve float32",), "scipy"),
    ("layers of ResNet-50 and VGG-16", "layers", ("resnet50", "vgg16"), "torch"),
    ("layers of few channels, depthwise ones", "layers", ("small", "depthwise"), "torch"),
    ("layers of large kernels, audio", "layers", ("large_kernel",), "torch"),
)


def finish(kind: str, machine: Machine, run: Numbers, out: Path | None) -> None:
    """Print what a run found, and put it in the place of an earlier one of its kind in the machine's file."""
    run = {"machine": machine.as_json(), **run}
    print("\n".join(line for line in render(kind, run).splitlines() if not line.startswith("<")))
    write(kind, machine, run, out)


def write(kind: str, machine: Machine, run: Numbers, out: Path | None) -> None:
    """Into the folder ``out``, if there is one."""
    if out is None:
        return
    file = out / machine.file_name
    make_writable(out)
    known = json.loads(file.read_text()) if file.exists() else {}
    with writing_to(out):
        file.write_text(as_json(known | {kind: run}), encoding="utf-8")


def as_json(files: Numbers) -> str:
    """A line for each of the innermost parts: a file of thousands of them is still read, and compared, by people."""
    text = json.dumps(files, indent=1)
    return re.sub(r"\{[^{}]*\}", lambda part: re.sub(r"\n *", " ", part[0]), text) + "\n"


def run_report(*, results: Path, command: str) -> None:
    """Write the tables and the figure of all files into the places where they are shown."""
    files = load(results)
    for readme, text in texts(files).items():
        replace_between(readme, text)
        print(f"wrote {readme.name} of {readme.parent.name}")
    from .figure import draw_summary  # which needs matplotlib

    draw_summary(summarized(files)).savefig(FIGURE)
    print(f"wrote {FIGURE.name}")


def load(results: Path = RESULTS) -> dict[str, Numbers]:
    """All runs, by file and kind."""
    return {path.name: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}


def texts(files: Mapping[str, Numbers]) -> dict[Path, str]:
    """What stands in each README."""
    sections = [
        f"### {name.removesuffix('.json')}: {kind}\n\n{render(kind, run)}\n"
        for name, runs in files.items()
        for kind, run in runs.items()
    ]
    return {FOLDER / "README.md": "\n".join(sections), FOLDER.parent / "README.md": summary(files)}


def replace_between(readme: Path, text: str) -> None:
    """Put the text between the two marks."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}{text.rstrip()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


@dataclass(frozen=True)
class Row:
    """What README.md says of a group of calls: the peer's times by xconv's."""

    words: str
    peer: str
    where: str
    ratios: list[float]


def summarized(files: Mapping[str, Numbers]) -> list[Row]:
    """The rows of NumPy's runs that there are figures of."""
    rows = []
    for runs in files.values():
        for words, kind, groups, peer in SUMMARY:
            if kind in runs and runs[kind]["machine"]["backend"] == "numpy":
                machine = runs[kind]["machine"]
                where = f"{machine['processor']}, {machine['cores']} cores"
                rows.append(Row(words, peer, where, _ratios_of(kind, runs[kind], groups, peer)))
    return [row for row in rows if row.ratios]


def summary(files: Mapping[str, Numbers]) -> str:
    """The table of README.md."""
    rows = [(row.words, row.peer, *_mean_and_least(row.ratios), row.where) for row in summarized(files)]
    return "\n".join(table(("what", "beside", "mean", "least", "on"), rows, words=2))


def render(kind: str, run: Numbers) -> str:
    """The tables of a run."""
    machine = run["machine"]
    lines = [
        f"`{machine['command']}` on {machine['heading']}.",
        *([TINY] if run.get("quick") else []),
        *run.get("notes", ()),
        "",
    ]
    return "\n".join([*lines, *RENDERERS[kind](run)])


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> list[str]:
    """Markdown that is readable as it is; columns behind the first few are numbers, to the right."""
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    rule = ["-" * width if column < words else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [cell.ljust(width) if column < words else cell.rjust(width) for column, (cell, width) in enumerate(pairs)]
        for pairs in (list(zip(row, widths, strict=True)) for row in cells)
    ]
    return [f"| {' | '.join(row)} |" for row in (padded[0], rule, *padded[1:])]


def geometric_mean(values: Iterable[float]) -> float:
    """The mean of ratios: that of the inverse ratios is its inverse."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def seconds_of(layer: Numbers, peer: str, operations: Sequence[str] = OPERATIONS) -> float | None:
    """The sum of the operations' medians; None if one is missing."""
    times = [layer["operations"][operation].get(peer, {}).get("median") for operation in operations]
    return None if None in times else sum(times)


def ratio(layer: Numbers, peer: str, operations: Sequence[str] = OPERATIONS) -> float | None:
    """The peer's time by xconv's: above 1, xconv is faster."""
    seconds, own = seconds_of(layer, peer, operations), seconds_of(layer, XCONV, operations)
    return None if seconds is None or own is None else seconds / own


def peers_of(layers: Sequence[Numbers], methods: bool = False) -> list[str]:
    """All but xconv as it chooses: its methods by hand, or the others."""
    names = [name for name in layers[0]["operations"][FORWARD] if name != XCONV]
    return [name for name in names if name.startswith(METHOD_PREFIX) is methods]


def _layers(run: Numbers) -> Iterator[str]:
    layers = run["results"]
    ratios = ("forward", "least", GRADIENTS, "least")
    yield from ("Peer's time / xconv's time, geometric mean and least: above 1, xconv is faster.", "")
    yield from table(("suite", "peer", "layers", *ratios), _peer_rows(layers, peers_of(layers)), words=2)
    methods = peers_of(layers, methods=True)
    if methods:
        yield from ("", "Method's time / auto's time, and its largest error relative to the largest element.", "")
        rows = [
            (suite, method.removeprefix(METHOD_PREFIX), *numbers, _error(layers, suite, method))
            for suite, method, _, *numbers in _peer_rows(layers, methods)
        ]
        yield from table(("suite", "method", *ratios, "error"), rows, words=2)
        yield from ("", *_noise(layers))


def _suites(layers: Sequence[Numbers]) -> dict[str, list[Numbers]]:
    suites: dict[str, list[Numbers]] = {}
    for layer in layers:
        suites.setdefault(layer["suite"], []).append(layer)
    return suites


def _peer_rows(layers: Sequence[Numbers], peers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for suite, members in _suites(layers).items():
        for peer in peers:
            forward, both = (
                _known(ratio(layer, peer, which) for layer in members) for which in ([FORWARD], OPERATIONS)
            )
            if forward:
                yield suite, peer, str(len(forward)), *_mean_and_least(forward), *_mean_and_least(both)


def _error(layers: Sequence[Numbers], suite: str, peer: str) -> str:
    """The largest of y, dx and dw."""
    operations = [operation for layer in _suites(layers)[suite] for operation in layer["operations"].values()]
    errors = _known(found[peer].get("relative_error") for found in operations)
    return f"{max(errors):.1e}" if errors else "-"


def _noise(layers: Sequence[Numbers]) -> Iterator[str]:
    """What two times of one call differ by: of a method by its name, and of auto, which chose it."""
    pairs = (
        ratio(layer, METHOD_PREFIX + method, [operation])
        for layer in layers
        for operation, method in layer["methods"].items()
    )
    if ratios := _known(pairs):
        yield f'Identical calls, "auto" and the same method by its name, differed by {_range(ratios)}.'


def _compared(run: Numbers) -> Iterator[str]:
    results = run["results"]
    peers = list(dict.fromkeys(peer for one in results for peer in one["timings"] if peer != XCONV))
    groups = dict.fromkeys(one["group"] for one in results)
    yield from ("Others' time / xconv's time, geometric mean (least): above 1, xconv is faster.", "")
    rows = [(group, *(_together(_compared_ratios(results, [group], peer)) for peer in peers)) for group in groups]
    yield from table(("what", *peers), rows, words=1)
    yield from ("", "<details><summary>Each of them: xconv's ms, and others' time / xconv's time</summary>", "")
    each = [
        (one["group"], one["name"], f"{1e3 * one['timings'][XCONV]['median']:.3g}", *_each(one, peers))
        for one in results
    ]
    yield from table(("what", "on what", "ms", *peers), each, words=2)
    yield from ("", "</details>")


def _each(one: Numbers, peers: Sequence[str]) -> Iterator[str]:
    return (_number(next(iter(_compared_ratios([one], [one["group"]], peer)), None)) for peer in peers)


def _compared_ratios(results: Sequence[Numbers], groups: Sequence[str], peer: str) -> list[float]:
    timings = [one["timings"] for one in results if one["group"] in groups and peer in one["timings"]]
    return [found[peer]["median"] / found[XCONV]["median"] for found in timings]


def _ratios_of(kind: str, run: Numbers, groups: Sequence[str], peer: str) -> list[float]:
    if kind == "filters":
        return _compared_ratios(run["results"], groups, peer)
    return _known(ratio(layer, peer, [FORWARD]) for layer in run["results"] if layer["suite"] in groups)


def _choice(run: Numbers) -> Iterator[str]:
    header = ("function", "choices", "geometric mean", "90th percentile", "worst")
    rows = [
        (name, str(one["choices"]), *(f"{one[key]:.1%}" for key in ("mean", "percentile", "worst")))
        for name, one in run["losses"].items()
    ]
    yield from ("What auto loses against the best method by hand, on layers drawn at random.", "")
    yield from table(header, rows, words=1)
    lost = [
        (layer["name"], function, one["chosen"], one["best"], f"{one['loss']:.0%}")
        for layer in run["results"]
        for function, one in layer["functions"].items()
        if one["loss"] > SHOWN
    ]
    yield from ("", f"Where it loses more than {SHOWN:.0%}:", "")
    yield from table(("layer", "function", "chosen", "best", "loss"), lost, words=4)
    pairs = ((one["methods"]["auto"], one["methods"].get(one["chosen"], {})) for one in _functions(run))
    if checks := [auto["median"] / by_hand["median"] for auto, by_hand in pairs if "median" in by_hand]:
        mean = _number(geometric_mean(checks))
        yield from ("", f"Identical calls differed by {_range(checks)}; their geometric mean is {mean}.")


def _functions(run: Numbers) -> Iterator[Numbers]:
    for layer in run["results"]:
        yield from layer["functions"].values()


def _rates(run: Numbers) -> list[str]:
    rows = [(name, f"{one['value']:.3g}", one["words"]) for name, one in run["results"].items()]
    return [
        "Nanoseconds of plain things, each beyond the call itself.",
        "",
        *table(("rate", "ns", "of"), rows, words=3),
    ]


RENDERERS: dict[str, Callable[[Numbers], Iterable[str]]] = {
    "layers": _layers,
    "filters": _compared,
    "pools": _compared,
    "chunked": _compared,
    "choice": _choice,
    "rates": _rates,
}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean_and_least(ratios: Sequence[float]) -> tuple[str, str]:
    return (_number(geometric_mean(ratios)), _number(min(ratios))) if ratios else ("-", "-")


def _together(ratios: Sequence[float]) -> str:
    return "{} ({})".format(*_mean_and_least(ratios)) if ratios else "-"


def _number(value: float | None) -> str:
    """A ratio in three digits, or two behind the point."""
    return "-" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def _range(ratios: Sequence[float]) -> str:
    return f"factors from {_number(min(ratios))} to {_number(max(ratios))}"
