"""Reads of registers that no path to them has written in time.

A part of a register counts as defined at a bundle when on some path to it a write has landed there.  Copies pass on
whether their source is defined.  A read of a part that is undefined on every path is an error, unless it only passes
the value on or saves it: by copies, and by stores to the stack, which save the caller's registers.
"""

from __future__ import annotations

from typing import NamedTuple

from npuc.compiler.lint.effects import ALL_PARTS, DEFINED_AT_RESET, PART_BIT, Step
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.lint.pairs import needed
from npuc.compiler.target.aie2.registers import file
from npuc.compiler.target.aie2.schedule import Access

_NEVER = 99


class _Copied(NamedTuple):
    """A part that becomes defined at a bundle when `source` is defined at the bundle `copy`."""

    copy: int
    source: int
    result: int


def find_undefined_reads(flow: Flow, findings: Findings) -> None:
    """Reports every read of a register part that nothing can have written by then."""
    if not flow.at_reset:
        return
    defined = _defined(flow)
    for number, node in enumerate(flow.nodes):
        if defined[number] == ALL_PARTS:
            continue
        for step in node.effects.steps:
            reads = [read for read in _used(step) if not defined[number] >> PART_BIT[read.register] & 1]
            missing = [read for read in reads if not _in_time(flow, number, read)]
            if missing:
                _report(flow, findings, number, step, missing)


def _used(step: Step) -> tuple[Access, ...]:
    """The reads that matter: a copy passes on what it reads, and a store to the stack saves it."""
    if step.is_copy:
        return ()
    if step.is_stack_access and step.decoded.instruction.may_store:
        return tuple(read for read in step.timing.reads if read.register == "sp")
    return step.timing.reads


def _in_time(flow: Flow, number: int, read: Access) -> bool:
    """Whether a write reaches a read through a bypass, or in time for a read in a later stage."""
    for before, distance in flow.history[number]:
        for step in flow.nodes[before].effects.steps:
            for write in step.timing.writes:
                if write.register == read.register and _shortcut(step, write, read) <= distance:
                    return True
    return read.stage > 1 and _written_soon(flow, number, read)


def _shortcut(step: Step, write: Access, read: Access) -> int:
    """Least distance at which a read gets a value; what copies pass on the ordinary way is followed by `_defined`."""
    least = needed(write, read)
    return _NEVER if step.is_copy and least == write.stage else least


def _written_soon(flow: Flow, number: int, read: Access) -> bool:
    """Whether a bundle that issues with or after the reader still writes before it reads."""
    level = {number}
    for distance in range(read.stage):
        for after in level:
            for step in flow.nodes[after].effects.steps:
                for write in step.timing.writes:
                    if write.register == read.register and needed(write, read) <= -distance:
                        return True
        level = {following for after in level for following in flow.successors[after]}
    return False


def _report(flow: Flow, findings: Findings, number: int, step: Step, missing: list[Access]) -> None:
    names = " ".join(dict.fromkeys(read.register for read in missing))
    text = f"{step.decoded.instruction.mnemonic} reads {names}, which nothing has written"
    partly = all(_is_half_of_written(step, read, missing) for read in missing)
    severity = "warning" if partly else None
    other: int | None = None
    way: tuple[int, ...] = (number,)
    for before, distance in flow.history[number]:
        late = [
            (needed(write, read), write.register)
            for older in flow.nodes[before].effects.steps
            for write in older.timing.writes
            for read in missing
            if needed(write, read) > distance
        ]
        if late:
            least, name = max(late)
            severity = None
            text += f": the value of {name} lands too late, {least} bundles are needed, not {distance}"
            other, way = flow.nodes[before].address, flow.way(before, number, distance)
            break
    path = tuple(flow.nodes[n].address for n in way)
    findings.add("undefined-read", flow.nodes[number].address, text, other, path, severity)


def _is_half_of_written(step: Step, read: Access, missing: list[Access]) -> bool:
    """Whether a part of a vector or accumulator is undefined and another part that the instruction reads is not: code
    computes with half of a register where the other half does not matter."""
    rest = {access.register for access in step.timing.reads} - {access.register for access in missing}
    return _whole(read.register) in {_whole(register) for register in rest}


def _whole(part: str) -> str:
    """The vector or accumulator that a part belongs to; of others the part itself."""
    letters = file(part)
    number = part[len(letters) :]
    if letters in ("wl", "wh"):
        return f"x{number}"
    return f"cm{number}" if letters.startswith("am") else part


# ---- what is defined where


def _defined(flow: Flow) -> list[int]:
    """By node: the parts that may be defined for a reader in stage 1 without bypass."""
    count = len(flow.nodes)
    arriving, copied = _arrivals(flow)
    followers = [set(after) for after in flow.successors]
    for number in range(count):
        for copy in copied[number]:
            followers[copy.copy].add(number)
    found = [0] * count
    waiting = set(range(count))
    work = list(reversed(range(count)))
    while work:
        number = work.pop()
        waiting.discard(number)
        value = found[number] | arriving[number]
        for edge in flow.predecessors[number]:
            value |= found[edge.node]
        for copy in copied[number]:
            if not copy.source & ~found[copy.copy]:
                value |= copy.result
        if value != found[number]:
            found[number] = value
            news = followers[number] - waiting
            waiting |= news
            work += news
    return found


def _arrivals(flow: Flow) -> tuple[list[int], list[list[_Copied]]]:
    """By node: the parts that are there for the first time, and what copies may add to them."""
    arriving: list[int] = []
    copied: list[list[_Copied]] = []
    for number in range(len(flow.nodes)):
        mask = ALL_PARTS if number in flow.unknown else DEFINED_AT_RESET if number in flow.at_reset else 0
        copies = []
        for before, distance in flow.history[number]:
            effects = flow.nodes[before].effects
            if distance <= effects.reach:
                mask |= effects.arrivals[distance]
                for step in effects.copies:
                    copies += _copied(flow, before, step, distance)
        arriving.append(mask)
        copied.append(copies)
    return arriving, copied


def _copied(flow: Flow, number: int, step: Step, distance: int) -> list[_Copied]:
    """What a copy adds `distance` bundles later: part by part, or all when the numbers of parts differ."""
    reads, writes = step.timing.reads, step.timing.writes
    matched = len(reads) == len(writes)
    found = []
    for index, write in enumerate(writes):
        if write.stage == distance:
            sources = reads[index : index + 1] if matched else reads
            wanted = [1 << PART_BIT[read.register] for read in sources if not _in_time(flow, number, read)]
            found.append(_Copied(number, sum(wanted), 1 << PART_BIT[write.register]))
    return found
