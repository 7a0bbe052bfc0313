"""The report of a climb: what passed, what failed, and what it says of the emulator's assumptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npuc import __version__
from npuc.runtime.proof.ladder import LADDER, Climbed
from npuc.runtime.proof.machines import Machine


def report(machine: Machine, climbed: Sequence[Climbed], diagnosis: dict[str, Any] | None) -> dict[str, Any]:
    """As JSON, also of a climb that has not ended: then it has not passed, and nothing has failed.

    diagnosis: what npuc doctor says of the machine, None where none was made.
    """
    last = climbed[-1]
    wrong = None if last.passed else {"rung": last.name, "sentence": last.wrong, "remedy": last.remedy}
    device = next((one.findings.details for one in climbed if one.name == LADDER[0].name), {})
    return {
        "npuc": __version__,
        "way": machine.name,
        "emulated": machine.emulated,
        "passed": last.passed and len(climbed) == len(LADDER),
        "failed": wrong,
        "device": device,
        "rungs": [one.as_json() for one in climbed],
        "not_tried": [rung.name for rung in LADDER[len(climbed) :]],
        "assumptions": [{"rung": one.name, **settled} for one in climbed for settled in one.findings.settled],
        "diagnosis": diagnosis,
    }


def line(tried: Climbed) -> str:
    """A rung as text."""
    if tried.passed:
        words = tried.findings.words_compared
        alike = f", {words:,} words alike" if words else ""
        return f"ok      {tried.name} ({tried.seconds:.1f} s{alike})"
    return f"FAILED  {tried.name}"


def summary(told: dict[str, Any]) -> list[str]:
    """What a climb comes to."""
    where = "the emulator (emulated: this says nothing of an NPU)" if told["emulated"] else f"the NPU, by {told['way']}"
    other = [one["assumption"] for one in told["assumptions"] if not one["holds"]]
    lines = [f"the emulator assumes otherwise: {text}" for text in other]
    if told["passed"]:
        return [*lines, f"all {len(told['rungs'])} rungs hold on {where}"]
    failed = told["failed"]
    if failed is None:
        return [*lines, f"{len(told['rungs'])} rungs hold on {where}, {len(told['not_tried'])} were not tried"]
    return [
        *lines,
        f"{failed['sentence']}",
        f"        {failed['remedy']}",
        f"stopped at rung {failed['rung']!r} on {where}",
    ]
