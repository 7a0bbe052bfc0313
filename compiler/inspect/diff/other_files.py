"""Differences of what compilers of others write around kernels: sequences as text, control-code ELFs, archives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from npuc.compiler.emit import archive, legacy_sequence, txn
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.inspect.diff.operations import compare_operations, compare_txns
from npuc.compiler.inspect.diff.report import Difference, Section, only_in
from npuc.compiler.inspect.diff.sequence import numbered
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees, with_other_bytes
from npuc.compiler.inspect.elf_tables import control_code_elf, control_code_stream

Comparer = Callable[[bytes, bytes], tuple[Section, ...]]


def compare_sequence_texts(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Two runtime sequences as text, TXN or the older form.  Raises InputError when one of them cannot be read."""
    words = [legacy_sequence.words_of_text(data) for data in (a, b)]
    streams = [pack_words(side) for side in words]
    forms = ["TXN" if txn.is_txn(stream) else "older" for stream in streams]
    if forms[0] != forms[1]:
        found: tuple[Section, ...] = (Section("operations", (Difference("form", before=forms[0], after=forms[1]),)),)
    elif forms[0] == "TXN":
        found = compare_txns(streams[0], streams[1])
    else:
        first, second = (legacy_sequence.read_legacy_sequence(side) for side in words)
        found = (Section("operations", tuple(compare_operations(first, second))),)
    return with_other_bytes(found, a, b)


def compare_control_code(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Two control-code ELFs: their runtime sequences, and the tables around them."""
    streams = [control_code_stream(data) for data in (a, b)]
    before, after = (control_code_elf(data) for data in (a, b))
    sections = []
    if all(isinstance(stream, txn.Txn) for stream in streams):
        first, second = (stream.operations for stream in streams if isinstance(stream, txn.Txn))
        sections.append(Section("operations", tuple(compare_operations(first, second))))
    for name in ("platform", "sections", "symbols", "relocations"):
        sections.append(Section(name, tuple(compare_trees(_tree(before[name]), _tree(after[name]), name))))
    return with_other_bytes(tuple(sections), a, b)


def _tree(value: Any) -> Any:
    return {f"{i}": entry for i, entry in enumerate(value)} if isinstance(value, list) else {"name": value}


def compare_other_elfs(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Files for other machines: by their bytes."""
    return (Section("bytes", tuple(compare_bytes(a, b))),)


def compare_archives(a: bytes, b: bytes, comparer: Callable[[bytes, bytes], Comparer | None]) -> tuple[Section, ...]:
    """Two archives, member by member; comparer: what compares two members, None where that is their bytes alone."""
    sides = [archive.read_archive(data) for data in (a, b)]
    members = [dict(zip(numbered([m.name for m in side]), (m.data for m in side), strict=True)) for side in sides]
    sections: list[Section] = []
    for key in {**members[0], **members[1]}:
        name = f"{key[0]} ({key[1] + 1})" if key[1] else str(key[0])
        first, second = members[0].get(key), members[1].get(key)
        if first is None or second is None:
            alone = only_in(second is None, name, f"{len(first or second or b'')} bytes")
            sections.append(Section(name, (alone,), alone.change))
        elif first == second:
            sections.append(Section(name))
        else:
            compare = comparer(first, second) or compare_other_elfs
            sections += (replace(s, name=f"{name} {s.name}") for s in compare(first, second))
    return with_other_bytes(tuple(sections), a, b)
