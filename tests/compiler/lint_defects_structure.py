"""More defects (see `lint_defects.py`): units, sub-word stores, branches, hardware loops, locks."""

from __future__ import annotations

from random import Random

from lint_defects import defect, r

# ---- units and ports


def apart(first: str, distance: int, second: str) -> str:
    return f"{first}\n{f'nop {distance - 1}' if distance > 1 else ''}\nbad: {second}"


@defect("unit-conflict")
def scalar_load_and_constant_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("lda r8, [p0, #4]", 6 if wrong else rng.choice([1, 5, 7]), "mova r9, #1")


@defect("unit-conflict")
def extract_and_move_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("vextract.s32 r8, x0, r16", 1 if wrong else 2, "mov r9, #1")


@defect("unit-conflict")
def delayed_moves_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("mov.d6 r8, r0", 6 if wrong else 5, "mov r9, r1")


@defect("unit-conflict")
def product_and_sum_share_a_port(rng: Random, wrong: bool) -> str:
    return apart(f"mul r8, r0, {r(rng)}", 1 if wrong else 2, "add r9, r0, r1")


@defect("unit-conflict")
def store_and_multiply_share_a_read_port(rng: Random, wrong: bool) -> str:
    stored = r(rng) if wrong else "p1"
    return f"bad: st {stored}, [p0, #4]; vmul cm0, x0, x1, r0"


@defect("unit-conflict")
def pointer_move_and_store_share_a_read_port(rng: Random, wrong: bool) -> str:
    return f"bad: st p{rng.randrange(4)}, [p0, #4]; mov r8, {'p1' if wrong else 'r1'}"


@defect("unit-conflict", "warning")
def accumulators_share_a_read_port_with_a_store(rng: Random, wrong: bool) -> str:
    first = "vadd cm0, cm1, cm2, r0"
    return apart(first, 2, f"vst.srs.s8.s32 cm{rng.choice([0, 1]) if wrong else 2}, s0, [p1, #0x0]")


@defect("unit-conflict", "warning")
def halves_of_an_accumulator_shifted_together(rng: Random, wrong: bool) -> str:
    halves = ("vsrs.s16.s32 wl5, bml2, s0", "vsrsm.s16.s32 wl6, bmh2, s0")
    return f"bad: {'; '.join(halves)}" if wrong else apart(halves[0], 1, halves[1])


@defect("unit-conflict")
def accumulators_share_a_read_port(rng: Random, wrong: bool) -> str:
    return apart("vadd cm0, cm1, cm2, r0", 2, f"vmov cm3, cm{rng.choice([0, 1]) if wrong else 2}")


@defect("unit-conflict")
def accumulator_load_and_upshift_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("vlda amll3, [p0, #0x0]", 4 if wrong else 3, "vups.s32.s16 bml4, wl0, s0")


@defect("unit-conflict")
def vector_load_and_downshift_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("vlda wl5, [p0, #0x0]", 3 if wrong else 4, "vsrs.s8.s32 wl6, cm0, s0")


@defect("unit-conflict")
def unpack_and_vector_store_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("vunpack.s16.s8 x2, wl0", 6 if wrong else 5, "vst wl1, [p1, #0x0]")


@defect("unit-conflict")
def accumulator_results_share_a_port(rng: Random, wrong: bool) -> str:
    return apart("vmul.f bml3, x0, x1, r0", 1 if wrong else 2, "vmul cm4, x0, x1, r0")


@defect("unit-conflict")
def port_shared_around_a_hardware_loop(rng: Random, wrong: bool) -> str:
    return f"""
    movxm ls, #first
    movxm le, #last
    mova lc, #3
    nop 6
    first: nop 2
    bad: mova r9, #1
    nop 5
    {"nop" if wrong else "lda r3, [p0, #4]"}
    {"lda r3, [p0, #4]" if wrong else "nop"}
    nop 2
    last: nop
    """


# ---- sub-word stores


@defect("subword-window")
def two_subword_stores_too_close(rng: Random, wrong: bool) -> str:
    return apart("st.s8 r0, [p0, #0x0]", rng.randrange(1, 7) if wrong else 7, f"st.s16 {r(rng)}, [p1, #0x0]")


@defect("subword-window")
def store_in_a_subword_window(rng: Random, wrong: bool) -> str:
    return apart("st.s8 r0, [p0, #0x0]", rng.randrange(1, 6) if wrong else 7, "vst wl0, [p1, #0x0]")


@defect("subword-window")
def converting_store_in_a_subword_window(rng: Random, wrong: bool) -> str:
    return apart("st.s16 r0, [p0, #0x0]", rng.randrange(1, 4) if wrong else 7, "vst.srs.s8.s32 cm0, s0, [p1, #0x0]")


@defect("subword-window")
def load_of_the_word_in_a_subword_window(rng: Random, wrong: bool) -> str:
    return apart("st.s8 r0, [p0, #0x1]", rng.randrange(1, 7) if wrong else 7, "lda r8, [p0, #0]")


@defect("subword-window", "warning")
def load_of_another_word_in_a_subword_window(rng: Random, wrong: bool) -> str:
    return apart("st.s8 r0, [p0, #0x1]", rng.randrange(1, 7) if wrong else 7, "lda r8, [p1, #0]")


@defect("memory-order", "warning")
def converted_store_read_early(rng: Random, wrong: bool) -> str:
    return apart("vst.srs.s8.s32 cm0, s0, [p1, #0x0]", rng.choice([1, 2]) if wrong else 3, "vlda wl0, [p1, #0x0]")


@defect("memory-order", "warning")
def store_and_load_in_one_bundle(rng: Random, wrong: bool) -> str:
    return f"bad: lda r8, [p0, #{4 if wrong else 8}]; st r0, [p0, #4]"


@defect("misaligned-access")
def vector_access_not_aligned(rng: Random, wrong: bool) -> str:
    pointer = 0x70000 + (rng.choice([4, 8, 16]) if wrong else 32 * rng.randrange(8))
    return f"movxm p5, #{pointer:#x}\nbad: {rng.choice(['vldb wl2,', 'vlda amll3,', 'vst wl0,'])} [p5, #0x20]"


@defect("misaligned-access")
def scalar_access_not_aligned(rng: Random, wrong: bool) -> str:
    return f"movxm p5, #{0x70000 + (rng.choice([1, 2, 3]) if wrong else 4):#x}\nbad: lda r8, [p5, #-8]"


@defect("outside-memory", "warning")
def scalar_access_beside_data_memory(rng: Random, wrong: bool) -> str:
    good, bad = rng.choice([(0x40000, 0x3FFFC), (0x7FFFC, 0x80000), (0x70000, 0x10000), (0x50000, 0)])
    return f"movxm p5, #{bad if wrong else good:#x}\nbad: lda r8, [p5, #0]"


@defect("outside-memory", "warning")
def vector_access_across_the_end_of_data_memory(rng: Random, wrong: bool) -> str:
    offset = 0x20 if wrong else 0
    return f"movxm p5, #0x7ffe0\nbad: {rng.choice(['vldb wl2,', 'vlda amll3,', 'vst wl0,'])} [p5, #{offset}]"


# ---- branches


@defect("delay-slot-branch")
def branch_in_a_delay_slot(rng: Random, wrong: bool) -> str:
    first = rng.choice(["jnz r0, #end", "jz r0, #end"])
    return f"{first}\nnop {rng.randrange(5) if wrong else 5}\nbad: j #end\nnop 5\nnop"


@defect("delay-slot-branch")
def return_in_a_delay_slot(rng: Random, wrong: bool) -> str:
    return f"""
    jl #callee
    nop 5
    j #end
    nop 5
    callee: jnz r0, #callee
    nop {rng.randrange(5) if wrong else 5}
    bad: ret lr
    nop 5
    """


@defect("delay-slot-loop-register")
def loop_register_in_a_delay_slot(rng: Random, wrong: bool) -> str:
    what = rng.choice(["movxm ls, #end", "movxm le, #end", "mova lc, #3"])
    return f"jnz r0, #end\nnop {rng.randrange(5) if wrong else 5}\nbad: {what}\nnop 7"


@defect("target-misaligned")
def target_not_aligned(rng: Random, wrong: bool) -> str:
    return f"bad: jnz r0, #there\nnop 5\n{{{rng.choice([4, 8, 14]) if wrong else 16}}} nop\nthere: nop\n{{{16}}} nop"


@defect("target-outside")
def target_behind_the_program(rng: Random, wrong: bool) -> str:
    target = f"{0x4000 + 16 * rng.randrange(64):#x}" if wrong else "end"
    return f"bad: {rng.choice(['j', 'jnz r0,'])} #{target}\nnop 5"


@defect("target-outside")
def computed_target_behind_the_program(rng: Random, wrong: bool) -> str:
    target = f"{0x8000 + 16 * rng.randrange(64):#x}" if wrong else "end"
    return f"movxm p5, #{target}\nbad: {rng.choice(['j', 'jnzd r4, r0,'])} p5\nnop 5"


@defect("target-inside-bundle")
def target_inside_a_bundle(rng: Random, wrong: bool) -> str:
    """The bundle at `across` begins before a 16-byte line and ends behind it."""
    size = rng.choice([2, 4, 6, 8, 10, 12, 14])
    return f"""
    bad: jnz r0, #{f"across+{16 - size}" if wrong else "end"}
    nop 5
    {{{size}}} nop
    across: movxm r9, #{rng.randrange(1 << 30):#x}
    {{{16 - size}}} nop
    """


@defect("return-misaligned")
def call_returns_to_an_unaligned_bundle(rng: Random, wrong: bool) -> str:
    size = rng.choice([2, 4, 6, 10])
    return f"""
    bad: jl #callee
    nop 4
    {{{size if wrong else 16}}} nop
    {{{16 - size if wrong else 16}}} nop
    j #end
    nop 5
    callee: ret lr
    nop 5
    """


@defect("runs-off-end", end="")
def program_runs_off_its_end(rng: Random, wrong: bool) -> str:
    return "add r5, r0, r1\nbad: nop" if wrong else "end: j #end\nnop 4\nbad: nop"


@defect("runs-off-end", end="")
def delay_slots_run_off_the_end(rng: Random, wrong: bool) -> str:
    return f"end: j #end\nnop {rng.randrange(4) if wrong else 4}\nbad: nop"


# ---- hardware loops


def loop(setup: str = "", body: str = "nop 7", end: str = "last: nop") -> str:
    standard = "movxm ls, #first\nmovxm le, #last\nmova lc, #3"
    return f"{setup or standard}\nnop 7\nfirst: {body}\n{end}\nnop"


def late_setup(rng: Random, wrong: bool, late: str, *others: str) -> str:
    """The last of the three writes 7 bundles before LE, or fewer."""
    body = f"nop {rng.randrange(1, 6) if wrong else 6}"
    return "\n".join([*others, "nop 9", f"bad: {late}", f"first: {body}", "last: nop", "nop"])


@defect("loop-setup")
def loop_count_written_late(rng: Random, wrong: bool) -> str:
    return late_setup(rng, wrong, "mova lc, #3", "movxm ls, #first", "movxm le, #last")


@defect("loop-setup")
def loop_start_written_late(rng: Random, wrong: bool) -> str:
    return late_setup(rng, wrong, "movxm ls, #first", "movxm le, #last", "mova lc, #3")


@defect("loop-setup")
def loop_end_written_late(rng: Random, wrong: bool) -> str:
    return late_setup(rng, wrong, "movxm le, #last", "movxm ls, #first", "mova lc, #3")


@defect("loop-setup")
def loop_written_late_in_bytes(rng: Random, wrong: bool) -> str:
    pad = "\n".join(["{2} nop"] * 8) if wrong else "nop 8"
    return f"movxm ls, #first\nmovxm le, #last\nbad: mova lc, #3\n{pad}\nfirst: nop 2\nlast: nop\nnop"


@defect("loop-bounds-misaligned")
def loop_end_not_aligned(rng: Random, wrong: bool) -> str:
    size = rng.choice([4, 8, 12])
    body = f"nop 7\n{{{size}}} nop" if wrong else "nop 8"
    return loop("movxm ls, #first\nbad: movxm le, #last\nmova lc, #3", body) + (
        f"\n{{{16 - size}}} nop" if wrong else ""
    )


@defect("loop-bounds-misaligned")
def loop_start_not_aligned(rng: Random, wrong: bool) -> str:
    size = rng.choice([4, 8, 12])
    body = f"nop 7\n{{{16 - size}}} nop" if wrong else "nop 8"
    text = loop("bad: movxm ls, #first\nmovxm le, #last\nmova lc, #3", body)
    return text.replace("first:", f"{{{size}}} nop\nfirst:") if wrong else text


@defect("loop-bounds")
def loop_end_where_no_bundle_begins(rng: Random, wrong: bool) -> str:
    target = "0x2f0" if wrong else "last"
    setup = f"movxm ls, #first\nbad: movxm le, #{target}\nmova lc, #3"
    return loop(setup, "nop 7\n{8} nop\nnop 12\n{8} nop" if wrong else "nop 20")


@defect("loop-bounds")
def loop_end_outside_the_program(rng: Random, wrong: bool) -> str:
    return loop(f"movxm ls, #first\nbad: movxm le, #{'0x3ff0' if wrong else 'last'}\nmova lc, #3")


@defect("loop-end-size")
def last_bundle_of_a_loop_too_short(rng: Random, wrong: bool) -> str:
    size = rng.choice([2, 6, 8, 14])
    return loop(end=f"last: bad: {{{size}}} nop\n{{{16 - size}}} nop" if wrong else "last: bad: nop")


@defect("loop-register-in-body")
def loop_register_written_in_a_body(rng: Random, wrong: bool) -> str:
    what = rng.choice(["mova lc, #3", "movxm ls, #first", "movxm le, #last"])
    inside, outside = (f"bad: {what}", "nop") if wrong else ("nop", "bad: nop")
    return loop(body=f"nop 2\n{inside}\nnop 9") + f"\n{outside}"


@defect("loop-branch")
def branch_too_close_to_the_loop_end(rng: Random, wrong: bool) -> str:
    return loop(body=f"nop 2\nbad: jz r0, #end\nnop {rng.randrange(5) if wrong else 6}")


SUBWORD = "st.s8 r0, [p0], #0x1"


@defect("loop-subword")
def subword_store_at_the_end_of_a_short_loop(rng: Random, wrong: bool) -> str:
    """Up to 112 bytes, the bundle at LE included (facts/schedule/aie2_hazards.md section 6)."""
    if wrong:
        return loop(body=f"nop {rng.randrange(1, 7)}", end=f"last: bad: {SUBWORD}")
    return loop(body=f"nop 2\nbad: {SUBWORD}\nnop 9")


@defect("loop-subword")
def subword_store_at_the_end_of_a_short_loop_of_many_bundles(rng: Random, wrong: bool) -> str:
    short = "\n".join(["{2} nop"] * 8 * rng.randrange(1, 4))
    if wrong:
        return loop(body=f"nop 2\n{short}\nnop", end=f"last: bad: {SUBWORD}")
    return loop(body=f"nop 2\nbad: {SUBWORD}\n{short}\nnop")


@defect("loop-subword", "warning")
def subword_store_at_the_end_of_a_loop(rng: Random, wrong: bool) -> str:
    if wrong:
        return loop(body=f"nop {rng.randrange(7, 12)}", end=f"last: bad: {SUBWORD}")
    return loop(body=f"nop 2\nbad: {SUBWORD}\nnop 9")


@defect("loop-subword", "warning")
def bytes_copied_by_a_loop_of_seven_full_bundles(rng: Random, wrong: bool) -> str:
    """What hardware was seen to do differs between two measurements; vendor code has exactly this."""
    body = f"nop {rng.randrange(1, 5)}\nlda.u8 r8, [p1], #0x1"
    body += f"\nnop {6 - body.count('lda') - int(body.split()[1])}"
    return loop(body=body, end=f"last: {'bad: st.s8 r8, [p2], #0x1' if wrong else 'bad: nop'}")


@defect("loop-register-in-body")
def loop_register_written_in_a_function_that_a_body_calls(rng: Random, wrong: bool) -> str:
    body = "nop 2\njl #callee\nnop 5\nnop 8"
    written = f"movxm {rng.choice(['ls', 'le'])}, #again"
    callee = f"callee: {'bad: ' + written if wrong else 'nop'}\nret lr\nnop 5\nbehind: {'nop' if wrong else 'bad: nop'}"
    return f"{loop(body=body)}\nagain: nop\nj #behind\nnop 5\n{callee}"


# ---- calls


def call(caller: str, slots: str, callee: str, leaving: str, behind: str) -> str:
    """A call: bundles before it, its delay slots, the callee's first bundle and delay slots, and what follows."""
    text = f"{caller}\njl #callee\n{slots}\n{behind}\nj #out\nnop 5\ncallee: {callee}\nret lr\n{leaving}\n"
    return f"{text}out: nop"


@defect("late-argument", "warning")
def argument_loaded_in_the_delay_slots_of_a_call(rng: Random, wrong: bool) -> str:
    slot = rng.randrange(5) if wrong else -1
    slots = "\n".join("lda r8, [p1, #4]" if number == slot else "nop" for number in range(5))
    caller = "mov r8, r0" if wrong else "lda r8, [p1, #4]\nnop"
    return call(caller, slots, "bad: add r9, r8, r0", "nop 5", "nop")


@defect("late-argument", "warning")
def result_loaded_in_the_delay_slots_of_a_return(rng: Random, wrong: bool) -> str:
    slot = rng.randrange(5) if wrong else -1
    slots = "\n".join("lda r8, [p1, #4]" if number == slot else "nop" for number in range(5))
    callee = "mov r8, r0" if wrong else "lda r8, [p1, #4]\nnop"
    return call("nop", "nop 5", callee, slots, "bad: add r9, r8, r0")


@defect("loop-count", "warning")
def loop_count_of_zero(rng: Random, wrong: bool) -> str:
    return loop(f"movxm ls, #first\nmovxm le, #last\nbad: mova lc, #{rng.choice([0, -1]) if wrong else 1}")


@defect("loop-count", "warning")
def loop_count_not_set(rng: Random, wrong: bool) -> str:
    text = loop(f"movxm ls, #first\nmovxm le, #last\n{'nop' if wrong else 'mova lc, #3'}", end="last: bad: nop")
    return f"{loop()}\n{text}".replace("first", "start", 2).replace("last", "stop", 2)


@defect("loop-lock", "note")
def lock_inside_a_loop(rng: Random, wrong: bool) -> str:
    inside, outside = ("bad: acq #0x1, r1", "nop") if wrong else ("nop", "bad: acq #0x1, r1")
    return loop(body=f"nop 3\n{inside}\nnop 9") + f"\n{outside}"


# ---- locks


@defect("lock-distance")
def locks_too_close(rng: Random, wrong: bool) -> str:
    return apart("acq #0x1, r1", rng.randrange(1, 4) if wrong else 4, "rel #0x2, r1")


@defect("lock-distance")
def release_before_a_store_lands(rng: Random, wrong: bool) -> str:
    store = rng.choice(["vst wl0, [p1, #0x0]", "st r0, [p1, #4]"])
    return apart(store, 1 if wrong else 4, "rel #0x2, r1")


@defect("lock-distance")
def release_before_a_converting_store_lands(rng: Random, wrong: bool) -> str:
    return apart("vst.srs.s8.s32 cm0, s0, [p1, #0x0]", rng.randrange(1, 3) if wrong else 6, "rel #0x2, r1")


@defect("lock-distance")
def release_before_a_subword_store_lands(rng: Random, wrong: bool) -> str:
    return apart("st.s8 r0, [p1, #0x0]", rng.randrange(1, 8) if wrong else 10, "rel #0x2, r1")


@defect("lock-distance", "warning")
def release_as_close_to_a_store_as_compiled_code_has_it(rng: Random, wrong: bool) -> str:
    store, seen, least = rng.choice(
        [("vst wl0, [p1, #0x0]", 2, 4), ("vst.srs.s8.s32 cm0, s0, [p1, #0x0]", 3, 6), ("st.s8 r0, [p1, #0x0]", 8, 10)]
    )
    return apart(store, rng.randrange(seen, least) if wrong else least, "rel #0x2, r1")


@defect("lock-distance")
def release_before_a_load_reads(rng: Random, wrong: bool) -> str:
    return apart("vldb wl5, [p1, #0x0]", rng.randrange(1, 4) if wrong else 4, "rel #0x2, r1")


@defect("lock-distance", "warning")
def scalar_load_close_before_a_release_or_in_its_bundle(rng: Random, wrong: bool) -> str:
    distance = rng.randrange(4)
    if wrong and distance == 0:
        return "bad: lda r8, [p1, #4]; rel #0x2, r1"
    return apart("lda r8, [p1, #4]", distance if wrong else 4, "rel #0x2, r1")


@defect("lock-distance")
def vector_access_in_the_bundle_of_a_release(rng: Random, wrong: bool) -> str:
    access = rng.choice(["vldb wl5, [p1, #0x0]", "vst wl0, [p1, #0x0]"])
    return f"bad: {access}; rel #0x2, r1" if wrong else apart(access, 4, "rel #0x2, r1")


@defect("lock-distance")
def load_too_close_behind_an_acquire(rng: Random, wrong: bool) -> str:
    return apart("acq #0x2, r1", rng.randrange(1, 4) if wrong else 4, "vlda wl5, [p1, #0x0]")


@defect("lock-distance")
def store_in_the_bundle_of_an_acquire(rng: Random, wrong: bool) -> str:
    return f"acq #0x2, r1\n{'nop' if wrong else 'nop 3'}\nbad: vst wl0, [p1, #0x0]"


@defect("lock-distance", "warning")
def scalar_load_close_behind_an_acquire(rng: Random, wrong: bool) -> str:
    return apart("acq #0x2, r1", rng.randrange(1, 4) if wrong else 4, "lda r8, [p1, #4]")


@defect("lock-distance")
def acquire_close_behind_a_stream_read(rng: Random, wrong: bool) -> str:
    return apart("mov r8, SS", rng.randrange(1, 6) if wrong else 6, "acq #0x2, r1")


@defect("lock-distance")
def done_before_a_store_lands(rng: Random, wrong: bool) -> str:
    return apart("vst wl0, [p1, #0x0]", rng.randrange(1, 4) if wrong else 4, "done")


# ---- timing that may be meant


@defect("early-read", "note")
def old_value_read(rng: Random, wrong: bool) -> str:
    reg = r(rng)
    return apart(f"lda {reg}, [p0, #4]", rng.randrange(1, 7) if wrong else 7, f"add r5, {reg}, r0")


@defect("late-read", "note")
def mode_changed_before_a_late_reader(rng: Random, wrong: bool) -> str:
    return apart("vlda.ups.s32.s16 bml0, s0, [p0, #0x0]", rng.randrange(1, 7) if wrong else 8, "mov crSat, r1")


@defect("landing-order", "note")
def long_write_lands_last(rng: Random, wrong: bool) -> str:
    return apart("lda r3, [p0, #4]", rng.randrange(1, 6) if wrong else 7, "mov r3, r1")
