"""The table of the driver's interface, against the fact sheet and against a C compiler's layout."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from npuc.runtime.devices import abi, commands

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
HEADER = Path(os.environ.get("NPUC_UAPI_HEADER", "/usr/include/drm/amdxdna_accel.h"))
DRM_HEADER = Path("/usr/include/drm/drm.h")
TRACK = {"mainline": abi.MAINLINE, "dkms": abi.OUT_OF_TREE}
C_TYPES = {"Q": "__u64", "I": "__u32", "H": "__u16", "B": "__u8", "q": "__s64", "i": "__s32", "b": "__s8"}


@pytest.fixture(scope="module")
def facts(facts_dir: Path) -> dict[str, Any]:
    return json.loads((facts_dir / "platform" / "amdxdna_abi.json").read_text())


def plain(name: str) -> str:
    return name.removeprefix("amdxdna_").removeprefix("drm_")


@pytest.mark.parametrize("kind", TRACK)
def test_every_structure_has_the_size_and_offsets_of_the_facts(facts, kind):
    layouts, seen = TRACK[kind].layouts, set()
    for name, forms in facts["structs"].items():
        form = forms.get("both") or forms[kind]
        if form is None:
            assert plain(name) not in layouts
            continue
        layout = layouts[plain(name)]
        seen.add(plain(name))
        assert layout.size == form["size"], name
        assert list(layout.offsets.items()) == [(field, offset) for field, offset, _, _ in form["fields"]], name
        for field, offset, size, _ in form["fields"]:
            following = min([o for o in layout.offsets.values() if o > offset], default=layout.size)
            assert following - offset == size, f"{name}.{field}"
    assert set(layouts) - seen == {plain(r.lower()) for r in abi.CORE_REQUESTS} and len(seen) >= 40


@pytest.mark.parametrize("kind", TRACK)
def test_every_request_has_the_number_of_the_facts(facts, kind):
    told = {plain(n.removeprefix("DRM_IOCTL_").lower()).upper(): int(f[kind], 16) for n, f in facts["ioctls"].items()}
    told = {name.removeprefix("AMDXDNA_"): number for name, number in told.items()}
    assert {n: number for n, number in TRACK[kind].requests.items() if n not in abi.CORE_REQUESTS} == told


def test_linux_6_14_has_what_the_facts_say(facts):
    first = {n.removeprefix("DRM_IOCTL_AMDXDNA_") for n, form in facts["ioctls"].items() if form["linux_6_14"]}
    assert set(abi.LINUX_6_14.requests) - set(abi.CORE_REQUESTS) == first
    assert abi.LINUX_6_14.layouts["qos_info"].size == 24


def test_constants_are_those_of_the_facts(facts):
    told = facts["constants"]
    ours = {
        "AMDXDNA_BO_SHARE": abi.BO_SHARE, "AMDXDNA_BO_DEV_HEAP": abi.BO_DEV_HEAP, "AMDXDNA_BO_DEV": abi.BO_DEV,
        "AMDXDNA_BO_CMD": abi.BO_CMD, "DRM_AMDXDNA_HWCTX_CONFIG_CU": abi.CONFIG_CU,
        "SYNC_DIRECT_TO_DEVICE": abi.TO_DEVICE, "SYNC_DIRECT_FROM_DEVICE": abi.FROM_DEVICE,
        "AMDXDNA_CMD_SUBMIT_EXEC_BUF": abi.SUBMIT_EXEC_BUF, "DRM_AMDXDNA_QUERY_AIE_STATUS": abi.QUERY_AIE_STATUS,
        "DRM_AMDXDNA_QUERY_AIE_METADATA": abi.QUERY_AIE_METADATA,
        "DRM_AMDXDNA_QUERY_AIE_VERSION": abi.QUERY_AIE_VERSION,
        "DRM_AMDXDNA_QUERY_CLOCK_METADATA": abi.QUERY_CLOCK_METADATA,
        "DRM_AMDXDNA_QUERY_FIRMWARE_VERSION": abi.QUERY_FIRMWARE_VERSION,
        "DRM_AMDXDNA_QUERY_RESOURCE_INFO": abi.QUERY_RESOURCE_INFO,
        "AMDXDNA_INVALID_BO_HANDLE": abi.INVALID_HANDLE, "AMDXDNA_QOS_NORMAL_PRIORITY": abi.NORMAL_PRIORITY,
    }  # fmt: skip
    assert {name: told[name] for name in ours} == ours
    assert told["AMDXDNA_INVALID_ADDR"] == abi.INVALID_ADDRESS - (1 << 64)
    assert told["USER_START_COL_NOT_REQUESTED"]["dkms"] == abi.START_COLUMN_NOT_REQUESTED
    assert told["AMDXDNA_DRIVER_MAJOR"]["dkms"] == abi.OUT_OF_TREE.version[0]
    limits = facts["command_packet"]["npu1_limits"]
    assert limits == {
        "compute_units_per_context": abi.COMPUTE_UNITS, "contexts": abi.CONTEXTS, "device_heap_bytes": abi.HEAP_BYTES,
        "device_heap_base": abi.HEAP_BASE, "dev_bo_alignment": abi.DEV_BO_ALIGNMENT,
        "start_cu_payload_bytes_direct": commands.LARGEST_PAYLOAD,
        "start_npu_argument_bytes_direct": limits["start_npu_argument_bytes_direct"],
    }  # fmt: skip


def test_command_packets_are_those_of_the_facts(facts):
    told = facts["command_packet"]
    fields = {"state": 5, "extra_masks": 2, "count": 16, "opcode": 19, "type": 3}
    word = commands.Header(**fields).word
    for name, value in (("state", 5), ("extra_cu_masks", 2), ("count", 16), ("opcode", 19), ("type", 3)):
        first, last = told["header_bits [lsb,msb]"][name]
        assert word >> first & (1 << last - first + 1) - 1 == value, name
    assert commands.Header.of(word) == commands.Header(**fields)
    assert {name: number for number, name in commands.STATE_NAMES.items()} == told["states"]
    opcodes = {name: getattr(commands, name) for name in told["opcodes"]}
    assert opcodes == told["opcodes"] and commands.TYPE_CU == told["type_CU"]
    chain = told["structs [name, offset, size]"]["ert_cmd_chain_data"]
    assert commands.CHAIN.size == chain["size"]
    assert {n: o for n, o, _ in chain["fields"]}.items() <= commands.CHAIN.offsets.items()


def test_a_kernel_of_five_buffers_is_the_packet_of_the_sheet():
    """facts/platform/amdxdna.md section 4: header 0x30010001, mask, opcode, instructions, count, buffers."""
    data = commands.start(0, 0x4008000, 400, [0x7F0000001000, 0x2000], 5)
    words = struct.unpack("<17I", data)
    assert words[:7] == (0x30010001, 1, 3, 0, 0x4008000, 0, 400)
    assert words[7:] == (0x1000, 0x7F00, 0x2000, 0, 0, 0, 0, 0, 0, 0)


def c_structure(name: str, layout: Any) -> str:
    """A structure as C has it, by the types of the fields alone."""
    ends = [*list(layout.offsets.values())[1:], layout.size]
    fields = []
    for (field, offset), end in zip(layout.offsets.items(), ends, strict=True):
        code = layout.codes[field]
        if code.endswith("s"):
            fields.append(f"unsigned char {field}[{end - offset}];")
        else:
            fields.append(f"{C_TYPES[code]} {field};")
    return f"struct {name} {{ {' '.join(fields)} }};"


def compiled(source: str, folder: Path, *flags: str) -> list[int]:
    """What a C program prints."""
    assert COMPILER is not None
    (folder / "a.c").write_text(source)
    subprocess.run([COMPILER, *flags, "-o", folder / "a", folder / "a.c"], check=True, capture_output=True, text=True)
    return [int(line) for line in subprocess.run([folder / "a"], check=True, capture_output=True).stdout.split()]


def asked(names: list[tuple[str, list[str]]], numbers: list[str]) -> str:
    """A main that prints sizes, offsets and request numbers."""
    lines = []
    for name, fields in names:
        lines.append(f"P(sizeof(struct {name}));")
        lines += [f"P(offsetof(struct {name}, {field}));" for field in fields]
    lines += [f"P({number});" for number in numbers]
    return "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"


INCLUDES = "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <linux/types.h>\n"
COUNTED = (
    "#include <linux/stddef.h>\n#ifndef __counted_by\n#define __counted_by(m)\n#endif\n"  # older libraries lack it
)
DRM_MACROS = """#include <linux/ioctl.h>
#define DRM_COMMAND_BASE 0x40
#define DRM_IOW(nr, type) _IOW('d', nr, type)
#define DRM_IOWR(nr, type) _IOWR('d', nr, type)
"""
PRINT = '#define P(x) printf("%llu\\n", (unsigned long long)(x))\n'


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
@pytest.mark.parametrize("track", abi.TRACKS.values(), ids=lambda track: track.name)
def test_a_c_compiler_lays_the_structures_out_alike(track, tmp_path):
    """Without padding of its own: every gap is a field. Request numbers are those of its macros."""
    structures = "\n".join(c_structure(name, layout) for name, layout in track.layouts.items())
    names = [(name, list(layout.offsets)) for name, layout in track.layouts.items()]
    numbers = []
    for request, number in track.requests.items():
        macro = "_IOWR" if number >> 30 == abi.READ_WRITE else "_IOW"
        numbers.append(f"(unsigned){macro}('d', {number & 0xFF}, struct {request.lower()})")
    printed = compiled(INCLUDES + PRINT + structures + asked(names, numbers), tmp_path)
    wanted = [value for layout in track.layouts.values() for value in (layout.size, *layout.offsets.values())]
    assert printed == [*wanted, *track.requests.values()]


def structures_of(header: str) -> dict[str, list[str]]:
    """Names and fields of the structures that a uapi header declares, those without nested declarations."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    found = {}
    for name, body in re.findall(r"struct (amdxdna_\w+) \{([^{}]*)\};", text):
        found[name] = re.findall(r"(\w+)(?:\[\w*\])?(?:\s+__counted_by\(\w+\))?;", body)
    return found


@pytest.mark.skipif(COMPILER is None or not HEADER.is_file(), reason=f"no C compiler or no {HEADER}")
def test_the_installed_header_has_the_same_layouts(tmp_path):
    """Of what a header has; older and newer ones have less and more. NPUC_UAPI_HEADER names another one."""
    text = HEADER.read_text()
    track = abi.OUT_OF_TREE if "user_start_col" in text else abi.MAINLINE
    declared = {name: fields for name, fields in structures_of(text).items() if plain(name) in track.layouts}
    assert len(declared) >= 12
    requests = [r for r in track.requests if f"DRM_IOCTL_AMDXDNA_{r}" in text]
    shared = [(n, [f for f in fields if f in track.layouts[plain(n)].offsets]) for n, fields in declared.items()]
    if not DRM_HEADER.is_file():
        for folder in ("drm", "libdrm"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "drm.h").write_text(DRM_MACROS)
    source = INCLUDES + COUNTED + f'#include "{HEADER}"\n' + PRINT
    source += asked(shared, [f"(unsigned)DRM_IOCTL_AMDXDNA_{request}" for request in requests])
    printed = compiled(source, tmp_path, "-I", str(tmp_path))
    wanted = []
    for name, fields in shared:
        layout = track.layouts[plain(name)]
        wanted += [layout.size, *(layout.offsets[field] for field in fields)]
    assert printed == [*wanted, *(track.requests[request] for request in requests)]


@pytest.mark.parametrize(
    ("version", "track"),
    [((0, 0), abi.LINUX_6_14), ((0, 1), abi.MAINLINE), ((0, 16), abi.MAINLINE), ((1, 0), abi.OUT_OF_TREE)],
)
def test_the_driver_version_tells_the_track(version, track):
    assert abi.track_of(*version) is track
    assert abi.track_of(2, 0) is None
