"""What things cost on the modelled machine, in cycles of the array clock; every constant with its basis.

H measured on hardware, M manual, T toolchain, A assumed here; the tables are facts/silicon/silicon.md and
facts/schedule/aie2_timing_hw.md.  Deterministic: the same run costs the same cycles, always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from npuc.compiler.diagnostics import UsageError

SLOWEST, FASTEST = 0.05, 50.0  # GHz


@dataclass(frozen=True)
class MachineTable:
    name: str
    clock_hz: int  # H: silicon.md section 8
    ddr_read_bytes: float  # per cycle, whole array; H: section 7
    ddr_write_bytes: float  # H: the same each way (28.1 GB/s measured in both directions at once)
    write: int = 100  # H: a register write of the runtime sequence (section 9)
    block_write: int = 203  # H: of 8 words
    block_write_word: int = 13  # H: each further word
    block_write_words: int = 8
    masked_write: int = 210  # H
    ddr_patch: int = 100  # A
    push_gap: int = 2850  # H: between two pushes to one channel
    completion: int = 8000  # H, coarse: from the data to the sequence seeing it
    shim_mm2s_first: int = 747  # H: first word of a task read from DDR (section 7)
    shim_s2mm_first: int = 171  # H
    shim_mm2s_word: float = 1.05  # H: cycles a word unless DDR binds
    shim_s2mm_word: float = 1.0  # H
    task_start: int = 4  # A
    next_descriptor: int = 1  # H: section 5, BD restart bubble
    lock_stall: int = 1  # H: uncontended acquire or release by a core
    lock_visible: int = 1  # A: a release is seen in the next cycle
    lock_resume: int = 2  # A: from seeing the lock to the waiting core's next bundle
    cascade_hop: int = 1  # A: from writing 512 bits to reading them; unknown (facts/schedule/aie2_timing_hw.md)
    local_to_local: int = 3  # M: stream switch crossings (section 6)
    local_to_external: int = 4
    external_to_local: int = 3
    external_to_external: int = 4
    local_to_local_words: int = 6  # M: what a crossing can hold (facts/schedule/aie2_timing_hw.md)
    local_to_external_words: int = 8
    external_to_local_words: int = 6
    external_to_external_words: int = 8
    fifo_words: int = 16  # M: a switch's FIFO port holds so many; that it costs the two crossings and no more is A
    receive_words: int = 15  # H: an S2MM channel accepts so many before its lock is granted
    receive_resume: int = 3  # H (dma.s2mm_backpressure, 140 - 119 cycles): from the grant until a full buffer accepts
    send_entries: int = 6  # H (dma.mm2s_inflight): 16-byte entries a MM2S channel fetches ahead, each of one descriptor
    # H: when a MM2S descriptor counts as done, from the cycle after its last word left, the way being free
    # (dma.core_tile_mm2s_256: 244 of 256, dma.memtile_mm2s_256: 251, with a stride 258).
    core_mm2s_finish: int = -12
    memtile_mm2s_finish: int = -5
    memtile_strided_finish: int = 2

    ddr_run: float = 0.0  # A, off: cycles a channel needs for a run of neighbouring words in DDR

    def at_clock(self, gigahertz: float) -> MachineTable:
        """The same machine at another clock of the array: DDR moves as many bytes a second, so others a cycle.

        UsageError for a clock that no array has.
        """
        if not SLOWEST <= gigahertz <= FASTEST:
            raise UsageError(
                f"a clock of {gigahertz:g} GHz (--clock)", remedy=f"{SLOWEST} to {FASTEST} GHz are emulated"
            )
        clock_hz = round(gigahertz * 1e9)
        slower = self.clock_hz / clock_hz
        return replace(
            self,
            clock_hz=clock_hz,
            ddr_read_bytes=self.ddr_read_bytes * slower,
            ddr_write_bytes=self.ddr_write_bytes * slower,
            ddr_run=self.ddr_run / slower,
        )

    def with_short_runs(self) -> MachineTable:
        """The same machine with an assumed cost of short runs in DDR.

        A hypothesis (facts/silicon/silicon.md section 10): 39 cycles at 1.6 GHz for each run of up to 64 bytes would
        explain the times of two public matrix multiplications.
        """
        return replace(self, ddr_run=SHORT_RUN_SECONDS * self.clock_hz)


SHORT_RUN_SECONDS = 39 / 1.6e9
PHOENIX = MachineTable("phoenix", 1_000_000_000, 26.0, 26.0)
# Eleven published times of this processor fit 1.6 GHz (section 10); its DDR is taken to be as fast as phoenix's.
M8945HS = MachineTable("8945hs", 1_600_000_000, 16.25, 16.25)
M8700G = MachineTable("8700g", 1_800_000_000, 15.6, 15.6)  # 28.1 GB/s each way
MACHINES = {machine.name: machine for machine in (PHOENIX, M8945HS, M8700G)}
