"""The older runtime sequence: equal to TXN operation by operation, total on malformed input."""

from __future__ import annotations

import random

import pytest

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import legacy_sequence, txn
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.emit.legacy_sequence import read_legacy_bytes, read_legacy_sequence, write_legacy_sequence
from npuc.compiler.inspect.show import describe, render
from npuc.compiler.target.npu1 import geometry

# Sizes in words by facts/platform/legacy_sequence.md section 4.
SIZES = {0: 1, 1: 9, 2: 3, 3: 2, 4: 8, 5: 3, 6: 10, 7: 11, 8: 4, 9: 9, 10: 44, 11: 9, 12: 9, 13: 3, 14: 2, 15: 4, 16: 1,
         17: 1}  # fmt: skip
SHIM_BD = geometry.tile_address(1, 0, geometry.bd_offset("shim", 3))


def test_a_shim_transfer_reads_as_its_txn_operations():
    # Riallto's color threshold at 720p, as the fact sheet gives it in section 8: two passes over halves of four bands.
    words = [1, 0x06000110, 0, 0x00070800, 0, 0, 0x28000000, 0x804383FF, 0x000004FF, 0x0010027F, 0x02000000,
             0x02000000, 0x1D204, 0x80010000, 0x03000000, 0x00010100]  # fmt: skip
    assert read_legacy_sequence(words) == (
        txn.BlockWrite(0x1D000, (0x70800, 0, 0, 0x28000000, 0x804383FF, 0x4FF, 0x10027F, 0x2000000)),
        txn.DdrPatch(0x1D004, 1, 0),
        txn.Write(0x1D204, 0x80010000),
        txn.Sync(0, 0, 0, 0),
    )


def random_operations(generator: random.Random) -> list[txn.Operation]:
    made: list[txn.Operation] = []
    for _ in range(generator.randrange(1, 20)):
        word, column = generator.randrange(1 << 32), generator.randrange(4)
        choice = generator.randrange(7)
        if choice == 0:
            place = geometry.tile_address(column, 0, geometry.bd_offset("shim", generator.randrange(16)))
            body = (word, 0, generator.randrange(1 << 16) << 16, *(generator.randrange(1 << 32) for _ in range(5)))
            made += [
                txn.BlockWrite(place, body),
                txn.DdrPatch(place + 4, generator.randrange(16), generator.randrange(1 << 48)),
            ]
        else:
            address = geometry.tile_address(column, generator.randrange(6), generator.randrange(1 << 18) * 4)
            made.append(
                (
                    txn.Write(address, word),
                    txn.Sync(column, 0, word & 1, word >> 1 & 1),
                    txn.MaskPoll(address, 0xFFFFFFFF, word),
                    txn.RecordTimer(word & 0xFFFFFF),
                    txn.MergeSync(word & 255, column),
                    txn.Write(address, word),
                )[choice - 1]
            )
    return made


def test_what_is_written_reads_back_the_same_in_words_bytes_and_text(seed):
    generator = random.Random(seed)
    for _ in range(200):
        operations = random_operations(generator)
        words = write_legacy_sequence(operations)
        assert list(read_legacy_sequence(words)) == operations
        text = legacy_sequence.write_legacy_text(operations)
        assert legacy_sequence.words_of_text(text) == words
        for form in (text, text.lower(), text.replace(b"\n", b"\r\n"), pack_words(words)):
            assert list(read_legacy_bytes(form)) == operations


def test_every_operation_has_the_length_of_the_fact_sheet(seed):
    generator = random.Random(seed)
    for opcode, size in SIZES.items():
        body = [generator.randrange(1 << 32) for _ in range(size - 1)]
        head = opcode << 24 | generator.randrange(2) << 16 | (0x0100 if opcode in (6, 9) else 0) | 1
        if opcode == 3:
            head &= ~0xFF
        if opcode == 13:
            body[1] = 0
        if opcode in (4, 7):
            body[0] = 0x01010000
        read_legacy_sequence([1, head, *body, 0x10000007])
        if size > 1:
            with pytest.raises(InputError, match=rf"offset 0x4: operation {opcode} of {size} words"):
                read_legacy_sequence([1, head, *body[:-1]])


def test_a_core_descriptor_is_shorter_than_that_of_a_memory_tile():
    core = read_legacy_sequence([1, 0x01010205, *range(6)])
    assert core == (txn.BlockWrite(geometry.tile_address(1, 2, geometry.bd_offset("core", 5)), tuple(range(6))),)
    memtile = read_legacy_sequence([1, 0x01010105, *range(8)])
    assert memtile == (txn.BlockWrite(geometry.tile_address(1, 1, geometry.bd_offset("memtile", 5)), tuple(range(8))),)


def test_a_parameter_comes_from_the_prologue():
    words = [3, 0xABCD, 0x1234, 0x0D000200, 0x400, 2]
    assert read_legacy_sequence(words) == (txn.Write(geometry.tile_address(0, 2, 0x400), 0x1234),)


@pytest.mark.parametrize("words, reason", [
    ([], "prologue of 0 words"),
    ([5, 0, 0], "prologue of 5 words in a stream of 3"),
    ([1, 0x7F000000], "unknown operation 0x7f"),
    ([1, 0x02000200, 0x400], "operation 2 of 3 words, 2 are left"),
    ([1, 0x03000002, 0x00010100], "direction 2"),
    ([1, 0x0D000200, 0x400, 9], "parameter word 9, the stream has 4"),
])  # fmt: skip
def test_a_malformed_stream_is_one_line_with_its_offset(words, reason):
    with pytest.raises(InputError, match=reason) as error:
        read_legacy_sequence(words)
    assert "offset 0x" in error.value.message


def test_random_words_read_or_are_refused(seed):
    generator = random.Random(seed)
    for _ in range(3000):
        words = [1] + [generator.randrange(20) << 24 | generator.randrange(1 << 24) for _ in range(30)]
        try:
            read_legacy_sequence(words)
        except InputError as error:
            assert "offset" in error.message


def test_what_the_older_form_lacks_is_refused():
    with pytest.raises(InputError, match="MaskWrite has no equal"):
        write_legacy_sequence([txn.MaskWrite(SHIM_BD, 1, 1)])


def test_custom_txn_operations_read_back_the_same():
    operations = (txn.RecordTimer(7), txn.MergeSync(4, 2), txn.ReadRegisters((0x1D220, 0x2031520)), txn.Noop())
    assert txn.read_txn(txn.write_txn(operations, 2)).operations == operations


def test_inspect_lists_the_text_form(tmp_path):
    operations = (txn.Write(0x1D204, 0x80000001), txn.Sync(0, 0, 0, 0))
    for name, words in (("older", write_legacy_sequence(operations)), ("TXN", None)):
        if words is None:
            stream = txn.write_txn(operations, 1)
            words = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, len(stream), 4)]
        told = describe(legacy_sequence.text_of_words(words), "a.seq")
        assert (told["format"], told["form"], told["words"]) == ("sequence", name, len(words))
        assert told["counts"] == {"Sync": 1, "Write": 1}
        assert "Sync column=0" in render(told)
