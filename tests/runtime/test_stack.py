"""A stack that grows into the buffer of a descriptor: strict mode stops there, and the linter tells it beforehand."""

from __future__ import annotations

import pytest
from small_design import CORE, IN, Design, program

from npuc.compiler.asm.programs import read_programs
from npuc.compiler.lint.lint import lint_program
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.stack import growth


def design(stack: int, depth: int) -> Design:
    """The small design, whose core calls a function with a frame of `depth` bytes before it begins."""
    nops = "\n".join(["nop"] * 5)
    before = f"movxm sp, #{stack:#x}\nmovx r9, #1\nj #begin\n{nops}\nframe: paddb [sp], #{depth:#x}\nnop\n"
    before += f"st r9, [sp, #-{depth}]\npaddb [sp], #-{depth:#x}\nret lr\n{nops}\nbegin: jl #frame\n{nops}"
    return Design(programs={CORE: program(before=before)})


def overlaps(made: Design) -> list[str]:
    return [
        finding.message
        for found in read_programs(made.pdi())
        for finding in lint_program(found).findings
        if finding.kind == "stack-overlap"
    ]


@pytest.mark.parametrize("stack", [0x70000 + IN - 0x40, 0x70000])
def test_strict_mode_stops_where_the_stack_enters_a_descriptors_buffer(stack: int) -> None:
    room = 0x70000 + IN - stack
    made = design(stack, room)
    made.run(strict=True)
    assert overlaps(made) == []
    made = design(stack, room + 32)
    made.run()  # hardware runs on
    (message,) = overlaps(made)
    assert "descriptor 0 has 0x70400 to 0x7047f" in message
    with pytest.raises(EmulationError, match=r"the stack grows to 0x70420, into the buffer of descriptor 0 of core"):
        made.run(strict=True)


def test_a_stack_that_begins_elsewhere_or_shrinks_takes_no_bytes() -> None:
    assert growth(0, 0x70400) == (0x70400, 0x70400)
    assert growth(0x70440, 0x70400) == (0x70400, 0x70400)
    assert growth(0x70400, 0x70440) == (0x70400, 0x70440)
