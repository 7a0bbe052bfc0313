"""What the int8 program takes for granted of streams and buffers, held against the plan's before it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.design import Buffer
from npuc.passes.array.fifo import Fifo
from npuc.passes.attention.core.integer.shape import OUTPUT_TILE, RECORD, IntegerShape
from npuc.passes.attention.core.parameters import PARAMETER_BYTES

Walk = Callable[[int, int], int]  # (row, column) -> bytes
RINGS = {"k": 2, "v": 2, "o": 1}  # buffers that the program goes through in turn
ONES_BYTES = 64  # for every eight keys


def require_layouts(shape: IntegerShape, fifos: Sequence[Fifo], buffers: Mapping[str, Buffer]) -> None:
    """Raises ResourceError, naming the stream or buffer, where the program would not find what is in it."""
    walks = _walks(shape)
    for fifo in fifos:
        tile, (rows, cols, dtype, walk) = fifo.tile, walks[fifo.name]
        if (tile.rows, tile.cols, tile.dtype) != (rows, cols, dtype):
            raise ResourceError(f"the core program takes {rows} x {cols} {dtype} of stream {fifo.name}, not {tile}")
        if any(tile.place(row, col) != walk(row, col) for row in range(rows) for col in range(cols)):
            raise ResourceError(f"the core program does not go through stream {fifo.name} in the order {tile.order}")
        if fifo.depth != RINGS[fifo.name]:
            raise ResourceError(
                f"the core program has {RINGS[fifo.name]} buffers of stream {fifo.name}, not {fifo.depth}"
            )
        if fifo.name == "v" and fifo.behind != shape.keys // 8 * ONES_BYTES:
            raise ResourceError(f"the ones behind V have {shape.keys // 8 * ONES_BYTES} bytes, not {fifo.behind}")
    if shape.item_rows % shape.keys:
        raise ResourceError(f"Q comes in blocks of {shape.keys} rows, and an item has {shape.item_rows}")
    for name, size in _sizes(shape).items():
        if buffers[name].size < size:
            raise ResourceError(f"the core program needs {size:,} bytes of {name}, there are {buffers[name].size:,}")
    if buffers["params"].end != buffers["constants"].address:
        raise ResourceError("the core program finds parameters and constants by one pointer, and they lie apart")


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
    }
