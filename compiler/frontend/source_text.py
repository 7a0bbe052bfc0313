"""The bytes of a source file as MLIR text: text itself, compressed by gzip, or MLIR bytecode."""

from __future__ import annotations

import zlib

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.parse import BYTECODE

GZIP = b"\x1f\x8b"
LARGEST = 1 << 30  # bytes of text that a compressed file may hold


def source_text(data: bytes, file: str) -> str:
    """Raises InputError for what is none of them."""
    if data.startswith(GZIP):
        data = _unpacked(data, file)
    if data.startswith(BYTECODE):
        return _printed(data, file)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"{file}:{data.count(10, 0, error.start) + 1}"
        raise InputError("is not text", place=place, remedy="MLIR text is expected, or MLIR bytecode") from error


def _unpacked(data: bytes, file: str) -> bytes:
    reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        found = reader.decompress(data, LARGEST)
    except zlib.error as error:
        raise InputError(f"is damaged: {error}", place=file, remedy="gzip -t tells of compressed files") from error
    if not reader.eof:
        what = f"holds more than {LARGEST:,} bytes" if len(found) == LARGEST else "ends too early"
        raise InputError(f"a compressed file that {what}", place=file)
    return found


def _printed(data: bytes, file: str) -> str:
    """Bytecode as text, lowered as text would be."""
    from npuc.compiler.frontend.parse import parse

    module = parse(data, file)
    with module.context:
        return str(module.operation)
