"""Control-code ELFs: a TXN stream with relocations in place of patches, as public assemblers write for XRT.

A 32-bit ELF of machine 1 whose OS/ABI byte names the platform.  `.ctrltext` holds the stream; `.rela.dyn` says which
shim descriptors in it get the address of which kernel argument (a symbol whose name is the argument's number, opcode,
instructions and their count included).  Public structures: the assembler's ELF writer and XRT's reader; checked on
AMD's own files.  Only those sections are read, each with its bounds checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import elf, txn
from npuc.compiler.emit.layout import Layout, malformed, string_at, take
from npuc.compiler.target.generations import BY_CONTROL_CODE_ABI
from npuc.compiler.target.npu1 import geometry

WHAT = "control-code ELF"
MACHINE = 1
ABI_PLACE, ABI_VERSION_PLACE = 7, 8  # in e_ident
NPU_ABI = 69  # of AIE2 and AIE2P alike
TEXT, RELOCATIONS, SYMBOLS, STRINGS = ".ctrltext", ".rela.dyn", ".dynsym", ".dynstr"
RELOCATION = Layout("ELF relocation", ("offset", "I"), ("info", "I"), ("addend", "i"))
SHIM_DMA_48 = 5  # the kind of relocation that puts an argument's address into words 1 and 2 of a shim descriptor
FIRST_BUFFER = 3  # number of kernel argument bo0: opcode, instructions and their count come before it
_BD_BYTES = 4 * geometry.BD_WORDS["shim"]


@dataclass(frozen=True)
class Relocation:
    """At `offset` of the stream lies a descriptor that gets the address of kernel argument `symbol` plus `addend`."""

    offset: int
    kind: int
    symbol: str
    addend: int


def is_control_code(data: bytes) -> bool:
    """Whether it is a 32-bit little-endian ELF of the machine that control code names."""
    return data[:7] == elf.MAGIC and data[18:20] == MACHINE.to_bytes(2, "little")


def read_control_code(data: bytes) -> txn.Txn:
    """The stream with its relocations as DDR patches; InputError for what is malformed or for another platform."""
    sections = _sections(data)
    if TEXT not in sections:
        raise InputError(f"{WHAT}: no section {TEXT}; there is {', '.join(sections) or 'none'}")
    stream = _contents(data, sections[TEXT])
    read = txn.read_txn(stream)
    # Others are of what saves and restores a preempted context, which this stream does not run.
    own = [relocation for relocation, section in _relocations(data, sections) if section == sections[TEXT]["number"]]
    return txn.Txn(read.columns, _patched(stream, read, own), read.version, read.generation, read.rows)


@dataclass(frozen=True)
class Tables:
    """What a control-code ELF of any platform holds: section headers by name, symbols by name as elf.SYMBOL reads them,
    relocations.  abi: its OS/ABI byte."""

    abi: int
    sections: dict[str, dict[str, Any]]
    symbols: tuple[tuple[str, dict[str, Any]], ...]
    relocations: tuple[Relocation, ...]


def read_tables(data: bytes) -> Tables:
    """The tables alone; InputError for what is malformed."""
    sections = _named_sections(data)
    symbols: list[tuple[str, dict[str, Any]]] = []
    if {SYMBOLS, STRINGS} <= sections.keys():
        table, strings = (_contents(data, sections[name]) for name in (SYMBOLS, STRINGS))
        for entry in elf.SYMBOL.unpack_array(table, 0, len(table) // elf.SYMBOL.size):
            symbols.append((string_at(strings, entry["name"], "ELF symbol name") if entry["name"] else "", entry))
    found = tuple(relocation for relocation, _ in _relocations(data, sections))
    return Tables(data[ABI_PLACE], sections, tuple(symbols), found)


def platform(abi: int) -> str:
    """The generation that an OS/ABI byte names."""
    return "npu1 or npu2" if abi == NPU_ABI else str(BY_CONTROL_CODE_ABI.get(abi, "unknown"))


def _sections(data: bytes) -> dict[str, dict[str, Any]]:
    """Those of an ELF for npu1 or npu2."""
    found = _named_sections(data)
    abi = data[ABI_PLACE]
    if abi != NPU_ABI:
        raise malformed(WHAT, ABI_PLACE, f"OS/ABI {abi} ({platform(abi)}), {NPU_ABI} (npu1 and npu2) expected")
    return found


def _named_sections(data: bytes) -> dict[str, dict[str, Any]]:
    """Section headers by name, the first of each; `number` is the section's index."""
    if not is_control_code(data):
        raise malformed(WHAT, 0, f"not a 32-bit little-endian ELF of machine {MACHINE}")
    header = elf.HEADER.unpack(data)
    headers = elf.section_headers(data, header)
    if header["section_names"] >= len(headers):
        raise malformed(WHAT, 50, f"names in section {header['section_names']} of {len(headers)}")
    names = _contents(data, headers[header["section_names"]])
    found: dict[str, dict[str, Any]] = {}
    for number, section in enumerate(headers):
        name = string_at(names, section["name"], "ELF section names")
        found.setdefault(name, {**section, "number": number})
    return found


def _contents(data: bytes, section: dict[str, Any]) -> bytes:
    return take(data, section["offset"], section["size"], "ELF section")


def _relocations(data: bytes, sections: dict[str, dict[str, Any]]) -> list[tuple[Relocation, int]]:
    """All relocations, with the number of the section that the symbol of each lies in."""
    if not {RELOCATIONS, SYMBOLS, STRINGS} <= sections.keys():
        return []
    symbols, strings = (_contents(data, sections[name]) for name in (SYMBOLS, STRINGS))
    table, place = sections[RELOCATIONS], sections[RELOCATIONS]["offset"]
    found = []
    for entry in RELOCATION.unpack_array(data, place, table["size"] // RELOCATION.size):
        symbol = elf.SYMBOL.unpack(symbols, (entry["info"] >> 8) * elf.SYMBOL.size)
        kind, addend = entry["info"] & 0xFF, entry["addend"]
        if data[ABI_VERSION_PLACE] == 1:  # which has both in the addend
            kind, addend = addend & 15, addend >> 4
        name = string_at(strings, symbol["name"], "ELF symbol name")
        found.append((Relocation(entry["offset"], kind, name, addend), symbol["section"]))
    return found


def _patched(stream: bytes, read: txn.Txn, relocations: list[Relocation]) -> tuple[txn.Operation, ...]:
    """The operations with a patch behind every block write that a relocation names.

    The stream's own patches, which XRT leaves in, must say the same.
    """
    blocks = txn.block_places(stream)
    wanted: dict[int, list[txn.DdrPatch]] = {}
    for relocation in relocations:
        index, patch = _patch(read, blocks, relocation)
        wanted.setdefault(index, []).append(patch)
    operations: list[txn.Operation] = []
    due: dict[int, txn.DdrPatch] = {}  # by descriptor
    for index, operation in enumerate(read.operations):
        if isinstance(operation, txn.DdrPatch) and (other := due.get(operation.address & ~15)) is not None:
            if (operation.argument, operation.offset) != (other.argument, other.offset):
                raise InputError(
                    f"{WHAT}: operation {index} patches {operation.address:#x} with bo{operation.argument} + "
                    f"{operation.offset:#x}, its relocation with bo{other.argument} + {other.offset:#x}: which holds "
                    "is not known"
                )
            continue
        operations.append(operation)
        for patch in wanted.get(index, ()):
            operations.append(patch)
            due[patch.address & ~15] = patch
    return tuple(operations)


def _patch(read: txn.Txn, blocks: list[tuple[int, int]], relocation: Relocation) -> tuple[int, txn.DdrPatch]:
    """Index of the block write that holds the descriptor, and the patch of it."""
    where = f"relocation at {relocation.offset:#x} of {TEXT}"
    if relocation.kind != SHIM_DMA_48:
        raise InputError(f"{WHAT}: {where} is of kind {relocation.kind}, only {SHIM_DMA_48} (shim DMA) is modelled")
    number = re.fullmatch(r"\d{1,3}", relocation.symbol)
    if number is None or int(relocation.symbol) < FIRST_BUFFER:
        raise InputError(f"{WHAT}: {where} names {relocation.symbol!r}, which is no buffer argument of the kernel")
    for index, place in blocks:
        block = read.operations[index]
        assert isinstance(block, txn.BlockWrite)
        word = (relocation.offset - place) // 4
        if relocation.offset % 4 == 0 and 0 <= word and word + geometry.BD_WORDS["shim"] <= len(block.words):
            own = block.words[word + 1] | (block.words[word + 2] & 0xFFFF) << 32
            address = block.address + 4 * word
            return index, txn.DdrPatch(address + 4, int(relocation.symbol) - FIRST_BUFFER, own + relocation.addend)
    raise InputError(f"{WHAT}: {where} lies in no block write of {_BD_BYTES} bytes and more")
