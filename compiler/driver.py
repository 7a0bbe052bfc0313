"""One compilation from source to files: frontend, pipeline, stages, dumps, cache."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npuc.compiler import cache
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.files import read_bytes, write_bytes
from npuc.passes.options import Options

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention
    from npuc.passes.pipeline import CompiledKernel

STAGES = ("attn", "plan", "asm", "elf", "txn", "npua", "pdi", "xclbin")
TEXT_STAGES = ("attn", "plan", "asm")
TARGETS = ("npu1",)

# Name of each stage's file in a result; `elf/` stands for a folder. plan.json is the plan for an OUT named *.json.
STAGE_FILES = {
    "attn": "attn.mlir",
    "plan": "plan.txt",
    "asm": "kernel.s",
    "elf": "elf/",
    "txn": "kernel.txn",
    "npua": "kernel.npua",
    "pdi": "kernel.pdi",
    "xclbin": "kernel.xclbin",
}
STAGE_OF_SUFFIX = {
    ".attn": "attn",
    ".mlir": "attn",
    ".plan": "plan",
    ".json": "plan",
    ".s": "asm",
    ".asm": "asm",
    ".elf": "elf",
    ".txn": "txn",
    ".npua": "npua",
    ".pdi": "pdi",
    ".xclbin": "xclbin",
}


@dataclass(frozen=True)
class Settings:
    """What one compilation is asked for. print_ir_after: a pass's name, or 'all'; its text goes to `show_ir`."""

    target: str = "npu1"
    function: str | None = None
    columns: int | None = None
    precision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    dump_folder: str | None = None
    print_ir_after: str | None = None
    show_ir: Callable[[str, str], None] | None = None

    def key(self) -> dict[str, Any]:
        """The part that the result depends on."""
        return {
            "target": self.target,
            "function": self.function,
            "columns": self.columns,
            "precision": self.precision,
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Compiled:
    """A result: files by name (STAGE_FILES), summary as `compile --json` reports it, seconds it took."""

    files: Mapping[str, bytes]
    summary: Mapping[str, Any]
    seconds: float
    cached: bool

    @property
    def xclbin(self) -> bytes:
        return self.files[STAGE_FILES["xclbin"]]

    def stage(self, stage: str) -> bytes:
        """The bytes of a stage that is one file."""
        return self.files[STAGE_FILES[stage]]

    def elfs(self) -> dict[str, bytes]:
        """The core programs: core_COL_ROW.elf -> bytes."""
        prefix = STAGE_FILES["elf"]
        return {name.removeprefix(prefix): data for name, data in self.files.items() if name.startswith(prefix)}


def compile_file(path: str, settings: Settings = Settings()) -> Compiled:  # noqa: B008 (frozen)
    """Compile a file of MLIR (`-`: standard input). Raises InputError, UsageError, ResourceError."""
    return compile_bytes(read_bytes(path), path, settings)


def compile_bytes(data: bytes, path: str, settings: Settings = Settings()) -> Compiled:  # noqa: B008
    """Compile the contents of a file that was read already."""
    file = "<stdin>" if path == "-" else path
    return compile_source(_text(data, file), file, settings)


def compile_source(text: str, file: str = "<string>", settings: Settings = Settings()) -> Compiled:  # noqa: B008
    """Compile MLIR text; `file` names it in messages only."""
    try:
        return _cached({"source": text}, settings, lambda: _recognise(text, file, settings.function))
    except InputError as error:
        if error.place is not None:
            raise
        raise type(error)(error.message, place=file, remedy=error.remedy) from error


def compile_description(attention: Attention, settings: Settings = Settings()) -> Compiled:  # noqa: B008
    """Compile an attention that is already recognised or was described in Python."""
    return _cached({"attention": attention.to_json()}, settings, lambda: attention)


def _text(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"{file}:{data.count(10, 0, error.start) + 1}"
        raise InputError("is not text", place=place, remedy="MLIR text is expected") from error


def _recognise(text: str, file: str, function: str | None) -> Attention:
    from npuc.compiler import frontend

    (attention,) = frontend.load(text, file, function)
    return attention


def _cached(source: dict[str, Any], settings: Settings, recognise: Callable[[], Attention]) -> Compiled:
    begin = time.perf_counter()
    key = cache.cache_key({**source, **settings.key()})
    # Dumps and printed passes come from a compilation that really happens.
    wants_passes = bool(settings.dump_folder or settings.print_ir_after)
    entry = cache.read(key) if settings.use_cache and not wants_passes else None
    cached = entry is not None
    if entry is None:
        entry = _compile(recognise(), settings)
        if settings.use_cache:
            cache.write(key, entry)
    return Compiled(entry.files, entry.summary, time.perf_counter() - begin, cached)


def _compile(attention: Attention, settings: Settings) -> cache.Entry:
    from npuc.passes.pipeline import PIPELINE, compile_attention

    if settings.target not in TARGETS:
        raise UsageError(f"target {settings.target!r} is unknown", remedy=f"one of {', '.join(TARGETS)}")
    known = ("all", *(step.name for step in PIPELINE))
    wanted = settings.print_ir_after
    if wanted is not None and wanted not in known:
        raise UsageError(f"there is no pass {wanted!r} to print after", remedy=f"one of {', '.join(known)}")
    passes: list[tuple[str, str]] = []

    def after_pass(name: str, text: str) -> None:
        passes.append((name, text))
        if settings.show_ir is not None and wanted in ("all", name):
            settings.show_ir(name, text)

    watch = settings.dump_folder or wanted
    options = Options(
        columns=settings.columns,
        precision=settings.precision,
        options=dict(settings.options),
        print_ir_after=after_pass if watch else None,
    )
    kernel = compile_attention(attention, options)
    entry = cache.Entry(_files(kernel), _summary(kernel))
    if settings.dump_folder:
        _dump(settings.dump_folder, entry, passes)
    return entry


def _files(kernel: CompiledKernel) -> dict[str, bytes]:
    from npuc.compiler.frontend.print_attn import to_attn_module

    listing = ".exact\n" + "".join(
        f"\n.core {column}, {row}\n.text\n{program.listing}"
        for (column, row), program in sorted(kernel.programs.items())
    )
    files = {
        "attn.mlir": to_attn_module(kernel.attention).encode(),
        "plan.txt": (kernel.plan.describe().rstrip() + "\n").encode(),
        "plan.json": (json.dumps(kernel.plan.to_json(), indent=2, sort_keys=True) + "\n").encode(),
        "kernel.s": listing.encode(),
        "kernel.cdo": bytes(kernel.cdo),
        "kernel.pdi": bytes(kernel.pdi),
        "kernel.txn": bytes(kernel.control.instantiate({})),
        "kernel.npua": bytes(kernel.npua),
        "kernel.xclbin": bytes(kernel.xclbin),
    }
    for (column, row), elf in sorted(kernel.elfs.items()):
        files[f"elf/core_{column}_{row}.elf"] = bytes(elf)
    return files


def _summary(kernel: CompiledKernel) -> dict[str, Any]:
    metadata = kernel.metadata
    keys = ("name", "dtype", "shape", "direction")
    return {
        "kernels": [
            {
                "name": metadata["kernel"],
                "args": [{key: argument[key] for key in keys} for argument in metadata["arguments"]],
                "attention": metadata["attention"],
            }
        ],
        "cores": len(kernel.programs),
        "program_bytes_max": max(len(program.code) for program in kernel.programs.values()),
        "plan": kernel.plan.to_json(),
    }


def _dump(folder: str, entry: cache.Entry, passes: Sequence[tuple[str, str]]) -> None:
    files = {name.removeprefix("elf/"): data for name, data in entry.files.items()}
    for number, (name, text) in enumerate(passes):
        files[f"{number:02}_{name.replace(os.sep, '_')}.txt"] = text.encode()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder: {error.strerror}", place=folder) from error
    for name, data in files.items():
        write_bytes(os.path.join(folder, name), data)
