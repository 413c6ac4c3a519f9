"""The file that a command writes its numbers to, if it is given one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xconv.demo.files import make_writable, writing_to


def prepare(out: Path | None) -> None:
    """Find out whether the file can be written before the work."""
    if out is not None:
        make_writable(out.parent)


def write_numbers(numbers: dict[str, Any], out: Path | None) -> None:
    """As JSON."""
    if out is not None:
        with writing_to(out):
            out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
