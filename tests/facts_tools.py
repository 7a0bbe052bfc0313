"""The checkers that stand beside the fact sheets, as modules; a test that needs them is skipped where they are not."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).resolve().parents[2] / "shared" / "facts"))


def tool(name: str) -> ModuleType:
    """Module `name` of the tools beside the facts."""
    folder = FACTS.parent / "tools"
    if not (folder / f"{name}.py").exists():
        pytest.skip(f"{name}.py is not beside the fact sheets (NPUC_FACTS)")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def schedule_findings(programs: list[tuple[str, bytes]]) -> tuple[int, list[Any]]:
    """What the schedule checker says of programs at address 0: hardware loops, errors."""
    model = tool("check_schedule_facts").Model(str(FACTS / "schedule"))
    isa = tool("check_isa_facts").Isa(str(FACTS / "isa"))
    images = [(name, 0, code) for name, code in programs]
    _, loops, errors, _ = tool("schedule_code").check(model, isa, images)
    return loops, errors


def xclbin_report(path: Path, *words: str) -> dict[str, Any]:
    """What check_xclbin.py reports of a file: violations, warnings, checks, info; words: further options."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        tool("check_xclbin").main(["--json", *words, str(path)])
    report: dict[str, Any] = json.loads(out.getvalue())[0]
    return report
