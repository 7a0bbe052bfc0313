"""The text form of descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from npuc.compiler.inspect.wrapped import folded, named
from npuc.compiler.plain_text import printable
from npuc.compiler.target.generations import NPU1

MOST_ENTRIES = 40
"""Sections, symbols and relocations of an ELF that the text shows."""


def render(description: dict[str, Any]) -> str:
    """A description of npuc.compiler.inspect.show.describe as plain text."""
    head = f"{description['file']}: {description['format']}, {description['bytes']:,} bytes"
    lines = [printable(head), f"  sha256 {description['sha256']}"]
    for line in _RENDERERS[description["format"]](description):
        lines += folded(printable(f"  {line}"))
    return "\n".join(lines) + "\n"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def _xclbin(d: dict[str, Any]) -> Iterator[str]:
    header, partition = d["header"], d["partition"]
    yield f"uuid {header['uuid']}, version {header['version']}, platform {header['platform'] or '(none)'}, " + (
        f"time {header['time_stamp']}"
    )
    yield "sections"
    for section in d["sections"]:
        yield f"  {section['kind']:<22} {section['name']:<8} {section['offset']:#9x} {section['bytes']:>10,} bytes"
    for memory in d["memories"]:
        yield f"memory {memory['tag']}: {memory['kib']:,} KiB at {memory['base']:#x}"
    yield f"partition: {partition['columns']} columns, start columns {partition['start_columns']}"
    for kernel in d["kernels"]:
        identity = "no id" if kernel["id"] is None else f"id {kernel['id']:#x}"
        yield f"kernel {kernel['name']}:{kernel['instance']} ({identity})"
        for a in kernel["arguments"]:
            place = f" in {a['memory']}" if a["memory"] else ""
            yield f"  {a['offset']:#04x} {a['bytes']} {a['type']} {a['name']}{place}"
        if kernel["npua"]:
            yield "  npua"
            yield from _indented(_indented(_npua_short(kernel["npua"])))
    for i, image in enumerate(d["pdis"]):
        yield f"pdi {i}: {image['bytes']:,} bytes, sha256 {image['sha256'][:16]}..."
        for group in image["groups"]:
            yield f"  group {group['name']}, kernel ids {', '.join(f'{k:#x}' for k in group['kernel_ids'])}"
        yield from _indented(_pdi(image))


def _pdi(d: dict[str, Any]) -> Iterator[str]:
    form = "transformed" if d["transformed"] else "plain"
    lost = f", its last {d['missing_bytes']} data bytes are cut off" if d["missing_bytes"] else ""
    other = "" if d["generation"] == str(NPU1) else f", programs for {d['generation']}"
    yield f"image {d['image_name']}, {form}{lost}{other}"
    yield from _cdo(d)


def _cdo(d: dict[str, Any]) -> Iterator[str]:
    yield f"commands: {_counts(d['commands'])}"
    for tile in d["tiles"]:
        program = f", program {tile['program_bytes']:,} bytes" if tile["program_bytes"] else ""
        data = f", data {tile['data_bytes']:,} bytes" if tile["data_bytes"] else ""
        yield f"{tile['tile']}{program}{data}{', enabled' if tile['enabled'] else ''}"
        for name, words in tile["register_words"].items():
            yield f"  {words:6} {name}"


def _operation(d: dict[str, Any]) -> str:
    words = []
    for name, value in d.items():
        if name in ("operation", "register"):
            continue
        if isinstance(value, list):
            value = " ".join(f"{word:#x}" for word in value)
        elif name in ("address", "value", "mask"):
            value = f"{value:#x}"
        words.append(f"{name}={value}")
    register = f"  ; {d['register']}" if "register" in d else ""
    return f"{d['operation']} {' '.join(words)}{register}"


def _sequence(d: dict[str, Any]) -> Iterator[str]:
    yield f"operations: {_counts(d['counts'])}"
    for operation in d["operations"]:
        yield f"  {_operation(operation)}"


def _txn(d: dict[str, Any]) -> Iterator[str]:
    yield f"TXN {d['version']} for {d['device']}, {d['columns']} columns"
    yield from _sequence(d)


def _words(d: dict[str, Any]) -> Iterator[str]:
    device = f" for {d['device']}" if "device" in d else ""
    yield f"runtime sequence as text, {d['form']} form{device}, {d['words']} words"
    yield from _sequence(d)


def _npua_short(d: dict[str, Any]) -> Iterator[str]:
    """All but operations and symbols."""
    if d["version"] == 1:
        yield f"version 1, {len(d['instructions'])} instructions; it does not run on hardware"
        return
    yield f"version 2, array image {d['pdi_sha256']}"
    for key, value in d["metadata"].items():
        yield from named(key, value)
    yield f"runtime sequence: {_counts(d['control']['counts'])}; {len(d['control']['patches'])} patches"
    for program in d["programs"]:
        yield f"{program['tile']}: program {program['program_bytes']:,} bytes, {len(program['symbols'])} symbols"
    if d["source"]:
        yield f"source: {d['source']['bytes']:,} bytes, {len(d['source']['text'].splitlines())} lines"


def _npua(d: dict[str, Any]) -> Iterator[str]:
    yield from _npua_short(d)
    if d["version"] == 1:
        for i in d["instructions"]:
            places = f"{i['source1']} {i['source2']} -> {i['destination']}"
            yield f"  {i['operation']} {places} immediate {i['immediate']:#x}"
        return
    for program in d["programs"]:
        for symbol in program["symbols"]:
            yield f"{program['tile']} {symbol['address']:#06x} {symbol['name']}"
    for patch in d["control"]["patches"]:
        yield f"word {patch['word']} = {patch['expression']}"
    yield from _sequence(d["control"])
    if d["pdi"]:
        yield f"pdi: {d['pdi']['bytes']:,} bytes"
        yield from _indented(_pdi(d["pdi"]))
    if d["source"]:
        yield "source text"
        yield from _indented(iter(d["source"]["text"].splitlines()))


def _elf(d: dict[str, Any]) -> Iterator[str]:
    yield f"program {d['program_bytes']:,} bytes, entry {d['entry']:#x}, for {d['generation']}"
    for segment in d["data"]:
        yield f"data at {segment['address']:#x}: {segment['bytes']:,} bytes"
    for symbol in d["symbols"]:
        yield f"{symbol['address']:#07x} {symbol['kind']} {symbol['name']}"


def _tables(d: dict[str, Any]) -> Iterator[str]:
    """Sections, symbols and relocations, the first of each."""
    for title, entries, line in (
        ("sections", d["sections"], _section),
        ("symbols", d["symbols"], _symbol),
        ("relocations", d["relocations"], _relocation),
    ):
        yield f"{title}: {len(entries):,}"
        yield from (f"  {line(entry)}" for entry in entries[:MOST_ENTRIES])
        if len(entries) > MOST_ENTRIES:
            yield f"  ... {len(entries) - MOST_ENTRIES:,} more, which --json has"


def _section(s: dict[str, Any]) -> str:
    place = f"at {s['address']:#x}, {s['bytes']:,} bytes at {s['offset']:#x} of the file"
    return f"{s['name'] or '(no name)':<24} type {s['type']} {place}"


def _symbol(s: dict[str, Any]) -> str:
    kind = f" {s['binding']} {s['kind']}" if "kind" in s else ""
    return f"{s['address']:#010x} {s['bytes']:6} section {s['section']}{kind} {s['name']}"


def _relocation(r: dict[str, Any]) -> str:
    place = r["offset"] if "offset" in r else r["address"]
    return f"{place:#010x} type {r['type']} {r['symbol'] or '(no symbol)'} + {r['addend']:#x}"


def _other_elf(d: dict[str, Any]) -> Iterator[str]:
    yield f"{d['class']}-bit {d['byte_order']}-endian, machine {d['machine']}, type {d['type']}, entry {d['entry']:#x}"
    yield from _tables(d)


def _control_code(d: dict[str, Any]) -> Iterator[str]:
    yield f"control code for {d['platform']}"
    yield from _tables(d)
    if "reason" in d["stream"]:
        yield f"its runtime sequence cannot be read: {d['stream']['reason']}"
    else:
        yield from _txn(d["stream"])


def _archive(d: dict[str, Any]) -> Iterator[str]:
    yield f"members: {len(d['members'])}"
    for member in d["members"]:
        about = member["format"] or f"unknown: {member['reason']}"
        yield f"{member['name']}: {about}, {member['bytes']:,} bytes at {member['offset']:#x}"
        if member["format"] in _RENDERERS and member["format"] != "archive":
            yield from _indented(_RENDERERS[member["format"]](member))


_RENDERERS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "xclbin": _xclbin, "pdi": _pdi, "cdo": _cdo, "txn": _txn, "sequence": _words, "npua": _npua, "elf": _elf,
    "control-code": _control_code, "other-elf": _other_elf, "archive": _archive,
}  # fmt: skip
