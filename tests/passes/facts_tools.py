"""The checkers that stand beside the fact sheets, as modules; a test that needs them is skipped where they are not."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).resolve().parents[2].parent / "shared" / "facts"))


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
