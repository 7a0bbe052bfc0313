"""npuc bench: its cases, and the report of one."""

from __future__ import annotations

import json

import pytest

from npuc.compiler import cli
from npuc.compiler.bench_cases import CASES, _case
from npuc.compiler.commands import bench as command
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.supported import check_supported
from npuc.passes.options import Options
from npuc.runtime.emulator.timing import MACHINES


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", *words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_cases_have_names_of_their_own_and_kernels_compute_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        check_supported(case.attention)
    code, out, _ = bench(capsys, "--list")
    assert code == 0 and len(out.splitlines()) == len(CASES)
    assert bench(capsys, "no-such-case")[0] == 2


def test_a_case_that_kernels_do_not_compute_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = _case("wide", "D 264", query_length=8, head_dim=264)
    monkeypatch.setattr(command, "CASES", (case,))
    code, out, _ = bench(capsys, "wide")
    assert (
        code == 0 and out == "wide                     not computed: function @attention: head size 264 is above 256\n"
    )
    (result,) = json.loads(bench(capsys, "wide", "--json")[1])["cases"]
    assert result == {"name": "wide", "unsupported": "function @attention: head size 264 is above 256"}


def test_a_case_is_reported_with_prediction_and_what_binds(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bench(capsys, "example", "--json")
    (result,) = json.loads(out)["cases"]
    assert code == 0 and result["binds"] in ("compute", "streams", "ddr", "dispatch")
    assert 0.8 <= result["predicted"] / result["cycles"] <= 1.2
    assert result["plain"] > result["cycles"] and 0 < result["utilization"] < 1


SHORT = ("example", "s256-d128", "decode-kv16", "decode-h8-kv4")
TERMS = ("compute", "streams", "ddr", "dispatch")
BINDS = {"phoenix": "compute", "8945hs": "compute", "8700g": "ddr"}  # s256-d128, where all are close


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_predicted_is_of_the_machine_named(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = bench(capsys, *SHORT, "--machine", machine, "--json")
    report = json.loads(out)
    assert code == 0 and report["machine"] == machine
    planned = {case.name: make_plan(case.attention, Options()).estimate for case in CASES if case.name in SHORT}
    slower = MACHINES["phoenix"].ddr_read_bytes / MACHINES[machine].ddr_read_bytes
    for result in report["cases"]:
        there = planned[result["name"]]
        assert abs(result["predicted"] / result["cycles"] - 1) < 0.1, result
        assert (result["predicted"] == there.total) == (machine == "phoenix")
        assert result["ddr"] == pytest.approx(slower * there.ddr, abs=1)
        assert [result[term] for term in TERMS if term != "ddr"] == [there.compute, there.streams, there.dispatch]
    assert {result["name"]: result["binds"] for result in report["cases"]} == {
        "example": "compute", "s256-d128": BINDS[machine], "decode-kv16": "ddr", "decode-h8-kv4": "ddr"
    }  # fmt: skip
