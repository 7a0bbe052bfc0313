"""The stack against the buffers of descriptors: what a descriptor reaches, and how far a stack may grow."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from lint_programs import assemble

from npuc.compiler.asm.programs import read_programs
from npuc.compiler.emit import cdo, pdi
from npuc.compiler.emit.buffers import core_descriptor_buffer, descriptor_buffers
from npuc.compiler.lint.findings import Finding
from npuc.compiler.lint.lint import lint_program
from npuc.compiler.target.npu1 import geometry

CORE = (1, 3)
STACK = 0x70000


def visited(fields: dict[str, int]) -> list[int]:
    """Word offsets that a descriptor visits: counting with wraps, the last dimension without end (device_npu1.md)."""
    found = []
    for index in range(fields["length"]):
        offset, left = 0, index
        for level in range(3):
            wrap = fields.get(f"d{level}_wrap", 0)
            digit = left % wrap if wrap else left
            offset += digit * (fields[f"d{level}_step"] + 1)
            left = left // wrap if wrap else 0
        found.append(offset)
    return found


def test_what_a_descriptor_reaches_is_what_it_visits(seed: int) -> None:
    rng = Random(seed)
    for _ in range(300):
        fields = {f"d{level}_step": rng.choice([0, 1, 3, 7, 20]) for level in range(3)}
        fields |= {f"d{level}_wrap": rng.choice([0, 1, 2, 3, 8]) for level in range(2)}
        fields["length"] = rng.randrange(1, 70)
        times, step = rng.choice([(0, 0), (1, 4), (3, 9)])
        words = geometry.pack_bd(
            "core", valid=1, base_address=5, iteration_wrap=times, iteration_step=step, **fields
        )  # fmt: skip
        buffer = core_descriptor_buffer(2, words)
        assert buffer is not None
        last = max(visited(fields)) + times * (step + 1)
        assert (buffer.descriptor, buffer.start, buffer.end) == (2, 20, 4 * (5 + last + 1))
    assert core_descriptor_buffer(0, geometry.pack_bd("core", length=4)) is None  # not valid


def descriptor(tile: tuple[int, int], number: int, start: int, size: int) -> cdo.DmaWrite:
    words = geometry.pack_bd("core", valid=1, base_address=start // 4, length=size // 4)
    return cdo.DmaWrite(geometry.tile_address(*tile, geometry.bd_offset("core", number)), tuple(words))


def test_descriptors_are_read_as_the_writes_leave_them() -> None:
    first = descriptor(CORE, 1, 0x400, 64)
    address = geometry.tile_address(*CORE, geometry.bd_offset("core", 1))
    assert descriptor_buffers([first])[CORE] == ((1, 0x400, 0x440),)
    longer = cdo.MaskWrite(address, 0x3FFF, 32)  # its length, the low bits of word 0
    assert descriptor_buffers([first, longer])[CORE] == ((1, 0x400, 0x480),)
    gone = cdo.Write(address + 4 * 5, 0)  # the word of its valid bit
    assert descriptor_buffers([first, gone]) == {}


# ---- stacks

CALLS = """
movxm sp, #{stack}
nop
paddb [sp], #0x40
jl #f
nop 5
jl #g
nop 5
end: j #end
nop 5
f: paddb [sp], #0x20
st lr, [sp, #-4]
jl #g
nop 5
paddb [sp], #-0x20
ret lr
nop 5
g: ret lr
{slots}
"""
"""main takes 0x40 bytes, f 0x20, and g what `slots` say."""
LEAF = "nop 5"
DEEP = "paddb [sp], #0x60\nnop 3\npaddb [sp], #-0x60"


def stack_findings(text: str, *descriptors: cdo.Command) -> list[Finding]:
    code = assemble(text).code
    words = tuple(int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4))
    program = cdo.DmaWrite(geometry.tile_address(*CORE, geometry.PROGRAM_MEMORY_OFFSET), words)
    (found,) = read_programs(pdi.write_pdi([program, *descriptors]))
    return [finding for finding in lint_program(found).findings if finding.kind == "stack-overlap"]


@pytest.mark.parametrize(("slots", "deepest"), [(LEAF, 0x60), (DEEP, 0xC0)])
def test_the_deepest_way_through_calls_decides_to_the_byte(slots: str, deepest: int) -> None:
    text = CALLS.format(stack=STACK, slots=slots)
    assert not stack_findings(text, descriptor(CORE, 3, deepest, 64))
    (finding,) = stack_findings(text, descriptor(CORE, 3, deepest - 4, 64))
    assert finding.severity == "error" and f"may grow to {STACK + deepest:#x}" in finding.message
    assert f"descriptor 3 has {STACK + deepest - 4:#x} to " in finding.message
    labels = assemble(text).labels
    assert (finding.path[-1] >= labels["g"]) == (slots is DEEP)


def test_a_buffer_below_the_stack_or_in_another_memory_is_none_in_its_way() -> None:
    text = CALLS.format(stack=STACK + 0x400, slots=DEEP)
    assert not stack_findings(text, descriptor(CORE, 0, 0x3C0, 64))
    north = (CORE[0], CORE[1] + 1)
    assert not stack_findings(text, descriptor(north, 0, 0x400, 64))
    in_the_north = CALLS.format(stack=0x60400, slots=DEEP)
    assert len(stack_findings(in_the_north, descriptor(north, 0, 0x400, 64))) == 1


def test_a_stack_that_leaves_data_memory_is_found_without_descriptors() -> None:
    (finding,) = stack_findings(CALLS.format(stack=0x7FF80, slots=DEEP))
    assert "beyond data memory, which ends at 0x80000" in finding.message
    assert not stack_findings(CALLS.format(stack=0x7FF00, slots=DEEP))


RECURSIVE = CALLS.replace("jl #g\nnop 5\npaddb [sp], #-0x20", "jl #f\nnop 5\npaddb [sp], #-0x20")
GROWING = "movxm sp, #0x70000\nnop\nagain: paddb [sp], #0x20\nj #again\nnop 5"


def test_a_function_that_calls_itself_and_a_loop_that_grows_the_stack_end() -> None:
    assert len(stack_findings(RECURSIVE.format(stack=STACK, slots=LEAF), descriptor(CORE, 0, 0x40, 64))) == 1
    assert len(stack_findings(GROWING, descriptor(CORE, 0, 0x200, 64))) == 1


def test_every_order_of_frames_gives_the_same_depth() -> None:
    # The frame may be made in the delay slots of the call, before it or behind.
    for before, inside in product([True, False], repeat=2):
        frame = "paddb [sp], #0x40"
        call = f"jl #g\n{frame if inside else 'nop'}\nnop 4"
        text = f"movxm sp, #0x70000\nnop\n{frame if before else 'nop'}\n{call}\nend: j #end\nnop 5\ng: ret lr\n{DEEP}"
        deepest = 0x40 * before + 0x40 * inside + 0x60
        assert not stack_findings(text, descriptor(CORE, 0, deepest, 64))
        assert len(stack_findings(text, descriptor(CORE, 0, deepest - 4, 64))) == 1
