"""The experiments of facts/silicon/calibration.json that need DMA channels, streams or the shim."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from array_bench import Bench

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import register_offset
from npuc.runtime.emulator.device import Device

Expected = dict[str, Any]
SHIM, MEMTILE, CORE = (0, 0), (0, 1), (0, 2)
OWN = geometry.MEMTILE_VIEW_OWN // 4
LOCKED = dict(acquire_enable=1, acquire_value=-1)


def upward(bench: Bench) -> None:
    """Memory tile MM2S 0 to S2MM 0 of the core tile above."""
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    bench.circuit(CORE, ("south", 0), ("dma", 0))


def downward(bench: Bench) -> None:
    """Core tile MM2S 0 to S2MM 0 of the memory tile below."""
    bench.circuit(CORE, ("dma", 0), ("south", 0))
    bench.circuit(MEMTILE, ("north", 0), ("dma", 0))


def repeatedly(bench: Bench, tile: tuple[int, int], period: int, times: int, lock: int = 0) -> None:
    """Release a lock once every `period` cycles."""
    for number in range(times):
        bench.at(1000 + number * period, lambda: bench.release(tile, lock))


def memtile_to_core(words_per_descriptor: int, few: int, many: int) -> Callable[[Expected], None]:
    """A core reads one word a bundle from a memory tile's self-chained descriptor; slope over the words read.

    The constant between the marks depends on code that the description does not give.
    """

    def cycles(words: int) -> int:
        bench = Bench()
        bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
        bench.circuit(CORE, ("south", 0), ("core", 0))
        bench.descriptor(MEMTILE, 0, words_per_descriptor, base_address=OWN, use_next=1, next_bd=0)
        bench.start(MEMTILE, "mm2s", 0, 0)
        reads, nops = "mov r0, SS\n" * 15, "nop\n" * 8
        bench.program(
            CORE,
            f"{nops * 8} movxm lc, #{words // 16}\n movxm ls, #first\n movxm le, #last\n{nops}"
            f" event #0\nfirst:\n{reads}last:\n mov r0, SS\n{nops} event #1\n{nops} done\n{nops}",
        )
        core = bench.array.tiles[CORE].core
        assert core is not None
        marks: list[int] = []
        core.core.raise_event = lambda number: marks.append(core.core.cycle)  # type: ignore[method-assign]
        while core.done_at is None:
            bench.array.clock.step()
        return marks[1] - marks[0]

    def experiment(expected: Expected) -> None:
        assert expected["slope"] == "1 + 1/16384 cycles per word"
        assert cycles(many) - cycles(few) == (many - few) + (many - few) // words_per_descriptor

    return experiment


def bd_switch_recv(expected: Expected) -> None:
    """64 words into a ring of two 16-word descriptors.

    They come from a core tile: the shim's mean rate of 1.05 cycles a word would hide the gap.
    """
    bench = Bench()
    downward(bench)
    for number in range(2):
        bench.descriptor(MEMTILE, number, 16, base_address=OWN + 16 * number, use_next=1, next_bd=1 - number)
    bench.descriptor(CORE, 0, 64)
    bench.start(MEMTILE, "s2mm", 0, 0)
    bench.run()
    bench.start(CORE, "mm2s", 0, 0)
    bench.run()
    spans = bench.of("S2MM 0 of memtile(0,1)", "receiving")
    assert [end - start for start, end in spans] == expected["running"]
    assert [later[0] - sooner[1] for sooner, later in zip(spans, spans[1:], strict=False)] == expected["stalled"]


def _drain(
    bench: Bench, tile: tuple[int, int], other: tuple[int, int], words: int, times: int, **fields: int
) -> list[float]:
    """Cycles from each lock grant of a sender to its descriptor's end, the receiver always ready."""
    kind = bench.kind(tile)
    base = {"base_address": OWN} if kind == "memtile" else {}
    bench.descriptor(
        tile, 0, words, use_next=1, next_bd=0, acquire_lock=64 if kind == "memtile" else 0, **LOCKED, **base, **fields
    )
    bench.descriptor(other, 0, words, use_next=1, next_bd=0, **({} if base else {"base_address": OWN}))
    bench.start(other, "s2mm", 0, 0)
    bench.start(tile, "mm2s", 0, 0)
    repeatedly(bench, tile, 1000, times)
    bench.run(1000 * (times + 2))
    name = f"MM2S 0 of {kind}({tile[0]},{tile[1]})"
    grants = [end for _, end in bench.of(name, "lock stall")]
    ends = [start for start, _ in bench.of(name, "descriptor finished")]
    assert len(grants) == len(ends) == times
    return [end - grant for grant, end in zip(grants, ends, strict=True)]


def memtile_mm2s_256(expected: Expected) -> None:
    for stride, cycles in expected["cycles"].items():
        bench = Bench()
        upward(bench)
        assert _drain(bench, MEMTILE, CORE, 256, 1, d0_step=int(stride.removesuffix("B")) // 4 - 1) == [cycles]


def memtile_bank_contention(expected: Expected) -> None:
    """Drain cycles beside a fill. The conflicts themselves are not counted: hardware lost no time to them."""
    for fill, case in ((False, "solo"), (True, "apart"), (True, "same_bank")):
        bench = Bench()
        upward(bench)
        if fill:
            downward(bench)
            bench.descriptor(MEMTILE, 1, 256, base_address=OWN + (0 if case == "same_bank" else 4))
            bench.descriptor(CORE, 1, 256)
            bench.start(MEMTILE, "s2mm", 0, 1)
            bench.at(1000, lambda bench=bench: bench.start(CORE, "mm2s", 0, 1))
        assert _drain(bench, MEMTILE, CORE, 256, 1) == [expected["drain_cycles"][case]]


def core_tile_mm2s_256(expected: Expected) -> None:
    """The median of 16 drains beside a core that is idle or hammers a bank; conflicts themselves are not counted."""
    for case, place in (("idle", None), ("apart", 0x78000), ("same", 0x70400)):
        bench = Bench()
        downward(bench)
        if place is not None:
            nops = "nop\n" * 5
            bench.program(
                CORE,
                f" movxm p0, #{place}\nagain:\n lda r1, [p0, #0]\n lda r2, [p0, #16]\n"
                f" st r3, [p0, #32]\n nop\n j #again\n{nops}",
            )
        assert statistics.median(_drain(bench, CORE, MEMTILE, 256, 16)) == expected["cycles_median"][case]


def s2mm_backpressure(expected: Expected) -> None:
    bench = Bench()
    upward(bench)
    bench.descriptor(MEMTILE, 0, 4096, base_address=OWN, use_next=1, next_bd=0)
    bench.descriptor(CORE, 0, 32, use_next=1, next_bd=0, **LOCKED)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    repeatedly(bench, CORE, expected["window_period"], 39)
    bench.run()
    stalls = bench.of("S2MM 0 of core(0,2)", "lock stall")[1:]
    pressed = bench.of("S2MM 0 of core(0,2)", "memory backpressure")[1:]
    assert len(stalls) == len(pressed) == 38
    for (stall, grant), (full, free) in zip(stalls, pressed, strict=True):
        assert full - stall == expected["assert_after_lock_stall_start"]
        assert free - grant == expected["deassert_after_lock_stall_end"]
        # The level drops a cycle after the lock's, so 104 of the 105 cycles lie inside the stall.
        assert (grant - stall, grant - full) == (
            expected["steady_window"]["lock_stall"],
            expected["steady_window"]["backpressure"],
        )


def mm2s_inflight(expected: Expected) -> None:
    """Descriptors of a core tile that have started and are not done, the shim's channel never having been started."""
    for words, backlog in zip(expected["W"], expected["backlog_bds"], strict=True):
        bench = Bench()
        bench.shim_dma()
        bench.circuit(CORE, ("dma", 0), ("south", 0))
        bench.circuit(MEMTILE, ("north", 0), ("south", 0))
        bench.circuit(SHIM, ("north", 0), ("south", 2))
        bench.descriptor(CORE, 0, words)
        bench.start(CORE, "mm2s", 0, 0, repeat=64)
        bench.run()
        started, done = (len(bench.of("MM2S 0 of core(0,2)", f"descriptor {what}")) for what in ("started", "finished"))
        assert started - done == backlog
    assert backlog * words == expected["backlog_words_plateau"]


def finished_bd_semantics(expected: Expected) -> None:
    bench = Bench()
    upward(bench)
    bench.descriptor(MEMTILE, 0, 64, base_address=OWN, use_next=1, next_bd=0)
    bench.descriptor(CORE, 0, 64, **LOCKED)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    finished = lambda: len(bench.of("MM2S 0 of memtile(0,1)", "descriptor finished"))  # noqa: E731
    assert finished() == expected["finished_bd"]
    bench.release(CORE, 0)
    bench.run()
    assert finished() == 1


def _shim(bench: Bench, buffers: list[bytearray]) -> None:
    """Shim DMA connected; descriptor i covers buffer i."""
    bench.shim_dma()
    bench.tokens()
    bench.array.host.attach(buffers)
    for number, buffer in enumerate(buffers):
        address = bench.array.host.address(number, 0, "the test") // 4
        bench.descriptor(SHIM, number, len(buffer) // 4, address_low=address & 0x3FFFFFFF, address_high=address >> 30)


def through_memtile(bench: Bench, words: int) -> None:
    """Shim MM2S 0 to the memory tile and back to shim S2MM 0, in objects of `words` words."""
    bench.circuit(SHIM, ("south", 3), ("north", 0))
    bench.circuit(MEMTILE, ("south", 0), ("dma", 0))
    bench.circuit(MEMTILE, ("dma", 0), ("south", 0))
    bench.circuit(SHIM, ("north", 0), ("south", 2))
    bench.array.tiles[MEMTILE].locks.write(0, 2, "the test")
    for half in range(2):
        place = dict(base_address=OWN + half * words, use_next=1, acquire_enable=1, acquire_value=-1, release_value=1)
        bench.descriptor(MEMTILE, half, words, next_bd=1 - half, acquire_lock=64, release_lock=65, **place)
        bench.descriptor(MEMTILE, 2 + half, words, next_bd=3 - half, acquire_lock=65, release_lock=64, **place)
    bench.start(MEMTILE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 2)


def tct_buffer(expected: Expected) -> None:
    for tasks, stalls, finished in zip(expected["N"], expected["token_stall"], expected["finished_tasks"], strict=True):
        bench = Bench()
        _shim(bench, [bytearray(256)])
        bench.circuit(SHIM, ("south", 3), ("north", 0))
        bench.circuit(MEMTILE, ("south", 0), ("dma", 0))
        bench.descriptor(MEMTILE, 0, 64, base_address=OWN, use_next=1, next_bd=0)
        bench.start(MEMTILE, "s2mm", 0, 0)
        for number in range(tasks):
            bench.at(3000 * number, lambda bench=bench: bench.start(SHIM, "mm2s", 0, 0, token=True))
        bench.run()
        assert bench.array.tiles[SHIM].channels["mm2s", 0].tasks == finished
        assert len(bench.array.tokens[0, 0, "mm2s", 0]) == finished - stalls


def _task_cycles(words: int) -> tuple[float, float]:
    """Cycles of one task in and one out, through the memory tile, from the push to the task's end."""
    bench = Bench()
    _shim(bench, [bytearray(4 * words), bytearray(4 * words)])
    through_memtile(bench, min(words, 16384))
    bench.start(SHIM, "mm2s", 0, 0)
    bench.run()
    ((read, _),) = bench.of("MM2S 0 of shim(0,0)", "task finished")
    start = bench.array.clock.cycle
    bench.start(SHIM, "s2mm", 0, 1)
    bench.run()
    ((written, _),) = bench.of("S2MM 0 of shim(0,0)", "task finished")
    return read, written - start


def single_task(expected: Expected) -> None:
    """Slope within 5 %; the intercept, noisy on hardware, is that of the fit for N >= 1024."""
    fits = {"mm2s": (747, 1.05), "s2mm": (171, 1.00)}
    assert expected["fit_N>=1024"] == {"mm2s": "747 + 1.05 N", "s2mm": "171 + 1.00 N"}
    few, many = _task_cycles(1024), _task_cycles(16384)
    for index, (first, slope) in enumerate(fits.values()):
        assert abs((many[index] - few[index]) / 15360 / slope - 1) <= 0.05
        assert abs(few[index] - (first + slope * 1024)) <= 0.05 * (first + slope * 1024)


def passthrough(expected: Expected) -> None:
    """Bytes a cycle of one channel, full duplex, slope over the payload."""

    def cycles(words: int) -> int:
        bench = Bench()
        source = np.arange(words, dtype=np.uint32)
        target = bytearray(4 * words)
        _shim(bench, [bytearray(source.tobytes()), target])
        through_memtile(bench, 4096)
        bench.start(SHIM, "s2mm", 0, 1)
        bench.start(SHIM, "mm2s", 0, 0)
        bench.run()
        bench.array.host.detach([bytearray(4 * words), target])
        assert target == source.tobytes()
        return bench.array.last_completion

    rate = 4 * (65536 - 16384) / (cycles(65536) - cycles(16384))
    assert abs(rate / expected["bytes_per_cycle_per_channel"]["1"] - 1) <= 0.01


# the runtime sequence


def _sequence_cycles(operations: list[txn.Operation]) -> int:
    return Device(1).run([*operations, txn.Write(_SCRATCH, 0)], []).cycles


_SCRATCH = geometry.tile_address(*MEMTILE, 0)


def packet_cost(expected: Expected) -> None:
    """Cost of one more operation of each kind, within 1 %."""
    write, block, longer, masked = (
        _sequence_cycles([operation]) - _sequence_cycles([])
        for operation in (
            txn.Write(_SCRATCH, 0),
            txn.BlockWrite(_SCRATCH, (0,) * 8),
            txn.BlockWrite(_SCRATCH, (0,) * 12),
            txn.MaskWrite(_SCRATCH, 0, 1),
        )
    )
    assert abs(write / expected["write32"] - 1) <= 0.01
    assert block == expected["blockwrite_8_words"]
    assert (longer - block) / 4 == expected["blockwrite_per_extra_word"]
    assert masked == expected["maskwrite"]


def _pushes(count: int, waits: bool) -> tuple[Device, int]:
    """Tasks of 64 words from DDR one after the other, pushed as fast as the sequence can."""
    device = Device(1)
    bench = Bench.of_array(device._array)
    bench.shim_dma()
    bench.tokens()
    bench.circuit(SHIM, ("south", 3), ("north", 0))
    bench.circuit(MEMTILE, ("south", 0), ("dma", 0))
    bench.descriptor(MEMTILE, 0, 64, base_address=OWN, use_next=1, next_bd=0)
    bench.start(MEMTILE, "s2mm", 0, 0)
    queue = geometry.tile_address(*SHIM, geometry.channel_queue_offset("shim", "mm2s", 0))
    bd = geometry.tile_address(*SHIM, geometry.bd_offset("shim", 0))
    operations: list[txn.Operation] = [txn.BlockWrite(bd, (64, 0, 0, 0, 0, 0, 0, 1 << 25)), txn.DdrPatch(bd + 4, 0, 0)]
    for _ in range(count):
        operations.append(txn.Write(queue, geometry.queue_word(0, token=True)))
        operations += [txn.Sync(0, 0, 1, 0)] if waits else []
    operations += [] if waits else [txn.Sync(0, 0, 1, 0)] * count
    return device, device.run(operations, [bytearray(256)]).cycles


def task_gap(expected: Expected) -> None:
    """From one push to the next, in steady state: the gap and the task that fills part of it."""
    for gap in (*expected["steady_mm2s"], *expected["steady_s2mm"]):
        pushes = _pushes(6, False)[1] - _pushes(5, False)[1]
        assert abs(pushes / gap - 1) <= 0.05


def wait(expected: Expected) -> None:
    """A completion that is waited for, beyond the task itself."""
    waited = _pushes(2, True)[1] - _pushes(1, True)[1]
    task = _task_cycles(64)[0]
    assert abs((waited - task) / expected["cycles"] - 1) <= 0.2


def memtile_hop(expected: Expected) -> None:
    """Words a cycle through the shim directly and by way of the memory tile, within 0.3 %."""
    assert abs(expected["direct"] / expected["via_memtile"] - 1) <= 0.003

    def cycles(words: int, hop: bool) -> int:
        bench = Bench()
        _shim(bench, [bytearray(4 * words), bytearray(4 * words)])
        if hop:
            through_memtile(bench, 1600)
        else:
            bench.circuit(SHIM, ("south", 3), ("south", 2))
        bench.start(SHIM, "s2mm", 0, 1)
        bench.start(SHIM, "mm2s", 0, 0)
        bench.run()
        return bench.array.last_completion

    direct, hop = (cycles(64000, way) - cycles(16000, way) for way in (False, True))
    assert abs(hop / direct - 1) <= 0.003


# debugging


def breakpoint_on_a_store(expected: Expected) -> None:
    bench = Bench()
    nops = "nop\n" * 8
    bench.program(
        CORE,
        f"{nops} mova r1, #7\n movxm p0, #0x70400\n{nops}at:\n st r1, [p0, #0]\n{nops} done\n{nops}",
        before=lambda symbols: (
            bench.write(CORE, register_offset("core", "PC_Event1"), symbols["at"] | 1 << 31),
            bench.write(CORE, register_offset("core", "Debug_Control2"), 1),
        ),
    )
    bench.run()
    assert bench.read(CORE, geometry.CORE_STATUS) == int(expected["core_status"], 16)
    assert bool(bench.read(CORE, 0x400)) == expected["store_committed"]
    assert bench.read(CORE, register_offset("core", "Debug_Status")) == 3
    assert bench.read(CORE, register_offset("core", "Core_R1")) == 7
    bench.write(CORE, register_offset("core", "Debug_Control0"), 0)
    bench.run()
    assert (bench.read(CORE, 0x400), bench.read(CORE, geometry.CORE_STATUS)) == (7, 1 << 20 | 1)
