"""Compiles one decoded instruction into the functions that carry it out stage by stage.

Each instruction becomes a chain of small functions, one per pipeline stage in which it reads a register or touches
data memory. A stage's function reads its operands, then either queues the next one for its own cycle or computes and
queues the results for the cycle in which they land. The source text of a chain depends only on its shape, so it is
compiled once for all instructions of that shape; what a chain is made of is kept for all cores and places at which the
instruction stands. All stages come from the schedule tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any

from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.aie2.schedule import STICKY_FLAGS, operand_accesses, operand_registers
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.register_file import SCALAR_INDEX, bypass_of, is_scalar
from npuc.runtime.emulator.semantics import Address, Effect, effect

if TYPE_CHECKING:
    from npuc.runtime.emulator.core import Core

WHEEL = 16
"""Cycles a result can be under way: more than the last stage of any instruction (11)."""

_PSEUDO_READS = {
    "pc.return": "core.return_address(pc)",
    "core.cycle": "core.cycle - core.timer_origin",
    "core.column": "core.place[0]",
    "core.row": "core.place[1]",
}
# What a stream read took is there in the stage after its issue: `Core.request_stream_read`.
_STREAM_READS = {
    "stream.word": "core.stream.word",
    "stream.polled": "core.polled_word(pc)",
    "stream.last": "int(core.stream.last)",
    "stream.success": "int(core.stream.success)",
}
_WIDTH_OF = "width."


_CARRY = "the carry that abs and jnzd leave in srCarry"


@cache
def _code(source: str) -> CodeType:
    return compile(source, "<pipeline stages>", "exec")


@dataclass(frozen=True)
class _Stages:
    """One instruction's stages, for any core: their code, the names it refers to beside those of the core.

    places: vector registers by name, and whether in the bypassed buffer.
    """

    code: CodeType
    effect: Effect
    operands: dict[str, Any]
    constants: dict[str, Any]
    places: tuple[tuple[str, str, bool], ...]


class _Chain:
    """The source of one instruction's stages and the names it refers to."""

    def __init__(self, strict: bool, instruction: Any, operands: tuple[Any, ...]) -> None:
        self.strict = strict
        self.effect = effect(instruction.name)
        self.instruction = instruction
        self.operands = {
            operand.name: operand.register if operand.kind == "fixed_register" else value
            for operand, value in zip(instruction.operands, operands, strict=True)
        }
        self.when: dict[tuple[str, str, bool], tuple[int, str | None]] = {}  # operand, part, written -> stage, bypass
        for each in operand_accesses(instruction, operand_registers(instruction, operands)):
            for part in each.registers:
                self.when[each.operand, part, each.writes] = each.stage, each.bypass
        for operand in instruction.operands:
            if operand.kind == "fixed_register" and (operand.register, operand.register, False) in self.when:
                self.when[operand.name, operand.register, False] = self.when[operand.register, operand.register, False]
        self.constants: dict[str, Any] = {}
        self.places: list[tuple[str, str, bool]] = []  # names of vector registers, and whether bypassed
        self.stages: dict[int, list[str]] = {1: []}
        self.variables: list[tuple[int, str]] = []  # stage in which it is set, name

    def bind(self, prefix: str, value: Any) -> str:
        """A name for a constant of this instruction."""
        name = f"{prefix}{len(self.constants)}"
        self.constants[name] = value
        return name

    def place(self, register: str, bypassed: bool) -> str:
        """A name for a vector register in one of the two buffers."""
        name = f"x{len(self.places)}"
        self.places.append((name, register, bypassed))
        return name

    def line(self, stage: int, text: str) -> None:
        self.stages.setdefault(stage, []).append(text)

    def assign(self, stage: int, text: str) -> str:
        """A variable that the stage sets and later stages may use."""
        name = f"a{len(self.variables)}"
        self.variables.append((stage, name))
        self.line(stage, f"{name} = {text}")
        return name

    # operands

    def _scalar(self, register: str) -> str:
        terms = []
        for position, part in enumerate(target.parts(register)):
            if part in STICKY_FLAGS:
                raise EmulationError(
                    f"the value of {part} is not modelled: facts/semantics does not say when its bits are set"
                )
            index = self.bind("i", SCALAR_INDEX[part])
            slot = f"core.scalar({index}, pc)" if self.strict else f"R[{index}]"
            if part == "srCarry":
                slot = f"v.known({slot}, {self.bind('k', _CARRY)})"
            terms.append(f"({slot} << {32 * position})" if position else slot)
        return " | ".join(terms)

    def read(self, operand: str, register: str) -> str:
        """Reads an operand's register in its own stage; the variable that holds the value."""
        parts = target.parts(register)
        stage, bypass = self.when[operand, parts[0], False]
        if is_scalar(register):
            return self.assign(stage, self._scalar(register))
        forwarded = bypass is not None and bypass == bypass_of(register)
        place = self.place(register, forwarded)
        if self.strict:
            return self.assign(stage, f"core.vector({place}, {self.bind('k', register)}, pc)")
        return self.assign(stage, f"{place}.copy()")

    def input(self, name: str) -> str:
        """The variable or constant for an input of the effect."""
        if name in _PSEUDO_READS:
            return self.assign(1, _PSEUDO_READS[name])
        if name in _STREAM_READS:
            if name in ("stream.word", "stream.polled"):
                self.line(1, f"core.request_stream_read({name == 'stream.word'})")
            return self.assign(2, _STREAM_READS[name])
        if name == "cascade.word":
            stage, _ = self.when["crSCDEn", "crSCDEn", False]
            self.line(stage, f"core.request_cascade_read({self.read('crSCDEn', 'crSCDEn')}, pc)")
            return self.assign(stage + 1, "core.cascade")
        if name.startswith(_WIDTH_OF):
            return self.bind("k", target.width(self.operands[name[len(_WIDTH_OF) :]]))
        value = self.operands.get(name, name)
        return self.bind("k", value) if isinstance(value, int) else self.read(name, value)

    def write(self, stage: int, operand: str, register: str, value: str) -> None:
        """Queues a value computed in `stage` for the cycle in which the operand's register is written."""
        parts = target.parts(register)
        lands, bypass = self.when[operand, parts[0], True]
        delay = lands - stage
        assert delay >= 0, (self.instruction, register)
        when = f"(t + {delay}) & {WHEEL - 1}" if delay else f"t & {WHEEL - 1}"
        if self.strict:
            self.line(stage, f"DL[{when}].append(({self.bind('p', parts)}, pc))")
        if is_scalar(register):
            self._write_scalar(stage, parts, when, value)
            return
        plain, bypassed = self.place(register, False), self.place(register, True)
        if bypass is not None and bypass == bypass_of(register):
            assert delay >= 1, (self.instruction, register)
            early = f"(t + {delay - 1}) & {WHEEL - 1}"
            self.line(stage, f"BL[{early}].append(({bypassed}, {value}))")
            self.line(stage, f"VL[{when}].append(({plain}, {value}))")
        else:
            self.line(stage, f"VL[{when}].append(({plain}, {value}))")
            self.line(stage, f"VL[{when}].append(({bypassed}, {value}))")

    def _write_scalar(self, stage: int, parts: tuple[str, ...], when: str, value: str) -> None:
        for position, part in enumerate(parts):
            slot = self.bind("i", SCALAR_INDEX[part])
            shifted = f"({value} >> {32 * position})" if position else value
            masked = value if part == "srCarry" else f"{shifted} & {(1 << target.width(part)) - 1:#x}"
            self.line(stage, f"SL[{when}].append(({slot}, {masked}))")

    # addresses

    def address(self, form: Address) -> str:
        """Forms the address in stage 1 and queues the update of the address registers."""
        base = self.operands.get(form.base, form.base)
        pointer = self.read(form.base, base)
        if form.offset is not None:
            return self.assign(1, f"({pointer} + {self.input(form.offset)}) & 0xFFFFF")
        if form.update == "add":
            assert form.step is not None
            self.write(1, form.base, base, f"({pointer} + {self.input(form.step)})")
        elif form.update:
            self._step(form, pointer)
        return pointer

    def _step(self, form: Address, pointer: str) -> None:
        """The 2D and 3D updates of facts/semantics/vector_misc.md section 4."""
        modifier = form.step
        assert modifier is not None
        number = int(self.operands[modifier][1:])
        m, size, step, count = (self.read(modifier, f"{file}{number}") for file in ("m", "dn", "dj", "dc"))
        inside = self.assign(1, f"{count} < {size}")
        if form.update == "2d":
            outside = m
        else:
            size2, step2, count2 = (self.read(modifier, f"{file}{number + 4}") for file in ("dn", "dj", "dc"))
            inside2 = self.assign(1, f"{count2} < {size2}")
            outside = self.assign(1, f"v.pick({inside2}, {step2}, {m})")
            grown = f"v.pick({inside2}, {count2} + 1, 0)"
            self.write(1, modifier, f"dc{number + 4}", f"v.pick({inside}, {count2}, {grown})")
        self.write(1, form.base, self.operands[form.base], f"({pointer} + v.pick({inside}, {step}, {outside}))")
        self.write(1, modifier, f"dc{number}", f"v.pick({inside}, {count} + 1, 0)")

    # whole instructions

    def build(self) -> None:
        """Lays out the stages of the instruction."""
        narrowed = self._narrowed()
        access, form = self.effect.access, self.effect.address_update
        place = self.address(form) if form else None
        if place and access and self.strict:
            place = self.assign(1, f"core.certain({place}, 'the address of an access', pc)")
        memory: Sequence[int] = self.instruction.memory.stages if access else ()
        inputs: list[str] = []
        if access and access.kind != "gather":
            if access.kind.startswith("register"):
                self.line(1, f"core.touch_register(t + {memory[0] - 1})")
            else:
                self.line(1, f"core.touch({place}, t, {tuple(stage - 1 for stage in memory)})")
        if access and access.kind == "register load":
            inputs.append(self.assign(memory[0], f"core.load_register({place})"))
        elif access and access.kind == "load":
            load = "load_word" if access.bytes <= 4 else "load"
            inputs.append(self.assign(memory[0], f"{load}({place}, {access.bytes}, pc)"))
        inputs += [self.input(name) for name in self.effect.inputs]
        stage = max([set_in for set_in, _ in self.variables], default=1)
        call = f"f({', '.join(['v', *inputs])})"
        if narrowed:
            call = f"v.part({call}, 0, {narrowed})"
        if access is None or access.kind in ("load", "register load"):
            if access is not None or self.effect.inputs or self.effect.outputs:
                self._results(stage, call)
        elif access.kind == "gather":
            addresses = self.assign(stage, f"core.certain_all({call}, pc)" if self.strict else call)
            self.line(stage, f"core.touch_gather({addresses}, t + {memory[0] - stage})")
            fetched = self.assign(memory[0], f"core.gather({addresses}, pc)")
            self._write_outputs(memory[0], self.effect.outputs, [fetched])
        elif access.kind == "register store":
            self.line(memory[0], f"core.store_register({place}, {self.assign(stage, call)}, pc)")
        elif access.kind == "store":
            value = self._checked(stage, self.assign(stage, call), 1)[0]
            self.line(memory[0], f"stores.append(({place}, {access.bytes}, {value}, pc))")
        else:  # a sub-word store reads the word that holds its bytes and writes it back later
            word = self.assign(memory[0], f"core.load_around({place}, {access.bytes}, pc)")
            value = self.assign(max(stage, memory[0]), f"core.merge({word}, {place}, {access.bytes}, {call})")
            self.line(memory[1], f"stores.append(({place} & 0xFFFFC, 4, {value}, pc))")

    def _narrowed(self) -> int:
        """The bytes that a vmov to a narrower register copies, 0 where the widths are the same.

        A mask register gets the low 128 bits (facts/platform/device_npu1.md, last section).
        """
        if self.instruction.mnemonic != "vmov":
            return 0
        widths = [target.width(register) for register in self.operands.values()]
        if len(set(widths)) == 1:
            return 0
        if widths == [128, 256] and target.file(self.operands["dst"]) == "q":
            return 16
        raise EmulationError(
            f"'vmov {self.operands['dst']}, {self.operands['src']}' between registers of different widths: "
            "facts/semantics/vector_misc.md section 1 does not describe it"
        )

    def _results(self, stage: int, call: str) -> None:
        outputs = self.effect.outputs
        if not outputs:
            return
        results = self._checked(stage, self.assign(stage, call), len(outputs))
        if outputs[0] == "lock.acquire":
            self.line(stage, f"core.request_lock({', '.join(results)}, pc)")
        elif outputs[0] == "stream.out":
            self.line(stage, f"core.request_stream_write({', '.join(results)}, pc)")
            if "srMS0" in self.instruction.implicit_defs:
                self.write(stage + 1, "srMS0", "srMS0", self.assign(stage + 1, "int(core.accepted)"))
        elif outputs[0] == "cascade.out":
            self.line(stage, f"core.request_cascade_write({', '.join(results)}, pc)")
        elif outputs[-1] == "core.event":
            self.line(stage, f"core.raise_event({results[0]})")
        elif outputs[-1] == "core.done":
            self.line(stage, "core.finish()")
        else:
            if outputs[-1] == "pc.target":
                self.line(stage, f"core.branch({results[-2]}, {results[-1]}, pc)")
                outputs, results = outputs[:-2], results[:-2]
            self._write_outputs(stage, outputs, results)

    def _checked(self, stage: int, result: str, count: int) -> list[str]:
        """The `count` results of the effect, and what becomes of the doubt about them."""
        doubt = self.effect.doubt
        if doubt is None:
            return [result] if count == 1 else [f"{result}[{i}]" for i in range(count)]
        self.line(stage, f"core.doubt({result}[{count}], {self.bind('k', doubt)}, pc)")
        return [self.assign(stage, f"{result}[{i}]") for i in range(count)]

    def _write_outputs(self, stage: int, outputs: tuple[str, ...], results: list[str]) -> None:
        for name, result in zip(outputs, results, strict=True):
            self.write(stage, name, self.operands.get(name, name), result)

    def _needed(self, stage: int) -> list[str]:
        """The variables of earlier stages that this stage or a later one uses."""
        text = "\n".join(line for each, lines in self.stages.items() if each >= stage for line in lines)
        return [name for set_in, name in self.variables if set_in < stage and re.search(rf"\b{name}\b", text)]

    def source(self) -> str:
        """The text: stages last to first, so that each names the next."""
        pieces: list[str] = []
        order = sorted(stage for stage, lines in self.stages.items() if lines or stage == 1)
        for position, stage in enumerate(order):
            known = ", ".join(self._needed(stage))
            body = self.stages[stage] or ["pass"]
            if position + 1 < len(order):
                later = order[position + 1]
                carried = ", ".join(self._needed(later))
                packed = f"({carried},)" if carried else "()"
                body = [*body, f"LATE[(t + {later - stage}) & {WHEEL - 1}].append((stage{later}, {packed}))"]
            pieces.append(f"def stage{stage}(t{', ' + known if known else ''}):\n    " + "\n    ".join(body) + "\n")
        return "".join(reversed(pieces))


@lru_cache(maxsize=1 << 16)
def _stages(strict: bool, instruction: Any, operands: tuple[Any, ...]) -> _Stages | None:
    """The stages of an instruction, None when it has no effect. Raises EmulationError, see `compile_action`."""
    chain = _Chain(strict, instruction, operands)
    chain.build()
    if not any(chain.stages.values()):
        return None
    return _Stages(_code(chain.source()), chain.effect, chain.operands, chain.constants, tuple(chain.places))


def compile_action(
    core: Core, instruction: Any, operands: tuple[Any, ...], pc: int, origin: tuple[int, int] = (0, 0)
) -> Any:
    """The function of the core's pipeline time that issues the instruction, or None when it has no effect.

    The stage functions name where they come from: `origin` (address of the bundle, position in it) in their globals.
    On a core whose registers, wheels and lanes are symbolic the same functions translate (native/symbolic.py). Raises
    EmulationError when its semantics are not implemented.
    """
    stages = _stages(core.strict, instruction, operands)
    if stages is None:
        return None
    registers = core.registers
    names: dict[str, Any] = {
        "core": core,
        "R": registers.scalar,
        "SL": core.scalar_landings,
        "VL": core.vector_landings,
        "BL": core.bypass_landings,
        "LATE": core.late,
        "v": core.lanes,
        "pc": pc,
        "origin": origin,
        "f": core.effect_function(stages.effect, stages.operands, pc),
        "stores": core.stores,
        "load": core.load,
        "load_word": core.load_word,
        "DL": core.write_landings,
        **stages.constants,
    }
    for name, register, bypassed in stages.places:
        names[name] = registers.place(register, bypassed)
    exec(stages.code, names)
    return names["stage1"]
