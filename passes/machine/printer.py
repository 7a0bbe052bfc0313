"""Machine-level programs as text, for dumps and messages."""

from __future__ import annotations

from collections.abc import Iterator

from npuc.passes.machine.ir import Barrier, CountedLoop, Forever, HardwareLoop, IfNonzero, Op, Program, Statement

_INDENT = "  "


def format_program(program: Program) -> str:
    """One statement a line, bodies indented."""
    return "\n".join([f"program {program.name} {{", *_lines(program.body, 1), "}"]) + "\n"


def _lines(body: list[Statement], depth: int) -> Iterator[str]:
    pad = _INDENT * depth
    for statement in body:
        if isinstance(statement, Op):
            yield pad + format_operation(statement)
            continue
        yield pad + _head(statement)
        if not isinstance(statement, Barrier):
            yield from _lines(statement.body, depth + 1)
            yield pad + "}"


def format_operation(op: Op) -> str:
    """`NAME operands  [region]  // comment`; a region whose passes do not meet is marked `each`."""
    text = " ".join([op.name, ", ".join(str(operand) for operand in op.operands)]).rstrip()
    if op.memory.region is not None:
        text += f"  [{op.memory.region}{'' if op.memory.carried else ' each'}]"
    return f"{text}  // {op.comment}" if op.comment else text


def _head(statement: Statement) -> str:
    if isinstance(statement, HardwareLoop):
        how = "" if statement.pipelined else " not pipelined"
        if statement.max_stages is not None:
            how += f" stages {statement.max_stages}"
        return f"hardware_loop {statement.name} {statement.count}{how} {{"
    if isinstance(statement, CountedLoop):
        return f"counted_loop {statement.name} {statement.count} {{"
    if isinstance(statement, IfNonzero):
        return f"if_nonzero {statement.condition} {{"
    if isinstance(statement, Forever):
        return f"forever {statement.name} {{"
    return "barrier"
