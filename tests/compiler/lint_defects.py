"""Defects of core programs, each a good program and the same with one thing wrong in it.

A case is a function of a random generator that gives the body of a program with the defect switched on or off.  The
body stands between a prologue, in which every register that it may use is written, and an endless loop.  The bundle at
which the finding must show is labelled `bad`; `severity` is what it must have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

END = """
end: j #end
nop 5
"""

PROLOGUE = """
movxm sp, #0x70100
movxm p0, #0x70000
movxm p1, #0x71000
movxm p2, #0x72000
movxm p3, #0x73000
movxm r0, #0x1
movxm r1, #0x2
movxm r2, #0x3
movxm r3, #0x4
movxm r16, #0x0
movxm m1, #0x20
movxm dj1, #0x20
mov s0, #0x0
mov s1, #0x1
vlda wl0, [p0, #0x0]
vlda wh0, [p0, #0x20]
vlda wl1, [p0, #0x0]
vlda wh1, [p0, #0x20]
vclr cm0
vclr cm1
vclr cm2
nop 8
"""
"""Writes r0 to r3, r16, p0 to p3, m1, dj1, s0, s1, x0, x1, cm0 to cm2 and sp, and lets all of it land."""


@dataclass(frozen=True)
class Defect:
    """kind and severity of the finding; body(rng, wrong) the code, with the defect or without."""

    name: str
    kind: str
    severity: str
    body: Callable[[Random, bool], str]
    end: str

    def program(self, seed: int, wrong: bool) -> str:
        return PROLOGUE + self.body(Random(f"{self.name} {seed}"), wrong) + self.end


DEFECTS: dict[str, Defect] = {}


def defect(
    kind: str, severity: str = "error", end: str = END
) -> Callable[[Callable[[Random, bool], str]], Callable[[Random, bool], str]]:
    """Registers a case under the name of its function."""

    def register(body: Callable[[Random, bool], str]) -> Callable[[Random, bool], str]:
        name = body.__name__
        DEFECTS[name] = Defect(name, kind, severity, body, end)
        return body

    return register


def r(rng: Random) -> str:
    """A scalar register that the prologue writes."""
    return f"r{rng.randrange(4)}"


def new_r(rng: Random) -> str:
    """One that it does not write."""
    return f"r{rng.choice([*range(4, 16), *range(24, 31)])}"


# ---- undefined registers


@defect("undefined-read")
def scalar_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: add r5, {new_r(rng) if wrong else r(rng)}, {r(rng)}"


@defect("undefined-read")
def pointer_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: lda r5, [p{rng.randrange(4, 8) if wrong else rng.randrange(4)}, #4]"


@defect("undefined-read")
def modifier_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: padda [p{rng.randrange(4)}], m{rng.choice([0, *range(2, 8)]) if wrong else 1}"


@defect("undefined-read")
def offset_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: lda r5, [p{rng.randrange(4)}, dj{rng.choice([0, *range(2, 8)]) if wrong else 1}]"


@defect("undefined-read")
def dimension_partly_written(rng: Random, wrong: bool) -> str:
    missing = rng.choice(["mova dn1, #4", "mova dc1, #0"])
    return """
    mova dn1, #4
    mova dc1, #0
    bad: padda.2d [p0], d1
    """.replace(missing if wrong else "-", "nop")


@defect("undefined-read")
def vector_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: vmul cm0, x{rng.randrange(3, 12) if wrong else 0}, x1, {r(rng)}"


@defect("undefined-read", "warning")
def vector_of_a_permutation_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: vshuffle x2, x{rng.randrange(3, 12) if wrong else 0}, x1, {r(rng)}"


@defect("undefined-read")
def pointer_updated_in_a_loop_never_written(rng: Random, wrong: bool) -> str:
    pointer = f"p{rng.randrange(4, 8)}"
    return f"""
    {"nop" if wrong else f"movxm {pointer}, #0x70000"}
    again: nop
    bad: paddb [{pointer}], #32
    jnz r0, #again
    nop 5
    """


@defect("undefined-read")
def accumulator_of_a_loop_not_cleared(rng: Random, wrong: bool) -> str:
    number = rng.randrange(3, 9)
    return f"""
    movxm ls, #first
    movxm le, #last
    mova lc, #3
    {"nop" if wrong else f"vclr cm{number}"}
    nop 7
    first: nop
    bad: vmac cm{number}, cm{number}, x0, x1, r0
    nop 2
    last: nop
    nop
    """


@defect("undefined-read", "warning")
def vector_half_written(rng: Random, wrong: bool) -> str:
    return f"""
    {"nop" if wrong else "vlda wh5, [p0, #0x20]"}
    vlda wl5, [p0, #0x0]
    nop 7
    bad: vmul cm0, x5, x0, r0
    """


@defect("undefined-read")
def accumulator_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: vmac cm1, cm{rng.randrange(3, 9) if wrong else 0}, x0, x1, {r(rng)}"


@defect("undefined-read", "warning")
def accumulator_half_never_written(rng: Random, wrong: bool) -> str:
    half, number = rng.choice("lh"), rng.randrange(3, 9)
    return f"""
    vclr {f"bm{'lh'.replace(half, '')}{number}" if wrong else f"cm{number}"}
    nop 7
    bad: vst.srs.s8.s32 cm{number}, s0, [p1, #0x0]
    """


@defect("undefined-read")
def mask_never_written(rng: Random, wrong: bool) -> str:
    q = rng.randrange(4)
    return f"""
    {"nop" if wrong else f"lda q{q}, [p0, #0x0]"}
    nop 7
    bad: st q{q}, [p1, #0x0]
    """


@defect("undefined-read")
def shift_never_written(rng: Random, wrong: bool) -> str:
    return f"bad: vsrs.s8.s32 wl2, cm{rng.randrange(3)}, s{rng.randrange(2, 4) if wrong else rng.randrange(2)}"


@defect("undefined-read", end="")
def return_without_call(rng: Random, wrong: bool) -> str:
    return f"{'nop' if wrong else 'movxm lr, #end'}\nbad: ret lr\nnop 5\nend: j #end\nnop 5"


@defect("undefined-read")
def copy_of_undefined_used(rng: Random, wrong: bool) -> str:
    return f"""
    mov r6, {new_r(rng) if wrong else r(rng)}
    mov r7, r6
    bad: jnz r7, #end
    nop 5
    """


@defect("undefined-read")
def stored_undefined(rng: Random, wrong: bool) -> str:
    return f"bad: st {new_r(rng) if wrong else r(rng)}, [p{rng.randrange(4)}, #4]"


@defect("undefined-read")
def condition_register_undefined(rng: Random, wrong: bool) -> str:
    return f"{'nop' if wrong else 'mov r27, #0x1'}\nbad: sel.eqz r5, r0, r1, r27"


@defect("undefined-read")
def written_only_behind_the_branch_back(rng: Random, wrong: bool) -> str:
    early, late = ("nop", "mov r9, #0x1") if wrong else ("mov r9, #0x1", "nop")
    return f"""
    {early}
    j #over
    nop 5
    back: {late}
    j #end
    nop 5
    over: bad: add r5, r9, r0
    jnz r5, #back
    nop 5
    """.replace("over: bad:", "over: nop\nbad:")


# ---- results used before they land, where nothing landed before


def too_early(producer: str, distance: int, consumer: str, wrong: bool) -> str:
    """The consumer `distance` bundles behind the producer, or one less."""
    gap = distance - 1 - wrong
    return f"{producer}\n{f'nop {gap}' if gap else ''}\nbad: {consumer}"


@defect("undefined-read")
def scalar_load_used_early(rng: Random, wrong: bool) -> str:
    return too_early("lda r8, [p0, #4]", 7, f"add r5, r8, {r(rng)}", wrong)


@defect("undefined-read")
def load_used_long_before(rng: Random, wrong: bool) -> str:
    distance = rng.randrange(1, 7) if wrong else 7
    return f"lda r8, [p0, #4]\n{f'nop {distance - 1}' if distance > 1 else ''}\nbad: add r5, r8, r0"


@defect("undefined-read")
def product_used_early(rng: Random, wrong: bool) -> str:
    return too_early(f"mul r8, {r(rng)}, r0", 2, "add r5, r8, r0", wrong)


@defect("undefined-read")
def vector_load_used_early(rng: Random, wrong: bool) -> str:
    half = rng.choice("lh")
    other = f"vlda w{'h' if half == 'l' else 'l'}6, [p1, #0x0]\nnop 2"
    return other + "\n" + too_early(f"vldb w{half}6, [p0, #0x0]", 7, "vshuffle x2, x6, x1, r0", wrong)


@defect("undefined-read")
def accumulator_used_early(rng: Random, wrong: bool) -> str:
    n = rng.randrange(3, 9)
    return too_early(f"vmul cm{n}, x0, x1, r0", 5, f"vst.srs.s8.s32 cm{n}, s0, [p1, #0x0]", wrong)


@defect("undefined-read")
def float_accumulator_chained_early(rng: Random, wrong: bool) -> str:
    n = rng.randrange(3, 9)
    return too_early(f"vmul.f bml{n}, x0, x1, r0", 4, f"vmac.f bml{n}, bml{n}, x0, x1, r0", wrong)


@defect("undefined-read")
def integer_accumulator_chained_early(rng: Random, wrong: bool) -> str:
    n = rng.randrange(3, 9)
    return too_early(f"vmul cm{n}, x0, x1, r0", 2, f"vmac cm{n}, cm{n}, x0, x1, r0", wrong)


@defect("undefined-read")
def result_used_early_across_a_branch(rng: Random, wrong: bool) -> str:
    before, behind = (1, 4) if wrong else (0, 5)
    return f"""
    j #over
    {f"nop {before}" if before else ""}
    lda r8, [p0, #4]
    nop {behind - 1}
    nop 8
    over: nop
    nop
    bad: jnz r8, #end
    nop 5
    """


# ---- writes that land together


@defect("double-landing")
def load_and_move_land_together(rng: Random, wrong: bool) -> str:
    return f"lda {(reg := r(rng))}, [p0, #4]\nnop {5 if wrong else 6}\nbad: mov {reg}, {r(rng)}"


@defect("double-landing")
def product_and_sum_land_together(rng: Random, wrong: bool) -> str:
    reg = r(rng)
    return f"mul {reg}, r0, r1\n{'' if wrong else 'nop'}\nbad: mov {reg}, {r(rng)}"


@defect("double-landing")
def two_results_of_one_bundle(rng: Random, wrong: bool) -> str:
    reg = rng.randrange(4, 16)
    return f"bad: mova r{reg}, #1; movx r{reg if wrong else reg + 1}, #2"


@defect("double-landing")
def half_and_whole_vector_land_together(rng: Random, wrong: bool) -> str:
    part = rng.choice(["wl2", "wh2"])
    return f"vldb {part}, [p0, #0x0]\nnop {4 if wrong else 5}\nbad: vshuffle x2, x0, x1, r0"


@defect("double-landing")
def double_landing_around_a_hardware_loop(rng: Random, wrong: bool) -> str:
    return f"""
    movxm ls, #first
    movxm le, #last
    mova lc, #3
    nop 6
    first: nop
    bad: mov r3, r1
    nop 5
    {"nop" if wrong else "lda r3, [p0, #4]"}
    {"lda r3, [p0, #4]" if wrong else "nop"}
    nop 3
    last: nop
    """


@defect("double-landing")
def double_landing_across_a_taken_branch(rng: Random, wrong: bool) -> str:
    return f"""
    jnz r0, #over
    nop 3
    lda r3, [p0, #4]
    nop
    nop 8
    over: nop {4 if wrong else 3}
    bad: mov r3, r1
    """


@defect("double-landing")
def double_landing_after_a_return(rng: Random, wrong: bool) -> str:
    return f"""
    jl #callee
    nop 5
    nop {3 if wrong else 5}
    bad: mov r3, r1
    j #end
    nop 5
    callee: ret lr
    nop 2
    lda r3, [p0, #4]
    nop 2
    """


@defect("double-landing")
def double_landing_inside_a_callee(rng: Random, wrong: bool) -> str:
    return f"""
    jl #callee
    nop 3
    lda r3, [p0, #4]
    nop
    j #end
    nop 5
    callee: ret lr
    nop {3 if wrong else 4}
    bad: mov r3, r1
    {"nop" if wrong else ""}
    """
