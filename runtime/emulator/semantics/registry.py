"""Which function says what an instruction does: rules over mnemonic families, expanded over the instruction table.

A rule is a function of the lane operations `v`, its input values and (by keyword) the named groups of its pattern. Its
inputs are the explicit input operands in assembly order, without those of the address, then the registers listed in
`reads`; for a load the loaded bits come first. Its outputs are the explicit output operands, then `writes`.

Pseudo registers in `reads` and `writes` belong to the core: `pc.taken`, `pc.target`, `pc.return`, `core.cycle`,
`core.column`, `core.row`, `lock.acquire`, `lock.number`, `lock.value`, `lock.enabled`, `core.event`, `core.done`;
`width.NAME` is the width in bits of operand NAME. Those of the ports suspend the core (see `suspension.py`):

* `stream.word` (waits) or `stream.polled` (does not) is the word read from the stream, then `stream.last` and
  `stream.success` are flags of the same read;
* `stream.out stream.last stream.blocking` in `writes` offer a word; whether it was accepted goes to srMS0, where the
  instruction has it;
* `cascade.word` is what a cascade read takes, after a look at crSCDEn; `cascade.out cascade.enabled` offer 512 bits.

What the fact sheets leave open stands in `UNKNOWN`, with the fact that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.runtime.emulator.errors import EmulationError

ADDRESS_OPERANDS = ("ptr", "mod", "dj", "imm")


@dataclass(frozen=True)
class Address:
    """How an address is formed and updated: base operand (`ptr` or `sp`), what is added before the access and after.

    offset: operand added to the address, or None. update: None, `add` (operand `step` is added to the base after the
    access), `2d` or `3d` (operand `step` is the d register).
    """

    base: str
    offset: str | None
    update: str | None
    step: str | None


@dataclass(frozen=True)
class Access:
    """A memory access: its kind, bytes moved, address.

    kind: `load`, `store`, `load+store` (sub-word store) or `gather` of data memory, `register load` or `register store`
    of the tile's registers.
    """

    kind: str
    bytes: int
    address: Address | None


UNALIGNED = "a vector load from an address that is not aligned"
WARNINGS: list[str] = [UNALIGNED]
"""The kinds of what a core warns of: the texts of doubts, and this."""


@dataclass(frozen=True)
class Doubt:
    """What the facts leave open about a result. refused: an error; otherwise a warning, and an error in strict mode."""

    text: str
    refused: bool


@dataclass(frozen=True)
class Effect:
    """What one instruction does: outputs = function(v, *inputs); see the module text for the order.

    doubt: where set, the function gives one value more, whether the facts leave open what it gave, and this says what.
    unknown: bits of a result are of no fact sheet, whatever the inputs (`unknown` of the lanes).
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    access: Access | None = None
    address_update: Address | None = None
    doubt: Doubt | None = None
    unknown: bool = False


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    syntax: re.Pattern[str]
    function: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    access: str | None
    bytes: int
    doubt: Doubt | None
    unknown: bool


RULES: list[Rule] = []


def rule(
    pattern: str,
    *,
    syntax: str = "",
    reads: str = "",
    writes: str = "",
    access: str | None = None,
    bytes: int = 0,
    doubt: str = "",
    refused: bool = False,
    unknown: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares the decorated function to be the effect of every instruction whose mnemonic matches `pattern` whole
    and whose syntax contains `syntax`. `reads`, `writes`: further registers, blank separated; implicit registers that
    an instruction does not have are dropped (the sign registers of forms without a dynamic sign). `doubt`, `refused`,
    `unknown`: as in `Effect` and `Doubt`."""

    if doubt and not refused and doubt not in WARNINGS:
        WARNINGS.append(doubt)

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        RULES.append(
            Rule(
                re.compile(pattern),
                re.compile(syntax),
                function,
                tuple(reads.split()),
                tuple(writes.split()),
                access,
                bytes,
                Doubt(doubt, refused) if doubt else None,
                unknown,
            )
        )
        return function

    return declare


def _address(syntax: str) -> Address | None:
    """The address form, read off the assembly syntax."""
    match = re.search(r"\[(\$ptr|sp)(?:, \$(\w+))?\](?:, \$(\w+))?", syntax)
    if not match:
        return None
    base, offset, step = match[1].lstrip("$"), match[2], match[3]
    if step is None:
        return Address(base, offset, None, None)
    dimension = re.search(r"\.([23]d)", syntax)
    return Address(base, offset, dimension[1] if dimension else "add", step)


@cache
def _effects() -> dict[str, Effect]:
    found: dict[str, Effect] = {}
    for name, instruction in INSTRUCTIONS.items():
        for each in RULES:
            match = each.pattern.fullmatch(instruction.mnemonic)
            if match and each.syntax.search(instruction.syntax):
                found[name] = _expand(each, match, instruction)
                break
    return found


def _expand(each: Rule, match: re.Match[str], instruction: Any) -> Effect:
    groups = {key: int(value) if value and value.isdigit() else value for key, value in match.groupdict().items()}
    address = _address(instruction.syntax)
    skipped = {address.base, address.offset, address.step} if address else set()
    explicit = [operand for operand in instruction.operands if operand.name not in skipped]
    inputs = [operand.name for operand in explicit if operand.direction != "out"]
    outputs = [operand.name for operand in explicit if operand.direction != "in"]
    known = set(instruction.implicit_uses) | set(instruction.implicit_defs)
    extra = [name for name in each.reads if name in known or not name.startswith("cr")]
    access = Access(each.access, each.bytes, address) if each.access else None
    function = partial(each.function, **groups) if groups else each.function
    return Effect(
        function, tuple(inputs + extra), tuple(outputs) + each.writes, access, address, each.doubt, each.unknown
    )


def effect(name: str) -> Effect:
    """The effect of the instruction of that name. Raises EmulationError when it is not implemented."""
    try:
        return _effects()[name]
    except KeyError:
        raise EmulationError(
            f"the semantics of '{INSTRUCTIONS[name].syntax}' ({name}) are not implemented: {missing_fact(name)}"
        ) from None


def missing() -> list[str]:
    """The names of all instructions without semantics, sorted."""
    return sorted(set(INSTRUCTIONS) - set(_effects()))


# Mnemonic, syntax, what no fact sheet says.
UNKNOWN = tuple(
    (re.compile(mnemonic), re.compile(syntax), fact)
    for mnemonic, syntax, fact in (
        (
            r"v(neg)?(mul|mac|msc)(\.f)?|v(add|sub)(mac|msc)(\.f)?",
            r"\$qxs2",
            "facts/semantics/vmac.md does not describe the sparse multiply modes",
        ),
        (r"vldb\.sparse\..*", "", "facts/semantics does not describe the sparse load stream"),
        (r"vldb\.compr\..*", "", "facts/semantics does not describe the compressed load stream"),
        (r"vmov\.(hi|lo)", "SCD", "facts/semantics does not say how an expanding cascade read fills the accumulator"),
    )
)


def missing_fact(name: str) -> str | None:
    """Which fact would be needed for the instruction of that name; None when its semantics are known."""
    if name in _effects():
        return None
    instruction = INSTRUCTIONS[name]
    for mnemonic, syntax, fact in UNKNOWN:
        if mnemonic.fullmatch(instruction.mnemonic) and syntax.search(instruction.syntax):
            return fact
    return "no rule of its semantics"
