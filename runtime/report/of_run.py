"""The subjects of pages: an npuc kernel's run, or a foreign one's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from npuc.compiler.diagnostics import UsageError
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.emulator import machine_of
from npuc.runtime.foreign import ForeignKernel
from npuc.runtime.kernel_file import KernelFile
from npuc.runtime.predictions import prediction
from npuc.runtime.report.subject import Subject
from npuc.runtime.statistics import RunReport
from npuc.runtime.summary import describe

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan
    from npuc.runtime.executable import Executable


def run_and_show(executable: Executable, given: Mapping[str, Any], settings: BackendSettings) -> tuple[bytes, str]:
    """The page of one run on the emulator, which `executable` was opened for with a trace, and what binds it."""
    from npuc.runtime.report.page import page
    from npuc.runtime.verdict import verdict

    subject = of_executable(executable, given, executable.serve(given).report, settings)
    return page(subject), verdict(subject.report, subject.machine).binds


def of_executable(
    executable: Executable, given: Mapping[str, Any], report: RunReport, settings: BackendSettings
) -> Subject:
    """Of a run of `executable` with these inputs. UsageError where no single kernel ran on the emulator."""
    from npuc.runtime.arguments import to_device
    from npuc.runtime.check import multiply_accumulates
    from npuc.runtime.layouts import all_inward

    kernel = executable.of_call(given)
    if not isinstance(kernel, KernelFile) or report.cycles is None:
        raise UsageError(
            "a page shows one kernel's run on the emulator", remedy="give a function that is one attention"
        )
    ready = executable.prepare(given)
    seen = {a.name: to_device(a, ready[a.name]) for a in kernel.inputs}
    macs = multiply_accumulates(kernel.attention, all_inward(kernel, kernel.attention.taken(seen)))
    return of_kernel(kernel, report, macs, settings)


def of_kernel(kernel: KernelFile, report: RunReport, macs: int, settings: BackendSettings) -> Subject:
    """kernel: with the run's lengths. macs: products of the run that no rule leaves out."""
    has_plan = bool(kernel.metadata.get("plan"))
    machine = machine_of(settings)
    estimate = prediction(kernel, machine) if has_plan else None
    return Subject(
        name=kernel.name,
        what=describe(kernel.attention),
        machine=machine,
        pdi=kernel.pdi,
        columns=kernel.columns,
        file=kernel.xclbin or kernel.pdi,
        report=report,
        macs=macs,
        precision=kernel.attention.precision,
        predicted=None if estimate is None else estimate.total,
        terms={} if estimate is None else {"compute": estimate.compute, "streams": estimate.streams},
        buffers=_buffers(kernel.plan) if has_plan else {},
        # Without a channel of its own Q comes before K and V, in blocks as they have them.
        passing={"k": "Q and K", "v": "Q and V"} if has_plan and kernel.plan.split else {},
    )


def of_foreign(kernel: ForeignKernel, report: RunReport, settings: BackendSettings) -> Subject:
    what = f"another tool's kernel with its own runtime sequence of {len(kernel.operations):,} operations"
    return Subject(kernel.name, what, machine_of(settings), kernel.pdi, kernel.columns, kernel.pdi, report)


def _buffers(plan: Plan) -> Mapping[tuple[str, int], tuple[str, int]]:
    places = (("core", plan.core_buffers), ("memtile", plan.memtile_buffers))
    return {(kind, start): (name, size) for kind, found in places for name, (start, size) in found.items()}
