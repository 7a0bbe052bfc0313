"""Differences of XCLBINs: header, order of sections, and each section by what it holds."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import npua, xclbin, xclbin_metadata
from npuc.compiler.emit.layout import malformed, text
from npuc.compiler.emit.npua import ProgramSymbols
from npuc.compiler.emit.xclbin import SectionEntry
from npuc.compiler.emit.xclbin_sections import read_connections, read_instances, read_memories, read_vender
from npuc.compiler.inspect.diff.array_image import compare_pdis
from npuc.compiler.inspect.diff.kernel_data import Surroundings, compare_npuas
from npuc.compiler.inspect.diff.layouts import compare_layout
from npuc.compiler.inspect.diff.partition import compare_partitions
from npuc.compiler.inspect.diff.report import ADDED, REMOVED, REORDERED, Difference, Section, derived, only_in
from npuc.compiler.inspect.diff.sequence import moved_runs, numbered
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees, hexadecimal

_ALIGNMENT = 8  # of sections; up to one less zero byte between two follows from their sizes


@dataclass
class File:
    """One of the two files with its section table and the names of its sections.

    symbols: what the kernels' data say of the programs in a PDI, by the hash of the PDI.
    """

    data: bytes
    entries: tuple[SectionEntry, ...]
    names: list[str]
    symbols: dict[bytes, tuple[ProgramSymbols, ...]] = field(default_factory=dict)

    def payload(self, place: int) -> bytes:
        entry = self.entries[place]
        return self.data[entry.offset : entry.offset + entry.size]

    def entry(self, place: int) -> bytes:
        """A line of the section table."""
        start = xclbin.HEADER.size + place * xclbin.SECTION.size
        return self.data[start : start + xclbin.SECTION.size]

    @property
    def end(self) -> int:
        """Where the last section ends, or the table."""
        table_end = xclbin.HEADER.size + xclbin.SECTION.size * len(self.entries)
        return max([table_end, *(entry.offset + entry.size for entry in self.entries)])


def _open(data: bytes) -> File:
    file = File(data, xclbin.section_entries(data), section_names(data))
    for place, entry in enumerate(file.entries):
        if entry.kind == xclbin.VENDER_METADATA:
            try:
                name, image = read_vender(file.payload(place))
                kernel = npua.read_npua(image) if name == xclbin.NPUA_NAME else None
            except InputError:
                continue  # said where the section itself is compared
            if kernel is not None:
                file.symbols.setdefault(kernel.pdi_sha256, kernel.programs)
    return file


def section_names(data: bytes) -> list[str]:
    """What compare_xclbins calls the sections of a file."""
    return [_names(entry, times) for entry, times in _keyed(xclbin.section_entries(data))]


def _keyed(entries: Sequence[SectionEntry]) -> list[tuple[SectionEntry, int]]:
    times = (number for _, number in numbered([(entry.kind, entry.name) for entry in entries]))
    return list(zip(entries, times, strict=True))


def _names(entry: SectionEntry, times: int) -> str:
    return entry.kind_name + (f" {entry.name}" if entry.name else "") + (f" ({times + 1})" if times else "")


def compare_xclbins(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Two XCLBINs.  Raises InputError when a header or section table cannot be read."""
    first, second = _open(a), _open(b)
    matched = _match(first, second)
    sections = [_header(first, second), _table(first, second, matched)]
    # Array images come first: what moved in the programs explains the symbols in the kernels' data.
    around = Surroundings()
    order = sorted(range(len(matched)), key=lambda n: not _holds_images(first, second, matched[n]))
    found: dict[int, tuple[Section, ...]] = {}
    for number in order:
        found[number], around = _section(first, second, matched[number], around)
    for number in range(len(matched)):
        sections += found[number]
    return (*sections, *_rest(first, second, matched))


Match = tuple[int | None, int | None]


def _match(a: File, b: File) -> list[Match]:
    """Sections of the same kind and name, then those of the same kind, then what is in one file only."""
    places: dict[Any, int] = {}
    for j, (entry, times) in enumerate(_keyed(b.entries)):
        places[entry.kind, entry.name, times] = j
    partner = {i: places.pop((e.kind, e.name, times), None) for i, (e, times) in enumerate(_keyed(a.entries))}
    left = {place: b.entries[place].kind for place in sorted(places.values())}
    for i, entry in enumerate(a.entries):
        if partner[i] is None:
            same_kind = [j for j, kind in left.items() if kind == entry.kind]
            if same_kind:
                partner[i] = same_kind[0]
                del left[same_kind[0]]
    return [*partner.items(), *((None, j) for j in left)]


def _holds_images(a: File, b: File, match: Match) -> bool:
    entry = a.entries[match[0]] if match[0] is not None else b.entries[match[1] or 0]
    return entry.kind == xclbin.AIE_PARTITION


# --- header and table ---------------------------------------------------------------------------------------------
def _header(a: File, b: File) -> Section:
    follows = ["length", "section_count"]
    uuids_follow = all(_uuid_is_of_content(file) for file in (a, b))
    differences = compare_layout(xclbin.HEADER, a.data, b.data, follows=[*follows, *(["uuid"] if uuids_follow else [])])
    return Section("header", tuple(differences))


def _uuid_is_of_content(file: File) -> bool:
    uuid = xclbin.HEADER.unpack(file.data)["uuid"]
    return uuid == xclbin.content_uuid(file.data[xclbin.HEADER.size : file.end])


def _table(a: File, b: File, matched: Sequence[Match]) -> Section:
    differences: list[Difference] = []
    both = [(i, j) for i, j in matched if i is not None and j is not None]
    names = a.names
    for run in moved_runs([j for _, j in both]):
        for i, j in (both[place] for place in run):
            differences.append(Difference(names[i], REORDERED, i, j, f"now section {j} of {len(b.entries)}"))
    for i, j in both:
        # Where a section lies and how long it is follows from the sections.
        follows = ("offset", "size")
        differences += compare_layout(xclbin.SECTION, a.entry(i), b.entry(j), 0, follows, names[i])
    return Section("section table", tuple(differences))


# --- sections -----------------------------------------------------------------------------------------------------
def _section(a: File, b: File, match: Match, around: Surroundings) -> tuple[tuple[Section, ...], Surroundings]:
    """The sections that a match makes, and what the array images say to the sections after it."""
    i, j = match
    if i is None or j is None:
        file, place, change = (b, j, ADDED) if i is None else (a, i, REMOVED)
        name = file.names[place or 0]
        size = f"{file.entries[place or 0].size} bytes"
        return (Section(name, (only_in(j is None, name, size),), change),), around
    name, kind = a.names[i], a.entries[i].kind
    before, after = a.payload(i), b.payload(j)
    if before == after:
        return (Section(name),), around
    try:
        if kind == xclbin.AIE_PARTITION:
            partitions = compare_partitions(before, after, (a.symbols, b.symbols), name)
            sections, around = partitions.sections, partitions.around
        else:
            sections = _by_kind(kind, (before, after), name, around)
    except InputError as error:
        unread = Difference(name, note=f"cannot be read: {error.message}")
        return (Section(name, (unread, *derived(compare_bytes(before, after)))),), around
    if any(section.differences if kind == xclbin.VENDER_METADATA else section.count for section in sections):
        return sections, around
    # Nothing that the section's structure names: fields it leaves out, padding.
    return (*sections, Section(f"{name} bytes", tuple(compare_bytes(before, after)))), around


def _by_kind(kind: int, payloads: tuple[bytes, bytes], name: str, around: Surroundings) -> tuple[Section, ...]:
    if kind == xclbin.VENDER_METADATA:
        return _private(payloads, name, around)
    if kind in _TREES:
        before, after = map(_TREES[kind], payloads)
        return (Section(name, tuple(compare_trees(before, after))),)
    if kind == _PDI:
        return tuple(compare_pdis(*payloads, prefix=f"{name} ").sections)
    return (Section(name, tuple(_json_or_bytes(*payloads))),)


def _private(payloads: tuple[bytes, bytes], name: str, around: Surroundings) -> tuple[Section, ...]:
    (name_a, image_a), (name_b, image_b) = (read_vender(payload) for payload in payloads)
    if name_a != name_b:
        return (Section(name, (Difference("name", before=name_a, after=name_b), *compare_bytes(*payloads))),)
    if name_a != xclbin.NPUA_NAME or image_a == image_b:
        return (Section(name, tuple(compare_bytes(image_a, image_b))),)
    further = re.search(r" \((\d+)\)$", name)  # of a file with several kernels
    return compare_npuas(image_a, image_b, around, f"kernel {further[1]} " if further else "")


def _json(data: bytes, **how: Any) -> Any:
    """JSON values; ValueError or RecursionError when it is none that can be walked and written again."""
    value = json.loads(data.decode(), parse_constant=_no_constant, **how)
    if npua.too_deep(value):
        raise ValueError("nested too deep")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _json_or_bytes(a: bytes, b: bytes) -> Iterator[Difference]:
    """Sections of other tools: JSON where both are, else bytes."""
    try:
        before, after = (_json(data.rstrip(b"\0")) for data in (a, b))
    except (ValueError, RecursionError):
        yield from compare_bytes(a, b)
        return
    found = list(compare_trees(before, after))
    yield from found or [Difference("spelling of the same values", before=f"{len(a)} bytes", after=f"{len(b)} bytes")]


# --- what the tables' contents are as trees -----------------------------------------------------------------------
def _numbered_entries(what: str, read: Callable[[bytes], Sequence[Any]]) -> Callable[[bytes], dict[str, Any]]:
    return lambda payload: {f"{what}[{i}]": asdict(entry) for i, entry in enumerate(read(payload))}


def _xml_tree(data: bytes) -> dict[str, Any]:
    """The metadata as nested dictionaries; `read_metadata` first, for its checks."""
    xclbin_metadata.read_metadata(data)
    root = ElementTree.fromstring(data.rstrip(b"\0").decode().strip())
    if npua.too_deep(root, list):
        raise malformed(xclbin_metadata.WHAT, 0, "is nested too deep")
    return {root.tag: _element(root)}


def _element(node: ElementTree.Element) -> dict[str, Any]:
    keys = numbered([child.tag + (f"[{child.get('name')}]" if child.get("name") else "") for child in node])
    children = {
        f"{key}{f'({times + 1})' if times else ''}": _element(child)
        for (key, times), child in zip(keys, node, strict=True)
    }
    words = {"text": node.text.strip()} if node.text and node.text.strip() else {}
    return {**node.attrib, **words, **children}


_PDI = 18
_TREES: dict[int, Callable[[bytes], dict[str, Any]]] = {
    xclbin.MEM_TOPOLOGY: _numbered_entries("memory", read_memories),
    xclbin.GROUP_TOPOLOGY: _numbered_entries("memory", read_memories),
    xclbin.CONNECTIVITY: _numbered_entries("connection", read_connections),
    xclbin.GROUP_CONNECTIVITY: _numbered_entries("connection", read_connections),
    xclbin.IP_LAYOUT: _numbered_entries("instance", read_instances),
    xclbin.EMBEDDED_METADATA: _xml_tree,
}


# --- what lies outside sections -----------------------------------------------------------------------------------
def _rest(a: File, b: File, matched: Sequence[Match]) -> Iterator[Section]:
    """Bytes between the sections, and the mirror that tools append: a JSON copy of header and table."""
    gaps = [_gaps(file) for file in (a, b)]
    differences: list[Difference] = []
    for i, j in matched:
        if i is not None and j is not None:
            name = f"before {a.names[i]}"
            differences += _gap(gaps[0][i], gaps[1][j], name)
    tails = [file.data[file.end :] for file in (a, b)]
    texts = [tail.partition(xclbin.MIRROR_START) for tail in tails]
    differences += _gap(texts[0][0], texts[1][0], "after the last section")
    yield Section("between sections", tuple(differences))
    mirrors = [mark + rest for _, mark, rest in texts]
    if any(mirrors):
        told = tuple(_mirror(*mirrors)) if mirrors[0] != mirrors[1] else ()
        follows = all(_mirror_agrees(file, mirror) for file, mirror in zip((a, b), mirrors, strict=True))
        yield Section("mirror of header and table", derived(told) if follows else told)


def _gaps(file: File) -> dict[int, bytes]:
    """Section number -> the bytes between it and what lies before it."""
    end = xclbin.HEADER.size + xclbin.SECTION.size * len(file.entries)
    gaps = {}
    for place in sorted(range(len(file.entries)), key=lambda n: (file.entries[n].offset, file.entries[n].size)):
        entry = file.entries[place]
        gaps[place] = file.data[end : entry.offset]
        end = max(end, entry.offset + entry.size)
    return gaps


def _gap(a: bytes, b: bytes, name: str) -> Iterator[Difference]:
    if a != b:
        padding = all(len(gap) < _ALIGNMENT and not any(gap) for gap in (a, b))
        yield Difference(name, before=hexadecimal(a) or "nothing", after=hexadecimal(b) or "nothing", derived=padding)


def _mirror_tree(mirror: bytes) -> Any:
    """The mirror's JSON, repeated keys numbered; ValueError when it is none."""
    body = mirror.removeprefix(xclbin.MIRROR_START).partition(xclbin.MIRROR_END)[0]
    return _json(body, object_pairs_hook=_numbered_keys)


def _numbered_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = numbered([key for key, _ in pairs])
    names = (f"{key}[{times}]" if times else str(key) for key, times in keys)
    return dict(zip(names, (value for _, value in pairs), strict=True))


def _mirror(a: bytes, b: bytes) -> Iterator[Difference]:
    try:
        before, after = _mirror_tree(a), _mirror_tree(b)
    except (ValueError, RecursionError):
        yield from compare_bytes(a, b)
        return
    found = list(compare_trees(before, after))
    yield from found or compare_bytes(a, b)


def _mirror_agrees(file: File, mirror: bytes) -> bool:
    """Whether the mirror says what header and table say."""
    header = xclbin.HEADER.unpack(file.data)
    try:
        tree = _mirror_tree(mirror)
        told = [value for key, value in tree.items() if key.startswith("section_header")]
        places = [(int(e["Kind"]), e["Name"], int(e["Offset"], 0), int(e["Size"], 0)) for e in told]
        uuid = tree["header"]["XclBinUUID"].replace("-", "")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        return False
    there = [(entry.kind, entry.name, entry.offset, entry.size) for entry in file.entries]
    return places == there and uuid == header["uuid"].hex() and text(header["magic"]) == tree["header"].get("Magic")
