"""What npuc diff is made of: sequences, trees, byte ranges, configurations, tile names."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from foreign_files import container, transformed

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.emit import cdo, pdi, txn, xclbin
from npuc.compiler.emit.elf_object import ObjectFile, ObjectSymbol, Relocation, Section, write_object
from npuc.compiler.inspect.diff import sequence
from npuc.compiler.inspect.diff.code import compare_code
from npuc.compiler.inspect.diff.compare import compare
from npuc.compiler.inspect.diff.html import render_html
from npuc.compiler.inspect.diff.registers import compare_memories, compare_order, compare_registers, read_configuration
from npuc.compiler.inspect.diff.report import ADDED, REMOVED, REORDERED
from npuc.compiler.inspect.diff.sequence import align, moved, moved_runs, numbered
from npuc.compiler.inspect.diff.text import render
from npuc.compiler.inspect.diff.tiles import tiles_name
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees, differing_ranges
from npuc.compiler.target.npu1.geometry import tile_address
from npuc.compiler.target.npu1.registers import register_offset

LOCK = register_offset("core", "Lock0_value")


# --- sequences ----------------------------------------------------------------------------------------------------
def test_an_alignment_holds_every_item_once_in_order_and_pairs_only_equal_ones(seed):
    rng = random.Random(seed)
    for _ in range(200):
        a, b = ([rng.randrange(5) for _ in range(rng.randrange(12))] for _ in range(2))
        pairs = align(a, b)
        assert [p.a for p in pairs if p.a is not None] == list(range(len(a)))
        assert [p.b for p in pairs if p.b is not None] == list(range(len(b)))
        assert all(p.equal == (p.a is not None and p.b is not None) for p in pairs)
        assert all(a[p.a] == b[p.b] for p in pairs if p.equal)


def test_as_many_items_as_possible_are_equal():
    def longest(a, b):
        subsequences = (c for n in range(len(a), -1, -1) for c in itertools.combinations(a, n))
        return next(len(c) for c in subsequences if _is_subsequence(c, b))

    rng = random.Random(7)
    for _ in range(100):
        a, b = ([rng.randrange(3) for _ in range(7)] for _ in range(2))
        assert sum(p.equal for p in align(a, b)) == longest(a, b)


def _is_subsequence(c, b):
    rest = iter(b)
    return all(item in rest for item in c)


def test_sequences_too_long_for_an_exact_comparison_are_cut_at_unique_items(monkeypatch, seed):
    monkeypatch.setattr(sequence, "_MOST_PAIRS", 40)
    rng = random.Random(seed)
    for _ in range(100):
        a = [rng.randrange(30) for _ in range(rng.randrange(80))]
        b = [item for item in a if rng.random() < 0.8]
        pairs = align(a, b)
        assert [p.a for p in pairs if p.a is not None] == list(range(len(a)))
        assert [p.b for p in pairs if p.b is not None] == list(range(len(b)))
        assert all(a[p.a] == b[p.b] for p in pairs if p.equal)
    ordered = list(range(1000))
    assert sum(p.equal for p in align(ordered, [-1, *ordered[:500], -2, *ordered[500:]])) == 1000


def test_weak_keys_pair_what_stands_between_equal_items():
    pairs = align(["x", "b1", "y"], ["x", "b2", "c", "y"], ["x", "b", "y"], ["x", "b", "c", "y"])
    assert [(p.a, p.b, p.equal) for p in pairs] == [(0, 0, True), (1, 1, False), (None, 2, False), (2, 3, True)]


def test_what_moved_is_the_least_whose_removal_leaves_the_order():
    for order in itertools.permutations(range(6)):
        out = moved(order)
        rest = [value for place, value in enumerate(order) if place not in out]
        assert rest == sorted(rest)
        smaller = itertools.combinations(range(6), len(out) - 1) if out else ()
        for kept_out in smaller:
            left = [value for place, value in enumerate(order) if place not in kept_out]
            assert left != sorted(left)


def test_what_moved_together_is_one_run():
    assert moved_runs([3, 4, 5, 6, 0, 1, 7]) == [range(4, 6)]
    assert numbered("aba") == [("a", 0), ("b", 0), ("a", 1)]


# --- values -------------------------------------------------------------------------------------------------------
def test_trees_differ_by_path():
    a = {"x": {"y": [1, 2, {"z": 3}]}, "gone": 1}
    b = {"x": {"y": [1, 2, {"z": 4}]}, "new": None}
    found = [(d.place, d.change, d.before, d.after) for d in compare_trees(a, b)]
    assert found == [("x.y[2].z", "changed", 3, 4), ("gone", REMOVED, 1, None), ("new", ADDED, None, None)]
    assert [d.place for d in compare_trees({"a": [1, 2, 3]}, {"a": [1, 3]})] == ["a[1]"]
    assert [d.place for d in compare_trees({"a": 1}, {"a": 1.0})] == ["a"]
    assert [d.place for d in compare_trees({"a": 1}, {"a": True})] == ["a"]


def test_every_differing_byte_lies_in_a_range_and_ranges_begin_and_end_with_one(seed):
    rng = random.Random(seed)
    for _ in range(200):
        a = bytes(rng.randrange(2) for _ in range(rng.randrange(60)))
        b = bytes(rng.choice((x, x, x, 1)) for x in a)
        ranges = differing_ranges(a, b)
        places = {i for i in range(len(a)) if a[i] != b[i]}
        assert places <= {i for start, end in ranges for i in range(start, end)}
        assert all(start in places and end - 1 in places for start, end in ranges)
        assert all(first[1] < second[0] for first, second in itertools.pairwise(ranges))


def test_what_one_byte_string_has_more_is_told():
    (tail,) = compare_bytes(b"abc", b"abcdef", "padding", 0x10)
    assert (tail.place, tail.change, tail.after, tail.note) == ("padding 0x13", ADDED, "64 65 66", "3 bytes")


def test_tiles_are_named_in_short():
    assert tiles_name("core", [(0, 2)]) == "core(0,2)"
    assert tiles_name("core", [(c, r) for c in range(4) for r in range(2, 6)]) == "core(0..3,2..5)"
    assert tiles_name("core", [(0, 2), (0, 4), (1, 3)]) == "core(0,2+4) core(1,3)"


# --- configurations -----------------------------------------------------------------------------------------------
def differences(a, b):
    first, second = read_configuration(a), read_configuration(b)
    return [*compare_registers(first, second), *compare_memories(first, second), *compare_order(first, second)]


def lock(core, value, number=0):
    return cdo.Write(tile_address(*core, LOCK + 16 * number), value)


def test_a_tile_configured_later_is_one_reordering():
    first, second = [lock((0, 2), 1, n) for n in range(9)], [lock((0, 3), 1, n) for n in range(5)]
    (moved_tile,) = differences([*first, *second], [*second, *first])
    assert moved_tile.change == REORDERED and moved_tile.place == "core(0,3).Lock0_value to core(0,3).Lock4_value"
    assert moved_tile.note.startswith("5 writes; now first")


def test_any_order_of_the_same_commands_is_only_a_reordering(seed):
    rng = random.Random(seed)
    commands = [lock((c, r), c + r, n) for c in range(2) for r in (2, 3) for n in range(4)]
    commands += [cdo.DmaWrite(tile_address(0, 2, 0x400), (1, 2, 3)), cdo.MaskWrite(tile_address(0, 2, 0x32000), 1, 1)]
    for _ in range(50):
        other = rng.sample(commands, len(commands))
        found = differences(commands, other)
        assert {d.change for d in found} <= {REORDERED} and bool(found) == (other != commands)


def test_writes_of_one_register_are_told_by_number():
    a = [lock((0, 2), value) for value in (1, 2, 3)]
    b = [lock((0, 2), value) for value in (1, 7, 3)]
    (changed,) = differences(a, b)
    assert (changed.place, changed.before, changed.after) == ("core(0,2).Lock0_value Lock_value", 2, 7)
    assert changed.note == "write 2 of 3"
    (gone,) = differences(a, [a[0], a[2]])
    assert (gone.change, gone.before) == (REMOVED, "0x2")


def test_a_changed_mask_is_told():
    (changed,) = differences([cdo.MaskWrite(0x232000, 1, 1)], [cdo.MaskWrite(0x232000, 3, 1)])
    assert (changed.place, changed.before, changed.after) == ("core(0,2).Core_Control mask", "0x1", "0x3")


def test_memory_is_compared_however_it_is_written():
    words = tuple(range(1, 9))
    block = [cdo.DmaWrite(0x200400, words)]
    single = [cdo.Write(0x200400 + 4 * i, word) for i, word in enumerate(words)]
    assert differences(block, single) == []
    report = compare(cdo.write_cdo(block), cdo.write_cdo(single))
    assert not report.identical and {s.name for s in report.sections if s.count} == {"commands"}
    (more,) = differences(block, [cdo.DmaWrite(0x200400, (*words, 5))])[:1]
    assert (more.place, more.change, more.note) == ("core(0,2).DataMemory+0x420", ADDED, "4 bytes")


def test_addresses_beyond_the_array_and_beyond_32_bits_are_compared_like_others():
    for address in (0xF << 40 | 0x200400, 31 << 20, 0xFFFFFFFC):
        (changed,) = differences([cdo.DmaWrite(address, (1,))], [cdo.DmaWrite(address, (2,))])
        assert changed.change == "changed" and "(" in changed.place


def test_other_tools_forms_of_the_same_writes_differ_only_in_form():
    commands = [cdo.Nop(), lock((0, 2), 1), cdo.DmaWrite(0x200400, (1, 2, 3))]
    padded = [cdo.Nop(), cdo.Nop((1, 2)), *commands[1:]]
    report = compare(pdi.write_pdi(commands), pdi.write_pdi(padded))
    ((section, difference),) = [(s.name, d) for s in report.sections for d in s.differences if not d.derived]
    assert section == "commands" and difference.change == ADDED and "Nop" in difference.after


# --- programs -----------------------------------------------------------------------------------------------------
def program(*lines, symbols=()):
    code = b"".join(encode_bundle(parse_bundle(line)) for line in lines)
    return CoreProgram(0, 2, 0, code, symbols=tuple(symbols))


def test_a_loop_whose_end_moves_with_the_code_is_the_same():
    body = ["add r1, r1, #1"] * 3
    a = program("movxm ls, #20", "movxm le, #24", "nop", "nop", "nop", "nop", *body)
    b = program("movxm ls, #24", "movxm le, #28", "add r2, r2, #1", "nop", "nop", "nop", "nop", *body)
    change = compare_code(a, b)
    assert [(d.change, d.after) for d in change.differences] == [(ADDED, "add r2, r2, #0x1")]
    assert change.moved_to[20] == 24 and change.moved_to[len(a.code)] == len(b.code)
    assert change.note == "9 -> 10 bundles"


def looped(*body, name="scores"):
    """A hardware loop over these bundles of four bytes."""
    head = ["movxm ls, #{0}", "movxm le, #{1}", "nop"]
    start = len(program(*(line.format(0, 0) for line in head)).code)
    lines = [line.format(start, start + 4 * (len(body) - 1)) for line in head]
    return program(*lines, *body, "ret lr", symbols=[(start, name)])


def test_a_loop_that_grew_is_named_with_its_length():
    first, middle, last = "add r1, r1, #1", "sub r3, r3, r4", "add r2, r2, #1"
    change = compare_code(looped(first, middle, last), looped(first, middle, "sub r5, r5, r4", last))
    assert change.note == "7 -> 8 bundles; loop scores 3 -> 4"
    assert [d.change for d in change.differences] == [ADDED]


def test_a_rewritten_loop_is_known_by_its_name_and_else_not_guessed():
    before, after = ["add r1, r1, #1"] * 3, ["sub r3, r3, r4"] * 5
    assert compare_code(looped(*before), looped(*after)).note == "7 -> 9 bundles; loop scores 3 -> 5"
    assert compare_code(looped(*before), looped(*after, name="other")).note == "7 -> 9 bundles"


def test_a_branch_that_stays_while_its_target_moves_is_told():
    there = len(program("j #0", *["nop"] * 5).code)
    jump, delay, target = f"j #{there}", ["nop"] * 5, "add r1, r1, #1"
    a = program(jump, *delay, target, symbols=[(there, "there")])
    b = program(jump, *delay, "mov r1, r2", target, symbols=[(there + 4, "there")])
    branch, inserted = compare_code(a, b).differences
    assert branch.place == "0x0" and branch.before.endswith("// to there") and branch.before != branch.after
    assert inserted.change == ADDED


def test_code_addresses_in_pointers_move_and_data_addresses_do_not():
    def code(target, pointer, *more):
        return program(*more, f"movxm p0, #{target}", f"movxm p1, #{pointer}", "nop", "ret lr")

    assert [d.change for d in compare_code(code(12, 0x70000), code(14, 0x70000, "nop")).differences] == [ADDED]
    (changed,) = compare_code(code(12, 0x70000), code(12, 0x70002)).differences
    assert (changed.before, changed.after) == ("movxm p1, #0x70000", "movxm p1, #0x70002")


def test_a_bundle_in_a_longer_format_is_told_with_its_nops():
    (changed,) = compare_code(program("nop", "add r1, r1, #1"), program("nop", "add r1, r1, #1; nopm")).differences
    assert "add" in changed.before and "nop" in changed.after


def test_bytes_that_are_no_code_are_shown_and_never_stop_the_comparison(seed):
    rng = random.Random(seed)
    for _ in range(100):
        a, b = (CoreProgram(0, 2, 0, rng.randbytes(rng.randrange(64))) for _ in range(2))
        assert bool(compare_code(a, b).differences) == (a.code != b.code)


def test_a_rewritten_part_is_one_difference_though_single_bundles_match():
    first = [f"add r{i % 8}, r1, #{i}" for i in range(20)]
    second = [f"sub r{i % 8}, r1, r2" for i in range(20)]
    first[10] = second[10] = "nop"
    change = compare_code(program("nop", *first, "ret lr"), program("nop", *second, "ret lr"))
    assert len(change.differences) == 1 and change.differences[0].before == "20 bundles"


# --- runtime sequences --------------------------------------------------------------------------------------------
def test_operations_of_a_runtime_sequence_are_told_by_register_and_field():
    a = [txn.Write(0x1D214, 3), txn.DdrPatch(0x1D004, 0, 0), txn.Sync(0, 0, 0, 0)]
    b = [txn.Write(0x1D214, 0x80000003), txn.DdrPatch(0x1D004, 1, 64), txn.Sync(0, 0, 0, 0, columns=2)]
    report = compare(txn.write_txn(a, 2), txn.write_txn(b, 2))
    found = {d.place: (d.before, d.after) for s in report.sections for d in s.differences}
    assert found == {
        "shim(0,0).DMA_MM2S_0_Task_Queue Enable_Token_Issue": (0, 1),
        "operation 1 DdrPatch shim(0,0).DMA_BD0_1 argument": (0, 1),
        "operation 1 DdrPatch shim(0,0).DMA_BD0_1 offset": ("0x0", "0x40"),
        "operation 2 Sync columns": (1, 2),
    }


def test_a_transformed_pdi_of_the_same_writes_differs_in_form_only():
    commands = [lock((0, 2), 1), lock((0, 2), 2, 1), cdo.DmaWrite(0x200400, (1, 2, 3))]
    plain, other = pdi.write_pdi(commands), transformed(commands)
    report = compare(plain, other)
    assert {s.name for s in report.sections if s.count} <= {"PDI header", "commands"}
    assert any(d.place == "transformed" for s in report.sections for d in s.differences)
    (changed,) = [
        d
        for s in compare(other, transformed([lock((0, 2), 3), *commands[1:]])).sections
        for d in s.differences
        if not d.derived
    ]
    assert changed.place == "core(0,2).Lock0_value Lock_value"


# --- sections of other tools --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (14, b'{"a": ' * 900 + b"1" + b"}" * 900, b'{"a": ' * 900 + b"2" + b"}" * 900),
        (14, b'{"a": NaN}', b'{"a": 1}'),
        (14, b'{"a": "\\ud800"}', b'{"a": "\\ud801"}'),
        (14, b"no JSON", b"nor this"),
        (99, bytes(100), bytes(99) + b"\1"),
        (xclbin.EMBEDDED_METADATA, *(b"<project><platform><device><core>" + b"<a>" * 2000 + middle + b"</a>" * 2000 +
                                     b"</core></device></platform></project>" for middle in (b"x", b"y"))),
        (xclbin.IP_LAYOUT, b"\xff" * 8, b"\xff" * 9),
        (18, b"no PDI", b"none either"),
    ],
    ids=["deep", "NaN", "surrogates", "text", "unknown", "deep XML", "cut", "PDI"],
)  # fmt: skip
def test_sections_that_cannot_be_read_are_compared_as_bytes_or_by_path(kind, before, after, capsys):
    report = compare(container((kind, before)), container((kind, after)))
    assert report.count >= 1 and render(report) and json.dumps(report.to_json(), allow_nan=False)
    render_html(report).encode()
    if b"ud800" in before:
        (difference,) = [d for s in report.sections for d in s.differences if not d.derived]
        assert difference.place == "a"


# --- objects ------------------------------------------------------------------------------------------------------
def an_object(*lines, target="there", data=b"\1\2\3\4"):
    code = b"".join(encode_bundle(parse_bundle(line)) for line in lines)
    symbol = ObjectSymbol(target, defined=False, binding="global")
    call = len(code) - 6
    text = Section(".text", code, is_code=True, alignment=16, relocations=(Relocation(call, 1, symbol),))
    begin = ObjectSymbol("begin", 0, 0, len(code), "function", "global")
    return write_object(ObjectFile((text, Section(".data", data, writable=True, alignment=4)), (begin, symbol)))


def test_objects_are_compared_by_section_with_relocations_that_move_with_the_code():
    a = an_object("nop", "add r1, r1, #1", "jl #0")
    assert compare(a, a).identical

    def told(b):
        return [(s.name, d.place) for s in compare(a, b).sections for d in s.differences if not d.derived]

    assert told(an_object("nop", "add r1, r1, #1", "jl #0", data=b"\1\2\3\5")) == [("section .data", ".data 0x3")]
    assert told(an_object("nop", "add r1, r1, #2", "jl #0")) == [("section .text", ".text 0x2 (begin+0x2)")]
    inserted = told(an_object("nop", "mov r1, r2", "add r1, r1, #1", "jl #0"))
    assert inserted[0] == ("section .text", ".text 0x2 (begin+0x2)")
    assert not any("relocation" in place for _, place in inserted)
    assert ("section .text", ".text relocation.0x6") in told(an_object("nop", "add r1, r1, #1", "jl #0", target="x"))
