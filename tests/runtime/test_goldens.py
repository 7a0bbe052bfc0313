"""Every hardware golden must come out of interpreter and translator bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import golden_runner
import pytest

FILES = golden_runner.golden_files()
NAMES = {"interpreter": "interpreter", "native": "translator"}


@pytest.mark.goldens
@pytest.mark.parametrize("engine", ["interpreter", "native"])
@pytest.mark.parametrize("file", FILES or [None], ids=[file.stem for file in FILES] or ["absent"])
def test_every_golden_that_is_covered_is_reproduced(
    file: Path | None, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if file is None:
        pytest.skip(f"no golden files in {golden_runner.FACTS} (NPUC_FACTS, NPUC_GOLDENS)")
    assert file.exists(), f"NPUC_GOLDENS names {file}, which does not exist"
    try:
        machine = golden_runner.Machine(engine)
        outcome = golden_runner.run_file(file, machine)
    except golden_runner.NotCovered as error:
        pytest.skip(f"{file.name} holds no goldens: {error}")
    with capsys.disabled():
        print(
            f"\n{file.name}: {NAMES[engine]} {outcome.passed} of {outcome.total}, {len(outcome.wrong)} wrong, "
            f"{outcome.missing} not covered"
        )
        for reason, count in sorted(outcome.not_covered.items()):
            print(f"    {count} not covered: {reason}")
    assert not outcome.wrong, "\n".join(outcome.wrong[:20])
    if engine == "native":
        refused = {reason for core in machine.cores.values() for reason in core.refused}
        assert refused <= {"it asks the core to finish"}, "the interpreter had a part in it"


# The runner itself: forms that goldens may take beyond those of the fact sheets' folder.


def _golden_file(folder: Path, *cases: dict[str, Any]) -> Path:
    file = folder / "made.json"
    file.write_text(json.dumps({"schema": "aie2-golden-v1", "cases": list(cases)}))
    return file


def test_cases_by_operands_may_name_any_register_immediate_and_memory(tmp_path: Path) -> None:
    vector = bytes(range(32)).hex()
    outcome = golden_runner.run_file(
        _golden_file(
            tmp_path,
            {
                "id": 0,
                "op": "mov",
                "operands": ["dj5", "r30"],
                "in": {"r30": "78563412"},
                "out": [{"reg": "dj5", "view": "full", "hex": "78560400"}],
            },
            {
                "id": 1,
                "op": "add.nc",
                "operands": ["r1", "r2", "#-1"],
                "in": {"r2": "00000000"},
                "out": [{"reg": "r1", "view": "full", "hex": "ffffffff"}],
            },
            {
                "id": 2,
                "op": "vlda",
                "operands": ["wh11", "mem"],
                "in": {"mem": vector},
                "out": [{"reg": "wh11", "view": "full", "hex": vector}],
            },
            {
                "id": 3,
                "op": "vst",
                "operands": ["wl3", "mem"],
                "in": {"wl3": vector, "mem": "00" * 32},
                "out": [{"reg": "mem", "view": "full", "hex": vector}],
            },
            {
                "id": 4,
                "op": "mul",
                "operands": ["r1", "r2", "r3"],
                "in": {"r2": "03000000", "r3": "05000000"},
                "out": [{"reg": "r1", "view": "full", "hex": "10000000"}],
            },
        )
    )
    assert (outcome.passed, outcome.total, outcome.missing) == (4, 5, 0)
    assert len(outcome.wrong) == 1 and "the hardware has 10000000" in outcome.wrong[0]


def test_configured_cases_may_have_any_operation_of_the_configuration(tmp_path: Path) -> None:
    ones = [0x3F800000] * 16
    outcome = golden_runner.run_file(
        _golden_file(
            tmp_path,
            {
                "id": 0,
                "op": "vsub.f",
                "cfg": {"conf": 28},
                "in": {"acc1_fp32_bits": ones, "acc2_fp32_bits": ones},
                "out": {"acc_fp32_bits": [0] * 16},
            },
            {
                "id": 1,
                "op": "vmac",
                "cfg": {"conf": 0x300},
                "in": {"acc_i32": [5] * 32, "a": [1] * 64, "b": [-1] * 128},
                "out": {"acc_i32": [5 - 16] * 32},
            },
            {
                "id": 2,
                "op": "vfloor.s32.bf16",
                "cfg": {"shift": 1},
                "in": {"bf16_bits": [0x3FC0] * 16},
                "out": {"i32": [3] * 16},
            },
        )
    )
    assert (outcome.passed, outcome.wrong, outcome.not_covered) == (3, [], {})


def test_what_cannot_be_run_is_counted_and_named_not_stumbled_over(tmp_path: Path) -> None:
    outcome = golden_runner.run_file(
        _golden_file(
            tmp_path,
            {"id": 0, "op": "vmac", "operands": ["cm0", "cm1", "x0", "qx0", "r0"], "in": {}, "out": []},
            {"id": 1, "op": "frobnicate", "operands": ["r0"], "in": {}, "out": []},
            {"id": 2},
            {"id": 3, "op": "vmul", "cfg": {"conf": 0x18FF}, "in": {"a": [1], "b": [1]}, "out": {"i32": [1] * 32}},
        )
    )
    assert (outcome.passed, outcome.wrong, outcome.missing) == (0, [], 4)
    text = "\n".join(outcome.not_covered)
    assert "sparse" in text and "frobnicate" in text and "configuration word" in text and "form" in text
    for content in ("not json", "[1, 2]", '{"other": 1}'):
        file = tmp_path / "other.txt"
        file.write_text(content)
        with pytest.raises(golden_runner.NotCovered):
            golden_runner.run_file(file)
