"""npu1's geometry and registers: worked words, agreement with the fact sheets, and refusals."""

import json
import os
import random
from pathlib import Path

import pytest

from npuc.compiler.target.npu1 import geometry as g
from npuc.compiler.target.npu1 import registers

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).resolve().parents[2].parent / "shared" / "facts"))


def _facts(name: str) -> dict:
    path = FACTS / "platform" / name
    if not path.exists():
        pytest.skip(f"fact sheet {name} is not present")
    return json.loads(path.read_text())


def test_a_core_descriptor_packs_to_the_worked_words():
    words = g.pack_bd(
        "core", base_address=0x100, length=256, acquire_enable=1, acquire_value=-1, release_lock=1, release_value=1,
        use_next=1, valid=1,
    )  # fmt: skip
    assert words == [0x00400100, 0, 0, 0, 0, 0x06043FE0]


def test_a_memtile_descriptor_packs_to_the_worked_words():
    words = g.pack_bd(
        "memtile", enable_packet=1, packet_id=5, length=64, base_address=(g.MEMTILE_VIEW_OWN + 0x100) // 4,
        d0_wrap=8, d1_wrap=4, d1_step=15, valid=1, acquire_enable=1, acquire_lock=64 + 3, acquire_value=-1,
        release_lock=64 + 4, release_value=1,
    )  # fmt: skip
    assert words == [0x82800040, 0x00020040, 0x00100000, 0x0008000F, 0, 0, 0, 0x8144FF43]


def test_switch_words_are_the_worked_ones():
    core, memtile = "core", "memtile"
    assert g.master_offset(core, g.master_index(core, "dma", 0)) == 0x3F004
    south1 = g.slave_index(core, "south", 1)
    assert (g.slave_offset(core, south1), g.circuit_master_word(south1)) == (0x3F118, 0x80000006)
    assert g.master_offset(memtile, g.master_index(memtile, "north", 1)) == 0xB0030
    assert g.packet_master_word(arbiter=2, msel_mask=3, drop_header=False) == 0xC000001A
    dma1 = g.slave_index(memtile, "dma", 1)
    assert (g.slave_offset(memtile, dma1), g.PACKET_SLAVE_WORD) == (0xB0104, 0xC0000000)
    assert g.slot_offset(memtile, dma1, 0) == 0xB0210
    assert g.slot_word(packet_id=5, mask=0x1F, msel=1, arbiter=2) == 0x051F0112


@pytest.mark.parametrize("kind", g.TILE_KINDS)
def test_descriptors_survive_a_round_trip(kind):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    source = random.Random(seed)
    for _ in range(100):
        fields = {
            name: source.randint(-(1 << f.width - 1), (1 << f.width - 1) - 1)
            if f.signed
            else source.getrandbits(f.width)
            for name, f in g.BD_FIELDS[kind].items()
        }
        assert g.unpack_bd(kind, g.pack_bd(kind, **fields)) == fields


def test_a_value_that_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match="d0_wrap = 256"):
        g.pack_bd("core", d0_wrap=256)
    with pytest.raises(ValueError, match="no field ax_cache"):
        g.pack_bd("core", ax_cache=1)
    with pytest.raises(ValueError, match="master north 6, a memtile tile has 6"):
        g.master_index("memtile", "north", 6)


def test_queue_words_survive_a_round_trip():
    assert g.queue_word(5, repeat=3, token=True) == 0x80020005
    assert g.split_queue_word("shim", 0x80020005) == (5, 3, True)
    assert g.split_queue_word("memtile", g.queue_word(40)) == (40, 1, False)


def test_every_register_has_the_place_the_facts_give():
    facts = _facts("registers_aie2.json")["registers"]
    kind_of = {"core": "core", "memory": "core", "memtile": "memtile", "shim": "shim"}
    theirs = {(kind_of[r["tile_kind"]], name.split(".")[1], r["offset"]) for name, r in facts.items()}
    ours = {(kind, name, offset) for kind in g.TILE_KINDS for name, offset, _ in registers.registers(kind)}
    assert ours == theirs
    for kind, name, offset in theirs:
        if "emory" not in name or name == "Memory_Control":
            assert registers.offset_name(kind, offset) == name


def test_registers_are_named_by_address():
    assert registers.register_name(0x232000) == "core(0,2).Core_Control"
    assert registers.register_name(g.tile_address(1, 1, 0x400)) == "memtile(1,1).DataMemory+0x400"
    assert registers.register_name(g.tile_address(3, 0, 0x1D204)) == "shim(3,0).DMA_S2MM_0_Task_Queue"
    assert registers.register_name(g.tile_address(0, 5, 0x20010)) == "core(0,5).Program_Memory+0x10"
    assert registers.register_name(g.tile_address(0, 9, 0x10)) == "tile(0,9).0x00010"


def test_the_fact_sheet_device_has_the_same_constants():
    device = _facts("device_npu1.json")
    assert device["rows"] == g.ROWS and device["columns_usable"] == g.COLUMNS
    assert device["row_kinds"] == [g.tile_kind(row) for row in range(g.ROWS)]
    for kind in g.TILE_KINDS:
        tile, dma = device["tiles"][kind], device["tiles"][kind]["dma"]
        assert (tile["locks"]["count"], tile["locks"]["value_base"]) == (g.LOCK_COUNT[kind], g.LOCK_BASE[kind])
        assert tile["locks"]["request_base"] == g.LOCK_REQUEST_BASE[kind]
        assert (dma["bd_base"], dma["bd_words"], dma["bd_count"]) == (
            g.BD_BASE[kind],
            g.BD_WORDS[kind],
            g.BD_COUNT[kind],
        )
        for direction in g.DIRECTIONS:
            assert dma[f"{direction}_ctrl_base"] == g.channel_control_offset(kind, direction, 0)
            assert dma[f"status_{direction}"] == g.channel_status_offset(kind, direction, 0)
            assert dma[f"{direction}_channels"] == g.CHANNEL_COUNT[kind]
        theirs = sorted(tuple(v) for v in dma["bd_fields [word,lsb,msb]"].values())
        assert theirs == sorted((f.word, f.lsb, f.msb) for f in g.BD_FIELDS[kind].values())
        switch = tile["stream_switch"]
        for what, ports in (("masters", g.MASTER_PORTS), ("slaves", g.SLAVE_PORTS)):
            theirs = {
                n.lower().replace("tilecontrol", "ctrl"): (p["first_index"], p["count"])
                for n, p in switch[what].items()
            }
            assert theirs == ports[kind]


@pytest.mark.parametrize("kind", g.TILE_KINDS)
def test_legal_circuits_are_those_of_the_fact_sheet(kind):
    switch = _facts("device_npu1.json")["tiles"][kind]["stream_switch"]
    masters = range(sum(count for _, count in g.MASTER_PORTS[kind].values()))
    for slave, legal in switch["legal master indices per slave index"].items():
        assert [m for m in masters if g.circuit_is_legal(kind, int(slave), m)] == sorted(legal)
