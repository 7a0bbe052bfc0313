"""Random programs with branches, calls and loops: every target comes to lie on a line, and nothing else changes."""

from __future__ import annotations

import itertools
import random

import pytest

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import decode_program
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.asm.widening import LINE, sizes_to_line
from npuc.compiler.diagnostics import InputError

PLAIN = (
    "nop", "add r1, r2, r3", "vlda wl0, [p0], #32; add r1, r1, #-1", "vldb wl2, [p1], #32", "movxm r4, #0x12345",
    "vshuffle x0, x1, x2, r0", "st r1, [p0, #4]; mov r3, r4", "vmac cm0, cm0, x0, x1, r0", "mova r5, #3; nopb",
)  # fmt: skip


def some_program(rng: random.Random) -> tuple[list[str], dict[int, str], set[str], set[int]]:
    """Lines, labels by line, names of the last bundles of loops, and lines that calls come back to."""
    count = rng.randrange(20, 120)
    lines = [rng.choice(PLAIN) for _ in range(count)]
    labels = {at: f"at{at}" for at in rng.sample(range(count), rng.randrange(1, 6))}
    names = list(labels.values())
    loop_ends, returns = set(), set()
    for at in rng.sample(range(0, count, 7), min(6, count // 7)):
        name = rng.choice(names)
        kind = rng.choice(("j #{}", "jnz r1, #{}", "jl #{}", "movxm ls, #{}", "movxm le, #{}", "movxm p3, #{}"))
        lines[at] = kind.format(name)
        if kind.startswith("jl") and at + 6 < count:
            returns.add(at + 6)
        if " le" in kind:
            loop_ends.add(name)
    used = {name for name in names if any(f"#{name}" in line.split() for line in lines)}
    return lines, {at: name for at, name in labels.items() if name in used}, loop_ends, returns


def test_targets_lie_on_lines_and_every_bundle_stays_what_it_was(seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(150):
        lines, labels, loop_ends, returns = some_program(rng)
        text = "\n".join(f"{labels[i]}: {line}" if i in labels else line for i, line in enumerate(lines))
        try:
            assembly = assemble(text)
        except InputError as error:
            assert "can be widened" in str(error) or "last bundle of a hardware loop" in str(error)
            refused += 1
            continue
        bundles = decode_program(assembly.code)
        assert len(bundles) == len(lines)
        for i, (bundle, line) in enumerate(zip(bundles, lines, strict=True)):
            if i in labels:
                assert assembly.symbols[labels[i]] == bundle.address
                assert bundle.address % LINE == 0
                assert bundle.size == LINE or labels[i] not in loop_ends
            assert bundle.address % LINE == 0 or i not in returns
            wanted = {slot: i for slot, (i, _) in parse_bundle(line).items() if not i.is_nop}
            assert {s: d.instruction for s, d in bundle.slots.items() if not d.instruction.is_nop} == wanted
    assert refused < 75


def test_the_sizes_chosen_are_the_least_that_reach_a_line(seed: int) -> None:
    rng = random.Random(seed)
    choices = (2, 4, 6, 8, 10, 12, 14, 16)
    for _ in range(300):
        options = [tuple(sorted(rng.sample(choices, rng.randrange(1, 4)))) for _ in range(rng.randrange(0, 5))]
        start = rng.randrange(0, 64, 2)
        totals = [sum(sizes) for sizes in itertools.product(*options) if (start + sum(sizes)) % LINE == 0]
        chosen = sizes_to_line(options, start)
        if chosen is None:
            assert not totals
        else:
            assert sum(chosen) == min(totals)
            assert all(size in sizes for size, sizes in zip(chosen, options, strict=True))


@pytest.mark.parametrize("line", ["add r1, r2, r3; nopv", "nop; movxm r1, #5"])
def test_bundles_fixed_by_their_nops_are_never_widened(line: str) -> None:
    text = f"{line}\nnop\nend: j #end"
    sizes = [bundle.size for bundle in decode_program(assemble(text).code)]
    assert sizes[0] == 8 and sum(sizes[:2]) == 16
