"""Scheduling, allocation and layout of small programs with known answers."""

from __future__ import annotations

import pytest

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.diagnostics import InternalError, ResourceError
from npuc.passes.machine.codegen import generate
from npuc.passes.machine.dependence import dependences
from npuc.passes.machine.ir import Builder
from npuc.passes.machine.nodes import make_node
from npuc.passes.machine.printer import format_program

LOAD_A, LOAD_B = "VLDA_dmw_lda_w_ag_pstm_nrm_imm", "VLDB_dmw_ldb_ag_pstm_nrm_imm"
MAC = "VMAC_F_vmac_bm_core_dense"


def matmul(rows: int, columns: int, count: int) -> Builder:
    """A tile of rows x columns accumulators, operands from two streams."""
    b = Builder("matmul")
    pa, pb, config = b.p("a"), b.p("b"), b.r("config")
    for reg, value in ((pa, 0x70000), (pb, 0x74000), (config, 28)):
        b.constant(reg, value)
    tile = [[b.bm(f"acc{i}{j}") for j in range(columns)] for i in range(rows)]
    for row in tile:
        for acc in row:
            b.op("VLDA_dmw_lda_am_ag_idx_imm", acc.lo, pa, 0)
            b.op("VLDA_dmw_lda_am_ag_idx_imm", acc.hi, pa, 32)
    with b.hardware_loop(count, "matmul"):
        left, right = [b.x(f"a{i}") for i in range(rows)], [b.x(f"b{j}") for j in range(columns)]
        for load, pointer, operands in ((LOAD_A, pa, left), (LOAD_B, pb, right)):
            for x in operands:
                b.op(load, x.lo, pointer, 32, region=pointer.name)
                b.op(load, x.hi, pointer, 32, region=pointer.name)
        for i in range(rows):
            for j in range(columns):
                b.op(MAC, tile[i][j], tile[i][j], left[i], right[j], config)
    for row in tile:
        for acc in row:
            b.op("VST_dmw_sts_am_ag_idx_imm", acc.lo, pb, 0)
    return b


def loop_of(builder: Builder) -> dict:
    return generate(builder.program).statistics["loops"][0]


def test_a_matmul_loop_reaches_its_resource_bound():
    loop = loop_of(matmul(4, 4, 8))
    assert loop["interval"] == loop["resource_bound"] == 16
    assert loop["hardware_loop"]


def test_accumulator_chains_bound_the_interval():
    loop = loop_of(matmul(1, 1, 8))
    assert loop["recurrence_bound"] == 4  # facts/schedule/README.md: bf16 vmac chain
    assert loop["interval"] == 4


def test_one_trip_needs_no_loop():
    program = generate(matmul(2, 2, 1).program)
    assert program.hardware_loops == 0
    assert not program.statistics["loops"]


def test_the_last_bundle_of_a_loop_is_a_whole_line():
    program = generate(matmul(2, 2, 16).program)
    setters = {
        d.operands[0]: d.operands[1]
        for bundle in decode_program(program.code)
        for d in bundle.instructions
        if d.operands and d.operands[0] in ("ls", "le", "lc")
    }
    sizes = {address: size for address, size, _ in program.bundles}
    assert setters["ls"] % 16 == 0 and setters["le"] % 16 == 0 and sizes[setters["le"]] == 16
    assert dict((name, address) for address, name in program.symbols)["matmul"] == setters["ls"]


def test_halves_of_a_register_are_locations_of_their_own():
    b = Builder("halves")
    x, p = b.x(), b.p()
    load = b.op("VLDA_dmw_lda_w_ag_idx_imm", x.lo, p, 0)
    store = b.op("VST_dmw_sts_w_ag_idx_imm", x.hi, p, 0, region="other")
    use = b.op("VST_dmw_sts_w_ag_idx_imm", x.lo, p, 0, region="other")
    graph = dependences([make_node(op) for op in (load, store, use)])
    assert graph.edges[0, 2, 0] == 7
    assert graph.edges.get((0, 1, 0)) == 1  # only memory of unknown place keeps them apart


def test_a_region_that_passes_share_orders_the_passes():
    b = Builder("carried")
    x, p = b.x(), b.p()
    apart = [
        b.op("VLDA_dmw_lda_w_ag_idx_imm", x.lo, p, 0, region="a", carried=False),
        b.op("VST_dmw_sts_w_ag_idx_imm", x.hi, p, 0, region="a", carried=False),
    ]
    shared = [
        b.op("VLDA_dmw_lda_w_ag_idx_imm", x.lo, p, 0, region="a"),
        b.op("VST_dmw_sts_w_ag_idx_imm", x.hi, p, 0, region="a"),
    ]
    assert (1, 0, 1) not in dependences([make_node(op) for op in apart], cyclic=True).edges
    assert dependences([make_node(op) for op in shared], cyclic=True).edges[1, 0, 1] == 1


def test_locks_keep_their_distance_from_memory():
    b = Builder("locks")
    value, p = b.r(), b.p()
    ops = [b.op("ST_dms_sts_idx_imm", value, p, 0), b.release(48, value), b.acquire(49, value)]
    ops.append(b.op("LDA_dms_lda_idx_imm", value, p, 0))
    edges = dependences([make_node(op) for op in ops]).edges
    assert (edges[0, 1, 0], edges[1, 2, 0], edges[2, 3, 0]) == (4, 4, 4)  # facts/schedule/aie2_hazards.md section 7


def test_too_many_live_registers_are_a_resource_error():
    b = Builder("crowded")
    p = b.p("p")
    b.constant(p, 0)
    registers = [b.x(f"x{i}") for i in range(24)]  # results in flight still leave the old values readable
    for name in ("VLDA_dmw_lda_w_ag_idx_imm", "VST_dmw_sts_w_ag_idx_imm"):
        for x in registers:
            b.op(name, x.lo, p, 0)
            b.op(name, x.hi, p, 32)
    with pytest.raises(ResourceError, match=r"\d\d registers of file x wanted at once in straight code, 12 exist"):
        generate(b.program)


def test_a_program_beyond_program_memory_is_a_resource_error():
    b = Builder("long")
    r = b.r("r")
    b.constant(r, 1)
    for _ in range(5000):
        b.op("MUL_mul_r_rr", r, r, r)
    with pytest.raises(ResourceError, match="16384"):
        generate(b.program)


def test_a_register_never_written_is_named():
    b = Builder("undefined")
    r = b.r("ghost")
    b.op("ADD_add_r_ri", b.r("sum"), r, 1)
    with pytest.raises(InternalError, match="%ghost"):
        generate(b.program)


def test_constants_take_the_shortest_move_that_fits():
    b = Builder("constants")
    names = [b.constant(b.r(), v).name for v in (5, 1000, 5000, 0xFFFFFFFF)]
    assert names == ["MOVA_lda_cg", "MOVA_lda_cg", "MOVXM_lng_cg", "MOVA_lda_cg"]
    assert b.constant("crRnd", 12).name == "MOV_mv_cg"


def test_a_program_prints_its_structure():
    b = Builder("shown")
    n, p = b.r("n"), b.p("p")
    with b.counted_loop(n, "outer"), b.hardware_loop(4, "inner"):
        b.op("LDA_dms_lda_idx_imm", b.r("v"), p, 4, region="a", carried=False, comment="why")
    assert format_program(b.program) == (
        "program shown {\n"
        "  counted_loop outer %n {\n"
        "    hardware_loop inner 4 {\n"
        "      LDA_dms_lda_idx_imm %v, %p, 4  [a each]  // why\n"
        "    }\n"
        "  }\n"
        "}\n"
    )


def test_bundles_say_what_they_are_for():
    b = Builder("sources")
    with b.source("outer"):
        r = b.r("r")
        b.constant(r, 1000)
        with b.source("inner"):
            b.op("MUL_mul_r_rr", r, r, r)
        b.op("MUL_mul_r_rr", r, r, r)
    program = generate(b.program)
    assert [text for _, text in program.lines] == ["outer", "inner", "outer"]
    addresses = [address for address, _ in program.lines]
    assert addresses == sorted(addresses) and {address for address, _, _ in program.bundles} >= set(addresses)
    assert program.listing.count("// outer") == 2 and program.listing.count("// inner") == 1
