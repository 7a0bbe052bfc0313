"""Registers of npu1's tiles: names and places, as the public register manual (AM025) has them.

One line a register or register array: offset, name, then for each `{}` of the name its count:stride[:first number], and
/bytes where it is wider than a word (all hexadecimal but counts and first numbers).  A core tile has two modules, core
and memory, in one address range.  Checked against facts/platform/registers_aie2.json.  Imports nothing of npuc but
the geometry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

from npuc.compiler.target.npu1.geometry import ROWS, split_address, tile_kind

_CORE_MODULE = """\
20000 Program_Memory /4000
30000 Core_AMLL{}_Part{} 9:80 2:10:1 /10
30020 Core_AMLH{}_Part{} 9:80 2:10:1 /10
30040 Core_AMHL{}_Part{} 9:80 2:10:1 /10
30060 Core_AMHH{}_Part{} 9:80 2:10:1 /10
30800 Core_WL{}_Part{} 12:40 2:10:1 /10
30820 Core_WH{}_Part{} 12:40 2:10:1 /10
30c00 Core_R{} 32:10
30e00 Core_M{} 8:10
30e80 Core_DN{} 8:10
30f00 Core_DJ{} 8:10
30f80 Core_DC{} 8:10
31000 Core_P{} 8:10
31080 Core_S{} 4:10
310c0 Core_Q{} 4:10 /10
31100 Core_PC
31110 Core_FC
31120 Core_SP
31130 Core_LR
31140 Core_LS
31150 Core_LE
31160 Core_LC
31170 Core_CR
31180 Core_SR
31190 Core_DP
31500 Performance_Control{} 3:4
31520 Performance_Counter{} 4:4
31580 Performance_Counter{}_Event_Value 4:4
32000 Core_Control
32004 Core_Status
32008 Enable_Events
3200c Reset_Event
32010 Debug_Control{} 3:4
3201c Debug_Status
32020 PC_Event{} 4:4
32030 Error_Halt_Control
32034 Error_Halt_Event
32038 Core_Processor_Bus
34000 Timer_Control
34008 Event_Generate
34010 Event_Broadcast{} 16:4
34050 Event_Broadcast_Block_South_Set
34054 Event_Broadcast_Block_South_Clr
34058 Event_Broadcast_Block_South_Value
34060 Event_Broadcast_Block_West_Set
34064 Event_Broadcast_Block_West_Clr
34068 Event_Broadcast_Block_West_Value
34070 Event_Broadcast_Block_North_Set
34074 Event_Broadcast_Block_North_Clr
34078 Event_Broadcast_Block_North_Value
34080 Event_Broadcast_Block_East_Set
34084 Event_Broadcast_Block_East_Clr
34088 Event_Broadcast_Block_East_Value
340d0 Trace_Control{} 2:4
340d8 Trace_Status
340e0 Trace_Event{} 2:4
340f0 Timer_Trig_Event_Low_Value
340f4 Timer_Trig_Event_High_Value
340f8 Timer_Low
340fc Timer_High
34200 Event_Status{} 4:4
34400 Combo_event_inputs
34404 Combo_event_control
34408 Edge_Detection_event_control
34500 Event_Group_0_Enable
34504 Event_Group_PC_Enable
34508 Event_Group_Core_Stall_Enable
3450c Event_Group_Core_Program_Flow_Enable
34510 Event_Group_Errors{}_Enable 2:4
34518 Event_Group_Stream_Switch_Enable
3451c Event_Group_Broadcast_Enable
34520 Event_Group_User_Event_Enable
36030 Tile_Control
36060 Accumulator_Control
36070 Memory_Control
3f000 Stream_Switch_Master_Config_AIE_Core0
3f004 Stream_Switch_Master_Config_DMA{} 2:4
3f00c Stream_Switch_Master_Config_Tile_Ctrl
3f010 Stream_Switch_Master_Config_FIFO0
3f014 Stream_Switch_Master_Config_South{} 4:4
3f024 Stream_Switch_Master_Config_West{} 4:4
3f034 Stream_Switch_Master_Config_North{} 6:4
3f04c Stream_Switch_Master_Config_East{} 4:4
3f100 Stream_Switch_Slave_Config_AIE_Core0
3f104 Stream_Switch_Slave_Config_DMA_{} 2:4
3f10c Stream_Switch_Slave_Config_Tile_Ctrl
3f110 Stream_Switch_Slave_Config_FIFO_0
3f114 Stream_Switch_Slave_Config_South_{} 6:4
3f12c Stream_Switch_Slave_Config_West_{} 4:4
3f13c Stream_Switch_Slave_Config_North_{} 4:4
3f14c Stream_Switch_Slave_Config_East_{} 4:4
3f15c Stream_Switch_Slave_Config_AIE_Trace
3f160 Stream_Switch_Slave_Config_Mem_Trace
3f200 Stream_Switch_Slave_AIE_Core0_Slot{} 4:4
3f210 Stream_Switch_Slave_DMA_{}_Slot{} 2:10 4:4
3f230 Stream_Switch_Slave_Tile_Ctrl_Slot{} 4:4
3f240 Stream_Switch_Slave_FIFO_0_Slot{} 4:4
3f250 Stream_Switch_Slave_South_{}_Slot{} 6:10 4:4
3f2b0 Stream_Switch_Slave_West_{}_Slot{} 4:10 4:4
3f2f0 Stream_Switch_Slave_North_{}_Slot{} 4:10 4:4
3f330 Stream_Switch_Slave_East_{}_Slot{} 4:10 4:4
3f370 Stream_Switch_Slave_AIE_Trace_Slot{} 4:4
3f380 Stream_Switch_Slave_Mem_Trace_Slot{} 4:4
3f800 Stream_Switch_Deterministic_Merge_arb0_slave0_1
3f804 Stream_Switch_Deterministic_Merge_arb0_slave2_3
3f808 Stream_Switch_Deterministic_Merge_arb{}_ctrl 2:10
3f810 Stream_Switch_Deterministic_Merge_arb1_slave0_1
3f814 Stream_Switch_Deterministic_Merge_arb1_slave2_3
3ff00 Stream_Switch_Event_Port_Selection_{} 2:4
3ff10 Stream_Switch_Parity_Status
3ff20 Stream_Switch_Parity_Injection
3ff30 Tile_Control_Packet_Handler_Status
3ff34 Stream_Switch_Adaptive_Clock_Gate_Status
3ff38 Stream_Switch_Adaptive_Clock_Gate_Abort_Period
60000 Module_Clock_Control
"""

_MEMORY_MODULE = """\
00000 DataMemory /10000
11000 Performance_Control{} 2:8
11020 Performance_Counter{} 2:4
11080 Performance_Counter{}_Event_Value 2:4
14000 Timer_Control
14008 Event_Generate
14010 Event_Broadcast{} 16:4
14050 Event_Broadcast_Block_South_Set
14054 Event_Broadcast_Block_South_Clr
14058 Event_Broadcast_Block_South_Value
14060 Event_Broadcast_Block_West_Set
14064 Event_Broadcast_Block_West_Clr
14068 Event_Broadcast_Block_West_Value
14070 Event_Broadcast_Block_North_Set
14074 Event_Broadcast_Block_North_Clr
14078 Event_Broadcast_Block_North_Value
14080 Event_Broadcast_Block_East_Set
14084 Event_Broadcast_Block_East_Clr
14088 Event_Broadcast_Block_East_Value
140d0 Trace_Control{} 2:4
140d8 Trace_Status
140e0 Trace_Event{} 2:4
140f0 Timer_Trig_Event_Low_Value
140f4 Timer_Trig_Event_High_Value
140f8 Timer_Low
140fc Timer_High
14100 WatchPoint{} 2:4
14200 Event_Status{} 4:4
14400 Combo_event_inputs
14404 Combo_event_control
14408 Edge_Detection_event_control
14500 Event_Group_0_Enable
14504 Event_Group_Watchpoint_Enable
14508 Event_Group_DMA_Enable
1450c Event_Group_Lock_Enable
14510 Event_Group_Memory_Conflict_Enable
14514 Event_Group_Error_Enable
14518 Event_Group_Broadcast_Enable
1451c Event_Group_User_Event_Enable
16010 Memory_Control
1d000 DMA_BD{}_{} 16:20 6:4
1de00 DMA_S2MM_{}_Ctrl 2:8
1de04 DMA_S2MM_{}_Start_Queue 2:8
1de10 DMA_MM2S_{}_Ctrl 2:8
1de14 DMA_MM2S_{}_Start_Queue 2:8
1df00 DMA_S2MM_Status_{} 2:4
1df10 DMA_MM2S_Status_{} 2:4
1df18 DMA_S2MM_Current_Write_Count_{} 2:4
1df20 DMA_S2MM_FoT_Count_FIFO_Pop_{} 2:4
1f000 Lock{}_value 16:10
1f100 Locks_Event_Selection_{} 8:4
1f120 Locks_Overflow
1f128 Locks_Underflow
40000 Lock_Request
"""

_MEMTILE_MODULE = """\
00000 DataMemory /80000
91000 Performance_Control{} 3:4
91020 Performance_Counter{} 4:4
91080 Performance_Counter{}_Event_Value 4:4
94000 Timer_Control
94008 Event_Generate
94010 Event_Broadcast{} 16:4
94050 Event_Broadcast_A_Block_South_Set
94054 Event_Broadcast_A_Block_South_Clr
94058 Event_Broadcast_A_Block_South_Value
94060 Event_Broadcast_A_Block_West_Set
94064 Event_Broadcast_A_Block_West_Clr
94068 Event_Broadcast_A_Block_West_Value
94070 Event_Broadcast_A_Block_North_Set
94074 Event_Broadcast_A_Block_North_Clr
94078 Event_Broadcast_A_Block_North_Value
94080 Event_Broadcast_A_Block_East_Set
94084 Event_Broadcast_A_Block_East_Clr
94088 Event_Broadcast_A_Block_East_Value
94090 Event_Broadcast_B_Block_South_Set
94094 Event_Broadcast_B_Block_South_Clr
94098 Event_Broadcast_B_Block_South_Value
940a0 Event_Broadcast_B_Block_West_Set
940a4 Event_Broadcast_B_Block_West_Clr
940a8 Event_Broadcast_B_Block_West_Value
940b0 Event_Broadcast_B_Block_North_Set
940b4 Event_Broadcast_B_Block_North_Clr
940b8 Event_Broadcast_B_Block_North_Value
940c0 Event_Broadcast_B_Block_East_Set
940c4 Event_Broadcast_B_Block_East_Clr
940c8 Event_Broadcast_B_Block_East_Value
940d0 Trace_Control{} 2:4
940d8 Trace_Status
940e0 Trace_Event{} 2:4
940f0 Timer_Trig_Event_Low_Value
940f4 Timer_Trig_Event_High_Value
940f8 Timer_Low
940fc Timer_High
94100 WatchPoint{} 4:4
94200 Event_Status{} 6:4
94400 Combo_event_inputs
94404 Combo_event_control
94408 Edge_Detection_event_control
94500 Event_Group_0_Enable
94504 Event_Group_Watchpoint_Enable
94508 Event_Group_DMA_Enable
9450c Event_Group_Lock_Enable
94510 Event_Group_Stream_Switch_Enable
94514 Event_Group_Memory_Conflict_Enable
94518 Event_Group_Error_Enable
9451c Event_Group_Broadcast_Enable
94520 Event_Group_User_Event_Enable
96030 Tile_Control
96048 Memory_Control
a0000 DMA_BD{}_{} 48:20 8:4
a0600 DMA_S2MM_{}_Ctrl 6:8
a0604 DMA_S2MM_{}_Start_Queue 6:8
a0630 DMA_MM2S_{}_Ctrl 6:8
a0634 DMA_MM2S_{}_Start_Queue 6:8
a0660 DMA_S2MM_Status_{} 6:4
a0680 DMA_MM2S_Status_{} 6:4
a06a0 DMA_Event_Channel_Selection
a06b0 DMA_S2MM_Current_Write_Count_{} 6:4
a06c8 DMA_S2MM_FoT_Count_FIFO_Pop_{} 6:4
b0000 Stream_Switch_Master_Config_DMA{} 6:4
b0018 Stream_Switch_Master_Config_Tile_Ctrl
b001c Stream_Switch_Master_Config_South{} 4:4
b002c Stream_Switch_Master_Config_North{} 6:4
b0100 Stream_Switch_Slave_Config_DMA_{} 6:4
b0118 Stream_Switch_Slave_Config_Tile_Ctrl
b011c Stream_Switch_Slave_Config_South_{} 6:4
b0134 Stream_Switch_Slave_Config_North_{} 4:4
b0144 Stream_Switch_Slave_Config_Trace
b0200 Stream_Switch_Slave_DMA_{}_Slot{} 6:10 4:4
b0260 Stream_Switch_Slave_Tile_Ctrl_Slot{} 4:4
b0270 Stream_Switch_Slave_South_{}_Slot{} 6:10 4:4
b02d0 Stream_Switch_Slave_North_{}_Slot{} 4:10 4:4
b0310 Stream_Switch_Slave_Trace_Slot{} 4:4
b0800 Stream_Switch_Deterministic_Merge_arb0_slave0_1
b0804 Stream_Switch_Deterministic_Merge_arb0_slave2_3
b0808 Stream_Switch_Deterministic_Merge_arb{}_ctrl 2:10
b0810 Stream_Switch_Deterministic_Merge_arb1_slave0_1
b0814 Stream_Switch_Deterministic_Merge_arb1_slave2_3
b0f00 Stream_Switch_Event_Port_Selection_{} 2:4
b0f10 Stream_Switch_Parity_Status
b0f20 Stream_Switch_Parity_Injection
b0f30 Tile_Control_Packet_Handler_Status
b0f34 Stream_Switch_Adaptive_Clock_Gate_Status
b0f38 Stream_Switch_Adaptive_Clock_Gate_Abort_Period
c0000 Lock{}_value 64:10
c0400 Locks_Event_Selection_{} 8:4
c0420 Locks_Overflow_{} 2:4
c0428 Locks_Underflow_{} 2:4
d0000 Lock_Request
fff00 Module_Clock_Control
"""

_SHIM_MODULE = """\
14000 Lock{}_value 16:10
14100 Locks_Event_Selection_{} 6:4
14120 Locks_Overflow
14128 Locks_Underflow
15000 Interrupt_controller_2nd_level_mask
15004 Interrupt_controller_2nd_level_enable
15008 Interrupt_controller_2nd_level_disable
1500c Interrupt_controller_2nd_level_status
15010 Interrupt_controller_2nd_level_interrupt
1d000 DMA_BD{}_{} 16:20 8:4
1d200 DMA_S2MM_{}_Ctrl 2:8
1d204 DMA_S2MM_{}_Task_Queue 2:8
1d210 DMA_MM2S_{}_Ctrl 2:8
1d214 DMA_MM2S_{}_Task_Queue 2:8
1d220 DMA_S2MM_Status_{} 2:4
1d228 DMA_MM2S_Status_{} 2:4
1d230 DMA_S2MM_Current_Write_Count_{} 2:4
1d238 DMA_S2MM_FoT_Count_FIFO_Pop_{} 2:4
1e008 NoC_Interface_AIE_to_NoC_South{} 4:4:2
1e020 AIE_AXIMM_Config
1f000 Mux_Config
1f004 Demux_Config
31000 Performance_Ctrl{} 2:8
31020 Performance_Counter{} 2:4
31080 Performance_Counter{}_Event_Value 2:4
33000 PL_Interface_Upsizer_Config
33004 PL_Interface_Downsizer_Config
33008 PL_Interface_Downsizer_Enable
34000 Timer_Control
34008 Event_Generate
34010 Event_Broadcast{}_A 16:4
34050 Event_Broadcast_A_Block_South_Set
34054 Event_Broadcast_A_Block_South_Clr
34058 Event_Broadcast_A_Block_South_Value
34060 Event_Broadcast_A_Block_West_Set
34064 Event_Broadcast_A_Block_West_Clr
34068 Event_Broadcast_A_Block_West_Value
34070 Event_Broadcast_A_Block_North_Set
34074 Event_Broadcast_A_Block_North_Clr
34078 Event_Broadcast_A_Block_North_Value
34080 Event_Broadcast_A_Block_East_Set
34084 Event_Broadcast_A_Block_East_Clr
34088 Event_Broadcast_A_Block_East_Value
34090 Event_Broadcast_B_Block_South_Set
34094 Event_Broadcast_B_Block_South_Clr
34098 Event_Broadcast_B_Block_South_Value
340a0 Event_Broadcast_B_Block_West_Set
340a4 Event_Broadcast_B_Block_West_Clr
340a8 Event_Broadcast_B_Block_West_Value
340b0 Event_Broadcast_B_Block_North_Set
340b4 Event_Broadcast_B_Block_North_Clr
340b8 Event_Broadcast_B_Block_North_Value
340c0 Event_Broadcast_B_Block_East_Set
340c4 Event_Broadcast_B_Block_East_Clr
340c8 Event_Broadcast_B_Block_East_Value
340d0 Trace_Control{} 2:4
340d8 Trace_Status
340e0 Trace_Event{} 2:4
340f0 Timer_Trig_Event_Low_Value
340f4 Timer_Trig_Event_High_Value
340f8 Timer_Low
340fc Timer_High
34200 Event_Status{} 4:4
34400 Combo_event_inputs
34404 Combo_event_control
34408 Edge_Detection_event_control
34500 Event_Group_0_Enable
34504 Event_Group_DMA_Activity_Enable
34508 Event_Group_Lock_Enable
3450c Event_Group_Errors_Enable
34510 Event_Group_Stream_Switch_Enable
34514 Event_Group_Broadcast_A_Enable
35000 Interrupt_controller_1st_level_mask_A
35004 Interrupt_controller_1st_level_enable_A
35008 Interrupt_controller_1st_level_disable_A
3500c Interrupt_controller_1st_level_status_A
35010 Interrupt_controller_1st_level_irq_no_A
35014 Interrupt_controller_1st_level_irq_event_A
35018 Interrupt_controller_1st_level_block_north_in_A_set
3501c Interrupt_controller_1st_level_block_north_in_A_clear
35020 Interrupt_controller_1st_level_block_north_in_A_value
35030 Interrupt_controller_1st_level_mask_B
35034 Interrupt_controller_1st_level_enable_B
35038 Interrupt_controller_1st_level_disable_B
3503c Interrupt_controller_1st_level_status_B
35040 Interrupt_controller_1st_level_irq_no_B
35044 Interrupt_controller_1st_level_irq_event_B
35048 Interrupt_controller_1st_level_block_north_in_B_set
3504c Interrupt_controller_1st_level_block_north_in_B_clear
35050 Interrupt_controller_1st_level_block_north_in_B_value
36030 Tile_Control
3f000 Stream_Switch_Master_Config_Tile_Ctrl
3f004 Stream_Switch_Master_Config_FIFO0
3f008 Stream_Switch_Master_Config_South{} 6:4
3f020 Stream_Switch_Master_Config_West{} 4:4
3f030 Stream_Switch_Master_Config_North{} 6:4
3f048 Stream_Switch_Master_Config_East{} 4:4
3f100 Stream_Switch_Slave_Config_Tile_Ctrl
3f104 Stream_Switch_Slave_Config_FIFO_0
3f108 Stream_Switch_Slave_Config_South_{} 8:4
3f128 Stream_Switch_Slave_Config_West_{} 4:4
3f138 Stream_Switch_Slave_Config_North_{} 4:4
3f148 Stream_Switch_Slave_Config_East_{} 4:4
3f158 Stream_Switch_Slave_Config_Trace
3f200 Stream_Switch_Slave_Tile_Ctrl_Slot{} 4:4
3f210 Stream_Switch_Slave_FIFO_0_Slot{} 4:4
3f220 Stream_Switch_Slave_South_{}_Slot{} 8:10 4:4
3f2a0 Stream_Switch_Slave_West_{}_Slot{} 4:10 4:4
3f2e0 Stream_Switch_Slave_North_{}_Slot{} 4:10 4:4
3f320 Stream_Switch_Slave_East_{}_Slot{} 4:10 4:4
3f360 Stream_Switch_Slave_Trace_Slot{} 4:4
3f800 Stream_Switch_Deterministic_Merge_arb0_slave0_1
3f804 Stream_Switch_Deterministic_Merge_arb0_slave2_3
3f808 Stream_Switch_Deterministic_Merge_arb{}_ctrl 2:10
3f810 Stream_Switch_Deterministic_Merge_arb1_slave0_1
3f814 Stream_Switch_Deterministic_Merge_arb1_slave2_3
3ff00 Stream_Switch_Event_Port_Selection_{} 2:4
3ff10 Stream_Switch_Parity_Status
3ff20 Stream_Switch_Parity_Injection
3ff30 Control_Packet_Handler_Status
3ff34 Stream_Switch_Adaptive_Clock_Gate_Status
3ff38 Stream_Switch_Adaptive_Clock_Gate_Abort_Period
40000 Lock_Request
fff00 Module_Clock_Control_{} 2:4
fff14 Module_Reset_Control_1
fff20 Column_Clock_Control
fff28 AIE_Tile_Column_Reset
"""

_TILES = {"core": _CORE_MODULE + _MEMORY_MODULE, "memtile": _MEMTILE_MODULE, "shim": _SHIM_MODULE}


def _line_registers(line: str) -> Iterator[tuple[str, int, int]]:
    """(name, offset, bytes) of the registers of one line of the tables."""
    base, template, *rest = line.split()
    size = 4
    axes: list[list[tuple[int, int]]] = []  # per `{}`: (number, added offset)
    for word in rest:
        if word.startswith("/"):
            size = int(word[1:], 16)
        else:
            count, stride, *first = word.split(":")
            start = int(first[0]) if first else 0
            axes.append([(start + i, int(stride, 16) * i) for i in range(int(count))])
    for choice in itertools.product(*axes):
        name = template.format(*(number for number, _ in choice))
        yield name, int(base, 16) + sum(added for _, added in choice), size


@lru_cache
def _registers(kind: str) -> tuple[tuple[str, int, int], ...]:
    """(name, offset, bytes) of every register of a tile kind."""
    return tuple(itertools.chain.from_iterable(map(_line_registers, _TILES[kind].splitlines())))


@lru_cache
def _memories(kind: str) -> tuple[tuple[str, int, int], ...]:
    return tuple(r for r in _registers(kind) if r[2] > 0x10)


@lru_cache
def _names(kind: str) -> dict[int, str]:
    """Word offset -> name, memories left out; further words of a wide register carry +offset."""
    names = {}
    for name, offset, size in _registers(kind):
        if size <= 0x10:
            for byte in range(0, size, 4):
                names[offset + byte] = f"{name}+{byte:#x}" if byte else name
    return names


@lru_cache
def _offsets(kind: str) -> dict[str, int]:
    offsets: dict[str, int] = {}
    for name, offset, _ in _registers(kind):
        offsets.setdefault(name, offset)  # a name of both modules means the core module's
    return offsets


def registers(kind: str) -> tuple[tuple[str, int, int], ...]:
    """(name, offset, bytes) of all registers and memories of a 'core', 'memtile' or 'shim' tile."""
    return _registers(kind)


def register_offset(kind: str, name: str) -> int:
    """Offset of a register inside a tile; ValueError when a `kind` tile has no such register."""
    offset = _offsets(kind).get(name)
    if offset is None:
        raise ValueError(f"a {kind} tile has no register {name}")
    return offset


def is_register(kind: str, offset: int) -> bool:
    """Whether a word-aligned offset is a register or memory word of the tile."""
    return offset in _names(kind) or any(start <= offset < start + size for _, start, size in _memories(kind))


def offset_name(kind: str, offset: int) -> str:
    """Name of the register or memory word at an offset; the offset in hexadecimal when there is none."""
    for name, start, size in _memories(kind):
        if start <= offset < start + size:
            return f"{name}+{offset - start:#x}"
    return _names(kind).get(offset, f"{offset:#07x}")


@lru_cache
def _arrays(kind: str) -> dict[int, str]:
    """Word offset -> name of the register or, with `{}` for its numbers, of the array it is in."""
    names = {}
    for line in _TILES[kind].splitlines():
        template = line.split()[1]
        for _, offset, size in _line_registers(line):
            if size <= 0x10:
                for byte in range(0, size, 4):
                    names[offset + byte] = template
    return names


def array_name(kind: str, offset: int) -> str:
    """As offset_name, but one name for all registers of an array, e.g. `DMA_BD{}_{}`."""
    return _arrays(kind).get(offset) or offset_name(kind, offset).partition("+")[0]


def register_name(address: int) -> str:
    """What lies at a partition-relative address, e.g. `core(0,2).Core_Control` or `memtile(1,1).DataMemory+0x400`."""
    column, row, offset = split_address(address)
    if row >= ROWS:
        return f"tile({column},{row}).{offset:#07x}"
    kind = tile_kind(row)
    return f"{kind}({column},{row}).{offset_name(kind, offset)}"
