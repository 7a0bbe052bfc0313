"""What the int8 program takes for granted of streams and buffers, held against the plan's before it is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuc.passes.array.design import Buffer
from npuc.passes.array.fifo import Fifo
from npuc.passes.attention.core.integer.shape import BIASES, OUTPUT_TILE, RECORD, IntegerShape
from npuc.passes.attention.core.layouts import Walk, require_buffers, require_streams
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.streams import output_pieces

RINGS = {"k": 2, "v": 2, "o": 1}  # buffers that the program goes through in turn
ONES_BYTES = 64  # for every eight keys


def require_layouts(shape: IntegerShape, fifos: Sequence[Fifo], buffers: Mapping[str, Buffer]) -> None:
    """Raises ResourceError, naming the stream or buffer, where the program would not find what is in it."""
    ones = "the ones behind V have", shape.keys // 8 * ONES_BYTES
    require_streams(_walks(shape), RINGS, output_pieces(shape.queries), ones, fifos)
    require_buffers(shape.keys, shape.item_rows, _sizes(shape), buffers)


def _walks(shape: IntegerShape) -> dict[str, tuple[int, int, str, Walk]]:
    """stream -> rows, columns, element type, and where the program finds a number."""
    half = shape.keys // 2
    size = 1 if shape.output == "i8" else 2

    def key(row: int, col: int) -> int:
        """Each half with eight dimensions of all its keys one behind the other."""
        side, row = divmod(row, half)
        return side * half * shape.head_dim + col // 8 * 8 * half + 8 * row + col % 8

    def value(row: int, col: int) -> int:
        """Tiles of eight keys and eight dimensions, all keys of one after the other."""
        return col // 8 * 8 * shape.keys + 8 * row + col % 8

    def output(row: int, col: int) -> int:
        """Tiles of four queries and eight dimensions, group by group."""
        return size * (32 * (row // 4 * shape.value_tiles + col // 8) + 8 * (row % 4) + col % 8)

    return {
        "k": (shape.keys, shape.head_dim, "i8", key),
        "v": (shape.keys, shape.head_dim, "i8", value),
        "o": (shape.queries, shape.head_dim, shape.output, output),
    }


def _sizes(shape: IntegerShape) -> dict[str, int]:
    """Bytes of the buffers that the program fills itself."""
    return {
        "params": PARAMETER_BYTES,
        "q": shape.queries * shape.head_dim,
        "scores": shape.queries * shape.keys * 2,
        "o": shape.groups * shape.output_tiles * OUTPUT_TILE,
        "state": shape.octets * RECORD,
        "bias": shape.octets * BIASES,
    }
