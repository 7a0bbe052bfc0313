"""npuc disasm and npuc asm: formats told by suffix, one line an error, the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuc.compiler.asm.programs import read_programs
from npuc.compiler.cli import main
from npuc.compiler.emit.elf import read_elf

SOURCE = "main: add r1, r2, r3\n j #main\n"


def run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code  # type: ignore[return-value]


def test_text_becomes_an_object_bare_code_or_an_executable_and_back(tmp_path: Path) -> None:
    source = tmp_path / "k.s"
    source.write_text(SOURCE)
    codes = []
    for suffix in ("o", "bin", "elf"):
        out, text, again = (tmp_path / name for name in (f"k.{suffix}", f"{suffix}.s", f"again.{suffix}"))
        assert run("asm", source, "-o", out) == 0
        codes.append(read_programs(out.read_bytes(), raw=suffix == "bin")[0].code)
        assert run("disasm", out, *(["--raw"] if suffix == "bin" else []), "-o", text) == 0
        assert run("asm", text, "-o", again) == 0
        assert read_programs(again.read_bytes(), raw=suffix == "bin")[0].code == codes[-1]
    assert codes[0] == codes[1] == codes[2] == read_elf((tmp_path / "k.elf").read_bytes()).program


def test_one_core_is_chosen_on_the_way_out_and_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "k.s", tmp_path / "k.bin"
    source.write_text(".core 0, 2\nnop\n.core 1, 2, 1\nadd r1, r2, r3\n")
    assert run("asm", source, "--core", "1,2", "-o", out) == 0
    assert out.read_bytes() == bytes.fromhex("99308210")
    assert run("asm", source, "--pdi", "0", "-o", out) == 0
    assert out.read_bytes() == b"\x01\x00"
    assert run("asm", source, "-o", out) == 0
    assert out.read_bytes() == bytes.fromhex("010099308210")
    assert run("asm", source, "-o", tmp_path / "k.elf") == 3
    assert "2 programs, an executable holds one (choose one with --core)" in capsys.readouterr().err
    assert run("asm", source, "--core", "3,3", "-o", out) == 3
    assert "no program of core 3,3 (cores are 0,2 1,2; PDIs 0 to 1)" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line_with_the_contracts_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "k.s"
    source.write_text("nop\n  vlda wl0, [r0, #0]\n")
    binary = tmp_path / "b"
    binary.write_bytes(b"\xff\xfe\x00")
    for words, code, message in [
        (("asm", source, "-o", tmp_path / "k.o"), 3, f"{source}:2:14: "),
        (("asm", binary, "-o", tmp_path / "k.o"), 3, "is not text"),
        (("asm", source, "-o", tmp_path / "k.x"), 2, "the suffix says no format"),
        (("asm", tmp_path / "absent.s"), 3, "cannot read"),
        (("disasm", binary), 3, f"{binary}: is none of"),
        (("disasm", binary, "--core", "2"), 2, "is not COLUMN,ROW"),
    ]:
        assert run(*words) == code, words
        error = capsys.readouterr().err
        assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.glob("k.o"))


@pytest.mark.parametrize(
    ("source", "suffix", "says"),
    [
        ('.section .data,"aw",0x7fffe\n.word 1\n', "elf", "section .data of 4 bytes at 0x7fffe leaves the memories"),
        (
            '.section a,"a",0x70000\n.word 1\n.section b,"a",0x70002\n.word 2\n',
            "elf",
            "b of 4 bytes at 0x70002 overlaps",
        ),
        (".reloc 0, R_AIE2_1, a\n", "o", ": 0 is outside the section"),
        (f"{'x' * 4001}: nop\n", "o", "1:1: a name of 4,001 characters (it may have 4,000 bytes)"),
        (f'"{chr(0x20AC) * 1400}" = 5\n', "elf", "1:1: a name of 1,400 characters"),
        (f"nop\n.section {'x' * 5000}\n", "bin", "2:10: a name of 5,000 characters"),
        ('  "\\x00": nop\n', "o", "1:3: \\x00: no character"),
    ],
)
def test_what_no_reader_would_take_is_not_written(
    source: str, suffix: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "k.s", tmp_path / f"k.{suffix}"
    path.write_text(source)
    assert run("asm", path, "-o", out) == 3 and not out.exists()
    assert says in capsys.readouterr().err


def test_the_longest_names_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, name = tmp_path / "k.s", "x" * 4000
    source.write_text(f'.core 63, 20, 9999\n{name}: j #{name}\n.section {name[1:]}, "a"\n.word 1\n')
    for suffix in ("o", "elf"):
        assert run("asm", source, "-o", tmp_path / f"k.{suffix}") == 0
        assert run("disasm", tmp_path / f"k.{suffix}") == 0 and f"{name}:" in capsys.readouterr().out
