"""Vectors that depend on the call: made from its parameters when it starts, loaded like constants after that."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import HALF, Context, bf16_pair
from npuc.passes.attention.core.parameters import REBASE_THRESHOLD, REFINE_BEYOND, Word
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

ONES_BF16 = 0x3F803F80


@dataclass(frozen=True)
class Half:
    """One of the two bf16 numbers of a parameter word: 0 the low one, 1 the high one."""

    word: Word
    place: int


ONE = None  # in place of a Half: 1.0

# name -> (16 lanes, 16 lanes)
CALL_CONSTANTS: dict[str, tuple[Half | None, Half]] = {
    "threshold": (Half(Word.INVERSE_REST, 1),) * 2,
    "refine": (Half(Word.REFINE, 0),) * 2,
    "split": (ONE, Half(Word.FACTOR_REST, 1)),
    "factor_high": (Half(Word.FACTOR, 0),) * 2,
    "factor_middle": (Half(Word.FACTOR, 1),) * 2,
    "factor_low": (Half(Word.FACTOR, 0), Half(Word.FACTOR_REST, 0)),
    "inverse_high": (Half(Word.INVERSE, 0),) * 2,
    "inverse_middle": (Half(Word.INVERSE, 1),) * 2,
    "inverse_low": (Half(Word.INVERSE, 0), Half(Word.INVERSE_REST, 0)),
}

NOT_FIXED = ("threshold", "split")  # what scores of 16 bits have no use for


SOFTCAP_CONSTANTS: dict[str, tuple[Half | None, Half]] = {
    "inner_split": (ONE, Half(Word.FACTOR, 1)),
    "inner": (Half(Word.FACTOR, 0),) * 2,
    "outer_split": (ONE, Half(Word.FACTOR_REST, 1)),
    "outer": (Half(Word.FACTOR_REST, 0),) * 2,
}

MASK_CONSTANTS: dict[str, tuple[Half | None, Half]] = {"mask_unit": (Half(Word.REFINE, 1), Half(Word.FLAGS, 1))}

# Capped scores are in base 2: what CALL_CONSTANTS says of them no longer depends on the call.
CAPPED: dict[str, bytes] = {
    "threshold": bf16_pair(REBASE_THRESHOLD, REBASE_THRESHOLD),
    "refine": bf16_pair(REFINE_BEYOND, REFINE_BEYOND),
    "split": bf16_pair(1.0, 0.0),
    "factor_high": bf16_pair(1.0, 1.0),
    "factor_middle": bf16_pair(0.0, 0.0),
    "factor_low": bf16_pair(1.0, 0.0),
    "inverse_high": bf16_pair(-1.0, -1.0),
    "inverse_middle": bf16_pair(0.0, 0.0),
    "inverse_low": bf16_pair(-1.0, 0.0),
}


def prepare_call(k: Context) -> None:
    """Fills the places of what depends on the call."""
    wanted = SOFTCAP_CONSTANTS if k.shape.softcap else CALL_CONSTANTS
    for name, halves in {**wanted, **(MASK_CONSTANTS if k.shape.mask_parts else {})}.items():
        if k.shape.fixed and name in NOT_FIXED:
            continue
        offset = k.pool.slot(name)
        for place, half in enumerate(halves):
            k.b.add(
                isa.VST_dmw_sts_w_ag_idx_imm(_spread(k, half, name).lo, k.registers["pool"], offset + HALF * place),
                region="constants",
            )
        k.b.barrier()  # few registers at a time


def call_x(k: Context, name: str) -> Reg:
    """An x register holding a constant of the call."""
    if k.shape.softcap and name in CAPPED:
        return k.constant_x(CAPPED[name], name)
    return k.filled_x(name)


def softcap_limits(k: Context) -> tuple[Reg, Reg]:
    """What magnitudes of scores are compared with as integers: NARROW and SMALL of `parameters`."""
    return _spread(k, Half(Word.INVERSE, 0), "narrow"), _spread(k, Half(Word.INVERSE, 1), "small")


def _spread(k: Context, half: Half | None, name: str) -> Reg:
    """An x register that holds the number in the upper and lower half of every lane."""
    x = k.b.x(name)
    if half is None:
        k.b.add(isa.VBCST_32(x, k.scalar(ONES_BF16, "ones_bits")))
        return x
    word = k.word(half.word)
    k.b.add(isa.VBCST_16(x, k.shifted(word, -16, signed=False) if half.place else word))
    return x
