"""Registers of the core and the classes of them that instruction fields name (facts/isa/aie2_registers.json).

Names are those the assembler prints.  Numbers beyond the hardware's are taken as virtual registers by `file`, `parts`
and `width`: their parts follow the rule of the register file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import NamedTuple


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{n}" for n in range(count))


def _interleaved(names: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}{n}" for n in range(count) for name in names.split())


R = _numbered("r", 32)
L = tuple(f"r{n + 1}:r{n}" for n in range(16, 32, 2))
P, M, DN, DJ, DC, D = (_numbered(name, 8) for name in ("p", "m", "dn", "dj", "dc", "d"))
S = _numbered("s", 4)
W = _interleaved("wl wh", 12)
X = _numbered("x", 12)
Y = ("y2", "y3", "y4", "y5")
AM = _interleaved("amll amlh amhl amhh", 9)
BM = _interleaved("bml bmh", 9)
CM = _numbered("cm", 9)
Q = _numbered("q", 4)
QX = _numbered("qx", 4)
QW = _interleaved("qwh qwl", 4)
CONTROL = (
    "crVaddSign", "crF2FMask", "crF2IMask", "crFPMask", "crMCDEn", "crPackSign",
    "crRnd", "crSCDEn", "crSRSSign", "crSat", "crUPSSign", "crUnpackSign",
)  # fmt: skip
STATUS = (
    "srCarry", "srCompr_uf", "srF2FFlags", "srF2IFlags", "srFPFlags",
    "srMS0", "srSRS_of", "srSS0", "srSparse_of", "srUPS_of",
)  # fmt: skip
SPECIAL = ("ls", "dp", "lr", "CORE_ID", "le", "lc", "sp")
TILE_COUNTER = "tile_cntr"
"""What `mov $dst, cntr` reads; it is named by no operand."""


class Run(NamedTuple):
    """`registers` at field values base, base + step, ...; bits of `ignored` do not matter to the decoder."""

    base: int
    step: int
    registers: tuple[str, ...]
    ignored: int = 0


@dataclass(frozen=True, eq=False)
class RegisterClass:
    """The registers a field of `width` bits can name."""

    name: str
    width: int
    runs: tuple[Run, ...]
    aliases: tuple[tuple[int, str], ...] = ()

    @cached_property
    def encodings(self) -> dict[int, str]:
        """Field value -> register, as the assembler encodes."""
        return {run.base + run.step * i: register for run in self.runs for i, register in enumerate(run.registers)}

    @cached_property
    def decode_only(self) -> dict[int, str]:
        """Further field values the hardware takes for a register."""
        further = dict(self.aliases)
        for run in self.runs:
            subsets = [bits for bits in range(1, run.ignored + 1) if bits & ~run.ignored == 0]
            for i, register in enumerate(run.registers):
                further.update({(run.base + run.step * i) ^ bits: register for bits in subsets})
        return further

    @cached_property
    def values(self) -> dict[str, int]:
        """Register -> field value."""
        return {register: value for value, register in self.encodings.items()}


_SCALARS = (Run(0, 4, R), Run(2, 4, M), Run(34, 4, DN), Run(66, 4, DJ), Run(98, 4, DC))
_LOADED = (*_SCALARS, Run(13, 16, P))
_MOVED = (*_SCALARS, Run(3, 16, P), Run(11, 32, S), Run(1, 8, CONTROL), Run(5, 8, STATUS), Run(7, 16, SPECIAL))
_LOADED_ALIAS = ((89, "p5"),)  # a slip of the reference decoder's table, never emitted

_EVEN_ODD_W = tuple(
    Run(base, 1, W[first::4]) for base, first in ((0, 0), (8, 2), (16, 1), (24, 3))
)  # wl even, wl odd, wh even, wh odd

_CLASSES: tuple[tuple[str, int, tuple[Run, ...]], ...] = (
    ("eR", 5, (Run(0, 1, R),)),
    ("eRS4", 2, (Run(0, 1, R[16:20]),)),
    ("eRS8", 3, (Run(0, 1, R[16:24]),)),
    ("eL", 3, (Run(0, 1, L),)),
    ("eP", 3, (Run(0, 1, P),)),
    ("eM", 3, (Run(0, 1, M),)),
    ("eDJ", 3, (Run(0, 1, DJ),)),
    ("eD", 3, (Run(0, 1, D),)),
    ("eDS", 2, (Run(0, 1, D[:4]),)),  # the pair d<n>, d<n+4> of the 3D forms
    ("mCRm", 4, (Run(0, 1, CONTROL),)),
    ("mSs mSm", 2, (Run(0, 1, S),)),
    ("mAluCg", 6, (Run(0, 2, R), Run(1, 1, ("lc",), ignored=0x3E))),
    ("mLdaScl mSclSt mSclMS", 7, (*_LOADED, Run(5, 1, ("lr",)))),
    ("mLdaCg", 7, (*_LOADED, Run(21, 1, ("lc",)))),
    ("mMvSclDst mMvSclDstCg mMvSclSrc", 7, _MOVED),
    ("mWa mWs mWb mWm", 5, (Run(0, 1, W),)),
    ("mWm_1", 5, _EVEN_ODD_W),
    ("mXv mXw mXm mXn mXa mXs", 4, (Run(0, 1, X),)),
    ("eYs", 2, (Run(0, 1, Y),)),
    ("mQQXw", 2, (Run(0, 1, QX),)),
    ("mQXHLb", 3, (Run(0, 1, QW),)),
    ("mQQa", 2, (Run(0, 1, Q),)),
    ("mAMm mAMs", 6, (Run(0, 1, AM),)),
    ("mBMm mBMs mBMa", 5, (Run(0, 1, BM),)),
    ("eCM mCMm mCMs mCMa", 4, (Run(0, 1, CM),)),
    ("mShflDst", 5, (Run(0, 2, X), Run(1, 2, BM[:16:2]), Run(17, 2, BM[1:16:2]))),
    ("mMvBMXDst", 6, (Run(0, 4, X, ignored=0x2), Run(1, 2, BM))),
    ("mMvBMXSrc", 9, (Run(0, 16, BM, ignored=0xF), Run(384, 1, X, ignored=0x70))),
    (
        "mMvAMWQDst",
        7,
        (Run(1, 2, AM), Run(2, 32, Q, ignored=0x1C), *(Run(4 * run.base, 4, run.registers) for run in _EVEN_ODD_W)),
    ),
    (
        "mMvAMWQSrc",
        9,
        (
            Run(1, 8, AM, ignored=0x2),
            *(Run(384 + run.base, 1, run.registers, ignored=0x20) for run in _EVEN_ODD_W),
            Run(448, 16, Q, ignored=0xF),
        ),
    ),
)

REGISTER_CLASSES: dict[str, RegisterClass] = {
    name: RegisterClass(name, width, runs, _LOADED_ALIAS if Run(13, 16, P) in runs else ())
    for names, width, runs in _CLASSES
    for name in names.split()
}

_FILE_WIDTHS = {
    "r": 32, "l": 64, "p": 20, "m": 20, "dn": 20, "dj": 20, "dc": 20, "d": 80, "s": 32,
    "wl": 256, "wh": 256, "x": 512, "y": 1024, "ql": 64, "qh": 64, "q": 128, "qwl": 320, "qwh": 320, "qx": 640,
    "amll": 256, "amlh": 256, "amhl": 256, "amhh": 256, "bml": 512, "bmh": 512, "cm": 1024,
    "ls": 20, "dp": 20, "lr": 20, "CORE_ID": 20, "le": 20, "lc": 32, "sp": 20,
}  # fmt: skip
"""Bits of a register by its file; control and status registers are modelled as 32 bits."""

_CONSISTS_OF = {
    "x": ("wl{n}", "wh{n}"),
    "y": ("x{even}", "x{odd}"),
    "cm": ("bml{n}", "bmh{n}"),
    "bml": ("amll{n}", "amlh{n}"),
    "bmh": ("amhl{n}", "amhh{n}"),
    "d": ("m{n}", "dn{n}", "dj{n}", "dc{n}"),
    "q": ("ql{n}", "qh{n}"),
    "qx": ("x{n}", "q{n}"),
    "qwl": ("ql{n}", "wl{n}"),
    "qwh": ("qh{n}", "wh{n}"),
}

REGISTERS: frozenset[str] = frozenset(
    (*R, *L, *P, *M, *DN, *DJ, *DC, *D, *S, *W, *X, *Y, *AM, *BM, *CM, *Q, *QX, *QW)
    + _interleaved("ql qh", 4)
    + (*CONTROL, *STATUS, *SPECIAL, TILE_COUNTER)
)
"""Every register of the hardware, by name."""


@cache
def file(register: str) -> str:
    """The letters of a register's name; a pair of scalar registers is of file `l`."""
    if ":" in register:
        return "l"
    match = re.fullmatch(r"([A-Za-z_]+?)(\d+)", register)
    return match[1] if match and match[1] in _FILE_WIDTHS else register


@lru_cache(maxsize=1 << 16)
def parts(register: str) -> tuple[str, ...]:
    """The smallest registers that `register` consists of, low part first; dependences are between these."""
    if ":" in register:
        high, low = register.split(":")
        return low, high
    letters = file(register)
    number = register[len(letters) :]
    if letters == "l":
        return f"r{16 + 2 * int(number)}", f"r{17 + 2 * int(number)}"
    names = _CONSISTS_OF.get(letters)
    if names is None or not number:
        return (register,)
    n = int(number)
    filled = (name.format(n=n, even=2 * n, odd=2 * n + 1) for name in names)
    return tuple(part for name in filled for part in parts(name))


def width(register: str) -> int:
    """Bits of a register.  Control and status registers count as 32, as in facts/isa/aie2_registers.json."""
    return _FILE_WIDTHS.get(file(register), 32)
