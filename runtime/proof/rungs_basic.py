"""The lower rungs: open, context, a sequence of nothing, a copy, one core, and numbers."""

from __future__ import annotations

import numpy as np

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.proof import design, programs
from npuc.runtime.proof.machines import Machine, loaded
from npuc.runtime.proof.outcome import Differs, Findings, first_difference, words
from npuc.runtime.proof.settings import Settings

NOTHING = (txn.Write(geometry.tile_address(0, 0, geometry.lock_offset("shim", 15)), 0),)
"""A lock of the shim that nobody uses, set to what it is."""
COPY_WORDS, COPY_CHUNK, COPY_OFFSET = 1024, 128, 256
ADD_BLOCKS = 4


def random_words(count: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 1 << 32, count, dtype=np.uint32).tobytes()


def opened(machine: Machine, settings: Settings) -> Findings:
    found = Findings()
    found.details.update(machine.open())
    return found


def context(machine: Machine, settings: Settings) -> Findings:
    """A context of each width, one after the other, and one that is there again after it was given back."""
    found = Findings()
    for columns in (1, geometry.COLUMNS, 1):
        image = design.relay(columns, COPY_WORDS, COPY_CHUNK)
        machine.load(image.columns, image.pdi).close()
    found.details["widths"] = [1, geometry.COLUMNS]
    return found


def nothing(machine: Machine, settings: Settings) -> Findings:
    found = Findings()
    image = design.empty(NOTHING)
    with loaded(machine, image) as pair:
        for _ in range(3):
            _, _, here, beside = pair.run(image.operations, [])
            found.seconds("a sequence of one write", here.seconds, beside.seconds)
    return found


def copy(machine: Machine, settings: Settings) -> Findings:
    """Through each column's memory tile, from an offset into a buffer that is larger than what is written."""
    found = Findings()
    for columns, offset in ((1, 0), (1, COPY_OFFSET), (geometry.COLUMNS, COPY_OFFSET)):
        image = design.relay(columns, COPY_WORDS, COPY_CHUNK, offset=offset)
        size = 4 * COPY_WORDS * columns + offset + 256
        source, target = random_words(size // 4, 1), random_words(size // 4, 2)
        with loaded(machine, image) as pair:
            for _ in range(2):
                here, beside, took, predicted = pair.run(image.operations, [source, target])
                _require_copied(here[1], beside[1], source, columns)
                found.words_compared += size // 4
                what = f"a copy of {columns * COPY_WORDS * 4} bytes, {columns} columns"
                found.seconds(what, took.seconds, predicted.seconds, cycles_predicted=predicted.cycles)
    return found


def _require_copied(here: bytearray, beside: bytearray, source: bytes, columns: int) -> None:
    got, want, sent = words(here), words(beside), words(source)
    at = first_difference(got, want)
    if at is None:
        return
    sentence = f"word {at} of the copy is {got[at]:#010x} in place of {want[at]:#010x}"
    shift = _shift(got, sent, at)
    if np.array_equal(got[at : at + 4], sent[at : at + 4]):
        sentence += ", a word of the source where nothing is to be written: the DMA writes DDR at a wrong offset"
    elif shift:
        sentence += f", which is the word {shift * 4:+} bytes away: the DMA reads or writes DDR at a wrong offset"
    elif (got[at : at + 4] == words(random_words(len(got), 2))[at : at + 4]).all():
        sentence += ", which is what was there before: nothing was written there"
    raise Differs(sentence, f"{columns} columns")


def _shift(got: np.ndarray, sent: np.ndarray, at: int) -> int:
    """By how many words the copy is away from where it should come from, judged by four words; 0 if it is not so."""
    some = got[at : at + 4]
    for shift in range(-64, 65):
        if shift and at + shift >= 0 and np.array_equal(sent[at + shift : at + shift + 4], some):
            return shift
    return 0


def add(machine: Machine, settings: Settings) -> Findings:
    """One core, on each row: blocks that follow each other through one buffer, guarded by locks."""
    found = Findings()
    for row in geometry.CORE_ROWS:
        image = design.one_core(programs.add(), programs.ADD_WORDS, programs.ADD_WORDS, ADD_BLOCKS, (0, row))
        source = random_words(programs.ADD_WORDS * ADD_BLOCKS, 3)
        with loaded(machine, image) as pair:
            for _ in range(2):
                here, beside, _, _ = pair.run(image.operations, [source, bytes(len(source))])
                _require_sums(here[1], beside[1], source, row)
                found.words_compared += len(source) // 4
    return found


def _require_sums(here: bytearray, beside: bytearray, source: bytes, row: int) -> None:
    got, want, given = words(here), words(beside), words(source)
    at = first_difference(got, want)
    if at is None:
        return
    block, place = divmod(at, programs.ADD_WORDS)
    sentence = f"sum {place} of block {block} on core (0,{row}) is {got[at]:#010x} in place of {want[at]:#010x}"
    places = range(place, len(given), programs.ADD_WORDS)
    others = {int(given[p]) + 1 + 3 * place & 0xFFFFFFFF: number for number, p in enumerate(places)}
    other = others.get(int(got[at]), block)
    if other != block:
        sentence += f", which is block {other}'s: a lock lets a buffer be written while the core still reads it"
    raise Differs(sentence)


NUMBER_CASES, SURE_CASES = 24, 20
SUBNORMAL = "subnormal operands of a bf16 multiply-accumulate count as the emulator has them"


def _number_block(rng: np.random.Generator, case: int) -> np.ndarray:
    """Of a case: ordinary numbers, then all that are not subnormal, then subnormals, of which facts are not sure."""
    exponents = (120, 134) if case < NUMBER_CASES // 2 else (1, 256) if case < SURE_CASES else (0, 8)
    bits = rng.integers(0, 1 << 16, 64, dtype=np.uint32)
    halves = (bits & 0x807F) | rng.integers(*exponents, 64, dtype=np.uint32) << 7
    singles = (rng.integers(0, 1 << 32, 16, dtype=np.uint32) & 0x807FFFFF) | rng.integers(
        *exponents, 16, dtype=np.uint32
    ) << 23
    integers = rng.integers(0, 1 << 32, 32, dtype=np.uint32)
    integers[:24] = (rng.integers(-(1 << 15), 1 << 15, 24) & 0xFFFFFFFF).astype(np.uint32)
    return np.concatenate([halves.astype("<u2").view("<u4"), singles, integers])


def numbers(machine: Machine, settings: Settings) -> Findings:
    """Multiply-accumulate and conversions, in every rounding mode."""
    rng = np.random.default_rng(settings.seed)
    source = np.concatenate([_number_block(rng, case) for case in range(NUMBER_CASES)]).tobytes()
    image = design.one_core(programs.numbers(), programs.NUMBERS_IN, programs.NUMBERS_OUT, NUMBER_CASES)
    found = Findings()
    with loaded(machine, image) as pair:
        here, beside, _, _ = pair.run(image.operations, [source, bytes(4 * programs.NUMBERS_OUT * NUMBER_CASES)])
    got, want = words(here[1]), words(beside[1])
    sure = SURE_CASES * programs.NUMBERS_OUT
    at = first_difference(got[:sure], want[:sure])
    if at is not None:
        raise Differs(_number_sentence(at, int(got[at]), int(want[at])))
    found.words_compared = sure
    # Of the doubtful cases the multiply-accumulate alone: the conversions take its result.
    products = [slice(at, at + 16) for at in range(sure, len(got), programs.NUMBERS_OUT)]
    found.settle(SUBNORMAL, np.concatenate([want[at] for at in products]), np.concatenate([got[at] for at in products]))
    found.details.update(cases=SURE_CASES, operands=source[4 * SURE_CASES * programs.NUMBERS_IN :].hex())
    return found


def _number_sentence(at: int, got: int, want: int) -> str:
    case, place = divmod(at, programs.NUMBERS_OUT)
    if place < 16:
        return f"the bf16 multiply-accumulate gives {got:#010x} in place of {want:#010x} (case {case}, element {place})"
    mode, inside = divmod(place - 16, 24)
    rounding = programs.ROUNDING_MODES[mode]
    kind = "fp32 to bf16" if inside < 8 else "32 to 16 bits by a shift"
    return (
        f"the conversion of {kind} in rounding mode {rounding} gives {got:#010x} in place of {want:#010x} (case {case})"
    )
