"""What each register of a tile is to the emulator: modelled by a unit, only stored, or without a model.

Every register of npu1 (facts/platform/registers_aie2.json, compiler/target/npu1/registers.py) falls under one rule; a
write or read that would need more than that is an error that names the register.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import is_register, offset_name
from npuc.runtime.emulator import core_debug

LOCK_REQUEST_SIZE = {"core": 0x4000, "memtile": 0x10000, "shim": 0x4000}  # lock id from bit 10

# Registers whose content has no effect on what the emulator computes: observation (events, trace, counters, timers),
# interrupts, clock gating, the NoC's and the PL's side of the shim, power.
_STORED = re.compile(
    r"(Combo_event|Edge_Detection|Event_|Error_Halt|Trace_|Timer_|Performance_|WatchPoint|"
    r"Interrupt_controller|Stream_Switch_(Event_Port|Adaptive_Clock|Parity_Status)|Locks_Event|DMA_Event_Channel|"
    r"(Tile_)?Control_Packet_Handler_Status|Module_Clock_Control|Column_Clock|"
    r"AIE_AXIMM_Config|NoC_Interface|PL_Interface|Core_Processor_Bus|Tile_Control$|Memory_Control|"
    r"Accumulator_Control|Mux_Config|Demux_Config|Enable_Events|Reset_Event|Debug_Control|Stream_Switch_Deterministic|"
    r"Stream_Switch_Parity_Injection|Module_Reset_Control|AIE_Tile_Column_Reset)"
)

# Stored registers in which these bits ask for something that is not modelled: (name, bits, what it would do).
_REFUSED: tuple[tuple[re.Pattern[str], int, str], ...] = tuple(
    (re.compile(name), bits, what)
    for name, bits, what in (
        (r"Tile_Control$", 0xF, "isolating a tile"),
        (r"Enable_Events", 0x7F7F, "enabling or disabling a core by an event"),
        (r"Reset_Event", 0x7F, "resetting a core by an event"),
        (r"Debug_Control1", 0xFFFFFFFF, "halting a core by an event"),
        (r"Stream_Switch_Deterministic_Merge_.*_ctrl", 1, "merging packets in a fixed order"),
        (r"Stream_Switch_Parity_Injection", 0xFFFFFFFF, "injecting parity errors"),
        (r"Module_Reset_Control|AIE_Tile_Column_Reset", 0xFFFFFFFF, "resetting a module or a column"),
    )
)
_READ_ONLY = re.compile(
    r"Event_Broadcast.*_Block_.*_Value|Interrupt_.*_(value|mask|mask_[AB])|Trace_Status|"
    r"Timer_(Low|High)|Stream_Switch_Adaptive_Clock_Gate_Status"
)
MEMORY_CONTROL = re.compile(r"Memory_Control$")
TIMER = re.compile(r"Timer_Control$")
TIMER_VALUE = re.compile(r"Timer_(Low|High)$")
TRACE_CONTROL = re.compile(r"Trace_Control0$")
RESET_VALUES = {"memtile": {"Memory_Control": 2}}  # facts/platform/registers_aie2.json; others of the stored are 0


# Words that no public table of npu1 names and whose writes have no effect on results: (kind of tile, offset) -> what.
IGNORED = {("shim", 0x3300C): "PL downsizer bypass, which only the first generation has"}

Found = tuple[int | str, ...]  # kind, then place


@dataclass(frozen=True)
class Meaning:
    """kind: 'data', 'program', 'lock', 'lock request', 'lock overflow', 'lock underflow', 'descriptor', 'channel
    control', 'channel queue', 'channel status', 'write count', 'finished counts', 'master', 'slave', 'slot', 'core
    control', 'core status', 'core debug', 'core register', 'stored', 'ignored' or 'unknown'; place: which one; name:
    of the register."""

    kind: str
    place: tuple[int | str, ...]
    name: str


@cache
def meaning(tile: str, offset: int) -> Meaning:
    """The rule for the word at an offset of a 'core', 'memtile' or 'shim' tile (memories apart)."""
    name = offset_name(tile, offset)
    for rule in (_lock, _descriptor, _channel, _switch, _core):
        found = rule(tile, offset, name)
        if found is not None:
            return Meaning(str(found[0]), found[1:], name)
    if (tile, offset) in IGNORED:
        return Meaning("ignored", (), name)
    if is_register(tile, offset) and _STORED.match(name):
        return Meaning("stored", (), name)
    return Meaning("unknown", (), name)


def _lock(tile: str, offset: int, name: str) -> Found | None:
    index, rest = divmod(offset - geometry.LOCK_BASE[tile], geometry.LOCK_STRIDE)
    if 0 <= index < geometry.LOCK_COUNT[tile]:
        return ("lock", index) if rest == 0 else None
    request = offset - geometry.LOCK_REQUEST_BASE[tile]
    if 0 <= request < LOCK_REQUEST_SIZE[tile]:
        return ("lock request", request)
    match = re.fullmatch(r"Locks_(Over|Under)flow(?:_(\d))?", name)
    return (f"lock {match[1].lower()}flow", int(match[2] or 0)) if match else None


def _descriptor(tile: str, offset: int, name: str) -> Found | None:
    index, rest = divmod(offset - geometry.BD_BASE[tile], geometry.BD_STRIDE)
    if 0 <= index < geometry.BD_COUNT[tile] and rest // 4 < geometry.BD_WORDS[tile]:
        return ("descriptor", index, rest // 4)
    return None


def _channel(tile: str, offset: int, name: str) -> Found | None:
    for direction in geometry.DIRECTIONS:
        for number in range(geometry.CHANNEL_COUNT[tile]):
            control = geometry.channel_control_offset(tile, direction, number)
            places = {
                control: "channel control",
                control + geometry.CHANNEL_QUEUE_OFFSET: "channel queue",
                geometry.channel_status_offset(tile, direction, number): "channel status",
            }
            if offset in places:
                return (places[offset], direction, number)
    match = re.fullmatch(r"DMA_S2MM_(Current_Write_Count|FoT_Count_FIFO_Pop)_(\d)", name)
    if match is None:
        return None
    return ("write count" if match[1].startswith("Current") else "finished counts", "s2mm", int(match[2]))


def _switch(tile: str, offset: int, name: str) -> Found | None:
    masters = sum(count for _, count in geometry.MASTER_PORTS[tile].values())
    slaves = sum(count for _, count in geometry.SLAVE_PORTS[tile].values())
    master = (offset - geometry.SWITCH_MASTER_BASE[tile]) // 4
    slave = (offset - geometry.SWITCH_SLAVE_BASE[tile]) // 4
    slot = (offset - geometry.SWITCH_SLOT_BASE[tile]) // 4
    if 0 <= master < masters:
        return ("master", master)
    if 0 <= slave < slaves:
        return ("slave", slave)
    if 0 <= slot < slaves * geometry.SLOTS_PER_SLAVE:
        return ("slot", *divmod(slot, geometry.SLOTS_PER_SLAVE))
    return None


def _core(tile: str, offset: int, name: str) -> Found | None:
    if tile != "core":
        return None
    if offset == geometry.CORE_CONTROL:
        return ("core control",)
    if offset == geometry.CORE_STATUS:
        return ("core status",)
    if core_debug.NAMES.fullmatch(name):
        return ("core debug",)
    return ("core register",) if re.match(r"Core_[A-Z]+\d*(_Part\d)?(\+|$)", name) else None


def refusal(name: str, value: int) -> str | None:
    """What a write of `value` to a stored register would do that is not modelled; None when it is harmless."""
    return next((what for pattern, bits, what in _REFUSED if pattern.match(name) and value & bits), None)


def read_only(name: str) -> bool:
    """Whether a stored register cannot be written."""
    return _READ_ONLY.fullmatch(name) is not None
