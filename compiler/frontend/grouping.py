"""Batch and heads that two operands of a contraction walk together, and the heads that one has more of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from npuc.compiler.frontend.values import BATCH, HEAD, Atom


@dataclass
class Pairing:
    """Digits of batch and heads: pairs of both operands, and those that vary in one of them only."""

    pairs: list[tuple[Atom, Atom]] = field(default_factory=list)
    left: list[Atom] = field(default_factory=list)
    right: list[Atom] = field(default_factory=list)

    def add(self, x: Atom | None, y: Atom | None) -> bool:
        """Whether they are batch or heads, the same in both."""
        labels = {atom.label for atom in (x, y) if atom is not None}
        if labels not in ({BATCH}, {HEAD}):
            return False
        if x is not None and y is not None:
            self.pairs.append((x, y))
        elif x is not None:
            self.left.append(x)
        elif y is not None:
            self.right.append(y)
        return True

    @property
    def more_right(self) -> bool:
        return bool(self.right)

    @property
    def is_grouped(self) -> bool:
        """Whether head h of the one with more heads meets head h // group of the other, in the same batch."""
        more = [*self.left, *self.right]
        if (self.left and self.right) or any(atom.label != HEAD or atom.extent is None for atom in more):
            return False
        group = math.prod(atom.extent or 0 for atom in more)
        ordered = [(y, x) if self.right else (x, y) for x, y in self.pairs]
        return all(big.step == small.step * (group if big.label == HEAD else 1) for big, small in ordered)

    def __str__(self) -> str:
        def text(atoms: list[Atom]) -> str:
            return "*".join(f"{a.label}({a.extent or '?'} of step {a.step})" for a in atoms) or "none"

        left = [x for x, _ in self.pairs] + self.left
        return f"{text(left)} against {text([y for _, y in self.pairs] + self.right)}"
