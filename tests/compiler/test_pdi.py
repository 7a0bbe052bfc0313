"""PDI: fixed offsets, constants and checksums of facts/platform/pdi_cdo.md; plain and transformed files read alike."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from foreign_files import transformed
from format_strategies import LOADABLE_COMMAND
from hypothesis import given
from hypothesis import strategies as st
from small_kernels import compiled

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo, pdi

CDO = 0x150
SAMPLE = (cdo.Write(16, 5), cdo.DmaWrite(0x20000, tuple(range(1, 9))), cdo.MaskWrite(32, 1, 1))


def words(data: bytes, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}I", data, at)


def complement(values: Sequence[int]) -> int:
    return ~sum(values) & 0xFFFFFFFF


@given(st.lists(LOADABLE_COMMAND, max_size=12).map(tuple))
def test_what_is_written_is_read_back(commands):
    data = pdi.write_pdi(commands)
    read = pdi.read_pdi(data)
    starts_with_nop = commands and isinstance(commands[0], cdo.Nop)
    assert read.commands == (commands if starts_with_nop else (cdo.Nop(), *commands))
    assert (read.transformed, read.missing, read.image_name) == (False, 0, "aie_image")
    assert pdi.write_pdi(read.commands) == data


@given(st.lists(LOADABLE_COMMAND, max_size=5))
def test_every_header_word_is_the_one_the_loader_expects(commands):
    data = pdi.write_pdi(commands)
    assert words(data, 0, 4) == (0xDD, 0x11223344, 0x55667788, 0x99AABBCC)
    table = words(data, 0x10, 32)
    known = {0: 0x40000, 1: 1, 2: 0x24, 3: 1, 4: 0x34, 6: 0x14CA8093, 10: 0x50504449, 11: 0x00201020, 12: 0x30, 17: 1}
    assert table[:31] == tuple(known.get(i, 0) for i in range(31)) and table[31] == 0x9AC12A78 == complement(table[:31])
    image = words(data, 0x90, 16)
    assert image[:4] == (0x34, 1, 0, 0) and data[0xA0:0xB0] == b"aie_image".ljust(16, b"\0")
    assert image[8:15] == (0x1C000000, 0, 0, 0, 0, 0, 0) and image[15] == 0x1D39289B == complement(image[:15])
    partition = words(data, 0xD0, 32)
    body = words(data, CDO, 4)[3] + 5
    padded = -(-body // 4) * 4
    assert partition[:3] == (padded, body, padded) and partition[3:8] == (0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    assert partition[8:11] == (0x54, 0x02000006, 1) and not any(partition[11:31])
    assert partition[31] == complement(partition[:31])
    assert len(data) == CDO + 4 * padded and not any(data[CDO + 4 * body :])


NARROW = st.one_of(
    st.builds(cdo.Write, st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    st.builds(cdo.MaskWrite, *[st.integers(0, 0xFFFFFFFF)] * 3),
    st.builds(cdo.DmaWrite, st.integers(0, 0xFFFFFFFF), st.lists(st.integers(0, 9), min_size=1, max_size=9).map(tuple)),
)


@given(st.lists(NARROW, max_size=15).map(tuple))
def test_a_transformed_pdi_has_the_commands_of_the_plain_one(commands):
    read = pdi.read_pdi(transformed(commands))
    assert (read.commands, read.transformed, read.missing) == (commands, True, 0)


def test_a_compiled_kernel_transformed_has_the_same_commands():
    commands = pdi.read_pdi(compiled().stage("pdi")).commands
    nopless = tuple(command for command in commands if not isinstance(command, cdo.Nop))
    assert pdi.read_pdi(transformed(commands)).commands == nopless


def test_the_words_an_early_tool_cut_off_read_as_zero_and_are_counted():
    read = pdi.read_pdi(transformed((cdo.DmaWrite(0, tuple(range(1, 9))),), cut=20))
    assert read.commands == (cdo.DmaWrite(0, (1, 2, 3, 0, 0, 0, 0, 0)),) and read.missing == 20


def test_what_the_loader_does_not_take_is_not_written():
    with pytest.raises(InputError, match="cannot poll"):
        pdi.write_pdi([cdo.MaskPoll(0, 1, 1, 1)])
    for command in (cdo.Write(1 << 32, 0), cdo.MaskWrite(1 << 40, 1, 1), cdo.DmaWrite(1 << 32, (1,))):
        with pytest.raises(InputError, match="no address beyond 32 bits"):
            pdi.write_pdi([command])


def patched(data: bytes, at: int, value: int, checksum: tuple[int, int] | None = None) -> bytes:
    """The data with one word replaced, and the checksum of a header (start, words) made right again."""
    result = bytearray(data)
    struct.pack_into("<I", result, at, value)
    if checksum is not None:
        start, count = checksum
        struct.pack_into("<I", result, start + 4 * count - 4, complement(words(result, start, count - 1)))
    return bytes(result)


PLAIN = pdi.write_pdi(SAMPLE)
GROUPED = transformed(SAMPLE)
TABLE, IMAGE, PARTITION = (0x10, 32), (0x90, 16), (0xD0, 32)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "bus-width words"),
        (PLAIN[:0x10] + bytes.fromhex("665599aa584e4c58") + PLAIN[0x18:], "0x10: a boot header"),
        (PLAIN[:-16], "headers say"),
        (PLAIN + bytes(16), "headers say"),
        (patched(PLAIN, 0x10, 1), "checksum"),
        (patched(PLAIN, 0x10, 1, TABLE), "version"),
        (patched(PLAIN, 0x14, 2, TABLE), "images is 0x2"),
        (patched(PLAIN, 0x94, 2, IMAGE), "partitions is 0x2"),
        (patched(PLAIN, 0xD0 + 32, 0x60, PARTITION), "data_offset"),
        (patched(PLAIN, 0xD4, 9, PARTITION), "do not agree"),
        (patched(PLAIN, CDO + 12, 3), "checksum"),
        (patched(GROUPED, 0xD0 + 4 * 30, 0x8866), "mark is wrong"),
        (patched(GROUPED, CDO + 20, 0x66), "unknown group command 0x66"),
        (patched(GROUPED, CDO + 24, 0x7FFFFFFF), "transformed PDI group"),
        (GROUPED[:-24], "transformed PDI block"),
        (GROUPED + b"\1", "not zero"),
    ],
)
def test_what_is_no_pdi_is_refused_with_its_offset(data, says):
    with pytest.raises(InputError, match=says) as error:
        pdi.read_pdi(data)
    assert "offset 0x" in str(error.value)
