"""Kernels that other tools made: an xclbin with its own runtime sequence, on the emulator.

The sequence is a TXN stream or the older form, in binary or as text of one hexadecimal word a line
(facts/platform/txn.md, facts/platform/legacy_sequence.md).  Buffer arguments are called bo0, bo1, ... in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.emit import legacy_sequence, txn
from npuc.compiler.emit.layout import pack_words
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, read_xclbin
from npuc.runtime.backends import BackendSettings

if TYPE_CHECKING:
    from npuc.runtime.statistics import RunReport

LAST_BUFFER = 99  # names have two digits; drivers take 7 buffers


@dataclass(frozen=True)
class ForeignKernel:
    """An array image, and the operations that drive it; columns: of the partition."""

    name: str
    columns: int
    pdi: bytes
    operations: tuple[txn.Operation, ...]

    @property
    def buffer_count(self) -> int:
        """Buffer arguments that the sequence names."""
        return 1 + max((o.argument for o in self.operations if isinstance(o, txn.DdrPatch)), default=-1)


def read_foreign(
    data: bytes, sequence: bytes, *, file: str = "<bytes>", insts: str = "<sequence>", name: str | None = None
) -> ForeignKernel:
    """The kernel of that name (None: the only one with an array image) and its sequence.

    InputError for malformed files and for a sequence in the form that the kernel does not take, UsageError for a name.
    """
    try:
        xclbin = read_xclbin(data)
        entry = _choose(xclbin, name)
        pdi = xclbin.pdi_of(entry)
    except (InputError, UsageError) as error:
        raise type(error)(error.message, place=error.place or file, remedy=error.remedy) from error
    try:
        operations = read_sequence(sequence, entry)
        last = max((o.argument for o in operations if isinstance(o, txn.DdrPatch)), default=0)
        if last > LAST_BUFFER:
            raise InputError(f"the sequence names buffer argument {last}, bo{LAST_BUFFER} is the last there can be")
    except InputError as error:
        raise InputError(error.message, place=error.place or insts, remedy=error.remedy) from error
    return ForeignKernel(entry.name, xclbin.columns, pdi, operations)


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


def read_sequence(data: bytes, entry: KernelEntry | None = None) -> tuple[txn.Operation, ...]:
    """The operations of a sequence in any of its forms.  entry: the kernel, which says which form it takes."""
    text = legacy_sequence.is_text(data)
    binary = pack_words(legacy_sequence.words_of_text(data)) if text else data
    functional = entry.description.functional if entry is not None and entry.description is not None else None
    if txn.is_txn(binary):
        if functional:
            raise InputError(f"a TXN stream; kernel {entry.name if entry else ''} takes the older form (functional 1)")
        return txn.read_txn(binary).operations
    operations = legacy_sequence.read_legacy_bytes(binary)
    if functional == 0:
        name = entry.name if entry else ""
        raise InputError(f"the older form; kernel {name} takes TXN (functional 0)")
    return operations


# --- buffers ------------------------------------------------------------------------------------------------------
def buffer_index(name: str, option: str) -> int:
    """The number in bo0, bo1, ...; UsageError for another name."""
    match = re.fullmatch(r"bo(\d{1,2})", name)
    if match is None:
        raise UsageError(f"{option} {name}=...: with --insts buffers are called bo0, bo1, ...")
    return int(match.group(1))


def make_buffers(
    count: int, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int], outputs: Sequence[str]
) -> list[bytearray]:
    """Buffers 0.. as the options give them; UsageError when one is missing, doubled or unknown.

    count: how many the sequence names; one that nothing gives is an error there, since it would read address 0.
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
    missing = [f"bo{index}" for index in range(count) if index not in given]
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

    return Emulation(kernel.pdi, kernel.columns, settings, kernel.name).run(kernel.operations, buffers)
