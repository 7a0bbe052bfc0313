"""Bit fields of npu1's registers, as the public register manual (AM025) has them.

A line without indentation names registers, as `module,module.register` in the names of registers.py; `*` stands for
any text and `{}` for any number.  The indented lines below it are their fields: `Name[msb:lsb]`, `Name[bit]`, or `Name`
alone for the bit above the field before; `Name{0:3}` is four such bits, Name0 to Name3.  Registers that are one number
of a whole word, and reserved bits, are left out.  A core tile's modules are core and memory; of buffer descriptors the
bits stand in geometry.BD_FIELDS, here only the manual's names for them.  Checked against
facts/platform/registers_aie2.json.  Imports nothing of npuc but its neighbours here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple

from npuc.compiler.target.npu1.geometry import BD_BASE, BD_COUNT, BD_FIELDS, BD_STRIDE, BD_WORDS
from npuc.compiler.target.npu1.registers import array_name, offset_name

_FIELDS = """\
core.Core_M{} core.Core_DN{} core.Core_DJ{} core.Core_DC{} core.Core_P{} core.Core_PC core.Core_FC core.Core_SP
core.Core_LR core.Core_LS core.Core_LE core.Core_DP
  Register_Value[19:0]
core.Core_S{}
  Register_Value[5:0]
core.Core_CR
  Saturation_Mode[1:0] Round_Mode[5:2] Float_MAC_Zero_Mask Float_MAC_Infinity_Mask Float_MAC_Invalid_Mask
  Float_MAC_Tiny_Mask Float_MAC_Huge_Mask MCD_Enable SCD_Enable Vadd_Sign Unpack_Sign Pack_Sign UPS_Sign SRS_Sign
  Bfloat_to_Int_Zero_Mask Bfloat_to_Int_Invalid_Mask[20] Bfloat_to_Int_Tiny_Mask Bfloat_to_Int_Huge_Mask
  Float_to_Bfloat_Zero_Mask Float_to_Bfloat_Infinity_Mask Float_to_Bfloat_Invalid_Mask Float_to_Bfloat_Tiny_Mask
  Float_to_Bfloat_Huge_Mask
core.Core_SR
  Carry SS0_Success SS0_Tlast MS0_Success SRS_Overflow UPS_Overflow Compression_Underflow Float_MAC_Zero_Flag
  Float_MAC_Infinity_Flag Float_MAC_Invalid_Flag Float_MAC_Tiny_Flag Float_MAC_Huge_Flag Bfloat_to_Int_Zero_Flag
  Bfloat_to_Int_Invalid_Flag[14] Bfloat_to_Int_Tiny_Flag Bfloat_to_Int_Huge_Flag Float_to_Bfloat_Zero_Flag
  Float_to_Bfloat_Infinity_Flag Float_to_Bfloat_Invalid_Flag Float_to_Bfloat_Tiny_Flag Float_to_Bfloat_Huge_Flag
  Sparse_Overflow
core,memory.Performance_Control0 shim.Performance_Ctrl0
  Cnt0_Start_Event[6:0] Cnt0_Stop_Event[14:8] Cnt1_Start_Event[22:16] Cnt1_Stop_Event[30:24]
core.Performance_Control1
  Cnt2_Start_Event[6:0] Cnt2_Stop_Event[14:8] Cnt3_Start_Event[22:16] Cnt3_Stop_Event[30:24]
core.Performance_Control2
  Cnt0_Reset_Event[6:0] Cnt1_Reset_Event[14:8] Cnt2_Reset_Event[22:16] Cnt3_Reset_Event[30:24]
core.Core_Control
  Enable Reset
core.Core_Status
  Enable Reset Memory_Stall_S Memory_Stall_W Memory_Stall_N Memory_Stall_E Lock_Stall_S Lock_Stall_W Lock_Stall_N
  Lock_Stall_E Stream_Stall_SS0 Stream_Stall_MS0[12] Cascade_Stall_SCD[14] Cascade_Stall_MCD Debug_Halt
  ECC_Error_Stall ECC_Scrubbing_Stall Error_Halt Core_Done Core_Processor_Bus_Stall
core.Enable_Events
  Enable_Event[6:0] Enable_Event_occurred Disable_Event[14:8] Disable_Event_occurred
core.Reset_Event
  Reset_Event[6:0]
core.Debug_Control0
  Debug_Halt_Bit Single_Step_Count[5:2]
core.Debug_Control1
  Debug_Resume_Core_Event[6:0] Debug_SingleStep_Core_Event[14:8] Debug_Halt_Core_Event0[22:16]
  Debug_Halt_Core_Event1[30:24]
core.Debug_Control2
  PC_Event_Halt Memory_Stall_Halt Lock_Stall_Halt Stream_Stall_Halt
core.Debug_Status
  Debug_halted PC_Event_halted Memory_Stall_Halted Lock_Stall_Halted Stream_stall_Halted Debug_Event0_Halted
  Debug_Event1_Halted
core.PC_Event{}
  PC_Address[13:0] Valid[31]
core.Error_Halt_Control
  Error_Halt
core.Error_Halt_Event
  Error_Halt_Core_Event[6:0]
core.Core_Processor_Bus
  Enable SLVERR_On_Access[2]
core,memory,shim.Timer_Control
  Reset_Event[14:8] Reset[31]
core,memory,shim.Event_Generate core,memory.Event_Broadcast{} shim.Event_Broadcast{}_A
  Event[6:0]
*.Event_Broadcast*_Set shim.Interrupt_controller_1st_level_block_north_in_*_set
  Set[15:0]
*.Event_Broadcast*_Clr shim.Interrupt_controller_1st_level_block_north_in_*_clear
  Clear[15:0]
*.Event_Broadcast*_Value shim.Interrupt_controller_1st_level_block_north_in_*_value
  Value[15:0]
core.Trace_Control0
  Mode[1:0] Trace_Start_Event[22:16] Trace_Stop_Event[30:24]
*.Trace_Control1
  ID[4:0] Packet_Type[14:12]
*.Trace_Status
  Mode[2:0] State[9:8]
core,memory,shim.Trace_Event0
  Trace_Event0[6:0] Trace_Event1[14:8] Trace_Event2[22:16] Trace_Event3[30:24]
core,memory,shim.Trace_Event1
  Trace_Event4[6:0] Trace_Event5[14:8] Trace_Event6[22:16] Trace_Event7[30:24]
core,memory,shim.Combo_event_inputs
  eventA[6:0] eventB[14:8] eventC[22:16] eventD[30:24]
*.Combo_event_control
  combo0[1:0] combo1[9:8] combo2[17:16]
core,memory,shim.Edge_Detection_event_control
  Edge_Detection_Event_0[6:0] Edge_Detection_0_Trigger_Rising[9] Edge_Detection_0_Trigger_Falling
  Edge_Detection_Event_1[22:16] Edge_Detection_1_Trigger_Rising[25] Edge_Detection_1_Trigger_Falling
core.Event_Group_0_Enable
  Timer_Sync Timer_Value_Reached Perf_Cnt{0:3} Combo_Event_{0:3} Edge_Detection_Event_0 Edge_Detection_Event_1
core.Event_Group_PC_Enable
  PC_{0:3} PC_Range_0_1 PC_Range_2_3
core.Event_Group_Core_Stall_Enable
  Memory_Stall Stream_Stall Cascade_Stall Lock_Stall Debug Active Disable ECC_Scrubbing_Stall ECC_Error_Stall
core.Event_Group_Core_Program_Flow_Enable
  Instr_Event_0 Instr_Event_1 Instr_Call Instr_Return Instr_Vector Instr_Load Instr_Store Instr_Stream_Get
  Instr_Stream_Put Instr_Cascade_Get Instr_Cascade_Put Instr_Lock_Acquire_req Instr_Lock_Release_req
core.Event_Group_Errors{}_Enable
  SRS_Overflow UPS_Overflow FP_Huge Int_FP_Zero FP_Invalid FP_INF PM_Reg_Access_Failure[7] Stream_Pkt_Parity_Error
  Control_Pkt_Error AXI_MM_Slave_Error Instruction_Decompression_Error DM_address_out_of_range
  PM_ECC_Error_Scrub_Corrected PM_ECC_Error_Scrub_2bit PM_ECC_Error_1bit PM_ECC_Error_2bit PM_address_out_of_range
  DM_access_to_Unavailable Lock_Access_to_Unavailable Instr_Warning Instr_Error Decompression_underflow
  Stream_Switch_Port_Parity_Error Processor_Bus_Error
*.Event_Group_Stream_Switch_Enable
  Port_Idle_0 Port_Running_0 Port_Stalled_0 Port_TLAST_0 Port_Idle_1 Port_Running_1 Port_Stalled_1 Port_TLAST_1
  Port_Idle_2 Port_Running_2 Port_Stalled_2 Port_TLAST_2 Port_Idle_3 Port_Running_3 Port_Stalled_3 Port_TLAST_3
  Port_Idle_4 Port_Running_4 Port_Stalled_4 Port_TLAST_4 Port_Idle_5 Port_Running_5 Port_Stalled_5 Port_TLAST_5
  Port_Idle_6 Port_Running_6 Port_Stalled_6 Port_TLAST_6 Port_Idle_7 Port_Running_7 Port_Stalled_7 Port_TLAST_7
core,memory.Event_Group_Broadcast_Enable
  Broadcast_{0:15}
core,memory.Event_Group_User_Event_Enable
  User_Event_{0:3}
*.Tile_Control
  Isolate_From_South Isolate_From_West Isolate_From_North Isolate_From_East
core.Accumulator_Control
  Input Output
core,memory.Memory_Control
  Memory_Zeroisation
*.Stream_Switch_Master_Config_*
  Configuration[6:0] Drop_Header Packet_Enable[30] Master_Enable
*.Stream_Switch_Slave_Config_*
  Packet_Enable[30] Slave_Enable
*.Stream_Switch_Slave_*_Slot{}
  arbit[2:0] msel[5:4] enable[8] mask[20:16] id[28:24]
*.Stream_Switch_Deterministic_Merge_arb0_slave0_1 *.Stream_Switch_Deterministic_Merge_arb1_slave0_1
  Slave_ID_0[4:0] Packet_Count_0[13:8] Slave_ID_1[20:16] Packet_Count_1[29:24]
*.Stream_Switch_Deterministic_Merge_arb0_slave2_3 *.Stream_Switch_Deterministic_Merge_arb1_slave2_3
  Slave_ID_2[4:0] Packet_Count_2[13:8] Slave_ID_3[20:16] Packet_Count_3[29:24]
*.Stream_Switch_Deterministic_Merge_arb{}_ctrl
  Enable
*.Stream_Switch_Event_Port_Selection_0
  Port_0_ID[4:0] Port_0_Master_Slave Port_1_ID[12:8] Port_1_Master_Slave Port_2_ID[20:16] Port_2_Master_Slave
  Port_3_ID[28:24] Port_3_Master_Slave
*.Stream_Switch_Event_Port_Selection_1
  Port_4_ID[4:0] Port_4_Master_Slave Port_5_ID[12:8] Port_5_Master_Slave Port_6_ID[20:16] Port_6_Master_Slave
  Port_7_ID[28:24] Port_7_Master_Slave
core.Stream_Switch_Parity_Status
  Core DMA_0 DMA_1 Tile_Control
core.Stream_Switch_Parity_Injection
  Core DMA_0 DMA_1 Tile_Control AIE_Trace Mem_trace
*.Tile_Control_Packet_Handler_Status shim.Control_Packet_Handler_Status
  First_Header_Parity_Error Second_Header_Parity_Error SLVERR_On_Access Tlast_Error
*.Stream_Switch_Adaptive_Clock_Gate_Status
  Active
*.Stream_Switch_Adaptive_Clock_Gate_Abort_Period
  Abort_Period[3:0]
core.Module_Clock_Control
  Stream_Switch_Clock_Enable Memory_Module_Clock_Enable Core_Module_Clock_Enable
  Stream_Switch_Adaptive_Clock_Gate[4] DMA_Adaptive_Clock_Gate
memory.Performance_Control1 shim.Performance_Ctrl1
  Cnt0_Reset_Event[6:0] Cnt1_Reset_Event[14:8]
memory,shim.Trace_Control0
  Trace_Start_Event[22:16] Trace_Stop_Event[30:24]
memory.WatchPoint{}
  Address[15:4] WriteStrobes[23:20] South_Access West_Access North_Access East_Access DMA_Access AXI_Access
  Write_Access Read_Access
memory.Event_Group_0_Enable
  Timer_Sync Timer_Value_Reached Perf_Cnt0_Event Perf_Cnt1_Event Combo_Event_{0:3} Edge_Detection_Event_0
  Edge_Detection_Event_1
memory.Event_Group_Watchpoint_Enable
  Watchpoint_0 Watchpoint_1
memory.Event_Group_DMA_Enable shim.Event_Group_DMA_Activity_Enable
  DMA_S2MM_0_start_task DMA_S2MM_1_start_task DMA_MM2S_0_start_task DMA_MM2S_1_start_task DMA_S2MM_0_finished_BD
  DMA_S2MM_1_finished_BD DMA_MM2S_0_finished_BD DMA_MM2S_1_finished_BD DMA_S2MM_0_finished_task
  DMA_S2MM_1_finished_task DMA_MM2S_0_finished_task DMA_MM2S_1_finished_task DMA_S2MM_0_stalled_lock_acquire
  DMA_S2MM_1_stalled_lock_acquire DMA_MM2S_0_stalled_lock_acquire DMA_MM2S_1_stalled_lock_acquire
  DMA_S2MM_0_stream_starvation DMA_S2MM_1_stream_starvation DMA_S2MM_0_memory_backpressure
  DMA_S2MM_1_memory_backpressure DMA_MM2S_0_stream_backpressure DMA_MM2S_1_stream_backpressure
  DMA_MM2S_0_memory_starvation DMA_MM2S_1_memory_starvation
memory,memtile.Event_Group_Lock_Enable
  Lock_Sel0_acq_eq Lock_Sel0_acq_ge Lock_Sel0_rel Lock_Sel0_equal_to_value Lock_Sel1_acq_eq Lock_Sel1_acq_ge
  Lock_Sel1_rel Lock_Sel1_equal_to_value Lock_Sel2_acq_eq Lock_Sel2_acq_ge Lock_Sel2_rel Lock_Sel2_equal_to_value
  Lock_Sel3_acq_eq Lock_Sel3_acq_ge Lock_Sel3_rel Lock_Sel3_equal_to_value Lock_Sel4_acq_eq Lock_Sel4_acq_ge
  Lock_Sel4_rel Lock_Sel4_equal_to_value Lock_Sel5_acq_eq Lock_Sel5_acq_ge Lock_Sel5_rel Lock_Sel5_equal_to_value
  Lock_Sel6_acq_eq Lock_Sel6_acq_ge Lock_Sel6_rel Lock_Sel6_equal_to_value Lock_Sel7_acq_eq Lock_Sel7_acq_ge
  Lock_Sel7_rel Lock_Sel7_equal_to_value
memory.Event_Group_Memory_Conflict_Enable
  Conflict_DM_Bank_{0:7}
memory.Event_Group_Error_Enable
  DM_ECC_Error_Scrub_Corrected DM_ECC_Error_Scrub_2bit DM_ECC_Error_1bit DM_ECC_Error_2bit
  DM_Parity_Error_Bank_{2:7} DMA_S2MM_0_Error DMA_S2MM_1_Error DMA_MM2S_0_Error DMA_MM2S_1_Error Lock_Error
  DMA_Task_Token_Stall
memory,memtile.DMA_S2MM_{}_Ctrl
  Reset[1] Enable_Out_of_Order[3] Decompression_Enable Controller_ID[15:8] FoT_Mode[17:16]
memory.DMA_S2MM_{}_Start_Queue memory.DMA_MM2S_{}_Start_Queue shim.DMA_S2MM_{}_Task_Queue
shim.DMA_MM2S_{}_Task_Queue
  Start_BD_ID[3:0] Repeat_Count[23:16] Enable_Token_Issue[31]
memory,memtile.DMA_MM2S_{}_Ctrl
  Reset[1] Compression_Enable[4] Controller_ID[15:8]
memory.DMA_S2MM_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Starvation Stalled_TCT_or_Count_FIFO_Full
  Error_BD_Unavailable[10] Error_BD_Invalid Error_FoT_Length_Exceeded Error_FoT_BDs_per_Task Task_Queue_Overflow[18]
  Channel_Running Task_Queue_Size[22:20] Cur_BD[27:24]
memory.DMA_MM2S_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Backpressure Stalled_TCT Error_BD_Invalid[11]
  Task_Queue_Overflow[18] Channel_Running Task_Queue_Size[22:20] Cur_BD[27:24]
memory.DMA_S2MM_Current_Write_Count_{}
  Current_Write_Count[13:0]
*.DMA_S2MM_FoT_Count_FIFO_Pop_{}
  Write_Count[17:0] BD_ID[29:24] Last_in_Task Valid
*.Lock{}_value
  Lock_value[5:0]
memory,shim.Locks_Event_Selection_{}
  Lock_Value[5:0] Lock_Select[19:16]
*.Locks_Overflow
  Lock_Overflow_{0:15}
*.Locks_Underflow
  Lock_Underflow_{0:15}
*.Lock_Request
  Request_Result
memtile.Performance_Control0
  Cnt0_Start_Event[7:0] Cnt0_Stop_Event[15:8] Cnt1_Start_Event[23:16] Cnt1_Stop_Event[31:24]
memtile.Performance_Control1
  Cnt2_Start_Event[7:0] Cnt2_Stop_Event[15:8] Cnt3_Start_Event[23:16] Cnt3_Stop_Event[31:24]
memtile.Performance_Control2
  Cnt0_Reset_Event[7:0] Cnt1_Reset_Event[15:8] Cnt2_Reset_Event[23:16] Cnt3_Reset_Event[31:24]
memtile.Timer_Control
  Reset_Event[15:8] Reset[31]
memtile.Event_Generate memtile.Event_Broadcast{}
  Event[7:0]
memtile.Trace_Control0
  Trace_Start_Event[23:16] Trace_Stop_Event[31:24]
memtile.Trace_Event0
  Trace_Event0[7:0] Trace_Event1[15:8] Trace_Event2[23:16] Trace_Event3[31:24]
memtile.Trace_Event1
  Trace_Event4[7:0] Trace_Event5[15:8] Trace_Event6[23:16] Trace_Event7[31:24]
memtile.WatchPoint{}
  Address[18:4] WriteStrobes[23:20] West_Access East_Access DMA_Access AXI_Access Write_Access Read_Access
memtile.Combo_event_inputs
  eventA[7:0] eventB[15:8] eventC[23:16] eventD[31:24]
memtile.Edge_Detection_event_control
  Edge_Detection_Event_0[7:0] Edge_Detection_0_Trigger_Rising[9] Edge_Detection_0_Trigger_Falling
  Edge_Detection_Event_1[23:16] Edge_Detection_1_Trigger_Rising[25] Edge_Detection_1_Trigger_Falling
memtile.Event_Group_0_Enable
  Timer_Sync Timer_Value_Reached Perf_Cnt0_Event Perf_Cnt1_Event Perf_Cnt2_Event Perf_Cnt3_Event Combo_Event_{0:3}
  Edge_Detection_Event_0 Edge_Detection_Event_1
memtile.Event_Group_Watchpoint_Enable
  Watchpoint_{0:3}
memtile.Event_Group_DMA_Enable
  DMA_S2MM_Sel0_start_task DMA_S2MM_Sel1_start_task DMA_MM2S_Sel0_start_task DMA_MM2S_Sel1_start_task
  DMA_S2MM_Sel0_finished_BD DMA_S2MM_Sel1_finished_BD DMA_MM2S_Sel0_finished_BD DMA_MM2S_Sel1_finished_BD
  DMA_S2MM_Sel0_finished_task DMA_S2MM_Sel1_finished_task DMA_MM2S_Sel0_finished_task DMA_MM2S_Sel1_finished_task
  DMA_S2MM_Sel0_stalled_lock_acquire DMA_S2MM_Sel1_stalled_lock_acquire DMA_MM2S_Sel0_stalled_lock_acquire
  DMA_MM2S_Sel1_stalled_lock_acquire DMA_S2MM_Sel0_stream_starvation DMA_S2MM_Sel1_stream_starvation
  DMA_MM2S_Sel0_stream_backpressure DMA_MM2S_Sel1_stream_backpressure DMA_S2MM_Sel0_memory_backpressure
  DMA_S2MM_Sel1_memory_backpressure DMA_MM2S_Sel0_memory_starvation DMA_MM2S_Sel1_memory_starvation
memtile.Event_Group_Memory_Conflict_Enable
  Conflict_DM_Bank_{0:15}
memtile.Event_Group_Error_Enable
  DM_ECC_Error_Scrub_Corrected DM_ECC_Error_Scrub_2bit DM_ECC_Error_1bit DM_ECC_Error_2bit DMA_S2MM_Error
  DMA_MM2S_Error Stream_Switch_Port_Parity_Error Stream_Pkt_Parity_Error Control_Pkt_Error AXI_MM_Slave_Error
  Lock_Error DMA_Task_Token_Stall
memtile.Event_Group_Broadcast_Enable shim.Event_Group_Broadcast_A_Enable
  Broadcast_A_{0:15}
memtile.Event_Group_User_Event_Enable
  User_Event_0 User_Event_1
memtile.Memory_Control
  Memory_Zeroisation Memory_Interleaving
memtile.DMA_S2MM_{}_Start_Queue memtile.DMA_MM2S_{}_Start_Queue
  Start_BD_ID[5:0] Repeat_Count[23:16] Enable_Token_Issue[31]
memtile.DMA_S2MM_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Starvation Stalled_TCT_or_Count_FIFO_Full
  Error_Lock_Access_to_Unavailable[8] Error_DM_Access_to_Unavailable Error_BD_Unavailable Error_BD_Invalid
  Error_FoT_Length_Exceeded Error_FoT_BDs_per_Task Task_Queue_Overflow[18] Channel_Running Task_Queue_Size[22:20]
  Cur_BD[29:24]
memtile.DMA_MM2S_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Backpressure Stalled_TCT
  Error_Lock_Access_to_Unavailable[8] Error_DM_Access_to_Unavailable Error_BD_Unavailable Error_BD_Invalid
  Task_Queue_Overflow[18] Channel_Running Task_Queue_Size[22:20] Cur_BD[29:24]
memtile.DMA_Event_Channel_Selection
  S2MM_Sel0_Channel[2:0] S2MM_Sel1_Channel[10:8] MM2S_Sel0_Channel[18:16] MM2S_Sel1_Channel[26:24]
memtile.DMA_S2MM_Current_Write_Count_{}
  Current_Write_Count[16:0]
memtile.Stream_Switch_Parity_Status
  DMA_{0:5} Tile_Control
memtile.Stream_Switch_Parity_Injection
  DMA_{0:5} Tile_Control Mem_trace
memtile.Locks_Event_Selection_{}
  Lock_Value[5:0] Lock_Select[21:16]
memtile.Locks_Overflow_0
  Lock_Overflow_{0:31}
memtile.Locks_Overflow_1
  Lock_Overflow_{32:63}
memtile.Locks_Underflow_0
  Lock_Underflow_{0:31}
memtile.Locks_Underflow_1
  Lock_Underflow_{32:63}
memtile.Module_Clock_Control
  Stream_Switch_Clock_Enable Memory_Module_Clock_Enable Stream_Switch_Adaptive_Clock_Gate[4] DMA_Adaptive_Clock_Gate
shim.Interrupt_controller_2nd_level_mask
  IRQ_Mask_A[15:0]
shim.Interrupt_controller_2nd_level_enable
  Enable_A[15:0]
shim.Interrupt_controller_2nd_level_disable
  Disable_A[15:0]
shim.Interrupt_controller_2nd_level_status
  Status_A[15:0]
shim.Interrupt_controller_2nd_level_interrupt
  NoC_Interrupt[1:0]
shim.DMA_S2MM_{}_Ctrl
  Pause_Mem[1] Pause_Stream Enable_Out_of_Order Controller_ID[15:8] FoT_Mode[17:16]
shim.DMA_MM2S_{}_Ctrl
  Pause_Mem[1] Pause_Stream Controller_ID[15:8]
shim.DMA_S2MM_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Starvation Stalled_TCT_or_Count_FIFO_Full
  Error_BD_Unavailable[10] Error_BD_Invalid Error_FoT_Length_Exceeded Error_FoT_BDs_per_Task AXI_MM_Decode_Error[16]
  AXI_MM_Slave_Error Task_Queue_Overflow Channel_Running Task_Queue_Size[22:20] Cur_BD[27:24]
shim.DMA_MM2S_Status_{}
  Status[1:0] Stalled_Lock_Acq Stalled_Lock_Rel Stalled_Stream_Backpressure Stalled_TCT Error_BD_Invalid[11]
  AXI_MM_Decode_Error[16] AXI_MM_Slave_Error Task_Queue_Overflow Channel_Running Task_Queue_Size[22:20]
  Cur_BD[27:24]
shim.DMA_S2MM_Current_Write_Count_{}
  Current_Write_Count[17:0]
shim.NoC_Interface_AIE_to_NoC_South{}
  Tdest[9:0]
shim.AIE_AXIMM_Config
  Master_Sel Slave_Sel SLVERR_Block DECERR_Block
shim.Mux_Config
  South2[9:8] South3[11:10] South6[13:12] South7[15:14]
shim.Demux_Config
  South2[5:4] South3[7:6] South4[9:8] South5[11:10]
shim.PL_Interface_Upsizer_Config
  South0 South1 South0_South1_128_combine South2 South3 South2_South3_128_combine South4 South5
  South4_South5_128_combine
shim.PL_Interface_Downsizer_Config
  South0 South1 South0_South1_128_combine South2 South3 South2_South3_128_combine South4 South5
  South4_South5_128_combine South6 South7 South6_South7_128_combine
shim.PL_Interface_Downsizer_Enable
  South{0:7}
shim.Event_Group_0_Enable
  Timer_Sync Timer_Value_Reached Perf_Cnt0 Perf_Cnt1 Combo_Event_{0:3} Edge_Detection_Event_0 Edge_Detection_Event_1
shim.Event_Group_Lock_Enable
  Lock_Sel0_acq_eq Lock_Sel0_acq_ge Lock_Sel0_rel Lock_Sel0_equal_to_value Lock_Sel1_acq_eq Lock_Sel1_acq_ge
  Lock_Sel1_rel Lock_Sel1_equal_to_value Lock_Sel2_acq_eq Lock_Sel2_acq_ge Lock_Sel2_rel Lock_Sel2_equal_to_value
  Lock_Sel3_acq_eq Lock_Sel3_acq_ge Lock_Sel3_rel Lock_Sel3_equal_to_value Lock_Sel4_acq_eq Lock_Sel4_acq_ge
  Lock_Sel4_rel Lock_Sel4_equal_to_value Lock_Sel5_acq_eq Lock_Sel5_acq_ge Lock_Sel5_rel Lock_Sel5_equal_to_value
shim.Event_Group_Errors_Enable
  AXI_MM_Slave_Tile_Error Control_Pkt_Error Stream_Switch_Port_Parity_Error AXI_MM_Decode_NSU_Error
  AXI_MM_Slave_NSU_Error AXI_MM_Unsupported_Traffic AXI_MM_Unsecure_Access_in_Secure_Mode AXI_MM_Byte_Strobe_Error
  DMA_S2MM_Error DMA_MM2S_Error Lock_Error DMA_Task_Token_Stall
shim.Interrupt_controller_1st_level_mask_A
  IRQ_Mask_A[19:0]
shim.Interrupt_controller_1st_level_enable_A
  Enable_A[19:0]
shim.Interrupt_controller_1st_level_disable_A
  Disable_A[19:0]
shim.Interrupt_controller_1st_level_status_A
  Status_A[19:0]
shim.Interrupt_controller_1st_level_irq_no_A
  Irq_no_A[3:0]
shim.Interrupt_controller_1st_level_irq_event_A shim.Interrupt_controller_1st_level_irq_event_B
  IRQ_Event0[6:0] IRQ_Event1[14:8] IRQ_Event2[22:16] IRQ_Event3[30:24]
shim.Interrupt_controller_1st_level_mask_B
  IRQ_Mask_B[19:0]
shim.Interrupt_controller_1st_level_enable_B
  Enable_B[19:0]
shim.Interrupt_controller_1st_level_disable_B
  Disable_B[19:0]
shim.Interrupt_controller_1st_level_status_B
  Status_B[19:0]
shim.Interrupt_controller_1st_level_irq_no_B
  Irq_no_B[3:0]
shim.Stream_Switch_Parity_Status
  South_{0:5} Tile_Control
shim.Stream_Switch_Parity_Injection
  South_{0:7} Tile_Control Shim_trace
shim.Module_Clock_Control_0
  Stream_Switch_Clock_Enable PL_Interface_Clock_Enable CTE_Clock_Enable[3] Stream_Switch_Adaptive_Clock_Gate
  DMA_Adaptive_Clock_Gate
shim.Module_Clock_Control_1
  NoC_Module_Clock_Enable
shim.Module_Reset_Control_1
  NoC_Module_Reset
shim.Column_Clock_Control
  Clock_Buffer_Enable
shim.AIE_Tile_Column_Reset
  Reset
"""

_BD_NAMES = {
    "base_address": "Base_Address", "address_low": "Base_Address_Low", "address_high": "Base_Address_High",
    "length": "Buffer_Length", "enable_compression": "Enable_Compression", "enable_packet": "Enable_Packet",
    "out_of_order_id": "Out_Of_Order_BD_ID", "packet_id": "Packet_ID", "packet_type": "Packet_Type",
    "d0_step": "D0_Stepsize", "d1_step": "D1_Stepsize", "d2_step": "D2_Stepsize", "d3_step": "D3_Stepsize",
    "d0_wrap": "D0_Wrap", "d1_wrap": "D1_Wrap", "d2_wrap": "D2_Wrap",
    "d0_zero_before": "D0_Zero_Before", "d1_zero_before": "D1_Zero_Before", "d2_zero_before": "D2_Zero_Before",
    "d0_zero_after": "D0_Zero_After", "d1_zero_after": "D1_Zero_After", "d2_zero_after": "D2_Zero_After",
    "iteration_current": "Iteration_Current", "iteration_wrap": "Iteration_Wrap",
    "iteration_step": "Iteration_Stepsize", "secure": "Secure_Access", "burst": "Burst_Length", "smid": "SMID",
    "ax_cache": "AxCache", "ax_qos": "AxQoS", "tlast_suppress": "TLAST_Suppress", "next_bd": "Next_BD",
    "use_next": "Use_Next_BD", "valid": "Valid_BD", "release_value": "Lock_Rel_Value", "release_lock": "Lock_Rel_ID",
    "acquire_enable": "Lock_Acq_Enable", "acquire_value": "Lock_Acq_Value", "acquire_lock": "Lock_Acq_ID",
}  # fmt: skip

_FIELD = re.compile(r"(?P<name>\w+)(?:\{(?P<first>\d+):(?P<last>\d+)\})?(?:\[(?P<msb>\d+)(?::(?P<lsb>\d+))?\])?")


class RegisterField(NamedTuple):
    """Bits msb..lsb of a register word; a signed field gives two's complement values."""

    name: str
    msb: int
    lsb: int
    signed: bool = False

    @property
    def mask(self) -> int:
        """The field's bits in the word."""
        return (1 << self.msb + 1) - (1 << self.lsb)

    def value(self, word: int) -> int:
        """What a word says in this field."""
        value = (word & self.mask) >> self.lsb
        return value - (self.mask + (1 << self.lsb) >> self.lsb) if self.signed and word >> self.msb & 1 else value


def _parse_fields(text: str) -> Iterator[RegisterField]:
    bit = 0
    for word in text.split():
        match = _FIELD.fullmatch(word)
        assert match is not None, word
        lsb = int(match["lsb"] or match["msb"] or bit)
        msb = int(match["msb"] or bit)
        if match["first"] is None:
            yield RegisterField(match["name"], msb, lsb)
        else:
            first, last = int(match["first"]), int(match["last"])
            for number in range(first, last + 1):
                yield RegisterField(f"{match['name']}{number}", lsb + number - first, lsb + number - first)
            msb = lsb + last - first
        bit = msb + 1


@cache
def _table() -> tuple[tuple[tuple[tuple[str, str], ...], tuple[RegisterField, ...]], ...]:
    """((module, name) patterns, fields) of every entry."""
    entries = []
    for entry in re.split(r"\n(?=\S)", re.sub(r"(?m)^(\S.*)\n(?=\S)", r"\1 ", _FIELDS)):
        names, _, fields = entry.partition("\n")
        patterns = [word.partition(".")[::2] for word in names.split()]
        pairs = tuple((module, name) for modules, name in patterns for module in modules.split(","))
        entries.append((pairs, tuple(_parse_fields(fields))))
    return tuple(entries)


@cache
def _bd_fields(kind: str, word: int) -> tuple[RegisterField, ...]:
    fields = (
        RegisterField(_BD_NAMES[name], f.msb, f.lsb, f.signed) for name, f in BD_FIELDS[kind].items() if f.word == word
    )
    return tuple(sorted(fields, key=lambda field: field.lsb))


def _module(kind: str, offset: int) -> str:
    """The module of a core tile that an offset belongs to; of other tiles the kind itself."""
    in_core = 0x20000 <= offset < 0x40000 or offset >= 0x60000
    return kind if kind != "core" or in_core else "memory"


@cache
def register_fields(kind: str, offset: int) -> tuple[RegisterField, ...]:
    """Fields of the register word at an offset of a 'core', 'memtile' or 'shim' tile, lowest first.

    Empty where there is no register, or where it is one number of a whole word.
    """
    into_bds = offset - BD_BASE[kind]
    if 0 <= into_bds < BD_STRIDE * BD_COUNT[kind]:
        return _bd_fields(kind, into_bds % BD_STRIDE // 4) if into_bds % BD_STRIDE < 4 * BD_WORDS[kind] else ()
    module, names = _module(kind, offset), (offset_name(kind, offset), array_name(kind, offset))
    for patterns, fields in _table():
        for chosen, pattern in patterns:
            if chosen in (module, "*") and any(fnmatchcase(name, pattern) for name in names):
                return fields
    return ()


def changed_fields(kind: str, offset: int, before: int, after: int) -> list[tuple[str, int, int]]:
    """(field, its value before, its value after) of the fields in which two words of a register differ.

    Bits that belong to no field are named by their numbers, the whole word by an empty name.
    """
    fields = register_fields(kind, offset)
    if not fields:
        return [("", before, after)] if before != after else []
    changed = [(f.name, f.value(before), f.value(after)) for f in fields if (before ^ after) & f.mask]
    rest = (before ^ after) & ~sum(field.mask for field in fields)
    while rest:
        bit = rest.bit_length() - 1
        changed.append((f"bit {bit}", before >> bit & 1, after >> bit & 1))
        rest &= ~(1 << bit)
    return changed
