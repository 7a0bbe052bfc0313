"""The compiled attention programs against the fact sheets: encodings, schedule, and the schedules they reach."""

from __future__ import annotations

import pytest
from facts_tools import FACTS, schedule_findings, tool

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.asm.text import format_bundle
from npuc.compiler.emit.elf import read_elf
from npuc.compiler.emit.pdi import read_pdi
from npuc.compiler.emit.xclbin import read_xclbin
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.inspect.summary import summarise
from npuc.passes.machine.codegen import CoreProgram
from npuc.passes.options import Options
from npuc.passes.pipeline import CompiledKernel, compile_attention

# Every query block the planner may choose, both head sizes, a scale that is no power of two.
SHAPES = [
    dict(head_dim=head_dim, query_length=4 * block, key_length=keys, heads=1, scale=scale)
    for head_dim, block, keys, scale in (
        (64, 16, 64, 0.125),
        (64, 48, 320, 0.3),
        (64, 64, 64, 0.3),
        (128, 16, 320, 0.125),
        (128, 32, 64, 0.3),
    )
] + [  # the longest programs
    dict(head_dim=64, query_length=64, heads=1, mask="add", dtype="f32", softcap=30.0, recipe="accurate", causal=True),
    dict(head_dim=256, query_length=64, heads=1, mask="keep", softcap=30.0, window=9),
]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def compiled(request: pytest.FixtureRequest) -> CompiledKernel:
    return compile_attention(Attention.make(**request.param), Options())


def programs(kernel: CompiledKernel) -> list[CoreProgram]:
    """Each different program once."""
    return list({program.code: program for program in kernel.programs.values()}.values())


def test_every_word_decodes_by_the_facts_to_the_same_text(compiled: CompiledKernel) -> None:
    isa_facts = tool("check_isa_facts")
    isa = isa_facts.Isa(str(FACTS / "isa"))
    for program in programs(compiled):
        found = isa_facts.sweep(isa, program.code)
        ours = decode_program(program.code)
        assert len(found) == len(ours) > 100
        for (offset, decoded), bundle in zip(found, ours, strict=True):
            assert decoded is not None and offset == bundle.address
            assert isa.bundle_text(decoded[2]) == format_bundle(bundle)
            assert isa.encode_bundle(decoded[1], [part[:3] for part in decoded[2]]) == bytes(
                program.code[offset : offset + bundle.size]
            )


def test_the_schedule_facts_find_no_error_and_the_same_hardware_loops(compiled: CompiledKernel) -> None:
    for program in programs(compiled):
        loops, errors = schedule_findings([("attention", program.code)])
        assert errors == []
        assert loops == program.hardware_loops > 5


def test_elf_and_image_hold_exactly_the_generated_code(compiled: CompiledKernel) -> None:
    tiles = {tile["tile"]: tile for tile in summarise(read_pdi(read_xclbin(compiled.xclbin).pdi).commands)["tiles"]}
    for (column, row), program in compiled.programs.items():
        assert read_elf(compiled.elfs[column, row]).program == program.code
        written = tiles[f"core({column},{row})"]
        assert written["program_bytes"] == -(-len(program.code) // 4) * 4 and written["enabled"]


@pytest.mark.parametrize("head_dim", [64, 128])
@pytest.mark.parametrize("recipe", ["fast", "accurate"])
def test_no_bundle_of_the_loop_of_scores_loads_keys_twice(recipe: str, head_dim: int) -> None:
    """Both halves of a block of keys may lie in one bank.  A pass has four loads of Q, beside each of which one of K
    may go, and two of K nowhere."""
    kernel = compile_attention(Attention.make(heads=1, query_length=128, head_dim=head_dim, recipe=recipe), Options())
    (program,) = programs(kernel)
    starts = {name: address for address, name in program.symbols}
    loops = [one for one in program.statistics["loops"] if one["name"].startswith("scores.") or one["name"] == "scores"]
    assert loops and all(one["interval"] == one["resource_bound"] for one in loops)
    for one in loops:
        end = starts[one["name"]] + one["bytes"]
        bundles = [b for b in decode_program(program.code) if starts[one["name"]] <= b.address < end]
        assert len(bundles) == one["bundles"]
        texts = [format_bundle(bundle) for bundle in bundles]
        assert sum("vlda" in text and "vldb" in text for text in texts) <= 4
