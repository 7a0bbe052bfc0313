"""The control-flow graph of a program: known entries first, then what they do not reach."""

from __future__ import annotations

from bisect import bisect_left

from npuc.compiler.asm.codec import DecodeError, decode_observed_bundle
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
        if not builder.enter(code.reset, reset=True):
            findings.add("undecodable", code.reset, f"the program begins at {code.reset:#x}, where no bundle decodes")
        _settle(builder)
    covered, counted = bytearray(len(code.code)), 0
    for address in code.entries:
        counted = _cover(builder, covered, counted)
        inside = code.base <= address < code.end and covered[address - code.base]
        if not inside and builder.enter(address):
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
    while _loops(builder) or _jumps(builder):
        pass


def _loops(builder: Builder) -> bool:
    code, changed = builder.code, False
    for number, start in sorted(loop_ends(builder)):
        if code.base <= start < code.end and builder.at(start):
            changed |= builder.lead_also(number, start, "loop")
    return changed


def _jumps(builder: Builder) -> bool:
    """Follow jumps through registers; whether any leads to something new."""
    changed = False
    for number, register in list(builder.indirect.items()):
        targets = jump_targets(builder, number, register)
        if targets is None:
            del builder.indirect[number]
            changed |= builder.lead_anywhere(number)
            branch = builder.flow.nodes[builder.flow.nodes[number].branch].address
            builder.findings.add("indirect-target", branch, f"where {register} leads is not known")
        else:
            for address in sorted(targets):
                changed |= builder.lead_also(number, address, "jump")
    return changed


def _fill_gaps(builder: Builder, findings: Findings) -> None:
    """Code that nothing is known to reach begins at a 16-byte line; where it does not look like code it is data."""
    code, kept = builder.code, builder.findings
    covered = bytearray(len(code.code))
    counted = _cover(builder, covered, 0)
    for address in range(code.base + (-code.base) % LINE, code.end, LINE):
        if covered[address - code.base] or _is_padding(code, covered, address):
            continue
        builder.findings = Findings()
        if builder.enter(address):
            _settle(builder)
        doubtful = any(finding.kind in _STRUCTURAL for finding in builder.findings.found.values())
        if doubtful:
            builder.flow.doubtful |= {node.address for node in builder.flow.nodes[counted:]}
        for finding in builder.findings.found.values():
            severity = "note" if doubtful else finding.severity
            findings.add(finding.kind, finding.address, finding.message, finding.other, finding.path, severity)
        counted = _cover(builder, covered, counted)
    builder.findings = kept


def _is_padding(code: Code, covered: bytearray, address: int) -> bool:
    """Whether from an address on there is nothing but zeros or empty bundles, up to code that is known or the end."""
    at = address - code.base
    if not any(code.code[at : at + LINE]):
        return True
    while at < len(code.code) and not covered[at]:
        try:
            bundle = decode_observed_bundle(code.code, at, at)
        except DecodeError:
            return False
        if bundle.instructions:
            return False
        at += bundle.size
    return True


def _cover(builder: Builder, covered: bytearray, first: int) -> int:
    nodes = builder.flow.nodes
    for node in nodes[first:]:
        at = node.address - builder.code.base
        covered[at : at + node.bundle.size] = b"\1" * node.bundle.size
    return len(nodes)


def _inside_bundles(builder: Builder, findings: Findings) -> None:
    """Branches to places inside bundles."""
    doubtful = builder.flow.doubtful
    bundles = sorted({(node.address, node.end) for node in builder.flow.nodes if node.address not in doubtful})
    for branch, target in builder.targets:
        at = bisect_left(bundles, (target, 0))
        if at and target < bundles[at - 1][1]:
            start, end = bundles[at - 1]
            text = f"target {target:#x} lies inside the bundle at {start:#x} to {end - 1:#x}"
            findings.add("target-inside-bundle", branch, text, start)
