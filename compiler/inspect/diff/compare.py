"""npuc diff: compare two binaries of any format npuc reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from npuc.compiler.diagnostics import InputError
from npuc.compiler.formats import KNOWN, detect
from npuc.compiler.inspect.diff.array_image import compare_cdos, compare_pdis
from npuc.compiler.inspect.diff.container import compare_xclbins, section_names
from npuc.compiler.inspect.diff.executable import compare_elfs
from npuc.compiler.inspect.diff.ignored import ignoring
from npuc.compiler.inspect.diff.kernel_data import compare_npuas
from npuc.compiler.inspect.diff.operations import compare_txns
from npuc.compiler.inspect.diff.other_files import (
    Comparer,
    compare_archives,
    compare_control_code,
    compare_other_elfs,
    compare_sequence_texts,
)
from npuc.compiler.inspect.diff.report import Difference, Report, Section, Side, derived, with_a_cause
from npuc.compiler.inspect.diff.values import compare_bytes, with_other_bytes


def _of_members(a: bytes, b: bytes) -> Comparer | None:
    """What compares two members of archives."""
    formats = {_format(data) for data in (a, b)}
    return _COMPARERS.get(formats.pop()) if len(formats) == 1 else None


_COMPARERS: dict[str, Comparer] = {
    "xclbin": compare_xclbins,
    "pdi": lambda a, b: compare_pdis(a, b).sections,
    "cdo": lambda a, b: compare_cdos(a, b).sections,
    "txn": compare_txns,
    "npua": compare_npuas,
    "elf": compare_elfs,
    "sequence": compare_sequence_texts,
    "control-code": compare_control_code,
    "other-elf": compare_other_elfs,
    "archive": lambda a, b: compare_archives(a, b, _of_members),
}
UNKNOWN = "unknown"


def compare(a: bytes, b: bytes, names: tuple[str, str] = ("a", "b"), ignore: Sequence[str] = ()) -> Report:
    """Everything that differs between two files; `names` is what they are called.  ignore: of `ignored.KINDS`, what is
    told but does not count.

    Identical means that no byte differs but for what is ignored and what follows from that.  Raises InputError when
    neither file is of a known format, or both are of the same one and neither can be read.
    """
    formats = [_format(data) for data in (a, b)]
    sides = [
        Side(name, kind, len(data), hashlib.sha256(data).hexdigest())
        for name, kind, data in zip(names, formats, (a, b), strict=True)
    ]
    if formats == [UNKNOWN, UNKNOWN]:
        raise InputError(f"is none of {KNOWN}, nor is the other file", place=names[0])
    if a == b:
        return Report(
            sides[0], sides[1], True, tuple(Section(name) for name in _section_names(a, formats[0])), tuple(ignore)
        )
    if formats[0] != formats[1]:
        other = Difference("format", before=formats[0], after=formats[1])
        sections: tuple[Section, ...] = (Section("file", (other, *derived(compare_bytes(a, b)))),)
    else:
        sections = _compare(formats[0], a, b, names)
    sections = with_a_cause(ignoring(sections, ignore))
    assert any(section.differences for section in sections)
    count = sum(section.count for section in sections)
    return Report(sides[0], sides[1], count == 0, sections, tuple(ignore))


def _format(data: bytes) -> str:
    try:
        return detect(data)
    except InputError:
        return UNKNOWN


def _section_names(data: bytes, kind: str) -> list[str]:
    return ["header", "section table", *section_names(data)] if kind == "xclbin" else [kind]


def _compare(kind: str, a: bytes, b: bytes, names: tuple[str, str]) -> tuple[Section, ...]:
    try:
        sections = _COMPARERS[kind](a, b)
    except InputError as error:
        return _unreadable(kind, a, b, names, error)
    return sections if any(section.differences for section in sections) else with_other_bytes(sections, a, b)


def _unreadable(kind: str, a: bytes, b: bytes, names: tuple[str, str], error: InputError) -> tuple[Section, ...]:
    """Where at least one file can be read, a difference like others; InputError when none can."""
    reasons = []
    for name, data in zip(names, (a, b), strict=True):
        try:
            _COMPARERS[kind](data, data)
        except InputError as reason:
            reasons.append((name, reason.message))
    if len(reasons) == 2:
        name, message = reasons[0]
        raise InputError(f"{message}; the other file cannot be read either", place=name) from error
    text = "; ".join(f"{name} cannot be read: {message}" for name, message in reasons) or error.message
    return (Section("file", (Difference(kind, note=text), *derived(compare_bytes(a, b)))),)
