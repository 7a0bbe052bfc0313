"""Runs hardware goldens (facts/semantics/README.md, schema aie2-golden-v1) as programs on an emulated core.

Every case becomes registers, one encoded bundle and nothing else, so encoding, operands, pipeline and semantics are all
under test. `run_file` gives the outcome per case; what it cannot read it counts and names, it never stops at it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from npuc.compiler.asm.codec import EncodeError, encode_bundle
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import is_scalar
from npuc.runtime.emulator.semantics.multiply import configuration

REPOSITORY = Path(__file__).resolve().parents[2]
FACTS = Path(os.environ.get("NPUC_FACTS", REPOSITORY.parent / "shared" / "facts"))
_ARRAY = re.compile(r"(?:(?:[a-z]+\d?|acc\d?)_)?(?:fp(?P<float>32)|bf(?P<half>16)|[iu](?P<whole>8|16|32|64))(?:_bits)?")
_MEMORY = 0x100  # where `mem` of a case lies in the core's data memory
_FLIGHT = 16  # cycles after which every result has landed
_DONE = encode_bundle({INSTRUCTIONS["DONE"].slot: (INSTRUCTIONS["DONE"], ())}, 16)


class NotCovered(Exception):
    """A golden whose form or instruction this runner or the interpreter does not cover."""


@dataclass
class Outcome:
    """Of one golden file."""

    passed: int = 0
    total: int = 0
    wrong: list[str] = field(default_factory=list)
    not_covered: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """How many cases are not covered."""
        return sum(self.not_covered.values())


def golden_files() -> list[Path]:
    """The files that NPUC_GOLDENS (folders or files, colon separated) names, or those beside the facts.

    All files of the folders but hidden ones; a name that leads nowhere stays in the list.
    """
    named = os.environ.get("NPUC_GOLDENS")
    places = (
        [Path(p) for p in named.split(":") if p]
        if named
        else [
            place
            for place in (FACTS / "semantics" / "goldens", FACTS / "silicon" / "bf16_mac_probes.json")
            if place.exists()
        ]
    )
    found = [file for place in places for file in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return [file for file in found if not file.is_dir() and not file.name.startswith(".")]


class Machine:
    """Executes single instructions; a core for each program, so that native code is made once."""

    def __init__(self, engine: str = "interpreter") -> None:
        self.engine = engine
        self.memory = DataMemory()
        self.cores: dict[bytes, Core] = {}
        self.core: Core

    def execute(self, op: str, operands: list[str], registers: dict[str, Any]) -> None:
        """Runs one instruction after setting registers (ints or bytes)."""
        code = self._encode(op, operands)
        if code not in self.cores:
            program = bytearray.fromhex("0100") * 8192
            program[: len(code)] = code
            program[2 * _FLIGHT + 32 : 2 * _FLIGHT + 32 + len(_DONE)] = _DONE
            self.cores[code] = core_class(self.engine)(program, self.memory)
        core = self.core = self.cores[code]
        core.reset()
        for name, value in registers.items():
            core.registers.write(name, value)
        core.run(0, 1000)

    def _encode(self, op: str, operands: list[str]) -> bytes:
        for instruction in INSTRUCTIONS.values():
            values = _operand_values(instruction, op, operands)
            if values is not None:
                with contextlib.suppress(EncodeError):  # another form of the mnemonic may hold these registers
                    return encode_bundle({instruction.slot: (instruction, values)})
        raise NotCovered(f"{op} {', '.join(operands)} has no encoding")

    def result(self, register: str, size: int) -> bytes:
        """The bytes of a register, or `size` bytes of the memory a case calls `mem`."""
        if register == "mem":
            return self.memory.read(_MEMORY, size)
        value = self.core.registers.read(register)
        return value.to_bytes(8 if ":" in register else 4, "little") if isinstance(value, int) else value.tobytes()


def _operand_values(instruction: Any, op: str, texts: list[str]) -> tuple[Any, ...] | None:
    """Operand values in the order of the instruction, or None when the texts are of another instruction."""
    if instruction.mnemonic != op:
        return None
    forms = re.findall(r"\[[^\]]*\]|[^,\s]+", instruction.syntax.partition(" ")[2])
    if len(forms) != len(texts):
        return None
    known = {operand.name: operand for operand in instruction.operands}
    values: dict[str, Any] = {}
    for form, text in zip(forms, texts, strict=True):
        if form == "[$ptr, $imm]" and text in ("mem", "[p0, #0]"):
            values.update(ptr="p0", imm=0)
        elif form == "[$ptr]" and text in ("mem", "[p0]") and len(forms) == 2:
            values.update(ptr="p0")
        elif not form.startswith("$"):
            if form != text:
                return None
        elif text.startswith("#"):
            operand, number = known[form[1:]], int(text[1:], 0)
            if operand.kind != "immediate":
                return None
            values[form[1:]] = number % (1 << operand.width) if operand.minimum == 0 else number
        elif known[form[1:]].kind == "immediate":
            return None
        else:
            values[form[1:]] = text
    return tuple(values[operand.name] for operand in instruction.operands)


def _register_value(name: str, data: bytes) -> Any:
    return int.from_bytes(data, "little") if is_scalar(name) else data


def run_operands(machine: Machine, case: dict[str, Any]) -> str | None:
    """A case given by operands; what differs, or None."""
    registers: dict[str, Any] = {}
    for name, text in case["in"].items():
        data = bytes.fromhex(text)
        if name == "mem":
            machine.memory.write(_MEMORY, data)
            registers["p0"] = OWN_MEMORY + _MEMORY
        else:
            registers[name] = _register_value(name, data)
    machine.execute(case["op"], case["operands"], registers)
    for out in case["out"]:
        want = bytes.fromhex(out["hex"])
        got = machine.result(out["reg"], len(want))
        if out.get("view", "full") == "low16_of_32":
            got = np.frombuffer(got, dtype="<u2")[::2].tobytes()
        elif out.get("view", "full") != "full":
            raise NotCovered(f"view {out['view']}")
        if got[: len(want)] != want:
            return f"{out['reg']} is {got.hex()}, the hardware has {want.hex()}"
    return None


def _array(name: str, values: list[int]) -> bytes:
    """The bytes of a named array: its name ends in its element type."""
    kind = _ARRAY.fullmatch(name)
    if kind is None:
        raise NotCovered(f"array {name}")
    size = int(kind["float"] or kind["half"] or kind["whole"]) // 8
    return b"".join((int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little") for value in values)


def _vector_register(size: int, number: int, accumulator: bool) -> str:
    names = {64: "bml", 128: "cm"} if accumulator else {32: "wl", 64: "x"}
    if size not in names:
        raise NotCovered(f"{size} bytes in a register")
    return f"{names[size]}{number}"


def _accumulate_operands(case: dict[str, Any], registers: dict[str, Any], size: int) -> list[str]:
    """Destination, accumulators (`acc...`), A and B (where the case has them) and the configuration word."""
    word = registers["r0"] = case["cfg"]["conf"]
    operands = [_vector_register(size, 0, True)]
    for number, name in enumerate(n for n in case["in"] if n.startswith("acc")):
        registers[_vector_register(size, 1 + number, True)] = _array(name, case["in"][name])
        operands.append(_vector_register(size, 1 + number, True))
    geometry = configuration(word).geometry
    for number, letter in enumerate("ab"):
        found = [v for k, v in case["in"].items() if k == letter or k.startswith(letter + "_")]
        if not found:
            continue
        if geometry is None:
            raise NotCovered(f"configuration word {word:#x}")
        bits = geometry.b_bits if number else geometry.a_bits
        packed = sum((value & ((1 << bits) - 1)) << bits * place for place, value in enumerate(found[0]))
        registers[f"x{number}"] = packed.to_bytes(64, "little")
        operands.append(f"x{number}")
    return [*operands, "r0"]


def run_configured(machine: Machine, case: dict[str, Any]) -> str | None:
    """A case given by named arrays and a configuration."""
    op, cfg = case["op"], case["cfg"]
    ((out_name, out_values),) = case["out"].items()
    want = _array(out_name, out_values)
    registers: dict[str, Any] = {name: value for name, value in cfg.items() if name.startswith("cr")}
    if "conf" in cfg:
        operands = _accumulate_operands(case, registers, len(want))
    else:
        ((name, values),) = case["in"].items()
        data = _array(name, values)
        to_accumulator = op.startswith(("vups", "vconv.fp32"))
        source = _vector_register(len(data), 2, op.startswith(("vsrs", "vconv.bf16")))
        registers[source] = data
        operands = [_vector_register(len(want), 0, to_accumulator), source]
        if op.startswith(("vsrs", "vups", "vfloor")):
            registers["s0"] = cfg.get("shift", 0)
            operands.append("s0")
    machine.execute(op, operands, registers)
    got = machine.result(operands[0], len(want))
    return None if got == want else f"{operands[0]} is {got.hex()}, the hardware has {want.hex()}"


def run_gather(machine: Machine, case: dict[str, Any]) -> str | None:
    """A table gather: the row of the address holds the stream at its offset modulo 32, whatever the rule says."""
    cfg, address = case["cfg"], OWN_MEMORY | case["in"]["address"] & 0xFFFF
    stream = bytes.fromhex(case["in"]["mem_at_effective"])
    machine.memory.data[:] = 0
    place = (address & 0xFFE0) + cfg["stream_offset"] % 32
    machine.memory.write(place, stream[: 0x10000 - place])
    lanes = np.full(8, address, dtype="<u4")
    machine.execute(case["op"], ["wl0", "wl2"], {"wl2": lanes.tobytes()})
    got = machine.result("wl0", 32)[8 * cfg["lane"] : 8 * cfg["lane"] + 8]
    entry = int(re.search(r"4x(\d+)", case["op"])[1]) // 8  # type: ignore[index]
    want = bytes.fromhex(case["out"]["hex"])
    inside = 16 - place % 16  # past the end of a 16-byte half the fetch is not known
    count = max(entry, min(8, inside))
    return None if got[:count] == want[:count] else f"lane is {got.hex()}, the hardware has {want.hex()}"


def _chain_step(name: str, immediates: list[int]) -> tuple[str, str, str, int | None]:
    """Mnemonic, destination, source and shift of an intrinsic of a conversion chain."""
    if name == "v16bf16.to.v16accfloat":
        return "vconv.fp32.bf16", "bml0", "wl0", None
    if name == "v16accfloat.to.v16bf16":
        return "vconv.bf16.fp32", "wl0", "bml0", None
    sign = "ds"[immediates[-1]]
    up = re.fullmatch(r"acc(\d+)\.v(\d+)\.I(\d+)\.ups", name)
    if up:
        lane, count, bits = map(int, up.groups())
        return (
            f"vups.s{lane}.{sign}{bits // count}",
            _vector_register(lane * count // 8, 0, True),
            _vector_register(bits // 8, 0, False),
            immediates[0],
        )
    down = re.fullmatch(r"I(\d+)\.v(\d+)\.acc(\d+)\.srs", name)
    if down:
        bits, count, lane = map(int, down.groups())
        return (
            f"vsrs.{sign}{bits // count}.s{lane}",
            _vector_register(bits // 8, 0, False),
            _vector_register(lane * count // 8, 0, True),
            immediates[0],
        )
    other = re.fullmatch(r"(un)?pack\.I(\d+)\.I(\d+)", name)
    if other:
        wide = ("x0", "wl0") if other[1] else ("wl0", "x0")
        return f"v{other[1] or ''}pack.{sign}{other[2]}.{sign}{other[3]}", *wide, None
    raise NotCovered(f"intrinsic {name}")


def run_chain(machine: Machine, case: dict[str, Any]) -> str | None:
    """A chain of conversions."""
    value = bytes.fromhex(case["in"]["src"])
    for name, immediates in case["chain"]:
        op, destination, source, shift = _chain_step(name, immediates)
        operands, registers = [destination, source], {source: value}
        if shift is not None:
            operands.append("s0")
            registers["s0"] = shift  # type: ignore[assignment]
        machine.execute(op, operands, registers)
        value = machine.result(destination, 0)
    want = bytes.fromhex(case["out"][0]["hex"])
    return None if value[: len(want)] == want else f"result {value.hex()}, the hardware has {want.hex()}"


def _multiply_add(machine: Machine, accumulator: int, a: list[str], w: list[str]) -> int:
    """One lane of vmac.f with configuration word 28."""
    left, right = np.zeros((4, 8), dtype="<u2"), np.zeros((8, 4), dtype="<u2")
    left[1], right[:, 2] = [int(x, 16) for x in a], [int(x, 16) for x in w]
    start = np.zeros(16, dtype="<u4")
    start[6] = accumulator
    machine.execute(
        "vmac.f",
        ["bml0", "bml1", "x0", "x1", "r0"],
        {"bml1": start.tobytes(), "x0": left.tobytes(), "x1": right.tobytes(), "r0": 28},
    )
    return int(np.frombuffer(machine.result("bml0", 64), dtype="<u4")[6])


def run_probe(machine: Machine, case: dict[str, Any]) -> str | None:
    """An element of facts/silicon/bf16_mac_probes.json."""
    value = int(case["acc_in"], 16)
    if "acc_out" in case:
        value, want = _multiply_add(machine, value, case["a"], case["w"]), int(case["acc_out"], 16)
    else:
        for step in case["steps"]:
            value = _multiply_add(machine, value, step, case["w"])
        machine.execute(
            "vconv.bf16.fp32", ["wl0", "bml0"], {"crRnd": 12, "bml0": np.full(16, value, dtype="<u4").tobytes()}
        )
        value, want = int.from_bytes(machine.result("wl0", 32)[:2], "little"), int(case["out_bf16"], 16)
    return None if value == want else f"{value:#x}, the hardware has {want:#x}"


def _run(machine: Machine, case: dict[str, Any]) -> str | None:
    if "chain" in case:
        return run_chain(machine, case)
    if "acc_in" in case:
        return run_probe(machine, case)
    if "operands" in case:
        return run_operands(machine, case)
    return run_gather(machine, case) if "mem_at_effective" in case["in"] else run_configured(machine, case)


def cases(file: Path) -> list[dict[str, Any]]:
    """The cases of a golden file. Raises NotCovered when it is no golden file."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise NotCovered(f"not readable as JSON: {error}") from None
    if isinstance(content, dict) and isinstance(content.get("cases"), list):
        return content["cases"]
    if isinstance(content, dict) and "fp32_exact" in content:
        return [*content["fp32_exact"], *content.get("bf16_out", ())]
    raise NotCovered("neither aie2-golden-v1 nor bf16 probes")


def run_file(file: Path, machine: Machine | None = None) -> Outcome:
    """Runs all cases of a file, on this machine or on an interpreting one. Raises NotCovered for other files."""
    machine, outcome = machine or Machine(), Outcome()
    for case in cases(file):
        outcome.total += 1
        name = case.get("op") or case.get("group") or "chain"
        try:
            difference = _run(machine, case)
        except (NotCovered, EmulationError) as error:
            outcome.not_covered[f"{name}: {getattr(error, 'message', error)}"] += 1
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # a form that this runner does not know
            outcome.not_covered[f"{name}: the case has a form that is not known ({error!r})"] += 1
        else:
            if difference is None:
                outcome.passed += 1
            else:
                outcome.wrong.append(
                    f"{case.get('id')} {name} {case.get('operands', case.get('cfg', ''))}: {difference}"
                )
    return outcome
