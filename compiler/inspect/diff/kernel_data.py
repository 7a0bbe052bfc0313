"""Differences of NPUA data, version 1 and 2: metadata, runtime sequence, symbols, lines, array image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256

from npuc.compiler.emit import npua
from npuc.compiler.emit.npua import Npua, ProgramSymbols
from npuc.compiler.inspect.diff.array_image import Core, compare_pdis
from npuc.compiler.inspect.diff.layouts import compare_layout
from npuc.compiler.inspect.diff.operations import compare_templates
from npuc.compiler.inspect.diff.report import Difference, Section, derived, only_in
from npuc.compiler.inspect.diff.sequence import align
from npuc.compiler.inspect.diff.symbols import compare_symbols
from npuc.compiler.inspect.diff.tiles import tiles_name
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees, with_other_bytes

Moves = Mapping[Core, Mapping[int, int]]
Hashes = frozenset[bytes]
Names = Sequence[tuple[int, str]]
_CONTEXT = 2


@dataclass(frozen=True)
class Surroundings:
    """What an xclbin's array images say to the NPUAs in it.

    moves: hash of a PDI of the first file -> where its cores' bundles went; images: hashes of the PDIs of both files.
    """

    moves: Mapping[bytes, Moves] = field(default_factory=dict)
    images: tuple[Hashes, Hashes] = (frozenset(), frozenset())


def compare_npuas(a: bytes, b: bytes, around: Surroundings | None = None, prefix: str = "") -> tuple[Section, ...]:
    """Two NPUAs.  Raises InputError when one of them cannot be read.  prefix: put before the names of sections."""
    around = around or Surroundings()
    versions = [1 if npua.is_version_1(data) else 2 for data in (a, b)]
    if versions != [2, 2]:
        return _version_1(a, b, versions)
    first, second = npua.read_npua(a), npua.read_npua(b)
    images: tuple[Section, ...] = ()
    moved_to = around.moves.get(first.pdi_sha256, {})
    if first.pdi is not None and second.pdi is not None:
        change = compare_pdis(first.pdi, second.pdi, (first.programs, second.programs))
        images, moved_to = change.sections, change.moved_to
    elif first.pdi != second.pdi:
        size = f"{len(first.pdi or second.pdi or b'')} bytes"
        images = (Section("array image", (only_in(second.pdi is None, "PDI", size),)),)
    follows = ("instructions", "total_size", "crc32", "section_count")
    sections = (
        Section(f"{prefix}NPUA header", tuple(compare_layout(npua.HEADER, a, b, follows=follows))),
        Section(f"{prefix}NPUA metadata", tuple(compare_trees(first.metadata, second.metadata))),
        Section(f"{prefix}NPUA runtime sequence", tuple(compare_templates(first.control, second.control))),
        Section(f"{prefix}NPUA programs", tuple(_programs(first.programs, second.programs, moved_to))),
        Section(f"{prefix}NPUA array image", tuple(_image_hash(first, second, around.images))),
        Section(f"{prefix}NPUA source", tuple(_source(first.source, second.source))),
        *images,
    )
    # The checksum alone explains nothing; the hash and what moved with the code have their cause elsewhere.
    if a == b or sections[0].count or any(section.differences for section in sections[1:]):
        return sections
    return with_other_bytes(sections, a, b)


def _image_hash(a: Npua, b: Npua, images: tuple[Hashes, Hashes]) -> Iterator[Difference]:
    """The hash that ties data and image together; it follows where it is that of an image in both files."""
    if a.pdi_sha256 != b.pdi_sha256:
        own = (frozenset() if side.pdi is None else {sha256(side.pdi).digest()} for side in (a, b))
        right = all(side.pdi_sha256 in known | there for side, known, there in zip((a, b), own, images, strict=True))
        before, after = a.pdi_sha256.hex(), b.pdi_sha256.hex()
        yield Difference("PDI hash", before=before, after=after, derived=right)


# --- programs -----------------------------------------------------------------------------------------------------
def _programs(a: Sequence[ProgramSymbols], b: Sequence[ProgramSymbols], moved_to: Moves) -> Iterator[Difference]:
    """What is said of the cores' programs; cores with the same differences are named together."""
    first, second = ({(p.column, p.row): p for p in side} for side in (a, b))
    alike: dict[tuple[object, ...], list[Core]] = defaultdict(list)
    for core in sorted(first.keys() | second.keys()):
        if core not in second:
            yield only_in(True, tiles_name("core", [core]), f"{first[core].program_bytes} bytes")
        elif core not in first:
            yield only_in(False, tiles_name("core", [core]), f"{second[core].program_bytes} bytes")
        else:
            moves = moved_to.get(core)
            sides = (replace(side[core], column=0, row=0) for side in (first, second))
            alike[tuple(sides), None if moves is None else tuple(moves.items())].append(core)
    for cores in alike.values():
        before, after = first[cores[0]], second[cores[0]]
        yield from _program(before, after, moved_to.get(cores[0]), tiles_name("core", cores))


def _program(a: ProgramSymbols, b: ProgramSymbols, moves: Mapping[int, int] | None, title: str) -> Iterator[Difference]:
    if a.program_bytes != b.program_bytes:
        follows = moves is not None
        yield Difference(f"{title} program_bytes", "changed", a.program_bytes, b.program_bytes, derived=follows)
    for what, before, after in (("symbols", a.symbols, b.symbols), ("lines", a.lines, b.lines)):
        if before == after:
            continue
        shifted = [((moves or {}).get(address, address), text) for address, text in before]
        if shifted == list(after):
            yield Difference(f"{title} {what}", note="moved with the code", derived=True)
        elif what == "symbols":
            yield from compare_symbols(_by_name(before), _by_name(after), moves or {}, title)
        else:
            yield _lines(shifted, after, f"{title} lines")


def _by_name(symbols: Names) -> dict[str, int]:
    return {name: address for address, name in symbols}


def _lines(before: Names, after: Names, title: str) -> Difference:
    """Source lines as one text diff."""
    text = []
    for pair in align(before, after):
        address, line = before[pair.a] if pair.a is not None else after[pair.b or 0]
        text.append(f"{' ' if pair.equal else '+' if pair.a is None else '-'}{address:6x}:  {line}")
    return _text_difference(title, text)


def _text_difference(title: str, text: Sequence[str]) -> Difference:
    """Lines beginning with ' ', '-' or '+', as far as they are near a change."""
    counts = [sum(line[0] == mark for line in text) for mark in "-+"]
    changed = [i for i, line in enumerate(text) if line[0] != " "]
    near = {place for i in changed for place in range(i - _CONTEXT, i + _CONTEXT + 1)}
    kept = tuple(line for i, line in enumerate(text) if i in near)
    return Difference(title, before=f"{counts[0]} lines", after=f"{counts[1]} lines", lines=kept)


# --- source -------------------------------------------------------------------------------------------------------
def _source(a: str | None, b: str | None) -> Iterator[Difference]:
    """The texts that were compiled, line by line."""
    if a == b:
        return
    if a is None or b is None:
        yield only_in(b is None, "source", f"{len((a or b or '').encode())} bytes")
        return
    before, after = a.split("\n"), b.split("\n")
    text = []
    for pair in align(before, after):
        line = before[pair.a] if pair.a is not None else after[pair.b or 0]
        text.append(f"{' ' if pair.equal else '+' if pair.a is None else '-'}{line}")
    yield _text_difference("source", text)


# --- version 1 ----------------------------------------------------------------------------------------------------
def _version_1(a: bytes, b: bytes, versions: list[int]) -> tuple[Section, ...]:
    if versions[0] != versions[1]:
        version = Difference("NPUA version", before=versions[0], after=versions[1])
        return (Section("NPUA header", (version,)), Section("contents", derived(compare_bytes(a, b))))
    first, second = npua.read_npua_v1(a).instructions, npua.read_npua_v1(b).instructions
    differences = []
    for pair in align(first, second, [i.opcode for i in first], [i.opcode for i in second]):
        if pair.a is not None and pair.b is not None and not pair.equal:
            title = f"instruction {pair.a} {first[pair.a].operation}"
            differences += [
                replace(d, place=f"{title} {d.place}")
                for d in compare_trees(asdict(first[pair.a]), asdict(second[pair.b]))
            ]
        elif pair.a is not None and pair.b is None:
            differences.append(only_in(True, f"instruction {pair.a}", _v1_text(first[pair.a])))
        elif pair.a is None and pair.b is not None:
            differences.append(only_in(False, f"instruction {pair.b}", _v1_text(second[pair.b])))
    sections = (Section("NPUA instructions", tuple(differences)),)
    return with_other_bytes(sections, a, b)


def _v1_text(i: npua.V1Instruction) -> str:
    return f"{i.operation} {i.source1} {i.source2} -> {i.destination} immediate {i.immediate:#x}"
