"""Reports of the linter as text and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from npuc.compiler.asm.codec import DecodeError, decode_observed_bundle
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import format_instruction
from npuc.compiler.lint.findings import SEVERITIES, Finding
from npuc.compiler.lint.lint import Group, Report
from npuc.compiler.plain_text import printable


def bundle_text(program: CoreProgram, address: int) -> str | None:
    """The instructions of the bundle at an address, None when there is no bundle."""
    try:
        bundle = decode_observed_bundle(program.code, address - program.base, address)
    except DecodeError:
        return None
    return "; ".join(format_instruction(d.instruction, d.operands) for d in bundle.instructions) or "nop"


def place(program: CoreProgram, address: int) -> str:
    """An address, with the symbol in front of it where there is one."""
    before = [(at, name) for at, name in program.symbols if at <= address]
    if not before:
        return f"{address:#x}"
    at, name = before[-1]
    return f"{address:#x} <{name}{f'+{address - at:#x}' if address > at else ''}>"


def counts(reports: Sequence[Report]) -> str:
    """How many findings of each severity, in words."""
    parts = []
    for severity in SEVERITIES:
        number = sum(report.count(severity) for report in reports)
        if number or severity == "error":
            parts.append(f"{number} {severity}{'' if number == 1 else 's'}")
    return ", ".join(parts)


# ---- text


def text(groups: Sequence[Group]) -> str:
    """One paragraph a program, one a finding, and a last line with the sums."""
    lines: list[str] = []
    for report, programs in groups:
        lines += [*_heading(report, programs), ""]
        for finding in report.findings:
            lines += [*_finding(report.program, finding), ""]
    bundles = sum(report.bundles for report, _ in groups)
    reports = [report for report, _ in groups]
    number = sum(len(programs) for _, programs in groups)
    distinct = f" ({len(groups)} distinct)" if len(groups) < number else ""
    lines.append(f"{number} program{'' if number == 1 else 's'}{distinct}, {bundles} bundles: {counts(reports)}")
    return "\n".join(map(printable, lines)) + "\n"


def _heading(report: Report, programs: Sequence[CoreProgram]) -> list[str]:
    others = [program.title for program in programs[1:]]
    also = f", also {others[0]}" if len(others) == 1 else f", also in {len(others)} other places" if others else ""
    unreached = f", {report.unreached} on no known path" if report.unreached else ""
    loops = f", {report.loops} hardware loop{'' if report.loops == 1 else 's'}" if report.loops else ""
    return [f"{report.program.title}{also}: {report.bundles} bundles{unreached}{loops}: {counts([report])}"]


def _finding(program: CoreProgram, finding: Finding) -> Iterator[str]:
    yield f"{place(program, finding.address)}: {finding.severity}: {finding.message} [{finding.kind}]"
    shown = [finding.other, finding.address] if finding.other is not None else [finding.address]
    for address in dict.fromkeys(shown):
        code = bundle_text(program, address)
        if code is not None:
            yield f"  {address:6x}:  {code}"
    if len(finding.path) > 2 and _jumps(program, finding.path):
        yield f"  by way of {' '.join(f'{address:#x}' for address in finding.path)}"
    yield f"  remedy: {finding.remedy}"


def _jumps(program: CoreProgram, path: Sequence[int]) -> bool:
    """Whether a way is more than bundles one behind the other."""
    sizes = [decode_observed_bundle(program.code, address - program.base, address).size for address in path]
    return any(b != a + size for a, size, b in zip(path, sizes, path[1:], strict=False))


# ---- JSON


def describe(file: str, groups: Sequence[Group]) -> dict[str, Any]:
    """file, programs, bundles, errors, warnings, notes, and by distinct program: cores, section, base, bytes, bundles,
    unreached, loops, findings."""
    reports = [report for report, _ in groups]
    sums = {f"{severity}s": sum(report.count(severity) for report in reports) for severity in SEVERITIES}
    return {
        "file": file,
        **sums,
        "bundles": sum(report.bundles for report in reports),
        "programs": [_program(report, programs) for report, programs in groups],
    }


def _program(report: Report, programs: Sequence[CoreProgram]) -> dict[str, Any]:
    program = report.program
    cores = [{"column": p.column, "row": p.row, "pdi": p.pdi} for p in programs if p.core is not None]
    return {
        "title": program.title,
        "cores": cores,
        "section": program.section,
        "base": program.base,
        "bytes": len(program.code),
        "bundles": report.bundles,
        "unreached": report.unreached,
        "loops": report.loops,
        "findings": [_finding_json(program, finding) for finding in report.findings],
    }


def _finding_json(program: CoreProgram, finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "address": finding.address,
        "bundle": bundle_text(program, finding.address),
        "other": finding.other,
        "other_bundle": None if finding.other is None else bundle_text(program, finding.other),
        "path": list(finding.path),
        "message": finding.message,
        "remedy": finding.remedy,
    }
