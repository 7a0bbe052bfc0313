"""A block of numbers and how it lies in memory: the one place where a layout is said.

Device memory and memory tiles hold blocks row by row.  A core has them in the order that its program reads; the
descriptors that bring them there (`Tile.dimensions`) and the places where the program finds them (`Tile.place`) both
follow from the order.
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.descriptors import Dimension

WORD_BYTES = 4  # what a DMA moves at least
DTYPE_BYTES = {"bf16": 2, "f16": 2, "f32": 4, "i8": 1, "i32": 4}


@dataclass(frozen=True)
class Order:
    """Small tiles of rows x cols numbers, each row by row; `by` says which come one behind the other: those of the same
    rows ("rows") or those of the same columns ("cols")."""

    rows: int
    cols: int
    by: str = "rows"


@dataclass(frozen=True)
class Tile:
    """rows x cols numbers of `dtype`; order None: row by row.

    Raises ResourceError where the order does not divide the block, or cuts words in two.
    """

    rows: int
    cols: int
    dtype: str
    order: Order | None = None

    def __post_init__(self) -> None:
        size = DTYPE_BYTES[self.dtype]
        pieces = (self.rows, self.cols) if self.order is None else (self.order.rows, self.order.cols)
        if min(self.rows, self.cols, *pieces) < 1 or self.rows % pieces[0] or self.cols % pieces[1]:
            raise ResourceError(f"a block of {self} cannot be cut into tiles of {pieces[0]} x {pieces[1]}")
        if pieces[1] * size % WORD_BYTES:
            raise ResourceError(f"rows of {pieces[1]} {self.dtype} are no whole words, which is what the DMAs move")
        if self.order is not None and self.order.by not in ("rows", "cols"):
            raise ResourceError(f"tiles go by rows or by cols, not by {self.order.by}")

    def __str__(self) -> str:
        return f"{self.rows} x {self.cols} {self.dtype}"

    @property
    def nbytes(self) -> int:
        return self.rows * self.cols * DTYPE_BYTES[self.dtype]

    @property
    def words(self) -> int:
        return self.nbytes // WORD_BYTES

    @property
    def row_words(self) -> int:
        return self.cols * DTYPE_BYTES[self.dtype] // WORD_BYTES

    def place(self, row: int, col: int) -> int:
        """Bytes from the block's start to a number, in the block's order."""
        if self.order is None:
            return (row * self.cols + col) * DTYPE_BYTES[self.dtype]
        (down, row), (right, col) = divmod(row, self.order.rows), divmod(col, self.order.cols)
        across, along = self.cols // self.order.cols, self.rows // self.order.rows
        number = down * across + right if self.order.by == "rows" else right * along + down
        return ((number * self.order.rows + row) * self.order.cols + col) * DTYPE_BYTES[self.dtype]

    def dimensions(self) -> tuple[Dimension, ...]:
        """A descriptor over the block as it lies row by row: what passes is in the block's order, sent or received."""
        if self.order is None:
            return ()
        rows, words = self.order.rows, self.order.cols * DTYPE_BYTES[self.dtype] // WORD_BYTES
        across, along = (self.cols // self.order.cols, words), (self.rows // rows, rows * self.row_words)
        inner, outer = (across, along) if self.order.by == "rows" else (along, across)
        return (Dimension(words, 1), Dimension(rows, self.row_words), Dimension(*inner), Dimension(0, outer[1]))

    def dimensions_of_many(self) -> tuple[Dimension, ...]:
        """The same over any number of such blocks, one behind the other."""
        if self.order is None or self.order.by == "rows":
            return self.dimensions()  # the tiles of the next block's rows follow as those of its own do
        words = self.order.cols * DTYPE_BYTES[self.dtype] // WORD_BYTES
        across = Dimension(self.cols // self.order.cols, words)
        return (Dimension(words, 1), Dimension(self.rows, self.row_words), across, Dimension(0, self.words))
