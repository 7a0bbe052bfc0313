"""Blocks to machine code: all blocks that are reached from one shape become one module, cached on disk."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

from npuc.runtime.emulator.native import effects, layout, objects
from npuc.runtime.emulator.native.blocks import FOUND_BY, LINK, Block, BlockWriter, Exit, Issue, Module, link_line
from npuc.runtime.emulator.native.calls import KEYS, seek_text
from npuc.runtime.emulator.native.machine import Library, acquiring_load
from npuc.runtime.emulator.native.shape import Shape, shape_from, tuples
from npuc.runtime.emulator.native.symbolic import SymbolicCore

MAXIMUM_BLOCKS = 48
"""Blocks of a module at most; what is reached beyond them becomes a module when it is needed."""

log = logging.getLogger("npuc.emulator.native")

_SIGNATURE = "ptr noalias nocapture %s, ptr noalias nocapture %m"
_TAIL = """
attributes #0 = { nounwind "frame-pointer"="none" }
attributes #1 = { nounwind willreturn memory(none) }
!0 = !{!"branch_weights", i32 100000, i32 1}
!1 = !{}
"""

Resolver = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_Publish = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Code:
    """A module before it is in the process: object file, shapes of its blocks, exits, effect families.

    Of the exits of a stored module most are never taken: they are read when they are (`exit_of`).
    """

    code: bytes
    shapes: tuple[Shape, ...]
    exits: Sequence[Exit | bytes]
    families: tuple[tuple[Any, ...], ...]

    def pack(self) -> bytes:
        """As it is kept on disk: a line of JSON, one for each exit, the object file."""
        exits = [_line(each) if isinstance(each, Exit) else each for each in self.exits]
        head = _json([[shape.plain() for shape in self.shapes], len(exits), self.families])
        return b"\n".join([head, *exits, self.code])

    @staticmethod
    def unpack(data: bytes) -> Code:
        """What `pack` gave. Raises ValueError, TypeError or IndexError for bytes that it did not give."""
        head, _, rest = data.partition(b"\n")
        shapes, count, families = json.loads(head)
        *exits, code = rest.split(b"\n", count)
        return Code(
            code,
            tuple(map(shape_from, shapes)),
            [exit_of(each) if each.startswith(_LINKS) else each for each in exits],
            tuples(families),
        )


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


_LINKS = b"[%d," % LINK


def _line(each: Exit) -> bytes:
    return _json([each.kind, each.shape.plain(), *each[2:]])


def exit_of(stored: Exit | bytes) -> Exit:
    """An exit as it was before it was stored."""
    if isinstance(stored, Exit):
        return stored
    kind, shape, *rest = json.loads(stored)
    return Exit(kind, shape_from(shape), *rest)


def _link_lines(number: int, target: int | None) -> list[str]:
    """Goes on to a block of this module, or to what its link says."""
    lines, callee = [], f"@block{target}"
    if target is None:
        place, callee = f"%x{number}", f"%f{number}"
        lines = [
            f"  {place} = getelementptr i8, ptr @exits, i64 {8 * number}",
            f"  %e{number} = getelementptr i8, ptr %s, i64 {layout.EXIT}",
            f"  store ptr {place}, ptr %e{number}, align 8",
            f"  {callee} = {acquiring_load(place)}",
        ]
    return [*lines, f"  %t{number} = musttail call i64 {callee}(ptr %s, ptr %m)", f"  ret i64 %t{number}"]


def _block(module: Module, core: SymbolicCore, fetch: Callable[[int], Issue], shape: Shape, most: int) -> Block:
    """A block. One that goes on to itself, as loops do, is written again, so that results wait from the first where it
    expects them: it runs often."""
    exits = len(module.exits)
    writer = BlockWriter(module, core, fetch, shape, most)
    block = writer.write()
    if shape not in block.successors or not writer.pipeline.to_plan:
        return block
    del module.exits[exits:]
    return BlockWriter(module, core, fetch, shape, most, writer.pipeline.to_plan).write()


def write(
    shape: Shape,
    core: SymbolicCore,
    fetch: Callable[[int], Issue],
    known: Container[Shape],
    most: int,
    watched: Container[int] = (),
) -> tuple[str, Module, list[Block]]:
    """IR text of the block of a shape and of those reached from it that are not `known` yet, of `most` bundles each."""
    module = Module(watched)
    blocks: list[Block] = []
    places = {shape: 0}
    queue = deque([shape])
    while queue and len(blocks) < MAXIMUM_BLOCKS:
        block = _block(module, core, fetch, queue.popleft(), most)
        blocks.append(block)
        for successor in block.successors:
            if successor not in places and successor not in known:
                places[successor] = len(places)
                queue.append(successor)
    declarations: set[str] = set()
    functions = []
    for number, block in enumerate(blocks):
        text = "\n".join(block.lines)
        for exit_number in block.links:
            target = places.get(module.exits[exit_number].shape)
            lines = _link_lines(exit_number, target if target is not None and target < len(blocks) else None)
            text = text.replace(link_line(exit_number), "\n".join(lines))
        functions.append(f"define i64 @block{number}({_SIGNATURE}) #0 {{\n{text}\n}}\n")
        declarations |= block.declarations
    first = ["ptr @unfound" if each.kind in FOUND_BY else "ptr @unlinked" for each in module.exits]
    exits, families = len(module.exits), KEYS * max(len(module.families), 1)
    unlinked = "define i64 @unlinked(ptr %s, ptr %m) #0 {\n  ret i64 " + str(LINK) + "\n}\n"
    data = [
        "@unfound = private constant { i64, i64, ptr } { i64 -1, i64 -1, ptr null }, align 8",
        f"@exits = global [{exits} x ptr] [" + ", ".join(first) + "]",
        f"@families = global [{families} x ptr] [" + ", ".join(["ptr @nothing"] * families) + "], align 64",
    ]
    return "\n".join([*data, *sorted(declarations), unlinked, seek_text(), *functions, _TAIL]), module, blocks


def translate(
    shape: Shape,
    core: SymbolicCore,
    fetch: Callable[[int], Issue],
    known: Container[Shape],
    most: int,
    program: str,
    watched: Container[int] = (),
) -> Code:
    """The module of a shape, from the cache where it is. program: what names the program and what is watched."""
    name = hashlib.sha256(f"{program} {most} {shape}".encode()).hexdigest()
    stored = objects.read("blocks", name)
    if stored is not None:
        try:
            return Code.unpack(stored)
        except (ValueError, TypeError, IndexError):
            log.warning("an object in the cache is damaged; it is made anew")
    text, module, blocks = write(shape, core, fetch, known, most, watched)
    code = Code(
        objects.compile_text(text, 0),
        tuple(block.shape for block in blocks),
        module.exits,
        tuple(module.families),
    )
    log.debug(
        "translated %d blocks from %#x on: %d lines, %d bytes", len(blocks), shape.pc, text.count("\n"), len(code.code)
    )
    objects.write("blocks", name, code.pack())
    return code


class Loaded:
    """A module in the process. entries: addresses of its blocks by shape; exits: by the address of their link."""

    def __init__(self, code: Code, resolve: Any) -> None:
        names = [f"block{i}" for i in range(len(code.shapes))]
        self.library = Library(code.code, ["exits", "families", "resolve", "publish", *names])
        address = self.library.address
        self._publish = _Publish(address["publish"])
        self._records: list[Any] = []  # what exits and lists of families point to
        self.families = [effects.named(*name) for name in code.families]
        self.entries = {shape: address[name] for shape, name in zip(code.shapes, names, strict=True)}
        self.exits_at, self.table = address["exits"], address["families"]
        self.exits = {self.exits_at + 8 * i: each for i, each in enumerate(code.exits)}
        self._publish(address["resolve"], ctypes.cast(resolve, ctypes.c_void_p))
        for position, family in enumerate(self.families):
            if not family.decides:
                self._publish(self.table + 8 * KEYS * position, function(family, ()))

    def link(self, place: int, address: Any) -> None:
        """A link leads to this code from now on; other threads may follow it at any time."""
        self._publish(place, address)

    def found(self, place: int, by: Sequence[int], address: int) -> None:
        """An exit leads to this code from now on where the state has these words (`FOUND_BY`)."""
        record = (ctypes.c_int64 * (len(by) + 1))(*by, address)
        self._records.append(record)
        self.link(place, ctypes.addressof(record))

    def resolve(self, position: int, key: int, index: int) -> int:
        """Compiles a family's function for a key and adds it to a list of the family; one thread at a time."""
        family = self.families[position]
        count = len(family.decides)
        values = (key,) if count == 1 else tuple((key >> 16 * i) & 0xFFFF for i in range(count))
        address = function(family, values)
        place = self.table + 8 * (KEYS * position + index)
        record = (ctypes.c_uint64 * 3)(key & _MASK, address, ctypes.c_uint64.from_address(place).value)
        self._records.append(record)
        self._publish(place, ctypes.addressof(record))
        return address


_functions: dict[tuple[Any, ...], Library] = {}


def function(family: effects.Family, values: tuple[int, ...]) -> int:
    """The address of an effect for these values of what it decides on; EmulationError, Untranslatable: see source."""
    key = (family.name, values)
    if key not in _functions:
        name = hashlib.sha256(repr(key).encode()).hexdigest()
        code = objects.read("effects", name)
        if code is None:
            code = objects.compile_text(family.source(values), 2)
            objects.write("effects", name, code)
        _functions[key] = Library(code, ["effect"])
    return _functions[key].address["effect"]
