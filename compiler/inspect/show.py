"""npuc inspect: what a file holds, as data (describe) and as text (render).

The format is told by content.  `describe` gives a dictionary of JSON values with at least `file`, `format`, `bytes` and
`sha256`; its other keys depend on the format (named in the docstring of its describing function below).  Anything that
cannot be read raises InputError.
"""

from __future__ import annotations

import hashlib
import json as json_module
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from npuc.compiler.asm.generation import elf_generation, other_generation
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import archive, cdo, elf, legacy_sequence, npua, pdi, txn, xclbin
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.files import read_bytes
from npuc.compiler.formats import detect
from npuc.compiler.inspect.elf_tables import control_code_elf, control_code_stream, other_elf
from npuc.compiler.inspect.render import render
from npuc.compiler.inspect.summary import summarise
from npuc.compiler.target.generations import BY_TXN_CODE, NPU1, Generation
from npuc.compiler.target.npu1.registers import register_name

__all__ = ["describe", "render", "show"]


def describe(data: bytes, name: str) -> dict[str, Any]:
    """What the file holds, as JSON values; `name` is what it is called.  InputError names the file."""
    try:
        kind = detect(data)
        contents = _DESCRIBERS[kind](data)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=name, remedy=error.remedy) from error
    return {"file": name, "format": kind, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **contents}


def holds_tables_only(data: bytes) -> bool:
    """Whether it is an ELF without code of cores, which disassembly tells the tables of."""
    return elf.is_any_elf(data) and detect(data) in ("control-code", "other-elf")


def show_as_comments(data: bytes, name: str) -> str:
    """The description as assembly text that is all comments, for what holds no code of cores."""
    return "".join(f"// {line}".rstrip() + "\n" for line in render(describe(data, name)).splitlines())


def show(source: str | os.PathLike[str] | bytes, json: bool) -> str:
    """The description of a file (its path, or its bytes) as text, or as JSON."""
    if isinstance(source, bytes):
        description = describe(source, "<bytes>")
    else:
        path = os.fspath(source)
        description = describe(read_bytes(path), path)
    return json_module.dumps(description, indent=1) if json else render(description)


# --- one describing function a format -----------------------------------------------------------------------------
def _xclbin(data: bytes) -> dict[str, Any]:
    """header, sections, memories, kernels (arguments, npua), partition, pdis."""
    file = xclbin.read_xclbin(data)
    assert file.partition is not None
    return {
        "header": {
            "uuid": file.uuid, "version": file.version, "platform": file.platform, "time_stamp": file.time_stamp
        },
        "sections": [{"kind": s.kind_name, "name": s.name, "offset": s.offset, "bytes": s.size} for s in file.sections],
        "memories": [{"tag": m.tag, "kib": m.size_kib, "base": m.base, "used": bool(m.used)} for m in file.memories],
        "kernels": [_kernel(file, kernel) for kernel in file.kernels],
        "partition": {
            "columns": file.columns,
            "start_columns": list(file.partition.start_columns),
            "operations_per_cycle": file.partition.operations_per_cycle,
        },
        "pdis": [
            {
                "bytes": len(image.pdi),
                "sha256": hashlib.sha256(image.pdi).hexdigest(),
                "groups": [{"name": g.name, "type": g.type, "kernel_ids": list(g.kernel_ids)} for g in image.groups],
                **_pdi(image.pdi),
            }
            for image in file.pdis
        ],
    }  # fmt: skip


def _kernel(file: xclbin.Xclbin, kernel: xclbin.KernelEntry) -> dict[str, Any]:
    assert kernel.description is not None
    instance = f"{kernel.name}:{kernel.instance}"
    index = next((i for i, entry in enumerate(file.instances) if entry.name == instance), None)
    banks = {c.argument: c.memory for c in file.connections if c.instance == index}
    arguments = []
    for number, argument in enumerate(kernel.description.arguments):
        bank = banks.get(number)
        known = bank is not None and 0 <= bank < len(file.memories)
        arguments.append(
            {
                "name": argument.name,
                "type": argument.type,
                "pointer": argument.pointer,
                "offset": argument.offset,
                "bytes": argument.size,
                "memory": file.memories[bank].tag if bank is not None and known else None,
            }
        )
    return {
        "name": kernel.name,
        "instance": kernel.instance,
        "id": kernel.kernel_id,
        "functional": kernel.description.functional,
        "arguments": arguments,
        "npua": _npua(kernel.npua) if kernel.npua else None,
    }


def _pdi(data: bytes) -> dict[str, Any]:
    """image_name, transformed, missing_bytes, generation (of the programs), commands, tiles."""
    file = pdi.read_pdi(data)
    about = {"image_name": file.image_name, "transformed": file.transformed, "missing_bytes": file.missing}
    return {**about, "generation": str(_generation(data)), **summarise(file.commands)}


def _generation(data: bytes) -> Generation:
    """For which generation the programs of a file were made; npu1 where there is none."""
    found = other_generation(read_programs(data))
    return NPU1 if found is None else found[1]


def _cdo(data: bytes) -> dict[str, Any]:
    """commands, tiles."""
    return summarise(cdo.read_cdo(data))


def _operation(operation: txn.Operation) -> dict[str, Any]:
    """An operation's fields; addresses also by register name."""
    fields = {name: getattr(operation, name) for name in operation.__dataclass_fields__}
    values: dict[str, Any] = {k: v.hex() if isinstance(v, bytes) else v for k, v in fields.items()}
    if "words" in values:
        values["words"] = list(values["words"])
    if "address" in values and not isinstance(operation, txn.LoadPdi):
        values["register"] = register_name(values["address"])
    return {"operation": type(operation).__name__, **values}


def _sequence(operations: Sequence[txn.Operation]) -> dict[str, Any]:
    kinds = Counter(type(operation).__name__ for operation in operations)
    return {"counts": dict(sorted(kinds.items())), "operations": [_operation(o) for o in operations]}


def _txn(data: bytes) -> dict[str, Any]:
    """version, generation (of its header), device (which that means), columns, rows, counts, operations."""
    return _stream(txn.read_txn(data))


def _stream(file: txn.Txn) -> dict[str, Any]:
    device = str(BY_TXN_CODE.get(file.generation, "unknown"))
    about = {"version": "{}.{}".format(*file.version), "generation": file.generation, "device": device}
    about |= {"columns": file.columns, "rows": file.rows}
    return {**about, **_sequence(file.operations)}


def _words(data: bytes) -> dict[str, Any]:
    """A runtime sequence as text: words, form ('TXN' or 'older'; a TXN also what _txn says), counts, operations."""
    words = legacy_sequence.words_of_text(data)
    stream = pack_words(words)
    if txn.is_txn(stream):
        return {"words": len(words), "form": "TXN", **_txn(stream)}
    return {"words": len(words), "form": "older", **_sequence(legacy_sequence.read_legacy_sequence(words))}


def _npua(data: bytes) -> dict[str, Any]:
    """version; 1: instructions, runs_on_hardware; 2: metadata, control, programs, pdi_sha256, pdi, source (or null)."""
    if npua.is_version_1(data):
        listed = [
            {
                "operation": i.operation,
                "opcode": i.opcode,
                "source1": i.source1,
                "source2": i.source2,
                "destination": i.destination,
                "immediate": i.immediate,
            }
            for i in npua.read_npua_v1(data).instructions
        ]
        return {"version": 1, "runs_on_hardware": False, "instructions": listed}
    file = npua.read_npua(data)
    patches = [{"word": p.word, "expression": p.expression} for p in file.control.patches]
    return {
        "version": 2,
        "metadata": file.metadata,
        "control": {"columns": file.control.columns, "patches": patches, **_sequence(file.control.operations)},
        "programs": [
            {
                "tile": f"core({p.column},{p.row})",
                "program_bytes": p.program_bytes,
                "symbols": [{"address": address, "name": name} for address, name in p.symbols],
                "lines": len(p.lines),
            }
            for p in file.programs
        ],
        "pdi_sha256": file.pdi_sha256.hex(),
        "pdi": None if file.pdi is None else {"bytes": len(file.pdi), **_pdi(file.pdi)},
        "source": None if file.source is None else {"bytes": len(file.source.encode()), "text": file.source},
    }


def _elf(data: bytes) -> dict[str, Any]:
    """generation, entry, program_bytes, data, symbols (of another generation's: no data, no symbols)."""
    generation = elf_generation(elf.read_sections(data)[0]["flags"])
    if generation is not NPU1:
        programs = read_programs(data)
        size, entry = sum(len(program.code) for program in programs), programs[0].entry if programs else 0
        return {"generation": str(generation), "entry": entry, "program_bytes": size, "data": [], "symbols": []}
    image = elf.read_elf(data)
    return {
        "generation": str(generation),
        "entry": image.entry,
        "program_bytes": len(image.program),
        "data": [{"address": s.address, "bytes": len(s.data)} for s in image.data],
        "symbols": [{"address": s.address, "name": s.name, "bytes": s.size, "kind": s.kind} for s in image.symbols],
    }


def _control_code(data: bytes) -> dict[str, Any]:
    """platform, sections, symbols, relocations, stream (what _txn says of it, relocations applied; else its reason)."""
    stream = control_code_stream(data)
    return {**control_code_elf(data), "stream": {"reason": stream} if isinstance(stream, str) else _stream(stream)}


def _archive(data: bytes) -> dict[str, Any]:
    """members: name, offset, bytes, format, and what that format has; members that cannot be read have a reason."""
    return {"members": [_member(member) for member in archive.read_archive(data)]}


def _member(member: archive.Member) -> dict[str, Any]:
    about = {"name": member.name, "offset": member.offset, "bytes": len(member.data)}
    try:
        kind = detect(member.data)
        if kind == "archive":
            return {**about, "format": kind}
        return {**about, "format": kind, **_DESCRIBERS[kind](member.data)}
    except InputError as error:
        return {**about, "format": None, "reason": error.message}


_DESCRIBERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "xclbin": _xclbin, "elf": _elf, "pdi": _pdi, "npua": _npua, "cdo": _cdo, "txn": _txn, "sequence": _words,
    "control-code": _control_code, "other-elf": other_elf, "archive": _archive,
}  # fmt: skip
