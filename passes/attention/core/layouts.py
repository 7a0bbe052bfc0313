"""What the core program takes for granted of streams and buffers, held against the plan's before it is built.

The program walks through its blocks with pointers; where each walk finds a number is said here as an address, and must
be where the stream's tile has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.design import Buffer
from npuc.passes.array.fifo import Fifo
from npuc.passes.attention.core.context import TILE, Shape
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.core.state import STATE
from npuc.passes.attention.streams import output_pieces

Walk = Callable[[int, int], int]  # (row, column) -> bytes
RINGS = {"k": 2, "v": 2, "m": 2, "q": 1, "o": 1}  # buffers that the program goes through in turn


def require_layouts(shape: Shape, fifos: Sequence[Fifo], buffers: Mapping[str, Buffer]) -> None:
    """Raises ResourceError, naming the stream or buffer, where the program would not find what is in it."""
    walks = {name: (rows, cols, "bf16", walk) for name, (rows, cols, walk) in _walks(shape).items()}
    ones = "the tile of ones behind V has", shape.keys // 8 * TILE
    require_streams(walks, RINGS, output_pieces(shape.queries) if shape.split else 1, ones, fifos)
    require_buffers(shape.keys if shape.split else 1, shape.item_rows, _sizes(shape), buffers)


def require_streams(
    walks: Mapping[str, tuple[int, int, str, Walk]],
    rings: Mapping[str, int],
    pieces: int,
    ones: tuple[str, int],
    fifos: Sequence[Fifo],
) -> None:
    """walks: stream -> rows, columns, element type, and where the program finds a number. rings: buffers of a stream.
    pieces: in which O is given to the DMA. ones: what lies behind V, in words, and its bytes. Raises ResourceError,
    naming the stream."""
    for fifo in fifos:
        tile, (rows, cols, dtype, walk) = fifo.tile, walks[fifo.name]
        if (tile.rows, tile.cols, tile.dtype) != (rows, cols, dtype):
            raise ResourceError(f"the core program takes {rows} x {cols} {dtype} of stream {fifo.name}, not {tile}")
        if any(tile.place(row, col) != walk(row, col) for row in range(rows) for col in range(cols)):
            raise ResourceError(f"the core program does not go through stream {fifo.name} in the order {tile.order}")
        if fifo.depth != rings[fifo.name]:
            raise ResourceError(
                f"the core program has {rings[fifo.name]} buffers of stream {fifo.name}, not {fifo.depth}"
            )
        if fifo.name == "o" and fifo.pieces != pieces:
            raise ResourceError(f"the core program makes O in {pieces} pieces, and it leaves in {fifo.pieces}")
        if fifo.name == "v" and fifo.behind != ones[1]:
            raise ResourceError(f"{ones[0]} {ones[1]} bytes, not {fifo.behind}")


def require_buffers(query_rows: int, item_rows: int, sizes: Mapping[str, int], buffers: Mapping[str, Buffer]) -> None:
    """query_rows: of the blocks that Q comes in. sizes: bytes that the program needs. Raises ResourceError."""
    if item_rows % query_rows:
        raise ResourceError(f"Q comes in blocks of {query_rows} rows, and an item has {item_rows}")
    for name, size in sizes.items():
        if buffers[name].size < size:
            raise ResourceError(f"the core program needs {size:,} bytes of {name}, there are {buffers[name].size:,}")
    if buffers["params"].end != buffers["constants"].address:
        raise ResourceError("the core program finds parameters and constants by one pointer, and they lie apart")


def _walks(shape: Shape) -> dict[str, tuple[int, int, Walk]]:
    """stream -> rows, columns, and where the program finds a number."""
    half, deep = shape.keys // 2, shape.depth_steps

    def query(row: int, col: int, across: int = deep) -> int:
        """Tiles of 4 queries and 8 dimensions, group by group."""
        return TILE * (row // 4 * across + col // 8) + 16 * (row % 4) + 2 * (col % 8)

    def key(row: int, col: int) -> int:
        """Each half by a pointer of its own: its tiles of 4 keys and 8 dimensions, step by step along the head."""
        side, row = divmod(row, half)
        return (
            side * half * shape.head_dim * 2
            + TILE * (col // 8 * (half // 4) + row // 4)
            + 16 * (row % 4)
            + 2 * (col % 8)
        )

    def value(row: int, col: int) -> int:
        """Tiles of 8 keys and 4 dimensions, all keys of one after the other."""
        return TILE * (col // 4 * (shape.keys // 8) + row // 8) + 8 * (row % 8) + 2 * (col % 4)

    def output(row: int, col: int) -> int:
        """Tiles of 4 queries and 4 dimensions, group by group."""
        return TILE // 2 * (row // 4 * shape.value_tiles + col // 4) + 8 * (row % 4) + 2 * (col % 4)

    return {
        "q": (shape.queries, shape.head_dim, query),
        "m": (shape.queries, shape.keys, lambda row, col: query(row, col, shape.keys // 8)),
        "k": (shape.keys, shape.head_dim, key),
        "v": (shape.keys, shape.head_dim, value),
        "o": (shape.queries, shape.head_dim, output),
    }


def _sizes(shape: Shape) -> dict[str, int]:
    """Bytes of the buffers that the program fills itself."""
    return {
        "params": PARAMETER_BYTES,
        "q": shape.groups * shape.depth_steps * TILE,
        "scores": shape.groups * shape.key_tiles * TILE,
        "o": shape.groups * shape.output_tiles * TILE,
        "state": shape.groups * STATE.nbytes,
    }
