"""`ar` archives of objects, as linkers take them: names in the headers, of GNU's or of BSD's kind.

Layout: the magic, then members, each behind a header of 60 characters and at an even offset.  GNU keeps names of more
than 15 characters in a member `//`, BSD in front of the contents (`#1/LENGTH`).
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.layout import malformed, take

WHAT = "archive"
MAGIC, THIN_MAGIC = b"!<arch>\n", b"!<thin>\n"
_HEADER_SIZE, _END = 60, b"`\n"
_NAME, _SIZE = slice(0, 16), slice(48, 58)
_INDEXES = ("/", "/SYM64/", "__.SYMDEF", "__.SYMDEF SORTED", "__.SYMDEF_64")
_LONG_NAMES = "//"
MOST_MEMBERS = 1 << 16


@dataclass(frozen=True)
class Member:
    """A file in an archive; `offset` is that of its contents."""

    name: str
    offset: int
    data: bytes


def is_archive(data: bytes) -> bool:
    """Whether the data start as an archive does."""
    return data[: len(MAGIC)] in (MAGIC, THIN_MAGIC)


def read_archive(data: bytes) -> tuple[Member, ...]:
    """The members in order, symbol indexes left out.  Raises InputError for what is malformed and for thin archives."""
    if data[: len(MAGIC)] == THIN_MAGIC:
        raise InputError(f"{WHAT}: a thin archive holds names of files, not the files", remedy="give the objects")
    if data[: len(MAGIC)] != MAGIC:
        raise malformed(WHAT, 0, "not an archive")
    members: list[Member] = []
    long_names = b""
    at = len(MAGIC)
    while at < len(data):
        header = take(data, at, _HEADER_SIZE, f"{WHAT} member header")
        if header[-len(_END) :] != _END:
            raise malformed(WHAT, at, "no member header")
        field = header[_NAME].decode("utf-8", "replace").rstrip(" ")
        size = _number(header[_SIZE], at, "size of a member")
        body = at + _HEADER_SIZE
        contents = take(data, body, size, f"{WHAT} member")
        at = body + size + size % 2
        if field == _LONG_NAMES:
            long_names = contents
            continue
        name, skipped = _name(field, contents, long_names, body)
        if name not in _INDEXES:
            members.append(Member(name, body + skipped, contents[skipped:]))
        if len(members) > MOST_MEMBERS:
            raise malformed(WHAT, at, f"more than {MOST_MEMBERS} members")
    return tuple(members)


def _number(field: bytes, at: int, what: str) -> int:
    text = field.decode("ascii", "replace").strip()
    if not (text.isascii() and text.isdecimal()):
        raise malformed(WHAT, at, f"{what}: {text!r}")
    return int(text)


def _name(field: str, contents: bytes, long_names: bytes, at: int) -> tuple[str, int]:
    """The name of a member, and how many of its bytes the name takes."""
    if field.startswith("#1/"):
        length = _number(field[3:].encode(), at, "length of a name")
        if length > len(contents):
            raise malformed(WHAT, at, f"a name of {length} bytes in a member of {len(contents)}")
        return contents[:length].rstrip(b"\0").decode("utf-8", "replace"), length
    if field in _INDEXES:
        return field, 0
    if field.startswith("/"):
        start = _number(field[1:].encode(), at, "place of a name")
        end = long_names.find(b"\n", start)
        if start >= len(long_names) or end < 0:
            raise malformed(WHAT, at, f"a name at {start} of {len(long_names)} bytes of names")
        return long_names[start:end].decode("utf-8", "replace").removesuffix("/"), 0
    return field.removesuffix("/"), 0
