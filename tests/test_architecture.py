"""Data goes one way: what each part may import, told from the sources (all imports, those inside functions too)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

FOLDERS = ("compiler", "passes", "runtime")
ERRORS = "compiler.diagnostics"

MAY_IMPORT: dict[str, set[str]] = {
    # tables and formats: nothing above them
    "compiler.target": set(),
    "compiler.diagnostics": set(),
    "compiler.plain_text": set(),
    "compiler.interrupts": set(),
    "compiler.uncollected": set(),
    "compiler.argument_layout": set(),
    "compiler.git_lfs": {ERRORS},
    "compiler.emit": {"compiler.target", ERRORS},
    "compiler.formats": {"compiler.emit", "compiler.git_lfs", ERRORS},
    # tools over them: neither compilation nor runs
    "compiler.asm": {"compiler.target", "compiler.emit", "compiler.formats", "compiler.plain_text", ERRORS},
    "compiler.lint": {"compiler.target", "compiler.emit", "compiler.asm", "compiler.plain_text", ERRORS},
    "compiler.inspect": {
        "compiler.target", "compiler.emit", "compiler.formats", "compiler.asm", "compiler.files", "compiler.plain_text",
        ERRORS,
    },
    # sources
    "compiler.dialects": {"compiler.frontend", ERRORS},
    "compiler.frontend": {"compiler.argument_layout", "compiler.dialects", "compiler.interrupts", ERRORS},
    "compiler.interface": {"compiler.argument_layout", "compiler.frontend", ERRORS},
    # compilation
    "passes.machine": {"compiler.target", "compiler.asm", ERRORS},
    "passes.array": {"compiler.target", "compiler.emit", ERRORS},
    # what runs
    "runtime.reference": {ERRORS},
    "runtime.quantisation": set(),
    "runtime.arguments": {"compiler.argument_layout", "runtime.quantisation", ERRORS},
    "runtime.apart": {"compiler.interrupts"},
    "runtime.statistics": {"runtime.trace"},
    "runtime.trace": {"compiler.files"},
    "runtime.trace_names": set(),
    "runtime.doctor": {ERRORS, "compiler.files", "compiler.plain_text", "runtime.devices"},
    "runtime.frameworks": {
        ERRORS, "runtime.check", "runtime.choices", "runtime.dlpack", "runtime.executor", "runtime.notices",
        "runtime.on_demand", "runtime.statistics",
    },
    "runtime.emulator": {
        "compiler.target", "compiler.emit", "compiler.asm", "compiler.fingerprint", "compiler.store", ERRORS,
        "compiler.uncollected",
        "runtime.apart", "runtime.statistics", "runtime.trace", "runtime.trace_names",
    },
}  # fmt: skip
"""Part -> the parts that it may import besides itself, for those that know little."""

MUST_NOT_IMPORT: dict[str, set[str]] = {
    "passes": {"runtime", "compiler.commands", "compiler.cli", "compiler.driver", "compiler.lint", "compiler.inspect"},
    "runtime": {"compiler.commands", "compiler.cli", "compiler.lint", "compiler.inspect", "passes.machine"},
    "compiler": {"runtime", "passes"},
}
"""Folder -> what nothing in it may import, but for the edges."""

EDGES = {"compiler.cli", "compiler.commands", "compiler.driver", "compiler.golden"}
"""Where all parts come together: commands, and the pipeline as they run it."""


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the three folders, by its name below npuc."""
    for folder in FOLDERS:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


NAMES = {name for name, _ in modules()}


def part(module: str) -> str:
    """`compiler.asm` of `compiler.asm.codec`."""
    return ".".join(module.split(".")[:2])


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module below npuc) of the imports in a file; of what is no module, the package it comes from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            inner = name.removeprefix("npuc.")
            if inner != name:
                yield node.lineno, inner if inner in NAMES else inner.rpartition(".")[0]


def arrows() -> Iterator[tuple[str, str, str]]:
    """(part, part that it imports, where)."""
    for module, path in modules():
        for line, imported in imports(path):
            if imported and part(imported) != part(module):
                yield part(module), part(imported), f"{path.relative_to(REPOSITORY)}:{line}"


def within(name: str, parts: set[str]) -> bool:
    return name in parts or name.partition(".")[0] in parts


ARROWS = list(arrows())


def test_there_are_imports_to_look_at() -> None:
    assert len(NAMES) > 200 and len(ARROWS) > 300
    assert {one for one, _, _ in ARROWS} >= {"compiler.asm", "passes.machine", "runtime.emulator"}


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_part_imports_only_what_lies_below_it(name: str) -> None:
    wrong = [f"{where}: {other}" for one, other, where in ARROWS if one == name and other not in MAY_IMPORT[name]]
    assert not wrong
    assert any(module == name or module.startswith(f"{name}.") for module in NAMES), "no such part: its rule is stale"


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_no_arrow_points_up(folder: str) -> None:
    wrong = [
        f"{where}: {one} imports {other}"
        for one, other, where in ARROWS
        if one.partition(".")[0] == folder and one not in EDGES and within(other, MUST_NOT_IMPORT[folder])
    ]
    assert not wrong


def test_tables_of_the_hardware_import_nothing_of_npuc() -> None:
    for module, path in modules():
        if module.startswith("compiler.target"):
            assert all(part(imported) == "compiler.target" for _, imported in imports(path)), path


def test_the_edges_are_imported_by_edges_alone() -> None:
    """But for the driver, by which the Python interface compiles."""
    inner = EDGES - {"compiler.driver"}
    assert not [where for one, other, where in ARROWS if other in inner and one not in EDGES]


def test_the_map_names_every_part_and_nothing_that_is_not_there() -> None:
    text = (REPOSITORY / "DESIGN.md").read_text()
    named = set(re.findall(r"`((?:compiler|passes|runtime|tests)/[\w/.-]+)`", text))
    assert len(named) > 15
    missing = [path for path in named if not (REPOSITORY / path).exists()]
    assert not missing
    for link in re.findall(r"`([\w/]+README\.md)`", text):
        assert any((REPOSITORY / folder / link).exists() for folder in ("compiler", "runtime", "passes", ".")), link
    packages = {
        f"{folder}/{entry.name}"
        for folder in FOLDERS
        for entry in (REPOSITORY / folder).iterdir()
        if entry.is_dir() and any(entry.glob("*.py"))
    }
    # Written as `compiler/asm`, or beside its neighbour: `compiler/frontend`, `dialects`.
    assert not [path for path in packages if f"`{path}`" not in text and not re.search(rf"`{Path(path).name}/?`", text)]


# Each in a copy of a process that has read the large libraries, one behind the other.
IMPORT_EACH = """
import os, sys
import click, llvmlite.binding, numpy
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            os._exit(error.name.startswith("npuc"))
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name, "cannot be imported first", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_any_module_may_be_imported_first() -> None:
    modules = []
    for path in sorted(path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        modules.append(".".join(("npuc", *(parts[:-1] if parts[-1] == "__init__" else parts))))
    run = subprocess.run([sys.executable, "-c", IMPORT_EACH, *modules], capture_output=True, text=True, check=False)
    assert len(modules) > 500 and run.returncode == 0, run.stderr
    assert not run.stdout, run.stdout
