"""Reads of registers that no path to them has written in time.

A part of a register counts as defined at a bundle when on some path to it a write has landed there.  Copies, and
instructions that update a register in place, pass on whether their source was defined.  A read of a part that is
undefined on every path is an error, unless it only passes the value on or saves it: by copies, by inserting a lane, and
by stores to the stack, which save the caller's registers.  A stack pointer that a program only ever moves is one error,
not one at each use.
"""

from __future__ import annotations

from typing import NamedTuple

from npuc.compiler.lint.effects import ALL_PARTS, DEFINED_AT_RESET, PART_BIT, Step, mask_of
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import Flow
from npuc.compiler.lint.pairs import needed
from npuc.compiler.target.aie2.registers import file
from npuc.compiler.target.aie2.schedule import Access

_NEVER = 99
_VECTORS = ("wl", "wh")


class _Copied(NamedTuple):
    """Parts that become defined at a bundle when those of `source` are defined at the bundle `copy`."""

    copy: int
    source: int
    result: int


def find_undefined_reads(flow: Flow, findings: Findings) -> None:
    """Reports every read of a register part that nothing can have written by then."""
    if not flow.at_reset:
        return
    defined = _defined(flow)
    told = False  # of a stack pointer that nothing sets
    for number, node in enumerate(flow.nodes):
        if defined[number] == ALL_PARTS:
            continue
        for step in node.effects.steps:
            reads = [read for read in _used(step) if not defined[number] >> PART_BIT[read.register] & 1]
            missing = [read for read in reads if not _in_time(flow, number, read)]
            if {read.register for read in missing} == {"sp"} and not _is_set(flow, "sp"):
                if not told:
                    text = f"{step.decoded.instruction.mnemonic} reads sp, which nothing in the program sets"
                    findings.add("undefined-read", node.address, text)
                told = True
            elif missing:
                _report(flow, findings, number, step, missing)


def _is_set(flow: Flow, register: str) -> bool:
    """Whether any instruction gives the register a value that is not made of the one before."""
    writes = ((step, write) for node in flow.nodes for step in node.effects.steps for write in step.timing.writes)
    return any(write.register == register and not step.sources(write) for step, write in writes)


def _used(step: Step) -> tuple[Access, ...]:
    """The reads that matter: copies pass on what they read, insertions keep it, stores to the stack save it."""
    if step.is_copy:
        return ()
    if step.is_insert:
        return tuple(read for read in step.timing.reads if file(read.register) not in _VECTORS)
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
    """Least distance at which a read gets a value by this write alone.

    What copies pass on in the ordinary way is followed by `_defined`; an update in place gives nothing that was not
    there before it.
    """
    least = needed(write, read)
    passes_on = least == write.stage or not step.is_copy
    return _NEVER if passes_on and step.sources(write) else least


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
    computes with half of a register where the other half does not matter, and permutes half of what it names."""
    rest = {access.register for access in step.timing.reads} - {access.register for access in missing}
    if step.is_permute and file(read.register) in _VECTORS:
        return any(file(register) in _VECTORS for register in rest)
    return _whole(read.register) in {_whole(register) for register in rest}


def _whole(part: str) -> str:
    """The vector or accumulator that a part belongs to; of others the part itself."""
    letters = file(part)
    number = part[len(letters) :]
    if letters in _VECTORS:
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
                copies += [
                    _copied(flow, before, write, sources)
                    for write, sources in effects.passing
                    if write.stage == distance
                ]
        arriving.append(mask)
        copied.append(copies)
    return arriving, copied


def _copied(flow: Flow, number: int, write: Access, sources: tuple[Access, ...]) -> _Copied:
    """What a write adds where it lands, with the sources that are not there already by a shorter way."""
    wanted = mask_of(tuple(read.register for read in sources if not _in_time(flow, number, read)))
    return _Copied(number, wanted, 1 << PART_BIT[write.register])
