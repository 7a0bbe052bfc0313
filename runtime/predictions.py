"""What the planner's cost model says of a kernel's call on the machine that is emulated beside it.

A kernel is planned for one machine, and its bytes serve all; what a run of them takes depends on where it runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from npuc.passes.array.target import NPU1, Costs
from npuc.runtime.emulator.timing import MachineTable

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Estimate
    from npuc.runtime.kernel_file import KernelFile


def costs_of(machine: MachineTable) -> Costs:
    """The costs that plans reckon with, as this machine has them."""
    return replace(
        NPU1.costs,
        word=machine.shim_mm2s_word,
        ddr_bytes=machine.ddr_read_bytes,
        shim_start=machine.shim_mm2s_first,
        write=machine.write,
        block_write=machine.block_write,
        block_words=machine.block_write_words,
        block_word=machine.block_write_word,
        patch=machine.ddr_patch,
        push_gap=machine.push_gap,
        completion=machine.completion,
    )


def prediction(kernel: KernelFile, machine: MachineTable) -> Estimate:
    """Of a call of a kernel that has a plan; what short runs are assumed to cost is left out.

    InputError where a length is open.
    """
    from npuc.passes.attention.predict import predicted

    style = str(kernel.metadata.get("sequence", "default"))
    return predicted(kernel.plan, kernel.attention, style, costs_of(machine))
