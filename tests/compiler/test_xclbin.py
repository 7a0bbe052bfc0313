"""XCLBIN: field positions of facts/platform/xclbin.md, and what the independent checker says of compiled kernels."""

from __future__ import annotations

import json
import struct
import xml.etree.ElementTree as ElementTree

import pytest
from facts_tools import xclbin_report
from foreign_files import container, sections
from format_strategies import NAME
from hypothesis import given
from hypothesis import strategies as st
from small_kernels import compiled

from npuc.compiler.diagnostics import InputError, ResourceError
from npuc.compiler.emit import cdo, npua, pdi, xclbin
from npuc.compiler.emit.control_template import ControlTemplate
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin

SHAPES = [
    {},
    {"heads": 3, "query_length": 128, "key_length": 64, "head_dim": 128},
    {"batch": 2, "heads": 4, "dtype": "f32", "columns": 1},
    {"heads": 8, "query_length": 192, "columns": 4},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_checker_finds_no_violation_and_no_unknown_register(facts_dir, tmp_path, shape):
    path = tmp_path / "k.xclbin"
    path.write_bytes(compiled(**shape).xclbin)
    for words in ([], ["--strict"], ["--strict", "--regs", str(facts_dir / "platform" / "registers_aie2.json")]):
        found = xclbin_report(path, *words)
        assert found["violations"] == [] == found["warnings"] and found["checks"] > 1000


def entries(count: int, arguments: int = 4) -> tuple[KernelEntry, ...]:
    return tuple(
        KernelEntry(f"kernel{i}", f"I{i}", 0x901 + i, tuple(f"bo{n}" for n in range(arguments))) for i in range(count)
    )


IMAGE = pdi.write_pdi([cdo.Write(0x1D000, 1)])


@st.composite
def files(draw) -> Xclbin:
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique=True))
    ids = draw(st.lists(st.integers(0, 0xFFF), min_size=len(names), max_size=len(names), unique=True))
    arguments = st.lists(NAME, max_size=7).map(tuple)
    with_npua = draw(st.booleans())
    kernels = tuple(
        KernelEntry(name, draw(NAME), kernel_id, draw(arguments), draw(st.binary(min_size=1, max_size=40)) * with_npua)
        for name, kernel_id in zip(names, ids, strict=True)
    )
    image = pdi.write_pdi([cdo.Nop(tuple(draw(st.lists(st.integers(0, 9), max_size=9))))])
    return Xclbin(kernels, draw(st.integers(1, 4)), image)


@given(files())
def test_what_is_written_is_read_back(file):
    data = xclbin.write_xclbin(file)
    read = xclbin.read_xclbin(data)
    assert (read.columns, read.pdi, len(read.pdis)) == (file.columns, file.pdi, 1)
    plain = [(k.name, k.instance, k.kernel_id, k.arguments, k.npua) for k in read.kernels]
    assert plain == [(k.name, k.instance, k.kernel_id, k.arguments, k.npua) for k in file.kernels]
    assert all(read.pdi_of(kernel) == file.pdi for kernel in read.kernels)
    assert xclbin.write_xclbin(read) == data


def test_the_checker_accepts_whatever_is_written(tmp_path):
    path = tmp_path / "k.xclbin"

    @given(files())
    def accepts(file):
        path.write_bytes(xclbin.write_xclbin(file))
        found = xclbin_report(path)
        assert found["violations"] == []
        info = found["info"]
        assert info["partition"]["columns"] == file.columns
        assert [(k["kernel"], k["id"], k["instances"]) for k in info["kernels"]] == [
            (k.name, k.kernel_id, [k.instance]) for k in file.kernels
        ]
        assert [[a[1] for a in k["args"]][3:] for k in info["kernels"]] == [list(k.arguments) for k in file.kernels]

    accepts()


def test_every_header_field_lies_where_the_driver_looks(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    data = xclbin.write_xclbin(Xclbin(entries(2), 3, IMAGE))
    assert data[:8] == b"xclbin2\0" and data[8:0x128] == b"\xff" * 0x120
    assert struct.unpack_from("<4Q", data, 0x128) == (1700000000, len(data), 1700000000, 0)
    assert data[0x14A] == 2 and data[0x14C:0x160] == bytes(0x14)
    assert data[0x160:0x1A0].rstrip(b"\0") == b"xilinx_v1_ipu_0_0"
    assert any(data[0x1A0:0x1B0]) and data[0x1B0:0x1C0] == bytes(16)
    assert struct.unpack_from("<2I", data, 0x1C0) == (7, 0)
    assert [struct.unpack_from("<I", data, 0x1C8 + 40 * i)[0] for i in range(7)] == [6, 32, 2, 8, 7, 27, 26]


def test_the_small_tables_have_the_words_of_the_format():
    found = sections(xclbin.write_xclbin(Xclbin(entries(2, 2), 1, IMAGE)))
    host = struct.pack("<BB6xQQ16s", 2, 1, 0x10000, 0x4000000, b"HOST")
    sram = struct.pack("<BB6xQQ16s", 2, 1, 0xC000, 0x4000000, b"SRAM")
    assert found[6] == found[26] == [struct.pack("<I4x", 2) + host + sram]
    layout = [
        struct.pack("<IIQ64s", 7, 1 | i << 16, (1 << 64) - 1, n)
        for i, n in ((0x901, b"kernel0:I0"), (0x902, b"kernel1:I1"))
    ]
    assert found[8] == [struct.pack("<I4x", 2) + b"".join(layout)]
    links = [(argument, kernel, int(argument == 1)) for kernel in (0, 1) for argument in (1, 3, 4)]
    packed = b"".join(struct.pack("<3i", *link) for link in links)
    assert found[7] == [struct.pack("<I", 6) + packed] and found[27] == [struct.pack("<I", 12) + packed * 2]


def test_the_metadata_gives_the_packed_register_map():
    (text,) = sections(xclbin.write_xclbin(Xclbin(entries(1, 5), 1, IMAGE)))[2]
    (kernel,) = ElementTree.fromstring(text.decode()).findall("./platform/device/core/kernel")
    assert kernel.attrib == {"name": "kernel0", "language": "c", "type": "dpu"}
    assert kernel.find("extended-data").attrib == {"subtype": "1", "functional": "0", "dpu_kernel_id": "0x901"}
    rows = [
        (int(a.get("id")), a.get("name"), a.get("type"), int(a.get("addressQualifier")), int(a.get("offset"), 0),
         int(a.get("size"), 0))
        for a in kernel.findall("arg")
    ]  # fmt: skip
    assert rows == [
        (0, "opcode", "uint64_t", 0, 0x00, 8), (1, "instr", "char *", 1, 0x08, 8),
        (2, "ninstr", "uint32_t", 0, 0x10, 4), *((3 + i, f"bo{i}", "void*", 1, 0x14 + 8 * i, 8) for i in range(5)),
    ]  # fmt: skip
    assert [i.get("name") for i in kernel.findall("instance")] == ["I0"]


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_partition_has_its_fields_in_place(columns):
    (data,) = sections(xclbin.write_xclbin(Xclbin(entries(2), columns, IMAGE)))[32]
    assert data[0] == 0 and struct.unpack_from("<I", data, 8)[0] == 2048 * columns
    assert struct.unpack_from("<QQH", data, 0x10) == (23423, 12345, columns)
    count, at = struct.unpack_from("<II", data, 0x28)
    assert struct.unpack_from(f"<{count}H", data, at) == tuple(range(1, 6 - columns))
    count, at = struct.unpack_from("<II", data, 0x78)
    assert count == 1
    size, image, groups, group = struct.unpack_from("<4I", data, at + 0x10)
    assert data[image : image + size] == IMAGE and groups == 1
    name, kind, pdi_id = struct.unpack_from("<IB3xQ", data, group)
    assert (data[name : name + 4], kind, pdi_id) == (b"DPU\0", 1, 1)
    count, at, pre_count, pre = struct.unpack_from("<4I", data, group + 0x10)
    assert struct.unpack_from(f"<{count}Q", data, at) == (0x901, 0x902)
    assert struct.unpack_from(f"<{pre_count}Q", data, pre) == (0xC1,)


def test_private_data_lies_in_named_vender_sections():
    kernels = tuple(
        KernelEntry(k.name, k.instance, k.kernel_id, k.arguments, bytes([i] * 5)) for i, k in enumerate(entries(2))
    )
    for i, data in enumerate(sections(xclbin.write_xclbin(Xclbin(kernels, 1, IMAGE)))[31]):
        name, image, size = struct.unpack_from("<3I", data)
        assert data[name : data.index(0, name)] == b"NPUA" and image % 8 == 0
        assert data[image : image + size] == bytes([i] * 5)


def test_the_uuid_follows_the_content_and_the_time_does_not_change_it(monkeypatch):
    def uuid(file: Xclbin) -> bytes:
        return xclbin.write_xclbin(file)[0x1A0:0x1B0]

    first = uuid(Xclbin(entries(1), 1, IMAGE))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert uuid(Xclbin(entries(1), 1, IMAGE)) == first
    assert uuid(Xclbin(entries(1), 2, IMAGE)) != first != uuid(Xclbin(entries(1), 1, pdi.write_pdi([])))
    assert first[6] >> 4 == 8 and first[8] >> 6 == 2, "RFC 9562 version 8, variant 2"


def test_the_mirror_text_agrees_with_the_binary_header():
    data = xclbin.write_xclbin(Xclbin(entries(1), 1, IMAGE))
    text = data[data.index(b"XCLBIN_MIRROR_DATA_START") + 24 : -len(b"XCLBIN_MIRROR_DATA_END")]
    listed: list[dict] = []

    def keep(pairs):
        listed.extend(value for key, value in pairs if key == "section_header")
        return dict(pairs)

    header = json.loads(text, object_pairs_hook=keep)["header"]
    assert header["XclBinUUID"] == data[0x1A0:0x1B0].hex() and header["PlatformVBNV"] == "xilinx_v1_ipu_0_0"
    table = [struct.unpack_from("<I16s4xQQ", data, 0x1C8 + 40 * i) for i in range(7)]
    assert [(int(e["Kind"]), int(e["Offset"], 0), int(e["Size"], 0)) for e in listed] == [
        (kind, offset, size) for kind, _, offset, size in table
    ]


def entry(**changes) -> KernelEntry:
    return KernelEntry(**{"name": "k", "instance": "I", "kernel_id": 1, "arguments": ("q",), **changes})


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (Xclbin(entries(1), 5, IMAGE), "5 columns"),
        (Xclbin((), 1, IMAGE), "0 kernels"),
        (Xclbin(entries(33), 1, IMAGE), "33 kernels, the driver takes 1 to 32"),
        (Xclbin(entries(1, 8), 1, IMAGE), "8 buffer arguments, the driver takes 7"),
        (Xclbin((entry(), entry(kernel_id=2)), 1, IMAGE), "same name"),
        (Xclbin((entry(), entry(name="l")), 1, IMAGE), "same id"),
        (Xclbin((entry(name="a:b"),), 1, IMAGE), "without ':'"),
        (Xclbin((entry(name="a" * 62),), 1, IMAGE), "exceeds 63 characters"),
        (Xclbin((entry(kernel_id=1 << 12),), 1, IMAGE), "12 bits"),
        (Xclbin((entry(arguments=("a\n",)),), 1, IMAGE), "printable name"),
    ],
)
def test_what_the_driver_does_not_take_is_not_written(file, says):
    with pytest.raises((InputError, ResourceError), match=says):
        xclbin.write_xclbin(file)


def test_an_empty_source_date_is_as_good_as_none(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    unset = xclbin.write_xclbin(Xclbin(entries(1), 1, IMAGE))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert xclbin.write_xclbin(Xclbin(entries(1), 1, IMAGE)) == unset


def test_a_wrong_source_date_is_told(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(InputError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        xclbin.write_xclbin(Xclbin(entries(1), 1, IMAGE))


# files of other tools


PARTS = {kind: found[0] for kind, found in sections(xclbin.write_xclbin(Xclbin(entries(1, 2), 2, IMAGE))).items()}


def test_sections_may_be_missing_doubled_in_either_table_or_unknown():
    smallest = xclbin.read_xclbin(container(*((k, PARTS[k]) for k in (32, 2, 8))))
    assert smallest.columns == 2 and smallest.memories == () == smallest.connections
    full = xclbin.read_xclbin(
        container(*PARTS.items(), (0, b""), (14, b"{}"), (16, b"x"), (16, b"y"), (18, IMAGE), (99, b"?"))
    )
    group = xclbin.read_xclbin(container(*((k, v) for k, v in PARTS.items() if k not in (6, 7))))
    assert full.memories == group.memories and group.connections == full.connections * 2
    assert full.kernels == smallest.kernels == group.kernels and full.kernels[0].npua == b""


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "magic"),
        (b"xclbin2\0", "header"),
        (container(*((k, v) for k, v in PARTS.items() if k != 2)), "no section EMBEDDED_METADATA"),
        (container(*((k, v) for k, v in PARTS.items() if k != 8)), "no section IP_LAYOUT"),
        (container(*((k, v) for k, v in PARTS.items() if k != 32)), "no section AIE_PARTITION"),
        (container(*PARTS.items(), (8, PARTS[8])), "IP_LAYOUT occurs twice"),
        (container(*PARTS.items())[:-1], "announced"),
        (container(*PARTS.items()) + b"\0", "announced"),
        (container(*{**PARTS, 2: b"<project/>"}.items()), "project/platform/device/core"),
        (container(*{**PARTS, 2: b"<project"}.items()), "is no XML"),
        (container(*{**PARTS, 2: b"\xff"}.items()), "not UTF-8"),
        (container(*{**PARTS, 2: b'<!DOCTYPE a [<!ENTITY b "c">]><project/>'}.items()), "document type"),
        (container(*{**PARTS, 2: PARTS[2].replace(b"0x901", b"many!")}.items()), "is no number"),
        (container(*{**PARTS, 8: struct.pack("<I", 1 << 31)}.items()), "IP_LAYOUT entry array"),
        (container(*{**PARTS, 6: PARTS[6][:-1]}.items()), "MEM_TOPOLOGY entry array"),
        (container(*{**PARTS, 32: PARTS[32][:183]}.items()), "AIE_PARTITION header"),
        (container(*{**PARTS, 32: PARTS[32][:0x78] + bytes(8) + PARTS[32][0x80:]}.items()), "0 PDIs"),
        (container(*{**PARTS, 32: PARTS[32][:0x20] + bytes(2) + PARTS[32][0x22:]}.items()), "0 columns"),
        (container(*PARTS.items(), (31, bytes(40))), "VENDER_METADATA"),
        (
            container(*PARTS.items(), *[(31, struct.pack("<3I36x", 48, 56, 1) + b"NPUA\0\0\0\0x")] * 2),
            "2 NPUA sections for 1",
        ),
    ],
)
def test_what_is_no_xclbin_is_refused_with_its_offset(data, says):
    with pytest.raises(InputError, match=says) as error:
        xclbin.read_xclbin(data)
    assert "offset 0x" in str(error.value)


def test_a_kernel_without_an_image_is_told():
    foreign = KernelEntry("helper", "", None, ())
    with pytest.raises(InputError, match="kernel helper has no PDI"):
        xclbin.read_xclbin(container(*PARTS.items())).pdi_of(foreign)


def test_an_npua_in_an_xclbin_is_kept_byte_for_byte():
    inner = npua.write_npua(npua.Npua({"kernel": "k"}, ControlTemplate(1), (), bytes(32)))
    data = xclbin.write_xclbin(Xclbin((entry(npua=inner),), 1, IMAGE))
    assert xclbin.read_xclbin(data).kernels[0].npua == inner
