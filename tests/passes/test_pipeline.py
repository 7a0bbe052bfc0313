"""From attention to XCLBIN bytes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from facts_tools import FACTS, tool

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.diagnostics import InputError, ResourceError, UsageError
from npuc.compiler.emit.cdo import DmaWrite, MaskWrite, read_cdo
from npuc.compiler.emit.elf import CoreImage, read_elf
from npuc.compiler.emit.npua import read_npua
from npuc.compiler.emit.pdi import read_pdi
from npuc.compiler.emit.txn import read_txn
from npuc.compiler.emit.xclbin import read_xclbin
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.interface import kernel_name
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import configure
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.streams import make_design
from npuc.passes.options import Options
from npuc.passes.pipeline import PIPELINE, CompiledKernel, compile_attention, passes_until

SMALL = Attention.make(heads=2, query_length=64, head_dim=64, dtype="f32", function="sdpa.small")
TINY = Attention.make(heads=1, query_length=8, head_dim=8)


@pytest.fixture(scope="module")
def compiled() -> tuple[CompiledKernel, list[tuple[str, str]]]:
    shown: list[tuple[str, str]] = []
    options = Options(columns=2, print_ir_after=lambda name, text: shown.append((name, text)))
    return compile_attention(SMALL, options), shown


def test_every_pass_shows_its_result_in_order(compiled: tuple[CompiledKernel, list[tuple[str, str]]]) -> None:
    shown = compiled[1]
    assert [name for name, _ in shown] == [step.name for step in PIPELINE]
    assert all(text.endswith("\n") for _, text in shown)


def test_machine_ir_is_shown_one_operation_a_line_with_what_it_is_for(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    text = dict(compiled[1])["kernel"]
    lines = text.splitlines()
    assert lines[0] == "program attention {" and lines[-1] == "}" and len(lines) > 200
    assert max(map(len, lines)) < 200 and "Op(" not in text and "object at" not in text
    assert any(line.startswith("    counted_loop item") for line in lines)
    assert sum(line.strip() == "}" for line in lines) == sum(line.endswith("{") for line in lines)


def test_the_source_of_every_lock_instruction_names_the_lock_and_what_is_done_to_it(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    kernel, _ = compiled
    program = next(iter(kernel.programs.values()))
    sources = dict(program.lines)
    names = {number: name for name, number in kernel.plan.core_locks.items()}
    told, seen = "", set()
    for bundle in decode_program(program.code):
        told = sources.get(bundle.address, told)
        for decoded in bundle.instructions:
            if decoded.instruction.side_effect == "lock":
                action = {"acq": "acquire", "rel": "release"}[decoded.instruction.mnemonic]
                number = int(decoded.operands[0])
                north = geometry.CORE_LOCK_NORTH <= number < geometry.CORE_LOCK_OWN
                lock = names[number - (geometry.CORE_LOCK_NORTH if north else geometry.CORE_LOCK_OWN)]
                wanted = f"{action} {lock} of the core in the north" if north else f"{action} {lock}"
                assert wanted in told, (hex(bundle.address), told)
                seen.add((action, lock))
    assert len(seen) >= len(names)


@pytest.mark.parametrize("last", [step.name for step in PIPELINE])
def test_the_pipeline_stops_after_any_pass_with_what_its_passes_make(last: str) -> None:
    kernel = compile_attention(TINY, Options(columns=1), until=last)
    made = {field for step in passes_until(last) for field in step.makes}
    given = {"attention", "options", "source"}
    assert {f.name for f in fields(CompiledKernel) if hasattr(kernel, f.name)} == made | given


def test_every_pass_runs_on_what_it_says_it_needs() -> None:
    whole = compile_attention(TINY, Options(columns=1))
    for step in PIPELINE:
        kernel = CompiledKernel(whole.attention, whole.options)
        for field in step.needs:
            setattr(kernel, field, getattr(whole, field))
        step.run(kernel)
        assert {f.name for f in fields(kernel) if hasattr(kernel, f.name)} == {
            "attention", "options", "source", *step.needs, *step.makes
        }  # fmt: skip


def test_the_same_source_gives_the_same_bytes(compiled: tuple[CompiledKernel, list[tuple[str, str]]]) -> None:
    assert compile_attention(SMALL, Options(columns=2)).xclbin == compiled[0].xclbin


def test_the_xclbin_holds_the_image_and_the_npua_that_describes_it(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    kernel = compiled[0]
    xclbin = read_xclbin(kernel.xclbin)
    assert xclbin.pdi == kernel.pdi and xclbin.columns == 2
    (entry,) = xclbin.kernels
    assert (entry.name, entry.arguments) == ("sdpa_small", ("q", "k", "v", "o"))
    embedded, alone = read_npua(entry.npua), read_npua(kernel.npua)
    assert embedded.pdi is None and alone.pdi == kernel.pdi
    assert embedded.pdi_sha256 == hashlib.sha256(kernel.pdi).digest()
    assert embedded.metadata == json.loads(json.dumps(kernel.metadata))
    assert all(program.symbols and program.lines for program in alone.programs)
    assert embedded.programs == alone.programs
    assert read_txn(embedded.control.instantiate({})).columns == 2


def test_metadata_declares_the_arguments_as_the_device_sees_them(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    arguments = compiled[0].metadata["arguments"]
    assert [(a["name"], a["role"], a["direction"], a["buffer"]) for a in arguments] == [
        ("q", "q", "in", 0),
        ("k", "k", "in", 1),
        ("v", "v", "in", 2),
        ("o", "out", "out", 3),
    ]
    assert all(a["dtype"] == "f32" and a["device_dtype"] == "bf16" for a in arguments)


def test_cdo_and_pdi_hold_the_same_commands(compiled: tuple[CompiledKernel, list[tuple[str, str]]]) -> None:
    kernel = compiled[0]
    assert tuple(read_cdo(kernel.cdo)) == tuple(read_pdi(kernel.pdi).commands) == tuple(kernel.commands)


def test_every_core_has_the_program_and_is_enabled_last(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    kernel = compiled[0]
    tiles = make_design(kernel.plan).tiles
    assert sorted(kernel.elfs) == sorted(kernel.programs) == tiles
    assert read_elf(kernel.elfs[tiles[0]]).program == kernel.programs[tiles[0]].code
    enables = kernel.commands[-len(tiles) :]
    places = [geometry.tile_address(*tile, geometry.CORE_CONTROL) for tile in tiles]
    assert list(enables) == [MaskWrite(place, 1, 1) for place in places]
    programs = {
        geometry.split_address(command.address)[:2]
        for command in kernel.commands
        if isinstance(command, DmaWrite) and command.address & 0xFFFFF == geometry.PROGRAM_MEMORY_OFFSET
    }
    assert programs == set(tiles)


def test_the_independent_checker_finds_no_violation(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kernel.xclbin"
    file.write_bytes(compiled[0].xclbin)
    registers = str(FACTS / "platform" / "registers_aie2.json")
    status = tool("check_xclbin").main(["--regs", registers, str(file)])
    assert status == 0, capsys.readouterr().out


def test_a_program_beyond_program_memory_is_a_resource_error() -> None:
    plan = make_plan(SMALL, Options(columns=1))
    images = {tile: CoreImage(bytes(16_400)) for tile in make_design(plan).tiles}
    with pytest.raises(ResourceError, match="16,400 bytes.*16,384"):
        configure(make_design(plan, images))


def test_program_loads_are_multiples_of_16_bytes(compiled: tuple[CompiledKernel, list[tuple[str, str]]]) -> None:
    # facts/platform/pdi_cdo.md, "Habits of public npu1 files worth keeping"
    plan = compiled[0].plan
    for command in configure(make_design(plan, {tile: CoreImage(bytes(20)) for tile in make_design(plan).tiles})):
        if isinstance(command, DmaWrite) and command.address & 0xFFFFF == geometry.PROGRAM_MEMORY_OFFSET:
            assert len(command.words) == 8


def test_memory_tile_channels_are_reset_before_they_are_configured(
    compiled: tuple[CompiledKernel, list[tuple[str, str]]],
) -> None:
    kernel = compiled[0]
    for column in range(kernel.plan.columns):
        for direction in geometry.DIRECTIONS:
            for channel in range(geometry.CHANNEL_COUNT["memtile"]):
                offset = geometry.channel_control_offset("memtile", direction, channel)
                place = geometry.tile_address(column, geometry.MEMTILE_ROW, offset)
                queue = place + geometry.CHANNEL_QUEUE_OFFSET
                assert place == next(
                    c.address for c in kernel.commands if getattr(c, "address", None) in (place, queue)
                )  # type: ignore[union-attr]
                written = [c for c in kernel.commands if getattr(c, "address", None) == place]
                assert written == [MaskWrite(place, 2, 2), MaskWrite(place, 2, 0)]


def test_impossible_values_of_options_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="sequence=odd: possible are default, plain"):
        compile_attention(SMALL, Options(options={"sequence": "odd"}))


def test_options_no_pass_knows_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="speed.*query_block"):
        compile_attention(SMALL, Options(options={"speed": "high"}))


def test_a_precision_that_is_not_supported_is_refused() -> None:
    with pytest.raises(InputError, match="int8"):
        compile_attention(replace(SMALL, softcap=5.0), Options(precision="int8"))


@pytest.mark.parametrize(
    "function,name", [("attention", "attention"), ("a.b-c", "a_b_c"), ("0x", "k_0x"), ("", "k_"), ("é", "k__")]
)
def test_kernel_names_are_letters_digits_and_underscores(function: str, name: str) -> None:
    assert kernel_name(function) == name


def test_registers_that_do_not_suffice_where_all_passes_of_a_loop_lie_in_its_ramps_are_found():
    """Wide heads, few queries, many registers: the loop over the probabilities has two passes, which overlap."""
    attention = Attention.make(heads=4, query_length=1, head_dim=256, key_length=2048, recipe="accurate")
    assert compile_attention(attention, Options(), "codegen").programs
