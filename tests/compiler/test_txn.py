"""TXN: words as facts/platform/txn.md gives them, both versions, and the places that patches name."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from format_strategies import OPERATION, WORD
from hypothesis import given
from hypothesis import strategies as st

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import txn
from npuc.compiler.emit.control_template import ControlTemplate, Patch

HEADER_WORDS = 4


def stream(*operations: tuple[int, ...], version: tuple[int, int] = (0, 1), count: int | None = None) -> bytes:
    """A stream of these operations' words for one column."""
    body = [word for operation in operations for word in operation]
    first = 0x06030000 | version[1] << 8 | version[0]
    number = len(operations) if count is None else count
    return struct.pack(f"<{4 + len(body)}I", first, 0x101, number, 16 + 4 * len(body), *body)


@given(st.lists(OPERATION, max_size=12).map(tuple), st.integers(1, 4))
def test_what_is_written_is_read_back(operations, columns):
    data = txn.write_txn(operations, columns)
    assert txn.read_txn(data) == txn.Txn(columns, operations, (0, 1), 3)
    assert txn.read_txn(data + bytes(8)).operations == operations, "a buffer may be longer than the stream"
    words = struct.unpack_from("<4I", data)
    assert words == (0x06030100, 0x100 | columns, len(operations), len(data))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (txn.Write(0x1D214, 3), (0, 0, 0x1D214, 0, 3, 24)),
        (txn.BlockWrite(2 << 25 | 1 << 20 | 0x40, (7, 8)), (1, 0x102, 2 << 25 | 1 << 20 | 0x40, 24, 7, 8)),
        (txn.MaskWrite(0x1D200, 0x1F00, 0xF00), (3, 0, 0x1D200, 0, 0xF00, 0x1F00, 28)),
        (txn.MaskPoll(16, 2, 1), (4, 0, 16, 0, 1, 2, 32, 0)),
        (txn.MaskPollBusy(16, 2, 1), (7, 0, 16, 0, 1, 2, 32, 0)),
        (txn.Noop(), (5,)),
        (txn.Preempt(2), (0x206,)),
        (txn.LoadPdi(5, 100, 6 << 32 | 7), (0x50008, 100, 7, 6)),
        (txn.Sync(3, 0, 0, 1), (0x80, 16, 3 << 16, 1 << 8 | 1 << 16 | 1 << 24)),
        (txn.Sync(1, 2, 1, 0, 4, 3), (0x80, 16, 1 | 2 << 8 | 1 << 16, 3 << 8 | 4 << 16)),
        (txn.DdrPatch(0x1D004, 2, 64), (0x81, 48, 0, 0, 0, 0, 0x1D004, 0, 2, 0, 64, 0)),
        (txn.RecordTimer(7), (0x83, 12, 7)),
        (txn.MergeSync(3, 2), (0x84, 12, 3 | 2 << 8)),
        (txn.ReadRegisters((16, 1 << 32)), (0x82, 32, 2, 0, 16, 0, 0, 1)),
    ],
)
def test_every_operation_has_the_words_of_the_format(operation, words):
    assert txn.write_txn([operation], 1) == stream(words)
    assert txn.read_txn(stream(words)).operations == (operation,)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (txn.Write(16, 3), (0, 16, 3)),
        (txn.BlockWrite(16, (7, 8)), (1, 16, 20, 7, 8)),
        (txn.MaskWrite(16, 2, 1), (3, 16, 1, 2)),
        (txn.Sync(3, 0, 0, 1), (0x80, 16, 3 << 16, 0x01010100)),
        (txn.Preempt(1), (0x106,)),
        (txn.DdrPatch(0x1D004, 2, 64), (0x81, 24, 0x1D004, 2, 64, 0)),
        (txn.DdrPatch(0x1D024, 4, 0), (0x81, 24, 0x1D024, 4, 0, 0)),
        (txn.MaskPoll(16, 2, 1), (4, 16, 1, 2)),
        (txn.MaskPollBusy(16, 2, 1), (7, 16, 1, 2)),
    ],
)
def test_the_packed_operations_of_version_1_0_are_read(operation, words):
    read = txn.read_txn(stream(words, version=(1, 0)))
    assert read.operations == (operation,) and read.version == (1, 0)


def test_the_size_word_says_where_the_next_operation_is():
    stale = 0xDEADBEEF
    long_mask = (3, stale, 16, 0, 1, 2, 32, stale)  # the 32-byte form that firmware structures have
    read = txn.read_txn(stream(long_mask, (0, stale, 16, 0, 5, 24), (0x80, 20, 0, 0x00010100, stale)))
    assert read.operations == (txn.MaskWrite(16, 2, 1), txn.Write(16, 5), txn.Sync(0, 0, 0, 0))


@pytest.mark.parametrize("padding", [0x1F2, 0x176, 0])
def test_word_5_of_a_patch_is_padding_of_any_value(padding):
    """facts/platform/txn.md: word 4 is the action; AMD's streams leave 0x1f2 and 0x176 in word 5."""
    words = (0x81, 48, 0x505BF0C0, 0x7FFE, 0, padding, 0x1D044, 0, 2, 0, 0, 0)
    assert txn.read_txn(stream(words)).operations == (txn.DdrPatch(0x1D044, 2, 0),)


def test_the_header_says_for_which_generation_and_rows():
    data = bytearray(stream((5,)))
    data[2], data[3] = 4, 7
    read = txn.read_txn(bytes(data))
    assert (read.generation, read.rows, read.columns) == (4, 7, 1)


FIELDS = {
    txn.Write: ("value",), txn.MaskWrite: ("value", "mask"), txn.MaskPoll: ("value", "mask"),
    txn.DdrPatch: ("argument", "offset"), txn.BlockWrite: ("words",),
}  # fmt: skip


@given(st.lists(OPERATION, min_size=1, max_size=8), WORD, st.data())
def test_a_patch_changes_the_named_field_and_nothing_else(operations, value, data):
    places = [(i, f) for i, o in enumerate(operations) for f in FIELDS.get(type(o), ()) if f != "words" or o.words]
    if not places:
        return
    index, name = data.draw(st.sampled_from(places))
    operation, element = operations[index], 0
    if name == "words":
        element = data.draw(st.integers(0, len(operation.words) - 1))
        changed = (*operation.words[:element], value, *operation.words[element + 1 :])
        want = replace(operation, words=changed)
    elif name == "offset":
        want = replace(operation, offset=operation.offset >> 32 << 32 | value)
    else:
        want = replace(operation, **{name: value})
    word = txn.word_index(operations, index, name, element)
    template = ControlTemplate(1, tuple(operations), (Patch(word, "x * 1"),))
    assert template.dimensions == {"x"}
    patched = txn.read_txn(template.instantiate({"x": value})).operations
    assert patched == (*operations[:index], want, *operations[index + 1 :])


@pytest.mark.parametrize(
    ("patch", "dimensions", "says"),
    [
        (Patch(8, "n"), {}, "needs dimension n"),
        (Patch(8, "1 // n"), {"n": 0}, "divides by zero"),
        (Patch(8, "n * n"), {"n": 1 << 20}, "exceeds 32 bits"),
        (Patch(3, "n"), {"n": 1}, "not in the stream"),
        (Patch(10, "n"), {"n": 1}, "not in the stream"),
        (Patch(8, "n.real"), {"n": 1}, "Attribute is not allowed"),
        (Patch(8, "f(n)"), {"n": 1}, "not allowed"),
        (Patch(8, "n ** 9"), {"n": 1}, "not allowed"),
        (Patch(8, "2.5"), {"n": 1}, "not allowed"),
        (Patch(8, "("), {"n": 1}, "cannot be read"),
        (Patch(8, "-" * 999 + "1"), {"n": 1}, "expression"),
        (Patch(8, "1" * 2000), {"n": 1}, "2000 characters"),
    ],
)
def test_a_patch_that_cannot_be_filled_in_is_an_input_error(patch, dimensions, says):
    with pytest.raises(InputError, match=says):
        ControlTemplate(1, (txn.Write(0, 0),), (patch,)).instantiate(dimensions)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "header"),
        (stream(version=(0, 2)), "version 0.2"),
        (stream((5,))[:-4], "size word"),
        (stream((0, 0, 16, 0, 3, 20)), "size word 20"),
        (stream((1, 0, 16, 1 << 31)), "size word|needs"),
        (stream((0x90, 4)), "unknown operation 0x90"),
        (stream((0, 0, 16, 0, 3, 24), count=2), "needs 4 bytes"),
        (stream((0, 0, 16, 0, 3, 24), count=0), "operations end here"),
        (stream(count=0xFFFFFFFF), "do not fit"),
        (stream((0x80, 16, 2, 0x00010100)), "direction 2"),
        (stream((0x81, 48, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)), "action 1"),
        (stream() + b"\1", "not zero"),
    ],
)
def test_what_is_no_stream_is_refused_with_its_offset(data, says):
    with pytest.raises(InputError, match=says) as error:
        txn.read_txn(data)
    assert "offset 0x" in str(error.value)
