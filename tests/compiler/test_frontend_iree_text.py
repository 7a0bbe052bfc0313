"""IREE's own form of its attention: read by its compiler where that is installed, else refused by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from test_frontend_iree_attention import attention

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import iree_text, load

OWN = """// iree_linalg_ext.attention is what this is about
func.func @main(%q: tensor<2x5x4xf32>) -> tensor<2x5x4xf32> {
  %0 = iree_linalg_ext.attention {lowering = {a = 1}, indexing_maps = [#map, #map1]} ins(%q : tensor<2x5x4xf32>)
  return %0 : tensor<2x5x4xf32>
}
"""
GENERIC = attention().replace(") -> tensor<2x5x4xf32>\n  return", ') -> tensor<2x5x4xf32> loc("<stdin>":3:8)\n  return')
# Reads and writes as iree-opt of LLVM 24 does: indexing maps are properties.
TOOL = f"""#!{sys.executable}
import sys
text = sys.stdin.read()
assert "--mlir-print-op-generic" in sys.argv
if "attention <{{indexing_maps = [#map, #map1]}}> {{lowering = {{a = 1}}}} ins(" not in text:
    sys.exit("<stdin>:3:8: error: properties dictionary is missing required attribute: indexing_maps")
print({GENERIC!r})
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "iree-opt"
    path.write_text(TOOL)
    path.chmod(0o755)
    monkeypatch.setattr(iree_text, "_iree_opt", lambda: os.fspath(path))
    return path


def test_it_is_refused_by_name_where_no_tool_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree_text, "_iree_opt", lambda: None)
    with pytest.raises(InputError) as raised:
        load(OWN, "own.mlir")
    error = raised.value
    assert error.message == "iree_linalg_ext.attention is in IREE's own form"
    assert str(error.place) == "own.mlir:3:8" and "iree-base-compiler" in str(error.remedy)


def test_the_generic_form_needs_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree_text, "_run", None)
    assert load(attention(), "generic.mlir")[0].scale == pytest.approx(0.3, rel=1e-7)


def test_it_is_read_by_the_tool_at_its_places(tool: Path) -> None:
    (found,) = load(OWN, 'a "file".mlir')
    assert (found.query_length, found.key_length) == (5, 7)
    assert str(found.place) == 'a "file".mlir:3:8'


def test_what_the_tool_does_not_read_is_said(tool: Path) -> None:
    with pytest.raises(InputError, match="own.mlir:3:8: iree-opt: properties dictionary is missing"):
        load(OWN.replace("#map1", "#map2"), "own.mlir")


def test_functions_of_iree_are_functions() -> None:
    text = '"util.func"() <{sym_name = "f", tied_operands = [-1 : index]}> ({ "util.return"() : () -> () })'
    for pattern, name in iree_text.FUNCTIONS:
        text = pattern.sub(name, text)
    assert text == '"func.func"() <{sym_name = "f"}> ({ "func.return"() : () -> () })'
