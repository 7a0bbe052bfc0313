"""The shared cases of MLIR: attention is recognised and passes the check, all else is refused where it differs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load_file

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("NPUC_FACTS", ROOT.parent / "shared" / "facts")).parent / "cases" / "mlir"

# name: heads, query length, key length, scale
ACCEPTED = {
    "adds_a_zero_tensor": (4, 256, 256, 0.125),
    "divides_after_pv": (4, 128, 128, 0.125),
    "max_starts_from_inf_control": (4, 128, 128, 0.125),
    "max_starts_from_lowest_float": (4, 128, 128, 0.125),
    "two_dimensional_single_head": (1, 128, 256, 1.0),
}
# name: the line and what is wrong there
REFUSED = {
    "crossed_accumulators": (26, "its result 0 is made from the running value of another result"),
    "partial_write_row_test": (108, "it writes only a part of its result"),
    "partial_write_zeros": (28, "it writes only a part of its result"),
}
RIGHT = {"sitofp_true": -1.0}  # name: scale


def case(folder: str, name: str) -> Path:
    path = CASES / folder / f"{name}.mlir"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}")
    return path


@pytest.mark.parametrize("name", ACCEPTED)
def test_attention_as_compilers_and_people_write_it_is_recognised(name: str, npuc: Any) -> None:
    path = case("accept", name)
    (found,) = load_file(path)
    assert (found.heads, found.query_length, found.key_length, found.scale) == ACCEPTED[name]
    code, _, err = npuc("run", str(path), "--backend", "reference", "--check")
    assert code == 0, err


@pytest.mark.parametrize("name", REFUSED)
def test_what_means_something_else_is_refused_at_the_operation_that_differs(name: str) -> None:
    line, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason) as caught:
        load_file(case("right_or_refused", name))
    assert caught.value.place is not None and caught.value.place.line == line


@pytest.mark.parametrize("name", RIGHT)
def test_or_it_is_recognised_as_what_it_means(name: str, npuc: Any) -> None:
    path = case("right_or_refused", name)
    (found,) = load_file(path)
    assert found.scale == RIGHT[name]
    code, _, err = npuc("run", str(path), "--backend", "reference", "--check")
    assert code == 0, err


@pytest.mark.parametrize("folder, known", [("accept", ACCEPTED), ("right_or_refused", {**REFUSED, **RIGHT})])
def test_no_case_is_left_out(folder: str, known: dict[str, Any]) -> None:
    if not CASES.is_dir():
        pytest.skip(f"no {CASES}")
    assert {path.stem for path in (CASES / folder).glob("*.mlir")} <= set(known)
