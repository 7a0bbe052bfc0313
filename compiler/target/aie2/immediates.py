"""Kinds of immediate operands: how many bits, how they extend, in which unit they count, how they print.

A kind is `u`nsigned, `s`igned or always `n`egative, then its bits, then `x` the step, then `d` when printed in decimal.
`lock` and `address` are unsigned ones with a meaning of their own (facts/isa/aie2_instructions.json).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImmediateKind:
    """value = extended field * step; minimum and maximum are in units of the value."""

    name: str
    width: int
    signed: bool
    step: int
    negative_only: bool
    style: str
    minimum: int
    maximum: int


TABLE = """
# kind    bits  extension  step  printed  used for
u2           2  zero          1  hex      event number; count and operation of a control packet
u3           3  zero          1  hex      packet type
u5           5  zero          1  hex      lane of vextbcst
lock         6  zero          1  hex      lock number as the core counts them
address     20  zero          1  hex      byte address in program memory
s3           3  sign          1  hex      8- and 16-bit access, indexed
s4           4  sign          1  hex      8- and 16-bit access, post-modified
s6           6  sign          1  hex      add.nc
s7           7  sign          1  hex      add
s10         10  sign          1  hex      mov
s11         11  sign          1  hex      mova, movx
s32         32  sign          1  hex      movxm
s6x4d        6  sign          4  decimal  scalar access, indexed
s7x4d        7  sign          4  decimal  scalar access, post-modified
s9x4d        9  sign          4  decimal  paddb
s10x4d      10  sign          4  decimal  padda, padds
s12x4d      12  sign          4  decimal  scalar access relative to sp
s6x16        6  sign         16  hex      mask register access, indexed
s7x16        7  sign         16  hex      mask register access, post-modified
n12x16      12  negative     16  hex      mask register access relative to sp
s3x32        3  sign         32  hex      converting vector access, indexed
s4x32        4  sign         32  hex      converting vector access, post-modified
s6x32        6  sign         32  hex      vector access, indexed (also vst.128)
s7x32        7  sign         32  hex      vector access, post-modified (also vst.128)
s12x32      12  sign         32  hex      paddb of sp
s13x32      13  sign         32  hex      padda of sp
n12x32      12  negative     32  hex      vector access relative to sp
"""


def _kind(line: str) -> ImmediateKind:
    name, bits, extension, unit, style = line.split()[:5]
    width, step = int(bits), int(unit)
    lowest = 0 if extension == "zero" else -(1 << width) if extension == "negative" else -(1 << width - 1)
    highest = lowest + (1 << width) - 1
    return ImmediateKind(
        name=name,
        width=width,
        signed=extension != "zero",
        step=step,
        negative_only=extension == "negative",
        style=style,
        minimum=lowest * step,
        maximum=highest * step,
    )


IMMEDIATES: dict[str, ImmediateKind] = {
    kind.name: kind for kind in map(_kind, (line for line in TABLE.splitlines() if line and line[0] != "#"))
}
