"""Every code block of the pages does what the page says, and the pages build without a warning."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from document_blocks import Block, agrees, blocks, commands

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
KINDS = {"console", "python", "mlir", "asm", "sh", "text"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder such as pages stand in: the examples beside."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(block: Block, names: dict[str, object], npuc) -> None:
    if block.kind in ("mlir", "asm") and block.title:
        Path(block.title).write_text(block.text)
    elif block.kind == "python":
        if not block.requires or importlib.util.find_spec(block.requires) is not None:
            exec(compile(block.text, f"line {block.line}", "exec"), names)
    elif block.kind == "console":
        for command in commands(block):
            assert command.words[0] == "npuc", f"line {block.line}: only npuc is run"
            code, out, err = npuc(*command.words[1:])
            assert code == command.code, f"line {block.line}: {command.words}: exit {code}\n{out}{err}"
            printed = out if code in (0, 1) else err + out
            assert agrees(command.expected, printed), f"line {block.line}: {command.words} printed\n{printed}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY / "docs")) for page in PAGES])
def test_the_blocks_of_a_page_do_what_it_says(page, folder, npuc, capsys):
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        assert block.kind in KINDS, f"line {block.line}: {block.kind}"
        run(block, names, npuc)


@pytest.mark.parametrize(
    "expected, printed, agree",
    [
        ("a", "a\n", True),
        ("a", "a\nb\n", False),
        ("a ... c", "a b c", True),
        ("a ... c", "a b d", False),
        ("...\nc", "a\nb\nc", True),
        ("a\n...", "a\nb\nc", True),
        ("...\nc", "a\nb", False),
        ("a.c", "abc", False),
        ("", "anything", True),
    ],
)
def test_what_is_printed_is_compared_but_for_what_the_page_leaves_out(expected, printed, agree):
    assert agrees(expected, printed) is agree


def test_every_page_is_in_the_navigation():
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    for page in PAGES:
        assert re.search(rf"\b{re.escape(str(page.relative_to(REPOSITORY / 'docs')))}$", navigation, re.M), page


def hooks():
    spec = importlib.util.spec_from_file_location("hooks", REPOSITORY / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_in_the_pages_are_those_that_are_printed_now():
    """Those of what kernels take, formats and figures, for readers of the files themselves."""
    made = hooks()
    pages = [page for page in PAGES if "<!-- printed:" in page.read_text()]
    assert len(pages) >= 4
    for page in pages:
        assert made.with_tables(page.read_text()) == page.read_text(), f"{page}: python docs/hooks.py"
    assert made.with_tables("<!-- printed: support -->x<!-- end -->").count("softcap") >= 1


def test_the_figures_are_of_cases_that_bench_has():
    from npuc.compiler.bench_cases import CASES

    for machine, path in hooks().FIGURES.items():
        recorded = json.loads(path.read_text())
        assert recorded["emulated"] is True and recorded["machine"] == machine
        assert {case["name"] for case in recorded["cases"]} <= {case.name for case in CASES}


def test_figures_measured_anew_take_the_place_of_those_before():
    def figures(**cycles):
        return {"machine": "phoenix", "emulated": True, "cases": [{"name": n, "cycles": c} for n, c in cycles.items()]}

    made = hooks().merged(figures(**{"s256-d64": 5, "example": 1}), figures(**{"example": 2, "s1024-d80": 3}))
    assert made == figures(**{"example": 2, "s256-d64": 5, "s1024-d80": 3})
    with pytest.raises(ValueError, match="8700g"):
        hooks().merged(figures(), {**figures(), "machine": "8700g"})


def test_the_pages_build_without_a_warning(tmp_path):
    if any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocs_click", "mkdocstrings")):
        pytest.skip("mkdocs with its plugins is not installed (the extra `docs`)")
    words = ["build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "mkdocs", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "reference/commands/index", "reference/support/index"):
        assert (tmp_path / f"{page}.html").is_file()
    assert "matrix product 32x32x32" in (tmp_path / "emulator/index.html").read_text()
    assert "settles it" in (tmp_path / "emulator/index.html").read_text()
    assert "softcap" in (tmp_path / "reference/support/index.html").read_text()
    assert "--max-cycles" in (tmp_path / "reference/commands/index.html").read_text()
