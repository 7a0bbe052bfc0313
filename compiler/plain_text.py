"""Text of files as it may be shown: names in a binary cannot move the cursor, fake lines or turn text around."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with control, formatting and bidirectional characters written as escapes; line breaks are such too."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Text of any length in one line: runs of white space are a blank, the rest printable."""
    return printable(" ".join(text.split()))
