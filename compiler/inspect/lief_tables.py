"""Sections, symbols and relocations of any ELF by lief, as JSON, in a process of its own: a damaged file may end it.

The file comes by standard input, the tables leave by standard output.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

MEMORY_LIMIT = 4 << 30  # bytes


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _word(value: Any) -> str:
    """A constant of lief as ELF names it: `SHT_NULL_` and `TYPE.PROGBITS` lose what is not the name."""
    return str(getattr(value, "name", value)).removeprefix("SHT_").rstrip("_")


def tables(data: bytes) -> dict[str, Any] | None:
    """class, byte_order, machine, type, entry, segments, sections, symbols, relocations; None where that is no ELF."""
    import lief

    lief.logging.disable()
    binary = lief.ELF.parse(list(data))
    if binary is None:
        return None
    header = binary.header
    return {
        "class": 64 if _word(header.identity_class).endswith("64") else 32,
        "byte_order": "big" if _word(header.identity_data) == "MSB" else "little",
        "machine": _word(header.machine_type),
        "type": _word(header.file_type),
        "entry": header.entrypoint,
        "segments": len(binary.segments),
        "sections": [
            {
                "name": _text(section.name),
                "type": _word(section.type),
                "address": section.virtual_address,
                "offset": section.offset,
                "bytes": section.size,
            }
            for section in binary.sections
        ],
        "symbols": [
            {
                "name": _text(symbol.name),
                "address": symbol.value,
                "bytes": symbol.size,
                "kind": _word(symbol.type).lower(),
                "binding": _word(symbol.binding).lower(),
                "section": symbol.shndx,
            }
            for symbol in binary.symbols
            if symbol.name
        ],
        "relocations": [
            {
                "address": relocation.address,
                "type": _word(relocation.type),
                "symbol": None if relocation.symbol is None else _text(relocation.symbol.name),
                "addend": relocation.addend,
            }
            for relocation in binary.relocations
        ],
    }


def main() -> int:
    """Reads, parses, writes; the exit code is 0 also for what is no ELF, whose tables are null."""
    _limit_memory()
    warnings.simplefilter("ignore")
    json.dump(tables(sys.stdin.buffer.read()), sys.stdout)
    return 0
