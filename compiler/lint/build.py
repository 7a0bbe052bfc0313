"""The control-flow graph of a program: known entries first, then what they do not reach."""

from __future__ import annotations

from npuc.compiler.lint.builder import Builder
from npuc.compiler.lint.constants import jump_targets, loop_ends
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import LINE, Code, Flow

_STRUCTURAL = ("undecodable", "runs-off-end", "target-outside", "target-misaligned")
"""Findings that say that bytes which nothing is known to reach are no code."""


def build(code: Code, findings: Findings) -> Flow:
    """The graph of everything that is, or may be, executed; findings about branches and targets are added."""
    builder = Builder(code, findings)
    if code.reset is not None:
        builder.enter(code.reset, reset=True)
        _settle(builder)
    for address in code.entries:
        if not builder.at(address) and builder.enter(address):
            _settle(builder)
    reached = len(builder.flow.nodes)
    _fill_gaps(builder, findings)
    builder.flow.unreached = {node.address for node in builder.flow.nodes[reached:]}
    builder.flow.unreached -= {node.address for node in builder.flow.nodes[:reached]}
    _inside_bundles(builder, findings)
    flow = builder.finish()
    flow.record_history()
    return flow


def _settle(builder: Builder) -> None:
    """Follow everything, finding hardware loops and resolving jumps until nothing new comes up."""
    builder.grow()
    while _loops(builder) or _resolved(builder) or _given_up(builder):
        pass


def _loops(builder: Builder) -> bool:
    code, changed = builder.code, False
    for number, start in sorted(loop_ends(builder)):
        if code.base <= start < code.end and builder.at(start):
            changed |= builder.lead_also(number, start, "loop")
    return changed


def _resolved(builder: Builder) -> bool:
    changed = False
    for number, register in list(builder.indirect.items()):
        for address in sorted(jump_targets(builder, number, register) or ()):
            changed |= builder.lead_also(number, address, "jump")
    return changed


def _given_up(builder: Builder) -> bool:
    changed = False
    for number, register in list(builder.indirect.items()):
        if not jump_targets(builder, number, register):
            changed |= builder.lead_anywhere(number)
    return changed


def _fill_gaps(builder: Builder, findings: Findings) -> None:
    """Code that nothing is known to reach begins at a 16-byte line; where it does not look like code it is data."""
    code, kept = builder.code, builder.findings
    covered = bytearray(len(code.code))
    counted = _cover(builder, covered, 0)
    for address in range(code.base + (-code.base) % LINE, code.end, LINE):
        if covered[address - code.base] or not any(code.code[address - code.base : address - code.base + LINE]):
            continue
        builder.findings = Findings()
        if builder.enter(address):
            _settle(builder)
        if any(finding.kind in _STRUCTURAL for finding in builder.findings.found.values()):
            builder.flow.doubtful |= {node.address for node in builder.flow.nodes[counted:]}
        for finding in builder.findings.found.values():
            severity = "note" if finding.address in builder.flow.doubtful else finding.severity
            findings.add(finding.kind, finding.address, finding.message, finding.other, finding.path, severity)
        counted = _cover(builder, covered, counted)
    builder.findings = kept


def _cover(builder: Builder, covered: bytearray, first: int) -> int:
    nodes = builder.flow.nodes
    for node in nodes[first:]:
        at = node.address - builder.code.base
        covered[at : at + node.bundle.size] = b"\1" * node.bundle.size
    return len(nodes)


def _inside_bundles(builder: Builder, findings: Findings) -> None:
    """Bundles that begin inside another one."""
    doubtful = builder.flow.doubtful
    bundles = sorted({(node.address, node.end) for node in builder.flow.nodes if node.address not in doubtful})
    for (start, end), (inside, _) in zip(bundles, bundles[1:], strict=False):
        if inside < end:
            text = f"a bundle is entered at {inside:#x}, inside the bundle at {start:#x} to {end - 1:#x}"
            branches = sorted(
                builder.flow.nodes[builder.flow.nodes[before].branch].address
                for number in builder.at(inside) + builder.at(start)
                for before in builder.near[number]
                if builder.flow.nodes[before].branch >= 0 and builder.flow.nodes[before].end not in (inside, start)
            )
            findings.add("target-inside-bundle", branches[0] if branches else inside, text, inside)
