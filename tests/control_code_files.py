"""Control-code ELFs as public assemblers lay them out, written here with struct alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence

SHIM_DMA = 5


def control_code(
    stream: bytes, relocations: Sequence[tuple[int, str, int]], *, abi: int = 69, version: int = 2, kind: int = SHIM_DMA
) -> bytes:
    """An ELF with the stream as .ctrltext; relocations: (offset of a descriptor in it, symbol, bytes to add)."""
    names = ("", ".shstrtab", ".ctrltext", ".dynstr", ".dynsym", ".rela.dyn")
    headers, strings, symbols = b"\0", b"\0", bytes(16)
    places = {}
    for name in names[1:]:
        places[name] = len(headers)
        headers += name.encode() + b"\0"
    numbers: dict[str, int] = {}
    for _, symbol, _ in relocations:
        if symbol not in numbers:
            numbers[symbol] = 1 + len(numbers)
            symbols += struct.pack("<IIIBBH", len(strings), 0, 4, 0x11, 0, 2)
            strings += symbol.encode() + b"\0"
    table = b""
    for offset, symbol, addend in relocations:
        packed = (addend << 4 | kind, 0) if version == 1 else (addend, kind)
        table += struct.pack("<IIi", offset, numbers[symbol] << 8 | packed[1], packed[0])
    body, sections = b"", [struct.pack("<10I", *(10 * [0]))]
    for name, kind_, data in (
        (".shstrtab", 3, headers), (".ctrltext", 1, stream), (".dynstr", 3, strings), (".dynsym", 11, symbols),
        (".rela.dyn", 4, table),
    ):  # fmt: skip
        link, entry = {".dynsym": (3, 16), ".rela.dyn": (4, 12)}.get(name, (0, 0))
        sections.append(struct.pack("<10I", places[name], kind_, 0, 0, 52 + len(body), len(data), link, 0, 1, entry))
        body += data
    ident = b"\x7fELF\x01\x01\x01" + bytes([abi, version]) + bytes(7)
    header = struct.pack("<HHIIIIIHHHHHH", 2, 1, 1, 0, 0, 52 + len(body), 0, 52, 32, 0, 40, len(sections), 1)
    return ident + header + body + b"".join(sections)
