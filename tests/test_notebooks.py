"""The notebooks run from the first cell to the last."""

from __future__ import annotations

import importlib.util
import os

import pytest
from conftest import REPOSITORY

NEEDS = {"first_kernel": (), "where_cycles_go": (), "attention_in_a_model": ("torch", "transformers")}
"""Notebooks, with the modules that each needs beside npuc's own."""
FOLDER = REPOSITORY / "examples" / "notebooks"


def test_every_notebook_is_listed():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(NEEDS)


@pytest.mark.parametrize("name", NEEDS)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for module in ("ipykernel", *NEEDS[name]):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module}")
    # The cells' process finds this tree's npuc, as this process does.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (str(REPOSITORY / "src"), os.environ.get("PYTHONPATH"))))
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells), (
        "kept without outputs"
    )
    nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code) and sum(bool(cell.outputs) for cell in code) >= 4
