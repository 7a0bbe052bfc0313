"""Which format a file has, told by its content."""

from __future__ import annotations

from collections.abc import Callable

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import archive, cdo, control_code, elf, legacy_sequence, npua, pdi, txn, xclbin
from npuc.compiler.git_lfs import refuse_pointer

KNOWN = "xclbin, pdi, cdo, txn, npua, elf"
"""What messages name."""

# The order matters only for TXN, whose header says least, and for ELFs, of which the core's come first.
_DETECTORS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("xclbin", xclbin.is_xclbin),
    ("elf", elf.is_core_elf),
    ("control-code", control_code.is_control_code),
    ("other-elf", elf.is_any_elf),
    ("archive", archive.is_archive),
    ("pdi", pdi.is_pdi),
    ("npua", npua.is_npua),
    ("cdo", cdo.is_cdo),
    ("txn", txn.is_txn),
    ("sequence", legacy_sequence.is_text),
)

TITLES = {
    "control-code": "a control-code ELF",
    "other-elf": "an ELF of another machine",
    "archive": "an archive",
    "sequence": "a runtime sequence as text",
}
"""What messages call those formats whose name says too little."""


def detect(data: bytes) -> str:
    """The format: 'xclbin', 'elf' (of AIE cores), 'control-code', 'other-elf', 'archive', 'pdi', 'npua', 'cdo', 'txn'
    or 'sequence' (text of hexadecimal words).

    InputError when it is none of them, and for a Git LFS pointer.
    """
    refuse_pointer(data)
    for name, matches in _DETECTORS:
        if matches(data):
            return name
    raise InputError(f"is none of {KNOWN}" if data else "is empty")


def title(kind: str) -> str:
    """A format as messages name it."""
    return TITLES.get(kind, f"{'an' if kind[0] in 'xen' else 'a'} {kind.upper()}")
