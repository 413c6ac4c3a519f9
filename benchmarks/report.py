"""The one renderer: from the numbers of runs, as they are in the files, to tables, on the terminal and in READMEs."""

from __future__ import annotations

import itertools
import json
import operator
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean  # of ratios: that of the inverse ratios is its inverse
from typing import Any, NamedTuple

import numpy as np

from xconv.demo.errors import CommandError, fitted, require_packages
from xconv.demo.files import writing_to
from xconv.demo.machine import file_name, heading, machine_name

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- written by python -m benchmarks report: begin -->\n", "<!-- end -->\n"
XCONV, BY_HAND = "xconv", "xconv:"  # as it chooses, and before the name of a method
SHOWN = 0.05  # the loss above which a choice is listed
Numbers = dict[str, Any]

# What README.md says of speed: words of users for a suite's groups and an operation, and beside whom.
SUMMARY = (
    ("correlate, 3x3 to 31x31, float32", "filter", ("correlate",), "float32", "scipy"),
    ("Gaussians, means, Sobel, float32", "filter", ("smooth",), "float32", "scipy"),
    ("maximum_filter, float32", "filter", ("maximum",), "float32", "scipy"),
    ("signal.convolve, 1e3 to 1e7 elements, float32", "filter", ("convolve",), "float32", "scipy"),
    ("layers of ResNet-50 and VGG-16, forward", "layers", ("resnet50", "vgg16"), "forward", "torch"),
    ("layers of few channels, depthwise ones, forward", "layers", ("small", "depthwise"), "forward", "torch"),
    ("layers of large kernels, audio, forward", "layers", ("large_kernel",), "forward", "torch"),
)
COLOURS = {"scipy": "#2f6f9f", "torch": "#d9822b"}


class Ratio(NamedTuple):
    """A side's time by xconv's, and of what; a column of a table has its field's name."""

    what: str
    on_what: str
    of: str
    beside: str
    ratio: float


def run_report(_: Namespace) -> None:
    """Write the tables and the figure of all files into the places where they are shown."""
    require_packages(("matplotlib", "tabulate"), "test")
    files = load()
    for readme, text in texts(files).items():
        replace_between(readme, text)
    draw_summary(summarized(files)).savefig(FOLDER / "speed.png")
    print("wrote README.md, benchmarks/README.md and benchmarks/speed.png")


def load() -> dict[str, Numbers]:
    """All recorded runs, by machine and backend, and by kind."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("results/*.json"))}


def replace_between(readme: Path, text: str) -> None:
    """Put the text between the two marks."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}{text.rstrip()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def write(kind: str, run: Numbers, out: Path) -> Numbers:
    """Put a run into the machine's file, in the place of an earlier one of its kind: the whole file anew, at once."""
    file = out / file_name(run["machine"])
    runs = json.loads(file.read_text()) if file.exists() else {}
    if run["quick"] and not runs.get(kind, run)["quick"]:
        raise CommandError(f"{file} has {kind} of arrays that are not tiny: --quick must have another --out")
    with writing_to(file):
        file.with_suffix(".part").write_text(json.dumps(runs | {kind: run}, indent=1) + "\n", encoding="utf-8")
        file.with_suffix(".part").replace(file)
    return run


def show(kind: str, run: Numbers) -> None:
    """Print what a run found, without what was printed of each call."""
    for line in render(kind, run).partition("<details>")[0].splitlines():
        print(line if line.startswith("|") else fitted(line, hanging="  " * line.startswith("* ")))


def texts(files: Mapping[str, Numbers]) -> dict[Path, str]:
    """What stands in each README."""
    runs = [(file, *run) for file, kinds in files.items() for run in kinds.items()]
    sections = [f"### {file}: {kind}\n\n{render(kind, run)}" for file, kind, run in runs]
    summary = _pivot(("what", "beside"), "on_what", summarized(files))
    return {FOLDER / "README.md": "\n\n".join(sections), FOLDER.parent / "README.md": summary}


def summarized(files: Mapping[str, Numbers]) -> Iterator[Ratio]:
    """What README.md says of NumPy's runs, each on a machine."""
    for (words, kind, groups, operation, side), runs in itertools.product(SUMMARY, files.values()):
        if kind in runs and runs[kind]["machine"]["backend"] == "numpy":
            for found in ratios_of(runs[kind]["results"]):
                if found.what in groups and (found.of, found.beside) == (operation, side):
                    yield found._replace(what=words, on_what=machine_name(runs[kind]["machine"]))


def draw_summary(found: Iterable[Ratio]) -> Any:
    """The figure of README.md: a dot for each call on a logarithmic axis, and a bar at the geometric mean."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    axes, names = Figure(figsize=(8, 6), dpi=110, layout="constrained").subplots(), []
    key = operator.attrgetter("what", "beside", "on_what")
    for height, ((words, side, machine), group) in enumerate(itertools.groupby(found, key)):
        ratios = [one.ratio for one in group]
        names.append(f"{words}, beside {side}\n{machine}")
        axes.plot(ratios, [height] * len(ratios), "o", color=COLOURS[side], markersize=5, alpha=0.5)
        axes.plot(geometric_mean(ratios), height, "|", color=COLOURS[side], markersize=18, markeredgewidth=3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
    axes.set_title("the other's time / xconv's time: right of 1, xconv is faster", fontsize=9, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", alpha=0.25)
    return axes.figure


def render(kind: str, run: Numbers) -> str:
    """The tables of a run."""
    tiny = ["Tiny arrays: the times mean nothing."] if run["quick"] else []
    lines = [f"`{run['machine']['command']}` on {heading(run['machine'])}.", *tiny, *run["notes"], ""]
    return "\n".join([*lines, *{"choice": _choice, "rates": _rates}.get(kind, _compared)(run["results"])])


def measured(one: Numbers) -> str:
    """What was found of a case, in words: xconv's milliseconds, and others' times by it."""
    own, others = one["timings"][XCONV], [f"{found.beside} {_number(found.ratio)}" for found in ratios_of([one])]
    return ", ".join([f"{_number(1e3 * own['median'])} ms" if "median" in own else own["absent"], *others])


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """Markdown that is readable as it is; columns behind the first few are numbers, to the right."""
    from tabulate import tabulate

    sides = ["left"] * words + ["right"] * (len(header) - words)
    return tabulate([*rows], header, "pipe", disable_numparse=True, colalign=sides)


def ratios_of(results: Iterable[Numbers]) -> Iterator[Ratio]:
    for one in results:
        own, about = one["timings"][XCONV].get("median"), (one["group"], one["name"], one["operation"])
        for side, found in one["timings"].items():
            if own and side != XCONV and "median" in found:
                yield Ratio(*about, side.removeprefix(BY_HAND), found["median"] / own)


def _compared(results: Sequence[Numbers]) -> Iterator[str]:
    ratios, sides = [*ratios_of(results)], [found for one in results for found in one["timings"].values()]
    errors = [found["error"] for found in sides if "error" in found]
    if ratios:
        yield "Others' time / xconv's time, geometric mean (least): above 1, xconv is faster.\n"
        yield _pivot(("what", "beside"), "of", ratios) + "\n"
    yield f"No result is further from what was expected than {max(errors, default=0):.0e} of the largest element."
    yield from _noise(results)
    yield "\n<details><summary>Each of them: xconv's ms, and others' time / xconv's time</summary>\n"
    own = ((one, one["timings"][XCONV].get("median", float("nan"))) for one in results)
    ms = [Ratio(one["group"], one["name"], one["operation"], "ms", 1e3 * seconds) for one, seconds in own]
    yield _pivot(("what", "on_what", "of"), "beside", [*ms, *ratios]) + "\n\n</details>"


def _pivot(rows: Sequence[str], column: str, ratios: Iterable[Ratio]) -> str:
    """The ratios of each row and column together: their geometric mean, and of several the least."""
    cells: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for found in ratios:
        row = cells.setdefault(tuple(getattr(found, name) for name in rows), {})
        row.setdefault(getattr(found, column), []).append(found.ratio)
    columns = list(dict.fromkeys(itertools.chain.from_iterable(cells.values())))
    lines = [(*row, *(_cell(there.get(name, [])) for name in columns)) for row, there in cells.items()]
    return table([*(row.replace("_", " ") for row in rows), *columns], lines, words=len(rows))


def _cell(ratios: Sequence[float]) -> str:
    least = f" ({_number(min(ratios))})" if len(ratios) > 1 else ""
    return _number(geometric_mean(ratios)) + least if ratios else "-"


def _noise(results: Iterable[Numbers]) -> Iterator[str]:
    """What two times of one call differ by: of a method by its name, and of auto, which chose it."""
    if same := [found.ratio for one in results for found in ratios_of([one]) if found.beside == one.get("chosen")]:
        least, most, mean = map(_number, (min(same), max(same), geometric_mean(same)))
        yield f"\nIdentical calls differed by factors from {least} to {most}; their geometric mean is {mean}."


def judged(one: Numbers) -> tuple[str, float]:
    """The fastest method by hand, and what the chosen one loses against it."""
    seconds = {side: found["median"] for side, found in one["timings"].items() if side != XCONV and "median" in found}
    best = min(seconds, key=seconds.__getitem__)
    return best.removeprefix(BY_HAND), seconds[BY_HAND + one["chosen"]] / seconds[best] - 1


def _choice(results: Sequence[Numbers]) -> Iterator[str]:
    timed = [one for one in results if "median" in one["timings"].get(BY_HAND + one["chosen"], {})]
    found, rows = [(one, *judged(one)) for one in timed], []
    for operation in dict.fromkeys([*(one["operation"] for one in timed), "all"] * bool(timed)):
        losses = [loss for one, _, loss in found if operation in (one["operation"], "all")]
        numbers = geometric_mean(1 + loss for loss in losses) - 1, np.percentile(losses, 90), max(losses)
        rows.append((operation, str(len(losses)), *(f"{number:.1%}" for number in numbers)))
    yield "What auto loses against the best method by hand, on layers drawn at random.\n"
    yield table(("of", "choices", "geometric mean", "90th percentile", "worst"), rows, words=1)
    if lost := sorted([choice for choice in found if choice[-1] > SHOWN], key=lambda choice: -choice[-1]):
        yield f"\nWhere it loses more than {SHOWN:.0%}:\n"
    for one, best, loss in lost:
        yield f"* {loss:.0%}: {one['name']}, {one['operation']}: {one['chosen']}, not {best}"
    yield from _noise(results)


def _rates(results: Sequence[Numbers]) -> Iterator[str]:
    yield "Nanoseconds of plain things, beyond the call itself, and beyond its multiplications.\n"
    yield table(("rate", "ns", "of"), [(one["name"], f"{one['value']:.3g}", one["words"]) for one in results], 3)


def _number(value: float) -> str:
    """In three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"
