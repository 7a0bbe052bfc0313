"""The rungs of probes: banks, stores of less than a word, and pairs of instructions that sources doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.proof import design
from npuc.runtime.proof.machines import Machine, loaded
from npuc.runtime.proof.outcome import Differs, Findings, first_difference, words
from npuc.runtime.proof.probes import BANKS, DOUBTFUL, SUB_WORD, WORDS_IN, Probe
from npuc.runtime.proof.rungs_basic import random_words
from npuc.runtime.proof.settings import Settings


def banks(machine: Machine, settings: Settings) -> Findings:
    return _probed(machine, BANKS)


def sub_word(machine: Machine, settings: Settings) -> Findings:
    return _probed(machine, SUB_WORD)


def doubtful(machine: Machine, settings: Settings) -> Findings:
    return _probed(machine, DOUBTFUL)


def _probed(machine: Machine, probes: Sequence[Probe]) -> Findings:
    """Sure values are judged; the others settle an assumption, whatever they are."""
    found = Findings()
    for number, probe in enumerate(probes):
        try:
            got, want = _ran(machine, probe, number)
        except BackendError as error:
            if probe.sure or probe.settles is None:
                raise
            found.unsettled(
                probe.settles, error.message
            )  # whatever a doubtful program does, the next has its own context
            continue
        found.cycles(probe.name, int(got[0]), int(want[0]))
        first = 8 if probe.words > 2 else 1
        at = first_difference(got[first:], want[first:])
        if probe.sure:
            if at is not None:
                raise Differs(
                    f"{probe.name}: word {at} is {got[first + at]:#010x} in place of {want[first + at]:#010x}"
                )
            found.words_compared += len(got) - first
        if probe.settles is not None:
            part = slice(0, 1) if probe.by_time else slice(first, None)
            found.settle(probe.settles, want[part], got[part])
    return found


def _ran(machine: Machine, probe: Probe, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The output here and beside."""
    image = design.one_core(probe.program, WORDS_IN, probe.words, 1, probe.tile, probe.memory, probe.helpers)
    with loaded(machine, image) as pair:
        buffers = [random_words(WORDS_IN, seed), bytes(4 * probe.words)]
        here, beside, _, _ = pair.run(image.operations, buffers)
    return words(here[1]), words(beside[1])
