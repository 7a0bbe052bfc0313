"""Linting a program: all rules over one control-flow graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.emit.buffers import DescriptorBuffer
from npuc.compiler.lint.addresses import misplaced
from npuc.compiler.lint.build import build
from npuc.compiler.lint.defined import find_undefined_reads
from npuc.compiler.lint.findings import Finding, Findings, in_order
from npuc.compiler.lint.flow import Code, Flow
from npuc.compiler.lint.hazards import find_hazards
from npuc.compiler.lint.loops import check_loops
from npuc.compiler.lint.stack import Stack, find_stacks, overlaps
from npuc.compiler.target.aie2.instructions import OBSERVED
from npuc.compiler.target.npu1 import geometry


@dataclass(frozen=True)
class Report:
    """What was found in one program: `findings` by severity and address.  bundles: how many were looked at, `unreached`
    of them on no path from a known entry.  loops: hardware loops.  stacks: how far they may grow."""

    program: CoreProgram
    findings: tuple[Finding, ...]
    bundles: int
    unreached: int
    loops: int
    stacks: tuple[Stack, ...] = ()

    @cached_property
    def errors(self) -> int:
        return self.count("error")

    def count(self, severity: str) -> int:
        """How many findings of a severity there are."""
        return sum(finding.severity == severity for finding in self.findings)


Group = tuple[Report, tuple[CoreProgram, ...]]
"""A report, and all programs that it holds for."""


def lint_programs(programs: Iterable[CoreProgram], notes: bool = False, called: bool = False) -> list[Group]:
    """A report for every distinct program, in their order; equal code is looked at once.  Cores whose buffers lie
    differently where that matters are told apart."""
    reports: dict[object, Report] = {}
    groups: dict[object, tuple[Report, list[CoreProgram]]] = {}
    for program in programs:
        code = program.base, program.code, program.entry, program.section, program.symbols
        if code not in reports:
            reports[code] = _lint_code(program, notes, called)
        report = _with_buffers(reports[code], program)
        groups.setdefault((code, report.findings), (report, []))[1].append(program)
    return [(report, tuple(same)) for report, same in groups.values()]


def lint_program(program: CoreProgram, notes: bool = False, called: bool = False) -> Report:
    """All findings in a program.  notes: look for timing that code may mean as it is, such as reads of old values.
    called: other code calls it, so nothing is known of the registers on entry."""
    return _with_buffers(_lint_code(program, notes, called), program)


def _with_buffers(report: Report, program: CoreProgram) -> Report:
    """The report on a program's code, with what its descriptors add."""
    found = overlaps(report.stacks, program.buffers)
    known = (_beside_buffers(finding, program.buffers) for finding in report.findings)
    return replace(report, program=program, findings=in_order((*known, *found)))


def _beside_buffers(finding: Finding, buffers: tuple[DescriptorBuffer, ...]) -> Finding:
    """Of a lock and an access to the core's own memory where no descriptor has a buffer, a warning: vendor code keeps
    no distance from what no lock guards."""
    own = range(geometry.CORE_VIEW_OWN, geometry.CORE_VIEW_OWN + geometry.CORE_MEMORY_SIZE)
    apart = all(
        start in own and not any(b.start < end and start < b.end for b in buffers) for start, end in finding.accessed
    )
    if finding.severity != "error" or not (finding.accessed and buffers and apart):
        return finding
    text = f"{finding.message}; {finding.accessed[0][0]:#x} is in no descriptor's buffer"
    return replace(finding, severity="warning", message=text)


def _lint_code(program: CoreProgram, notes: bool, called: bool) -> Report:
    code = code_of(program, called)
    findings = Findings()
    flow = build(code, findings)
    check_loops(flow, findings)
    find_hazards(flow, findings, notes)
    find_undefined_reads(flow, findings)
    misplaced(flow, findings)
    _check_encodings(flow, findings)
    ordered = _judged(flow, findings).ordered()
    shown = ordered if notes else tuple(finding for finding in ordered if finding.severity != "note")
    addresses = {node.address for node in flow.nodes}
    loops = sum(edge.kind == "loop" for edges in flow.predecessors for edge in edges)
    return Report(program, shown, len(addresses), len(flow.unreached), loops, find_stacks(flow))


def code_of(program: CoreProgram, called: bool = False) -> Code:
    """Where a program can be entered: a core begins at its entry with registers that nothing has written; what no path
    from there reaches, and all of an object, is called by code that is not there.  Bundles have even sizes: a symbol at
    an odd address names the end of a function (vendor objects have such), where nothing begins."""
    functions = tuple(address for address, _ in program.symbols if address % 2 == 0)
    unlinked = frozenset(at for r in program.relocations for at in range(r.offset, r.offset + 4))
    whole = program.section is None and not called
    entries = functions if whole else (*functions, program.entry or program.base)
    return Code(program.base, program.code, program.entry if whole else None, entries, unlinked)


def _check_encodings(flow: Flow, findings: Findings) -> None:
    """Words that decode but that no assembler writes, and instructions that only vendor code has shown."""
    for node in flow.nodes:
        for step in node.effects.steps:
            if step.decoded.instruction.name in OBSERVED:
                text = f"{step.decoded.instruction.syntax.partition(',')[0]} is in no public table; vendor code has it"
                findings.add("unpublished", node.address, text)
            if not step.decoded.canonical:
                text = f"{step.decoded.instruction.mnemonic} has an encoding that assemblers do not write"
                findings.add("spare-encoding", node.address, text)


def _judged(flow: Flow, findings: Findings) -> Findings:
    """The findings, as notes where the bytes are probably no code."""
    judged = Findings()
    for f in findings.found.values():
        doubtful = f.address in flow.doubtful
        text = f"{f.message} (no known path leads here: probably data)" if doubtful else f.message
        judged.add(f.kind, f.address, text, f.other, f.path, "note" if doubtful else f.severity, f.accessed)
    return judged
