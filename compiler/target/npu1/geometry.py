"""The npu1 array as data: tiles, memories, locks, buffer descriptors, channels and stream switches.

Sources: facts/platform/device_npu1.md and device_npu1.json (register manual and public drivers agree).  Offsets are
bytes inside a tile; addresses are `column << 25 | row << 20 | offset` with columns counted from the partition's first.
Imports nothing of npuc; impossible requests raise ValueError naming the field and its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# --- the array ----------------------------------------------------------------------------------------------------
ROWS = 6
COLUMNS_PHYSICAL = 5
COLUMNS = 4  # usable: physical column 0 has no shim DMA, partitions start at column 1
FIRST_COLUMN = 1
FIRST_USABLE_COLUMN = 1
SHIM_ROW = 0
MEMTILE_ROW = 1
CORE_ROWS = (2, 3, 4, 5)
TILE_KINDS = ("core", "memtile", "shim")
DEVICE_GENERATION = 3  # as TXN headers write it
OPERATIONS_PER_CYCLE_PER_COLUMN = 2048

COLUMN_SHIFT = 25
ROW_SHIFT = 20
TILE_SIZE = 1 << ROW_SHIFT

# --- memories -----------------------------------------------------------------------------------------------------
PROGRAM_MEMORY_OFFSET = 0x20000  # as the host and CDO see it; 0 for the core
PROGRAM_MEMORY_SIZE = 0x4000
CORE_MEMORY_SIZE = 0x10000
CORE_MEMORY_BANKS = 8  # physical, 8 KiB, 128 bits wide; compilers plan with 4 of 16 KiB
CORE_BANK_SIZE = 0x2000
CORE_COMPILER_BANKS = 4
MEMTILE_MEMORY_SIZE = 0x80000
MEMTILE_MEMORY_BANKS = 16
MEMTILE_BANK_SIZE = 0x8000
MEMORY_WORD_BYTES = 16
DATA_MEMORY_SIZE: Mapping[str, int] = MappingProxyType({"core": CORE_MEMORY_SIZE, "memtile": MEMTILE_MEMORY_SIZE})

# The core's own view: 64 KiB windows.  "east" is the core's own memory.
CORE_VIEW_SOUTH = 0x40000
CORE_VIEW_WEST = 0x50000
CORE_VIEW_NORTH = 0x60000
CORE_VIEW_OWN = 0x70000
CORE_VIEW = range(CORE_VIEW_SOUTH, CORE_VIEW_OWN + CORE_MEMORY_SIZE)
CORE_LOCK_SOUTH = 0  # lock numbers in core instructions: 16 per neighbour
CORE_LOCK_WEST = 16
CORE_LOCK_NORTH = 32
CORE_LOCK_OWN = 48

# Memtile DMA view (bytes; only channels 0..3 reach the neighbours) and lock numbers.
MEMTILE_VIEW_WEST = 0x00000
MEMTILE_VIEW_OWN = 0x80000
MEMTILE_VIEW_EAST = 0x100000
MEMTILE_LOCK_WEST = 0
MEMTILE_LOCK_OWN = 64
MEMTILE_LOCK_EAST = 128
MEMTILE_NEIGHBOUR_CHANNELS = (0, 1, 2, 3)

# --- locks --------------------------------------------------------------------------------------------------------
LOCK_COUNT: Mapping[str, int] = MappingProxyType({"core": 16, "memtile": 64, "shim": 16})
LOCK_BASE: Mapping[str, int] = MappingProxyType({"core": 0x1F000, "memtile": 0xC0000, "shim": 0x14000})
LOCK_STRIDE = 0x10
LOCK_MAXIMUM = 63
LOCK_REQUEST_BASE: Mapping[str, int] = MappingProxyType({"core": 0x40000, "memtile": 0xD0000, "shim": 0x40000})

# --- DMA ----------------------------------------------------------------------------------------------------------
BD_COUNT: Mapping[str, int] = MappingProxyType({"core": 16, "memtile": 48, "shim": 16})
BD_BASE: Mapping[str, int] = MappingProxyType({"core": 0x1D000, "memtile": 0xA0000, "shim": 0x1D000})
BD_STRIDE = 0x20
BD_WORDS: Mapping[str, int] = MappingProxyType({"core": 6, "memtile": 8, "shim": 8})
MEMTILE_EVEN_CHANNEL_BDS = range(0, 24)
MEMTILE_ODD_CHANNEL_BDS = range(24, 48)

DIRECTIONS = ("s2mm", "mm2s")
CHANNEL_COUNT: Mapping[str, int] = MappingProxyType({"core": 2, "memtile": 6, "shim": 2})  # in each direction
CHANNEL_CONTROL_BASE: Mapping[tuple[str, str], int] = MappingProxyType(
    {
        ("core", "s2mm"): 0x1DE00,
        ("core", "mm2s"): 0x1DE10,
        ("memtile", "s2mm"): 0xA0600,
        ("memtile", "mm2s"): 0xA0630,
        ("shim", "s2mm"): 0x1D200,
        ("shim", "mm2s"): 0x1D210,
    }
)
CHANNEL_STRIDE = 8
CHANNEL_QUEUE_OFFSET = 4  # the start queue follows the control register
CHANNEL_QUEUE_DEPTH = 4
CHANNEL_STATUS_BASE: Mapping[tuple[str, str], int] = MappingProxyType(
    {
        ("core", "s2mm"): 0x1DF00,
        ("core", "mm2s"): 0x1DF10,
        ("memtile", "s2mm"): 0xA0660,
        ("memtile", "mm2s"): 0xA0680,
        ("shim", "s2mm"): 0x1D220,
        ("shim", "mm2s"): 0x1D228,
    }
)
CHANNEL_STATUS_STRIDE = 4
CHANNEL_RESET_BIT = 1  # control register, core and memtile
CHANNEL_CONTROLLER_ID_MASK = 0xFF00  # control register bits 15:8
TOKEN_CONTROLLER_ID = 15  # the id that npu1 tools give the shim
TOKEN_CONTROLLER_ID_MASK = 0x1F00

# --- core control -------------------------------------------------------------------------------------------------
CORE_CONTROL = 0x32000
CORE_CONTROL_ENABLE = 1
CORE_CONTROL_RESET = 2
CORE_STATUS = 0x32004
CORE_PC = 0x31100
CORE_SP = 0x31120
CORE_LR = 0x31130
ACCUMULATOR_CONTROL = 0x36060  # bit 0 input (0 north, 1 west), bit 1 output (0 south, 1 east)
TILE_CONTROL = 0x36030

# --- shim mux and demux -------------------------------------------------------------------------------------------
SHIM_MUX = 0x1F000
SHIM_DEMUX = 0x1F004
SHIM_MUX_LSB: Mapping[int, int] = MappingProxyType({2: 8, 3: 10, 6: 12, 7: 14})  # slave South n -> field of two bits
SHIM_DEMUX_LSB: Mapping[int, int] = MappingProxyType({2: 4, 3: 6, 4: 8, 5: 10})  # master South n -> field of two bits
SHIM_MUX_PL, SHIM_MUX_DMA, SHIM_MUX_NOC = 0, 1, 2
SHIM_MM2S_SLAVE_SOUTH = (3, 7)  # MM2S channel -> slave South port
SHIM_S2MM_MASTER_SOUTH = (2, 3)  # S2MM channel -> master South port
TOKEN_MASTER_SOUTH = 0  # where the controller collects task-completion tokens

# --- stream switch ------------------------------------------------------------------------------------------------
SWITCH_MASTER_BASE: Mapping[str, int] = MappingProxyType({"core": 0x3F000, "memtile": 0xB0000, "shim": 0x3F000})
SWITCH_SLAVE_BASE: Mapping[str, int] = MappingProxyType({"core": 0x3F100, "memtile": 0xB0100, "shim": 0x3F100})
SWITCH_SLOT_BASE: Mapping[str, int] = MappingProxyType({"core": 0x3F200, "memtile": 0xB0200, "shim": 0x3F200})
SLOTS_PER_SLAVE = 4
ARBITERS = 8
MSELS = 4

# bundle name -> (first index, count)
MASTER_PORTS: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "core": {
            "core": (0, 1), "dma": (1, 2), "ctrl": (3, 1), "fifo": (4, 1),
            "south": (5, 4), "west": (9, 4), "north": (13, 6), "east": (19, 4),
        },
        "memtile": {"dma": (0, 6), "ctrl": (6, 1), "south": (7, 4), "north": (11, 6)},
        "shim": {
            "ctrl": (0, 1), "fifo": (1, 1),
            "south": (2, 6), "west": (8, 4), "north": (12, 6), "east": (18, 4),
        },
    }
)  # fmt: skip
SLAVE_PORTS: Mapping[str, Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "core": {  # trace 0 is the core's, trace 1 the memory's
            "core": (0, 1), "dma": (1, 2), "ctrl": (3, 1), "fifo": (4, 1),
            "south": (5, 6), "west": (11, 4), "north": (15, 4), "east": (19, 4), "trace": (23, 2),
        },
        "memtile": {"dma": (0, 6), "ctrl": (6, 1), "south": (7, 6), "north": (13, 4), "trace": (17, 1)},
        "shim": {
            "ctrl": (0, 1), "fifo": (1, 1),
            "south": (2, 8), "west": (10, 4), "north": (14, 4), "east": (18, 4), "trace": (22, 1),
        },
    }
)  # fmt: skip


# --- buffer descriptors -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Field:
    """Bits msb..lsb of one word; a signed field takes and gives two's complement values."""

    word: int
    msb: int
    lsb: int
    signed: bool = False

    @property
    def width(self) -> int:
        return self.msb - self.lsb + 1


_LOCKS_AND_NEXT = (  # last word of core and shim descriptors: name, msb, lsb, signed
    ("tlast_suppress", 31, 31, False), ("next_bd", 30, 27, False), ("use_next", 26, 26, False),
    ("valid", 25, 25, False), ("release_value", 24, 18, True), ("release_lock", 16, 13, False),
    ("acquire_enable", 12, 12, False), ("acquire_value", 11, 5, True), ("acquire_lock", 3, 0, False),
)  # fmt: skip

_CORE_BD = {
    "base_address": Field(0, 27, 14), "length": Field(0, 13, 0),
    "enable_compression": Field(1, 31, 31), "enable_packet": Field(1, 30, 30), "out_of_order_id": Field(1, 29, 24),
    "packet_id": Field(1, 23, 19), "packet_type": Field(1, 18, 16),
    "d1_step": Field(2, 25, 13), "d0_step": Field(2, 12, 0),
    "d1_wrap": Field(3, 28, 21), "d0_wrap": Field(3, 20, 13), "d2_step": Field(3, 12, 0),
    "iteration_current": Field(4, 24, 19), "iteration_wrap": Field(4, 18, 13), "iteration_step": Field(4, 12, 0),
    **{name: Field(5, msb, lsb, signed) for name, msb, lsb, signed in _LOCKS_AND_NEXT},
}  # fmt: skip

_MEMTILE_BD = {
    "enable_packet": Field(0, 31, 31), "packet_type": Field(0, 30, 28), "packet_id": Field(0, 27, 23),
    "out_of_order_id": Field(0, 22, 17), "length": Field(0, 16, 0),
    "d0_zero_before": Field(1, 31, 26), "next_bd": Field(1, 25, 20), "use_next": Field(1, 19, 19),
    "base_address": Field(1, 18, 0),
    "tlast_suppress": Field(2, 31, 31), "d0_wrap": Field(2, 26, 17), "d0_step": Field(2, 16, 0),
    "d1_zero_before": Field(3, 31, 27), "d1_wrap": Field(3, 26, 17), "d1_step": Field(3, 16, 0),
    "enable_compression": Field(4, 31, 31), "d2_zero_before": Field(4, 30, 27), "d2_wrap": Field(4, 26, 17),
    "d2_step": Field(4, 16, 0),
    "d2_zero_after": Field(5, 31, 28), "d1_zero_after": Field(5, 27, 23), "d0_zero_after": Field(5, 22, 17),
    "d3_step": Field(5, 16, 0),
    "iteration_current": Field(6, 28, 23), "iteration_wrap": Field(6, 22, 17), "iteration_step": Field(6, 16, 0),
    "valid": Field(7, 31, 31), "release_value": Field(7, 30, 24, True), "release_lock": Field(7, 23, 16),
    "acquire_enable": Field(7, 15, 15), "acquire_value": Field(7, 14, 8, True), "acquire_lock": Field(7, 7, 0),
}  # fmt: skip

_SHIM_BD = {
    "length": Field(0, 31, 0),
    "address_low": Field(1, 31, 2),  # bits 31:2 of the byte address, that is, bytes / 4
    "enable_packet": Field(2, 30, 30), "out_of_order_id": Field(2, 29, 24), "packet_id": Field(2, 23, 19),
    "packet_type": Field(2, 18, 16), "address_high": Field(2, 15, 0),
    "secure": Field(3, 30, 30), "d0_wrap": Field(3, 29, 20), "d0_step": Field(3, 19, 0),
    "burst": Field(4, 31, 30),  # 0, 1, 2 = 64, 128, 256 bytes
    "d1_wrap": Field(4, 29, 20), "d1_step": Field(4, 19, 0),
    "smid": Field(5, 31, 28), "ax_cache": Field(5, 27, 24), "ax_qos": Field(5, 23, 20), "d2_step": Field(5, 19, 0),
    "iteration_current": Field(6, 31, 26), "iteration_wrap": Field(6, 25, 20), "iteration_step": Field(6, 19, 0),
    **{name: Field(7, msb, lsb, signed) for name, msb, lsb, signed in _LOCKS_AND_NEXT},
}  # fmt: skip

BD_FIELDS: Mapping[str, Mapping[str, Field]] = MappingProxyType(
    {"core": _CORE_BD, "memtile": _MEMTILE_BD, "shim": _SHIM_BD}
)
SHIM_AX_CACHE = 2  # what public tools write
SHIM_BURST_BYTES = (64, 128, 256)


def pack_bd(kind: str, **fields: int) -> list[int]:
    """Words of a buffer descriptor of a `kind` tile; fields not named are 0.

    Values are what the register holds: steps and iteration wrap already minus 1, addresses and lengths in 32-bit words.
    """
    words = [0] * BD_WORDS[kind]
    for name, value in fields.items():
        field = BD_FIELDS[kind].get(name)
        if field is None:
            raise ValueError(f"{kind} buffer descriptor has no field {name}")
        low = -(1 << field.width - 1) if field.signed else 0
        high = (1 << field.width - (1 if field.signed else 0)) - 1
        if not low <= value <= high:
            raise ValueError(f"{kind} buffer descriptor field {name} = {value}, holds {low}..{high}")
        words[field.word] |= (value & ((1 << field.width) - 1)) << field.lsb
    return words


def unpack_bd(kind: str, words: Sequence[int]) -> dict[str, int]:
    """Every field of a buffer descriptor, as the register holds it (lock values as signed numbers)."""
    if len(words) < BD_WORDS[kind]:
        raise ValueError(f"{kind} buffer descriptor has {BD_WORDS[kind]} words, got {len(words)}")
    fields = {}
    for name, field in BD_FIELDS[kind].items():
        value = words[field.word] >> field.lsb & ((1 << field.width) - 1)
        if field.signed and value >> field.width - 1:
            value -= 1 << field.width
        fields[name] = value
    return fields


# --- addresses ----------------------------------------------------------------------------------------------------
def tile_kind(row: int) -> str:
    """'shim', 'memtile' or 'core'."""
    if not 0 <= row < ROWS:
        raise ValueError(f"row {row}, npu1 has rows 0..{ROWS - 1}")
    return "shim" if row == SHIM_ROW else "memtile" if row == MEMTILE_ROW else "core"


def tile_address(column: int, row: int, offset: int = 0) -> int:
    """Partition-relative address of a byte in a tile."""
    if not 0 <= offset < TILE_SIZE:
        raise ValueError(f"offset {offset:#x} lies outside a tile")
    if not 0 <= row < 1 << COLUMN_SHIFT - ROW_SHIFT or not 0 <= column < 1 << 32 - COLUMN_SHIFT:
        raise ValueError(f"tile ({column}, {row}) has no address")
    return column << COLUMN_SHIFT | row << ROW_SHIFT | offset


def split_address(address: int) -> tuple[int, int, int]:
    """(column, row, offset) of a partition-relative address."""
    return address >> COLUMN_SHIFT, address >> ROW_SHIFT & 31, address & (TILE_SIZE - 1)


def _indexed(what: str, kind: str, index: int, count: int) -> int:
    if not 0 <= index < count:
        raise ValueError(f"{what} {index}, a {kind} tile has {count}")
    return index


def bd_offset(kind: str, bd: int) -> int:
    return BD_BASE[kind] + BD_STRIDE * _indexed("buffer descriptor", kind, bd, BD_COUNT[kind])


def lock_offset(kind: str, lock: int) -> int:
    return LOCK_BASE[kind] + LOCK_STRIDE * _indexed("lock", kind, lock, LOCK_COUNT[kind])


def channel_control_offset(kind: str, direction: str, channel: int) -> int:
    channel = _indexed(f"{direction} channel", kind, channel, CHANNEL_COUNT[kind])
    return CHANNEL_CONTROL_BASE[kind, direction] + CHANNEL_STRIDE * channel


def channel_queue_offset(kind: str, direction: str, channel: int) -> int:
    return channel_control_offset(kind, direction, channel) + CHANNEL_QUEUE_OFFSET


def channel_status_offset(kind: str, direction: str, channel: int) -> int:
    channel = _indexed(f"{direction} channel", kind, channel, CHANNEL_COUNT[kind])
    return CHANNEL_STATUS_BASE[kind, direction] + CHANNEL_STATUS_STRIDE * channel


def queue_word(bd: int, repeat: int = 1, token: bool = False) -> int:
    """Start-queue word: run the chain at `bd` `repeat` times (1..256), issuing a completion token if asked."""
    if not 1 <= repeat <= 256 or not 0 <= bd < 64:
        raise ValueError(f"queue word: descriptor {bd} (0..63), repeat {repeat} (1..256)")
    return bd | repeat - 1 << 16 | int(token) << 31


def split_queue_word(kind: str, word: int) -> tuple[int, int, bool]:
    """(descriptor, repeat, token) of a start-queue word."""
    return word & (63 if kind == "memtile" else 15), (word >> 16 & 255) + 1, bool(word >> 31 & 1)


# --- stream switch ------------------------------------------------------------------------------------------------
Ports = Mapping[str, Mapping[str, tuple[int, int]]]


def _port_index(table: Ports, what: str, kind: str, name: str, number: int) -> int:
    if name not in table[kind]:
        raise ValueError(f"a {kind} tile has no {what} {name}")
    first, count = table[kind][name]
    if not 0 <= number < count:
        raise ValueError(f"{what} {name} {number}, a {kind} tile has {count}")
    return first + number


def master_index(kind: str, name: str, number: int = 0) -> int:
    """Register position of a master (outgoing) port, e.g. master_index('core', 'dma', 0) == 1."""
    return _port_index(MASTER_PORTS, "master", kind, name, number)


def slave_index(kind: str, name: str, number: int = 0) -> int:
    """Register position of a slave (incoming) port, e.g. slave_index('memtile', 'north', 3) == 16."""
    return _port_index(SLAVE_PORTS, "slave", kind, name, number)


def _port_of(table: Ports, what: str, kind: str, index: int) -> tuple[str, int]:
    for name, (first, count) in table[kind].items():
        if first <= index < first + count:
            return name, index - first
    raise ValueError(f"{what} {index}, a {kind} tile has no such port")


def master_port(kind: str, index: int) -> tuple[str, int]:
    """(name, number) of a master index."""
    return _port_of(MASTER_PORTS, "master", kind, index)


def slave_port(kind: str, index: int) -> tuple[str, int]:
    """(name, number) of a slave index."""
    return _port_of(SLAVE_PORTS, "slave", kind, index)


def master_offset(kind: str, index: int) -> int:
    master_port(kind, index)
    return SWITCH_MASTER_BASE[kind] + 4 * index


def slave_offset(kind: str, index: int) -> int:
    slave_port(kind, index)
    return SWITCH_SLAVE_BASE[kind] + 4 * index


def slot_offset(kind: str, slave: int, slot: int) -> int:
    slave_port(kind, slave)
    return SWITCH_SLOT_BASE[kind] + 16 * slave + 4 * _indexed("slot", kind, slot, SLOTS_PER_SLAVE)


def circuit_master_word(slave: int) -> int:
    """Master register: enabled, fed by slave index `slave` in circuit mode."""
    return 1 << 31 | slave


def packet_master_word(arbiter: int, msel_mask: int, drop_header: bool) -> int:
    """Master register in packet mode: serves `arbiter` for the msels in `msel_mask` (4 bits)."""
    if not 0 <= arbiter < ARBITERS or not 0 <= msel_mask < 1 << MSELS:
        raise ValueError(f"packet master: arbiter {arbiter} (0..7), msel mask {msel_mask} (0..15)")
    return 3 << 30 | int(drop_header) << 7 | msel_mask << 3 | arbiter


CIRCUIT_SLAVE_WORD = 1 << 31
PACKET_SLAVE_WORD = 3 << 30


def slot_word(packet_id: int, mask: int, msel: int, arbiter: int) -> int:
    """Slave slot: packets with (id & mask) == (packet_id & mask) go to `arbiter` with `msel`."""
    if not (0 <= packet_id < 32 and 0 <= mask < 32 and 0 <= msel < MSELS and 0 <= arbiter < ARBITERS):
        raise ValueError(f"slot: id {packet_id} mask {mask} (0..31), msel {msel} (0..3), arbiter {arbiter} (0..7)")
    return packet_id << 24 | mask << 16 | 1 << 8 | msel << 4 | arbiter


def circuit_is_legal(kind: str, slave: int, master: int) -> bool:
    """Whether a `kind` tile's switch can connect slave index to master index (device_npu1.md, "Legal circuits")."""
    (source, i), (target, j) = slave_port(kind, slave), master_port(kind, master)
    same = i == j
    if kind == "memtile":
        if source == "dma":
            return same if target == "dma" else True
        if source in ("north", "south"):
            return same if target in ("north", "south") else True
        return target == "south" or (target, j) == ("dma", 5) or (source == "ctrl" and target == "north")
    if source == "trace":
        extra = ("dma", 0) if kind == "core" else None
        edge = kind == "shim" and target in ("west", "east") and j == 0
        return target in ("fifo", "south") or (target, j) == extra or edge
    if source == "ctrl":
        return target not in (("ctrl",) if kind == "shim" else ("ctrl", "dma"))
    if source == "core":
        return target != "core"
    if kind == "shim" and source in ("fifo", "south"):
        return True
    if source == target:
        return same
    return True
