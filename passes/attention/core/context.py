"""What the stages of the attention kernel share: shapes, addresses, constants and register shorthands."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.target import NPU1
from npuc.passes.attention.core.parameters import PARAMETER_BYTES, Word, bf16_bits
from npuc.passes.attention.plan import shared_out
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Access, Builder, Constructor, Operand, Reg, Register

# Own data memory and own locks as the core numbers them (facts/platform/device_npu1.md, "Core view of memory").
CORE_MEMORY = 0x70000
LOCK_BASE = 48

TILE = 64  # bytes of a 4x8 bf16 tile, of a 4x4 fp32 tile, and of an x or bm register
HALF = 32  # bytes of one vector load or store

# Configuration words of the MAC (facts/semantics/vmac.md section 3).
MATMUL_4X8X4 = 0x01C
ELEMENTWISE = 0x03C
INT16_ELEMENTWISE = 0x338

# vshuffle modes (facts/semantics/vector_misc.md section 1).
SHUFFLE_EVEN_16 = 2
SHUFFLE_ODD_16 = 3
SHUFFLE_LOW_HALVES = 10
SHUFFLE_HIGH_HALVES = 11
SHUFFLE_8X4_TO_4X8 = 28
SHUFFLE_4X8_TO_8X4 = 29
SHUFFLE_TRANSPOSE_4X4_32 = 34
SHUFFLE_TRANSPOSE_4X4_16 = 39

# By load port: post-increment by an immediate and by a register.
LOADS: dict[str, tuple[Constructor, Constructor]] = {
    "a": (isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm, isa.VLDA_dmw_lda_w_ag_pstm_nrm),
    "b": (isa.VLDB_dmw_ldb_ag_pstm_nrm_imm, isa.VLDB_dmw_ldb_ag_pstm_nrm),
}

INDEXED_LOADS: dict[str, Constructor] = {"a": isa.VLDA_dmw_lda_w_ag_idx_imm, "b": isa.VLDB_dmw_ldb_ag_idx_imm}


@dataclass(frozen=True)
class Shape:
    """Sizes of the work of one core: queries and keys per block, head size, rows of all cores that share an item;
    how probabilities are made (`mantissas`), whether scores are capped first (`softcap`), and how many bf16 parts the
    numbers of a mask have that are added to them (0: no mask); whether Q comes in blocks of K and V (`streams`);
    whether softcaps are bounded (`capped`)."""

    queries: int
    keys: int
    head_dim: int
    item_rows: int
    recipe: str = "balanced"
    softcap: bool = False
    mask_parts: int = 0
    split: bool = False
    bounded: bool = False

    @property
    def probability_parts(self) -> int:
        """bf16 numbers to a probability: rounded to one, P costs results as much as their own rounding does."""
        return 2 if self.recipe == "accurate" else 1

    @property
    def adjusted(self) -> bool:
        """Whether something comes between Q K^T and what is subtracted from it: the reference is subtracted then."""
        return self.softcap or bool(self.mask_parts)

    @property
    def fixed(self) -> bool:
        """Whether scores are kept as 16-bit numbers (`fixed_scores`)."""
        return self.bounded or (self.recipe != "accurate" and not self.adjusted)

    @property
    def query_blocks(self) -> tuple[int, int]:
        """Blocks of the Q of all cores that come before K, and those before V, where these are split."""
        return shared_out(self.item_rows, self.keys)

    @property
    def query_chunks(self) -> int:
        """Blocks as wide as a block of keys in which Q comes, where masks do; the last may overlap the one before."""
        return -(-self.head_dim // self.keys)

    @property
    def in_turn(self) -> bool:
        """Whether key blocks come as they lie: with a mask."""
        return bool(self.mask_parts)

    @property
    def clears_first(self) -> bool:
        """Whether O is cleared while an item's first keys come: columns that share them have waited for each other, and
        for the last output to leave; a column by itself goes on to its first scores meanwhile."""
        return self.split and self.item_rows > NPU1.cores_per_column * self.queries

    @property
    def groups(self) -> int:
        """Groups of four queries."""
        return self.queries // 4

    @property
    def unrolled_pairs(self) -> int:
        """Pairs of groups whose loops follow each other without a jump; of short heads, whose loops are straight code,
        each is by itself, as registers do not suffice for more."""
        return next(
            count for count in (4, 2, 1) if self.groups % (2 * count) == 0 and (count == 1 or self.head_dim >= 32)
        )

    @property
    def key_tiles(self) -> int:
        return self.keys // 4

    @property
    def depth_steps(self) -> int:
        """Tiles of eight dimensions along the head."""
        return self.head_dim // 8

    @property
    def value_tiles(self) -> int:
        """Output tiles of four dimensions in a group."""
        return self.head_dim // 4

    @property
    def output_tiles(self) -> int:
        """Accumulator tiles in a group: the output and, last, the row sums."""
        return self.value_tiles + 1


class ConstantPool:
    """64-byte vectors in data memory, each stored once: known ones, and places that a call fills."""

    def __init__(self, address: int, limit: int) -> None:
        self.address = address
        self.limit = limit
        self._offsets: dict[bytes | str, int] = {}

    def offset(self, vector: bytes) -> int:
        """Offset of `vector` from the pool's start."""
        if len(vector) != TILE:
            raise ValueError(f"constant of {len(vector)} bytes, want {TILE}")
        return self._offset(vector)

    def slot(self, name: str) -> int:
        """Offset of the place of that name."""
        return self._offset(name)

    def _offset(self, key: bytes | str) -> int:
        offset = self._offsets.setdefault(key, TILE * len(self._offsets))
        if offset + TILE > self.limit:
            raise ResourceError(
                f"constants need more than the {self.limit} bytes of core data memory set aside for them"
            )
        return offset

    def data(self) -> bytes:
        return b"".join(key if isinstance(key, bytes) else bytes(TILE) for key in self._offsets)


def f32x16(value: float) -> bytes:
    return struct.pack("<f", value) * 16


def u32x16(value: int) -> bytes:
    return struct.pack("<I", value) * 16


def bf16_pair(low: float, high: float) -> bytes:
    """16 lanes of `low`, then 16 lanes of `high`: an operand [low|high] of the elementwise mode."""
    return struct.pack("<H", bf16_bits(low)) * 16 + struct.pack("<H", bf16_bits(high)) * 16


@dataclass
class Context:
    """The builder, the shape, where buffers lie and the registers that live through the whole program.

    sums: of the addresses of a ring's two buffers, where no register holds them.
    """

    b: Builder
    shape: Shape
    buffers: dict[str, int]
    locks: dict[str, int]
    pool: ConstantPool
    registers: dict[str, Reg] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)

    def address(self, buffer: str, offset: int = 0) -> int:
        """Core address of a place in a buffer."""
        return CORE_MEMORY + self.buffers[buffer] + offset

    def pointer(self, buffer: str, offset: int = 0, name: str = "") -> Reg:
        """A fresh pointer to a place in a buffer."""
        p = self.b.p(name or f"p_{buffer}")
        self.b.constant(p, self.address(buffer, offset))
        return p

    def pointer_from(self, source: Reg, name: str) -> Reg:
        p = self.b.p(name)
        self.b.add(isa.MOV_mv_scl(p, source))
        return p

    def scalar(self, value: int, name: str) -> Reg:
        r = self.b.r(name)
        self.b.constant(r, value)
        return r

    def word(self, word: Word, name: str = "") -> Reg:
        """A word of the parameters of the call, or of the core's own variables behind them, in a fresh register.

        They lie right before the constants, so that one pointer reaches both.
        """
        r = self.b.r(name or word.name.lower())
        self.b.add(isa.LDA_dms_lda_idx_imm(r, self.registers["pool"], 4 * word - PARAMETER_BYTES), region="params")
        return r

    def low_half(self, word: Word, name: str) -> Reg:
        """The low 16 bits of a word of the parameters, unsigned."""
        r = self.b.r(name)
        self.b.add(isa.EXTENDu16(r, self.word(word)))
        return r

    def high_half(self, word: Word, name: str) -> Reg:
        """And the high ones."""
        return self.shifted(self.word(word), -16, name, signed=False)

    def set_word(self, word: Word, value: Reg) -> None:
        self.b.add(isa.ST_dms_sts_idx_imm(value, self.registers["pool"], 4 * word - PARAMETER_BYTES), region="params")

    def sum(self, a: Reg, b: Reg | int, name: str = "sum") -> Reg:
        """a + b of two scalars."""
        r = self.b.r(name)
        if isinstance(b, int) and -64 <= b <= 63:
            self.b.add(isa.ADD_add_r_ri(r, a, b))
        else:
            self.b.add(isa.ADD(r, a, self.scalar(b, name) if isinstance(b, int) else b))
        return r

    def difference(self, a: Reg, b: Reg, name: str = "difference") -> Reg:
        r = self.b.r(name)
        self.b.add(isa.SUB(r, a, b))
        return r

    def shifted(self, a: Reg, places: int, name: str = "shifted", *, signed: bool = True) -> Reg:
        """a * 2^places; to the right where negative, by copies of the sign or by zeros."""
        r = self.b.r(name)
        shift = isa.ASHL if signed else isa.LSHL
        self.b.add(shift(r, a, self.scalar(places, "places")))
        return r

    def minimum(self, a: Reg, b: Reg, name: str = "minimum") -> Reg:
        """The smaller of two signed scalars whose difference fits 32 bits: b + (a - b where that is negative)."""
        over = self.difference(a, b)
        r = self.b.r(name)
        self.b.add(isa.AND(r, over, self.shifted(over, -31, "sign")))
        self.b.add(isa.ADD(r, r, b))
        return r

    def maximum(self, a: Reg, b: Reg, name: str = "maximum") -> Reg:
        """The larger of two signed scalars whose difference fits 32 bits: a - (a - b where that is negative)."""
        over = self.difference(a, b)
        r = self.b.r(name)
        self.b.add(isa.AND(r, over, self.shifted(over, -31, "sign")))
        self.b.add(isa.SUB(r, a, r))
        return r

    @contextmanager
    def passes(self, count: int, name: str) -> Iterator[Reg | None]:
        """A loop of so many passes, known here; yields the register that counts those left.  A single one is no loop,
        so that what is before and behind it is scheduled with it, and there is no register."""
        if count == 1:
            yield None
            return
        left = self.scalar(count, name)
        with self.b.counted_loop(left, name):
            yield left

    def acquire(self, lock: str, count: int = 1) -> None:
        """count: of what the lock counts, all at once."""
        with self.b.step(f"acquire {lock}"):
            value = self.registers["minus_one"] if count == 1 else self.scalar(-count, "all_of_them")
            self.b.acquire(LOCK_BASE + self.locks[lock], value)

    def release(self, lock: str) -> None:
        with self.b.step(f"release {lock}"):
            self.b.release(LOCK_BASE + self.locks[lock], self.registers["one"])

    def advance(self, ring: str) -> None:
        """The register of that name to the other one of two buffers."""
        both = self.registers.get(f"{ring}_sum") or self.scalar(self.sums[ring], f"{ring}_sum")
        self.b.add(isa.SUB(self.registers[ring], both, self.registers[ring]))

    # vectors

    def constant_x(self, vector: bytes, name: str) -> Reg:
        """An x register holding a constant: broadcast when all its words are equal, else from the pool."""
        x = self.b.x(name)
        if vector == vector[:4] * 16:
            word = self.scalar(int.from_bytes(vector[:4], "little"), f"{name}_word")
            self.b.add(isa.VBCST_32(x, word))
            return x
        self._load_constant(x, self.pool.offset(vector))
        return x

    def filled_x(self, name: str) -> Reg:
        """An x register holding what `call_constants` put in the place of that name."""
        x = self.b.x(name)
        self._load_constant(x, self.pool.slot(name))
        return x

    def _load_constant(self, x: Reg, offset: int) -> None:
        p = self.registers["pool"]
        self.b.add(isa.VLDA_dmw_lda_w_ag_idx_imm(x.lo, p, offset), region="constants")
        self.b.add(isa.VLDA_dmw_lda_w_ag_idx_imm(x.hi, p, offset + HALF), region="constants")

    def constant_bm(self, vector: bytes, name: str) -> Reg:
        """An accumulator half holding a constant."""
        bm = self.b.bm(name)
        self.move(bm, self.constant_x(vector, f"{name}_x"))
        return bm

    def load_x(
        self,
        x: Reg,
        p: Reg,
        region: str,
        *,
        port: str = "a",
        step: Operand = HALF,
        carried: bool = True,
        bank: str | None = None,
    ) -> None:
        """x = the 64 bytes at p; p moves on by 32 + step bytes (an immediate or an m register)."""
        for half, by in ((x.lo, HALF), (x.hi, step)):
            self.load_half(half, p, region, ports=port, step=by, carried=carried, bank=bank)

    def load_half(
        self,
        half: Register,
        p: Reg,
        region: str,
        *,
        ports: str = "ab",
        step: Operand = HALF,
        carried: bool = True,
        bank: str | tuple[str, ...] | None = None,
    ) -> None:
        """half = the 32 bytes at p, by one of the ports, which are tried in that order; p moves on by step bytes."""
        first, *others = (LOADS[port][not isinstance(step, int)] for port in ports)
        self.b.add(first(half, p, step), region=region, carried=carried, bank=bank, alternatives=tuple(others))

    def load_bm(
        self, bm: Reg, p: Reg, region: str, *, step: int = HALF, carried: bool = True, bank: str | None = None
    ) -> None:
        """bm = the 64 bytes at p; p moves on by 32 + step bytes."""
        self._halves(isa.VLDA_dmw_lda_am_ag_pstm_nrm_imm, bm, p, step, Access(region, carried, bank))

    def store_bm(
        self, bm: Reg, p: Reg, region: str, *, step: int = HALF, carried: bool = True, bank: str | None = None
    ) -> None:
        self._halves(isa.VST_dmw_sts_am_ag_pstm_nrm_imm, bm, p, step, Access(region, carried, bank))

    def store_x(
        self, x: Reg, p: Reg, region: str, *, step: int = HALF, carried: bool = True, bank: str | None = None
    ) -> None:
        self._halves(isa.VST_dmw_sts_w_ag_pstm_nrm_imm, x, p, step, Access(region, carried, bank))

    def _halves(self, access_of: Constructor, register: Reg, p: Reg, step: int, access: Access) -> None:
        for half, by in ((register.lo, HALF), (register.hi, step)):
            self.b.add(access_of(half, p, by), region=access.region, carried=access.carried, bank=access.bank)

    def load_at(
        self, register: Reg, p: Reg, offset: int, region: str, ports: str = "a", bank: str | None = None
    ) -> None:
        """x or bm register = the 64 bytes at p + offset; an x register by one of the ports, tried in that order."""
        first, *others = [INDEXED_LOADS[port] for port in ports]
        if register.file != "x":
            first, others = isa.VLDA_dmw_lda_am_ag_idx_imm, []
        for half, place in ((register.lo, offset), (register.hi, offset + HALF)):
            self.b.add(first(half, p, place), region=region, bank=bank, alternatives=tuple(others))

    def move_on(self, p: Reg, by: Reg) -> None:
        """p += by, an m register, in whichever slot is free."""
        others = (isa.PADDB_ldb_ptr_inc_nospill_nrm, isa.PADDS_st_ptr_inc_idx)
        self.b.add(isa.PADDA_lda_ptr_inc_idx(p, by), alternatives=others)

    def store_at(self, register: Reg, p: Reg, offset: int, region: str) -> None:
        """The 64 bytes at p + offset = x or bm register."""
        store = isa.VST_dmw_sts_w_ag_idx_imm if register.file == "x" else isa.VST_dmw_sts_am_ag_idx_imm
        self.b.add(store(register.lo, p, offset), region=region)
        self.b.add(store(register.hi, p, offset + HALF), region=region)

    def multiply(self, kind: Constructor, *operands: Operand) -> None:
        """An elementwise operation of the MAC: vmul.f, vmac.f, vmsc.f or vnegmul.f."""
        self.b.add(kind(*operands, self.registers["elementwise"]))

    def scale(self, value: Register, split: Reg, factor: Reg, name: str) -> Reg:
        """fp32 value * c with some 16 bits; split: [1 | -d], factor: [ch | ch] with c = ch (1 + d), ch in bf16."""
        parts, rest, product = self.b.x(f"{name}_parts"), self.b.bm(f"{name}_rest"), self.b.bm(name)
        self.to_bf16(parts.lo, value)
        self.to_bf16(parts.hi, value)
        self.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, value, parts, split)  # v - vh + d vh
        self.to_bf16(parts.hi, rest)
        self.multiply(isa.VMUL_F_vmac_bm_core_dense, product, parts, factor)
        return product

    def add(self, dst: Register, a: Register, b: Register) -> None:
        """fp32 accumulator addition."""
        self.b.add(isa.VADD_F(dst, a, b, self.registers["matmul"]))

    def subtract(self, dst: Register, a: Register, b: Register) -> None:
        self.b.add(isa.VSUB_F(dst, a, b, self.registers["matmul"]))

    def to_bf16(self, half: Register, bm: Register) -> None:
        """16 fp32 lanes to bf16 by crRnd."""
        self.b.add(isa.VCONV_BF16_FP32(half, bm))

    def move(self, dst: Register, src: Register) -> None:
        """512 bits between x and bm registers."""
        self.b.add(isa.VMOV_mv_x(dst, src))

    def zero_x(self, name: str) -> Reg:
        x = self.b.x(name)
        self.b.add(isa.VBCST_32(x, self.registers["zero"]))
        return x
