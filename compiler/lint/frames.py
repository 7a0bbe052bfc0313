"""Whether a pointer certainly leads to the core's own stack, as far as code tells without running it.

Followed backwards: copies of sp, what is added to pointers, registers that calls keep, and pointers that wait in the
stack frame.  Accesses through other pointers are taken not to change what waits there.
"""

from __future__ import annotations

from typing import NamedTuple

from npuc.compiler.lint.constants import FARTHEST, KEPT_BY_CALLEES
from npuc.compiler.lint.effects import Step
from npuc.compiler.lint.flow import Flow
from npuc.compiler.lint.stack import growth

_WORD = 4
_LINE = 16  # where code that no way leads to is entered
_LONGEST = 8  # bundles until the last result has landed (facts/schedule/aie2_hazards.md section 2)


class _Goal(NamedTuple):
    """What has to lead to the stack: a register as it is read in stage 1, or the word at `sp + offset`.

    distance: bundles to the reader, no more than _LONGEST.
    """

    register: str
    offset: int = 0
    distance: int = 0


def leads_to_stack(flow: Flow, number: int, pointer: str) -> bool:
    """Whether all values of a pointer register that an access at a node may use come from the stack pointer."""
    if pointer == "sp":
        return True
    seen: set[tuple[int, _Goal]] = set()
    work = [(number, _Goal(pointer))]
    while work:
        at, goal = work.pop()
        earlier = _before(flow, at)
        if not earlier or at in flow.at_reset or len(seen) > FARTHEST:
            return False
        for before, call in earlier:
            if call and goal.register != "sp" and goal.register not in KEPT_BY_CALLEES:
                return False
            distance = _LONGEST if call else min(goal.distance + 1, _LONGEST)
            further = _behind(flow, before, goal._replace(distance=distance))
            if further is None:
                return False
            if further.register and (before, further) not in seen:
                seen.add((before, further))
                work.append((before, further))
    return True


_FOUND = _Goal("")


def _before(flow: Flow, at: int) -> list[tuple[int, bool]]:
    """The nodes that issue right before a node, over calls, and whether one lies between.  Empty: nobody knows.

    Behind `done`, where no way leads, goes on what is enabled again.
    """
    found = [(e.call, True) if e.kind == "return" else (e.node, False) for e in flow.predecessors[at]]
    if at not in flow.unknown:
        return found
    address = flow.nodes[at].address
    ended = [
        number
        for number, node in enumerate(flow.nodes)
        if address - _LINE < node.end <= address
        and any(step.decoded.instruction.side_effect == "done" for step in node.effects.steps)
    ]
    return [*found, *((number, False) for number in ended)] if ended else []


def _behind(flow: Flow, number: int, goal: _Goal) -> _Goal | None:
    """The goal in front of a node's bundle: itself, another, _FOUND, or None where it is missed."""
    steps = flow.nodes[number].effects.steps
    return _slot(steps, goal) if goal.register == "sp" else _register(steps, goal)


def _register(steps: tuple[Step, ...], goal: _Goal) -> _Goal | None:
    for step in steps:
        for write in step.timing.writes:
            if write.register != goal.register:
                continue
            return _origin(step, goal.register) if write.stage <= goal.distance else None
    return goal


def _origin(step: Step, register: str) -> _Goal | None:
    """Of what an instruction makes its result."""
    instruction = step.decoded.instruction
    reads = [read.register for read in step.timing.reads]
    if step.is_stack_access and not instruction.may_store:
        offset = _offset(step)
        return None if offset is None or not instruction.mnemonic == "lda" else _Goal("sp", offset)
    if step.is_copy and len(reads) == 1:
        return _FOUND if reads[0] == "sp" else _Goal(reads[0])
    moves = instruction.itinerary.startswith("II_PADD") or (instruction.post_modify and step.pointer == register)
    return _Goal(register) if moves and register in reads else None


def _slot(steps: tuple[Step, ...], goal: _Goal) -> _Goal | None:
    """The word at sp + offset: the register that was stored there, or the same word counted from an earlier sp."""
    offset = goal.offset
    for step in steps:
        if any(write.register == "sp" for write in step.timing.writes):
            grown = growth(step)
            if grown is None:
                return None
            offset += grown
    for step in steps:
        if not step.is_stack_access or not step.decoded.instruction.may_store:
            continue
        place = _offset(step)
        if place is None or abs(place - offset) >= _WORD:
            continue
        stored = step.decoded.operands[0]
        whole = place == offset and step.decoded.instruction.mnemonic == "st"
        return _Goal(stored) if whole and isinstance(stored, str) else None
    return goal._replace(offset=offset)


def _offset(step: Step) -> int | None:
    """Of a stack access, counted from sp."""
    return next((value for value in step.decoded.operands if isinstance(value, int)), None)
