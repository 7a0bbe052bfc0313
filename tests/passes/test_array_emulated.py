"""The whole array on the emulator, with a core program that moves and adds words in place of attention."""

from __future__ import annotations

import numpy as np
import pytest
from stand_in_core import StandIn, expected_output

from npuc.compiler.emit import elf, pdi
from npuc.compiler.frontend.attention import Attention
from npuc.passes.array.configure import configure, core_tiles
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.sequence import BufferNumbers, runtime_sequence
from npuc.passes.machine import codegen
from npuc.passes.options import Options

device = pytest.importorskip("npuc.runtime.emulator.device")
CYCLES = 2_000_000
SHAPES = [
    (1, dict(heads=1, query_length=64, head_dim=64)),
    (2, dict(heads=3, query_length=64, key_length=96, head_dim=64)),
    (4, dict(heads=9, query_length=64, key_length=64, head_dim=128, kv_heads=3)),
    (1, dict(heads=3, query_length=128, key_length=32, head_dim=64, batch=2)),
]


@pytest.mark.parametrize("columns,shape", SHAPES, ids=str)
def test_words_go_through_the_array_to_their_places_run_after_run(columns: int, shape: dict[str, int]) -> None:
    attention = Attention.make(**shape)  # type: ignore[arg-type]
    plan = make_plan(attention, Options(columns=columns))
    program = codegen.generate(StandIn(plan).program())
    image = pdi.write_pdi(configure(plan, {tile: elf.CoreImage(program.code) for tile in core_tiles(plan)}))
    sequence = runtime_sequence(plan, BufferNumbers(0, 1, 2, 3)).operations
    emulated = device.Device(plan.columns)
    emulated.load_pdi(image)
    seed = 7
    print("seed", seed)
    random = np.random.default_rng(seed)
    for _ in range(2):
        q, k, v = (
            random.integers(0, 1 << 32, (*attention.full_shape(role)[:3], plan.row_words), dtype=np.uint32)
            for role in ("q", "k", "v")
        )
        buffers = [bytearray(words.tobytes()) for words in (q, k, v)] + [bytearray(q.nbytes)]
        statistics = emulated.run(sequence, buffers, CYCLES)
        assert np.array_equal(np.frombuffer(buffers[3], np.uint32).reshape(q.shape), expected_output(plan, q, k, v))
        assert statistics.warnings == ()
