"""The whole array on the emulator, with a core program that moves and adds words in place of attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stand_in_core import StandIn, expected_output

from npuc.compiler.emit import elf, pdi, txn
from npuc.compiler.frontend.attention import Attention
from npuc.passes.array.configure import configure
from npuc.passes.attention.call import Call
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.sequence import sequence
from npuc.passes.attention.streams import make_design
from npuc.passes.attention.transfers import whole_arguments
from npuc.passes.machine import codegen
from npuc.passes.options import Options

device = pytest.importorskip("npuc.runtime.emulator.device")
CYCLES = 8_000_000
# columns, columns in a group, shape
SHAPES = [
    (1, 1, dict(heads=1, query_length=64, head_dim=64)),
    (2, 1, dict(heads=3, query_length=64, key_length=96, head_dim=64)),
    (4, 1, dict(heads=9, query_length=64, key_length=64, head_dim=128, kv_heads=3)),
    (1, 1, dict(heads=3, query_length=128, key_length=32, head_dim=64, batch=2)),
    (4, 2, dict(heads=6, query_length=300, key_length=96, head_dim=128, kv_heads=3, batch=2)),
    (4, 4, dict(heads=2, query_length=65, key_length=64, head_dim=64)),
]


def grouped(plan: Plan, group_columns: int) -> Plan:
    return replace(plan, group_columns=group_columns)


@pytest.mark.parametrize(
    "columns,group_columns,shape,style",
    [*((*shape, "default") for shape in SHAPES), *((*shape, "plain") for shape in SHAPES[1::3])],
    ids=str,
)
def test_words_go_through_the_array_to_their_places_run_after_run(
    columns: int, group_columns: int, shape: dict[str, int], style: str
) -> None:
    attention = Attention.make(**shape)  # type: ignore[arg-type]
    plan = grouped(make_plan(attention, Options(columns=columns, options={"split": "0"})), group_columns)
    emulated = booted(plan)
    seed = 7
    print("seed", seed)
    random = np.random.default_rng(seed)
    for _ in range(2):
        check_run(emulated, plan, plan.call, style, random)


@pytest.mark.parametrize("group_columns", [1, 2])
def test_lengths_grow_shrink_and_repeat_on_one_loaded_array(group_columns: int) -> None:
    attention = Attention.make(heads=2, query_length=256, head_dim=64)
    plan = grouped(make_plan(attention, Options(columns=2, options={"query_block": "32", "split": "0"})), group_columns)
    emulated = booted(plan)
    random = np.random.default_rng(3)
    for batch, queries, keys in ((1, 256, 64), (1, 1, 32), (2, 17, 96), (1, 513, 32), (1, 1, 32), (1, 256, 64)):
        call = replace(plan.call, batch=batch, query_length=queries, key_length=keys)
        check_run(emulated, plan, call, "default", random)


def booted(plan: Plan) -> Any:
    program = codegen.generate(StandIn(plan).program())
    images = {tile: elf.CoreImage(program.code) for tile in make_design(plan).tiles}
    image = pdi.write_pdi(configure(make_design(plan, images)))
    emulated = device.Device(plan.columns)
    emulated.load_pdi(image)
    return emulated


def check_run(emulated: Any, plan: Plan, call: Call, style: str, random: np.random.Generator) -> None:
    """One call on random words: every output word right, nothing written around the output."""
    operands = whole_arguments(plan, call, {"q": 0, "k": 1, "v": 2, "out": 3})
    guard = 4096
    operands = replace(operands, o=replace(operands.o, offset=guard))
    words = txn.read_txn(sequence(plan, call, operands, style)).operations
    q, k, v = (
        random.integers(0, 1 << 32, (call.batch, heads, length, plan.row_words), dtype=np.uint32)
        for heads, length in (
            (call.heads, call.query_length),
            (call.kv_heads, call.key_length),
            (call.kv_heads, call.key_length),
        )
    )
    sentinel = bytes(range(256)) * (guard // 256)
    buffers = [bytearray(words.tobytes()) for words in (q, k, v)]
    buffers.append(bytearray(sentinel + bytes(q.nbytes) + sentinel))
    statistics = emulated.run(words, buffers, CYCLES)
    result = np.frombuffer(buffers[3][guard:-guard], np.uint32).reshape(q.shape)
    assert np.array_equal(result, expected_output(plan, call, q, k, v))
    assert buffers[3][:guard] == buffers[3][-guard:] == sentinel
    assert statistics.warnings == ()
