"""What is installed: the three folders as one package, from any tree, and nothing left beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the build backend is not installed")

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("compiler", "passes", "runtime")


def tree_without_links(folder: Path) -> Path:
    """The source tree as a zip archive leaves it on a system without symbolic links."""

    def ignored(path: str, names: list[str]) -> list[str]:
        return [n for n in names if n.startswith((".git", "__pycache__", ".")) or os.path.islink(os.path.join(path, n))]

    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=ignored)
    for part in PARTS:
        (tree / "src" / "npuc" / part).write_text(f"../../{part}")
    return tree


def build(tree: Path, target: str, to: Path) -> Path:
    before = {path for path in tree.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(to)],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert {path for path in tree.iterdir()} == before, "a build leaves nothing in the tree"
    (made,) = to.iterdir()
    return made


def modules() -> set[str]:
    found = {f"npuc/{path.relative_to(ROOT)}" for part in PARTS for path in (ROOT / part).rglob("*.py")}
    return found | {f"npuc/{path.name}" for path in (ROOT / "src" / "npuc").glob("*.py*")}


def test_a_tree_without_links_and_its_sdist_build_the_same_complete_wheel(tmp_path: Path) -> None:
    tree = tree_without_links(tmp_path)
    wheel = build(tree, "wheel", tmp_path / "wheel")
    with tarfile.open(build(tree, "sdist", tmp_path / "sdist")) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # from 3.10.12 and 3.11.4 on
        archive.extractall(tmp_path / "unpacked", **safely)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    again = build(unpacked, "wheel", tmp_path / "again")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        names = set(first.namelist())
        assert modules() <= names == set(second.namelist())
        assert {name.split("/")[0] for name in names} == {"npuc", "npuc-0.1.0.dist-info"}
        assert all(first.read(name) == second.read(name) for name in names)
        first.extractall(tmp_path / "installed")
        about = first.read("npuc-0.1.0.dist-info/METADATA").decode()
        for extra in ("cluster", "docs", "jax", "test", "torch", "transformers"):
            assert f"Provides-Extra: {extra}\n" in about
        for data in ("npuc/py.typed", "npuc/runtime/report/style.css", "npuc-0.1.0.dist-info/licenses/LICENSE"):
            assert data in names
        assert not [name for name in names if name.endswith((".pyc", ".so", ".o")) or "test_" in name]
    if find_spec("twine") is not None:
        files = [str(wheel), *map(str, (tmp_path / "sdist").iterdir())]
        words = [sys.executable, "-m", "twine", "check", "--strict", *files]
        checked = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    example = str(ROOT / "examples" / "attention.mlir")
    done = subprocess.run(
        [sys.executable, "-m", "npuc.compiler.cli", "compile", example, "--emit", "attn", "-o-"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0 and "attn.sdpa" in done.stdout, done.stderr
