"""``python -m benchmarks gpu`` without one: each command says why, all is kept, and time ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.__main__ import RUNS, main, parser_of
from benchmarks.layers import SUITES

ROOT = Path(gpu.__file__).parents[1]


@pytest.fixture(autouse=True)
def no_handler(monkeypatch):
    monkeypatch.setattr(gpu.signal, "signal", lambda *arguments: None)


def outcomes(tmp_path, monkeypatch, *options, **commands):
    monkeypatch.setattr(gpu, "COMMANDS", {name: (60.0, command) for name, command in commands.items()})
    status = main(["gpu", "--quick", "--out", str(tmp_path), *options])
    return status, json.loads((tmp_path / "outcomes.json").read_text())


def test_commands_are_ones_that_parsers_take():
    for name, (limit, command) in gpu.COMMANDS.items():
        words = gpu.words_of(command, Path("out"))
        assert 0 < limit < gpu.SECONDS, name
        if "benchmarks" in words:
            given = parser_of("benchmarks").parse_args(words[words.index("benchmarks") + 1 :])
            assert set(given.suites) <= {*RUNS, *SUITES}
        for file in (word for word in words if word.startswith("tests/")):
            assert (ROOT / file).exists()


def test_a_part_without_its_library_says_why_and_the_next_is_done(tmp_path, monkeypatch, capfd):
    one = "{times} --backend cupy --suite latency"
    status, found = outcomes(tmp_path, monkeypatch, one=one, none="no-such-command", last="{python} -c pass")
    assert status == 0
    assert found["one"] == "status 2"
    assert found["none"].startswith("not found: ")
    assert found["last"] == "status 0"
    captured = capfd.readouterr()
    assert "cupy is not installed" in captured.err or "finds no CUDA device" in captured.err
    assert "== one: status 2" in captured.out


def test_numbers_are_in_a_folder_of_each_command(tmp_path, monkeypatch):
    command = gpu.COMMANDS["NumPy on 1 core"][1].replace("volume", "latency")
    _, found = outcomes(tmp_path, monkeypatch, one=command)
    assert found == {"one": "status 0"}
    (path,) = (tmp_path / "one").glob("*-1-*numpy.json")
    run = json.loads(path.read_text())["layers"]
    assert run["quick"]
    assert run["machine"]["processor"].endswith(", 1 core")


def test_time_ends(tmp_path, monkeypatch):
    sleep = "{python} -c 'import time; time.sleep(60)'"
    _, found = outcomes(tmp_path, monkeypatch, "--seconds", "1", long=sleep, next=sleep)
    assert found == {"long": "stopped after 1 s", "next": "skipped: no time is left"}


STOPPED = """
import sys
from benchmarks import gpu
gpu.COMMANDS = {"first": (9, "{python} -c pass"), "second": (60, "{python} -c 'input()'")}
from benchmarks.__main__ import main
sys.exit(main(["gpu", "--quick", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize(("number", "status"), [("SIGTERM", 130), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_signal_leaves_what_was_found(tmp_path, number, status):
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert any(line == "== second\n" for line in process.stdout)
        process.send_signal(getattr(signal, number))
        process.communicate(timeout=30)
    assert process.returncode == status
    assert json.loads((tmp_path / "outcomes.json").read_text()) == {"first": "status 0"}
