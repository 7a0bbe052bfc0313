"""The hand-scheduled 32x32x32 bf16 experiment: right to the bit, 256 of 288 bundles multiply, 282 cycles over empty."""

from __future__ import annotations

import calibration_core
import numpy as np
import pytest
from calibration_core import A, B, C, nops
from calibration_core import loaded as core_with
from ml_dtypes import bfloat16

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import decode_program
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.engines import ENGINES
from npuc.runtime.emulator.suspension import Done
from npuc.runtime.validation import hand_scheduled

SEED = 3
BUNDLES, MULTIPLIES, CYCLES_OVER_EMPTY = 288, 256, 282  # facts/silicon/calibration.json, core.hand_bf16_32cubed


def called(function: str, times: int) -> Core:
    """A core that will call the function, its pointers set in the delay slots of each call."""
    pointers = "".join(f" movxm p{i}, #{place}\n" for i, place in enumerate((A, B, C, C)))
    return core_with(
        f"nop\n mova r31, #{times}\n event #0\ncall:\n jl #function\n{pointers}nop\n add r31, r31, #-1\n"
        f" jnz r31, #call\n{nops(5)} event #1\n{nops(8)} done\n{nops(6)}function:\n{function}"
    )


def run(core: Core) -> int:
    assert isinstance(core.run(0, 1_000_000), Done)
    return core.events[1][0] - core.events[0][0]


def tiled(matrix: np.ndarray, rows: int, columns: int) -> bytes:
    height, width = matrix.shape
    return matrix.reshape(height // rows, rows, width // columns, columns).transpose(0, 2, 1, 3).tobytes()


def test_the_program_has_160_bundles_and_a_loop_of_64() -> None:
    assembly = assemble(f"{hand_scheduled.text()}\n")
    bundles = decode_program(assembly.code)[:160]
    assert [b.address for b in bundles].index(assembly.symbols["loop"]) == 49
    assert [b.address for b in bundles].index(assembly.symbols["loop_end"]) == 49 + 63
    assert len(bundles) == 160
    assert hand_scheduled.loop_passes_are_alike()


@pytest.mark.parametrize("engine", ENGINES)
def test_it_takes_282_cycles_over_an_empty_call_and_the_product_is_right(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_core, "ENGINE", engine)
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    a, b = (random.integers(-8, 9, (32, 32)).astype(bfloat16) for _ in range(2))
    c = random.integers(-100, 100, (32, 32)).astype(np.float32)
    times = 3
    core = called(hand_scheduled.text(), times)
    for place, matrix, tile in ((A, a, (4, 8)), (B, b, (8, 4)), (C, c, (4, 4))):
        core.data_memory.write(place - OWN_MEMORY, tiled(matrix, *tile))
    cycles = run(core)
    expected = c + times * (a.astype(np.float32) @ b.astype(np.float32))  # integers: exact in fp32
    assert core.data_memory.read(C - OWN_MEMORY, 4096) == tiled(expected, 4, 4)
    empty = called(f"ret lr\n{nops(5)}", times)
    empty_cycles = run(empty)
    assert core.stall_memory == 0
    assert core.mac_bundles == MULTIPLIES * times
    assert core.bundles - empty.bundles == (BUNDLES - 6) * times
    assert cycles - empty_cycles == CYCLES_OVER_EMPTY * times
