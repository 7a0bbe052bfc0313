"""A hand-scheduled C += A * B of 32x32x32 bf16 (core.hand_bf16_32cubed of facts/silicon/calibration.json).

160 bundles: 49 to warm up, a hardware loop of 64 run three times, 47 to cool down; 256 of the 288 executed multiply.

A lies in 8 x 4 tiles of 4x8 bf16, B in 4 x 8 of 8x4 bf16, C in 8 x 8 of 4x4 fp32, tiles and elements row-major, 64
bytes a tile; p0 points to A, p1 to B, p2 and p3 to C, in three banks.  Cycles count from the first multiply.  A block
is 2x4 tiles of C and 32 cycles: 4 steps in k of 8 multiplies, one a cycle.  Eight blocks go over 4 row pairs, both
halves of the columns for each; blocks use the accumulators cm0-3 and cm4-7 in turn.  In steady state a bundle holds

* a multiply;
* in slot ldb half a tile of B, 8 cycles before the step that uses it;
* in slot lda, in odd cycles, half a tile of A; in even cycles a quarter of an accumulator of the next block;
* in slot st, in odd cycles, a quarter of an accumulator of the last block.

So accumulators are loaded and stored in different cycles, and no two accesses of a bundle want the same bank.
"""

from __future__ import annotations

from collections import defaultdict

FIRST, LOOP, COOL_DOWN, END = -17, 32, 224, 271  # cycles: the first bundle, the loop, what follows it, the end
BLOCKS, STEPS = 8, 32
# Distances between the halves of tiles that are loaded one after the other, and from a step or block to the next.
A_IN_STEP, A_NEXT, A_SAME_ROWS, A_NEXT_ROWS = (32, 224, 32), -224, -480, 32
B_IN_STEP = 32
B_NEXT, B_RIGHT, B_LEFT = "m0", "m1", "m2"  # too far for an immediate of slot ldb
MODIFIERS = {B_NEXT: 288, B_RIGHT: -1504, B_LEFT: -2016}
C_TO_LOWER, C_TO_UPPER, C_NEXT_ROWS = 480, -480, 32
QUARTERS = ("amll", "amlh", "amhl", "amhh")


def _accumulator(block: int, index: int) -> str:
    """bml or bmh of the block's tile `index`: column index // 2, row index % 2."""
    return f"bm{'lh'[index % 2]}{4 * (block % 2) + index // 2}"


def _quarter(block: int, part: int) -> tuple[str, str]:
    """The part-th quarter register of a block, in the order of use, and the step of the pointer after it."""
    index, high = divmod(part, 2)
    register = f"{QUARTERS[2 * (index % 2) + high]}{4 * (block % 2) + index // 2}"
    if not high:
        return register, "#32"
    if part == 15 and block % 2:
        return register, f"#{C_NEXT_ROWS}"
    return register, f"#{C_TO_UPPER if index % 2 else C_TO_LOWER}"


def _a_half(step: int, part: int) -> tuple[str, str]:
    """The part-th half tile of A of a step and the pointer's step."""
    register = f"w{'lh'[part % 2]}{2 * (step % 2) + part // 2}"
    if part < 3:
        return register, f"#{A_IN_STEP[part]}"
    if step % 4 < 3:
        return register, f"#{A_NEXT}"
    return register, f"#{A_NEXT_ROWS if step // 4 % 2 else A_SAME_ROWS}"


def _b_half(step: int, part: int) -> tuple[str, str]:
    register = f"w{'lh'[part % 2]}{4 + 4 * (step % 2) + part // 2}"
    if part < 7:
        return register, f"#{B_IN_STEP}"
    if step % 4 < 3:
        return register, B_NEXT
    return register, B_LEFT if step // 4 % 2 else B_RIGHT


def _bundles() -> dict[int, list[str]]:
    """Instructions by cycle."""
    at: dict[int, list[str]] = defaultdict(list)
    for cycle in range(8 * STEPS):
        step, index = divmod(cycle, 8)
        accumulator = _accumulator(step // 4, index)
        a, b = f"x{2 * (step % 2) + index % 2}", f"x{4 + 4 * (step % 2) + index // 2}"
        at[cycle].append(f"vmac.f {accumulator}, {accumulator}, {a}, {b}, r0")
    for step in range(STEPS):
        for part in range(8):
            register, onward = _b_half(step, part)
            at[8 * (step - 1) + part].append(f"vldb {register}, [p1], {onward}")
        for part in range(4):
            register, onward = _a_half(step, part)
            early = FIRST + 4 * step + part  # the first two steps: slot ldb is still free
            cycle, load = (early, "vldb") if step < 2 else (8 * step - 13 + 2 * part, "vlda")
            at[cycle].append(f"{load} {register}, [p0], {onward}")
    for block in range(BLOCKS):
        start = 32 * block
        for part in range(16):
            register, onward = _quarter(block, part)
            at[FIRST + part if block == 0 else start - 28 + 2 * part].append(f"vlda {register}, [p2], {onward}")
            at[start + 31 + (part if block == BLOCKS - 1 else 2 * part)].append(f"vst {register}, [p3], {onward}")
    setup = [
        *(f"movxm {register}, #{value}" for register, value in MODIFIERS.items()),
        "movxm r0, #28",
        "movxm lc, #3",
        "movxm ls, #loop",
        "movxm le, #loop_end",
    ]
    for cycle, instruction in enumerate(setup, FIRST):
        at[cycle].append(instruction)
    at[END - 6].append("ret lr")
    return at


def text() -> str:
    """The function as assembly text: warm-up, one pass of the loop, cool-down."""
    at = _bundles()
    lines = []
    for cycle in [*range(FIRST, LOOP + 64), *range(COOL_DOWN, END)]:
        label = {LOOP: "loop:\n", LOOP + 63: "loop_end:\n"}.get(cycle, "")
        lines.append(label + "; ".join(at.get(cycle, ["nop"])))
    return "\n".join(lines)


def loop_passes_are_alike() -> bool:
    """Whether the three passes of the loop hold the same instructions, as a loop must."""
    at = _bundles()
    return all(at[cycle] == at[cycle + 64] for cycle in range(LOOP, COOL_DOWN - 64))
