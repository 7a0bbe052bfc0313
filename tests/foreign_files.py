"""Files in the forms that other tools write: regrouped PDIs, bare containers."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import groupby

from npuc.compiler.emit import cdo, pdi, xclbin

CDO = 0x150  # where the CDO of a PDI lies
SMALLEST = xclbin.Xclbin((xclbin.KernelEntry("k", "I", 1, ()),), 1, pdi.write_pdi([]))


def transformed(commands: Sequence[cdo.Command], cut: int = 0) -> bytes:
    """The regrouped form of section 3: groups of one operation, the data of blocks behind them."""
    zone, blocks = [], b""
    flat = []
    for command in commands:
        if isinstance(command, cdo.Write):
            flat.append((3, (command.address, command.value)))
        elif isinstance(command, cdo.MaskWrite):
            flat.append((2, (command.address, command.mask, command.value)))
        elif isinstance(command, cdo.DmaWrite):
            block = struct.pack(f"<{len(command.words)}I", *command.words)
            flags = int(not any(command.words))
            flat.append((5, (0, command.address, len(blocks), flags << 16 | len(command.words))))
            blocks += block
    for operation, group in groupby(flat, key=lambda entry: entry[0]):
        arguments = [entry[1] for entry in group]
        zone += [operation, len(arguments), *(word for entry in arguments for word in entry)]
    plain = bytearray(pdi.write_pdi(commands)[: CDO + 20])
    size = 4 * len(zone)
    halves = (size & 0xFFFF) << 16 | size >> 16
    struct.pack_into("<3I", plain, 0xD0 + 4 * 28, 1, size, 0x8866 | 0x0100 | halves)
    data = bytes(plain) + struct.pack(f"<{len(zone)}I", *zone) + blocks
    return data[: len(data) - cut]


def sections(data: bytes) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for i in range(struct.unpack_from("<I", data, 0x1C0)[0]):
        kind, _, offset, size = struct.unpack_from("<I16s4xQQ", data, 0x1C8 + 40 * i)
        assert offset % 8 == 0
        found.setdefault(kind, []).append(data[offset : offset + size])
    return found


def container(*parts: tuple[int, bytes]) -> bytes:
    """A container of these (kind, payload) sections without mirror text, as packers of others write it."""
    start = 0x1C8 + 40 * len(parts)
    table, body = b"", b""
    for kind, payload in parts:
        body += bytes(-(start + len(body)) % 8)
        table += struct.pack("<I16s4xQQ", kind, b"", start + len(body), len(payload))
        body += payload
    head = bytearray(xclbin.write_xclbin(SMALLEST)[:0x1C8])
    struct.pack_into("<Q", head, 0x130, start + len(body))
    struct.pack_into("<I", head, 0x1C0, len(parts))
    return bytes(head) + table + body
