"""What ELFs hold that are not of AIE cores: control code, and files for hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import control_code, txn

PATIENCE = 120.0  # seconds that lief may take
_MODULE = "npuc.compiler.inspect.lief_tables"
_RUN = f"import sys; sys.path[:] = sys.argv[1:]; from {_MODULE} import main; sys.exit(main())"


def other_elf(data: bytes) -> dict[str, Any]:
    """class, byte_order, machine, type, entry, segments (a number), sections, symbols, relocations, by lief.

    In another process, which a damaged file may end.  Raises InputError for what cannot be read.
    """
    path = [os.path.abspath(entry) for entry in sys.path]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RUN, *path], input=data, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"ELF: reading it takes more than {PATIENCE:g} seconds") from None
    except OSError as error:
        raise InputError(f"ELF: no process can be started to read it: {error.strerror or error}") from error
    tables: dict[str, Any] | None = None
    if done.returncode == 0:
        tables = json.loads(done.stdout)
    elif b"ModuleNotFoundError" in done.stderr:
        raise InputError("ELF: files of other machines are read by lief, which is not there", remedy="pip install lief")
    if tables is None or not (tables["sections"] or tables["segments"]):
        raise InputError("is an ELF that is malformed, or of a kind that lief does not read")
    return tables


def control_code_elf(data: bytes) -> dict[str, Any]:
    """platform, sections, symbols, relocations."""
    tables = control_code.read_tables(data)
    return {
        "platform": control_code.platform(tables.abi),
        "sections": [
            {"name": name, "type": s["type"], "address": s["address"], "offset": s["offset"], "bytes": s["size"]}
            for name, s in tables.sections.items()
        ],
        "symbols": [
            {"name": name, "address": s["value"], "bytes": s["size"], "section": s["section"]}
            for name, s in tables.symbols
            if name
        ],
        "relocations": [
            {"offset": r.offset, "type": r.kind, "symbol": r.symbol, "addend": r.addend} for r in tables.relocations
        ],
    }


def control_code_stream(data: bytes) -> txn.Txn | str:
    """The runtime sequence of a control-code ELF, or why it cannot be read."""
    try:
        return control_code.read_control_code(data)
    except InputError as error:
        return error.message
