"""What mutants are made of: the examples, their rewordings, and files of front ends where they are there."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from edited_examples import EXAMPLES, edited
from test_frontend_same_meaning import SAME_MEANING

SHARED = Path(os.environ.get("NPUC_FACTS", EXAMPLES.parent.parent / "shared" / "facts")).parent
LARGEST = 100_000  # characters: larger texts hold weights


def sources() -> dict[str, str]:
    """Texts by name; not all are recognised."""
    found = {path.name: path.read_text() for path in sorted(EXAMPLES.glob("*.mlir"))}
    found |= {name: edited(example, *edits) for name, (example, edits) in SAME_MEANING.items()}
    for folder in ("inputs", "cases/mlir/accept"):
        for path in sorted((SHARED / folder).glob("*.mlir*")):
            text = gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()
            if len(text) <= LARGEST:
                found[path.name] = text
    return found
