"""Rules of the hardware loop (facts/schedule/aie2_hazards.md section 6)."""

from __future__ import annotations

from typing import NamedTuple

from npuc.compiler.lint.constants import loop_writes
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import LINE, Flow
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS

SETUP_BUNDLES = 7
"""From the last write of LS, LE or LC to the bundle at LE."""
SETUP_BYTES = 112
"""The same in bytes, from the 16-byte line in which the writer starts: what vendor code keeps."""
SUBWORD_BUNDLES = 7
"""Least body with a sub-word store at LE, and the distance from LE at which sub-word stores are safe."""


class Loop(NamedTuple):
    """A hardware loop: nodes of its body, by their distance in bundles from the bundle at LE (0)."""

    start: int
    last: int
    body: dict[int, int]


def check_loops(flow: Flow, findings: Findings) -> None:
    """Set-up, bounds and bodies of all hardware loops."""
    _check_writes(flow, findings)
    for loop in _loops(flow):
        end = flow.nodes[loop.last]
        if end.bundle.size != LINE:
            text = f"the last bundle of the loop from {loop.start:#x} has {end.bundle.size} bytes, not {LINE}"
            findings.add("loop-end-size", end.address, text)
        if loop.start > end.address:
            findings.add("loop-bounds", end.address, f"LS is {loop.start:#x}, behind LE", loop.start)
        _check_setup(flow, findings, loop)
        _check_count(flow, findings, loop)
        _check_body(flow, findings, loop)


def _loops(flow: Flow) -> list[Loop]:
    found = []
    for number in range(len(flow.nodes)):
        for edge in flow.predecessors[number]:
            if edge.kind == "loop":
                start = flow.nodes[number].address
                found.append(Loop(start, edge.node, _body(flow, number, edge.node)))
    return found


def _body(flow: Flow, first: int, last: int) -> dict[int, int]:
    """Nodes between LS and LE in both directions of flow, with their least distance to LE."""
    forward = {first}
    work = [first]
    while work:
        number = work.pop()
        if number != last:
            news = [n for n in flow.successors[number] if n not in forward]
            forward.update(news)
            work += news
    found = {last: 0}
    level = [last]
    while level:
        before = []
        for number in level:
            if number != first:
                for edge in flow.predecessors[number]:
                    if edge.node in forward and edge.node not in found and edge.kind != "loop":
                        found[edge.node] = found[number] + 1
                        before.append(edge.node)
        level = before
    return found


# ---- bounds


def _check_writes(flow: Flow, findings: Findings) -> None:
    """Constants written to LS, LE and LC."""
    starts = {node.address for node in flow.nodes}
    code = flow.code
    for node in flow.nodes:
        if not node.effects.loop_registers:
            continue
        for write in loop_writes(code, node):
            if write.value is None:
                continue
            name = write.register.upper()
            if write.register == "lc":
                if write.value <= 0:
                    text = f"LC is set to {write.value}: the body runs once all the same"
                    findings.add("loop-count", node.address, text)
            elif write.value % LINE:
                text = f"{name} is set to {write.value:#x}, not 16-byte aligned"
                findings.add("loop-bounds-misaligned", node.address, text, write.value)
            elif not code.base <= write.value < code.end:
                text = f"{name} is set to {write.value:#x}, outside the program"
                findings.add("loop-bounds", node.address, text, write.value)
            elif write.value not in starts:
                text = f"{name} is set to {write.value:#x}, where no bundle begins"
                findings.add("loop-bounds", node.address, text, write.value)


# ---- set-up


def _check_setup(flow: Flow, findings: Findings, loop: Loop) -> None:
    """Writes of loop registers too close before LE, on every way into the loop."""
    end = flow.nodes[loop.last]
    seen: dict[int, tuple[int, int]] = {}
    work: list[tuple[int, int, int, tuple[int, ...]]] = [(loop.last, 0, 0, (end.address,))]
    while work:
        number, bundles, size, way = work.pop()
        for edge in flow.predecessors[number]:
            node = flow.nodes[edge.node]
            now = bundles + 1, size + node.bundle.size
            known = seen.get(edge.node)
            if edge.kind == "loop" or (known and known[0] <= now[0] and known[1] <= now[1]):
                continue
            seen[edge.node] = now
            path = (node.address, *way)
            if node.effects.loop_registers and edge.node not in loop.body:
                _judge_setup(findings, " ".join(node.effects.loop_registers).upper(), *now, path)
            if now[1] < SETUP_BYTES + LINE or now[0] < SETUP_BUNDLES:
                work.append((edge.node, *now, path))


def _judge_setup(findings: Findings, names: str, bundles: int, size: int, path: tuple[int, ...]) -> None:
    """size: bytes of the bundles on the way; it counts where the way goes back in the code, else the addresses do."""
    setter, end = path[0], path[-1]
    if setter < end:
        size = end - setter
    text = f"{names} written {bundles} bundles and {size} bytes before LE at {end:#x}"
    if bundles < SETUP_BUNDLES or size + setter % LINE < SETUP_BYTES:
        findings.add("loop-setup", setter, text, end, path)
    elif size < SETUP_BYTES:
        findings.add("loop-setup-bytes", setter, text, end, path)


def _check_count(flow: Flow, findings: Findings, loop: Loop) -> None:
    """A loop that is entered on no path with LC written since reset or the end of another loop."""
    ends = {edge.node for edges in flow.predecessors for edge in edges if edge.kind == "loop"}
    seen, work = {loop.last}, [loop.last]
    while work:
        number = work.pop()
        if number in flow.unknown:
            return
        for edge in flow.predecessors[number]:
            if "lc" in flow.nodes[edge.node].effects.loop_registers:
                return
            if edge.node not in seen and edge.kind != "loop" and edge.node not in ends:
                seen.add(edge.node)
                work.append(edge.node)
    end = flow.nodes[loop.last].address
    findings.add("loop-count", end, f"LC is not set for the hardware loop {loop.start:#x} to {end:#x}", loop.start)


# ---- body


def _check_body(flow: Flow, findings: Findings, loop: Loop) -> None:
    end = flow.nodes[loop.last].address
    where = f"in the hardware loop {loop.start:#x} to {end:#x}"
    for number, left in loop.body.items():
        node = flow.nodes[number]
        if node.effects.loop_registers:
            names = " ".join(node.effects.loop_registers).upper()
            findings.add("loop-register-in-body", node.address, f"{names} written {where}", end)
        if any(step.is_lock for step in node.effects.steps):
            findings.add("loop-lock", node.address, f"lock {where}", end)
        if node.effects.branch is not None and not node.slot:
            _check_branch(flow, findings, loop, number)
        if left < SUBWORD_BUNDLES and any(step.is_subword_store for step in node.effects.steps):
            text = f"sub-word store {left} bundles before LE {where} of {len(loop.body)} bundles"
            short = left == 0 and len(loop.body) < SUBWORD_BUNDLES
            findings.add("loop-subword", node.address, text, end, (), None if short else "note")


def _check_branch(flow: Flow, findings: Findings, loop: Loop, number: int) -> None:
    """A branch whose delay slots are not over before LE."""
    level, end = [number], flow.nodes[loop.last].address
    for distance in range(1, DELAY_SLOTS + 2):
        level = [after for before in level for after in flow.successors[before] if flow.nodes[after].address <= end]
        if any(flow.nodes[after].address == end for after in level):
            severity = None if distance <= DELAY_SLOTS else "note"
            text = f"branch {distance} bundles before LE at {end:#x}"
            findings.add("loop-branch", flow.nodes[number].address, text, end, (), severity)
            return
