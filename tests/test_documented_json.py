"""The JSON that commands print has the fields that compiler/commands/README.md lists, neither more nor less."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY
from control_code_files import control_code
from small_kernels import compiled

from npuc.compiler.commands import bench
from npuc.compiler.emit import elf, txn
from npuc.compiler.emit.legacy_sequence import text_of_words
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

Npuc = Callable[..., tuple[int, str, str]]


@dataclass
class Fields:
    """Names with what is inside of each; any: values of any name are so; more: other names may stand there."""

    names: dict[str, Fields | None] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    any: Fields | None = None
    more: bool = False


_TOKEN = re.compile(r"\{\*:|\.\.\.|[\[\]{}?]|[\w-]+")
_ENDS = {"[": "]", "{": "}"}


def parsed(tokens: Iterator[str], end: str | None = None) -> Fields:
    found, last = Fields(), ""
    for token in tokens:
        if token == end:
            return found
        if token == "...":
            found.more = True
        elif token == "?":
            found.optional.add(last)
        elif token == "{*:":
            found.names[last] = Fields(any=parsed(tokens, "}"))
        elif token in _ENDS:
            found.names[last] = parsed(tokens, _ENDS[token])
        else:
            found.names[token], last = None, token
    assert end is None
    return found


def documented() -> dict[str, Fields]:
    text = (REPOSITORY / "compiler" / "commands" / "README.md").read_text()
    block = text.split("## JSON")[1].split("```")[1].strip()
    entries = dict(part.split(":", 1) for part in re.split(r"\n\n+", block))
    return {name: parsed(iter(_TOKEN.findall(body))) for name, body in entries.items()}


DOCUMENTED = documented()


def differences(value: Any, fields: Fields | None, place: str) -> Iterator[str]:
    """What the fields do not say of a value, and what they say and it has not."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from differences(element, fields, f"{place}[{index}]")
    elif isinstance(value, dict) and fields is None:
        yield f"{place}: an object, documented as a plain value"
    elif isinstance(value, dict) and fields is not None:
        for name, inner in value.items():
            if fields.any is not None:
                yield from differences(inner, fields.any, f"{place}.{name}")
            elif name in fields.names:
                yield from differences(inner, fields.names[name], f"{place}.{name}")
            elif not fields.more:
                yield f"{place}.{name} is not documented"
        missing = fields.names.keys() - fields.optional - value.keys()
        yield from (f"{place}.{name} is documented and not printed" for name in sorted(missing))


def check(name: str, out: str) -> Any:
    value = json.loads(out)
    assert not list(differences(value, DOCUMENTED[name], name))
    return value


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented")
    kernel = compiled()
    for stage in ("txn", "npua", "pdi", "xclbin"):
        (folder / f"k.{stage}").write_bytes(kernel.stage(stage))
    (folder / "k.cdo").write_bytes(kernel.files["kernel.cdo"])
    (folder / "k.elf").write_bytes(kernel.elfs()["core_0_2.elf"])
    words = struct.unpack(f"<{len(kernel.stage('txn')) // 4}I", kernel.stage("txn"))
    (folder / "k.sequence").write_bytes(text_of_words(words))
    stream = txn.write_txn([txn.BlockWrite(0x1D000, tuple(range(8)))], 1)
    (folder / "k.control-code").write_bytes(control_code(stream, [(32, "3", 0)]))
    (folder / "other.control-code").write_bytes(control_code(stream, [(32, "3", 0)], abi=70))
    (folder / "k.npua1").write_bytes(struct.pack("<IIBBBBIQ", 0x4E505541, 1, 0x10, 1, 2, 3, 4, 0))
    (folder / "a.mlir").write_text(to_attn_module(Attention.make(heads=1, query_length=64, head_dim=64)))
    member = (folder / "k.elf").read_bytes()
    header = f"{'k.elf/':<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(member):<10}`\n".encode()
    (folder / "k.archive").write_bytes(b"!<arch>\n" + header + member)
    return folder


@pytest.mark.parametrize("kind", ["xclbin", "pdi", "cdo", "txn", "sequence", "npua", "elf", "control-code", "archive"])
def test_inspect(npuc: Npuc, place: Path, kind: str) -> None:
    code, out, _ = npuc("inspect", place / f"k.{kind}", "--json")
    assert code == 0 and check(f"inspect {kind}", out)["format"] == kind


def test_inspect_of_what_is_rarer(npuc: Npuc, place: Path, tmp_path: Path) -> None:
    check("inspect npua 1", npuc("inspect", place / "k.npua1", "--json")[1])
    check("inspect control-code", npuc("inspect", place / "other.control-code", "--json")[1])
    host = tmp_path / "host.o"
    host.write_bytes((place / "k.elf").read_bytes().replace(struct.pack("<HH", 2, 264), struct.pack("<HH", 2, 40), 1))
    code, out, err = npuc("inspect", host, "--json")
    assert code == 0, err
    check("inspect other-elf", out)


def test_compile_and_its_errors(npuc: Npuc, place: Path, tmp_path: Path) -> None:
    code, out, _ = npuc("compile", place / "a.mlir", "-o", tmp_path / "k.xclbin", "--json")
    assert code == 0
    check("compile", out)
    code, out, _ = npuc("compile", tmp_path / "missing.mlir", "--json")
    assert code == 3
    check("error", out)


def test_run_checked_and_not_and_of_another_tool(npuc: Npuc, place: Path) -> None:
    emulated = ("--backend", "emulator", "--json")
    code, out, _ = npuc("run", place / "k.xclbin", "--check", *emulated)
    assert code == 0 and check("run", out)["check"] is not None
    code, out, _ = npuc("run", place / "k.xclbin", "--backend", "reference", "--json")
    assert code == 0 and check("run", out)["check"] is None
    code, out, _ = npuc("run", place / "k.xclbin", "--insts", place / "k.txn", "--alloc", "bo0=8192", "--alloc",
                        "bo1=8192", "--alloc", "bo2=8192", "--alloc", "bo3=8192", "--json")  # fmt: skip
    assert code == 0
    check("run", out)
    code, out, _ = npuc("run", place / "k.xclbin", "--max-cycles", "10", *emulated)
    assert code == 4
    check("error", out)


def test_lint_with_findings_and_without(npuc: Npuc, place: Path, tmp_path: Path) -> None:
    check("lint", npuc("lint", place / "k.xclbin", "--json")[1])
    source = tmp_path / "wrong.s"
    source.write_text("add r5, r6, r6\nend: j #end\n" + "nop\n" * 5)
    code, out, _ = npuc("lint", source, "--json")
    assert code == 1 and check("lint", out)["programs"][0]["findings"]


def test_diff_of_equal_and_of_different_files(npuc: Npuc, place: Path, tmp_path: Path) -> None:
    check("diff", npuc("diff", place / "k.pdi", place / "k.pdi", "--json")[1])
    image = elf.read_elf((place / "k.elf").read_bytes())
    other = tmp_path / "other.elf"
    other.write_bytes(elf.write_elf(elf.CoreImage(image.program[16:] + bytes(16), 0, image.symbols, image.data)))
    code, out, _ = npuc("diff", place / "k.elf", other, "--json")
    assert code == 1
    check("diff", out)


def test_golden(npuc: Npuc, place: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mlir").write_text((place / "a.mlir").read_text())
    (tmp_path / "golden.toml").write_text('[[case]]\nname = "a"\nsource = "a.mlir"\nkeep = ["txn"]\n')
    for words in (("record", tmp_path), ("check", tmp_path)):
        check("golden", npuc("golden", *words, "--json")[1])


def test_doctor(npuc: Npuc) -> None:
    check("doctor", npuc("doctor", "--json")[1])


def test_bench(npuc: Npuc) -> None:
    code, out, _ = npuc("bench", bench.CASES[0].name, "--json")
    assert code == 0
    check("bench", out)


def test_what_is_documented_is_noticed_when_it_is_not_so() -> None:
    fields = parsed(iter(_TOKEN.findall("a b? c[d e{*: f}] g{...}")))
    good = {"a": 1, "c": [{"d": 1, "e": {"x": {"f": 2}}}], "g": {"any": 3}}
    assert not list(differences(good, fields, "x"))
    for wrong in (
        {**good, "z": 1}, {k: v for k, v in good.items() if k != "a"}, {**good, "c": [{"d": 1}]},
        {**good, "c": [{"d": 1, "e": {"x": {"f": 2, "h": 1}}}]}, {**good, "a": {"inner": 1}},
    ):  # fmt: skip
        assert list(differences(wrong, fields, "x"))


def test_every_command_with_json_is_documented(npuc: Npuc) -> None:
    from npuc.compiler.cli import group

    told = {name.split()[0] for name in DOCUMENTED}
    for name in group.commands_by_name:
        if "--json" in npuc(name, "--help")[1]:
            assert name in told, name
