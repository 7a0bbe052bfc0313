"""Machine-level program: virtual registers, operations, structured control; and its builder.

Registers are variables, not values: a register may be written many times, and every part of it
(the halves of a vector, the fields of an address tuple) is a location of its own.  Control is
structured, so liveness and scheduling never meet an irreducible graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Parts of one register of each file, in order, and the groups of parts operands may name.
# A part of a group is itself a register the assembler can name (facts/isa/aie2_registers.json).
PART_NAMES: dict[str, tuple[str, ...]] = {
    "x": ("lo", "hi"),
    "bm": ("lo", "hi"),
    "cm": ("lo.lo", "lo.hi", "hi.lo", "hi.hi"),
    "d": ("m", "dn", "dj", "dc"),
    "d3": ("m", "dn", "dj", "dc", "m2", "dn2", "dj2", "dc2"),
    "l": ("lo", "hi"),
    "y": ("lo.lo", "lo.hi", "hi.lo", "hi.hi"),
}
SINGLE_FILES = ("r", "p", "m", "dn", "dj", "dc", "s", "wl", "wh", "q", "lr")
FILES = (*PART_NAMES, *SINGLE_FILES)


@dataclass(eq=False)
class Reg:
    """A virtual register of a file; `fixed` pins it to a physical one."""

    file: str
    name: str
    fixed: str | None = None

    def part(self, which: str) -> Part:
        return Part(self, which)

    @property
    def lo(self) -> Part:
        return Part(self, "lo")

    @property
    def hi(self) -> Part:
        return Part(self, "hi")

    @property
    def m(self) -> Part:
        return Part(self, "m")

    @property
    def dn(self) -> Part:
        return Part(self, "dn")

    @property
    def dj(self) -> Part:
        return Part(self, "dj")

    @property
    def dc(self) -> Part:
        return Part(self, "dc")

    def __str__(self) -> str:
        return f"%{self.name}"

    __repr__ = __str__


@dataclass(frozen=True)
class Part:
    """A nameable part of a virtual register: `x.lo`, `cm.hi`, `cm.lo.hi`, `d.dj`."""

    reg: Reg
    which: str

    def __post_init__(self) -> None:
        if not self.indices:
            raise ValueError(f"register {self.reg} of file {self.reg.file!r} has no part {self.which!r}")

    @property
    def lo(self) -> Part:
        return Part(self.reg, self.which + ".lo")

    @property
    def hi(self) -> Part:
        return Part(self.reg, self.which + ".hi")

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of the covered smallest parts in PART_NAMES[file]."""
        names = PART_NAMES.get(self.reg.file, ())
        return tuple(i for i, n in enumerate(names) if n == self.which or n.startswith(self.which + "."))

    def __str__(self) -> str:
        return f"{self.reg}.{self.which}"

    __repr__ = __str__


@dataclass(frozen=True)
class Label:
    """The address of a place in the program, as an immediate operand."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


Register = Reg | Part | str
Immediate = int | Label
Operand = Reg | Part | Label | int | str


@dataclass(frozen=True)
class Access:
    """What memory an operation touches.

    region: accesses of different named regions never meet; None may meet anything.
    carried: False promises that accesses of this region in different passes of the enclosing
    hardware loop do not meet.
    bank: accesses of one bank do not go together, which would cost a cycle; None goes with any.  Several where it is
    one or the other.
    """

    region: str | None = None
    carried: bool = True
    bank: str | tuple[str, ...] | None = None


@dataclass(eq=False)
class Op:
    """One instruction; operands in the order of Instruction.operands.

    alternatives: further instructions of the same operands and operand timing, in other slots or with other
    ports; the scheduler takes whichever fits.
    """

    name: str
    operands: tuple[Operand, ...]
    memory: Access = field(default_factory=Access)
    comment: str = ""
    alternatives: tuple[str, ...] = ()


@dataclass(eq=False)
class HardwareLoop:
    """`body` runs `count` times by the zero-overhead loop; straight code only.

    pipelined: passes may overlap, `max_stages` of them at most (fewer make shorter ramps).  least_interval: no search
    for shorter ones, where it is known to end without.  ordered: what the vector unit does stays in order, for code
    around the loop that begins and ends with the same accumulators.  peeled: more passes before the loop than its
    stages ask for, to overlap with what comes before.  thorough: one that ships in the book of schedules is
    searched for at length, as every bundle of it counts.
    """

    count: int
    name: str
    body: list[Statement]
    pipelined: bool = True
    max_stages: int | None = None
    least_interval: int = 1
    ordered: bool = False
    peeled: int = 0
    thorough: bool = False


@dataclass(eq=False)
class CountedLoop:
    """`body` runs `count` times; count >= 1, counted down to zero.  The body may set what is left."""

    count: Reg
    name: str
    body: list[Statement]


@dataclass(eq=False)
class IfNonzero:
    """`body` runs when `condition` is not zero."""

    condition: Reg
    body: list[Statement]


@dataclass(eq=False)
class Forever:
    """`body` runs without end."""

    name: str
    body: list[Statement]


@dataclass(eq=False)
class Barrier:
    """Nothing moves across; everything in flight lands."""


Constructor = Callable[..., Op]  # of `instructions`


Statement = Op | HardwareLoop | CountedLoop | IfNonzero | Forever | Barrier


@dataclass(eq=False)
class Program:
    name: str
    body: list[Statement]


class Builder:
    """Builds a Program in textual order.  Register makers take an optional name; names are made unique."""

    def __init__(self, name: str) -> None:
        self.program = Program(name, [])
        self._open: list[list[Statement]] = [self.program.body]
        self._names: dict[str, int] = {}
        self._fixed: dict[str, Reg] = {}
        self._source = ""

    @contextmanager
    def source(self, text: str) -> Iterator[None]:
        """What the operations built inside are for: their comment, and the source line of their bundles."""
        outer, self._source = self._source, text
        yield
        self._source = outer

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step of what is done here: its text stands behind that of the source around it."""
        with self.source(f"{self._source}: {text}" if self._source else text):
            yield

    # registers

    def register(self, file: str, name: str = "") -> Reg:
        """A fresh virtual register of `file`."""
        if file not in FILES:
            raise ValueError(f"no register file {file!r}")
        return Reg(file, self._unique(name or file))

    def r(self, name: str = "") -> Reg:
        return self.register("r", name)

    def p(self, name: str = "") -> Reg:
        return self.register("p", name)

    def m(self, name: str = "") -> Reg:
        return self.register("m", name)

    def dj(self, name: str = "") -> Reg:
        return self.register("dj", name)

    def dn(self, name: str = "") -> Reg:
        return self.register("dn", name)

    def dc(self, name: str = "") -> Reg:
        return self.register("dc", name)

    def d(self, name: str = "") -> Reg:
        return self.register("d", name)

    def d3(self, name: str = "") -> Reg:
        """The pair of tuples d<n>, d<n+4> that a 3D address form takes."""
        return self.register("d3", name)

    def x(self, name: str = "") -> Reg:
        return self.register("x", name)

    def bm(self, name: str = "") -> Reg:
        return self.register("bm", name)

    def cm(self, name: str = "") -> Reg:
        return self.register("cm", name)

    def l(self, name: str = "") -> Reg:  # noqa: E743 (the hardware's name of the file)
        return self.register("l", name)

    def s(self, name: str = "") -> Reg:
        return self.register("s", name)

    def fixed(self, physical: str) -> Reg:
        """The virtual register pinned to `physical`; one per physical register."""
        if physical not in self._fixed:
            file = "bm" if physical[:2] == "bm" else "l" if ":" in physical else physical.rstrip("0123456789")
            if file not in FILES:
                raise ValueError(f"register {physical!r} cannot be pinned; name it as an operand instead")
            self._fixed[physical] = Reg(file, self._unique(physical.replace(":", "_")), physical)
        return self._fixed[physical]

    def _unique(self, name: str) -> str:
        n = self._names.get(name, 0)
        self._names[name] = n + 1
        return name if n == 0 else f"{name}.{n}"

    # operations

    def op(
        self,
        name: str,
        *operands: Operand,
        region: str | None = None,
        carried: bool = True,
        bank: str | tuple[str, ...] | None = None,
        comment: str = "",
        alternatives: tuple[str, ...] = (),
    ) -> Op:
        operation = Op(name, operands, Access(region, carried, bank), comment or self._source, alternatives)
        self._open[-1].append(operation)
        return operation

    def add(
        self,
        operation: Op,
        *,
        region: str | None = None,
        carried: bool = True,
        bank: str | tuple[str, ...] | None = None,
        alternatives: tuple[Constructor, ...] = (),
    ) -> Op:
        """Puts an operation that a constructor made here; see Access and Op for the rest."""
        others = tuple(other(*operation.operands).name for other in alternatives)
        return self.op(
            operation.name, *operation.operands, region=region, carried=carried, bank=bank, alternatives=others
        )

    def constant(self, register: Reg | Part | str, value: int, comment: str = "") -> Op:
        """register = value by the cheapest move.  Control registers by name ('crRnd') too."""
        file = _file(register)
        if value >= 1 << 31:
            value -= 1 << 32
        if file in _MOVA_FILES and -1024 <= value <= 1023:
            others: tuple[str, ...] = ()
            if file == "r":
                others = ("MOVX_alu_cg",) + (("MOV_mv_cg",) if -512 <= value <= 511 else ())
            return self.op("MOVA_lda_cg", register, value, comment=comment, alternatives=others)
        if -512 <= value <= 511:
            return self.op("MOV_mv_cg", register, value, comment=comment)
        return self.op("MOVXM_lng_cg", register, value, comment=comment)

    def acquire(self, lock: int, value: Reg) -> Op:
        return self.op("ACQ_mLockId_imm", lock, value)

    def release(self, lock: int, value: Reg) -> Op:
        return self.op("REL_mLockId_imm", lock, value)

    # control

    @contextmanager
    def hardware_loop(
        self,
        count: int,
        name: str,
        pipelined: bool = True,
        max_stages: int | None = None,
        least_interval: int = 1,
        ordered: bool = False,
        peeled: int = 0,
        thorough: bool = False,
    ) -> Iterator[None]:
        if count < 1:
            raise ValueError(f"hardware loop {name}: trip count {count}")
        loop = HardwareLoop(count, name, [], pipelined, max_stages, least_interval, ordered, peeled, thorough)
        with self._body(loop, loop.body):
            yield
        if not all(isinstance(s, Op) for s in loop.body):
            raise ValueError(f"hardware loop {name}: only straight code fits inside")

    @contextmanager
    def counted_loop(self, count: Reg, name: str) -> Iterator[None]:
        loop = CountedLoop(count, name, [])
        with self._body(loop, loop.body):
            yield

    @contextmanager
    def if_nonzero(self, condition: Reg) -> Iterator[None]:
        branch = IfNonzero(condition, [])
        with self._body(branch, branch.body):
            yield

    @contextmanager
    def forever(self, name: str) -> Iterator[None]:
        loop = Forever(name, [])
        with self._body(loop, loop.body):
            yield

    def barrier(self) -> None:
        self._open[-1].append(Barrier())

    @contextmanager
    def _body(self, statement: Statement, body: list[Statement]) -> Iterator[None]:
        self._open[-1].append(statement)
        self._open.append(body)
        try:
            yield
        finally:
            self._open.pop()


# facts/isa/aie2_registers.json, class mLdaCg; everything else mov and movxm reach.
_MOVA_FILES = ("r", "p", "m", "dn", "dj", "dc", "lc")


def _file(register: Reg | Part | str) -> str:
    if isinstance(register, Reg):
        return register.file
    if isinstance(register, Part):
        return register.which.rstrip("2") if register.reg.file in ("d", "d3") else "r"
    return register.rstrip("0123456789")
