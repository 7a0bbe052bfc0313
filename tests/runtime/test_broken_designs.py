"""Every broken design ends at once in an error that names tile, unit and cause; none hangs."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from dataclasses import replace

import broken_designs_by_chance
import more_broken_designs
import pytest
from broken_designs import CASES
from small_design import Design

from npuc.compiler.cli import error_json
from npuc.compiler.emit import cdo
from npuc.compiler.emit.pdi import write_pdi
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import CycleLimit, Deadlock, EmulationError

CASES = {**CASES, **more_broken_designs.CASES, **broken_designs_by_chance.CASES}
# No case needs a limit to end: a run that reaches it was not diagnosed.
LIMIT = 30_000_000


@pytest.mark.parametrize("name", CASES)
def test_a_broken_design_is_diagnosed_with_tile_unit_and_cause(name):
    case, design = CASES[name], Design()
    case.change(design)
    begin = time.perf_counter()
    with pytest.raises(EmulationError) as caught:
        design.run(LIMIT, strict=case.strict)
    error = caught.value
    seconds = time.perf_counter() - begin
    text = "\n".join([str(error), *error.details])
    print(f"{name} ({seconds:.2f} s):\n{text}")
    assert "\n" not in str(error)
    assert [word for word in case.root if word.lower() not in str(error).lower()] == [], str(error)
    assert [word for word in case.names if word.lower() not in text.lower()] == [], text
    assert "(0," in text or name in (
        "patch_of_a_buffer_that_is_not_there",
        "patch_of_what_is_no_descriptor",
        "sequence_loads_another_image",
        "sync_waits_for_a_column_that_is_not_there",
        "sequence_leaves_the_partition",
    )
    told = json.loads(json.dumps(error_json(error)))
    assert told["exit_code"] == 4
    if isinstance(error, Deadlock):
        assert told["diagnosis"]["units"] and told["diagnosis"]["chain"]


def test_the_design_is_right_as_it_stands():
    design = Design()
    assert design.run(strict=True).warnings == ()
    assert (design.buffers[1] == design.buffers[0] + 1).all()


def test_there_are_as_many_kinds_as_are_promised():
    assert len(more_broken_designs.CASES) >= 60 and len(CASES) >= 120


def flipped(generator: random.Random, command: cdo.Command) -> cdo.Command:
    """The command with one bit of what it writes changed."""
    if isinstance(command, cdo.DmaWrite):
        words = list(command.words)
        words[generator.randrange(len(words))] ^= 1 << generator.randrange(32)
        return replace(command, words=tuple(words))
    if isinstance(command, (cdo.Write, cdo.MaskWrite)):
        return replace(command, value=command.value ^ 1 << generator.randrange(32))
    return command


def damaged(generator: random.Random, commands: list[cdo.Command]) -> list[cdo.Command]:
    """One to three commands left out, doubled, exchanged with the next or with a bit changed."""
    commands = list(commands)
    for _ in range(generator.randrange(1, 4)):
        index = generator.randrange(len(commands) - 1)
        change = generator.randrange(5)
        if change == 0:
            del commands[index]
        elif change == 1:
            commands.insert(index, commands[index])
        elif change == 2:
            commands[index : index + 2] = commands[index + 1], commands[index]
        else:
            commands[index] = flipped(generator, commands[index])
    return commands


def test_images_damaged_at_random_run_or_end_in_an_error_that_names_a_place(seed):
    """Whatever the register writes say: no other exception, no endless emulation."""
    generator = random.Random(seed)
    design = Design()
    commands = design.commands()
    outcomes = Counter()
    for _ in range(150):
        device = Device(1, strict=generator.random() < 0.5)
        buffers = [bytearray(buffer.tobytes()) for buffer in design.buffers]
        try:
            device.load_pdi(write_pdi(damaged(generator, commands)))
            device.run(design.operations, buffers, 300_000)
            outcomes["ran"] += 1
        except CycleLimit:
            outcomes["too long"] += 1  # a ring of descriptors without locks never stands still
        except EmulationError as error:
            outcomes[type(error).__name__] += 1
            assert re.search(r"\(\d+,\d+\)|0x[0-9a-f]+|CDO command", str(error)), error
    print(dict(outcomes))
    assert outcomes["Deadlock"] and outcomes["EmulationError"] and outcomes["ran"] and outcomes["too long"] < 15
