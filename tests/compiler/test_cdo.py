"""CDO: words as facts/platform/pdi_cdo.md section 2 gives them, and back."""

from __future__ import annotations

import struct

import pytest
from format_strategies import COMMAND
from hypothesis import given
from hypothesis import strategies as st

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo

HEADER_WORDS = 5


def words_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 4}I", data)


def file_of(*body: int) -> bytes:
    """A CDO of these body words, its header made here."""
    head = (4, 0x004F4443, 0x200, len(body))
    return struct.pack(f"<{HEADER_WORDS + len(body)}I", *head, ~sum(head) & 0xFFFFFFFF, *body)


@given(st.lists(COMMAND, max_size=12).map(tuple))
def test_what_is_written_is_read_back(commands):
    data = cdo.write_cdo(commands)
    assert cdo.read_cdo(data) == commands
    assert cdo.write_cdo(cdo.read_cdo(data)) == data
    assert cdo.read_cdo(data + bytes(12)) == commands, "padding of a PDI may follow"


def test_header_fields_lie_where_loaders_look():
    data = cdo.write_cdo([cdo.Write(0x1000, 7)])
    head = words_of(data)[:HEADER_WORDS]
    assert head[:4] == (4, 0x004F4443, 0x00000200, 3) and data[4:8] == b"CDO\0"
    assert head[4] == ~sum(head[:4]) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (cdo.MaskWrite(0x32000, 1, 2), (0x00030102, 0x32000, 1, 2)),
        (cdo.Write(0x32000, 5), (0x00020103, 0x32000, 5)),
        (cdo.DmaWrite(0x20000, (7, 8)), (0x00040105, 0, 0x20000, 7, 8)),
        (cdo.MaskWrite(1 << 32 | 16, 1, 2), (0x00040107, 1, 16, 1, 2)),
        (cdo.Write(3 << 32 | 16, 5), (0x00030108, 3, 16, 5)),
        (cdo.Nop((9,)), (0x00010111, 9)),
        (cdo.MaskPoll(16, 1, 2, 3), (0x00040101, 16, 1, 2, 3)),
        (cdo.MaskPoll(1 << 32 | 16, 1, 2, 3), (0x00050106, 1, 16, 1, 2, 3)),
    ],
)
def test_every_command_has_the_words_of_the_format(command, body):
    assert cdo.write_cdo([command]) == file_of(*body)
    assert cdo.read_cdo(file_of(*body)) == (command,)


def test_a_wide_command_with_a_low_address_reads_as_the_short_one():
    assert cdo.read_cdo(file_of(0x00030108, 0, 16, 5)) == (cdo.Write(16, 5),)


@pytest.mark.parametrize("count", [252, 253, 254, 1000])
def test_from_255_payload_words_the_length_is_in_the_next_word(count):
    payload = count + 2  # the two address words
    words = words_of(cdo.write_cdo([cdo.DmaWrite(0, tuple(range(count)))]))[HEADER_WORDS:]
    if payload < 255:
        assert words[0] == 0x105 | payload << 16 and len(words) == 1 + payload
    else:
        assert words[:2] == (0x00FF0105, payload) and len(words) == 2 + payload


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "header"),
        (file_of()[:-1], "header"),
        (file_of(0x00020103, 1, 2)[:-4], "needs 12 bytes"),
        (file_of(0x00020103, 1), "run past the end"),
        (file_of(0x00FF0105), "length word"),
        (file_of(0x00020203, 1, 2), "command word"),
        (file_of(0x01020103, 1, 2), "command word"),
        (file_of(0x00020109, 1, 2), "unknown command 0x9"),
        (file_of(0x00030103, 1, 2, 3), "3 payload words"),
        (file_of(0x00020105, 0, 0), "without data"),
        (file_of() + b"\1", "not zero"),
        (bytes(16) + struct.pack("<I", 0xFFFFFFFF), "words is 0x0"),
        (file_of()[:-4] + bytes(4), "checksum"),
    ],
)
def test_what_is_no_cdo_is_refused_with_its_offset(data, says):
    with pytest.raises(InputError, match=says) as error:
        cdo.read_cdo(data)
    assert "offset 0x" in str(error.value)
