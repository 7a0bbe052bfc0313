"""What hardware measured (facts/silicon/calibration.json), on the emulator: every experiment, or why it is not one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import calibration_core as core
import pytest

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
    "num.vadd_f_subnormal": core.vadd_f_subnormal,
    "num.mac_inf_times_zero": core.mac_inf_times_zero(LIST["num.mac_inf_times_zero"]["description"]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_emulator_measures_what_hardware_did(name: str) -> None:
    WRITTEN[name](LIST[name]["expected"])
