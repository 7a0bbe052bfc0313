"""Every hardware golden must come out of the interpreter bit for bit."""

from __future__ import annotations

from pathlib import Path

import golden_runner
import pytest

FILES = golden_runner.golden_files()


@pytest.mark.goldens
@pytest.mark.parametrize("file", FILES or [None], ids=[file.stem for file in FILES] or ["absent"])
def test_interpreter_reproduces_every_golden_it_covers(file: Path | None, capsys: pytest.CaptureFixture[str]) -> None:
    if file is None:
        pytest.skip(f"no golden files in {golden_runner.FACTS} (NPUC_FACTS, NPUC_GOLDENS)")
    outcome = golden_runner.run_file(file)
    if not outcome.total:
        pytest.skip(f"{file.name} holds no goldens")
    with capsys.disabled():
        print(f"\n{file.name}: interpreter {outcome.passed} of {outcome.total}")
        for reason, count in sorted(outcome.not_covered.items()):
            print(f"    {count} not covered: {reason}")
    assert not outcome.wrong, "\n".join(outcome.wrong[:20])
