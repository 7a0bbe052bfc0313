"""Locks and accesses to memory that no lock guards: the core's own stack, and what lies in no descriptor's buffer."""

from __future__ import annotations

import pytest
from lint_programs import assemble, lint
from test_lint_stack import CORE, descriptor

from npuc.compiler.asm.programs import read_programs
from npuc.compiler.emit import cdo, pdi
from npuc.compiler.lint.findings import Finding
from npuc.compiler.lint.lint import lint_program
from npuc.compiler.target.npu1 import geometry

# A core makes a frame, then one of the ways below leads to a store in the bundle of a release.
PROGRAM = """
movxm sp, #0x70000
movx r16, #0x1
mov r17, r16
movx r0, #0x0
nop 3
paddb [sp], #0x40
nop
{way}
st r16, [{pointer}, #4]; rel #0x31, r17
nop 9
end: j #end
nop 5
f: ret lr
nop 5
other: movxm p1, #0x71000
ret lr
nop 5
"""
LANDED = "nop 7"
SPILLED = f"mov p1, sp\npaddb [p1], #-32\nst p1, [sp, #-8]\nmovxm p1, #0x71000\nnop 7\nlda p2, [sp, #-8]\n{LANDED}"
OWN = {
    "a copy": ("mov p1, sp", "p1"),
    "a copy of a copy, moved on": ("mov p1, sp\npaddb [p1], #-16\nmov p2, p1\nst r16, [p2], #4", "p2"),
    "kept in a scalar register": ("mov p1, sp\nmov r20, p1\nmovxm p1, #0x71000\nmov p2, r20", "p2"),
    "waiting in the frame": (SPILLED, "p2"),
    "waiting in a frame that grows": (
        f"mov p1, sp\nst p1, [sp, #-8]\npaddb [sp], #0x20\nnop 7\nlda p2, [sp, #-40]\n{LANDED}",
        "p2",
    ),
    "kept by a callee": ("mov p6, sp\njl #f\nnop 5", "p6"),
    "waiting over a call": (f"mov p1, sp\nst p1, [sp, #-8]\njl #other\nnop 5\nlda p2, [sp, #-8]\n{LANDED}", "p2"),
    "on both ways": ("mov p1, sp\njnz r0, #join\nnop 5\npaddb [p1], #-16\njoin: nop", "p1"),
}
OTHERS = {
    "a constant": ("movxm p1, #0x71000", "p1"),
    "another word of the frame": (
        f"mov p1, sp\nst p1, [sp, #-8]\nmovxm p3, #0x71000\nst p3, [sp, #-12]\nnop 7\nlda p2, [sp, #-12]\n{LANDED}",
        "p2",
    ),
    "overwritten where it waits": (SPILLED.replace("nop 7\nlda", "st p1, [sp, #-8]\nnop 7\nlda"), "p2"),
    "read before it has landed": (f"movxm p2, #0x71000\n{SPILLED.removesuffix(LANDED)}nop 5", "p2"),
    "changed by a callee": ("mov p1, sp\njl #other\nnop 5", "p1"),
    "on one of two ways": ("mov p1, sp\njnz r0, #join\nnop 5\nmovxm p1, #0x71000\njoin: nop", "p1"),
    "a sum": ("mov p1, sp\nmov r20, p1\nadd r20, r20, r16\nmov p2, r20", "p2"),
}


def distances(way: str, pointer: str) -> list[Finding]:
    code = assemble(PROGRAM.format(way=way, pointer=pointer)).code
    return [finding for finding in lint(code) if finding.kind == "lock-distance"]


@pytest.mark.parametrize("case", OWN)
def test_no_lock_guards_the_stack(case: str) -> None:
    assert not distances(*OWN[case])


@pytest.mark.parametrize("case", OTHERS)
def test_a_pointer_that_may_lead_elsewhere_keeps_its_distance(case: str) -> None:
    assert any(finding.severity == "error" for finding in distances(*OTHERS[case]))


def in_a_pdi(text: str, *descriptors: cdo.Command) -> list[str]:
    """Severities of the distances from locks of a core's program in a PDI with descriptors."""
    code = assemble(text).code
    words = tuple(int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4))
    program = cdo.DmaWrite(geometry.tile_address(*CORE, geometry.PROGRAM_MEMORY_OFFSET), words)
    (found,) = read_programs(pdi.write_pdi([program, *descriptors]))
    return [finding.severity for finding in lint_program(found).findings if finding.kind == "lock-distance"]


@pytest.mark.parametrize(
    ("start", "size", "severity"),
    [(0x1000, 4, "warning"), (0x1000, 8, "error"), (0x1004, 4, "error"), (0x1008, 64, "warning")],
)
def test_what_descriptors_reach_decides_to_the_byte(start: int, size: int, severity: str) -> None:
    text = PROGRAM.format(way="movxm p1, #0x71000", pointer="p1")  # the store is to 0x71004..0x71007
    assert severity in in_a_pdi(text, descriptor(CORE, 1, start, size))


def test_a_neighbours_memory_and_a_file_without_descriptors_are_taken_for_guarded() -> None:
    north = PROGRAM.format(way="movxm p1, #0x61000", pointer="p1")
    assert "error" in in_a_pdi(north, descriptor(CORE, 1, 0x4000, 64))
    assert "error" in in_a_pdi(PROGRAM.format(way="movxm p1, #0x71000", pointer="p1"))
