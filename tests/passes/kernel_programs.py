"""Random machine-level programs: any instruction without effects of its own, on a small stock of variables."""

from __future__ import annotations

import random

from kernel_replay import REGIONS

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction
from npuc.passes.machine.ir import Builder, Operand

STOCK = {"r": 9, "p": 4, "m": 2, "dj": 1, "d": 1, "d3": 1, "x": 7, "bm": 6, "cm": 3, "l": 2, "s": 2}

FILES_OF_CLASS = {
    "eR": "r", "eRS8": None, "eP": "p", "eM": "m", "eDJ": "dj", "eD": "d", "eDS": "d3", "eL": "l",
    "mSs": "s", "mSm": "s",
    "mXv": "x", "mXw": "x", "mXm": "x", "mXn": "x", "mXa": "x", "mXs": "x", "mShflDst": "x bm", "mMvBMXDst": "x bm",
    "mMvBMXSrc": "x bm", "mWa": "w", "mWs": "w", "mWb": "w", "mWm": "w", "mWm_1": "w", "mAMm": "am", "mAMs": "am",
    "mMvAMWQDst": "w am", "mMvAMWQSrc": "w am", "mBMm": "bm", "mBMs": "bm", "mBMa": "bm", "eCM": "cm", "mCMm": "cm",
    "mCMs": "cm", "mCMa": "cm", "mMvSclDst": "r", "mMvSclSrc": "r p", "mMvSclDstCg": "r m", "mLdaScl": "r p m",
    "mLdaCg": "r m", "mSclSt": "r p",
}  # fmt: skip


def usable(instruction: Instruction) -> bool:
    """Whether random code may hold it: known registers, no effect beside them and memory."""
    if instruction.side_effect or instruction.has_delay_slots or instruction.is_nop or instruction.name == "MOV_CNTR":
        return False
    if instruction.memory is not None and instruction.memory.bus:
        return False
    if "sp" in instruction.syntax.split("[")[-1] or any(r in ("sp", "dp") for r in instruction.implicit_uses):
        return False
    return all(o.kind != "register" or FILES_OF_CLASS.get(o.register_class or "") for o in instruction.operands)


POOL = tuple(i for i in INSTRUCTIONS.values() if usable(i))
FAVOURITES = tuple(
    INSTRUCTIONS[name]
    for name in (
        "VMAC_F_vmac_bm_core_dense VMAC_vmac_cm_core_dense VADD_F VSHUFFLE VCONV_BF16_FP32 "
        "VLDA_dmw_lda_w_ag_pstm_nrm_imm VLDB_dmw_ldb_ag_pstm_nrm_imm "
        "VST_dmw_sts_w_ag_pstm_nrm_imm VLDA_dmw_lda_am_ag_idx_imm ADD MUL_mul_r_rr "
        "LDA_dms_lda_idx_imm ST_dms_sts_idx_imm VMOV_mv_x VSRS_S8_S32_mv_w_srs"
    ).split()
)


class Generator:
    """A random program; the variables live through all of it and are stored at its end."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.b = Builder(f"random{seed}")
        self.stock = {file: [self.b.register(file, f"{file}{i}") for i in range(n)] for file, n in STOCK.items()}

    def operand(self, register_class: str, out: bool, used: set[object]) -> Operand | None:
        file = self.random.choice((FILES_OF_CLASS[register_class] or "").split())
        holder = {"w": "x", "am": "bm"}.get(file, file)
        choices = list(self.stock[holder])
        if file == "bm" and self.random.random() < 0.3:
            choices = list(self.stock["cm"])
        reg = self.random.choice(choices)
        if out and reg in used:
            return None
        if out:
            used.add(reg)
        half = self.random.choice(("lo", "hi"))
        if reg.file == "cm" and file == "am":
            return getattr(getattr(reg, half), self.random.choice(("lo", "hi")))
        return getattr(reg, half) if file in ("w", "am") or (file == "bm" and reg.file == "cm") else reg

    def instruction(self, instruction: Instruction) -> None:
        operands: list[Operand] = []
        named: dict[str, Operand] = {}
        used: set[object] = set()
        for o in instruction.operands:
            value: Operand | None
            if o.kind == "fixed_register":
                value = o.register
            elif o.tied_to is not None:
                value = named[o.tied_to]
            elif o.kind == "immediate":
                value = self.random.randrange(o.minimum, o.maximum + 1, o.step)
            else:
                written = o.direction != "in" or o.register_class in ("eD", "eDS")
                value = self.operand(o.register_class or "", written, used)
            if value is None:
                return  # two results in one register
            named[o.name] = value
            operands.append(value)
        region = self.random.choice((*REGIONS, None)) if self.random.random() < 0.9 else None
        self.b.op(instruction.name, *operands, region=region)

    def straight(self, count: int, *, subword: bool = True) -> None:
        for _ in range(count):
            chosen = self.random.choice(POOL if self.random.random() < 0.5 else FAVOURITES)
            if subword or chosen.memory is None or chosen.memory.kind != "load+store":
                self.instruction(chosen)

    def hardware_loop(self, count: int, size: int) -> None:
        with self.b.hardware_loop(count, "loop", pipelined=self.random.random() < 0.9):
            self.straight(size, subword=self.random.random() < 0.2)
            if not self.b._open[-1]:
                self.instruction(INSTRUCTIONS["VMAC_F_vmac_bm_core_dense"])

    def lock(self) -> None:
        value = self.b.r("lock")
        self.b.constant(value, 1)
        self.random.choice((self.b.acquire, self.b.release))(self.random.randrange(48, 64), value)

    def block(self, depth: int) -> None:
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.randrange(7)
            if kind <= 1:
                self.straight(self.random.randrange(1, 25))
            elif kind <= 3:
                self.hardware_loop(self.random.randrange(1, 11), self.random.randrange(1, 20))
            elif kind == 4:
                self.lock()
            elif depth:
                count = self.b.r("count")
                self.b.constant(count, self.random.randrange(1, 4))
                with self.b.counted_loop(count, "outer"):
                    self.block(depth - 1)
                    condition = self.b.r("condition")
                    self.b.op("ADD_add_r_ri", condition, count, -self.random.randrange(1, 4))
                    with self.b.if_nonzero(condition):
                        self.block(depth - 1)

    def finish(self):
        for reg in self.stock["x"]:
            for half in (reg.lo, reg.hi):
                self.b.op("VST_dmw_sts_w_ag_idx_imm", half, self.stock["p"][0], 0)
        for reg in self.stock["bm"]:
            self.b.op("VST_dmw_sts_am_ag_idx_imm", reg.lo, self.stock["p"][0], 0)
            self.b.op("VST_dmw_sts_am_ag_idx_imm", reg.hi, self.stock["p"][0], 0)
        for file in ("r", "p", "m", "dj"):
            for reg in self.stock[file]:
                self.b.op("ST_dms_sts_idx_imm", reg, self.stock["p"][0], 0)
        return self.b.program

    def start(self) -> None:
        for file in ("r", "p", "m", "dj"):
            for i, reg in enumerate(self.stock[file]):
                self.b.constant(reg, i * 32)
        for reg in self.stock["s"]:
            self.b.op("MOV_mv_cg", reg, 3)
        for file in ("d", "d3"):
            for reg in self.stock[file]:
                for part in ("m", "dn", "dj", "dc") + (("m2", "dn2", "dj2", "dc2") if file == "d3" else ()):
                    self.b.constant(reg.part(part), 64)
        for reg in self.stock["l"]:
            for part in (reg.lo, reg.hi):
                self.b.constant(part, 7)
        for reg in self.stock["x"]:
            for part in (reg.lo, reg.hi):
                self.b.op("VLDA_dmw_lda_w_ag_idx_imm", part, self.stock["p"][0], 0)
        for reg in self.stock["bm"]:
            self.b.op("VLDA_dmw_lda_am_ag_idx_imm", reg.lo, self.stock["p"][0], 0)
            self.b.op("VLDA_dmw_lda_am_ag_idx_imm", reg.hi, self.stock["p"][0], 0)
        for reg in self.stock["cm"]:
            for half in (reg.lo, reg.hi):
                self.b.op("VLDA_dmw_lda_am_ag_idx_imm", half.lo, self.stock["p"][0], 0)
                self.b.op("VLDA_dmw_lda_am_ag_idx_imm", half.hi, self.stock["p"][0], 0)


def random_program(seed: int, *, depth: int = 2):
    """A whole program of straight code, loops, conditionals and locks."""
    g = Generator(seed)
    g.start()
    g.block(depth)
    return g.finish()


def random_loop(seed: int, count: int, size: int):
    """One hardware loop between straight code."""
    g = Generator(seed)
    g.start()
    g.straight(g.random.randrange(0, 8))
    g.hardware_loop(count, size)
    g.straight(g.random.randrange(0, 8))
    return g.finish()
