"""npuc bench: its cases, and the report of one."""

from __future__ import annotations

import json

import pytest

from npuc.compiler import cli
from npuc.compiler.bench_cases import CASES, _case
from npuc.compiler.commands import bench as command
from npuc.passes.attention.supported import check_supported


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
