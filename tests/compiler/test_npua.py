"""NPUA: header words, checksums and the line between its versions; version 1 is listed, never run."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import replace

import pytest
from damage import sealed_npua
from format_strategies import NAME, OPERATION, SOME_WORDS
from hypothesis import given
from hypothesis import strategies as st
from small_kernels import compiled

from npuc.compiler import driver
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import npua, xclbin
from npuc.compiler.emit.control_template import ControlTemplate, Patch
from npuc.compiler.emit.npua import Npua, ProgramSymbols
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

TAG = 0x32415055
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 60), 1 << 60),
              st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10,
)  # fmt: skip
PLACES = st.lists(st.tuples(st.integers(0, 0x4000), NAME), max_size=3).map(tuple)
PROGRAM = st.builds(ProgramSymbols, st.integers(0, 3), st.integers(2, 5), st.integers(0, 0x4000), PLACES, PLACES)


@st.composite
def contents(draw) -> Npua:
    operations = tuple(draw(st.lists(OPERATION, min_size=1, max_size=5)))
    size = len(ControlTemplate(1, operations).instantiate({})) // 4
    patches = st.builds(Patch, st.integers(4, size - 1), st.sampled_from(("S", "S * 4 + 1", "(S - 1) // 2")))
    control = ControlTemplate(draw(st.integers(1, 4)), operations, tuple(draw(st.lists(patches, max_size=3))))
    pdi = draw(st.one_of(st.none(), st.binary(max_size=50)))
    metadata = draw(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
    programs = tuple(draw(st.lists(PROGRAM, max_size=3)))
    source = draw(st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=20)))
    return Npua(metadata, control, programs, hashlib.sha256(pdi or b"").digest(), pdi, source)


@given(contents())
def test_what_is_written_is_read_back(file):
    data = npua.write_npua(file)
    assert npua.read_npua(data) == file and npua.write_npua(npua.read_npua(data)) == data


@given(contents())
def test_the_header_words_are_those_of_the_format(file):
    data = npua.write_npua(file)
    words = struct.unpack_from("<8I", data)
    assert words[0] == 0x4E505541
    assert words[1] == sum(-(-program.program_bytes // 16) for program in file.programs)
    assert words[2] == TAG and struct.unpack_from("<2H", data, 12) == (2, 1)
    sections = 4 + (file.pdi is not None) + (file.source is not None)
    assert (words[4], words[5], words[6]) == (48, len(data), sections)
    assert words[7] == zlib.crc32(data[:28] + bytes(4) + data[32:])
    table = [struct.unpack_from("<3I", data, 48 + 12 * i) for i in range(words[6])]
    assert [kind for kind, _, _ in table] == [
        1, 2, 3, 4, *([5] if file.pdi is not None else []), *([6] if file.source is not None else [])
    ]  # fmt: skip
    assert all(offset % 16 == 0 for _, offset, _ in table)
    assert data[table[3][1] : table[3][1] + table[3][2]] == file.pdi_sha256
    if file.pdi is not None:
        assert data[table[4][1] : table[4][1] + table[4][2]] == file.pdi


@given(contents())
def test_a_version_2_file_never_satisfies_the_equation_of_version_1(file):
    data = npua.write_npua(file)
    count = struct.unpack_from("<I", data, 4)[0]
    assert len(data) != 8 + 16 * count and len(data) % 16 != 8 and not npua.is_version_1(data)


@given(contents())
def test_metadata_is_canonical_json(file):
    data = npua.write_npua(file)
    _, offset, size = struct.unpack_from("<3I", data, 48)
    text = data[offset : offset + size].decode("ascii")
    assert text == json.dumps(file.metadata, sort_keys=True, separators=(",", ":"))
    turned = dict(reversed(file.metadata.items()))
    assert npua.write_npua(replace(file, metadata=turned)) == data


def test_a_compiled_kernel_names_the_image_it_drives():
    kernel = compiled()
    alone = npua.read_npua(kernel.stage("npua"))
    file = xclbin.read_xclbin(kernel.xclbin)
    inside = npua.read_npua(file.kernels[0].npua)
    assert alone.pdi == file.pdi == kernel.stage("pdi") and inside.pdi is None
    assert alone.pdi_sha256 == inside.pdi_sha256 == hashlib.sha256(file.pdi).digest()
    assert replace(alone, pdi=None) == inside
    assert {"kernel", "arguments", "attention", "plan", "compiler_version", "source_sha256"} <= set(alone.metadata)
    arguments = alone.metadata["arguments"]
    assert [a["buffer"] for a in arguments] == [0, 1, 2, 3]
    assert all({"name", "dtype", "shape", "layout"} <= set(argument) for argument in arguments)
    assert alone.control.instantiate({}) == kernel.stage("txn")
    sizes = {f"core_{p.column}_{p.row}.elf": p.program_bytes for p in alone.programs}
    assert max(sizes.values()) == kernel.summary["program_bytes_max"] and set(sizes) == set(kernel.elfs())
    assert all(p.symbols for p in alone.programs)


def test_a_kernel_carries_the_text_it_was_compiled_from():
    module = to_attn_module(Attention.make(heads=1, query_length=64, head_dim=64))
    text = module + "// end: \N{GREEK SMALL LETTER ALPHA}\n"
    kernel = driver.compile_source(text, "place/that/is/not/kept.mlir")
    inside = npua.read_npua(xclbin.read_xclbin(kernel.xclbin).kernels[0].npua)
    assert npua.read_npua(kernel.stage("npua")).source == inside.source == text
    assert b"place/that" not in kernel.xclbin
    assert driver.compile_source(text, "elsewhere.mlir", driver.Settings(use_cache=False)).xclbin == kernel.xclbin
    assert npua.read_npua(compiled().stage("npua")).source is None, "a description has no source"


def test_a_source_of_more_than_a_mebibyte_is_left_out():
    text = to_attn_module(Attention.make(heads=1, query_length=64, head_dim=64))
    assert npua.keeps_source(text.ljust(1 << 20)) and not npua.keeps_source(text.ljust((1 << 20) + 1))
    long = driver.compile_source(text + " " * (1 << 20), "long.mlir", driver.Settings(use_cache=False))
    assert npua.read_npua(long.stage("npua")).source is None


# version 1


def version_1(*instructions: tuple[int, int, int, int, int]) -> bytes:
    return struct.pack("<2I", 0x4E505541, len(instructions)) + b"".join(
        struct.pack("<4BIQ", *instruction, 0) for instruction in instructions
    )


OPCODES = {
    0x10: "load tile", 0x11: "store tile", 0x20: "matmul int8", 0x21: "matmul int4", 0x30: "add", 0x31: "mul",
    0x40: "softmax", 0x41: "gelu", 0x42: "silu", 0xFF: "sync",
}  # fmt: skip


def test_version_1_is_listed_with_every_operation_named():
    data = version_1(*((opcode, 1, 2, 3, 0x1234) for opcode in OPCODES), (0x77, 0, 0, 0, 0))
    assert npua.is_npua(data) and npua.is_version_1(data)
    listed = npua.read_npua_v1(data).instructions
    assert [i.operation for i in listed] == [*OPCODES.values(), "unknown 0x77"]
    assert (listed[0].source1, listed[0].source2, listed[0].destination, listed[0].immediate) == (1, 2, 3, 0x1234)


def test_version_1_does_not_run():
    with pytest.raises(InputError, match="version 1 does not run on hardware"):
        npua.read_npua(version_1((0x40, 0, 0, 0, 0)))


def test_a_file_is_version_1_exactly_when_its_size_says_so():
    data = version_1((0x40, 0, 0, 0, 0), (0xFF, 0, 0, 0, 0))
    assert npua.is_version_1(version_1())
    for other in (data + b"\0", data[:-1], data[:7], b"", data[:8] + struct.pack("<I", TAG) + data[12:]):
        assert not npua.is_version_1(other)
        with pytest.raises(InputError):
            npua.read_npua(other)
        with pytest.raises(InputError):
            npua.read_npua_v1(other)


# damage


GOOD = npua.write_npua(
    Npua(
        {"kernel": "a"},
        ControlTemplate(1, ()),
        (ProgramSymbols(0, 2, 40, ((0, "main"),)),),
        bytes(32),
        b"image",
        "text",
    )
)


def changed(at: int, value: int, size: int = 4, seal: bool = True) -> bytes:
    data = GOOD[:at] + value.to_bytes(size, "little") + GOOD[at + size :]
    return sealed_npua(data) if seal else data


def with_section(kind: int, contents: bytes) -> bytes:
    """GOOD with other contents of one section, which must not be longer than the old."""
    at = 48 + 12 * (kind - 1)
    _, offset, size = struct.unpack_from("<3I", GOOD, at)
    assert len(contents) <= size
    data = GOOD[:offset] + contents.ljust(size, b"\0") + GOOD[offset + size :]
    return sealed_npua(data[: at + 8] + struct.pack("<I", len(contents)) + data[at + 12 :])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (GOOD[:20], "header"),
        (GOOD[:-16], "there are"),
        (GOOD + bytes(16), "there are"),
        (changed(0, 1), "magic"),
        (changed(4, 9), "count of instruction words"),
        (changed(8, 1), "tag"),
        (changed(12, 3, 2), "major is 0x3"),
        (changed(16, 64), "header_size"),
        (changed(24, 1 << 31), "sections"),
        (changed(24, 100), "NPUA section"),
        (changed(24, 3), "no PDI hash section"),
        (changed(28, 1, seal=False), "CRC-32"),
        (changed(100, 1, 1, seal=False), "CRC-32"),
        (changed(48, 2), "two sections of kind 2"),
        (changed(48, 99), "no metadata section"),
        (changed(52, 1 << 31), "NPUA section"),
        (changed(56, 1 << 31), "NPUA section"),
        (with_section(1, b"[1]"), "no JSON object"),
        (with_section(1, b"{"), "cannot be read as JSON"),
        (with_section(1, b'{"a":NaN}'), "cannot be read as JSON"),
        (with_section(1, b"\xff"), "cannot be read as JSON"),
        (with_section(3, b"[[0]]"), "a list of"),
        (with_section(3, b"[[[[-1,0]],0,[],[]]]"), "none negative"),
        (with_section(3, b"[[[[1,0]],-1,[],[]]]"), "none negative"),
        (with_section(3, b"[[[[0,0,0]],0,[],[]]]"), "column, row"),
        (with_section(3, b"[[[[0,0]],0,[[0]],[]]]"), "address, text"),
        (with_section(4, b"short"), "PDI hash of 5 bytes"),
        (with_section(2, bytes(4)), "control section"),
        (with_section(6, b"\xff"), "not UTF-8"),
        (npua.write_npua(replace(npua.read_npua(GOOD), source=" " * (1 << 20) + " ")), "at most 1048576"),
    ],
)
def test_what_is_no_npua_is_refused(data, says):
    with pytest.raises(InputError, match=says):
        npua.read_npua(data)


@given(SOME_WORDS, st.text(max_size=10))
def test_patches_are_checked_on_reading(words, text):
    control = ControlTemplate(1, ())
    for patch in (Patch(words[0], "S"), Patch(0, text), Patch(4, "S")):
        data = npua.write_npua(Npua({}, replace(control, patches=(patch,)), (), bytes(32)))
        with pytest.raises(InputError):
            npua.read_npua(data)
