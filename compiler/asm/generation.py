"""For which generation of the AI Engine a program or ELF was made.  What npuc reads and runs is AIE2 of npu1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.diagnostics import InputError
from npuc.compiler.target.generations import BY_ELF_FLAGS, NPU1, Generation, aie2p_bundles, is_aie1

if TYPE_CHECKING:
    from npuc.compiler.asm.programs import CoreProgram

# Bundles that must fit AIE2P's formats in a row.  Random bytes fit some 10 at most, AIE2's and AIE1's programs 8.
ENOUGH = 20


def program_generation(code: bytes) -> Generation:
    """The generation whose code this is: npu1 unless its bundles are AIE2P's or AIE1's and not AIE2's."""
    if _aie2_bundles(code, ENOUGH) >= ENOUGH:
        return NPU1
    if aie2p_bundles(code, ENOUGH) >= ENOUGH:
        return BY_ELF_FLAGS[3]
    return BY_ELF_FLAGS[1] if is_aie1(code) else NPU1


def _aie2_bundles(code: bytes, most: int) -> int:
    at = found = 0
    while at < len(code) and found < most:
        try:
            at += decode_bundle(code, at).size
        except DecodeError:
            break
        found += 1
    return found


def elf_generation(flags: int) -> Generation:
    """The generation that e_flags name; npu1 for flags that name none."""
    return BY_ELF_FLAGS.get(flags, NPU1)


def other_generation(programs: Iterable[CoreProgram]) -> tuple[CoreProgram, Generation] | None:
    """The first program that is of another generation than npu1, with that, or None."""
    known: dict[bytes, Generation] = {}
    for program in programs:
        generation = program.generation or known.get(program.code) or program_generation(program.code)
        known[program.code] = generation
        if generation is not NPU1:
            return program, generation
    return None


def require_npu1(programs: Iterable[CoreProgram]) -> None:
    """InputError where a program is of another generation, naming both."""
    found = other_generation(programs)
    if found is not None:
        program, generation = found
        title = program.title if program.core is not None else f"the {program.title}"
        raise InputError(
            f"{title} is code for {generation}; npuc reads and runs that of {NPU1}",
            remedy="give the file that was made for npu1",
        )
