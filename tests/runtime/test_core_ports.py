"""What a core exchanges with its surroundings: streams, cascade, neighbours' memory and locks, its tile's registers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from core_programs import Cores

from npuc.runtime.emulator.cascade import ACCUMULATOR_CONTROL, DEPTH
from npuc.runtime.emulator.core_services import CorePort
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
        assert word & 0x7FFFFFFF == identity | kind << 12 | 3 << 16 | 2 << 21  # partitions start at physical column 1
        assert _parity_is_odd(word) and last == (kind == 7)


def test_control_packet_headers_hold_address_beats_operation_and_response_id() -> None:
    cores = Cores(1)
    port = with_port(cores, room=list(range(64)))
    cores.load(
        0,
        2,
        "mov.cph ms, m1, #3, #1, r2\nmov.cph.nb.tlast ms, m2, #0, #2, r3\ndone",
        m1=0x1F000,
        m2=0x32000,
        r2=9,
        r3=30,
    )
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
    cores.load(
        *writer,
        "\n".join(f"vmov MCD, x{i}" for i in range(8)) + "\ndone",
        crMCDEn=1,
        **{f"x{i}": bytes([i + 1] * 64) for i in range(8)},
    )
    unit = cores.load(*reader, "\n".join(f"vmov x{i}, SCD" for i in range(8)) + "\n.\ndone", crSCDEn=1)
    cores.run()
    assert [int(unit.core.registers.read(f"x{i}")[0]) for i in range(8)] == list(range(1, 9))


@pytest.mark.parametrize("lane", [0, 9])
def test_undefined_lanes_pass_the_cascade_and_are_refused_where_they_decide(lane: int) -> None:
    cores = Cores(1, strict=True)
    writer, reader = cascade_pair(cores, "south")
    cores.load(*writer, "vmov MCD, x1\n.\ndone", wl1=bytes(32))
    use = "vmov x1, SCD\n.\nvextract.s32 r1, x1, r17\n\n\nrel #48, r1\n.\ndone"
    unit = cores.load(*reader, use, r17=lane)
    if lane == 0:
        cores.run()
        assert unit.done_at is not None
        return
    with pytest.raises(
        EmulationError, match=r"the value of a lock .*: core\(0,3\), bundle 0x0, reads wh1, never written"
    ):
        cores.run()


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
