"""Halting a core by its debug registers: breakpoints on bundles, halt and resume.

A breakpoint halts a core before the bundle at its address issues; what is under way in the pipeline stands still
(core.breakpoint of facts/silicon/calibration.json: the store of that bundle has not taken place).  Fields:
facts/platform/registers_aie2.json.  Single steps and halts by stalls or other events are not modelled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from npuc.runtime.emulator.errors import EmulationError

if TYPE_CHECKING:
    from npuc.runtime.emulator.core_unit import CoreUnit

NAMES = re.compile(r"Debug_Control[02]|Debug_Status|PC_Event\d")
VALID, PC_MASK = 1 << 31, 0x3FFF  # PC_Event
HALT, SINGLE_STEP = 1, 0x3C  # Debug_Control0
PC_EVENT_HALT, STALL_HALTS = 1, 0xE  # Debug_Control2
HALTED, HALTED_BY_PC = 1, 1 << 1  # Debug_Status


class CoreDebug:
    """The debug registers of one core."""

    def __init__(self, unit: CoreUnit) -> None:
        self.unit = unit
        self.halted = False
        self._values: dict[str, int] = {}

    def read(self, name: str) -> int:
        if name == "Debug_Status":
            at_breakpoint = self.unit.core.pc in self.unit.core.stops
            return (HALTED | (HALTED_BY_PC if at_breakpoint else 0)) if self.halted else 0
        return self._values.get(name, 0)

    def write(self, name: str, value: int, who: str) -> None:
        """One of the registers named above.  EmulationError for what is not modelled."""
        place = f"{who} writes {value:#x} to {name} of {self.unit.tile.name}"
        if name == "Debug_Status":
            raise EmulationError(f"{place}, which is not modelled: it is read only")
        if name == "Debug_Control0" and value & SINGLE_STEP:
            raise EmulationError(f"{place}: single-stepping a core is not modelled")
        if name == "Debug_Control2" and value & STALL_HALTS:
            raise EmulationError(f"{place}: halting a core by a stall is not modelled")
        if self._values.get(name, 0) == value:
            return
        if self.unit.ahead():
            raise EmulationError(
                f"{place} while the core runs, which is not modelled",
                remedy="write it while the core waits, is halted, or is not enabled",
            )
        self._values[name] = value
        core = self.unit.core
        if name == "Debug_Control0":
            core.halt_next = bool(value & HALT)
            if not core.halt_next:
                self.resume()
        else:
            core.stops = self._stops()

    def _stops(self) -> frozenset[int]:
        if not self._values.get("Debug_Control2", 0) & PC_EVENT_HALT:
            return frozenset()
        return frozenset(
            value & PC_MASK for name, value in self._values.items() if name.startswith("PC_Event") and value & VALID
        )

    def halt(self) -> None:
        """The core stands before a bundle that does not issue."""
        self.halted = True
        self._values["Debug_Control0"] = HALT

    def resume(self) -> None:
        """Go on with the bundle the core stands at."""
        if self.halted:
            self.halted = False
            self.unit.core.leaving = True
            self.unit.go_on()
