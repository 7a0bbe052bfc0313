"""The exposed pipeline: when results land, who still sees the old value, and what control flow, locks and banks do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.suspension import Done, Limit, LockRequest, SharedAccess

Operation = tuple[str, tuple[Any, ...]]


def program(*bundles: list[Operation] | None) -> bytearray:
    """Machine code, 16 bytes a bundle; None is an empty bundle."""
    code = bytearray(16384)
    code[:] = bytes.fromhex("0100") * 8192  # two-byte nops
    for position, operations in enumerate(bundles):
        slots = {INSTRUCTIONS[name].slot: (INSTRUCTIONS[name], operands) for name, operands in operations or []}
        code[16 * position : 16 * position + 16] = encode_bundle(slots, 16)
    return code


def ready(code: bytearray, registers: dict[str, Any], strict: bool = False) -> Core:
    core = Core(code, DataMemory(), strict)
    for name, value in registers.items():
        core.registers.write(name, value)
    return core


def lanes(value: int, kind: str, count: int) -> bytes:
    return np.full(count, value, dtype=kind).tobytes()


def f32(value: float, count: int = 16) -> bytes:
    return np.full(count, value, dtype="<f4").tobytes()


def bf16(value: float) -> bytes:
    pattern = int(np.float32(value).view(np.uint32)) >> 16
    return lanes(pattern, "<u2", 32)


X_OLD, X_NEW = lanes(1, "u1", 64), lanes(2, "u1", 64)
ADDRESS = OWN_MEMORY + 0x400

# name: (distance, writer, reader, registers, result register, value read old, value read new)
DISTANCES: dict[str, tuple[int, Operation, Operation, dict[str, Any], str, Any, Any]] = {
    "add to add": (
        1,
        ("ADD", ("r1", "r2", "r3")),
        ("ADD", ("r4", "r1", "r0")),
        {"r1": 5, "r2": 7, "r3": 9, "r0": 0},
        "r4",
        5,
        16,
    ),
    "mul to add": (
        2,
        ("MUL_mul_r_rr", ("r1", "r2", "r3")),
        ("ADD", ("r4", "r1", "r0")),
        {"r1": 5, "r2": 7, "r3": 9, "r0": 0},
        "r4",
        5,
        63,
    ),
    "scalar load to add": (
        7,
        ("LDA_dms_lda_idx_imm", ("r1", "p0", 0)),
        ("ADD", ("r4", "r1", "r0")),
        {"r1": 5, "p0": ADDRESS, "r0": 0},
        "r4",
        5,
        0x02020202,
    ),
    "load of a pointer to its use as address": (
        7,
        ("LDA_dms_lda_idx_imm", ("p1", "p2", 0)),
        ("LDA_dms_lda_idx_imm", ("r4", "p1", 0)),
        {"p1": ADDRESS, "p2": OWN_MEMORY + 0x800},
        "r4",
        0x02020202,
        0x03030303,
    ),
    "vector load to vector ALU": (
        7,
        ("VLDA_dmw_lda_w_ag_idx_imm", ("wl1", "p0", 0)),
        ("VADD_8", ("x4", "x1", "x0")),
        {"p0": ADDRESS, "x1": X_OLD, "x0": bytes(64)},
        "wl4",
        bytes([1] * 32),
        bytes([2] * 32),
    ),
    "vshuffle to vshuffle by the MOV bypass": (
        1,
        ("VSHUFFLE", ("x1", "x2", "x2", "r0")),
        ("VSHUFFLE", ("x4", "x1", "x1", "r0")),
        {"x1": X_OLD, "x2": X_NEW, "r0": 22},
        "x4",
        X_OLD,
        X_NEW,
    ),
    "vshuffle to integer multiply": (
        2,
        ("VSHUFFLE", ("x1", "x2", "x2", "r0")),
        ("VMUL_vmac_cm_core_dense", ("cm4", "x1", "x3", "r1")),
        {"x1": X_OLD, "x2": X_NEW, "x3": lanes(1, "u1", 64), "r0": 22, "r1": 0x308},
        "cm4",
        lanes(8, "<i4", 32),
        lanes(16, "<i4", 32),
    ),
    "vshuffle to vector store": (
        2,
        ("VSHUFFLE", ("x1", "x2", "x2", "r0")),
        ("VST_dmw_sts_w_ag_idx_imm", ("wl1", "p0", 0)),
        {"x1": X_OLD, "x2": X_NEW, "r0": 22, "p0": OWN_MEMORY},
        "memory",
        X_OLD[:32],
        X_NEW[:32],
    ),
    "integer accumulator chain by the VEC bypass": (
        2,
        ("VMAC_vmac_cm_core_dense", ("cm0", "cm0", "x1", "x2", "r1")),
        ("VMAC_vmac_cm_core_dense", ("cm4", "cm0", "x3", "x3", "r1")),
        {"cm0": lanes(3, "<i4", 32), "x1": X_OLD, "x2": X_OLD, "x3": bytes(64), "r1": 0x308},
        "cm4",
        lanes(3, "<i4", 32),
        lanes(11, "<i4", 32),
    ),
    "float accumulator chain": (
        4,
        ("VMAC_F_vmac_bm_core_dense", ("bml0", "bml0", "x1", "x2", "r1")),
        ("VMAC_F_vmac_bm_core_dense", ("bml4", "bml0", "x3", "x3", "r1")),
        {"bml0": f32(0.5), "x1": bf16(1), "x2": bf16(2), "x3": bytes(64), "r1": 28},
        "bml4",
        f32(0.5),
        f32(16.5),
    ),
    "float multiply to conversion": (
        6,
        ("VMUL_F_vmac_bm_core_dense", ("bml0", "x1", "x2", "r1")),
        ("VCONV_BF16_FP32", ("wl4", "bml0")),
        {"bml0": f32(0.5), "x1": bf16(1), "x2": bf16(2), "r1": 28},
        "wl4",
        bf16(0.5)[:32],
        bf16(16)[:32],
    ),
    "conversion to float multiply": (
        2,
        ("VCONV_BF16_FP32", ("wl1", "bml0")),
        ("VMUL_F_vmac_bm_core_dense", ("bml4", "x1", "x2", "r1")),
        {"bml0": f32(4), "x1": bf16(1)[:32] + bytes(32), "x2": bf16(2), "r1": 60},
        "bml4",
        f32(2),
        f32(8),
    ),
    "widening to a late accumulator in the same bundle": (
        0,
        ("VCONV_FP32_BF16", ("bml1", "wl1")),
        ("VADD_F", ("bml4", "bml0", "bml1", "r1")),
        {"bml0": f32(1), "bml1": f32(2), "wl1": bf16(4)[:32], "r1": 28},
        "bml4",
        f32(3),
        f32(5),
    ),
    "accumulator load to integer accumulate": (
        5,
        ("VLDA_dmw_lda_am_ag_idx_imm", ("amll0", "p0", 0)),
        ("VMAC_vmac_cm_core_dense", ("cm4", "cm0", "x3", "x3", "r1")),
        {"cm0": lanes(3, "<i4", 32), "p0": ADDRESS, "x3": bytes(64), "r1": 0x308},
        "amll4",
        lanes(3, "<i4", 8),
        lanes(0x02020202, "<i4", 8),
    ),
    "shift-round-saturate to vector ALU": (
        4,
        ("VSRS_S16_S32_mv_w_srs", ("wl1", "bml0", "s0")),
        ("VADD_16", ("x4", "x1", "x0")),
        {"bml0": lanes(9, "<i4", 16), "x1": bytes(64), "x0": bytes(64), "s0": 0},
        "wl4",
        bytes(32),
        lanes(9, "<i2", 16),
    ),
    "up-shift to shift-round-saturate": (
        3,
        ("VUPS_S32_S16_mv_ups_w2b", ("bml0", "wl1", "s0")),
        ("VSRS_S16_S32_mv_w_srs", ("wl4", "bml0", "s0")),
        {"bml0": lanes(9, "<i4", 16), "wl1": lanes(5, "<i2", 16), "s0": 0},
        "wl4",
        lanes(9, "<i2", 16),
        lanes(5, "<i2", 16),
    ),
    "up-shifting load to shift-round-saturate": (
        9,
        ("VLDA_UPS_S32_S16_ag_idx_imm", ("bml0", "s0", "p0", 0)),
        ("VSRS_S16_S32_mv_w_srs", ("wl4", "bml0", "s0")),
        {"bml0": lanes(9, "<i4", 16), "p0": ADDRESS, "s0": 0},
        "wl4",
        lanes(9, "<i2", 16),
        lanes(0x0202, "<i2", 16),
    ),
    "load to the late source of vunpack": (
        1,
        ("VLDA_dmw_lda_w_ag_idx_imm", ("wl1", "p0", 0)),
        ("VUNPACK_S16_S8", ("x4", "wl1")),
        {"wl1": bytes([1] * 32), "p0": ADDRESS},
        "x4",
        lanes(1, "<i2", 32),
        lanes(2, "<i2", 32),
    ),
    "load to the late data of a sub-word store": (
        1,
        ("LDA_dms_lda_idx_imm", ("r1", "p0", 0)),
        ("ST_S8_ag_idx_imm", ("r1", "p1", 0)),
        {"r1": 0x55, "p0": ADDRESS, "p1": OWN_MEMORY},
        "memory",
        b"\x55" + bytes(31),
        b"\x02" + bytes(31),
    ),
}


def _second_at(distance: int, first: Operation, second: Operation) -> bytearray:
    bundles: list[list[Operation]] = [[] for _ in range(abs(distance) + 1)]
    bundles[max(-distance, 0)].append(first)
    bundles[max(distance, 0)].append(second)
    return program(*bundles)


def _read_at(name: str, distance: int) -> Any:
    _, writer, reader, registers, result, *_ = DISTANCES[name]
    core = ready(_second_at(distance, writer, reader), registers)
    core.data_memory.write(ADDRESS - OWN_MEMORY, bytes([2] * 32))
    core.data_memory.write(0x800, (OWN_MEMORY + 0xC00).to_bytes(4, "little"))
    core.data_memory.write(0xC00, bytes([3] * 32))
    core.run(0, 40)
    if result == "memory":
        return core.data_memory.read(0, 32)
    value = core.registers.read(result)
    return value if isinstance(value, int) else value.tobytes()


@pytest.mark.parametrize("name", DISTANCES)
def test_a_reader_at_the_distance_gets_the_new_value(name: str) -> None:
    assert _read_at(name, DISTANCES[name][0]) == DISTANCES[name][6]


def _issue_together(first: Operation, second: Operation) -> bool:
    return INSTRUCTIONS[first[0]].slot != INSTRUCTIONS[second[0]].slot


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, (distance, writer, reader, *_) in DISTANCES.items()
        if distance != 1 or _issue_together(writer, reader)
    ],
)
def test_a_reader_one_bundle_closer_gets_the_old_value(name: str) -> None:
    assert _read_at(name, DISTANCES[name][0] - 1) == DISTANCES[name][5]


def test_a_short_write_issued_later_loses_to_a_long_one_that_lands_after_it() -> None:
    core = ready(program([("LDA_dms_lda_idx_imm", ("r1", "p0", 0))], [("MOVX_alu_cg", ("r1", 7))]), {"p0": OWN_MEMORY})
    core.data_memory.write(0, b"\x09\0\0\0")
    core.run(0, 3)
    assert core.registers.read("r1") == 7
    core.run(3, 20)
    assert core.registers.read("r1") == 9


def test_delayed_moves_land_in_their_own_cycle() -> None:
    core = ready(program([("MOV_D3", ("r1", "r2"))]), {"r1": 1, "r2": 2})
    seen = []
    for cycle in range(6):
        core.run(cycle, cycle + 1)
        seen.append(core.registers.read("r1"))
    assert seen == [1, 1, 1, 2, 2, 2]


def test_a_mode_written_after_an_up_shifting_load_still_affects_it() -> None:
    """vlda.ups reads crSat in stage 8: a write up to six bundles later counts."""
    for distance, want in ((6, 0x7FFFFFFF), (7, 0x02000000)):
        bundles: list[list[Operation]] = [[] for _ in range(8)]
        bundles[0] = [("VLDA_UPS_S32_S16_ag_idx_imm", ("bml0", "s0", "p0", 0))]
        bundles[distance] = [("MOVX_mvx_scl", ("crSat", "r1"))]
        core = ready(program(*bundles), {"p0": OWN_MEMORY, "r1": 1, "s0": 24})
        core.data_memory.write(0, bytes([2] * 32))
        core.run(0, 30)
        assert int(np.frombuffer(core.registers.read("bml0").tobytes(), "<u4")[0]) == want


# memory order, facts/schedule/aie2_hazards.md section 3

STORES: dict[str, tuple[Operation, bytes]] = {
    "store": (("VST_dmw_sts_w_ag_idx_imm", ("wl1", "p0", 0)), bytes([1] * 32)),
    "vst.srs": (("VST_SRS_S8_S32_ag_idx_imm", ("cm0", "s0", "p0", 0)), bytes([6] * 32)),
    "sub-word store": (("ST_S8_ag_idx_imm", ("r5", "p0", 0)), b"\x07" + bytes(31)),
    "load": (("VLDB_dmw_ldb_ag_idx_imm", ("wl4", "p0", 0)), b""),
}
ORDER = [
    ("store", "load", 1),
    ("vst.srs", "load", 3),
    ("sub-word store", "load", 7),
    ("store", "store", 1),
    ("store", "vst.srs", -1),
    ("vst.srs", "store", 3),
    ("vst.srs", "vst.srs", 1),
    ("sub-word store", "vst.srs", 5),
    ("load", "vst.srs", -1),
    ("load", "store", 1),
]


def _after(first: str, second: str, distance: int) -> tuple[bytes, bytes]:
    """wl4 and the memory at the end."""
    code = _second_at(distance, STORES[first][0], STORES[second][0])
    core = ready(code, {"p0": OWN_MEMORY, "x1": X_OLD, "cm0": lanes(6, "<i4", 32), "s0": 0, "r5": 7, "x4": bytes(64)})
    core.run(0, 40)
    return core.registers.read("wl4").tobytes(), core.data_memory.read(0, 32)


@pytest.mark.parametrize(("first", "second", "distance"), ORDER)
def test_memory_accesses_at_the_distance_keep_their_order(first: str, second: str, distance: int) -> None:
    loaded, memory = _after(first, second, distance)
    if second == "load":
        assert loaded == STORES[first][1]
    elif first == "load":
        assert loaded == bytes(32)
    else:
        assert memory == STORES[second][1]


def _too_close(second: str, distance: int) -> int:
    """A distance at which the second access comes first: accesses that meet in one cycle have no order for stores."""
    return distance - (1 if second == "load" else 2)


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        case
        for case in ORDER
        if case[:2] != ("load", "store")
        and (_too_close(*case[1:]) != 0 or _issue_together(STORES[case[0]][0], STORES[case[1]][0]))
    ],
)
def test_memory_accesses_too_close_meet_the_other_way_round(first: str, second: str, distance: int) -> None:
    loaded, memory = _after(first, second, _too_close(second, distance))
    if second == "load":
        assert loaded == bytes(32)
    elif first == "load":
        assert loaded == STORES[second][1]
    elif first == "sub-word store":
        assert memory[:1] == b"\x07"
    else:
        assert memory == STORES[first][1]


# control flow


def _mark(register: str) -> list[Operation]:
    return [("ADD_NC", (register, register, 1))]


def test_five_delay_slots_execute_and_the_sixth_bundle_does_not() -> None:
    bundles = [[("J_jump_imm", (0x100,))]] + [_mark("r1")] * 6
    code = program(*bundles)
    code[0x100:0x110] = bytes(program(_mark("r2"))[:16])
    core = ready(code, {"r1": 0, "r2": 0})
    core.run(0, 7)
    assert (core.registers.read("r1"), core.registers.read("r2"), core.pc) == (5, 1, 0x110)


@pytest.mark.parametrize(
    ("name", "value", "taken"), [("JZ", 0, True), ("JZ", 3, False), ("JNZ", 3, True), ("JNZ", 0, False)]
)
def test_conditional_jumps_look_at_their_register(name: str, value: int, taken: bool) -> None:
    core = ready(program([(name, ("r1", 0x100))]), {"r1": value})
    core.run(0, 6)
    assert (core.pc == 0x100) == taken


def test_a_call_saves_the_address_after_its_delay_slots_in_the_fourth_cycle() -> None:
    core = ready(program([("JL", (0x100,))], *[None] * 5), {"lr": 0xAAAA0})
    core.run(0, 3)
    assert core.registers.read("lr") == 0xAAAA0
    core.run(3, 4)
    assert core.registers.read("lr") == 0x60
    core.program_memory[0x100:0x110] = bytes(program([("RET", ())])[:16])
    core.program_changed()
    core.run(4, 12)
    assert core.pc == 0x60


def test_jnzd_counts_down_and_jumps_while_it_was_not_zero() -> None:
    core = ready(program(*[_mark("r2")] + [[("JNZD", ("r1", "r1", "p0"))]] + [None] * 5), {"r1": 3, "p0": 0, "r2": 0})
    core.run(0, 28)
    assert (core.registers.read("r1"), core.registers.read("r2")) == (0xFFFFFFFF, 4)


def test_a_taken_transfer_in_delay_slots_is_an_error() -> None:
    core = ready(program([("J_jump_imm", (0x100,))], [("J_jump_imm", (0x200,))]), {})
    with pytest.raises(EmulationError, match="delay slots"):
        core.run(0, 10)


@pytest.mark.parametrize(("count", "body", "passes"), [(1, 1, 1), (5, 1, 5), (3, 4, 3), (0, 2, 1), (1, 3, 1)])
def test_hardware_loop_passes(count: int, body: int, passes: int) -> None:
    core = ready(
        program(*[_mark("r1")] * body, _mark("r2")), {"ls": 0, "le": 16 * (body - 1), "lc": count, "r1": 0, "r2": 0}
    )
    core.run(0, passes * body + 1)
    assert core.registers.read("r1") == passes * body
    assert (core.registers.read("r2"), core.registers.read("lc")) == (1, 0)


def test_loop_back_edge_costs_nothing_and_results_stay_in_flight() -> None:
    """A one-bundle loop accumulating by the VEC bypass at distance 2 runs two interleaved chains."""
    body: list[Operation] = [("VMAC_vmac_cm_core_dense", ("cm0", "cm0", "x1", "x2", "r1"))]
    core = ready(program(body), {"cm0": bytes(128), "x1": X_OLD, "x2": X_OLD, "r1": 0x308, "ls": 0, "le": 0, "lc": 10})
    suspension = core.run(0, 20)
    assert suspension == Limit(20)
    assert core.mac_bundles == 10 and core.bundles == 20
    assert int(np.frombuffer(core.registers.read("cm0").tobytes(), "<i4")[0]) == 5 * 8


# locks and the end


def test_a_lock_request_suspends_in_stage_two_and_the_core_resumes_after_it() -> None:
    code = program([("ACQ_mLockId_imm", (49, "r1"))], _mark("r2"), None, None, [("REL_mLockId_reg", ("r3", "r4"))])
    core = ready(code, {"r1": 0xFFFFFFFF, "r2": 0, "r3": 50, "r4": 1})
    assert core.run(100, 1000) == LockRequest(101, 49, -1, True)
    assert core.registers.read("r2") == 0
    assert core.run(110, 1000) == LockRequest(114, 50, 1, False)
    assert core.registers.read("r2") == 1


def test_results_in_flight_wait_while_a_lock_holds_the_core() -> None:
    code = program([("LDA_dms_lda_idx_imm", ("r1", "p0", 0)), ("ACQ_mLockId_imm", (48, "r2"))])
    core = ready(code, {"p0": OWN_MEMORY, "r1": 0, "r2": 1})
    assert isinstance(core.run(0, 100), LockRequest)
    core.data_memory.write(0, b"\x05\0\0\0")
    core.run(500, 505)
    assert core.registers.read("r1") == 0
    core.run(505, 506)
    assert core.registers.read("r1") == 5


def test_a_conditional_lock_with_a_zero_condition_does_nothing() -> None:
    core = ready(program([("ACQ_COND_mLockId_imm", (48, "r1"))]), {"r1": 1, "r26": 0})
    assert core.run(0, 10) == Limit(10)


def test_done_suspends_for_good_after_stores_in_flight() -> None:
    core = ready(
        program([("VST_dmw_sts_w_ag_idx_imm", ("wl1", "p0", 0))], [("DONE", ())]), {"p0": OWN_MEMORY, "x1": X_OLD}
    )
    assert core.run(0, 100) == Done(1)
    assert core.data_memory.read(0, 32) == X_OLD[:32]
    assert core.run(50, 100) == Done(1)


# memory banks and addresses


@pytest.mark.parametrize(
    ("second", "third", "stall"),
    [(0x74000, 0x78000, 0), (0x70100, 0x78000, 1), (0x70100, 0x70200, 2), (0x74000, 0x74020, 1)],
)
def test_accesses_of_one_cycle_to_one_bank_stall_the_core(second: int, third: int, stall: int) -> None:
    code = program(
        [
            ("VLDA_dmw_lda_w_ag_idx_imm", ("wl4", "p0", 0)),
            ("VLDB_dmw_ldb_ag_idx_imm", ("wl5", "p1", 0)),
            ("VST_dmw_sts_w_ag_idx_imm", ("wl6", "p2", 0)),
        ]
    )
    core = ready(code, {"p0": 0x70000, "p1": second, "p2": third})
    assert core.run(0, 20 + stall) == Limit(20 + stall)
    assert (core.bundles, core.stall_memory) == (20, stall)


def test_scalar_accesses_take_one_bank_of_a_pair() -> None:
    for address, stall in ((0x70110, 0), (0x70100, 1)):
        code = program([("LDA_dms_lda_idx_imm", ("r1", "p0", 0)), ("ST_dms_sts_idx_imm", ("r2", "p1", 0))])
        core = ready(code, {"p0": 0x70000, "p1": address, "r2": 0})
        core.run(0, 20)
        assert core.stall_memory == stall


@pytest.mark.parametrize(
    ("address", "text"),
    [(0x60000, "north neighbour"), (0x4FFE0, "south neighbour"), (0x10000, "no data memory"), (0x70010, "not aligned")],
)
def test_accesses_that_are_not_modelled_name_the_reason(address: int, text: str) -> None:
    core = ready(program([("VST_dmw_sts_w_ag_idx_imm", ("wl4", "p0", 0))]), {"p0": address})
    with pytest.raises(EmulationError, match=text):
        while not isinstance(suspension := core.run(core.cycle, 20), Limit):
            assert suspension == SharedAccess(4, False)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_multidimensional_addresses_walk_like_nested_loops(dimensions: int) -> None:
    n1, n2, n3 = 3, 2, 2
    s1, s2, s3 = 32, 256, 1024
    registers = {"p0": OWN_MEMORY, "dj0": s1, "dn0": n1 - 1, "dc0": 0}
    if dimensions == 2:
        registers.update(m0=s2 - (n1 - 1) * s1)
        want = [i * s1 + j * s2 for j in range(n2 * n3) for i in range(n1)]
    else:
        registers.update(dj4=s2 - (n1 - 1) * s1, dn4=n2 - 1, dc4=0, m0=s3 - (n2 - 1) * s2 - (n1 - 1) * s1)
        want = [i * s1 + j * s2 + k * s3 for k in range(n3) for j in range(n2) for i in range(n1)]
    core = ready(program(*[[(f"PADDA_{dimensions}D", ("p0", "d0"))]] * len(want)), registers)
    seen = []
    for cycle in range(len(want)):
        seen.append(core.registers.read("p0") - OWN_MEMORY)
        core.run(cycle, cycle + 1)
    assert seen == want


# errors and strict mode


def test_bytes_that_are_no_bundle_are_named_with_core_and_address() -> None:
    code = program(None)
    code[16:32] = b"\xff" * 16
    with pytest.raises(EmulationError, match=r"bundle 0x10, cycle 1.*0x10.*ffff"):
        ready(code, {}).run(0, 10)


def test_running_off_program_memory_is_an_error() -> None:
    with pytest.raises(EmulationError, match="outside program memory"):
        ready(program(), {}).run(0, 10000)


def test_an_instruction_without_semantics_is_an_error_when_reached() -> None:
    with pytest.raises(EmulationError, match="not implemented: facts/semantics does not describe"):
        ready(program([("VLDB_COMPR_POP", ("wl0", "p0"))]), {"p0": OWN_MEMORY}).run(0, 10)


def test_strict_mode_reports_registers_never_written_where_they_decide() -> None:
    core = ready(program([("ADD", ("r1", "r2", "r3"))], [("JNZ", ("r1", 0x100))]), {"r2": 1}, strict=True)
    core.run(0, 10)
    (report,) = core.reports
    assert report.address == 16 and report.text.startswith(
        "whether a branch is taken depends on what was never defined"
    )
    assert report.text.endswith("core, bundle 0x0, reads r3, never written")


def test_strict_mode_reports_two_writes_that_land_together() -> None:
    code = program([("MUL_mul_r_rr", ("r1", "r2", "r2"))], [("ADD", ("r1", "r2", "r2"))])
    core = ready(code, {"r2": 1}, strict=True)
    core.run(0, 10)
    assert [report.text for report in core.reports] == ["two writes of r1 land in the same cycle"]


def test_strict_mode_reports_a_load_and_a_store_that_meet() -> None:
    code = program([("VLDB_dmw_ldb_ag_idx_imm", ("wl4", "p0", 0)), ("VST_dmw_sts_w_ag_idx_imm", ("wl1", "p0", 0))])
    core = ready(code, {"p0": OWN_MEMORY, "x1": X_OLD}, strict=True)
    core.run(0, 10)
    assert any("meet" in report.text for report in core.reports)
    assert core.registers.read("wl4").tobytes() == bytes(32)


def test_reset_forgets_registers_and_work_in_flight() -> None:
    core = ready(program([("LDA_dms_lda_idx_imm", ("r1", "p0", 0))]), {"p0": OWN_MEMORY, "r1": 3})
    core.data_memory.write(0, b"\x09\0\0\0")
    core.run(0, 3)
    core.reset()
    core.program_memory[:] = program()
    core.program_changed()
    core.run(0, 20)
    assert core.registers.read("r1") == 0 and core.bundles == 20
