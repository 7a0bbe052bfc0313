"""Hazards between bundles on every way through a program: each bundle against all that may issue shortly before it."""

from __future__ import annotations

from npuc.compiler.lint.addresses import accessed_by, one_address
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.lint.frames import leads_to_stack
from npuc.compiler.lint.pairs import Meeting, meetings, needed, timing_notes

CALL_EDGES = ("call", "return")


def find_hazards(flow: Flow, findings: Findings, notes: bool) -> None:
    """Conflicts between bundles, values that calls pass too late, and with `notes` all that bundles read and write
    early, late and out of order."""
    behind_calls = _behind_calls(flow)
    for number, node in enumerate(flow.nodes):
        newer = node.effects
        if not newer.steps:
            continue
        for meeting in meetings(newer, newer, 0):
            _report(flow, findings, meeting, number, number, 0)
        for before, distance in flow.history[number]:
            older = flow.nodes[before].effects
            for meeting in meetings(older, newer, distance):
                _report(flow, findings, meeting, before, number, distance)
            if notes or number in behind_calls:
                for meeting in timing_notes(older, newer, distance):
                    passed = number in behind_calls and _passed(flow, meeting, before, number, distance)
                    if passed or notes:
                        _report(flow, findings, passed or meeting, before, number, distance)


def _behind_calls(flow: Flow) -> set[int]:
    """The nodes that may issue while something from the other side of a call or return is still under way."""
    level = {n for n, edges in enumerate(flow.predecessors) if any(edge.kind in CALL_EDGES for edge in edges)}
    found = set(level)
    for _ in range(max((node.effects.reach for node in flow.nodes), default=0)):
        level = {after for number in level for after in flow.successors[number] if after not in found}
        found |= level
    return found


def _passed(flow: Flow, meeting: Meeting, older: int, newer: int, distance: int) -> Meeting | None:
    """An early read of what the other side of a call or return wrote: caller and callee cannot mean the old value."""
    if meeting.kind != "early-read":
        return None
    way = flow.way(older, newer, distance)
    for first, second in zip(way, way[1:], strict=False):
        kind = next((e.kind for e in flow.predecessors[second] if e.node == first and e.kind in CALL_EDGES), None)
        if kind is not None:
            side = "the caller" if kind == "call" else "the function that has returned"
            return meeting._replace(kind="late-argument", text=f"{meeting.text}; {side} wrote it")
    return None


def _report(flow: Flow, findings: Findings, meeting: Meeting, older: int, newer: int, distance: int) -> None:
    address = flow.nodes[newer].address
    way = flow.way(older, newer, distance)
    severity, text = meeting.severity, meeting.text
    if meeting.registers and all(_newer(flow, way, register) for register in meeting.registers):
        return
    accessed: tuple[tuple[int, int], ...] = ()
    for node, pointer in ((older, meeting.older_pointer), (newer, meeting.newer_pointer)):
        if pointer is not None:
            if leads_to_stack(flow, node, pointer):
                return
            accessed = accessed_by(flow, node, pointer)
    if meeting.same_address or (meeting.kind == "subword-window" and severity):
        same = one_address([flow.nodes[n].effects for n in way])
        if meeting.same_address and not same:
            return
        if same and not meeting.same_address:
            severity, text = None, f"{text}, and it writes what the load reads"
    path = tuple(flow.nodes[n].address for n in way)
    findings.add(meeting.kind, address, text, flow.nodes[older].address if distance else None, path, severity, accessed)


def _newer(flow: Flow, way: tuple[int, ...], register: str) -> bool:
    """Whether the last bundle of a way reads a value that a bundle in between has written."""
    reads = [r for step in flow.nodes[way[-1]].effects.steps for r in step.timing.reads if r.register == register]
    return any(
        needed(write, read) <= distance
        for distance, number in enumerate(reversed(way[1:-1]), 1)
        for step in flow.nodes[number].effects.steps
        for write in step.timing.writes
        for read in reads
        if write.register == register
    )
