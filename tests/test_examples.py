"""The examples that need npuc alone; those with PyTorch, transformers and JAX are run by the tests of these."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import REPOSITORY

FOLDER = REPOSITORY / "examples"
HERE = {"attention", "decode"}
WITH_FRAMEWORKS = {"exported_attention", "gemma3_generate", "jax_attention"}


def test_every_example_is_run_somewhere():
    assert {path.stem for path in FOLDER.glob("*.py")} == HERE | WITH_FRAMEWORKS
    tests = "\n".join(path.read_text() for path in (REPOSITORY / "tests" / "runtime").glob("test_*.py"))
    for name in WITH_FRAMEWORKS:
        assert f'"{name}.py"' in tests


@pytest.mark.parametrize("name", sorted(HERE))
def test_an_example_ends_well(name, capsys):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main() == 0
    assert "emulated" in capsys.readouterr().out
