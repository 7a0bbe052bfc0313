"""Damaged binaries and damaged text: never a crash, one clear error or the same bytes again."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Callable
from typing import Any

import campaigns
import pytest

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.listing import list_file
from npuc.compiler.asm.products import assemble_to
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo, elf, pdi, xclbin
from npuc.compiler.target.npu1 import geometry

COUNT = int(os.environ.get("NPUC_DAMAGED", "10000"))
"""Inputs of the slow runs."""

TEXT = """
        .set COUNT, 4
        .data
table:  .word 1, 2, table+4
        .ascii "a b;c//d"
        .short -1, 0x7fff
        .text
        .global main
        .type main, function
main:   movxm p0, #table            // where the data is
        mova lc, #COUNT; nopb; nopx
        movxm ls, #first
        movxm le, #last
        nop
        nop
first:  vlda wl0, [p0], #32; vmac cm0, cm0, x0, x1, r0; add r1, r1, #-1
last:   padda [p0], #-32
        jl #double
        nop
        nop
        nop
        nop
        nop
        .align 16
        done
double: ret lr
        .exact
        lda r1, [p0, #-4]; st r2, [p1], m0; vmov x1, x2
"""


def damaged_text(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(lines))
        line = lines[at]
        kind = rng.randrange(6)
        if kind == 0 and line:
            place = rng.randrange(len(line))
            odd = rng.choice("#[],;:.\"'$%-+/ \t\\0x9zé\x00\x85")
            lines[at] = line[:place] + odd + line[place + rng.randrange(2) :]
        elif kind == 1:
            lines[at] = " ".join(rng.sample(words := line.split(" "), len(words)))
        elif kind == 2:
            lines[at] = line + rng.choice(lines)
        elif kind == 3:
            lines.insert(at, rng.choice(lines))
        elif kind == 4:
            lines[at] = line.replace(rng.choice("0123456789rpx"), rng.choice(("99999999999", "-", "q", "")))
        else:
            del lines[at]
            lines = lines or [""]
    return "\n".join(lines)


def binaries() -> list[bytes]:
    code = b"".join(
        encode_bundle(parse_bundle(line))
        for line in ("movxm ls, #32", "add r1, r2, r3; nopv", "j #0", "vlda wl0, [p0], #32; vadd.32 x0, x1, x2")
    )
    code += bytes(-len(code) % 4)
    words = tuple(int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4))
    commands = [cdo.DmaWrite(geometry.tile_address(c, r, 0x20000), words) for c, r in ((0, 2), (0, 3), (1, 5))]
    image = pdi.write_pdi(commands)
    kernel = xclbin.KernelEntry("k", "I", 0x901, ("a",))
    return [
        image,
        cdo.write_cdo(commands),
        elf.write_elf(elf.CoreImage(code, 0, (elf.Symbol(4, "f"),), (elf.DataSegment(0x70000, b"data"),))),
        xclbin.write_xclbin(xclbin.Xclbin((kernel,), 2, image)),
        assemble_to("o", TEXT, "k.s"),
    ]


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed))
        changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), 0, 255, rng.randrange(256)))
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.15 else changed)


def check_text(text: str) -> bool:
    """Whether the text still assembles; an error must be one line with its place."""
    try:
        assemble_to("bin", text, "k.s")
        assemble_to("o", text, "k.s")
    except InputError as error:
        message = str(error)
        assert message.startswith("k.s") and message.count("\n") == 0, text
        assert error.exit_code == 3
        return False
    return True


def check_binary(data: bytes, raw: bool) -> bool:
    """Whether the file still lists; if so, its text must give its programs back."""
    try:
        programs = read_programs(data, raw)
        text = list_file(data, "k", raw=raw)
    except InputError as error:
        assert "\n" not in str(error)
        return False
    if any(program.section is not None for program in programs) or data[:4] == b"\x7fELF" and not raw:
        assemble_to("o", text, "k.s")
    else:
        assert [p.code for p in assemble(text).programs] == [p.code for p in programs]
    return True


@functools.cache
def texts() -> tuple[str, ...]:
    return TEXT, list_file(assemble_to("o", TEXT, "k.s"), "k.o"), list_file(assemble_to("elf", TEXT, "k.s"), "k.elf")


def fine_texts(batch: tuple[str, int]) -> int:
    """How many of a batch's texts still assemble."""
    rng = random.Random(batch[0])
    return sum(check_text(damaged_text(rng.choice(texts()), rng)) for _ in range(batch[1]))


def fine_binaries(batch: tuple[str, int]) -> int:
    """How many of a batch's files still list."""
    rng, files, fine = random.Random(batch[0]), binaries(), 0
    for _ in range(batch[1]):
        raw = rng.random() < 0.2
        data = rng.randbytes(rng.randrange(1, 400)) if raw else damaged_bytes(rng.choice(files), rng)
        fine += check_binary(data, raw)
    return fine


@pytest.mark.parametrize("count", [300, pytest.param(COUNT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("fine_ones", [fine_texts, fine_binaries])
def test_what_is_damaged_ends_in_one_error_with_its_place_or_comes_back(
    fine_ones: Callable[[tuple[str, int]], int], count: int, seed: int, processes: dict[str, Any]
) -> None:
    fine = sum(campaigns.run(fine_ones, campaigns.batches(seed, count, 300), processes))
    print(f"{fine} of {count} come back")
    assert 0 < fine < count
