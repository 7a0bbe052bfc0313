"""One compilation from source to files: frontend, pipeline, stages, dumps, cache."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from npuc.compiler import cache
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.files import read_bytes
from npuc.compiler.interface import LONGEST_NAME, argument_records, kernel_name
from npuc.compiler.outputs import write_folder
from npuc.compiler.uncollected import uncollected
from npuc.passes.options import Options
from npuc.passes.several_kernels import joined_files, joined_summary

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention
    from npuc.passes.pipeline import CompiledKernel

FRONTEND_PASSES = ("legalise", "raise")
STAGES = ("attn", "host", "plan", "asm", "elf", "txn", "npua", "pdi", "xclbin")
TEXT_STAGES = ("attn", "host", "plan", "asm")
TARGETS = ("npu1",)

# Name of each stage's file in a result; `elf/` stands for a folder. plan.json is the plan for an OUT named *.json.
STAGE_FILES = {
    "attn": "attn.mlir",
    "host": "host.mlir",
    "plan": "plan.txt",
    "asm": "kernel.s",
    "elf": "elf/",
    "txn": "kernel.txn",
    "npua": "kernel.npua",
    "pdi": "kernel.pdi",
    "xclbin": "kernel.xclbin",
}
AfterPass: TypeAlias = "Callable[[str, str], None]"
Recognise: TypeAlias = "Callable[[AfterPass | None], Found]"
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


# The last pass of the pipeline that a stage needs, where that is not all of it; None: recognition is enough.
LAST_PASS: Mapping[str, str | None] = {"attn": None, "host": None, "plan": "plan"}


class Found(NamedTuple):
    """The attentions of a source, and what gives its module with calls of kernels, by name, in their place."""

    attentions: tuple[Attention, ...]
    host: Callable[[Sequence[str]], str] | None = None


class HostModule(NamedTuple):
    """text: of a module with calls of kernels where its attentions were, which @function does among other things."""

    text: str
    function: str


@dataclass(frozen=True)
class Settings:
    """What one compilation is asked for.

    stage: the compilation ends when its files are made.  kernel: the only one wanted, of several.
    inputs: files that a dump must not overwrite.
    print_ir_after: a pass's name, or 'all'; its text goes to `show_ir`.
    """

    stage: str = "xclbin"
    target: str = "npu1"
    function: str | None = None
    kernel: str | None = None
    columns: int | None = None
    precision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    dump_folder: str | None = None
    inputs: tuple[str, ...] = ()
    print_ir_after: str | None = None
    show_ir: Callable[[str, str], None] | None = None

    def key(self) -> dict[str, Any]:
        """The part that the result depends on."""
        return {
            "until": "host" if self.stage == "host" else LAST_PASS.get(self.stage, "xclbin"),
            "target": self.target,
            "function": self.function,
            "kernel": self.kernel,
            "columns": self.columns,
            "precision": self.precision,
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class Compiled:
    """A result: files by name (STAGE_FILES), summary as `compile --json` reports it, seconds it took."""

    files: Mapping[str, bytes] = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)
    seconds: float
    cached: bool

    @property
    def xclbin(self) -> bytes:
        return self.files[STAGE_FILES["xclbin"]]

    @property
    def host(self) -> HostModule | None:
        """What stays on the host of a function that does more than attention."""
        within = self.summary["kernels"][0]["attention"].get("within")
        return None if within is None else HostModule(self.stage("host").decode(), within)

    @property
    def kernel_names(self) -> list[str]:
        return [kernel["name"] for kernel in self.summary["kernels"]]

    def stage(self, stage: str) -> bytes:
        """The bytes of a stage that is one file. Raises UsageError for one that several kernels have each."""
        if STAGE_FILES[stage] not in self.files:
            raise self._several(stage)
        return self.files[STAGE_FILES[stage]]

    def _several(self, stage: str) -> UsageError:
        names = self.kernel_names
        remedy = "choose one with --kernel, or compile to an xclbin, which holds all"
        return UsageError(f"{len(names)} kernels have a {stage} each: {', '.join(names)}", remedy=remedy)

    def elfs(self) -> dict[str, bytes]:
        """The core programs: core_COL_ROW.elf -> bytes. Raises UsageError as `stage`."""
        if len(self.kernel_names) > 1:
            raise self._several("elf")
        prefix = STAGE_FILES["elf"]
        return {name.removeprefix(prefix): data for name, data in self.files.items() if name.startswith(prefix)}


def compile_file(path: str, settings: Settings = Settings()) -> Compiled:  # noqa: B008 (frozen)
    """Compile a file of MLIR (`-`: standard input). Raises InputError, UsageError, ResourceError."""
    return compile_bytes(read_bytes(path), path, settings)


def compile_bytes(data: bytes, path: str, settings: Settings = Settings()) -> Compiled:  # noqa: B008
    """Compile the contents of a file that was read already."""
    file = "<stdin>" if path == "-" else path
    return compile_source(text_of(data, file), file, settings)


def compile_source(text: str, file: str = "<string>", settings: Settings = Settings()) -> Compiled:  # noqa: B008
    """Compile MLIR text; `file` names it in messages only."""
    try:
        return _cached({}, settings, lambda after: _recognise(text, file, settings.function, after), text)
    except InputError as error:
        if error.place is not None:
            raise
        raise type(error)(error.message, place=file, remedy=error.remedy) from error


def recognise_alone(data: bytes, path: str, function: str | None = None) -> Attention:
    """The only attention of a file of MLIR, which is its whole function. Raises InputError where it is not."""
    found = recognise_bytes(data, path, function)
    if isinstance(found, HostModule):
        raise InputError(f"@{found.function} does more than attention", place=path, remedy="give attention alone")
    return found


def keep_tuned(data: bytes, path: str, settings: Settings, chosen: Settings, about: Mapping[str, Any]) -> bool:
    """Compile with the chosen columns and options, and keep the result as what `settings` compile to from now on.

    about: how it was found, which the summary then tells as `tuned`. A compilation without cache does not see it.
    Whether the cache has taken it.
    """
    text = text_of(data, path)
    compiled = compile_source(text, path, chosen)
    summary = {**compiled.summary, "tuned": dict(about)}
    key = _key({}, settings, text)
    cache.write(key, cache.Entry(compiled.files, summary))
    return cache.read(key) is not None


def recognise_bytes(data: bytes, path: str, function: str | None = None) -> Attention | HostModule:
    """The attention that the contents of a file of MLIR describe, whether kernels compute it or not; of a function that
    does more, its module with calls of kernels."""
    file = "<stdin>" if path == "-" else path
    found = _recognise(text_of(data, file), file, function)
    first = found.attentions[0]
    return first if first.within is None else HostModule(_host(found), first.within)


def compile_description(
    attention: Attention,
    settings: Settings = Settings(),
    source: str | None = None,  # noqa: B008
) -> Compiled:
    """Compile an attention that is already recognised (in `source`) or was described in Python."""
    return _cached({"attention": attention.to_json()}, settings, lambda _: Found((attention,)), source)


def text_of(data: bytes, file: str) -> str:
    """MLIR text, of what may be compressed or bytecode: both begin with bytes that are no UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        from npuc.compiler.frontend.source_text import source_text

        return source_text(data, file)


def _recognise(text: str, file: str, function: str | None, after: AfterPass | None = None) -> Found:
    from npuc.compiler import frontend

    recognised = frontend.recognise(text, file, function, after)
    return Found(recognised.attentions, recognised.host)


def _host(found: Found) -> str:
    """The module that the attentions are in, with calls of their kernels. Once: it changes the module."""
    assert found.host is not None
    names = {id(attention): name for name, alike in _kernels(found.attentions).items() for attention in alike}
    return found.host([names[id(attention)] for attention in found.attentions])


def _kernels(attentions: Sequence[Attention]) -> dict[str, list[Attention]]:
    """Kernels by name, with the attentions that each computes; it is compiled for the first."""
    from npuc.passes.attention.image_class import image_class

    classes: dict[Any, list[Attention]] = {}
    for attention in attentions:
        classes.setdefault(image_class(attention), []).append(attention)
    kernels: dict[str, list[Attention]] = {}
    for number, alike in enumerate(classes.values()):
        name, ending = kernel_name(alike[0].function), f"_{number}"
        kernels[name if name not in kernels else name[: LONGEST_NAME - len(ending)] + ending] = alike
    return kernels


def _key(about: Mapping[str, Any], settings: Settings, source: str | None) -> str:
    """Of a compilation in the cache."""
    return cache.cache_key({**about, "source": source, **settings.key()})


def _cached(
    about: dict[str, Any],
    settings: Settings,
    recognise: Recognise,
    source: str | None,
) -> Compiled:
    begin = time.perf_counter()
    key = _key(about, settings, source)
    # Dumps and printed passes come from a compilation that really happens.
    wants_passes = bool(settings.dump_folder or settings.print_ir_after)
    entry = cache.read(key) if settings.use_cache and not wants_passes else None
    cached = entry is not None
    if entry is None:
        entry = _compile(recognise, settings, source)
        if settings.use_cache:
            cache.write(key, entry)
    return Compiled(entry.files, entry.summary, time.perf_counter() - begin, cached)


def _compile(recognise: Recognise, settings: Settings, source: str | None) -> cache.Entry:
    if settings.target not in TARGETS:
        raise UsageError(f"target {settings.target!r} is unknown", remedy=f"one of {', '.join(TARGETS)}")
    wanted = settings.print_ir_after
    if wanted is not None:
        _require_pass(wanted)
    passes: list[tuple[str, str]] = []

    def after_pass(name: str, text: str) -> None:
        passes.append((name, text))
        if settings.show_ir is not None and wanted in ("all", name):
            settings.show_ir(name, text)

    watch = after_pass if settings.dump_folder or wanted else None
    with uncollected():
        entry = _entry(recognise(watch), settings, watch, source)
    if settings.dump_folder:
        _dump(settings.dump_folder, entry, passes, settings.inputs)
    return entry


def _entry(found: Found, settings: Settings, watch: AfterPass | None, source: str | None) -> cache.Entry:
    """All that a compilation makes of what was recognised or described."""
    from npuc.passes.pipeline import compile_attention

    until = LAST_PASS.get(settings.stage, "xclbin")
    options = Options(settings.columns, settings.precision, dict(settings.options), watch)
    kinds = _kernels(found.attentions)
    if settings.kernel is not None and settings.kernel not in kinds:
        raise UsageError(f"no kernel {settings.kernel!r}", remedy=f"there is {', '.join(kinds)}")
    kernels = []
    for name in kinds if settings.kernel is None else [settings.kernel]:
        first = kinds[name][0]
        named = first if kernel_name(first.function) == name else replace(first, function=name)
        kernels.append(compile_attention(named, options, until, first.outlined or source))
    files = _files(kernels[0], until) if len(kernels) == 1 else joined_files(kernels, until)
    if settings.stage == "host" or found.attentions[0].within is not None:
        files["host.mlir"] = _host(found).encode()
    return cache.Entry(files, joined_summary([_summary(kernel, until) for kernel in kernels]))


def _require_pass(name: str) -> None:
    from npuc.passes.pipeline import PIPELINE

    known = ("all", *FRONTEND_PASSES, *(step.name for step in PIPELINE))
    if name not in known:
        raise UsageError(f"there is no pass {name!r} to print after", remedy=f"one of {', '.join(known)}")


def _files(kernel: CompiledKernel, until: str | None) -> dict[str, bytes]:
    """The files of a compilation that ended with the pass `until`."""
    from npuc.compiler.frontend.print_attn import to_attn_module

    files = {"attn.mlir": to_attn_module(kernel.attention).encode()}
    if until is not None:
        files["plan.txt"] = (kernel.plan.describe().rstrip() + "\n").encode()
        files["plan.json"] = (json.dumps(kernel.plan.to_json(), indent=2, sort_keys=True) + "\n").encode()
    return files | _binaries(kernel) if until == "xclbin" else files


def _binaries(kernel: CompiledKernel) -> dict[str, bytes]:
    listing = ".exact\n" + "".join(
        f"\n.core {column}, {row}\n.text\n{program.listing}"
        for (column, row), program in sorted(kernel.programs.items())
    )
    files = {
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


def _summary(kernel: CompiledKernel, until: str | None) -> dict[str, Any]:
    """What `compile --json` reports; null for what is not made yet."""
    from npuc.passes.attention.sequence import length_warnings

    keys = ("name", "dtype", "shape", "direction")
    arguments = [
        {**{key: record[key] for key in keys}, "shape": list(argument.source_shape)}
        for record, argument in zip(argument_records(kernel.attention), kernel.attention.arguments, strict=True)
    ]
    name = kernel_name(kernel.attention.function)
    whole = until == "xclbin"
    return {
        "kernels": [{"name": name, "args": arguments, "attention": kernel.attention.to_json()}],
        "cores": len(kernel.programs) if whole else None,
        "program_bytes_max": max(len(program.code) for program in kernel.programs.values()) if whole else None,
        "plan": None if until is None else kernel.plan.to_json(),
        "warnings": length_warnings(len(kernel.control.instantiate({}))) if whole else [],
    }


def _dump(folder: str, entry: cache.Entry, passes: Sequence[tuple[str, str]], inputs: Sequence[str]) -> None:
    files = {name.removeprefix("elf/"): data for name, data in entry.files.items()}
    for number, (name, text) in enumerate(passes):
        files[f"{number:02}_{name.replace(os.sep, '_')}.txt"] = text.encode()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder: {error.strerror}", place=folder) from error
    write_folder(folder, files, inputs)
