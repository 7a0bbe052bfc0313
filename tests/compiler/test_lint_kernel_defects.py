"""One bundle of a compiled kernel is changed for the worse, and the linter names that bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from lint_programs import lint

from npuc.compiler.asm.codec import Bundle, EncodeError, decode_program, encode_bundle
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.asm.text import parse_instruction
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.lint.effects import effects
from npuc.compiler.lint.flow import transfer
from npuc.passes.options import Options
from npuc.passes.pipeline import compile_attention

TRIES = 1
Change = tuple[int, str]
"""(number of a bundle, instruction that it gets in its slot)."""


@pytest.fixture(scope="module")
def code() -> bytes:
    kernel = compile_attention(Attention.make(head_dim=64, query_length=64, key_length=128, heads=1), Options())
    return read_programs(kernel.xclbin)[0].code


def changed(code: bytes, bundle: Bundle, text: str) -> bytes:
    """The code with an instruction put into a bundle of unchanged size.  Raises EncodeError where it does not fit."""
    instruction, operands = parse_instruction(text)
    slots = {slot: (d.instruction, d.operands) for slot, d in bundle.slots.items() if not d.instruction.is_nop}
    for taken in {"lng": ("alu", "mv"), "alu": ("lng",), "mv": ("lng",)}.get(instruction.slot, ()):
        if taken in slots:
            raise EncodeError(f"slot {taken} is taken")
    slots[instruction.slot] = (instruction, operands)
    data = encode_bundle(slots, bundle.size)
    return code[: bundle.address] + data + code[bundle.address + bundle.size :]


def straight(bundles: tuple[Bundle, ...], first: int, count: int) -> bool:
    """Whether nothing branches in a stretch of bundles, nor right before it."""
    near = bundles[max(0, first - 6) : first + count + 1]
    return len(near) > count and not any(effects(bundle).branch for bundle in near)


def branches(bundles: tuple[Bundle, ...]) -> Iterator[tuple[int, str, int]]:
    """(number, mnemonic with a register where it has one, target) of direct branches."""
    for number, bundle in enumerate(bundles):
        step = effects(bundle).branch
        target = None if step is None else transfer(step).target
        if step is not None and target is not None:
            register = f" {step.decoded.operands[0]}," if len(step.decoded.operands) == 2 else ""
            yield number, step.decoded.instruction.mnemonic + register, target


def branch_in_delay_slot(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    for number, _, target in branches(bundles):
        yield from ((number + slot, f"j #{target:#x}") for slot in range(1, 6))


def target_off_the_line(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number, f"{name} #{target + 8:#x}") for number, name, target in branches(bundles))


def target_outside(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number, f"{name} #0x8000") for number, name, _ in branches(bundles))


def loop_writes(bundles: tuple[Bundle, ...], register: str) -> Iterator[tuple[int, int]]:
    for number, bundle in enumerate(bundles):
        for decoded in bundle.instructions:
            if decoded.operands[:1] == (register,) and isinstance(decoded.operands[-1], int):
                yield number, decoded.operands[-1]


def loop_end_off_the_line(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number, f"movxm le, #{value + 4:#x}") for number, value in loop_writes(bundles, "le"))


def loop_start_outside(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number, f"movxm ls, #{value + 0x4000:#x}") for number, value in loop_writes(bundles, "ls"))


def loop_of_no_pass(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    for number, _ in loop_writes(bundles, "lc"):
        slot = next(d.instruction.mnemonic for d in bundles[number].instructions if d.operands[:1] == ("lc",))
        yield number, f"{slot} lc, #0"


def loop_register_in_body(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    ends = dict(loop_writes(bundles, "le"))
    for (_, end), (_, start) in zip(ends.items(), loop_writes(bundles, "ls"), strict=True):
        inside = (number for number, bundle in enumerate(bundles) if start <= bundle.address <= end)
        yield from ((number, "mova lc, #3") for number in inside)


def loads(bundles: tuple[Bundle, ...]) -> Iterator[tuple[int, str]]:
    """(number, register) of scalar loads in straight code."""
    for number, bundle in enumerate(bundles):
        for decoded in bundle.instructions:
            register = str(decoded.operands[0]) if decoded.operands else ""
            if decoded.instruction.mnemonic == "lda" and register.startswith("r") and straight(bundles, number, 8):
                yield number, register


def write_with_the_load(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number + 6, f"mov {register}, #1") for number, register in loads(bundles))


def constant_with_the_load(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    yield from ((number + 6, "mova r31, #1") for number, _ in loads(bundles))


def undefined_operand(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    used = {str(value) for bundle in bundles for d in bundle.instructions for value in d.operands}
    pointers = [f"paddb [p{n}], #4" for n in range(8) if f"p{n}" not in used]
    steps = [f"paddb [p0], m{n}" for n in range(8) if f"m{n}" not in used]
    unwritten = (pointers + steps)[0]
    yield from ((number, unwritten) for number in range(len(bundles)))


def lock_behind_a_lock(bundles: tuple[Bundle, ...]) -> Iterator[Change]:
    for number, bundle in enumerate(bundles):
        if any(step.is_lock for step in effects(bundle).steps):
            yield from ((number + distance, "rel #0x1, r0") for distance in (1, 2, 3))


DEFECTS: dict[Callable[[tuple[Bundle, ...]], Iterator[Change]], str] = {
    branch_in_delay_slot: "delay-slot-branch",
    target_off_the_line: "target-misaligned",
    target_outside: "target-outside",
    loop_end_off_the_line: "loop-bounds-misaligned",
    loop_start_outside: "loop-bounds",
    loop_of_no_pass: "loop-count",
    loop_register_in_body: "loop-register-in-body",
    write_with_the_load: "double-landing",
    constant_with_the_load: "unit-conflict",
    undefined_operand: "undefined-read",
    lock_behind_a_lock: "lock-distance",
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_in_a_kernel_is_found_at_its_bundle(
    defect: Callable[[tuple[Bundle, ...]], Iterator[Change]], code: bytes, seed: int
) -> None:
    bundles = decode_program(code)
    candidates = [change for change in defect(bundles) if change[0] < len(bundles)]
    Random(f"{defect.__name__} {seed}").shuffle(candidates)
    tried = 0
    for number, text in candidates:
        try:
            bad = changed(code, bundles[number], text)
        except EncodeError:
            continue
        found = {(finding.kind, finding.address) for finding in lint(bad, notes=False)}
        assert (DEFECTS[defect], bundles[number].address) in found, (text, found)
        tried += 1
        if tried == TRIES:
            break
    assert tried
