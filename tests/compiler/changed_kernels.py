"""A small compiled kernel, and the same with one thing changed, rebuilt so that hashes and lengths are right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from npuc.compiler import driver
from npuc.compiler.asm.codec import Bundle, decode_program, encode_bundle
from npuc.compiler.emit import cdo, npua, pdi, xclbin
from npuc.compiler.emit.npua import Npua
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.inspect.diff.report import Difference, Report
from npuc.compiler.target.npu1 import geometry

Commands = list[cdo.Command]


@cache
def compiled() -> driver.Compiled:
    """One head, S = D = 64, one column."""
    attention = Attention.make(heads=1, query_length=64, key_length=64, head_dim=64)
    return driver.compile_description(attention, driver.Settings(columns=1))


def kernel() -> bytes:
    """Its xclbin."""
    return compiled().xclbin


def with_commands(change: Callable[[Commands], None]) -> bytes:
    """The kernel with changed register writes."""
    file = xclbin.read_xclbin(kernel())
    commands = list(pdi.read_pdi(file.pdi).commands)
    change(commands)
    return _rebuilt(file, pdi.write_pdi(commands), lambda data: data)


def with_npua(change: Callable[[Npua], Npua]) -> bytes:
    """The kernel with changed metadata, runtime sequence or symbols."""
    file = xclbin.read_xclbin(kernel())
    return _rebuilt(file, file.pdi, change)


def _rebuilt(file: xclbin.Xclbin, image: bytes, change: Callable[[Npua], Npua]) -> bytes:
    kernels = []
    for entry in file.kernels:
        data = replace(change(npua.read_npua(entry.npua)), pdi_sha256=hashlib.sha256(image).digest())
        kernels.append(replace(entry, npua=npua.write_npua(data)))
    return xclbin.write_xclbin(replace(file, kernels=tuple(kernels), pdi=image, pdis=()))


def program_writes(commands: Commands) -> list[int]:
    """Places of the commands that load programs, one a core."""
    return [
        place
        for place, command in enumerate(commands)
        if isinstance(command, cdo.DmaWrite)
        and geometry.split_address(command.address)[2] == geometry.PROGRAM_MEMORY_OFFSET
    ]


def code_of(command: cdo.DmaWrite) -> bytes:
    """The program a command loads, without the bytes that fill its last word."""
    size = npua.read_npua(xclbin.read_xclbin(kernel()).kernels[0].npua).programs[0].program_bytes
    return b"".join(word.to_bytes(4, "little") for word in command.words)[:size]


def loading(command: cdo.DmaWrite, code: bytes) -> cdo.DmaWrite:
    """The command with another program."""
    code += bytes(-len(code) % 4)
    return replace(command, words=tuple(int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)))


def encoded(bundle: Bundle, change: Callable[[str, tuple[Any, ...]], tuple[Any, ...]]) -> bytes:
    """A bundle with operands changed by `change(slot, operands)`, in its own size."""
    slots = {slot: (d.instruction, change(slot, d.operands)) for slot, d in bundle.slots.items()}
    return encode_bundle(slots, bundle.size)


def with_inserted_nop(code: bytes, address: int) -> bytes:
    """The program with a four-byte nop in front of the bundle at `address`, and every code address moved along."""

    def moved(value: int) -> int:
        return value + 4 if value >= address else value

    result = bytearray()
    for bundle in decode_program(code):
        if bundle.address == address:
            result += encode_bundle({}, 4)
        changed = {}
        for slot, d in bundle.slots.items():
            is_code = d.instruction.has_delay_slots or {"ls", "le"} & set(d.operands)
            operands = tuple(moved(v) if is_code and isinstance(v, int) else v for v in d.operands)
            changed[slot] = (d.instruction, operands)
        result += encode_bundle(changed, bundle.size)
    return bytes(result)


def counted(report: Report) -> list[tuple[str, Difference]]:
    """(section, difference) of what does not follow from others."""
    return [(section.name, d) for section in report.sections for d in section.differences if not d.derived]


def places(report: Report) -> Sequence[str]:
    """Their places."""
    return [difference.place for _, difference in counted(report)]
