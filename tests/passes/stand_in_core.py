"""A core program that keeps the attention kernel's protocol but only moves and adds words, to test the array with.

O = Q, re-tiled, plus one number for all words (mod 2^32): the sum of the running sums of the words of all blocks of K
and V, as they pass.  So it depends on the order of the words, and is the same for every row.
"""

from __future__ import annotations

import numpy as np

from npuc.passes.attention.call import Call
from npuc.passes.attention.core.parameters import ALIKE, NORTH, NORTHERN, Word
from npuc.passes.attention.plan import Plan
from npuc.passes.machine.ir import Builder, Program, Reg

CORE_MEMORY = 0x70000
LOCK_BASE = 48
NORTH_MEMORY, NORTH_LOCKS = 0x60000, 32  # facts/platform/device_npu1.md, "Core view of memory"
LOAD, STORE = "LDA_dms_lda_pstm_nrm_imm", "ST_dms_sts_pstm_nrm_imm"
TILE_WORDS = 16
# Positions in a 4x8 tile of Q (4 rows of 4 words) of the words of its two 4x4 tiles of O.
ORDER = tuple(4 * row + 2 * half + word for half in range(2) for row in range(4) for word in range(2))


class StandIn:
    """Builds the program; the registers that live through it are made once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.b = Builder("stand_in")
        self.one, self.minus_one = self.b.r("one"), self.b.r("minus_one")
        self.words = plan.query_bytes // 4

    def program(self) -> Program:
        b = self.b
        b.constant(self.one, 1)
        b.constant(self.minus_one, -1)
        keys, values = self._pointer_sum("k"), self._pointer_sum("v")
        with b.forever("run"):
            self._acquire("start")
            parameters = self._pointer("params")
            self._pass_on(parameters)
            items, length, blocks = b.r("items"), b.r("key_length"), b.r("blocks")
            b.op("LDA_dms_lda_idx_imm", items, parameters, 0)
            b.op("LDA_dms_lda_idx_imm", length, parameters, 4 * Word.KEYS)
            b.op("ADD_add_r_ri", length, length, self.plan.key_block - 1)
            right = b.r("right")
            b.constant(right, 1 - self.plan.key_block.bit_length())
            b.op("LSHL", blocks, length, right)
            with b.counted_loop(items, "item"):
                self._item(blocks, keys, values)
        return b.program

    def _pass_on(self, parameters: Reg) -> None:
        """The words of the call to the core in the north, while there is one; it makes no use of its lane."""
        b, north, flags, there = self.b, self.b.r("north"), self.b.r("flags"), self.b.p("p_north")
        b.op("LDA_dms_lda_idx_imm", flags, parameters, 4 * Word.FLAGS)
        b.constant(north, NORTHERN)
        b.op("AND", north, north, flags)
        with b.if_nonzero(north):
            b.constant(there, NORTH_MEMORY + self.plan.core_buffers["params"].address)
            for word in range(ALIKE):
                value = b.r("value")
                b.op("LDA_dms_lda_idx_imm", value, parameters, 4 * word)
                if word == Word.FLAGS:
                    b.op("ADD_add_r_ri", value, value, -NORTH)
                b.op("ST_dms_sts_idx_imm", value, there, 4 * word)
            b.release(NORTH_LOCKS + self.plan.core_locks["start"], self.one)

    def _item(self, blocks: Reg, keys: tuple[Reg, Reg], values: tuple[Reg, Reg]) -> None:
        b = self.b
        self._acquire("q_full")
        self._acquire("o_empty")
        self._copy_queries()
        self._release("q_empty")
        left, sums = b.r("left"), (b.r("sum"), b.r("sum_of_sums"))
        for total in sums:
            b.constant(total, 0)
        b.op("ADD_add_r_ri", left, blocks, 0)
        with b.counted_loop(left, "block"):
            for name, (here, both) in (("k", keys), ("v", values)):
                self._acquire(f"{name}_full")
                self._sum_block(here, sums)
                self._release(f"{name}_empty")
                b.op("SUB", here, both, here)
        self._add_to_output(sums[1])
        self._release("o_full")

    def _copy_queries(self) -> None:
        b = self.b
        source, target, tiles = self._pointer("q"), self._pointer("o"), b.r("tiles")
        b.constant(tiles, self.words // TILE_WORDS)
        with b.counted_loop(tiles, "tile"):
            read = [b.r(f"w{i}") for i in range(TILE_WORDS)]
            for register in read:
                b.op(LOAD, register, source, 4)
            for position in ORDER:
                b.op(STORE, read[position], target, 4)

    def _sum_block(self, place: Reg, sums: tuple[Reg, Reg]) -> None:
        b = self.b
        source, count = b.p("source"), b.r("count")
        b.op("MOV_mv_scl", source, place)
        b.constant(count, self.plan.key_bytes // 4)
        with b.counted_loop(count, "word"):
            word = b.r("word")
            b.op(LOAD, word, source, 4)
            b.op("ADD", sums[0], sums[0], word)
            b.op("ADD", sums[1], sums[1], sums[0])

    def _add_to_output(self, total: Reg) -> None:
        b = self.b
        target, count = self._pointer("o"), b.r("count")
        b.constant(count, self.words)
        with b.counted_loop(count, "result"):
            old = b.r("old")
            b.op("LDA_dms_lda_idx_imm", old, target, 0)
            b.op("ADD", old, total, old)
            b.op(STORE, old, target, 4)

    def _pointer(self, buffer: str) -> Reg:
        p = self.b.p(f"p_{buffer}")
        self.b.constant(p, CORE_MEMORY + self.plan.core_buffers[buffer].address)
        return p

    def _pointer_sum(self, name: str) -> tuple[Reg, Reg]:
        """Addresses of buffer 0 and of both together: their difference to the present one is the next."""
        first, second = (CORE_MEMORY + self.plan.core_buffers[f"{name}{i}"].address for i in range(2))
        here, both = self.b.r(f"{name}_here"), self.b.r(f"{name}_both")
        self.b.constant(here, first)
        self.b.constant(both, first + second)
        return here, both

    def _acquire(self, lock: str) -> None:
        self.b.acquire(LOCK_BASE + self.plan.core_locks[lock], self.minus_one)

    def _release(self, lock: str) -> None:
        self.b.release(LOCK_BASE + self.plan.core_locks[lock], self.one)


def expected_output(plan: Plan, call: Call, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What the program makes of uint32 words q [B, H, S, D/2], k and v [B, Hkv, Skv, D/2].

    Skv is a multiple of the key block and every query sees all keys.
    """
    o = np.zeros_like(q)
    for batch, head in np.ndindex(call.batch, call.heads):
        passed = []
        for block in range(0, call.key_length, plan.key_block):
            for tensor, layout in ((k, key_layout), (v, value_layout)):
                passed.append(layout(tensor[batch, call.kv_head(head), block : block + plan.key_block]).ravel())
        o[batch, head] = q[batch, head] + np.cumsum(np.concatenate(passed), dtype=np.uint32).sum(dtype=np.uint32)
    return o


def key_layout(block: np.ndarray) -> np.ndarray:
    """[keys][words] -> [2 halves][D/8][keys/2][4 words], as the core kernel reads K."""
    keys, words = block.shape
    return block.reshape(2, keys // 2, words // 4, 4).transpose(0, 2, 1, 3)


def value_layout(block: np.ndarray) -> np.ndarray:
    """[keys][words] -> [D/4][keys/8][8][2 words], as the core kernel reads V."""
    keys, words = block.shape
    return block.reshape(keys // 8, 8, words // 2, 2).transpose(2, 0, 1, 3)


def query_layout(block: np.ndarray) -> np.ndarray:
    """[queries][words] -> [Bq/4][D/8][4][4 words], as the core kernel reads Q."""
    queries, words = block.shape
    return block.reshape(queries // 4, 4, words // 4, 4).transpose(0, 2, 1, 3)
