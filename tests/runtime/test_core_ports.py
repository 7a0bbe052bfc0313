"""What a core exchanges with its surroundings: streams, cascade, neighbours' memory and locks, its tile's registers."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from core_programs import Cores

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.cascade import ACCUMULATOR_CONTROL, DEPTH
from npuc.runtime.emulator.core_unit import PROCESSOR_BUS, CorePort
from npuc.runtime.emulator.errors import EmulationError

CORE_R = 0x30C00  # facts/platform/device_npu1.md, step 0x10


class FakePort:
    """A stream port whose words arrive, and whose room appears, at given cycles."""

    def __init__(self, cores: Cores, arrivals: list[tuple[int, int, bool]] = (), room: list[int] = ()) -> None:  # type: ignore[assignment]
        self.cores = cores
        self.arrivals = deque(arrivals)
        self.room = deque(room)
        self.sent: list[tuple[int, int, bool]] = []

    def take(self) -> tuple[int, bool] | None:
        if not self.arrivals or self.arrivals[0][0] > self.cores.array.clock.cycle:
            return None
        _, word, last = self.arrivals.popleft()
        return word, last

    def offer(self, word: int, last: bool) -> bool:
        if not self.room or self.room[0] > self.cores.array.clock.cycle:
            return False
        self.room.popleft()
        self.sent.append((self.cores.array.clock.cycle, word, last))
        return True

    def when_readable(self, wake: Callable[[], None]) -> None:
        if self.arrivals:
            self.cores.array.clock.at(self.arrivals[0][0], 0, wake)

    def when_writable(self, wake: Callable[[], None]) -> None:
        if self.room:
            self.cores.array.clock.at(self.room[0], 0, wake)


def with_port(cores: Cores, arrivals: list[tuple[int, int, bool]] = (), room: list[int] = ()) -> FakePort:  # type: ignore[assignment]
    port = FakePort(cores, arrivals, room)
    cores.array.core_port = lambda tile: port  # type: ignore[method-assign]
    checked: CorePort = port
    assert checked is port
    return port


# streams


def test_a_blocking_read_waits_for_its_word_and_lands_seven_cycles_after_issue() -> None:
    cores = Cores(1)
    with_port(cores, [(200, 0xAA, False), (201, 0xBB, True)])
    unit = cores.load(0, 2, "mov r1, SS\nmov r2, SS\n.\n.\nmov r3, srSS0\nnopx\ndone")
    cores.run()
    assert [unit.core.registers.read(name) for name in ("r1", "r2", "r3")] == [0xAA, 0xBB, 0b11]
    assert unit.stall_stream == 200 - 2, "issued in cycle 1, the core stands still from cycle 2 to 199"
    assert unit.core.bundles == unit.done_at - 1 - unit.stall_stream + 1


def test_reads_of_words_that_are_there_cost_nothing() -> None:
    cores = Cores(1)
    with_port(cores, [(0, word, False) for word in range(4)])
    unit = cores.load(0, 2, "mov r1, SS\nmov r2, SS\nmov r3, SS\nmov r4, SS\n.\ndone")
    cores.run()
    assert [unit.core.registers.read(f"r{i}") for i in range(1, 5)] == [0, 1, 2, 3]
    assert unit.stall_stream == 0 and unit.done_at == 12


def test_a_word_read_is_not_there_a_cycle_too_early() -> None:
    cores = Cores(1)
    with_port(cores, [(0, 9, False)])
    unit = cores.load(0, 2, "mov r1, SS\n\n\n\n\n\nmov r2, r1\nmov r3, r1\ndone", r1=5)
    cores.run()
    assert (unit.core.registers.read("r2"), unit.core.registers.read("r3")) == (5, 9)


def test_a_non_blocking_read_goes_on_and_says_so() -> None:
    cores = Cores(1)
    with_port(cores, [(10, 7, True)])
    unit = cores.load(0, 2, "mov.nb r1, SS\n.\nmov r2, srSS0\n.\nmov.nb r3, SS\n.\n\nmov r4, srSS0\ndone")
    cores.run()
    assert [unit.core.registers.read(name) for name in ("r1", "r2", "r3", "r4")] == [0, 0, 7, 0b11]
    assert unit.stall_stream == 0


def test_writes_wait_for_room_and_carry_tlast() -> None:
    cores = Cores(1)
    port = with_port(cores, room=[0, 50, 51, 52])
    unit = cores.load(0, 2, "mov ms, r1\nmov.tlast ms, r2\nmov ms, r1, r28\nmov ms, r2, r28\ndone", r1=1, r2=2, r28=1)
    cores.run()
    assert [(word, last) for _, word, last in port.sent] == [(1, False), (2, True), (1, True), (2, True)]
    assert [cycle for cycle, _, _ in port.sent] == [2, 50, 51, 52]
    assert unit.stall_stream == 50 - 3


@pytest.mark.parametrize(("room", "status"), [([0], 1), ([1000], 0)])
def test_a_non_blocking_write_reports_whether_it_was_accepted(room: list[int], status: int) -> None:
    cores = Cores(1)
    port = with_port(cores, room=room)
    unit = cores.load(0, 2, "mov.nb ms, r1\n\nmov r3, srMS0\nmov r2, srMS0\ndone", r1=5)
    unit.core.registers.write("srMS0", 1 - status)
    cores.run()
    assert (unit.core.registers.read("r3"), unit.core.registers.read("r2")) == (1 - status, status)
    assert len(port.sent) == status


def test_tlast_by_register_must_be_a_flag() -> None:
    cores = Cores(1)
    with_port(cores, room=[0])
    cores.load(0, 2, "mov ms, r1, r28", r1=1, r28=2)
    with pytest.raises(EmulationError, match="r28 as TLAST"):
        cores.run()


def _parity_is_odd(word: int) -> bool:
    return bin(word).count("1") % 2 == 1


def test_packet_headers_hold_id_type_place_and_odd_parity() -> None:
    cores = Cores(2)
    port = with_port(cores, room=list(range(64)))
    for identity in (0, 1, 21, 31):
        cores.load(1, 3, "mov.ph ms, r1, #5\nmov.ph.tlast ms, r1, #7\ndone", r1=identity)
        cores.run()
    for (_, word, last), identity, kind in zip(port.sent, (0, 0, 1, 1, 21, 21, 31, 31), (5, 7) * 4, strict=True):
        assert word & 0x7FFFFFFF == identity | kind << 12 | 3 << 16 | 1 << 21
        assert _parity_is_odd(word) and last == (kind == 7)


def test_control_packet_headers_hold_address_beats_operation_and_response_id() -> None:
    cores = Cores(1)
    port = with_port(cores, room=list(range(64)))
    cores.load(0, 2, "mov.cph ms, m1, #3, #1, r2\nmov.cph.nb.tlast ms, m2, #0, #2, r3\ndone", m1=0x1F000, m2=0x32000,
               r2=9, r3=30)
    cores.run()
    words = [word for _, word, _ in port.sent]
    want = [0x1F000 | 3 << 20 | 1 << 22 | 9 << 24, 0x32000 | 2 << 22 | 30 << 24]
    assert [word & 0x7FFFFFFF for word in words] == want
    assert all(_parity_is_odd(word) for word in words) and [last for _, _, last in port.sent] == [False, True]


def test_read_and_write_in_one_bundle_are_served_one_after_the_other() -> None:
    cores = Cores(1)
    port = with_port(cores, [(30, 4, False)], [40])
    unit = cores.load(0, 2, "mov r1, SS; mov ms, r2\n.\ndone", r2=8)
    cores.run()
    assert unit.core.registers.read("r1") == 4 and port.sent == [(40, 8, False)]


def test_a_core_that_waits_for_a_stream_shows_it() -> None:
    cores = Cores(1)
    with_port(cores)
    unit = cores.load(0, 2, "mov r1, SS\ndone")
    cores.run()
    assert unit.status() == 1 | 1 << 10
    assert "waits for a word on its stream input" in str(unit.describe())
    cores.load(0, 2, "mov ms, r1\ndone")
    cores.run()
    assert unit.status() == 1 | 1 << 12


# cascade


def cascade_pair(cores: Cores, direction: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Places of writer and reader, with Accumulator_Control set."""
    places = {"south": ((0, 3), (0, 2)), "east": ((0, 2), (1, 2))}[direction]
    for place, value in zip(places, {"south": (0, 0), "east": (2, 1)}[direction], strict=True):
        cores.array.tiles[place].plain[ACCUMULATOR_CONTROL] = value
    return places


@pytest.mark.parametrize("direction", ["south", "east"])
def test_cascade_moves_512_bits_to_the_neighbour(direction: str) -> None:
    cores = Cores(2)
    writer, reader = cascade_pair(cores, direction)
    data = [bytes((17 * i + 3 * k) & 255 for i in range(64)) for k in range(2)]
    cores.load(*writer, ".\nvmov MCD, x1\nvmov MCD, bmh2\ndone", x1=data[0], bmh2=data[1])
    unit = cores.load(*reader, "vmov bml0, SCD\nvmov x2, SCD\n.\ndone")
    cores.run()
    assert unit.core.registers.read("bml0").tobytes() == data[0]
    assert unit.core.registers.read("x2").tobytes() == data[1]
    assert unit.stall_cascade > 0


def test_a_full_cascade_holds_the_writer_until_the_reader_takes() -> None:
    cores = Cores(1)
    writer, reader = cascade_pair(cores, "south")
    count = DEPTH + 3
    unit = cores.load(*writer, "vmov MCD, x1\n" * count + "done", x1=bytes(64), crMCDEn=1)
    cores.load(*reader, ".\n" * 5 + "vmov x1, SCD\n" * count + ".\ndone", crSCDEn=1)
    cores.run()
    assert unit.done_at is not None and unit.stall_cascade > 20


def test_cascade_entries_arrive_in_order_and_none_is_lost() -> None:
    cores = Cores(1)
    writer, reader = cascade_pair(cores, "south")
    cores.load(*writer, "\n".join(f"vmov MCD, x{i}" for i in range(8)) + "\ndone", crMCDEn=1,
               **{f"x{i}": bytes([i + 1] * 64) for i in range(8)})
    unit = cores.load(*reader, "\n".join(f"vmov x{i}, SCD" for i in range(8)) + "\n.\ndone", crSCDEn=1)
    cores.run()
    assert [int(unit.core.registers.read(f"x{i}")[0]) for i in range(8)] == list(range(1, 9))


@pytest.mark.parametrize(("text", "message"), [("vmov MCD, x1", "crMCDEn is 0"), ("vmov x1, SCD", "crSCDEn is 0")])
def test_a_cascade_that_is_not_enabled_is_named(text: str, message: str) -> None:
    cores = Cores(1)
    cores.load(0, 3, text, crMCDEn=0, crSCDEn=0)
    with pytest.raises(EmulationError, match=message):
        cores.run()


def test_a_cascade_out_of_the_array_is_named() -> None:
    cores = Cores(1)
    cores.load(0, 2, "vmov MCD, x1", crMCDEn=1)
    with pytest.raises(EmulationError, match="to the south, where no core is"):
        cores.run()


def test_a_reader_without_a_writer_shows_a_cascade_stall() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "vmov x1, SCD\n.\ndone", crSCDEn=1)
    cores.run()
    assert unit.status() == 1 | 1 << 14 and "cascade data from the north" in str(unit.describe())


# neighbours

WINDOWS = {"south": (0x40000, (1, 2)), "west": (0x50000, (0, 3)), "north": (0x60000, (1, 4)), "own": (0x70000, (1, 3))}


@pytest.mark.parametrize("side", WINDOWS)
def test_a_window_reaches_the_neighbour_of_that_side(side: str) -> None:
    base, place = WINDOWS[side]
    cores = Cores(2)
    memory = cores.array.tiles[place].memory
    assert memory is not None
    memory.write(0x120, bytes(range(32)))
    unit = cores.load(1, 3, "vlda wl1, [p0, #0]; st r1, [p1, #0]\nst.s8 r2, [p2, #0]\n.\n.\ndone", p0=base + 0x120,
                      p1=base + 0x8000, p2=base + 0x8006, r1=0x11223344, r2=0x55)
    cores.run()
    assert unit.core.registers.read("wl1").tobytes() == bytes(range(32))
    assert memory.read(0x8000, 8) == bytes.fromhex("4433221100005500")


@pytest.mark.parametrize(("place", "address", "side"), [((0, 2), 0x40000, "south"), ((0, 3), 0x50000, "west"),
                                                         ((0, 5), 0x60000, "north")])
def test_an_absent_neighbour_is_named(place: tuple[int, int], address: int, side: str) -> None:
    cores = Cores(1)
    cores.load(*place, "lda r1, [p0, #0]\n.\ndone", p0=address)
    with pytest.raises(EmulationError, match=f"no {side} neighbour"):
        cores.run()


def test_accesses_to_two_memories_do_not_meet_in_a_bank() -> None:
    cores = Cores(2)
    unit = cores.load(1, 3, "vlda wl1, [p0, #0]; vldb wl2, [p1, #0]; vst wl3, [p2, #0]\n.\ndone", p0=0x40000,
                      p1=0x60000, p2=0x70000)
    cores.run()
    assert unit.core.stall_memory == 0


def test_buffers_passed_between_neighbours_by_locks_are_seen_in_order() -> None:
    """A producer fills its own buffer, its north neighbour reads it through the window; two locks guard it."""
    cores = Cores(1)
    rounds = 12
    producer = """
acq #48, r0
.
add r5, r5, r6
st r5, [p0, #0]
.
rel #49, r1
.
jnzd r4, r4, p1





done"""
    consumer = """
acq #1, r0
.
lda r7, [p0, #0]
.
add r5, r5, r7
rel #0, r1
.
jnzd r4, r4, p1





done"""
    one, minus = 1, 0xFFFFFFFF
    cores.array.tiles[0, 2].locks.values[0] = 1
    cores.load(0, 2, producer, r0=minus, r1=one, r4=rounds - 1, r5=0, r6=7, p0=0x70000, p1=0)
    unit = cores.load(0, 3, consumer, r0=minus, r1=one, r4=rounds - 1, r5=0, p0=0x40000, p1=0)
    cores.run()
    assert unit.done_at is not None
    assert unit.core.registers.read("r5") == 7 * sum(range(1, rounds + 1))


@pytest.mark.parametrize(("number", "place"), [(3, (1, 2)), (16 + 3, (0, 3)), (32 + 3, (1, 4)), (48 + 3, (1, 3))])
def test_lock_numbers_select_the_neighbour(number: int, place: tuple[int, int]) -> None:
    cores = Cores(2)
    unit = cores.load(1, 3, f"rel #{number}, r1\n.\ndone", r1=2)
    cores.run()
    changed = {key: tile.locks.values[3] for key, tile in cores.array.tiles.items() if any(tile.locks.values)}
    assert changed == {place: 2} and unit.stall_lock == 1


def test_a_lock_of_an_absent_neighbour_is_named() -> None:
    cores = Cores(1)
    cores.load(0, 2, "acq #3, r1", r1=1)
    with pytest.raises(EmulationError, match="lock 3, but has no south neighbour"):
        cores.run()


def test_a_lock_number_beyond_63_is_named() -> None:
    cores = Cores(1)
    cores.load(0, 2, "rel r2, r1\n.\ndone", r1=1, r2=64)
    with pytest.raises(EmulationError, match="lock 64: a core numbers its locks 0 to 63"):
        cores.run()


@pytest.mark.parametrize(("number", "bit"), [(0, 6), (16, 7), (32, 8), (48, 9)])
def test_a_core_that_waits_for_a_lock_shows_whose(number: int, bit: int) -> None:
    cores = Cores(2)
    unit = cores.load(1, 3, f"acq #{number}, r1\ndone", r1=0xFFFFFFFF)
    cores.run()
    assert unit.status() == 1 | 1 << bit


def test_a_poll_of_memory_without_a_lock_ends_soon_after_the_neighbour_writes() -> None:
    cores = Cores(1)
    poll = "lda r1, [p0, #0]\n.\njz r1, #0\n\n\n\n\n\ndone"
    unit = cores.load(0, 2, poll, p0=0x70000)
    cores.load(0, 3, ".\n" * 40 + "lda r2, [p0, #0]\n.\nst r3, [p0, #0]\n.\ndone", p0=0x40000, r3=1)
    cores.run()
    wrote = cores.unit(0, 3).done_at
    assert unit.done_at is not None and wrote is not None
    assert unit.done_at < wrote + 50_000 + 64


# the tile's registers, from inside and from outside


def test_a_core_reads_and_writes_registers_of_its_tile() -> None:
    cores = Cores(1)
    tile = cores.array.tiles[0, 2]
    tile.plain[PROCESSOR_BUS] = 1
    lock = 0x80000 + geometry.LOCK_BASE["core"] + 5 * geometry.LOCK_STRIDE
    unit = cores.load(0, 2, "st.tm r1, [p0]\n.\nlda.tm r2, [p0]\n.\ndone", p0=lock, r1=9)
    cores.run()
    assert tile.locks.values[5] == 9 and unit.core.registers.read("r2") == 9


def test_tile_registers_without_the_processor_bus_are_an_error() -> None:
    cores = Cores(1)
    cores.load(0, 2, "lda.tm r2, [p0]\n.\ndone", p0=0x80000 + 0x32004)
    with pytest.raises(EmulationError, match="Core_Processor_Bus"):
        cores.run()


def test_registers_of_a_core_that_stands_still_are_visible() -> None:
    cores = Cores(1)
    vector = bytes(range(64))
    unit = cores.load(0, 2, "\n\ndone", r7=0x1234, p3=0x70040, lr=0x150, x1=vector, bml2=vector)
    cores.run()
    address = geometry.tile_address(0, 2, 0)
    read = lambda offset: cores.array.registers.read(address + offset, "test")  # noqa: E731
    assert read(CORE_R + 0x70) == 0x1234 and read(0x31000 + 0x30) == 0x70040 and read(geometry.CORE_LR) == 0x150
    assert read(geometry.CORE_PC) == 0x30 and read(geometry.CORE_STATUS) == 1 | 1 << 20
    low, high = 0x30800 + 0x40, 0x30820 + 0x40
    words = [read(base + 4 * i) for base in (low, high) for i in range(8)]
    assert words == np.frombuffer(vector, dtype="<u4").tolist()
    words = [read(base + 2 * 0x80 + 4 * i) for base in (0x30000, 0x30020) for i in range(8)]
    assert words == np.frombuffer(vector, dtype="<u4").tolist()
    cores.array.registers.write(address + low + 8, 0xCAFE, "test")
    cores.array.registers.write(address + CORE_R, 77, "test")
    assert unit.core.registers.read("x1").tobytes()[8:12] == bytes.fromhex("feca0000")
    assert unit.core.registers.read("r0") == 77


def test_control_registers_are_packed_as_the_register_manual_has_them(facts_dir: Path) -> None:
    facts = json.loads((facts_dir / "platform" / "registers_aie2.json").read_text())["registers"]["core.Core_CR"]
    cores = Cores(1)
    unit = cores.load(0, 2, "done")
    address = geometry.tile_address(0, 2, facts["offset"])
    assert cores.array.registers.read(address, "test") == facts["reset"]
    fields = {"Saturation_Mode": "crSat", "Round_Mode": "crRnd", "MCD_Enable": "crMCDEn", "SCD_Enable": "crSCDEn",
              "Vadd_Sign": "crVaddSign", "Unpack_Sign": "crUnpackSign", "Pack_Sign": "crPackSign",
              "UPS_Sign": "crUPSSign", "SRS_Sign": "crSRSSign"}
    for name, low, high in facts["fields"]:
        ones = (1 << high - low + 1) - 1
        cores.array.registers.write(address, ones << low, "test")
        assert cores.array.registers.read(address, "test") == ones << low
        if name in fields:
            set_now = {register for register in fields.values() if unit.core.registers.read(register)}
            assert set_now == {fields[name]} and unit.core.registers.read(fields[name]) == ones
        elif name != "Reserved":
            mask = {"Float_M": "crFPMask", "Bfloat_": "crF2IMask", "Float_t": "crF2FMask"}[name[:7]]
            assert unit.core.registers.read(mask) == 1 << low - {"crFPMask": 6, "crF2IMask": 18, "crF2FMask": 23}[mask]


@pytest.mark.parametrize("offset", [0x31180, 0x31110])
def test_registers_whose_contents_are_not_known_name_the_fact(offset: int) -> None:
    cores = Cores(1)
    with pytest.raises(EmulationError, match="not modelled: facts/"):
        cores.array.registers.read(geometry.tile_address(0, 2, offset), "test")


@pytest.mark.parametrize("text", ["acq #48, r1", "rel #48, r1"])
def test_lock_values_beyond_seven_bits_are_named(text: str) -> None:
    cores = Cores(1)
    cores.load(0, 2, text, r1=127)
    with pytest.raises(EmulationError, match="lock 0 by 127: a lock value has 7 signed bits"):
        cores.run()


def test_registers_of_a_running_core_are_refused() -> None:
    cores = Cores(1)
    cores.load(0, 2, "j #0\n\n\n\n\n\n")
    cores.start()
    cores.array.clock.step()
    with pytest.raises(EmulationError, match="while it runs"):
        cores.array.registers.read(geometry.tile_address(0, 2, CORE_R), "test")


def test_core_id_names_the_place() -> None:
    cores = Cores(2)
    unit = cores.load(1, 4, "mov r1, CORE_ID\ndone")
    cores.run()
    assert unit.core.registers.read("r1") == 1 << 16 | 4


def test_a_core_disabled_while_it_waits_goes_on_when_it_is_enabled_again() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "acq #48, r1\n.\nmov r2, #1\ndone", r1=0xFFFFFFFF)
    cores.run()
    unit.write_control(0)
    cores.array.tiles[0, 2].locks.release(0, 1, "test")
    cores.array.clock.at(50, 0, lambda: None)
    while cores.array.clock.next_cycle() is not None:
        cores.array.clock.step()
    assert unit.done_at is None and unit.status() == 1 << 9
    cores.run()
    assert unit.done_at is not None and unit.core.registers.read("r2") == 1


def test_event_instructions_reach_the_array_at_their_cycle() -> None:
    cores = Cores(1)
    seen: list[tuple[int, str, int]] = []
    cores.array.core_event = lambda tile, number: seen.append(  # type: ignore[method-assign]
        (cores.array.clock.cycle, tile.name, number))
    cores.load(0, 2, "event #0\n\n\nevent #1\nacq #48, r1\n.\nevent #2\ndone", r1=0xFFFFFFFF)
    cores.array.clock.at(100, 0, lambda: cores.array.tiles[0, 2].locks.release(0, 1, "test"))
    cores.run()
    assert seen[:2] == [(1, "core(0,2)", 0), (4, "core(0,2)", 1)] and seen[2][0] > 100 and seen[2][2] == 2


def test_the_cycle_counter_counts_from_the_timers_origin() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "\nmov r17:r16, cntr\n\nmov r19:r18, cntr\ndone")
    unit.core.timer_origin = -(1 << 33)
    cores.run()
    read = unit.core.registers.read
    assert (read("r16"), read("r18"), read("r17"), read("r19")) == (2, 4, 2, 2)


def test_a_timer_counts_cycles_from_its_reset_for_registers_and_for_the_core() -> None:
    cores = Cores(1)
    cores.array.tiles[0, 2].plain[PROCESSOR_BUS] = 1
    control, low = 0x34000, 0x340F8
    unit = cores.load(0, 2, ".\nst.tm r1, [p0]\n.\nlda.tm r2, [p1]\nmov r17:r16, cntr\n.\ndone", p0=0x80000 + control,
                      p1=0x80000 + low, r1=1 << 31)
    cores.run()
    read = unit.core.registers.read
    assert read("r2") == 1 + 7, "both in stage 5, eight bundles apart"
    assert read("r16") == read("r2") - 4 + 1, "read in stage 1 of the bundle after"
    address = geometry.tile_address(0, 2, 0)
    cores.array.registers.write(address + 0x14000, 1 << 31, "test")
    assert cores.array.registers.read(address + 0x140F8, "test") == 0
    cores.array.registers.write(address + 0x14000, 5 << 8, "test")
    with pytest.raises(EmulationError, match="which event 5 resets: not modelled"):
        cores.array.registers.read(address + 0x140F8, "test")
