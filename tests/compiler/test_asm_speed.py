"""Large files in seconds: 150,000 bundles, of which one in eight is a new one, as in vendors' files."""

from __future__ import annotations

import random
import time

import pytest

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.listing import list_file
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.emit import cdo
from npuc.compiler.target.aie2.formats import FORMATS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES
from npuc.compiler.target.npu1 import geometry

BUNDLES, DISTINCT, CORES = 150_000, 20_000, 100


def some_bundle(rng: random.Random) -> bytes:
    form = rng.choice(FORMATS)
    slots = {}
    for slot, _, _ in form.places:
        instruction = rng.choice(BY_SLOT[slot])
        values: dict[str, str | int] = {}
        for o in instruction.operands:
            if o.kind == "register":
                names = list(REGISTER_CLASSES[o.register_class or ""].values)
                values[o.name] = values[o.tied_to] if o.tied_to else rng.choice(names)
            else:
                values[o.name] = o.register or rng.randrange(o.minimum, o.maximum + 1, o.step)
        slots[slot] = instruction, tuple(values.values())
    return encode_bundle(slots, form.size)


BY_SLOT = {slot: [i for i in INSTRUCTIONS.values() if i.slot == slot] for slot in SLOTS}


@pytest.mark.slow
def test_a_file_of_150_000_bundles_is_listed_in_8_and_assembled_in_20_seconds(seed: int) -> None:
    rng = random.Random(seed)
    distinct = [some_bundle(rng) for _ in range(DISTINCT)]
    commands = []
    for core in range(CORES):
        code = b"".join(rng.choices(distinct, k=BUNDLES // CORES))
        code = code[: geometry.PROGRAM_MEMORY_SIZE - 16]
        words = tuple(int.from_bytes(code[i : i + 4].ljust(4, b"\0"), "little") for i in range(0, len(code), 4))
        commands.append(cdo.DmaWrite(geometry.tile_address(core // 4, 2 + core % 4, 0x20000), words))
    data = cdo.write_cdo(commands)
    begin = time.process_time()
    text = list_file(data, "k.cdo")
    listed = time.process_time()
    programs = assemble(text).programs
    assembled = time.process_time()
    count = sum(len(p.lines) for p in programs)
    print(f"{count:,} bundles: listed in {listed - begin:.1f} s, assembled in {assembled - listed:.1f} s")
    assert [p.code for p in programs] == [p.code for p in read_programs(data)]
    assert count > 0.8 * BUNDLES
    assert listed - begin < 8 and assembled - listed < 20
