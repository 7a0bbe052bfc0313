"""npuc diff names exactly what was changed in a kernel, and nothing else."""

from __future__ import annotations

import itertools
import json
import random
import time
from dataclasses import replace
from html.parser import HTMLParser

import campaigns
import pytest
from changed_kernels import (
    code_of,
    compiled,
    counted,
    encoded,
    kernel,
    loading,
    places,
    program_writes,
    with_commands,
    with_inserted_nop,
    with_npua,
)

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.emit import cdo, npua, pdi, txn, xclbin
from npuc.compiler.inspect.diff.compare import compare
from npuc.compiler.inspect.diff.html import render_html
from npuc.compiler.inspect.diff.report import ADDED, REMOVED, REORDERED
from npuc.compiler.inspect.diff.text import render
from npuc.compiler.target.npu1.geometry import split_address, tile_address
from npuc.compiler.target.npu1.registers import register_offset


def register(kind, column, row, name):
    return tile_address(column, row, register_offset(kind, name))


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- one thing changed --------------------------------------------------------------------------------------------
def test_a_kernel_is_identical_to_itself():
    report = compare(kernel(), kernel())
    assert report.identical and report.count == 0 and {s.status for s in report.sections} == {"identical"}


def with_immediate(changed_at):
    """The kernel in whose core(0,2) one movxm loads 2 more; `changed_at` gets its address."""

    def change(commands):
        place = program_writes(commands)[0]
        code = code_of(commands[place])
        bundle = next(b for b in decode_program(code) if [d.instruction.mnemonic for d in b.instructions] == ["movxm"])
        new = encoded(bundle, lambda slot, ops: tuple(o + 2 if isinstance(o, int) else o for o in ops))
        changed_at.append(bundle.address)
        commands[place] = loading(commands[place], code[: bundle.address] + new + code[bundle.address + bundle.size :])

    return with_commands(change)


def test_one_changed_instruction_is_named_with_core_address_and_slot():
    changed_at: list[int] = []
    report = compare(kernel(), with_immediate(changed_at))
    ((section, difference),) = counted(report)
    assert section == "PDI 0 program core(0,2)" and difference.change == "changed"
    assert difference.place.startswith(f"core(0,2) {changed_at[0]:#x}")
    assert difference.before.startswith("movxm") and difference.after.startswith("movxm")
    assert sum(line[0] in "-+" for line in difference.lines) == 2
    follow = {s.name for s in report.sections if s.status == "derived"}
    assert follow == {"header", "NPUA header", "NPUA array image", "mirror of header and table"}


def test_one_inserted_bundle_is_one_difference_though_all_behind_it_moves():
    def change(commands):
        for place in program_writes(commands):
            commands[place] = loading(commands[place], with_inserted_nop(code_of(commands[place]), middle))

    bundles = decode_program(code_of(program()))
    middle = bundles[len(bundles) // 3].address
    branches = [b for b in bundles if any(d.instruction.has_delay_slots for d in b.instructions)]
    assert any(bundle.address > middle for bundle in branches)
    forth, back = compare(kernel(), with_commands(change)), compare(with_commands(change), kernel())
    for report, kind in ((forth, ADDED), (back, REMOVED)):
        ((section, difference),) = [item for item in counted(report) if "program core" in item[0]]
        assert section == "PDI 0 program core(0,2..5)" and difference.change == kind
        assert (difference.after or difference.before) == "nopv"  # what a nop of four bytes disassembles to
    # The symbols were left as they were, so they now name other places: that is told, too.
    assert all(s == "NPUA programs" for s, _ in counted(forth) if "program core" not in s)


def program():
    found = []
    with_commands(lambda commands: found.extend(commands[place] for place in program_writes(commands)))
    return found[0]


def test_symbols_that_move_with_the_code_follow_from_it():
    def moved(data):
        programs = (
            replace(p, program_bytes=p.program_bytes + 4,
                    symbols=tuple((a + 4 if a >= middle else a, n) for a, n in p.symbols),
                    lines=tuple((a + 4 if a >= middle else a, n) for a, n in p.lines)) for p in data.programs
        )  # fmt: skip
        return replace(data, programs=tuple(programs))

    def change(commands):
        for place in program_writes(commands):
            commands[place] = loading(commands[place], with_inserted_nop(code_of(commands[place]), middle))

    bundles = decode_program(code_of(program()))
    middle = bundles[len(bundles) // 2].address
    image = xclbin.read_xclbin(with_commands(change))
    data = npua.write_npua(moved(npua.read_npua(image.kernels[0].npua)))
    both = xclbin.write_xclbin(replace(image, kernels=(replace(image.kernels[0], npua=data),)))
    assert [section for section, _ in counted(compare(kernel(), both))] == ["PDI 0 program core(0,2..5)"]


def test_a_branch_to_another_place_is_a_difference():
    def change(commands):
        place = program_writes(commands)[0]
        code = code_of(commands[place])
        bundles = decode_program(code)
        branch, its = next((b, s) for b in bundles for s, d in b.slots.items() if d.instruction.mnemonic == "jnz")
        target = bundles[5].address
        new = encoded(branch, lambda slot, ops: (ops[0], target) if slot == its else ops)
        commands[place] = loading(commands[place], code[: branch.address] + new + code[branch.address + branch.size :])

    ((_, difference),) = counted(compare(kernel(), with_commands(change)))
    assert difference.before.startswith("jnz") and difference.before != difference.after


def with_lock_value(values):
    """The kernel whose core(0,2) descriptor 1 acquires 2 more; `values` gets the value before."""
    address = register("core", 0, 2, "DMA_BD1_5")

    def change(commands):
        for place, command in enumerate(commands):
            if isinstance(command, cdo.DmaWrite) and command.address <= address < command.address + 24:
                words = list(command.words)
                old = words[(address - command.address) // 4]
                values.append(old >> 5 & 127)
                words[(address - command.address) // 4] = old & ~(127 << 5) | 2 << 5
                commands[place] = replace(command, words=tuple(words))

    return with_commands(change)


def test_one_changed_register_field_is_named_with_its_values():
    values: list[int] = []
    ((section, difference),) = counted(compare(kernel(), with_lock_value(values)))
    before = values[0] - 128 if values[0] >= 64 else values[0]
    assert section == "PDI 0 registers" and difference.place == "core(0,2).DMA_BD1_5 Lock_Acq_Value"
    assert (difference.before, difference.after) == (before, 2)


def test_an_added_and_a_removed_register_write_are_named():
    def add(commands):
        commands.insert(len(commands) // 2, cdo.Write(register("memtile", 1, 1, "Lock63_value"), 5))

    changed = with_commands(add)
    for pair, kind in (((kernel(), changed), ADDED), ((changed, kernel()), REMOVED)):
        ((_, difference),) = counted(compare(*pair))
        assert (difference.place, difference.change) == ("memtile(1,1).Lock63_value", kind)


def test_moved_commands_are_reordered_and_nothing_else():
    def change(commands):
        commands.insert(1, commands.pop(300))

    ((section, difference),) = counted(compare(kernel(), with_commands(change)))
    assert section == "PDI 0 commands" and difference.change == REORDERED


def test_initial_data_is_compared_by_memory_and_offset():
    def change(commands):
        for place, command in enumerate(commands):
            _, row, offset = split_address(getattr(command, "address", 0))
            if isinstance(command, cdo.DmaWrite) and row >= 2 and offset < 0x10000:
                commands[place] = replace(command, words=(command.words[0] ^ 0xFF, *command.words[1:]))
                changed.append(offset)
                return

    changed: list[int] = []
    ((section, difference),) = counted(compare(kernel(), with_commands(change)))
    assert section == "PDI 0 memories" and difference.place == f"core(0,2).DataMemory+{changed[0]:#x}"


def with_scale(scale):
    def change(data):
        attention = {**data.metadata["attention"], "scale": scale}
        return replace(data, metadata={**data.metadata, "attention": attention})

    return with_npua(change)


def test_one_changed_metadata_value_is_named_by_its_path():
    report = compare(kernel(), with_scale(0.25))
    ((section, difference),) = counted(report)
    assert (section, difference.place) == ("NPUA metadata", "attention.scale")
    assert (difference.before, difference.after) == (0.125, 0.25)


def test_the_texts_that_were_compiled_are_compared_line_by_line():
    def source(text):
        return with_npua(lambda data: replace(data, source=text))

    lines = [f"line {number}" for number in range(20)]
    report = compare(source("\n".join(lines)), source("\n".join([*lines[:9], "other", *lines[10:]])))
    ((section, difference),) = counted(report)
    assert (section, difference.place, difference.before, difference.after) == (
        "NPUA source", "source", "1 lines", "1 lines"
    )  # fmt: skip
    assert [line for line in difference.lines if line[0] != " "] == ["-line 9", "+other"]
    ((section, difference),) = counted(compare(kernel(), source("text")))
    assert (section, difference.change, difference.after) == ("NPUA source", "added", "4 bytes")


def with_swapped_sections():
    """The kernel with its neighbours IP_LAYOUT and CONNECTIVITY in the other order, all offsets right."""
    data = kernel()
    entries = xclbin.section_entries(data)
    places = [i for i, e in enumerate(entries) if e.kind in (xclbin.IP_LAYOUT, xclbin.CONNECTIVITY)]
    first, second = places
    start, end = entries[first].offset, entries[second].offset + entries[second].size
    body = data[entries[second].offset : end].ljust(-(-entries[second].size // 8) * 8, b"\0")
    moved = {second: start, first: start + len(body)}
    payload = body + data[start : start + entries[first].size]
    order = [*range(first), second, first, *range(second + 1, len(entries))]
    table = b"".join(
        xclbin.SECTION.pack(kind=e.kind, name=e.name.encode(), offset=moved.get(i, e.offset), size=e.size)
        for i, e in ((i, entries[i]) for i in order)
    )
    assert len(payload) == end - start
    head = data[: xclbin.HEADER.size] + table
    return head + data[len(head) : start] + payload + data[end:]


def test_one_reordered_section_is_named():
    report = compare(kernel(), with_swapped_sections())
    ((section, difference),) = counted(report)
    assert section == "section table" and difference.change == REORDERED
    assert difference.place in ("IP_LAYOUT", "CONNECTIVITY")


def test_a_changed_runtime_sequence_is_told_by_register_field_and_operation():
    def change(data):
        operations = list(data.control.operations)
        place = next(i for i, o in enumerate(operations) if isinstance(o, txn.BlockWrite))
        block = operations[place]
        operations[place] = replace(block, words=(block.words[0] + 1, *block.words[1:]))
        sync = next(i for i, o in enumerate(operations) if isinstance(o, txn.Sync))
        operations[sync] = replace(operations[sync], channel=1 - operations[sync].channel)
        return replace(data, control=replace(data.control, operations=tuple(operations)))

    first, second = places(compare(kernel(), with_npua(change)))
    assert first.startswith("shim(") and first.endswith("_0 Buffer_Length")
    assert second.startswith("operation") and second.endswith("Sync channel")


def test_inserted_and_moved_operations_are_each_one_difference():
    def insert(data):
        operations = list(data.control.operations)
        operations.insert(7, txn.Write(0x1D204, 3))
        return replace(data, control=replace(data.control, operations=tuple(operations)))

    def move(data):
        operations = list(data.control.operations)
        operations.append(operations.pop(0))
        return replace(data, control=replace(data.control, operations=tuple(operations)))

    for change, kind in ((insert, ADDED), (move, REORDERED)):
        ((section, difference),) = counted(compare(kernel(), with_npua(change)))
        assert (section, difference.change) == ("NPUA runtime sequence", kind)


# --- all formats --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", ["npua", "pdi", "txn", "xclbin"])
def test_every_format_is_identical_to_itself_and_any_flipped_bit_is_told(stage, seed):
    data = compiled().stage(stage)
    assert compare(data, data).identical
    rng = random.Random(f"{seed} {stage}")
    for _ in range(6):
        bit = rng.randrange(8 * len(data))
        for pair in ((data, flipped(data, bit)), (flipped(data, bit), data)):
            report = compare(*pair)
            assert not report.identical and report.count >= 1, bit
            assert render(report) and json.dumps(report.to_json())


def check_flips(item):
    stage, seed, count = item
    data = compiled().stage(stage)
    rng = random.Random(f"{seed} {stage}")
    for _ in range(count):
        bit = rng.randrange(8 * len(data))
        assert compare(data, flipped(data, bit)).count >= 1, bit


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["npua", "pdi", "txn", "xclbin"])
def test_thousands_of_flipped_bits_are_all_told(stage, seed, processes):
    campaigns.run(check_flips, [(stage, *each) for each in campaigns.batches(f"{seed} slow", 1000, 100)], processes)


def test_every_header_and_padding_bit_of_an_xclbin_counts():
    data = kernel()
    spots = range(0, 8 * xclbin.HEADER.size, 61)
    for bit in [*spots, 8 * (len(data) - 1)]:
        assert compare(data, flipped(data, bit)).count >= 1, bit


def test_elf_programs_are_compared_by_instruction_and_symbol():
    data = next(iter(compiled().elfs().values()))
    assert compare(data, data).identical
    bundles = decode_program(npua_code())
    branch = next(b for b in bundles if any(d.instruction.mnemonic == "movxm" for d in b.instructions))
    new = encoded(branch, lambda slot, ops: tuple(o + 2 if isinstance(o, int) else o for o in ops))
    code = npua_code()
    changed = data.replace(code, code[: branch.address] + new + code[branch.address + branch.size :])
    (place,) = places(compare(data, changed))
    assert place.startswith(f"program {branch.address:#x}")
    renamed = data.replace(b"\0run\0", b"\0ran\0")
    assert places(compare(data, renamed)) == ["symbol run", "symbol ran"]


def npua_code():
    return code_of(program())


def npua_1(*instructions):
    data = npua.V1_HEADER.pack(count=len(instructions))
    return data + b"".join(
        npua.V1_INSTRUCTION.pack(opcode=o, source1=1, source2=2, destination=d, immediate=i) for o, d, i in instructions
    )


def test_npua_version_1_is_compared_instruction_by_instruction():
    a = npua_1((0x10, 1, 0), (0x20, 2, 0), (0x40, 3, 7))
    assert compare(a, a).identical
    b = npua_1((0x10, 1, 0), (0x30, 9, 0), (0x20, 2, 0), (0x40, 3, 8))
    inserted, immediate = (difference for _, difference in counted(compare(a, b)))
    assert inserted.change == ADDED and inserted.after.startswith("add ")
    assert immediate.place == "instruction 2 softmax immediate" and (immediate.before, immediate.after) == (7, 8)
    assert places(compare(a, a[:-1] + b"\1")) == ["bytes 0x37"]
    assert "NPUA version" in places(compare(a, compiled().stage("npua")))


def many_images(rng):
    """Fifteen array images of sixteen cores, with programs that differ from core to core: some 1.1 MB."""
    code = code_of(program())
    bundles = [code[b.address : b.address + b.size] for b in decode_program(code)]
    images = []
    for _ in range(15):
        commands = []
        for column, row in itertools.product(range(4), range(2, 6)):
            chosen = [b for b in bundles if rng.random() < 0.9]
            commands.append(loading(cdo.DmaWrite(tile_address(column, row, 0x20000), ()), b"".join(chosen)))
        images.append(pdi.write_pdi(commands))
    return images


@pytest.mark.slow
def test_two_files_of_a_megabyte_take_less_than_ten_seconds(seed):
    rng = random.Random(seed)
    a, b = (many_images(rng) for _ in range(2))
    assert sum(map(len, a)) > 1_000_000
    start = time.process_time()
    count = sum(compare(*pair).count for pair in zip(a, b, strict=True))
    seconds = time.process_time() - start
    print(f"{count} differences in {sum(map(len, a)):,} bytes: {seconds:.1f} s")
    assert count > 1000 and seconds < 10


# --- the command --------------------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path):
    changed = with_npua(lambda data: replace(data, metadata={**data.metadata, "kernel": "other<b>"}))
    (tmp_path / "a.xclbin").write_bytes(kernel())
    (tmp_path / "b.xclbin").write_bytes(changed)
    return tmp_path


def test_exit_codes_are_0_1_2_and_3(npuc, files):
    (files / "text").write_text("no binary")
    assert npuc("diff", files / "a.xclbin", files / "a.xclbin")[0] == 0
    assert npuc("diff", files / "a.xclbin", files / "b.xclbin")[0] == 1
    assert npuc("diff", files / "a.xclbin")[0] == 2
    assert npuc("diff", files / "a.xclbin", files / "missing")[0] == 3
    assert npuc("diff", files / "text", files / "text")[0] == 3
    assert npuc("diff", files / "a.xclbin", files / "text")[0] == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (lambda: with_immediate([]), "core(0,2) 0x"),
        (lambda: with_lock_value([]), "core(0,2).DMA_BD1_5 Lock_Acq_Value: "),
        (lambda: with_scale(0.25), "attention.scale: 0.125 -> 0.25"),
        (with_swapped_sections, ": reordered, "),
    ],
    ids=["instruction", "register field", "metadata value", "section order"],
)
def test_one_change_gives_exit_code_1_and_one_counted_difference_by_its_name(npuc, tmp_path, changed, told):
    (tmp_path / "a").write_bytes(kernel())
    (tmp_path / "b").write_bytes(changed())
    code, out, err = npuc("diff", tmp_path / "a", tmp_path / "b")
    assert code == 1 and " differ: 1 difference in 1 of " in out.splitlines()[0] and err.startswith("error: ")
    assert any(told in line for line in out.splitlines())


def test_json_has_the_fields_of_the_contract(npuc, files):
    code, out, _ = npuc("diff", files / "a.xclbin", files / "b.xclbin", "--json")
    report = json.loads(out)
    assert code == 1 and report["identical"] is False
    assert all(set(section) == {"name", "status", "differences"} for section in report["sections"])
    (changed,) = [section for section in report["sections"] if section["status"] == "changed"]
    assert changed["name"] == "NPUA metadata"
    assert changed["differences"] == [
        {"place": "kernel", "change": "changed", "before": "attention", "after": "other<b>"}
    ]


class Tags(HTMLParser):
    """The elements that were opened and not closed, in order; a wrong end fails."""

    def __init__(self):
        super().__init__()
        self.left = []

    def handle_starttag(self, tag, attrs):
        self.left += [] if tag == "meta" else [tag]

    def handle_endtag(self, tag):
        assert self.left.pop() == tag


def test_the_page_is_whole_and_shows_names_as_text(npuc, files):
    page = files / "report.html"
    code, out, _ = npuc("diff", files / "a.xclbin", files / "b.xclbin", "--html", page)
    text = page.read_text()
    assert code == 1 and "kernel: attention -> other<b>" in out
    assert "other&lt;b&gt;" in text and "<b>" not in text and "http" not in text and "<script" not in text
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    open_tags = Tags()
    open_tags.feed(text)
    assert open_tags.left == []


def test_the_summary_comes_first_and_names_of_files_cannot_fake_lines():
    changed = with_npua(lambda data: replace(data, metadata={**data.metadata, "kernel": "\x1b[2J\nfine"}))
    text = render(compare(kernel(), changed, ("a", "b")))
    assert text.startswith("a and b differ: 1 difference in 1 of")
    assert "\x1b" not in text and not any(line.startswith("fine") for line in text.splitlines())
    assert render_html(compare(kernel(), changed)).count("\x1b") == 0


def test_a_cut_file_is_different_and_two_cut_files_cannot_be_read():
    whole = kernel()
    report = compare(whole, whole[:-1])
    assert not report.identical and report.count >= 1
    assert not compare(whole, whole[:1000]).identical
