"""What hardware measured (facts/silicon/calibration.json), on the emulator: every experiment, or why it is not one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import calibration_array as array
import calibration_core as core
import pytest

from npuc.runtime.emulator.engines import ENGINES

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[2] / ".." / "shared" / "facts"))
FILE = FACTS / "silicon" / "calibration.json"
if not FILE.exists():
    pytest.skip(f"no {FILE}", allow_module_level=True)
LIST = {each["id"]: each for each in json.loads(FILE.read_text())["experiments"]}

WRITTEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "core.empty_call": core.empty_call,
    **{f"core.vmac_chain_bf16_d{d}": core.vmac_chain_bf16(d) for d in range(1, 7)},
    **{f"core.vmac_chain_int8_d{d}": core.vmac_chain_int8(d) for d in range(1, 5)},
    "core.scalar_rmw_loop": core.scalar_rmw_loop,
    "core.vector_add_loop": core.vector_add_loop,
    "core.cycle_counter": core.cycle_counter,
    "bank.load_load_same": core.load_load_same,
    "bank.load_load_apart": core.load_load_apart,
    "bank.load_load_offset": core.load_load_offset,
    "bank.load_store_same": core.load_store_same,
    "bank.scalar_self_conflict": core.scalar_self_conflict,
    "bank.sibling_16B": core.sibling_16_bytes,
    "core.breakpoint": array.breakpoint_on_a_store,
    "stream.memtile_to_core": array.memtile_to_core(256, 32 * 256, 48 * 256),
    "dma.bd_switch_recv": array.bd_switch_recv,
    "dma.memtile_mm2s_256": array.memtile_mm2s_256,
    "dma.memtile_bank_contention": array.memtile_bank_contention,
    "dma.core_tile_mm2s_256": array.core_tile_mm2s_256,
    "dma.s2mm_backpressure": array.s2mm_backpressure,
    "dma.mm2s_inflight": array.mm2s_inflight,
    "dma.finished_bd_semantics": array.finished_bd_semantics,
    "dma.tct_buffer": array.tct_buffer,
    "shim.single_task": array.single_task,
    "txn.packet_cost": array.packet_cost,
    "txn.task_gap": array.task_gap,
    "txn.wait": array.wait,
    "ddr.passthrough": array.passthrough,
    "ddr.memtile_hop": array.memtile_hop,
    "num.vadd_f_subnormal": core.vadd_f_subnormal,
    "num.mac_inf_times_zero": core.mac_inf_times_zero(LIST["num.mac_inf_times_zero"]["description"]),
}

# Why the others are not: by id.
_OBJECT = "needs the compiled object it names, of which no copy is here"
_DISPATCH = "the host's dispatch is not modelled: time starts with the first operation of the sequence"
NOT_WRITTEN = {
    **{name: _OBJECT for name in LIST if name.startswith("core.mm_cc_")},
    "core.hand_bf16_32cubed": "in test_hand_scheduled.py",
    "core.zol_partial_store": "no static rule is known; the linter forbids such stores",
    "num.bf16_mac": "test_goldens.py runs every one of the probes",
    "dma.dense_core_vs_mm2s": "bank conflicts between a core and a DMA channel are not modelled (README.md, banks)",
    "events.broadcast_skew": "in test_event_network.py",
    "events.stall_after_conflict": "stall events are not modelled",
    "shim.task_chain": "DESIGN's machine gives every task the cost of a cold one: 747 and 171 cycles to the first word",
    "txn.core_start_to_first_dma": "loading an image is outside of the cycles counted (DESIGN, the machine)",
    "ddr.memcpy4": "DESIGN's machine limits all writes to 13 GB/s, after ddr.groupnorm8; this one measured 28",
    "ddr.groupnorm8": "its rates are the constants of the machine: nothing to measure",
    "host.runlist": _DISPATCH,
    "array.gemm_bf16": _OBJECT,
    "array.gemm_int8": _OBJECT,
}


ON_ONE_CORE = ("core.", "bank.", "num.")
CASES = [
    (name, engine) for name in WRITTEN for engine in ENGINES if engine == "interpreter" or name.startswith(ON_ONE_CORE)
]


@pytest.mark.parametrize("name,engine", CASES)
def test_the_emulator_measures_what_hardware_did(name: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "ENGINE", engine)
    WRITTEN[name](LIST[name]["expected"])


def test_every_experiment_is_written_or_has_its_reason() -> None:
    assert sorted([*WRITTEN, *NOT_WRITTEN]) == sorted(LIST)


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_what_is_not_written_says_why(name: str) -> None:
    pytest.skip(NOT_WRITTEN[name])


@pytest.mark.slow
def test_a_core_reads_whole_descriptors_of_a_memory_tile_at_the_measured_rate() -> None:
    """stream.memtile_to_core with the descriptors of 16,384 words that were measured."""
    array.memtile_to_core(16384, 262144, 327680)(LIST["stream.memtile_to_core"]["expected"])
