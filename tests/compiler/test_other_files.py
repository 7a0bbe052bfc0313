"""Files of others that the tools meet: archives of objects, Git LFS pointers, control-code ELFs, ELFs of hosts."""

from __future__ import annotations

import io
import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from control_code_files import control_code
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from npuc.compiler.asm.objects import assemble_object
from npuc.compiler.asm.products import assemble_to
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import archive, txn
from npuc.compiler.emit.elf_object import read_object
from npuc.compiler.formats import detect
from npuc.compiler.inspect.show import describe

Npuc = Callable[..., tuple[int, str, str]]

FIRST = """
.global f
.text
f: jl #g
nop
nop
nop
nop
nop
.Lhere: movxm p0, #table
ret lr
nop
nop
nop
nop
nop
.data
.word 1, 2
"""
SECOND = ".global g, table\n.text\ng:\n.Lhere: ret lr\nnop\nnop\nnop\nnop\nnop\n.rodata\ntable: .word 7\n"
BROKEN = ".global h\nh: mova r3, #1; movx r3, #2\nret lr\nnop\nnop\nnop\nnop\nnop\n"


def packed(*members: tuple[str, bytes], bsd: bool = False) -> bytes:
    """An archive as GNU's or BSD's `ar` writes it, with a symbol index."""

    def header(name: str, size: int) -> bytes:
        return f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{size:<10}`\n".encode()

    index, long_names = b"\0\0\0\0", b""
    data = b"!<arch>\n"
    data += header("__.SYMDEF" if bsd else "/", len(index)) + index
    fields = []
    for name, _ in members:
        if bsd:
            fields.append(f"#1/{len(name)}")
        elif len(name) < 16:
            fields.append(f"{name}/")
        else:
            fields.append(f"/{len(long_names)}")
            long_names += f"{name}/\n".encode()
    if long_names:
        data += header("//", len(long_names)) + long_names + b"\n" * (len(long_names) % 2)
    for field, (name, content) in zip(fields, members, strict=True):
        body = name.encode() + content if bsd else content
        data += header(field, len(body)) + body + b"\n" * (len(body) % 2)
    return data


def objects() -> list[tuple[str, bytes]]:
    return [
        ("first.o", assemble_to("o", FIRST, "first.s")),
        ("a_name_of_more_than_fifteen.o", assemble_to("o", SECOND, "second.s")),
        ("notes.txt", b"odd"),
    ]


@pytest.mark.parametrize("bsd", [False, True])
def test_members_are_those_that_were_packed(bsd: bool) -> None:
    members = objects()
    data = packed(*members, bsd=bsd)
    found = archive.read_archive(data)
    assert [(m.name, m.data) for m in found] == members
    assert all(data[m.offset : m.offset + len(m.data)] == m.data for m in found)


def test_the_hosts_archiver_packs_what_is_read(tmp_path: Path) -> None:
    members = objects()
    for name, content in members:
        (tmp_path / name).write_bytes(content)
    try:
        subprocess.run(["ar", "rc", "lib.a", *(name for name, _ in members)], cwd=tmp_path, check=True)
    except FileNotFoundError:
        pytest.skip("no ar on this machine")
    assert [(m.name, m.data) for m in archive.read_archive((tmp_path / "lib.a").read_bytes())] == members


def test_an_archive_that_is_cut_or_damaged_is_a_named_error_or_still_read(seed: int) -> None:
    good, rng = packed(*objects()), Random(seed)
    for _ in range(300):
        data = bytearray(good[: rng.randrange(1, len(good))] if rng.random() < 0.4 else good)
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            describe(bytes(data), "lib.a")
        except InputError as error:
            assert str(error.place) == "lib.a"
    with pytest.raises(InputError, match="thin archive"):
        archive.read_archive(b"!<thin>\n")


def test_inspect_lists_an_archives_members_with_what_is_in_them(npuc: Npuc, tmp_path: Path) -> None:
    file = tmp_path / "lib.a"
    file.write_bytes(packed(*objects()))
    code, out, _ = npuc("inspect", file, "--json")
    found = json.loads(out)
    assert code == 0 and found["format"] == "archive"
    assert [(m["name"], m["format"]) for m in found["members"]] == [
        ("first.o", "elf"), ("a_name_of_more_than_fifteen.o", "elf"), ("notes.txt", None)
    ]  # fmt: skip
    assert {s["name"] for s in found["members"][0]["symbols"]} >= {"f"}
    code, out, _ = npuc("inspect", file)
    assert code == 0 and "first.o: elf, " in out and "notes.txt: unknown: is none of xclbin" in out


def test_disassembly_of_an_archive_assembles_to_all_its_sections_and_symbols(npuc: Npuc, tmp_path: Path) -> None:
    file, text, again = tmp_path / "lib.a", tmp_path / "lib.s", tmp_path / "lib.o"
    file.write_bytes(packed(*objects()))
    assert npuc("disasm", file, "-o", text)[0] == 0
    assert npuc("asm", text, "-o", again)[0] == 0
    both = [read_object(content) for _, content in objects()[:2]]
    found = read_object(again.read_bytes())
    assert [s.data for s in found.sections] == [s.data for file in both for s in file.sections]
    names = [s.name for s in found.symbols if s.name]
    assert {"f", "g", "table"} <= set(names) and len(names) == len(set(names))
    assert all(s.defined for s in found.symbols if s.name)  # what one leaves open the other has
    linked = {(r.symbol.name, r.symbol.section) for s in found.sections for r in s.relocations}
    assert linked == {("g", 2), ("table", 3)}


def test_lint_looks_at_every_member_and_names_it(npuc: Npuc, tmp_path: Path) -> None:
    file = tmp_path / "lib.a"
    file.write_bytes(packed(*objects(), ("broken.o", assemble_to("o", BROKEN, "broken.s"))))
    code, out, _ = npuc("lint", file, "--json")
    found = json.loads(out)
    assert code == 1 and found["errors"] == 1
    wrong = [p["title"] for p in found["programs"] if p["findings"]]
    assert wrong == ["section broken.o:.text"]


def test_archives_are_compared_member_by_member(npuc: Npuc, tmp_path: Path) -> None:
    a, b = tmp_path / "a.a", tmp_path / "b.a"
    members = objects()
    a.write_bytes(packed(*members))
    changed = assemble_to("o", FIRST.replace(".word 1, 2", ".word 1, 3"), "first.s")
    b.write_bytes(packed(("first.o", changed), members[1]))
    code, out, _ = npuc("diff", a, b, "--json")
    found = json.loads(out)
    different = {s["name"]: s["status"] for s in found["sections"] if s["status"] != "identical"}
    assert code == 1 and different == {"first.o section .data": "changed", "notes.txt": "removed"}
    assert npuc("diff", a, a)[0] == 0


# ---- Git LFS


POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def test_a_git_lfs_pointer_is_called_one_by_every_command(npuc: Npuc, tmp_path: Path) -> None:
    said = "is a Git LFS pointer to 12,345 bytes, sha256 4d7a214614ab2935..., not the file itself"
    other = tmp_path / "other.txn"
    other.write_bytes(txn.write_txn([], 1))
    for name in ("k.xclbin", "k.mlir", "k.s", "k.npz"):
        (tmp_path / name).write_bytes(POINTER)
    for words in (
        ("inspect", "k.xclbin"), ("disasm", "k.xclbin"), ("lint", "k.xclbin"), ("lint", "k.s"), ("asm", "k.s"),
        ("diff", "k.xclbin", "other.txn"), ("compile", "k.mlir"), ("run", "k.xclbin"),
    ):  # fmt: skip
        code, out, err = npuc(words[0], *(tmp_path / word for word in words[1:]))
        assert (code, out) == (3, "") and said in err and str(tmp_path / words[1]) in err, (words, err)
    with pytest.raises(InputError, match="Git LFS pointer"):
        detect(POINTER)
    assert not (tmp_path / "k.o").exists()


# ---- ELFs without code of cores


def stream() -> bytes:
    block = txn.BlockWrite(0x1D000, tuple(range(8)))
    return txn.write_txn([block, txn.Write(0x1D204, 1), txn.Sync(0, 0, 0, 0)], 1)


def test_a_control_code_elf_shows_its_tables_and_its_sequence(npuc: Npuc, tmp_path: Path) -> None:
    data = control_code(stream(), [(16 + 16, "3", 0x40)])
    file = tmp_path / "control.elf"
    file.write_bytes(data)
    code, out, _ = npuc("inspect", file, "--json")
    found = json.loads(out)
    independent = ELFFile(io.BytesIO(data))
    assert code == 0 and found["format"] == "control-code" and found["platform"] == "npu1 or npu2"
    assert [(s["name"], s["bytes"]) for s in found["sections"]] == [
        (s.name, s["sh_size"]) for s in independent.iter_sections()
    ]
    assert [s["name"] for s in found["symbols"]] == ["3"]
    assert found["relocations"] == [{"offset": 32, "type": 5, "symbol": "3", "addend": 0x40}]
    assert found["stream"]["counts"] == {"BlockWrite": 1, "DdrPatch": 1, "Sync": 1, "Write": 1}
    code, text, _ = npuc("disasm", file)
    assert code == 0 and all(line.startswith("//") for line in text.splitlines())
    assert ".ctrltext" in text and "0x00000020 type 5 3 + 0x40" in text and "BlockWrite" in text
    assert assemble_object(text).sections == ()
    assert npuc("lint", file)[2].endswith("a control-code ELF holds no core programs\n")


def test_control_code_of_another_platform_shows_its_tables_and_why_its_sequence_is_not_read() -> None:
    found = describe(control_code(stream(), [(16 + 16, "3", 0)], abi=70), "other.elf")
    assert "AIE2PS" in found["platform"] and "OS/ABI 70" in found["stream"]["reason"]
    assert len(found["relocations"]) == 1


def host_elf() -> bytes:
    """A 64-bit object for x86-64 with one function and one call out of it, written with struct alone."""
    strings, names = b"\0main\0puts\0", b"\0.text\0.symtab\0.strtab\0.rela.text\0.shstrtab\0"
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 0, 5) + struct.pack("<IBBHQQ", 6, 0x10, 0, 0, 0, 0)
    relocations = struct.pack("<QQq", 1, 2 << 32 | 4, -4)
    body, headers = b"", [bytes(64)]
    for name, kind, data, link, info, entry in (
        (b".text", 1, b"\xe8\0\0\0\0", 0, 0, 0),
        (b".symtab", 2, symbols, 3, 1, 24),
        (b".strtab", 3, strings, 0, 0, 0),
        (b".rela.text", 4, relocations, 2, 1, 24),
        (b".shstrtab", 3, names, 0, 0, 0),
    ):
        body += bytes(-len(body) % 8)
        flags = 6 if name == b".text" else 0
        fields = (names.index(name + b"\0"), kind, flags, 0, 64 + len(body), len(data), link, info, 8, entry)
        headers.append(struct.pack("<IIQQQQIIQQ", *fields))
        body += data
    body += bytes(-len(body) % 8)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(headers), 5)
    return ident + header + body + b"".join(headers)


def test_an_elf_of_a_host_shows_sections_symbols_and_relocations(npuc: Npuc, tmp_path: Path) -> None:
    data = host_elf()
    independent = ELFFile(io.BytesIO(data))
    table = independent.get_section_by_name(".symtab")
    assert isinstance(table, SymbolTableSection)
    file = tmp_path / "host.o"
    file.write_bytes(data)
    code, out, _ = npuc("inspect", file, "--json")
    found = json.loads(out)
    assert code == 0 and (found["format"], found["class"], found["machine"]) == ("other-elf", 64, "X86_64")
    assert [s["name"] for s in found["sections"]] == [s.name for s in independent.iter_sections()]
    assert [(s["name"], s["bytes"]) for s in found["symbols"]] == [
        (s.name, s["st_size"]) for s in table.iter_symbols() if s.name
    ]
    ((address, symbol, addend),) = [(r["address"], r["symbol"], r["addend"]) for r in found["relocations"]]
    assert (address, symbol, addend) == (1, "puts", -4)
    code, text, _ = npuc("disasm", file)
    assert code == 0 and "machine X86_64" in text and assemble_object(text).sections == ()
    assert npuc("lint", file)[2].endswith("an ELF of another machine holds no core programs\n")


def test_a_damaged_elf_of_a_host_ends_no_command(npuc: Npuc, tmp_path: Path, seed: int) -> None:
    good, rng = host_elf(), Random(seed)
    for number in range(3):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(16, len(data))] = rng.randrange(256)
        file = tmp_path / f"{number}.o"
        file.write_bytes(data[: rng.randrange(64, len(data))] if number % 2 else data)
        code, out, err = npuc("inspect", file)
        assert (code, out != "", err != "") in ((0, True, False), (3, False, True))


def test_reading_a_hosts_elf_that_ends_the_reader_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npuc.compiler.inspect.elf_tables._RUN", "import os; os.abort()")
    with pytest.raises(InputError, match="that is malformed, or of a kind that lief does not read"):
        describe(host_elf(), "host.o")


# ---- sequences as text


def test_sequences_as_text_are_compared_by_their_operations(npuc: Npuc, tmp_path: Path) -> None:
    words = struct.unpack(f"<{len(stream()) // 4}I", stream())
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text("\n".join(f"{word:08X}" for word in words) + "\n")
    changed = [word if word != 0x1D204 else 0x1D208 for word in words]
    b.write_text("\n".join(f"{word:08X}" for word in changed) + "\n")
    code, out, _ = npuc("diff", a, b)
    assert code == 1 and "Write shim(0,0)" in out
    b.write_text(a.read_text().replace("\n", "\r\n"))
    assert npuc("diff", a, b)[0] == 1 and npuc("diff", a, a)[0] == 0
