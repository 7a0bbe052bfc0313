"""Git LFS pointers: what a clone without its large files has in their place."""

from __future__ import annotations

import re

from npuc.compiler.diagnostics import InputError

_FIRST_LINE = b"version https://git-lfs.github.com/spec/"
_LONGEST = 1024  # bytes; the format's own limit
_FIELDS = re.compile(rb"^oid (\w+):([0-9a-f]+)\n(?:.*\n)*?size (\d+)$", re.M)


def refuse_pointer(data: bytes) -> None:
    """InputError where data are a pointer, with what it points to."""
    if len(data) > _LONGEST or not data.startswith(_FIRST_LINE):
        return
    fields = _FIELDS.search(data)
    what = ""
    if fields is not None:
        algorithm, digest, size = (field.decode() for field in fields.groups())
        what = f" to {int(size):,} bytes, {algorithm} {digest[:16]}..."
    raise InputError(f"is a Git LFS pointer{what}, not the file itself", remedy="git lfs pull fetches it")
