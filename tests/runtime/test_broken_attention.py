"""npuc's own attention design, broken at places drawn by seed: each ends at once, with a tile, a unit and a cause."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from npuc.compiler.emit import cdo, txn
from npuc.compiler.emit.pdi import write_pdi
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1 import geometry
from npuc.passes.options import Options
from npuc.passes.pipeline import CompiledKernel, compile_attention
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import EmulationError

LIMIT = 5_000_000
BYTES = 64 * 64 * 2
Commands = list[cdo.Command]
Operations = list[txn.Operation]
Break = Callable[[random.Random, Commands, Operations], str]
BREAKS: dict[str, Break] = {}


def breaks(function: Break) -> Break:
    BREAKS[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def kernel() -> CompiledKernel:
    attention = Attention.make(heads=1, query_length=64, key_length=64, head_dim=64)
    return compile_attention(attention, Options(columns=1))


def run(commands: Commands, operations: Operations, *, strict: bool = True) -> None:
    device = Device(1, strict=strict)
    device.load_pdi(write_pdi(commands))
    for _ in range(2):  # what an output does not give back is missed by the next call
        device.run(operations, [bytearray(BYTES) for _ in range(4)], LIMIT)


def place(address: int) -> tuple[str, int]:
    """Name of the tile and offset in it."""
    column, row, offset = geometry.split_address(address)
    return f"{geometry.tile_kind(row)}({column},{row})", offset


def kind_of(address: int) -> str:
    return geometry.tile_kind(geometry.split_address(address)[1])


def draw(generator: random.Random, items: list, wanted: Callable) -> int:
    """The index of one that is wanted."""
    return generator.choice([index for index, item in enumerate(items) if wanted(item)])


def is_descriptor(command: object, kinds: tuple[str, ...] = ("core", "memtile")) -> bool:
    if not isinstance(command, (cdo.DmaWrite, txn.BlockWrite)):
        return False
    kind, offset = kind_of(command.address), place(command.address)[1]
    base = geometry.BD_BASE[kind]
    return kind in kinds and base <= offset < base + geometry.BD_STRIDE * geometry.BD_COUNT[kind]


def with_field(command: cdo.DmaWrite, name: str, change: Callable[[int], int]) -> cdo.DmaWrite:
    kind = kind_of(command.address)
    fields = geometry.unpack_bd(kind, command.words)
    fields[name] = change(fields[name])
    return replace(command, words=tuple(geometry.pack_bd(kind, **fields)))


# --- ways to break it: each returns the name of the tile it touched ----------------------------------------------
@breaks
def a_buffer_lock_starts_at_0(generator, commands, operations):
    def starts_with_buffers(command):
        tile, offset = place(command.address) if isinstance(command, cdo.Write) else ("", 0)
        base = geometry.LOCK_BASE["memtile"]
        return tile.startswith("memtile") and base <= offset < base + 0x400 and command.value > 0

    index = draw(generator, commands, starts_with_buffers)
    commands[index] = replace(commands[index], value=0)
    return place(commands[index].address)[0]


def another_lock(generator: random.Random, commands: Commands, uses: str, lock: str, value: int) -> str:
    """A core's descriptor that uses a lock uses one that nothing else does."""
    index = draw(
        generator, commands, lambda c: is_descriptor(c, ("core",)) and geometry.unpack_bd("core", c.words)[uses]
    )
    commands[index] = with_field(commands[index], lock, lambda _: value)
    return place(commands[index].address)[0]


@breaks
def a_descriptor_releases_another_lock(generator, commands, operations):
    return another_lock(generator, commands, "release_value", "release_lock", 15)


@breaks
def a_descriptor_acquires_another_lock(generator, commands, operations):
    return another_lock(generator, commands, "acquire_enable", "acquire_lock", 14)


@breaks
def a_descriptor_is_longer(generator, commands, operations):
    index = draw(generator, commands, lambda c: is_descriptor(c, ("core",)) and any(c.words))
    commands[index] = with_field(commands[index], "length", lambda words: words + 4)
    return place(commands[index].address)[0]


@breaks
def a_circuit_is_missing(generator, commands, operations):
    def master(command):
        if not isinstance(command, cdo.Write):
            return False
        tile, offset = place(command.address)
        return tile.startswith("core") and 0x3F000 < offset < 0x3F060 and command.value >> 31

    index = draw(generator, commands, master)
    return place(commands.pop(index).address)[0]


@breaks
def a_channel_is_not_started(generator, commands, operations):
    def push(command):
        if not isinstance(command, cdo.Write):
            return False
        tile, offset = place(command.address)
        return tile.startswith("core") and 0x1DE00 <= offset < 0x1DE20 and offset & 4

    index = draw(generator, commands, push)
    return place(commands.pop(index).address)[0]


@breaks
def a_core_is_not_enabled(generator, commands, operations):
    index = draw(
        generator,
        commands,
        lambda c: isinstance(c, cdo.MaskWrite) and c.value == 1 and place(c.address)[1] == geometry.CORE_CONTROL,
    )
    return place(commands.pop(index).address)[0]


@breaks
def a_core_has_no_program(generator, commands, operations):
    index = draw(
        generator,
        commands,
        lambda c: isinstance(c, cdo.DmaWrite) and place(c.address)[1] == geometry.PROGRAM_MEMORY_OFFSET,
    )
    commands[index] = replace(commands[index], words=(0xFFFFFFFF,) * len(commands[index].words))
    return place(commands[index].address)[0]


@breaks
def a_core_is_not_told_to_start(generator, commands, operations):
    def starts(operation):
        if not isinstance(operation, txn.Write):
            return False
        tile, offset = place(operation.address)
        return tile.startswith("core") and geometry.LOCK_BASE["core"] <= offset < geometry.LOCK_BASE["core"] + 0x100

    index = draw(generator, operations, starts)
    return place(operations.pop(index).address)[0]


@breaks
def a_transfer_is_shorter(generator, commands, operations):
    index = draw(generator, operations, lambda o: is_descriptor(o, ("shim",)))
    operations[index] = with_field(operations[index], "length", lambda words: words // 2)
    return place(operations[index].address)[0]


@breaks
def a_transfer_is_not_pushed(generator, commands, operations):
    def push(operation):
        if not isinstance(operation, txn.Write):
            return False
        tile, offset = place(operation.address)
        return tile.startswith("shim") and 0x1D200 <= offset < 0x1D220

    index = draw(generator, operations, push)
    return place(operations.pop(index).address)[0]


@breaks
def a_patch_names_a_buffer_that_is_not_there(generator, commands, operations):
    index = draw(generator, operations, lambda o: isinstance(o, txn.DdrPatch))
    operations[index] = replace(operations[index], argument=9)
    return f"sequence operation {index}"


@pytest.mark.parametrize("name", BREAKS)
def test_the_broken_attention_design_is_diagnosed(kernel, name, seed):
    generator = random.Random(f"{seed} {name}")
    commands, operations = list(kernel.commands), list(kernel.control.operations)
    touched = BREAKS[name](generator, commands, operations)
    with pytest.raises(EmulationError) as caught:
        run(commands, operations)
    text = "\n".join([str(caught.value), *caught.value.details])
    print(f"{name}, {touched}:\n{text}")
    assert touched in text
    assert re.search(r"(core|memtile|shim)\(0,\d\)|buffer argument 9", str(caught.value))
    assert "not finished after" not in text


def test_the_design_runs_clean_in_strict_mode_as_it_stands(kernel):
    run(list(kernel.commands), list(kernel.control.operations))
