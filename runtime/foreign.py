"""Kernels that other tools made: an xclbin or a PDI with its own runtime sequence, on the emulator.

The sequence is a TXN stream, a control-code ELF or the older form, in binary or as text of one hexadecimal word a line
(facts/platform/txn.md, facts/platform/legacy_sequence.md).  Buffer arguments are called bo0, bo1, ... in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npuc.compiler.asm.generation import require_npu1
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.emit import cdo, control_code, legacy_sequence, pdi, txn
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, read_xclbin
from npuc.compiler.formats import detect, title
from npuc.compiler.git_lfs import refuse_pointer
from npuc.compiler.target.generations import BY_TXN_CODE, COLUMNS, NPU1, NPU2
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.backends import BackendSettings

if TYPE_CHECKING:
    from npuc.runtime.statistics import RunReport

LAST_BUFFER = 99  # names have two digits; drivers take 7 buffers
_PRINTABLE = bytes(range(32, 127)) + b"\t\r\n"


@dataclass(frozen=True)
class RuntimeSequence:
    """The operations of a sequence, whichever form it had.  warnings: what is odd about its header."""

    operations: tuple[txn.Operation, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ForeignKernel:
    """An array image, and the operations that drive it; columns: of the partition."""

    name: str
    columns: int
    pdi: bytes
    operations: tuple[txn.Operation, ...]
    warnings: tuple[str, ...] = ()

    @property
    def buffers(self) -> tuple[int, ...]:
        """Numbers of the buffer arguments that the sequence uses."""
        return tuple(sorted({o.argument for o in self.operations if isinstance(o, txn.DdrPatch)}))


def read_foreign(
    data: bytes, sequence: bytes, *, file: str = "<bytes>", insts: str = "<sequence>", name: str | None = None
) -> ForeignKernel:
    """The array image of an xclbin or a PDI, and its sequence.

    name: which kernel of the xclbin (None: the only one with an array image).  InputError for malformed files, for
    another generation's and for a sequence in the form that the kernel does not take, UsageError for a name.
    """
    try:
        entry, columns, image = _image(data, file, name)
        require_npu1(read_programs(image))
    except (InputError, UsageError) as error:
        raise type(error)(error.message, place=error.place or file, remedy=error.remedy) from error
    try:
        read = read_sequence(sequence, entry)
        last = max((o.argument for o in read.operations if isinstance(o, txn.DdrPatch)), default=0)
        if last > LAST_BUFFER:
            raise InputError(f"the sequence names buffer argument {last}, bo{LAST_BUFFER} is the last there can be")
    except InputError as error:
        raise InputError(error.message, place=error.place or insts, remedy=error.remedy) from error
    label = entry.name if entry is not None else Path(file).stem
    return ForeignKernel(label, columns, image, read.operations, read.warnings)


def _image(data: bytes, file: str, name: str | None) -> tuple[KernelEntry | None, int, bytes]:
    """The kernel (of a lone PDI: None), the columns of its partition, and its PDI."""
    if pdi.is_pdi(data):
        if name is not None:
            raise UsageError(f"--kernel {name}: a PDI names no kernels")
        return None, _columns_of(data), data
    xclbin = read_xclbin(data)
    entry = _choose(xclbin, name)
    if xclbin.columns > geometry.COLUMNS_PHYSICAL:
        raise InputError(_too_wide(f"its partition has {xclbin.columns} columns"))
    return entry, xclbin.columns, xclbin.pdi_of(entry)


def _columns_of(image: bytes) -> int:
    """Columns of the smallest partition in which all that a PDI writes lies."""
    written = [c.address for c in pdi.read_pdi(image).commands if not isinstance(c, cdo.Nop)]
    columns = 1 + max((geometry.split_address(address)[0] for address in written), default=0)
    if columns > geometry.COLUMNS_PHYSICAL:
        raise InputError(_too_wide(f"it configures column {columns - 1}"))
    return columns


def _too_wide(what: str) -> str:
    others = ", ".join(f"{name} has {count}" for name, count in COLUMNS.items() if name != NPU1.name)
    return f"{what}, npu1 has {geometry.COLUMNS_PHYSICAL} ({others})"


def _choose(xclbin: Xclbin, name: str | None) -> KernelEntry:
    served = {number for image in xclbin.pdis for number in image.kernel_ids}
    entries = [entry for entry in xclbin.kernels if entry.kernel_id in served]
    names = ", ".join(entry.name for entry in entries)
    if not entries:
        raise InputError("no kernel of the file has an array image")
    if name is None and len(entries) > 1:
        raise UsageError(f"{len(entries)} kernels: {names}", remedy="choose one with --kernel")
    for entry in entries:
        if name in (None, entry.name, entry.instance, f"{entry.name}:{entry.instance}"):
            return entry
    raise UsageError(f"no kernel {name!r}", remedy=f"there is {names}")


def read_sequence(data: bytes, entry: KernelEntry | None = None) -> RuntimeSequence:
    """A sequence in any of its forms.  entry: the kernel, which says which form it takes.

    InputError for what is malformed, for the form that the kernel does not take and for another generation's.
    """
    functional = entry.description.functional if entry is not None and entry.description is not None else None
    name = entry.name if entry is not None else ""
    _refuse_other_files(data)
    if control_code.is_control_code(data):
        stream: txn.Txn | None = control_code.read_control_code(data)
    else:
        text = not data.translate(None, _PRINTABLE)
        binary = pack_words(legacy_sequence.words_of_text(data)) if text else data
        stream = txn.read_txn(binary) if txn.is_txn(binary) else None
    if stream is not None:
        if functional:
            raise InputError(f"a TXN stream; kernel {name} takes the older form (functional 1)")
        return RuntimeSequence(stream.operations, _about_header(stream))
    operations = legacy_sequence.read_legacy_bytes(binary)
    if functional == 0:
        raise InputError(f"the older form; kernel {name} takes TXN (functional 0)")
    return RuntimeSequence(operations)


def _refuse_other_files(data: bytes) -> None:
    """InputError for what holds no sequence, by its format; the binary of the older form has none."""
    refuse_pointer(data)
    if not data.strip():
        raise InputError("is empty")
    try:
        kind = detect(data)
    except InputError:
        return
    if kind not in ("txn", "sequence", "control-code"):
        raise InputError(f"{title(kind)} is no runtime sequence")


def _about_header(stream: txn.Txn) -> tuple[str, ...]:
    """What is odd about the generation in a header; InputError for a stream of another generation.

    AMD's control code for npu1 carries npu2's code (facts/platform/txn.md), so that code alone is a warning.
    """
    generation = BY_TXN_CODE.get(stream.generation)
    who = f"the header says generation {stream.generation}"
    device = f"{NPU1} is {geometry.DEVICE_GENERATION}"
    if generation is None:
        raise InputError(f"{who}, which is unknown; {device}")
    if generation not in (NPU1, NPU2):
        raise InputError(f"{who}, {generation}; {device}")
    if stream.columns > geometry.COLUMNS_PHYSICAL:
        raise InputError(_too_wide(f"{who}, {generation}, and {stream.columns} columns"))
    if stream.rows != geometry.ROWS:
        raise InputError(f"{who}, {generation}, and {stream.rows} rows; {NPU1} has {geometry.ROWS}")
    if generation is NPU1:
        return ()
    return (f"the sequence's {who.removeprefix('the ')}, {generation}, as does AMD's control code for npu1; {device}",)


# --- buffers ------------------------------------------------------------------------------------------------------
def buffer_index(name: str, option: str) -> int:
    """The number in bo0, bo1, ...; UsageError for another name."""
    match = re.fullmatch(r"bo(\d{1,2})", name)
    if match is None:
        raise UsageError(f"{option} {name}=...: with --insts buffers are called bo0, bo1, ...")
    return int(match.group(1))


def make_buffers(
    used: Sequence[int], arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int], outputs: Sequence[str]
) -> list[bytearray]:
    """Buffers 0.. as the options give them; UsageError when one is missing, doubled or unknown.

    used: numbers of those that the sequence uses; one that nothing gives is an error, since it would read address 0.
    """
    given: dict[int, bytearray] = {}
    for name, array in arrays.items():
        given[buffer_index(name, "--input")] = bytearray(np.ascontiguousarray(array).tobytes())
    for name, size in sizes.items():
        index = buffer_index(name, "--alloc")
        if index in given:
            raise UsageError(f"buffer {name} is given by --input and --alloc")
        given[index] = bytearray(size)
    for name in outputs:
        if buffer_index(name, "--output") not in given:
            raise UsageError(f"--output {name}: there is no such buffer", remedy=f"add --alloc {name}=BYTES")
    missing = [f"bo{index}" for index in used if index not in given]
    if missing:
        raise UsageError(
            f"the sequence uses buffer {', '.join(missing)}, which nothing gives",
            remedy=f"add --input {missing[0]}=X.npy or --alloc {missing[0]}=BYTES",
        )
    return [given.get(index, bytearray()) for index in range(1 + max(given, default=-1))]


# --- running ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ForeignSummary:
    """One run.  outputs: uint8 arrays by buffer name; files: where they were written."""

    kernel: str
    report: RunReport
    outputs: Mapping[str, np.ndarray]
    files: Mapping[str, str]

    @property
    def warnings(self) -> Sequence[str]:
        return self.report.warnings

    def to_json(self) -> dict[str, Any]:
        """The fields of `run --json`; null where a foreign kernel has no such figure."""
        report = self.report
        return {
            "kernel": self.kernel,
            "backend": report.backend,
            "emulated": report.emulated,
            "outputs": {
                name: {"shape": list(array.shape), "dtype": str(array.dtype), "file": self.files.get(name)}
                for name, array in self.outputs.items()
            },
            "cycles": report.cycles,
            "clock_hz": report.clock_hz,
            "seconds": report.seconds,
            "bundles": report.bundles,
            "macs": None,
            "utilization": None,
            "energy": None,
            "cores": [asdict(core) for core in report.cores],
            "dma": list(report.dma),
            "check": None,
            "warnings": list(report.warnings),
        }

    def text(self) -> str:
        """A few lines for a terminal."""
        from npuc.runtime.summary import milliseconds

        report = self.report
        assert report.clock_hz is not None
        lines = [
            f"kernel       {self.kernel} (with its own runtime sequence)",
            f"backend      {report.backend} (emulated)",
        ]
        lines += [
            f"cycles       {report.cycles:,} (emulated)",
            f"time         {milliseconds(report.seconds)} at {report.clock_hz / 1e9:g} GHz (emulated)",
        ]
        lines += [f"written      {name} to {file}" for name, file in self.files.items()]
        return "\n".join(lines) + "\n"


def run_foreign(kernel: ForeignKernel, buffers: Sequence[bytearray], settings: BackendSettings) -> RunReport:
    """Run once on a fresh array; `buffers` hold the results.  BackendError for what the design does wrong."""
    from npuc.runtime.backends.emulator import Emulation
    from npuc.runtime.emulator.errors import CycleLimit, EmulationError
    from npuc.runtime.trace_names import Names

    try:
        report = Emulation(kernel.pdi, kernel.columns, settings, Names(kernel.name)).run(kernel.operations, buffers)
    except (EmulationError, CycleLimit) as error:
        error.details = [*error.details, *kernel.warnings]
        raise
    return replace(report, warnings=(*kernel.warnings, *report.warnings))
