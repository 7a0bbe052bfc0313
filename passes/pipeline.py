"""The pipeline from a recognised attention to the bytes of its XCLBIN: PIPELINE below is its table of contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import npuc
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.emit import cdo, elf, npua, pdi, txn, xclbin
from npuc.compiler.emit.partition import Image
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.compiler.interface import INSTANCE, argument_records, kernel_name
from npuc.compiler.progress import long_work
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import configure
from npuc.passes.array.design import Place
from npuc.passes.attention import choose
from npuc.passes.attention import core as attention_kernel
from npuc.passes.attention.call import WORDS_REVISION, with_default_sizes
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.sequence import STYLES, sequence
from npuc.passes.attention.streams import make_design
from npuc.passes.attention.supported import check_supported
from npuc.passes.attention.transfers import whole_arguments
from npuc.passes.machine import codegen
from npuc.passes.machine.printer import format_program
from npuc.passes.options import Options

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

KERNEL_ID = 0x901  # what public tools give the first kernel (facts/platform/xclbin.md section 2)
OPTION_KEYS = (*choose.OPTION_KEYS, "sequence")


@dataclass
class CompiledKernel:
    """What the passes have made so far; complete when the pipeline is through.

    source: the text that was compiled, where there was one.  programs, elfs: (column, row) -> core program and its
    ELF.  commands: the register writes that cdo and pdi hold.
    """

    attention: Attention
    options: Options
    source: str | None = None
    plan: Plan = field(init=False)
    kernel: attention_kernel.KernelProgram = field(init=False)
    programs: dict[Place, codegen.CoreProgram] = field(init=False)
    elfs: dict[Place, bytes] = field(init=False)
    commands: Sequence[cdo.Command] = field(init=False)
    cdo: bytes = field(init=False)
    pdi: bytes = field(init=False)
    control: npua.ControlTemplate = field(init=False)
    metadata: dict[str, Any] = field(init=False)
    npua: bytes = field(init=False)
    xclbin: bytes = field(init=False)


@dataclass(frozen=True)
class Pass:
    """needs, makes: fields of CompiledKernel that run reads and adds.  show: the product as text, for
    --print-ir-after and dumps."""

    name: str
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    run: Callable[[CompiledKernel], None]
    show: Callable[[CompiledKernel], str]


def compile_attention(
    attention: Attention, options: Options, until: str | None = "xclbin", source: str | None = None
) -> CompiledKernel:
    """Run PIPELINE, up to and with the pass `until` (None: no pass); source: the text that the attention stands in.

    Raises UnsupportedError for what no kernel computes, UsageError for options no pass knows, ResourceError for what
    does not fit the array.
    """
    unknown = sorted(set(options.options) - set(OPTION_KEYS))
    if unknown:
        raise UsageError(f"option {unknown[0]!r} is unknown", remedy=f"there is {', '.join(OPTION_KEYS)}")
    style = options.options.get("sequence", STYLES[0])
    if style not in STYLES:
        raise UsageError(f"sequence={style}: possible are {', '.join(STYLES)}")
    if options.precision is not None:
        attention = replace(attention, precision=options.precision)
    kernel = CompiledKernel(attention, options, source)
    with long_work() as tell:
        for step in passes_until(until):
            if options.print_ir_after is None:
                tell(f"compiling: {step.name}")
            step.run(kernel)
            if options.print_ir_after is not None:
                options.print_ir_after(step.name, step.show(kernel))
    return kernel


def passes_until(name: str | None) -> tuple[Pass, ...]:
    """PIPELINE up to and with the pass of that name; nothing of it for None."""
    if name is None:
        return ()
    return PIPELINE[: 1 + [step.name for step in PIPELINE].index(name)]


def _supported(kernel: CompiledKernel) -> None:
    check_supported(kernel.attention)


def _plan(kernel: CompiledKernel) -> None:
    kernel.plan = choose.make_plan(kernel.attention, kernel.options)


def _kernel(kernel: CompiledKernel) -> None:
    kernel.kernel = attention_kernel.build(kernel.plan, kernel.attention.recipe, kernel.attention.softcap is not None)


def _codegen(kernel: CompiledKernel) -> None:
    """All cores run the same program: what differs between them comes through their streams."""
    program = codegen.generate(kernel.kernel.program)
    kernel.programs = {tile: program for tile in make_design(kernel.plan).tiles}


def _core_image(kernel: CompiledKernel, program: codegen.CoreProgram) -> elf.CoreImage:
    symbols = tuple(elf.Symbol(address=address, name=name) for address, name in program.symbols)
    data = tuple(elf.DataSegment(geometry.CORE_VIEW_OWN + offset, content) for offset, content in kernel.kernel.data)
    return elf.CoreImage(program.code, 0, symbols, data)


def _elf(kernel: CompiledKernel) -> None:
    written: dict[int, bytes] = {}  # one program in many tiles is written once
    kernel.elfs = {}
    for tile, program in kernel.programs.items():
        if id(program) not in written:
            written[id(program)] = elf.write_elf(_core_image(kernel, program))
        kernel.elfs[tile] = written[id(program)]


def _configure(kernel: CompiledKernel) -> None:
    images = {tile: elf.read_elf(data) for tile, data in kernel.elfs.items()}
    kernel.commands = configure(make_design(kernel.plan, images))
    kernel.cdo = cdo.write_cdo(kernel.commands)


def _pdi(kernel: CompiledKernel) -> None:
    kernel.pdi = pdi.write_pdi(kernel.commands)


def _sequence(kernel: CompiledKernel) -> None:
    numbers = {role: index for index, argument in enumerate(kernel.attention.arguments) for role in argument.roles}
    plan = kernel.plan
    known = with_default_sizes(kernel.attention)
    shape = None if known.mask is None else [int(size or 1) for size in known.argument("mask").shape]
    operands = whole_arguments(plan, plan.call, numbers, shape)
    stream = sequence(plan, plan.call, operands, kernel.options.options.get("sequence", STYLES[0]))
    kernel.control = npua.ControlTemplate(plan.columns, txn.read_txn(stream).operations)


def _metadata(kernel: CompiledKernel) -> None:
    attention = kernel.attention.to_json()
    source = json.dumps(attention, sort_keys=True, separators=(",", ":")).encode()
    kernel.metadata = {
        "kernel": kernel_name(kernel.attention.function),
        "arguments": argument_records(kernel.attention),
        "attention": attention,
        "plan": kernel.plan.to_json(),
        "sequence": kernel.options.options.get("sequence", STYLES[0]),
        "columns": kernel.plan.columns,
        "compiler_version": npuc.__version__,
        **({"words_revision": revision} if (revision := WORDS_REVISION[kernel.plan.precision]) > 1 else {}),
        "source_sha256": hashlib.sha256(source).hexdigest(),
    }


def _npua(kernel: CompiledKernel) -> None:
    programs = tuple(
        npua.ProgramSymbols(column, row, len(program.code), program.symbols, program.lines)
        for (column, row), program in sorted(kernel.programs.items())
    )
    digest = hashlib.sha256(kernel.pdi).digest()
    source = kernel.source if kernel.source is not None and npua.keeps_source(kernel.source) else None
    kernel.npua = npua.write_npua(npua.Npua(kernel.metadata, kernel.control, programs, digest, kernel.pdi, source))


def _xclbin(kernel: CompiledKernel) -> None:
    kernel.xclbin = joined_xclbin([kernel])


def joined_xclbin(kernels: Sequence[CompiledKernel]) -> bytes:
    """One xclbin of kernels that the pipeline is through with; the partition is as wide as the widest.

    An array image stands once, in the partition; its kernel's own section leaves it out.
    """
    entries, images = [], []
    for id_, kernel in enumerate(kernels, KERNEL_ID):
        embedded = npua.write_npua(replace(npua.read_npua(kernel.npua), pdi=None))
        names = tuple(argument["name"] for argument in kernel.metadata["arguments"])
        entries.append(xclbin.KernelEntry(kernel.metadata["kernel"], INSTANCE, id_, names, embedded))
        images.append(Image(kernel.pdi, (id_,)))
    columns = max(kernel.plan.columns for kernel in kernels)
    return xclbin.write_xclbin(xclbin.Xclbin(tuple(entries), columns, kernels[0].pdi, tuple(images)))


def _show_attention(kernel: CompiledKernel) -> str:
    return to_attn_module(kernel.attention)


def _show_listings(kernel: CompiledKernel) -> str:
    return "".join(f"// core {c},{r}\n{program.listing}" for (c, r), program in sorted(kernel.programs.items()))


def _show_elfs(kernel: CompiledKernel) -> str:
    return "".join(f"core {tile}: {len(elf):,} bytes\n" for tile, elf in sorted(kernel.elfs.items()))


def _show_metadata(kernel: CompiledKernel) -> str:
    return json.dumps(kernel.metadata, indent=2, sort_keys=True) + "\n"


def _show_commands(kernel: CompiledKernel) -> str:
    return "".join(f"{_short(command)}\n" for command in kernel.commands)


def _show_sequence(kernel: CompiledKernel) -> str:
    return "".join(f"{_short(operation)}\n" for operation in kernel.control.operations)


def _short(record: cdo.Command | txn.Operation) -> str:
    """A record on one line, numbers in hexadecimal, long blocks cut."""
    return f"{type(record).__name__} " + " ".join(_fields(record))


def _fields(record: cdo.Command | txn.Operation) -> Iterator[str]:
    for name in record.__dataclass_fields__:
        value = getattr(record, name)
        if isinstance(value, tuple):
            more = f" ... {len(value)} words" if len(value) > 8 else ""
            yield f"{name}=" + ",".join(f"{word:#x}" for word in value[:8]) + more
        else:
            yield f"{name}={value:#x}"


def _size(what: str) -> Callable[[CompiledKernel], str]:
    return lambda kernel: f"{what}: {len(getattr(kernel, what)):,} bytes\n"


PIPELINE: tuple[Pass, ...] = (
    Pass("supported", (), (), _supported, _show_attention),
    Pass("plan", (), ("plan",), _plan, lambda kernel: kernel.plan.describe()),
    Pass("kernel", ("plan",), ("kernel",), _kernel, lambda kernel: format_program(kernel.kernel.program)),
    Pass("codegen", ("plan", "kernel"), ("programs",), _codegen, _show_listings),
    Pass("elf", ("kernel", "programs"), ("elfs",), _elf, _show_elfs),
    Pass("configure", ("plan", "elfs"), ("commands", "cdo"), _configure, _show_commands),
    Pass("pdi", ("commands",), ("pdi",), _pdi, _size("pdi")),
    Pass("sequence", ("plan",), ("control",), _sequence, _show_sequence),
    Pass("metadata", ("plan",), ("metadata",), _metadata, _show_metadata),
    Pass("npua", ("programs", "pdi", "control", "metadata"), ("npua",), _npua, _size("npua")),
    Pass("xclbin", ("plan", "pdi", "metadata", "npua"), ("xclbin",), _xclbin, _size("xclbin")),
)
