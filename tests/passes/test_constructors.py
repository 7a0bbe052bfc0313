"""Constructors of instructions: made from the tables, and strict about operands."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuc.compiler.diagnostics import InternalError
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.passes.machine import constructors
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Builder, Op


def test_the_constructors_are_those_of_the_tables() -> None:
    assert isa.__file__ is not None
    assert Path(isa.__file__).read_text() == constructors.source(), "python -m npuc.passes.machine.constructors"


def test_every_instruction_has_one_with_its_operands() -> None:
    for name, instruction in INSTRUCTIONS.items():
        code = getattr(isa, name).__code__
        assert code.co_varnames[: code.co_argcount] == tuple(operand.name for operand in instruction.operands)


def test_a_constructor_makes_the_operation_of_its_name() -> None:
    b = Builder("f")
    x, y, p = b.x(), b.x(), b.p()
    made = isa.VADD_16(x, x, y)
    assert isinstance(made, Op) and (made.name, made.operands) == ("VADD_16", (x, x, y))
    load = b.add(isa.VLDA_dmw_lda_w_ag_idx_imm(x.lo, p, 32), region="q", bank="q")
    assert (load.memory.region, load.memory.bank) == ("q", "q")
    assert b.program.body == [load]


def test_operands_that_a_field_cannot_name_are_refused() -> None:
    b = Builder("f")
    x, bm, p, r = b.x(), b.bm(), b.p(), b.r()
    for wrong in (
        lambda: isa.VADD_16(x, x, bm),
        lambda: isa.VADD_16(x, x, x.lo),
        lambda: isa.VLDA_dmw_lda_w_ag_idx_imm(x.lo, r, 32),
        lambda: isa.VLDA_dmw_lda_w_ag_idx_imm(x.lo, p, r),
        lambda: isa.ADD(r, r, 1),
        lambda: isa.MOVXM_lng_cg("no register", 1),
    ):
        with pytest.raises(InternalError, match=r"is no \w+ for \w+"):
            wrong()
