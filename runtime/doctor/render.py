"""A diagnosis as text."""

from __future__ import annotations

from collections.abc import Iterator

from npuc.compiler.plain_text import one_line
from npuc.runtime.doctor.diagnose import Diagnosis

MARKS = {"ok": "ok     ", "warning": "warning", "blocking": "missing"}


def rendered(diagnosis: Diagnosis) -> str:
    return "\n".join(_lines(diagnosis))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for finding in diagnosis.findings:
        yield f"{MARKS[finding.severity]} {finding.name}: {one_line(finding.finding)}"
        if not finding.ok:
            yield from (f"        | {one_line(text)}" for text in finding.evidence)
        if finding.remedy:
            yield f"        {one_line(finding.remedy)}"
    ways = [name for name, works in diagnosis.ways.items() if works]
    if ways:
        yield f"kernels run on the NPU (by {' and '.join(ways)})"
    else:
        yield "kernels run emulated"
