"""A core program that keeps the attention kernel's protocol but only moves and adds words, to test the array with.

O = Q, re-tiled, plus (mod 2^32, word by word of the core layouts) the first words of every block of K and V.
"""

from __future__ import annotations

import numpy as np

from npuc.passes.attention.plan import Plan
from npuc.passes.machine.ir import Builder, Program, Reg

CORE_MEMORY = 0x70000
LOCK_BASE = 48
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
            items, blocks = b.r("items"), b.r("blocks")
            b.op("LDA_dms_lda_idx_imm", items, parameters, 0)
            b.op("LDA_dms_lda_idx_imm", blocks, parameters, 4)
            with b.counted_loop(items, "item"):
                self._item(blocks, keys, values)
        return b.program

    def _item(self, blocks: Reg, keys: tuple[Reg, Reg], values: tuple[Reg, Reg]) -> None:
        b = self.b
        self._acquire("q_full")
        self._acquire("o_empty")
        self._copy_queries()
        self._release("q_empty")
        left = b.r("left")
        b.op("ADD_add_r_ri", left, blocks, 0)
        with b.counted_loop(left, "block"):
            for name, (here, both) in (("k", keys), ("v", values)):
                self._acquire(f"{name}_full")
                self._add_block(here)
                self._release(f"{name}_empty")
                b.op("SUB", here, both, here)
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

    def _add_block(self, place: Reg) -> None:
        b = self.b
        source, target, count = b.p("source"), self._pointer("o"), b.r("count")
        b.op("MOV_mv_scl", source, place)
        b.constant(count, self.words)
        with b.counted_loop(count, "word"):
            old, new = b.r("old"), b.r("new")
            b.op(LOAD, new, source, 4)
            b.op("LDA_dms_lda_idx_imm", old, target, 0)
            b.op("ADD", new, new, old)
            b.op(STORE, new, target, 4)

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


def expected_output(plan: Plan, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What the program makes of uint32 words q [B, H, S, D/2], k and v [B, Hkv, Skv, D/2]."""
    size, words = plan.query_block, plan.query_bytes // 4
    o = np.zeros_like(q)
    for batch, head in np.ndindex(plan.batch, plan.heads):
        kv_head = head * plan.kv_heads // plan.heads
        added = np.zeros(words, dtype=np.uint32)
        for block in range(plan.key_blocks):
            rows = slice(block * plan.key_block, (block + 1) * plan.key_block)
            added += key_layout(k[batch, kv_head, rows]).ravel()[:words]
            added += value_layout(v[batch, kv_head, rows]).ravel()[:words]
        # o lies as [Bq/4][D/4][4][2 words] in the core
        added_rows = added.reshape(size // 4, -1, 4, 2).transpose(0, 2, 1, 3).reshape(size, -1)
        for first in range(0, plan.query_length, size):
            o[batch, head, first : first + size] = q[batch, head, first : first + size] + added_rows
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
