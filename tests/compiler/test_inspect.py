"""npuc inspect: every format as text and JSON, agreeing with an independent reader; foreign forms; what it is not."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from pathlib import Path

import pytest
from damage import sealed_npua
from facts_tools import xclbin_report
from foreign_files import container, sections, transformed
from small_kernels import compiled

from npuc.compiler import driver
from npuc.compiler.emit import cdo, elf, npua, txn, xclbin
from npuc.compiler.emit.control_template import ControlTemplate, Patch
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.compiler.inspect import show
from npuc.compiler.inspect.wrapped import folded, named


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Every binary stage of a small kernel."""
    place = tmp_path_factory.mktemp("stages")
    kernel = compiled()
    for stage in ("txn", "npua", "pdi", "xclbin"):
        (place / f"k.{stage}").write_bytes(kernel.stage(stage))
    (place / "k.cdo").write_bytes(kernel.files["kernel.cdo"])
    (place / "k.elf").write_bytes(kernel.elfs()["core_0_2.elf"])
    return place


def described(npuc, path: Path) -> dict:
    code, out, err = npuc("inspect", path, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


KEYS = {
    "xclbin": {"header", "sections", "memories", "kernels", "partition", "pdis"},
    "pdi": {"image_name", "transformed", "missing_bytes", "generation", "commands", "tiles"},
    "cdo": {"commands", "tiles"},
    "txn": {"version", "generation", "device", "columns", "rows", "counts", "operations"},
    "npua": {"version", "metadata", "control", "programs", "pdi_sha256", "pdi", "source"},
    "elf": {"generation", "entry", "program_bytes", "data", "symbols"},
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_format_is_told_by_its_content_and_shown(npuc, folder, tmp_path, kind):
    data = (folder / f"k.{kind}").read_bytes()
    path = tmp_path / "nameless"
    path.write_bytes(data)
    found = described(npuc, path)
    assert found["format"] == kind and set(found) == {"file", "format", "bytes", "sha256"} | KEYS[kind]
    assert (found["file"], found["bytes"]) == (str(path), len(data))
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    code, out, err = npuc("inspect", path)
    assert (code, err) == (0, "") and out.startswith(f"{path}: {kind}, {len(data):,} bytes\n  sha256 {found['sha256']}")
    assert show.show(data, json=False).splitlines()[1:] == out.splitlines()[1:]


@pytest.mark.parametrize("stage", driver.STAGES)
def test_every_product_of_compile_is_shown_or_refused_in_one_line(npuc, tmp_path, monkeypatch, stage):
    monkeypatch.chdir(tmp_path)
    Path("a.mlir").write_text(to_attn_module(Attention.make(heads=1, query_length=64, head_dim=64)))
    out = f"k.{'folder' if stage == 'elf' else stage}"
    assert npuc("compile", "a.mlir", "--emit", stage, "-o", out)[0] == 0
    paths = sorted(Path(out).iterdir()) if stage == "elf" else [Path(out)]
    for path in paths:
        code, text, err = npuc("inspect", path)
        if stage in driver.TEXT_STAGES:
            assert (code, text) == (3, "") and err == f"error: {path}: is none of xclbin, pdi, cdo, txn, npua, elf\n"
        else:
            assert (code, err) == (0, "") and text.startswith(f"{path}: {stage}")
    if stage == "elf":
        assert len(paths) == compiled(None).summary["cores"]
        assert npuc("inspect", out) == (3, "", f"error: {out}: cannot read: Is a directory\n")


def test_the_json_agrees_with_the_independent_checker(npuc, folder):
    path = folder / "k.xclbin"
    found, info = described(npuc, path), xclbin_report(path)["info"]
    assert [[s["kind"], s["offset"], s["bytes"]] for s in found["sections"]] == info["sections"]
    assert (found["header"]["uuid"], found["header"]["version"]) == (info["uuid"], info["version"])
    assert [[m["tag"], m["kib"], hex(m["base"])] for m in found["memories"]] == info["memory"]
    assert found["partition"]["columns"] == info["partition"]["columns"]
    assert found["partition"]["start_columns"] == info["partition"]["start_columns"]
    (kernel,), (other,) = found["kernels"], info["kernels"]
    assert (kernel["name"], kernel["id"], [kernel["instance"]]) == (other["kernel"], other["id"], other["instances"])
    arguments = [[i, a["name"], int(a["pointer"]), a["offset"], a["bytes"]] for i, a in enumerate(kernel["arguments"])]
    assert arguments == other["args"]
    assert [a["memory"] for a in kernel["arguments"]] == [None, "SRAM", None, "HOST", "HOST", "HOST", "HOST"]
    (image,), (seen,) = found["pdis"], info["pdis"]
    names = {"Write": "WRITE", "MaskWrite": "MASK_WRITE", "DmaWrite": "DMA_WRITE", "Nop": "NOP"}
    assert {names[name]: count for name, count in image["commands"].items()} == seen["commands"]
    assert len(image["tiles"]) == seen["tiles_touched"]
    cores = {t["tile"].removeprefix("core(").rstrip(")"): t for t in image["tiles"] if t["tile"].startswith("core")}
    assert {place: t["program_bytes"] for place, t in cores.items() if t["program_bytes"]} == seen["program_bytes"]
    assert [place for place, t in cores.items() if t["enabled"]] == seen["enabled"]


def test_the_npua_of_a_kernel_is_shown_where_it_lies(npuc, folder):
    alone = described(npuc, folder / "k.npua")
    inside = described(npuc, folder / "k.xclbin")["kernels"][0]["npua"]
    image = alone["pdi"]
    assert {**{key: alone[key] for key in inside}, "pdi": None} == inside
    assert image["tiles"] == described(npuc, folder / "k.pdi")["tiles"] == described(npuc, folder / "k.cdo")["tiles"]
    assert inside["pdi_sha256"] == hashlib.sha256((folder / "k.pdi").read_bytes()).hexdigest()
    assert inside["control"]["operations"] == described(npuc, folder / "k.txn")["operations"]
    text = npuc("inspect", folder / "k.npua")[1]
    assert "version 2, array image " in text and 'kernel: "attention"' in text and "core(0,2): program" in text


def test_register_writes_of_a_sequence_are_named(npuc, tmp_path):
    path = tmp_path / "a.txn"
    path.write_bytes(txn.write_txn([txn.Write(0x1D214, 0x80000003), txn.MaskWrite(0x1D200, 0x1F00, 0xF00)], 1))
    text = npuc("inspect", path)[1]
    assert "Write address=0x1d214 value=0x80000003  ; shim(0,0).DMA_MM2S_0_Task_Queue" in text
    assert "mask=0x1f00 value=0xf00" in text and "operations: 1 MaskWrite, 1 Write" in text


def test_an_elf_shows_segments_and_symbols(npuc, tmp_path):
    symbols = elf.Symbol(0, "main", 64), elf.Symbol(0x70000, "table", 4, "object")
    image = elf.CoreImage(bytes(64), 16, symbols, (elf.DataSegment(0x70000, b"abcd"),))
    path = tmp_path / "a.elf"
    path.write_bytes(elf.write_elf(image))
    found = described(npuc, path)
    assert (found["program_bytes"], found["entry"]) == (64, 16)
    assert found["data"] == [{"address": 0x70000, "bytes": 4}]
    assert [s["name"] for s in found["symbols"]] == ["main", "table"]
    text = npuc("inspect", path)[1]
    assert "program 64 bytes, entry 0x10" in text and "0x70000 object table" in text


def test_patches_of_a_template_are_listed(npuc, tmp_path):
    control = ControlTemplate(1, (txn.Write(0, 0),), (Patch(8, "S * 4"),))
    path = tmp_path / "a.npua"
    path.write_bytes(npua.write_npua(npua.Npua({"kernel": "k"}, control, (), bytes(32))))
    assert described(npuc, path)["control"]["patches"] == [{"word": 8, "expression": "S * 4"}]
    assert "word 8 = S * 4" in npuc("inspect", path)[1]


# version 1


def test_version_1_is_listed_and_said_not_to_run(npuc, tmp_path):
    opcodes = (0x10, 0x20, 0x40, 0x77, 0xFF)
    body = b"".join(struct.pack("<4BIQ", opcode, 1, 2, 3, 0x10 * opcode, 0) for opcode in opcodes)
    path = tmp_path / "old.npua"
    path.write_bytes(struct.pack("<2I", 0x4E505541, len(opcodes)) + body)
    found = described(npuc, path)
    assert (found["format"], found["version"], found["runs_on_hardware"]) == ("npua", 1, False)
    assert [i["opcode"] for i in found["instructions"]] == list(opcodes)
    code, out, _ = npuc("inspect", path)
    assert code == 0 and "version 1, 5 instructions; it does not run on hardware" in out
    for line in ("load tile 1 2 -> 3 immediate 0x100", "softmax", "unknown 0x77", "sync"):
        assert line in out
    code, _, err = npuc("run", path)
    assert code == 3 and err == f"error: {path}: NPUA: version 1 does not run on hardware (npuc inspect lists it)\n"


# other tools' files


def test_a_bare_container_with_a_transformed_image_is_shown(npuc, tmp_path):
    commands = [cdo.DmaWrite(0x220000, tuple(range(1, 9))), cdo.MaskWrite(0x232000, 1, 1), cdo.Write(0x1D000, 4)]
    for cut in (0, 20):
        image = transformed(commands, cut)
        entry = xclbin.KernelEntry("vendor", "I", 0x901, ("bo0",))
        written = xclbin.write_xclbin(xclbin.Xclbin((entry,), 1, image))
        parts = {kind: found[0] for kind, found in sections(written).items()}
        path = tmp_path / "vendor.xclbin"
        path.write_bytes(container(*((kind, parts[kind]) for kind in (2, 8, 32)), (14, b"{}"), (16, b"note")))
        (shown,) = described(npuc, path)["pdis"]
        assert shown["transformed"] and shown["missing_bytes"] == cut
        tiles = {t["tile"]: t for t in shown["tiles"]}
        assert tiles["core(0,2)"]["program_bytes"] == 32 and tiles["core(0,2)"]["enabled"]
        text = npuc("inspect", path)[1]
        assert "kernel vendor:I (id 0x901)" in text and "image aie_image, transformed" in text
        assert ("its last 20 data bytes are cut off" in text) == (cut == 20)
        code, _, err = npuc("run", path, "--backend", "emulator")
        assert code == 3 and "carries no npuc metadata" in err


def test_a_file_for_a_wider_device_is_shown_and_not_run(npuc, tmp_path):
    data = bytearray(compiled().xclbin)
    partition = next(s for s in xclbin.read_xclbin(bytes(data)).sections if s.kind == xclbin.AIE_PARTITION)
    data[partition.offset + 0x20] = 8
    path = tmp_path / "wide.xclbin"
    path.write_bytes(data)
    assert described(npuc, path)["partition"]["columns"] == 8
    code, _, err = npuc("run", path, "--backend", "emulator")
    assert code == 3 and "metadata says 1 columns, the xclbin 8" in err
    (tmp_path / "empty.txn").write_bytes(txn.write_txn([], 8))
    code, _, err = npuc("run", path, "--insts", tmp_path / "empty.txn")
    assert code == 3 and "8 columns, npu1 has 5" in err


def test_names_from_a_file_cannot_fake_lines(npuc, tmp_path):
    path = tmp_path / "a.elf"
    path.write_bytes(elf.write_elf(elf.CoreImage(bytes(16), 0, (elf.Symbol(0, "a\n\x1b[2Jb"),))))
    out = npuc("inspect", path)[1]
    assert "\x1b" not in out and "a\\n\\x1b[2Jb" in out
    assert described(npuc, path)["symbols"][0]["name"] == "a\n\x1b[2Jb"


# numbers that no reader of the JSON takes


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "NaN", "Infinity"])
def test_metadata_with_a_number_that_is_not_finite_is_refused(npuc, tmp_path, literal):
    number = int("1" * len(literal))
    data = npua.write_npua(npua.Npua({"scale": number}, ControlTemplate(1), (), bytes(32)))
    data = data.replace(str(number).encode(), literal.encode())
    path = tmp_path / "a.npua"
    path.write_bytes(sealed_npua(data))
    code, out, err = npuc("inspect", path, "--json")
    assert code == 3 and "metadata cannot be read as JSON" in err and json.loads(out)["error"]["exit_code"] == 3


@pytest.mark.parametrize("number", ["0x" + "f" * 9000, "-1", "1" * 30])
def test_xml_numbers_beyond_64_bits_are_refused(npuc, tmp_path, number):
    parts = {kind: found[0] for kind, found in sections(compiled().xclbin).items()}
    parts[2] = parts[2].replace(b'size="0x8"', f'size="{number}"'.encode(), 1)
    path = tmp_path / "a.xclbin"
    path.write_bytes(container(*((kind, parts[kind]) for kind in (32, 2, 8))))
    for words in ([], ["--json"]):
        code, _, err = npuc("inspect", path, *words)
        assert code == 3 and "exceeds 64 bits" in err


LONGEST = 130
"""Characters of a line that a terminal shows whole; hashes and names have no blanks to break at."""


def test_no_line_of_the_text_is_too_long_to_read_and_none_of_the_metadata_is_left_out(npuc, folder):
    for kind in ("npua", "xclbin", "txn"):
        text = npuc("inspect", folder / f"k.{kind}")[1]
        assert all(len(line) <= LONGEST for line in text.splitlines()[1:])
    metadata = described(npuc, folder / "k.npua")["metadata"]
    shown = " ".join(npuc("inspect", folder / "k.npua")[1].split())

    def names(value):
        if isinstance(value, dict):
            return set(value) | {name for inner in value.values() for name in names(inner)}
        return {name for inner in value for name in names(inner)} if isinstance(value, list) else set()

    assert all(name in shown for name in names(metadata))
    assert 'kernel: "attention"' in shown and " ".join(json.dumps(metadata["arguments"][0]["shape"]).split()) in shown


def test_a_text_of_many_lines_is_shown_by_its_first_and_one_without_blanks_stays_whole():
    lines = list(named("source", "\n".join(f"line {number}" for number in range(50))))
    assert lines[0] == "source:" and lines[1] == "  | line 0" and lines[-1] == "  ... 38 more lines, which --json has"
    assert folded("x" * 300) == ["x" * 300]
    assert all(len(line) <= 110 for line in folded("  " + "word " * 60)) and len(folded("  " + "word " * 60)) > 2


@pytest.mark.parametrize("content", [b"", b"text\n", b"\x7fELF\x02\x01\x01" + bytes(60), bytes(64)])
def test_what_is_no_known_format_is_bad_input(npuc, tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    code, out, err = npuc("inspect", path, "--json")
    assert code == 3 and err.startswith(f"error: {path}: is ") and err.count("\n") == 1
    assert json.loads(out)["error"]["place"] == str(path)


def test_a_dash_is_standard_input(npuc, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "k.pdi").read_bytes())))
    assert npuc("inspect", "-")[1].startswith("-: pdi, ")


def test_a_cdo_may_leave_the_array(npuc, tmp_path):
    """Foreign writes outside the array are shown as such."""
    path = tmp_path / "a.cdo"
    path.write_bytes(cdo.write_cdo([cdo.Write(31 << 20, 1), cdo.Write((1 << 40) + 4, 1)]))
    assert {tile["tile"] for tile in described(npuc, path)["tiles"]} == {"tile(0,31)", "shim(32768,0)"}
